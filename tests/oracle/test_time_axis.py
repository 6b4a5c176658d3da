"""The kernels of the time axis against slow, obvious versions: one pixel and one window at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.median import WIDEST_SORTED, rolling_median, window_bounds
from tso3.core.outliers import flag_outliers


def slow_median(samples, dtype):
    """Median of a few valid samples; the mean of the middle two is taken in `dtype`."""
    ordered = sorted(samples)
    n = len(ordered)
    if n % 2:
        return dtype(ordered[n // 2])
    return dtype((dtype(ordered[n // 2 - 1]) + dtype(ordered[n // 2])) * dtype(0.5))


def slow_window(values, bad, lo, hi, policy, min_valid):
    """The samples of one window that take part; None if there is no median."""
    use = [t for t in range(lo, hi) if not bad[t] and not np.isnan(values[t])]
    return use if len(use) >= (min_valid if policy == "skip" else hi - lo) else None


def slow_outliers(data, err, mask, lo, hi, snr, maxiters, policy, min_valid, flag_masked):
    """What flag_outliers returns, for all integrations: outlier, median."""
    n_int, ny, nx = data.shape
    dtype = np.float32 if policy == "skip" else np.float64
    outlier = np.zeros(data.shape, bool)
    median = np.full(data.shape, np.nan, dtype)
    snr = np.float32(snr)
    with np.errstate(all="ignore"):
        for y, x in np.ndindex(ny, nx):
            values, bad = data[:, y, x], mask[:, y, x]
            threshold = snr * np.where(np.isnan(err[:, y, x]), np.float32(0), err[:, y, x])
            for i in range(n_int):
                use = slow_window(values, bad, lo[i], hi[i], policy, min_valid)
                if use is None:
                    continue
                least = min_valid if policy == "skip" else 1
                centre = slow_median([values[t] for t in use], dtype)
                for _ in range(maxiters - 1):
                    kept = [t for t in use if not abs(dtype(values[t]) - centre) > threshold[t]]
                    if len(kept) == len(use) or len(kept) < least:
                        break
                    use = kept
                    centre = slow_median([values[t] for t in use], dtype)
                median[i, y, x] = centre
                judged = flag_masked or not bad[i]
                outlier[i, y, x] = judged and abs(dtype(values[i]) - centre) > threshold[i]
    return outlier, median


@st.composite
def stacks(draw, most=30):
    """A stack with trends, outliers, ties, NaN, infinities, zero and NaN errors, and a mask."""
    n_int = draw(st.integers(1, most))
    ny, nx = draw(st.sampled_from([(1, 1), (2, 3), (1, 9)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n_int, ny, nx)
    data = rng.normal(0, draw(st.sampled_from([0.5, 2.0, 10.0])), shape)
    data += draw(st.sampled_from([0.0, 3.0])) * np.arange(n_int)[:, None, None]
    data = np.round(data, draw(st.integers(0, 4)))
    for value, shares in ((60.0, [0, 0.03, 0.3]), (np.nan, [0, 0.05]), (np.inf, [0, 0.02]), (-0.0, [0, 0.3])):
        data[rng.random(shape) < draw(st.sampled_from(shares))] = value
    err = rng.uniform(0.5, 0.5 + draw(st.sampled_from([1e-6, 0.1, 2.0])), shape)
    err[rng.random(shape) < draw(st.sampled_from([0, 0.05]))] = np.nan
    err[rng.random(shape) < draw(st.sampled_from([0, 0.05]))] = 0
    mask = rng.random(shape) < draw(st.sampled_from([0, 0.02, 0.5]))
    return data.astype(np.float32), err.astype(np.float32), mask


@st.composite
def windows(draw, n_int):
    """Windows as the pipeline makes them, or any."""
    if draw(st.booleans()):
        return window_bounds(
            n_int, draw(st.integers(0, n_int + 2)), draw(st.sampled_from(["shrink", "full", "repeat"]))
        )
    lo = np.array([draw(st.integers(0, n_int - 1)) for _ in range(n_int)])
    return lo, np.array([draw(st.integers(first + 1, n_int)) for first in lo])


@settings(max_examples=300)
@given(
    stack=stacks(),
    choice=st.data(),
    snr=st.sampled_from([1.5, 3.0, 5.1]),
    maxiters=st.integers(1, 5),
    nan_policy=st.sampled_from(["skip", "propagate"]),
    min_valid=st.integers(1, 5),
    flag_masked=st.booleans(),
)
def test_outliers_and_medians_equal_the_slow_version(stack, choice, snr, maxiters, nan_policy, min_valid, flag_masked):
    data, err, mask = stack
    lo, hi = choice.draw(windows(len(data)))
    outlier, median = slow_outliers(data, err, mask, lo, hi, snr, maxiters, nan_policy, min_valid, flag_masked)
    result = flag_outliers(
        data, err, mask, lo, hi,
        snr=snr, maxiters=maxiters, nan_policy=nan_policy, min_valid=min_valid, flag_masked=flag_masked,
    )  # fmt: skip
    np.testing.assert_array_equal(result.median, median)
    np.testing.assert_array_equal(result.outlier, outlier)
    np.testing.assert_array_equal(result.n_flagged, outlier.sum((1, 2)))
    assert result.median.dtype == median.dtype
    if maxiters == 1:
        plain = rolling_median(data, mask, lo, hi, nan_policy=nan_policy, min_valid=min_valid)
        np.testing.assert_array_equal(plain, result.median)


@settings(max_examples=20)
@given(stack=stacks(most=2 * WIDEST_SORTED + 20), maxiters=st.integers(1, 4))
def test_one_long_window_equals_the_slow_version(stack, maxiters):
    data, err, mask = stack
    lo, hi = window_bounds(len(data), 0)
    result = flag_outliers(data[:, :1], err[:, :1], mask[:, :1], lo, hi, snr=3.0, maxiters=maxiters, min_valid=1)
    outlier, median = slow_outliers(
        data[:, :1], err[:, :1], mask[:, :1], lo, hi, 3.0, maxiters, "skip", 1, flag_masked=False
    )
    np.testing.assert_array_equal(result.median, median)
    np.testing.assert_array_equal(result.outlier, outlier)
