"""Covariates: of a star that moves, widens and dims by known amounts; and against plain least squares."""

import numpy as np
import pytest

from tso3.core.covariates import covariates, responses
from tso3.core.learning import component_images, components
from tso3.core.star_window import fine_derivative, star_window
from tso3.core.template import Template, fit_terms, levels, weigh_terms
from tso3.core.terms import steady_terms

RNG = np.random.default_rng(5)
BACKGROUND = 40.0


def star(x, y, width, shape=(31, 33)):
    """A Gaussian star, integrated over pixels by a fine grid."""
    fine = (np.arange(7) - 3.0) / 7.0
    rows = np.arange(shape[0])[:, None] + fine
    columns = np.arange(shape[1])[:, None] + fine
    across = np.exp(-0.5 * ((rows - y) / width) ** 2).mean(axis=1)
    along = np.exp(-0.5 * ((columns - x) / width) ** 2).mean(axis=1)
    return 2e4 * np.outer(across, along) / width**2


def fitted(images, noise, stack, learned=False):
    """A template of these images, and its fit to a stack; with components learned from the residuals."""
    names, terms = images
    pixels = np.arange(noise.size)
    first = Template(names, terms, noise, levels(terms[0] / noise), pixels)
    data = np.ascontiguousarray(stack.reshape(len(stack), -1), dtype=np.float32)
    fit = fit_terms(weigh_terms(first.terms_at_pixels, noise.ravel()), data, keep_residual=True)
    if not learned:
        return first, fit
    found = component_images(fit.residual, weights := components(fit.residual)) * noise.ravel()
    assert weights.shape[1] > 0
    names = (*names, *(f"learned_{k + 1}" for k in range(len(found))))
    terms = np.concatenate([terms, found.reshape(-1, *noise.shape)]).astype(np.float32)
    whole = Template(names, terms, noise, first.level, pixels)
    return whole, fit_terms(weigh_terms(whole.terms_at_pixels, noise.ravel()), data)


def moved_star(width):
    """120 images of a star that moves, dims and widens on a background that changes; a template of its own."""
    n = 120
    truth = {
        "shift_x": RNG.normal(0.0, 0.02, n), "shift_y": RNG.normal(0.0, 0.02, n),
        "brightness": np.where(np.arange(n) > 60, 0.98, 1.0), "background": BACKGROUND + RNG.normal(0.0, 2.0, n),
        "width": RNG.normal(0.0, 2e-3, n),
    }  # fmt: skip
    stack = np.array([
        truth["brightness"][i] * star(15.2 + truth["shift_x"][i], 14.7 + truth["shift_y"][i],
        width * (1.0 + truth["width"][i])) + truth["background"][i] for i in range(n)
    ])  # fmt: skip
    reference = star(15.2, 14.7, width) + BACKGROUND
    noise = np.sqrt(reference).astype(np.float32)
    stack += noise * RNG.standard_normal(stack.shape)
    return truth, reference, noise, stack


@pytest.fixture(scope="module")
def moving():
    """A star that is sampled well: the terms tell all."""
    return moved_star(1.3)


def test_a_star_is_followed_within_the_errors(moving):
    truth, reference, noise, stack = moving
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack)
    found = covariates(template, fit)
    for name in ("shift_x", "shift_y", "brightness", "background"):
        pull = (found.values[name] - truth[name]) / found.errors[name]
        assert 0.8 < pull.std() < 1.25, name
        assert abs(pull.mean()) < 0.5, name
    for name in ("width_x", "width_y"):  # by differences of neighbours, so known to a tenth
        slope = np.polyfit(truth["width"], found.values[name], 1)[0]
        assert slope == pytest.approx(1.0, abs=0.15)


def test_a_star_that_is_sampled_coarsely_is_followed_by_what_was_learned():
    truth, reference, noise, stack = moved_star(0.6)
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack, learned=True)
    found = covariates(template, fit)
    for name in ("shift_x", "shift_y"):
        raw = fit.coefficients[:, template.names.index(name)]
        assert abs(np.polyfit(truth[name], raw, 1)[0] - 1.0) > 0.1  # differences of neighbours are too flat
        assert np.polyfit(truth[name], found.values[name], 1)[0] == pytest.approx(1.0, abs=0.08)
        assert 0.8 < ((found.values[name] - truth[name]) / found.errors[name]).std() < 1.6


def test_errors_reach_the_bound_of_the_photons(moving):
    _, reference, noise, stack = moving
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack)
    step = 1e-3
    along = (star(15.2 + step, 14.7, 1.3) - star(15.2 - step, 14.7, 1.3)) / (2 * step)
    bound = 1.0 / np.sqrt(((along / noise) ** 2).sum())
    error = np.median(covariates(template, fit).errors["shift_x"])
    assert bound < error < 1.15 * bound


def test_a_spectrum_that_is_turned_has_the_axes_of_the_detector(moving):
    _, _, noise, _ = moving
    y, x = np.mgrid[0:31, 0:33]
    line = lambda at: 1e4 * np.exp(-0.5 * ((y - at) / 1.4) ** 2) * (1.0 + 0.3 * np.cos(x / 2.0))  # noqa: E731
    names, images = steady_terms(line(15.3), spectrum=True)
    stack = np.array([line(15.3 + 0.01), line(15.3 - 0.02)])
    plain, fit = fitted((names, images), noise, stack)
    upright = covariates(plain, fit)
    turned, fit = fitted((names, np.ascontiguousarray(images.transpose(0, 2, 1))), noise.T.copy(), stack.swapaxes(1, 2))
    lying = covariates(turned, fit, turned=True)
    np.testing.assert_allclose(upright.values["shift_y"], [0.01, -0.02], atol=5e-4)
    np.testing.assert_allclose(lying.values["shift_x"], upright.values["shift_y"], atol=1e-6)
    np.testing.assert_allclose(lying.errors["shift_y"], upright.errors["shift_x"], rtol=1e-4)
    assert "width" in lying.values


def test_the_numbers_are_those_of_plain_least_squares(moving):
    _, reference, noise, stack = moving
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack)
    window = star_window(template)
    terms = dict(zip(template.names, template.images.astype(float), strict=True))
    basis = [reference - window.background, np.ones(noise.shape)] + [terms[name] for name in template.names[2:]]
    weighed = np.array([(image / noise).ravel() for image in basis])
    plain = np.linalg.lstsq(weighed.T, (stack[3] / noise).ravel(), rcond=None)[0]
    found = covariates(template, fit)
    assert found.values["brightness"][3] == pytest.approx(plain[0], abs=2e-5)
    fine = -fine_derivative(reference, 1) / noise
    size = np.linalg.lstsq(weighed.T, fine.ravel(), rcond=None)[0][3]
    expected = plain[3] / plain[0] / size
    assert found.values["shift_x"][3] == pytest.approx(expected, abs=0.02 * found.errors["shift_x"][3])


def test_integrations_that_could_not_be_fitted_are_unknown(moving):
    _, reference, noise, stack = moving
    stack = stack[:20].copy()
    stack[4] = np.nan
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack)
    found = covariates(template, fit)
    for name, values in found.values.items():
        assert np.isnan(values[4]), name
        assert np.isnan(found.errors[name][4]), name
        assert np.isfinite(np.delete(values, 4)).all(), name


def test_what_a_featureless_spectrum_cannot_tell_is_not_told():
    y, _ = np.mgrid[0:20, 0:40]
    image = 1e4 * np.exp(-0.5 * ((y - 9.5) / 1.5) ** 2)
    noise = np.sqrt(image + 10.0).astype(np.float32)
    stack = image + noise * RNG.standard_normal((12, 20, 40))
    template, fit = fitted(steady_terms(image, spectrum=True), noise, stack)
    found = covariates(template, fit)
    assert np.isnan(found.values["shift_x"]).all()
    assert np.isnan(found.errors["shift_x"]).all()
    assert np.isfinite(found.values["shift_y"]).all()


def test_nothing_follows_a_motion_that_is_not_there(moving):
    _, reference, noise, _ = moving
    stack = reference + noise * RNG.standard_normal((40, *noise.shape))
    template, fit = fitted(steady_terms(reference, spectrum=False), noise, stack)
    for name, weights in responses(template, fit).items():
        assert [template.names[k] for k in np.flatnonzero(weights)] == [name]


def test_brightness_beside_pixels_that_see_no_sky():
    y, x = np.mgrid[0:40, 0:120]
    light, sky = 900.0 * np.exp(-0.5 * ((y - 22.3) / 1.6) ** 2) * (1.0 + 0.2 * np.cos(x / 9.0)), 400.0 * (y >= 4)
    depth = np.where(np.arange(30) > 14, 0.98, 1.0)
    stack = depth[:, np.newaxis, np.newaxis] * light + sky
    noise = np.where(y < 4, 0.5, 5.0)
    stack = stack + noise * RNG.normal(size=stack.shape)
    template, fit = fitted(steady_terms(light + sky, spectrum=True), noise, stack)
    found = covariates(template, fit)
    pulls = (found.values["brightness"] - depth) / found.errors["brightness"]
    assert abs(pulls[depth < 1.0].mean() - pulls[depth == 1.0].mean()) < 1.2
