"""Compiled pieces of `template`: the fit of terms to integrations, and their subtraction."""

from __future__ import annotations

import numpy as np
from numba import njit

from tso3.core._planes import Array

__all__ = ["N_LEVELS", "fit_all", "subtract_all"]

N_LEVELS = 6
"""Classes of pixels, by signal over noise, whose scatter is watched in every integration."""

_CLIP = np.float32(5.0)
_ROUNDS = 8
_TINY_PIVOT = 1e-9


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


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array) -> float:
    total = np.float64(0.0)
    for start in range(0, a.size, 256):
        part = np.float32(0.0)
        for p in range(start, min(start + 256, a.size)):
            part += a[p] * b[p]
        total += np.float64(part)
    return total


@njit(cache=True, nogil=True)
def _solve(matrix: Array, right: Array, out: Array, error: Array) -> None:
    """Solve a symmetric positive system by Cholesky's method; a term without a pivot of its own gets 0."""
    n = right.size
    low = np.zeros((n, n))
    used = np.zeros(n, np.bool_)
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= low[j, k] * low[j, k]
        used[j] = pivot > _TINY_PIVOT
        if not used[j]:
            continue
        low[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            value = matrix[i, j]
            for k in range(j):
                value -= low[i, k] * low[j, k]
            low[i, j] = value / low[j, j]
    half = np.zeros(n)
    for j in range(n):
        if used[j]:
            value = right[j]
            for k in range(j):
                value -= low[j, k] * half[k]
            half[j] = value / low[j, j]
    for j in range(n - 1, -1, -1):
        out[j] = 0.0
        if used[j]:
            value = half[j]
            for k in range(j + 1, n):
                value -= low[k, j] * out[k]
            out[j] = value / low[j, j]
    for j in range(n):  # diagonal of the inverse: squared length of the solution for each unit vector
        error[j] = 0.0
        if not used[j]:
            continue
        column = np.zeros(n)
        for i in range(j, n):
            if used[i]:
                value = 1.0 if i == j else 0.0
                for k in range(j, i):
                    value -= low[i, k] * column[k]
                column[i] = value / low[i, i]
                error[j] += column[i] * column[i]
        error[j] = np.sqrt(error[j])


@njit(cache=True, nogil=True)
def fit_all(
    unit: Array,
    matrix: Array,
    weight: Array,
    samples: tuple[Array, Array],
    level: Array,
    results: tuple[Array, Array, Array, Array],
) -> None:
    """
    Fit all integrations; ``results`` (coefficients, errors, scales, residuals) are filled.

    Terms ``unit`` (n_terms, n_pixels) have unit length in units of the noise, ``matrix`` is their normal matrix,
    ``weight`` one over the noise; ``samples`` are data and mask (n_int, n_pixels).
    """
    data, mask = samples
    coefficients, errors, scales, residual = results
    n_terms, n_pixels = unit.shape
    whole, y, r = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    bad, gone = np.empty(n_pixels, np.bool_), np.empty(n_pixels, np.bool_)
    right, solution, error = np.empty(n_terms), np.empty(n_terms), np.empty(n_terms)
    for i in range(data.shape[0]):
        reduced = matrix.copy()
        n_good = 0
        for p in range(n_pixels):
            whole[p] = data[i, p] * weight[p]
            bad[p] = mask[i, p] != 0 or not np.isfinite(whole[p])
            gone[p] = bad[p]
            if bad[p]:
                whole[p] = 0.0
                _count(unit, p, -1.0, reduced)
            else:
                n_good += 1
            y[p] = whole[p]
        if n_good < 2 * n_terms:
            continue
        for _ in range(_ROUNDS):
            for k in range(n_terms):
                right[k] = _dot(unit[k], y)
            _solve(reduced, right, solution, error)
            r[:] = whole
            for k in range(n_terms):
                c, term = np.float32(solution[k]), unit[k]
                for p in range(n_pixels):
                    r[p] -= c * term[p]
            if _clip(r, bad, gone, whole, y, unit, reduced) == 0:
                break
        coefficients[i] = solution
        errors[i] = error
        _scales(r, bad, level, scales[i])
        if residual.size:
            for p in range(n_pixels):
                residual[i, p] = np.nan if bad[p] else r[p]


@njit(cache=True, nogil=True)
def _clip(r: Array, bad: Array, gone: Array, whole: Array, y: Array, unit: Array, matrix: Array) -> int:
    """Leave out pixels whose residual is too large and take others in again; return how many changed."""
    limit = _CLIP * max(np.float32(1.0), _scatter(r, gone))
    changed = 0
    for p in range(r.size):
        far = bad[p] or abs(r[p]) > limit
        if far != gone[p]:
            gone[p] = far
            y[p] = np.float32(0.0) if far else whole[p]
            _count(unit, p, -1.0 if far else 1.0, matrix)
            changed += 1
    return changed


@njit(cache=True, nogil=True)
def _count(unit: Array, p: int, sign: float, matrix: Array) -> None:
    """Take a pixel into the normal matrix, or out of it."""
    for j in range(unit.shape[0]):
        for k in range(unit.shape[0]):
            matrix[j, k] += sign * np.float64(unit[j, p]) * np.float64(unit[k, p])


@njit(cache=True, nogil=True)
def _scatter(r: Array, gone: Array) -> float:
    """Return the robust scatter of residuals, from every fourth pixel."""
    some = np.empty(r.size // 4 + 1, np.float32)
    n = 0
    for p in range(0, r.size, 4):
        if not gone[p]:
            some[n] = abs(r[p])
            n += 1
    return np.float32(1.4826) * np.float32(np.median(some[:n])) if n > 0 else np.float32(1.0)


@njit(cache=True, nogil=True)
def _scales(r: Array, bad: Array, level: Array, scales: Array) -> None:
    """Fill the robust scatter in each class of pixels; 1 where a class has fewer than 50."""
    some = np.empty(r.size, np.float32)
    for which in range(scales.size):
        n = 0
        for p in range(r.size):
            if level[p] == which and not bad[p]:
                some[n] = abs(r[p])
                n += 1
        scales[which] = 1.4826 * np.median(some[:n]) if n >= 50 else 1.0
