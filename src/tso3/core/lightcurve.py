"""Spectra collapsed along wavelength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["BandSum", "band_sum", "in_band"]


@dataclass(frozen=True)
class BandSum:
    """
    Spectra summed over a band.

    Attributes
    ----------
    flux : ndarray of float64, shape (n_int,)
        Sum of the valid samples, completed if asked for, in the unit of the spectra; NaN where none is valid, never 0.
    variance : ndarray of float64, shape (n_int,)
        Variance of ``flux``; NaN where the flux is.
    n_valid : ndarray of int64, shape (n_int,)
        Samples in the sum.
    kept : ndarray of float64, shape (n_int,)
        Share of the expected light that is in the valid samples; 1 where nothing is expected to be missing.
    """

    flux: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    kept: NDArray[np.float64]


def in_band(wavelength: NDArray[np.float64], shortest: float | None, longest: float | None) -> NDArray[np.bool_]:
    """
    Return which wavelengths lie in a band, both ends included.

    Parameters
    ----------
    wavelength : ndarray of float, shape (n_wave,)
        Wavelengths [micron]; NaN is in no band.
    shortest, longest : float or None
        Limits [micron]; None for no limit.

    Returns
    -------
    inside : ndarray of bool, shape (n_wave,)
        True inside.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.lightcurve import in_band
    >>> in_band(np.array([1.0, 2.0, 3.0, np.nan]), 2.0, None)
    array([False,  True,  True, False])
    """
    inside = np.isfinite(wavelength)
    if shortest is not None:
        inside &= wavelength >= shortest
    if longest is not None:
        inside &= wavelength <= longest
    return inside


def band_sum(
    flux: NDArray[np.float64],
    variance: NDArray[np.float64],
    inside: NDArray[np.bool_] | None = None,
    expected: NDArray[np.float64] | None = None,
) -> BandSum:
    """
    Return spectra summed over a band, with the variance of the sum.

    Parameters
    ----------
    flux, variance : ndarray of float, shape (n_int, n_wave)
        Spectra and their variances; samples are independent. A NaN flux is left out of the sum, and counted. Not
        modified.
    inside : ndarray of bool, shape (n_wave,), optional
        Wavelengths of the band; all by default.
    expected : ndarray of float, shape (n_wave,), optional
        Spectrum, in any unit, by which the sums are completed: each is divided by the share of this light that is in
        its valid samples. Wavelengths where it is NaN or not positive do not count. By default nothing is completed.

    Returns
    -------
    sums : BandSum
        One value per integration; each depends on its own integration alone.

    Notes
    -----
    A NaN variance of a valid flux makes the variance of the sum NaN: an error that is not known is not small. A sum
    that lacks a sample with 0.1 % of the light dips by 1000 ppm; completed, only what that sample did differently from
    the others is lost. Samples are added in the order of the wavelengths.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.lightcurve import band_sum
    >>> flux = np.array([[1.0, 2.0], [np.nan, 4.0], [np.nan, np.nan]])
    >>> sums = band_sum(flux, np.ones((3, 2)))
    >>> sums.flux, sums.variance, sums.n_valid
    (array([ 3.,  4., nan]), array([ 2.,  1., nan]), array([2, 1, 0]))
    >>> band_sum(flux, np.ones((3, 2)), expected=np.array([1.0, 2.0])).flux
    array([ 3.,  6., nan])
    """
    n_int, n_wave = flux.shape
    band = np.ones(n_wave, dtype=bool) if inside is None else inside
    light = np.zeros(n_wave) if expected is None else np.asarray(expected, dtype=np.float64)
    light = np.where(band & (light > 0.0), light, 0.0)
    sums = np.empty((3, n_int))
    n_valid = np.empty(n_int, dtype=np.int64)
    _sum_samples(np.asarray(flux, np.float64), np.asarray(variance, np.float64), band, light, sums, n_valid)
    kept = sums[2]
    known = kept > 0.0
    share = np.where(known, kept, np.nan)
    return BandSum(sums[0] / share, sums[1] / share**2, n_valid, kept)


@njit(cache=True, nogil=True)
def _sum_samples(
    flux: NDArray[np.float64],
    variance: NDArray[np.float64],
    band: NDArray[np.bool_],
    light: NDArray[np.float64],
    sums: NDArray[np.float64],
    n_valid: NDArray[np.int64],
) -> None:
    """Sum flux, variance and share of the light over the valid samples of every integration."""
    whole = 0.0
    for x in range(band.size):
        whole += light[x]
    for i in range(flux.shape[0]):
        total, noise, seen, n = 0.0, 0.0, 0.0, 0
        for x in range(band.size):
            if band[x] and np.isfinite(flux[i, x]):
                total += flux[i, x]
                noise += variance[i, x]
                seen += light[x]
                n += 1
        n_valid[i] = n
        sums[0, i] = total if n > 0 else np.nan
        sums[1, i] = noise if n > 0 else np.nan
        sums[2, i] = seen / whole if whole > 0.0 else 1.0
