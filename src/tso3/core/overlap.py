"""Exact overlap of a circle with the pixels of a grid, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["circle_overlap", "fill_circle"]


def circle_overlap(x: float, y: float, radius: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    """
    Return the share of every pixel that lies inside a circle.

    Parameters
    ----------
    x, y : float
        Centre of the circle [pixel, 0-based; the centre of a pixel is an integer].
    radius : float
        Radius [pixel]; ``inf`` holds every pixel, 0 none.
    shape : (int, int)
        Rows and columns of the array.

    Returns
    -------
    share : ndarray, shape ``shape``
        From 0 to 1, exact but for rounding (1e-15).

    Notes
    -----
    A pixel that the circle cuts is a polygon; the area that it shares with the circle is the sum over its edges of
    the signed areas that the circle shares with the triangle of edge and centre (Green's theorem).

    Examples
    --------
    >>> from tso3.core.overlap import circle_overlap
    >>> share = circle_overlap(2.0, 2.0, 1.5, (5, 5))
    >>> float(share[2, 2]), round(float(share.sum()), 12)  # pi 1.5^2
    (1.0, 7.068583470577)
    """
    share = np.empty(shape)
    fill_circle(x, y, radius, 0, 0, share)
    return share


@njit(cache=True, nogil=True)
def fill_circle(x: float, y: float, radius: float, low: int, left: int, share: NDArray[np.float64]) -> None:
    """Fill the shares of the pixels of a cutout whose first pixel is (``left``, ``low``)."""
    for j in range(share.shape[0]):
        for i in range(share.shape[1]):
            share[j, i] = _pixel(left + i - x, low + j - y, radius)


@njit(cache=True, nogil=True)
def _pixel(x: float, y: float, radius: float) -> float:
    """Return the area that a circle around the origin shares with the unit square around (x, y)."""
    far_x, far_y = abs(x) + 0.5, abs(y) + 0.5
    if far_x * far_x + far_y * far_y <= radius * radius:
        return 1.0
    near_x, near_y = max(abs(x) - 0.5, 0.0), max(abs(y) - 0.5, 0.0)
    if near_x * near_x + near_y * near_y >= radius * radius:
        return 0.0
    west, east, south, north = x - 0.5, x + 0.5, y - 0.5, y + 0.5
    area = (
        _triangle(west, south, east, south, radius)
        + _triangle(east, south, east, north, radius)
        + _triangle(east, north, west, north, radius)
        + _triangle(west, north, west, south, radius)
    )
    return min(max(area, 0.0), 1.0)


@njit(cache=True, nogil=True)
def _triangle(ax: float, ay: float, bx: float, by: float, radius: float) -> float:
    """Return the signed area that a circle around the origin shares with the triangle of origin, a and b."""
    dx, dy = bx - ax, by - ay
    square = dx * dx + dy * dy
    along = (ax * dx + ay * dy) / square
    outside = (ax * ax + ay * ay - radius * radius) / square
    root = along * along - outside
    if root <= 0.0:
        return _sector(ax, ay, bx, by, radius)
    root = math.sqrt(root)
    enter, leave = max(-along - root, 0.0), min(-along + root, 1.0)
    if enter >= leave:
        return _sector(ax, ay, bx, by, radius)
    px, py = ax + enter * dx, ay + enter * dy
    qx, qy = ax + leave * dx, ay + leave * dy
    area = 0.5 * (px * qy - py * qx)
    if enter > 0.0:
        area += _sector(ax, ay, px, py, radius)
    if leave < 1.0:
        area += _sector(qx, qy, bx, by, radius)
    return area


@njit(cache=True, nogil=True)
def _sector(ax: float, ay: float, bx: float, by: float, radius: float) -> float:
    """Return the signed area of the sector of a circle around the origin between the directions to a and to b."""
    return 0.5 * radius * radius * math.atan2(ax * by - ay * bx, ax * bx + ay * by)
