"""Sums of many apertures from one pass: by hand, against one extraction for each width, against the theory of noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tso3.core.background import BackgroundFit
from tso3.core.box import box_extract, plan_box
from tso3.core.moving import MovingProfile, recompleted
from tso3.core.noise import point_to_point
from tso3.core.scan import BoxPixels, join_boxes, scan_extract
from tso3.core.scan_choice import rank_curves
from tso3.core.trace import aperture_weights, width_limits


def joined(boxes):
    return join_boxes(boxes[-1], [BoxPixels.of(box) for box in boxes])


def test_one_column_by_hand():
    column = np.array([10.0, 20.0, 40.0, 80.0, 160.0], np.float32)
    variance = np.array([1.0, 2.0, 3.0, 4.0, 5.0], np.float32)
    # the trace is at 2.25: width 1 covers 1.75 to 2.75, width 2 1.25 to 3.25, width 3 0.75 to 3.75
    sums_by_hand = [0.75 * 40 + 0.25 * 80, 0.25 * 20 + 40 + 0.75 * 80, 0.75 * 20 + 40 + 80 + 0.25 * 160]
    limits_by_hand = [
        0.75**2 * 3 + 0.25**2 * 4,
        0.25**2 * 2 + 3 + 0.75**2 * 4,
        0.75**2 * 2 + 3 + 4 + 0.25**2 * 5,
    ]
    boxes = [
        plan_box(aperture_weights([width_limits(2.25, width)], (5, 1), 0, 0), profile=np.ones((5, 1)))
        for width in (1.0, 2.0, 3.0)
    ]
    sums = scan_extract(joined(boxes), column.reshape(1, 5, 1), variance.reshape(1, 5, 1))
    assert sums.flux.ravel() == pytest.approx(sums_by_hand, rel=1e-15)
    assert sums.limit.ravel() == pytest.approx(limits_by_hand, rel=1e-15)
    assert not sums.missing.any()


@pytest.fixture(scope="module")
def stack():
    """A curved trace with bad pixels of every kind, wider than one tile of columns."""
    rng = np.random.default_rng(4)
    ny, nx, n_int = 40, 300, 3
    trace = 18.0 + 3.0 * np.sin(np.arange(nx) / 60.0)
    data = rng.normal(10.0, 1.0, (n_int, ny, nx)).astype(np.float32)
    data[rng.random(data.shape) < 0.02] = np.nan
    variances = [rng.random((n_int, ny, nx)).astype(np.float32) for _ in range(3)]
    variances[1][rng.random(data.shape) < 0.01] = np.nan
    data[1, :, 7] = np.nan
    return trace, data, variances


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    "fit",
    [
        BackgroundFit(), BackgroundFit("poly", 0), BackgroundFit("poly", 2), BackgroundFit("median"),
        BackgroundFit("poly", 1, 5), BackgroundFit("median", 0, 5),
    ],
    ids=str,
)  # fmt: skip
def test_each_width_is_the_box_of_that_width(stack, fit, complete):
    trace, data, variances = stack
    _, ny, nx = data.shape
    rows = np.arange(ny)[:, np.newaxis]
    profile, region = np.exp(-0.5 * ((rows - trace) / 2.0) ** 2), np.abs(rows - trace) > 12
    boxes = [
        plan_box(aperture_weights([width_limits(trace, w)], (ny, nx), 0, nx - 1), region, fit, profile, complete)
        for w in (0.7, 2.0, 3.3, 8.0, 13.0)
    ]
    sums = scan_extract(joined(boxes), data, *variances)
    for k, box in enumerate(boxes):
        alone = box_extract(box, data, *variances)
        for name in ("flux", "limit", "missing"):
            assert np.allclose(getattr(sums, name)[k], getattr(alone, name), rtol=1e-11, atol=1e-11, equal_nan=True)


def test_an_integration_does_not_depend_on_its_neighbours(stack):
    trace, data, variances = stack
    _, ny, nx = data.shape
    boxes = [
        plan_box(aperture_weights([width_limits(trace, w)], (ny, nx), 0, nx - 1), profile=np.ones((ny, nx)))
        for w in (3.0, 6.5)
    ]
    whole = scan_extract(joined(boxes), data, *variances)
    for i in range(len(data)):
        one = scan_extract(joined(boxes), data[i : i + 1], *(v[i : i + 1] for v in variances))
        assert np.array_equal(one.flux[:, 0], whole.flux[:, i], equal_nan=True)


def test_boxes_with_different_backgrounds_are_refused():
    weights, region = np.array([[0.0], [1.0], [0.0]]), np.array([[True], [False], [True]])
    boxes = [plan_box(weights, region, BackgroundFit("poly", 0)), plan_box(weights)]
    with pytest.raises(ValueError, match="background"):
        joined(boxes)


def share(width, sigma):
    return math.erf(width / 2.0 / math.sqrt(2.0) / sigma)


def test_the_best_width_is_where_theory_has_it():
    """A Gaussian profile of sigma 1.5 with photon noise and a flat noise of the pixels."""
    rng = np.random.default_rng(8)
    sigma, star, noise, n_int, n_wave, ny = 1.5, 4000.0, 20.0, 600, 24, 31
    edges = np.array([math.erf((r - 0.5 - 15.0) / math.sqrt(2.0) / sigma) for r in range(ny + 1)])
    profile = np.repeat(0.5 * np.diff(edges)[:, np.newaxis], n_wave, axis=1)
    variance = star * profile + noise**2
    data = (star * profile + rng.normal(0.0, 1.0, (n_int, ny, n_wave)) * np.sqrt(variance)).astype(np.float32)
    widths = np.arange(2.0, 15.0)
    boxes = [
        plan_box(aperture_weights([width_limits(15.0, w)], (ny, n_wave), 0, n_wave - 1), profile=profile)
        for w in widths
    ]
    variances = np.broadcast_to(variance.astype(np.float32), data.shape)
    sums = scan_extract(joined(boxes), data, np.ascontiguousarray(variances))
    theory = np.array([math.sqrt(star * share(w, sigma) + w * noise**2) / (star * share(w, sigma)) for w in widths])
    theory /= math.sqrt(n_wave)
    ranking = rank_curves(sums.flux.sum(axis=2), widths)
    limit = np.sqrt(sums.limit.sum(axis=2).mean(axis=1)) / sums.flux.sum(axis=2).mean(axis=1)
    # whole pixels where the width is odd; fractions weigh the noise of the edges with their square
    assert limit[1::2] == pytest.approx(theory[1::2], rel=2e-3)
    assert ranking.scatter == pytest.approx(limit, rel=0.08)
    for k in (ranking.best, ranking.chosen):
        assert theory[k] < 1.03 * theory.min()
    assert min(theory[0], theory[-1]) > 1.15 * theory.min()


def test_the_smallest_that_is_as_good_is_chosen():
    rng = np.random.default_rng(3)
    common = rng.normal(0.0, 1e-3, 400)
    extra = (3e-4, 2e-5, 1e-5, 0.0, 3e-4, 2e-3)
    flux = 1.0 + np.stack([common + rng.normal(0.0, s, 400) for s in extra])
    flux *= np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    ranking = rank_curves(flux, np.arange(6.0))
    assert ranking.best in (1, 2, 3)
    assert ranking.chosen == 1
    assert ranking.scatter[3] == pytest.approx(1e-3, rel=0.1)
    assert ranking.excess_error[ranking.best] == 0.0
    # scatter of the difference is known ten times better than either
    assert ranking.excess_error[2] < 0.05 * ranking.scatter[2]


def test_the_standard_error_of_an_excess_is_what_it_says():
    rng = np.random.default_rng(5)
    found, said = [], []
    for _ in range(100):
        common = rng.normal(0.0, 1e-3, 300)
        flux = 1.0 + np.stack([common + rng.normal(0.0, 5e-4, 300), common])
        ranking = rank_curves(flux, np.array([2.0, 1.0]))
        found.append(ranking.scatter[0] - ranking.scatter[1])
        said.append(ranking.excess_error[0])
    assert np.mean(said) == pytest.approx(np.std(found), rel=0.2)


def test_outliers_steps_and_missing_points_leave_the_scatter_as_it_is():
    rng = np.random.default_rng(6)
    flux = 100.0 + rng.normal(0.0, 0.1, (3, 500))
    flux[:, 200:] -= 1.0
    flux[1, 50] += 30.0
    flux[2, 60] = np.nan
    ranking = rank_curves(flux, np.arange(3.0))
    assert ranking.scatter == pytest.approx(1e-3, rel=0.15)
    assert ranking.n_used >= 485
    assert ranking.scatter[0] == pytest.approx(point_to_point(flux[0]), rel=0.15)


def test_too_few_points_tell_nothing():
    ranking = rank_curves(np.ones((2, 6)), np.arange(2.0))
    assert (ranking.best, ranking.chosen) == (-1, -1)
    assert np.isnan(ranking.scatter).all()


def test_missing_pixels_are_completed_from_the_profile_of_each_integration(stack):
    trace, data, variances = stack
    _, ny, nx = data.shape
    rows = np.arange(ny)[:, np.newaxis]
    profile = np.exp(-0.5 * ((rows - trace) / 2.0) ** 2)
    boxes = [
        plan_box(aperture_weights([width_limits(trace, w)], (ny, nx), 0, nx - 1), profile=profile, complete=True)
        for w in (4.0, 7.5, 11.0)
    ]
    last = boxes[-1]
    slope = profile * (rows - trace)
    terms = np.stack([profile[last.rows], slope[last.rows]]).astype(np.float32)
    coefficients = np.array([[0.0, 0.0], [10.0, 1.5], [9.0, -1.0], [11.0, 0.3]])
    moving = MovingProfile(terms, coefficients, np.arange(nx) % 5 > 0)
    sums = scan_extract(join_boxes(last, [BoxPixels.of(box) for box in boxes], moving), data, *variances, start=1)
    steady = scan_extract(joined(boxes), data, *variances)
    for k, box in enumerate(boxes):
        at = np.searchsorted(last.rows, box.rows)
        own = replace(moving, terms=np.ascontiguousarray(terms[:, at]))
        alone = recompleted(box, box_extract(box, data, *variances), own, 1, (data, *variances))
        for name in ("flux", "limit", "missing"):
            assert np.allclose(getattr(sums, name)[k], getattr(alone, name), rtol=1e-6, atol=1e-9, equal_nan=True)
        changed = np.abs(sums.missing[k] - steady.missing[k]) > 1e-4
        assert 0.05 < changed.mean() < 0.9
