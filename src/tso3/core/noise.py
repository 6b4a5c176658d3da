"""Scatter of light curves, and the scatter that noise alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["photon_limit", "point_to_point"]

_GAUSSIAN = 1.482602218505602
"""Standard deviation over median absolute deviation of a normal distribution."""

_FEWEST = 8
_CLIP = 4.0
_MAX_CLIPS = 20


def point_to_point(flux: NDArray[np.float64]) -> float:
    """
    Return the scatter of a light curve from each point against the mean of its neighbours, relative to its median.

    1.4826 times the median of ``|flux[i] - (flux[i - 1] + flux[i + 1]) / 2|``, divided by sqrt(3/2) and by the median
    flux; differences beyond 4 standard deviations are clipped until none is left. That is the standard deviation for
    Gaussian noise that is independent in time, left as it is by slopes, by the integrations of an ingress, and by
    single outliers.

    Parameters
    ----------
    flux : ndarray of float, shape (n_int,)
        Light curve in the order of time, any unit. NaN marks a missing sample; differences with it are left out.

    Returns
    -------
    scatter : float
        Relative (1e-6 is one ppm); NaN if there are fewer than 8 differences (too few to tell), or the median is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.noise import point_to_point
    >>> round(point_to_point(np.array([100.0, 101.0] * 10)), 6)
    0.012045
    >>> round(point_to_point(np.arange(20.0)), 6)
    0.0
    """
    difference = np.abs(flux[1:-1] - 0.5 * (flux[:-2] + flux[2:]))
    difference = difference[np.isfinite(difference)]
    if difference.size < _FEWEST:
        return float("nan")
    sigma = _GAUSSIAN * float(np.median(difference))
    for _ in range(_MAX_CLIPS):
        kept = difference[difference <= _CLIP * sigma]
        clipped = _GAUSSIAN * float(np.median(kept)) if kept.size >= _FEWEST else sigma
        if clipped == sigma:
            break
        sigma = clipped
    level = float(np.nanmedian(flux))
    return float(sigma / np.sqrt(1.5) / abs(level)) if level else float("nan")


def photon_limit(flux: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """
    Return the relative scatter that a variance predicts: the root of its median over the median flux.

    Parameters
    ----------
    flux, variance : ndarray of float, shape (n_int,)
        Light curve, and the variance of photon and read noise without bad pixels. NaN marks a missing sample.

    Returns
    -------
    limit : float
        Relative; NaN where nothing is known.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.noise import photon_limit
    >>> photon_limit(np.array([100.0, 100.0]), np.array([1.0, 1.0]))
    0.01
    """
    good = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    if not good.any():
        return float("nan")
    level = float(np.median(flux[good]))
    return float(np.sqrt(np.median(variance[good])) / abs(level)) if level else float("nan")
