"""The images by which brightness, colour, background, motion and width change an integration, and their pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["bridged", "chosen_pixels", "moved_along", "steady_terms", "term_names", "where_sky"]

_LIT = (0.5, 99.5)
"""Percentiles of the rows of the brightest pixels between which there is light, not hot pixels."""
_ROWS_BESIDE = 16
_BRIGHT, _FAINT = 0.1, 0.01
"""Background over the mean of the star from which it has an image of its own; part of the peak at which that ends."""
_SKY_ROWS = 8
_SEES = 0.5
"""Part of the sky of the others that a row must have, or it sees none."""
_IMAGE_TERMS = ("brightness", "background", "shift_y", "shift_x", "width_y", "width_x", "width_yx")


def term_names(*, spectrum: bool, degree: int = 4, bright: bool = False) -> tuple[str, ...]:
    """
    Return the names of the terms.

    Parameters
    ----------
    spectrum : bool
        True where wavelength runs along an axis: brightness may then change with it.
    degree : int, optional
        Of the polynomial by which it does.
    bright : bool, optional
        Whether the background of a spectrum is bright enough for an image of its own.

    Returns
    -------
    names : tuple of str

    Examples
    --------
    >>> from tso3.core.terms import term_names
    >>> term_names(spectrum=True, degree=1)
    ('brightness', 'colour_1', 'background', 'shift_y', 'shift_y_colour', 'shift_x', 'width_y')
    """
    if not spectrum:
        return _IMAGE_TERMS
    colours = tuple(f"colour_{k}" for k in range(1, degree + 1))
    sky = ("background", "background_shape") if bright else ("background",)
    return ("brightness", *colours, *sky, "shift_y", "shift_y_colour", "shift_x", "width_y")


def steady_terms(
    reference: NDArray[np.floating],
    *,
    spectrum: bool,
    degree: int = 4,
    calibration: NDArray[np.floating] | None = None,
    blind: NDArray[np.bool_] | None = None,
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """
    Return the images that brightness, colour, background, motion and width change an integration by.

    Parameters
    ----------
    reference : ndarray, shape (ny, nx)
        Steady image, dispersion on the last axis; NaN where unknown. Not modified.
    spectrum : bool
        True where wavelength runs along the last axis: brightness may then change with it.
    degree : int, optional
        Of the polynomial by which it does.
    calibration : ndarray, shape (nx,), optional
        Unit of the image for an electron, in any scale, by column (`tso3.core.sensitivity`); by default it is the same
        in all.
    blind : ndarray of bool, shape (nx,), optional
        Columns at the ends that see no light (reference pixels), so that none moves there; by default none.

    Returns
    -------
    names : tuple of str
        ``brightness``, ``colour_1``, ..., ``background``, ``shift_y``, ...; a shift's coefficient is the motion of the
        image in pixels, times its brightness. Of a spectrum whose background is bright, ``background_shape`` as well.
    images : ndarray of float32, shape (n_terms, ny, nx)
        0 where the reference is unknown.

    Notes
    -----
    Derivatives are central differences; gaps are bridged by the neighbours along the last axis. Along dispersion it is
    the star that moves, not the background, which may depend on wavelength: the 20th percentile of each column is
    subtracted before, but for rows that see no sky (`where_sky`). And it is electrons that move: see `moved_along`.
    Where that percentile is brighter than a tenth of the star (in the rows in which its mean profile is above 1 % of
    the peak), it is an image of its own: else the
    image that dims in a transit would hold a background that does not.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.terms import steady_terms
    >>> names, images = steady_terms(np.eye(4), spectrum=False)
    >>> names
    ('brightness', 'background', 'shift_y', 'shift_x', 'width_y', 'width_x', 'width_yx')
    """
    known = np.isfinite(reference)
    image = bridged(reference, known)
    n_x = image.shape[1]
    u = np.linspace(-1.0, 1.0, n_x, dtype=np.float32) if n_x > 1 else np.zeros(1, np.float32)
    sky = where_sky(image, np.percentile(image, 20.0, axis=0)) if spectrum else np.zeros(image.shape, np.float32)
    star = image - sky
    bright = spectrum and _is_bright(star, sky)
    names = term_names(spectrum=spectrum, degree=degree, bright=bright)
    images = np.empty((len(names), *image.shape), np.float32)
    dy = -np.gradient(image, axis=0)
    seen = known.any(axis=0) if blind is None else known.any(axis=0) & ~blind
    dx = moved_along(star, calibration, seen) if spectrum else -np.gradient(star, axis=1)
    for name, out in zip(names, images, strict=True):
        if name.startswith("colour_"):
            out[...] = (star if bright else image) * u ** int(name.removeprefix("colour_"))
        elif name == "background":
            out[...] = 1.0
        elif name.startswith("width_"):
            along = dx if name == "width_x" else dy
            out[...] = np.gradient(-along, axis=0 if name == "width_y" else 1)
        else:
            known_by_name = {"brightness": image, "shift_y": dy, "shift_y_colour": dy * u, "shift_x": dx}
            out[...] = sky if name == "background_shape" else known_by_name[name]
        out[~known] = 0.0
    return names, images


def moved_along(
    star: NDArray[np.floating],
    calibration: NDArray[np.floating] | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """
    Return by how much an image changes when the star moves by one pixel along its last axis.

    Parameters
    ----------
    star : ndarray, shape (ny, nx)
        Image without background. Not modified.
    calibration : ndarray, shape (nx,), optional
        Unit of the image for an electron, in any scale, positive; by default it is the same in all columns.
    seen : ndarray of bool, shape (nx,), optional
        Columns of which anything is known: at the first and the last of them the difference is one-sided, of second
        order. By default all.

    Returns
    -------
    change : ndarray of float64, shape (ny, nx)
        Per pixel, positive motion towards larger indices.

    Notes
    -----
    A spectrum moves with the response of optics and grating, but what calibrated it stays with its pixel: with the
    calibration C the star S changes by ``-C d(S / C)/dx`` (central differences).

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.terms import moved_along
    >>> moved_along(np.array([[1.0, 2.0, 4.0]]), np.array([1.0, 2.0, 4.0])).tolist()
    [[-0.0, -0.0, -0.0]]
    """
    change = np.zeros(star.shape)
    columns = np.arange(star.shape[1]) if seen is None else np.flatnonzero(seen)
    if columns.size < 2:
        return change
    span = slice(int(columns[0]), int(columns[-1]) + 1)
    unit = np.ones(star.shape[1]) if calibration is None else np.asarray(calibration, np.float64)
    order: Literal[1, 2] = 2 if span.stop - span.start > 2 else 1
    electrons = np.asarray(star[:, span], np.float64) / unit[span]
    change[:, span] = -np.gradient(electrons, axis=1, edge_order=order) * unit[span]
    return change


def where_sky(image: NDArray[np.floating], sky: NDArray[np.floating]) -> NDArray[np.floating]:
    """
    Return the background of every pixel of a spectrum: that of its column, but 0 in rows that see no sky.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Steady image, finite, dispersion on the last axis. Not modified.
    sky : ndarray, shape (nx,)
        Background of each column.

    Returns
    -------
    background : ndarray, shape (ny, nx)
        Where the background is bright (as in `steady_terms`), rows whose typical share of it (median of image over sky)
        is below a half have none: reference pixels. Elsewhere noise could not tell them, nor does it matter.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.terms import where_sky
    >>> sky, light = np.full(4, 8.0), np.repeat([0.0, 8.0, 8.0, 60.0] + 8 * [8.0], 4).reshape(12, 4)
    >>> where_sky(light, sky)[:, 0].tolist()
    [0.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]
    """
    if not _is_bright(image - sky, sky):
        return np.broadcast_to(sky, image.shape)
    positive = sky > 0.0
    seen = np.median(image[:, positive] / sky[positive], axis=1) > _SEES
    return np.asarray(np.where(seen[:, np.newaxis], sky, sky.dtype.type(0.0)))


def _is_bright(star: NDArray[np.floating], sky: NDArray[np.floating]) -> bool:
    """Return whether the background is bright beside the star, and seen in eight rows and a quarter of them."""
    profile = star.mean(axis=1)
    inside = profile > _FAINT * profile.max(initial=0.0)
    if not inside.any() or np.count_nonzero(~inside) < max(0.25 * inside.size, _SKY_ROWS):
        return False
    return bool(sky.mean() > _BRIGHT * profile[inside].mean())


def bridged(image: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """
    Return an image whose unknown pixels are interpolated along its rows.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Any values where it is not known. Not modified.
    known : ndarray of bool, shape (ny, nx)
        Where it is.

    Returns
    -------
    bridged : ndarray of float32, shape (ny, nx)
        0 in rows without any known pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.terms import bridged
    >>> bridged(np.array([[1.0, np.nan, 3.0]]), np.array([[True, False, True]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    whole = np.where(known, image, 0.0).astype(np.float32)
    x = np.arange(image.shape[1], dtype=np.float64)
    for row in np.flatnonzero(known.any(axis=1) & ~known.all(axis=1)):
        good = known[row]
        whole[row] = np.interp(x, x[good], whole[row, good])
    return whole


def chosen_pixels(terms: NDArray[np.float32], noise: NDArray[np.floating], most: int = 12_000) -> NDArray[np.int64]:
    """
    Return the pixels that tell most about the coefficients: those with the most signal over noise in the terms.

    Parameters
    ----------
    terms : ndarray of float32, shape (n_terms, ny, nx)
        From `steady_terms`: the first is the image, and one called background is constant.
    noise : ndarray, shape (ny, nx)
        Noise of each pixel, unit of the image; a pixel where it is not positive and finite is not chosen.
    most : int, optional
        Number of pixels at most: half of them for their signal, the others spread evenly over the rest of the rows in
        which these lie, and 16 rows on either side, so that no others need be read. A hundredth of the bright pixels
        may lie elsewhere: these are hot.

    Returns
    -------
    pixels : ndarray of int64, shape (n_pixels,)
        Flat indices, increasing.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.terms import chosen_pixels, steady_terms
    >>> _, terms = steady_terms(np.diag([1.0, 5.0, 9.0]), spectrum=False)
    >>> chosen_pixels(terms, np.ones((3, 3)), most=2).tolist()
    [0, 8]
    """
    usable = np.flatnonzero((noise > 0.0).ravel() & np.isfinite(noise).ravel())
    if usable.size <= most:
        return usable.astype(np.int64)
    signal = np.abs(terms[0].ravel()[usable]) / noise.ravel()[usable]
    n_bright = most - most // 2
    rows = usable // noise.shape[1]
    low, high = np.percentile(rows[_largest(signal, n_bright)], _LIT)
    near = (rows >= low - _ROWS_BESIDE) & (rows <= high + _ROWS_BESIDE)
    usable, signal = usable[near], signal[near]
    taken = np.zeros(usable.size, np.bool_)
    taken[_largest(signal, n_bright)] = True
    bright, rest = usable[taken], usable[~taken]
    if rest.size <= most // 2:
        return np.sort(np.concatenate([bright, rest])).astype(np.int64)
    spread = rest[(np.arange(most // 2) * rest.size) // max(most // 2, 1)]
    return np.sort(np.concatenate([bright, spread])).astype(np.int64)


def _largest(values: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    """Return the indices of the n largest values, in any order; of equal ones the first."""
    if n >= values.size:
        return np.arange(values.size)
    least = np.partition(values, values.size - n)[values.size - n]
    above = np.flatnonzero(values > least)
    return np.concatenate([above, np.flatnonzero(values == least)[: n - above.size]])
