"""
Clipping of the samples of a time window against the window's own median: the compiled pieces of `outliers`.

Whether a window needs clipping is seen from its smallest and its largest sample and a lower bound of its thresholds.
Where a few lanes of a chunk need it, they are done one by one; where many do, all lanes together. Both give the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tso3.core._lanes import STRIDE, Lanes, Place, Plane, select_median

__all__ = ["ClipRule", "Planes", "clip_row", "clip_searched", "forget_floor", "lower_floor"]

_NOW, _BEFORE, _BELOW, _ABOVE = (np.uint64(k * STRIDE) for k in (2, 3, 4, 5))  # of Lanes.floats
_N_BELOW, _N_ABOVE, _N_DROPPED, _SUSPECT = (np.uint64(k * STRIDE) for k in (3, 4, 5, 6))  # of Lanes.ints
_FIRST = np.uint64(STRIDE)  # of Lanes.centre
_INF = np.float32(np.inf)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)
_MANY = 8  # all lanes are clipped together if more than one in so many needs it


class Planes(NamedTuple):
    """What is read."""

    data: Plane
    err: Plane
    mask: Plane


class ClipRule(NamedTuple):
    """
    What is clipped.

    A sample counts if it is not masked and not larger than ``limit`` in size; it is too far from a median if it
    deviates by more than ``snr`` times its error; a clipping that would leave fewer than ``need`` samples is not made.
    """

    limit: Any
    need: int
    snr: Any
    maxiters: int


@njit(cache=True, nogil=True)
def forget_floor(lanes: Lanes, n: int) -> None:
    """Begin anew to follow the smallest threshold."""
    for lane in range(np.uint64(n)):
        lanes.floats[_NOW + lane] = _INF
        lanes.floats[_BEFORE + lane] = _INF


@njit(cache=True, nogil=True)
def lower_floor(planes: Planes, place: Place, n: int, snr: Any, begin: bool, lanes: Lanes) -> None:
    """
    Let the floor of thresholds follow the window: the integration at `place` has entered.

    Time is cut into sections as long as the widest window (`begin`: a section begins); a window touches two of them at
    most, and the floors of both are kept. So one integration costs one comparison, and the result holds for at least
    the window.
    """
    floor, err, mask = lanes.floats, planes.err.flat, planes.mask.flat
    e_at, m_at = np.uint64(place[1]), np.uint64(place[2])
    if begin:
        for lane in range(np.uint64(n)):
            floor[_BEFORE + lane] = floor[_NOW + lane]
            floor[_NOW + lane] = _INF
    for lane in range(np.uint64(n)):
        sigma = err[e_at + lane]
        threshold = snr * (sigma if sigma == sigma else _ZERO)
        threshold = threshold if mask[m_at + lane] == 0 else _INF
        floor[_NOW + lane] = threshold if threshold < floor[_NOW + lane] else floor[_NOW + lane]


@njit(cache=True, nogil=True)
def _screen(lanes: Lanes, n: int) -> int:
    """Mark the lanes in whose window something may be too far from the median; return their number."""
    window, count, centre, floor, suspect = lanes.window, lanes.ints, lanes.centre, lanes.floats, lanes.ints
    last = np.uint64((lanes.cursor[1] - lanes.cursor[0] - 1) * STRIDE)
    found = 0
    for lane in range(np.uint64(n)):
        low = floor[_NOW + lane] if floor[_NOW + lane] < floor[_BEFORE + lane] else floor[_BEFORE + lane]
        far = (window[last + lane] - centre[lane] > low) | (centre[lane] - window[lane] > low)
        suspect[_SUSPECT + lane] = 1 if far else 0
        found += 1 if far else 0
    if found == 0:
        return 0
    found = 0
    for lane in range(np.uint64(n)):
        if suspect[_SUSPECT + lane] != 0:
            low = min(floor[_NOW + lane], floor[_BEFORE + lane])
            top = window[np.uint64((count[lane] - 1) * STRIDE) + lane]
            far = (top - centre[lane] > low) | (centre[lane] - window[lane] > low)
            suspect[_SUSPECT + lane] = 1 if far else 0
            found += 1 if far else 0
    return found


@njit(cache=True, nogil=True)
def clip_row(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes) -> None:
    """Replace the medians of n lanes by those of their clipped windows, where clipping changes something."""
    found = _screen(lanes, n)
    if found == 0:
        return
    if found * _MANY > n:
        _clip_together(planes, place, n, rule, lanes)
    else:
        _clip_marked(planes, place, n, rule, lanes)


@njit(cache=True, nogil=True)
def clip_searched(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes) -> None:
    """Do what `clip_row` does, for a window that is not kept sorted."""
    for lane in range(np.uint64(n)):
        lanes.window[lane] = _INF
        lanes.ints[_SUSPECT + lane] = 1 if lanes.centre[lane] == lanes.centre[lane] else 0
    _clip_marked(planes, place, n, rule, lanes)


@njit(cache=True, nogil=True)
def _clip_marked(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes) -> None:
    """Clip the windows of the lanes that are marked, one by one."""
    for lane in range(n):
        if lanes.ints[np.int64(_SUSPECT) + lane] != 0:
            _clip_lane(planes, place, rule, lanes, lane)


@njit(cache=True, nogil=True)
def _kept_median(lanes: Lanes, lane: Any, n_below: Any, kept: Any, below: Any, above: Any) -> bool:
    """
    Take the median of the samples kept from the sorted window; return False where this is not possible.

    It is, if the middle of the kept samples lies between the dropped ones on either side.
    """
    window, centre = lanes.window, lanes.centre
    high = (n_below + kept // 2) * STRIDE + lane
    low = (n_below + (kept - 1) // 2) * STRIDE + lane
    if high >= window.size or not (below < window[low] and window[high] < above):
        return False
    centre[lane] = window[high]
    if low != high:
        centre[lane] = (centre[lane] + window[low]) * _HALF
    return True


@njit(cache=True, nogil=True)
def _gather(planes: Planes, place: Place, rule: ClipRule, lanes: Lanes, lane: Any) -> int:
    """Collect the samples that count in the window of one lane, and their thresholds; return their number."""
    data, err, mask = planes
    column = lanes.column
    size = column.size // 3
    d_at, e_at, m_at = place[0] + lane, place[1] + lane, place[2] + lane
    left = 0
    for t in range(lanes.cursor[0], lanes.cursor[1]):
        x = data.flat[d_at + t * data.step_int]
        if mask.flat[m_at + t * mask.step_int] == 0 and abs(x) <= rule.limit:
            sigma = err.flat[e_at + t * err.step_int]
            column[left] = x
            column[size + left] = rule.snr * (sigma if sigma == sigma else _ZERO)
            left += 1
    return left


@njit(cache=True, nogil=True)
def _clip_lane(planes: Planes, place: Place, rule: ClipRule, lanes: Lanes, lane: Any) -> None:
    """Clip the window of one lane."""
    centre, column = lanes.centre, lanes.column
    size = column.size // 3
    left = _gather(planes, place, rule, lanes, lane)
    first = centre[lane]
    n_below = 0
    below, above = -_INF, _INF
    for _ in range(rule.maxiters - 1):
        middle = centre[lane]
        kept = 0
        for k in range(left):
            kept += not abs(column[k] - middle) > column[size + k]
        if kept == left or kept < rule.need:
            return
        kept = 0
        for k in range(left):
            x = column[k]
            if not abs(x - middle) > column[size + k]:
                column[kept], column[size + kept], column[2 * size + kept] = x, column[size + k], x
                kept += 1
            elif x < first:
                n_below += 1
                below = max(below, x)
            else:
                above = min(above, x)
        left = kept
        if not _kept_median(lanes, lane, n_below, left, below, above):
            select_median(column, 2 * size, left, centre, lane)


@njit(cache=True, nogil=True)
def _drop(planes: Planes, at: Place, n: int, rule: ClipRule, lanes: Lanes, row: Any) -> None:
    """Drop the samples of one integration that are too far from the median, in all lanes."""
    data, err, mask = planes.data.flat, planes.err.flat, planes.mask.flat
    d_at, e_at, m_at = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    floats, ints, centre, dropped = lanes.floats, lanes.ints, lanes.centre, lanes.dropped
    limit, snr = rule.limit, rule.snr
    for lane in range(np.uint64(n)):
        x = data[d_at + lane]
        sigma = err[e_at + lane]
        threshold = snr * (sigma if sigma == sigma else _ZERO)
        far = (dropped[row + lane] != 0) | (abs(x - centre[lane]) > threshold)
        far = far & (mask[m_at + lane] == 0) & (abs(x) <= limit)
        dropped[row + lane] = 1 if far else 0
        is_below = far & (x < centre[_FIRST + lane])
        is_above = far & (x >= centre[_FIRST + lane])
        ints[_N_BELOW + lane] += 1 if is_below else 0
        ints[_N_ABOVE + lane] += 1 if is_above else 0
        low = x if is_below else -_INF
        high = x if is_above else _INF
        floats[_BELOW + lane] = low if low > floats[_BELOW + lane] else floats[_BELOW + lane]
        floats[_ABOVE + lane] = high if high < floats[_ABOVE + lane] else floats[_ABOVE + lane]


@njit(cache=True, nogil=True)
def _drop_all(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes) -> None:
    """Drop the samples of the window that are too far from the median, in all lanes, and count them."""
    data, err, mask = planes
    lo, hi = lanes.cursor[0], lanes.cursor[1]
    for lane in range(np.uint64(n)):
        lanes.ints[_N_BELOW + lane] = 0
        lanes.ints[_N_ABOVE + lane] = 0
        lanes.floats[_BELOW + lane] = -_INF
        lanes.floats[_ABOVE + lane] = _INF
    for t in range(lo, hi):
        at = (place[0] + t * data.step_int, place[1] + t * err.step_int, place[2] + t * mask.step_int)
        _drop(planes, at, n, rule, lanes, np.uint64((t - lo) * STRIDE))


@njit(cache=True, nogil=True)
def _clip_together(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes) -> None:
    """Clip the windows of all lanes, sweep by sweep."""
    centre, ints, floats = lanes.centre, lanes.ints, lanes.floats
    for lane in range(np.uint64(n)):
        centre[_FIRST + lane] = centre[lane]
        ints[_N_DROPPED + lane] = 0
    for k in range(lanes.dropped.size):
        lanes.dropped[k] = 0
    for _ in range(rule.maxiters - 1):
        _drop_all(planes, place, n, rule, lanes)
        active = 0
        for lane in range(np.uint64(n)):
            if ints[_SUSPECT + lane] == 0:
                continue
            n_below = np.int64(ints[_N_BELOW + lane])
            n_dropped = n_below + ints[_N_ABOVE + lane]
            kept = ints[lane] - n_dropped
            ints[_SUSPECT + lane] = 0
            if n_dropped == ints[_N_DROPPED + lane] or kept < rule.need:
                continue
            if _kept_median(lanes, np.int64(lane), n_below, kept, floats[_BELOW + lane], floats[_ABOVE + lane]):
                ints[_SUSPECT + lane] = 1
                ints[_N_DROPPED + lane] = n_dropped
                active += 1
            else:
                centre[lane] = centre[_FIRST + lane]
                _clip_lane(planes, place, rule, lanes, np.int64(lane))
        if active == 0:
            return
