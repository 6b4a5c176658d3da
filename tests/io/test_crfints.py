from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
import warnings
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import OutputError, Tso3Warning
from tso3.io.crfints import CrfintsRecord, CrfintsWriter, crfints_name
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
from tso3.io.tiles import Place, mark_rows

LRS = Path(__file__).parents[2].parent / "shared/data/miri_lrs/ERS_NGTS10_2022_new_drift_041_calints.fits"
RECORD = CrfintsRecord(
    asn_pool="pool_1",
    asn_table="a_asn.json",
    cards=[("TSO3VER", "9.9.9", "Version of tso3, which made this product"), ("TSO3PSET", "default", "Preset")],
    tree={"version": "9.9.9", "parameters": {"outlier_detection": {"snr": 5.0}}},
)
OURS = {"DATE", "FILENAME", "S_OUTLIR", "ASNPOOL", "ASNTABLE", "TSO3VER", "TSO3PSET"}


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def mark(raw, outlier):
    """Mark bad samples and outliers in all rows that were read."""
    mark_rows(raw, Place(0, raw["SCI"].shape[1], 0), outlier, None, {}, (0, 0, 0), top_bit=True)


def write_all(exposure, folder, outlier=None, *, step=5, tiles=1, record=RECORD, asn_id="o003"):
    """Write the crfints of all segments in blocks and row tiles; return their paths."""
    paths = [folder / crfints_name(segment, asn_id) for segment in exposure.segments]
    edges = np.linspace(0, exposure.ny, tiles + 1).astype(int)
    with Reader(exposure) as reader, ExitStack() as stack:
        writers = [stack.enter_context(CrfintsWriter(exposure, i, p, record)) for i, p in enumerate(paths)]
        for start in range(0, exposure.n_int, step):
            stop = min(start + step, exposure.n_int)
            for low, high in pairwise(edges):
                rows = slice(int(low), int(high))
                raw = reader.read(start, stop, rows=rows)
                mark(raw, None if outlier is None else np.ascontiguousarray(outlier[start:stop, rows]))
                for writer in writers:
                    writer.write(start, stop, raw, rows)
    return paths


@pytest.fixture
def exposure(segments):
    return read_observation(segments).exposures[0]


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("step", "tiles"), [(1, 1), (5, 2), (12, 1), (12, 5)])
def test_pixels_flags_and_everything_else(exposure, segments, output, step, tiles):
    before = [digest(path) for path in segments]
    outlier = np.random.default_rng(3).random((12, 5, 7)) < 0.1
    paths = write_all(exposure, output, outlier, step=step, tiles=tiles)
    assert [digest(path) for path in segments] == before
    assert sorted(output.iterdir()) == paths
    for path, original, (start, stop) in zip(paths, segments, exposure.segment_bounds, strict=True):
        with fits.open(path) as ours, fits.open(original) as theirs:
            assert [hdu.name for hdu in ours] == [hdu.name for hdu in theirs]
            dq = theirs["DQ"].data
            marked = (dq & 1 != 0) | outlier[start:stop]
            expected = dq | marked.astype("u4") | outlier[start:stop].astype("u4") * 17
            np.testing.assert_array_equal(ours["DQ"].data, expected)
            assert ours["DQ"].data.dtype == theirs["DQ"].data.dtype
            for name in ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
                np.testing.assert_array_equal(ours[name].data, np.where(marked, np.nan, theirs[name].data))
            assert ours["INT_TIMES"].data.tobytes() == theirs["INT_TIMES"].data.tobytes()
            for a, b in zip(ours[1:], theirs[1:], strict=True):
                assert a.header.tostring() == b.header.tostring()
            mine, its = ours[0].header, theirs[0].header
            assert {key for key in mine if mine[key] != its.get(key)} - {""} == OURS
            assert (mine["FILENAME"], mine["S_OUTLIR"], mine["ASNTABLE"]) == (path.name, "COMPLETE", "a_asn.json")


def test_names():
    class Stem:
        def __init__(self, stem):
            self.stem = stem

    assert crfints_name(Stem("jw1-seg001_nrs1"), "o003") == "jw1-seg001_nrs1_o003_crfints.fits"
    assert crfints_name(Stem("jw1-seg001_nrs1_o003"), "o003") == "jw1-seg001_nrs1_o003_crfints.fits"
    assert crfints_name(Stem("jw1-seg001_nrs1_o003_crfints"), "o003") == "jw1-seg001_nrs1_o003_crfints.fits"
    assert crfints_name(Stem("jw1-seg001_nrs1"), None) == "jw1-seg001_nrs1_crfints.fits"


def test_a_product_becomes_an_input_and_stays_as_it_is(exposure, output, tmp_path):
    paths = write_all(exposure, output)
    again = tmp_path / "again"
    again.mkdir()
    second = read_observation(paths).exposures[0]
    for one, two in zip(paths, write_all(second, again), strict=True):
        assert one.name == two.name
        with fits.open(one) as a, fits.open(two) as b:
            for x, y in zip(a, b, strict=True):
                if x.data is not None:
                    assert x.data.tobytes() == y.data.tobytes()
                for header in (x.header, y.header):
                    header.remove("DATE", ignore_missing=True)
                assert x.header.tostring() == y.header.tostring()


def test_inputs_are_never_replaced(exposure, segments, output):
    link = output / "link.fits"
    link.symlink_to(segments[2])
    hard = output / "hard.fits"
    hard.hardlink_to(segments[1])
    before = [digest(path) for path in segments]
    for path in (segments[0], segments[1], link, hard, output / ".." / segments[0].name):
        with pytest.raises(OutputError, match="would replace an input"), CrfintsWriter(exposure, 0, path):
            pass
    assert [digest(path) for path in segments] == before


def test_an_error_leaves_the_earlier_product(exposure, output):
    path = output / "p.fits"
    path.write_bytes(b"earlier")
    with pytest.raises(KeyError, match="mine"), CrfintsWriter(exposure, 0, path):
        raise KeyError("mine")
    with pytest.raises(RuntimeError, match="not written exactly once"), CrfintsWriter(exposure, 0, path):
        pass
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in output.iterdir()] == ["p.fits"]


@pytest.mark.parametrize("folder", ["none", "file"])
def test_a_folder_that_is_none(exposure, output, folder):
    (output / "file").touch()
    with (
        pytest.raises(OutputError, match="does not exist") as caught,
        CrfintsWriter(exposure, 0, output / folder / "p"),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_wrong_arrays_are_refused(exposure, output):
    with Reader(exposure) as reader:
        raw = reader.read(0, 4)
    with pytest.raises(ValueError, match="SCI is"), CrfintsWriter(exposure, 0, output / "p.fits") as writer:
        writer.write(0, 3, raw)
    with pytest.raises(ValueError, match="SCI is"), CrfintsWriter(exposure, 0, output / "p.fits") as writer:
        writer.write(0, 4, raw | {"SCI": raw["SCI"].astype("<f4")})


def test_threads_may_write_at_once(exposure, output):
    outlier = np.random.default_rng(3).random((12, 5, 7)) < 0.1
    path = output / "p.fits"
    reference = write_all(exposure, output, outlier)[1]
    with Reader(exposure) as reader, CrfintsWriter(exposure, 1, path, RECORD) as writer:

        def work(i):
            raw = reader.read(i, i + 1)
            mark(raw, outlier[i : i + 1])
            writer.write(i, i + 1, raw)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with fits.open(path) as a, fits.open(reference) as b:
        assert all(x.data is None or x.data.tobytes() == y.data.tobytes() for x, y in zip(a, b, strict=True))


def test_checksums_extra_units_and_long_names(tmp_path, make_calints, output):
    path = tmp_path / f"{'a' * 100}_calints.fits"
    hdus = make_calints(path)
    hdus.insert(2, fits.ImageHDU(np.arange(6, dtype="i2").reshape(2, 3), name="MYEXTRA"))
    table = fits.TableHDU.from_columns([fits.Column("a", "I4", array=np.arange(3), ascii=True)], name="ASCII")
    hdus.append(table)
    hdus.append(fits.BinTableHDU(np.zeros(3, [("s", "S7")]), name="TABLE"))
    hdus.writeto(path, overwrite=True, checksum=True)
    (product,) = write_all(read_observation(path).exposures[0], output)
    with fits.open(product) as ours, fits.open(path) as theirs:
        assert [hdu.name for hdu in ours] == [hdu.name for hdu in theirs]
        assert not any(key in hdu.header for hdu in ours for key in ("CHECKSUM", "DATASUM"))
        np.testing.assert_array_equal(ours["MYEXTRA"].data, theirs["MYEXTRA"].data)
        assert ours["ASCII"].data.tolist() == theirs["ASCII"].data.tolist()
        assert ours[0].header["FILENAME"] == product.name
        ours.verify("exception")
    assert product.stat().st_size % 2880 == 0


def test_bad_cards_are_repaired_in_the_copy_and_named(tmp_path, make_calints, output):
    path = tmp_path / "a_calints.fits"
    make_calints(path, targprop="HAT-P-11")
    raw = path.read_bytes()
    raw = raw.replace(b"TARGPROP= 'HAT-P-11'", b"TARGPROP= 'HAT-\xb5-11'")
    raw = raw.replace(b"VISITGRP= '04      '", b"VISITGRP= '04      (")
    path.write_bytes(raw)
    exposure = read_observation(path).exposures[0]
    with pytest.warns(Tso3Warning, match=r"repaired in the copy: PRIMARY: card .*VISITGRP.*left out; PRIMARY: .*ASCII"):
        (product,) = write_all(exposure, output)
    header = fits.getheader(product)
    assert "VISITGRP" not in header
    assert header["TARGPROP"] == "HAT-?-11"


def test_one_integration_without_a_third_axis(tmp_path, make_calints, output):
    path = tmp_path / "a_calints.fits"
    hdus = make_calints(path, 1)
    for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        hdus[name].data = hdus[name].data[0]
    hdus.writeto(path, overwrite=True)
    (product,) = write_all(read_observation(path).exposures[0], output)
    assert fits.getdata(product, "SCI").shape == (5, 7)


def slit_model(path):
    """Write a SlitModel as the archive's data models do, with cards and hash in its tree."""
    from stdatamodels.jwst import datamodels

    rng = np.random.default_rng(5)
    shape = (4, 5, 7)
    model = datamodels.SlitModel(rng.normal(10, 1, shape).astype("f4"))
    model.err = rng.random(shape).astype("f4")
    model.var_poisson, model.var_rnoise, model.var_flat = (rng.random(shape).astype("f4") for _ in range(3))
    model.dq = rng.choice(np.array([0, 0, 0, 1, 4, 2**31], "u4"), shape)
    model.wavelength = rng.random(shape[1:]).astype("f4")
    model.err[0, 0, 0] = model.var_flat[1, 1, 1] = np.nan
    names = [f"int_{phase}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for phase in ("start", "mid", "end")]
    times = np.zeros(4, [("integration_number", "i4"), *((name, "f8") for name in names)])
    times["integration_number"] = np.arange(1, 5)
    for name in times.dtype.names[1:]:
        times[name] = 59791.0 + np.arange(4) * 1e-4
    model.int_times = times
    meta = {
        "meta.exposure.type": "NRS_BRIGHTOBJ", "meta.visit.tsovisit": True, "meta.instrument.name": "NIRSPEC",
        "meta.instrument.detector": "NRS1", "meta.telescope": "JWST", "meta.exposure.integration_start": 1,
        "meta.exposure.integration_end": 4, "meta.exposure.nints": 4, "meta.cal_step.flat_field": "COMPLETE",
        "meta.bunit_data": "MJy", "meta.target.proposer_name": "HAT-P-11",
    }  # fmt: skip
    for key, value in meta.items():
        model[key] = value
    model.save(path)
    model.close()


@pytest.mark.parametrize("stale", [False, True], ids=["hash valid", "header edited later"])
def test_opens_and_validates_as_a_data_model(tmp_path, output, stale):
    from stdatamodels.fits_support import fits_hash
    from stdatamodels.jwst import datamodels

    path = tmp_path / "a_calints.fits"
    slit_model(path)
    if stale:
        fits.setval(path, "TARGPROP", value="edited")
    (product,) = write_all(read_observation(path).exposures[0], output)
    with datamodels.open(product) as model, fits.open(product) as hdus:
        model.validate()
        assert type(model).__name__ == "SlitModel"
        assert model.meta.filename == product.name
        assert model.meta.cal_step.outlier_detection == "COMPLETE"
        assert model.meta.cal_step.flat_field == "COMPLETE"
        assert (model.meta.asn.pool_name, model.meta.asn.table_name) == ("pool_1", "a_asn.json")
        assert model.meta.target.proposer_name == ("edited" if stale else "HAT-P-11")
        np.testing.assert_array_equal(model.data, hdus["SCI"].data)
        np.testing.assert_array_equal(model.dq, hdus["DQ"].data)
        tree = model._instance
        assert tree["tso3"]["parameters"]["outlier_detection"]["snr"] == 5.0
        assert (tree.get("_fits_hash") == fits_hash(hdus)) != stale
        model.save(output / "saved.fits")
    assert fits.getval(output / "saved.fits", "TSO3VER") == "9.9.9"


@pytest.mark.jwst
def test_equal_to_the_product_of_the_reference_pipeline(tmp_path, output):
    from jwst.lib.pipe_utils import match_nans_and_flags
    from stdatamodels.jwst import datamodels

    path = tmp_path / "a_calints.fits"
    slit_model(path)
    outlier = np.random.default_rng(3).random((4, 5, 7)) < 0.1
    with datamodels.open(path) as model:
        model.dq[outlier] |= 17
        match_nans_and_flags(model)
        model.meta.cal_step.outlier_detection = "COMPLETE"
        model.meta.asn.pool_name, model.meta.asn.table_name = "pool_1", "a_asn.json"
        model.save(tmp_path / "a_o003_crfints.fits")
    (product,) = write_all(read_observation(path).exposures[0], output, outlier)
    with fits.open(product) as ours, fits.open(tmp_path / "a_o003_crfints.fits") as peer:
        assert [hdu.name for hdu in ours] == [hdu.name for hdu in peer]
        for a, b in zip(ours[:-1], peer[:-1], strict=True):
            listed = {"DATE", "TSO3VER", "TSO3PSET", "CAL_VER", "CAL_VCS", ""}
            assert {k for k in {*a.header, *b.header} if a.header.get(k) != b.header.get(k)} - listed == set()
            if a.data is not None:
                assert a.data.dtype == b.data.dtype
                assert a.data.tobytes() == b.data.tobytes() or np.array_equal(a.data, b.data, equal_nan=True)


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
@pytest.mark.parametrize(
    "name", ["model", pytest.param("genuine", marks=pytest.mark.skipif(not LRS.exists(), reason="absent"))]
)
def test_fitsverify_is_content(tmp_path, output, name):
    path = tmp_path / "a_calints.fits"
    if name == "model":
        slit_model(path)
    else:
        shutil.copy(LRS, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "genuine" else "error", Tso3Warning)
        (product,) = write_all(read_observation(path).exposures[0], output)
    report = subprocess.run(["fitsverify", product], capture_output=True, text=True, check=False).stdout
    assert "Verification found 0 warning(s) and 0 error(s)" in report, report
