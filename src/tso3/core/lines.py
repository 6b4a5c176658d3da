"""
Levels of lines: what is common to the pixels of a column, of a row, or of a frame, and has nothing to do with the star.

The residuals u of an integration from its prediction are, in the unit of a level,

    u_p = m + a_l + g_l f_p + sum_k b_k x_kp + noise,

with the mean m of the levels, the deviation a_l of line l from it, N(0, t^2), what the prediction of the star's light
f lacks in line l, g_l, N(0, c^2), and terms x that all lines share: errors of the prediction, such as that of the
star's brightness, which was fitted as if there were no lines. Such a model has fixed and random effects; they are
estimated together (Henderson 1975), so that pixels under the star testify as well, and what all lines say about the
star keeps any one of them from taking its light for a level. The variance t^2 is that with which the lines scatter as
much as they should (Paule and Mandel 1982), so that noise alone is not taken for a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core._line_sums import LineSums, add_values, change_all, clip, empty_sums, planes_share, start
from tso3.core._planes import Array

__all__ = ["LineLevels", "Lines", "levels_of_sum", "line_levels", "make_lines"]

_ROUNDS = 10
_FEWEST_LINES = 8
"""With fewer lines their true scatter is not known, and no line is drawn to the mean."""
_FREE = 1e8
"""Variance between so few lines, in units of the largest variance of a level."""
_STEPS, _NEAR = 30, 1e-4
_SINGULAR = 1e-9


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
    terms : ndarray of float64, shape (n_used, n_terms)
        What all lines share, the first a constant; scaled so that the sum of squares over ``sigma`` squared is 1.
    factor : float
        Standard deviation c of what the prediction of the star's light lacks in a line.
    sums : LineSums
        Over all these pixels, without values.
    """

    line: NDArray[np.int32]
    n_lines: int
    unit: NDArray[np.float32]
    pixel: NDArray[np.int64]
    first: NDArray[np.int64]
    sigma: NDArray[np.float64]
    light: NDArray[np.float64]
    terms: NDArray[np.float64]
    factor: float
    sums: LineSums


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
    spread : float
        Standard deviation t of the lines beyond their noise; infinite where it is not known.
    """

    level: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_used: NDArray[np.int64]
    spread: float


def make_lines(
    line: NDArray[np.integer],
    unit: NDArray[np.floating],
    noise: NDArray[np.floating],
    used: NDArray[np.bool_],
    light: NDArray[np.floating] | None = None,
    factor: float = 0.0,
    terms: NDArray[np.floating] | None = None,
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
    factor : float, optional
        Standard deviation of what its prediction lacks in a line, relative to the light.
    terms : ndarray, shape (n_terms, ny, nx), optional
        Images in the unit of the stack whose coefficients are not known and the same for all lines.

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
    order = telling[np.argsort(line.ravel()[telling], kind="stable")].astype(np.int64)
    first = np.searchsorted(line.ravel()[order], np.arange(n_lines + 1)).astype(np.int64)
    of_pixels = unit.ravel()[order].astype(np.float64)
    sigma = noise.ravel()[order].astype(np.float64) / of_pixels
    clean = np.where(known, unit, 0.0).astype(np.float32)
    shine = np.zeros(order.size) if light is None else light.ravel()[order].astype(np.float64) / of_pixels
    columns = _columns(terms, order, of_pixels, sigma)
    sums = empty_sums(n_lines, columns.shape[1])
    change_all(first, sigma, columns, shine, sums)
    return Lines(line.astype(np.int32), n_lines, clean, order, first, sigma, shine, columns, float(factor), sums)


def _columns(terms: NDArray[np.floating] | None, order: Array, unit: Array, sigma: Array) -> NDArray[np.float64]:
    """Return a constant and the terms that are not zero throughout, at some pixels, in units of a level, scaled."""
    images = [] if terms is None else [image.ravel()[order].astype(np.float64) / unit for image in terms]
    found = []
    for values in (np.ones(order.size), *images):
        size = np.sqrt(((values / sigma) ** 2).sum())
        if size > 0.0:
            found.append(values / size)
    return np.ascontiguousarray(np.array(found).T) if found else np.empty((order.size, 0))


def line_levels(
    lines: Lines, residual: NDArray[np.float32], variances: tuple[NDArray[np.float32], ...] = ()
) -> LineLevels:
    """
    Return the levels of the lines of one integration.

    The model of the module is fitted with weights 1 / s^2 to the pixels within 4 s of it, from the median of each line
    on, until nothing changes. With the sums of a line w = sum 1 / s^2 and, of terms and values, B and U, each without
    what the line's own g explains, and d = t^2 / (1 + t^2 w),

        (G - sum_l d_l B_l B_l') b = h - sum_l d_l B_l U_l,      a_l = d_l (U_l - B_l' b),

    where G and h are the normal matrix and right side of the terms over all pixels, and m is the first coefficient.

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
    >>> found.level.round(6).tolist(), found.n_used.tolist(), found.variance[0].round(3).tolist()
    ([3.0, 5.0], [3, 4], [0.333, 0.25])
    """
    unit = lines.unit.ravel()
    value = residual.ravel()[lines.pixel].astype(np.float64) / unit[lines.pixel]
    kept = np.zeros(value.size, np.bool_)
    start(lines.first, lines.sigma, value, np.empty(value.size), kept)
    sums = LineSums(*(part.copy() for part in lines.sums))
    add_values(lines.first, lines.sigma, lines.terms, lines.light, value, kept, sums)
    telling = lines.sigma, lines.terms, lines.light
    spread2 = 0.0
    for _ in range(_ROUNDS):
        if not sums.n_pixels.any():
            break
        model = _reduced(sums, lines.factor)
        spread2 = _spread(model, spread2)
        found = _solve(model, spread2)
        slope = model.slope(sums, found)
        if clip(lines.first, telling, value, (found.coefficients, found.deviation, slope), kept, sums) == 0:
            break
    if not sums.n_pixels.any():
        return LineLevels(np.zeros(lines.n_lines), np.zeros((len(variances), lines.n_lines)), sums.n_pixels, np.inf)
    model = _reduced(sums, lines.factor)
    found = _solve(model, spread2)
    constant = float(lines.terms[0, 0])
    own = _noise_of_levels(model, found, constant)
    share = np.empty((len(variances), lines.n_lines))
    for plane, out in zip(variances, share, strict=True):
        planes_share(np.ascontiguousarray(plane).ravel(), unit, lines.pixel, lines.first, lines.sigma, kept, out)
    typical = share.mean(axis=1, keepdims=True, where=sums.n_pixels > 0)
    level = constant * found.coefficients[0] + found.deviation
    known = np.isfinite(found.spread2) and (sums.n_pixels > 0).sum() >= _FEWEST_LINES
    variance = np.where(sums.n_pixels > 0, share, typical) * own
    return LineLevels(level, variance, sums.n_pixels, float(np.sqrt(found.spread2)) if known else np.inf)


def levels_of_sum(
    lines: Lines, share: NDArray[np.float64], variance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return what each pixel that tells adds to a sum of levels, and the variance of every level.

    Parameters
    ----------
    lines : Lines
        Of the exposure.
    share : ndarray of float64, shape (n_lines,)
        How often each level is in the sum.
    variance : float
        Variance between lines.

    Returns
    -------
    weight : ndarray of float64, shape (n_used,)
        Derivative of the sum by the value of each pixel, if none is bad.
    noise : ndarray of float64, shape (n_lines,)
        Variance of the levels by the noise of the pixels.
    """
    sums, constant = lines.sums, float(lines.terms[0, 0])
    model = _reduced(sums, lines.factor)
    found = _solve(model, variance)
    z = -found.d[:, np.newaxis] * model.terms
    z[:, 0] += constant
    q = found.inverse @ (z * share[:, np.newaxis]).sum(axis=0)
    which = np.repeat(np.arange(lines.n_lines), np.diff(lines.first))
    own = (1.0 - (model.share * sums.f)[which] * lines.light) / lines.sigma**2
    shared = (lines.terms @ q - (model.share * (sums.f_terms @ q))[which] * lines.light) / lines.sigma**2
    weight = (found.d * (share - model.terms @ q))[which] * own + shared
    return weight, _noise_of_levels(model, found, constant)


@dataclass(frozen=True)
class _Reduced:
    """Sums of lines from which what the light in a line explains is taken out: weights, terms, values; all lines."""

    w: Array
    terms: Array
    u: Array
    matrix: Array
    right: Array
    share: Array
    """c^2 / (1 + c^2 sum f^2 / s^2) of every line."""

    def slope(self, sums: LineSums, found: _Solution) -> Array:
        """Return the factor g of every line."""
        return self.share * (sums.fu - sums.f_terms @ found.coefficients - sums.f * found.deviation)


@dataclass(frozen=True)
class _Solution:
    """Coefficients of the terms, deviation of each line, and what their errors are made of."""

    coefficients: Array
    deviation: Array
    inverse: Array
    d: Array
    spread2: float


def _reduced(sums: LineSums, factor: float) -> _Reduced:
    """Return the sums without the lines' own factors of the light."""
    share = factor**2 / (1.0 + factor**2 * sums.ff)
    k = share * sums.f
    known = sums.n_pixels > 0
    w = np.where(known, sums.one - k * sums.f, 0.0)
    terms = np.where(known[:, np.newaxis], sums.terms - k[:, np.newaxis] * sums.f_terms, 0.0)
    u = np.where(known, sums.u - k * sums.fu, 0.0)
    matrix = sums.matrix - (sums.f_terms * share[:, np.newaxis]).T @ sums.f_terms
    return _Reduced(w, terms, u, matrix, sums.right - sums.f_terms.T @ (share * sums.fu), share)


def _solve(model: _Reduced, spread2: float) -> _Solution:
    """Return coefficients and deviations for a variance between the lines."""
    known = model.w > 0.0
    if known.sum() < _FEWEST_LINES:
        spread2 = _FREE / float(model.w[known].min())
    d = spread2 / (1.0 + spread2 * model.w)
    matrix = model.matrix - (model.terms * d[:, np.newaxis]).T @ model.terms
    inverse = np.linalg.pinv(matrix, rcond=_SINGULAR, hermitian=True)
    coefficients = inverse @ (model.right - model.terms.T @ (d * model.u))
    deviation = np.where(known, d * (model.u - model.terms @ coefficients), 0.0)
    return _Solution(coefficients, deviation, inverse, d, spread2)


def _spread(model: _Reduced, spread2: float) -> float:
    """Return the variance between lines with which their scatter is what it should be, near a first guess."""
    known = model.w > 0.0
    if known.sum() < _FEWEST_LINES:
        return 0.0
    v = 1.0 / model.w[known]
    mean_terms = model.terms[known] * v[:, np.newaxis]
    mean = model.u[known] * v
    for _ in range(_STEPS):
        found = _solve(model, spread2)
        variance = spread2 + v
        rest2 = (mean - mean_terms @ found.coefficients) ** 2
        fitted = np.einsum("lj,jk,lk->l", mean_terms, found.inverse, mean_terms)
        excess = float(((rest2 + fitted) / variance).sum()) - v.size
        if excess <= 0.0 and spread2 == 0.0:
            return 0.0
        step = excess / max(float((rest2 / variance**2).sum()), 1e-300)
        new = max(spread2 + step, 0.0)
        if abs(new - spread2) <= _NEAR * (new + float(np.median(v))):
            return new
        spread2 = new
    return spread2


def _noise_of_levels(model: _Reduced, found: _Solution, constant: float) -> Array:
    """Return the variance of every level by the noise of the pixels."""
    d, w, terms, inverse = found.d, model.w, model.terms, found.inverse
    outer = model.matrix - (terms * (d * (2.0 - d * w))[:, np.newaxis]).T @ terms
    z = -d[:, np.newaxis] * terms
    z[:, 0] += constant
    own = d * d * w + 2.0 * d * (1.0 - d * w) * np.einsum("lj,jk,lk->l", z, inverse, terms)
    return np.maximum(own + np.einsum("lj,jk,lk->l", z, inverse @ outer @ inverse, z), 0.0)
