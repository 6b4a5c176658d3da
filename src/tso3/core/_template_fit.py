"""
Compiled pieces of `template`: the fit of terms to integrations, and their subtraction.

Rows are copied by loops: numba compiles assignments of slices ten times as long. Sums over terms take four terms in one
sweep, in the order of the terms, so that an element is loaded and stored once for four.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tso3.core._bins import N_BINS, median_of_positive
from tso3.core._lanes import copy_row, inner
from tso3.core._planes import Array, Plane

__all__ = ["N_LEVELS", "Work", "fit_all", "make_work", "spread_noise", "subtract_all"]

N_LEVELS = 6
"""Classes of pixels, by signal over noise, whose scatter is watched in every integration."""

_CLIP = np.float32(5.0)
_ROUNDS = 8
_TINY_PIVOT = 1e-9
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_NAN, _INF = np.float32(np.nan), np.float32(np.inf)
_REORDERED: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "fastmath": {"reassoc", "contract"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""For sums that the compiler may take in another order, so that it can vectorise them; NaN stays NaN."""
_STRETCH = 1024
"""Pixels that are worked on at a time: of all terms they stay in the cache."""
_TO_SIGMA = np.float32(1.4826)
"""Standard deviation over median absolute deviation, of a normal distribution."""


class Work(NamedTuple):
    """
    Work space of the fit of one integration.

    Attributes
    ----------
    whole, y, r, some : ndarray of float32, shape (n_pixels,)
        Samples in units of the noise, 0 where bad; the same, 0 where left out; residuals; values for a median.
    bits : ndarray of uint32, shape (n_pixels,)
        The memory of ``some``, as integers.
    bad, gone : ndarray of bool, shape (n_pixels,)
        Bad pixels; pixels that are left out.
    matrix, low : ndarray of float64, shape (n_terms, n_terms)
        Normal matrix without those (lower triangle), and its triangular factor.
    right, solution, error, half : ndarray of float64, shape (n_terms,)
        Right side, coefficients, their errors; scratch.
    single : ndarray of float32, shape (n_terms,)
        The coefficients in single precision.
    used : ndarray of bool, shape (n_terms,)
        Terms with a pivot of their own.
    tally : ndarray of int32, shape (N_BINS,)
        Counts in bins.
    """

    whole: Array
    y: Array
    r: Array
    some: Array
    bits: Array
    bad: Array
    gone: Array
    matrix: Array
    low: Array
    right: Array
    solution: Array
    error: Array
    half: Array
    single: Array
    used: Array
    tally: Array


def make_work(n_terms: int, n_pixels: int) -> Work:
    """Return work space for so many terms and pixels."""
    whole, y, r, some = (np.zeros(n_pixels, np.float32) for _ in range(4))
    bad, gone = np.zeros((2, n_pixels), np.bool_)
    matrix, low = np.zeros((2, n_terms, n_terms))
    right, solution, error, half = np.zeros((4, n_terms))
    return Work(
        *(whole, y, r, some, some.view(np.uint32), bad, gone, matrix, low, right, solution, error, half),
        single=np.zeros(n_terms, np.float32),
        used=np.zeros(n_terms, np.bool_),
        tally=np.zeros(N_BINS, np.int32),
    )


@njit(cache=True, nogil=True)
def subtract_all(terms: Plane, coefficients: Array, data: Plane, shape: tuple[int, int]) -> None:
    """Subtract the sum of terms from each integration of data; coefficients are (n_int, n_terms), frames ``shape``."""
    n_rows, nx = shape
    for y in range(n_rows):
        for x in range(0, nx, _STRETCH):
            n = min(_STRETCH, nx - x)
            for i in range(coefficients.shape[0]):
                at = i * data.step_int + y * data.step_row + x
                _subtract(terms.flat[y * terms.step_row + x :], terms.step_int, coefficients[i], data.flat[at : at + n])


@inner
def _subtract(terms: Array, step: int, c: Array, row: Array) -> None:
    """Subtract terms, which begin `step` apart, from a piece of a row, in their order."""
    n, k = row.size, 0
    while k + 4 <= c.size:
        t0, t1, t2, t3 = (terms[k * step :], terms[(k + 1) * step :], terms[(k + 2) * step :], terms[(k + 3) * step :])
        c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
        for x in range(n):
            row[x] = (((row[x] - c0 * t0[x]) - c1 * t1[x]) - c2 * t2[x]) - c3 * t3[x]
        k += 4
    while k < c.size:
        t0, c0 = terms[k * step :], c[k]
        for x in range(n):
            row[x] -= c0 * t0[x]
        k += 1


@njit(cache=True, nogil=True)
def spread_noise(noise: Array, level: Array, stretch: Array, err: Array) -> None:
    """Fill err (n_int, n_rows, nx) with the noise times the stretch (n_int, n_levels) of each pixel's class."""
    for y in range(noise.shape[0]):
        for i in range(err.shape[0]):
            for x in range(noise.shape[1]):
                err[i, y, x] = stretch[i, level[y, x]] * noise[y, x]


@njit(cache=True, nogil=True)
def fit_all(
    unit: Array,
    matrix: Array,
    weight: Array,
    data: Array,
    classes: tuple[Array, Array],
    results: tuple[Array, Array, Array, Array],
    work: Work,
) -> None:
    """
    Fit all integrations; ``results`` (coefficients, errors, scales, residuals) are filled.

    Terms ``unit`` (n_terms, n_pixels) have unit length in units of the noise, ``matrix`` is their normal matrix,
    ``weight`` one over the noise; data are (n_int, n_pixels), NaN where bad.
    ``classes`` are the pixels in the order of their class, and where each class begins and the last one ends.
    """
    coefficients, errors, scales, residual = results
    n_terms, n_pixels = unit.shape
    for i in range(coefficients.shape[0]):
        if _begin(unit, matrix, weight, data[i], work) < 2 * n_terms:
            continue
        for _ in range(_ROUNDS):
            for k in range(n_terms):
                work.right[k] = _dot(unit[k], work.y)
            _solve(work)
            _residuals(unit, work)
            if _clip(unit, work) == 0:
                break
        _errors(work)
        copy_row(work.solution, coefficients[i], n_terms)
        copy_row(work.error, errors[i], n_terms)
        _scales(classes, scales[i], work)
        if residual.size:
            for p in range(n_pixels):
                residual[i, p] = _NAN if work.bad[p] else work.r[p]


@inner
def _begin(unit: Array, matrix: Array, weight: Array, data: Array, work: Work) -> int:
    """Load an integration; return the number of its good pixels."""
    for k in range(matrix.shape[0]):
        copy_row(matrix[k], work.matrix[k], matrix.shape[0])
    n = weight.size
    for p in range(n):
        x = data[p] * weight[p]
        good = abs(x) < _INF
        work.whole[p] = x if good else _ZERO
        work.bad[p] = not good
    copy_row(work.whole, work.y, n)
    copy_row(work.bad, work.gone, n)
    n_bad = 0
    for p in range(n):
        if work.bad[p]:
            n_bad += 1
            _count(unit, p, -1.0, work.matrix)
    return n - n_bad


@njit(**_REORDERED)
def _dot(a: Array, b: Array) -> Any:
    """Return the sum of products, in pieces of 256 that are added in double precision."""
    total = 0.0
    for start in range(0, a.size, 256):
        x, y = a[start : start + 256], b[start : start + 256]
        part: Any = _ZERO
        for p in range(x.size):
            part += x[p] * y[p]
        total += part
    return total


@inner
def _residuals(unit: Array, work: Work) -> None:
    """Fill the residuals of all pixels."""
    copy_row(work.whole, work.r, work.r.size)
    for k in range(work.solution.size):
        work.single[k] = work.solution[k]
    n = work.r.size
    terms = unit.ravel()
    for p in range(0, n, _STRETCH):
        _subtract(terms[p:], n, work.single, work.r[p : min(p + _STRETCH, n)])


@inner
def _clip(unit: Array, work: Work) -> int:
    """Leave out pixels whose residual is too large and take others in again; return how many changed."""
    n = 0
    for p in range(0, work.r.size, 4):
        work.some[n] = abs(work.r[p])
        n += not work.gone[p]
    limit: Any = _CLIP * max(_ONE, _median_scatter(work, n))
    changed = 0
    for p in range(work.r.size):
        far = work.bad[p] or abs(work.r[p]) > limit
        if far != work.gone[p]:
            work.gone[p] = far
            work.y[p] = _ZERO if far else work.whole[p]
            _count(unit, p, -1.0 if far else 1.0, work.matrix)
            changed += 1
    return changed


@inner
def _median_scatter(work: Work, n: int) -> Any:
    """Return the scatter that the first n absolute residuals of ``work.some`` (then lost) tell; 1 if there are none."""
    if n == 0:
        return _ONE
    return _TO_SIGMA * median_of_positive(work.bits, work.some, n, work.tally)


@inner
def _count(unit: Array, p: int, sign: float, matrix: Array) -> None:
    """Take a pixel into the normal matrix, or out of it."""
    for j in range(unit.shape[0]):
        for k in range(j + 1):
            matrix[j, k] += sign * np.float64(unit[j, p]) * np.float64(unit[k, p])


@inner
def _scales(classes: tuple[Array, Array], scales: Array, work: Work) -> None:
    """Fill the robust scatter in each class of pixels; 1 where a class has fewer than 50."""
    order, edges = classes
    for which in range(scales.size):
        n = 0
        for k in range(edges[which], edges[which + 1]):
            p = order[k]
            work.some[n] = abs(work.r[p])
            n += not work.bad[p]
        scales[which] = _median_scatter(work, n) if n >= 50 else _ONE


@inner
def _solve(work: Work) -> None:
    """Solve the normal equations by Cholesky's method; a term without a pivot of its own gets 0."""
    _factorise(work)
    n = work.right.size
    for j in range(n):
        work.half[j] = _forward(work, work.right[j], j, 0) if work.used[j] else 0.0
    for j in range(n - 1, -1, -1):
        work.solution[j] = 0.0
        if work.used[j]:
            value = work.half[j]
            for k in range(j + 1, n):
                value -= work.low[k, j] * work.solution[k]
            work.solution[j] = value / work.low[j, j]


@inner
def _errors(work: Work) -> None:
    """Fill the errors: the diagonal of the inverse is the squared length of the forward solution of a unit vector."""
    n = work.right.size
    for j in range(n):
        total = 0.0
        for i in range(j, n):
            work.half[i] = _forward(work, 1.0 if i == j else 0.0, i, j) if work.used[i] and work.used[j] else 0.0
            total += work.half[i] * work.half[i]
        work.error[j] = np.sqrt(total)


@inner
def _forward(work: Work, value: float, i: int, first: int) -> float:
    """Return element i of the forward substitution whose elements from `first` on are in ``work.half``."""
    for k in range(first, i):
        value -= work.low[i, k] * work.half[k]
    return value / work.low[i, i]


@inner
def _factorise(work: Work) -> None:
    """Fill the triangular factor of the normal matrix, and which terms have a pivot of their own."""
    n = work.right.size
    for j in range(n):
        for i in range(n):
            work.low[i, j] = 0.0
    for j in range(n):
        pivot = work.matrix[j, j]
        for k in range(j):
            pivot -= work.low[j, k] * work.low[j, k]
        work.used[j] = pivot > _TINY_PIVOT
        if not work.used[j]:
            continue
        work.low[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            value = work.matrix[i, j]
            for k in range(j):
                value -= work.low[i, k] * work.low[j, k]
            work.low[i, j] = value / work.low[j, j]
