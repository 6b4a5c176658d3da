"""Box extraction: hand-computed sums, scaling, background, missing pixels, and independence of the block."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.background import BackgroundFit
from tso3.core.box import BoxSums, box_extract, plan_box
from tso3.core.box_levels import box_levels, widest
from tso3.core.profile import spatial_profile
from tso3.core.trace import Limits, aperture_weights, width_limits

N_ROWS, N_WAVE = 24, 40
ROWS = np.arange(N_ROWS)[:, None]
APERTURE = aperture_weights([width_limits(11.6 + 0.02 * np.arange(N_WAVE), 6.5)], (N_ROWS, N_WAVE), 0, N_WAVE - 1)
REGION = aperture_weights(
    [Limits(np.asarray(0.0), np.asarray(5.0)), Limits(np.asarray(18.0), np.asarray(23.0))], (N_ROWS, N_WAVE), 0, N_WAVE
)  # fmt: skip
REGION = REGION > 0
LIGHT = np.exp(-0.5 * ((ROWS - 11.6 - 0.02 * np.arange(N_WAVE)) / 1.2) ** 2) * (1 + 0.3 * np.sin(np.arange(N_WAVE) / 4))
FITS = [BackgroundFit(), BackgroundFit("poly", 0), BackgroundFit("poly", 2), BackgroundFit("median"),
        BackgroundFit("poly", 1, 5)]  # fmt: skip


def scene(n_int=3, level=7.0, noise=0.2, seed=1, bad=0.0):
    """A stack with its variances."""
    rng = np.random.default_rng(seed)
    data = (1000 * LIGHT + level + rng.normal(0, noise, (n_int, N_ROWS, N_WAVE))).astype(np.float32)
    variances = [rng.uniform(0.5, 2, data.shape).astype(np.float32) for _ in range(3)]
    mask = rng.random(data.shape) < bad
    for plane in (data, *variances):
        plane[mask] = np.nan
    return data, variances


def plan(fit=FITS[0], **arguments):
    return plan_box(APERTURE, REGION, fit, **arguments)


def assert_equal(a: BoxSums, b: BoxSums):
    """Equal bit for bit."""
    for field in fields(BoxSums):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


def test_sums_by_hand():
    aperture = np.array([[0.5], [1.0], [0.0], [0.0]])
    region = np.array([[False], [False], [True], [True]])
    data = np.array([[[10.0], [20.0], [2.0], [4.0]]], np.float32)
    ones = np.ones_like(data)
    sums = box_extract(plan_box(aperture, region, BackgroundFit("poly", 0)), data, ones, 2 * ones, 3 * ones)
    assert sums.flux.item() == 5 + 20 - 1.5 * 3  # the mean of the background is 3
    assert sums.background.item() == 4.5
    assert sums.npixels.item() == 1.5
    level = 1.5**2 / 2  # two pixels, each with the weight 1.5 / 2
    assert sums.bkgd_var_poisson.item() == pytest.approx(level)
    assert sums.var_poisson.item() == pytest.approx(0.25 + 1 + level)
    assert sums.var_rnoise.item() == pytest.approx(2 * (0.25 + 1 + level))
    assert sums.var_flat.item() == pytest.approx(3 * (0.25 + 1 + level))
    assert sums.limit.item() == pytest.approx(3 * (0.25 + 1 + level))
    assert sums.missing.item() == 0


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f"{f.kind}{f.order}-{f.smoothing}")
@given(factor=st.floats(0.1, 100), bad=st.sampled_from([0.0, 0.05]))
def test_scaling_the_stack_scales_flux_and_variance(fit, factor, bad):
    data, variances = scene(bad=bad)
    factor = float(np.float32(factor))
    one = box_extract(plan(fit), data, *variances)
    more = box_extract(plan(fit), data * np.float32(factor), *(v * np.float32(factor**2) for v in variances))
    np.testing.assert_allclose(more.flux, one.flux * factor, rtol=1e-5)
    np.testing.assert_allclose(more.var_rnoise, one.var_rnoise * factor**2, rtol=1e-5)
    np.testing.assert_array_equal(more.npixels, one.npixels)


@pytest.mark.parametrize("fit", FITS[1:], ids=lambda f: f"{f.kind}{f.order}-{f.smoothing}")
@given(level=st.floats(0, 1000), bad=st.sampled_from([0.0, 0.05]))
def test_a_constant_background_leaves_the_net_flux(fit, level, bad):
    low, variances = scene(level=0.0, noise=0.0, bad=bad)
    high, _ = scene(level=level, noise=0.0, bad=bad)
    without, with_level = (box_extract(plan(fit), data, *variances) for data in (low, high))
    np.testing.assert_allclose(with_level.flux, without.flux, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(
        with_level.background - without.background, level * with_level.npixels, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f"{f.kind}{f.order}-{f.smoothing}")
@pytest.mark.parametrize("complete", [True, False])
def test_a_number_does_not_depend_on_its_block(fit, complete):
    data, variances = scene(n_int=7, bad=0.05)
    box = plan(fit, profile=LIGHT, complete=complete)
    whole = box_extract(box, data, *variances)
    for size in (1, 3):
        parts = [box_extract(box, data[i : i + size], *(v[i : i + size] for v in variances)) for i in range(0, 7, size)]
        joined = BoxSums(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(BoxSums)))
        assert_equal(joined, whole)


def test_a_row_range_of_a_larger_stack_will_do():
    data, variances = scene()
    larger = [np.full((3, N_ROWS + 9, N_WAVE), 1e30, np.float32) for _ in range(4)]
    for big, small in zip(larger, (data, *variances), strict=True):
        big[:, 4 : 4 + N_ROWS] = small
    views = [big[:, 4 : 4 + N_ROWS] for big in larger]
    assert_equal(box_extract(plan(FITS[1]), *views), box_extract(plan(FITS[1]), data, *variances))


def test_inputs_stay_as_they_are():
    data, variances = scene(bad=0.05)
    copies = [plane.copy() for plane in (data, *variances)]
    box_extract(plan(FITS[4], profile=LIGHT, complete=True), data, *variances)
    for plane, copy in zip((data, *variances), copies, strict=True):
        np.testing.assert_array_equal(plane, copy)


def test_absent_variances_are_zero():
    data, variances = scene(bad=0.02)
    sums = box_extract(plan(FITS[1]), data, variances[0], variances[1])
    assert not sums.var_flat.any()
    np.testing.assert_array_equal(sums.flux.shape, (3, N_WAVE))
    assert not box_extract(plan(FITS[1]), data).var_poisson.any()


def test_no_integrations():
    data, variances = scene()
    assert box_extract(plan(FITS[1]), data[:0], *(v[:0] for v in variances)).flux.shape == (0, N_WAVE)


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f"{f.kind}{f.order}-{f.smoothing}")
@pytest.mark.parametrize("complete", [True, False])
def test_nothing_valid_is_nan(fit, complete):
    data = np.full((1, N_ROWS, N_WAVE), np.nan, np.float32)
    sums = box_extract(plan(fit, profile=LIGHT, complete=complete), data, data, data, data)
    assert np.isnan(sums.flux).all()
    assert not sums.npixels.any()


def test_dropped_pixels_leave_the_flux_short():
    data, variances = scene(noise=0.0, level=0.0)
    whole = box_extract(plan(), data, *variances)
    data[0, 11, 5] = np.nan
    short = box_extract(plan(), data, *variances)
    assert short.flux[0, 5] < 0.8 * whole.flux[0, 5]
    assert short.npixels[0, 5] == pytest.approx(5.5)
    assert short.var_poisson[0, 5] < whole.var_poisson[0, 5]


@given(seed=st.integers(0, 2**31), fraction=st.floats(0.01, 0.2))
def test_completed_pixels_leave_the_flux_whole(seed, fraction):
    data, variances = scene(noise=0.0, level=0.0)
    whole = box_extract(plan(), data, *variances)
    lost = np.random.default_rng(seed).random(data.shape) < fraction
    sums = box_extract(plan(profile=LIGHT, complete=True), np.where(lost, np.float32(np.nan), data), *variances)
    usable = np.isfinite(sums.flux)
    np.testing.assert_allclose(sums.flux[usable], whole.flux[usable], rtol=1e-5)
    share = (APERTURE * LIGHT * lost).sum(axis=1) / (APERTURE * LIGHT).sum(axis=0)
    np.testing.assert_allclose(sums.missing, share, atol=1e-12)
    np.testing.assert_array_equal(usable, share <= 0.5)
    kept_noise = (APERTURE**2 * np.where(lost, 0, variances[0])).sum(axis=1) / (1 - share) ** 2
    np.testing.assert_allclose(sums.var_poisson[usable], kept_noise[usable], rtol=1e-6)
    np.testing.assert_allclose(sums.uncompleted, whole.flux * (1 - share), rtol=1e-5, atol=1e-3)


def test_errors_are_nan_where_a_completed_flux_is():
    data, variances = scene(bad=0.6)
    sums = box_extract(plan(FITS[1], profile=LIGHT, complete=True), data, *variances)
    empty = np.isnan(sums.flux)
    assert empty.any()
    for component in (sums.var_poisson, sums.var_rnoise, sums.var_flat):
        np.testing.assert_array_equal(np.isnan(component), empty)


def test_without_a_profile_nothing_is_completed():
    data, variances = scene()
    data[1, 11, 5] = np.nan
    sums = box_extract(plan(complete=True), data, *variances)
    assert np.argwhere(np.isnan(sums.flux)).tolist() == [[1, 5]]
    dropped = box_extract(plan(), data, *variances)
    assert dropped.missing[1, 5] == pytest.approx(1 / 6.5)


@pytest.mark.parametrize(("fit", "flux"), [(FITS[1], "kept"), (FITS[3], "nan")], ids=["poly", "median"])
def test_a_column_without_background(fit, flux):
    data, variances = scene(noise=0.0)
    data[0][REGION[:, 8], 8] = np.nan
    archive = box_extract(plan(fit), data, *variances)
    if flux == "kept":
        np.testing.assert_allclose(
            archive.flux[0, 8], (APERTURE[:, 8] * data[0, :, 8].astype(float))[APERTURE[:, 8] > 0].sum()
        )
    else:
        assert np.isnan(archive.flux[0, 8])
    assert archive.background[0, 8] == 0
    ours = box_extract(plan(fit, profile=LIGHT, complete=True), data, *variances)
    assert np.isnan(ours.flux[0, 8])
    assert np.isnan(ours.background[0, 8])
    assert np.isfinite(np.delete(ours.flux[0], 8)).all()


def test_a_variance_that_is_not_known_makes_a_pixel_bad():
    data, variances = scene()
    variances[2][0, 11, 5] = np.nan
    sums = box_extract(plan(), data, *variances)
    assert sums.npixels[0, 5] == pytest.approx(5.5)


def test_only_columns_with_an_aperture_are_extracted():
    aperture = np.zeros((5, 9))
    aperture[2, 3:6] = 1.0
    aperture[2, 4] = 0.0
    box = plan_box(aperture)
    assert box.start == 3
    sums = box_extract(box, np.ones((1, 5, 9), np.float32))
    np.testing.assert_array_equal(sums.flux, [[1.0, np.nan, 1.0]])


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ValueError, match="no pixel"):
        plan_box(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="shape"):
        plan_box(np.ones((4, 4)), np.ones((3, 4), bool), FITS[1])
    with pytest.raises(ValueError, match="variance"):
        box_extract(plan_box(np.ones((4, 4))), np.ones((1, 4, 4), np.float32), np.ones((2, 4, 4), np.float32))


def test_profile_of_the_image_itself_completes_it():
    data, _ = scene(noise=0.0, level=0.0)
    image = data[0].astype(float)
    image[11, 7] = np.nan  # bad in every integration: known from the columns around
    found = spatial_profile(image, APERTURE)
    whole = box_extract(plan(), data)
    data[:, 11, 7] = np.nan
    data[0, 12, 20] = np.nan
    sums = box_extract(plan(profile=found.profile, complete=True), data)
    np.testing.assert_allclose(sums.flux, whole.flux, rtol=2e-3)
    np.testing.assert_allclose(np.delete(sums.flux, 7, axis=1), np.delete(whole.flux, 7, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.spectrum, whole.flux[0], rtol=2e-3)


def test_medians_that_boxes_share_change_no_bit():
    data, variances = scene(n_int=5, bad=0.1)
    data[0, :6, 9] = data[0, 18:, 9] = np.nan  # a column without background
    fit = BackgroundFit("median")
    narrow = np.where(np.abs(ROWS - 12) < 3, APERTURE, 0.0)
    plans = [
        plan_box(w, REGION, fit, LIGHT, k < 2, span=(3 * k, 40 - 5 * k))
        for k, w in enumerate([APERTURE, narrow, narrow])
    ]
    base = widest(plans)
    assert base is plans[0]
    levels = box_levels(base, data, *variances)
    for each in plans:
        assert_equal(box_extract(each, data, *variances, levels), box_extract(each, data, *variances))
    for i in range(5):
        one = box_levels(base, data[i : i + 1], *(v[i : i + 1] for v in variances))
        np.testing.assert_array_equal(one.sums[:, 0], levels.sums[:, i])


def test_only_medians_of_the_same_pixels_are_shared():
    fit, other = BackgroundFit("median"), REGION.copy()
    other[3, 20] = False
    whole = plan_box(APERTURE, REGION, fit)
    assert widest([whole, plan_box(APERTURE, other, fit)]) is None
    assert widest([whole, plan_box(APERTURE, REGION, FITS[1])]) is None
    assert widest([plan_box(APERTURE, REGION, BackgroundFit("median", 0, 5))] * 2) is None
    assert widest([plan_box(APERTURE, REGION, fit, span=s) for s in ((0, 30), (5, 40))]) is None
