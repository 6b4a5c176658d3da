"""Bad pixels of images, completed from the star as it has moved: against the moved star, and the obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from tso3.core.aperture import Radii, Treatment, photometry_of, sum_apertures
from tso3.core.centroid import Box, find_centroids
from tso3.core.images import Images
from tso3.core.moving import Prediction
from tso3.core.moving_star import moving_star, recompleted_sums, separated
from tso3.core.overlap import circle_overlap
from tso3.core.terms import steady_terms

SIZE, N_INT, FLUX = 31, 40, 1000.0
RADII = Radii(5.0, 9.0, 13.0)


def star(dx=0.0, dy=0.0, sigma=1.6):
    """A Gaussian, integrated over pixels."""
    edges = np.arange(SIZE + 1) - 0.5
    profiles = [np.diff(erf((edges - 15.0 - d) / sigma / 2**0.5)) / 2 for d in (dy, dx)]
    return FLUX * np.outer(*profiles)


@pytest.fixture(scope="module")
def moving():
    """Images of a star that moves by 0.03 pixel, its brightness too; a bright pixel is bad in half of them."""
    rng = np.random.default_rng(8)
    shift, bright = 0.03 * rng.standard_normal((2, N_INT)), 1.0 - 0.01 * (np.arange(N_INT) > 20)
    data = np.array([b * star(*d) for b, d in zip(bright, shift.T, strict=True)])
    whole = data.astype(np.float32)
    data[::2, 15, 16] = np.nan
    images = Images.of(data.astype(np.float32), np.ones(data.shape, np.float32))
    names, terms = steady_terms(star(), spectrum=False)
    coefficients = np.zeros((N_INT, len(names)))
    for name, values in (("brightness", np.ones(N_INT)), ("shift_x", shift[0]), ("shift_y", shift[1])):
        coefficients[:, names.index(name)] = bright * values
    errors = np.full_like(coefficients, 1e-4)
    prediction = Prediction(names, terms, np.ones((SIZE, SIZE), np.float32), coefficients, errors, N_INT)
    moved = moving_star(star(), prediction, np.ones((SIZE, SIZE), np.float32), (15.0, 15.0), 8.0)
    return images, whole, moved


def test_the_sum_is_that_of_the_whole_star(moving):
    images, whole, moved = moving
    centre, rule = np.full(N_INT, 15.0), Treatment(star(), True, 0.5, True)
    steady = sum_apertures(images, centre, centre, RADII, rule)
    sums = recompleted_sums(images, centre, centre, RADII, moved, steady)
    truth = sum_apertures(Images.of(whole, np.ones_like(whole)), centre, centre, RADII, rule)
    light = [photometry_of(each, rule).net_aperture_sum for each in (truth, steady, sums)]
    off = [np.std((each / light[0])[::2]) for each in light[1:]]
    assert off[0] > 5e-4
    assert off[1] < 0.25 * off[0]
    assert (sums.missing[1::2] == 0.0).all()


def test_the_share_is_that_of_the_obvious_loop(moving):
    images, _, moved = moving
    centre = np.full(N_INT, 15.2)
    steady = sum_apertures(images, centre, centre, RADII, Treatment(star(), True, 0.5, True))
    found = recompleted_sums(images, centre, centre, RADII, moved, steady).missing
    weight, (low, left) = circle_overlap(15.2, 15.2, RADII.radius, (SIZE, SIZE)), moved.corner
    for i in range(0, N_INT, 7):
        light = moved.coefficients[i, 0] * moved.steady
        part = light[low : low + moved.terms.shape[1], left : left + moved.terms.shape[2]]
        part += np.tensordot(moved.coefficients[i, 1:], moved.terms.astype(float), 1)
        bad = ~np.isfinite(images.data[i])
        assert found[i] == pytest.approx((weight * light)[bad].sum() / (weight * light).sum(), rel=1e-12)


def test_blocks_do_not_matter(moving):
    images, _, moved = moving
    centre, rule = np.full(N_INT, 15.0), Treatment(star(), True, 0.5, True)
    whole = recompleted_sums(images, centre, centre, RADII, moved, sum_apertures(images, centre, centre, RADII, rule))
    part = Images.of(images.data[8:20], images.err[8:20])
    sums = sum_apertures(part, centre[:12], centre[:12], RADII, rule)
    some = recompleted_sums(part, centre[:12], centre[:12], RADII, moved.some(8, 20), sums)
    np.testing.assert_array_equal(some.missing, whole.missing[8:20])


def test_an_annulus_that_lacks_pixels_has_the_mean_of_the_whole(moving):
    _, whole, moved = moving
    data = whole.copy()
    data[::3, 15, 21] = np.nan  # in the wing, where the annulus begins
    centre, rule, radii = np.full(N_INT, 15.0), Treatment(star(), True, 0.5, True), Radii(4.0, 5.0, 8.0)
    means = []
    for each, star_of in ((whole, None), (data, None), (data, moved)):
        stack = Images.of(each, np.ones_like(each))
        sums = sum_apertures(stack, centre, centre, radii, rule)
        sums = sums if star_of is None else recompleted_sums(stack, centre, centre, radii, star_of, sums)
        means.append(sums.annulus_sum / sums.annulus_area)
    np.testing.assert_array_equal(means[2][1::3], means[0][1::3])
    assert np.abs(means[2] - means[0]).max() < 0.35 * np.abs(means[1] - means[0]).max()


def test_the_centroid_follows_the_star(moving):
    images, whole, moved = moving
    box = Box(15.0, 15.0, 11, 6.0)
    truth = find_centroids(Images.of(whole, np.ones_like(whole)), box)
    off = [np.std((find_centroids(images, box, each).x - truth.x)[::2]) for each in (star(), moved)]
    assert off[0] > 3e-4
    assert off[1] < 0.25 * off[0]


def test_what_no_motion_does_is_not_believed(moving):
    images, _, moved = moving
    wild = moved._replace(coefficients=moved.coefficients * np.where(np.arange(moved.coefficients.shape[1]) > 0, 60, 1))
    centre = np.full(N_INT, 15.0)
    steady = sum_apertures(images, centre, centre, RADII, Treatment(star(), True, 0.5, True))
    found = recompleted_sums(images, centre, centre, RADII, wild, steady).missing
    assert (found == steady.missing)[::2].any()
    assert (np.abs(found - steady.missing) <= 0.25).all()


def test_learned_images_that_are_like_derivatives_do_not_hide_the_motion():
    """A learned image that is nearly the derivative: neither coefficient is known, their sum is."""
    rng = np.random.default_rng(4)
    names, terms = steady_terms(star(), spectrum=False)
    k = names.index("shift_x")
    learned = 1.02 * terms[k] + 0.05 * terms[names.index("width_x")]
    images = np.concatenate([terms, learned[np.newaxis]])
    coefficients = np.zeros((N_INT, len(images)))
    shift, split = 0.03 * rng.standard_normal(N_INT), rng.standard_normal(N_INT)
    coefficients[:, 0], coefficients[:, k], coefficients[:, -1] = 1.0, shift - 1.02 * split, split
    noise = np.ones((SIZE, SIZE), np.float32)
    both = Prediction((*names, "learned_1"), images, noise, coefficients, np.full(coefficients.shape, 5.0), N_INT)
    found = separated(both)
    assert np.abs(found.coefficients[:, k] - shift).max() < 1e-6
    assert found.errors[0, k] < 0.02
    for one, other in zip(both.coefficients[:5], found.coefficients[:5], strict=True):
        whole = np.tensordot(one, both.images.astype(float), 1)
        np.testing.assert_allclose(np.tensordot(other, found.images.astype(float), 1), whole, atol=2e-5 * FLUX)
    moved = moving_star(star(), both, noise, (15.0, 15.0), 8.0)  # errors of 0.014: a fifth of the variance is noise
    assert np.std(moved.coefficients[:, 1 + names.index("shift_x") - 2]) > 0.6 * np.std(shift)
