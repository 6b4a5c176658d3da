"""The spatial profile: bad pixels, noise, tilted traces, columns without light."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.profile import spatial_profile
from tso3.core.trace import aperture_weights, width_limits

SHAPE = (16, 120)
ROWS, COLUMNS = np.arange(16.0)[:, None], np.arange(120.0)
TRACE = 7.3 + 0.01 * COLUMNS
APERTURE = aperture_weights([width_limits(TRACE, 7.0)], SHAPE, 0, 119)
TRUTH = np.exp(-0.5 * ((ROWS - TRACE) / 1.1) ** 2)
TRUTH /= (APERTURE * TRUTH).sum(axis=0)
SPECTRUM = 1e4 * (1 + 0.2 * np.sin(COLUMNS / 3))


@given(seed=st.integers(0, 2**31), bad=st.floats(0, 0.15), factor=st.floats(1e-3, 1e3))
def test_profile_and_spectrum_of_a_clean_image(seed, bad, factor):
    image = factor * SPECTRUM * TRUTH
    image[np.random.default_rng(seed).random(SHAPE) < bad] = np.nan
    copy = image.copy()
    found = spatial_profile(image, APERTURE)
    np.testing.assert_array_equal(image, copy)
    known = np.isfinite(found.spectrum)
    assert known.mean() > 0.95
    np.testing.assert_allclose((APERTURE * found.profile).sum(axis=0)[known], 1.0)
    inside = (APERTURE > 0) & known
    np.testing.assert_allclose(found.profile[inside], TRUTH[inside], atol=0.03)
    # a column that lost its brightest pixels is known from its wings and its neighbours' profile only
    np.testing.assert_allclose(found.spectrum[known], factor * SPECTRUM[known], rtol=0.15)
    assert np.median(np.abs(found.spectrum[known] / (factor * SPECTRUM[known]) - 1.0)) < 0.01


def test_a_clean_column_keeps_its_own_profile():
    image = SPECTRUM * TRUTH
    image[7, 50] *= 1.002  # a pixel of a slightly higher response
    found = spatial_profile(image, APERTURE)
    assert found.half_width[50] == 0
    assert found.profile[7, 50] / TRUTH[7, 50] > 1.001


def test_a_pixel_that_is_always_bad_is_known_from_its_neighbours():
    image = SPECTRUM * TRUTH
    image[8, 60] = np.nan
    found = spatial_profile(image, APERTURE)
    assert found.profile[8, 60] == pytest.approx(TRUTH[8, 60], rel=1e-3)
    assert found.spectrum[60] == pytest.approx(SPECTRUM[60], rel=1e-3)


def test_noisy_columns_are_averaged():
    rng = np.random.default_rng(5)
    bright, faint = (light * TRUTH + rng.normal(0, 2.0, SHAPE) for light in (1e4, 60.0))
    assert np.median(spatial_profile(bright, APERTURE).half_width) == 0
    found = spatial_profile(faint, APERTURE)
    assert np.median(found.half_width) >= 4
    inside = APERTURE > 0
    noise = np.where(inside, found.profile - TRUTH, 0.0)
    raw = np.where(inside, faint / (APERTURE * faint).sum(axis=0) - TRUTH, 0.0)
    assert noise.std() < 0.4 * raw.std()


def test_without_light_there_is_no_profile():
    found = spatial_profile(np.zeros(SHAPE), APERTURE)
    assert np.isnan(found.spectrum).all()
    assert np.isnan(spatial_profile(np.full(SHAPE, np.nan), APERTURE).spectrum).all()


def test_columns_without_aperture_are_no_part_of_it():
    aperture = APERTURE.copy()
    aperture[:, :30] = 0
    found = spatial_profile(SPECTRUM * TRUTH, aperture)
    np.testing.assert_allclose(found.spectrum[30:], SPECTRUM[30:], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_columns_will_do(n):
    found = spatial_profile((SPECTRUM * TRUTH)[:, :n], APERTURE[:, :n])
    np.testing.assert_allclose(found.spectrum, SPECTRUM[:n], rtol=1e-6)
