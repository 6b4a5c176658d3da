"""
Compiled pieces of `template`: the fit of terms to integrations, and their subtraction.

Rows are copied by loops and medians selected by the function of `_lanes`: numba compiles assignments of slices and
``np.median`` ten times as long.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tso3.core._lanes import copy_row, inner, select_median
from tso3.core._planes import Array

__all__ = ["N_LEVELS", "Work", "fit_all", "make_work", "subtract_all"]

N_LEVELS = 6
"""Classes of pixels, by signal over noise, whose scatter is watched in every integration."""

_CLIP = np.float32(5.0)
_ROUNDS = 8
_TINY_PIVOT = 1e-9
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_NAN = np.float32(np.nan)
_REORDERED: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "fastmath": {"reassoc", "contract"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""For sums that the compiler may take in another order, so that it can vectorise them; NaN stays NaN."""
_TO_SIGMA = np.float32(1.4826)
"""Standard deviation over median absolute deviation, of a normal distribution."""


class Work(NamedTuple):
    """
    Work space of the fit of one integration.

    Attributes
    ----------
    whole, y, r, some : ndarray of float32, shape (n_pixels,)
        Samples in units of the noise, 0 where bad; the same, 0 where left out; residuals; values for a median.
    bad, gone : ndarray of bool, shape (n_pixels,)
        Bad pixels; pixels that are left out.
    matrix, low : ndarray of float64, shape (n_terms, n_terms)
        Normal matrix without those, and its triangular factor.
    right, solution, error, half : ndarray of float64, shape (n_terms,)
        Right side, coefficients, their errors; scratch.
    used : ndarray of bool, shape (n_terms,)
        Terms with a pivot of their own.
    centre : ndarray of float32, shape (1,)
        A median.
    """

    whole: Array
    y: Array
    r: Array
    some: Array
    bad: Array
    gone: Array
    matrix: Array
    low: Array
    right: Array
    solution: Array
    error: Array
    half: Array
    used: Array
    centre: Array


def make_work(n_terms: int, n_pixels: int) -> Work:
    """Return work space for so many terms and pixels."""
    whole, y, r, some = np.zeros((4, n_pixels), np.float32)
    bad, gone = np.zeros((2, n_pixels), np.bool_)
    matrix, low = np.zeros((2, n_terms, n_terms))
    right, solution, error, half = np.zeros((4, n_terms))
    used, centre = np.zeros(n_terms, np.bool_), np.zeros(1, np.float32)
    return Work(whole, y, r, some, bad, gone, matrix, low, right, solution, error, half, used, centre)


@njit(cache=True, nogil=True)
def subtract_all(terms: Array, coefficients: Array, data: Array) -> None:
    """Subtract the sum of terms (n_terms, n_rows, nx) from each integration of data (n_int, n_rows, nx)."""
    n_terms, n_rows, nx = terms.shape
    for y in range(n_rows):
        for i in range(data.shape[0]):
            row = data[i, y]
            for k in range(n_terms):
                c, term = coefficients[i, k], terms[k, y]
                for x in range(nx):
                    row[x] -= c * term[x]


@njit(cache=True, nogil=True)
def fit_all(
    unit: Array,
    matrix: Array,
    weight: Array,
    samples: tuple[Array, Array],
    level: Array,
    results: tuple[Array, Array, Array, Array],
    work: Work,
) -> None:
    """
    Fit all integrations; ``results`` (coefficients, errors, scales, residuals) are filled.

    Terms ``unit`` (n_terms, n_pixels) have unit length in units of the noise, ``matrix`` is their normal matrix,
    ``weight`` one over the noise; ``samples`` are data and mask (n_int, n_pixels).
    """
    coefficients, errors, scales, residual = results
    n_terms, n_pixels = unit.shape
    for i in range(coefficients.shape[0]):
        if _begin(unit, matrix, weight, samples, i, work) < 2 * n_terms:
            continue
        for _ in range(_ROUNDS):
            for k in range(n_terms):
                work.right[k] = _dot(unit[k], work.y)
            _solve(work)
            _residuals(unit, work)
            if _clip(unit, work) == 0:
                break
        copy_row(work.solution, coefficients[i], n_terms)
        copy_row(work.error, errors[i], n_terms)
        _scales(level, scales[i], work)
        if residual.size:
            for p in range(n_pixels):
                residual[i, p] = _NAN if work.bad[p] else work.r[p]


@inner
def _begin(unit: Array, matrix: Array, weight: Array, samples: tuple[Array, Array], i: int, work: Work) -> int:
    """Load an integration; return the number of its good pixels."""
    data, mask = samples
    for k in range(matrix.shape[0]):
        copy_row(matrix[k], work.matrix[k], matrix.shape[0])
    n_good = 0
    for p in range(weight.size):
        x = data[i, p] * weight[p]
        bad = mask[i, p] != 0 or not np.isfinite(x)
        work.bad[p] = work.gone[p] = bad
        work.whole[p] = work.y[p] = _ZERO if bad else x
        if bad:
            _count(unit, p, -1.0, work.matrix)
        else:
            n_good += 1
    return n_good


@njit(**_REORDERED)
def _dot(a: Array, b: Array) -> Any:
    """Return the sum of products, in pieces of 256 that are added in double precision."""
    total = 0.0
    for start in range(0, a.size, 256):
        part: Any = _ZERO
        for p in range(start, min(start + 256, a.size)):
            part += a[p] * b[p]
        total += part
    return total


@inner
def _residuals(unit: Array, work: Work) -> None:
    """Fill the residuals of all pixels."""
    copy_row(work.whole, work.r, work.r.size)
    for k in range(unit.shape[0]):
        c = np.float32(work.solution[k])
        for p in range(work.r.size):
            work.r[p] -= c * unit[k, p]


@inner
def _clip(unit: Array, work: Work) -> int:
    """Leave out pixels whose residual is too large and take others in again; return how many changed."""
    n = 0
    for p in range(0, work.r.size, 4):
        if not work.gone[p]:
            work.some[n] = abs(work.r[p])
            n += 1
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
    """Return the scatter that the first n absolute residuals of ``work.some`` (reordered) tell; 1 if there are none."""
    if n == 0:
        return _ONE
    select_median(work.some, 0, n, work.centre, 0)
    return _TO_SIGMA * work.centre[0]


@inner
def _count(unit: Array, p: int, sign: float, matrix: Array) -> None:
    """Take a pixel into the normal matrix, or out of it."""
    for j in range(unit.shape[0]):
        for k in range(unit.shape[0]):
            matrix[j, k] += sign * np.float64(unit[j, p]) * np.float64(unit[k, p])


@inner
def _scales(level: Array, scales: Array, work: Work) -> None:
    """Fill the robust scatter in each class of pixels; 1 where a class has fewer than 50."""
    for which in range(scales.size):
        n = 0
        for p in range(level.size):
            if level[p] == which and not work.bad[p]:
                work.some[n] = abs(work.r[p])
                n += 1
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
    for j in range(n):  # diagonal of the inverse: squared length of the forward solution of each unit vector
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
