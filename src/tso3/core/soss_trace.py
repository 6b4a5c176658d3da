"""
Traces of SOSS measured on an image: the centroid of the light in every column, and a smooth correction from it.

Where orders lie on each other a centroid is that of all of them; there the mean profile of an order that stands alone
is fitted to all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LightProfile", "column_centroids", "is_isolated", "joint_shifts", "mean_profile", "smooth_shift"]

Floats = NDArray[np.float64]

_PASSES = 4
_CLIPS = 6
_STEP = 0.25
"""Step of a profile [pixel]."""
_CHUNK = 256
"""Columns that are fitted at once."""


@dataclass(frozen=True)
class LightProfile:
    """
    Light of one order across dispersion.

    Attributes
    ----------
    offset : ndarray, shape (n,)
        Rows from the trace, rising.
    share : ndarray, shape (n,)
        Share of the light on a pixel with its centre there; 0 beyond the first and the last.
    """

    offset: Floats
    share: Floats

    @property
    def reach(self) -> float:
        """Rows from the trace beyond which there is no light."""
        return float(self.offset[-1])


def is_isolated(
    trace: Floats, others: Sequence[Floats], n_rows: int, half_width: float, distance: float
) -> NDArray[np.bool_]:
    """
    Return in which columns an order lies on the detector and away from all others.

    Parameters
    ----------
    trace : ndarray, shape (n_wave,)
        Its rows; NaN where unknown.
    others : sequence of ndarray
        Those of the other orders, of any length.
    n_rows : int
        Rows of the image.
    half_width : float
        How far the light reaches from the trace [pixel].
    distance : float
        How far other traces must be away [pixel].

    Returns
    -------
    isolated : ndarray of bool, shape (n_wave,)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import is_isolated
    >>> is_isolated(np.array([20.0, 20.0]), [np.array([30.0, 90.0])], 96, 15.0, 40.0)
    array([False,  True])
    """
    isolated = np.isfinite(trace) & (trace >= half_width) & (trace <= n_rows - 1 - half_width)
    for other in others:
        n = min(other.size, trace.size)
        isolated[:n] &= ~(np.abs(other[:n] - trace[:n]) < distance)
    return isolated


def column_centroids(image: NDArray[np.floating], trace: Floats, half_width: float) -> Floats:
    """
    Return the flux-weighted centroid of the light about a trace, column by column.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        Image less background; NaN is left out with its mirror image about the centre.
    trace : ndarray, shape (n_wave,)
        First guess of the rows in columns 0, 1, ...
    half_width : float
        Half width of the window [pixel]; it follows the centroid.

    Returns
    -------
    centroid : ndarray, shape (n_wave,)
        Rows; NaN where the window leaves the image, holds no light, or runs away.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import column_centroids
    >>> image = np.zeros((41, 1))
    >>> image[16:23] = 1.0
    >>> column_centroids(image, np.array([21.0]), 8.0)
    array([19.])
    """
    n = min(trace.size, image.shape[1])
    rows = np.arange(float(image.shape[0]))[:, np.newaxis]
    light = np.asarray(image[:, :n], np.float64)
    good = np.isfinite(light)
    centre = trace[:n].copy()
    for _ in range(_PASSES):
        weight = np.clip(half_width + 0.5 - np.abs(rows - centre), 0.0, 1.0)
        weight = np.where(good & _mirrored(good, centre), weight, 0.0)
        inside = (centre >= half_width) & (centre <= image.shape[0] - 1 - half_width)
        weighted = np.where(weight > 0.0, light, 0.0) * weight
        total = weighted.sum(axis=0)
        moment = (rows * weighted).sum(axis=0)
        centre = np.where(inside & (total > 0.0), moment / np.where(total > 0.0, total, 1.0), np.nan)
        centre = np.where(np.abs(centre - trace[:n]) <= half_width, centre, np.nan)
    centroid = np.full(trace.size, np.nan)
    centroid[:n] = centre
    return centroid


def _mirrored(good: NDArray[np.bool_], centre: Floats) -> NDArray[np.bool_]:
    """Return whether the pixel as far on the other side of the centre is good."""
    rows = np.arange(good.shape[0])[:, np.newaxis]
    known = np.nan_to_num(centre)
    other = np.clip(np.rint(2.0 * known - rows).astype(np.int64), 0, good.shape[0] - 1)
    return np.asarray(np.take_along_axis(good, other, axis=0))


def mean_profile(
    image: NDArray[np.floating], trace: Floats, columns: NDArray[np.bool_], reach: float
) -> LightProfile | None:
    """
    Return the mean profile of the light about a trace.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        Image less background; NaN is left out.
    trace : ndarray, shape (n_columns,)
        Rows of the trace.
    columns : ndarray of bool, shape (n_columns,)
        Where the light stands alone.
    reach : float
        Rows on either side.

    Returns
    -------
    profile : LightProfile or None
        In steps of a quarter of a pixel; None where a step has no pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import mean_profile
    >>> rows, trace = np.arange(21.0)[:, np.newaxis], np.linspace(9.0, 11.0, 101)
    >>> image = np.maximum(4.0 - np.abs(rows - trace), 0.0)
    >>> found = mean_profile(image, trace, np.ones(101, bool), 5.0)
    >>> bool(found.offset[found.share.argmax()] == 0.0)
    True
    """
    rows = np.arange(float(image.shape[0]))[:, np.newaxis]
    light, offset = np.asarray(image[:, columns], np.float64), rows - trace[columns]
    near = np.isfinite(light) & (np.abs(offset) <= reach)
    total = np.where(near, light, 0.0).sum(axis=0)
    near &= total > 0.0
    share = light / np.where(total > 0.0, total, 1.0)
    n = 2 * round(reach / _STEP) + 1
    index = np.rint((offset[near] + reach) / _STEP).astype(np.int64)
    count = np.bincount(index, minlength=n)
    if count.min(initial=1) == 0 or not near.any():
        return None
    return LightProfile(np.linspace(-reach, reach, n), np.bincount(index, share[near], n) / count)


def joint_shifts(image: NDArray[np.floating], traces: Sequence[Floats], profile: LightProfile) -> tuple[Floats, Floats]:
    """
    Return how far the light of each order lies from its trace, by fitting all orders of a column at once.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_columns)
        Image; NaN is left out.
    traces : sequence of ndarray, shape (n_columns,)
        Rows of each order; NaN where it has none.
    profile : LightProfile
        The same for all.

    Returns
    -------
    shift, error : ndarray, shape (n_orders, n_columns)
        Rows that the light is above the trace, and its standard error by what the fit leaves; NaN without light.

    Notes
    -----
    Of every column, I(y) = b + sum over orders of a P(y - T) - a d P'(y - T), linear in b, a and a d: good for shifts
    d that are small beside the features of the profile; call it again with the traces moved.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_trace import LightProfile, joint_shifts
    >>> offset = np.arange(-12.0, 12.1, 0.25)
    >>> profile = LightProfile(offset, np.exp(-0.5 * (offset / 3.0) ** 2))
    >>> rows = np.arange(60.0)[:, np.newaxis]
    >>> light = lambda row: np.exp(-0.5 * ((rows - row) / 3.0) ** 2)
    >>> image = 5.0 * light(20.05) + 1.0 * light(28.0) + 7.0
    >>> shift, error = joint_shifts(image, [np.array([20.0]), np.array([28.0])], profile)
    >>> shift.round(2).ravel() + 0.0
    array([0.05, 0.  ])
    """
    shift, error = (np.full((len(traces), image.shape[1]), np.nan) for _ in range(2))
    for first in range(0, image.shape[1], _CHUNK):
        part = slice(first, first + _CHUNK)
        shift[:, part], error[:, part] = _joint(image[:, part], [trace[part] for trace in traces], profile)
    return shift, error


def _joint(image: NDArray[np.floating], traces: list[Floats], profile: LightProfile) -> tuple[Floats, Floats]:
    """Return shifts and errors of some columns."""
    light = np.ascontiguousarray(image.T, np.float64)
    good = np.isfinite(light)
    light[~good] = 0.0
    terms = _terms(light.shape, traces, profile) * good[:, np.newaxis]
    normal, right = terms @ terms.transpose(0, 2, 1), (terms @ light[:, :, np.newaxis])[:, :, 0]
    scale = np.sqrt(np.maximum(np.einsum("xaa->xa", normal), 1e-300))
    normal = normal / scale[:, :, np.newaxis] / scale[:, np.newaxis, :] + 1e-10 * np.eye(terms.shape[1])
    inverse = np.linalg.inv(normal)
    found = (inverse @ (right / scale)[:, :, np.newaxis])[:, :, 0] / scale
    left = np.square(light - (found[:, np.newaxis] @ terms)[:, 0]).sum(axis=1)
    noise = np.sqrt(left / np.maximum(good.sum(axis=1) - terms.shape[1], 1))
    spread = noise[:, np.newaxis] * np.sqrt(np.einsum("xaa->xa", inverse)) / scale
    amplitude = found[:, 0:-1:2]
    amplitude = np.where((amplitude > 0.0) & (scale[:, 0:-1:2] > 1e-100), amplitude, np.nan)
    return (found[:, 1::2] / amplitude).T, (spread[:, 1::2] / amplitude).T


def _terms(shape: tuple[int, int], traces: list[Floats], profile: LightProfile) -> Floats:
    """Return profiles and their derivatives by the shift, and a constant: shape (n_columns, n_terms, n_rows)."""
    slope = np.gradient(profile.share, profile.offset)
    n_columns, n_rows = shape
    terms = np.zeros((n_columns, 2 * len(traces) + 1, n_rows))
    terms[:, -1] = 1.0
    columns, near = np.arange(n_columns)[:, np.newaxis], np.arange(2 * int(profile.reach) + 1) - int(profile.reach)
    for k, trace in enumerate(traces):
        rows = np.rint(np.nan_to_num(trace, nan=-1e6)).astype(np.int64)[:, np.newaxis] + near
        inside = (rows >= 0) & (rows < n_rows)
        offset = (rows - trace[:, np.newaxis])[inside]
        place = np.broadcast_to(columns, rows.shape)[inside], rows[inside]
        terms[place[0], 2 * k, place[1]] = np.interp(offset, profile.offset, profile.share, 0.0, 0.0)
        terms[place[0], 2 * k + 1, place[1]] = -np.interp(offset, profile.offset, slope, 0.0, 0.0)
    return terms


def smooth_shift(difference: Floats, degree: int = 2, least: int = 100, error: Floats | None = None) -> Floats | None:
    """
    Return a polynomial in column through noisy differences, outliers left out.

    Parameters
    ----------
    difference : ndarray, shape (n_wave,)
        Measured less expected row; NaN where not measured.
    degree : int, optional
        Of the polynomial. Beyond the measured columns its value at the outermost of them holds.
    least : int, optional
        Columns that are needed.
    error : ndarray, shape (n_wave,), optional
        Standard errors, by which columns are weighed; equal by default.

    Returns
    -------
    shift : ndarray, shape (n_wave,), or None
        None where too few columns agree.

    Notes
    -----
    Columns farther than three times the median absolute deviation, scaled to a normal distribution, are left out,
    up to six times over.
    """
    columns = np.arange(float(difference.size))
    error = np.ones(difference.size) if error is None else error
    known = np.isfinite(difference) & np.isfinite(error)
    used = known
    if known.sum() < max(least, degree + 1):
        return None
    first, last = np.flatnonzero(known)[[0, -1]]
    powers = np.polynomial.chebyshev.chebvander(2.0 * (columns - first) / max(last - first, 1) - 1.0, degree)
    fitted = np.zeros(difference.size)
    for _ in range(_CLIPS):
        if used.sum() < max(least, degree + 1):
            return None
        fitted = powers @ _weighted_fit(powers[used] / error[used, np.newaxis], difference[used] / error[used])
        rest = (difference - fitted) / error
        rest = rest - np.median(rest[used])
        spread = 1.4826 * np.median(np.abs(rest[used]))
        kept = known & (np.abs(rest) <= max(3.0 * spread, 1e-9))
        if np.array_equal(kept, used):
            break
        used = kept
    measured = np.flatnonzero(used)
    return np.asarray(fitted[np.clip(np.arange(difference.size), measured[0], measured[-1])])


def _weighted_fit(terms: Floats, values: Floats) -> Floats:
    """Return coefficients of least squares: terms are few and nearly orthogonal, so normal equations will do."""
    size = np.sqrt(np.einsum("ik,ik->k", terms, terms))
    terms = terms / np.where(size > 0.0, size, 1.0)
    normal = np.einsum("ij,ik->jk", terms, terms)
    right = np.einsum("ij,i->j", terms, values)
    return np.asarray(np.linalg.lstsq(normal, right, rcond=None)[0] / np.where(size > 0.0, size, 1.0))
