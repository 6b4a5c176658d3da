"""Overlap of quadrilaterals with the pixels of a grid, exactly: the compiled half of `tso3.core.rectify`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating]

__all__ = ["fill_overlaps", "in_diagonals", "quadrilateral_areas", "unit_overlap"]

_LEAST = 1e-7
"""Areas below [output pixel] are rounding."""


@njit(cache=True, nogil=True)
def _under(x0: float, y0: float, x1: float, y1: float) -> float:
    """Return the area between an edge and the x axis inside the unit square; negative if it runs to the left."""
    if x0 == x1:
        return 0.0
    sign = 1.0
    if x0 > x1:
        x0, y0, x1, y1, sign = x1, y1, x0, y0, -1.0
    if x1 <= 0.0 or x0 >= 1.0:
        return 0.0
    slope = (y1 - y0) / (x1 - x0)
    if x0 < 0.0:
        y0 -= slope * x0
        x0 = 0.0
    if x1 > 1.0:
        y1 = y0 + slope * (1.0 - x0)
        x1 = 1.0
    low, high = (y0, y1) if y0 < y1 else (y1, y0)
    width = x1 - x0
    if high <= 0.0:
        return 0.0
    if low >= 1.0:
        return sign * width
    if low >= 0.0 and high <= 1.0:
        return sign * width * 0.5 * (low + high)
    per_height = width / (high - low)
    a, b = max(low, 0.0), min(high, 1.0)
    return sign * per_height * (0.5 * (a + b) * (b - a) + max(high - 1.0, 0.0))


@njit(cache=True, nogil=True)
def unit_overlap(x: Floats, y: Floats, column: float, row: float) -> float:
    """
    Return the area that a quadrilateral shares with one pixel of the grid.

    Parameters
    ----------
    x, y : ndarray of float64, shape (4,)
        Its corners in order, either way round; an integer is the centre of a pixel.
    column, row : float
        The pixel.

    Returns
    -------
    area : float
        Between 0 and 1.

    Notes
    -----
    For each edge the area under it, clamped to the pixel, counts with the sign of its direction: what remains of a
    simple polygon is its section with the pixel. No vertices of the section are needed.
    """
    left, low = column - 0.5, row - 0.5
    total = 0.0
    for k in range(4):
        m = (k + 1) % 4
        total += _under(x[k] - left, y[k] - low, x[m] - left, y[m] - low)
    return abs(total)


@njit(cache=True, nogil=True)
def quadrilateral_areas(x: Floats, y: Floats) -> NDArray[np.float64]:
    """
    Return the area of every input pixel.

    Parameters
    ----------
    x, y : ndarray of float64, shape (ny + 1, nx + 1)
        Its corners.

    Returns
    -------
    area : ndarray of float64, shape (ny, nx)
        In the unit of x times that of y; NaN where a corner is.
    """
    ny, nx = x.shape[0] - 1, x.shape[1] - 1
    area = np.empty((ny, nx))
    for r in range(ny):
        for c in range(nx):
            first = (x[r + 1, c + 1] - x[r, c]) * (y[r + 1, c] - y[r, c + 1])
            second = (x[r + 1, c] - x[r, c + 1]) * (y[r + 1, c + 1] - y[r, c])
            area[r, c] = 0.5 * abs(first - second)
    return area


@njit(cache=True, nogil=True)
def fill_overlaps(
    corners: tuple[Floats, Floats],
    usable: NDArray[np.bool_],
    shape: tuple[int, int],
    count: NDArray[np.int32],
    index: NDArray[np.int32],
    weight: NDArray[np.float32],
) -> None:
    """
    Find the overlaps of all input pixels with the grid.

    Parameters
    ----------
    corners : (ndarray, ndarray) of float64, shape (ny + 1, nx + 1)
        Columns and rows of the grid at the corners of the input pixels; pixels with a NaN are passed over.
    usable : ndarray of bool, shape (ny, nx)
        Input pixels that take part.
    shape : (int, int)
        Rows and columns of the grid.
    count : ndarray of int32, shape (n_rows, n_columns)
        Overlaps of every output pixel; zeros on entry, filled.
    index : ndarray of int32, shape (n_rows, n_layers, n_columns)
        Input pixel (row times nx plus column) of each overlap; filled, those beyond ``n_layers`` are only counted.
    weight : ndarray of float32, shape (n_rows, n_layers, n_columns)
        Area of each; filled.
    """
    x, y = corners
    nx = x.shape[1] - 1
    px, py = np.empty(4), np.empty(4)
    for r in range(x.shape[0] - 1):
        for c in range(nx):
            if not usable[r, c]:
                continue
            px[0], px[1], px[2], px[3] = x[r, c], x[r, c + 1], x[r + 1, c + 1], x[r + 1, c]
            py[0], py[1], py[2], py[3] = y[r, c], y[r, c + 1], y[r + 1, c + 1], y[r + 1, c]
            low_x, high_x, low_y, high_y = px.min(), px.max(), py.min(), py.max()
            if not (high_x > -0.5 and low_x < shape[1] - 0.5 and high_y > -0.5 and low_y < shape[0] - 0.5):
                continue
            c0, c1 = max(0, int(np.floor(low_x + 0.5))), min(shape[1] - 1, int(np.floor(high_x + 0.5)))
            r0, r1 = max(0, int(np.floor(low_y + 0.5))), min(shape[0] - 1, int(np.floor(high_y + 0.5)))
            for row in range(r0, r1 + 1):
                for column in range(c0, c1 + 1):
                    area = unit_overlap(px, py, float(column), float(row))
                    if area > _LEAST:
                        layer = count[row, column]
                        if layer < index.shape[1]:
                            index[row, layer, column] = r * nx + c
                            weight[row, layer, column] = area
                        count[row, column] += 1


@njit(cache=True, nogil=True)
def in_diagonals(index: NDArray[np.int32], weight: NDArray[np.float32], n_pixels: int, step: int) -> None:
    """
    Put the overlaps of a row in an order in which neighbouring columns read neighbouring input pixels.

    Parameters
    ----------
    index : ndarray of int32, shape (n_layers, n_columns)
        Input pixel of each overlap; changed. Where a column has fewer overlaps than layers, the pixel next to that of
        the column before it.
    weight : ndarray of float32, shape (n_layers, n_columns)
        Its area, 0 where there is none; changed.
    n_pixels : int
        Pixels of the input.
    step : int
        1 if columns to the right read pixels to the right, -1 if to the left.
    """
    n_layers, n_columns = index.shape
    last = np.full(n_layers, -3, np.int64)
    pixel, area, taken = np.empty(n_layers, np.int64), np.empty(n_layers, np.float32), np.empty(n_layers, np.bool_)
    for j in range(n_columns):
        n = 0
        for k in range(n_layers):
            if weight[k, j] > 0.0:
                pixel[n], area[n] = index[k, j], weight[k, j]
                n += 1
        taken[:] = False
        for k in range(n_layers):
            index[k, j], weight[k, j] = min(max(last[k] + step, 0), n_pixels - 1), 0.0
        rest = 0
        for m in range(n):
            found = -1
            for k in range(n_layers):
                if not taken[k] and last[k] + step == pixel[m]:
                    found = k
                    break
            if found >= 0:
                taken[found] = True
                index[found, j], weight[found, j] = pixel[m], area[m]
            else:
                pixel[rest], area[rest] = pixel[m], area[m]
                rest += 1
        for m in range(rest):
            k = 0
            while taken[k]:
                k += 1
            taken[k] = True
            index[k, j], weight[k, j] = pixel[m], area[m]
        for k in range(n_layers):
            last[k] = index[k, j]
