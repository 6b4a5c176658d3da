"""What the residuals of a sample teach: what varies together in time, and how much a pixel scatters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_LEARNED", "component_images", "components", "noise_image"]

MOST_LEARNED = 8
"""Components that are learned, at most."""
_FAR = 15.0
"""Robust deviations beyond which a residual no longer adds to what is learned from it."""


def components(residual: NDArray[np.float32], most: int = MOST_LEARNED) -> NDArray[np.float64]:
    """
    Return how the residuals of a sample of integrations vary together in time.

    Parameters
    ----------
    residual : ndarray of float32, shape (n_int, n_pixels)
        Residuals of a fit, in units of the noise; NaN where bad. Not modified.
    most : int, optional
        Components at most; never more than a quarter of the integrations.

    Returns
    -------
    weights : ndarray of float64, shape (n_int, n_components)
        Unit vectors; the image of a component is the sum of the residuals with these weights. Only components whose
        variance exceeds what noise alone gives.

    Notes
    -----
    Principal components of the residuals; those farther than 15 robust deviations from their pixel's median (cosmic
    rays) count as if they were there. Of noise alone, the eigenvalues of the covariance of n_int series over n_pixels
    pixels lie within (1 +- sqrt(n_int / n_pixels))^2 of their mean (Marchenko and Pastur 1967, Eq. 1.14); kept is what
    exceeds the median by a factor of 1 + 5 sqrt(n_int / n_pixels).

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import components
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=(40, 3000)).astype(np.float32)
    >>> components(noise).shape, components(noise + np.outer(np.sin(np.arange(40)), np.ones(3000))).shape
    ((40, 0), (40, 1))
    """
    n_int, n_pixels = residual.shape
    if n_int < 8 or n_pixels < n_int:
        return np.empty((n_int, 0))
    values = _calmed(residual)
    variance, weights = np.linalg.eigh((values @ values.T) / n_pixels)
    variance, weights = variance[::-1], weights[:, ::-1]
    edge = np.median(variance) * (1.0 + 5.0 * np.sqrt(n_int / n_pixels))
    count = min(int((variance > edge).sum()), most, n_int // 4)
    return np.ascontiguousarray(weights[:, :count])


def component_images(residual: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return the images of learned components, in units of the noise.

    Parameters
    ----------
    residual : ndarray of float32, shape (n_int, n_pixels)
        Residuals of the sample in units of the noise, of any pixels; NaN where bad. Not modified.
    weights : ndarray of float64, shape (n_int, n_components)
        From `components`.

    Returns
    -------
    images : ndarray of float64, shape (n_components, n_pixels)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import component_images
    >>> component_images(np.array([[1.0], [-1.0]], np.float32), np.array([[0.6], [-0.8]])).round(6).tolist()
    [[1.4]]
    """
    return weights.T @ _calmed(residual)


def _calmed(residual: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return residuals with bad ones set to zero and those far from their pixel's median brought nearer."""
    values = np.where(np.isfinite(residual), residual, 0.0).astype(np.float64)
    centre = np.median(values, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(values - centre), axis=0), 0.5)
    return centre + np.clip(values - centre, -_FAR * spread, _FAR * spread)


def noise_image(
    propagated: NDArray[np.floating], observed: NDArray[np.floating], n_sample: int, n_fitted: int
) -> NDArray[np.float32]:
    """
    Return the noise of each pixel: what was propagated, scaled to the scatter that was observed.

    Parameters
    ----------
    propagated : ndarray, shape (ny, nx)
        Typical error of a sample by its pixel's error plane; NaN where unknown.
    observed : ndarray, shape (ny, nx)
        Robust scatter of the residuals of the sample; NaN where unknown.
    n_sample : int
        Integrations in the sample.
    n_fitted : int
        Numbers that were fitted to a pixel's series of residuals.

    Returns
    -------
    noise : ndarray of float32, shape (ny, nx)
        Square root of the mean of the two variances, the observed one counted with 0.37 degrees of freedom per
        integration (the efficiency of the median absolute deviation) and the propagated one, times the image's median
        ratio of the two, with 30. Never below half of the propagated error; NaN where that is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import noise_image
    >>> noise_image(np.ones((1, 3)), np.full((1, 3), 2.0), 1000, 0).round(2).tolist()[0][0]
    2.0
    """
    left = max(n_sample - n_fitted - 1, 1)
    ratio = observed.astype(np.float64) ** 2 / propagated.astype(np.float64) ** 2 * (n_sample / left)
    known = np.isfinite(ratio) & (ratio > 0.0)
    typical = float(np.median(ratio[known])) if known.any() else 1.0
    own, prior = 0.37 * left, 30.0
    variance = np.where(known, (own * ratio + prior * typical) / (own + prior), typical)
    return np.asarray(propagated * np.sqrt(np.maximum(variance, 0.25)), np.float32)
