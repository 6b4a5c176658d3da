"""Traces of SOSS measured on an image: the centroid of the light in every column, and a smooth correction from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["column_centroids", "is_isolated", "smooth_shift"]

Floats = NDArray[np.float64]

_PASSES = 4
_CLIPS = 6


def is_isolated(
    trace: Floats, others: Sequence[Floats], n_rows: int, half_width: float, distance: float
) -> NDArray[np.bool_]:
    """
    Return in which columns an order lies on the detector and away from all others.

    Parameters
    ----------
    trace : ndarray, shape (n_wave,)
        Its rows; NaN where unknown.
    others : sequence of ndarray
        Those of the other orders, of any length.
    n_rows : int
        Rows of the image.
    half_width : float
        How far the light reaches from the trace [pixel].
    distance : float
        How far other traces must be away [pixel].

    Returns
    -------
    isolated : ndarray of bool, shape (n_wave,)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import is_isolated
    >>> is_isolated(np.array([20.0, 20.0]), [np.array([30.0, 90.0])], 96, 15.0, 40.0)
    array([False,  True])
    """
    isolated = np.isfinite(trace) & (trace >= half_width) & (trace <= n_rows - 1 - half_width)
    for other in others:
        n = min(other.size, trace.size)
        isolated[:n] &= ~(np.abs(other[:n] - trace[:n]) < distance)
    return isolated


def column_centroids(image: NDArray[np.floating], trace: Floats, half_width: float) -> Floats:
    """
    Return the flux-weighted centroid of the light about a trace, column by column.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        Image less background; NaN is left out with its mirror image about the centre.
    trace : ndarray, shape (n_wave,)
        First guess of the rows in columns 0, 1, ...
    half_width : float
        Half width of the window [pixel]; it follows the centroid.

    Returns
    -------
    centroid : ndarray, shape (n_wave,)
        Rows; NaN where the window leaves the image, holds no light, or runs away.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import column_centroids
    >>> image = np.zeros((41, 1))
    >>> image[16:23] = 1.0
    >>> column_centroids(image, np.array([21.0]), 8.0)
    array([19.])
    """
    n = min(trace.size, image.shape[1])
    rows = np.arange(float(image.shape[0]))[:, np.newaxis]
    light = np.asarray(image[:, :n], np.float64)
    good = np.isfinite(light)
    centre = trace[:n].copy()
    for _ in range(_PASSES):
        weight = np.clip(half_width + 0.5 - np.abs(rows - centre), 0.0, 1.0)
        weight = np.where(good & _mirrored(good, centre), weight, 0.0)
        inside = (centre >= half_width) & (centre <= image.shape[0] - 1 - half_width)
        weighted = np.where(weight > 0.0, light, 0.0) * weight
        total = weighted.sum(axis=0)
        moment = (rows * weighted).sum(axis=0)
        centre = np.where(inside & (total > 0.0), moment / np.where(total > 0.0, total, 1.0), np.nan)
        centre = np.where(np.abs(centre - trace[:n]) <= half_width, centre, np.nan)
    centroid = np.full(trace.size, np.nan)
    centroid[:n] = centre
    return centroid


def _mirrored(good: NDArray[np.bool_], centre: Floats) -> NDArray[np.bool_]:
    """Return whether the pixel as far on the other side of the centre is good."""
    rows = np.arange(good.shape[0])[:, np.newaxis]
    known = np.nan_to_num(centre)
    other = np.clip(np.rint(2.0 * known - rows).astype(np.int64), 0, good.shape[0] - 1)
    return np.asarray(np.take_along_axis(good, other, axis=0))


def smooth_shift(difference: Floats, degree: int = 2, least: int = 100) -> Floats | None:
    """
    Return a polynomial in column through noisy differences, outliers left out.

    Parameters
    ----------
    difference : ndarray, shape (n_wave,)
        Measured less expected row; NaN where not measured.
    degree : int, optional
        Of the polynomial. Beyond the measured columns its value at the outermost of them holds.
    least : int, optional
        Columns that are needed.

    Returns
    -------
    shift : ndarray, shape (n_wave,), or None
        None where too few columns agree.

    Notes
    -----
    Columns farther than three times the median absolute deviation, scaled to a normal distribution, are left out,
    up to six times over.
    """
    columns = np.arange(float(difference.size))
    used = np.isfinite(difference)
    coefficients = np.zeros(degree + 1)
    for _ in range(_CLIPS):
        if used.sum() < max(least, degree + 1):
            return None
        scaled = columns / difference.size
        fitted = np.polynomial.polynomial.polyfit(scaled[used], difference[used], degree)
        coefficients = np.asarray(fitted, np.float64)
        rest = difference - np.polynomial.polynomial.polyval(scaled, coefficients)
        rest = rest - np.median(rest[used])
        spread = 1.4826 * np.median(np.abs(rest[used]))
        kept = np.isfinite(difference) & (np.abs(rest) <= max(3.0 * spread, 1e-9))
        if np.array_equal(kept, used):
            break
        used = kept
    measured = columns[used]
    inside = np.clip(columns, measured[0], measured[-1]) / difference.size
    shift: Floats = np.polynomial.polynomial.polyval(inside, coefficients)
    return shift
