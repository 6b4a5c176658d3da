"""The kernels of optimal extraction against a slow, obvious Horne: one column of one integration at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.background import BackgroundFit
from tso3.core.box import plan_box
from tso3.core.optimal import PixelNoise, SteadyImages, optimal_extract, plan_optimal

N_ROWS, N_WAVE = 16, 90
ROWS, COLUMNS = np.arange(float(N_ROWS))[:, np.newaxis], np.arange(N_WAVE)
CENTRE = 7.3 + 0.013 * COLUMNS
APERTURE = np.clip(4.7 - np.abs(ROWS - CENTRE), 0.0, 1.0)
REGION = np.abs(ROWS - CENTRE) > 5.5


def slow_horne(data, variance, region, weights, share, noise, snr):
    """Flux, variance, and good pixels of one column: Horne (1986), Eq. 8 with fixed weights, and steps 6 to 8."""
    good = (share != 0.0) & np.isfinite(data)
    region = region & np.isfinite(data)
    net = data - data[region].mean()
    for _ in range(int(0.25 * good.sum())):
        design = np.where(good, share / noise, 0.0)
        fit = design / (design @ design)
        residual = np.where(good, net / noise, 0.0) - design * (fit @ np.where(good, net / noise, 0.0))
        distance = np.where(good, np.abs(residual) / np.sqrt(1.0 - design * fit), 0.0)
        if distance.max() <= snr:
            break
        good[np.argmax(distance)] = False
    light = weights * share / np.sum(weights * share)
    own = np.sum(weights[good] ** 2 * variance[good])
    of_level = (weights[good].sum() / region.sum()) ** 2 * np.sum(variance[region])
    norm = np.sum(light[good])
    return np.sum(weights[good] * net[good]) / norm, (own + of_level) / norm**2, good


def scene(rng, brightness):
    """Noisy integrations of a tilted trace, with bad pixels and rays."""
    light = brightness * (1.2 + np.sin(COLUMNS / 9.0)) * np.exp(-0.5 * ((ROWS - CENTRE) / 0.8) ** 2)
    variance = 4.0 + 0.5 * light
    data = (light + 12.0 + rng.normal(0, np.sqrt(variance), (4, N_ROWS, N_WAVE))).astype(np.float32)
    data[rng.random(data.shape) < 0.01] += np.float32(30.0 * np.sqrt(variance.max()))
    data[rng.random(data.shape) < 0.01] = np.nan
    return light, variance, data


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), brightness=st.sampled_from([30.0, 1e3, 1e5]))
def test_the_kernel_is_horne(seed, brightness):
    light, variance, data = scene(np.random.default_rng(seed), brightness)
    level = np.full(light.shape, 12.0)
    images = SteadyImages(light, level, np.where(APERTURE > 0, light, np.nan), 0.5 * light, 4.0 + 0 * light, 10_000)
    box = plan_box(APERTURE, REGION, BackgroundFit("poly", 0))
    noise = PixelNoise(np.sqrt(variance).astype(np.float32)[box.rows], np.zeros(light.shape, np.uint8)[box.rows], None)
    plan = plan_optimal(box, images, noise, snr=6.0)
    marked = data.copy()
    own = np.broadcast_to(variance, data.shape).astype(np.float32)
    sums = optimal_extract(plan, marked, (None, own, None), 0)
    weights, share = plan.weights.aperture, plan.light
    for i, x in np.ndindex(4, N_WAVE):
        column = data[i, box.rows, x].astype(float)
        at = (variance[box.rows, x], REGION[box.rows, x], weights[:, x], share[:, x], noise.noise[:, x])
        flux, error2, good = slow_horne(column, *at, 6.0)
        inside = share[:, x] != 0.0
        np.testing.assert_array_equal(inside & np.isfinite(marked[i, box.rows, x]), good)
        if (good & (weights[:, x] > 0.0)).any():
            np.testing.assert_allclose(sums.flux[i, x], flux, rtol=1e-6, atol=1e-3)
            np.testing.assert_allclose(sums.var_rnoise[i, x], error2, rtol=1e-5)
        else:
            assert np.isnan(sums.flux[i, x])


def test_weights_are_those_of_equation_8():
    light, *_ = scene(np.random.default_rng(1), 1e4)
    level = np.full(light.shape, 12.0)
    poisson = 0.5 * (light + level)
    images = SteadyImages(light, level, np.where(APERTURE > 0, light, np.nan), poisson, 4.0 + 0 * light, 10_000)
    box = plan_box(APERTURE, REGION, BackgroundFit("poly", 0))
    plan = plan_optimal(box, images)
    share = np.where(APERTURE > 0, light, 0.0) / (APERTURE * light).sum(axis=0)
    variance = 4.0 + poisson
    exact = (share / variance / (share**2 / variance).sum(axis=0))[box.rows]
    bright = share[box.rows] > 0.05
    np.testing.assert_allclose(plan.weights.aperture[bright], exact[bright], rtol=0.03)
    of_box = (APERTURE * light).sum(axis=0)
    np.testing.assert_allclose((plan.weights.aperture * light[box.rows]).sum(axis=0), of_box, rtol=1e-12)
