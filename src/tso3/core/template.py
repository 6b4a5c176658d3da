"""
What an integration should look like: a steady image, and how the star and the telescope change it.

An integration is, to a few parts in a thousand, the reference image M of its exposure times the brightness of the star.
What is left is a sum of few images with a coefficient of their own in every integration: M times powers of the position
along dispersion (the colour of the light curve), a constant (background), the derivatives of M (motion and width), and
components that are learned from the residuals of a sample (what derivatives of an undersampled image miss). Their sum

    P_i = sum_k c_ik R_k

is fitted to each integration by weighted least squares over the pixels that carry the light, with clipping, and is what
outliers are judged against: a transit, a flare or a shift of the image is then no outlier.

The weights are steady in time (the noise of a pixel in the whole exposure, never of one sample), so the normal matrix
is the same in all integrations but for bad pixels, whose share is subtracted. All sums run over pixels in the same
order and over one integration, so no number depends on the block in which it was computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core._template_fit import N_LEVELS, fit_all, make_work, subtract_all
from tso3.core.learning import MOST_LEARNED

__all__ = [
    "Template",
    "TemplateFit",
    "chosen_pixels",
    "fit_terms",
    "levels",
    "steady_terms",
    "subtract_terms",
    "template_bytes",
]

_IMAGE_TERMS = ("brightness", "background", "shift_y", "shift_x", "width_y", "width_x", "width_yx")


def _spectrum_terms(degree: int) -> tuple[str, ...]:
    """Return the names of the terms of a spectrum."""
    colours = tuple(f"colour_{k}" for k in range(1, degree + 1))
    return ("brightness", *colours, "background", "shift_y", "shift_y_colour", "shift_x", "width_y")


@dataclass(frozen=True)
class Template:
    """
    What integrations of an exposure are made of, in detector orientation.

    Attributes
    ----------
    names : tuple of str
        Of the terms; see `steady_terms`, and ``learned_1``, ... .
    images : ndarray of float32, shape (n_terms, ny, nx)
        The terms, unit of the stack; 0 where unknown.
    noise : ndarray of float32, shape (ny, nx)
        Noise of a pixel, steady in time; NaN where unknown.
    level : ndarray of uint8, shape (ny, nx)
        Class of each pixel, `levels`.
    pixels : ndarray of int64, shape (n_pixels,)
        Flat indices of the pixels of the fit.
    """

    names: tuple[str, ...]
    images: NDArray[np.float32]
    noise: NDArray[np.float32]
    level: NDArray[np.uint8]
    pixels: NDArray[np.int64]

    @property
    def terms_at_pixels(self) -> NDArray[np.float32]:
        """Terms at the pixels of the fit, shape (n_terms, n_pixels)."""
        return self.images.reshape(len(self.images), -1)[:, self.pixels]

    @property
    def rows(self) -> slice:
        """Rows that hold the pixels of the fit."""
        nx = self.images.shape[2]
        return slice(int(self.pixels[0]) // nx, int(self.pixels[-1]) // nx + 1)


@dataclass(frozen=True)
class TemplateFit:
    """
    Coefficients of the terms in consecutive integrations.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (n_int, n_terms)
        NaN in an integration without enough valid pixels.
    errors : ndarray of float64, shape (n_int, n_terms)
        1-sigma errors from the noise of the pixels alone.
    scales : ndarray of float64, shape (n_int, n_levels)
        Robust scatter of the residuals over the noise, in classes of pixels of rising signal over noise.
    residual : ndarray of float32, shape (n_int, n_pixels)
        Residuals in units of the noise; NaN where a pixel is bad. Empty if not kept.
    """

    coefficients: NDArray[np.float64]
    errors: NDArray[np.float64]
    scales: NDArray[np.float64]
    residual: NDArray[np.float32]


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
    Derivatives are central differences; gaps are bridged by the neighbours along the last axis.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import steady_terms
    >>> names, images = steady_terms(np.eye(4), spectrum=False)
    >>> names
    ('brightness', 'background', 'shift_y', 'shift_x', 'width_y', 'width_x', 'width_yx')
    """
    known = np.isfinite(reference)
    image = _bridged(reference, known)
    n_x = image.shape[1]
    u = np.linspace(-1.0, 1.0, n_x, dtype=np.float32) if n_x > 1 else np.zeros(1, np.float32)
    names = _spectrum_terms(degree) if spectrum else _IMAGE_TERMS
    images = np.empty((len(names), *image.shape), np.float32)
    dy, dx = -np.gradient(image, axis=0), -np.gradient(image, axis=1)
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


def template_bytes(ny: int, nx: int, *, spectrum: bool) -> int:
    """
    Return the memory that a template takes at most, its making included.

    Parameters
    ----------
    ny, nx : int
        Size of a frame.
    spectrum : bool
        As in `steady_terms`.

    Returns
    -------
    size : int
        Bytes: single-precision images of the terms and as many components as may be learned, and six more frames.

    Examples
    --------
    >>> from tso3.core.template import template_bytes
    >>> template_bytes(32, 2048, spectrum=True) // 2**20
    6
    """
    n_terms = len(_spectrum_terms(4) if spectrum else _IMAGE_TERMS)
    return (n_terms + MOST_LEARNED + 6) * ny * nx * 4


def _bridged(image: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return an image whose unknown pixels are interpolated along its rows; 0 in rows without any known pixel."""
    bridged = np.where(known, image, 0.0).astype(np.float32)
    x = np.arange(image.shape[1], dtype=np.float64)
    for row in np.flatnonzero(known.any(axis=1) & ~known.all(axis=1)):
        good = known[row]
        bridged[row] = np.interp(x, x[good], bridged[row, good])
    return bridged


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
        Number of pixels at most: half of them for their signal, the others spread evenly over the rest.

    Returns
    -------
    pixels : ndarray of int64, shape (n_pixels,)
        Flat indices, increasing.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import chosen_pixels, steady_terms
    >>> _, terms = steady_terms(np.diag([1.0, 5.0, 9.0]), spectrum=False)
    >>> chosen_pixels(terms, np.ones((3, 3)), most=2).tolist()
    [0, 8]
    """
    usable = np.flatnonzero((noise > 0.0).ravel() & np.isfinite(noise).ravel())
    if usable.size <= most:
        return usable.astype(np.int64)
    signal = np.abs(terms[0].ravel()[usable]) / noise.ravel()[usable]
    order = np.argsort(-signal, kind="stable")
    bright, rest = usable[order[: most - most // 2]], np.sort(usable[order[most - most // 2 :]])
    spread = rest[(np.arange(most // 2) * rest.size) // max(most // 2, 1)]
    return np.sort(np.concatenate([bright, spread])).astype(np.int64)


def fit_terms(
    terms: NDArray[np.floating],
    noise: NDArray[np.floating],
    data: NDArray[np.float32],
    mask: NDArray[np.bool_],
    keep_residual: bool = False,
) -> TemplateFit:
    """
    Fit the terms to integrations, each by itself, by least squares with clipping.

    Parameters
    ----------
    terms : ndarray, shape (n_terms, n_pixels)
        Terms at the pixels of the fit.
    noise : ndarray, shape (n_pixels,)
        Their noise, positive.
    data : ndarray of float32, shape (n_int, n_pixels)
        Samples; NaN is bad. Not modified.
    mask : ndarray of bool, shape (n_int, n_pixels)
        True where bad.
    keep_residual : bool, optional
        Return the residuals as well.

    Returns
    -------
    fit : TemplateFit
        Coefficients of terms that the pixels cannot tell apart are 0 for all but the first of them.

    Notes
    -----
    A pixel is clipped where its residual exceeds 5 times the noise and 5 times the robust scatter (1.4826 times the
    median of the absolute residuals) of the integration; fit and clipping are repeated until nothing changes, at most
    8 times.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import fit_terms
    >>> terms = np.ones((1, 40))
    >>> data = np.full((1, 40), 2.0, np.float32)
    >>> data[0, 3] = 900.0
    >>> fit = fit_terms(terms, np.ones(40), data, np.zeros(data.shape, bool))
    >>> fit.coefficients.round(6).tolist()
    [[2.0]]
    """
    n_int, n_pixels = data.shape
    weighted = np.ascontiguousarray(terms / noise, dtype=np.float32)
    size = np.sqrt(np.maximum((weighted.astype(np.float64) ** 2).sum(axis=1), 1e-300))
    unit = np.ascontiguousarray(weighted / size[:, np.newaxis].astype(np.float32))
    matrix = unit.astype(np.float64) @ unit.T.astype(np.float64)
    coefficients, errors = np.full((2, n_int, len(terms)), np.nan)
    scales = np.ones((n_int, N_LEVELS))
    residual = np.empty((n_int if keep_residual else 0, n_pixels), np.float32)
    if n_int and n_pixels:
        weight = (1.0 / noise).astype(np.float32)
        results = (coefficients, errors, scales, residual)
        fit_all(
            unit,
            matrix,
            weight,
            (data, mask.view(np.uint8)),
            levels(weighted[0]),
            results,
            make_work(len(terms), n_pixels),
        )
    return TemplateFit(coefficients / size, errors / size, scales, residual)


def levels(signal: NDArray[np.floating]) -> NDArray[np.uint8]:
    """
    Return the class of each pixel by its signal over noise: 0 below 3, then a factor of 3 each.

    Parameters
    ----------
    signal : ndarray, any shape
        Signal over noise; NaN counts as 0.

    Returns
    -------
    level : ndarray of uint8, same shape
        Index into ``TemplateFit.scales``.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import levels
    >>> levels(np.array([0.0, 4.0, 10.0, 1e6])).tolist()
    [0, 1, 2, 5]
    """
    edges = 3.0 ** np.arange(1, N_LEVELS)
    return np.searchsorted(edges, np.nan_to_num(np.abs(signal)), side="right").astype(np.uint8)


def subtract_terms(terms: NDArray[np.float32], coefficients: NDArray[np.float64], data: NDArray[np.float32]) -> None:
    """
    Subtract the prediction from integrations, in place.

    Parameters
    ----------
    terms : ndarray of float32, shape (n_terms, n_rows, nx)
        Rows of the terms.
    coefficients : ndarray of float64, shape (n_int, n_terms)
        NaN makes an integration NaN.
    data : ndarray of float32, shape (n_int, n_rows, nx)
        Modified: the residuals. NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import subtract_terms
    >>> data = np.full((1, 1, 2), 5.0, np.float32)
    >>> subtract_terms(np.ones((1, 1, 2), np.float32), np.array([[2.0]]), data)
    >>> data.ravel().tolist()
    [3.0, 3.0]
    """
    if data.size:
        subtract_all(np.ascontiguousarray(terms), coefficients.astype(np.float32), data)
