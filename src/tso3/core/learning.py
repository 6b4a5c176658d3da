"""What the residuals of a sample teach: what varies together in time, and how much a pixel scatters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tso3.core._network import make_columns, middles, weigh_all_but_far
from tso3.core._planes import flatten, merge_rows

__all__ = ["MOST_LEARNED", "component_images", "components", "noise_image", "robust_scatter", "sample_median"]

MOST_LEARNED = 8
"""Components that are learned, at most."""
_FAR, _FAR_IN_TIME = 40.0, 5.0
"""Robust deviations beyond which a residual no longer adds to the image of a component, and to its course in time."""
_ALONE = 0.5
"""Share of a component that one integration may have; from what it alone shows nothing is learned."""
_EFFICIENCY, _BELOW, _WIDER = 0.37, 2.2, 1.2
"""Of the median absolute deviation: its efficiency, and, over the number of samples, by which part of the variance the
median of its square over many draws is too small, and its logarithm scatters more (8 to 128 normal samples)."""
_PRIOR = (30.0, 300.0)
"""Degrees of freedom of the propagated error in the noise of a pixel, at least and at most."""
_NOISY = 5.0
"""Standard deviations from the typical ratio of observed and propagated variance from which a pixel counts as noisy."""
_QUARTILES, _LOOKED_AT = 1.349, 100_000
_OUTLYING, _MOST_REPLACED = 5.0, 16
"""Standard deviations from what the other integrations predict beyond which a residual is replaced by that; how many of
a pixel."""


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
    Principal components of the residuals; those farther than 5 robust deviations from their pixel's median (cosmic
    rays) count as if they were there, and a component of which one integration has more than half is left out: it would
    be what is particular to that integration, cosmic rays and noise. Of noise alone, the eigenvalues of the covariance
    of n_int series over n_pixels pixels lie within (1 +- sqrt(n_int / n_pixels))^2 of their mean (Marchenko and Pastur
    1967, Eq. 1.14); kept is what exceeds the median by a factor of 1 + 5 sqrt(n_int / n_pixels).

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
    values = _calmed(residual, _FAR_IN_TIME).astype(np.float64)
    variance, weights = np.linalg.eigh((values @ values.T) / n_pixels)
    variance, weights = variance[::-1], weights[:, ::-1]
    edge = np.median(variance) * (1.0 + 5.0 * np.sqrt(n_int / n_pixels))
    above = (variance > edge) & ((weights**2).max(axis=0) <= _ALONE)
    return np.ascontiguousarray(weights[:, np.flatnonzero(above)[: min(most, n_int // 4)]])


def component_images(
    residual: NDArray[np.float32], weights: NDArray[np.float64], row: int | None = None
) -> NDArray[np.float64]:
    """
    Return the images of learned components, in units of the noise.

    Parameters
    ----------
    residual : ndarray of float32, shape (n_int, n_pixels)
        Residuals of the sample in units of the noise, of any pixels; NaN where bad. Not modified.
    weights : ndarray of float64, shape (n_int, n_components)
        From `components`.
    row : int, optional
        Pixels of each row along dispersion; the pixels are then whole rows, and neighbours along them testify. By
        default each pixel stands for itself.

    Returns
    -------
    images : ndarray of float64, shape (n_components, n_pixels)

    Notes
    -----
    A residual that is more than 5 standard deviations from what the other integrations predict for it (a cosmic
    ray) is replaced by that prediction, the farthest of a pixel first, at most 16. Where a second integration is
    about as far off (for few carry a component, and either may have been hit), nothing tells which, and neither
    counts. Else a cosmic ray in an integration that weighs much in a component would be taken for a part of it, and
    be found where it is not: in the other integrations that have much of this component.

    Along dispersion components are much alike, cosmic rays are not. With neighbours, the value A of a component in a
    pixel counts by v / (1 + v) in what is predicted for a residual, where its variance v beyond noise is the median of
    the squares of 64 neighbours over that of noise, less 1 (of three such pieces the largest), or A^2 - 4 where that is
    larger (A without the residual that is judged). So where a component has no light, it takes no cosmic ray for its
    own, even in an integration that it fits nearly alone. And a residual is far off only if it is so in units of the
    mean of 33 neighbours in its integration as well: many together are no cosmic ray, but what the components lack.
    The image itself is not shrunk: wings too faint to be seen in a pixel add up in a sum.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import component_images
    >>> component_images(np.array([[1.0], [-1.0]], np.float32), np.array([[0.6], [-0.8]])).round(6).tolist()
    [[1.4]]
    """
    images = np.zeros((weights.shape[1], residual.shape[1]))
    rule = (_OUTLYING, _MOST_REPLACED, row or 0)
    weigh_all_but_far(_calmed(residual, _FAR), np.ascontiguousarray(weights), rule, images)
    return images


def _calmed(residual: NDArray[np.float32], far: float) -> NDArray[np.float32]:
    """Return residuals with bad ones set to zero, and those beyond so many robust deviations brought nearer."""
    values = np.where(np.isfinite(residual), residual, np.float32(0.0))
    centre, _, distance = _middles(values[:, np.newaxis], True)
    reach = np.float32(far) * np.maximum(np.float32(1.4826) * distance[0], np.float32(0.5))
    return np.clip(values, centre[0] - reach, centre[0] + reach, out=values)


def sample_median(stack: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """
    Return the median of every pixel of a sample.

    Parameters
    ----------
    stack : ndarray of float32, shape (n_sample, n_rows, nx)
        NaN is bad. Not modified.

    Returns
    -------
    median : ndarray of float32, shape (n_rows, nx)
        NaN where no sample is valid.
    n_valid : ndarray of int32, shape (n_rows, nx)
        Valid samples.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import sample_median
    >>> [each.tolist() for each in sample_median(np.array([1, np.nan, 3, 7], np.float32).reshape(4, 1, 1))]
    [[[3.0]], [[3]]]
    """
    median, n_valid, _ = _middles(stack, False)
    return median, n_valid


def robust_scatter(stack: NDArray[np.float32]) -> NDArray[np.float64]:
    """
    Return how much every pixel of a sample scatters in time.

    Parameters
    ----------
    stack : ndarray of float32, shape (n_sample, n_rows, nx)
        NaN is bad. Not modified.

    Returns
    -------
    scatter : ndarray of float64, shape (n_rows, nx)
        1.4826 times the median absolute deviation from the median; NaN where no sample is valid.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import robust_scatter
    >>> robust_scatter(np.array([1, 2, 3, 90], np.float32).reshape(4, 1, 1)).round(4).tolist()
    [[1.4826]]
    """
    return 1.4826 * _middles(stack, True)[2].astype(np.float64)


def _middles(
    stack: NDArray[np.float32], with_distance: bool
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Return median and number of valid samples of every pixel, and, if asked for, the median distance from it."""
    frame = stack.shape[1:]
    median, n_valid = np.empty(frame, np.float32), np.empty(frame, np.int32)
    distance = np.empty(frame if with_distance else (0, 0), np.float32)
    if median.size:
        plane = flatten(stack, np.float32)
        rows = merge_rows(stack.shape, plane)
        results = (median.reshape(rows), n_valid.reshape(rows), distance.reshape(rows) if with_distance else distance)
        middles(plane, (len(stack), *rows), make_columns(len(stack)), results)
    return median, n_valid, distance


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
        Square root of the mean of two variances: the observed one with 0.37 degrees of freedom per integration (the
        efficiency of the median absolute deviation), and the propagated one times the image's typical ratio of the
        two, with as many as the spread of the ratios over the image allows, 30 to 300; with 30 for a pixel whose
        scatter is significantly larger. Never below half of the propagated error; NaN where that is unknown.

    Notes
    -----
    Over many draws of n normal samples the median of the squared median absolute deviation is 1 - 2.2 / n of the
    variance (60,000 draws with n from 8 to 128: within 1 %); that is corrected in the typical ratio, for with 24
    integrations it would lower a threshold of 5 sigma by 5 %. If the propagated
    errors were right but for a factor, the logarithm of the ratio would have the variance 2 / v of the observed
    scatter alone; what it has beyond is that of the true ratios, 2 / v_0, and gives the weight v_0 of the typical one
    (empirical Bayes; Smyth 2004).

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.learning import noise_image
    >>> noise_image(np.ones((1, 3)), np.full((1, 3), 2.0), 1000, 0).round(2).tolist()[0][0]
    2.0
    """
    own = _EFFICIENCY * max(n_sample - n_fitted, 1)
    ratio = observed.astype(np.float64) ** 2 / propagated.astype(np.float64) ** 2
    ratio *= n_sample / max(n_sample - n_fitted, 1)
    known = np.isfinite(ratio) & (ratio > 0.0)
    typical, prior = _typical(ratio[known], own, n_sample)
    with np.errstate(invalid="ignore"):
        noisy = ratio > typical * (1.0 + _NOISY * np.sqrt(2.0 / own + 2.0 / prior))
    weight = np.where(noisy, _PRIOR[0], prior)
    variance = np.where(known, (own * ratio + weight * typical) / (own + weight), typical)
    return np.asarray(propagated * np.sqrt(np.maximum(variance, 0.25)), np.float32)


def _typical(ratio: NDArray[np.float64], own: float, n_sample: int) -> tuple[float, float]:
    """Return the typical ratio of observed and propagated variance, and its degrees of freedom in a pixel."""
    if not ratio.size:
        return 1.0, _PRIOR[1]
    some = ratio[:: max(1, ratio.size // _LOOKED_AT)]
    low, middle, high = np.percentile(some, (25.0, 50.0, 75.0))
    spread = ((np.log(high) - np.log(low)) / _QUARTILES) ** 2 - 2.0 / own * (1.0 + _WIDER / n_sample)
    prior = 2.0 / spread if spread > 0.0 else np.inf
    return float(middle) / max(1.0 - _BELOW / n_sample, 0.5), float(np.clip(prior, *_PRIOR))
