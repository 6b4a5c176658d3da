"""Traces, boxes and image repairs of SOSS: analytic answers, and the light of a real frame."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tso3.core.soss import box_weights, rotated_trace, sample_by_column, wavelength_polynomial
from tso3.core.soss_fill import clipped_background, fill_in_time
from tso3.core.soss_trace import column_centroids, is_isolated, smooth_shift

REAL = (
    Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared")
    / "data/soss/jw01512001001_03102_00001_nis_demo_pwcpos_245.778671.npy"
)


def test_rotation_is_undone_by_its_opposite():
    x = np.arange(2048.0)
    y = 60.0 - 0.02 * x + 1.5e-5 * x**2
    there = rotated_trace(x, y, 0.2, (1887.0, 54.0))
    back = rotated_trace(x, there, -0.2, (1887.0, 54.0))
    inner = slice(10, -10)
    assert np.abs(back - y)[inner].max() < 1e-4
    assert there[0] - y[0] == pytest.approx(-1887 * np.sin(np.radians(0.2)), abs=0.01)


def test_a_trace_that_leaves_the_subarray_ends():
    x = np.arange(100.0)
    rows = rotated_trace(x, 200.0 + x, 0.0, (0.0, 0.0))
    assert np.isnan(rows[56:]).all()
    assert np.array_equal(rows[:56], 200.0 + x[:56])


def test_wavelength_polynomial_is_the_sum_of_its_terms():
    rng = np.random.default_rng(1)
    for degree in (1, 3, 5):
        c = rng.normal(size=(degree + 1) * (degree + 2) // 2)
        x, offset = rng.uniform(size=7), 0.3
        terms = [(total - second, second) for total in range(degree + 1) for second in range(total + 1)]
        expected = sum(a * x**i * offset**j for a, (i, j) in zip(c, terms, strict=True))
        assert np.allclose(wavelength_polynomial(c, x, offset), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="whole degree"):
        wavelength_polynomial(np.ones(5), x, offset)


def test_columns_are_sampled_from_points_in_any_order():
    x = np.arange(0.0, 300.0, 3.0)
    y, wavelength = 40.0 + 0.1 * x, 2.8 - 0.004 * x
    trace, along = sample_by_column(x[::-1], y[::-1], wavelength[::-1], np.linspace(0.5, 5.5, 5001), 200)
    assert np.allclose(trace, 40.0 + 0.1 * np.arange(200), atol=1e-9)
    assert np.allclose(along, 2.8 - 0.004 * np.arange(200), atol=1e-12)


@pytest.mark.parametrize("width", [1.0, 22.3, 40.0])
def test_weights_add_up_to_the_width(width):
    trace = np.array([30.0, 41.26, np.nan, 2.0])
    weights = box_weights(trace, width, (96, 6))
    total = weights.sum(axis=0)
    assert np.allclose(total[:2], width)
    assert (total[[2, 4, 5]] == 0.0).all()
    assert total[3] == pytest.approx(min(width, 2.5 + width / 2), abs=1e-12)  # part of the box is off the image
    assert weights.min() >= 0.0
    assert weights.max() <= 1.0


def test_missing_samples_are_filled_as_the_archive_fills_them():
    rng = np.random.default_rng(2)
    for n_int in (4, 9, 14):
        data = rng.normal(10, 1, (n_int, 3, 5)).astype(np.float32)
        err = rng.uniform(0.5, 1.5, data.shape).astype(np.float32)
        missing = rng.random(data.shape) < 0.15
        missing[:, 1, 2] = True
        data[missing] = err[missing] = np.nan
        filled = fill_in_time(data, err)
        level = np.array(
            [
                [np.median(p[np.isfinite(p)]) if np.isfinite(p).any() else 0 for p in row]
                for row in np.moveaxis(data, 0, -1)
            ]
        )
        whole = np.where(missing, level.astype(np.float32), data)
        smooth = median_filter(whole, size=(min(n_int, 9), 1, 1))
        there = np.zeros(data.shape, bool)
        there[filled.integration, filled.pixel // 5, filled.pixel % 5] = True
        expected = missing.copy()
        expected[:, 1, 2] = False
        assert np.array_equal(there, expected)
        assert filled.never.sum() == 1
        assert filled.never[1, 2]
        assert np.array_equal(filled.value, smooth[filled.integration, filled.pixel // 5, filled.pixel % 5])
        middle = np.nanmedian(np.where(there.any(axis=0), err, 0), axis=0)
        assert np.allclose(filled.error, 10 * middle[filled.pixel // 5, filled.pixel % 5], rtol=1e-6)


def test_the_clipped_background_leaves_light_and_outliers_out():
    rng = np.random.default_rng(3)
    image = rng.normal(2.0, 0.1, (256, 40)).astype(np.float32)
    image[20:100] += 500.0
    image[200, ::3] = 3.5
    image[150, 5] = np.nan
    masked = np.zeros(image.shape, bool)
    masked[252:] = True
    level = clipped_background(image, masked)
    assert np.abs(level - 2.0).max() < 0.05
    with pytest.raises(ValueError, match="96 or 256"):
        clipped_background(image[:100], masked[:100])
    masked[:, 7] = True
    assert clipped_background(image, masked)[7] == 0.0


def test_centroids_follow_the_light_past_bad_pixels():
    rows = np.arange(96.0)[:, np.newaxis]
    true = 40.0 + 0.01 * np.arange(200)
    image = np.clip(11.5 - np.abs(rows - true), 0.0, 1.0)
    image[45, 50] = np.nan
    found = column_centroids(image, true - 1.3, 14.0)
    assert np.abs(found - true).max() < 0.02
    assert np.isnan(column_centroids(np.zeros((96, 3)), np.full(3, 40.0), 14.0)).all()


def test_a_shift_needs_enough_columns_that_agree():
    rng = np.random.default_rng(4)
    difference = 0.5 + 0.3 * np.arange(400) / 400 + rng.normal(0, 0.02, 400)
    difference[::17] = 9.0
    shift = smooth_shift(difference, 1)
    assert np.abs(shift - 0.5 - 0.3 * np.arange(400) / 400).max() < 0.02
    assert smooth_shift(np.full(400, np.nan)) is None


@pytest.mark.skipif(not REAL.is_file(), reason="needs the real SOSS frame in the folder that TSO3_SHARED names")
def test_built_in_traces_lie_on_the_light_of_a_real_frame(record_property):
    from tso3.io.soss_defaults import built_in_traces

    image = np.load(REAL).astype(np.float64)
    image[252:], image[:, :4], image[:, 2044:] = np.nan, np.nan, np.nan
    reference = built_in_traces()
    offset = 245.778671 - reference.commanded
    traces = {k: rotated_trace(m.x, m.y, offset, m.pivot)[: m.cutoff] for k, m in reference.orders.items()}
    rows = np.arange(256.0)[:, np.newaxis]
    away = np.ones(image.shape, bool)
    for trace in traces.values():
        away[:, : trace.size] &= ~(np.abs(rows - trace) <= 30)
    lit = np.where(away, image, np.nan)[:, 4:2044]
    image[:, 4:2044] -= np.nanmedian(lit, axis=0)
    bounds = {1: (0.6, 0.5), 2: (0.5, 0.6), 3: (1.2, 1.2)}
    for order, trace in traces.items():
        others = [other for k, other in traces.items() if k != order]
        alone = is_isolated(trace, others, 252, 16.0, 34.0)
        difference = (column_centroids(image, trace, 14.0) - trace)[alone]
        difference = difference[np.isfinite(difference)]
        median, rms = float(np.median(difference)), float(np.std(difference))
        record_property(f"order {order}", f"{difference.size} columns, median {median:.2f}, rms {rms:.2f} pixel")
        print(f"order {order}: {difference.size} columns, median {median:+.2f}, rms {rms:.2f} pixel")
        assert difference.size > 900
        assert abs(median) < bounds[order][0]
        assert rms < bounds[order][1]
