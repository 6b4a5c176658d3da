"""Outliers in time: samples that lie too far from the median of their window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tso3.core._lanes import INF, LANES, flatten, make_lanes, median_row, search_row, seek, select_median
from tso3.core.median import NanPolicy, check_bounds, sample_rule

__all__ = ["OutlierResult", "flag_outliers"]


@dataclass(frozen=True)
class OutlierResult:
    """
    Outliers of consecutive integrations.

    Attributes
    ----------
    outlier : ndarray of bool, shape (n_int, ny, nx)
        True where a sample lies too far from the median of its window.
    median : ndarray of float, shape (n_int, ny, nx), or None
        What the samples were compared with, in the unit of the data; NaN where it is unknown. None if not kept.
    n_flagged : ndarray of int64, shape (n_int,)
        Outliers in each integration.
    """

    outlier: NDArray[np.bool_]
    median: NDArray[np.floating] | None
    n_flagged: NDArray[np.int64]


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
        Compare bad samples too, as the archive does: a finite one can be an outlier, an infinite one always is.
    keep_median : bool
        Return the medians; without them the memory of a call is one byte per sample.

    Returns
    -------
    result : OutlierResult
        For the integrations ``start:stop``. Medians and comparisons are float32, but float64 with "propagate" and more
        than one distinct window, as in the archive.

    Raises
    ------
    ValueError
        If shapes disagree, a window leaves the stack, or a parameter is out of range.

    Notes
    -----
    Whether a window needs clipping is seen from its smallest and largest sample and a lower bound of its errors; only
    windows that might are clipped, so that clipping costs little where nothing is found. The compiled code releases the
    interpreter's lock; row ranges may be processed in parallel. With ``maxiters=1, nan_policy="propagate",
    flag_masked=True`` the result is that of jwst 3.0.0, bit for bit.

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
    outlier = np.zeros(shape, np.bool_)
    median = np.empty(shape if keep_median else (0, 0, 0), rule.dtype)
    n_flagged = np.zeros(end - start, np.int64)
    if outlier.size:
        _flag_outliers(
            (flatten(data, np.float32), flatten(err, np.float32), flatten(mask, np.uint8)),
            (first, last, start, rule.depth),
            (rule.limit, rule.fewest, np.float32(snr), maxiters, flag_masked),
            outlier.view(np.uint8),
            median,
            n_flagged,
        )
    return OutlierResult(outlier, median if keep_median else None, n_flagged)


@njit(cache=True, nogil=True)
def _flag_outliers(planes, windows, rule, outlier, median, n_flagged):
    """Fill outlier, median (unless empty) and n_flagged, chunk of lanes by chunk of lanes."""
    data, err, mask = planes
    lo, hi, start, depth = windows
    limit, fewest, snr, maxiters, flag_masked = rule
    n_int, ny, nx = outlier.shape
    lanes = make_lanes(max(depth, 1))
    values = np.empty(hi[0] - lo[0] if depth == 0 else 0, np.float32)
    centre = np.empty(LANES, median.dtype)
    for y in range(ny):
        for x in range(0, nx, LANES):
            n = min(LANES, nx - x)
            at = (y * data.step_row + x, y * mask.step_row + x)
            place = (at[0], y * err.step_row + x, at[1])
            lanes.cursor[:] = 0
            if depth == 0:
                search_row(data, mask, at, n, limit, (lo[0], hi[0]), fewest, values, centre)
                if maxiters > 1:
                    _clip_row(planes, place, n, rule, (lo[0], hi[0]), centre)
            for i in range(n_int):
                if depth > 0 and (lanes.cursor[0] != lo[i] or lanes.cursor[1] != hi[i]):
                    seek(data, mask, at, n, limit, lanes, lo[i], hi[i])
                    median_row(lanes, n, fewest, centre)
                    if maxiters > 1:
                        _clip_row(planes, place, n, rule, (lo[i], hi[i]), centre)
                n_flagged[i] += _compare_row(planes, place, start + i, n, rule, centre, outlier[i, y, x : x + n])
                if median.size:
                    median[i, y, x : x + n] = centre[:n]


@njit(cache=True, nogil=True)
def _compare_row(planes, place, i, n, rule, centre, outlier):
    """Flag the samples of integration i that lie too far from `centre`; return their number."""
    data, err, mask = planes
    limit, _, snr, _, flag_masked = rule
    d_at = place[0] + i * data.step_int
    e_at = place[1] + i * err.step_int
    m_at = place[2] + i * mask.step_int
    flagged = 0
    for lane in range(n):
        x = data.flat[d_at + lane]
        sigma = err.flat[e_at + lane]
        threshold = snr * (sigma if sigma == sigma else np.float32(0))
        use = flag_masked | ((mask.flat[m_at + lane] == 0) & (abs(x) <= limit))
        hit = use & (abs(x - centre[lane]) > threshold)
        outlier[lane] = hit
        flagged += hit
    return flagged


@njit(cache=True, nogil=True)
def _clip_row(planes, place, n, rule, bounds, centre):
    """Clip the window of every lane."""
    size = bounds[1] - bounds[0]
    values = np.empty(size, np.float32)
    thresholds = np.empty(size, np.float32)
    work = np.empty(size, np.float32)
    for lane in range(n):
        _clip_lane(
            planes,
            (place[0] + lane, place[1] + lane, place[2] + lane),
            rule,
            bounds,
            (values, thresholds, work),
            centre,
            lane,
        )


@njit(cache=True, nogil=True)
def _clip_lane(planes, place, rule, bounds, work, centre, lane):
    """Clip one window: `centre` becomes the median of what is left after at most maxiters - 1 clippings."""
    if np.isnan(centre[lane]):
        return
    data, err, mask = planes
    limit, fewest, snr, maxiters, _ = rule
    values, thresholds, scratch = work
    left = 0
    for t in range(bounds[0], bounds[1]):
        x = data.flat[place[0] + t * data.step_int]
        if mask.flat[place[2] + t * mask.step_int] == 0 and abs(x) <= limit:
            sigma = err.flat[place[1] + t * err.step_int]
            values[left] = x
            thresholds[left] = snr * (sigma if sigma == sigma else np.float32(0))
            left += 1
    for _ in range(maxiters - 1):
        kept = 0
        for k in range(left):
            if not abs(values[k] - centre[lane]) > thresholds[k]:
                kept += 1
        if kept == left or kept < max(fewest, 1):
            return
        kept = 0
        for k in range(left):
            if not abs(values[k] - centre[lane]) > thresholds[k]:
                values[kept] = values[k]
                thresholds[kept] = thresholds[k]
                scratch[kept] = values[k]
                kept += 1
        left = kept
        select_median(scratch, left, centre, lane)
