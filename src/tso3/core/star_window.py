"""Where the light of the star is in a reference image, its background, its first moments and its width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import column_medians
from tso3.core.template import Template
from tso3.core.terms import bridged, where_sky

__all__ = ["StarWindow", "fine_derivative", "star_window"]

Array = NDArray[np.float64]

_FAINT = 0.01
"""Share of the peak of the mean profile at which the window ends, but for the margin."""
_MARGIN = 3
_MOST = 40
_WIDE, _WIDE_ENOUGH = 0.75, 4.0
"""Part of the largest effective number of pixels of a profile from which a column's first moment is believed, and the
number from which it is in any case."""
_TAPS = (5 / 6, -5 / 21, 5 / 84, -5 / 504, 1 / 1260)
"""Weights of the central difference of order 10 (Fornberg 1988, Table 1)."""


@dataclass(frozen=True)
class StarWindow:
    """
    The star in a reference image, with dispersion, if there is one, along the last axis.

    Attributes
    ----------
    image : ndarray of float64, shape (n_rows, n_columns)
        The reference image, unknown pixels bridged by their neighbours.
    weight : ndarray of float64, shape (n_rows, n_columns)
        One over the noise; 0 where it is unknown.
    row, column : ndarray of float64
        Distance of each pixel from the star [pixel], of shapes that broadcast to the image's; of spectra ``column`` is
        0.
    inside : ndarray of bool, shape (n_rows, n_columns)
        Whether a pixel is in the window, which ends three pixels from where the mean profile falls below 1 % of its
        peak.
    background : ndarray of float64, shape (n_rows, n_columns)
        Of spectra, the median of the pixels of a column outside the window, and where there are fewer than 3 the median
        of all columns; of images, the median of all pixels outside; 0 if there are fewer than 30.
    turned : bool
        Whether images in detector orientation are to be transposed.
    """

    image: Array
    weight: Array
    row: Array
    column: Array
    inside: NDArray[np.bool_]
    background: Array
    turned: bool

    @property
    def star(self) -> Array:
        """The image less the background, shape (n_rows, n_columns)."""
        return self.image - self.background

    def placed(self, image: NDArray[np.floating]) -> Array:
        """Return an image of the detector as this window lies."""
        return np.asarray(image.T if self.turned else image, dtype=np.float64)

    def colour_shares(self, degree: int) -> Array:
        """Return the mean of powers of the position along dispersion (-1 to 1), weighted by the star's light."""
        light = np.where(self.inside & (self.weight > 0.0), self.star, 0.0)
        u = np.linspace(-1.0, 1.0, light.shape[1])
        by_column = light.sum(axis=0)
        return np.array([(by_column * u**k).sum() for k in range(degree + 1)]) / by_column.sum()

    def by_moments(self, term: Array, response: Array, axis: int) -> float:
        """
        Return the size of a response to a motion, as a multiple of that of a derivative by differences.

        Both have, per pixel of motion, the same first moment: the light of the star. Columns of a spectrum are
        weighted by their light over the variance of their moment, and left out where one of their pixels is unknown,
        or where the profile is much narrower than elsewhere: see `_widely_sampled`.
        """
        distance = np.where(self.inside, self.row if axis == 0 else self.column, 0.0)
        known = (self.weight > 0.0) | ~self.inside
        first = [(distance * image).sum(axis=0) for image in (term, response)]
        if self.column.any():  # an image: one star, and all columns are its
            return float(first[0].sum() / first[1].sum())
        variance = (distance**2 / np.where(self.weight > 0.0, self.weight, 1.0) ** 2).sum(axis=0)
        light = np.where(self.inside, self.star, 0.0).sum(axis=0)
        usable = known.all(axis=0) & self._whole() & (light > 0.0)
        usable &= self._widely_sampled(usable)
        weight = np.where(usable, light / np.where(variance > 0.0, variance, 1.0), 0.0)
        return float((weight * first[0]).sum() / (weight * first[1]).sum())

    def squared_width(self, term: NDArray[np.floating], axis: int) -> float:
        """
        Return the square of the width [pixel] that a term stands for.

        A star that is wider by a factor 1 + s, and as bright, changes by ``-s (M + y M')`` to first order; least
        squares tell how much of the term of the second derivative that is: of a Gaussian, the square of its width.
        """
        distance = self.row if axis == 0 else self.column
        star = self.star
        stretched = -(star + distance * fine_derivative(star, axis))
        inside = self.inside & (self.weight > 0.0)
        weight = self.weight[inside]
        terms = np.stack([star[inside], self.placed(term)[inside]]) * weight
        found = np.linalg.lstsq(terms.T, stretched[inside] * weight, rcond=None)[0]
        return float(found[1])

    def _widely_sampled(self, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """
        Return in which columns the profile is nearly as wide as it gets.

        Where the optics pass detail finer than a pixel (at wavelengths below the size of a pixel times the diameter of
        the telescope), the first moment of the samples does not follow the star at the same rate: it is off by twice
        the contrast of a pattern of one cycle per pixel, times the cosine of the star's place within its pixel. Along a
        tilted trace that averages out, along a straight one it does not. So what counts is the red end, where the
        profile covers most pixels: by (sum of the light)^2 over the sum of its squares, 4 or 0.75 of the largest.
        """
        light = np.where(self.inside, self.star, 0.0)
        square = (light**2).sum(axis=0)
        spread = np.where(usable & (square > 0.0), light.sum(axis=0) ** 2 / np.where(square > 0.0, square, 1.0), 0.0)
        if not usable.any():
            return usable
        return np.asarray(spread >= min(_WIDE * np.percentile(spread[usable], 95.0), _WIDE_ENOUGH))

    def _whole(self) -> NDArray[np.bool_]:
        """Return in which columns the window lies wholly on the detector."""
        count = self.inside.sum(axis=0)
        whole: NDArray[np.bool_] = count == count.max()
        return whole


def star_window(template: Template, *, turned: bool = False) -> StarWindow:
    """
    Find the star in the reference image of a template.

    Parameters
    ----------
    template : Template
        Its first term is the reference image.
    turned : bool, optional
        Whether dispersion runs along y.

    Returns
    -------
    window : StarWindow
        Of spectra, a band about the trace; of images, a disc about the brightest pixel.
    """
    noise = np.asarray(template.noise.T if turned else template.noise, dtype=np.float64)
    known = np.isfinite(noise) & (noise > 0.0)
    raw = template.images[0].T if turned else template.images[0]
    image = bridged(raw, known).astype(np.float64)
    weight = np.where(known, 1.0 / np.where(known, noise, 1.0), 0.0)
    is_spectrum = "colour_1" in template.names
    dark = np.percentile(image, 20.0, axis=0 if is_spectrum else None, keepdims=True)
    y, x = (np.arange(n, dtype=np.float64) for n in image.shape)
    if is_spectrum:
        centre = _trace(image - dark)
        row, column = y[:, np.newaxis] - centre, np.zeros((1, image.shape[1]))
        distance = np.abs(row)
    else:
        above = np.maximum(_smoothed(image - dark, 0) + _smoothed(image - dark, 1), 0.0)
        at = np.unravel_index(int(np.argmax(above)), above.shape)
        row, column = y[:, np.newaxis] - float(at[0]), x[np.newaxis] - float(at[1])
        distance = np.hypot(row, column)
    inside = distance <= _reach(image - dark, distance) + _MARGIN
    background = _background(image, known & ~inside, is_spectrum)
    return StarWindow(image, weight, row, column, inside, background, turned)


def fine_derivative(image: NDArray[np.floating], axis: int) -> Array:
    """
    Return the derivative of an image along an axis by the central difference of order 10.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Finite. Not modified.
    axis : int
        0 or 1.

    Returns
    -------
    derivative : ndarray of float64, same shape
        Per pixel. Beyond its edges the image goes on as at the edge.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.star_window import fine_derivative
    >>> wave = np.sin(np.pi / 2 * np.arange(21.0))[np.newaxis]
    >>> float(fine_derivative(wave, 1)[0, 8].round(3)), 1.571
    (1.549, 1.571)
    """
    reach = len(_TAPS)
    padded = np.pad(np.asarray(image, np.float64), [(reach, reach) if k == axis else (0, 0) for k in (0, 1)], "edge")
    middle = np.arange(image.shape[axis]) + reach
    total = np.zeros(image.shape)
    for step, tap in enumerate(_TAPS, 1):
        total += tap * (np.take(padded, middle + step, axis=axis) - np.take(padded, middle - step, axis=axis))
    return total


def _background(image: Array, outside: NDArray[np.bool_], is_spectrum: bool) -> Array:
    """Return the background of every pixel: the median of those outside, by column of a spectrum."""
    whole = float(np.median(image[outside])) if np.count_nonzero(outside) >= 30 else 0.0
    level = np.full(image.shape, whole)
    if is_spectrum:
        enough = np.count_nonzero(outside, axis=0) >= 3
        level[:, enough] = column_medians(np.where(outside, image, np.nan)[:, enough])
        return np.array(where_sky(image, level[0]))
    return level


def _trace(image: Array) -> Array:
    """Return the row of the light in every column, smooth along the columns."""
    power = np.maximum(image, 0.0) ** 2
    rows = np.arange(image.shape[0], dtype=np.float64)[:, np.newaxis]
    smooth = power
    for _ in range(4):
        smooth = _smoothed(smooth, 1)
    total = smooth.sum(axis=0)
    middle = float((smooth * rows).sum() / max(float(smooth.sum()), 1e-300))
    centre: Array = np.where(total > 0.0, (smooth * rows).sum(axis=0) / np.where(total > 0.0, total, 1.0), middle)
    return centre


def _smoothed(image: Array, axis: int) -> Array:
    """Return the mean of three neighbours along an axis."""
    padded = np.pad(image, [(1, 1) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
    n = image.shape[axis]
    return np.asarray(sum(np.take(padded, np.arange(n) + k, axis=axis) for k in range(3))) / 3.0


def _reach(image: Array, distance: Array) -> int:
    """Return the distance from the star at which the mean profile has fallen below 1 % of its peak."""
    which = np.minimum(np.rint(distance).astype(np.int64), _MOST + 1).ravel()
    profile = np.bincount(which, image.ravel()) / np.maximum(np.bincount(which), 1)
    bright = np.flatnonzero(profile[: _MOST + 1] > _FAINT * profile.max())
    return int(bright[-1]) if bright.size else 0
