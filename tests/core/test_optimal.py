"""Optimal extraction: a column by hand, its limits, rejection, and the motion of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tso3.core.background import BackgroundFit
from tso3.core.box import box_extract, plan_box, with_weights
from tso3.core.moving import MovingProfile, recompleted, relative_light, weighed_terms
from tso3.core.optimal import PixelNoise, SteadyImages, optimal_extract, plan_optimal

P = np.array([0.25, 0.5, 0.25])[:, np.newaxis]
V = np.array([1.0, 1.0, 2.0])[:, np.newaxis]
N_WAVE = 5


def steady(net, rnoise, poisson=0.0, n_sample=10_000):
    """Images of an exposure without background."""
    image = np.broadcast_to(net, (3, N_WAVE)).copy()
    rest = (np.broadcast_to(each, image.shape).copy() for each in (poisson, rnoise))
    return SteadyImages(image, None, image, *rest, n_sample)


def by_hand(snr=5.0):
    noise = PixelNoise(
        np.broadcast_to(np.sqrt(V), (3, N_WAVE)).astype(np.float32), np.zeros((3, N_WAVE), np.uint8), None
    )
    return plan_optimal(plan_box(np.ones((3, N_WAVE))), steady(1000.0 * P, V), noise, None, snr)


def column(*values):
    """One integration whose columns are all alike."""
    return np.repeat(np.array(values, np.float32)[:, np.newaxis], N_WAVE, axis=1)[np.newaxis]


VARIANCES = (None, column(1, 1, 2), None)


def test_a_column_by_hand():
    plan = by_hand(snr=100.0)
    sums = optimal_extract(plan, column(30, 50, 20), VARIANCES, 0)
    norm = 0.25**2 / 1 + 0.5**2 / 1 + 0.25**2 / 2
    assert norm == 0.34375
    assert sums.flux[0] == pytest.approx(np.full(N_WAVE, (0.25 * 30 + 0.5 * 50 + 0.125 * 20) / norm))
    assert sums.var_rnoise[0] == pytest.approx(np.full(N_WAVE, 1 / norm))  # Horne's Table 1, step 8
    assert sums.limit[0] == pytest.approx(np.full(N_WAVE, 1 / norm))
    assert not sums.missing.any()


def test_a_bad_pixel_is_left_out_of_both_sums():
    sums = optimal_extract(by_hand(100.0), column(30, np.nan, 20), VARIANCES, 0)
    norm = 0.25**2 / 1 + 0.25**2 / 2
    assert sums.flux[0] == pytest.approx(np.full(N_WAVE, (0.25 * 30 + 0.125 * 20) / norm))
    assert sums.var_rnoise[0] == pytest.approx(np.full(N_WAVE, 1 / norm))


def wide(*values):
    """A profile of five pixels and unit noise, and one integration of it."""
    share = np.array([0.1, 0.2, 0.4, 0.2, 0.1])[:, np.newaxis]
    image = np.broadcast_to(1000.0 * share, (5, N_WAVE)).copy()
    noise = PixelNoise(np.ones((5, N_WAVE), np.float32), np.zeros((5, N_WAVE), np.uint8), None)
    steady_images = SteadyImages(image, None, image, 0 * image, np.ones_like(image), 10_000)
    plan = plan_optimal(plan_box(np.ones((5, N_WAVE))), steady_images, noise)
    return plan, np.repeat(np.array(values, np.float32)[:, np.newaxis], N_WAVE, axis=1)[np.newaxis]


@pytest.mark.parametrize("row", range(5))
def test_the_worst_pixel_is_rejected_and_the_flux_found_again(row):
    light = [10.0, 20.0, 40.0, 20.0, 10.0]
    light[row] += 20.0
    plan, data = wide(*light)
    sums = optimal_extract(plan, data, (None, None, None), 0)
    assert sums.flux[0] == pytest.approx(np.full(N_WAVE, 100.0), rel=1e-6)
    assert np.isnan(data[0, row]).all()
    assert np.isnan(data).sum() == N_WAVE


def test_no_more_than_a_quarter_of_the_pixels_is_rejected():
    plan, data = wide(500, 20, 40, 20, -700)
    optimal_extract(plan, data, (None, None, None), 0)
    assert np.isnan(data).sum() == N_WAVE


def test_without_rejection_the_data_stay_as_they_are():
    data = column(25, 50, 25)
    before = data.copy()
    optimal_extract(by_hand(5.0), data, VARIANCES, 0)
    np.testing.assert_array_equal(data, before)


def test_where_only_photons_make_noise_it_is_the_box():
    plan = plan_optimal(plan_box(np.ones((3, N_WAVE))), steady(1000.0 * P, 1e-9, 1000.0 * P), snr=100.0)
    data = column(270, 480, 240)
    assert optimal_extract(plan, data, (None, None, None), 0).flux[0] == pytest.approx(np.full(N_WAVE, 990.0), rel=1e-6)


def test_a_column_without_background_spoils_no_other():
    images = steady(1000.0 * P, V)
    level = np.zeros((3, N_WAVE))
    level[:, 4] = np.nan
    net = images.net.copy()
    net[:, 4] = np.nan
    plan = plan_optimal(plan_box(np.ones((3, N_WAVE))), replace(images, net=net, background=level), snr=100.0)
    np.testing.assert_allclose(plan.weights.aperture[:, 0], (P / V / 0.34375).ravel())


def test_columns_without_light_have_the_weights_of_the_box():
    plan = plan_optimal(plan_box(np.ones((3, N_WAVE))), steady(0.0 * P, V), snr=100.0)
    np.testing.assert_array_equal(plan.weights.aperture, 1.0)


@pytest.mark.parametrize("fit", [BackgroundFit("poly", 0), BackgroundFit("poly", 1), BackgroundFit("median")])
def test_a_level_changes_nothing_and_a_ray_on_it_is_found(fit):
    rows, columns = np.arange(15.0)[:, np.newaxis], np.arange(40)
    light = 1e4 * np.exp(-0.5 * ((rows - 7.2 - 0.01 * columns) / 0.9) ** 2)
    aperture, region = np.zeros((15, 40)), np.ones((15, 40), bool)
    aperture[4:11] = 1.0
    region[3:12] = False
    slope = 30.0 + (2.0 * rows if fit.order else 0.0 * rows) + 0.0 * columns
    ones = np.ones_like(light)
    images = SteadyImages(light, slope, np.where(aperture > 0, light, np.nan), 0 * ones, ones, 1000)
    plan = plan_optimal(plan_box(aperture, region, fit), images)
    data = (light + slope)[np.newaxis].astype(np.float32)
    data[0, 7, 20] += 4000.0
    sums = optimal_extract(plan, data, (None, None, None), 0)
    assert np.argwhere(np.isnan(data)).tolist() == [[0, 7, 20]]
    np.testing.assert_allclose(sums.flux[0], light[4:11].sum(axis=0), rtol=2e-4)


def moved(delta):
    """A profile whose linear motion by ``delta`` pixels is known, and what it then looks like."""
    slope = np.array([0.3, 0.1, -0.35])[:, np.newaxis]
    terms = np.stack([np.broadcast_to(1000.0 * P, (3, N_WAVE)), np.broadcast_to(1000.0 * slope, (3, N_WAVE))])
    profile = MovingProfile(terms.astype(np.float32), np.array([[1.0, delta]]), np.ones(N_WAVE, bool))
    return profile, 1000.0 * (P + delta * slope)


def test_motion_that_is_known_does_not_change_the_flux():
    profile, light = moved(0.05)
    noise = by_hand().noise
    plan = plan_optimal(plan_box(np.ones((3, N_WAVE))), steady(1000.0 * P, V), noise, profile)
    data = column(*(0.9 * light.ravel()))
    whole = 0.9 * light.sum()
    assert optimal_extract(plan, data.copy(), VARIANCES, 0).flux[0] == pytest.approx(np.full(N_WAVE, whole), rel=1e-6)
    data[0, 0] = np.nan
    assert optimal_extract(plan, data.copy(), VARIANCES, 0).flux[0] == pytest.approx(np.full(N_WAVE, whole), rel=1e-6)
    blind = replace(plan, moving=None, snr=1e9)
    assert abs(optimal_extract(blind, data, VARIANCES, 0).flux[0, 0] / whole - 1) > 1e-3


def test_a_box_is_completed_by_the_profile_of_the_integration():
    profile, light = moved(0.05)
    plan = plan_box(np.ones((3, N_WAVE)), profile=np.broadcast_to(P, (3, N_WAVE)), complete=True)
    data = column(*light.ravel())
    data[0, 2, 1:] = np.nan
    ones = np.ones_like(data)
    sums = box_extract(plan, data, ones)
    better = recompleted(plan, sums, profile, 0, (data, ones, None, None))
    assert better.flux[0] == pytest.approx(np.full(N_WAVE, light.sum()), rel=1e-6)
    share = light[2].item() / light.sum()
    assert better.missing[0, 1:] == pytest.approx(np.full(N_WAVE - 1, share))
    assert better.var_poisson[0, 1:] == pytest.approx(np.full(N_WAVE - 1, 2.0 / (1 - share) ** 2))
    assert better.limit[0, 1:] == pytest.approx(np.full(N_WAVE - 1, 2.0 / (1 - share)))
    assert abs(sums.flux[0, 1] / light.sum() - 1) > 1e-2
    for name in ("flux", "missing", "uncompleted", "npixels", "limit"):  # a column that lacks nothing
        assert getattr(better, name)[0, 0] == getattr(sums, name)[0, 0]
    np.testing.assert_array_equal(better.uncompleted, sums.uncompleted)


def test_columns_whose_motion_is_not_known_keep_the_steady_profile():
    profile, light = moved(0.05)
    profile = replace(profile, trusted=np.zeros(N_WAVE, bool))
    plan = plan_box(np.ones((3, N_WAVE)), profile=np.broadcast_to(P, (3, N_WAVE)), complete=True)
    data = column(*light.ravel())
    data[0, 2] = np.nan
    sums = box_extract(plan, data)
    assert recompleted(plan, sums, profile, 0, (data, None, None, None)) is sums
    whole = weighed_terms(profile, np.ones((3, N_WAVE)))
    np.testing.assert_array_equal(relative_light(profile, 2 * whole, whole, 0, 1), 1.0)


def test_weights_keep_the_background_of_the_plan():
    aperture = np.zeros((5, 2))
    aperture[1:3] = 1.0
    box = plan_box(aperture, aperture == 0, BackgroundFit("poly", 0))
    weights = 2.0 * np.ones((5, 2))
    plan = with_weights(box, weights, np.ones((5, 2)))
    data = np.array([1, 5, 7, 1, 1], np.float32)[np.newaxis, :, np.newaxis].repeat(2, axis=2)
    assert box_extract(plan, data).flux.ravel().tolist() == [20.0, 20.0]
    assert plan.aperture[0].tolist() == [0.0, 0.0]
