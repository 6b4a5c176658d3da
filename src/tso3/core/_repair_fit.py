"""
Compiled pieces of `tso3.core.repair.fit_profile`: one column of one integration at a time.

Everything is in single precision, and sums are grouped as numpy groups them, because the optimiser's path, and so its
answer within its tolerance of 1e-4, depends on the last bits: this is what makes the numbers those of jwst.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["fit_columns", "least_scale", "pairwise_sum"]

Stack = NDArray[np.float32]
Column = NDArray[np.float32]
Flags = NDArray[np.bool_]

_LANES = 8
_LEAF = 128
_QUIET = np.float32(5.0)
_LARGEST = np.float32(1e20)
_TOLERANCE = 1e-4
_CALLS = 200
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_HALF = np.float32(0.5)
_THREE = np.float32(3.0)
_THREE_HALVES = np.float32(1.5)
_FIRST_STEP = np.float32(1.05)
_FIRST_FROM_ZERO = np.float32(0.00025)


@njit(cache=True, nogil=True)
def pairwise_sum(values: Column) -> np.float32:
    """Return the sum in the order of numpy: eight partial sums, halves of long arrays apart."""
    n = values.size
    if n < _LANES:
        total = np.float32(0.0)
        for value in values:
            total += value
        return total
    if n > _LEAF:
        half = n // 2
        half -= half % _LANES
        return pairwise_sum(values[:half]) + pairwise_sum(values[half:])
    lanes = values[:_LANES].copy()
    whole = n - n % _LANES
    for start in range(_LANES, whole, _LANES):
        for k in range(_LANES):
            lanes[k] += values[start + k]
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    for k in range(whole, n):
        total += values[k]
    return total


@njit(cache=True, nogil=True)
def _mean_square(scale: np.float32, profile: Column, values: Column, work: Column) -> float:
    """Return the mean squared difference of values and scaled profile, NaN counted as 0."""
    for k in range(profile.size):
        difference = values[k] - profile[k] * scale
        square = difference * difference
        work[k] = np.float32(0.0) if np.isnan(square) else square
    return np.float64(pairwise_sum(work[: profile.size])) / profile.size  # in double precision, unlike all else


@njit(cache=True, nogil=True)
def least_scale(profile: Column, values: Column, start: np.float32, work: Column) -> np.float32:
    """Return the scale by the simplex method in one dimension: reflect, expand, contract, shrink."""
    best, worst = start, start * _FIRST_STEP if start != 0.0 else _FIRST_FROM_ZERO
    f_best, f_worst = _mean_square(best, profile, values, work), _mean_square(worst, profile, values, work)
    calls = 2
    for _ in range(_CALLS - 1):
        if f_worst < f_best or (np.isnan(f_best) and not np.isnan(f_worst)):
            best, worst, f_best, f_worst = worst, best, f_worst, f_best
        near = abs(worst - best) <= np.float32(_TOLERANCE) and abs(f_best - f_worst) <= _TOLERANCE
        if near or calls >= _CALLS:
            break
        trial = _TWO * best - worst
        f_trial = _mean_square(trial, profile, values, work)
        calls += 1
        if f_trial < f_best:
            further = _THREE * best - _TWO * worst
            f_further = _mean_square(further, profile, values, work)
            calls += 1
            worst, f_worst = (further, f_further) if f_further < f_trial else (trial, f_trial)
            continue
        outside = f_trial < f_worst
        closer = _THREE_HALVES * best - _HALF * worst if outside else _HALF * best + _HALF * worst
        f_closer = _mean_square(closer, profile, values, work)
        calls += 1
        if (outside and f_closer <= f_trial) or (not outside and f_closer < f_worst):
            worst, f_worst = closer, f_closer
        else:
            worst = best + _HALF * (worst - best)
            f_worst = _mean_square(worst, profile, values, work)
            calls += 1
    return best


@njit(cache=True, nogil=True)
def _median(values: Column) -> np.float32:
    """Return the median of what is not NaN, NaN if nothing is; sorts in place."""
    n = 0
    for value in values:
        if not np.isnan(value):
            at = n
            while at > 0 and values[at - 1] > value:
                values[at] = values[at - 1]
                at -= 1
            values[at] = value
            n += 1
    if n == 0:
        return np.float32(np.nan)
    middle = n // 2
    return values[middle] if n % 2 else (values[middle - 1] + values[middle]) / _TWO


@njit(cache=True, nogil=True)
def fit_columns(
    planes: tuple[Stack, Stack, Stack, Stack, Stack],
    unusable: Flags,
    outside: Flags,
    n_adjacent: int,
    estimated: Flags,
) -> None:
    """Replace in all planes (data, err, variances; empty where there is none), and say where in ``estimated``."""
    n_int, _, n_wave = unusable.shape
    valid, wanted = np.empty(n_wave, np.bool_), np.empty(n_wave, np.bool_)
    around = np.empty(2 * n_adjacent, np.int64)
    for i in range(n_int):
        top, stop = _judge(unusable[i], outside[i], valid, wanted)
        for x in range(n_wave):
            if not wanted[x]:
                continue
            n = 0
            for k in range(max(x - n_adjacent, 0), min(x + n_adjacent + 1, n_wave)):
                if k != x and valid[k]:
                    around[n] = k
                    n += 1
            if n:
                _replace(planes, (i, x, top, stop), unusable[i], outside[i], around[:n], estimated)


@njit(cache=True, nogil=True)
def _judge(unusable: Flags, outside: Flags, valid: Flags, wanted: Flags) -> tuple[int, int]:
    """Tell which columns hold good pixels and which of those bad ones; return the rows that hold any good pixel."""
    n_rows, n_wave = unusable.shape
    top, stop = n_rows, 0
    left, right = n_wave, -1
    for r in range(n_rows):
        for x in range(n_wave):
            if not unusable[r, x]:
                top, stop = min(top, r), max(stop, r + 1)
                left, right = min(left, x), max(right, x)
    for x in range(n_wave):
        n_bad, n_outside = 0, 0
        for r in range(top, stop):
            n_outside += outside[r, x]
            n_bad += unusable[r, x] and not outside[r, x]
        inside = left <= x <= right
        valid[x] = inside and n_bad + n_outside < stop - top
        wanted[x] = valid[x] and n_bad > 0
    return top, stop


@njit(cache=True, nogil=True)
def _profiles(
    planes: tuple[Stack, Stack, Stack, Stack, Stack],
    place: tuple[int, int, int, int],
    unusable: Flags,
    around: NDArray[np.int64],
    profiles: Column,
) -> np.float32:
    """Fill ``profiles`` (plane, row) with medians of the normalised columns around; return the median of the norms."""
    i, _, top, stop = place
    data, err = planes[0], planes[1]
    norms = np.empty(around.size, np.float32)
    brightest = np.float32(np.nan)
    for n in range(around.size):
        norms[n] = np.float32(np.nan)
        for r in range(top, stop):
            if unusable[r, around[n]]:
                continue
            value = abs(data[i, r, around[n]])
            if not np.isnan(value) and not value <= norms[n]:
                norms[n] = value
            error = err[i, r, around[n]]
            ratio = abs(value / error) if error != 0.0 else np.float32(np.inf if value != 0.0 else np.nan)
            if not np.isnan(ratio) and not ratio <= brightest:
                brightest = ratio
    if brightest < _QUIET:
        norms[:] = _ONE
    values = np.empty(around.size, np.float32)
    for plane in range(5):
        if not planes[plane].size:
            continue
        for r in range(top, stop):
            for n in range(around.size):
                value = planes[plane][i, r, around[n]]
                value = np.sqrt(value) if plane >= 2 else value
                usable = not unusable[r, around[n]] and not (norms[n] == 0.0 and value == 0.0)
                values[n] = np.float32(np.nan)
                if usable:
                    values[n] = value / norms[n] if norms[n] != 0.0 else np.float32(np.inf) * value
            profiles[plane, r] = _median(values)
    return _median(norms)


@njit(cache=True, nogil=True)
def _scale(profile: Column, values: Column) -> np.float32:
    """Return the factor between the largest value, and what the profile has to be multiplied by."""
    work = np.empty(profile.size, np.float32)
    start = np.float32(np.nan)
    high, tall = np.float32(np.nan), np.float32(np.nan)
    for k in range(profile.size):
        if not np.isnan(values[k]) and not values[k] <= start:
            start = values[k]
        if not np.isnan(values[k]) and not abs(values[k]) <= high:
            high = abs(values[k])
        if not np.isnan(profile[k]) and not abs(profile[k]) <= tall:
            tall = abs(profile[k])
    if not (tall < _LARGEST and high < _LARGEST):
        return np.float32(np.nan)
    for k in range(profile.size):
        profile[k], values[k] = abs(profile[k]), abs(values[k])
    return least_scale(profile, values, abs(start), work)


@njit(cache=True, nogil=True)
def _replace(
    planes: tuple[Stack, Stack, Stack, Stack, Stack],
    place: tuple[int, int, int, int],
    unusable: Flags,
    outside: Flags,
    around: NDArray[np.int64],
    estimated: Flags,
) -> None:
    """Replace the bad pixels of one column."""
    i, x, top, stop = place
    profiles = np.empty((5, stop), np.float32)
    norm = _profiles(planes, place, unusable, around, profiles)
    profile, values = np.empty(stop - top, np.float32), np.empty(stop - top, np.float32)
    n, largest = 0, np.float32(-np.inf)
    for r in range(top, stop):
        if not unusable[r, x] and not np.isnan(planes[0][i, r, x]):
            profile[n], values[n] = profiles[0, r], planes[0][i, r, x]
            largest = max(largest, values[n])
            n += 1
    if n == 0:
        return
    fitted, scale = _ONE, _ONE
    if norm != _ONE:
        for k in range(n):
            values[k] = values[k] / largest if largest != 0.0 else np.float32(np.nan)
        found = _scale(profile[:n], values[:n])
        if not np.isnan(found):
            fitted, scale = found, largest
    for r in range(top, stop):
        if not unusable[r, x] or outside[r, x]:
            continue
        for plane in range(5):
            if planes[plane].size:
                value = profiles[plane, r] * fitted * scale
                planes[plane][i, r, x] = value * value if plane >= 2 else value
        estimated[i, r, x] = not np.isnan(planes[0][i, r, x])
