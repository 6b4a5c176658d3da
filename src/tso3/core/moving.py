"""
The profile of a spectrum in every integration: that of the exposure, moved and widened as its template says.

The template (`tso3.core.template`) predicts an integration as a sum of images R_k with coefficients c_ik. Less its
background and within an aperture, that is the light of each pixel in that very integration,

    P_ip = sum_k c_ik R_kp,

so that the share of a column's light on some pixels, and with it what a bad pixel has taken out of a weighted sum, is
known while the image moves. Only ratios within a column are used: brightness and colour cancel, and the sum itself
keeps what the column does that the template does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Plane, flatten
from tso3.core.box import BoxPlan, BoxSums
from tso3.core.terms import bridged, steady_terms

__all__ = [
    "MOST_BELIEVED",
    "MovingProfile",
    "Prediction",
    "believed",
    "moving_profile",
    "recompleted",
    "relative_light",
    "weighed_terms",
]

_MARGIN = 2
"""Rows beyond the aperture that derivatives look at."""
_BRIGHT = 20.0
"""Signal over noise of a column of the reference image from which its motion is believed."""
_POWERS = {"flux": 1, "var_poisson": 2, "var_rnoise": 2, "var_flat": 2, "limit": 1}
"""How sums grow with the completion."""
MOST_BELIEVED = 0.25
"""Change of a share by motion beyond which it is not believed."""


@dataclass(frozen=True)
class Prediction:
    """
    What a template says about an exposure, dispersion along the last axis.

    Attributes
    ----------
    names : tuple of str
        Of the terms.
    images : ndarray of float32, shape (n_terms, n_rows, n_columns)
        The terms; 0 where unknown.
    noise : ndarray of float32, shape (n_rows, n_columns)
        Steady noise; not finite where unknown.
    coefficients : ndarray of float64, shape (n_int, n_terms)
        Of every integration of the exposure.
    errors : ndarray of float64, shape (n_int, n_terms)
        Their errors.
    n_sample : int
        Integrations that the images were made from.
    """

    names: tuple[str, ...]
    images: NDArray[np.float32]
    noise: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    errors: NDArray[np.float64]
    n_sample: int


@dataclass(frozen=True)
class MovingProfile:
    """
    The light of each pixel of an aperture as a sum of images, without background.

    Attributes
    ----------
    terms : ndarray of float32, shape (n_terms, n_rows, n_wave)
        For the rows and columns of a `BoxPlan`.
    coefficients : ndarray of float64, shape (n_int, n_terms)
        Of every integration of the exposure.
    trusted : ndarray of bool, shape (n_wave,)
        Columns that are bright enough for their motion to be known; others have the steady profile.
    """

    terms: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    trusted: NDArray[np.bool_]


def moving_profile(
    plan: BoxPlan,
    prediction: Prediction,
    reference: NDArray[np.floating],
    background: NDArray[np.floating] | None,
    light: NDArray[np.float64],
) -> MovingProfile:
    """
    Return the profile of every integration.

    Parameters
    ----------
    plan : BoxPlan
        Names the rows and columns of the aperture.
    prediction : Prediction
        The template of the exposure.
    reference : ndarray, shape (n_rows, n_columns)
        Reference image of the exposure; NaN where unknown. Not modified.
    background : ndarray, shape (n_rows, n_columns), or None
        Its background.
    light : ndarray, shape (n_rows, n_columns)
        Light of the reference image in the aperture: spatial profile times spectrum, bad pixels filled; NaN where
        unknown.

    Returns
    -------
    profile : MovingProfile

    Notes
    -----
    Where the reference image is not known, ``light`` and the background stand in for it before the derivatives are
    taken, and learned terms are interpolated along the rows. Coefficients are taken as far as they are known: see
    `believed`.
    """
    low = max(int(plan.rows[0]) - _MARGIN, 0)
    high = min(int(plan.rows[-1]) + 1 + _MARGIN, len(reference))
    image = np.asarray(reference[low:high], np.float64)
    known = np.isfinite(image)
    level = np.zeros_like(image) if background is None else background[low:high]
    degree = sum(name.startswith("colour_") for name in prediction.names)
    names, steady = steady_terms(np.where(known, image, light[low:high] + level), spectrum=True, degree=degree)
    inside = np.ix_(plan.rows - low, plan.start + np.arange(plan.npixels.size))
    base = np.nan_to_num(light[low:high][inside])
    u = np.linspace(-1.0, 1.0, reference.shape[1])[inside[1][0]]
    kept, terms = [], []
    for k, name in enumerate(prediction.names):
        if name in ("background", "background_shape"):
            continue
        kept.append(k)
        if name == "brightness" or name.startswith("colour_"):
            terms.append(base * u ** int(name.removeprefix("colour_") if name != "brightness" else 0))
            continue
        own = prediction.images[k, low:high]
        other = steady[names.index(name)] if name in names else bridged(own, known)
        terms.append(np.where(known, own, other)[inside])
    stack = np.array(terms, np.float32)
    stack[:, plan.aperture <= 0.0] = 0.0
    bright = _bright(plan, prediction, (plan.aperture * base).sum(axis=0))
    return MovingProfile(stack, np.ascontiguousarray(believed(prediction)[:, kept]), bright)


def believed(prediction: Prediction) -> NDArray[np.float64]:
    """
    Return coefficients without the part of their scatter that is noise.

    Parameters
    ----------
    prediction : Prediction
        Of an exposure.

    Returns
    -------
    coefficients : ndarray, shape (n_int, n_terms)
        Brightness and colour as they are. Of the others, over the brightness, the distance from the median of the
        exposure is multiplied by 1 - e^2 / s^2, with e^2 the median of the squared errors and s the robust scatter
        (1.4826 times the median absolute deviation); by 0 where that is negative. So the noise of a motion that is not
        seen moves no spectrum. The image of a learned component is a weighted sum of noisy integrations with weights
        whose squares sum to 1, so of its mean square over the noise, m, one is noise: its coefficients are multiplied
        by 1 - 1 / m as well.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.moving import Prediction, believed
    >>> image = np.ones((2, 1, 1), np.float32)
    >>> coefficients = np.array([[1.0, -1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> errors = np.full((3, 2), 1.4826 / np.sqrt(2.0))
    >>> found = believed(Prediction(("brightness", "shift_y"), image, image[0], coefficients, errors, 3))
    >>> found.round(6).tolist()
    [[1.0, -0.5], [1.0, 0.0], [1.0, 0.5]]
    """
    coefficients = prediction.coefficients.copy()
    brightness = np.where(coefficients[:, 0] > 0.0, coefficients[:, 0], 1.0)
    for k, name in enumerate(prediction.names):
        if name in ("brightness", "background", "background_shape") or name.startswith("colour_"):
            continue
        values = coefficients[:, k] / brightness
        middle = float(np.median(values))
        scatter2 = (1.4826 * float(np.median(np.abs(values - middle)))) ** 2
        noise = prediction.errors[:, k] / brightness
        noise = noise[np.isfinite(noise)]
        kept = max(1.0 - float(np.median(noise**2)) / scatter2, 0.0) if scatter2 > 0.0 and noise.size else 0.0
        if name.startswith("learned_"):
            kept *= _learned_share(prediction, k)
        coefficients[:, k] = (middle + kept * (values - middle)) * brightness
    return coefficients


def _learned_share(prediction: Prediction, k: int) -> float:
    """Return how much of the image of a learned component is not noise."""
    image, noise = prediction.images[k].astype(np.float64), prediction.noise
    known = np.isfinite(noise) & (noise > 0.0) & (image != 0.0)
    mean = float(np.mean((image[known] / noise[known]) ** 2)) if known.any() else 0.0
    return max(1.0 - 1.0 / mean, 0.0) if mean > 0.0 else 0.0


def _bright(plan: BoxPlan, prediction: Prediction, light: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which columns of the reference image are bright."""
    noise = prediction.noise[np.ix_(plan.rows, plan.start + np.arange(plan.npixels.size))].astype(np.float64)
    noise = np.where(np.isfinite(noise), noise, 0.0)
    error = np.sqrt((plan.aperture**2 * noise**2).sum(axis=0) * 1.57 / max(prediction.n_sample, 1))
    return np.asarray((light > _BRIGHT * error) & (light > 0.0))


def weighed_terms(profile: MovingProfile, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return the sums of the terms over each column.

    Parameters
    ----------
    profile : MovingProfile
        Of an aperture.
    weights : ndarray, shape (n_rows, n_wave)
        Of its pixels.

    Returns
    -------
    sums : ndarray, shape (n_terms, n_wave)
    """
    return np.array([(weights * term).sum(axis=0) for term in profile.terms])


def relative_light(
    profile: MovingProfile, sums: NDArray[np.float64], whole: NDArray[np.float64], start: int, stop: int
) -> NDArray[np.float64]:
    """
    Return the weighted light of integrations over their whole light, relative to that of the steady profile.

    Parameters
    ----------
    profile : MovingProfile
        Of an aperture.
    sums, whole : ndarray, shape (n_terms, n_wave)
        Sums of its terms (`weighed_terms`) with some weights, and with those of the aperture.
    start, stop : int
        Half-open range of exposure indices.

    Returns
    -------
    factor : ndarray, shape (stop - start, n_wave)
        1 where the motion of a column is not trusted.
    """
    weighed = _combined(sums, profile.coefficients[start:stop])
    light = _combined(whole, profile.coefficients[start:stop])
    good = profile.trusted & (light > 0.0) & (whole[0] > 0.0) & (sums[0] > 0.0)
    steady = np.where(whole[0] > 0.0, sums[0] / np.where(whole[0] > 0.0, whole[0], 1.0), 1.0)
    factor = np.where(good, weighed / np.where(good, light * steady, 1.0), 1.0)
    return np.where(np.abs(factor - 1.0) <= MOST_BELIEVED, factor, 1.0)


def _combined(sums: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the terms in their order: a matrix product might depend on the number of integrations."""
    total = np.zeros((len(coefficients), sums.shape[1]))
    for k, row in enumerate(sums):
        total += coefficients[:, k, np.newaxis] * row
    return total


def recompleted(
    plan: BoxPlan,
    sums: BoxSums,
    profile: MovingProfile,
    start: int,
    planes: tuple[NDArray[np.float32] | None, ...],
    whole: NDArray[np.float64] | None = None,
) -> BoxSums:
    """
    Return sums whose missing pixels are completed from the profile of each integration.

    Parameters
    ----------
    plan : BoxPlan
        With ``complete``.
    sums : BoxSums
        What `tso3.core.box.box_extract` gave.
    profile : MovingProfile
        Of the plan's rows and columns.
    start : int
        Exposure index of the first integration.
    planes : tuple of ndarray of float32 or None, shape (n_int, n_rows, n_columns)
        Data and the three variances that the sums were made from.
    whole : ndarray, shape (n_terms, n_wave), optional
        Sums of the terms over the plan's aperture (`weighed_terms`), if they are at hand.

    Returns
    -------
    sums : BoxSums
        With the share of the light of that integration on bad pixels as ``missing``, and ``flux``, its variances and
        ``limit`` accordingly. What was NaN stays so.
    """
    touched = (sums.npixels < plan.npixels * (1.0 - 1e-12)) & profile.trusted & np.isfinite(sums.flux)
    if not touched.any():
        return sums
    share = sums.missing.copy()
    empty = np.empty((0, 0, 0), np.float32)
    first, second, third, fourth = (flatten(empty if p is None else p, np.float32) for p in planes)
    views = (first, second, third, fourth)
    n_int = len(sums.flux)
    coefficients = np.ascontiguousarray(profile.coefficients[start : start + n_int])
    whole = weighed_terms(profile, plan.aperture) if whole is None else whole
    _lost_light(plan.rows, plan.start, plan.aperture, (profile.terms, whole, coefficients), views, touched, share)
    at = np.nonzero(touched)
    ratio = (1.0 - sums.missing[at]) / (1.0 - share[at])
    changed = {"missing": share}
    for name, power in _POWERS.items():
        changed[name] = getattr(sums, name).copy()
        changed[name][at] *= ratio**power
    return replace(sums, **changed)


@njit(cache=True, nogil=True)
def _lost_light(
    rows: NDArray[np.int64],
    first: int,
    aperture: NDArray[np.float64],
    light: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]],
    planes: tuple[Plane, Plane, Plane, Plane],
    touched: NDArray[np.bool_],
    share: NDArray[np.float64],
) -> None:
    """Write the share of the light on bad pixels where it is asked for; what cannot be believed stays as it is."""
    terms, whole, coefficients = light
    for i in range(touched.shape[0]):
        for x in range(touched.shape[1]):
            if not touched[i, x]:
                continue
            total = 0.0
            for k in range(whole.shape[0]):
                total += coefficients[i, k] * whole[k, x]
            lost = 0.0
            for r in range(rows.size):
                if aperture[r, x] > 0.0 and _is_bad(planes, i, rows[r], first + x):
                    for k in range(whole.shape[0]):
                        lost += aperture[r, x] * coefficients[i, k] * terms[k, r, x]
            if total > 0.0 and abs(lost / total - share[i, x]) <= MOST_BELIEVED and lost < total:
                share[i, x] = lost / total


@njit(cache=True, nogil=True)
def _is_bad(planes: tuple[Plane, Plane, Plane, Plane], i: int, row: int, column: int) -> bool:
    """Return whether a pixel takes no part in a sum: see `tso3.core._box_rows.mark_aperture`."""
    data = planes[0]
    if not np.isfinite(data.flat[i * data.step_int + row * data.step_row + column]):
        return True
    for k in range(1, 4):
        plane = planes[k]
        if plane.flat.size and np.isnan(plane.flat[i * plane.step_int + row * plane.step_row + column]):
            return True
    return False
