"""
The motion of a star along dispersion, found in its spectra and taken out of them.

A spectrum S that moves by a small d pixels changes by d times

    R = -C d(S / C)/dx ,

since electrons move and the calibration C stays with its pixels (`tso3.core.sensitivity`). So does the light of a
channel of wavelengths: its edges exchange light with their neighbours, and its pixels calibrate light that is not
theirs. The motion of every integration is found by weighted least squares: the spectrum of an integration is S times a
polynomial along dispersion plus d R. It is then averaged over as many integrations as serve best; to leave it out is
one of the choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Motion",
    "MotionGauge",
    "SpectralShifts",
    "change_of_channels",
    "gauge",
    "measure",
    "response",
    "settled",
]

Array = NDArray[np.float64]

_DEGREE = 4
_FEWEST = 60
"""Wavelengths with light from which a motion is sought."""
_FEWEST_IN_TIME = 8
_SPIKE, _LEAST_SPIKE, _AROUND = 7.0, 0.001, 15
_FAR = 6.0
"""Deviation over noise, and over the scatter of the integration, from which a sample takes no part."""
_ROUNDS = 4
_MEDIAN = 1.5708
"""Variance of a median over that of a mean."""
_LEAST = 0.5
"""Part of the information about a motion that must not be noise of the response."""
_WINDOWS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 130, 200)
"""Half widths of the running mean over time [integrations]."""


@dataclass(frozen=True)
class MotionGauge:
    """
    What tells a motion along dispersion in a spectrum.

    Attributes
    ----------
    spectrum, variance : ndarray of float64, shape (n_wave,)
        Steady spectrum and variance of a sample; 0 where a wavelength has no part.
    response : ndarray of float64, shape (n_wave,)
        Change of the spectrum for a motion of one pixel.
    rows : ndarray of float64, shape (n_rows, n_wave)
        What the spectrum may change by otherwise, and the response as the last row.
    true_share : float
        Of the information about the motion, the part that is not noise of the response itself.
    """

    spectrum: Array
    variance: Array
    response: Array
    rows: Array
    true_share: float

    @property
    def is_usable(self) -> bool:
        """Whether the spectrum has features that a motion could be seen by."""
        return self.true_share > _LEAST

    @property
    def weight(self) -> Array:
        """One over the variance; 0 where a wavelength has no part."""
        return np.where(self.variance > 0.0, 1.0 / np.where(self.variance > 0.0, self.variance, 1.0), 0.0)


@dataclass(frozen=True)
class SpectralShifts:
    """
    Motions of integrations, each by itself.

    Attributes
    ----------
    brightness : ndarray of float64, shape (n_int,)
        In units of the steady spectrum; NaN where nothing is valid.
    shift, error : ndarray of float64, shape (n_int,)
        Motion and its 1-sigma error [pixel]; NaN where it cannot be told.
    """

    brightness: Array
    shift: Array
    error: Array


@dataclass(frozen=True)
class Motion:
    """
    The motion of a star along dispersion.

    Attributes
    ----------
    shift : ndarray of float64, shape (n_int,)
        [pixel], + in the order of the wavelengths in the product, mean 0; 0 where it is not known.
    error : ndarray of float64, shape (n_int,)
        1-sigma error [pixel] of an integration, as if it had not been averaged: noise that several integrations share
        counts in what is fitted to all of them as if it were independent.
    half_width : int
        Integrations on either side over which it was averaged; -1 where it was left out, since what was measured is
        not known to be more than noise.
    """

    shift: Array
    error: Array
    half_width: int


def response(spectrum: Array, calibration: Array | None) -> Array:
    """
    Return the change of a spectrum for a motion of one pixel.

    Parameters
    ----------
    spectrum : ndarray, shape (n_wave,)
        NaN where unknown.
    calibration : ndarray, shape (n_wave,), or None
        Unit of the spectrum for an electron; None for the same everywhere.

    Returns
    -------
    change : ndarray, shape (n_wave,)
        By central differences, one-sided beside gaps; NaN where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.spectral_motion import response
    >>> response(np.array([1.0, 2.0, 4.0, np.nan]), None).tolist()
    [-1.0, -1.5, -2.0, nan]
    """
    unit = np.ones(spectrum.size) if calibration is None else calibration
    electrons = np.concatenate([[np.nan], spectrum / unit, [np.nan]])
    up, down = electrons[2:] - electrons[1:-1], electrons[1:-1] - electrons[:-2]
    slope = np.where(np.isfinite(up) & np.isfinite(down), 0.5 * (up + down), np.where(np.isfinite(up), up, down))
    return np.asarray(-slope * unit)


def gauge(spectrum: Array, variance: Array, calibration: Array | None, n_sample: int) -> MotionGauge | None:
    """
    Return what tells a motion in spectra.

    Parameters
    ----------
    spectrum, variance : ndarray, shape (n_wave,)
        Steady spectrum and its steady variance; wavelengths where either is NaN or not positive have no part.
    calibration : ndarray, shape (n_wave,), or None
        As for `response`.
    n_sample : int
        Integrations that the steady spectrum is the median of.

    Returns
    -------
    gauge : MotionGauge or None
        None where fewer than 60 wavelengths have a part.

    Notes
    -----
    The response is made of differences of a spectrum with noise, and its square holds the square of that noise, of
    which the information about a motion is cleared: `MotionGauge.true_share`.
    """
    smooth = np.where((spectrum > 0.0) & ~_spiked(spectrum, variance / max(n_sample, 1), calibration), spectrum, np.nan)
    change = response(smooth, calibration)
    used = (spectrum > 0.0) & (variance > 0.0) & np.isfinite(change) & np.isfinite(variance)
    if np.count_nonzero(used) < _FEWEST:
        return None
    light, noise = np.where(used, spectrum, 0.0), np.where(used, variance, 0.0)
    moved = np.where(used, change, 0.0)
    place = np.linspace(-1.0, 1.0, spectrum.size)
    powers = np.stack([light * place**k for k in range(_DEGREE + 1)])
    weight = np.where(used, 1.0 / np.where(used, noise, 1.0), 0.0)
    around = np.concatenate([[0.0], noise, [0.0]])
    unit = np.ones(spectrum.size) if calibration is None else calibration
    worth = np.concatenate([[1.0], unit, [1.0]])
    beside = around[2:] / worth[2:] ** 2 + around[:-2] / worth[:-2] ** 2
    of_noise = 0.25 * _MEDIAN / max(n_sample, 1) * unit**2 * beside
    lost = float((weight * of_noise).sum())
    rows = np.vstack([powers, moved])
    normal = (rows * weight) @ rows.T
    told = normal[-1, -1] - normal[-1, :-1] @ np.linalg.pinv(normal[:-1, :-1], hermitian=True) @ normal[:-1, -1]
    return MotionGauge(light, noise, moved, rows, max(1.0 - lost / told, 0.0) if told > 0.0 else 0.0)


def _spiked(spectrum: Array, error2: Array, calibration: Array | None) -> NDArray[np.bool_]:
    """
    Return where single pixels stand out of their neighbours: what is hot, or badly completed, does not move.

    The cubic through the two neighbours on either side is missed by 7 times what is usual along the spectrum and in
    this part of it, by noise, and by a thousandth of the light.
    """
    unit = np.ones(spectrum.size) if calibration is None else calibration
    counts, noise2 = spectrum / unit, error2 / unit**2
    inner = slice(2, -2)
    beside, beyond = counts[1:-3] + counts[3:-1], counts[:-4] + counts[4:]
    missed = np.abs(counts[inner] - (4.0 * beside - beyond) / 6.0)
    own = _MEDIAN * (noise2[inner] + (16.0 * (noise2[1:-3] + noise2[3:-1]) + noise2[:-4] + noise2[4:]) / 36.0)
    light = np.abs(beside) / 2.0
    known = np.isfinite(missed) & np.isfinite(own) & (light > 0.0)
    spiked = np.zeros(spectrum.size, np.bool_)
    if not known.any():
        return spiked
    relative = np.where(known, missed / np.where(known, light, 1.0), np.nan)
    usual = 1.4826 * _running_median(relative, _AROUND)
    floor = np.sqrt(np.where(known, own, 0.0)) / np.where(known, light, 1.0)
    limit = _SPIKE * np.fmax(np.fmax(usual, floor), _LEAST_SPIKE)
    out = known & (relative > limit)
    # the neighbours of a spike miss the cubic because of it: only the largest of those around is the spike
    around = np.lib.stride_tricks.sliding_window_view(np.pad(np.nan_to_num(missed), 2), 5).max(axis=1)
    spiked[inner] = out & (missed >= around)
    return spiked


def _running_median(values: Array, half_width: int) -> Array:
    """Return the median of what is known around each value; 0 where nothing is."""
    known = np.isfinite(values)
    medians = np.zeros(values.size)
    for k in range(values.size):
        near = slice(max(k - half_width, 0), k + half_width + 1)
        if known[near].any():
            medians[k] = np.median(values[near][known[near]])
    return medians


def measure(gauge: MotionGauge, flux: Array) -> SpectralShifts:
    """
    Return the motion of integrations, each by itself.

    Parameters
    ----------
    gauge : MotionGauge
        What tells it.
    flux : ndarray, shape (n_int, n_wave)
        Spectra; NaN is not valid.

    Returns
    -------
    shifts : SpectralShifts

    Notes
    -----
    A sample that deviates from the fit by more than 6 times its noise and 6 times the robust scatter of the integration
    takes no part, until nothing changes, at most 4 times.
    """
    n_int = len(flux)
    brightness, shift, error = np.full((3, n_int), np.nan)
    weight, light = gauge.weight, gauge.spectrum
    for i in range(n_int):
        good = np.isfinite(flux[i]) & (weight > 0.0)
        values = np.where(good, flux[i], 0.0)
        now = np.where(_kept(gauge.rows, weight, values, good), weight, 0.0)
        whole = float((now * light * light).sum())
        if not whole > 0.0:
            continue
        brightness[i] = float((now * light * values).sum()) / whole
        if brightness[i] > 0.0 and gauge.is_usable:
            found, variance = _last(gauge.rows, now, values)
            size = gauge.true_share * brightness[i]
            shift[i], error[i] = found / size, np.sqrt(variance) / size
    return SpectralShifts(brightness, shift, error)


def _kept(rows: Array, weight: Array, values: Array, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which samples fit."""
    for _ in range(_ROUNDS):
        now = np.where(good, weight, 0.0)
        normal, right = (rows * now) @ rows.T, (rows * now) @ values
        found = np.linalg.lstsq(normal, right, rcond=1e-13)[0]
        distance = np.abs(values - found @ rows) * np.sqrt(weight)
        scatter = 1.4826 * float(np.median(distance[good])) if good.any() else 1.0
        kept = good & (distance <= _FAR * max(scatter, 1.0))
        if (kept == good).all():
            break
        good = kept
    return good


def _last(rows: Array, weight: Array, values: Array) -> tuple[float, float]:
    """Return the coefficient of the last row, and its variance; NaN where the rows do not tell it."""
    normal, right = (rows * weight) @ rows.T, (rows * weight) @ values
    size = np.sqrt(normal.diagonal())
    size = np.where(size > 0.0, size, 1.0)
    inverse = np.linalg.pinv(normal / np.outer(size, size), rcond=1e-12, hermitian=True)
    told = float((inverse @ (normal[:, -1] / size / size[-1]))[-1])
    if abs(told - 1.0) > 1e-6:
        return float("nan"), float("nan")
    return float((inverse @ (right / size))[-1] / size[-1]), float(inverse[-1, -1] / size[-1] ** 2)


def settled(shifts: SpectralShifts) -> Motion:
    """
    Return the motion of an exposure from those of its integrations.

    Parameters
    ----------
    shifts : SpectralShifts
        Of all integrations, in the order of time.

    Returns
    -------
    motion : Motion

    Notes
    -----
    That running mean is chosen whose expected error is least by Stein's unbiased estimate: the mean square of what it
    takes away, plus 2 e^2 times the mean weight of an integration in its own mean, less e^2; no motion at all is among
    the choices. Near the ends a mean has fewer integrations.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.spectral_motion import SpectralShifts, settled
    >>> seen = np.repeat([0.1, -0.1], 20)
    >>> error = np.full(40, 0.01)
    >>> motion = settled(SpectralShifts(np.ones(40), seen, error))
    >>> motion.shift[[0, -1]].round(3).tolist(), motion.half_width
    ([0.1, -0.1], 0)
    >>> settled(SpectralShifts(np.ones(40), seen, 100 * error)).half_width
    -1
    """
    known = np.isfinite(shifts.shift) & np.isfinite(shifts.error)
    nothing = np.zeros(known.size)
    n = int(known.sum())
    if n < _FEWEST_IN_TIME:
        return Motion(nothing, nothing, -1)
    seen = shifts.shift[known] - shifts.shift[known].mean()
    noise2 = float(np.mean(shifts.error[known] ** 2))
    best, chosen, least = nothing[known], -1, float(np.mean(seen**2)) - noise2
    for half_width in (each for each in _WINDOWS if 2 * each + 1 < n):
        mean, own = _running_mean(seen, half_width)
        risk = float(np.mean((seen - mean) ** 2)) - noise2 + 2.0 * noise2 * float(own.mean())
        if risk < least:
            best, chosen, least = mean, half_width, risk
    if chosen < 0:
        return Motion(nothing, nothing, -1)
    index = np.flatnonzero(known)
    shift = np.interp(np.arange(known.size), index, best)
    error = np.interp(np.arange(known.size), index, shifts.error[known])
    return Motion(shift, error, chosen)


def _running_mean(values: Array, half_width: int) -> tuple[Array, Array]:
    """Return the mean over neighbours in time, fewer at the ends, and the weight of each value in its own mean."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(values.size)
    low, high = np.maximum(index - half_width, 0), np.minimum(index + half_width + 1, values.size)
    return (total[high] - total[low]) / (high - low), 1.0 / (high - low)


def change_of_channels(gauge: MotionGauge, factor: Array, group: NDArray[np.int64], whole: Array) -> Array:
    """
    Return what the error of a motion that is taken out adds to the variance of channels.

    Parameters
    ----------
    gauge : MotionGauge
        By which the motion was found.
    factor : ndarray, shape (n_wave,)
        What a sample is multiplied with in its channel.
    group : ndarray of int, shape (n_wave,)
        Channel of each wavelength; negative for none.
    whole : ndarray, shape (n_channel,)
        Sum over the channel of the factor times the steady spectrum.

    Returns
    -------
    added : ndarray, shape (n_channel,)
        Variance of the channel's brightness for a motion with the error of 1 pixel. It is negative where the noise of
        the channel itself is a part of that of the motion.

    Notes
    -----
    With f the factors over ``whole``, q = sum f R, and the motion as a weighted sum of the spectrum, sum k F, whose
    variance is e^2 = sum k^2 V, the brightness sum (f - q k) F has a variance that is larger by
    q^2 e^2 - 2 q sum f k V.
    """
    weight = gauge.weight
    normal = (gauge.rows * weight) @ gauge.rows.T
    size = np.sqrt(normal.diagonal())
    size = np.where(size > 0.0, size, 1.0)
    inverse = np.linalg.pinv(normal / np.outer(size, size), rcond=1e-12, hermitian=True) / np.outer(size, size)
    own = inverse[-1] @ (gauge.rows * weight)  # the motion is sum own F
    error2 = float((own**2 * gauge.variance).sum())
    used = group >= 0
    moved, shared = np.zeros(whole.size), np.zeros(whole.size)
    np.add.at(moved, group[used], (factor * gauge.response)[used])
    np.add.at(shared, group[used], (factor * own * gauge.variance)[used])
    scale = np.where(whole > 0.0, whole, 1.0)
    moved, shared = moved / scale, shared / scale
    return np.asarray(moved**2 - 2.0 * moved * shared / error2) if error2 > 0.0 else np.zeros(whole.size)
