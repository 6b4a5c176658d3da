"""
Iterative clipping of each pixel's own time series, by its own robust scatter: no errors, no model of the star.

The samples of a window are sorted once; what clipping leaves of them is then a range of the sorted samples, and its
median and its median absolute deviation are found by walking outward from the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tso3.core._planes import Array, Plane, flatten, merge_rows
from tso3.core.median import Bounds, check_bounds
from tso3.core.outliers import OutlierResult

__all__ = ["ClippedSeries", "clip_series", "flag_by_scatter", "flag_far"]

_GAUSSIAN = 1.482602218505602
"""Standard deviation over median absolute deviation of a normal distribution."""
_PIXELS = 64
"""Pixels whose series are gathered at a time."""


@dataclass(frozen=True)
class ClippedSeries:
    """
    What is left of each pixel's series after clipping.

    Attributes
    ----------
    centre : ndarray of float32, shape (ny, nx)
        Median, unit of the data; NaN where too few samples are valid.
    scatter : ndarray of float32, shape (ny, nx)
        Standard deviation of one sample, robust; NaN where it is unknown or 0.
    """

    centre: NDArray[np.float32]
    scatter: NDArray[np.float32]


def clip_series(
    data: NDArray[np.float32], mask: NDArray[np.bool_], *, snr: float, maxiters: int = 3, min_valid: int = 3
) -> ClippedSeries:
    """
    Return median and scatter of every pixel's whole series after iterative clipping.

    With the median m of the samples and their scatter s, 1.4826 times the median of ``abs(data - m)``, samples with
    ``abs(data - m) > snr * s`` drop out, and both are taken again, until nothing drops out, fewer than `min_valid`
    samples would be left, or `maxiters` medians have been taken. The scatter that is returned is the standard
    deviation about m of the samples within ``snr * s``: that of few samples is known better than s is.

    Parameters
    ----------
    data : ndarray of float32, shape (n_int, ny, nx)
        Stack, any unit; NaN is left out. Not modified.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where a sample is bad: it is left out.
    snr : float
        Threshold in units of the scatter.
    maxiters : int, optional
        Most medians.
    min_valid : int, optional
        Fewest samples from which median and scatter are believed.

    Returns
    -------
    series : ClippedSeries

    Raises
    ------
    ValueError
        If shapes disagree or a parameter is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.sigma_clip import clip_series
    >>> data = np.array([1, 2, 90, 3, np.nan, 3, 4], np.float32).reshape(7, 1, 1)
    >>> found = clip_series(data, np.isnan(data), snr=5.0)
    >>> float(found.centre[0, 0]), round(float(found.scatter[0, 0]), 4)
    (3.0, 1.2247)
    """
    _check(data, mask, snr, maxiters)
    shape = data.shape[1:]
    centre, scatter = (np.full(shape, np.nan, np.float32) for _ in range(2))
    if data.size:
        planes = flatten(data, np.float32), flatten(mask, np.uint8)
        rows = merge_rows(data.shape, *planes)
        _clip_series(*planes, len(data), _rule(snr, maxiters, min_valid), centre.reshape(rows), scatter.reshape(rows))
    return ClippedSeries(centre, scatter)


def flag_far(
    data: NDArray[np.float32], mask: NDArray[np.bool_], series: ClippedSeries, *, snr: float, keep_median: bool = False
) -> OutlierResult:
    """
    Return the samples that are farther from the median of their pixel than `snr` times its scatter.

    Parameters
    ----------
    data : ndarray of float32, shape (n_int, ny, nx)
        Stack.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where a sample is bad: it is no outlier.
    series : ClippedSeries
        Of the same pixels.
    snr : float
        Threshold in units of the scatter.
    keep_median : bool, optional
        Return what the samples were compared with.

    Returns
    -------
    result : OutlierResult

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.sigma_clip import ClippedSeries, flag_far
    >>> series = ClippedSeries(np.ones((1, 1), "f4"), np.ones((1, 1), "f4"))
    >>> data = np.array([1, 9, -9, 5], np.float32).reshape(4, 1, 1)
    >>> flag_far(data, data < 0, series, snr=5.0).outlier.ravel().tolist()
    [False, True, False, False]
    """
    with np.errstate(invalid="ignore"):
        outlier = (np.abs(data - series.centre) > np.float32(snr) * series.scatter) & ~mask
    median = np.broadcast_to(series.centre, data.shape).copy() if keep_median else None
    return OutlierResult(outlier.view(np.uint8), median, outlier.sum(axis=(1, 2), dtype=np.int64))


def flag_by_scatter(
    data: NDArray[np.float32],
    mask: NDArray[np.bool_],
    lo: ArrayLike,
    hi: ArrayLike,
    *,
    snr: float,
    maxiters: int = 3,
    min_valid: int = 3,
    start: int = 0,
    stop: int | None = None,
    keep_median: bool = False,
) -> OutlierResult:
    """
    Return the samples that deviate from the clipped median of their time window by more than `snr` times its scatter.

    Each window ``data[lo[i]:hi[i]]`` is clipped as `clip_series` does it; sample i is an outlier if
    ``abs(data[i] - m_i) > snr * s_i``. A result depends on its own window and on nothing else.

    Parameters
    ----------
    data : ndarray of float32, shape (n_int, ny, nx)
        Stack, the neighbours that windows need included. NaN is left out and no outlier. Not modified.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where a sample is bad: it takes no part, and is no outlier.
    lo, hi : array_like of int, shape (n_int,)
        Window of each integration; those outside ``start:stop`` are not used.
    snr : float
        As in `clip_series`, like the next two.
    maxiters : int, optional
        Most medians.
    min_valid : int, optional
        Fewest samples.
    start, stop : int, optional
        Integrations of the stack that results are wanted for; by default all.
    keep_median : bool, optional
        Return the medians.

    Returns
    -------
    result : OutlierResult
        For the integrations ``start:stop``.

    Raises
    ------
    ValueError
        If shapes disagree, a window leaves the stack, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.median import window_bounds
    >>> from tso3.core.sigma_clip import flag_by_scatter
    >>> data = np.array([1, 2, 90, 3, np.nan, 3, 4], np.float32).reshape(7, 1, 1)
    >>> found = flag_by_scatter(data, np.isnan(data), *window_bounds(7, 5), snr=5.0)
    >>> found.outlier.ravel().nonzero()[0].tolist()
    [2]
    """
    _check(data, mask, snr, maxiters)
    end = data.shape[0] if stop is None else stop
    if not 0 <= start <= end <= data.shape[0]:
        raise ValueError(f"integrations {start}:{end} are not within the {data.shape[0]} given")
    first, last = check_bounds(np.asarray(lo)[start:end], np.asarray(hi)[start:end], data.shape[0])
    shape = (end - start, *data.shape[1:])
    outlier = np.zeros(shape, np.bool_)
    median = np.empty(shape if keep_median else (0, 0, 0), np.float32)
    n_flagged = np.zeros(end - start, np.int64)
    if outlier.size:
        planes = flatten(data, np.float32), flatten(mask, np.uint8)
        rows = merge_rows(data.shape, *planes)
        _flag_by_scatter(
            *planes,
            (first, last, start),
            len(data),
            _rule(snr, maxiters, min_valid),
            outlier.view(np.uint8).reshape(end - start, *rows),
            median.reshape(end - start, *rows) if keep_median else median,
            n_flagged,
        )
    return OutlierResult(outlier.view(np.uint8), median if keep_median else None, n_flagged)


def _check(data: NDArray[np.float32], mask: NDArray[np.bool_], snr: float, maxiters: int) -> None:
    """Refuse what cannot be clipped."""
    if data.ndim != 3 or mask.shape != data.shape:
        raise ValueError(f"data {data.shape} and mask {mask.shape} must have the same three axes")
    if maxiters < 1 or not snr > 0:
        raise ValueError(f"snr is {snr} and maxiters {maxiters}; both must be positive")


def _rule(snr: float, maxiters: int, min_valid: int) -> tuple[float, int, int]:
    return float(snr), int(maxiters), max(int(min_valid), 1)


@njit(cache=True, nogil=True)
def _gather(data: Plane, mask: Plane, at: tuple[int, int], n_int: int, n: int, series: Array) -> None:
    """Fill rows of ``series`` with the samples of n pixels, NaN where one is bad."""
    for t in range(n_int):
        d_at, m_at = at[0] + t * data.step_int, at[1] + t * mask.step_int
        for p in range(n):
            series[p, t] = np.float32(np.nan) if mask.flat[m_at + p] else data.flat[d_at + p]


@njit(cache=True, nogil=True)
def _clip_series(
    data: Plane, mask: Plane, n_int: int, rule: tuple[float, int, int], centre: Array, scatter: Array
) -> None:
    """Fill centre and scatter of all pixels."""
    ny, nx = centre.shape
    series = np.empty((_PIXELS, n_int), np.float32)
    window = np.empty(n_int, np.float32)
    for y in range(ny):
        for x in range(0, nx, _PIXELS):
            n = min(_PIXELS, nx - x)
            _gather(data, mask, (y * data.step_row + x, y * mask.step_row + x), n_int, n, series)
            for p in range(n):
                m = 0
                for t in range(n_int):
                    if not np.isnan(series[p, t]):
                        window[m] = series[p, t]
                        m += 1
                window[:m].sort()
                middle, sigma = _clipped(window, m, rule)
                centre[y, x + p], scatter[y, x + p] = middle, sigma


@njit(cache=True, nogil=True)
def _flag_by_scatter(
    data: Plane,
    mask: Plane,
    windows: tuple[Bounds, Bounds, int],
    n_int: int,
    rule: tuple[float, int, int],
    outlier: Array,
    median: Array,
    n_flagged: Array,
) -> None:
    """Fill outlier, median (unless empty) and n_flagged."""
    lo, hi, start = windows
    n_wanted, ny, nx = outlier.shape
    series = np.empty((_PIXELS, n_int), np.float32)
    window = np.empty(n_int, np.float32)
    snr = np.float32(rule[0])
    for y in range(ny):
        for x in range(0, nx, _PIXELS):
            n = min(_PIXELS, nx - x)
            _gather(data, mask, (y * data.step_row + x, y * mask.step_row + x), n_int, n, series)
            for p in range(n):
                m, first, last = 0, 0, 0
                for i in range(n_wanted):
                    m, first, last = _follow(series[p], window, (m, first, last), lo[i], hi[i])
                    middle, sigma = _clipped(window, m, rule)
                    hit = abs(series[p, start + i] - middle) > snr * sigma
                    outlier[i, y, x + p] = hit
                    n_flagged[i] += hit
                    if median.size:
                        median[i, y, x + p] = middle


@njit(cache=True, nogil=True)
def _follow(series: Array, window: Array, state: tuple[int, int, int], lo: int, hi: int) -> tuple[int, int, int]:
    """Bring the sorted samples of a window (number, first, last) to the integrations lo to hi."""
    m, first, last = state
    if lo < first or hi < last or lo >= last:
        m, first, last = 0, lo, lo
    for t in range(first, lo):
        if not np.isnan(series[t]):
            k = np.searchsorted(window[:m], series[t])
            for j in range(k, m - 1):
                window[j] = window[j + 1]
            m -= 1
    for t in range(last, hi):
        if not np.isnan(series[t]):
            k = np.searchsorted(window[:m], series[t])
            for j in range(m, k, -1):
                window[j] = window[j - 1]
            window[k] = series[t]
            m += 1
    return m, lo, hi


@njit(cache=True, nogil=True)
def _clipped(window: Array, m: int, rule: tuple[float, int, int]) -> tuple[Any, Any]:
    """Return median and scatter of the first m sorted samples after clipping; NaN where they are unknown."""
    snr, maxiters, fewest = rule
    nothing = np.float32(np.nan)
    if m < fewest:
        return nothing, nothing
    a, b = 0, m
    middle, sigma = _spread(window, a, b)
    for _ in range(maxiters - 1):
        low, high = _kept(window, a, b, middle, np.float32(snr) * sigma)
        if (low == a and high == b) or high - low < fewest:
            break
        a, b = low, high
        middle, sigma = _spread(window, a, b)
    a, b = _kept(window, a, b, middle, np.float32(snr) * sigma)
    if sigma <= 0.0 or b - a < 2:
        return middle, nothing
    total = 0.0
    for k in range(a, b):
        total += (np.float64(window[k]) - middle) ** 2
    return middle, np.float32(np.sqrt(total / (b - a - 1)))


@njit(cache=True, nogil=True)
def _kept(window: Array, a: int, b: int, middle: Any, reach: Any) -> tuple[int, int]:
    """Return the range of the sorted samples a to b that lie within reach of the middle."""
    while a < b and not abs(window[a] - middle) <= reach:
        a += 1
    while b > a and not abs(window[b - 1] - middle) <= reach:
        b -= 1
    return a, b


@njit(cache=True, nogil=True)
def _spread(window: Array, a: int, b: int) -> tuple[Any, Any]:
    """Return the median of the sorted samples a to b, and 1.4826 times their median absolute deviation."""
    n = b - a
    low, high = a + (n - 1) // 2, a + n // 2
    middle = np.float32((window[low] + window[high]) * np.float32(0.5)) if low != high else window[low]
    high = low + 1
    nearer, before = np.float32(0.0), np.float32(0.0)
    for _ in range(n // 2 + 1):  # the deviations in rising order, one of either side at a time
        before = nearer
        below = middle - window[low] if low >= a else np.float32(np.inf)
        above = window[high] - middle if high < b else np.float32(np.inf)
        if below <= above:
            nearer = below
            low -= 1
        else:
            nearer = above
            high += 1
    deviation = nearer if n % 2 == 1 else np.float32((before + nearer) * np.float32(0.5))
    return middle, np.float32(_GAUSSIAN) * deviation
