"""
Optimal extraction: sums of a stack across dispersion with the weights that give the least noise.

After Horne (1986, PASP 98, 609). With P_p the share of a column's light on pixel p, D_p the data, S_p the background,
and V_p the variance (Eq. 12: read noise and the Poisson noise of the light expected),

    F = sum_p (P_p / V_p) (D_p - S_p) / sum_p P_p^2 / V_p                              (Eq. 8)

is the sum of the light in the aperture with the least variance. That takes S as known; it is fitted, with a variance
s^2 that all pixels of the column share. With it the best weights are (P_p - k) / V_p, k = s^2 A / (1 + s^2 B), A the
sum of P_p / V_p and B that of 1 / V_p over the pixels whose weight is positive: the wings, which hold more of the
background's noise than of the light, drop out. Time series ask for more: weights that are the same in
every integration, so that noise in them never becomes noise of the light curve. So P and V are those of the exposure's
reference image; only the denominator follows the motion of the image (`tso3.core.moving`). What is left is a weighted
sum over the pixels of the aperture, done by the kernel of the box (`tso3.core.box`): the denominator without the pixels
that are bad is then its completion of missing light.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._box_tile import KIND_MEDIAN, KIND_NONE, MEDIAN_NOISE
from tso3.core.box import BoxPlan, BoxSums, box_extract, with_weights
from tso3.core.moving import MovingProfile, recompleted, relative_light, weighed_terms
from tso3.core.profile import running_sum

__all__ = ["OptimalPlan", "PixelNoise", "SteadyImages", "optimal_extract", "plan_optimal"]

_HALF_WIDTHS = (2, 4, 8, 16, 32, 64)
_ENOUGH = 100.0
"""Signal over noise of a stretch of the reference image from which its profile is good enough for weights."""
_UNBIASED = 300.0
"""The same for the scale of the weights: the ratio of two noisy sums is off by one over its square."""
_LEAST = 20.0
"""The same below which a column has the weights of the box."""
_GAIN_HALF_WIDTH = 7
_STEPS = 6
"""Pixels whose weight is not positive drop out, which moves the others' weights: so many times."""
_NO_MOTION_KNOWN = 0.02
"""Share of the brightest pixel around that a residual may have where no template tells the motion of the image."""
_OWN = 0.01
"""Least variance of a residual over that of its pixel."""
_MOST_REJECTED = 0.25
"""Share of the pixels of a column's aperture that may be rejected."""


@dataclass(frozen=True)
class PixelNoise:
    """
    How much pixels scatter, for the rejection of those that do not fit.

    Attributes
    ----------
    noise : ndarray of float32, shape (n_rows, n_wave)
        Steady noise; infinite where unknown.
    level : ndarray of uint8, shape (n_rows, n_wave)
        Class of each pixel.
    stretch : ndarray of float32, shape (n_int, n_levels), or None
        Factor of the noise in each class, for every integration of the exposure; None for 1.
    """

    noise: NDArray[np.float32]
    level: NDArray[np.uint8]
    stretch: NDArray[np.float32] | None

    def of_integrations(self, start: int, n_int: int) -> NDArray[np.float32]:
        """Return the factors of some integrations."""
        if self.stretch is None:
            return np.ones((n_int, int(self.level.max(initial=0)) + 1), np.float32)
        return self.stretch[start : start + n_int]


@dataclass(frozen=True)
class OptimalPlan:
    """
    What an optimal extraction needs besides the pixels; rows and columns are those of the box.

    Attributes
    ----------
    weights : BoxPlan
        With the weights of the pixels as its aperture: the sum of a column is its light in the box. How much may be
        missing is for the caller to say, by the share of the light and not of the weights.
    used : ndarray of bool, shape (n_rows, n_wave)
        Pixels of the box, whether they have weight or not.
    variance : ndarray of float64, shape (n_rows, n_wave)
        V of the reference image.
    light : ndarray of float64, shape (n_rows, n_wave)
        Share of the light of the box on each pixel; 0 where unknown.
    background : ndarray of float64, shape (n_rows, n_wave)
        Background of the reference image; 0 where it is not determined.
    noise : PixelNoise
        Of the pixels.
    moving : MovingProfile or None
        The profile in every integration; None if it is taken as steady.
    sums, whole : ndarray of float64, shape (n_terms, n_wave)
        Sums of its terms with the weights, and with those of the box; empty without it.
    snr : float
        Deviation over noise from which a pixel is rejected.
    """

    weights: BoxPlan
    used: NDArray[np.bool_]
    variance: NDArray[np.float64]
    light: NDArray[np.float64]
    background: NDArray[np.float64]
    noise: PixelNoise
    moving: MovingProfile | None
    sums: NDArray[np.float64]
    whole: NDArray[np.float64]
    snr: float


@dataclass(frozen=True)
class SteadyImages:
    """
    Steady images of an exposure, dispersion along the last axis, shape (n_rows, n_columns).

    Attributes
    ----------
    net : ndarray
        Reference image less its background; NaN where unknown.
    background : ndarray or None
        Its background.
    light : ndarray
        Spatial profile times spectrum in the aperture, bad pixels filled; NaN where unknown.
    var_poisson, var_rnoise : ndarray
        Typical variance components; NaN where unknown.
    n_sample : int
        Integrations that they were made from.
    """

    net: NDArray[np.floating]
    background: NDArray[np.floating] | None
    light: NDArray[np.float64]
    var_poisson: NDArray[np.floating]
    var_rnoise: NDArray[np.floating]
    n_sample: int


def plan_optimal(
    box: BoxPlan,
    images: SteadyImages,
    noise: PixelNoise | None = None,
    moving: MovingProfile | None = None,
    snr: float = 5.0,
) -> OptimalPlan:
    """
    Return everything that optimal extraction of an exposure needs besides its pixels.

    Parameters
    ----------
    box : BoxPlan
        The aperture whose light is wanted, and the background.
    images : SteadyImages
        Of the exposure.
    noise : PixelNoise, optional
        Of the pixels; by default from the variance, and with room for motion that is not known.
    moving : MovingProfile, optional
        The profile in every integration; by default it is steady.
    snr : float, optional
        Deviation over noise from which a pixel is rejected.

    Returns
    -------
    plan : OptimalPlan

    Notes
    -----
    The profile of a column's weights is the sum of the images of its neighbours, itself left out, over the shortest
    stretch with a signal over noise of 100: the noise of the column's own reference image in both weights and data
    would bias the flux by n_pixels / (S/N)^2. The variance is the read noise of the pixel and the Poisson noise of that
    profile, scaled by the ratio of variance to light of the columns around (Eq. 12); that of the background is the mean
    variance of its pixels over their number, times the number of coefficients (a median: 1.44). Weights are scaled so
    that the sum of the reference image, over the shortest stretch with a signal over noise of 300, is that of the box.
    Columns without light have the weights of the box.
    """
    inside = np.ix_(box.rows, box.start + np.arange(box.npixels.size))
    rows = box.rows
    columns = slice(box.start, box.start + box.npixels.size)
    used = box.aperture > 0.0
    light = images.light[inside]
    net = images.net[rows][:, columns].astype(np.float64)
    net = np.where(np.isfinite(net), net, np.nan_to_num(light))
    level = np.zeros_like(net) if images.background is None else np.nan_to_num(images.background[inside])
    read = _filled(images.var_rnoise[inside], used)
    gain = _gain(box, net + level, images.var_poisson[inside])
    own = read + gain * np.maximum(net + level, 0.0)
    spectrum = (box.aperture * net).sum(axis=0)
    error2 = (box.aperture**2 * own).sum(axis=0) * 1.57 / max(images.n_sample, 1)
    profile = _profile(box, net, spectrum, error2)
    variance = read + gain * np.maximum(profile * spectrum + level, 0.0)
    raw = _raw_weights(box, profile, variance, _background_variance(box, images, gain))
    weights = _scaled(box, raw, profile, net, spectrum, error2)
    whole = np.nansum(box.aperture * light, axis=0)
    share = np.nan_to_num(np.where(whole > 0.0, light / np.where(whole > 0.0, whole, 1.0), 0.0))
    noise = _noise(variance, share * np.maximum(spectrum, 0.0)) if noise is None else noise
    everywhere = np.where(share.any(axis=0), noise.noise, np.float32(np.inf))  # nothing to compare with elsewhere
    empty = np.zeros((0, box.npixels.size))
    return OptimalPlan(
        weights=with_weights(box, weights, light)._replace(max_missing=1.0),
        used=used,
        variance=variance,
        light=share,
        background=np.asarray(level, np.float64),
        noise=replace(noise, noise=everywhere),
        moving=moving,
        sums=empty if moving is None else weighed_terms(moving, weights),
        whole=empty if moving is None else weighed_terms(moving, box.aperture),
        snr=snr,
    )


def _filled(image: NDArray[np.floating], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return an image of variances; the median of the aperture where a pixel has none."""
    known = np.isfinite(image) & (image > 0.0)
    inside = image[known & used]
    return np.asarray(np.where(known, image, np.median(inside) if inside.size else 0.0), np.float64)


def _gain(box: BoxPlan, gross: NDArray[np.float64], poisson: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Poisson variance over the light, by column: that of the columns around."""
    known = np.isfinite(poisson) & (gross > 0.0) & (box.aperture > 0.0)
    variance = running_sum(np.where(known, poisson, 0.0).sum(axis=0)[np.newaxis], _GAIN_HALF_WIDTH)[0]
    light = running_sum(np.where(known, gross, 0.0).sum(axis=0)[np.newaxis], _GAIN_HALF_WIDTH)[0]
    return np.where(light > 0.0, np.maximum(variance, 0.0) / np.where(light > 0.0, light, 1.0), 0.0)


def _profile(
    box: BoxPlan, net: NDArray[np.float64], spectrum: NDArray[np.float64], error2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the profile of the columns around each, itself left out; 0 where they hold no light."""
    profile = np.zeros_like(net)
    open_ = np.ones(spectrum.size, np.bool_)
    for half_width in _HALF_WIDTHS:
        total = running_sum(spectrum[np.newaxis], half_width)[0] - spectrum
        error = np.sqrt(np.maximum(running_sum(error2[np.newaxis], half_width)[0] - error2, 0.0))
        enough = _ENOUGH if half_width != _HALF_WIDTHS[-1] else _LEAST
        now = open_ & (total > enough * error) & (total > 0.0)
        candidate = running_sum(net, half_width) - net
        whole = (box.aperture * candidate).sum(axis=0)
        now &= whole > 0.0
        profile[:, now] = candidate[:, now] / whole[now]
        open_ &= ~now
    return profile


def _background_variance(box: BoxPlan, images: SteadyImages, gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance of the fitted background in each column; 0 without one."""
    if images.background is None or box.kind == KIND_NONE:
        return np.zeros(gain.size)
    inside = np.ix_(box.rows, box.start + np.arange(gain.size))
    region = box.background > 0.0
    known = region & np.isfinite(images.net[inside])
    pixel = _filled(images.var_rnoise[inside], region) + gain * np.maximum(
        np.nan_to_num(images.background[inside]), 0.0
    )
    count = known.sum(axis=0)
    factor = MEDIAN_NOISE**2 if box.kind == KIND_MEDIAN else float(len(box.powers))
    return np.where(count > 0, factor * (pixel * known).sum(axis=0) / np.maximum(count, 1) ** 2, 0.0)


def _raw_weights(
    box: BoxPlan, profile: NDArray[np.float64], variance: NDArray[np.float64], of_background: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of Eq. 8, the noise of the background taken into account, in any scale."""
    used = (box.aperture > 0.0) & (profile > 0.0) & (variance > 0.0)
    inverse = np.where(used, 1.0 / np.where(variance > 0.0, variance, 1.0), 0.0)
    for _ in range(_STEPS):
        a, b = (profile * inverse * used).sum(axis=0), (inverse * used).sum(axis=0)
        excess = profile - of_background * a / (1.0 + of_background * b)
        used &= excess > 0.0
    return np.where(used, excess * inverse, 0.0)


def _scaled(
    box: BoxPlan,
    raw: NDArray[np.float64],
    profile: NDArray[np.float64],
    net: NDArray[np.float64],
    spectrum: NDArray[np.float64],
    error2: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return weights scaled so that the sum of the reference image is that of the box."""
    norm = (raw * profile).sum(axis=0)
    raw = raw / np.where(norm > 0.0, norm, 1.0)
    known = norm > 0.0
    weighed, plain = (np.where(known, each, 0.0)[np.newaxis] for each in ((raw * net).sum(axis=0), spectrum))
    scale = np.zeros(spectrum.size)
    open_ = known.copy()
    for half_width in (0, 1, *_HALF_WIDTHS):
        total = running_sum(plain, half_width)[0]
        error = np.sqrt(np.maximum(running_sum(error2[np.newaxis], half_width)[0], 0.0))
        enough = _UNBIASED if half_width != _HALF_WIDTHS[-1] else _LEAST
        now = open_ & (total > enough * error) & (total > 0.0)
        scale[now] = running_sum(weighed, half_width)[0][now] / total[now]
        open_ &= ~now
    good = (scale > 0.5) & (scale < 2.0)
    return np.where(good, raw / np.where(good, scale, 1.0), box.aperture)


def _noise(variance: NDArray[np.float64], light: NDArray[np.float64]) -> PixelNoise:
    """Return the noise of pixels of which no template tells how they scatter."""
    brightest = light.copy()
    brightest[1:] = np.maximum(brightest[1:], light[:-1])
    brightest[:-1] = np.maximum(brightest[:-1], light[1:])
    noise = np.sqrt(variance + (_NO_MOTION_KNOWN * brightest) ** 2)
    return PixelNoise(noise.astype(np.float32), np.zeros(noise.shape, np.uint8), None)


def optimal_extract(
    plan: OptimalPlan, data: NDArray[np.float32], variances: tuple[NDArray[np.float32] | None, ...], start: int
) -> BoxSums:
    """
    Return the spectra of a stack of integrations, and mark the pixels that do not fit.

    Parameters
    ----------
    plan : OptimalPlan
        For images of the same size.
    data : ndarray of float32, shape (n_int, n_rows, n_columns)
        Stack, dispersion on the last axis, contiguous; NaN is bad. Modified: pixels that are rejected become NaN.
    variances : tuple of ndarray of float32 or None, shape (n_int, n_rows, n_columns)
        Poisson, read-noise and flat variance.
    start : int
        Exposure index of the first integration.

    Returns
    -------
    sums : BoxSums
        In the normalisation of the box: ``flux`` estimates its sum. ``npixels`` is the sum of the weights,
        ``missing`` the share of the weighted light on bad pixels.

    Notes
    -----
    In each column the profile is fitted by least squares, the worst pixel rejected whose residual exceeds ``snr`` times
    its standard deviation (step 7 of Horne's Table 1), and so on until none is left, at most a quarter of the pixels.
    The noise s_p is steady; a pixel's own error plays no part. A bright pixel draws the fit to itself: the standard
    deviation of its residual is s_p sqrt(1 - h_p), with its share h_p = (P_p / s_p)^2 / sum_q (P_q / s_q)^2 of the fit.
    """
    sums = _summed(plan, data, variances, start)
    background = sums.background / np.where(sums.npixels > 0.0, sums.npixels, 1.0)
    steady = (plan.weights.aperture * plan.background).sum(axis=0) / np.maximum(plan.weights.npixels, 1e-300)
    offset = np.where(np.isfinite(background), background, 0.0) - steady
    n_int = len(data)
    if plan.moving is None:
        known = np.zeros(offset.shape[1], np.bool_)
        light = (plan.light[np.newaxis].astype(np.float32), np.ones((1, known.size)), known, np.ones((n_int, 1)))
    else:
        moving = plan.moving
        coefficients = np.ascontiguousarray(moving.coefficients[start : start + n_int])
        light = (moving.terms, plan.whole, moving.trusted, coefficients)
    count = np.zeros(n_int, np.int64)
    if data.size:
        box = (plan.weights.rows, plan.used, plan.weights.start)
        steady_images = (plan.light, plan.background, plan.noise.noise, plan.noise.level)
        now = (offset, plan.noise.of_integrations(start, n_int))
        _reject(box, steady_images, light, now, plan.snr, data, count)
    return sums if not count.any() else _again(plan, data, variances, start, sums, np.flatnonzero(count))


def _summed(
    plan: OptimalPlan, data: NDArray[np.float32], variances: tuple[NDArray[np.float32] | None, ...], start: int
) -> BoxSums:
    """Return the weighted sums, their scale moved with the image."""
    poisson, rnoise, flat = variances
    sums = box_extract(plan.weights, data, poisson, rnoise, flat)
    if plan.moving is None:
        return sums
    sums = recompleted(plan.weights, sums, plan.moving, start, (data, *variances), plan.sums)
    factor = relative_light(plan.moving, plan.sums, plan.whole, start, start + len(data))
    scaled = {name: getattr(sums, name) / factor for name in ("flux", "uncompleted")}
    scaled |= {name: getattr(sums, name) / factor**2 for name in ("var_poisson", "var_rnoise", "var_flat", "limit")}
    return replace(sums, **scaled)


def _again(
    plan: OptimalPlan,
    data: NDArray[np.float32],
    variances: tuple[NDArray[np.float32] | None, ...],
    start: int,
    sums: BoxSums,
    which: NDArray[np.int64],
) -> BoxSums:
    """Return sums in which some integrations are summed anew, one by one."""
    whole = {each.name: getattr(sums, each.name).copy() for each in fields(sums)}
    for i in which:
        one = slice(int(i), int(i) + 1)
        new = _summed(plan, data[one], tuple(None if v is None else v[one] for v in variances), start + int(i))
        for name, values in whole.items():
            values[i] = getattr(new, name)[0]
    return BoxSums(**whole)


@njit(cache=True, nogil=True)
def _reject(
    box: tuple[NDArray[np.int64], NDArray[np.bool_], int],
    steady: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], NDArray[np.uint8]],
    moving: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]],
    now: tuple[NDArray[np.float64], NDArray[np.float32]],
    snr: float,
    data: NDArray[np.float32],
    count: NDArray[np.int64],
) -> None:
    """Write NaN into pixels that do not fit, and how many there are in each integration."""
    rows, used, first = box
    light, background, noise, level = steady
    terms, whole, trusted, coefficients = moving
    offset, stretch = now
    n_rows, n_wave = used.shape
    share, value, error = np.empty((n_rows, n_wave)), np.empty((n_rows, n_wave)), np.empty((n_rows, n_wave))
    total = np.empty(n_wave)
    for i in range(data.shape[0]):
        total[:] = 0.0
        for k in range(terms.shape[0]):
            for x in range(n_wave):
                total[x] += coefficients[i, k] * whole[k, x]
        for r in range(n_rows):
            share[r] = 0.0
            for k in range(terms.shape[0]):
                for x in range(n_wave):
                    share[r, x] += coefficients[i, k] * terms[k, r, x]
            for x in range(n_wave):
                share[r, x] = share[r, x] / total[x] if trusted[x] and total[x] > 0.0 else light[r, x]
                value[r, x] = data[i, rows[r], first + x] - background[r, x] - offset[i, x]
                error[r, x] = noise[r, x] * stretch[i, level[r, x]]
                if not used[r, x] or not np.isfinite(value[r, x]):
                    error[r, x] = np.inf
        for x in range(n_wave):
            count[i] += _reject_in_column(rows, share[:, x], value[:, x], error[:, x], snr, data[i, :, first + x])


@njit(cache=True, nogil=True)
def _reject_in_column(
    rows: NDArray[np.int64],
    share: NDArray[np.float64],
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    snr: float,
    data: NDArray[np.float32],
) -> int:
    """Reject the worst pixel of a column, find the flux again, and so on; return how many were rejected."""
    n_used = 0
    for r in range(rows.size):
        n_used += error[r] < np.inf
    n_rejected, most = 0, int(_MOST_REJECTED * n_used)
    while n_rejected < most:
        weighed, expected = 0.0, 0.0
        for r in range(rows.size):
            if error[r] < np.inf:
                weighed += share[r] * value[r] / error[r] ** 2
                expected += share[r] ** 2 / error[r] ** 2
        if not expected > 0.0:
            break
        worst, largest = -1, snr
        for r in range(rows.size):
            if error[r] < np.inf:
                own = 1.0 - share[r] ** 2 / error[r] ** 2 / expected
                distance = abs(value[r] - weighed / expected * share[r]) / (error[r] * np.sqrt(max(own, _OWN)))
                if distance > largest:
                    worst, largest = r, distance
        if worst < 0:
            break
        data[rows[worst]] = np.nan
        error[worst] = np.inf
        n_rejected += 1
    return n_rejected
