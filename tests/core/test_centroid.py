"""Centroids and Gaussian fits: analytic stars, bad pixels, edges, failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.centroid import Box, find_centroids, median_position
from tso3.core.gaussian import FIT_METHODS, FWHM_TO_SIGMA, fit_gaussians
from tso3.core.images import Images, first_pixel

SIZE = 31


def star(x=15.2, y=14.7, sigma=(1.2, 1.4), flux=1000.0, background=0.0, n_int=1):
    """Pixel-integrated Gaussian."""
    from scipy.special import erf

    edges = np.arange(SIZE + 1) - 0.5
    profiles = [np.diff(erf((edges - at) / s / 2**0.5)) / 2 for at, s in ((y, sigma[1]), (x, sigma[0]))]
    return np.repeat((background + flux * np.outer(*profiles))[None], n_int, 0).astype(np.float32)


def find(data, box=None, reference=None):
    return find_centroids(Images.of(data, np.ones_like(data)), box or Box(15.0, 15.0, 21, 6.0), reference)


def fit(data, x=15.2, y=14.7, width=11, method="minimum", background=0.0):
    n_int = data.shape[0]
    level = np.full(n_int, background, np.float32)
    return fit_gaussians(
        Images.of(data, np.ones_like(data)), level, np.full(n_int, x), np.full(n_int, y), width, FIT_METHODS[method]
    )


@settings(max_examples=30, deadline=None)
@given(x=st.floats(12.5, 17.5), y=st.floats(12.5, 17.5), sigma=st.floats(0.7, 1.6), level=st.floats(0, 50))
def test_star_is_where_it_is(x, y, sigma, level):
    found = find(star(x, y, (sigma, sigma), background=level))
    assert found.x[0] == pytest.approx(x, abs=2e-3)
    assert found.y[0] == pytest.approx(y, abs=2e-3)
    assert found.background[0] == pytest.approx(level, abs=1e-3)
    assert found.total[0] == pytest.approx(1000, rel=1e-2)
    assert found.error[0] == pytest.approx(21.0)


@settings(max_examples=30, deadline=None)
@given(
    dx=st.floats(-0.6, 0.6),
    dy=st.floats(-0.6, 0.6),
    sigma_x=st.floats(0.5, 2.0),
    sigma_y=st.floats(0.5, 2.0),
    flux=st.sampled_from([1e-9, 1e-4, 1.0, 1e6]),
)
def test_fit_recovers_the_gaussian_in_any_unit(dx, dy, sigma_x, sigma_y, flux):
    data = star(15 + dx, 15 + dy, (sigma_x, sigma_y), flux)
    fits = fit(data, 15 + dx, 15 + dy)
    assert fits.width_x[0] == pytest.approx(sigma_x, rel=1e-5)
    assert fits.width_y[0] == pytest.approx(sigma_y, rel=1e-5)
    assert fits.flux[0] == pytest.approx(flux, rel=1e-5)


def test_errors_of_the_fit_are_its_scatter():
    """Noise that differs from pixel to pixel; one bad pixel."""
    rng, n = np.random.default_rng(5), 1500
    err = np.broadcast_to(1.0 + 0.05 * star(flux=300.0)[0], (n, SIZE, SIZE)).astype(np.float32)
    data = star(n_int=n) + err * rng.standard_normal((n, SIZE, SIZE)).astype(np.float32)
    data[:, 16, 14] = np.nan
    level, x, y = np.zeros(n, np.float32), np.full(n, 15.2), np.full(n, 14.7)
    for unit in (1.0, 1e-6):
        scale = np.full((SIZE, SIZE), unit, np.float32)
        fits = fit_gaussians(Images.of(data, err, scale=scale), level, x, y, 11, FIT_METHODS["minimum"])
        for name in ("width_x", "width_y", "flux"):
            told = np.median(getattr(fits, f"{name}_err"))
            assert np.std(getattr(fits, name)) == pytest.approx(told, rel=0.06), name


def test_a_width_at_its_bound_has_no_error():
    fits = fit(np.full((1, SIZE, SIZE), 7.0, np.float32))
    assert np.isnan([fits.width_x_err[0], fits.width_y_err[0], fits.flux_err[0]]).all()


def test_the_archives_fitter_stops_where_the_unit_tells_it():
    """Not a wish: what ``trf`` copies, in its own words."""
    widths = [fit(star(flux=flux), method="trf").width_x[0] for flux in (1e3, 1e-3)]
    assert widths[0] == pytest.approx(1.2, rel=1e-5)
    assert abs(widths[1] / 1.2 - 1) > 0.05


def test_masked_pixels_do_not_move_the_fit():
    data = star()
    data[0, 14, 16] = data[0, 16, 14] = np.nan
    fits = fit(data)
    assert fits.width_x[0] == pytest.approx(1.2, rel=1e-6)
    assert fits.flux[0] == pytest.approx(1000, rel=1e-6)


def test_bounds_of_the_fit():
    flat = np.full((1, SIZE, SIZE), 7.0, np.float32)
    fits = fit(flat)
    assert fits.width_x[0] == pytest.approx(11 * FWHM_TO_SIGMA, rel=1e-3)
    point = np.zeros((1, SIZE, SIZE), np.float32)
    point[0, 15, 15] = 5.0
    assert 0 < fit(point, 15.0, 15.0).width_x[0] < 0.2


@pytest.mark.parametrize("method", FIT_METHODS)
def test_what_cannot_be_fitted_is_nan(method):
    negative = -star(n_int=1)
    few = np.full((1, SIZE, SIZE), np.nan, np.float32)
    few[0, 15, 14:16] = 3.0
    nothing = np.full((1, SIZE, SIZE), np.nan, np.float32)
    for data, x in ((negative, 15.2), (few, 15.2), (nothing, 15.2), (star(), np.nan), (star(), -40.0)):
        fits = fit(data, x, method=method)
        assert np.isnan([fits.width_x[0], fits.width_y[0], fits.flux[0]]).all()
    assert np.isnan(fit(star(), background=np.nan, method=method).flux[0])


def test_missing_core_pixel_moves_the_centroid_unless_completed():
    data, whole = star(), find(star())
    data[0, 15, 16] = np.nan
    dropped = find(data)
    assert abs(dropped.x[0] - whole.x[0]) > 0.05
    assert dropped.n_bad[0] == 1
    completed = find(data, reference=3.3 * star()[0].astype(float))
    assert completed.x[0] == pytest.approx(whole.x[0], abs=1e-4)
    assert completed.n_bad[0] == 0


def test_failures_are_nan_not_exceptions():
    data = np.full((3, SIZE, SIZE), np.nan, np.float32)
    data[1] = 0.0
    data[2] = star()[0]
    found = find(data)
    assert np.isnan(found.x[:2]).all()
    assert np.isfinite(found.x[2])
    assert np.isnan(find(star(), Box(-1.0, 15.0, 21, 6.0)).x[0])
    assert np.isnan(find(star(), Box(np.nan, 15.0, 21, 6.0)).x[0])
    assert find(star()[:0]).x.shape == (0,)


def test_a_centre_outside_the_array_is_not_believed():
    data = np.zeros((1, SIZE, SIZE), np.float32)
    data[0, 15, 5], data[0, 15, 25] = 10.0, -9.5
    assert np.isnan(find(data, Box(15.0, 15.0, 41, 3.0)).x[0])


def test_box_at_the_edge_is_cut():
    found = find(star(1.0, 29.0), Box(1.0, 29.0, 11, 4.0))
    assert found.x[0] == pytest.approx(1.0, abs=0.4)
    assert found.y[0] == pytest.approx(29.0, abs=0.4)


def test_background_is_the_median_of_what_is_outside():
    rng = np.random.default_rng(2)
    for size in (30, 31):
        data = rng.normal(10, 3, (3, size, SIZE)).astype(np.float32)
        data[rng.random(data.shape) < 0.2] = np.nan
        box = Box(14.2, 15.9, 11, 5.0)
        y, x = np.mgrid[:size, :SIZE]
        outside = (x - box.x) ** 2 + (y - box.y) ** 2 >= 25
        expected = [np.nanmedian(image[outside]) for image in data]
        np.testing.assert_array_equal(find(data, box).background, expected)


def test_first_pixel_of_odd_and_even_boxes():
    assert [first_pixel(at, 5) for at in (4.0, 4.4, 4.5, 4.6)] == [2, 2, 2, 3]
    assert first_pixel(4.0, 4) == 2


def test_median_position_takes_each_coordinate_by_itself():
    assert median_position(np.array([1.0, np.nan, 3.0]), np.array([5.0, 6.0, np.nan])) == (2.0, 5.5)


def test_inputs_are_left_alone():
    data = star(n_int=2)
    data[0, 3, 3] = np.nan
    before = data.copy()
    find(data, reference=star()[0].astype(float))
    fit(data)
    np.testing.assert_array_equal(data, before)


def test_an_integration_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(4)
    data = (star(n_int=6) + rng.normal(0, 2, (6, SIZE, SIZE))).astype(np.float32)
    together, fits = find(data), fit(data)
    for i in range(6):
        alone, own = find(data[i : i + 1]), fit(data[i : i + 1])
        assert alone.x[0] == together.x[i]
        assert own.width_x[0] == fits.width_x[i]
