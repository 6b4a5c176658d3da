"""Aperture corrections: linear in wavelength and size, at the table's points, beyond its ends, in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RectBivariateSpline

from tso3.core.apcorr import aperture_correction, correction_table

WAVE = np.array([5.0, 6.0, 8.0, 11.0])
SIZE = np.array([3.0, 5.0, 8.0])
FACTOR = 1 + 1 / SIZE[:, None] + 0.02 * WAVE


def test_values_of_the_table_are_returned():
    table = correction_table(WAVE, SIZE, FACTOR, "nearest")
    for k, size in enumerate(SIZE):
        np.testing.assert_allclose(aperture_correction(table, WAVE, np.full(4, size)), FACTOR[k])


@given(seed=st.integers(0, 2**31))
def test_between_them_it_is_the_bilinear_spline(seed):
    rng = np.random.default_rng(seed)
    wavelength, npixels = rng.uniform(4, 12, 30), rng.uniform(2, 10, (2, 30))
    spline = RectBivariateSpline(SIZE, WAVE, FACTOR, kx=1, ky=1)
    found = aperture_correction(correction_table(WAVE, SIZE, FACTOR, "nearest"), wavelength, npixels)
    np.testing.assert_allclose(found, spline(npixels, np.broadcast_to(wavelength, (2, 30)), grid=False), rtol=1e-12)


def test_order_does_not_matter():
    straight = correction_table(WAVE, SIZE, FACTOR, "nearest")
    turned = correction_table(WAVE[::-1], SIZE[::-1], FACTOR[::-1, ::-1], "nearest")
    x, n = np.linspace(4, 12, 17), np.linspace(2, 9, 17)
    np.testing.assert_allclose(aperture_correction(turned, x, n), aperture_correction(straight, x, n))


def test_beyond_the_wavelengths():
    nearest, none = (correction_table(WAVE, SIZE, FACTOR, outside) for outside in ("nearest", "none"))
    outside, size = np.array([4.0, 12.0]), np.array([5.0, 5.0])
    np.testing.assert_allclose(aperture_correction(nearest, outside, size), FACTOR[1, [0, -1]])
    np.testing.assert_array_equal(aperture_correction(none, outside, size), 1.0)
    np.testing.assert_allclose(aperture_correction(none, WAVE[[0, -1]], size), FACTOR[1, [0, -1]])


def test_a_correction_of_zero_is_none():
    table = correction_table(WAVE, SIZE, np.zeros_like(FACTOR), "none")
    np.testing.assert_array_equal(aperture_correction(table, WAVE, np.full(4, 5.0)), 1.0)


def test_sizes_that_change_with_wavelength():
    sizes = SIZE[:, None] * np.array([1.0, 1.1, 1.2, 1.3])
    table = correction_table(WAVE, sizes, FACTOR, "none")
    np.testing.assert_allclose(aperture_correction(table, WAVE, sizes[1]), FACTOR[1])


def test_sizes_in_arc_seconds():
    table = correction_table(WAVE, SIZE * 0.1, FACTOR, "none").scaled(0.1)
    np.testing.assert_allclose(aperture_correction(table, WAVE, np.full(4, 5.0)), FACTOR[1])


@pytest.mark.parametrize("wave", [WAVE, WAVE[:1]])
@pytest.mark.parametrize("size", [SIZE, SIZE[:1]])
def test_small_tables(wave, size):
    table = correction_table(wave, size, FACTOR[: size.size, : wave.size], "nearest")
    found = aperture_correction(table, np.array([3.0, 20.0]), np.array([1.0, 99.0]))
    np.testing.assert_allclose(found, [FACTOR[0, 0], FACTOR[size.size - 1, wave.size - 1]])


@pytest.mark.parametrize(
    ("wave", "size", "factor"),
    [
        (WAVE, SIZE, FACTOR.T),
        (WAVE, SIZE, FACTOR * np.nan),
        (np.array([5.0, 5.0, 8.0, 11.0]), SIZE, FACTOR),
        (WAVE, np.array([3.0, 3.0, 8.0]), FACTOR),
        (np.empty(0), SIZE, np.empty((3, 0))),
    ],
)
def test_what_is_no_table_is_refused(wave, size, factor):
    with pytest.raises(ValueError, match=r"shapes|finite|repeat"):
        correction_table(wave, size, factor, "none")
