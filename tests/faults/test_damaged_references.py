"""Whatever happened to a reference file, the answer is an error of one line that names it, or a sound result."""

from __future__ import annotations

import json
import warnings

import asdf
import numpy as np
import pytest
from astropy.io import fits

from tso3.config import read_file
from tso3.errors import InputError, ParameterError, ReferenceFileError, Tso3Warning
from tso3.io.badpixels import read_bad_pixels
from tso3.io.exposure import read_observation
from tso3.io.ifu_apertures import read_ifu_extract1d
from tso3.io.photometry_references import read_tsophot
from tso3.io.reference_files import read_apcorr, read_extract1d, read_gain, read_wavelengthrange
from tso3.io.soss_references import read_pastasoss, read_photom, read_spectrace, read_wavemap

APERTURE = {"id": "ANY", "extract_width": 6.0, "xstart": 1, "bkg_coeff": [[1.0], [3.0]], "bkg_order": 1}
RADII = {"pupil": "ANY", "radius": 3.0, "radius_inner": 5.0, "radius_outer": 9.0}
TRACE = {"spectral_order": 1, "pivot_x": 1.0, "pivot_y": 2.0, "cutoff": 9, "trace": np.ones((9, 2))}
PASTASOSS = {
    "meta": {"pwcpos_bounds": [245.5, 246.0], "pwcpos_cmd": 245.76, "wavemap_wlmin": 0.5, "wavemap_wlmax": 5.5,
             "wavemap_nwl": 11},
    "traces": [TRACE],
    "wavecal_models": [{"coefficients": [2.0, -1.0, 0.0], "scale_extents": [[0, -0.1], [10, 0.1]]}],
}  # fmt: skip
IFU = {"data": {"wavelength": np.arange(1.0, 9.0), "radius": np.ones(8)}, "meta": {"subtract_background": False}}
PARS = {"class": "jwst.x.OutlierDetectionStep", "name": "outlier_detection", "parameters": {"snr": "5.0 4.0"}}
IN_ASDF = {
    "extract1d": ({"apertures": [APERTURE]}, read_extract1d),
    "extract1d-ifu": (IFU, read_ifu_extract1d),
    "wavelengthrange": ({"wavelengthrange": [[1, "F444W", 3.7, 4.9]]}, read_wavelengthrange),
    "tsophot": ({"radii": [RADII]}, lambda path: read_tsophot(path, "F210M", "CLEAR")),
    "pastasoss": (PASTASOSS, read_pastasoss),
    "pars": (PARS, read_file),
}


def table(name, **columns):
    made = [fits.Column(key, form, array=np.array([value])) for key, (form, value) in columns.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


def by_order(hdu):
    hdu.header["ORDER"] = 1
    return hdu


PHOTOM = {
    "filter": ("5A", "CLEAR"), "pupil": ("7A", "GR700XD"), "order": ("I", 1), "photmj": ("E", 2.0),
    "nelem": ("I", 3), "wavelength": ("4E", [1.0, 2.0, 3.0, 0.0]), "relresponse": ("4E", [1.0, 1.0, 1.0, 0.0]),
}  # fmt: skip
APCORR = {"subarray": ("4A", "FULL"), "wavelength": ("4E", np.arange(5.0, 9.0)), "nelem_wl": ("I", 4),
          "size": ("3E", np.arange(3.0)), "nelem_size": ("I", 3)}  # fmt: skip


def apcorr():
    columns = [fits.Column(key, form, array=np.array([value])) for key, (form, value) in APCORR.items()]
    columns.append(fits.Column("apcorr", "12E", dim="(3,4)", array=np.ones((1, 4, 3))))
    return fits.BinTableHDU.from_columns(columns, name="APCORR")


IN_FITS = {
    "apcorr": (apcorr, lambda path: read_apcorr(path, {"subarray": "FULL"})),
    "gain": (lambda: fits.ImageHDU(np.ones((4, 6)), name="SCI"), read_gain),
    "photom": (lambda: table("PHOTOM", **PHOTOM), lambda path: read_photom(path, "CLEAR", "GR700XD")),
    "spectrace": (
        lambda: by_order(table("ORDER", WAVELENGTH=("D", 1.0), X=("D", 1.0), Y=("D", 1.0))), read_spectrace,
    ),
    "wavemap": (lambda: by_order(fits.ImageHDU(np.ones((8, 8)), name="ORDER")), read_wavemap),
}  # fmt: skip


def damaged(whole, places=40):
    """Yield a file cut short at three lengths, with bytes changed, and with numbers in its text changed."""
    for part in (0.2, 0.6, 0.97):
        yield whole[: int(part * len(whole))]
    rng = np.random.default_rng(1)
    letters = [k for k, byte in enumerate(whole) if 32 < byte < 127]
    for k in rng.choice(letters, places, replace=False):
        yield whole[:k] + bytes([int(rng.choice(list(b"\x00\xff9{]-: e")))]) + whole[k + 1 :]


def only_one_line(read, path, content, error):
    """Read a damaged file: it must work, or say in one line what is wrong with which file."""
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Tso3Warning)
        fault = None
        try:
            read(path)
        except error as raised:
            fault = str(raised)
    assert fault is None or (fault.startswith(str(path)) and "\n" not in fault)
    return fault is not None


@pytest.mark.parametrize("kind", IN_ASDF)
def test_references_in_asdf(tmp_path, kind):
    tree, read = IN_ASDF[kind]
    path = tmp_path / "reference.asdf"
    asdf.AsdfFile(tree).write_to(path)
    read(path)
    error = ParameterError if kind == "pars" else ReferenceFileError
    assert sum(only_one_line(read, path, content, error) for content in damaged(path.read_bytes())) > 3


@pytest.mark.parametrize("kind", IN_FITS)
def test_references_in_fits(tmp_path, kind):
    make, read = IN_FITS[kind]
    path = tmp_path / "reference.fits"
    fits.HDUList([fits.PrimaryHDU(), make()]).writeto(path)
    read(path)
    whole = path.read_bytes()
    assert sum(only_one_line(read, path, content, ReferenceFileError) for content in damaged(whole)) > 3
    path.write_bytes(whole[:-1000])
    with pytest.raises(ReferenceFileError, match=r"reference.fits: is truncated; fetch it again$"):
        read(path)


@pytest.mark.parametrize("kind", ["extract1d", "tsophot"])
def test_references_in_json(tmp_path, kind):
    tree, read = IN_ASDF[kind]
    content = json.dumps(tree).encode()
    for part in damaged(content):
        only_one_line(read, tmp_path / "reference.json", part, ReferenceFileError)
    assert only_one_line(read, tmp_path / "deep.json", b"[" * 100_000, ReferenceFileError)


def test_bad_pixel_mask(tmp_path, make_calints):
    make_calints(tmp_path / "a_calints.fits")
    exposure = read_observation(tmp_path / "a_calints.fits").exposures[0]
    path = tmp_path / "mask.fits"
    mask = np.zeros((exposure.ny, exposure.nx), "u1")
    mask[0, 0] = 1
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="DQ")]).writeto(path)

    def read(path):
        return read_bad_pixels(path, exposure)

    read(path)
    assert sum(only_one_line(read, path, content, InputError) for content in damaged(path.read_bytes())) > 3


@pytest.mark.parametrize("nelem", [0, -1, 9])
def test_a_row_of_photom_with_a_count_that_cannot_be(tmp_path, nelem):
    path = tmp_path / "photom.fits"
    hdu = table("PHOTOM", **PHOTOM | {"nelem": ("I", nelem)})
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    with pytest.raises(ReferenceFileError, match=f"nelem {nelem} of 4 for order 1"):
        read_photom(path, "CLEAR", "GR700XD")


@pytest.mark.parametrize("kind", ["apcorr", "photom", "spectrace"])
def test_an_empty_table(tmp_path, kind):
    make, read = IN_FITS[kind]
    hdu = make()
    empty = fits.BinTableHDU(hdu.data[:0], hdu.header, name=hdu.name)
    fits.HDUList([fits.PrimaryHDU(), empty]).writeto(tmp_path / "empty.fits")
    with pytest.raises(ReferenceFileError, match=r"empty table|no points"):
        read(tmp_path / "empty.fits")
