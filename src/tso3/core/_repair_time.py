"""Compiled pieces of `tso3.core.repair.time_profile`: one column of one integration at a time."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["fill_columns", "fill_reference"]

Stack = NDArray[np.float32]
Planes = tuple[Stack, Stack, Stack, Stack, Stack]
"""Data, error, Poisson, read-noise and flat variance; empty where there is none."""
Image = NDArray[np.float64]

_SPREAD = 1e-3
"""Variance of the image across a column, relative to its mean square, below which no offset is fitted."""

_MAX_RATIO = 5.0
"""Largest ratio (and inverse of the smallest) of the light of two neighbouring columns that is believed."""


@njit(cache=True, nogil=True)
def fill_reference(reference: Image, out: Image) -> None:
    """Fill NaN of ``out``, a copy of ``reference``, from the columns around."""
    n_rows, n_wave = reference.shape
    for r in range(n_rows):
        for x in range(n_wave):
            half = 1
            while np.isnan(out[r, x]) and half < 8:
                half *= 2
                out[r, x] = _neighbours(reference, r, x, half)


@njit(cache=True, nogil=True)
def _neighbours(reference: Image, r: int, x: int, half: int) -> float:
    """Return what the columns within a half width say about a pixel; NaN if nothing."""
    value, own, theirs, n = 0.0, 0.0, 0.0, 0
    for k in range(max(x - half, 0), min(x + half + 1, reference.shape[1])):
        if np.isnan(reference[r, k]):
            continue
        n += 1
        value += reference[r, k]
        for j in range(reference.shape[0]):
            if not np.isnan(reference[j, x]) and not np.isnan(reference[j, k]):
                own += reference[j, x]
                theirs += reference[j, k]
    if n == 0:
        return np.nan
    ratio = 1.0
    if theirs > 0.0:
        ratio = min(max(own / theirs, 1.0 / _MAX_RATIO), _MAX_RATIO)
    return value / n * ratio


@njit(cache=True, nogil=True)
def fill_columns(
    planes: Planes,
    target: NDArray[np.bool_],
    expected: Image,
    aperture: Image,
    estimated: NDArray[np.bool_],
) -> None:
    """Replace ``target`` pixels in all planes, and say where in ``estimated``."""
    n_int, n_rows, n_wave = target.shape
    touched = np.empty(n_wave, np.bool_)
    column = np.empty((8, n_rows))
    good, bad = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    for i in range(n_int):
        touched[:] = False
        for r in range(n_rows):
            for x in range(n_wave):
                touched[x] |= target[i, r, x]
        for x in range(n_wave):
            if not touched[x]:
                continue
            n_good, n_bad = _gather(planes, target, expected, aperture, (i, x), column, good, bad)
            if n_bad and n_good and _fit(column, good[:n_good], bad[:n_bad]):
                _store(planes, column, (i, x), bad[:n_bad], estimated)


@njit(cache=True, nogil=True)
def _gather(
    planes: Planes,
    target: NDArray[np.bool_],
    expected: Image,
    aperture: Image,
    place: tuple[int, int],
    column: Image,
    good: NDArray[np.int64],
    bad: NDArray[np.int64],
) -> tuple[int, int]:
    """Fill ``column`` with data, image, aperture, three variances and weights; return the counts of good and bad."""
    i, x = place
    data = planes[0]
    n_good, n_bad = 0, 0
    light, poisson = 0.0, 0.0
    for r in range(data.shape[1]):
        image = expected[r, x]
        if np.isnan(image):
            continue
        column[1, r], column[2, r] = image, aperture[r, x]
        if target[i, r, x]:
            bad[n_bad] = r
            n_bad += 1
            continue
        usable = np.isfinite(data[i, r, x])
        for k in range(3):
            column[3 + k, r] = 0.0
            if planes[2 + k].size:
                column[3 + k, r] = planes[2 + k][i, r, x]
                usable = usable and np.isfinite(column[3 + k, r])
        if usable:
            column[0, r] = data[i, r, x]
            good[n_good] = r
            n_good += 1
            light += max(image, 0.0)
            poisson += column[3, r]
    slope = poisson / light if light > 0.0 else 0.0
    known = False
    for r in good[:n_good]:
        column[6, r] = slope * max(column[1, r], 0.0) + column[4, r]
        known = known or column[6, r] > 0.0
    for r in good[:n_good]:
        if not known:
            column[6, r] = 1.0
        elif column[6, r] > 0.0:
            column[6, r] = 1.0 / column[6, r]
        else:
            column[6, r] = 0.0
    return n_good, n_bad


@njit(cache=True, nogil=True)
def _fit(column: Image, good: NDArray[np.int64], bad: NDArray[np.int64]) -> bool:
    """Fill data and variances of the bad pixels of ``column``; return False if there is no fit."""
    s0, s1, s2, t0, t1 = 0.0, 0.0, 0.0, 0.0, 0.0
    for r in good:
        w, image, value = column[6, r], column[1, r], column[0, r]
        s0, s1, s2 = s0 + w, s1 + w * image, s2 + w * image * image
        t0, t1 = t0 + w * value, t1 + w * image * value
    if not s2 > 0.0:
        return False
    determinant = s0 * s2 - s1 * s1
    c00, c01, c11 = 0.0, 0.0, 1.0 / s2
    if good.size >= 3 and determinant > _SPREAD * s0 * s2:
        c00, c01, c11 = s2 / determinant, -s1 / determinant, s0 / determinant
    offset, scale = c00 * t0 + c01 * t1, c01 * t0 + c11 * t1
    ones, images, squares = 0.0, 0.0, 0.0
    for b in bad:
        weight = column[2, b]
        ones, images, squares = ones + weight, images + weight * column[1, b], squares + weight * weight
        column[0, b] = offset + scale * column[1, b]
    for k in range(3, 6):
        total, own = 0.0, 0.0
        for r in good:
            h = column[6, r] * (ones * (c00 + c01 * column[1, r]) + images * (c01 + c11 * column[1, r]))
            total += h * (h + 2.0 * column[2, r]) * column[k, r]
        for b in bad:
            column[k, b] = 0.0
            for r in good:
                h = column[6, r] * (c00 + c01 * column[1, r] + column[1, b] * (c01 + c11 * column[1, r]))
                column[k, b] += h * h * column[k, r]
            own += column[2, b] ** 2 * column[k, b]
        if squares > 0.0:
            for b in bad:
                if column[2, b] > 0.0:
                    column[k, b] = max(column[k, b] + (total - own) / squares, 0.0)
    return True


@njit(cache=True, nogil=True)
def _store(
    planes: Planes,
    column: Image,
    place: tuple[int, int],
    bad: NDArray[np.int64],
    estimated: NDArray[np.bool_],
) -> None:
    """Write what was estimated back into the stacks."""
    i, x = place
    for b in bad:
        planes[0][i, b, x] = column[0, b]
        total = 0.0
        for k in range(3):
            total += column[3 + k, b]
            if planes[2 + k].size:
                planes[2 + k][i, b, x] = column[3 + k, b]
        if planes[1].size:
            planes[1][i, b, x] = np.sqrt(total)
        estimated[i, b, x] = True
