"""The pieces of the background fit: inverse and condition, medians, smoothing, the fit of one image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.background import (
    BackgroundFit,
    background_image,
    column_medians,
    invert_moments,
    select_median,
    select_median_near,
    smooth_row,
    unit_ordinate,
)


def invert(ordinate, size):
    """Inverse normal matrix of a fit at some ordinates, or None."""
    moments = np.array([np.sum(ordinate**k) for k in range(2 * size - 1)])
    inverse = np.empty((size, size))
    regular = invert_moments(moments, size, np.empty((size, size)), np.empty((size, size)), inverse)
    return inverse if regular else None


@given(seed=st.integers(0, 2**31), size=st.integers(1, 5), n=st.integers(1, 40))
def test_inverse_is_numpys(seed, size, n):
    ordinate = np.random.default_rng(seed).uniform(-1, 1, n)
    design = ordinate[:, None] ** np.arange(size)
    matrix = design.T @ design
    condition = np.linalg.cond(matrix)
    found = invert(ordinate, size)
    if condition < 1e9:
        np.testing.assert_allclose(found @ matrix, np.eye(size), atol=1e-16 * condition * 100 + 1e-12)
    elif condition > 1e11:
        assert found is None


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_pixels_determine_nothing(size):
    assert invert(np.empty(0), size) is None


def test_one_pixel_determines_a_constant_only():
    assert invert(np.array([0.3]), 1) == pytest.approx(np.array([[1.0]]))
    assert invert(np.array([0.3]), 2) is None


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
def test_median_is_numpys(values):
    buffer = np.array(values, np.float32)
    assert select_median(buffer.copy(), len(buffer)) == pytest.approx(np.median(buffer), rel=1e-6, abs=1e-30)


def test_median_of_nothing_is_nan():
    assert np.isnan(select_median(np.empty(3, np.float32), 0))


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    guess=st.tuples(st.floats(width=32), st.floats(width=32)),
)
def test_median_near_any_guess_is_the_median(values, guess):
    buffer, near = np.array(values, np.float32), np.array(guess, np.float32)
    for _ in range(3):  # with what the first search has learned, too
        found = select_median_near(buffer.copy(), len(buffer), near, np.empty(len(buffer), np.float32))
        assert found == select_median(buffer.copy(), len(buffer))


def test_median_near_learns_from_one_row_for_the_next():
    rng, near, scratch = np.random.default_rng(3), np.full(2, np.nan, np.float32), np.empty(201, np.float32)
    for row in rng.normal(50.0, 2.0, (20, 201)).astype(np.float32):
        assert select_median_near(row.copy(), 201, near, scratch) == np.median(row)
    assert abs(near[0] - 50.0) < 1.0
    assert 0.1 < near[1] < 2.0  # a fifth of the values lie within 0.25 sigma


@pytest.mark.parametrize("length", [3, 5, 21])
def test_smoothing_is_that_of_astropy(length):
    from astropy.convolution import convolve

    rng = np.random.default_rng(3)
    row = rng.normal(10, 1, 40).astype(np.float32)
    row[rng.random(40) < 0.1] = np.nan
    smoothed = np.empty(40, np.float32)
    smooth_row(row, np.isfinite(row), length, smoothed)
    expected = convolve(row[None], np.ones((1, length)) / length, boundary="extend")[0]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


def test_smoothing_without_valid_neighbours_is_nan():
    smoothed = np.empty(5, np.float32)
    smooth_row(np.full(5, np.nan, np.float32), np.zeros(5, bool), 3, smoothed)
    assert np.isnan(smoothed).all()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_a_polynomial_is_recovered(order):
    y = unit_ordinate(30)
    image = np.polynomial.polynomial.polyval(y, np.arange(1.0, order + 2))[:, None] * np.array([1.0, 2.0])
    region = np.zeros(image.shape, bool)
    region[:8] = region[22:] = True
    crowded = np.where(region, image, 1e5)
    crowded[3, 0] = np.nan
    np.testing.assert_allclose(background_image(crowded, region, BackgroundFit("poly", order)), image, rtol=1e-9)
    assert crowded[15, 0] == 1e5


def test_a_median_is_not_drawn_by_an_outlier():
    image = np.full((9, 1), 4.0)
    image[1] = 1e6
    assert background_image(image, np.ones((9, 1), bool), BackgroundFit("median"))[0, 0] == 4.0


@pytest.mark.parametrize("n_rows", [1, 2, 9, 600])
def test_medians_of_columns_are_those_of_numpy(n_rows):
    rng = np.random.default_rng(n_rows)
    values = rng.normal(size=(n_rows, 50))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 7] = np.nan
    found = column_medians(values)
    known = np.isfinite(values).any(axis=0)
    np.testing.assert_array_equal(found[known], np.nanmedian(values[:, known], axis=0))
    assert np.isnan(found[~known]).all()


@pytest.mark.parametrize("fit", [BackgroundFit("poly", 1), BackgroundFit("median")])
def test_a_background_without_pixels_is_nan(fit):
    assert np.isnan(background_image(np.full((4, 2), np.nan), np.ones((4, 2), bool), fit)).all()


def test_no_fit_is_no_background():
    assert not background_image(np.ones((4, 2)), np.ones((4, 2), bool), BackgroundFit()).any()


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="negative"):
        BackgroundFit("poly", -1)
    with pytest.raises(ValueError, match="odd"):
        BackgroundFit("poly", 0, 4)
