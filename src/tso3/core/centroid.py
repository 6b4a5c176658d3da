"""Position of the source in every integration: centre of mass of a box, background subtracted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core.images import Images, fill_net, first_pixel
from tso3.core.moving_star import MovingStar, image_sums, light_of, star_at

__all__ = ["Box", "Centroids", "find_centroids", "median_position"]

_ZERO = 1e-30


class Box(NamedTuple):
    """
    Where to look for the source.

    Attributes
    ----------
    x, y : float
        Centre [pixel, 0-based].
    width : int
        Full width of the square box [pixel]; cut at the edges of the array.
    source_radius : float
        Pixels nearer to the centre than this are left out of the background [pixel].
    """

    x: float
    y: float
    width: int
    source_radius: float


@dataclass(frozen=True)
class Centroids:
    """
    Where the source is in every integration; NaN where nothing could be measured.

    Attributes
    ----------
    x, y : ndarray, shape (n_int,)
        Centre of mass [pixel, 0-based].
    background : ndarray of float32, shape (n_int,)
        Median of the image outside the source, unit of the scaled images.
    total, error : ndarray, shape (n_int,)
        Sum of the box and its 1-sigma error, unit of the scaled images.
    x_error, y_error : ndarray, shape (n_int,)
        1-sigma errors of the position from those of the good pixels [pixel].
    n_bad : ndarray of int64, shape (n_int,)
        Bad pixels within the source radius of the centre of the box that nothing was put in place of.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    background: NDArray[np.float32]
    total: NDArray[np.float64]
    error: NDArray[np.float64]
    n_bad: NDArray[np.int64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]


def find_centroids(images: Images, box: Box, reference: NDArray[np.float64] | MovingStar | None = None) -> Centroids:
    """
    Return the centre of mass of a box in every integration.

    From each image the median of all its pixels outside the source is subtracted. Bad pixels are left out of all
    sums, or, if a reference image is given, those of the box are completed from it, scaled so that it has the sum of
    the integration over the good pixels. A centre outside the array is not believed.

    Parameters
    ----------
    images : Images
        Stack; NaN marks bad pixels. Not modified.
    box : Box
        Where to look; if its centre is outside the array nothing is found.
    reference : ndarray, shape (ny, nx), or MovingStar, optional
        Image of the source without background, any unit; NaN where unknown. The same for all integrations, or of each.

    Returns
    -------
    centroids : Centroids
        NaN where the box has no good pixel or its sum vanishes.

    Notes
    -----
    The first moments are ``photutils.centroids.centroid_com``'s: x = sum(x I) / sum(I). The median costs one copy of
    one image.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.centroid import Box, find_centroids
    >>> from tso3.core.images import Images
    >>> image = np.zeros((1, 9, 9), "f4")
    >>> image[0, 4, 4:6] = 3.0, 1.0
    >>> found = find_centroids(Images.of(image, np.ones_like(image)), Box(4.0, 4.0, 5, 2.0))
    >>> float(found.x[0]), float(found.y[0])
    (4.25, 4.0)
    """
    n_int, ny, nx = images.data.shape
    x_of, y_of, total, error, x_error, y_error = np.full((6, n_int), np.nan)
    background = np.full(n_int, np.nan, np.float32)
    found = Centroids(x_of, y_of, background, total, error, np.zeros(n_int, np.int64), x_error, y_error)
    if not (0 <= box.x <= nx - 1 and 0 <= box.y <= ny - 1):
        return found
    y, x = np.ogrid[:ny, :nx]
    source = (x - box.x) ** 2 + (y - box.y) ** 2 < box.source_radius**2
    outside = np.flatnonzero(~source)
    window = _window(box, ny, nx)
    star = reference
    if not isinstance(star, MovingStar):
        star = MovingStar.at_rest(np.full((ny, nx), np.nan) if star is None else star, n_int)
    _centroid_block(
        (images.data, images.err, images.scale),
        outside,
        window,
        np.ascontiguousarray(source[window[0] : window[1], window[2] : window[3]]),
        star,
        (found.x, found.y, found.background, found.total, found.error, found.n_bad, x_error, y_error),
    )
    return found


def median_position(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float] | None:
    """
    Return the median position, or None if there is none.

    Parameters
    ----------
    x, y : ndarray, shape (n_int,)
        Positions [pixel]; NaN is left out, each coordinate for itself.

    Returns
    -------
    position : (float, float) or None
        Median x and y.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.centroid import median_position
    >>> median_position(np.array([1.0, 5.0, np.nan, 2.0]), np.array([0.0, 0.0, np.nan, 3.0]))
    (2.0, 0.0)
    >>> median_position(np.array([np.nan]), np.array([np.nan])) is None
    True
    """
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if x.size == 0 or y.size == 0:
        return None
    return float(np.median(x)), float(np.median(y))


def _window(box: Box, ny: int, nx: int) -> tuple[int, int, int, int]:
    """Return the pixels (bottom, top, left, right) of a box, half open, cut at the edges of the array."""
    left, low = first_pixel(box.x, box.width), first_pixel(box.y, box.width)
    return max(low, 0), min(low + box.width, ny), max(left, 0), min(left + box.width, nx)


@njit(cache=True, nogil=True)
def _centroid_block(
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    outside: NDArray[np.int64],
    window: tuple[int, int, int, int],
    near: NDArray[np.bool_],
    star: MovingStar,
    out: tuple,  # type: ignore[type-arg]
) -> None:
    """Fill the fields of `Centroids` for all integrations."""
    data, err, scale = stack
    low, high, left, right = window
    _, ny, nx = data.shape
    cut = np.empty((high - low, right - left))
    whole = image_sums(star, low, left, np.ones(cut.shape))
    sample = np.empty(outside.size, np.float32)
    for i in range(data.shape[0]):
        background = float(_median_outside(data[i].ravel(), scale.ravel(), outside, sample))
        out[2][i] = background
        n_valid, total = fill_net(data[i], scale, background, low, left, cut)
        if n_valid == 0:
            out[5][i] = _count_bad(cut, near)
            continue
        variance, known = 0.0, light_of(star, i, whole)
        for j in range(cut.shape[0]):
            for k in range(cut.shape[1]):
                if np.isfinite(cut[j, k]):
                    sigma = err[i, low + j, left + k] * scale[low + j, left + k]
                    variance += sigma * sigma
                elif np.isfinite(star.steady[low + j, left + k]):
                    known -= star_at(star, i, low + j, left + k)
        out[3][i], out[4][i] = total, np.sqrt(variance)
        _complete(cut, star, i, (low, left), total / known if known != 0.0 else np.nan)
        out[5][i] = _count_bad(cut, near)
        total, moment_x, moment_y = 0.0, 0.0, 0.0
        for j in range(cut.shape[0]):
            for k in range(cut.shape[1]):
                if np.isfinite(cut[j, k]):
                    total += cut[j, k]
                    moment_x += k * cut[j, k]
                    moment_y += j * cut[j, k]
        if abs(total) < _ZERO:
            continue
        x, y = moment_x / total + left, moment_y / total + low
        if 0.0 <= x < nx and 0.0 <= y < ny:
            out[0][i], out[1][i] = x, y
            _errors_of_position((data[i], err[i], scale), (low, left), cut.shape, (x, y, total), (i, out[6], out[7]))


@njit(cache=True, nogil=True)
def _errors_of_position(
    image: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    corner: tuple[int, int],
    size: tuple[int, int],
    found: tuple[float, float, float],
    out: tuple[int, NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Fill the errors of a centre of mass: of each good pixel its distance from the centre times its error."""
    data, err, scale = image
    x, y, total = found
    in_x, in_y = 0.0, 0.0
    for q in range(corner[0], corner[0] + size[0]):
        for p in range(corner[1], corner[1] + size[1]):
            sigma = np.float64(err[q, p] * scale[q, p])
            if np.isfinite(data[q, p]) and np.isfinite(sigma):
                in_x += ((p - x) * sigma) ** 2
                in_y += ((q - y) * sigma) ** 2
    out[1][out[0]], out[2][out[0]] = np.sqrt(in_x) / abs(total), np.sqrt(in_y) / abs(total)


@njit(cache=True, nogil=True)
def _complete(cut: NDArray[np.float64], star: MovingStar, i: int, corner: tuple[int, int], factor: float) -> None:
    """Put the scaled image of the source in place of the bad pixels that it knows."""
    for j in range(cut.shape[0]):
        for k in range(cut.shape[1]):
            if not np.isfinite(cut[j, k]):
                cut[j, k] = factor * star_at(star, i, corner[0] + j, corner[1] + k)


@njit(cache=True, nogil=True)
def _count_bad(cut: NDArray[np.float64], near: NDArray[np.bool_]) -> int:
    """Return how many pixels near the source are bad."""
    n_bad = 0
    for j in range(cut.shape[0]):
        for k in range(cut.shape[1]):
            n_bad += near[j, k] and not np.isfinite(cut[j, k])
    return n_bad


@njit(cache=True, nogil=True)
def _median_outside(
    image: NDArray[np.float32],
    scale: NDArray[np.float32],
    outside: NDArray[np.int64],
    sample: NDArray[np.float32],
) -> np.float32:
    """Return the median of the finite scaled pixels outside the source, in single precision; NaN if there is none."""
    n = 0
    for p in outside:
        value = np.float32(image[p] * scale[p])
        if np.isfinite(value):
            sample[n] = value
            n += 1
    if n == 0:
        return np.float32(np.nan)
    upper = _smallest(sample, n, n // 2)
    if n % 2 == 1:
        return upper
    lower = sample[0]
    for p in range(n // 2):
        lower = max(lower, sample[p])
    return np.float32(np.float32(lower + upper) / np.float32(2.0))


@njit(cache=True, nogil=True)
def _smallest(values: NDArray[np.float32], n: int, rank: int) -> np.float32:
    """Return the value of a rank (from 0) among the first ``n``; they are reordered so that none before is larger."""
    first, last = 0, n - 1
    while first < last:
        middle = (first + last) // 2
        a, b, c = values[first], values[middle], values[last]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            last = j
        elif rank >= i:
            first = i
        else:
            break
    return values[rank]
