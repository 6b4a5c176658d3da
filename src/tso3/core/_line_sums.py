"""
Compiled pieces of `lines`: sums over the pixels of every line, and which pixels are left out.

Weights do not depend on the integration, so the sums of all pixels are made once, and what bad and clipped pixels add
is taken out of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from tso3.core._planes import Array

__all__ = [
    "CLIP",
    "LineSums",
    "add_values",
    "change_all",
    "clip",
    "empty_sums",
    "means_of_lines",
    "planes_share",
    "start",
]

CLIP = 4.0


class LineSums(NamedTuple):
    """
    Sums over the pixels of lines, with the weight 1 / s^2 of each; K terms, values u, light f.

    Attributes
    ----------
    one, f, ff, u, fu : ndarray of float64, shape (n_lines,)
        Of 1, f, f^2, u, f u.
    terms, f_terms : ndarray of float64, shape (n_lines, K)
        Of the terms, and of f times them.
    matrix : ndarray of float64, shape (K, K)
        Of products of terms, over all lines.
    right : ndarray of float64, shape (K,)
        Of the terms times u, over all lines.
    n_pixels : ndarray of int64, shape (n_lines,)
        Pixels.
    """

    one: Array
    f: Array
    ff: Array
    u: Array
    fu: Array
    terms: Array
    f_terms: Array
    matrix: Array
    right: Array
    n_pixels: Array


def empty_sums(n_lines: int, n_terms: int) -> LineSums:
    """Return sums over nothing."""
    one, f, ff, u, fu = np.zeros((5, n_lines))
    terms, f_terms = np.zeros((2, n_lines, n_terms))
    matrix, right = np.zeros((n_terms, n_terms)), np.zeros(n_terms)
    return LineSums(one, f, ff, u, fu, terms, f_terms, matrix, right, np.zeros(n_lines, np.int64))


@njit(cache=True, nogil=True)
def change(sums: LineSums, line: int, terms: Array, light: float, sigma: float, value: float, sign: int) -> None:
    """Take a pixel into the sums, or out of them with a sign of -1; a value that is NaN is not looked at."""
    w = sign / (sigma * sigma)
    sums.one[line] += w
    sums.f[line] += w * light
    sums.ff[line] += w * light * light
    sums.n_pixels[line] += sign
    for j in range(terms.size):
        t = w * terms[j]
        sums.terms[line, j] += t
        sums.f_terms[line, j] += t * light
        for k in range(j + 1):
            sums.matrix[j, k] += t * terms[k]
            if k < j:
                sums.matrix[k, j] += t * terms[k]
    if np.isfinite(value):
        sums.u[line] += w * value
        sums.fu[line] += w * light * value
        for j in range(terms.size):
            sums.right[j] += w * terms[j] * value


@njit(cache=True, nogil=True)
def change_all(first: Array, sigma: Array, terms: Array, light: Array, sums: LineSums) -> None:
    """Take all pixels into the sums, without values."""
    for line in range(first.size - 1):
        for k in range(first[line], first[line + 1]):
            change(sums, line, terms[k], light[k], sigma[k], np.nan, 1)


@njit(cache=True, nogil=True)
def start(first: Array, sigma: Array, value: Array, scratch: Array, kept: Array) -> None:
    """Keep the pixels that are within `CLIP` sigma of the median of their line."""
    for line in range(first.size - 1):
        n = 0
        for k in range(first[line], first[line + 1]):
            if np.isfinite(value[k]):
                scratch[n] = value[k]
                n += 1
        middle = np.median(scratch[:n]) if n else 0.0
        for k in range(first[line], first[line + 1]):
            kept[k] = np.isfinite(value[k]) and abs(value[k] - middle) <= CLIP * sigma[k]


@njit(cache=True, nogil=True)
def add_values(
    first: Array, sigma: Array, terms: Array, light: Array, value: Array, kept: Array, sums: LineSums
) -> None:
    """Add the values of kept pixels to sums over all pixels without values, and take those that are not kept out."""
    for line in range(first.size - 1):
        for k in range(first[line], first[line + 1]):
            if not kept[k]:
                change(sums, line, terms[k], light[k], sigma[k], np.nan, -1)
                continue
            w = value[k] / (sigma[k] * sigma[k])
            sums.u[line] += w
            sums.fu[line] += w * light[k]
            for j in range(terms.shape[1]):
                sums.right[j] += w * terms[k, j]


@njit(cache=True, nogil=True)
def clip(
    first: Array,
    telling: tuple[Array, Array, Array],
    value: Array,
    solution: tuple[Array, Array, Array],
    kept: Array,
    sums: LineSums,
) -> int:
    """Leave out pixels that are off the solution and take others in again; return how many changed."""
    sigma, terms, light = telling
    coefficients, level, slope = solution
    changed = 0
    for line in range(first.size - 1):
        for k in range(first[line], first[line + 1]):
            if not np.isfinite(value[k]):
                continue
            rest = value[k] - level[line] - slope[line] * light[k]
            for j in range(coefficients.size):
                rest -= coefficients[j] * terms[k, j]
            good = abs(rest) <= CLIP * sigma[k]
            if good != kept[k]:
                kept[k] = good
                change(sums, line, terms[k], light[k], sigma[k], value[k], 1 if good else -1)
                changed += 1
    return changed


@njit(cache=True, nogil=True)
def planes_share(
    variance: Array, unit: Array, pixel: Array, first: Array, sigma: Array, kept: Array, share: Array
) -> None:
    """Fill the mean of a variance plane over sigma^2, with weights 1 / sigma^2, of every line."""
    for line in range(share.size):
        total, one = 0.0, 0.0
        for k in range(first[line], first[line + 1]):
            v = variance[pixel[k]]
            if kept[k] and np.isfinite(v):
                w = 1.0 / (sigma[k] * sigma[k])
                u = unit[pixel[k]]
                total += w * w * v / (u * u)
                one += w
        share[line] = total / one if one > 0.0 else 0.0


@njit(cache=True, nogil=True)
def means_of_lines(
    first: Array, sigma: Array, value: Array, kept: Array, out: tuple[Array, Array, Array, Array]
) -> None:
    """Fill weight, weighted mean, weighted squares about it, and number of kept pixels of every line."""
    one, mean, within, count = out
    for line in range(one.size):
        w_all, w_u, n = 0.0, 0.0, 0
        for k in range(first[line], first[line + 1]):
            if kept[k]:
                w = 1.0 / (sigma[k] * sigma[k])
                w_all += w
                w_u += w * value[k]
                n += 1
        middle = w_u / w_all if n else 0.0
        squares = 0.0
        for k in range(first[line], first[line + 1]):
            if kept[k]:
                squares += (value[k] - middle) ** 2 / (sigma[k] * sigma[k])
        one[line], mean[line], within[line], count[line] = w_all, middle, squares, n
