"""Fit of a pixel-integrated Gaussian of fixed centre - flux and two widths - to every integration of a block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core.images import Images, fill_net, first_pixel
from tso3.core.trust_region import (
    Matrix,
    Space,
    Tolerances,
    Vector,
    best_step,
    coleman_li,
    into_radius,
    make_space,
    next_radius,
    scale_problem,
)

__all__ = ["FIT_METHODS", "FWHM_TO_SIGMA", "FitMethod", "GaussianFits", "fit_gaussians"]

FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
"""Standard deviation of a Gaussian of unit full width at half maximum."""

_SMALLEST_START = 1e-10
_AT_BOUND = 0.999
"""Part of the largest width beyond which it is the bound that ended the fit."""
_NORMAL = 1.0 / math.sqrt(2.0 * math.pi)


class FitMethod(NamedTuple):
    """
    When a fit ends, and in which unit it is made.

    Attributes
    ----------
    tolerances : Tolerances
        Where it ends.
    normalised : bool
        Whether the data are divided by the flux of the cutout first, so that the end does not depend on their unit.
    """

    tolerances: Tolerances
    normalised: bool


FIT_METHODS = {
    "minimum": FitMethod(Tolerances(cost=0.0, step=1e-10, gradient=1e-15, evaluations=200), normalised=True),
    "trf": FitMethod(Tolerances(cost=1e-8, step=1e-7, gradient=1e-8, evaluations=100), normalised=False),
}
"""The fit of each value of the parameter ``psf_fit``; ``trf`` has the tolerances that photutils hands to SciPy."""


@dataclass(frozen=True)
class GaussianFits:
    """
    A Gaussian for every integration; NaN where none could be fitted.

    Attributes
    ----------
    width_x, width_y : ndarray, shape (n_int,)
        Standard deviations [pixel].
    flux : ndarray, shape (n_int,)
        Integral of the Gaussian over the plane, unit of the scaled images.
    width_x_err, width_y_err, flux_err : ndarray, shape (n_int,)
        Their 1-sigma errors; NaN where the fit ended at a bound, or the errors of its pixels are not known.
    """

    width_x: NDArray[np.float64]
    width_y: NDArray[np.float64]
    flux: NDArray[np.float64]
    width_x_err: NDArray[np.float64]
    width_y_err: NDArray[np.float64]
    flux_err: NDArray[np.float64]


def fit_gaussians(
    images: Images,
    background: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    width: int,
    method: FitMethod,
) -> GaussianFits:
    """
    Return the Gaussian, integrated over pixels, that fits each integration best around its own centre.

    The unknowns are the flux and the two full widths at half maximum; all pixels of the box weigh the same. The flux
    is bounded by 0 from below, the full widths by 0 and by ``width``; the fit starts from half of ``width`` and the
    sum of the box.

    Parameters
    ----------
    images : Images
        Stack; pixels that are not finite are left out of the fit. Not modified.
    background : ndarray of float32, shape (n_int,)
        Subtracted from each image, unit of the scaled images. NaN: no fit.
    x, y : ndarray, shape (n_int,)
        Centres [pixel, 0-based], held fixed. NaN: no fit.
    width : int
        Full width of the square box [pixel], odd; cut at the edges of the array.
    method : FitMethod
        One of `FIT_METHODS`.

    Returns
    -------
    fits : GaussianFits
        NaN where the box has fewer than three finite pixels or a negative sum.

    Notes
    -----
    The model in pixel (i, j) is ``flux`` times the product of the two integrals of a normal distribution over the
    pixel, as ``photutils.psf.GaussianPRF`` has it. The archive's fit (``trf``) ends by tolerances of which one, that
    of the gradient, is absolute: for a star of 1 mJy given in Jy it ends after a few steps, far from the minimum
    (``docs/differences.md``). ``minimum`` goes on until a step is below 1e-10.

    With the derivatives J of the model by the three unknowns in every pixel, and the errors sigma of the pixels, the
    covariance of the unknowns is (J' J)^-1 J' sigma^2 J (J' J)^-1, as the pixels weigh the same whatever their error
    (Seber and Wild 1989, Nonlinear Regression, section 2.1.3). The centre and the background count as known, and the
    star as a Gaussian; these are the errors that scatter from integration to integration.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.gaussian import FIT_METHODS, fit_gaussians
    >>> from tso3.core.images import Images
    >>> from math import erf
    >>> edges = [erf((k - 7.5) / 1.5 / 2**0.5) / 2 for k in range(16)]
    >>> star = 8.0 * np.outer(np.diff(edges), np.diff(edges))[None]
    >>> images = Images.of(star.astype("f4"), np.ones((1, 15, 15), "f4"))
    >>> centre = np.array([7.0])
    >>> fits = fit_gaussians(images, np.zeros(1, "f4"), centre, centre, 11, FIT_METHODS["minimum"])
    >>> bool(abs(fits.width_x[0] - 1.5) < 1e-6), bool(abs(fits.flux[0] - 8.0) < 1e-5)
    (True, True)
    >>> round(float(fits.flux_err[0]), 1)  # of noise 1 in every pixel
    7.7
    """
    out = np.full((6, images.data.shape[0]), np.nan)
    profiles = np.empty((4, width))
    work = _Work(profiles[0], profiles[1], profiles[2], profiles[3], np.empty(3), np.empty((3, 3)), np.empty(3))
    space = make_space(3)
    space.bounds[:] = [[0.0, 0.0, 0.0], [np.inf, width, width]]
    image = np.empty((width, width))
    stack = (images.data, images.err, images.scale)
    _fit_block(stack, background, np.stack([x, y]), image, method, (work, space), out)
    out[[0, 1, 3, 4]] *= FWHM_TO_SIGMA
    return GaussianFits(*out)


class _Work(NamedTuple):
    """Buffers of one fit: profiles along x and y, their slopes, normal equations, unknowns (flux, FWHM x, FWHM y)."""

    profile_x: Vector
    profile_y: Vector
    slope_x: Vector
    slope_y: Vector
    gradient: Vector
    matrix: Matrix
    x: Vector


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_block(
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    background: NDArray[np.float32],
    centres: Matrix,
    image: Matrix,
    method: FitMethod,
    buffers: tuple[_Work, Space],
    out: Matrix,
) -> None:
    """Fill rows FWHM x, FWHM y, flux of ``out``, then their errors, for all integrations."""
    data, err, scale = stack
    work, space = buffers
    _, ny, nx = data.shape
    width = image.shape[0]
    for i in range(data.shape[0]):
        if not (np.isfinite(centres[0, i]) and np.isfinite(centres[1, i]) and np.isfinite(background[i])):
            continue
        x0, y0 = first_pixel(centres[0, i], width), first_pixel(centres[1, i], width)
        left, low = max(x0, 0), max(y0, 0)
        right, high = min(x0 + width, nx), min(y0 + width, ny)
        if right <= left or high <= low:
            continue
        cut = image[: high - low, : right - left]
        n_valid, total = fill_net(data[i], scale, background[i], low, left, cut)
        if n_valid < 3 or total < 0.0 or not np.isfinite(total):
            continue
        unit = 1.0
        if method.normalised and total > 0.0:
            unit = total
            for j in range(cut.shape[0]):
                for k in range(cut.shape[1]):
                    cut[j, k] /= unit
        work.x[0], work.x[1], work.x[2] = max(total / unit, _SMALLEST_START), width / 2, width / 2
        _fit(cut, centres[0, i] - left, centres[1, i] - low, method.tolerances, work, space)
        out[0, i], out[1, i], out[2, i] = work.x[1], work.x[2], work.x[0] * unit
        if max(work.x[1], work.x[2]) < _AT_BOUND * width and work.x[0] > _SMALLEST_START:
            variance = _variances(cut, (err[i], scale), (low, left), centres[:, i], work)
            out[3, i] = math.sqrt(variance[1]) / unit
            out[4, i] = math.sqrt(variance[2]) / unit
            out[5, i] = math.sqrt(variance[0])


@njit(cache=True, nogil=True, error_model="numpy")
def _variances(
    image: Matrix,
    noise: tuple[NDArray[np.float32], NDArray[np.float32]],
    corner: tuple[int, int],
    centre: Vector,
    work: _Work,
) -> tuple[float, float, float]:
    """Return the variances of flux, FWHM x and FWHM y where the fit has ended, for a flux in units of the image."""
    err, scale = noise
    low, left = corner
    _cost(image, centre[0] - left, centre[1] - low, work.x, work)
    _normal_equations(image, work.x, work)
    inverse = _inverse(work.matrix)
    spread = np.zeros((3, 3))
    slope = np.empty(3)
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            if image[j, i] == image[j, i]:
                slope[0] = work.profile_y[j] * work.profile_x[i]
                slope[1] = work.x[0] * work.profile_y[j] * work.slope_x[i]
                slope[2] = work.x[0] * work.slope_y[j] * work.profile_x[i]
                sigma = np.float64(err[low + j, left + i]) * scale[low + j, left + i]
                for a in range(3):
                    for b in range(3):
                        spread[a, b] += slope[a] * slope[b] * sigma * sigma
    found = np.zeros(3)
    for k in range(3):
        for a in range(3):
            for b in range(3):
                found[k] += inverse[k, a] * spread[a, b] * inverse[b, k]
    return found[0], found[1], found[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse(m: Matrix) -> Matrix:
    """Return the inverse of a symmetric matrix of three rows; NaN if there is none."""
    a = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2]
    b = m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    c = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    determinant = m[0, 0] * a + m[0, 1] * b + m[0, 2] * c
    out = np.full((3, 3), np.nan)
    if determinant > 0.0:
        out[0, 0], out[0, 1], out[0, 2] = a, b, c
        out[1, 1] = m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
        out[1, 2] = m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
        out[2, 2] = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1]
        out[1, 0], out[2, 0], out[2, 1] = b, c, out[1, 2]
        out /= determinant
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _profile(centre: float, fwhm: float, n: int, profile: Vector, slope: Vector) -> None:
    """Fill the integral of a normal distribution over each of ``n`` pixels, and its derivative by the FWHM."""
    sigma = fwhm * FWHM_TO_SIGMA
    u = (-0.5 - centre) / sigma
    below = 0.5 * math.erf(u / math.sqrt(2.0))
    fall = -u * _NORMAL * math.exp(-0.5 * u * u)
    for k in range(n):
        u = (k + 0.5 - centre) / sigma
        above = 0.5 * math.erf(u / math.sqrt(2.0))
        rise = -u * _NORMAL * math.exp(-0.5 * u * u)
        profile[k] = above - below
        slope[k] = (rise - fall) / fwhm
        below, fall = above, rise


@njit(cache=True, nogil=True, error_model="numpy")
def _cost(image: Matrix, x0: float, y0: float, x: Vector, work: _Work) -> float:
    """Return half the sum of squared residuals; the profiles are left in ``work``."""
    ny, nx = image.shape
    _profile(x0, x[1], nx, work.profile_x, work.slope_x)
    _profile(y0, x[2], ny, work.profile_y, work.slope_y)
    total = 0.0
    for j in range(ny):
        for i in range(nx):
            residual = x[0] * work.profile_y[j] * work.profile_x[i] - image[j, i]
            if residual == residual:  # NaN marks a pixel that is left out
                total += residual * residual
    return 0.5 * total


@njit(cache=True, nogil=True, error_model="numpy")
def _normal_equations(image: Matrix, x: Vector, work: _Work) -> None:
    """Fill gradient and matrix of the normal equations from the profiles that `_cost` has left."""
    ny, nx = image.shape
    g, a = work.gradient, work.matrix
    g[:] = 0.0
    a[:] = 0.0
    for j in range(ny):
        for i in range(nx):
            shape = work.profile_y[j] * work.profile_x[i]
            residual = x[0] * shape - image[j, i]
            if residual == residual:
                by_x = x[0] * work.profile_y[j] * work.slope_x[i]
                by_y = x[0] * work.slope_y[j] * work.profile_x[i]
                g[0] += shape * residual
                g[1] += by_x * residual
                g[2] += by_y * residual
                a[0, 0] += shape * shape
                a[0, 1] += shape * by_x
                a[0, 2] += shape * by_y
                a[1, 1] += by_x * by_x
                a[1, 2] += by_x * by_y
                a[2, 2] += by_y * by_y
    a[1, 0], a[2, 0], a[2, 1] = a[0, 1], a[0, 2], a[1, 2]


@njit(cache=True, nogil=True, error_model="numpy")
def _fit(image: Matrix, x0: float, y0: float, tolerances: Tolerances, work: _Work, space: Space) -> None:
    """Move ``work.x`` = (flux, FWHM x, FWHM y) from its start to where the fit ends."""
    x = work.x
    cost = _cost(image, x0, y0, x, work)
    _normal_equations(image, x, work)
    coleman_li(x, work.gradient, space)
    radius = 0.0
    for k in range(3):
        radius += x[k] ** 2 / space.v[k]
    radius = math.sqrt(radius)
    evaluations, alpha, ended = 1, 0.0, False
    while True:
        steepest = scale_problem(x, work.gradient, work.matrix, space)
        if steepest < tolerances.gradient or ended or evaluations >= tolerances.evaluations:
            return
        gain = -1.0
        while gain <= 0.0 and not ended and evaluations < tolerances.evaluations:
            alpha = into_radius(space, radius, alpha)
            promised = best_step(x, space, radius, max(0.995, 1.0 - steepest))
            length, scaled_length, size = _try_step(x, space)
            gain = cost - _cost(image, x0, y0, space.trial, work)
            evaluations += 1
            new_radius, ratio = next_radius(radius, gain, promised, scaled_length)
            ended = (gain < tolerances.cost * cost and ratio > 0.25) or (
                length < tolerances.step * (tolerances.step + size)
            )
            if not ended:
                alpha *= radius / new_radius
                radius = new_radius
        if gain > 0.0:
            for k in range(3):
                x[k] = space.trial[k]
            cost -= gain
            _normal_equations(image, x, work)


@njit(cache=True, nogil=True, error_model="numpy")
def _try_step(x: Vector, space: Space) -> tuple[float, float, float]:
    """Fill the unknowns that the step leads to, inside the bounds; return the step's length, scaled length, and |x|."""
    length, scaled_length, size = 0.0, 0.0, 0.0
    for k in range(x.size):
        value = x[k] + space.d[k] * space.step[k]
        if value <= space.bounds[0, k]:
            value = np.nextafter(space.bounds[0, k], space.bounds[1, k])
        elif value >= space.bounds[1, k]:
            value = np.nextafter(space.bounds[1, k], space.bounds[0, k])
        space.trial[k] = value
        length += (space.d[k] * space.step[k]) ** 2
        scaled_length += space.step[k] ** 2
        size += x[k] ** 2
    return math.sqrt(length), math.sqrt(scaled_length), math.sqrt(size)
