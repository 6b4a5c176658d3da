"""Clipping of each pixel's own series: analytic cases, and a slow, obvious version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.median import window_bounds
from tso3.core.sigma_clip import clip_series, flag_by_scatter, flag_far


def slow_clipped(samples, snr, maxiters, fewest):
    """Median and scatter of some samples after clipping; NaN where they are unknown."""
    use = np.array([x for x in samples if not np.isnan(x)], np.float32)
    if len(use) < fewest:
        return np.nan, np.nan
    for k in range(maxiters):
        middle = np.float32(np.median(use))
        scatter = np.float32(1.482602218505602) * np.float32(np.median(np.abs(use - middle)))
        kept = use[np.abs(use - middle) <= np.float32(snr) * scatter]
        if k == maxiters - 1 or len(kept) == len(use) or len(kept) < fewest:
            break
        use = kept
    kept = use[np.abs(use - middle) <= np.float32(snr) * scatter].astype(float)
    if scatter == 0 or len(kept) < 2:
        return middle, np.nan
    return middle, np.float32(np.sqrt(((kept - middle) ** 2).sum() / (len(kept) - 1)))


def slow_flags(data, mask, lo, hi, snr, maxiters, fewest):
    outlier = np.zeros(data.shape, bool)
    values = np.where(mask, np.float32(np.nan), data)
    for y, x in np.ndindex(*data.shape[1:]):
        for i in range(len(data)):
            middle, scatter = slow_clipped(values[lo[i] : hi[i], y, x], snr, maxiters, fewest)
            outlier[i, y, x] = abs(values[i, y, x] - middle) > np.float32(snr) * scatter
    return outlier


@st.composite
def stacks(draw):
    """Noise with outliers, ties, NaN and a mask."""
    shape = (draw(st.integers(1, 40)), *draw(st.sampled_from([(1, 1), (2, 3), (1, 66)])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = np.round(rng.normal(100.0, 1.0, shape), draw(st.integers(0, 5)))
    data += np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.3])), 20.0, 0.0)
    data[rng.random(shape) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    mask = np.isnan(data) | (rng.random(shape) < draw(st.sampled_from([0.0, 0.1])))
    return data.astype(np.float32), mask


@given(stacks(), st.integers(0, 12), st.sampled_from([2.0, 5.0]), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=15)
def test_as_the_slow_version(stack, width, snr, maxiters, fewest):
    data, mask = stack
    before = data.copy()
    lo, hi = window_bounds(len(data), width)
    rule = {"snr": snr, "maxiters": maxiters, "min_valid": fewest}
    expected = slow_flags(data, mask, lo, hi, snr, maxiters, fewest)
    found = flag_by_scatter(data, mask, lo, hi, **rule)
    np.testing.assert_array_equal(found.outlier, expected)
    np.testing.assert_array_equal(found.n_flagged, expected.sum(axis=(1, 2)))
    np.testing.assert_array_equal(data, before)
    middle = len(data) // 2  # a run of integrations with the neighbours that its windows need
    part = flag_by_scatter(data, mask, lo, hi, **rule, start=middle, stop=len(data))
    np.testing.assert_array_equal(part.outlier, expected[middle:])
    if width < 2 or width >= len(data):
        series = clip_series(data, mask, **rule)
        np.testing.assert_array_equal(flag_far(data, mask, series, snr=snr).outlier, expected)


def test_the_scatter_of_gaussian_noise_is_its_standard_deviation():
    data = np.random.default_rng(1).normal(7.0, 2.0, (400, 20, 20)).astype(np.float32)
    series = clip_series(data, np.zeros(data.shape, bool), snr=5.0)
    assert series.scatter.mean() == pytest.approx(2.0, abs=0.02)
    assert series.centre.mean() == pytest.approx(7.0, abs=0.02)


def test_clipping_takes_the_scatter_of_what_is_left():
    data = np.array([0, 1, 2, 3, 4, 14, 14, 14, 14], np.float32).reshape(9, 1, 1)
    once, thrice = (clip_series(data, data < 0, snr=1.5, maxiters=n) for n in (1, 3))
    assert (once.centre[0, 0], once.scatter[0, 0]) == (4.0, pytest.approx(np.sqrt(30 / 4), abs=1e-3))
    assert (thrice.centre[0, 0], thrice.scatter[0, 0]) == (2.0, pytest.approx(np.sqrt(10 / 4), abs=1e-3))


def test_samples_that_do_not_scatter_say_nothing():
    data = np.zeros((9, 1, 1), np.float32)
    data[3] = 1.0
    assert not flag_by_scatter(data, data < 0, *window_bounds(9, 5), snr=5.0).outlier.any()


def test_what_cannot_be_is_refused():
    data = np.zeros((3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="same three axes"):
        clip_series(data, np.zeros((2, 1, 1), bool), snr=5.0)
    with pytest.raises(ValueError, match="both must be positive"):
        clip_series(data, data < 0, snr=0.0)
    with pytest.raises(ValueError, match="not within"):
        flag_by_scatter(data, data < 0, *window_bounds(3, 0), snr=5.0, stop=4)
