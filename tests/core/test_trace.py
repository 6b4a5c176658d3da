"""Apertures and traces: limits, fractional edges, weights that sum to the width, slits with invented transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.core.trace import (
    Limits,
    aperture_centre,
    aperture_weights,
    polynomial_limits,
    slit_position,
    slit_trace,
    width_limits,
)

SHAPE = (20, 6)


def weights(lower, upper, partial=True):
    return aperture_weights([Limits(np.asarray(lower), np.asarray(upper))], SHAPE, 0, SHAPE[1] - 1, partial)


@given(centre=st.floats(4, 15), width=st.floats(0.01, 7))
def test_weights_sum_to_the_width(centre, width):
    found = aperture_weights([width_limits(centre, width)], SHAPE, 0, SHAPE[1] - 1)
    np.testing.assert_allclose(found.sum(axis=0), width, rtol=1e-9)
    assert found.min() >= 0
    assert found.max() <= 1


@given(centre=st.floats(4, 15), width=st.floats(1, 7))
def test_weights_are_centred(centre, width):
    row, column = aperture_centre(aperture_weights([width_limits(centre, width)], SHAPE, 0, SHAPE[1] - 1))
    # a partly covered pixel counts at its centre, which moves the mean by at most 1 / (4 width)
    assert row == pytest.approx(centre, abs=0.25 / width + 1e-9)
    assert column == pytest.approx(2.5)


def test_limits_are_inclusive():
    found = weights(11.0, 15.0)
    assert found.sum(axis=0).tolist() == [5.0] * 6
    assert np.flatnonzero(found[:, 0]).tolist() == [11, 12, 13, 14, 15]


def test_fractional_limits_give_fractional_pixels():
    found = weights(1.7, 10.7)
    assert found[[1, 2, 10, 11], 0] == pytest.approx([0.3, 1.0, 1.0, 0.7])


def test_whole_pixels_only():
    assert np.flatnonzero(weights(1.7, 10.7, partial=False)[:, 0]).tolist() == list(range(2, 11))


def test_a_nan_limit_is_no_aperture():
    found = weights(np.array([2.0, np.nan, 2.0, 2.0, 2.0, 2.0]), np.array([4.0, 4.0, np.nan, 4.0, 4.0, 4.0]))
    assert found.sum(axis=0).tolist() == [3.0, 0.0, 0.0, 3.0, 3.0, 3.0]


def test_limits_outside_the_image_are_cut():
    assert weights(-5.0, 40.0).sum() == SHAPE[0] * SHAPE[1]
    assert not weights(25.0, 30.0).any()


def test_only_whole_columns_between_the_limits_along_dispersion():
    found = aperture_weights([width_limits(10.0, 3.0)], SHAPE, 0.5, 3.9)
    assert np.flatnonzero(found.any(axis=0)).tolist() == [1, 2, 3]


def test_overlapping_regions_count_once():
    regions = [width_limits(8.0, 4.0), width_limits(9.0, 4.0)]
    assert aperture_weights(regions, SHAPE, 0, 5).sum(axis=0).tolist() == [5.0] * 6


def test_polynomials_are_edges_of_pixels():
    (limits,) = polynomial_limits([[2.5], [6.5]], np.arange(6.0))
    assert np.flatnonzero(aperture_weights([limits], SHAPE, 0, 5)[:, 0]).tolist() == [3, 4, 5, 6]
    (shifted,) = polynomial_limits([[2.5], [6.5]], np.arange(6.0), offset=2.0)
    assert shifted.lower.tolist() == limits.shifted(2.0).lower.tolist()


@pytest.mark.parametrize("coefficients", [[[1.0]], [[1.0], []]])
def test_polynomials_come_in_pairs(coefficients):
    with pytest.raises(ValueError, match="pairs"):
        polynomial_limits(coefficients, np.arange(3.0))


def test_centre_of_an_empty_aperture_is_that_of_the_image():
    assert aperture_centre(np.zeros((5, 3))) == (2.0, 1.0)
    assert aperture_centre(np.zeros((5, 3)), column=2) == (2.0, 2.0)


# A slit whose image is tilted: slit (x, y, wavelength) to detector (x, y), and back.
TILT, SCALE = 0.01, 100.0


def to_detector(x, y, wavelength):
    column = SCALE * (np.asarray(wavelength) - 1.0)
    return column, 5.0 + 2.0 * np.asarray(y) + TILT * column + np.asarray(x)


def to_slit(column, row):
    return np.zeros_like(column), (row - 5.0 - TILT * column) / 2.0, 1.0 + column / SCALE


BOX = ((-0.5, 99.5), (-0.5, 11.5))


def test_a_tilted_trace_is_found():
    trace = slit_trace(to_slit, to_detector, BOX, (0.0, 0.25), 100)
    np.testing.assert_allclose(trace, 5.5 + TILT * np.arange(100), atol=1e-9)


def test_columns_outside_the_box_have_no_trace():
    box = ((19.5, 59.5), BOX[1])
    trace = slit_trace(to_slit, to_detector, box, (0.0, 0.25), 100)
    assert np.flatnonzero(np.isfinite(trace)).tolist() == list(range(20, 60))
    np.testing.assert_allclose(trace[20:60], 5.5 + TILT * np.arange(20, 60), atol=1e-9)
    counted_from_box = slit_trace(to_slit, to_detector, box, (0.0, 0.25), 100, from_box=True)
    np.testing.assert_allclose(counted_from_box[20:60], 5.5 + TILT * np.arange(40), atol=1e-9)


def test_transforms_that_give_nothing_give_no_trace():
    def nowhere(column, row):
        return column * np.nan, column * np.nan, column * np.nan

    assert np.isnan(slit_trace(nowhere, to_detector, BOX, (0.0, 0.0), 100)).all()
    assert slit_position(nowhere, to_detector, BOX, (0.0, 0.0), 1.0) is None


def test_position_in_mid_spectrum():
    position = slit_position(to_slit, to_detector, BOX, (0.0, 0.25), 1.0)
    assert position.column == 50
    assert position.wavelength == pytest.approx(1.495)
    assert position.row == pytest.approx(5.5 + TILT * 49.5)


def test_a_position_outside_the_slit_is_none():
    assert slit_position(to_slit, to_detector, BOX, (0.0, 40.0), 1.0) is None
