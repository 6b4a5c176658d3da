"""
A slice of sky on the detector: solid angles of pixels and the place of a source, for integral field units.

Each slice of the field of view has a constant position across the slices (beta) and runs along the other axis of the
field (alpha); on the detector the slices lie side by side, dispersed along the other direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["light_centre", "pixel_areas"]

_PASSES = 8
_SAME = 1e-6
"""Pixels whose beta differs by less than this lie in one slice [arcsec]."""


def pixel_areas(alpha: NDArray[np.floating], beta: NDArray[np.floating]) -> NDArray[np.float64]:
    """
    Return the solid angle that every pixel sees.

    Its length is half the difference of alpha between its neighbours in the same slice (at the end of a slice, the
    difference to the only one), its width the distance between slices.

    Parameters
    ----------
    alpha, beta : ndarray, shape (ny, nx)
        Position along and across the slices [arcsec], slices side by side along the last axis; NaN outside.

    Returns
    -------
    area : ndarray of float64, shape (ny, nx)
        [arcsec^2]; NaN outside, and for pixels that have no neighbour.

    Raises
    ------
    ValueError
        If there are fewer than two slices.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.slices import pixel_areas
    >>> alpha = np.array([[0.0, 0.2, 0.4, np.nan, 0.0, 0.3]])
    >>> beta = np.array([[1.0, 1.0, 1.0, np.nan, 1.5, 1.5]])
    >>> pixel_areas(alpha, beta).round(3)
    array([[0.1 , 0.1 , 0.1 ,  nan, 0.15, 0.15]])
    """
    levels = np.unique(np.round(beta[np.isfinite(beta)] / _SAME) * _SAME)
    if levels.size < 2:
        raise ValueError(f"{levels.size} slices; the width of a slice is the distance of two")
    step = np.diff(alpha, axis=1)
    step = np.where(np.abs(np.diff(beta, axis=1)) < _SAME, np.abs(step), np.nan)
    edge = np.full((alpha.shape[0], 1), np.nan)
    sides = np.stack([np.hstack([edge, step]), np.hstack([step, edge])])
    count = np.isfinite(sides).sum(axis=0)
    length = np.nansum(sides, axis=0) / np.where(count > 0, count, 1)
    return np.where(count > 0, length * float(np.median(np.diff(levels))), np.nan)


def light_centre(
    image: NDArray[np.floating],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    radius: NDArray[np.floating],
    start: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """
    Return the centroid of a source on the sky from pixels that lie anywhere on a detector.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Surface brightness; NaN where unknown. Its median is taken off.
    x, y : ndarray, shape (ny, nx)
        Place of the pixels on the sky, in any plane coordinates; NaN outside.
    radius : ndarray, shape (ny, nx)
        Radius [as x] of the circle about the source in which light counts, at each pixel's wavelength.
    start : (float, float), optional
        Where the source is thought to be; by default where the brightest circle is.

    Returns
    -------
    x, y : float
        Where it is.

    Raises
    ------
    ValueError
        If there is no light.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.slices import light_centre
    >>> y, x = np.indices((9, 9), dtype=float)
    >>> image = np.exp(-((x - 5) ** 2 + (y - 3) ** 2) / 2)
    >>> [round(v, 1) for v in light_centre(image, x, y, np.full((9, 9), 3.0))]
    [5.0, 3.0]
    """
    known = np.isfinite(image) & np.isfinite(x) & np.isfinite(y)
    if not known.any():
        raise ValueError("no pixel is known")
    light = np.clip(np.asarray(image, np.float64)[known] - np.median(image[known]), 0.0, None)
    px, py, reach = (np.asarray(values, np.float64)[known] for values in (x, y, radius))
    at = _brightest(light, px, py, float(np.median(reach))) if start is None else start
    for _ in range(_PASSES):
        near = np.hypot(px - at[0], py - at[1]) <= reach
        total = light[near].sum()
        if not total > 0.0:
            raise ValueError(f"no light within {float(np.median(reach)):.3g} of ({at[0]:.3f}, {at[1]:.3f})")
        at = float((light[near] * px[near]).sum() / total), float((light[near] * py[near]).sum() / total)
    return at


def _brightest(
    light: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], size: float
) -> tuple[float, float]:
    """Return the middle of the brightest cell of a grid, by the mean of its pixels."""
    column = np.floor((x - x.min()) / size).astype(np.int64)
    row = np.floor((y - y.min()) / size).astype(np.int64)
    cell = row * (column.max() + 1) + column
    count = np.bincount(cell)
    mean = np.bincount(cell, light) / np.where(count > 0, count, 1)
    best = int(np.argmax(np.where(count >= 0.2 * count.max(), mean, 0.0)))
    width = int(column.max()) + 1
    return float(x.min() + (best % width + 0.5) * size), float(y.min() + (best // width + 0.5) * size)
