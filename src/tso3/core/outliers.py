"""Outliers in time: samples that lie too far from the median of their window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tso3.core._clip import ClipRule, Planes, clip_marked, forget_thresholds, mark_suspects, note_thresholds
from tso3.core._inside import Sections, judge_open, make_sections, mark_open, note_sections
from tso3.core._lanes import LANES, Lanes, copy_row, inner, inner_dividing, make_lanes, median_row, search_row, seek
from tso3.core._planes import Array, Place, flatten, merge_rows
from tso3.core.median import Bounds, NanPolicy, check_bounds, sample_rule

__all__ = ["GRADES_PER_SIGMA", "GRADE_ZERO", "OUTLIER", "OutlierResult", "flag_outliers", "grade"]

OUTLIER = 1
"""What a sample is that lies too far from its median."""
GRADE_ZERO, GRADES_PER_SIGMA = 98, 16
"""The grade of a sample that is less than a sixteenth of its error above its median; how grades go on from there."""

_ZERO = np.float32(0.0)
_LOWEST, _HIGHEST = np.float32(2), np.float32(255)
_ZERO_GRADE, _STEPS = np.float32(GRADE_ZERO), np.float32(GRADES_PER_SIGMA)
_FEW = 8
"""Where at most one sample in so many needs a closer look, medians are taken for these alone."""


@dataclass(frozen=True)
class OutlierResult:
    """
    Outliers of consecutive integrations.

    Attributes
    ----------
    level : ndarray of uint8, shape (n_int, ny, nx)
        `OUTLIER` where a sample lies too far from the median of its window; else 0, or, where grades were asked for,
        how far it lies above or below it (`grade`), and 0 where that is not known.
    median : ndarray of float, shape (n_int, ny, nx), or None
        What the samples were compared with, in the unit of the data; NaN where it is unknown. None if not kept.
    n_flagged : ndarray of int64, shape (n_int,)
        Outliers in each integration.
    """

    level: NDArray[np.uint8]
    median: NDArray[np.floating] | None
    n_flagged: NDArray[np.int64]

    @property
    def outlier(self) -> NDArray[np.bool_]:
        """True where a sample is an outlier by itself, shape (n_int, ny, nx)."""
        return self.level == OUTLIER


def grade(deviation: float) -> int:
    """
    Return the grade of a sample that is no outlier.

    Parameters
    ----------
    deviation : float
        From the median of its window, in units of its error.

    Returns
    -------
    grade : int
        16 steps for each unit, rounded down; from 2 (-6 and below) to 255 (9.8 and above).

    Examples
    --------
    >>> from tso3.core.outliers import grade
    >>> grade(0.0), grade(-0.01), grade(4.0), grade(-9.0), grade(99.0)
    (98, 97, 162, 2, 255)
    """
    step = int(np.floor(deviation * GRADES_PER_SIGMA)) + GRADE_ZERO
    return min(max(step, int(_LOWEST)), int(_HIGHEST))


def flag_outliers(
    data: NDArray[np.float32],
    err: NDArray[np.float32],
    mask: NDArray[np.bool_],
    lo: ArrayLike,
    hi: ArrayLike,
    *,
    snr: float,
    maxiters: int = 3,
    nan_policy: NanPolicy = "skip",
    min_valid: int = 3,
    start: int = 0,
    stop: int | None = None,
    flag_masked: bool = False,
    keep_median: bool = True,
    grades: bool = False,
) -> OutlierResult:
    """
    Return the samples that deviate from the median of their time window by more than `snr` times their error.

    Sample i of a pixel is an outlier if ``abs(data[i] - median_i) > snr * err[i]``, where median_i is the median of
    ``data[lo[i]:hi[i]]``. With `maxiters` above 1 the window is clipped first: its samples j with
    ``abs(data[j] - median_i) > snr * err[j]`` drop out and the median is taken again, until nothing drops out, fewer
    than `min_valid` samples would be left, or `maxiters` medians have been taken; the last one decides. A result
    depends on the samples of its own window and on nothing else.

    Parameters
    ----------
    data, err : ndarray of float32, shape (n_int, ny, nx)
        Stack and its 1-sigma error, same unit, the neighbours that windows need included; a row range of a larger stack
        is not copied. NaN data are bad; a NaN error counts as 0 (any deviation is one too many). Not modified.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where a sample is bad: it takes no part in medians.
    lo, hi : array_like of int, shape (n_int,)
        Window of each integration, `window_bounds`; those outside ``start:stop`` are not used.
    snr : float
        Threshold in units of `err`.
    maxiters : int
        Most medians per window; 1 is the archive's.
    nan_policy : {"skip", "propagate"}
        What bad samples do to a median, as in `rolling_median`.
    min_valid : int
        With "skip": fewest valid samples from which a median is believed; where there are fewer, nothing is flagged.
    start, stop : int
        Integrations of the stack that results are wanted for; by default all.
    flag_masked : bool
        Compare masked samples too, as the archive does; a NaN is never an outlier.
    keep_median : bool
        Return the medians; without them the memory of a call is one byte per sample.
    grades : bool
        Tell of samples that are no outliers how far they lie from their median, for `tso3.core.beside`; 0 for those
        that are bad, or have no median.

    Returns
    -------
    result : OutlierResult
        For the integrations ``start:stop``. Medians and comparisons are float32; float64 with "propagate", as in the
        archive.

    Raises
    ------
    ValueError
        If shapes disagree, a window leaves the stack, or a parameter is out of range.

    Notes
    -----
    Whether a window needs clipping is seen from its smallest and largest sample and the smallest threshold; only
    windows that might are clipped, so that clipping costs little where nothing is found. The compiled code releases
    the interpreter's lock; row ranges may be processed in parallel. With ``maxiters=1, flag_masked=True`` the result
    is that of jwst 3.0.0, bit for bit: ``nan_policy="propagate"`` for its rolling median, ``nan_policy="skip",
    min_valid=1`` and a mask of NaN alone for its static one.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.median import window_bounds
    >>> from tso3.core.outliers import flag_outliers
    >>> data = np.array([1, 2, 90, 2, np.nan, 3, 2], np.float32).reshape(7, 1, 1)
    >>> found = flag_outliers(data, np.ones_like(data), np.isnan(data), *window_bounds(7, 5), snr=5)
    >>> found.outlier.ravel().nonzero()[0].tolist(), found.median.ravel().tolist()
    ([2], [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, nan])
    """
    if data.ndim != 3 or err.shape != data.shape or mask.shape != data.shape:
        raise ValueError(f"data {data.shape}, err {err.shape} and mask {mask.shape} must have the same three axes")
    if maxiters < 1 or not snr > 0:
        raise ValueError(f"snr is {snr} and maxiters {maxiters}; both must be positive")
    end = data.shape[0] if stop is None else stop
    if not 0 <= start <= end <= data.shape[0]:
        raise ValueError(f"integrations {start}:{end} are not within the {data.shape[0]} given")
    if len(np.atleast_1d(lo)) != data.shape[0]:
        raise ValueError(f"{data.shape[0]} integrations need as many windows, not {len(np.atleast_1d(lo))}")
    first, last = check_bounds(np.asarray(lo)[start:end], np.asarray(hi)[start:end], data.shape[0])
    rule = sample_rule(first, last, nan_policy, min_valid)
    shape = (end - start, *data.shape[1:])
    level = np.zeros(shape, np.uint8)
    median = np.empty(shape if keep_median else (0, 0, 0), rule.dtype)
    n_flagged = np.zeros(end - start, np.int64)
    if level.size:
        planes = Planes(flatten(data, np.float32), flatten(err, np.float32), flatten(mask, np.uint8))
        rows = merge_rows(data.shape, *planes)
        _flag_outliers(
            planes,
            (first, last, start),
            (rule.depth, rule.fewest, bool(flag_masked)),
            ClipRule(
                max(rule.fewest, 1),
                np.float32(snr),
                int(maxiters),
                bool(grades),
            ),
            make_lanes(rule.depth, int(np.max(last - first)), rule.dtype),
            make_sections(len(data), rule.depth, maxiters == 1 and not keep_median and not grades),
            level.reshape(end - start, *rows),
            median.reshape(end - start, *rows) if keep_median else median,
            n_flagged,
        )
    return OutlierResult(level, median if keep_median else None, n_flagged)


@njit(cache=True, nogil=True)
def _flag_outliers(
    planes: Planes,
    windows: tuple[Bounds, Bounds, int],
    flags: tuple[int, int, bool],
    rule: ClipRule,
    lanes: Lanes,
    sections: Sections,
    level: Array,
    median: Array,
    n_flagged: Array,
) -> None:
    """Fill level, median (unless empty) and n_flagged, chunk of lanes by chunk of lanes."""
    data, err, mask = planes
    lo, hi, start = windows
    depth, fewest, flag_masked = flags
    n_int, ny, nx = level.shape
    cursor = lanes.cursor
    for y in range(ny):
        for x in range(0, nx, LANES):
            n = min(LANES, nx - x)
            place = (y * data.step_row + x, y * err.step_row + x, y * mask.step_row + x)
            if sections.length > 0 and _flag_by_sections(
                planes, place, (y, x, n), windows, flags, rule, lanes, sections, level, n_flagged
            ):
                continue
            cursor[0] = cursor[1] = 0
            for i in range(n_int):
                if cursor[0] != lo[i] or cursor[1] != hi[i]:
                    _follow(planes, place, n, (lo[i], hi[i], depth, fewest), rule, lanes)
                t = start + i
                at = (place[0] + t * data.step_int, place[1] + t * err.step_int, place[2] + t * mask.step_int)
                n_flagged[i] += _compare(planes, at, n, rule, flag_masked, lanes.centre, level[i, y, x:])
                if median.size:
                    copy_row(lanes.centre, median[i, y, x:], n)


@inner
def _flag_by_sections(
    planes: Planes,
    place: Place,
    chunk: Place,
    windows: Any,
    flags: Any,
    rule: ClipRule,
    lanes: Lanes,
    sections: Sections,
    outlier: Array,
    n_flagged: Array,
) -> bool:
    """
    Fill the n columns of outlier from (y, x) on, ``chunk``, without most of the medians.

    Return False, and leave n_flagged as it was, if that does not pay.
    """
    y, x, n = chunk
    lo, hi, start = windows
    note_sections(planes, place, n, sections)
    left = 0
    for i in range(outlier.shape[0]):
        left += mark_open(planes, place, n, (lo[i], hi[i], start + i), flags, rule, sections, outlier[i, y, x:])
    if _FEW * left > n * outlier.shape[0]:
        return False
    for i in range(outlier.shape[0]):
        n_flagged[i] += judge_open(
            planes, place, n, (lo[i], hi[i], start + i), flags[1], rule, lanes, outlier[i, y, x:]
        )
    return True


@inner
def _follow(
    planes: Planes, place: Place, n: int, window: tuple[int, int, int, int], rule: ClipRule, lanes: Lanes
) -> None:
    """Bring the medians of n lanes to the window (lo, hi, depth, fewest), clipping included."""
    lo, hi, depth, fewest = window
    data, err, mask = planes
    at = (place[0], place[2])
    if depth > 0:
        first = lanes.cursor[1]
        if lo < lanes.cursor[0] or hi < first or lo >= first:
            first = lo
            forget_thresholds(lanes, n)
        seek(data, mask, at, n, lanes, lo, hi)
        median_row(lanes, n, fewest)
        if rule.maxiters > 1:
            for t in range(first, hi):
                here = (place[0], place[1] + t * err.step_int, place[2] + t * mask.step_int)
                note_thresholds(planes, here, n, rule.snr, t % depth == 0, lanes)
    else:
        lanes.cursor[0], lanes.cursor[1] = lo, hi
        search_row(data, mask, at, n, fewest, lanes)
    if rule.maxiters > 1 and mark_suspects(lanes, n, depth > 0) != 0:
        clip_marked(planes, place, n, rule, lanes, depth > 0)


@inner
def _compare(planes: Planes, at: Place, n: int, rule: ClipRule, flag_masked: bool, centre: Array, level: Array) -> Any:
    """Tell which samples of one integration lie too far from `centre`; return the number of outliers."""
    data, err, mask = planes.data.flat, planes.err.flat, planes.mask.flat
    d_at, e_at, m_at = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    snr = rule.snr
    ignored = np.uint8(0 if flag_masked else 255)
    flagged = np.int32(0)
    for lane in range(np.uint64(n)):
        x = data[d_at + lane]
        sigma = err[e_at + lane] if err[e_at + lane] == err[e_at + lane] else _ZERO
        counts = (mask[m_at + lane] & ignored) == 0
        hit = counts & (abs(x - centre[lane]) > snr * sigma)
        level[lane] = 1 if hit else 0
        flagged = np.int32(flagged + np.int32(hit))
    if rule.grades:
        _grade(planes, at, n, ignored, centre, level)
    return flagged


@inner_dividing
def _grade(planes: Planes, at: Place, n: int, ignored: Any, centre: Array, level: Array) -> None:
    """Write the grades of the samples of one integration that are no outliers and count."""
    data, err, mask = planes.data.flat, planes.err.flat, planes.mask.flat
    d_at, e_at, m_at = np.uint64(at[0]), np.uint64(at[1]), np.uint64(at[2])
    for lane in range(np.uint64(n)):
        step = (data[d_at + lane] - np.float32(centre[lane])) / err[e_at + lane] * _STEPS + _ZERO_GRADE
        known = ((mask[m_at + lane] & ignored) == 0) & (step == step)
        step = (step if step < _HIGHEST else _HIGHEST) if step > _LOWEST else _LOWEST
        level[lane] = level[lane] if level[lane] == 1 else (np.uint8(step) if known else np.uint8(0))
