"""
Clipping of the samples of a time window against the window's own median: the compiled pieces of `outliers`.

Three answers to the question what drops out, each for those windows that the one before leaves open: nothing, for even
the smallest and the largest sample deviate by less than the smallest threshold; the ends of the sorted window, for all
other samples deviate by less than that and these by more than the largest threshold; and what a look at every sample
finds. All give the same where they give an answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tso3.core._lanes import STRIDE, Lanes, inner, select_median
from tso3.core._planes import Place, Plane

__all__ = ["ClipRule", "Planes", "clip_marked", "forget_thresholds", "mark_suspects", "note_thresholds"]

_LOW, _LOW_BEFORE, _HIGH, _HIGH_BEFORE = (np.uint64(k * STRIDE) for k in (2, 3, 4, 5))  # of Lanes.floats
_SUSPECT = np.uint64(3 * STRIDE)  # of Lanes.ints
_INF = np.float32(np.inf)
_HALF = np.float32(0.5)
_ZERO = np.float32(0.0)


class Planes(NamedTuple):
    """What is read."""

    data: Plane
    err: Plane
    mask: Plane


class ClipRule(NamedTuple):
    """
    What is clipped.

    A sample is too far from a median if it deviates by more than ``snr`` times its error; a clipping that would leave
    fewer than ``need`` samples is not made. ``grades``: whether it is told how far other samples deviate.
    """

    need: int
    snr: Any
    maxiters: int
    grades: Any


@inner
def forget_thresholds(lanes: Lanes, n: int) -> None:
    """Begin anew to follow the smallest and the largest threshold."""
    for lane in range(np.uint64(n)):
        lanes.floats[_LOW + lane] = _INF
        lanes.floats[_LOW_BEFORE + lane] = _INF
        lanes.floats[_HIGH + lane] = -_INF
        lanes.floats[_HIGH_BEFORE + lane] = -_INF


@inner
def note_thresholds(planes: Planes, place: Place, n: int, snr: Any, begin: bool, lanes: Lanes) -> None:
    """
    Let the smallest and the largest threshold follow the window: the integration at `place` has entered.

    Time is cut into sections as long as the widest window (`begin`: a section begins); a window touches two of them at
    most, and the bounds of both are kept. So one integration costs two comparisons, and the bounds hold for at least
    the window.
    """
    bounds, err, mask = lanes.floats, planes.err.flat, planes.mask.flat
    e_at, m_at = np.uint64(place[1]), np.uint64(place[2])
    if begin:
        for lane in range(np.uint64(n)):
            bounds[_LOW_BEFORE + lane] = bounds[_LOW + lane]
            bounds[_HIGH_BEFORE + lane] = bounds[_HIGH + lane]
            bounds[_LOW + lane] = _INF
            bounds[_HIGH + lane] = -_INF
    for lane in range(np.uint64(n)):
        sigma = err[e_at + lane]
        threshold = snr * (sigma if sigma == sigma else _ZERO)
        good = mask[m_at + lane] == 0
        low = threshold if good else _INF
        high = threshold if good else -_INF
        bounds[_LOW + lane] = low if low < bounds[_LOW + lane] else bounds[_LOW + lane]
        bounds[_HIGH + lane] = high if high > bounds[_HIGH + lane] else bounds[_HIGH + lane]


@inner
def _suspects(lanes: Lanes, n: int) -> Any:
    """Mark the lanes in whose sorted window an end may be too far from the median; return their number."""
    window, centre, bounds, suspect = lanes.window, lanes.centre, lanes.floats, lanes.ints
    last = np.uint64((lanes.cursor[1] - lanes.cursor[0] - 1) * STRIDE)
    found = np.int32(0)
    for lane in range(np.uint64(n)):
        low = bounds[_LOW + lane] if bounds[_LOW + lane] < bounds[_LOW_BEFORE + lane] else bounds[_LOW_BEFORE + lane]
        far = (window[last + lane] - centre[lane] > low) | (centre[lane] - window[lane] > low)
        suspect[_SUSPECT + lane] = 1 if far else 0
        found = np.int32(found + np.int32(far))
    return found


@inner
def mark_suspects(lanes: Lanes, n: int, keep_sorted: bool) -> Any:
    """Mark the lanes in whose window something may be too far from the median; return whether there are any."""
    if keep_sorted:
        return _suspects(lanes, n)
    for lane in range(np.uint64(n)):
        lanes.ints[_SUSPECT + lane] = 1
    return np.int32(n)


@inner
def clip_marked(planes: Planes, place: Place, n: int, rule: ClipRule, lanes: Lanes, keep_sorted: bool) -> None:
    """Replace the medians of the marked lanes by those of their clipped windows."""
    for lane in range(n):
        if lanes.ints[3 * STRIDE + lane] == 0 or lanes.centre[lane] != lanes.centre[lane]:
            continue
        if not (keep_sorted and _trim_lane(rule, lanes, lane)):
            _clip_lane(planes, place, rule, lanes, lane)


@inner
def _trim_lane(rule: ClipRule, lanes: Lanes, lane: int) -> bool:
    """
    Clip the window of one lane at the ends of its sorted samples.

    Return False, and change nothing, if a deviation lies between the smallest and the largest threshold.
    """
    window, bounds, centre = lanes.window, lanes.floats, lanes.centre
    low = min(bounds[2 * STRIDE + lane], bounds[3 * STRIDE + lane])
    high = max(bounds[4 * STRIDE + lane], bounds[5 * STRIDE + lane])
    first, last = 0, lanes.ints[lane] - 1
    plain = centre[lane]
    for _ in range(rule.maxiters - 1):
        middle = centre[lane]
        start, stop = first, last
        while start <= stop and middle - window[start * STRIDE + lane] > high:
            start += 1
        while start <= stop and window[stop * STRIDE + lane] - middle > high:
            stop -= 1
        if start <= stop and (
            middle - window[start * STRIDE + lane] > low or window[stop * STRIDE + lane] - middle > low
        ):
            centre[lane] = plain
            return False
        kept = stop - start + 1
        if kept == last - first + 1 or kept < rule.need:
            return True
        first, last = start, stop
        centre[lane] = window[(first + kept // 2) * STRIDE + lane]
        if kept % 2 == 0:
            centre[lane] = (centre[lane] + window[(first + kept // 2 - 1) * STRIDE + lane]) * _HALF
    return True


@inner
def _gather(planes: Planes, place: Place, rule: ClipRule, lanes: Lanes, lane: Any) -> int:
    """Collect the samples that count in the window of one lane, and their thresholds; return their number."""
    data, err, mask = planes.data.flat, planes.err.flat, planes.mask.flat  # taken once: the loop would count references
    column, snr = lanes.column, rule.snr
    d_step, e_step, m_step = planes.data.step_int, planes.err.step_int, planes.mask.step_int
    size = column.size // 3
    d_at, e_at, m_at = place[0] + lane, place[1] + lane, place[2] + lane
    left = 0
    for t in range(lanes.cursor[0], lanes.cursor[1]):
        x = data[np.uint64(d_at + t * d_step)]
        if mask[np.uint64(m_at + t * m_step)] == 0 and x == x:
            sigma = err[np.uint64(e_at + t * e_step)]
            column[np.uint64(left)] = x + _ZERO
            column[np.uint64(size + left)] = snr * (sigma if sigma == sigma else _ZERO)
            left += 1
    return left


@inner
def _clip_lane(planes: Planes, place: Place, rule: ClipRule, lanes: Lanes, lane: Any) -> None:
    """Clip the window of one lane."""
    centre, column = lanes.centre, lanes.column
    size = column.size // 3
    left = _gather(planes, place, rule, lanes, lane)
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
        left = kept
        select_median(column, 2 * size, left, centre, lane)
