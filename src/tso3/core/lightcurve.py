"""Spectra collapsed along wavelength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BandSum", "band_sum", "in_band"]


@dataclass(frozen=True)
class BandSum:
    """
    Spectra summed over a band.

    Attributes
    ----------
    flux : ndarray of float64, shape (n_int,)
        Sum of the valid samples, in the unit of the spectra; NaN where none is valid, never 0.
    variance : ndarray of float64, shape (n_int,)
        Sum of the variances of the same samples; NaN where the flux is.
    n_valid : ndarray of int64, shape (n_int,)
        Samples in the sum.
    """

    flux: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_valid: NDArray[np.int64]


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
    flux: NDArray[np.float64], variance: NDArray[np.float64], inside: NDArray[np.bool_] | None = None
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

    Returns
    -------
    sums : BandSum
        One value per integration; each depends on its own integration alone.

    Notes
    -----
    A NaN variance of a valid flux makes the variance of the sum NaN: an error that is not known is not small.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.lightcurve import band_sum
    >>> sums = band_sum(np.array([[1.0, 2.0], [np.nan, 4.0], [np.nan, np.nan]]), np.ones((3, 2)))
    >>> sums.flux, sums.variance, sums.n_valid
    (array([ 3.,  4., nan]), array([ 2.,  1., nan]), array([2, 1, 0]))
    """
    if inside is not None:
        flux, variance = flux[:, inside], variance[:, inside]
    valid = np.isfinite(flux)
    n_valid = np.count_nonzero(valid, axis=1).astype(np.int64)
    nothing = n_valid == 0
    total = np.where(valid, flux, 0.0).sum(axis=1)
    total_variance = np.where(valid, variance, 0.0).sum(axis=1)
    total[nothing] = np.nan
    total_variance[nothing] = np.nan
    return BandSum(total, total_variance, n_valid)
