"""Traces of SOSS moved onto the light of an image, also where orders lie on each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import column_medians
from tso3.core.soss_trace import column_centroids, is_isolated, joint_shifts, mean_profile, smooth_shift

__all__ = ["on_soss_light"]

Floats = NDArray[np.float64]

_HALF, _REACH, _CLEAR = 14.0, 26.0, 30.0
"""Half widths: of a centroid, of the profile, of what is no background [pixel]; the light is 23 wide."""
_DEGREE, _DEGREE_FAINT = 8, 3
"""Degree of the polynomials; of order 3, which is faint."""
_LEAST = 200
_LOCAL, _LOCAL_PASSES, _PRIOR = 24.0, 3, 0.02
"""What is left is smoothed over so many columns (standard deviation); as much of it is expected as the last [pixel]."""
_PASSES = 4
_FARTHEST = 2.0
"""By how much a pass moves a trace at most [pixel]."""
_WORST = 0.5
"""Standard error of a column beyond which it tells nothing [pixel]."""
_SYSTEMATIC = 0.003
"""Error that every column has, however bright, since the profile is not the same everywhere [pixel]."""


def on_soss_light(traces: Sequence[Floats], image: NDArray[np.floating]) -> list[Floats]:
    """
    Return the traces of the orders moved onto their light by smooth polynomials.

    Parameters
    ----------
    traces : sequence of ndarray, shape (n_columns,)
        Rows of each order, order 1 first; NaN where it has none.
    image : ndarray, shape (n_rows, n_columns)
        NaN where unknown.

    Returns
    -------
    moved : list of ndarray, shape (n_columns,)
        As they were where the light does not tell; NaN as before.

    Notes
    -----
    Order 1 is first put onto the centroids of the columns where it stands alone. Its mean profile there is then fitted
    to all orders of every column at once, and the polynomials to what that finds, until nothing moves, at most four
    times.
    """
    alone = is_isolated(traces[0], traces[1:], image.shape[0], _HALF + 2.0, _HALF + 20.0)
    net = image - _level(traces, image)
    low = max(int(np.nanmin(traces[0]) - 3.0 * _HALF), 0)  # it looks at every row that it is given
    near = net[low : int(np.nanmax(traces[0]) + 3.0 * _HALF)]
    centroid = column_centroids(near, traces[0] - low, _HALF) + low
    shift = smooth_shift(np.where(alone, centroid - traces[0], np.nan), _DEGREE, least=_LEAST)
    if shift is None:
        return list(traces)
    first = traces[0] + shift
    profile = mean_profile(net, first, alone & np.isfinite(centroid), _REACH)
    if profile is None:
        return [first, *traces[1:]]
    moved = [first, *traces[1:]]
    for _ in range(_PASSES):
        found, errors = joint_shifts(image, moved, profile)
        before = moved
        moved = [
            _moved(trace, now + np.clip(shift, -_FARTHEST, _FARTHEST), error, k)
            for k, (trace, now, shift, error) in enumerate(zip(traces, before, found, errors, strict=True))
        ]
        steps = [np.nanquantile(np.abs(now - old), 0.95) for now, old in zip(moved, before, strict=True)]
        if max(steps) < _SYSTEMATIC:
            break
    return moved


def _moved(trace: Floats, light: Floats, error: Floats, number: int) -> Floats:
    """Return a trace moved smoothly onto the rows of its light; as it is where too few columns tell."""
    error = np.hypot(error, _SYSTEMATIC)
    difference = np.where(error < _WORST, light - trace, np.nan)
    shift = smooth_shift(difference, _DEGREE if number < 2 else _DEGREE_FAINT, _LEAST, error)
    if shift is None:
        return trace
    if number == 0:  # bright enough for what no polynomial follows
        for _ in range(_LOCAL_PASSES):
            shift = shift + _local(difference - shift, error)
    return trace + shift


def _local(rest: Floats, error: Floats) -> Floats:
    """Return what is left of a shift, smoothed over few columns and shrunk as far as its error asks for."""
    kernel = np.exp(-0.5 * np.square(np.arange(-3.0 * _LOCAL, 3.0 * _LOCAL + 1.0) / _LOCAL))
    weight = np.where(np.abs(rest) < 1.0, 1.0 / np.square(error), 0.0)
    total = np.convolve(np.where(weight > 0.0, weight * rest, 0.0), kernel, "same")
    return np.asarray(total / (np.convolve(weight, kernel, "same") + _PRIOR**-2))


def _level(traces: Sequence[Floats], image: NDArray[np.floating]) -> Floats:
    """Return the median of each column away from all traces, that of the image where a column has no such place."""
    rows = np.arange(float(image.shape[0]))[:, np.newaxis]
    away = np.all([~(np.abs(rows - line) <= _CLEAR) for line in traces], axis=0) & np.isfinite(image)
    level = np.full(image.shape[1], np.median(image[away]) if away.any() else 0.0)
    enough = away.sum(axis=0) >= 10
    level[enough] = column_medians(np.where(away, image, np.nan)[:, enough])
    return level
