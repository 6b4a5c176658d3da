"""
Sorted windows of many pixels at once: the compiled pieces of `median` and `outliers`.

A *lane* is one pixel. A chunk of up to `LANES` pixels that are neighbours in memory is carried through time together:
row k of the sorted window holds the k-th smallest sample of the window of every lane, so that one step of the window (a
sample leaves, a sample enters) is a sweep of compare-and-select over contiguous rows, which the compiler vectorises.
Samples that do not count are stored as +inf and end up behind all others; how many count is known per lane.

Three habits keep the compiled code fast and quick to compile. Offsets into flat arrays are unsigned: numba lets signed
ones count from the end, which keeps loops from being vectorised. Rows of work space are fixed offsets into a few
arrays: the compiler sees that they do not overlap. Slices are not assigned to slices: numba would compile the wording
of an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit

from tso3.core._planes import Array, Place, Plane

__all__ = [
    "LANES",
    "STRIDE",
    "Lanes",
    "copy_row",
    "inner",
    "inner_dividing",
    "make_lanes",
    "median_row",
    "search_row",
    "seek",
    "select",
    "select_median",
]

LANES = 256
"""Pixels carried together."""

STRIDE = 272
"""Distance between rows of work space: no power of two, lest rows compete for the same lines of the cache."""

_ROW_1, _ROW_2, _ROW_3, _ROW_4 = (np.uint64(k * STRIDE) for k in (1, 2, 3, 4))
_OLD, _NEW = (np.uint64(k * STRIDE) for k in (0, 1))  # of Lanes.floats
_COUNT, _LEFT, _ENTERED = (np.uint64(k * STRIDE) for k in (0, 1, 2))  # of Lanes.ints
_INF = np.float32(np.inf)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def inner(function: Kernel) -> Kernel:
    """Compile a function that only compiled code calls: a way in from Python would take longer than the function."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: Kernel = njit(cache=True, nogil=True, **options)(function)
    return compiled


def inner_dividing(function: Kernel) -> Kernel:
    """Compile like `inner` a function that may divide by zero: the result is infinite or NaN, as numpy has it."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
    compiled: Kernel = njit(cache=True, nogil=True, **options)(function)
    return compiled


class Lanes(NamedTuple):
    """
    Work space of one chunk; rows are `STRIDE` elements apart.

    Attributes
    ----------
    window : ndarray of float32
        Sorted samples, one row for each integration of the widest window.
    floats : ndarray of float32
        Rows: leaving sample, entering sample; smallest threshold of this and of the preceding section of time; largest
        threshold of these.
    ints : ndarray of int32
        Rows: how many samples count; whether the leaving, the entering sample does; whether clipping may be needed.
    centre : ndarray of float32 or float64
        Medians.
    cursor : ndarray of int64, shape (2,)
        Range of integrations in the window.
    column : ndarray of float32
        Samples, thresholds and kept samples of the window of one lane.
    """

    window: Array
    floats: Array
    ints: Array
    centre: Array
    cursor: Array
    column: Array


def _aligned(size: int, dtype: Any) -> Array:
    """Return an uninitialised array that starts on a cache line."""
    n_bytes = size * np.dtype(dtype).itemsize
    raw = np.empty(n_bytes + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + n_bytes].view(dtype)


def make_lanes(depth: int, size: int, dtype: Any) -> Lanes:
    """
    Return work space.

    Parameters
    ----------
    depth : int
        Length of the widest window [integrations] if windows are kept sorted, else 0.
    size : int
        Length of the widest window [integrations].
    dtype : type
        Of the medians.

    Returns
    -------
    lanes : Lanes
        About depth + 12 KiB and 12 bytes per integration of `size`.

    Examples
    --------
    >>> make_lanes(3, 3, np.float32).cursor.tolist()
    [0, 0]
    """
    return Lanes(
        window=_aligned(max(depth, 1) * STRIDE, np.float32),
        floats=_aligned(6 * STRIDE, np.float32),
        ints=_aligned(4 * STRIDE, np.int32),
        centre=_aligned(STRIDE, dtype),
        cursor=np.zeros(2, np.int64),
        column=np.empty(3 * size, np.float32),
    )


@inner
def _load(plane: Plane, bad: Plane, at: Place, n: int, row: Any, lanes: Lanes) -> None:
    """
    Copy n samples to a row, and to the row of integers after its namesake whether they count.

    Those that are masked or NaN become +inf and do not count. A negative zero becomes zero: which of the two came first
    is not to be seen in a median.
    """
    flat, mask, value, good = plane.flat, bad.flat, lanes.floats, lanes.ints
    at_data, at_mask = np.uint64(at[0]), np.uint64(at[1])
    for lane in range(np.uint64(n)):
        x = flat[at_data + lane]
        use = (mask[at_mask + lane] == 0) & (x == x)
        value[row + lane] = x + _ZERO if use else _INF
        good[row + _ROW_1 + lane] = 1 if use else 0


@inner
def _absent(n: int, row: Any, lanes: Lanes) -> None:
    """Stand in for the sample that does not leave or does not enter."""
    for lane in range(np.uint64(n)):
        lanes.floats[row + lane] = _INF
        lanes.ints[row + _ROW_1 + lane] = 0


@inner
def _slide_one(window: Array, at: Any, floats: Array, n: int) -> None:
    """Row k of a step: close the gap that the old sample leaves, keep the smaller of it and the newcomer."""
    for lane in range(np.uint64(n)):
        carried = floats[_NEW + lane]
        here = window[at + lane]
        here = window[at + _ROW_1 + lane] if here >= floats[_OLD + lane] else here
        window[at + lane] = here if here < carried else carried
        floats[_NEW + lane] = carried if here < carried else here


@inner
def _slide_four(window: Array, at: Any, floats: Array, n: int) -> None:
    """Four rows of a step in one sweep: the old and the carried sample stay in registers."""
    for lane in range(np.uint64(n)):
        gone = floats[_OLD + lane]
        carried = floats[_NEW + lane]
        a = window[at + lane]
        b = window[at + _ROW_1 + lane]
        c = window[at + _ROW_2 + lane]
        d = window[at + _ROW_3 + lane]
        e = window[at + _ROW_4 + lane]
        a = b if a >= gone else a
        b = c if b >= gone else b
        c = d if c >= gone else c
        d = e if d >= gone else d
        window[at + lane] = a if a < carried else carried
        carried = carried if a < carried else a
        window[at + _ROW_1 + lane] = b if b < carried else carried
        carried = carried if b < carried else b
        window[at + _ROW_2 + lane] = c if c < carried else carried
        carried = carried if c < carried else c
        window[at + _ROW_3 + lane] = d if d < carried else carried
        floats[_NEW + lane] = carried if d < carried else d


@inner
def _slide(lanes: Lanes, n: int, size: int) -> None:
    """
    Replace the old sample by the new one in the sorted window of every lane; the new one is used up.

    `size` is the length of the window before or after, whichever is greater: the rows behind it are +inf and stay so.
    """
    window, floats, ints = lanes.window, lanes.floats, lanes.ints
    for lane in range(np.uint64(n)):
        ints[_COUNT + lane] += ints[_ENTERED + lane] - ints[_LEFT + lane]
    last = size - 1
    k = 0
    while k + 4 <= last:
        _slide_four(window, np.uint64(k * STRIDE), floats, n)
        k += 4
    while k < last:
        _slide_one(window, np.uint64(k * STRIDE), floats, n)
        k += 1
    at = np.uint64(last * STRIDE)
    for lane in range(np.uint64(n)):
        window[at + lane] = floats[_NEW + lane]


@inner
def seek(data: Plane, mask: Plane, at: Place, n: int, lanes: Lanes, lo: int, hi: int) -> None:
    """
    Move the windows of n lanes to the integrations lo <= t < hi.

    `at` is the place of the first lane in `data` and `mask`. Going forward costs one sweep per integration; otherwise
    the windows are made anew.
    """
    cursor = lanes.cursor
    if lo < cursor[0] or hi < cursor[1] or lo >= cursor[1]:
        for k in range(lanes.window.size):
            lanes.window[k] = _INF
        for lane in range(n):
            lanes.ints[lane] = 0
        cursor[0] = cursor[1] = lo
    while cursor[0] < lo or cursor[1] < hi:
        size = cursor[1] - cursor[0]
        for side in range(2):  # leaving, entering
            t = cursor[side]
            if t < (lo if side == 0 else hi):
                place = (at[0] + t * data.step_int, at[1] + t * mask.step_int)
                _load(data, mask, place, n, np.uint64(side * STRIDE), lanes)
                cursor[side] += 1
            else:
                _absent(n, np.uint64(side * STRIDE), lanes)
        _slide(lanes, n, max(size, cursor[1] - cursor[0]))


@inner
def median_row(lanes: Lanes, n: int, fewest: int) -> None:
    """
    Median of the window of every lane; NaN where fewer than `fewest` samples count (below 0: where not all do).

    The mean of the two middle samples is taken in the dtype of ``lanes.centre``.
    """
    window, count, centre = lanes.window, lanes.ints, lanes.centre
    size = lanes.cursor[1] - lanes.cursor[0]
    high = np.uint64(size // 2 * STRIDE)
    low = np.uint64((size - 1) // 2 * STRIDE)
    full = np.int32(size)
    short = np.int32(0)
    for lane in range(np.uint64(n)):
        centre[lane] = window[high + lane]
        short = np.int32(short + np.int32(full - count[lane]))
    if low != high:
        for lane in range(np.uint64(n)):
            centre[lane] = (centre[lane] + window[low + lane]) * _HALF
    if short == 0 and size >= fewest:
        return
    need = max(size if fewest < 0 else fewest, 1)
    for lane in range(n):
        valid = count[lane]
        if valid < need:
            centre[lane] = np.nan
        elif valid < size:
            centre[lane] = window[valid // 2 * STRIDE + lane]
            if valid % 2 == 0:
                centre[lane] = (centre[lane] + window[(valid // 2 - 1) * STRIDE + lane]) * _HALF


@inner
def select(values: Array, left: int, right: int, k: int) -> None:
    """Bring to place k of left..right the value that sorting would, nothing larger before it (Hoare's selection)."""
    while left < right:
        pivot = values[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            return


@inner
def select_median(values: Array, first: int, n: int, centre: Array, lane: int) -> None:
    """Median of n values (at least one, no NaN; they are reordered) to centre[lane], in its dtype."""
    high = first + n // 2
    select(values, first, first + n - 1, high)
    centre[lane] = values[high]
    if n % 2 == 0:
        low = values[first]
        for i in range(first + 1, high):
            low = max(low, values[i])
        centre[lane] = (centre[lane] + low) * _HALF


@inner
def search_row(data: Plane, mask: Plane, at: Place, n: int, fewest: int, lanes: Lanes) -> None:
    """
    Median of every lane over the integrations of ``lanes.cursor``, one lane after the other, by selection.

    For a window of many integrations that is common to all, which it would be a waste to keep sorted.
    """
    lo, hi = lanes.cursor[0], lanes.cursor[1]
    need = max(hi - lo if fewest < 0 else fewest, 1)
    for lane in range(n):
        valid = 0
        for t in range(lo, hi):
            x = data.flat[at[0] + lane + t * data.step_int]
            if mask.flat[at[1] + lane + t * mask.step_int] == 0 and x == x:
                lanes.column[valid] = x + _ZERO
                valid += 1
        lanes.ints[lane] = valid
        if valid < need:
            lanes.centre[lane] = np.nan
        else:
            select_median(lanes.column, 0, valid, lanes.centre, lane)


@inner
def copy_row(source: Array, target: Array, n: int) -> None:
    """Copy the first n elements."""
    for lane in range(n):
        target[lane] = source[lane]
