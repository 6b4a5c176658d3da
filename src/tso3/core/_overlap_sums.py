"""Sums over the overlaps of pixels: the compiled half of `tso3.core.rectify.rectify`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Plane

__all__ = ["add_overlaps"]

Floats = NDArray[np.float64]
Stacks = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

_TILE = 256
_GROUP = 8
_SHORT = 48
"""Where runs of neighbouring pixels are shorter, pixels are collected one by one."""
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@njit(cache=True, nogil=True)
def add_overlaps(
    overlaps: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    planes: tuple[Plane, Plane, Plane, Plane],
    way: tuple[int, int, bool, bool],
    outputs: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """
    Fill ``out``: data, error, weight, and the variances that ``outputs`` gives a place.

    ``way`` is the size of an image, ``falling`` and ``turned``. Where falling, the columns of a tile are worked on from
    right to left, so that they read rising pixels; where turned, the axes of a few images are exchanged first.
    """
    first, index, weight, value = overlaps
    ny, nx, falling, turned = way
    n_int, n_rows, n_columns = out.shape[1:]
    total, work = np.empty((5, _TILE)), np.empty((5, _TILE), np.float32)
    most = 0
    for r in range(n_rows):
        most = max(most, (first[r + 1] - first[r]) // n_columns)
    runs, n_runs = np.empty((most, _TILE + 1), np.int64), np.empty(most, np.int64)
    pixel = np.empty((most, _TILE), np.int32)
    areas, factors = np.empty((most, _TILE), np.float32), np.empty((most, _TILE), np.float32)
    room = np.empty((4, _GROUP * ny * nx if turned else 0), np.float32)
    for i0 in range(0, n_int, _GROUP):  # few at a time: their rows stay in the cache
        n_group = min(_GROUP, n_int - i0)
        if turned:
            _turn(planes, (i0, n_group, ny, nx), room)
        for r in range(n_rows):
            n_layers = (first[r + 1] - first[r]) // n_columns
            for x0 in range(0, n_columns, _TILE):
                n = min(_TILE, n_columns - x0)
                for layer in range(n_layers):
                    at = first[r] + layer * n_columns + x0
                    _take(index[at : at + n], falling, pixel[layer])
                    _take(weight[at : at + n], falling, areas[layer])
                    _take(value[at : at + n], falling, factors[layer])
                    n_runs[layer] = _runs(pixel[layer, :n], runs[layer])
                for i in range(i0, i0 + n_group):
                    total[:] = 0.0
                    if turned:
                        start = (i - i0) * ny * nx
                        flats, starts = (room[0], room[1], room[2], room[3]), (start, start, start, start)
                    else:
                        flats = (planes[0].flat, planes[1].flat, planes[2].flat, planes[3].flat)
                        starts = (
                            i * planes[0].step_int,
                            i * planes[1].step_int,
                            i * planes[2].step_int,
                            i * planes[3].step_int,
                        )
                    _add_layers((pixel, areas, factors), (runs, n_runs, n_layers, n), (flats, starts), work, total)
                    if falling:
                        _reverse(total, n)
                    _finish(total, outputs, out, (i, r, x0, n))


@njit(cache=True, nogil=True)
def _turn(
    planes: tuple[Plane, Plane, Plane, Plane], group: tuple[int, int, int, int], room: NDArray[np.float32]
) -> None:
    """Exchange the axes of some images: first, how many, and their size."""
    i0, n_group, ny, nx = group
    for k in range(4):
        for i in range(n_group):
            source = planes[k].flat[(i0 + i) * planes[k].step_int :]
            target = room[k, i * ny * nx :]
            for y in range(ny):
                for x in range(nx):
                    target[x * ny + y] = source[y * nx + x]


@njit(cache=True, nogil=True)
def _add_layers(
    layers: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    spans: tuple[NDArray[np.int64], NDArray[np.int64], int, int],
    source: tuple[Stacks, tuple[int, int, int, int]],
    work: NDArray[np.float32],
    total: Floats,
) -> None:
    """
    Add all overlaps of a tile of n columns for one integration: weights, values, and three variances.

    Runs of neighbouring pixels are read where they are; the pixels of a layer of short runs are collected first.
    """
    pixel, areas, factors = layers
    runs, n_runs, n_layers, n = spans
    stacks, starts = source
    collected = (work[1], work[2], work[3], work[4])
    zero, all_of = np.uint64(0), np.uint64(n)
    for layer in range(n_layers):
        weights = (areas[layer], factors[layer])
        if n_runs[layer] * _SHORT > n:
            for k in range(4):
                _collect(stacks[k], starts[k], pixel[layer], n, work[1 + k])
            _add_run(weights, (zero, all_of), collected, (zero, zero, zero, zero), work[0], total)
            continue
        for k in range(n_runs[layer]):
            a = runs[layer, k]
            p = np.int64(pixel[layer, a])
            places = (
                np.uint64(starts[0] + p),
                np.uint64(starts[1] + p),
                np.uint64(starts[2] + p),
                np.uint64(starts[3] + p),
            )
            _add_run(weights, (np.uint64(a), np.uint64(runs[layer, k + 1] - a)), stacks, places, work[0], total)


@njit(cache=True, nogil=True)
def _collect(
    stack: NDArray[np.float32], start: int, pixel: NDArray[np.int32], n: int, target: NDArray[np.float32]
) -> None:
    """Copy pixels of one image that lie here and there."""
    for j in range(n):
        target[j] = stack[np.uint64(start + pixel[j])]


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
def _runs(index: NDArray[np.int32], runs: NDArray[np.int64]) -> int:
    """Find the runs of neighbouring input pixels; return how many."""
    n = 0
    runs[0] = 0
    for j in range(1, index.size):
        if index[j] != index[j - 1] + 1:
            n += 1
            runs[n] = j
    runs[n + 1] = index.size
    return n + 1


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
