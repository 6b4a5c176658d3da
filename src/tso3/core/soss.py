"""
Where the spectral orders of SOSS lie: traces turned with the pupil wheel, wavelengths along them, weights of a box.

The grism of SOSS sits in a wheel that does not come to rest at exactly the same angle: a trace known at the commanded
angle is rotated about a pivot by the difference, and its wavelengths are a polynomial in column and difference (Baines
et al. 2023, JWST-STScI-008571). Rows are y, columns x, 0-based, integers are centres of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SossTrace", "box_weights", "rotated_trace", "sample_by_column", "wavelength_polynomial"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SossTrace:
    """
    One spectral order on the detector.

    Attributes
    ----------
    order : int
        Spectral order.
    trace : ndarray of float64, shape (n_wave,)
        Row of the middle of the light in columns 0, 1, ...; NaN where unknown.
    wavelength : ndarray of float64, shape (n_wave,)
        Micron; NaN where unknown.
    """

    order: int
    trace: Floats
    wavelength: Floats

    @property
    def n_wave(self) -> int:
        """Columns that the order reaches, from 0."""
        return int(self.trace.size)


def rotated_trace(x: Floats, y: Floats, angle: float, pivot: tuple[float, float], highest: float = 255.0) -> Floats:
    """
    Return a trace turned about a pivot, at the same columns.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Columns, increasing, and rows of the trace.
    angle : float
        Degrees, from x to y.
    pivot : (float, float)
        (x, y) that stays where it is.
    highest : float, optional
        Row beyond which the trace has left the subarray.

    Returns
    -------
    trace : ndarray, shape (n,)
        Rows at ``x``; NaN beyond ``highest``. Linear between the turned points and beyond the outermost two.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss import rotated_trace
    >>> rotated_trace(np.array([0.0, 100.0, 200.0]), np.zeros(3), 0.0572957795, (100.0, 0.0)).round(3)
    array([-0.1,  0. ,  0.1])
    """
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    dx, dy = x - pivot[0], y - pivot[1]
    turned_x = cosine * dx - sine * dy + pivot[0]
    turned_y = sine * dx + cosine * dy + pivot[1]
    rows = _linear(x, turned_x, turned_y)
    return np.where(rows <= highest, rows, np.nan)


def _linear(at: Floats, x: Floats, y: Floats) -> Floats:
    """Interpolate linearly, beyond the ends by the outermost two points; ``x`` may be in any order."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    right = np.clip(np.searchsorted(x, at), 1, x.size - 1)
    left = right - 1
    slope = (y[right] - y[left]) / (x[right] - x[left])
    return np.asarray(slope * (at - x[left]) + y[left])


def wavelength_polynomial(coefficients: Floats, column: Floats, offset: Floats | float) -> Floats:
    """
    Return a polynomial in two variables whose terms are ordered by degree, then by power of the second.

    Parameters
    ----------
    coefficients : ndarray, shape (n_terms,)
        Those of 1, x, y, x^2, x y, y^2, x^3, ...: constant term first.
    column, offset : ndarray or float
        The variables, scaled to between 0 and 1 as the reference says.

    Returns
    -------
    value : ndarray
        Of the shape of ``column``.

    Raises
    ------
    ValueError
        If the number of coefficients is not that of a whole degree.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss import wavelength_polynomial
    >>> wavelength_polynomial(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5]), 0.1)
    array([1.3, 2.3])
    """
    degree = int(np.sqrt(2 * len(coefficients))) - 1
    if (degree + 1) * (degree + 2) // 2 != len(coefficients):
        raise ValueError(f"{len(coefficients)} coefficients are not those of a polynomial of a whole degree")
    total = np.zeros(np.shape(column))
    index = 0
    for power in range(degree + 1):
        for second in range(power + 1):
            total = total + coefficients[index] * column ** (power - second) * np.asarray(offset) ** second
            index += 1
    return np.asarray(total)


def sample_by_column(x: Floats, y: Floats, wavelength: Floats, grid: Floats, n_wave: int) -> tuple[Floats, Floats]:
    """
    Return trace and wavelength in every column from points of a trace.

    Parameters
    ----------
    x, y, wavelength : ndarray, shape (n,)
        Points of the trace, in any order.
    grid : ndarray, shape (n_grid,)
        Wavelengths at which the trace is first tabulated, linearly, beyond its ends by its outermost two points.
    n_wave : int
        Columns, from 0.

    Returns
    -------
    trace, wavelength : ndarray, shape (n_wave,)
        By cubic splines through the table, as the archive has it.

    Raises
    ------
    ValueError
        If columns do not rise or fall throughout with wavelength.
    """
    from scipy.interpolate import CubicSpline

    order = np.argsort(wavelength, kind="stable")
    known = wavelength[order]
    columns, rows = (_tabulate(grid, known, values[order]) for values in (x, y))
    rising = slice(None) if columns[0] < columns[1] else slice(None, None, -1)
    at = np.arange(float(n_wave))
    trace = CubicSpline(columns[rising], rows[rising])(at)
    return np.asarray(trace), np.asarray(CubicSpline(columns[rising], grid[rising])(at))


def _tabulate(grid: Floats, known: Floats, values: Floats) -> Floats:
    """Interpolate linearly in increasing ``known``, beyond its ends by the outermost two points."""
    inside = np.interp(grid, known, values)
    first = (values[1] - values[0]) / (known[1] - known[0])
    last = (values[-1] - values[-2]) / (known[-1] - known[-2])
    inside = np.where(grid < known[0], values[0] + (grid - known[0]) * first, inside)
    return np.where(grid > known[-1], values[-1] + (grid - known[-1]) * last, inside)


def box_weights(trace: Floats, width: float, shape: tuple[int, int]) -> Floats:
    """
    Return the share of every pixel that lies within a box about a trace.

    Parameters
    ----------
    trace : ndarray, shape (n_wave,)
        Row of the middle of the box in columns 0, 1, ...; NaN where there is none.
    width : float
        Full width [pixel].
    shape : (int, int)
        Rows and columns of the image.

    Returns
    -------
    weights : ndarray of float64, shape ``shape``
        Between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss import box_weights
    >>> box_weights(np.array([1.25]), 2.0, (4, 1)).ravel()
    array([0.25, 1.  , 0.75, 0.  ])
    """
    weights = np.zeros(shape)
    rows = np.arange(float(shape[0]))[:, np.newaxis]
    n = min(trace.size, shape[1])
    upper = np.minimum(rows + 0.5, trace[:n] + width / 2)
    lower = np.maximum(rows - 0.5, trace[:n] - width / 2)
    weights[:, :n] = np.nan_to_num(np.clip(upper - lower, 0.0, 1.0))
    return weights
