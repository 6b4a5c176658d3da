"""Apertures: areas, analytic stars, bad pixels, errors, properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.aperture import PhotometryQuality, Radii, Treatment, photometry_of, sum_apertures
from tso3.core.images import Images
from tso3.core.overlap import circle_overlap

DROP = Treatment(None, False, 0.5, True)
RADII = Radii(3.0, 4.0, 5.0)
SIZE = 25


def star(flux=1000.0, x=12.3, y=11.8, sigma=1.2, background=5.0, n_int=1):
    """Pixel-integrated Gaussian."""
    from scipy.special import erf

    edges = np.arange(SIZE + 1) - 0.5
    profiles = [np.diff(erf((edges - at) / sigma / 2**0.5)) / 2 for at in (y, x)]
    image = background + flux * np.outer(*profiles)
    return np.repeat(image[None], n_int, 0).astype(np.float32)


def measure(data, x=12.3, y=11.8, radii=RADII, rule=DROP, err=None, subtract=True):
    n_int = data.shape[0]
    err = np.ones_like(data) if err is None else err
    images = Images(data, err, np.full_like(data, 0.75), np.full_like(data, 0.25), np.ones(data.shape[1:], np.float32))
    sums = sum_apertures(images, np.full(n_int, x), np.full(n_int, y), radii, rule)
    return photometry_of(sums, rule, subtract=subtract)


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.0, 3.0, 5.0, 8.4])
@pytest.mark.parametrize("at", [(12.0, 12.0), (12.5, 12.5), (11.3, 12.9)])
def test_area_is_pi_r_squared(radius, at):
    assert circle_overlap(*at, radius, (SIZE, SIZE)).sum() == pytest.approx(math.pi * radius**2, rel=1e-12)


def test_shares_outside_and_of_nothing():
    assert circle_overlap(-9.0, 4.0, 3.0, (9, 9)).sum() == 0
    assert (circle_overlap(4.0, 4.0, math.inf, (9, 9)) == 1).all()
    assert circle_overlap(4.0, 4.0, 0.0, (9, 9)).sum() == 0


def test_flat_image():
    result = measure(np.full((1, SIZE, SIZE), 2.0, np.float32))
    assert result.aperture_sum[0] == pytest.approx(2 * math.pi * 9, rel=1e-12)
    assert result.annulus_mean[0] == pytest.approx(2.0, rel=1e-12)
    assert result.net_aperture_sum[0] == pytest.approx(0.0, abs=1e-12)
    variance = np.sum(circle_overlap(12.3, 11.8, 3.0, (SIZE, SIZE)) ** 2)
    assert result.aperture_sum_err[0] == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert result.net_aperture_sum_err_temporal[0] == pytest.approx(result.net_aperture_sum_err[0], rel=1e-12)
    assert result.photon_limit[0] == pytest.approx(result.net_aperture_sum_err[0], rel=1e-12)
    assert result.quality[0] == 0


def test_known_gaussian():
    """A Gaussian has 1 - exp(-r^2 / 2 s^2) of its light within r; twice a pixel of variance 1/12 adds to s^2."""
    result = measure(star(sigma=1.0), radii=Radii(3.0, 8.0, 11.0))
    assert result.net_aperture_sum[0] == pytest.approx(1000 * (1 - math.exp(-4.5 / (1 + 1 / 6))), rel=3e-4)


def test_linear_weights_are_larger():
    squared = measure(star()).aperture_sum_err[0]
    linear = measure(star(), rule=DROP._replace(squared=False)).aperture_sum_err[0]
    assert linear == pytest.approx(math.sqrt(math.pi * 9), rel=1e-9)
    assert squared < linear


def test_dropped_pixel_lowers_the_sum_and_is_reported():
    data = star()
    data[0, 12, 12] = np.nan
    result = measure(data)
    full = measure(star())
    assert result.aperture_sum[0] < 0.95 * full.aperture_sum[0]
    assert result.aperture_sum_err[0] < full.aperture_sum_err[0]
    assert result.quality[0] == PhotometryQuality.INCOMPLETE
    assert result.n_pixels[0] == full.n_pixels[0] - 1
    assert result.missing_fraction[0] == pytest.approx(1 / (9 * math.pi), rel=1e-9)


def completing(reference, max_missing=0.5):
    return Treatment(reference, True, max_missing, True)


@pytest.mark.parametrize("holes", [[(12, 12)], [(12, 12), (11, 12), (13, 13)], [(10, 13), (12, 11)]])
def test_completed_pixel_restores_the_sum(holes):
    data, steady = star(flux=730.0), star(background=0.0)[0].astype(float)
    err = np.ones_like(data)
    for at in holes:
        data[0][at] = err[0][at] = np.nan
    result = measure(data, rule=completing(steady, 0.9), err=err)
    full = measure(star(flux=730.0))
    assert result.net_aperture_sum[0] == pytest.approx(full.net_aperture_sum[0], rel=2e-3)
    assert result.aperture_sum[0] == pytest.approx(full.aperture_sum[0], rel=2e-3)
    assert result.aperture_bkg[0] == pytest.approx(full.aperture_bkg[0], rel=1e-6)
    much = PhotometryQuality.MUCH_MISSING if result.missing_fraction[0] > 0.1 else 0
    assert result.quality[0] == PhotometryQuality.COMPLETED | much
    gain = 1 / (1 - result.missing_fraction[0])
    assert result.net_aperture_sum_err[0] > full.net_aperture_sum_err[0] * min(gain, 1.5) * 0.8
    assert result.photon_limit[0] <= result.net_aperture_sum_err_temporal[0]


def test_too_much_missing_is_nan():
    data, steady = star(), star(background=0.0)[0].astype(float)
    data[0, 10:15, 10:15] = np.nan
    result = measure(data, rule=completing(steady))
    assert np.isnan(result.net_aperture_sum[0])
    assert result.quality[0] & PhotometryQuality.NOT_MEASURED
    assert result.missing_fraction[0] > 0.8
    assert np.isfinite(result.annulus_mean[0])


def test_pixel_that_the_reference_does_not_know_is_left_out_of_all():
    """A pixel good now and then must not make the aperture change in time."""
    data, steady = star(n_int=2), star(background=0.0)[0].astype(float)
    steady[12, 13] = np.nan
    data[0, 12, 13] = np.nan
    result = measure(data, rule=completing(steady))
    assert result.net_aperture_sum[0] == result.net_aperture_sum[1]
    assert (result.quality == PhotometryQuality.INCOMPLETE).all()


def test_annulus_without_pixels_and_nothing_at_all():
    data = star(n_int=2)
    outside = circle_overlap(12.3, 11.8, 3.0, (SIZE, SIZE)) == 0
    data[0, outside] = np.nan
    data[1] = np.nan
    result = measure(data)
    assert np.isfinite(result.aperture_sum[0])
    assert np.isnan(result.net_aperture_sum).all()
    assert result.quality[0] == PhotometryQuality.NO_BACKGROUND
    assert result.quality[1] == PhotometryQuality.NOT_MEASURED
    assert result.n_pixels[1] == 0


def test_aperture_beyond_the_array():
    result = measure(star(x=1.0, y=1.0), x=1.0, y=1.0)
    assert result.quality[0] == PhotometryQuality.CLIPPED
    result = measure(star(), x=-40.0, y=1.0)
    assert result.quality[0] == PhotometryQuality.NOT_MEASURED
    result = measure(star(), x=np.nan)
    assert result.quality[0] == PhotometryQuality.NOT_MEASURED


def test_whole_array():
    data = star(background=0.0)
    result = measure(data, radii=Radii(math.inf, 0.0, 0.0), subtract=False)
    assert result.aperture_sum[0] == pytest.approx(data.astype(float).sum(), rel=1e-12)
    assert result.net_aperture_sum[0] == result.aperture_sum[0]
    assert result.net_aperture_sum_err[0] == pytest.approx(SIZE)
    assert np.isnan(result.annulus_mean[0])
    assert result.quality[0] == 0
    data[0, 11, 12] = np.nan
    result = measure(
        data, radii=Radii(math.inf, 0.0, 0.0), rule=completing(star()[0].astype(float) - 5), subtract=False
    )
    assert result.aperture_sum[0] == pytest.approx(1000, rel=1e-3)


def test_no_variances_no_temporal_error():
    data = star()
    images = Images.of(data, np.ones_like(data))
    result = photometry_of(sum_apertures(images, np.array([12.3]), np.array([11.8]), RADII, DROP), DROP)
    assert np.isnan(result.photon_limit[0])
    assert np.isfinite(result.net_aperture_sum_err[0])


def test_empty_stack():
    empty = star()[:0]
    assert measure(empty).net_aperture_sum.shape == (0,)


def test_inputs_are_left_alone():
    data = star()
    data[0, 12, 12] = np.nan
    steady = star(background=0.0)[0].astype(float)
    before = data.copy(), steady.copy()
    measure(data, rule=completing(steady))
    np.testing.assert_array_equal(data, before[0])
    np.testing.assert_array_equal(steady, before[1])


def test_an_integration_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(5)
    data = (star(n_int=9) + rng.normal(0, 3, (9, SIZE, SIZE))).astype(np.float32)
    x, y = rng.normal(12.3, 0.2, 9), rng.normal(11.8, 0.2, 9)
    images = Images.of(data, np.ones_like(data))
    together = sum_apertures(images, x, y, RADII, DROP)
    for i in range(9):
        one = Images.of(data[i : i + 1], images.err[i : i + 1])
        alone = sum_apertures(one, x[i : i + 1], y[i : i + 1], RADII, DROP)
        assert alone.aperture_sum[0] == together.aperture_sum[i]
        assert alone.annulus_variance[0] == together.annulus_variance[i]


@settings(max_examples=30, deadline=None)
@given(
    k=st.floats(0.1, 50),
    level=st.floats(-100, 100),
    x=st.floats(8, 16),
    y=st.floats(8, 16),
    complete=st.booleans(),
    seed=st.integers(0, 5),
)
def test_scaling_and_background(k, level, x, y, complete, seed):
    """k times the light is k times the sum and its error; a constant leaves the net sum."""
    rng = np.random.default_rng(seed)
    data = star(x=x, y=y)
    err = rng.uniform(1, 2, data.shape).astype(np.float32)
    holes = rng.random(data.shape) < 0.05
    data[holes] = err[holes] = np.nan
    rule = completing(star(x=x, y=y, background=0.0)[0].astype(float), 0.95) if complete else DROP
    plain = measure(data, x, y, rule=rule, err=err)
    scaled = measure(np.float32(k) * data, x, y, rule=rule, err=np.float32(k) * err)
    raised = measure(data + np.float32(level), x, y, rule=rule, err=err)
    for name in ("aperture_sum", "net_aperture_sum", "aperture_sum_err", "net_aperture_sum_err", "annulus_mean"):
        np.testing.assert_allclose(getattr(scaled, name), k * getattr(plain, name), rtol=1e-5)
    np.testing.assert_allclose(raised.net_aperture_sum, plain.net_aperture_sum, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(raised.net_aperture_sum_err, plain.net_aperture_sum_err, rtol=1e-6)


def test_errors_are_those_of_repeated_noise():
    rng = np.random.default_rng(8)
    n_int, sigma = 3000, 2.0
    data = (star() + rng.normal(0, sigma, (n_int, SIZE, SIZE))).astype(np.float32)
    result = measure(data, err=np.full_like(data, sigma))
    pull = (result.net_aperture_sum - result.net_aperture_sum.mean()) / result.net_aperture_sum_err
    assert pull.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("complete", [True, False])
def test_an_annulus_without_valid_pixels_leaves_the_sum_of_the_aperture(complete):
    y, x = np.mgrid[:21, :21]
    distance = np.hypot(x - 10, y - 10)
    image = np.full((1, 21, 21), 2.0, "f4")
    image[0, distance > 3.8] = np.nan
    reference = np.where(distance < 3.8, 1.0, np.nan) if complete else None
    rule = Treatment(reference, complete, 0.5, True)
    centre = np.array([10.0])
    sums = sum_apertures(Images.of(image, np.ones_like(image)), centre, centre, Radii(3.0, 4.5, 6.0), rule)
    photometry = photometry_of(sums, rule)
    assert photometry.aperture_sum[0] == pytest.approx(2.0 * np.pi * 9.0)
    assert np.isnan(photometry.net_aperture_sum[0])
    assert photometry.quality[0] & PhotometryQuality.NO_BACKGROUND


def test_a_whole_array_without_valid_pixels_is_nan():
    image = np.full((2, 9, 9), 3.0, "f4")
    image[1] = np.nan
    centre = np.full(2, 4.0)
    sums = sum_apertures(Images.of(image, np.ones_like(image)), centre, centre, Radii(np.inf, 0.0, 0.0), DROP)
    photometry = photometry_of(sums, DROP, subtract=False)
    assert photometry.aperture_sum[0] == pytest.approx(243.0)
    assert np.isnan(photometry.aperture_sum[1])
    assert photometry.quality[1] & PhotometryQuality.NOT_MEASURED


def slow_bounds(values, clip):
    """Least and largest value that iterative clipping leaves."""
    kept = np.sort(values)
    for _ in range(10):
        middle = np.median(kept)
        near = kept[np.abs(kept - middle) <= clip * 1.482602218505602 * np.median(np.abs(kept - middle))]
        if len(near) == len(kept):
            break
        kept = near
    return kept.min(), kept.max()


@pytest.mark.parametrize("clip", [2.0, 3.0, 5.0])
def test_the_annulus_is_clipped(clip):
    rng = np.random.default_rng(3)
    data = rng.normal(5.0, 1.0, (3, 25, 25)).astype(np.float32)
    data[1, 12, 17] = 400.0  # another star
    x, y = np.full(3, 12.3), np.full(3, 11.8)
    plain, clipped = (sum_apertures(Images.of(data, np.ones_like(data)), x, y, RADII, rule)
                      for rule in (DROP, DROP._replace(clip=clip)))  # fmt: skip
    np.testing.assert_array_equal(plain.aperture_sum, clipped.aperture_sum)
    for i in range(3):
        one = Images.of(data[i : i + 1], np.ones_like(data[:1]))
        within = np.full(data.shape[1:], np.nan, np.float32)
        touched = [
            (q, p)
            for q, p in np.ndindex(25, 25)
            if sum_apertures(
                Images.of(np.where(np.indices((25, 25))[0] * 25 + np.indices((25, 25))[1] == q * 25 + p, 1.0, np.nan)
                          .astype(np.float32)[None], np.ones_like(data[:1])), x[:1], y[:1], RADII, DROP
            ).annulus_sum[0] > 0
        ]  # fmt: skip
        low, high = slow_bounds(np.array([data[i][at] for at in touched]), clip)
        for at in touched:
            within[at] = data[i][at] if low <= data[i][at] <= high else np.nan
        expected = sum_apertures(Images.of(within[None], one.err), x[:1], y[:1], RADII, DROP)
        assert clipped.annulus_sum[i] == pytest.approx(expected.annulus_sum[0], rel=1e-12)
    assert clipped.annulus_sum[1] < plain.annulus_sum[1] - 300.0


def test_parts_of_the_error_make_up_the_whole():
    data = star(flux=730.0)
    err = np.full_like(data, 3.0)
    images = Images.of(data, err, np.full_like(data, 5.0), np.full_like(data, 4.0))
    at = np.array([12.3]), np.array([11.8])
    found = photometry_of(sum_apertures(images, *at, RADII, DROP), DROP)
    parts = [getattr(found, f"net_aperture_sum_err_{name}")[0] for name in ("poisson", "rnoise", "background")]
    assert np.hypot(np.hypot(*parts[:2]), parts[2]) == pytest.approx(found.net_aperture_sum_err_temporal[0])
    assert parts[0] / parts[1] == pytest.approx(np.sqrt(5.0 / 4.0))
    assert parts[2] == pytest.approx(found.annulus_mean_err[0] * found.aperture_bkg[0] / found.annulus_mean[0])
