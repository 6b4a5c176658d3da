"""
Levels of lines: what is common to the pixels of a column, of a row, or of a frame, and has nothing to do with the star.

The residuals of an integration from its prediction are averaged line by line over the pixels that hold little light,
each with the weight of its noise, without outliers. A line whose pixels say little is drawn towards the mean of all
lines, by how much the lines really differ: the estimate is that of Efron and Morris (1973), with the variance between
lines by DerSimonian and Laird (1986, Eq. 9), so that noise alone is not taken for a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Array

__all__ = ["LineLevels", "Lines", "line_levels", "make_lines"]

_CLIP = 4.0
_ROUNDS = 10
_FEWEST_LINES = 8
"""With fewer lines their true scatter is not known, and no line is drawn to the mean."""


@dataclass(frozen=True)
class Lines:
    """
    Which pixels tell the level of which line.

    Attributes
    ----------
    line : ndarray of int32, shape (ny, nx)
        Number of each pixel's line.
    n_lines : int
        How many there are.
    unit : ndarray of float32, shape (ny, nx)
        What a level of 1 adds to a pixel; 0 where a pixel has no unit.
    pixel : ndarray of int64, shape (n_used,)
        Flat indices of the pixels that tell, line by line.
    first : ndarray of int64, shape (n_lines + 1,)
        Where each line's begin in ``pixel``.
    sigma : ndarray of float64, shape (n_used,)
        Their noise in the unit of a level.
    light : ndarray of float64, shape (n_used,)
        The star's light on them, in the unit of a level: what is in proportion to it is no level.
    """

    line: NDArray[np.int32]
    n_lines: int
    unit: NDArray[np.float32]
    pixel: NDArray[np.int64]
    first: NDArray[np.int64]
    sigma: NDArray[np.float64]
    light: NDArray[np.float64]


@dataclass(frozen=True)
class LineLevels:
    """
    Levels of the lines of one integration.

    Attributes
    ----------
    level : ndarray of float64, shape (n_lines,)
        In the unit of a level; 0 where no pixel of any line is known.
    variance : ndarray of float64, shape (n_variances, n_lines)
        Of the level, for each variance plane that was given.
    n_used : ndarray of int64, shape (n_lines,)
        Pixels that told it.
    """

    level: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_used: NDArray[np.int64]


def make_lines(
    line: NDArray[np.integer],
    unit: NDArray[np.floating],
    noise: NDArray[np.floating],
    used: NDArray[np.bool_],
    light: NDArray[np.floating] | None = None,
) -> Lines:
    """
    Return which pixels tell the level of which line.

    Parameters
    ----------
    line : ndarray of int, shape (ny, nx)
        Number of each pixel's line, from 0.
    unit : ndarray, shape (ny, nx)
        What a level of 1 adds to a pixel; where it is not positive and finite, a pixel neither tells nor is changed.
    noise : ndarray, shape (ny, nx)
        Noise of a pixel in the unit of the stack; NaN where unknown: such a pixel does not tell.
    used : ndarray of bool, shape (ny, nx)
        False where the star is.
    light : ndarray, shape (ny, nx), optional
        The star's light in the unit of the stack; by default none.

    Returns
    -------
    lines : Lines

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.lines import make_lines
    >>> ones = np.ones((2, 2))
    >>> make_lines(np.array([[0, 1], [0, 1]]), ones, ones, np.array([[True, True], [False, True]])).pixel.tolist()
    [0, 1, 3]
    """
    with np.errstate(invalid="ignore"):
        known = np.isfinite(unit) & (unit > 0.0)
        telling = np.flatnonzero(used & known & (noise > 0.0) & np.isfinite(noise))
    n_lines = int(line.max()) + 1
    order = telling[np.argsort(line.ravel()[telling], kind="stable")]
    first = np.searchsorted(line.ravel()[order], np.arange(n_lines + 1))
    sigma = noise.ravel()[order].astype(np.float64) / unit.ravel()[order]
    clean = np.where(known, unit, 0.0).astype(np.float32)
    shine = np.zeros(order.size) if light is None else light.ravel()[order].astype(np.float64) / unit.ravel()[order]
    order = order.astype(np.int64)
    return Lines(line.astype(np.int32), n_lines, clean, order, first.astype(np.int64), sigma, shine)


def line_levels(
    lines: Lines, residual: NDArray[np.float32], variances: tuple[NDArray[np.float32], ...] = ()
) -> LineLevels:
    """
    Return the levels of the lines of one integration.

    With the residual u of a pixel in the unit of a level, its noise s and the star's light f on it, level and g of a
    line are fitted to u = level + g f with weights 1 / s^2 over the pixels within 4 s, from the median on, until
    nothing changes; g is what the prediction of the star lacks, 0 +- 1, and is not used. Then
    L = m + t^2 / (t^2 + v) (level - m), with the variance v of the level by the noise, the mean m of the lines with
    weights 1 / v, and the variance t^2 by which the lines differ beyond v.

    Parameters
    ----------
    lines : Lines
        Of the exposure.
    residual : ndarray of float32, shape (ny, nx)
        The integration less what is known of it; NaN is left out. Not modified.
    variances : tuple of ndarray of float32, shape (ny, nx)
        Variance planes to be propagated to the levels.

    Returns
    -------
    levels : LineLevels

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.lines import line_levels, make_lines
    >>> ones = np.ones((4, 2))
    >>> lines = make_lines(np.broadcast_to([0, 1], (4, 2)), ones, ones, ones > 0)
    >>> residual = np.array([[3, 5], [3, 5], [900, 5], [3, 5]], np.float32)
    >>> found = line_levels(lines, residual, (np.ones((4, 2), np.float32),))
    >>> found.level.tolist(), found.n_used.tolist(), found.variance[0].round(3).tolist()
    ([3.0, 5.0], [3, 4], [0.333, 0.25])
    """
    level, precision = np.full(lines.n_lines, np.nan), np.zeros(lines.n_lines)
    n_used = np.zeros(lines.n_lines, np.int64)
    variance = np.zeros((len(variances), lines.n_lines))
    widest = int(np.diff(lines.first).max()) if lines.n_lines else 0
    kept = np.zeros(lines.pixel.size, np.bool_)
    flat = np.ascontiguousarray(residual).ravel()
    unit = lines.unit.ravel()
    telling = lines.pixel, lines.first, lines.sigma, lines.light
    _levels(flat, unit, telling, np.empty(widest), kept, (level, precision, n_used))
    for plane, out in zip(variances, variance, strict=True):
        _propagate(np.ascontiguousarray(plane).ravel(), unit, telling, kept, out)
    _draw_together(level, precision, variance)
    return LineLevels(level, variance, n_used)


def _draw_together(level: Array, precision: Array, variance: Array) -> None:
    """Draw levels to their mean, in place, by how much more they scatter than their noise."""
    known = precision > 0.0
    if not known.any():
        level[:] = 0.0
        return
    weight = precision[known]
    total = weight.sum()
    mean = float((weight * level[known]).sum() / total)
    if known.sum() < _FEWEST_LINES:
        level[~known] = mean
        return
    excess = float((weight * (level[known] - mean) ** 2).sum()) - (weight.size - 1.0)
    spread = max(excess / (total - float((weight**2).sum()) / total), 0.0)
    share = spread * weight / (spread * weight + 1.0)
    level[known] = mean + share * (level[known] - mean)
    variance[:, known] *= share**2
    level[~known] = mean


@njit(cache=True, nogil=True)
def _levels(
    residual: Array,
    unit: Array,
    telling: tuple[Array, Array, Array, Array],
    values: Array,
    kept: Array,
    out: tuple[Array, Array, Array],
) -> None:
    """Fill level, precision and number of pixels of every line, and which pixels are kept."""
    pixel, first, sigma, light = telling
    level, precision, n_used = out
    for line in range(level.size):
        a, b = first[line], first[line + 1]
        n = 0
        for k in range(a, b):
            kept[k] = np.isfinite(residual[pixel[k]])
            if kept[k]:
                values[n] = residual[pixel[k]] / unit[pixel[k]]
                n += 1
        if n == 0:
            continue
        middle, slope = np.median(values[:n]), 0.0
        for _ in range(_ROUNDS):
            s_1, s_f, s_ff, s_u, s_fu = 0.0, 0.0, 1.0, 0.0, 0.0
            count, changed = 0, False
            for k in range(a, b):
                value = np.float64(residual[pixel[k]]) / unit[pixel[k]]
                good = np.isfinite(value) and abs(value - middle - slope * light[k]) <= _CLIP * sigma[k]
                changed = changed or good != kept[k]
                kept[k] = good
                if good:
                    w = 1.0 / (sigma[k] * sigma[k])
                    s_1 += w
                    s_f += w * light[k]
                    s_ff += w * light[k] * light[k]
                    s_u += w * value
                    s_fu += w * light[k] * value
                    count += 1
            if count == 0:
                break
            determinant = s_1 * s_ff - s_f * s_f
            middle = (s_ff * s_u - s_f * s_fu) / determinant
            slope = (s_1 * s_fu - s_f * s_u) / determinant
            level[line], precision[line], n_used[line] = middle, determinant / s_ff, count
            if not changed:
                break


@njit(cache=True, nogil=True)
def _propagate(
    variance: Array, unit: Array, telling: tuple[Array, Array, Array, Array], kept: Array, out: Array
) -> None:
    """Fill the variance of every line's level."""
    pixel, first, sigma, light = telling
    for line in range(out.size):
        s_1, s_f, s_ff, total = 0.0, 0.0, 1.0, 0.0
        for k in range(first[line], first[line + 1]):
            if kept[k]:
                w = 1.0 / (sigma[k] * sigma[k])
                s_1 += w
                s_f += w * light[k]
                s_ff += w * light[k] * light[k]
        for k in range(first[line], first[line + 1]):
            v = variance[pixel[k]]
            if kept[k] and np.isfinite(v):
                u = unit[pixel[k]]
                share = (s_ff - s_f * light[k]) / (sigma[k] * sigma[k])
                total += share * share * v / (u * u)
        if s_1 > 0.0:
            out[line] = total / (s_1 * s_ff - s_f * s_f) ** 2
