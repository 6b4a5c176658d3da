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

from tso3.core.aperture import ApertureSums
from tso3.core.images import Images
from tso3.core.moving import MOST_BELIEVED, Prediction, believed
from tso3.core.overlap import fill_circle

__all__ = ["MovingStar", "fill_star", "moving_star", "recompleted_sums"]


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
        Coefficients are taken as far as they are known: see `tso3.core.moving.believed`.
    """
    ny, nx = steady.shape
    low, high = _ends(centre[1], reach, ny)
    left, right = _ends(centre[0], reach, nx)
    kept = [k for k, name in enumerate(prediction.names) if name not in ("brightness", "background")]
    terms = prediction.images[kept, low:high, left:right] * scale[low:high, left:right]
    coefficients = believed(prediction)[:, [prediction.names.index("brightness"), *kept]]
    return MovingStar(steady, np.nan_to_num(terms), (low, left), np.ascontiguousarray(coefficients))


def _ends(centre: float, reach: float, n: int) -> tuple[int, int]:
    """Return the half-open range of pixels within reach."""
    if not np.isfinite(reach):
        return 0, n
    return min(max(int(centre - reach), 0), n), max(min(int(centre + reach) + 2, n), 0)


def recompleted_sums(
    images: Images,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radius: float,
    star: MovingStar,
    sums: ApertureSums,
) -> ApertureSums:
    """
    Return sums with the share of the light that bad pixels hold in the integration itself, not in the steady star.

    Parameters
    ----------
    images : Images
        What was summed; not modified.
    x, y : ndarray, shape (n_int,)
        Centres of the aperture [pixel].
    radius : float
        Of the aperture [pixel].
    star : MovingStar
        In these integrations.
    sums : ApertureSums
        Of `tso3.core.aperture.sum_apertures`.

    Returns
    -------
    sums : ApertureSums
        ``missing`` is changed where the aperture touches bad pixels; not where it would change by more than a quarter,
        which no motion does.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.aperture import Radii, Treatment, sum_apertures
    >>> from tso3.core.images import Images
    >>> from tso3.core.moving_star import MovingStar, recompleted_sums
    >>> steady = np.ones((1, 9, 9), "f4")
    >>> moved = steady + 0.1 * (np.arange(9, dtype="f4") - 4.0)
    >>> moved[0, 4, 6] = np.nan
    >>> images, centre = Images.of(moved, steady), np.array([4.0])
    >>> sums = sum_apertures(images, centre, centre, Radii(2.6, 3.0, 4.0), Treatment(steady[0], True, 0.5, True))
    >>> tilt = np.broadcast_to(np.arange(9, dtype="f4") - 4.0, (1, 9, 9))
    >>> star = MovingStar(steady[0].astype(float), np.ascontiguousarray(tilt), (0, 0), np.array([[1.0, 0.1]]))
    >>> found = recompleted_sums(images, centre, centre, 2.6, star, sums)
    >>> round(float(found.missing[0] / sums.missing[0]), 9)
    1.2
    """
    touched = (sums.n_bad > 0) & np.isfinite(sums.missing)
    if not touched.any():
        return sums
    missing = sums.missing.copy()
    _lost_light((images.data, images.err, images.scale), np.stack([x, y]), radius, star, touched, missing)
    return replace(sums, missing=missing)


@njit(cache=True, nogil=True)
def fill_star(star: MovingStar, i: int, low: int, left: int, out: NDArray[np.float64]) -> None:
    """Fill a part of the frame that begins at ``low``, ``left`` with the star of an integration; NaN where unknown."""
    steady, terms, corner, coefficients = star
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            value = coefficients[i, 0] * steady[low + j, left + k]
            q, p = low + j - corner[0], left + k - corner[1]
            if 0 <= q < terms.shape[1] and 0 <= p < terms.shape[2]:
                for term in range(terms.shape[0]):
                    value += coefficients[i, 1 + term] * terms[term, q, p]
            out[j, k] = value


@njit(cache=True, nogil=True)
def _lost_light(
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    centres: NDArray[np.float64],
    radius: float,
    star: MovingStar,
    touched: NDArray[np.bool_],
    missing: NDArray[np.float64],
) -> None:
    """Write the share of the light on bad pixels where it is asked for; what cannot be believed stays as it is."""
    data, err, scale = stack
    _, ny, nx = data.shape
    for i in range(data.shape[0]):
        if not touched[i]:
            continue
        low, high, left, right = 0, ny, 0, nx
        if np.isfinite(radius):
            low, left = max(int(centres[1, i] - radius - 1), 0), max(int(centres[0, i] - radius - 1), 0)
            high, right = min(int(centres[1, i] + radius + 2), ny), min(int(centres[0, i] + radius + 2), nx)
        share = np.empty((high - low, right - left))
        light = np.empty((high - low, right - left))
        fill_circle(centres[0, i], centres[1, i], radius, low, left, share)
        fill_star(star, i, low, left, light)
        whole = lost = 0.0
        for j in range(high - low):
            for k in range(right - left):
                if share[j, k] > 0.0 and np.isfinite(light[j, k]):
                    whole += share[j, k] * light[j, k]
                    factor = scale[low + j, left + k]
                    value, sigma = data[i, low + j, left + k] * factor, err[i, low + j, left + k] * factor
                    if not (np.isfinite(value) and np.isfinite(sigma)):
                        lost += share[j, k] * light[j, k]
        if whole > 0.0 and abs(lost / whole - missing[i]) <= MOST_BELIEVED and 0.0 <= lost < whole:
            missing[i] = lost / whole
