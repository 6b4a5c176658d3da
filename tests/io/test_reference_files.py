"""Contents of reference files: extract1d, apcorr, wavelengthrange, gain; and one clear line for each fault."""

from __future__ import annotations

import json

import asdf
import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import ReferenceFileError
from tso3.io.reference_files import read_apcorr, read_extract1d, read_gain, read_wavelengthrange

APERTURE = {
    "id": "S1600A1", "region_type": "target", "spectral_order": "ANY", "dispaxis": 1, "xstart": 3, "xstop": 2040.5,
    "extract_width": 8, "bkg_coeff": [[1.5], [5.5, 0.01]], "independent_var": "Pixel", "bkg_fit": "median",
    "bkg_order": 1, "smoothing_length": 5, "use_source_posn": True, "note": "unknown keys are left alone",
}  # fmt: skip


def write_json(path, **changes):
    entry = {key: value for key, value in (APERTURE | changes).items() if value != "absent"}
    path.write_text(json.dumps({"apertures": [entry]}))
    return path


@pytest.mark.parametrize("kind", ["json", "asdf"])
def test_extract1d(tmp_path, kind):
    path = tmp_path / f"extract1d.{kind}"
    if kind == "json":
        write_json(path)
    else:
        asdf.AsdfFile({"apertures": [APERTURE]}).write_to(path)
    (aperture,) = read_extract1d(path)
    assert aperture.id == "S1600A1"
    assert aperture.spectral_order is None
    assert (aperture.xstart, aperture.xstop, aperture.ystart) == (3.0, 2040.5, None)
    assert aperture.bkg_coeff == ((1.5,), (5.5, 0.01))
    assert (aperture.bkg_fit, aperture.bkg_order, aperture.smoothing_length) == ("median", 1, 5.0)
    assert aperture.independent_var == "pixel"
    assert aperture.use_source_posn is True


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"xstart": "three"}, "number"),
        ({"bkg_order": 1.5}, "whole number"),
        ({"dispaxis": 3}, "dispaxis"),
        ({"bkg_fit": "spline"}, "bkg_fit"),
        ({"independent_var": "time"}, "independent_var"),
        ({"src_coeff": [[1.0]]}, "pairs"),
        ({"bkg_coeff": [[1.0], []]}, "pairs"),
        ({"bkg_coeff": 5}, "number"),
        ({"bkg_offsets": [[1.0]]}, "pairs"),
        ({"extract_width": 0}, "positive"),
        ({"use_source_posn": "yes"}, "true or false"),
    ],
)
def test_what_is_wrong_with_an_aperture_is_said(tmp_path, changes, text):
    path = write_json(tmp_path / "extract1d.json", **changes)
    with pytest.raises(ReferenceFileError, match=text) as caught:
        read_extract1d(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"apertures": []}', '{"apertures": [3]}', "\x00"])
def test_what_is_no_extract1d_is_refused(tmp_path, content):
    path = tmp_path / "extract1d.json"
    path.write_text(content)
    with pytest.raises(ReferenceFileError):
        read_extract1d(path)


def write_apcorr(path, columns, unit="pixels", name="APCORR"):
    dtype = [(key, value[0].dtype, value[0].shape) for key, value in columns.items()]
    table = np.zeros(len(next(iter(columns.values()))), dtype)
    for key, values in columns.items():
        for row, value in enumerate(values):
            table[key][row] = value
    hdu = fits.BinTableHDU(table, name=name)
    hdu.header["SIZEUNIT"] = unit
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def text(*values):
    return [np.array(value, "U15") for value in values]


def lrs_columns(n_wl=6, n_size=3):
    rng = np.random.default_rng(0)
    return {
        "subarray": text("FULL", "SLITLESSPRISM"),
        "wavelength": [np.append(np.linspace(5, 10, n_wl), [0, 0]).astype("f4")] * 2,
        "nelem_wl": [np.array(n_wl, "i2")] * 2,
        "size": [np.append(np.arange(3, 3 + n_size), 0).astype("u1")] * 2,
        "nelem_size": [np.array(n_size, "i2")] * 2,
        "apcorr": [rng.uniform(1, 2, (n_wl + 2, n_size + 1)).astype("f4") for _ in range(2)],
    }


def nirspec_columns(layout, n_wl=6, n_size=4):
    rng = np.random.default_rng(0)
    factor = rng.uniform(1, 2, (n_size, n_wl, 3)).astype("f4")
    return {
        "filter": text("F290LP"), "grating": text("G395H"), "slit": text("S1600A1"),
        "wavelength": [np.linspace(3, 5, n_wl).astype("f4")], "nelem_wl": [np.array(n_wl, "i2")],
        "size": [np.repeat(np.arange(3.0, 3 + n_size)[:, None], n_wl, 1).astype("f4")],
        "nelem_size": [np.array(n_size, "i2")], "pixphase": [np.array([0, 0.5, 1], "f4")],
        "apcorr": [factor if layout == "phase last" else np.moveaxis(factor, -1, 0).copy()],
    }  # fmt: skip


def test_apcorr_of_miri_without_its_padding(tmp_path):
    columns = lrs_columns()
    path = write_apcorr(tmp_path / "apcorr.fits", columns)
    found = read_apcorr(path, {"subarray": "slitlessprism", "filter": "P750L"})
    assert found.phase is None
    np.testing.assert_allclose(found.wavelength, np.linspace(5, 10, 6))
    np.testing.assert_array_equal(found.size, [3, 4, 5])
    np.testing.assert_array_equal(found.factor, columns["apcorr"][1][:6, :3].T)


@pytest.mark.parametrize("layout", ["phase last", "phase first"])
def test_apcorr_of_nirspec(tmp_path, layout):
    path = write_apcorr(tmp_path / "apcorr.fits", nirspec_columns(layout), "arcsec")
    found = read_apcorr(path, {"filter": "F290LP", "grating": "G395H", "slit": "s1600a1", "subarray": "SUB2048"})
    assert found.size_unit == "arcsec"
    assert found.factor.shape == (3, 4, 6)
    np.testing.assert_array_equal(np.moveaxis(found.factor, 0, -1), nirspec_columns("phase last")["apcorr"][0])


def test_apcorr_needs_one_row(tmp_path):
    path = write_apcorr(tmp_path / "apcorr.fits", lrs_columns())
    with pytest.raises(ReferenceFileError, match="0 rows for subarray SUB64"):
        read_apcorr(path, {"subarray": "SUB64"})


@pytest.mark.parametrize(
    ("change", "unit", "name", "words"),
    [
        ({"apcorr": None}, "pixels", "APCORR", "no column apcorr"),
        ({"apcorr": [np.ones((3, 3), "f4")] * 2}, "pixels", "APCORR", "shape"),
        ({}, "furlong", "APCORR", "SIZEUNIT"),
        ({}, "pixels", "OTHER", "no apcorr reference"),
    ],
)
def test_what_is_no_apcorr_is_refused(tmp_path, change, unit, name, words):
    columns = {key: value for key, value in (lrs_columns() | change).items() if value is not None}
    path = write_apcorr(tmp_path / "apcorr.fits", columns, unit, name)
    with pytest.raises(ReferenceFileError, match=words):
        read_apcorr(path, {"subarray": "FULL"})


def test_wavelengthrange(tmp_path):
    path = tmp_path / "wavelengthrange.asdf"
    asdf.AsdfFile({"wavelengthrange": [[1, "F444W", 3.7, 4.9], [2, "F444W", 2.5, 4.9]]}).write_to(path)
    assert [(r.order, r.filter, r.shortest, r.longest) for r in read_wavelengthrange(path)][1] == (2, "F444W", 2.5, 4.9)
    asdf.AsdfFile({"wavelengthrange": [[4.7, 5.9]]}).write_to(path)
    with pytest.raises(ReferenceFileError, match="rows"):
        read_wavelengthrange(path)


def test_gain(tmp_path):
    path = tmp_path / "gain.fits"
    primary = fits.PrimaryHDU()
    primary.header["SUBSTRT1"], primary.header["SUBSTRT2"] = 5, 9
    fits.HDUList([primary, fits.ImageHDU(np.full((4, 6), 1.8, "f4"), name="SCI")]).writeto(path)
    gain = read_gain(path)
    assert gain.data.shape == (4, 6)
    assert gain.corner == (5, 9)
    fits.HDUList([primary]).writeto(path, overwrite=True)
    with pytest.raises(ReferenceFileError):
        read_gain(path)


def test_wavelengthrange_of_nirspec_is_in_metres_for_filter_and_grating(tmp_path):
    tree = {
        "wavelengthrange": [[2.87e-6, 5.27e-6], [6e-7, 5.3e-6]],
        "waverange_selector": ["F290LP_G395H", "CLEAR_PRISM"],
        "order": [-1, 0],
    }
    path = tmp_path / "wavelengthrange.asdf"
    asdf.AsdfFile(tree).write_to(path)
    first, second = read_wavelengthrange(path)
    assert (first.shortest, first.longest) == pytest.approx((2.87, 5.27))
    assert first.fits(1, "F290LP", "G395H")
    assert not first.fits(1, "F290LP", "G395M")
    assert second.fits(2, "CLEAR", "PRISM")


def test_wavelengthrange_of_the_miri_spectrometer_is_refused(tmp_path):
    path = tmp_path / "wavelengthrange.asdf"
    asdf.AsdfFile({"wavelengthrange": [[4.68, 5.97]], "waverange_selector": ["1SHORT"]}).write_to(path)
    with pytest.raises(ReferenceFileError, match=r"holds ranges of 1SHORT, .* bands of the MIRI spectrometer"):
        read_wavelengthrange(path)
