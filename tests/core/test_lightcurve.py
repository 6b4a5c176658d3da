"""White light and scatter: sums, errors, samples that are missing, noise of known size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.lightcurve import band_sum, in_band
from tso3.core.noise import photon_limit, point_to_point

N_INT, N_WAVE = 6, 50
SPECTRUM = 100 * (1 + 0.5 * np.sin(np.arange(N_WAVE) / 7))
CURVE = np.array([1.0, 1.0, 0.99, 0.98, 0.99, 1.0])
FLUX = CURVE[:, None] * SPECTRUM


@given(seed=st.integers(0, 2**31), factor=st.floats(0.01, 100))
def test_sum_and_variance(seed, factor):
    rng = np.random.default_rng(seed)
    flux, variance, inside = rng.normal(5, 1, (4, 30)), rng.uniform(1, 2, (4, 30)), rng.random(30) < 0.5
    sums = band_sum(flux * factor, variance * factor**2, inside)
    np.testing.assert_allclose(sums.flux, factor * flux[:, inside].sum(axis=1) if inside.any() else np.nan)
    np.testing.assert_allclose(sums.variance, factor**2 * variance[:, inside].sum(axis=1) if inside.any() else np.nan)
    assert (sums.n_valid == inside.sum()).all()
    assert (sums.kept == 1).all()


@given(seed=st.integers(0, 2**31), fraction=st.floats(0.01, 0.5))
def test_completed_sums_have_the_light_curve(seed, fraction):
    lost = np.random.default_rng(seed).random(FLUX.shape) < fraction
    flux = np.where(lost, np.nan, FLUX)
    sums = band_sum(flux, np.ones_like(flux), expected=3 * SPECTRUM)
    np.testing.assert_allclose(sums.flux / SPECTRUM.sum(), CURVE)
    kept = np.where(lost, 0, SPECTRUM).sum(axis=1) / SPECTRUM.sum()
    np.testing.assert_allclose(sums.kept, kept)
    np.testing.assert_allclose(sums.variance, (~lost).sum(axis=1) / kept**2)
    dropped = band_sum(flux, np.ones_like(flux))
    np.testing.assert_allclose(dropped.flux, np.nansum(flux, axis=1))


def test_nothing_valid_is_nan_not_zero():
    flux = FLUX.copy()
    flux[2] = np.nan
    for expected in (None, SPECTRUM):
        sums = band_sum(flux, np.ones_like(flux), expected=expected)
        assert np.isnan(sums.flux[2])
        assert np.isnan(sums.variance[2])
        assert sums.n_valid.tolist() == [50, 50, 0, 50, 50, 50]
        assert np.isfinite(np.delete(sums.flux, 2)).all()


def test_light_only_where_samples_are_lost_is_nan():
    flux = FLUX.copy()
    flux[0, 10] = np.nan
    expected = np.zeros(N_WAVE)
    expected[10] = 1.0
    assert np.isnan(band_sum(flux, np.ones_like(flux), expected=expected).flux[0])


def test_wavelengths_without_expectation_do_not_count():
    flux = FLUX.copy()
    flux[:, 5] = np.nan
    expected = SPECTRUM.copy()
    expected[[5, 6]] = np.nan, -1.0
    sums = band_sum(flux, np.ones_like(flux), expected=expected)
    np.testing.assert_allclose(sums.flux, np.nansum(flux, axis=1))


def test_an_error_that_is_not_known_is_not_small():
    variance = np.ones_like(FLUX)
    variance[1, 3] = np.nan
    assert np.flatnonzero(np.isnan(band_sum(FLUX, variance).variance)).tolist() == [1]


def test_a_sum_does_not_depend_on_its_block():
    rng = np.random.default_rng(2)
    flux = rng.normal(1, 0.3, (9, 333))
    inside = rng.random(333) < 0.7
    whole = band_sum(flux, flux**2, inside, np.abs(flux[0]))
    for i in range(9):
        one = band_sum(flux[i : i + 1], flux[i : i + 1] ** 2, inside, np.abs(flux[0]))
        assert one.flux[0] == whole.flux[i]
        assert one.variance[0] == whole.variance[i]


def test_inputs_stay_as_they_are():
    flux, variance = FLUX.copy(), np.ones_like(FLUX)
    band_sum(flux, variance, expected=SPECTRUM)
    np.testing.assert_array_equal(flux, FLUX)


def test_both_ends_belong_to_a_band():
    assert in_band(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), 2.0, 3.0).tolist() == [False, True, True, False, False]
    assert in_band(np.array([1.0, np.nan]), None, None).tolist() == [True, False]


@pytest.mark.parametrize("sigma", [1e-5, 1e-3])
def test_scatter_of_white_noise(sigma):
    flux = np.random.default_rng(1).normal(1, sigma, 20000)
    assert point_to_point(flux) == pytest.approx(sigma, rel=0.02)
    trend = flux + np.linspace(0, 0.1, flux.size)
    assert point_to_point(trend) == pytest.approx(sigma, rel=0.06)


def test_scatter_leaves_missing_samples_out():
    flux = np.random.default_rng(1).normal(1, 1e-3, 20000)
    flux[::7] = np.nan
    assert point_to_point(flux) == pytest.approx(1e-3, rel=0.03)
    assert np.isnan(point_to_point(np.array([1.0, np.nan])))


def test_photon_limit():
    flux = np.array([100.0, 102.0, 98.0, np.nan])
    assert photon_limit(flux, np.array([4.0, 4.0, 4.0, 1e9])) == pytest.approx(0.02)
    assert np.isnan(photon_limit(flux * np.nan, flux))
