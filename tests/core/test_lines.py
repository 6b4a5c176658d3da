"""Levels of lines: analytic cases, a slow and obvious version, and the shrinking of levels that are noise alone."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.core.lines import levels_of_sum, line_levels, make_lines


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


def starlit(seed, spread=1.5, wrong=0.002, shape=(24, 4, 64)):
    """Rows of four quarters; a star of up to 10 sigma along the middle ones, whose prediction is wrong by a factor."""
    rng = np.random.default_rng(seed)
    ny, parts, n = shape
    y, x = np.mgrid[:ny, : parts * n]
    light = 100.0 * np.exp(-0.5 * ((y - 11.3) / 1.3) ** 2) * (1.0 + 0.3 * np.sin(x / 40.0))
    noise = np.sqrt(1.0 + light)
    line = y * parts + x // n
    level = rng.normal(0.0, spread, ny * parts)
    residual = level[line] + wrong * light + noise * rng.normal(size=light.shape)
    return line, noise, light, level, residual.astype(np.float32)


def test_pixels_under_the_star_testify_together_with_its_brightness():
    """As good as least squares with all covariances, of which this is the slow version; the star's factor is free."""
    sums, oracle, blind = [], [], []
    for seed in range(16):
        wrong = 0.002 * (-1) ** seed
        line, noise, light, level, residual = starlit(seed, wrong=wrong)
        ones = np.ones(line.shape)
        lines = make_lines(line, ones, noise, ones > 0, light, 0.0, light[np.newaxis])
        found = line_levels(lines, residual)
        rows = slice(8, 15)
        star = (wrong * light)[rows].sum()
        sums.append((residual - found.level[line])[rows].sum() - star)
        blind.append(residual[rows].sum() - star)
        design = np.array([ones.ravel(), light.ravel()]).T
        member = line.ravel()[:, None] == np.arange(level.size)
        weight = noise.ravel() ** -2.0
        both = np.hstack([design, member])
        normal = (both * weight[:, None]).T @ both
        normal[2:, 2:] += np.eye(level.size) / 1.5**2
        solution = np.linalg.solve(normal, both.T @ (residual.ravel().astype(float) * weight))
        best = solution[0] + solution[2:]
        oracle.append((residual - best[line])[rows].sum() - star)
    assert np.std(sums) < 1.15 * np.std(oracle)
    assert np.std(sums) < 0.95 * np.std(blind)
    assert abs(np.mean(sums)) < 3.0 * np.std(sums) / 4.0


def test_the_spread_of_the_lines_is_found():
    for spread in (0.5, 1.5):
        found = []
        for seed in range(8):
            line, noise, light, _, residual = starlit(seed, spread)
            ones = np.ones(line.shape)
            found.append(line_levels(make_lines(line, ones, noise, ones > 0, light, 0.0, light[None]), residual).spread)
        assert np.mean(found) == pytest.approx(spread, rel=0.1)


def test_what_a_level_adds_to_a_sum_is_its_derivative():
    """Pixel by pixel, by changing it."""
    line, noise, light, _, residual = starlit(3, shape=(12, 2, 20))
    ones = np.ones(line.shape)
    lines = make_lines(line, ones, noise, ones > 0, light, 0.5, light[np.newaxis])
    found = line_levels(lines, residual)
    share = np.random.default_rng(1).uniform(0.0, 2.0, lines.n_lines)
    weight, variance = levels_of_sum(lines, share, found.spread**2)
    before = share @ found.level
    if (
        found.n_used.sum() == line.size
    ):  # none was clipped: the derivative at a fixed spread is the one that is asked for
        value = residual.ravel()[lines.pixel].astype(float)
        assert weight @ value == pytest.approx(before, rel=1e-4)
    assert (variance > 0.0).all()
