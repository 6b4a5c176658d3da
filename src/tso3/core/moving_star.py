"""
The star of an image in every integration: that of the exposure, moved and widened as its template says.

The template (`tso3.core.template`) predicts an integration as a sum of images R_k with coefficients c_ik. Less its
background, that is the light of each pixel in that very integration,

    P_ip = c_i0 S_p + sum_k c_ik R_kp,

with the steady star S, and k over motion, width and what was learned. So the share of the star's light on some pixels,
and with it what a bad pixel has taken out of a sum, is known while the star moves. (For spectra: `tso3.core.moving`.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core.aperture import ApertureSums, Radii
from tso3.core.images import Images
from tso3.core.moving import MOST_BELIEVED, Prediction, believed
from tso3.core.overlap import fill_circle

__all__ = [
    "MovingStar",
    "image_sums",
    "light_of",
    "moving_star",
    "recompleted_sums",
    "separated",
    "star_at",
]


class MovingStar(NamedTuple):
    """
    The light of each pixel as a sum of images, without background.

    Attributes
    ----------
    steady : ndarray of float64, shape (ny, nx)
        The star in the exposure; NaN where unknown.
    terms : ndarray of float32, shape (n_terms, n_rows, n_columns)
        What changes it, in a part of the frame, unit of ``steady``; beyond it the star is taken as steady.
    corner : (int, int)
        First row and column of that part.
    coefficients : ndarray of float64, shape (n_int, 1 + n_terms)
        Brightness, then those of the terms, in every integration.
    """

    steady: NDArray[np.float64]
    terms: NDArray[np.float32]
    corner: tuple[int, int]
    coefficients: NDArray[np.float64]

    @classmethod
    def at_rest(cls, steady: NDArray[np.float64], n_int: int) -> MovingStar:
        """Return a star that is the same in all integrations."""
        return cls(steady, np.zeros((0, 1, 1), np.float32), (0, 0), np.ones((n_int, 1)))

    def some(self, start: int, stop: int) -> MovingStar:
        """Return the star in some of the integrations."""
        return self._replace(coefficients=np.ascontiguousarray(self.coefficients[start:stop]))


def moving_star(
    steady: NDArray[np.float64],
    prediction: Prediction,
    scale: NDArray[np.float32],
    centre: tuple[float, float],
    reach: float,
) -> MovingStar:
    """
    Return the star in every integration.

    Parameters
    ----------
    steady : ndarray, shape (ny, nx)
        The star in the exposure, without background; NaN where unknown.
    prediction : Prediction
        The template of the exposure.
    scale : ndarray of float32, shape (ny, nx)
        Factor from the unit of the template to that of ``steady``.
    centre : (float, float)
        Where the star is, x and y [pixel].
    reach : float
        How far from it the terms are kept, in x and in y [pixel].

    Returns
    -------
    star : MovingStar
        Coefficients are taken as far as they are known: see `separated` and `tso3.core.moving.believed`.
    """
    prediction = separated(prediction)
    ny, nx = steady.shape
    low, high = _ends(centre[1], reach, ny)
    left, right = _ends(centre[0], reach, nx)
    kept = [k for k, name in enumerate(prediction.names) if name not in ("brightness", "background")]
    terms = prediction.images[kept, low:high, left:right] * scale[low:high, left:right]
    coefficients = believed(prediction)[:, [prediction.names.index("brightness"), *kept]]
    return MovingStar(steady, np.nan_to_num(terms), (low, left), np.ascontiguousarray(coefficients))


def separated(prediction: Prediction) -> Prediction:
    """
    Return a template whose learned images have nothing in common with the others.

    Parameters
    ----------
    prediction : Prediction
        The template of an exposure.

    Returns
    -------
    prediction : Prediction
        The same sum of images.

    Notes
    -----
    What is learned from an image of few pixels is much like its derivatives. The coefficients of both then have large
    errors, though their sum is well known, and would not be believed one by one. With the images S of brightness,
    background, motion and width, the learned L, and the weights W = 1 / noise^2 of the pixels, the part

        A = (S' W S)^-1 S' W L

    of L is moved to S: their coefficients become c_S + A c_L, which is what a fit of S alone finds, with its errors
    (the roots of the diagonal of (S' W S)^-1); L becomes L - S A, and its coefficients keep their errors.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.moving import Prediction
    >>> from tso3.core.moving_star import separated
    >>> images = np.array([[[1.0, 1.0]], [[2.0, 0.0]]], np.float32)
    >>> both = Prediction(("brightness", "learned_1"), images, images[0], np.ones((1, 2)), np.ones((1, 2)), 1)
    >>> found = separated(both)
    >>> found.images[1].tolist(), found.coefficients.round(6).tolist(), found.errors.round(3).tolist()
    ([[1.0, -1.0]], [[2.0, 1.0]], [[0.707, 1.0]])
    """
    learned = np.array([name.startswith("learned_") for name in prediction.names])
    if not learned.any():
        return prediction
    known = np.isfinite(prediction.noise) & (prediction.noise > 0.0)
    flat = prediction.images[:, known].astype(np.float64) / prediction.noise[known]
    inverse = np.linalg.pinv(flat[~learned] @ flat[~learned].T, hermitian=True)
    shared = inverse @ flat[~learned] @ flat[learned].T
    images, coefficients, errors = prediction.images.copy(), prediction.coefficients.copy(), prediction.errors.copy()
    images[learned] -= np.tensordot(shared.T, prediction.images[~learned], 1).astype(np.float32)
    for row, which in zip(shared.T, np.flatnonzero(learned), strict=True):  # in their order, whatever the length
        coefficients[:, ~learned] += coefficients[:, which, np.newaxis] * row
    errors[:, ~learned] = np.sqrt(np.diag(inverse))
    return replace(prediction, images=images, coefficients=coefficients, errors=errors)


def _ends(centre: float, reach: float, n: int) -> tuple[int, int]:
    """Return the half-open range of pixels within reach."""
    if not np.isfinite(reach):
        return 0, n
    return min(max(int(centre - reach), 0), n), max(min(int(centre + reach) + 2, n), 0)


def recompleted_sums(
    images: Images,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radii: Radii,
    star: MovingStar,
    sums: ApertureSums,
) -> ApertureSums:
    """
    Return sums with what bad pixels hold of the star in the integration itself, not in the steady image.

    Parameters
    ----------
    images : Images
        What was summed; not modified.
    x, y : ndarray, shape (n_int,)
        Centres of the aperture [pixel].
    radii : Radii
        Of aperture and annulus [pixel].
    star : MovingStar
        In these integrations.
    sums : ApertureSums
        Of `tso3.core.aperture.sum_apertures`, where no pixel of the annulus was clipped.

    Returns
    -------
    sums : ApertureSums
        ``missing`` is changed where the aperture touches bad pixels; not where it would change by more than a quarter,
        which no motion does. ``annulus_sum`` is changed where the annulus does: it then is the area of the good pixels
        times the mean that the whole annulus would have, since the wings of the star are not the same everywhere in it.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.aperture import Radii, Treatment, sum_apertures
    >>> from tso3.core.images import Images
    >>> from tso3.core.moving_star import MovingStar, recompleted_sums
    >>> steady = np.ones((1, 9, 9), "f4")
    >>> moved = steady + 0.1 * (np.arange(9, dtype="f4") - 4.0)
    >>> moved[0, 4, 6] = np.nan
    >>> images, centre, radii = Images.of(moved, steady), np.array([4.0]), Radii(2.6, 3.0, 4.0)
    >>> sums = sum_apertures(images, centre, centre, radii, Treatment(steady[0], True, 0.5, True))
    >>> tilt = np.broadcast_to(np.arange(9, dtype="f4") - 4.0, (1, 9, 9))
    >>> star = MovingStar(steady[0].astype(float), np.ascontiguousarray(tilt), (0, 0), np.array([[1.0, 0.1]]))
    >>> found = recompleted_sums(images, centre, centre, radii, star, sums)
    >>> round(float(found.missing[0] / sums.missing[0]), 9)
    1.2
    """
    missing, annulus_sum = sums.missing.copy(), sums.annulus_sum.copy()
    touched = (sums.n_bad > 0) & np.isfinite(missing)
    stack = (images.data, images.err, images.scale)
    _complete(stack, np.stack([x, y]), radii, star, touched, (missing, annulus_sum, sums.annulus_area))
    return replace(sums, missing=missing, annulus_sum=annulus_sum)


@njit(cache=True, nogil=True)
def star_at(star: MovingStar, i: int, q: int, p: int) -> float:
    """Return the star of an integration in a pixel; NaN where it is not known."""
    value = star.coefficients[i, 0] * star.steady[q, p]
    row, column = q - star.corner[0], p - star.corner[1]
    if 0 <= row < star.terms.shape[1] and 0 <= column < star.terms.shape[2]:
        for k in range(star.terms.shape[0]):
            value += star.coefficients[i, 1 + k] * star.terms[k, row, column]
    return value


@njit(cache=True, nogil=True)
def image_sums(star: MovingStar, low: int, left: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted sums of the steady star and of its terms over a part of the frame; unknown pixels are 0."""
    sums = np.zeros(1 + star.terms.shape[0])
    for j in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            steady = star.steady[low + j, left + k]
            if weights[j, k] > 0.0 and np.isfinite(steady):
                sums[0] += weights[j, k] * steady
                row, column = low + j - star.corner[0], left + k - star.corner[1]
                if 0 <= row < star.terms.shape[1] and 0 <= column < star.terms.shape[2]:
                    for n in range(star.terms.shape[0]):
                        sums[1 + n] += weights[j, k] * star.terms[n, row, column]
    return sums


@njit(cache=True, nogil=True)
def light_of(star: MovingStar, i: int, sums: NDArray[np.float64]) -> float:
    """Return the weighted light of an integration whose images have these sums."""
    light = 0.0
    for k in range(sums.size):
        light += star.coefficients[i, k] * sums[k]
    return light


@njit(cache=True, nogil=True)
def _complete(
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    centres: NDArray[np.float64],
    radii: Radii,
    star: MovingStar,
    touched: NDArray[np.bool_],
    out: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Write the share of the light on bad pixels where it is asked for, and the sums of annuli that have bad pixels."""
    data = stack[0]
    missing, annulus_sum, annulus_area = out
    _, ny, nx = data.shape
    reach = max(radii.radius, radii.outer)
    x, y = np.nan, np.nan
    low, high, left, right = 0, ny, 0, nx
    share, ring = np.empty((2, 0, 0))
    whole, around = np.empty((2, 0))
    ring_area = 0.0
    for i in range(data.shape[0]):
        if not (np.isfinite(centres[0, i]) and np.isfinite(centres[1, i])):
            continue
        if centres[0, i] != x or centres[1, i] != y:
            x, y = centres[0, i], centres[1, i]
            if np.isfinite(reach):
                low, left = max(int(y - reach - 1), 0), max(int(x - reach - 1), 0)
                high, right = max(min(int(y + reach + 2), ny), low), max(min(int(x + reach + 2), nx), left)
            share, ring = np.empty((high - low, right - left)), np.empty((high - low, right - left))
            ring_area = _fill_shares(x, y, radii, (low, left), star.steady, share, ring)
            whole, around = image_sums(star, low, left, share), image_sums(star, low, left, ring)
        lost, unseen, hidden = _on_bad_pixels(stack, i, (low, left), (share, ring), star)
        light = light_of(star, i, whole)
        if touched[i] and light > 0.0 and 0.0 <= lost < light and abs(lost / light - missing[i]) <= MOST_BELIEVED:
            missing[i] = lost / light
        if 0.0 < hidden < ring_area and np.isfinite(annulus_sum[i]):
            total = light_of(star, i, around)
            annulus_sum[i] += annulus_area[i] * (total / ring_area - (total - unseen) / (ring_area - hidden))


@njit(cache=True, nogil=True)
def _fill_shares(
    x: float,
    y: float,
    radii: Radii,
    corner: tuple[int, int],
    steady: NDArray[np.float64],
    share: NDArray[np.float64],
    ring: NDArray[np.float64],
) -> float:
    """Fill the shares of the pixels in aperture and annulus, 0 where the star is unknown; return the annulus' area."""
    fill_circle(x, y, radii.radius, corner[0], corner[1], share)
    fill_circle(x, y, radii.outer, corner[0], corner[1], ring)
    inner = np.empty(ring.shape)
    fill_circle(x, y, radii.inner, corner[0], corner[1], inner)
    area = 0.0
    for j in range(ring.shape[0]):
        for k in range(ring.shape[1]):
            ring[j, k] -= inner[j, k]
            if not np.isfinite(steady[corner[0] + j, corner[1] + k]):
                share[j, k] = ring[j, k] = 0.0
            area += ring[j, k]
    return area


@njit(cache=True, nogil=True)
def _on_bad_pixels(
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    i: int,
    corner: tuple[int, int],
    shares: tuple[NDArray[np.float64], NDArray[np.float64]],
    star: MovingStar,
) -> tuple[float, float, float]:
    """Return the light of the star on the bad pixels of aperture and annulus, and the area of those of the annulus."""
    data, err, scale = stack
    share, ring = shares
    lost = unseen = hidden = 0.0
    for j in range(share.shape[0]):
        for k in range(share.shape[1]):
            q, p = corner[0] + j, corner[1] + k
            if share[j, k] <= 0.0 and ring[j, k] <= 0.0:
                continue
            if not (np.isfinite(data[i, q, p] * scale[q, p]) and np.isfinite(err[i, q, p] * scale[q, p])):
                light = star_at(star, i, q, p)
                lost += share[j, k] * light
                unseen += ring[j, k] * light
                hidden += ring[j, k]
    return lost, unseen, hidden
