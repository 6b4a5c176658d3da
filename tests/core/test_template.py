"""The template: terms, fit, learned components and noise, each against what is known by hand or by a slow version."""

import numpy as np
import pytest

from tso3.core.learning import component_images, components, noise_image, robust_scatter, sample_median
from tso3.core.template import fit_terms, levels, noise_of_integrations, subtract_terms, weigh_terms
from tso3.core.terms import chosen_pixels, steady_terms

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def scene():
    """A spectrum on 12 x 90 pixels that moves and changes its colour, with noise of 1."""
    y, x = np.mgrid[0:12, 0:90]
    image = 400.0 * np.exp(-0.5 * ((y - 5.3 - 0.01 * x) / 1.4) ** 2) * (1.0 + 0.3 * np.sin(x / 7.0))
    names, terms = steady_terms(image, spectrum=True)
    true = RNG.normal(0.0, 0.01, (20, len(names)))
    true[:, 0] = RNG.uniform(0.9, 1.1, 20)
    data = np.tensordot(true, terms.astype(float), 1) + RNG.normal(size=(20, 12, 90))
    return names, terms, true, data.astype(np.float32)


def flat(stack):
    return np.ascontiguousarray(stack.reshape(len(stack), -1))


def fitted(terms, data, mask=None, keep_residual=False):
    """Fit with a noise of 1, masked samples bad."""
    samples = data if mask is None else np.where(mask, np.float32(np.nan), data)
    return fit_terms(weigh_terms(terms, np.ones(terms.shape[1])), samples, keep_residual)


def test_the_fit_is_that_of_linear_algebra(scene):
    _, terms, _, data = scene
    a = flat(terms).astype(float)
    mask = np.zeros(flat(data).shape, bool)
    mask[3, 100:400] = True
    fit = fitted(a, flat(data), mask)
    for i in (0, 3):
        good = ~mask[i]
        expected = np.linalg.lstsq(a[:, good].T, flat(data)[i, good].astype(float), rcond=None)[0]
        errors = np.sqrt(np.diag(np.linalg.inv(a[:, good] @ a[:, good].T)))
        assert (np.abs(fit.coefficients[i] - expected) < 0.02 * errors).all()
        np.testing.assert_allclose(fit.errors[i], errors, rtol=1e-3)


def test_coefficients_are_true_within_their_errors(scene):
    _, terms, true, data = scene
    fit = fitted(flat(terms), flat(data))
    pulls = (fit.coefficients - true) / fit.errors
    assert 0.8 < pulls.std() < 1.2
    assert abs(pulls.mean()) < 0.3


def test_cosmic_rays_do_not_move_the_fit(scene):
    _, terms, _, data = scene
    hit = flat(data).copy()
    hit[:, 500:515] += 3000.0
    lost = np.zeros(hit.shape, bool)
    lost[:, 500:515] = True
    fit = fitted(flat(terms), hit, keep_residual=True)
    without = fitted(flat(terms), flat(data), lost)
    assert (np.abs(fit.coefficients - without.coefficients) < 0.02 * without.errors).all()
    np.testing.assert_allclose(fit.residual[:, 500:515], 3000.0, atol=12.0)


def test_an_integration_does_not_depend_on_its_neighbours(scene):
    _, terms, _, data = scene
    whole = fitted(flat(terms), flat(data))
    part = fitted(flat(terms), flat(data)[7:9])
    np.testing.assert_array_equal(whole.coefficients[7:9], part.coefficients)
    np.testing.assert_array_equal(whole.scales[7:9], part.scales)


def test_terms_that_cannot_be_told_apart_do_no_harm():
    twin = np.stack([np.linspace(1.0, 2.0, 60)] * 2)
    fit = fitted(twin, 3.0 * twin[:1].astype(np.float32))
    np.testing.assert_allclose(fit.coefficients, [[3.0, 0.0]], atol=1e-5)


def test_an_integration_without_valid_pixels_has_no_coefficients(scene):
    _, terms, _, data = scene
    mask = np.ones(flat(data)[:2].shape, bool)
    mask[1] = False
    fit = fitted(flat(terms), flat(data)[:2], mask)
    assert np.isnan(fit.coefficients[0]).all()
    assert np.isfinite(fit.coefficients[1]).all()


def test_what_is_subtracted_is_the_sum_of_the_terms(scene):
    _, terms, true, data = scene
    left = data.copy()
    left[2, 3, 4] = np.nan
    expected = data - np.tensordot(true, terms.astype(float), 1)
    subtract_terms(terms, true, left)
    assert np.isnan(left[2, 3, 4])
    left[2, 3, 4] = expected[2, 3, 4]
    np.testing.assert_allclose(left, expected, atol=2e-3)


def test_rows_of_a_frame_are_as_the_whole_frame(scene):
    _, terms, true, data = scene
    whole, part = data.copy(), data[:, 4:7].copy()
    subtract_terms(terms, true, whole)
    subtract_terms(terms[:, 4:7], true, part)
    np.testing.assert_array_equal(whole[:, 4:7], part)


def test_learned_components_are_what_varies_together():
    pattern, course = RNG.normal(size=800), np.sin(np.arange(60) / 3.0)
    residual = (RNG.normal(size=(60, 800)) + np.outer(course, pattern)).astype(np.float32)
    residual[5, 10] = 500.0
    residual[6, 11] = np.nan
    weights = components(residual)
    assert weights.shape == (60, 1)
    assert abs(weights[:, 0] @ course) / np.linalg.norm(course) > 0.98
    image = component_images(residual, weights)[0]
    assert np.corrcoef(image, pattern)[0, 1] ** 2 > 0.9


def test_a_cosmic_ray_is_no_part_of_a_component():
    """Two integrations weigh much in a component, and one of them has a cosmic ray: the other gets nothing of it."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(64, 1)) * 0.2
    weights[[3, 40]] = 3.0
    weights /= np.linalg.norm(weights)
    truth = rng.normal(size=500) * 20.0
    residual = (weights * truth + rng.normal(size=(64, 500))).astype(np.float32)
    clean = component_images(residual, weights)[0]
    assert np.std(clean - truth) < 1.3
    struck = residual.copy()
    struck[3, ::7] += 300.0
    found = component_images(struck, weights)[0]
    leaked = weights[40, 0] * (found - clean)[::7]
    naive = weights[40, 0] * weights[3, 0] * 15.0  # standard deviations, if it counted as one of 15
    assert naive > 5.0
    assert np.std(leaked) < 0.3 * naive
    assert np.median(np.abs(leaked)) < 1.0
    np.testing.assert_array_equal(np.delete(found, np.s_[::7]), np.delete(clean, np.s_[::7]))


def two_components(share):
    """Weights of two components in 24 integrations, two of them larger than others; light in one of 3 rows."""
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(24, 2))
    weights[[2, 23]] *= share
    weights = np.linalg.qr(weights)[0]
    truth = np.zeros((2, 3, 512))
    truth[:, 1] = 30.0 * np.sin(np.arange(512) / [[5.0], [3.0]])
    truth[0, 0, 300] = 40.0  # a line of the star
    residual = np.tensordot(weights, truth, 1) + rng.normal(size=(24, 3, 512))
    return weights, truth, residual.reshape(24, -1).astype(np.float32)


@pytest.fixture(scope="module")
def lone():
    """Two components of which two integrations have nearly all."""
    return two_components(20.0)


def test_where_a_component_has_no_light_it_takes_no_cosmic_ray_for_its_own(lone):
    weights, _, residual = lone
    assert (weights[[2, 23]] ** 2).sum(axis=1).min() > 0.9
    struck = residual.copy()
    struck[2, 20:500:60] += 12.0
    struck[23, 1024 + 25 : 1500 : 60] += 12.0
    left = (struck - weights @ component_images(struck, weights, 512))[2, 20:500:60]
    alone = (struck - weights @ component_images(struck, weights))[2, 20:500:60]
    assert left.min() > 8.0
    assert np.abs(alone).max() < 5.0


def test_a_line_of_the_star_stays_in_its_component():
    weights, truth, residual = two_components(3.0)
    found = component_images(residual, weights, 512).reshape(truth.shape)
    assert abs(found[0, 0, 300] - 40.0) < 4.0
    assert np.std(found[:, 1] - truth[:, 1]) < 1.1


def test_many_residuals_together_are_no_cosmic_rays():
    """What two components lack in one integration, all along a row, is not taken out of them."""
    weights, _, residual = two_components(3.0)
    lacking = residual.copy()
    lacking[2, 512:1024] += 9.0
    found = component_images(lacking, weights, 512)[:, 512:1024]
    plain = (weights.T @ lacking)[:, 512:1024]
    assert np.abs(found - plain).max() < 1.0


def test_images_of_components_do_not_depend_on_the_cut(lone):
    weights, _, residual = lone
    whole = component_images(residual, weights, 512)
    np.testing.assert_array_equal(whole[:, 512:1024], component_images(residual[:, 512:1024], weights, 512))


def test_what_one_integration_alone_shows_is_not_learned():
    rng = np.random.default_rng(4)
    residual = rng.normal(size=(24, 6000)).astype(np.float32)
    residual += np.sin(np.arange(24, dtype=np.float32))[:, None]
    residual[7, rng.choice(6000, 500, replace=False)] += 60.0  # many cosmic rays
    residual[15] += 1.5 * rng.normal(size=6000)
    weights = components(residual)
    assert weights.shape[1] == 1
    assert abs(np.corrcoef(weights[:, 0], np.sin(np.arange(24)))[0, 1]) > 0.95


@pytest.mark.parametrize("n_int", [8, 30, 128])
def test_nothing_is_learned_from_noise(n_int):
    counts = [
        components(np.random.default_rng(k).normal(size=(n_int, 2000)).astype(np.float32)).shape[1] for k in range(20)
    ]
    assert sum(counts) == 0


def test_few_integrations_teach_nothing():
    assert components(RNG.normal(size=(7, 500)).astype(np.float32)).shape == (7, 0)


def test_noise_follows_what_was_observed_as_far_as_it_is_known():
    propagated = np.ones((40, 50))
    observed = robust_scatter(np.random.default_rng(4).normal(0.0, 1.2, (128, 40, 50)).astype(np.float32))
    observed[3, 3] = 10.0
    observed[4, 4] = np.nan
    many = noise_image(propagated, observed, 128, 0)
    assert abs(np.median(many) - 1.2) < 0.01
    assert 7.0 < many[3, 3] < 10.0
    assert abs(many[4, 4] - 1.2) < 0.01
    assert noise_image(propagated, observed, 4, 0)[3, 3] < many[3, 3]
    assert np.isnan(noise_image(np.full((1, 1), np.nan), np.ones((1, 1)), 10, 0)).all()


def test_pixels_of_the_fit_are_the_bright_ones_and_some_of_the_rest(scene):
    _, terms, _, _ = scene
    noise = np.ones(terms[0].shape)
    noise[0, 0] = np.nan
    noise[0, 1] = 0.0
    assert chosen_pixels(terms, noise).size == noise.size - 2
    few = chosen_pixels(terms, noise, most=100)
    assert few.size == 100
    assert (np.diff(few) > 0).all()
    bright = np.argsort(-terms[0].ravel())[:50]
    assert set(bright) <= set(few)


def test_pixels_of_the_fit_lie_about_the_light_and_not_on_hot_pixels_far_away():
    image = np.full((200, 300), 1.0)
    image[90:96] = 1000.0
    image[3, 7] = image[190, 8] = 1e6
    _, terms = steady_terms(image, spectrum=True)
    rows = chosen_pixels(terms, np.ones(image.shape), most=3600) // 300
    assert rows.min() == 90 - 16
    assert rows.max() == 95 + 16
    assert np.isin(np.arange(90, 96), rows).all()


def test_steady_terms_leave_unknown_pixels_out():
    image = np.outer([1.0, 4.0, 1.0], np.arange(1.0, 9.0))
    image[1, 3] = np.nan
    names, terms = steady_terms(image, spectrum=True, degree=2)
    assert names == (
        "brightness",
        "colour_1",
        "colour_2",
        "background",
        "shift_y",
        "shift_y_colour",
        "shift_x",
        "width_y",
    )
    assert (terms[:, 1, 3] == 0.0).all()
    np.testing.assert_allclose(terms[0][np.isfinite(image)], image[np.isfinite(image)])
    assert terms[6][1, 4] == pytest.approx(-3.0)  # the gap is bridged, and the background (1 per column) stays


def test_levels_rise_by_factors_of_three():
    assert levels(np.array([np.nan, 2.9, 3.1, -9.1, 28.0, 82.0, 250.0])).tolist() == [0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("n_int", [1, 2, 3, 5, 8, 31, 64, 100, 129])
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_medians_by_network_are_medians(n_int):
    stack = RNG.normal(size=(n_int, 3, 70)).astype(np.float32)
    stack[RNG.random(stack.shape) < 0.2] = np.nan
    stack[:, 0, 0] = np.nan
    centre = np.nanmedian(stack, axis=0)
    median, n_valid = sample_median(stack)
    np.testing.assert_array_equal(median, centre)
    np.testing.assert_array_equal(n_valid, np.isfinite(stack).sum(axis=0))
    distance = np.nanmedian(np.abs(stack - centre), axis=0)
    np.testing.assert_allclose(robust_scatter(stack), 1.4826 * distance, rtol=1e-6)
    np.testing.assert_array_equal(robust_scatter(stack[:, 1:2]), robust_scatter(stack)[1:2])


def test_scatter_is_the_median_of_each_class():
    noise = np.repeat([1.0, 0.25, 0.05, 0.01], [301, 500, 40, 400])  # signal over noise 1, 4, 20 and 100
    data = (1.0 + noise * RNG.normal(size=(3, noise.size)) * [[1.0], [2.0], [0.1]]).astype(np.float32)
    data[1, 7] = np.nan
    fit = fit_terms(weigh_terms(np.ones((1, noise.size)), noise), data, keep_residual=True)
    for i in range(3):
        for level, part in ((0, slice(0, 301)), (1, slice(301, 801)), (4, slice(841, 1241))):
            expected = 1.4826 * np.nanmedian(np.abs(fit.residual[i, part]))
            assert fit.scales[i, level] == pytest.approx(expected, rel=1e-6)
    assert (fit.scales[:, [2, 3, 5]] == 1.0).all()  # fewer than 50 pixels


def test_noise_of_an_integration_is_stretched_class_by_class():
    err = np.empty((2, 1, 3), np.float32)
    noise, level = np.array([[1.0, 2.0, np.inf]], np.float32), np.array([[0, 5, 1]], np.uint8)
    noise_of_integrations(noise, level, np.array([[1, 9, 9, 9, 9, 3], [2, 9, 9, 9, 9, 4]], np.float32), err)
    assert err.tolist() == [[[1.0, 6.0, np.inf]], [[2.0, 8.0, np.inf]]]
    with pytest.raises(ValueError, match="a class 5 and factors of 2"):
        noise_of_integrations(noise, level, np.ones((2, 2), np.float32), err)


@pytest.mark.parametrize("n_sample", [12, 16, 24, 60, 128])
def test_noise_of_few_integrations_is_neither_too_small_nor_uncertain(n_sample):
    """With errors that are right up to a factor, 5 sigma are 5 sigma: not 10 % less, and the same for all pixels."""
    shape = (40, 500)
    true = np.random.default_rng(n_sample).uniform(0.5, 2.0, shape)
    series = true * np.random.default_rng(n_sample + 1).normal(0.0, 1.3, (n_sample, *shape))
    ratio = noise_image(true, robust_scatter(series.astype(np.float32)), n_sample, 0) / true
    assert np.mean(ratio) == pytest.approx(1.3, rel=0.02)
    assert np.std(ratio) / 1.3 < 0.03


def test_noise_follows_the_pixels_where_the_errors_do_not():
    """Errors that are wrong by different factors have less weight than those that are right."""
    rng, shape = np.random.default_rng(9), (40, 500)
    true = np.exp(rng.normal(0.0, 0.4, shape))
    observed = robust_scatter((true * rng.normal(size=(128, *shape))).astype(np.float32))
    found = noise_image(np.ones(shape), observed, 128, 0)
    assert np.std(np.log(found / true)) < 0.6 * np.std(np.log(true))


def test_rows_that_see_no_sky_have_none_in_the_background():
    # Reference pixels stay at zero when a star flares above a bright sky: with its sky taken from all rows alike, the
    # prediction of a flare of 20 % would lack a fifth of the sky there (MIRI LRS).
    y, x = np.mgrid[0:40, 0:90]
    sky = np.where(y >= 4, 50.0 + x, 0.0)
    star = 900.0 * np.exp(-0.5 * ((y - 22.3) / 1.4) ** 2)
    names, terms = steady_terms(star + sky, spectrum=True)
    assert not terms[names.index("background_shape"), :4].any()
    assert (terms[names.index("background_shape"), 4:] > 0.0).all()
    flare = (1.2 * star + sky)[np.newaxis].astype(np.float32)
    fit = fitted(flat(terms), flat(flare), keep_residual=True)
    assert np.abs(fit.residual).max() < 2.0


def test_a_pixel_with_too_many_outliers_keeps_its_own_image_of_a_component():
    """Replacing one value after the other by what the rest predicts would run away, to three times the values."""
    rng = np.random.default_rng(0)
    weights = np.linalg.qr(rng.normal(size=(24, 6)) * rng.exponential(size=(24, 6)) ** 1.5)[0]
    values = rng.normal(size=(24, 40_000)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] += 50.0
    assert np.abs(component_images(values, weights)).max() <= 1.001 * np.abs(weights.T @ values).max()
