"""The stream against the whole stack at once, and against itself cut otherwise."""

import warnings
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from tso3.core.beside import BesideRule, settle
from tso3.core.median import window_bounds
from tso3.core.outliers import flag_outliers
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
from tso3.parameters import preset
from tso3.steps import outlier_detection, survey
from tso3.steps.known_outliers import OutlierNotes
from tso3.stream import ExposureStream

N_INT, NY, NX = 61, 7, 33


class Planes:
    """Keeps in memory what a stream writes."""

    def __init__(self):
        self.planes = {}

    def write(self, start, stop, raw, rows):
        for name, plane in raw.items():
            whole = self.planes.setdefault(name, np.zeros((N_INT, NY, NX), plane.dtype))
            assert not whole.view("u4")[start:stop, rows].any(), "written twice"
            whole[start:stop, rows] = plane

    def write_median(self, start, stop, median, rows):
        self.write(start, stop, {"median": median.astype("f4") + 0}, rows)


@pytest.fixture(scope="module")
def stack():
    rng = np.random.default_rng(5)
    planes = {"SCI": rng.normal(100, 1, (N_INT, NY, NX)), "ERR": np.ones((N_INT, NY, NX))}
    planes |= {f"VAR_{kind}": np.full((N_INT, NY, NX), 1 / 3) for kind in ("POISSON", "RNOISE", "FLAT")}
    planes = {name: plane.astype("f4") for name, plane in planes.items()}
    planes["SCI"][rng.random((N_INT, NY, NX)) < 0.01] += 50
    planes["SCI"][40, 2, 5:9] = np.nan
    planes["VAR_FLAT"][11, 4, 4] = np.nan
    dq = np.zeros((N_INT, NY, NX), "u4")
    dq[rng.random((N_INT, NY, NX)) < 0.02] = 5
    dq[::20, 3, 3] = 1
    planes["DQ"] = dq
    planes["SCI"][np.random.default_rng(6).random((N_INT, NY, NX)) < 0.1] += 4.5
    return planes


@pytest.fixture(scope="module")
def exposure(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    for k, (a, b) in enumerate([(0, 20), (20, 61)], 1):
        primary = fits.PrimaryHDU()
        primary.header.update({"EXP_TYPE": "NRC_TSIMAGE", "INSTRUME": "NIRCAM", "DETECTOR": "NRCB1", "PROGRAM": "1"})
        primary.header.update({"EXPOSURE": "1", "EXSEGNUM": k, "NINTS": N_INT, "INTSTART": a + 1, "INTEND": b})
        primary.header.update({"TSOVISIT": True, "TELESCOP": "JWST", "DATAMODL": "CubeModel", "SUBARRAY": "SUB64P"})
        hdus = [primary] + [fits.ImageHDU(plane[a:b], name=name) for name, plane in stack.items()]
        fits.HDUList(hdus).writeto(folder / f"jw00001-seg00{k}_nrcb1_calints.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_observation([folder / "*.fits"]).exposures[0]


def run(
    exposure,
    parameters,
    *,
    block_size=None,
    workers=1,
    memory=2**28,
    used=slice(None),
    bad_pixels=None,
    known=None,
    piece=0,
):
    kept = {name: np.full((N_INT, NY, NX), 7, "f4") for name in ("data", "var_flat")}
    kept["mask"] = np.zeros((N_INT, NY, NX), bool)
    low, high, _ = used.indices(NY)

    def consume(block):
        for name, whole in kept.items():
            whole[block.start : block.stop, low:high] = getattr(block, name)[:, low:high]

    writer = Planes()
    with ExitStack() as files:
        reader = files.enter_context(Reader(exposure))
        plan = outlier_detection.prepare(exposure, parameters.outlier_detection)
        stream = ExposureStream(
            exposure, reader, plan, used_rows=used, keep_err=False, writer=writer, bad_pixels=bad_pixels, known=known
        )
        cut = stream.plan(memory, workers, block_size=block_size, result_bytes=0, fixed_bytes=0)
        if piece:
            cut = replace(cut, tiles=(slice(0, 2), slice(2, 3), slice(3, NY)), piece=piece)
        stream.run(cut, consume)
        single = stream.single(20, 21)
    return writer.planes, kept, stream.counts, single


@pytest.mark.parametrize("name", ["default", "archive"])
def test_equal_to_the_whole_stack_at_once(stack, exposure, name):
    parameters = preset(name)
    planes, kept, counts, single = run(exposure, parameters, block_size=7, workers=2)
    bad = (stack["DQ"] & 1).astype(bool) | np.any([~np.isfinite(p) for k, p in stack.items() if k != "DQ"], axis=0)
    if name == "default":
        frame_bad = (stack["DQ"] & 1).astype(bool) | ~np.isfinite(stack["SCI"])
        lo, hi = window_bounds(N_INT, 25, "shrink")
        found = flag_outliers(stack["SCI"], stack["ERR"], frame_bad, lo, hi, snr=5.0, grades=True)
        outlier = settle(found.level, BesideRule.of(4.0, 3.0))
        assert outlier.sum() > found.outlier.sum() + 20
    else:
        outlier = np.zeros(bad.shape, bool)
        for a, b in ((0, 20), (20, 61)):
            data, mask = stack["SCI"][a:b], np.isnan(stack["SCI"][a:b]) | (stack["DQ"][a:b] & 1).astype(bool)
            lo, hi = window_bounds(b - a, 25, "repeat")
            if b - a <= 25:
                mask = np.isnan(data)
            policy = {"nan_policy": "propagate", "min_valid": 1} if b - a > 25 else {"min_valid": 1}
            outlier[a:b] = flag_outliers(
                data, stack["ERR"][a:b], mask, lo, hi, snr=5.0, maxiters=1, flag_masked=True, **policy
            ).outlier
    assert outlier.sum() > 50
    expected = bad | outlier
    for plane in ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        np.testing.assert_array_equal(planes[plane], np.where(expected, np.nan, stack[plane]))
    dq = stack["DQ"] | np.where(expected, 1, 0).astype("u4") | np.where(outlier, 16, 0).astype("u4")
    np.testing.assert_array_equal((planes["DQ"].astype("i8") + 2**31).astype("u4"), dq)
    np.testing.assert_array_equal(kept["mask"], expected)
    np.testing.assert_array_equal(kept["data"], planes["SCI"].astype("f4"))
    np.testing.assert_array_equal(counts.n_outlier, outlier.sum(axis=(1, 2)))
    np.testing.assert_array_equal(single.data[0], kept["data"][20])


@pytest.mark.parametrize("name", ["default", "archive"])
@pytest.mark.parametrize(
    "cut",
    [
        {"block_size": 1},
        {"block_size": 61, "workers": 4},
        {"memory": 250_000},
        {"piece": 1, "block_size": 10},
        {"piece": 4, "block_size": 15, "workers": 3},
    ],
)
def test_does_not_depend_on_the_cut(exposure, name, cut):
    whole = run(exposure, preset(name))
    other = run(exposure, preset(name), **cut)
    for plane, array in whole[0].items():
        np.testing.assert_array_equal(array.view("u4"), other[0][plane].view("u4"))
    for plane, array in whole[1].items():
        np.testing.assert_array_equal(array, other[1][plane])
    np.testing.assert_array_equal(whole[2].n_outlier, other[2].n_outlier)


def test_rows_that_nobody_reads_are_flagged_but_not_kept(exposure):
    whole = run(exposure, preset("default"))
    part = run(exposure, preset("default"), used=slice(2, 5), block_size=9)
    np.testing.assert_array_equal(whole[0]["SCI"].view("u4"), part[0]["SCI"].view("u4"))
    np.testing.assert_array_equal(whole[1]["data"][:, 2:5], part[1]["data"][:, 2:5])
    assert (part[1]["data"][:, :2] == 7).all()


def test_the_users_bad_pixels_are_bad_everywhere(exposure):
    bad = np.zeros((NY, NX), bool)
    bad[1, 20] = True
    planes, kept, *_ = run(exposure, preset("default"), bad_pixels=bad)
    assert np.isnan(planes["SCI"][:, 1, 20]).all()
    assert kept["mask"][:, 1, 20].all()
    assert ((planes["DQ"][:, 1, 20].astype("i8") + 2**31) & 17 == 1).all()


@pytest.mark.parametrize("name", ["default", "archive"])
def test_outliers_that_an_earlier_pass_noted_are_marked_again(exposure, name):
    parameters = preset(name)
    whole = run(exposure, parameters)
    notes = OutlierNotes((N_INT, NY, NX))
    with Reader(exposure) as reader:
        plan = outlier_detection.prepare(exposure, parameters.outlier_detection)
        stream = ExposureStream(exposure, reader, plan, used_rows=slice(None), keep_err=True)
        for start, stop in exposure.segment_bounds:
            for rows in (slice(3, 7), slice(0, 3)):
                data, _ = stream.flagged(start, stop, rows, notes)
                np.testing.assert_array_equal(data, whole[1]["data"][start:stop, rows])
    known = notes.known()
    assert known.pixel.size == whole[2].n_outlier.sum() > 50
    assert known.nbytes == known.pixel.size * 4 + (N_INT + 1) * 8
    other = run(exposure, parameters, known=known, block_size=9, workers=2)
    for plane, array in whole[0].items():
        np.testing.assert_array_equal(array.view("u4"), other[0][plane].view("u4"))
    np.testing.assert_array_equal(whole[2].n_outlier, other[2].n_outlier)


@pytest.mark.parametrize("piece", [0, 2])
def test_the_median_is_handed_on_when_asked_for(stack, exposure, piece):
    asked = preset("default").outlier_detection.model_copy(update={"save_intermediate_results": True})
    parameters = preset("default").model_copy(update={"outlier_detection": asked})
    planes, *_ = run(exposure, parameters, block_size=5, piece=piece)
    assert planes["median"].shape == (N_INT, NY, NX)
    assert abs(np.nanmedian(planes["median"]) - 100) < 0.2


def test_survey_is_the_median_of_its_sample(stack, exposure):
    with Reader(exposure) as reader:
        model = survey.run(exposure, reader, preset("default").survey)
        assert survey.run(exposure, reader, preset("archive").survey) is None
    bad = (stack["DQ"] & 1).astype(bool) | ~np.isfinite(stack["SCI"])
    expected = np.nanmedian(np.where(bad, np.nan, stack["SCI"]), axis=0)
    np.testing.assert_allclose(model.reference, expected, rtol=1e-6)
    assert model.sample.tolist() == list(range(N_INT))
    assert not model.bad.any()


def test_survey_takes_its_sample_by_index_alone(exposure):
    parameters = preset("default").survey.model_copy(update={"n_sample": 10})
    with Reader(exposure) as reader:
        model = survey.run(exposure, reader, parameters, np.eye(NY, NX, dtype=bool))
    assert model.sample.tolist() == [3, 9, 15, 21, 27, 33, 39, 45, 51, 57]
    np.testing.assert_array_equal(model.bad, np.eye(NY, NX, dtype=bool))


@pytest.mark.parametrize(("n_int", "size"), [(8, 8), (64, 64), (100, 64), (150, 90), (400, 128), (5000, 128)])
def test_a_survey_does_not_look_at_nearly_all_of_an_exposure(n_int, size):
    indices = survey.sample_indices(n_int, 128)
    assert indices.size == size
    assert (np.diff(indices) > 0).all()
    assert indices[0] < n_int / size + 1
    assert indices[-1] >= n_int - n_int / size - 1


def test_without_outlier_detection_bad_samples_are_left_out(stack, exposure):
    kept = np.zeros((N_INT, NY, NX), bool)

    def consume(block):
        kept[block.start : block.stop] = np.isnan(block.data)

    with Reader(exposure) as reader:
        stream = ExposureStream(exposure, reader, None, used_rows=slice(None), keep_err=False)
        stream.run(stream.plan(2**28, 1, block_size=9, result_bytes=0, fixed_bytes=0), consume)
    marked = (stack["DQ"] & 1).astype(bool)
    assert np.isfinite(stack["SCI"][marked]).any()
    assert kept[marked].all()
    assert stream.counts.n_outlier.sum() == 0
