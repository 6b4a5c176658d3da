"""The comparison itself: it must see every kind of difference, or the tests of this folder prove nothing."""

from __future__ import annotations

import io
from pathlib import Path

import asdf
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from compare import Comparison, trees, values
from compare_products import Threshold, archive_median, crfints, ecsv, products, x1dints

SPECTRUM = np.dtype(
    [
        ("INT_NUM", ">i4"),
        ("WAVELENGTH", ">f8", (4,)),
        ("FLUX", ">f8", (4,)),
        ("FLUX_ERROR", ">f8", (4,)),
        ("FLUX_VAR_FLAT", ">f8", (4,)),
        ("DQ", ">i4", (4,)),
        ("NPIXELS", ">f8", (4,)),
        ("MJD-AVG", ">f8"),
    ]
)


def asdf_hdu(tree):
    """Return a tree as the ASDF extension of a FITS file."""
    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    content = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    table = np.zeros(1, dtype=[("ASDF_METADATA", np.uint8, (content.size,))])
    table[0][0] = content
    return fits.BinTableHDU(table, name="ASDF")


def write_x1dints(path, change=lambda parts: None):
    """Write a small product with the parts of x1dints; ``change`` may edit the parts first."""
    table = np.zeros(3, dtype=SPECTRUM)
    table["INT_NUM"] = [1, 2, 3]
    table["WAVELENGTH"] = [1.0, 2.0, 3.0, 4.0]
    table["FLUX"] = [[1.0, 2.0, np.nan, 4.0]] * 3
    table["FLUX_ERROR"] = [0.1, 0.2, np.nan, 1e4]
    table["FLUX_VAR_FLAT"] = 1e-4
    table["DQ"] = [0, 0, 1, 0]
    table["NPIXELS"] = 7.5
    table["MJD-AVG"] = [60000.1, 60000.2, 60000.3]
    header = fits.Header({"DATE": "2026-01-01", "EFFEXPTM": 972.0, "DETECTOR": "MULTIPLE", "EXPSTART": 60000.05})
    rows = np.array(
        [(b"a.fits", 972.0, 1), (b"b.fits", 972.0, 2)], dtype=[("FILENAME", "S8"), ("DURATION", ">f8"), ("SEG", ">i8")]
    )
    tree = {
        "meta": {"date": "2026-01-01", "exposure": {"nints": 3, "duration": 972.0}},
        "list": [1, 2.0, "x"],
        "inline": np.arange(3),
    }
    parts = {"table": table, "header": header, "rows": rows, "tree": tree, "unit": "Jy", "extra": []}
    change(parts)
    spectrum = fits.BinTableHDU(parts["table"], name="EXTRACT1D")
    spectrum.columns["FLUX"].unit = parts["unit"]
    hdus = [fits.PrimaryHDU(header=parts["header"]), spectrum, fits.BinTableHDU(parts["rows"], name="HDRTAB")]
    fits.HDUList([*hdus, *parts["extra"], asdf_hdu(parts["tree"])]).writeto(path)
    return path


def set_field(part, key, value, index=...):
    """Return an edit of `write_x1dints`."""

    def change(parts):
        if isinstance(parts[part], np.ndarray):
            parts[part][key][index] = value
        else:
            parts[part][key] = value

    return change


def scale_flux(parts):
    parts["table"]["FLUX"][1, 1] *= 1 + 2e-6


def scale_flux_within_error(parts):
    parts["table"]["FLUX"][1, 3] *= 1 + 2e-6


def scale_variance(parts):
    parts["table"]["FLUX_VAR_FLAT"][0, 0] *= 1 + 2e-6


def move_nan(parts):
    parts["table"]["FLUX"][1, 2], parts["table"]["FLUX"][1, 1] = 3.0, np.nan


def wavelength(step):
    def change(parts):
        parts["table"]["WAVELENGTH"][2, 3] += step

    return change


def time(step):
    def change(parts):
        parts["table"]["MJD-AVG"][2] += step

    return change


def tree(key, value):
    def change(parts):
        parts["tree"][key] = value

    return change


SEEN = {
    "flux 2e-6": scale_flux,
    "variance 2e-6": scale_variance,
    "NaN moved": move_nan,
    "DQ bit": set_field("table", "DQ", 1, (0, 0)),
    "NPIXELS": set_field("table", "NPIXELS", 7.5000001, (0, 0)),
    "INT_NUM": set_field("table", "INT_NUM", 4, 2),
    "wavelength 2e-9": wavelength(2e-9),
    "time 1e-8 day": time(1e-8),
    "unit": lambda parts: parts.update(unit="mJy"),
    "keyword value": set_field("header", "DETECTOR", "NRS1"),
    "keyword added": set_field("header", "NEWKEY", 1),
    "keyword missing": lambda parts: parts["header"].remove("EXPSTART"),
    "HDRTAB value": set_field("rows", "SEG", 3, 1),
    "HDRTAB row": lambda parts: parts.update(rows=parts["rows"][:1]),
    "table row": lambda parts: parts.update(table=parts["table"][:2]),
    "HDU more": lambda parts: parts["extra"].append(fits.ImageHDU(name="OTHER")),
    "tree value": tree("list", [1, 2.0, "y"]),
    "tree key": tree("other", 1),
    "tree array": tree("inline", np.array([0, 1, 3])),
    "tree length": tree("list", [1, 2.0]),
    "tree meta": tree("meta", {"date": "x", "exposure": {"nints": 4, "duration": 972.0}}),
}

NOT_SEEN = {
    "nothing": lambda parts: None,
    "flux within its error": scale_flux_within_error,
    "wavelength 5e-10": wavelength(5e-10),
    "time 1e-11 day": time(1e-11),
    "date": set_field("header", "DATE", "2027-01-01"),
    "duration": set_field("header", "EFFEXPTM", 3888.0),
    "tree duration": tree("meta", {"date": "x", "exposure": {"nints": 3, "duration": 3888.0}}),
    "file name of a member": set_field("rows", "FILENAME", b"c.fits", 0),
    "our companion": lambda parts: parts["extra"].append(fits.ImageHDU(name="TSO3_EXTRACT1D")),
    "our keyword": set_field("header", "TSO3VER", "0.1"),
    "our record in the tree": tree("tso3", {"preset": "archive"}),
    "log": tree("cal_logs", {"x": ["y"]}),
}


@pytest.mark.parametrize("change", SEEN.values(), ids=SEEN.keys())
def test_a_difference_of_x1dints_is_seen(tmp_path, change):
    peer = write_x1dints(tmp_path / "peer.fits")
    ours = write_x1dints(tmp_path / "ours.fits", change)
    comparison = x1dints(ours, peer, 2)
    assert comparison.failures
    with pytest.raises(AssertionError, match="differ from the reference pipeline"):
        comparison.check()


@pytest.mark.parametrize("change", NOT_SEEN.values(), ids=NOT_SEEN.keys())
def test_what_may_differ_in_x1dints_passes(tmp_path, change):
    peer = write_x1dints(tmp_path / "peer.fits")
    ours = write_x1dints(tmp_path / "ours.fits", change)
    x1dints(ours, peer, 2).check()


def test_durations_count_when_there_is_one_member(tmp_path):
    peer = write_x1dints(tmp_path / "peer.fits")
    ours = write_x1dints(tmp_path / "ours.fits", set_field("header", "EFFEXPTM", 3888.0))
    assert [row.part for row in x1dints(ours, peer, 1).failures] == ["PRIMARY EFFEXPTM"]


def test_largest_is_in_units_of_value_or_error():
    row = values("p", "c", [1.0 + 2e-7, 10.0], [1.0, 10.0])
    assert row.ok
    assert row.largest == pytest.approx(2e-7, rel=1e-6)
    assert values("p", "c", [1.0 + 2e-6], [1.0], error=[10.0]).largest == pytest.approx(2e-7, rel=1e-6)
    assert not values("p", "c", [1e-30], [0.0]).ok
    assert not values("p", "c", [np.inf], [np.nan]).ok
    assert not values("p", "c", [np.inf], [-np.inf]).ok
    assert values("p", "c", [np.inf, np.nan], [np.inf, np.nan]).ok
    assert not values("p", "c", np.zeros(3), np.zeros(4)).ok
    assert not values("p", "c", ["a"], ["b"]).ok


def test_an_empty_comparison_is_a_failure():
    with pytest.raises(AssertionError, match="nothing was compared"):
        Comparison("x1dints").check()


def test_world_coordinates_are_compared_by_what_they_compute():
    from astropy.modeling.models import Mapping, Shift, Tabular1D
    from gwcs import WCS

    def wcs(step):
        table = Tabular1D(points=np.arange(5.0), lookup_table=1 + step + np.arange(5.0), bounds_error=False)
        return WCS(Mapping((0, 0)) | Shift(1.0) & table, input_frame="pixel_frame", output_frame="world")

    for step, n_failed in ((0.0, 0), (1e-10, 0), (1e-6, 1)):
        comparison = Comparison("x1dints")
        trees(comparison, {"wcs": wcs(step)}, {"wcs": wcs(0.0)})
        assert len(comparison.failures) == n_failed


def write_ecsv(path, change=lambda table: None):
    table = QTable(meta={"instrument": "NIRCAM", "pupil": None, "number_of_integrations": 2})
    table["MJD"] = [60000.1, 60000.2]
    table["aperture_sum"] = [1.0, np.nan]
    table["aperture_sum"].unit = "Jy"
    table["aperture_sum_err"] = [0.5, np.nan]
    change(table)
    table.write(path, format="ascii.ecsv")
    return path


def set_column(name, value, i=0):
    def change(table):
        column = table[name].copy()
        column[i] = value * column.unit if column.unit else value
        table[name] = column

    return change


ECSV_SEEN = {
    "value": set_column("aperture_sum", 1 + 2e-6),
    "NaN": set_column("aperture_sum", 1.0, 1),
    "time": set_column("MJD", 60000.1 + 1e-8),
    "meta": lambda table: table.meta.update(instrument="MIRI"),
    "meta missing": lambda table: table.meta.pop("pupil"),
    "column missing": lambda table: table.remove_column("aperture_sum_err"),
    "unit": lambda table: table.replace_column("aperture_sum", table["aperture_sum"].value),
    "row missing": lambda table: table.remove_row(1),
}


@pytest.mark.parametrize("change", ECSV_SEEN.values(), ids=ECSV_SEEN.keys())
def test_a_difference_of_a_table_is_seen(tmp_path, change):
    peer, ours = write_ecsv(tmp_path / "peer.ecsv"), write_ecsv(tmp_path / "ours.ecsv", change)
    assert ecsv("phot", ours, peer).failures


def test_a_table_may_have_more(tmp_path):
    def more(table):
        table["flags"] = [0, 1]
        table.meta["program"] = "tso3"

    ecsv("phot", write_ecsv(tmp_path / "ours.ecsv", more), write_ecsv(tmp_path / "peer.ecsv")).check()


def exposure(n_int=30):
    """Return SCI, ERR, DQ of a flat exposure with one outlier."""
    rng = np.random.default_rng(1)
    data = rng.normal(100.0, 1.0, (n_int, 3, 4)).astype(np.float32)
    err = np.ones_like(data)
    dq = np.zeros(data.shape, dtype=np.uint32)
    return data, err, dq


def write_calints(path, data, err, dq):
    hdus = [fits.ImageHDU(data, name="SCI"), fits.ImageHDU(err, name="ERR"), fits.ImageHDU(dq, name="DQ")]
    fits.HDUList([fits.PrimaryHDU(), *hdus, asdf_hdu({"meta": {"a": 1}})]).writeto(path)
    return path


def flagged(data, err, dq, where):
    """Return copies with the given pixels flagged as crfints has them."""
    data, err, dq = data.copy(), err.copy(), dq.copy()
    for index in where:
        dq[index] |= 17
        data[index] = err[index] = np.nan
    return data, err, dq


def test_flags_must_agree_but_at_the_threshold(tmp_path):
    data, err, dq = exposure()
    at = (20, 1, 2)
    data[at] = 200.0
    median = archive_median(data[:, 1, 2].astype(float), dq[:, 1, 2], 20, 25)
    data[at] = np.float32(median + 5.0)
    err[at] = np.float32(abs(float(data[at]) - median) / 5.0)
    calints = write_calints(tmp_path / "a_calints.fits", data, err, dq)
    peer = write_calints(tmp_path / "peer.fits", *flagged(data, err, dq, [at, (3, 0, 0)]))
    threshold = Threshold(5.0, 25)
    same = crfints(peer, peer, calints, threshold)
    same.check()
    assert same.n_borderline == 0
    assert same.n_flagged == 2
    excused = crfints(
        write_calints(tmp_path / "b.fits", *flagged(data, err, dq, [(3, 0, 0)])), peer, calints, threshold
    )
    excused.check()
    assert excused.n_borderline == 1
    wrong = crfints(write_calints(tmp_path / "c.fits", *flagged(data, err, dq, [at])), peer, calints, threshold)
    assert [row.part for row in wrong.failures] == ["DQ"]
    changed, err2, dq2 = flagged(data, err, dq, [at, (3, 0, 0)])
    changed[0, 0, 0] *= 1 + 1e-5
    assert [
        row.part for row in crfints(write_calints(tmp_path / "d.fits", changed, err2, dq2), peer, calints).failures
    ] == ["SCI"]


@pytest.mark.parametrize(("index", "first"), [(0, 0), (12, 0), (13, 1), (16, 4), (17, 5), (29, 5)])
def test_the_median_of_the_archive_repeats_the_nearest_window(index, first):
    data = np.arange(30.0)
    dq = np.zeros(30, dtype=np.uint32)
    assert archive_median(data, dq, index, 25) == first + 12
    dq[first + 3] = 1
    assert np.isnan(archive_median(data, dq, index, 25))
    assert archive_median(data, dq, index, 30) == 14.5


def test_a_missing_product_is_seen(tmp_path):
    peer_dir = tmp_path / "peer"
    peer_dir.mkdir()
    write_ecsv(peer_dir / "p_phot.ecsv")
    ours = write_ecsv(tmp_path / "p_phot.ecsv")
    assert all(not c.failures for c in products({"phot": [ours]}, peer_dir, ()))
    assert products({}, peer_dir, ())[0].failures
    assert products({"phot": [ours, Path("other.ecsv")]}, peer_dir, ())[0].failures
