"""Scatter of light curves: known noise, and what must not change it."""

import numpy as np
import pytest

from tso3.core.noise import photon_limit, point_to_point


@pytest.mark.parametrize("shape", ["flat", "slope", "transit", "outliers", "gaps"])
def test_scatter_is_that_of_the_noise(shape):
    rng = np.random.default_rng(8)
    time = np.linspace(-1, 1, 400)
    flux = np.ones(400)
    if shape == "slope":
        flux += 0.05 * time
    if shape == "transit":
        flux -= 0.02 * np.clip((0.5 - np.abs(time)) / 0.08, 0, 1)
    noisy = [flux + 1e-4 * rng.standard_normal(400) for _ in range(50)]
    for curve in noisy:
        if shape == "outliers":
            curve[[30, 200, 333]] += 0.01
        if shape == "gaps":
            curve[100:130] = np.nan
    scatter = np.mean([point_to_point(1e6 * curve) for curve in noisy])
    assert scatter == pytest.approx(1e-4, rel=0.04)


def test_few_integrations_tell_nothing():
    assert np.isnan(point_to_point(np.array([1.0, 2.0, 1.0, 2.0])))
    assert np.isnan(point_to_point(np.full(50, np.nan)))
    assert np.isnan(point_to_point(np.zeros(50)))


def test_limit_is_the_typical_error_over_the_typical_flux():
    flux = np.array([4.0, 4.0, np.nan, 4.0])
    assert photon_limit(flux, np.array([0.04, 0.04, 0.04, np.nan])) == pytest.approx(0.05)
    assert np.isnan(photon_limit(flux, np.zeros(4)))
