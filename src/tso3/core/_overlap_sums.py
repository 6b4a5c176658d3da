"""Sums over the overlaps of pixels: the compiled half of `tso3.core.rectify.rectify`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Plane

__all__ = ["add_overlaps"]

Floats = NDArray[np.float64]
Stacks = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
Stack4 = tuple[Plane, Plane, Plane, Plane]

_TILE = 256
_GROUP = 16
_LONG = 64
"""Mean length of runs from which vectors pay."""
_GAP = 8
"""So many columns without overlap do not end a run."""
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@njit(cache=True, nogil=True)
def add_overlaps(
    overlaps: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    planes: Stack4,
    falling: bool,
    outputs: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """
    Fill ``out``: data, error, weight, and the variances that ``outputs`` gives a place.

    Output pixels are worked on in tiles of a row, each for several integrations, so that its overlaps stay in the
    cache. Where ``falling``, the columns of a tile are taken from right to left: they read rising pixels then. Long
    runs of neighbouring pixels are added in vectors; where there are none, overlaps are added pixel by pixel. The
    sums are the same, in the same order.
    """
    first, index, weight, value = overlaps
    n_int, n_rows, n_columns = out.shape[1:]
    most = 0
    for r in range(n_rows):
        most = max(most, (first[r + 1] - first[r]) // n_columns)
    total, good = np.empty((5, _TILE)), np.empty(_TILE, np.float32)
    runs, n_runs = np.empty((most, 2 * _TILE), np.int64), np.empty(most, np.int64)
    pixel = np.empty((most, _TILE), np.int32)
    areas, factors = np.empty((most, _TILE), np.float32), np.empty((most, _TILE), np.float32)
    begin, which = np.empty(_TILE + 1, np.uint64), np.empty(most * _TILE + 1, np.uint32)
    shares = np.empty((3, most * _TILE + 1))
    for i0 in range(0, n_int, _GROUP):
        for r in range(n_rows):
            n_layers = (first[r + 1] - first[r]) // n_columns
            for x0 in range(0, n_columns, _TILE):
                n = min(_TILE, n_columns - x0)
                covered, ends = 0, 0
                for layer in range(n_layers):
                    at = first[r] + layer * n_columns + x0
                    _take(index[at : at + n], falling, pixel[layer])
                    _take(weight[at : at + n], falling, areas[layer])
                    _take(value[at : at + n], falling, factors[layer])
                    n_runs[layer] = _runs(pixel[layer, :n], areas[layer], runs[layer])
                    ends += n_runs[layer]
                    for k in range(n_runs[layer]):
                        covered += runs[layer, 2 * k + 1]
                layers = (pixel[:n_layers], areas[:n_layers], factors[:n_layers])
                long = covered >= _LONG * ends
                if not long:
                    _collect(layers, n, begin, which, shares)
                for i in range(i0, min(i0 + _GROUP, n_int)):
                    if long:
                        total[:] = 0.0
                        _add_layers(layers, (runs, n_runs), planes, i, good, total)
                    else:
                        _add_pixels((begin, which, shares), planes, i, n, total)
                    if falling:
                        _reverse(total, n)
                    _finish(total, outputs, out, (i, r, x0, n))


@njit(cache=True, nogil=True)
def _collect(
    layers: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    n: int,
    begin: NDArray[np.uint64],
    which: NDArray[np.uint32],
    shares: Floats,
) -> None:
    """Put the overlaps of n output pixels one after the other, those of a pixel together: areas, factors, squares."""
    pixel, areas, factors = layers
    k = 0
    for j in range(n):
        begin[j] = k
        for layer in range(pixel.shape[0]):
            which[k], shares[0, k], shares[1, k] = pixel[layer, j], areas[layer, j], factors[layer, j]
            k += 1 if areas[layer, j] > _ZERO else 0
    begin[n] = k
    for m in range(k):
        shares[2, m] = shares[1, m] * shares[1, m]


@njit(cache=True, nogil=True)
def _add_pixels(
    overlaps: tuple[NDArray[np.uint64], NDArray[np.uint32], Floats], planes: Stack4, i: int, n: int, total: Floats
) -> None:
    """Sum the overlaps of n output pixels in one integration: weights, values, and three variances."""
    begin, which, shares = overlaps
    data, first, second, third = planes[0].flat, planes[1].flat, planes[2].flat, planes[3].flat
    d, f = np.uint64(i * planes[0].step_int), np.uint64(i * planes[1].step_int)
    s, t = np.uint64(i * planes[2].step_int), np.uint64(i * planes[3].step_int)
    for j in range(n):
        weight, sum_of, poisson, rnoise, flat = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(begin[j], begin[j + 1]):
            at = np.uint64(which[k])
            x, a, b, c = data[d + at], first[f + at], second[s + at], third[t + at]
            noise = a + b + c
            if (x - x == _ZERO) & (noise == noise):
                square = shares[2, k]
                weight += shares[0, k]
                sum_of += shares[1, k] * x
                poisson += square * a
                rnoise += square * b
                flat += square * c
        total[0, j], total[1, j], total[2, j], total[3, j], total[4, j] = weight, sum_of, poisson, rnoise, flat


@njit(cache=True, nogil=True)
def _add_layers(
    layers: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    spans: tuple[NDArray[np.int64], NDArray[np.int64]],
    planes: Stack4,
    i: int,
    good: NDArray[np.float32],
    total: Floats,
) -> None:
    """Add all overlaps of a tile for one integration, run by run, to what `_add_pixels` fills."""
    pixel, areas, factors = layers
    runs, n_runs = spans
    stacks = (planes[0].flat, planes[1].flat, planes[2].flat, planes[3].flat)
    for layer in range(pixel.shape[0]):
        for k in range(n_runs[layer]):
            a, n = runs[layer, 2 * k], runs[layer, 2 * k + 1]
            p = np.int64(pixel[layer, a])
            places = (
                np.uint64(i * planes[0].step_int + p),
                np.uint64(i * planes[1].step_int + p),
                np.uint64(i * planes[2].step_int + p),
                np.uint64(i * planes[3].step_int + p),
            )
            _add_run((areas[layer], factors[layer]), (np.uint64(a), np.uint64(n)), stacks, places, good, total)


@njit(cache=True, nogil=True, inline="always")
def _add_run(
    weights: tuple[NDArray[np.float32], NDArray[np.float32]],
    span: tuple[np.uint64, np.uint64],
    stacks: Stacks,
    places: tuple[np.uint64, np.uint64, np.uint64, np.uint64],
    good: NDArray[np.float32],
    total: Floats,
) -> None:
    """
    Add a run of overlaps: from which column on and how many, and where its pixels begin.

    Loops are short and touch few arrays each, offsets are unsigned, and nothing is sliced: so they are worked on in
    vectors, and a run of a dozen pixels costs little more than they.
    """
    areas, factors = weights
    a, n = span
    data, first, second, third = stacks
    d, f, s, t = places
    for j in range(n):
        sum_of = first[f + j] + second[s + j] + third[t + j]
        known = (data[d + j] - data[d + j] == _ZERO) & (sum_of == sum_of) & (areas[a + j] > _ZERO)
        good[j] = _ONE if known else _ZERO
    for j in range(n):
        total[0, a + j] += np.float64(areas[a + j] * good[j])
    for j in range(n):
        term = np.float64(factors[a + j]) * np.float64(data[d + j])
        total[1, a + j] += term if good[j] > _ZERO else 0.0
    _add_variances(factors, (a, n), (first, f), good, total[2])
    _add_variances(factors, (a, n), (second, s), good, total[3])
    _add_variances(factors, (a, n), (third, t), good, total[4])


@njit(cache=True, nogil=True, inline="always")
def _add_variances(
    factors: NDArray[np.float32],
    span: tuple[np.uint64, np.uint64],
    variance: tuple[NDArray[np.float32], np.uint64],
    good: NDArray[np.float32],
    total: Floats,
) -> None:
    """Add variances of valid samples."""
    a, n = span
    values, at = variance
    for j in range(n):
        v = np.float64(factors[a + j])
        term = v * v * np.float64(values[at + j])
        total[a + j] += term if good[j] > _ZERO else 0.0


@njit(cache=True, nogil=True)
def _take(source: NDArray[np.generic], reverse: bool, target: NDArray[np.generic]) -> None:
    """Copy values, the last one first if ``reverse``."""
    n = source.size
    if reverse:
        for j in range(n):
            target[j] = source[n - 1 - j]
    else:
        for j in range(n):
            target[j] = source[j]


@njit(cache=True, nogil=True)
def _reverse(total: Floats, n: int) -> None:
    """Exchange the first n columns end for end."""
    for k in range(total.shape[0]):
        for j in range(n // 2):
            total[k, j], total[k, n - 1 - j] = total[k, n - 1 - j], total[k, j]


@njit(cache=True, nogil=True)
def _runs(index: NDArray[np.int32], areas: NDArray[np.float32], runs: NDArray[np.int64]) -> int:
    """Find the runs of neighbouring input pixels that overlap, by first column and length; return how many."""
    n, begin, last = 0, -1, -1
    for j in range(index.size):
        if areas[j] == _ZERO:
            continue
        if begin >= 0 and j - last <= _GAP and index[j] - index[last] == j - last:
            last = j
            continue
        if begin >= 0:
            runs[2 * n], runs[2 * n + 1] = begin, last + 1 - begin
            n += 1
        begin = last = j
    if begin >= 0:
        runs[2 * n], runs[2 * n + 1] = begin, last + 1 - begin
        n += 1
    return n


@njit(cache=True, nogil=True)
def _finish(
    total: Floats, outputs: NDArray[np.int64], out: NDArray[np.float32], place: tuple[int, int, int, int]
) -> None:
    """Divide sums by weights, and put them in their place: integration, row, first column and how many."""
    i, r, x0, n = place
    weights, square = total[0], total[0]
    weight, data, err = out[2, i, r][x0 : x0 + n], out[0, i, r][x0 : x0 + n], out[1, i, r][x0 : x0 + n]
    for j in range(n):
        w = weights[j]
        weight[j] = w
        factor = 1.0 / w if w > 0.0 else np.nan
        data[j] = total[1, j] * factor
        square[j] = factor * factor
    for j in range(n):
        err[j] = np.sqrt((total[2, j] + total[3, j] + total[4, j]) * square[j])
    for k in range(1, 4):
        if outputs[k] >= 0:
            variance, sums = out[outputs[k], i, r][x0 : x0 + n], total[1 + k]
            for j in range(n):
                variance[j] = sums[j] * square[j]
