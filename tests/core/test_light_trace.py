"""The trace that light shows, and what integral field units need to know of their pixels."""

import numpy as np
import pytest

from tso3.core.light_trace import light_trace
from tso3.core.slices import light_centre, pixel_areas


def spectrum(curve, n_rows=40, width=3.0, level=5.0):
    rows = np.arange(n_rows)[:, np.newaxis]
    brightness = np.linspace(1.0, 3.0, curve.size)
    return level + 100.0 * brightness * np.exp(-((rows - curve) ** 2) / (2 * width**2))


def test_a_curved_trace_is_found():
    x = np.linspace(-1.0, 1.0, 300)
    curve = 19.0 + 1.5 * x - 0.7 * x**2
    np.testing.assert_allclose(light_trace(spectrum(curve), 9.5), curve, atol=0.03)


def test_bad_pixels_and_dark_columns_do_not_bend_it():
    rng = np.random.default_rng(1)
    curve = np.full(300, 20.0)
    image = spectrum(curve) + rng.normal(0.0, 2.0, (40, 300))
    image[rng.integers(0, 40, 60), rng.integers(0, 300, 60)] = np.nan
    image[33, 100:104] = 4000.0
    image[:, :20] = np.nan
    image[:, -20:] = 5.0
    trace = light_trace(image, 9.5)
    assert np.isfinite(trace).all()
    np.testing.assert_allclose(trace, curve, atol=0.1)


@pytest.mark.parametrize("image", [np.full((9, 8), np.nan), np.zeros((9, 8))], ids=["unknown", "dark"])
def test_without_light_there_is_no_trace(image):
    with pytest.raises(ValueError, match="columns have light"):
        light_trace(image, 3.0)


def test_inputs_stay_as_they_are():
    image = spectrum(np.full(50, 20.0))
    copy = image.copy()
    light_trace(image, 9.5)
    np.testing.assert_array_equal(image, copy)


def field(n_slices=7, length=12, ny=5, width=0.3, pixel=0.2):
    """Return alpha and beta of slices side by side, with gaps, not in the order of the field."""
    alpha = np.full((ny, n_slices * (length + 2)), np.nan)
    beta = alpha.copy()
    for place, k in enumerate([*range(0, n_slices, 2), *range(1, n_slices, 2)]):
        columns = slice(place * (length + 2), place * (length + 2) + length)
        alpha[:, columns] = (np.arange(length) - (length - 1) / 2) * pixel
        beta[:, columns] = (k - (n_slices - 1) / 2) * width
    return alpha, beta


def test_areas_of_slices():
    alpha, beta = field()
    area = pixel_areas(alpha, beta)
    np.testing.assert_array_equal(np.isfinite(area), np.isfinite(alpha))
    np.testing.assert_allclose(area[np.isfinite(area)], 0.06, rtol=1e-9)
    with pytest.raises(ValueError, match="1 slices"):
        pixel_areas(alpha, np.where(np.isfinite(beta), 0.0, np.nan))


def test_a_source_is_found_on_slices():
    alpha, beta = field(n_slices=21, length=30, width=0.15, pixel=0.15)
    image = 3.0 + 50.0 * np.exp(-((alpha - 0.4) ** 2 + (beta + 0.3) ** 2) / (2 * 0.2**2))
    radius = np.full(alpha.shape, 0.8)
    assert light_centre(image, alpha, beta, radius) == pytest.approx((0.4, -0.3), abs=0.01)
    image[0, 3] = np.nan
    assert light_centre(image, alpha, beta, radius, (0.2, -0.1)) == pytest.approx((0.4, -0.3), abs=0.01)
    with pytest.raises(ValueError, match="no light within"):
        light_centre(np.where(np.isfinite(alpha), 3.0, np.nan), alpha, beta, radius)
    with pytest.raises(ValueError, match="no pixel is known"):
        light_centre(np.full(alpha.shape, np.nan), alpha, beta, radius)
