"""
Samples that are no outliers, seen without a median: the compiled pieces of `outliers` for windows that are not clipped.

If more than half of the samples of a window lie closer to x than a threshold, so does their median. To see it for
nearly all samples at the cost of a few comparisons, time is cut into short sections, and the smallest and the largest
sample of each are noted: so many sections inside the window have to lie near x that they hold more than half of the
window; an outlier in one or two of them does no harm. For the samples that are left open, their window is counted and,
where that does not decide, its median is taken. The flags are those of the medians, bit by bit: a difference that is
rounded to less than the threshold is less, and a mean of two numbers lies between them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tso3.core._clip import ClipRule, Planes
from tso3.core._lanes import STRIDE, Lanes, inner, select_median
from tso3.core._planes import Array, Place

__all__ = ["Sections", "judge_open", "make_sections", "mark_open", "note_sections"]

_SECTIONS_IN_WINDOW = 8
_GROUP = 64
_INF = np.float32(np.inf)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_THRESHOLD, _NEAR = (np.uint64(k * STRIDE) for k in (0, 1))  # of Sections.rows


class Sections(NamedTuple):
    """
    Smallest and largest samples of sections of time, rows `STRIDE` elements apart.

    Attributes
    ----------
    length : int
        Integrations in a section; 0 where sections are of no use.
    low, high : ndarray of float32
        A row for each section; -inf and inf in lanes with a sample that does not count.
    rows : ndarray of float32
        Two rows: the threshold of the samples of one integration, and how many sections lie near each.
    """

    length: int
    low: Array
    high: Array
    rows: Array


def make_sections(n_int: int, depth: int, wanted: bool) -> Sections:
    """
    Return work space.

    Parameters
    ----------
    n_int : int
        Integrations of the stack.
    depth : int
        Length of the widest window [integrations] if windows are kept sorted, else 0.
    wanted : bool
        Whether sections are of use.

    Returns
    -------
    sections : Sections
        Of length 0 if they are of no use.

    Examples
    --------
    >>> from tso3.core._inside import make_sections
    >>> make_sections(60, 25, True).length, make_sections(60, 0, True).length
    (3, 0)
    """
    length = max(1, depth // _SECTIONS_IN_WINDOW) if wanted and depth > 0 else 0
    size = n_int // length * STRIDE if length else 0
    return Sections(length, np.empty(size, np.float32), np.empty(size, np.float32), np.empty(2 * STRIDE, np.float32))


@inner
def _note_sample(planes: Planes, at: Place, n: int, row: Any, bounds: Array, upper: bool) -> None:
    """Let a row of smallest (or largest) samples take in those of an integration."""
    data, mask = planes.data.flat, planes.mask.flat
    d_at, m_at = np.uint64(at[0]), np.uint64(at[2])
    if upper:
        for lane in range(np.uint64(n)):
            x = data[d_at + lane]
            x = x if (mask[m_at + lane] == 0) & (x == x) else _INF
            bounds[row + lane] = x if x > bounds[row + lane] else bounds[row + lane]
    else:
        for lane in range(np.uint64(n)):
            x = data[d_at + lane]
            x = x if (mask[m_at + lane] == 0) & (x == x) else -_INF
            bounds[row + lane] = x if x < bounds[row + lane] else bounds[row + lane]


@inner
def note_sections(planes: Planes, place: Place, n: int, sections: Sections) -> None:
    """Fill the smallest and largest samples of n lanes."""
    data, err, mask = planes
    length = sections.length
    for k in range(sections.low.size // STRIDE):
        row = np.uint64(k * STRIDE)
        for lane in range(np.uint64(n)):
            sections.low[row + lane] = _INF
            sections.high[row + lane] = -_INF
        for t in range(k * length, (k + 1) * length):
            at = (place[0] + t * data.step_int, place[1] + t * err.step_int, place[2] + t * mask.step_int)
            _note_sample(planes, at, n, row, sections.low, False)
            _note_sample(planes, at, n, row, sections.high, True)


@inner
def _begin_count(err: Array, at: int, n: int, snr: Any, rows: Array) -> None:
    """Write the thresholds of one integration; no section has been counted."""
    e_at = np.uint64(at)
    for lane in range(np.uint64(n)):
        sigma = err[e_at + lane]
        rows[_THRESHOLD + lane] = snr * (sigma if sigma == sigma else _ZERO)
    for lane in range(np.uint64(n)):
        rows[_NEAR + lane] = _ZERO


@inner
def _count_near(data: Array, at: int, n: int, sections: Sections, k: int) -> None:
    """Add 1 for the samples of one integration to which all of section k is closer than their threshold."""
    low, high, rows = sections.low, sections.high, sections.rows
    d_at, row = np.uint64(at), np.uint64(k * STRIDE)
    for lane in range(np.uint64(n)):
        x, threshold = data[d_at + lane], rows[_THRESHOLD + lane]
        near = (x - low[row + lane] < threshold) & (high[row + lane] - x < threshold)
        rows[_NEAR + lane] += _ONE if near else _ZERO


@inner
def mark_open(
    planes: Planes, place: Place, n: int, window: Place, flags: Any, rule: ClipRule, sections: Sections, left: Array
) -> Any:
    """
    Write 1 where the sections leave open whether sample t of a ``window`` (lo, hi, t) is an outlier, else 0.

    Return how many are open.
    """
    data, mask = planes.data.flat, planes.mask.flat
    lo, hi, t = window
    length, rows = sections.length, sections.rows
    d_place, m_place = place[0] + t * planes.data.step_int, place[2] + t * planes.mask.step_int
    _begin_count(planes.err.flat, place[1] + t * planes.err.step_int, n, rule.snr, rows)
    for k in range((lo + length - 1) // length, hi // length):
        _count_near(data, d_place, n, sections, k)
    enough = np.float32(((hi - lo) // 2 + length) // length)
    emptied = flags[1] < 0 and lo <= t < hi  # the window, by this sample itself if it is bad
    ignored = np.uint8(255 if emptied or not flags[2] else 0)
    d_at, m_at = np.uint64(d_place), np.uint64(m_place)
    found = np.int32(0)
    for lane in range(np.uint64(n)):
        x = data[d_at + lane]
        here = ((mask[m_at + lane] & ignored) == 0) & (x == x) & (rows[_NEAR + lane] < enough)
        left[lane] = 1 if here else 0
        found = np.int32(found + np.int32(here))
    return found


@inner
def _gather(planes: Planes, at: Place, window: Place, all_needed: bool, column: Array) -> int:
    """Collect the samples of one lane that count; return how many, -1 if one does not and `all_needed`."""
    data, mask = planes.data.flat, planes.mask.flat
    d_at, m_at = at[0] + window[0] * planes.data.step_int, at[2] + window[0] * planes.mask.step_int
    d_step, m_step = planes.data.step_int, planes.mask.step_int
    valid = 0
    for _ in range(window[0], window[1]):
        x = data[np.uint64(d_at)]
        if mask[np.uint64(m_at)] == 0 and x == x:
            column[np.uint64(valid)] = x + _ZERO
            valid += 1
        elif all_needed:
            return -1
        d_at += d_step
        m_at += m_step
    return valid


@inner
def _n_inside(column: Array, valid: int, x: Any, threshold: Any) -> int:
    """Return how many samples are closer to x than the threshold."""
    inside = 0
    for k in range(np.uint64(valid)):
        inside += abs(x - column[k]) < threshold
    return inside


@inner
def _n_marked(marks: Array, first: int, stop: int) -> Any:
    """Return how many lanes of a group are marked."""
    n = np.uint8(0)
    for lane in range(np.uint64(first), np.uint64(stop)):
        n = np.uint8(n + marks[lane])
    return n


@inner
def judge_open(
    planes: Planes, place: Place, n: int, window: Place, fewest: int, rule: ClipRule, lanes: Lanes, outlier: Array
) -> int:
    """Decide about sample t of the ``window`` (lo, hi, t) where it is marked; return how many are outliers."""
    data, err = planes.data.flat, planes.err.flat
    column, centre = lanes.column, lanes.centre
    marked = np.uint8(0)
    d_at, e_at = place[0] + window[2] * planes.data.step_int, place[1] + window[2] * planes.err.step_int
    flagged = 0
    for lane in range(n):
        if lane % _GROUP == 0:
            marked = _n_marked(outlier, lane, min(lane + _GROUP, n))
        if marked == 0 or outlier[np.uint64(lane)] == 0:
            continue
        outlier[lane] = 0
        valid = _gather(planes, (place[0] + lane, 0, place[2] + lane), window, fewest < 0, column)
        if valid < max(fewest, 1):
            continue
        x = data[d_at + lane]
        sigma = err[e_at + lane]
        threshold = rule.snr * (sigma if sigma == sigma else _ZERO)
        if _n_inside(column, valid, x, threshold) >= valid // 2 + 1:
            continue
        select_median(column, 0, valid, centre, 0)
        if abs(x - centre[0]) > threshold:
            outlier[lane] = 1
            flagged += 1
    return flagged
