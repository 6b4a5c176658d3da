"""Brightness by steady weights: by hand, against the obvious loop, and properties that no noise may break."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.weighted import baseline_level, common, equal_groups, group_brightness, weigh

SPECTRUM = np.array([4.0, 2.0, 1.0])
VARIANCE = np.array([2.0, 1.0, 4.0])


def slow(flux, variance, expected, noise, group, n_group):
    """The definition, sample by sample."""
    value, error, kept = (np.full((len(flux), n_group), np.nan) for _ in range(3))
    for i in range(len(flux)):
        for g in range(n_group):
            usable = [x for x in range(len(group)) if group[x] == g and expected[x] > 0 and 0 < noise[x] < np.inf]
            good = [x for x in usable if np.isfinite(flux[i, x])]
            whole = sum(expected[x] ** 2 / noise[x] for x in usable)
            seen = sum(expected[x] ** 2 / noise[x] for x in good)
            kept[i, g] = seen / whole if usable else 0.0
            if good:
                value[i, g] = sum(expected[x] / noise[x] * flux[i, x] for x in good) / seen
                error[i, g] = sum((expected[x] / noise[x]) ** 2 * variance[i, x] for x in good) / seen**2
    return value, error, kept


def test_by_hand():
    weights = weigh(SPECTRUM, VARIANCE, np.zeros(3, int), 1)
    assert weights.factor.tolist() == [2.0, 2.0, 0.25]
    assert weights.whole.tolist() == [8.0 + 4.0 + 0.25]
    found = group_brightness(np.array([[4.0, 2.0, 9.0]]), VARIANCE[None], weights)
    assert found.value[0, 0] == pytest.approx((8.0 + 4.0 + 2.25) / 12.25)
    assert found.variance[0, 0] == pytest.approx(1.0 / 12.25)  # with its own variances: one over the information
    assert (found.kept, found.n_valid) == (np.array([[1.0]]), np.array([[3]]))


@given(seed=st.integers(0, 2**31), lost=st.floats(0.0, 0.9))
def test_against_the_obvious_loop(seed, lost):
    rng = np.random.default_rng(seed)
    n_int, n_wave, n_group = 4, 23, 3
    expected, noise = rng.normal(1.0, 1.0, n_wave), rng.uniform(0.1, 2.0, n_wave)
    expected[2], noise[5], noise[6] = np.nan, np.nan, 0.0
    flux = np.where(rng.random((n_int, n_wave)) < lost, np.nan, rng.normal(1.0, 0.5, (n_int, n_wave)))
    variance = rng.uniform(0.5, 1.5, (n_int, n_wave))
    group = rng.integers(-1, n_group, n_wave)
    found = group_brightness(flux, variance, weigh(expected, noise, group, n_group))
    value, error, kept = slow(flux, variance, expected, noise, group, n_group)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    np.testing.assert_allclose(found.variance, error, rtol=1e-12)
    np.testing.assert_allclose(found.kept, kept, rtol=1e-12)


@given(seed=st.integers(0, 2**31), lost=st.floats(0.01, 0.6))
def test_missing_samples_leave_a_grey_light_curve_as_it_is(seed, lost):
    rng = np.random.default_rng(seed)
    curve = rng.uniform(0.5, 1.5, 5)
    expected, noise = rng.uniform(1.0, 5.0, 40), rng.uniform(0.1, 2.0, 40)
    flux = np.where(rng.random((5, 40)) < lost, np.nan, curve[:, None] * expected)
    found = group_brightness(flux, np.ones((5, 40)), weigh(expected, noise, np.zeros(40, int), 1))
    np.testing.assert_allclose(found.value[:, 0], np.where(found.n_valid[:, 0] > 0, curve, np.nan))


def test_a_group_completes_from_its_own_colour():
    """A transit that is twice as deep in the red: a missing red sample is taken from the red, not from all."""
    depth = np.where(np.arange(40) < 20, 0.01, 0.02)
    flux = np.broadcast_to(1.0 - depth, (2, 40)).copy()
    flux[1, 30:39] = np.nan
    noise, wavelength = np.ones(40), np.arange(40.0)
    one = weigh(np.ones(40), noise, np.zeros(40, int), 1)
    grey = group_brightness(flux, np.ones((2, 40)), one).value[:, 0]
    assert grey[1] - grey[0] == pytest.approx(0.5 * 0.01 * 9 / 31, rel=1e-6)  # 1450 ppm off
    weights = weigh(np.ones(40), noise, equal_groups(one, wavelength, 4), 4)
    parts = group_brightness(flux, np.ones((2, 40)), weights)
    whole = common(parts.value, parts.variance, weights.whole)
    assert whole.value[1, 0] == pytest.approx(whole.value[0, 0], abs=1e-15)
    assert whole.value[0, 0] == pytest.approx(0.985, abs=1e-15)
    assert whole.variance[0, 0] == pytest.approx(1 / 40)
    assert whole.variance[1, 0] > whole.variance[0, 0]


def test_groups_that_are_lost_are_taken_from_the_others():
    found = common(np.array([[1.0, np.nan], [np.nan, np.nan]]), np.ones((2, 2)), np.array([1.0, 3.0]))
    assert found.value[0, 0] == 1.0
    assert found.kept[0, 0] == 0.25
    assert np.isnan(found.value[1, 0])
    assert np.isnan(found.variance[1, 0])


def test_a_noisy_edge_cannot_dominate():
    """Fifty noisy wavelengths with a tenth of the light: the plain sum is 3.7 times as noisy as the weighted one."""
    rng = np.random.default_rng(3)
    expected = np.r_[np.full(450, 1.0), np.full(50, 1.0)]
    sigma = np.r_[np.full(450, 0.01), np.full(50, 0.12)]
    flux = expected + sigma * rng.normal(size=(2000, 500))
    weights = weigh(expected, sigma**2, np.zeros(500, int), 1)
    found = group_brightness(flux, np.broadcast_to(sigma**2, flux.shape), weights)
    plain = flux.sum(axis=1) / expected.sum()
    assert found.value.std() == pytest.approx(np.sqrt(found.variance[0, 0]), rel=0.05)
    assert plain.std() / found.value.std() == pytest.approx(3.7, rel=0.05)
    assert found.value.mean() == pytest.approx(1.0, abs=3e-5)


def test_an_error_that_is_not_known_is_not_small():
    variance = np.ones((2, 3))
    variance[1, 2] = np.nan
    found = group_brightness(np.ones((2, 3)), variance, weigh(SPECTRUM, VARIANCE, np.zeros(3, int), 1))
    assert np.isnan(found.variance[:, 0]).tolist() == [False, True]
    assert np.isfinite(found.value).all()


def test_an_integration_depends_on_itself_alone():
    rng = np.random.default_rng(4)
    flux, variance = rng.normal(1, 0.1, (7, 99)), rng.uniform(1, 2, (7, 99))
    weights = weigh(rng.uniform(0, 2, 99), rng.uniform(1, 2, 99), rng.integers(0, 5, 99), 5)
    whole = group_brightness(flux, variance, weights)
    for i in range(7):
        one = group_brightness(flux[i : i + 1], variance[i : i + 1], weights)
        np.testing.assert_array_equal(one.value[0], whole.value[i])
        np.testing.assert_array_equal(
            common(one.value, one.variance, weights.whole).value[0],
            common(whole.value, whole.variance, weights.whole).value[i],
        )


def test_plain_sums_complete_by_the_light():
    weights = weigh(SPECTRUM, None, np.zeros(3, int), 1)
    found = group_brightness(np.array([[np.nan, 1.0, 0.5]]), np.ones((1, 3)), weights)
    assert found.value[0, 0] * weights.whole[0] == pytest.approx(1.5 / 3.0 * 7.0)


def test_groups_share_the_light_in_the_order_of_wavelength():
    weights = weigh(np.ones(100), np.ones(100), np.zeros(100, int), 1)
    group = equal_groups(weights, np.linspace(2.0, 1.0, 100), 4)
    assert np.bincount(group).tolist() == [25, 25, 25, 25]
    assert (np.diff(group) <= 0).all()
    assert (equal_groups(weigh(np.zeros(3), np.ones(3), np.zeros(3, int), 1), np.ones(3), 4) == -1).all()


def test_baseline():
    values = np.array([1.0, 2.0, np.nan, 10.0, 3.0])
    assert baseline_level(values, np.array([True, True, True, False, True])) == 2.0
    assert np.isnan(baseline_level(values, np.zeros(5, bool)))
    assert np.isnan(baseline_level(-values, np.ones(5, bool)))
