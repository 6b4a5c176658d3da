"""The images by which brightness, colour, background, motion and width change an integration, and their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bridged", "chosen_pixels", "steady_terms", "term_names"]

_LIT = (0.5, 99.5)
"""Percentiles of the rows of the brightest pixels between which there is light, not hot pixels."""
_ROWS_BESIDE = 16
_IMAGE_TERMS = ("brightness", "background", "shift_y", "shift_x", "width_y", "width_x", "width_yx")


def term_names(*, spectrum: bool, degree: int = 4) -> tuple[str, ...]:
    """
    Return the names of the terms.

    Parameters
    ----------
    spectrum : bool
        True where wavelength runs along an axis: brightness may then change with it.
    degree : int, optional
        Of the polynomial by which it does.

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
    return ("brightness", *colours, "background", "shift_y", "shift_y_colour", "shift_x", "width_y")


def steady_terms(
    reference: NDArray[np.floating], *, spectrum: bool, degree: int = 4
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

    Returns
    -------
    names : tuple of str
        ``brightness``, ``colour_1``, ..., ``background``, ``shift_y``, ...; a shift's coefficient is the motion of the
        image in pixels, times its brightness.
    images : ndarray of float32, shape (n_terms, ny, nx)
        0 where the reference is unknown.

    Notes
    -----
    Derivatives are central differences; gaps are bridged by the neighbours along the last axis. Along dispersion it is
    the star that moves, not the background, which may depend on wavelength: the 20th percentile of each column is
    subtracted before.

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
    names = term_names(spectrum=spectrum, degree=degree)
    images = np.empty((len(names), *image.shape), np.float32)
    star = image - np.percentile(image, 20.0, axis=0) if spectrum else image
    dy, dx = -np.gradient(image, axis=0), -np.gradient(star, axis=1)
    for name, out in zip(names, images, strict=True):
        if name.startswith("colour_"):
            out[...] = image * u ** int(name.removeprefix("colour_"))
        elif name == "background":
            out[...] = 1.0
        elif name.startswith("width_"):
            along = dx if name == "width_x" else dy
            out[...] = np.gradient(-along, axis=0 if name == "width_y" else 1)
        else:
            out[...] = {"brightness": image, "shift_y": dy, "shift_y_colour": dy * u, "shift_x": dx}[name]
        out[~known] = 0.0
    return names, images


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
    order = np.argsort(-signal, kind="stable")
    n_bright = most - most // 2
    rows = usable // noise.shape[1]
    low, high = np.percentile(rows[order[:n_bright]], _LIT)
    near = (rows >= low - _ROWS_BESIDE) & (rows <= high + _ROWS_BESIDE)
    order = order[near[order]]
    bright, rest = usable[order[:n_bright]], np.sort(usable[order[n_bright:]])
    if rest.size <= most // 2:
        return np.sort(np.concatenate([bright, rest])).astype(np.int64)
    spread = rest[(np.arange(most // 2) * rest.size) // max(most // 2, 1)]
    return np.sort(np.concatenate([bright, spread])).astype(np.int64)
