"""Reference files of SOSS: genuine ones, those of the simulator, and damaged ones."""

from __future__ import annotations

import os
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import ReferenceFileError, Tso3Warning
from tso3.io.soss_references import read_pastasoss, read_photom, read_spectrace, read_wavemap

CRDS = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared") / "data/crds"
genuine = pytest.mark.skipif(not CRDS.is_dir(), reason="needs the reference files in the folder that TSO3_SHARED names")


@genuine
def test_genuine_traces_and_wavelengths():
    traces = read_spectrace(CRDS / "jwst_niriss_spectrace_0023.fits")
    assert sorted(traces) == [1, 2, 3]
    assert traces[1].subarray == "SUBSTRIP256"
    assert traces[1].wavelength.size == 5001
    maps = read_wavemap(CRDS / "jwst_niriss_wavemap_0020.fits")
    assert {image.shape for image in maps.values()} == {(96, 2048)}  # without the border of 20 pixels
    order = np.argsort(traces[1].x)
    along = np.interp(np.arange(2048.0), traces[1].x[order], traces[1].wavelength[order])
    assert np.nanmax(np.abs(maps[1][48] - along)) < 0.003


@genuine
def test_genuine_flux_calibration():
    path = CRDS / "jwst_niriss_photom_rev2.fits"
    rows = read_photom(path, "CLEAR", "GR700XD")
    assert sorted(rows) == [1, 2, 3]
    assert [row.wavelength.size for row in rows.values()] == [2425, 2276, 1731]
    assert (np.diff(rows[2].wavelength) >= 0).all()
    assert rows[1].scale == pytest.approx(5.1416595e-05)
    assert sorted(read_photom(path, "F277W", "GR700XD")) == [1]
    assert read_photom(path, "CLEAR", None) == {}


def test_a_loss_with_time_is_reported(tmp_path):
    columns = [fits.Column("filter", "5A", array=["CLEAR"]), fits.Column("pupil", "7A", array=["GR700XD"])]
    columns += [fits.Column("order", "I", array=[1]), fits.Column("photmj", "E", array=[2.0])]
    columns += [fits.Column(name, "3E", array=[[3e-6, 2e-6, 1e-6]]) for name in ("wavelength", "relresponse")]
    table = fits.BinTableHDU.from_columns(columns, name="PHOTOM")
    time = fits.BinTableHDU.from_columns([fits.Column("t0", "E", array=[59000.0])], name="TIMECOEFF_LINEAR")
    path = tmp_path / "photom.fits"
    fits.HDUList([fits.PrimaryHDU(), table, time]).writeto(path)
    with pytest.warns(Tso3Warning, match="TIMECOEFF"):
        rows = read_photom(path, "CLEAR", "GR700XD")
    assert np.allclose(rows[1].wavelength, [1.0, 2.0, 3.0])  # from metres, and in order


def pastasoss(path, **changes):
    trace = np.stack([np.arange(10.0), np.arange(10.0)], axis=1)
    tree = {
        "meta": {"pwcpos_bounds": [245.5, 246.0], "pwcpos_cmd": 245.76, "wavemap_wlmin": 0.5, "wavemap_wlmax": 5.5,
                 "wavemap_nwl": 11},
        "traces": [{"spectral_order": 1, "pivot_x": 1.0, "pivot_y": 2.0, "cutoff": 9, "trace": trace}],
        "wavecal_models": [{"coefficients": [2.0, -1.0, 0.0], "scale_extents": [[0, -0.1], [10, 0.1]]}],
    }  # fmt: skip
    tree.update(changes)
    asdf.AsdfFile(tree).write_to(path)
    return path


def test_a_pastasoss_reference(tmp_path):
    reference = read_pastasoss(pastasoss(tmp_path / "a.asdf"))
    assert reference.commanded == 245.76
    assert reference.grid.size == 11
    order = reference.orders[1]
    assert (order.pivot, order.cutoff, order.low, order.high) == ((1.0, 2.0), 9, (0.0, -0.1), (10.0, 0.1))


def test_what_is_no_reference_is_named(tmp_path):
    text = tmp_path / "text.asdf"
    text.write_text("hello")
    table = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 3)), name="SCI")]).writeto(table)
    short = pastasoss(tmp_path / "short.asdf", traces=[{"spectral_order": 1}])
    flat = pastasoss(tmp_path / "flat.asdf", wavecal_models=[{"coefficients": [1.0], "scale_extents": [1, 2]}])
    for read, path, message in (
        (read_pastasoss, text, "cannot be read as ASDF, so it is no pastasoss reference"),
        (read_pastasoss, short, "lacks 'pivot_x'|lacks 'trace'"),
        (read_pastasoss, flat, "scale_extents"),
        (read_spectrace, table, "no unit with a keyword ORDER"),
        (read_spectrace, text, "is no spectrace reference"),
        (read_wavemap, table, "not a wavemap reference"),
        (lambda p: read_photom(p, "CLEAR", "GR700XD"), table, "is no photom reference"),
    ):
        with pytest.raises(ReferenceFileError, match=message) as caught:
            read(path)
        assert path.name in str(caught.value)


def test_tables_of_something_else(tmp_path):
    path = tmp_path / "other.fits"
    hdu = fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])], name="ORDER")
    hdu.header["ORDER"] = 1
    photom = fits.BinTableHDU.from_columns([fits.Column("filter", "5A", array=["CLEAR"])], name="PHOTOM")
    fits.HDUList([fits.PrimaryHDU(), hdu, photom]).writeto(path)
    with pytest.raises(ReferenceFileError, match="lacks a column WAVELENGTH"):
        read_spectrace(path)
    with pytest.raises(ReferenceFileError, match="holds no images"):
        read_wavemap(path)
    with pytest.raises(ReferenceFileError, match="lacks the column pupil"):
        read_photom(path, "CLEAR", "GR700XD")
