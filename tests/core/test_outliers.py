"""Outliers in time: what is flagged, what is never, and that blocks, rows and threads do not matter."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tso3.core.median import window_bounds
from tso3.core.outliers import flag_outliers


def column(*values):
    """One pixel as a stack."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


def flags(data, err=1.0, mask=None, *, width=25, edges="shrink", snr=5.0, **keywords):
    """Outliers of a stack; by default its NaN are masked."""
    errors = np.broadcast_to(np.float32(err), data.shape).astype(np.float32)
    bad = np.isnan(data) if mask is None else mask
    return flag_outliers(data, errors, bad, *window_bounds(len(data), width, edges), snr=snr, **keywords)


def noise(n_int, ny=2, nx=5, seed=0):
    """Unit Gaussian noise without chance outliers."""
    return np.clip(np.random.default_rng(seed).normal(size=(n_int, ny, nx)), -2, 2).astype(np.float32)


def test_a_nan_in_one_integration_never_hides_an_outlier_in_a_neighbour():
    for bad in (0, 18, 20, 29, 31, 42, 59):
        data = noise(60)
        data[30, 1, 2] = 100
        data[bad, 1, 2] = np.nan
        found = flags(data).outlier
        assert np.argwhere(found).tolist() == [[30, 1, 2]]
        hidden = flags(data, nan_policy="propagate", maxiters=1, edges="repeat").outlier
        assert not hidden.any() if abs(bad - 30) <= 12 else hidden[30, 1, 2]


def test_a_pixel_bad_every_20th_integration_is_still_checked():
    data = noise(200)
    data[::20, 0, 0] = np.nan
    hits = [3, 33, 119, 121, 199]
    data[hits, 0, 0] = 100
    assert np.argwhere(flags(data).outlier).tolist() == [[i, 0, 0] for i in hits]
    assert not flags(data, nan_policy="propagate", maxiters=1, edges="repeat").outlier.any()


def test_the_threshold_is_strict_and_the_error_that_of_the_sample():
    data = column(0, 0, 5, 0, 0, -5.5, 0, 0)
    assert flags(data, width=3, maxiters=1).outlier.ravel().nonzero()[0].tolist() == [5]
    err = column(1, 1, 0.9, 1, 1, 2, 1, 1)
    assert flags(data, err, width=3, maxiters=1).outlier.ravel().nonzero()[0].tolist() == [2]


def test_an_unknown_or_zero_error_makes_any_deviation_an_outlier():
    data = column(1, 1, 1.001, 1, 1, 1)
    for sigma in (np.nan, 0):
        err = column(1, 1, sigma, 1, sigma, 1)
        assert flags(data, err, width=5, maxiters=1).outlier.ravel().nonzero()[0].tolist() == [2]
    assert not flags(data, np.inf, width=5).outlier.any()


def test_bad_samples_are_flagged_only_on_request_and_nan_never():
    data = column(0, 0, 90, 0, np.nan, 0, np.inf, 0, 0)
    mask = np.zeros(data.shape, bool)
    mask[[2, 4, 6]] = True
    assert not flags(data, mask=mask, width=5).outlier.any()
    judged = flags(data, mask=mask, width=5, flag_masked=True)
    assert judged.outlier.ravel().nonzero()[0].tolist() == [2, 6]
    assert judged.n_flagged.tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_clipping_by_hand():
    data = column(0, 1, 2, 90, 91)
    once = flags(data, width=0, maxiters=1)
    assert once.median.ravel().tolist() == [2] * 5
    assert flags(data, width=0, maxiters=2).median.ravel().tolist() == [1] * 5
    assert once.outlier.ravel().tolist() == [False, False, False, True, True]


def test_clipping_finds_what_two_other_outliers_hide():
    data = column(0, 0.5, 1, 6, 30, 30)  # median 3.5, and 0.75 without the hits of 30
    once, twice = flags(data, width=0, maxiters=1), flags(data, width=0, maxiters=2)
    assert (once.median[0, 0, 0], twice.median[0, 0, 0]) == (3.5, 0.75)
    assert once.outlier.ravel().nonzero()[0].tolist() == [4, 5]
    assert twice.outlier.ravel().nonzero()[0].tolist() == [3, 4, 5]


def test_clipped_samples_stay_out_and_clipping_stops_at_min_valid():
    data = column(0, 4, 8, 30, 34, 38)  # median 19: everything is too far from it
    kept = flags(data, width=0, maxiters=3, min_valid=1)
    assert kept.median.ravel().tolist() == [19] * 6
    assert kept.outlier.all()
    data = column(0, 1, 2, 40, 80)
    assert flags(data, width=0, maxiters=3, min_valid=3).median.ravel().tolist() == [1] * 5
    assert flags(data, width=0, maxiters=3, min_valid=4).median.ravel().tolist() == [2] * 5


def test_second_clipping_goes_on_from_the_first():
    data = column(0, 0, 0.5, 2, 5.8, 30, 30)
    assert [flags(data, width=0, maxiters=k).median[0, 0, 0] for k in (1, 2, 3, 4)] == [2, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("n_int", [1, 2, 24, 25, 26])
@pytest.mark.parametrize("edges", ["shrink", "full", "repeat"])
def test_lengths_around_the_width(n_int, edges):
    data = noise(n_int)
    data[n_int // 2, 1, 3] = 50
    result = flags(data, edges=edges)
    assert result.outlier.shape == data.shape
    if n_int < 3:
        assert not result.outlier.any()
        assert np.isnan(result.median).all()
    else:
        assert np.argwhere(result.outlier).tolist() == [[n_int // 2, 1, 3]]
        assert result.n_flagged.sum() == 1


def test_a_deep_ingress_is_not_an_outlier_but_for_windows_that_lean():
    depth = np.repeat([100.0, 90.0], 50)[:, None, None] * np.ones((1, 2, 5))
    data = (depth + noise(100) / 2).astype(np.float32)
    assert not flags(data, 0.5).outlier.any()
    first_half = data[:60]
    assert not flags(first_half, 0.5, maxiters=1).outlier[:47].any()
    archive = flags(first_half, 0.5, edges="repeat", maxiters=1, nan_policy="propagate").outlier
    assert archive[50:].mean() > 0.5  # the last twelve are compared with a median from before the ingress


def test_a_slope_is_not_flagged_where_windows_are_centred():
    data = (noise(120) / 10 + 0.5 * np.arange(120)[:, None, None]).astype(np.float32)
    assert not flags(data).outlier[12:-12].any()


@pytest.mark.parametrize("nan_policy", ["skip", "propagate"])
@pytest.mark.parametrize("size", [1, 7, 25, 90])
def test_blocks_with_their_neighbours_give_the_same_bits(nan_policy, size):
    rng = np.random.default_rng(8)
    data = rng.normal(size=(90, 3, 20)).astype(np.float32)
    data[rng.random(data.shape) < 0.02] += 40
    data[40:] += 6
    data[rng.random(data.shape) < 0.01] = np.nan
    err = rng.uniform(0.5, 1.5, data.shape).astype(np.float32)
    mask = np.isnan(data)
    for edges in ("shrink", "full", "repeat"):
        lo, hi = window_bounds(90, 25, edges)
        whole = flag_outliers(data, err, mask, lo, hi, snr=4.0, nan_policy=nan_policy)
        assert whole.outlier.any()
        for start in range(0, 90, size):
            stop = min(start + size, 90)
            first, last = min(start, lo[start]), max(stop, hi[stop - 1])
            part = flag_outliers(
                data[first:last], err[first:last], mask[first:last], lo[first:last] - first, hi[first:last] - first,
                snr=4.0, nan_policy=nan_policy, start=start - first, stop=stop - first,
            )  # fmt: skip
            assert part.outlier.tobytes() == whole.outlier[start:stop].tobytes()
            assert part.median.tobytes() == whole.median[start:stop].tobytes()
            assert part.n_flagged.tolist() == whole.n_flagged[start:stop].tolist()


def test_row_ranges_in_threads_give_the_same_bits():
    rng = np.random.default_rng(9)
    data = rng.normal(size=(50, 16, 70)).astype(np.float32)
    data[rng.random(data.shape) < 0.02] += 40
    err, mask = np.ones_like(data), rng.random(data.shape) < 0.01
    lo, hi = window_bounds(50, 25)

    def rows(first):
        part = slice(first, first + 4)
        return flag_outliers(data[:, part], err[:, part], mask[:, part], lo, hi, snr=5.0)

    whole = flag_outliers(data, err, mask, lo, hi, snr=5.0)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(rows, range(0, 16, 4)))
    assert np.concatenate([part.outlier for part in parts], axis=1).tobytes() == whole.outlier.tobytes()
    assert np.concatenate([part.median for part in parts], axis=1).tobytes() == whole.median.tobytes()
    assert sum(part.n_flagged for part in parts).tolist() == whole.n_flagged.tolist()


def test_finite_bad_samples_spoil_a_static_median_only_where_they_are_let_in():
    data = noise(20)
    mask = np.zeros(data.shape, bool)
    data[:11, 0, 0] = 500
    mask[:11, 0, 0] = True
    assert not flags(data, mask=mask).outlier.any()
    archive = flags(data, mask=np.isnan(data), maxiters=1, min_valid=1, flag_masked=True).outlier
    assert np.argwhere(archive).tolist() == [[i, 0, 0] for i in range(11, 20)]


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_scaling_data_and_errors_scales_the_median_and_keeps_the_flags(factor):
    data = noise(40)
    data[::9] += 30
    plain, scaled = flags(data), flags(data * np.float32(factor), factor)
    np.testing.assert_array_equal(plain.outlier, scaled.outlier)
    np.testing.assert_array_equal(plain.median * np.float32(factor), scaled.median)


def test_inputs_are_not_modified_and_memory_without_medians_is_small():
    data = noise(40, 50, 64)
    data[3, 4, 5] = np.nan
    err, mask = np.ones_like(data), np.isnan(data)
    lo, hi = window_bounds(40, 25)
    before = data.tobytes(), err.tobytes(), mask.tobytes()
    flag_outliers(data, err, mask, lo, hi, snr=5.0)
    tracemalloc.start()
    result = flag_outliers(data, err, mask, lo, hi, snr=5.0, keep_median=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < data.size + 200_000
    assert result.median is None
    assert before == (data.tobytes(), err.tobytes(), mask.tobytes())


def test_mistakes_are_named():
    data = noise(5)
    err, mask = np.ones_like(data), np.isnan(data)
    lo, hi = window_bounds(5, 3)
    with pytest.raises(ValueError, match="same three axes"):
        flag_outliers(data, err[:2], mask, lo, hi, snr=5.0)
    with pytest.raises(ValueError, match="both must be positive"):
        flag_outliers(data, err, mask, lo, hi, snr=0.0)
    with pytest.raises(ValueError, match="both must be positive"):
        flag_outliers(data, err, mask, lo, hi, snr=5.0, maxiters=0)
    with pytest.raises(ValueError, match="3:9 are not within the 5"):
        flag_outliers(data, err, mask, lo, hi, snr=5.0, start=3, stop=9)
    with pytest.raises(ValueError, match="5 integrations need as many windows"):
        flag_outliers(data, err, mask, lo[:3], hi[:3], snr=5.0)


# The reference pipeline's own functions on the same arrays.


def jwst_flags(data, err, dq, width, snr):
    """Flags of jwst's detect_outliers."""
    from jwst import datamodels
    from jwst.outlier_detection.tso import detect_outliers

    model = datamodels.CubeModel(data=data.copy(), err=err.copy(), dq=dq.copy())
    detect_outliers(model, False, "~DO_NOT_USE", 0.7, width, snr, None)
    return (model.dq & 16) != 0


@pytest.mark.jwst
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("width", [3, 4, 10, 25])
def test_medians_equal_jwst(width):
    tso = pytest.importorskip("jwst.outlier_detection.tso")
    from tso3.core.median import rolling_median

    data = np.random.default_rng(width).normal(1e3, 10, size=(40, 4, 50)).astype(np.float32)
    data[17, 2, 3] = np.nan
    lo, hi = window_bounds(40, width, "repeat")
    ours = rolling_median(data, np.isnan(data), lo, hi, nan_policy="propagate")
    theirs = tso.moving_median_over_zeroth_axis(data, width)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.jwst
@pytest.mark.filterwarnings("ignore")
def test_width_two_differs_from_jwst_which_repeats_one_value():
    tso = pytest.importorskip("jwst.outlier_detection.tso")
    data = column(*range(8))
    assert tso.moving_median_over_zeroth_axis(data, 2).ravel().tolist() == [6.5] * 8
    lo, hi = window_bounds(8, 2, "repeat")
    ours = flag_outliers(data, data, np.isnan(data), lo, hi, snr=5.0, maxiters=1, nan_policy="propagate").median
    assert ours.ravel().tolist() == [0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


@pytest.mark.jwst
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("n_int", "width"), [(40, 25), (40, 3), (40, 6), (40, 1), (25, 25), (24, 25), (26, 25), (2, 25)]
)
def test_flags_equal_jwst_bit_for_bit(n_int, width, seed):
    pytest.importorskip("jwst")
    rng = np.random.default_rng(seed)
    shape = (n_int, 5, 60)
    data = rng.normal(300, 3, shape).astype(np.float32)
    err = rng.uniform(0.3, 1, shape).astype(np.float32)
    data[rng.random(shape) < 0.01] += 100
    data[rng.random(shape) < 0.003] = np.nan
    data[rng.random(shape) < 0.002] = np.inf
    err[rng.random(shape) < 0.003] = np.nan
    err[rng.random(shape) < 0.003] = 0
    dq = (rng.random(shape) < 0.003).astype(np.uint32) | (4 * (rng.random(shape) < 0.02)).astype(np.uint32)
    dq[:, 0, 0] = 1
    rolling = 1 < width < n_int
    ours = flag_outliers(
        data, err, np.isnan(data) | ((dq & 1) != 0 if rolling else False),
        *window_bounds(n_int, width, "repeat"),
        snr=5.1, maxiters=1, flag_masked=True,
        nan_policy="propagate" if rolling else "skip", min_valid=1,
    )  # fmt: skip
    theirs = jwst_flags(data, err, dq, width, 5.1)
    assert theirs.any()
    np.testing.assert_array_equal(ours.outlier, theirs)


@pytest.mark.parametrize("policy", [{"nan_policy": "propagate", "min_valid": 1, "flag_masked": True}, {"min_valid": 3}])
@pytest.mark.parametrize(
    ("width", "edges"), [(25, "repeat"), (25, "shrink"), (24, "shrink"), (3, "shrink"), (4, "full")]
)
def test_what_is_seen_without_medians_is_what_medians_say(policy, width, edges):
    """Medians are kept: all are taken. Not kept: those alone without which a sample cannot be judged."""
    rng = np.random.default_rng(width)
    data = noise(70, 3, 300, seed=width) * 3
    data[:, 0] = np.round(data[:, 0])  # ties, and deviations of just the threshold
    data[rng.random(data.shape) < 0.003] = 90
    data[rng.random(data.shape) < 0.002] = rng.choice([np.nan, np.inf, -np.inf])
    err = rng.uniform(0.5, 1.5, data.shape).astype(np.float32)
    err[:, 0] = 1
    err[:, 1, 100:110] = [0, np.nan, np.inf, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    mask = np.isnan(data) | (rng.random(data.shape) < 0.002)
    mask[:, 2, 7] = True
    for start, stop in ((0, 70), (13, 50)):
        kept, quick = (
            flags(
                data,
                err,
                mask,
                width=width,
                edges=edges,
                maxiters=1,
                start=start,
                stop=stop,
                keep_median=keep,
                **policy,
            )
            for keep in (True, False)
        )
        assert kept.outlier.sum() > 30
        np.testing.assert_array_equal(quick.outlier, kept.outlier)
        np.testing.assert_array_equal(quick.n_flagged, kept.n_flagged)
