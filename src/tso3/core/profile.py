"""
The spatial profile of a spectrum: which share of its light falls on each pixel of a column.

Made once per exposure from its reference image, so that a column in which a pixel is missing can be completed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SpatialProfile", "narrowed_profile", "running_sum", "spatial_profile"]

_HALF_WIDTHS = (0, 2, 4, 8, 16, 32, 64)
_NOISE_SPAN = 15


@dataclass(frozen=True)
class SpatialProfile:
    """
    Distribution of the light across dispersion, and the spectrum of the reference image.

    Attributes
    ----------
    profile : ndarray, shape (n_rows, n_wave)
        Its sum with the aperture weights is 1 in every column; it may be negative where the background was subtracted
        too high. NaN in columns where it is not known.
    spectrum : ndarray, shape (n_wave,)
        Light of the reference image in the whole aperture, missing pixels completed; NaN where that is not known.
    half_width : ndarray of int64, shape (n_wave,)
        Half width [pixel] of the stretch of columns that the profile was averaged over.
    """

    profile: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    half_width: NDArray[np.int64]


def spatial_profile(
    image: NDArray[np.floating], aperture: NDArray[np.float64], tolerance: float = 0.01
) -> SpatialProfile:
    """
    Return the spatial profile of an image without background.

    Bad pixels are filled from the profile of the columns around. A column whose own profile is noisy is given that of
    the shortest stretch of columns around it which is not.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_wave)
        Reference image less background, any unit; NaN marks bad pixels. Not modified.
    aperture : ndarray, shape (n_rows, n_wave)
        Aperture weights, as of `tso3.core.trace.aperture_weights`.
    tolerance : float, optional
        Noise of the profile, in a pixel and as a share of the column's light, above which it is averaged.

    Returns
    -------
    profile : SpatialProfile

    Notes
    -----
    The average over a stretch is the sum of the image over the sum of the light, so that faint columns count little.
    Noise is measured by the difference of a column's profile from the mean of its two neighbours (two stretches away),
    which a smooth profile along a trace leaves near zero; its root mean square over the pixels of the aperture is
    smoothed by a running median of 15 columns. A profile from a single column keeps what is particular about its
    pixels (their response), one from a stretch follows a tilted trace to second order only.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.profile import spatial_profile
    >>> image = np.outer([1.0, 3.0, 1.0], [10.0, 20.0, 30.0])
    >>> image[1, 1] = np.nan
    >>> result = spatial_profile(image, np.ones((3, 3)))
    >>> result.profile[:, 1].round(6), result.spectrum.round(6)
    (array([0.2, 0.6, 0.2]), array([ 50., 100., 150.]))
    """
    rows = np.flatnonzero((aperture > 0.0).any(axis=1))
    used = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 1)
    part = _profile(image[used], aperture[used], tolerance)
    profile = np.where(np.isfinite(part.profile).all(axis=0), np.zeros(image.shape), np.nan)
    profile[used] = part.profile
    return SpatialProfile(profile, part.spectrum, part.half_width)


def _profile(image: NDArray[np.floating], aperture: NDArray[np.float64], tolerance: float) -> SpatialProfile:
    """Return `spatial_profile` of the rows that hold the aperture."""
    inside = aperture > 0.0
    filled, light = _fill(np.where(inside, image, 0.0), aperture, inside)
    profile = np.full(image.shape, np.nan)
    chosen = np.full(image.shape[1], -1, dtype=np.int64)
    coarsest = profile
    for half_width in _HALF_WIDTHS:
        candidate = _normalised(filled, light, aperture, half_width)
        known = np.isfinite(candidate).all(axis=0)
        quiet = known & (chosen < 0) & (_noise(candidate, inside, 2 * half_width + 1) <= tolerance)
        profile[:, quiet], chosen[quiet] = candidate[:, quiet], half_width
        coarsest = np.where(known, candidate, coarsest)
        if (chosen >= 0).all():
            break
    rest = (chosen < 0) & np.isfinite(coarsest).all(axis=0)
    profile[:, rest], chosen[rest] = coarsest[:, rest], _HALF_WIDTHS[-1]
    chosen[chosen < 0] = 0
    return SpatialProfile(profile, _complete(np.where(inside, image, 0.0), aperture, profile), chosen)


def narrowed_profile(
    image: NDArray[np.floating], aperture: NDArray[np.float64], known: SpatialProfile
) -> SpatialProfile:
    """
    Return the spatial profile in an aperture that lies within one whose profile is known.

    Parameters
    ----------
    image : ndarray, shape (n_rows, n_wave)
        Reference image less background; NaN marks bad pixels. Not modified.
    aperture : ndarray, shape (n_rows, n_wave)
        Aperture weights.
    known : SpatialProfile
        Of the wider aperture.

    Returns
    -------
    profile : SpatialProfile
        The same shape, normalised to this aperture; the spectrum is that of this aperture.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.profile import narrowed_profile, spatial_profile
    >>> image = np.outer([1.0, 3.0, 1.0], [10.0, 20.0, 30.0])
    >>> narrow = np.array([[0.0], [1.0], [1.0]]) * np.ones(3)
    >>> result = narrowed_profile(image, narrow, spatial_profile(image, np.ones((3, 3))))
    >>> result.profile[:, 1].round(6), result.spectrum.round(6)
    (array([0.  , 0.75, 0.25]), array([ 40.,  80., 120.]))
    """
    inside = aperture > 0.0
    share = np.where(inside, known.profile, 0.0)
    weight = (aperture * share).sum(axis=0)
    profile = np.where(weight > 0.0, share / np.where(weight > 0.0, weight, 1.0), np.nan)
    return SpatialProfile(profile, _complete(np.where(inside, image, 0.0), aperture, profile), known.half_width)


def _fill(
    image: NDArray[np.float64], aperture: NDArray[np.float64], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image with bad pixels filled from neighbouring columns, and the light of each column."""
    bad = inside & ~np.isfinite(image)
    filled = np.where(bad, 0.0, image)
    light = np.where(bad.any(axis=0), 0.0, (aperture * filled).sum(axis=0))
    if not bad.any():
        return filled, light
    source = np.where(bad.any(axis=0), 0.0, filled)
    guess = np.full(image.shape, np.nan)
    for half_width in _HALF_WIDTHS[1:]:
        candidate = _normalised(source, light, aperture, half_width)
        guess = np.where(np.isnan(guess), candidate, guess)
        if not np.isnan(guess).any():
            break
    light = _complete(image, aperture, guess)
    filled = np.where(bad, light * guess, filled)
    unknown = ~np.isfinite(light)
    filled[:, unknown], light[unknown] = 0.0, 0.0
    return filled, light


def _complete(
    image: NDArray[np.float64], aperture: NDArray[np.float64], profile: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the light of each column, completed for bad pixels; NaN where it is not known or all is missing."""
    good = np.isfinite(image)
    light = (aperture * np.where(good, image, 0.0)).sum(axis=0)
    kept = 1.0 - np.where(good, 0.0, aperture * profile).sum(axis=0)
    known = np.isfinite(profile).all(axis=0) & (kept > 0.0)
    return np.where(known, light / np.where(known, kept, 1.0), np.nan)


def _normalised(
    image: NDArray[np.float64], light: NDArray[np.float64], aperture: NDArray[np.float64], half_width: int
) -> NDArray[np.float64]:
    """Return the profile of the columns around each column; NaN where there is no light."""
    total = running_sum(light[np.newaxis], half_width)[0]
    share = running_sum(image, half_width)
    share = np.where(total > 0.0, share / np.where(total > 0.0, total, 1.0), np.nan)
    share = np.where(aperture > 0.0, share, 0.0)
    weight = (aperture * share).sum(axis=0)
    known = (weight > 0.0) & (total > 0.0)
    return np.where(known, share / np.where(known, weight, 1.0), np.nan)


def running_sum(rows: NDArray[np.float64], half_width: int) -> NDArray[np.float64]:
    """
    Return the sum over the columns within a half width, fewer at the ends.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n_wave)
        Finite. Not modified.
    half_width : int
        Columns on each side.

    Returns
    -------
    sums : ndarray, shape (n_rows, n_wave)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.profile import running_sum
    >>> running_sum(np.array([[1.0, 2.0, 4.0]]), 1).tolist()
    [[3.0, 7.0, 6.0]]
    """
    if half_width == 0:
        return rows.copy()
    n = rows.shape[1]
    cumulative = np.cumsum(rows, axis=1)
    sums = np.empty_like(cumulative)
    inner = max(n - half_width, 0)  # columns with all of their neighbours on the right
    sums[:, :inner] = cumulative[:, half_width:]
    sums[:, inner:] = cumulative[:, -1:]
    sums[:, half_width + 1 :] -= cumulative[:, : max(inner - 1, 0)]
    return sums


def _noise(profile: NDArray[np.float64], inside: NDArray[np.bool_], step: int) -> NDArray[np.float64]:
    """Return the noise of a profile in each column, per pixel of the aperture; infinite where it cannot be told."""
    n = profile.shape[1]
    noise = np.full(n, np.inf)
    if n <= 2 * step:
        return noise
    left, inner, right = slice(0, n - 2 * step), slice(step, n - step), slice(2 * step, n)
    difference = profile[:, inner] - 0.5 * (profile[:, left] + profile[:, right])
    shared = inside[:, inner] & inside[:, left] & inside[:, right]
    count = np.maximum(shared.sum(axis=0), 1)
    square = np.where(shared, difference, 0.0) ** 2
    local = np.sqrt(square.sum(axis=0) / count / 1.5)
    noise[inner] = _running_median(np.where(np.isfinite(local), local, np.inf))
    noise[:step], noise[n - step :] = noise[step], noise[n - step - 1]
    return noise


def _running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of the values around each, fewer at the ends."""
    half = _NOISE_SPAN // 2
    padded = np.concatenate([np.full(half, np.nan), values, np.full(half, np.nan)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _NOISE_SPAN)
    return np.asarray(np.nanmedian(windows, axis=1))
