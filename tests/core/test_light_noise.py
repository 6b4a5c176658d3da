"""Noise measures of light curves: of white noise, in a transit, of red noise, each against what was put in."""

import numpy as np
import pytest

from tso3.core.light_noise import NoiseMeasures, noise_measures, time_averaging
from tso3.core.quiet import quiet_samples

N = 600
SIGMA = 2e-4


def transit(depth, middle=0.5, length=0.4, ingress=0.05):
    """A trapezoid with a curved bottom, in an exposure that runs from 0 to 1."""
    time = (np.arange(N) + 0.5) / N
    inside = np.clip((0.5 * length - np.abs(time - middle)) / ingress, 0.0, 1.0)
    return 1.0 - depth * inside * (1.0 - 0.3 * ((time - middle) / length) ** 2)


def noisy(curve, seed, sigma=SIGMA):
    return 3.7 * (curve + sigma * np.random.default_rng(seed).standard_normal(N))


@pytest.mark.parametrize("depth", [0.0, 1e-3, 0.01, 0.05])
def test_a_transit_does_not_spoil_the_measures(depth):
    found = [noise_measures(noisy(transit(depth), seed), np.full(N, (3.7 * SIGMA) ** 2)) for seed in range(20)]
    for name in ("standard_deviation", "robust_scatter", "point_to_point", "photon_limit"):
        mean = np.mean([getattr(measures, name) for measures in found])
        assert mean == pytest.approx(SIGMA, rel=0.04), name
    assert np.mean([measures.red_noise for measures in found]) == pytest.approx(1.0, abs=0.1)
    assert np.std([measures.red_noise for measures in found]) == pytest.approx(found[0].red_noise_error, rel=0.5)
    assert np.mean([measures.ratio for measures in found]) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize(("middle", "length", "ingress"), [(0.5, 0.45, 0.05), (0.3, 0.2, 0.1), (0.62, 0.5, 0.02)])
def test_what_is_quiet_lies_outside_the_transit(middle, length, ingress):
    time = (np.arange(N) + 0.5) / N
    truly = np.abs(time - middle) > 0.5 * length
    for seed in range(5):
        quiet = quiet_samples(noisy(transit(0.01, middle, length, ingress), seed))
        assert not (quiet & ~truly).any()
        assert quiet.sum() > 0.85 * truly.sum()


def test_no_transit_is_found_in_noise_white_or_red():
    time = np.arange(N)
    for seed in range(10):
        assert quiet_samples(noisy(np.ones(N), seed)).all()
        assert quiet_samples(noisy(1.0 + 3e-4 * np.sin(time / 15.0 + seed), seed)).all()


def test_red_noise_is_seen():
    wave = 1.5e-4 * np.sin(2.0 * np.pi * np.arange(N) / 90.0)
    found = [noise_measures(noisy(transit(0.01) + wave, seed)) for seed in range(8)]
    assert min(measures.red_noise - 3.0 * measures.red_noise_error for measures in found) > 1.0
    assert np.mean([measures.point_to_point for measures in found]) == pytest.approx(SIGMA, rel=0.03)


def test_time_averaging_is_that_of_plain_means():
    residual = np.random.default_rng(4).standard_normal(200)
    found = time_averaging(residual, [np.arange(90), np.arange(90, 200)])
    assert found.size.tolist() == [1, 2, 3, 4, 6, 8, 12, 16]
    for size, n_means, scatter, expected in zip(*vars(found).values(), strict=True):
        means = [residual[k : k + size].mean() for k in range(0, 90 - size + 1, size)]
        means += [residual[k : k + size].mean() for k in range(90, 200 - size + 1, size)]
        assert n_means == len(means)
        assert scatter == pytest.approx(np.sqrt(np.sum(np.square(means)) / (len(means) - 2)))
        assert expected == pytest.approx(found.scatter[0] / np.sqrt(size))


def test_gaps_scale_and_outliers():
    flux = noisy(transit(0.01), 1)
    whole = noise_measures(flux)
    assert noise_measures(1e-9 * flux).standard_deviation == pytest.approx(whole.standard_deviation)
    flux[[20, 21, 22, 300, 560]] = np.nan
    assert noise_measures(flux).standard_deviation == pytest.approx(SIGMA, rel=0.15)
    flux[40] *= 1.02
    spoiled = noise_measures(flux)
    assert spoiled.standard_deviation > 4.0 * SIGMA
    assert spoiled.robust_scatter == pytest.approx(SIGMA, rel=0.2)


def test_short_and_empty_series_tell_nothing():
    for flux in (np.full(50, np.nan), np.ones(5), np.zeros(50)):
        found = noise_measures(flux)
        assert np.isnan(found.standard_deviation)
        assert np.isnan(found.red_noise)
        assert found.averaging.size.size == 0


def test_measures_survive_the_metadata_of_a_table():
    found = noise_measures(noisy(transit(0.01), 2), np.full(N, 1e-6))
    again = NoiseMeasures.from_dict(found.as_dict())
    assert again.standard_deviation == pytest.approx(found.standard_deviation, abs=1e-9)
    assert again.red_noise == pytest.approx(found.red_noise, rel=1e-4)
    np.testing.assert_array_equal(again.averaging.size, found.averaging.size)
