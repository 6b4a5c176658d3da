"""How far a sample may be off: the noise of the median that it is compared with, and columns that see no light."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from tso3.core.template import N_LEVELS
from tso3.core.terms import steady_terms
from tso3.simulate.layers import slope_along
from tso3.steps.outlier_detection import OutlierPlan, judged


def plan_of(widths):
    """A plan with windows of these widths."""
    hi = np.array(widths)
    return OutlierPlan(None, np.zeros_like(hi), hi, np.zeros(hi.size, bool), 0)


def template_of(n_pixels):
    """A template all of whose pixels are in the first class."""
    return SimpleNamespace(
        noise=np.ones((1, n_pixels), np.float32),
        level=np.zeros((1, n_pixels), np.uint8),
        pixels=np.arange(n_pixels),
    )


def fit_of(scales):
    n = len(scales)
    return SimpleNamespace(
        coefficients=np.ones((n, 2)), errors=np.ones((n, 2)), scales=np.tile(scales, (N_LEVELS, 1)).T
    )


@pytest.mark.parametrize("n", [9, 13, 25])
def test_of_noise_alone_as_many_are_flagged_as_against_the_truth(n):
    snr = 3.0
    draws = np.random.default_rng(n).normal(size=(600_000, n))
    off = np.abs(draws[:, 0] - np.median(draws, axis=1))
    (margin,) = judged(plan_of([n]), template_of(4000), fit_of([1.0])).judge.margin
    expected = 2.0 * norm.sf(snr)
    assert (off > snr * margin).mean() == pytest.approx(expected, rel=0.2)
    assert (off > snr).mean() > 1.07 * expected


@pytest.mark.parametrize(
    ("n_pixels", "excess", "noticed"),
    [(10_000, 1.06, True), (10_000, 1.03, False), (300, 1.1, False), (300, 1.2, True)],
)
def test_the_scatter_of_an_integration_counts_as_soon_as_it_is_known(n_pixels, excess, noticed):
    judge = judged(plan_of([25] * 5), template_of(n_pixels), fit_of([1.0, 1.0, excess, 1.0, 1.0])).judge
    assert judge.stretch[2, 0] == pytest.approx(excess if noticed else 1.0)
    assert judge.stretch[1, 0] == 1.0


def test_motion_ends_where_columns_see_no_light():
    light = np.outer([0.0, 0.0, 1.0, 0.0, 0.0], 100.0 + 3.0 * np.arange(20.0))
    light[:, 16:] = 0.0
    blind = np.arange(20) >= 16
    names, images = steady_terms(light, spectrum=True, blind=blind)
    moved = images[names.index("shift_x")]
    np.testing.assert_allclose(moved[2, :16], -3.0, atol=1e-4)
    assert not moved[:, 16:].any()


@pytest.mark.parametrize("axis", [0, 1])
def test_simulated_light_moves_on_no_pixel_without(axis):
    star = np.zeros((4, 20))
    star[:, 3:16] = 50.0 + 2.0 * np.arange(13)
    star = star if axis == 1 else star.T
    slope = slope_along(star, axis)
    slope = slope if axis == 1 else slope.T
    np.testing.assert_allclose(slope[:, 3:16], 2.0)
    assert not slope[:, :3].any()
    assert not slope[:, 16:].any()
