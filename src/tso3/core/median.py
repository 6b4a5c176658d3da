"""Rolling medians along time: windows and medians that leave bad samples out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from tso3.core._lanes import LANES, Lanes, copy_row, make_lanes, median_row, search_row, seek
from tso3.core._planes import Array, Plane, flatten, merge_rows

__all__ = ["Bounds", "NanPolicy", "SampleRule", "check_bounds", "rolling_median", "sample_rule", "window_bounds"]

NanPolicy = Literal["skip", "propagate"]
"""What a bad sample does to the median of its window: it is left out, or it empties it (the archive)."""

Bounds = NDArray[np.int64]
"""One end of every window, in integrations."""

WIDEST_SORTED = 64
"""Windows common to all integrations that are wider than this are searched once per pixel, not kept sorted."""


def window_bounds(
    n_int: int, width: int, edges: Literal["shrink", "full", "repeat"] = "shrink"
) -> tuple[Bounds, Bounds]:
    """
    Return the time window of every integration as half-open ranges.

    Integration i is compared with the integrations ``lo[i] <= j < hi[i]``: the `width` integrations from
    ``i - width // 2`` on, which is centred for odd widths and leans to the past by half a step for even ones.

    Parameters
    ----------
    n_int : int
        Integrations in the span that windows may not leave (an exposure, or a segment).
    width : int
        Full width of the window [integrations]. If it is below 2 or at least `n_int`, every window is the whole span.
    edges : {"shrink", "full", "repeat"}
        At the two ends: the part of the centred window that exists; a window of full width that leans inward; or the
        nearest window of full width that exists, taken as the archive centres it. The last two are the same ranges,
        for the nearest full window is the one that leans inward.

    Returns
    -------
    lo, hi : ndarray of int64, shape (n_int,)
        First integration of each window, and the one after its last.

    Raises
    ------
    ValueError
        If `n_int` is negative or `edges` unknown.

    Notes
    -----
    jwst 3.0.0 gives every integration the last window if the width is 2; here 2 works like any other width
    (``docs/differences.md``).

    Examples
    --------
    >>> from tso3.core.median import window_bounds
    >>> [bounds.tolist() for bounds in window_bounds(5, 3)]
    [[0, 0, 1, 2, 3], [2, 3, 4, 5, 5]]
    >>> [bounds.tolist() for bounds in window_bounds(5, 3, edges="full")]
    [[0, 0, 1, 2, 2], [3, 3, 4, 5, 5]]
    """
    if n_int < 0:
        raise ValueError(f"the number of integrations is {n_int}; it cannot be negative")
    if edges not in ("shrink", "full", "repeat"):
        raise ValueError(f"edges is {edges!r}; use 'shrink', 'full' or 'repeat'")
    if width < 2 or width >= n_int:
        return np.zeros(n_int, np.int64), np.full(n_int, n_int, np.int64)
    first = np.arange(n_int, dtype=np.int64) - width // 2
    if edges == "shrink":
        return np.maximum(first, 0), np.minimum(first + width, n_int)
    first = np.clip(first, 0, n_int - width)
    return first, first + width


def rolling_median(
    data: NDArray[np.float32],
    mask: NDArray[np.bool_],
    lo: ArrayLike,
    hi: ArrayLike,
    *,
    nan_policy: NanPolicy = "skip",
    min_valid: int = 3,
) -> NDArray[np.floating]:
    """
    Return the median of a window of integrations, for every pixel and window.

    Output sample i is the median of ``data[lo[i]:hi[i]]`` along time; of an even number of samples it is the mean of
    the two in the middle.

    Parameters
    ----------
    data : ndarray of float32, shape (n_int, ny, nx)
        Stack, time on axis 0, any unit; a row range of a larger stack is not copied. NaN marks a bad sample. Not
        modified.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where a sample is bad.
    lo, hi : array_like of int, shape (n_window,)
        Half-open ranges of integrations, as `window_bounds` makes them (any ranges are right; monotonic ones are fast).
    nan_policy : {"skip", "propagate"}
        "skip": bad samples (masked or NaN) are left out. "propagate": one of them empties the window, as in the
        archive's rolling median (its static median leaves NaN out: there, "skip" with a `min_valid` of 1 is the same).
    min_valid : int
        With "skip": fewest valid samples from which a median is believed.

    Returns
    -------
    median : ndarray, shape (n_window, ny, nx)
        Unit of `data`; NaN where too few samples are valid. float32; float64 with "propagate", for so computes the
        archive (it differs where the two middle samples are averaged).

    Raises
    ------
    ValueError
        If shapes disagree, a range leaves the stack or is empty, or `nan_policy` is unknown.

    Notes
    -----
    Memory beyond the output: the sorted window of 256 pixels. The compiled code releases the interpreter's lock.
    Departures from ``jwst.outlier_detection.tso``: ``docs/differences.md``.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.median import rolling_median, window_bounds
    >>> data = np.array([1, 2, 90, 4, np.nan], np.float32).reshape(5, 1, 1)
    >>> rolling_median(data, np.isnan(data), *window_bounds(5, 3), min_valid=1).ravel()
    array([ 1.5,  2. ,  4. , 47. ,  4. ], dtype=float32)
    """
    if data.ndim != 3 or mask.shape != data.shape:
        raise ValueError(f"data {data.shape} and mask {mask.shape} must have the same three axes")
    first, last = check_bounds(lo, hi, data.shape[0])
    rule = sample_rule(first, last, nan_policy, min_valid)
    median = np.empty((len(first), *data.shape[1:]), rule.dtype)
    if median.size:
        samples, bad = flatten(data, np.float32), flatten(mask, np.uint8)
        rows = merge_rows(data.shape, samples, bad)
        _rolling_median(
            samples,
            bad,
            first,
            last,
            (rule.fewest, rule.depth > 0),
            make_lanes(rule.depth, int(np.max(last - first)), rule.dtype),
            median.reshape(len(first), *rows),
        )
    return median


@dataclass(frozen=True)
class SampleRule:
    """
    How medians are taken, in the kernels' terms.

    Attributes
    ----------
    dtype : type
        Of the medians, and of their comparison with data.
    fewest : int
        Fewest samples that must count; below 0: all of the window.
    depth : int
        Length of the widest window; 0 if the only window is so long that it is searched and not kept sorted.
    """

    dtype: type
    fewest: int
    depth: int


def sample_rule(lo: Bounds, hi: Bounds, nan_policy: NanPolicy, min_valid: int) -> SampleRule:
    """
    Translate a NaN policy into the kernels' terms.

    Parameters
    ----------
    lo, hi : ndarray of int64, shape (n_window,)
        Windows. They decide how medians are found, never what they are.
    nan_policy : {"skip", "propagate"}
        As in `rolling_median`.
    min_valid : int
        As in `rolling_median`.

    Returns
    -------
    rule : SampleRule
        Frozen.

    Raises
    ------
    ValueError
        If `nan_policy` is unknown or `min_valid` below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.median import sample_rule
    >>> sample_rule(np.array([0, 1]), np.array([2, 3]), "propagate", 3).fewest
    -1
    """
    if nan_policy not in ("skip", "propagate"):
        raise ValueError(f"nan_policy is {nan_policy!r}; use 'skip' or 'propagate'")
    if min_valid < 1:
        raise ValueError(f"min_valid is {min_valid}; at least one sample is needed for a median")
    common = lo.size == 0 or bool(np.all(lo == lo[0]) and np.all(hi == hi[0]))
    widest = int(np.max(hi - lo, initial=1))
    depth = 0 if common and widest > WIDEST_SORTED else widest
    if nan_policy == "skip":
        return SampleRule(np.float32, min_valid, depth)
    return SampleRule(np.float64, -1, depth)


def check_bounds(lo: ArrayLike, hi: ArrayLike, n_int: int) -> tuple[Bounds, Bounds]:
    """
    Return windows as int64 arrays after checking them.

    Parameters
    ----------
    lo, hi : array_like of int, shape (n_window,)
        Half-open ranges.
    n_int : int
        Integrations in the stack.

    Returns
    -------
    lo, hi : ndarray of int64, shape (n_window,)
        Contiguous.

    Raises
    ------
    ValueError
        If a range is empty or leaves the stack.

    Examples
    --------
    >>> from tso3.core.median import check_bounds
    >>> check_bounds([0], [3], 2)
    Traceback (most recent call last):
        ...
    ValueError: window 0 is [0, 3), which is empty or leaves the 2 integrations given
    """
    first = np.ascontiguousarray(lo, dtype=np.int64)
    last = np.ascontiguousarray(hi, dtype=np.int64)
    if first.ndim != 1 or first.shape != last.shape:
        raise ValueError(f"lo {first.shape} and hi {last.shape} must have the same single axis")
    wrong = np.flatnonzero((first < 0) | (last > n_int) | (first >= last))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"window {i} is [{first[i]}, {last[i]}), which is empty or leaves the {n_int} integrations given"
        )
    return first, last


@njit(cache=True, nogil=True)
def _rolling_median(
    data: Plane, mask: Plane, lo: Bounds, hi: Bounds, rule: tuple[int, bool], lanes: Lanes, out: Array
) -> None:
    """Fill out (n_window, ny, nx), chunk of lanes by chunk of lanes."""
    fewest, keep_sorted = rule
    n_window, ny, nx = out.shape
    cursor = lanes.cursor
    for y in range(ny):
        for x in range(0, nx, LANES):
            n = min(LANES, nx - x)
            at = (y * data.step_row + x, y * mask.step_row + x)
            cursor[0] = cursor[1] = 0
            for i in range(n_window):
                if cursor[0] != lo[i] or cursor[1] != hi[i]:
                    if keep_sorted:
                        seek(data, mask, at, n, lanes, lo[i], hi[i])
                        median_row(lanes, n, fewest)
                    else:
                        cursor[0], cursor[1] = lo[i], hi[i]
                        search_row(data, mask, at, n, fewest, lanes)
                copy_row(lanes.centre, out[i, y, x:], n)
