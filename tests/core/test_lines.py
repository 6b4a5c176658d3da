"""Levels of lines: analytic cases, a slow and obvious version, and the shrinking of levels that are noise alone."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.core.lines import line_levels, make_lines


def slow_levels(line, unit, noise, used, residual):
    """Clipped, weighted means of all lines, and the number of pixels of each."""
    levels, numbers = [], []
    for number in range(line.max() + 1):
        here = used & (line == number) & np.isfinite(residual)
        u, s = (residual / unit)[here], (noise / unit)[here]
        middle, kept = np.median(u), np.ones(u.size, bool)
        for _ in range(10):
            now = np.abs(u - middle) <= 4.0 * s
            middle, same = np.average(u[now], weights=s[now] ** -2.0), (now == kept).all()
            kept = now
            if same:
                break
        levels.append(middle)
        numbers.append(kept.sum())
    return np.array(levels), np.array(numbers)


def case(seed=1, shape=(5, 60), spread=0.0, n_bad=12):
    """Rows with levels, other units and noise in every column, outliers, NaN."""
    rng = np.random.default_rng(seed)
    line = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    unit = np.broadcast_to(np.linspace(0.5, 2.0, shape[1]), shape)
    noise = unit * rng.uniform(0.8, 1.2, shape)
    level = rng.normal(0.0, spread, shape[0]) if spread else np.arange(shape[0]) * 10.0
    residual = level[:, None] * unit + noise * rng.normal(size=shape)
    at = rng.choice(residual.size, n_bad, replace=False)
    residual.ravel()[at[::2]] += 500.0
    residual.ravel()[at[1::2]] = np.nan
    used = rng.random(shape) < 0.8
    return line, unit, noise, used, residual.astype(np.float32), level


def test_as_the_slow_version():
    line, unit, noise, used, residual, _ = case()
    before = residual.copy()
    found = line_levels(make_lines(line, unit, noise, used), residual)
    expected, numbers = slow_levels(line, unit, noise, used, residual.astype(float))
    np.testing.assert_allclose(found.level, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.n_used, numbers)
    np.testing.assert_array_equal(residual, before)


def test_the_variance_is_that_of_repeated_noise():
    shape, n = (4, 50), 2000
    rng = np.random.default_rng(2)
    line = np.broadcast_to(np.arange(4)[:, None], shape)
    noise = np.broadcast_to(np.linspace(1.0, 3.0, 50), shape)
    lines = make_lines(line, np.ones(shape), noise, np.ones(shape, bool))
    variance = (noise**2).astype(np.float32)
    found = [line_levels(lines, (noise * rng.normal(size=shape)).astype(np.float32), (variance,)) for _ in range(n)]
    scatter = np.std([f.level for f in found], axis=0)
    np.testing.assert_allclose(scatter, np.sqrt(found[0].variance[0]), rtol=0.1)


@pytest.mark.parametrize(("spread", "left"), [(1e-9, 0.35), (0.3, 0.85), (30.0, 1.05)])
def test_noise_alone_is_not_taken_for_a_level(spread, left):
    """What is left of levels after subtraction never exceeds levels or noise, whichever is smaller."""
    rms, plain = [], []
    for seed in range(20):
        line, unit, noise, used, residual, level = case(seed, (64, 24), spread, n_bad=0)
        lines = make_lines(line, unit, noise, used)
        found = line_levels(lines, residual)
        rms.append(np.mean((found.level - level) ** 2))
        plain.append(1.0 / (0.8 * 24))
    assert np.sqrt(np.mean(rms) / np.mean(plain)) < left


def test_a_line_without_pixels_has_the_mean_of_the_others():
    line, unit, noise, used, residual, _ = case(spread=1e-9, shape=(20, 40))
    used = used.copy()
    used[3] = False
    found = line_levels(make_lines(line, unit, noise, used), residual + 7.0 * unit.astype(np.float32))
    assert found.n_used[3] == 0
    assert found.level[3] == pytest.approx(7.0, abs=0.2)


def test_nothing_known_is_no_level():
    line, unit, noise, used, residual, _ = case()
    found = line_levels(make_lines(line, unit, noise, used), residual * np.float32(np.nan), (residual,))
    np.testing.assert_array_equal(found.level, 0.0)
    np.testing.assert_array_equal(found.variance, 0.0)
    none = line_levels(make_lines(line, unit, noise * np.nan, used), residual)
    np.testing.assert_array_equal(none.level, 0.0)
