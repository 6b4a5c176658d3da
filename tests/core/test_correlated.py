"""Correlated noise: found where it is, not found where it is not, and what it adds to sums, against many draws."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.core.background import BackgroundFit
from tso3.core.box import box_extract, plan_box
from tso3.core.correlated import (
    excess_of_groups,
    excess_variance,
    line_noise,
    line_tally,
    subtracted_variance,
    sum_weights,
)
from tso3.core.lines import line_levels, make_lines

SHAPE = (32, 200)


def rows():
    return np.broadcast_to(np.arange(SHAPE[0])[:, np.newaxis], SHAPE)


def frames(seed, spread, n=24):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=SHAPE) + rng.normal(0.0, spread, (SHAPE[0], 1))).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize("assumed", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5])
def test_lines_differ_by_what_was_put_in(spread, assumed):
    """Within three of its errors, even if the noise of the pixels is assumed 20 % wrong."""
    ones = np.ones(SHAPE)
    lines = make_lines(rows(), ones, assumed * ones, ones > 0)
    found = line_noise([line_tally(lines, frame) for frame in frames(3, spread)])
    assert abs(found.variance - spread**2) < 3.0 * found.error
    assert found.error < 0.1 * spread**2 + 2e-3 / np.sqrt(24)


def test_where_there_is_none_it_is_zero_within_its_error():
    """Over many exposures the estimate scatters about zero by its error, and what it adds to a sum is little."""
    ones = np.ones(SHAPE)
    lines = make_lines(rows(), ones, ones, ones > 0)
    found = [line_noise([line_tally(lines, frame) for frame in frames(seed, 0.0)]) for seed in range(40)]
    pulls = np.array([each.variance / each.error for each in found])
    assert abs(pulls.mean()) < 3.0 / np.sqrt(40)
    assert 0.7 < pulls.std() < 1.3
    box = np.zeros(SHAPE)
    box[12:20] = 1.0
    excess = np.mean([excess_variance(rows(), ones, box, each.believed) for each in found])
    assert excess < 0.03 * box.sum()


def test_too_little_to_tell():
    ones = np.ones((4, 20))
    lines = make_lines(np.broadcast_to(np.arange(4)[:, None], ones.shape), ones, ones, ones > 0)
    assert line_tally(lines, ones.astype(np.float32)) is None
    assert line_noise([]).believed == 0.0


def test_weights_of_a_sum_are_those_of_the_extraction():
    rng = np.random.default_rng(5)
    aperture, region = np.zeros((2, *SHAPE))
    aperture[12:20], aperture[20] = 1.0, 0.4
    region[2:8] = region[24:30] = 1.0
    for fit in (BackgroundFit("poly", 0), BackgroundFit("poly", 1), BackgroundFit()):
        plan = plan_box(aperture, region > 0, fit)
        image = rng.normal(10.0, 1.0, (1, *SHAPE)).astype(np.float32)
        factor = rng.uniform(0.5, 2.0, SHAPE[1])
        total = (box_extract(plan, image).flux[0] * factor).sum()
        assert (sum_weights(plan, factor, SHAPE) * image[0]).sum() == pytest.approx(total, rel=1e-5)


def test_what_lines_add_to_a_sum():
    weights = np.zeros(SHAPE)
    weights[12:20, 30:] = np.random.default_rng(2).uniform(0.5, 1.0, (8, SHAPE[1] - 30))
    sums = [(weights * frame).sum() for frame in frames(8, 0.3, 1500)]
    expected = 1.09 * (weights**2).sum() + excess_variance(rows(), np.ones(SHAPE), weights, 0.09)
    assert np.var(sums) == pytest.approx(expected, rel=0.12)


def test_several_sums_are_those_of_one_after_the_other():
    rng = np.random.default_rng(7)
    weights, unit = rng.normal(size=SHAPE), rng.uniform(0.5, 1.0, SHAPE)
    group = np.broadcast_to(np.arange(SHAPE[1]) // 30 - 1, SHAPE)  # the first thirty columns have no part
    found = excess_of_groups(rows(), unit, weights, group, 7)  # the last has no pixel
    slow = [excess_variance(rows(), unit, np.where(group == k, weights, 0.0), 1.0) for k in range(6)]
    np.testing.assert_allclose(found, [*slow, 0.0], rtol=1e-10)


def test_what_is_left_after_the_levels_were_subtracted():
    """The variance of the corrected sum, against as many draws; what is propagated is counted as the step does it."""
    y = np.arange(SHAPE[0])[:, np.newaxis]
    light = 4000.0 * np.exp(-0.5 * ((y - 15.6) / 1.2) ** 2) * np.ones(SHAPE)
    noise = np.sqrt(1.09 + light).astype(np.float32)
    ones = np.ones(SHAPE)
    lines = make_lines(rows(), ones, noise, ones > 0, light, 0.0, light[np.newaxis])
    weights = np.zeros(SHAPE)
    weights[12:20] = 1.0
    together = np.full(SHAPE, 8.0, np.float32)
    rng, sums, level_variance = np.random.default_rng(6), [], None
    for _ in range(400):
        level = rng.normal(0.0, 0.3, (SHAPE[0], 1))
        frame = (level + np.sqrt(1.0 + light) * rng.normal(size=SHAPE)).astype(np.float32)
        found = line_levels(lines, frame, (noise**2,))
        level_variance = found.variance[0]
        sums.append((weights * (frame - found.level[:, np.newaxis])).sum())
    propagated = (weights**2 * (noise**2 + 8.0 * level_variance[:, np.newaxis])).sum()
    expected = propagated + subtracted_variance(lines, together, noise, weights, 0.09)
    assert np.var(sums) == pytest.approx(expected, rel=0.2)
