"""The motion of a star along dispersion in spectra whose truth is known."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from tso3.core.sensitivity import calibration_along
from tso3.core.spectral_motion import SpectralShifts, change_of_channels, gauge, measure, response, settled
from tso3.core.weighted import weigh

N_INT, N_WAVE = 80, 240
X = np.arange(N_WAVE, dtype=float)


def electrons(at):
    """A spectrum with a steep edge and lines."""
    places = ((60, 0.2), (130, 0.15), (190, 0.1))
    lines = sum(depth * np.exp(-0.5 * ((at - where) / 2.5) ** 2) for where, depth in places)
    return 4e5 * (0.05 + 1.0 / (1.0 + np.exp(-(at - 18.0) / 3.0))) * np.exp(-at / 200.0) * (1.0 - lines)


CALIBRATION = 2e-6 / (0.1 + 1.0 / (1.0 + np.exp(-(X - 18.0) / 4.0)))


def visit(shift, depth=0.0, seed=0, noise=1.0):
    """Spectra in a calibrated unit and their variances; the depth of a box-shaped transit may depend on wavelength."""
    rng = np.random.default_rng(seed)
    transit = np.where(np.abs(np.arange(N_INT) - N_INT / 2) < N_INT / 4, 1.0, 0.0)
    counts = np.array([electrons(X - d) for d in shift]) * (1.0 - depth * transit[:, np.newaxis])
    flux = (counts + noise * np.sqrt(counts) * rng.normal(size=counts.shape)) * CALIBRATION
    return flux, counts * CALIBRATION**2, transit


def known(flux, variance):
    steady, poisson = np.median(flux, axis=0), np.median(variance, axis=0)
    calibration = calibration_along(steady, poisson, np.sqrt(poisson / N_INT))
    return gauge(steady, poisson, calibration, N_INT)


def test_the_response_is_the_derivative_of_the_electrons():
    true = -CubicSpline(X, electrons(X))(X, 1) * CALIBRATION
    found = response(electrons(X) * CALIBRATION, 3.0 * CALIBRATION)
    assert np.abs(found - true)[1:-1].max() < 0.05 * np.abs(true).max()  # differences of neighbours, in the lines
    wrong = response(electrons(X) * CALIBRATION, None)
    assert abs(wrong[18] / true[18] - 1.0) > 0.3


def test_shifts_and_errors_are_those_of_plain_least_squares():
    shift = np.random.default_rng(1).normal(0.0, 0.02, N_INT)
    flux, variance, _ = visit(shift)
    flux[3, 7] = np.nan
    one = known(flux, variance)
    found = measure(one, flux[:5])
    for i in range(5):
        good = np.isfinite(flux[i]) & (one.variance > 0.0)
        sigma = np.sqrt(one.variance[good])
        design = (one.rows[:, good] / sigma).T
        plain = np.linalg.lstsq(design, flux[i, good] / sigma, rcond=None)[0][-1] / found.brightness[i]
        error = np.sqrt(np.linalg.inv(design.T @ design)[-1, -1]) / found.brightness[i]
        assert found.shift[i] == pytest.approx(plain / one.true_share, rel=1e-6)
        assert found.error[i] == pytest.approx(error / one.true_share, rel=1e-6)


def test_a_motion_is_found_within_its_errors_whatever_the_transmission_spectrum():
    features = 0.01 * (1.0 + 0.1 * np.exp(-0.5 * ((X - 20.0) / 12.0) ** 2) + 0.1 * np.sin(X / 15.0))
    shift = 0.03 * np.sin(np.arange(N_INT) / 9.0) + np.random.default_rng(2).normal(0.0, 0.01, N_INT)
    flux, variance, transit = visit(shift, features)
    motion = settled(measure(known(flux, variance), flux))
    wrong = motion.shift - (shift - shift.mean())
    assert motion.half_width == 0
    assert wrong.std() < 1.1 * np.median(motion.error)
    inside = transit > 0.0
    offset = wrong[inside].mean() - wrong[~inside].mean()
    assert abs(offset) < 3.0 * np.median(motion.error) * np.sqrt(1.0 / inside.sum() + 1.0 / (~inside).sum())


def test_what_is_not_there_is_not_taken_out():
    flux, variance, _ = visit(np.zeros(N_INT), depth=0.01)
    motion = settled(measure(known(flux, variance), flux))
    assert motion.half_width == -1 or np.abs(motion.shift).max() < 0.5 * np.median(motion.error)
    flat = np.full((N_INT, N_WAVE), 1e5) + 300.0 * np.random.default_rng(4).normal(size=(N_INT, N_WAVE))
    assert not gauge(np.median(flat, axis=0), np.full(N_WAVE, 9e4), None, N_INT).is_usable


def test_slow_motion_is_averaged_and_a_step_is_not():
    rng = np.random.default_rng(5)
    error = np.full(200, 0.05)
    slow = 0.05 * np.sin(np.arange(200) / 40.0)
    seen = slow + 0.05 * rng.normal(size=200)
    motion = settled(SpectralShifts(np.ones(200), seen, error))
    assert motion.half_width >= 5
    assert (motion.shift - (slow - slow.mean())).std() < 0.4 * 0.05
    step = np.where(np.arange(200) < 90, 0.0, 0.5)
    seen = step + 0.02 * rng.normal(size=200)
    assert settled(SpectralShifts(np.ones(200), seen, np.full(200, 0.02))).half_width <= 1


def test_channels_scatter_by_what_the_motion_adds():
    one = known(*visit(np.zeros(N_INT))[:2])
    group = np.minimum(X // 24, 9).astype(int)
    weights = weigh(one.spectrum, one.variance, group, 10)
    added = change_of_channels(one, weights.factor, weights.group, weights.whole)
    rng = np.random.default_rng(6)
    flux = one.spectrum + np.sqrt(one.variance) * rng.normal(size=(1500, N_WAVE))
    found = measure(one, flux)
    shift = found.shift * one.true_share
    left = flux - shift[:, np.newaxis] * one.response
    for k in range(10):
        inside = weights.group == k
        values, plain = ((weights.factor * each)[:, inside].sum(axis=1) / weights.whole[k] for each in (left, flux))
        expected = plain.var() + added[k] * shift.var()
        assert values.var() == pytest.approx(expected, rel=0.12)
