"""
Sorted windows of many pixels at once: the compiled pieces of `median` and `outliers`.

A *lane* is one pixel. A chunk of up to `LANES` pixels that are neighbours in memory is carried through time together:
row k of the sorted buffer holds the k-th smallest sample of the window of every lane, so that one step of the window (a
sample leaves, a sample enters) is a sweep of compare-and-select over contiguous rows, which the compiler vectorises.
Samples that do not count are stored as +inf and end up behind all others; how many count is known per lane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "INF",
    "LANES",
    "Lanes",
    "Plane",
    "flatten",
    "make_lanes",
    "median_row",
    "search_row",
    "seek",
    "select_median",
]

LANES = 256
"""Pixels carried together, and the distance between rows of the sorted buffer."""

INF = np.float32(np.inf)
_HALF = np.float32(0.5)


class Plane(NamedTuple):
    """A stack as the kernels see it: element (t, y, x) is ``flat[t * step_int + y * step_row + x]``."""

    flat: NDArray
    step_int: int
    step_row: int


def flatten(stack: NDArray, dtype: type) -> Plane:
    """
    Return a stack as the kernels see it: one-dimensional, with the steps to its next integration and next row.

    Parameters
    ----------
    stack : ndarray, shape (n_int, ny, nx)
        May be a row range of a larger stack, ``stack[:, first:last, :]``; copied only if the last axis is not contiguous
        or the dtype differs. Not modified.
    dtype : type
        Wanted dtype.

    Returns
    -------
    plane : Plane
        A view of `stack` wherever possible; steps in elements.

    Examples
    --------
    >>> import numpy as np
    >>> plane = flatten(np.arange(12.0).reshape(2, 3, 2)[:, 1:2, :], np.float64)
    >>> float(plane.flat[1 * plane.step_int + 0 * plane.step_row + 1]), plane.step_int, plane.step_row
    (9.0, 6, 2)
    """
    wanted = np.dtype(dtype)
    array = stack.view(np.uint8) if stack.dtype == np.bool_ and wanted == np.uint8 else stack
    array = np.asarray(array, dtype=wanted)
    size = wanted.itemsize
    if array.size == 0:
        return Plane(np.empty(0, wanted), 0, 0)
    fits = array.strides[2] == size or array.shape[2] == 1
    if not fits or any(step < 0 or step % size for step in array.strides[:2]):
        array = np.ascontiguousarray(array)
    step_int, step_row = array.strides[0] // size, array.strides[1] // size
    span = (array.shape[0] - 1) * step_int + (array.shape[1] - 1) * step_row + array.shape[2]
    return Plane(np.lib.stride_tricks.as_strided(array, (span,), (size,)), step_int, step_row)


class Lanes(NamedTuple):
    """
    Work space of one chunk.

    ``window`` (depth * LANES) holds the sorted samples, ``count`` (LANES) how many of them count, ``cursor`` (2) the
    range of integrations in the window, ``old``, ``new``, ``good_old``, ``good_new`` (LANES) the samples of one step.
    """

    window: NDArray
    count: NDArray
    cursor: NDArray
    old: NDArray
    new: NDArray
    good_old: NDArray
    good_new: NDArray


@njit(cache=True, nogil=True)
def make_lanes(depth):
    """Return empty work space for windows of at most `depth` integrations."""
    return Lanes(
        np.full(depth * LANES, INF, np.float32),
        np.zeros(LANES, np.int32),
        np.zeros(2, np.int64),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.int32),
        np.empty(LANES, np.int32),
    )


@njit(cache=True, nogil=True)
def _load(plane, at, bad, n, limit, value, good):
    """Copy n samples; those that are masked, NaN or larger than `limit` in size become +inf and do not count."""
    flat, at_data = plane.flat, at[0]
    mask, at_mask = bad.flat, at[1]
    for lane in range(n):
        x = flat[at_data + lane]
        use = (mask[at_mask + lane] == 0) & (abs(x) <= limit)
        value[lane] = x if use else INF
        good[lane] = 1 if use else 0


@njit(cache=True, nogil=True)
def _absent(value, good, n):
    """Fill in for the sample of a step that only adds or only removes one."""
    for lane in range(n):
        value[lane] = INF
        good[lane] = 0


@njit(cache=True, nogil=True)
def _slide_one(window, at, old, new, n):
    """Row k of a step: close the gap that `old` leaves, keep the smaller of row and newcomer, carry the larger on."""
    for lane in range(n):
        carried = new[lane]
        here = window[at + lane]
        here = window[at + LANES + lane] if here >= old[lane] else here
        window[at + lane] = here if here < carried else carried
        new[lane] = carried if here < carried else here


@njit(cache=True, nogil=True)
def _slide_four(window, at, old, new, n):
    """Four rows of a step in one sweep: `old` and the carried sample stay in registers."""
    for lane in range(n):
        gone = old[lane]
        carried = new[lane]
        a = window[at + lane]
        b = window[at + LANES + lane]
        c = window[at + 2 * LANES + lane]
        d = window[at + 3 * LANES + lane]
        e = window[at + 4 * LANES + lane]
        a = b if a >= gone else a
        b = c if b >= gone else b
        c = d if c >= gone else c
        d = e if d >= gone else d
        window[at + lane] = a if a < carried else carried
        carried = carried if a < carried else a
        window[at + LANES + lane] = b if b < carried else carried
        carried = carried if b < carried else b
        window[at + 2 * LANES + lane] = c if c < carried else carried
        carried = carried if c < carried else c
        window[at + 3 * LANES + lane] = d if d < carried else carried
        new[lane] = carried if d < carried else d


@njit(cache=True, nogil=True)
def _slide(window, old, new, n):
    """Replace sample `old` by `new` in the sorted window of every lane; `new` is used up."""
    depth = window.size // LANES
    k = 0
    while k + 4 < depth:
        _slide_four(window, k * LANES, old, new, n)
        k += 4
    while k + 1 < depth:
        _slide_one(window, k * LANES, old, new, n)
        k += 1
    for lane in range(n):
        window[k * LANES + lane] = new[lane]


@njit(cache=True, nogil=True)
def seek(data, mask, at, n, limit, lanes, lo, hi):
    """
    Move the windows of n lanes to the integrations lo <= t < hi.

    at is the place of the first lane at integration 0 in the two planes. Going forward costs one sweep per integration;
    otherwise the windows are made anew.
    """
    cursor = lanes.cursor
    if lo < cursor[0] or hi < cursor[1] or lo >= cursor[1]:
        lanes.window[:] = INF
        lanes.count[:] = 0
        cursor[:] = lo
    while cursor[0] < lo or cursor[1] < hi:
        if cursor[0] < lo:
            place = (at[0] + cursor[0] * data.step_int, at[1] + cursor[0] * mask.step_int)
            _load(data, place, mask, n, limit, lanes.old, lanes.good_old)
            cursor[0] += 1
        else:
            _absent(lanes.old, lanes.good_old, n)
        if cursor[1] < hi:
            place = (at[0] + cursor[1] * data.step_int, at[1] + cursor[1] * mask.step_int)
            _load(data, place, mask, n, limit, lanes.new, lanes.good_new)
            cursor[1] += 1
        else:
            _absent(lanes.new, lanes.good_new, n)
        for lane in range(n):
            lanes.count[lane] += lanes.good_new[lane] - lanes.good_old[lane]
        _slide(lanes.window, lanes.old, lanes.new, n)


@njit(cache=True, nogil=True)
def median_row(lanes, n, fewest, median):
    """
    Median of the window of every lane; NaN where fewer than `fewest` samples count (below 0: where not all do).

    The mean of the two middle samples is taken in the dtype of `median`.
    """
    window, count = lanes.window, lanes.count
    size = lanes.cursor[1] - lanes.cursor[0]
    low = (size - 1) // 2 * LANES
    high = size // 2 * LANES
    missing = 0
    for lane in range(n):
        missing += size - count[lane]
        median[lane] = window[low + lane]
        median[lane] = (median[lane] + window[high + lane]) * _HALF
    if missing == 0 and size >= fewest:
        return
    need = max(size if fewest < 0 else fewest, 1)
    for lane in range(n):
        valid = count[lane]
        if valid < need:
            median[lane] = np.nan
        elif valid < size:
            median[lane] = window[(valid - 1) // 2 * LANES + lane]
            median[lane] = (median[lane] + window[valid // 2 * LANES + lane]) * _HALF


@njit(cache=True, nogil=True)
def _select(values, n, k):
    """Bring the k-th smallest of the first n values to place k, nothing larger before it (Hoare's selection)."""
    left, right = 0, n - 1
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


@njit(cache=True, nogil=True)
def select_median(values, n, median, lane):
    """Median of the first n values (at least one, no NaN; they are reordered) to median[lane], in its dtype."""
    high = n // 2
    _select(values, n, high)
    median[lane] = values[high]
    if n % 2 == 0:
        low = values[0]
        for i in range(1, high):
            low = max(low, values[i])
        median[lane] = (median[lane] + low) * _HALF


@njit(cache=True, nogil=True)
def search_row(data, mask, at, n, limit, bounds, fewest, values, median):
    """Do what `seek` and `median_row` do for a window of many integrations, lane by lane by selection."""
    lo, hi = bounds
    need = max(hi - lo if fewest < 0 else fewest, 1)
    for lane in range(n):
        valid = 0
        for t in range(lo, hi):
            x = data.flat[at[0] + lane + t * data.step_int]
            if mask.flat[at[1] + lane + t * mask.step_int] == 0 and abs(x) <= limit:
                values[valid] = x
                valid += 1
        if valid < need:
            median[lane] = np.nan
        else:
            select_median(values, valid, median, lane)
