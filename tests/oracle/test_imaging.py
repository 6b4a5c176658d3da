"""Slow, obvious versions of the imaging kernels, one pixel at a time; the fast ones must agree on random input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.aperture import Radii, Treatment, photometry_of, sum_apertures
from tso3.core.centroid import Box, find_centroids
from tso3.core.gaussian import FIT_METHODS, FWHM_TO_SIGMA, fit_gaussians
from tso3.core.images import Images
from tso3.core.overlap import circle_overlap


def slow_share(x, y, radius, n=400):
    """Share of the pixel around (0, 0) inside a circle: strips across x, exact along y."""
    total = 0.0
    for k in range(n):
        u = -0.5 + (k + 0.5) / n - x
        if abs(u) < radius:
            half = math.sqrt(radius**2 - u**2)
            total += max(0.0, min(0.5, y + half) - max(-0.5, y - half)) / n
    return total


def slow_sums(image, err, variance, weights):
    """Sum, variance with squared and linear weights, variance in time, area; over good pixels."""
    sums = np.zeros(5)
    for (j, i), w in np.ndenumerate(weights):
        if w > 0 and np.isfinite(image[j, i]) and np.isfinite(err[j, i]):
            sums += [
                w * image[j, i], w * w * err[j, i] ** 2, w * err[j, i] ** 2, w * w * variance[j, i], w,
            ]  # fmt: skip
    return sums


def slow_centroid(image, box, steady):
    """Background, centre of mass; bad pixels completed from the steady image scaled to the good ones."""
    ny, nx = image.shape
    outside = [
        image[j, i] for j in range(ny) for i in range(nx)
        if (i - box.x) ** 2 + (j - box.y) ** 2 >= box.source_radius**2 and np.isfinite(image[j, i])
    ]  # fmt: skip
    if not outside:
        return np.nan, np.nan, np.nan
    background = np.median(np.array(outside, np.float32))
    left, low = math.ceil(box.x - box.width / 2), math.ceil(box.y - box.width / 2)
    cells = {
        (j, i): image[j, i] - background
        for j in range(max(low, 0), min(low + box.width, ny))
        for i in range(max(left, 0), min(left + box.width, nx))
    }
    good = {at for at, value in cells.items() if np.isfinite(value)}
    if not good:
        return background, np.nan, np.nan
    known = sum(steady[at] for at in good if np.isfinite(steady[at]))
    scale = float(sum(cells[at] for at in good)) / known if known else np.nan
    for at in set(cells) - good:
        cells[at] = scale * steady[at] if np.isfinite(scale * steady[at]) else 0.0
    total = float(sum(cells.values()))
    x = sum(i * float(value) for (j, i), value in cells.items()) / total
    y = sum(j * float(value) for (j, i), value in cells.items()) / total
    inside = 0 <= x < nx and 0 <= y < ny
    return background, x if inside else np.nan, y if inside else np.nan


def slow_gaussian(cut, x, y, width):
    """The least-squares minimum over flux and widths by a grid that closes in on it."""
    from scipy.optimize import minimize
    from scipy.special import erf

    j, i = (np.arange(n + 1) - 0.5 for n in cut.shape)

    def best_flux(sigma_x, sigma_y):
        shape = np.outer(np.diff(erf((j - y) / sigma_y / 2**0.5)) / 2, np.diff(erf((i - x) / sigma_x / 2**0.5)) / 2)
        shape = np.where(np.isfinite(cut), shape, 0.0)
        flux = max(np.nansum(shape * cut) / np.sum(shape**2), 0.0)
        return flux, np.nansum((flux * shape - cut) ** 2)

    top = width * FWHM_TO_SIGMA
    grid = np.linspace(0.3, top, 25)
    costs = [(best_flux(a, b)[1], a, b) for a in grid for b in grid]
    _, a, b = min(costs)
    scale = best_flux(a, b)[1] or 1.0
    result = minimize(
        lambda p: best_flux(*p)[1] / scale, (a, b), method="Nelder-Mead", bounds=[(1e-3, top)] * 2,
        options={"xatol": 1e-10, "fatol": 0, "maxiter": 600},
    )  # fmt: skip
    return (*result.x, best_flux(*result.x)[0])


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-3, 3), y=st.floats(-3, 3), radius=st.one_of(st.floats(0.05, 4), st.sampled_from([0.5, 1.0, 2**-0.5]))
)
def test_share_of_a_pixel(x, y, radius):
    fast = circle_overlap(x + 3, y + 3, radius, (7, 7))[3, 3]
    assert abs(fast - slow_share(x, y, radius)) < 3e-4


def test_shares_equal_those_of_photutils():
    photutils = pytest.importorskip("photutils.aperture")
    rng = np.random.default_rng(1)
    for k in range(200):
        x, y = rng.uniform(-4, 34, 2) if k % 4 else np.round(rng.uniform(-4, 34, 2) * 2) / 2
        radius = rng.choice([rng.uniform(0.05, 1), rng.uniform(1, 9), 3.0, 4.0, 5.0, 40.0])
        theirs = photutils.CircularAperture((x, y), radius).to_mask(method="exact").to_image((30, 31))
        ours = circle_overlap(x, y, radius, (30, 31))
        np.testing.assert_allclose(ours, 0 if theirs is None else theirs, rtol=0, atol=1e-12)


def stack(seed, n_int=4, ny=17, nx=19):
    """Images with holes."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 10, (n_int, ny, nx)).astype(np.float32)
    err = rng.uniform(1, 3, data.shape).astype(np.float32)
    bad = rng.random(data.shape) < 0.15
    data[bad] = err[bad] = np.nan
    poisson, rnoise = rng.uniform(0, 4, (2, *data.shape)).astype(np.float32)
    scale = rng.uniform(0.5, 2.0, (ny, nx)).astype(np.float32)
    return Images(data, err, poisson, rnoise, scale)


@pytest.mark.parametrize("seed", range(6))
def test_sums(seed):
    rng = np.random.default_rng(seed)
    images = stack(seed)
    n_int, ny, nx = images.data.shape
    x, y = rng.uniform(-2, nx + 2, n_int), rng.uniform(-2, ny + 2, n_int)
    radii = Radii(*np.sort(rng.uniform(1, 9, 3)))
    for squared in (True, False):
        fast = sum_apertures(images, x, y, radii, Treatment(None, False, 1.0, squared))
        for i in range(n_int):
            circle = circle_overlap(x[i], y[i], radii.radius, (ny, nx))
            ring = circle_overlap(x[i], y[i], radii.outer, (ny, nx)) - circle_overlap(x[i], y[i], radii.inner, (ny, nx))
            image, err = images.data[i] * images.scale, images.err[i] * images.scale
            variance = (images.var_poisson[i].astype(float) + images.var_rnoise[i]) * images.scale.astype(float) ** 2
            for name, weights in (("aperture", circle), ("annulus", ring)):
                slow = slow_sums(image.astype(float), err.astype(float), variance, weights)
                pairs = {"sum": slow[0], "variance": slow[1 if squared else 2], "temporal": slow[3]}
                for what, value in pairs.items():
                    ours = getattr(fast, f"{name}_{what}")[i]
                    expected = value if slow[4] > 0 else np.nan
                    np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=f"{name} {what}")
                area = getattr(fast, f"{name}_area")[i]
                assert np.isnan(area) or abs(area - slow[4]) < 1e-10


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("complete", [True, False])
def test_centroids(seed, complete):
    rng = np.random.default_rng(seed)
    images = stack(seed, ny=21, nx=23)
    images.data[:, 9:12, 11:14] += 4000
    n_int, ny, nx = images.data.shape
    box = Box(*rng.uniform((0, 0), (nx - 1, ny - 1)), int(rng.choice([5, 9, 41])), float(rng.uniform(1, 5)))
    steady = np.full((ny, nx), np.nan)
    if complete:
        steady[:] = rng.uniform(0, 1, (ny, nx))
        steady[9:12, 11:14] = 400
        steady[::5, ::7] = np.nan
    fast = find_centroids(images, box, steady if complete else None)
    for i in range(n_int):
        background, x, y = slow_centroid(images.data[i] * images.scale, box, steady)
        assert fast.background[i] == background
        np.testing.assert_allclose([fast.x[i], fast.y[i]], [x, y], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_gaussian_is_at_the_minimum(seed):
    rng = np.random.default_rng(seed)
    sigma = rng.uniform(0.6, 2.2, 2)
    x, y = rng.uniform(8, 12, 2)
    from scipy.special import erf

    edges = np.arange(21) - 0.5
    star = np.outer(*(np.diff(erf((edges - at) / s / 2**0.5)) / 2 for at, s in ((y, sigma[1]), (x, sigma[0]))))
    data = (1e3 * star + rng.normal(0, 0.5, (20, 20))).astype(np.float32)[None]
    data[0, rng.integers(4, 16, 6), rng.integers(4, 16, 6)] = np.nan
    fits = fit_gaussians(
        Images.of(data, np.ones_like(data)), np.zeros(1, np.float32), np.array([x]), np.array([y]), 11,
        FIT_METHODS["minimum"],
    )  # fmt: skip
    left, low = math.ceil(x - 5.5), math.ceil(y - 5.5)
    cut = data[0, low : low + 11, left : left + 11].astype(float)
    expected = slow_gaussian(cut, x - left, y - low, 11)
    np.testing.assert_allclose([fits.width_x[0], fits.width_y[0], fits.flux[0]], expected, rtol=2e-6)


def test_photometry_of_a_completed_sum():
    """Net sum, by hand: what the good pixels have above the background, divided by the share of light they hold."""
    images = stack(3, n_int=1)
    shape = images.data.shape[1:]
    steady = np.random.default_rng(0).uniform(1, 5, shape)
    rule = Treatment(steady, True, 0.9, True)
    sums = sum_apertures(images, np.array([9.3]), np.array([8.1]), Radii(3.0, 4.0, 6.0), rule)
    result = photometry_of(sums, rule)
    circle = circle_overlap(9.3, 8.1, 3.0, shape)
    ring = circle_overlap(9.3, 8.1, 6.0, shape) - circle_overlap(9.3, 8.1, 4.0, shape)
    image = images.data[0] * images.scale
    good = np.isfinite(image)
    mean = np.sum((ring * image)[good]) / np.sum(ring[good])
    share = np.sum((circle * steady)[good]) / np.sum(circle * steady)
    net = np.sum((circle * (image - mean))[good]) / share
    np.testing.assert_allclose(result.net_aperture_sum[0], net, rtol=1e-6)
    np.testing.assert_allclose(result.missing_fraction[0], 1 - share, rtol=1e-9)
    np.testing.assert_allclose(result.aperture_bkg[0], mean * circle.sum(), rtol=1e-6)
    np.testing.assert_allclose(result.aperture_sum[0], net + mean * circle.sum(), rtol=1e-6)
