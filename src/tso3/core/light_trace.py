"""The trace of a spectrum as its own light shows it: centroids of the columns of an image, and a smooth curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import column_medians

__all__ = ["light_trace"]

_PASSES = 3
_CLIP = 4.0
"""Columns whose centroid is further off the curve than this many robust standard deviations are left out."""
_FAINT = 0.05
"""Columns with less than this part of the median light say nothing about the trace."""


def light_trace(image: NDArray[np.floating], half_width: float, degree: int = 2) -> NDArray[np.float64]:
    """
    Return the row of a spectrum at every column.

    The median of each column is taken off; the centroid of what is positive within ``half_width`` rows of the trace is
    the column's position, at first about the brightest row of all columns together. A polynomial through the positions,
    weighted by the light, is the next trace; positions far off it are left out.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_wave)
        One spectrum, dispersion along the last axis; NaN where unknown. Not modified.
    half_width : float
        Rows on either side of the trace that hold its light [pixel].
    degree : int, optional
        Of the polynomial.

    Returns
    -------
    trace : ndarray of float64, shape (n_wave,)
        0-based; finite everywhere.

    Raises
    ------
    ValueError
        If fewer than ``degree + 2`` columns have light.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.light_trace import light_trace
    >>> image = np.zeros((9, 6))
    >>> image[4] = image[5] = 1.0
    >>> light_trace(image, 3.0, 1).round(3)
    array([4.5, 4.5, 4.5, 4.5, 4.5, 4.5])
    """
    values = np.asarray(image, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    level = np.nan_to_num(column_medians(values))
    light = np.nan_to_num(np.clip(values - level, 0.0, None))
    rows = np.arange(float(values.shape[0]))[:, np.newaxis]
    trace = np.full(values.shape[1], float(np.argmax(light.sum(axis=1))))
    for _ in range(_PASSES):
        within = np.where(np.abs(rows - trace) <= half_width, light, 0.0)
        trace = _fitted(within, rows, degree)
    return trace


def _fitted(light: NDArray[np.float64], rows: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Return a polynomial through the centroids of columns."""
    total = light.sum(axis=0)
    bright = total > 0.0
    bright &= total >= _FAINT * (np.median(total[bright]) if bright.any() else 0.0)
    centre = (light * rows).sum(axis=0) / np.where(bright, total, 1.0)
    x = np.linspace(-1.0, 1.0, total.size)
    curve = np.zeros(total.size)
    for _ in range(_PASSES):
        if np.count_nonzero(bright) < degree + 2:
            raise ValueError(f"only {np.count_nonzero(bright)} columns have light, a trace needs {degree + 2}")
        fit = np.polynomial.Polynomial.fit(x[bright], centre[bright], degree, [-1, 1], w=np.sqrt(total[bright]))
        curve = fit(x)
        off = np.abs(centre - curve)
        sigma = 1.4826 * float(np.median(off[bright]))
        bright &= off <= max(_CLIP * sigma, 1e-9)
    return curve
