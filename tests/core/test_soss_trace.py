"""Orders of SOSS that lie on each other: their traces are found by fitting both."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.core.soss_trace import LightProfile, column_centroids, joint_shifts, mean_profile, smooth_shift

N_ROWS, N_COLUMNS = 120, 300
COLUMNS = np.arange(float(N_COLUMNS))


def light(offset):
    """A box of 23 pixels with soft edges and a horn."""
    return (
        1.0 / (1.0 + np.exp((np.abs(offset) - 11.0) / 0.6)) * (1.0 + 0.8 * np.exp(-0.5 * ((offset + 8.0) / 1.5) ** 2))
    )


@pytest.fixture(scope="module")
def image():
    """Order 1, a fifth as bright order 2 which comes down to 18 pixels, a background; rows of both."""
    first, second = 40.0 + 2.0 * np.sin(COLUMNS / 90.0), 58.5 + 0.12 * COLUMNS
    rows = np.arange(float(N_ROWS))[:, np.newaxis]
    frame = 100.0 * light(rows - first) + 20.0 * light(rows - second) + 3.0
    frame[31, 100], frame[64, 20] = np.nan, np.nan
    return frame, first, second


def test_both_orders_are_found_where_they_meet(image):
    frame, first, second = image
    profile = mean_profile(frame - 3.0, first, second - first > 45.0, 22.0)
    moved = [first + 0.4, second - 0.3]
    for _ in range(3):
        shift, error = joint_shifts(frame, moved, profile)
        moved = [trace + each for trace, each in zip(moved, shift, strict=True)]
    assert np.abs(moved[0] - first).max() < 0.01
    assert np.abs(moved[1] - second).max() < 0.02
    assert np.all(error < 0.1)
    centroid = column_centroids(frame - 3.0, first, 14.0)
    assert np.nanmax(np.abs(centroid - first)) > 0.3  # which is why


def test_an_order_that_is_not_there_has_no_shift(image):
    frame, first, second = image
    offset = np.arange(-22.0, 22.1, 0.25)
    profile = LightProfile(offset, light(offset) / light(offset).sum() * 4.0)
    nowhere = np.full(N_COLUMNS, np.nan)
    shift, error = joint_shifts(frame, [first, second, nowhere], profile)
    assert np.isnan(shift[2]).all()
    assert np.isnan(error[2]).all()
    assert np.isfinite(shift[:2]).all()


def test_a_profile_without_pixels_is_none():
    assert mean_profile(np.ones((9, 5)), np.full(5, 4.0), np.zeros(5, bool), 3.0) is None
    assert mean_profile(np.ones((9, 5)), np.full(5, 4.0), np.ones(5, bool), 3.0) is None  # no quarter pixels


def test_columns_are_weighed_by_their_errors():
    difference, error = np.zeros(400), np.ones(400)
    difference[::2], error[::2] = 0.8, 100.0
    assert np.abs(smooth_shift(difference, 1, error=error)).max() < 1e-3
    assert smooth_shift(difference, 1)[200] == pytest.approx(0.4, abs=0.01)
