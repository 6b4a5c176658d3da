"""Aperture photometry of a stack: circle and annulus with exact pixel shares, in one compiled call per block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._annulus import Stack, annulus_bounds, beyond, clip_steady
from tso3.core.images import Images
from tso3.core.overlap import fill_circle

__all__ = ["ApertureSums", "Photometry", "PhotometryQuality", "Radii", "Treatment", "photometry_of", "sum_apertures"]

_MUCH = 0.1
"""Share of the light on bad pixels that a bit of the quality tells of."""


class PhotometryQuality(IntFlag):
    """What is to be known about the photometry of one integration."""

    COMPLETED = 1
    """Bad pixels in the aperture were completed from the reference image, scaled to this integration."""
    INCOMPLETE = 2
    """Bad pixels in the aperture were left out: the sums are short by ``missing_fraction`` of the light."""
    NOT_MEASURED = 4
    """No sum: nothing valid in the aperture, too much of the light missing, or no position."""
    CLIPPED = 8
    """The aperture reaches beyond the array."""
    NO_BACKGROUND = 16
    """Nothing valid in the annulus: no net sum."""
    NO_CENTROID = 32
    """The position of the source could not be measured."""
    DOUBTFUL_CENTROID = 64
    """The position was measured on a source below 5 sigma, or with too much of its light on bad pixels."""
    NO_FIT = 128
    """The Gaussian could not be fitted, or a width ended at its bound: the light is no Gaussian."""
    PLANNED_POSITION = 256
    """No integration gave a position; the aperture sits where the telescope was to point."""
    MUCH_MISSING = 512
    """More than a tenth of the source's light fell on bad pixels."""
    SATURATED = 1024
    """A pixel that the aperture touches is SATURATED in a part of its ramp or in all of it."""


class Radii(NamedTuple):
    """Radius of the aperture (infinite: the whole array), inner and outer radius of the annulus [pixel]."""

    radius: float
    inner: float
    outer: float


class Treatment(NamedTuple):
    """
    What becomes of bad pixels in the aperture, and how errors add up.

    Attributes
    ----------
    reference : ndarray or None, shape (ny, nx)
        Steady image of the source without background, any unit; NaN where unknown.
    complete : bool
        Complete the sums by the share of the reference's light that is missing; pixels that the reference does not
        know are left out of every integration alike. Needs a reference.
    max_missing : float
        Share of the light above which a sum is not completed but NaN.
    squared : bool
        Whether a pixel of weight w adds w^2 (else w) times its variance to that of a sum.
    clip : float
        Pixels of the annulus farther from its median than so many robust standard deviations are left out; 0: none is.
        With a reference, those in which it is far from its median there are left out of all integrations, and those
        that differ from it too much in one of this one.
    """

    reference: NDArray[np.float64] | None
    complete: bool
    max_missing: float
    squared: bool
    clip: float = 0.0


@dataclass(frozen=True)
class ApertureSums:
    """
    Sums over the valid pixels of aperture and annulus, each an array of shape (n_int,).

    Attributes
    ----------
    aperture_sum, annulus_sum : ndarray
        Weighted sums, unit of the scaled images; NaN where no pixel is valid.
    aperture_variance, annulus_variance : ndarray
        Their variances from ERR, with the weights as `Treatment` has them.
    aperture_temporal, annulus_temporal : ndarray
        Their variances from what scatters in time, with squared weights; NaN if neither variance is given.
    aperture_area, annulus_area : ndarray
        Sums of the weights [pixel^2]; NaN where no valid pixel has its centre inside.
    full_area : ndarray
        Area of the aperture without bad pixels [pixel^2], of what is on the array and known to the reference.
    missing : ndarray
        Share of the light (of the area, without a reference) on bad pixels.
    n_pixels : ndarray
        Valid pixels that the aperture touches.
    n_bad, n_unknown : ndarray
        Bad pixels that it touches; pixels left out because the reference does not know them.
    clipped : ndarray
        1 where the aperture reaches beyond the array, else 0.
    aperture_poisson, annulus_poisson : ndarray
        The part of ``aperture_temporal`` and ``annulus_temporal`` that is Poisson noise.
    """

    aperture_sum: NDArray[np.float64]
    annulus_sum: NDArray[np.float64]
    aperture_variance: NDArray[np.float64]
    annulus_variance: NDArray[np.float64]
    aperture_temporal: NDArray[np.float64]
    annulus_temporal: NDArray[np.float64]
    aperture_area: NDArray[np.float64]
    annulus_area: NDArray[np.float64]
    full_area: NDArray[np.float64]
    missing: NDArray[np.float64]
    n_pixels: NDArray[np.float64]
    n_bad: NDArray[np.float64]
    n_unknown: NDArray[np.float64]
    clipped: NDArray[np.float64]
    aperture_poisson: NDArray[np.float64]
    annulus_poisson: NDArray[np.float64]


@dataclass(frozen=True)
class Photometry:
    """
    Photometry of every integration, each an array of shape (n_int,) in the unit of the scaled images.

    Attributes
    ----------
    aperture_sum, aperture_sum_err, annulus_sum, annulus_sum_err, annulus_mean, annulus_mean_err : ndarray
        As the archive's columns of these names.
    aperture_bkg, aperture_bkg_err, net_aperture_sum, net_aperture_sum_err : ndarray
        As the archive's columns of these names.
    net_aperture_sum_err_temporal : ndarray
        The part of the error that scatters in time: Poisson and read noise, those of the background included.
    net_aperture_sum_err_poisson, net_aperture_sum_err_rnoise, net_aperture_sum_err_background : ndarray
        Its parts: photons in the aperture, read noise in it, and both of the background that is subtracted.
    photon_limit : ndarray
        The error that scatters in time for the aperture without bad pixels.
    missing_fraction : ndarray
        Share of the source's light on bad pixels.
    n_pixels : ndarray of int64
        Valid pixels that the aperture touches.
    quality : ndarray of int64
        Bits of `PhotometryQuality`.
    """

    aperture_sum: NDArray[np.float64]
    aperture_sum_err: NDArray[np.float64]
    annulus_sum: NDArray[np.float64]
    annulus_sum_err: NDArray[np.float64]
    annulus_mean: NDArray[np.float64]
    annulus_mean_err: NDArray[np.float64]
    aperture_bkg: NDArray[np.float64]
    aperture_bkg_err: NDArray[np.float64]
    net_aperture_sum: NDArray[np.float64]
    net_aperture_sum_err: NDArray[np.float64]
    net_aperture_sum_err_temporal: NDArray[np.float64]
    net_aperture_sum_err_poisson: NDArray[np.float64]
    net_aperture_sum_err_rnoise: NDArray[np.float64]
    net_aperture_sum_err_background: NDArray[np.float64]
    photon_limit: NDArray[np.float64]
    missing_fraction: NDArray[np.float64]
    n_pixels: NDArray[np.int64]
    quality: NDArray[np.int64]


def sum_apertures(
    images: Images, x: NDArray[np.float64], y: NDArray[np.float64], radii: Radii, treatment: Treatment
) -> ApertureSums:
    """
    Return the sums over aperture and annulus of every integration.

    A pixel counts with the share of its area that lies inside; bad pixels do not count. Shares are computed anew only
    where the centre moves.

    Parameters
    ----------
    images : Images
        Stack; NaN in ``data`` or ``err`` marks bad pixels. Not modified.
    x, y : ndarray, shape (n_int,)
        Centre [pixel, 0-based]. NaN: the integration is NaN.
    radii : Radii
        Sizes.
    treatment : Treatment
        Reference image and rule for errors.

    Returns
    -------
    sums : ApertureSums
        In the unit of the scaled images.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.aperture import Radii, Treatment, sum_apertures
    >>> from tso3.core.images import Images
    >>> flat = np.full((1, 21, 21), 2.0, "f4")
    >>> rule = Treatment(None, False, 0.5, True)
    >>> sums = sum_apertures(Images.of(flat, flat), np.array([10.2]), np.array([9.9]), Radii(3.0, 4.0, 5.0), rule)
    >>> round(float(sums.aperture_sum[0] / np.pi), 9), round(float(sums.annulus_area[0] / np.pi), 9)
    (18.0, 9.0)
    """
    n_int = images.data.shape[0]
    out = np.full((len(ApertureSums.__dataclass_fields__), n_int), np.nan)
    reference = np.full((1, 1), np.nan) if treatment.reference is None else treatment.reference
    rule = (treatment.reference is not None, treatment.complete, treatment.squared, treatment.clip)
    nothing = np.zeros((0, 0, 0), np.float32)
    poisson = nothing if images.var_poisson is None else images.var_poisson
    rnoise = nothing if images.var_rnoise is None else images.var_rnoise
    _sum_block(
        (images.data, images.err, poisson, rnoise, images.scale),
        np.stack([np.broadcast_to(x, n_int), np.broadcast_to(y, n_int)]),
        radii,
        reference,
        rule,
        out,
    )
    return ApertureSums(*out)


def photometry_of(sums: ApertureSums, treatment: Treatment, *, subtract: bool = True) -> Photometry:
    """
    Return background, net flux and errors from the sums over aperture and annulus.

    With the mean m of the annulus and the area A of the aperture the net sum is S - m A. Where bad pixels are to be
    completed, S - m A of the good pixels is divided by the share of the reference's light that they hold, and its
    variance by the square of that.

    Parameters
    ----------
    sums : ApertureSums
        Of `sum_apertures`.
    treatment : Treatment
        The same as there.
    subtract : bool, optional
        Whether there is an annulus; if not, the net sum is the sum of the aperture.

    Returns
    -------
    photometry : Photometry
        NaN where nothing could be measured; ``quality`` says why.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.aperture import Radii, Treatment, photometry_of, sum_apertures
    >>> from tso3.core.images import Images
    >>> image = np.full((1, 21, 21), 2.0, "f4")
    >>> image[0, 10, 10] += 5.0
    >>> rule = Treatment(None, False, 0.5, True)
    >>> centre = np.array([10.0])
    >>> sums = sum_apertures(Images.of(image, image), centre, centre, Radii(3.0, 4.0, 5.0), rule)
    >>> round(float(photometry_of(sums, rule).net_aperture_sum[0]), 9)
    5.0
    """
    share = 1.0 - sums.missing if treatment.complete else np.ones_like(sums.missing)
    lost = sums.missing > treatment.max_missing if treatment.complete else np.zeros(share.shape, bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(lost, np.nan, 1.0 / share)
        area = np.where(lost, np.nan, sums.full_area) if treatment.complete else sums.aperture_area
        mean, mean_err = sums.annulus_sum / sums.annulus_area, np.sqrt(sums.annulus_variance) / sums.annulus_area
        mean_temporal = sums.annulus_temporal / sums.annulus_area**2
    used_area = sums.aperture_area
    if subtract:
        net = gain * (sums.aperture_sum - mean * used_area)
        bkg, bkg_err = mean * area, mean_err * area
        total = net + bkg if treatment.complete else sums.aperture_sum
        whole = np.isnan(mean) & (sums.missing == 0.0)  # without a background, a sum that lacks nothing is a sum still
        total = np.where(whole, sums.aperture_sum, total)
        of_background = gain**2 * used_area**2 * mean_temporal
        temporal = gain**2 * (sums.aperture_temporal + used_area**2 * mean_temporal)
        limit = gain * sums.aperture_temporal + area**2 * mean_temporal
        net_err = gain * np.sqrt(sums.aperture_variance + used_area**2 * mean_err**2)
    else:
        bkg = bkg_err = mean = mean_err = np.full(share.shape, np.nan)
        total = net = gain * sums.aperture_sum
        of_background = np.zeros(share.shape)
        temporal, limit = gain**2 * sums.aperture_temporal, gain * sums.aperture_temporal
        net_err = gain * np.sqrt(sums.aperture_variance)
    return Photometry(
        aperture_sum=total,
        aperture_sum_err=gain * np.sqrt(sums.aperture_variance),
        annulus_sum=sums.annulus_sum if subtract else mean,
        annulus_sum_err=np.sqrt(sums.annulus_variance) if subtract else mean,
        annulus_mean=mean,
        annulus_mean_err=mean_err,
        aperture_bkg=bkg,
        aperture_bkg_err=bkg_err,
        net_aperture_sum=net,
        net_aperture_sum_err=net_err,
        net_aperture_sum_err_temporal=np.sqrt(temporal),
        net_aperture_sum_err_poisson=gain * np.sqrt(sums.aperture_poisson),
        net_aperture_sum_err_rnoise=gain * np.sqrt(np.maximum(sums.aperture_temporal - sums.aperture_poisson, 0.0)),
        net_aperture_sum_err_background=np.sqrt(of_background),
        photon_limit=np.sqrt(limit),
        missing_fraction=sums.missing,
        n_pixels=np.nan_to_num(sums.n_pixels).astype(np.int64),
        quality=_quality(sums, treatment, total, net),
    )


def _quality(
    sums: ApertureSums, treatment: Treatment, total: NDArray[np.float64], net: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the bits that follow from the sums."""
    flag = PhotometryQuality
    measured = np.isfinite(total)
    bad = measured & (sums.n_bad > 0)
    short = (measured & (sums.n_unknown > 0)) if treatment.complete else bad
    quality = np.zeros(total.shape, np.int64)
    quality[bad & treatment.complete] |= flag.COMPLETED
    quality[short] |= flag.INCOMPLETE
    quality[~measured] |= flag.NOT_MEASURED
    quality[measured & (sums.clipped > 0)] |= flag.CLIPPED
    quality[measured & (sums.missing > _MUCH)] |= flag.MUCH_MISSING
    quality[measured & ~np.isfinite(net)] |= flag.NO_BACKGROUND
    return quality


@njit(cache=True, nogil=True)
def _sum_block(
    stack: Stack,
    centres: NDArray[np.float64],
    radii: Radii,
    reference: NDArray[np.float64],
    rule: tuple[bool, bool, bool, float],
    out: NDArray[np.float64],
) -> None:
    """Fill the rows of ``out``, in the order of the fields of `ApertureSums`, for all integrations."""
    data = stack[0]
    _, ny, nx = data.shape
    reach = max(radii.radius, radii.outer)
    rows = ny if 2 * reach + 3 > ny else int(2 * reach + 3)
    columns = nx if 2 * reach + 3 > nx else int(2 * reach + 3)
    weights = np.empty((4, rows, columns))
    sample = np.empty(rows * columns if rule[3] > 0.0 else 0, np.float32)
    x, y = np.nan, np.nan
    low = high = left = right = 0
    for i in range(data.shape[0]):
        if not (np.isfinite(centres[0, i]) and np.isfinite(centres[1, i])):
            continue
        if centres[0, i] != x or centres[1, i] != y:
            x, y = centres[0, i], centres[1, i]
            low, high = _span(y, reach, ny)
            left, right = _span(x, reach, nx)
            _fill_weights(x, y, radii, low, left, weights[:, : high - low, : right - left])
            if rule[0] and rule[3] > 0.0:
                clip_steady(reference, (low, left), weights[1, : high - low, : right - left], rule[3], sample)
        shares = weights[:, : high - low, : right - left]
        bounds = annulus_bounds(stack, i, (low, left, rule[3], rule[0]), shares[1], reference, sample)
        _sum_image(stack, i, (low, left), shares, reference, rule, bounds, out)
        out[13, i] = 1.0 if _is_clipped(x, y, radii.radius, ny, nx) else 0.0


@njit(cache=True, nogil=True)
def _span(centre: float, reach: float, n: int) -> tuple[int, int]:
    """Return the half-open range of the pixels that a circle may touch."""
    if not np.isfinite(reach):
        return 0, n
    first, last = math.ceil(centre - reach - 0.5), math.floor(centre + reach + 0.5)
    return min(max(int(first), 0), n), max(min(int(last) + 1, n), 0)


@njit(cache=True, nogil=True)
def _is_clipped(x: float, y: float, radius: float, ny: int, nx: int) -> bool:
    """Return whether a finite aperture reaches beyond the array."""
    return np.isfinite(radius) and (
        x - radius < -0.5 or y - radius < -0.5 or x + radius > nx - 0.5 or y + radius > ny - 0.5
    )


@njit(cache=True, nogil=True)
def _fill_weights(x: float, y: float, radii: Radii, low: int, left: int, weights: NDArray[np.float64]) -> None:
    """Fill shares of circle and annulus, and (1 or 0) whether the centre of a pixel is in the circle, the annulus."""
    circle, annulus, in_circle, in_annulus = weights[0], weights[1], weights[2], weights[3]
    fill_circle(x, y, radii.radius, low, left, circle)
    fill_circle(x, y, radii.outer, low, left, annulus)
    fill_circle(x, y, radii.inner, low, left, in_annulus)
    for j in range(circle.shape[0]):
        for i in range(circle.shape[1]):
            annulus[j, i] -= in_annulus[j, i]
            distance = math.hypot(left + i - x, low + j - y)
            in_circle[j, i] = 1.0 if distance < radii.radius else 0.0
            in_annulus[j, i] = 1.0 if radii.inner <= distance < radii.outer else 0.0


@njit(cache=True, nogil=True)
def _sum_image(
    stack: Stack,
    i: int,
    corner: tuple[int, int],
    weights: NDArray[np.float64],
    reference: NDArray[np.float64],
    rule: tuple[bool, bool, bool, float],
    bounds: tuple[np.float32, np.float32],
    out: NDArray[np.float64],
) -> None:
    """Add up one integration."""
    data, err, poisson, rnoise, scale = stack
    known, complete, squared, _ = rule
    low, left = corner
    sums = np.zeros((2, 5))  # of circle and annulus: flux, variance, variance in time, area, Poisson variance
    n_core = np.zeros(2)
    full = bad_area = light = bad_light = 0.0
    n_good = n_bad = n_unknown = 0
    for j in range(weights.shape[1]):
        for k in range(weights.shape[2]):
            share = weights[0, j, k]
            if share <= 0.0 and weights[1, j, k] <= 0.0:
                continue
            q, p = low + j, left + k
            factor = scale[q, p]
            value, sigma = np.float32(data[i, q, p] * factor), np.float32(err[i, q, p] * factor)
            good = np.isfinite(value) and np.isfinite(sigma)
            if share > 0.0:
                steady = reference[q, p] if known else np.nan
                if complete and not np.isfinite(steady):
                    n_unknown += 1
                    share = 0.0
                else:
                    full += share
                    n_good += good
                    if np.isfinite(steady):
                        light += share * steady
                    if not good:
                        n_bad += 1
                        bad_area += share
                        if np.isfinite(steady):
                            bad_light += share * steady
            if not good:
                continue
            in_time = np.nan if poisson.size == 0 and rnoise.size == 0 else 0.0
            photons = np.nan if poisson.size == 0 else np.float64(poisson[i, q, p]) * factor * factor
            if poisson.size > 0:
                in_time += np.float64(poisson[i, q, p]) * factor * factor
            if rnoise.size > 0:
                in_time += np.float64(rnoise[i, q, p]) * factor * factor
            for a in range(2):
                w = share if a == 0 else weights[1, j, k]
                if a == 1 and not (bounds[0] <= beyond(value, reference, q, p, known) <= bounds[1]):
                    w = 0.0
                if w > 0.0:
                    sums[a, 0] += w * value
                    sums[a, 1] += (w * w if squared else w) * np.float64(sigma) * sigma
                    sums[a, 2] += w * w * in_time
                    sums[a, 3] += w
                    sums[a, 4] += w * w * photons
                    n_core[a] += weights[2 + a, j, k]
    for a in range(2):
        if sums[a, 3] > 0.0:
            out[a, i], out[2 + a, i], out[4 + a, i] = sums[a, 0], sums[a, 1], sums[a, 2]
            out[14 + a, i] = sums[a, 4]
            if n_core[a] > 0.0:
                out[6 + a, i] = sums[a, 3]
    out[8, i] = full
    if light > 0.0:
        out[9, i] = min(max(bad_light / light, 0.0), 1.0)
    elif full > 0.0:
        out[9, i] = bad_area / full
    out[10, i], out[11, i], out[12, i] = n_good, n_bad, n_unknown
