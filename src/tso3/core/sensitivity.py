"""
What an electron is worth along a spectrum, from its Poisson variance.

A calibrated image is the number of electrons times a calibration C that changes along dispersion (flat field, response
of optics and detector, flux calibration), and its Poisson variance is that number times C^2. So the ratio of both is C,
but for a factor that all pixels share. It matters where the star moves: electrons move, C stays with its pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tso3.core.profile import running_sum

__all__ = ["calibration_along", "column_calibration"]

_HALF_WIDTHS = (0, 1, 2, 4, 8, 16, 32, 64)
_ENOUGH = 300.0
"""Signal over noise of a stretch of the spectrum from which the ratio is good enough."""
_CUBIC = (-2 / 21, 3 / 21, 6 / 21, 7 / 21, 6 / 21, 3 / 21, -2 / 21)
"""Weights of the value in the middle of the cubic of best fit to seven (Savitzky and Golay 1964)."""
_STANDS_OUT, _LEAST = 5.0, 0.005
"""Distance from the median of five that stands out: over the usual one, and in parts of the calibration."""
_NEAR_PEAK = 0.3
"""Part of a column's brightest pixel from which a pixel is looked at."""


def calibration_along(
    total: NDArray[np.float64], variance: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """
    Return the calibration along a spectrum.

    Parameters
    ----------
    total : ndarray, shape (n_wave,)
        All light, that of the background included; NaN where unknown.
    variance : ndarray, shape (n_wave,)
        Its Poisson variance in one integration; NaN where unknown.
    error : ndarray, shape (n_wave,)
        1-sigma error of ``total``.

    Returns
    -------
    calibration : ndarray, shape (n_wave,), or None
        Unit of ``total`` for an electron, 1 in the median; between known wavelengths by interpolation. None where it is
        known nowhere.

    Notes
    -----
    The ratio of the sums over the shortest stretch of neighbours with a signal over noise of 300. Of its logarithm
    single values that stand out are replaced by the median of five neighbours, and it is smoothed by cubics over seven.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.sensitivity import calibration_along
    >>> electrons, unit = np.array([9e4, 4e4, 1e4]), np.array([1.0, 2.0, 4.0])
    >>> calibration_along(electrons * unit, electrons * unit**2, np.ones(3)).tolist()
    [0.5, 1.0, 2.0]
    """
    known = np.isfinite(total) & np.isfinite(variance) & np.isfinite(error) & (variance > 0.0)
    light, noise, error2 = (np.where(known, each, 0.0)[np.newaxis] for each in (total, variance, error**2))
    ratio = np.full(total.size, np.nan)
    for half_width in _HALF_WIDTHS:
        sums = [running_sum(each, half_width)[0] for each in (light, noise, error2)]
        now = np.isnan(ratio) & (known if half_width == 0 else True) & (sums[1] > 0.0)
        now &= sums[0] > _ENOUGH * np.sqrt(sums[2])
        ratio[now] = sums[1][now] / sums[0][now]
    good = np.flatnonzero(np.isfinite(ratio))
    if not good.size:
        return None
    whole = np.exp(_smoothed(_despiked(np.interp(np.arange(total.size), good, np.log(ratio[good])))))
    return np.asarray(whole / np.median(whole))


def _despiked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values of which those that stand out are replaced by the median of five; what rises or falls stays."""
    if values.size < len(_CUBIC):
        return values
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, mode="edge"), 5)
    middle = np.median(windows, axis=1)
    distance = np.abs(values - middle)
    moves = distance[distance > 0.0]
    usual = _STANDS_OUT * float(np.median(moves)) if moves.size else 0.0
    return np.asarray(np.where(distance > max(usual, _LEAST), middle, values))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cubics of best fit to seven neighbours, in their middles; the three at either end stay."""
    smooth = values.copy()
    half = len(_CUBIC) // 2
    if values.size >= len(_CUBIC):
        smooth[half:-half] = np.lib.stride_tricks.sliding_window_view(values, len(_CUBIC)) @ np.array(_CUBIC)
    return smooth


def column_calibration(
    reference: NDArray[np.floating], poisson: NDArray[np.floating], error: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """
    Return the calibration of the columns of an image.

    Parameters
    ----------
    reference : ndarray, shape (n_rows, n_columns)
        Steady image, background included; NaN where unknown.
    poisson : ndarray, shape (n_rows, n_columns)
        Typical Poisson variance of an integration; NaN where unknown.
    error : ndarray, shape (n_rows, n_columns)
        1-sigma error of ``reference``; NaN where unknown.

    Returns
    -------
    calibration : ndarray, shape (n_columns,), or None
        As `calibration_along` gives it, from the pixels that have at least 0.3 of the light of the brightest of their
        column.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.sensitivity import column_calibration
    >>> image = np.array([[9e4, 4e4], [1.0, 1.0]])
    >>> column_calibration(image, image * [1.0, 3.0], np.ones((2, 2))).round(3).tolist()
    [0.5, 1.5]
    """
    known = np.isfinite(reference) & np.isfinite(poisson) & (poisson > 0.0) & np.isfinite(error)
    image = np.where(known, reference, 0.0)
    used = known & (image > _NEAR_PEAK * image.max(axis=0, initial=0.0))
    sums = [np.where(used, each, 0.0).sum(axis=0, dtype=np.float64) for each in (reference, poisson, error**2)]
    seen = used.any(axis=0)
    total, variance, error2 = (np.where(seen, each, np.nan) for each in sums)
    return calibration_along(total, variance, np.sqrt(error2))
