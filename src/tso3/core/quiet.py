"""Which samples of a light curve lie outside a transit, found from the light curve alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core.noise import point_to_point

__all__ = ["quiet_samples"]

_MOST_BINS = 240
_FEWEST_BINS = 12
_LONGEST = 0.85
"""Part of the series beyond which a dip is no transit: there would be no level to measure it from."""
_SIGNIFICANT = 50.0
"""Chi-square by which a transit must improve a straight line; of white noise the best of all dips gains some 20."""
_SHARE = 0.5
"""Part of the variance beyond white noise that the transit must explain, so that red noise is not taken for one."""
_SLOPES = (0.02, 0.06, 0.1, 0.15, 0.22, 0.32, 0.45, 0.65, 0.95)
"""Lengths of ingress and egress that are tried, in parts of the time between their middles."""
_STEPS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
_MARGIN = 0.02


@dataclass(frozen=True)
class _Binned:
    """A light curve in few bins, less a straight line."""

    time: NDArray[np.float64]
    weight: NDArray[np.float64]
    residual: NDArray[np.float64]
    noise: float


def quiet_samples(flux: NDArray[np.float64]) -> NDArray[np.bool_]:
    """
    Return which samples of a light curve lie outside a transit or an eclipse.

    A trapezoid on a straight line is fitted by least squares over a grid; its span, from first to fourth contact and
    2 % of it (at least one bin) on either side, is left out where the dip is significant.

    Parameters
    ----------
    flux : ndarray of float, shape (n_int,)
        Light curve in the order of time, evenly sampled. NaN marks a missing sample, which is never quiet.

    Returns
    -------
    quiet : ndarray of bool, shape (n_int,)
        All finite samples if no transit is found, which is so in a series of fewer than 12 bins.

    Notes
    -----
    A dip counts as a transit if it lowers chi-square by more than 50 and explains more than half of the variance
    beyond white noise, whose size is taken from point to point (`tso3.core.noise.point_to_point`). The series is
    averaged to at most 240 bins before. Flares and phase curves are not recognised: they count as noise.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.quiet import quiet_samples
    >>> flux = 1.0 + 1e-4 * np.random.default_rng(0).standard_normal(100)
    >>> bool(quiet_samples(flux).all())
    True
    >>> flux[40:60] -= 0.01
    >>> np.flatnonzero(~quiet_samples(flux)).tolist() == list(range(39, 61))
    True
    """
    finite = np.isfinite(flux)
    binned, n_per_bin = _binned(flux, finite)
    if binned is None:
        return finite
    low, high = _box(binned)
    span = _trapezoid(binned, low, high)
    if span is None:
        return finite
    first, last = (edge * n_per_bin for edge in span)
    margin = max(_MARGIN * (last - first), n_per_bin)
    index = np.arange(flux.size)
    quiet: NDArray[np.bool_] = finite & ((index + 0.5 < first - margin) | (index + 0.5 > last + margin))
    return quiet


def _binned(flux: NDArray[np.float64], finite: NDArray[np.bool_]) -> tuple[_Binned | None, int]:
    """Return the light curve in at most 240 bins, and samples in each; None if there are too few to tell."""
    size = max(1, -(-flux.size // _MOST_BINS))
    n_bins = -(-flux.size // size)
    scatter = point_to_point(flux) * abs(float(np.median(flux[finite]))) if finite.any() else float("nan")
    if n_bins < _FEWEST_BINS or not scatter > 0.0:
        return None, size
    which = np.arange(flux.size) // size
    weight = np.bincount(which[finite], minlength=n_bins).astype(np.float64)
    value = np.bincount(which[finite], flux[finite], minlength=n_bins) / np.maximum(weight, 1.0)
    time: NDArray[np.float64] = np.arange(n_bins, dtype=np.float64) + 0.5
    return _Binned(time, weight, _without_line(time, weight, value), scatter), size


def _without_line(
    time: NDArray[np.float64], weight: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return series (the last axis) less their weighted straight line; 0 where the weight is."""
    t = time - (weight * time).sum() / weight.sum()
    mean = (value * weight).sum(axis=-1, keepdims=True) / weight.sum()
    slope = (value * weight * t).sum(axis=-1, keepdims=True) / max(float((weight * t * t).sum()), 1e-300)
    return np.where(weight > 0.0, value - mean - slope * t, 0.0)


def _box(binned: _Binned) -> tuple[int, int]:
    """Return the half-open range of bins whose dip below a straight line explains most."""
    w, t = binned.weight, binned.time
    t = t - (w * t).sum() / w.sum()
    sums = [np.concatenate([[0.0], np.cumsum(each)]) for each in (w, w * t, w * binned.residual)]
    n = w.size
    low, high = np.triu_indices(n + 1, 2)
    chosen = high - low <= _LONGEST * n
    low, high = low[chosen], high[chosen]
    weight, moment, dip = (each[high] - each[low] for each in sums)
    free = weight - weight**2 / w.sum() - moment**2 / (w * t * t).sum()
    gain = np.where((dip < 0.0) & (free > 1e-6 * w.sum()), dip**2 / np.maximum(free, 1e-300), 0.0)
    best = int(np.argmax(gain))
    return int(low[best]), int(high[best])


def _trapezoid(binned: _Binned, low: int, high: int) -> tuple[float, float] | None:
    """Return first and fourth contact [bin] of the best trapezoid about a box; None if it is no transit."""
    t, w = binned.time, binned.weight
    begin, end, slope = (each.ravel() for each in np.meshgrid(_STEPS, _STEPS, _SLOPES, indexing="ij"))
    begin, end = low + begin, high + end
    length = np.maximum(end - begin, 1.0)
    ramp = np.maximum(slope * length, 1e-3)
    inside = np.minimum(t - begin[:, np.newaxis], (begin + length)[:, np.newaxis] - t)
    shape = -np.clip(inside / ramp[:, np.newaxis] + 0.5, 0.0, 1.0)
    shape = _without_line(t, w, shape)
    free = (w * shape**2).sum(axis=1)
    product = (w * shape * binned.residual).sum(axis=1)
    gain = np.where((product > 0.0) & (free > 1e-6 * w.sum()), product**2 / np.maximum(free, 1e-300), 0.0)
    best = int(np.argmax(gain))
    white = binned.noise**2
    excess = float((w * binned.residual**2).sum()) - white * (np.count_nonzero(w) - 2)
    if gain[best] < _SIGNIFICANT * white or gain[best] < _SHARE * excess:
        return None
    half = 0.5 * ramp[best]
    return float(begin[best] - half), float(begin[best] + length[best] + half)
