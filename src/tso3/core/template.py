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

from tso3.core._planes import flatten
from tso3.core._template_fit import N_LEVELS, fit_all, make_work, spread_noise, subtract_all
from tso3.core.learning import MOST_LEARNED
from tso3.core.terms import term_names

__all__ = [
    "N_LEVELS",
    "Template",
    "TemplateFit",
    "WeighedTerms",
    "fit_terms",
    "levels",
    "noise_of_integrations",
    "subtract_terms",
    "template_bytes",
    "weigh_terms",
]


@dataclass(frozen=True)
class Template:
    """
    What integrations of an exposure are made of, in detector orientation.

    Attributes
    ----------
    names : tuple of str
        Of the terms; see `tso3.core.terms.steady_terms`, and ``learned_1``, ... .
    images : ndarray of float32, shape (n_terms, ny, nx)
        The terms, unit of the stack; 0 where unknown.
    noise : ndarray of float32, shape (ny, nx)
        Noise of a pixel, steady in time; NaN where unknown.
    level : ndarray of uint8, shape (ny, nx)
        Class of each pixel, `levels`.
    pixels : ndarray of int64, shape (n_pixels,)
        Flat indices of the pixels of the fit.
    calibration : ndarray of float64, shape (n along dispersion,), or None
        Unit of the images for an electron, in any scale; None where it is taken as the same along dispersion.
    """

    names: tuple[str, ...]
    images: NDArray[np.float32]
    noise: NDArray[np.float32]
    level: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    calibration: NDArray[np.float64] | None = None

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


def template_bytes(ny: int, nx: int, *, spectrum: bool) -> int:
    """
    Return the memory that a template takes at most, its making included.

    Parameters
    ----------
    ny, nx : int
        Size of a frame.
    spectrum : bool
        As in `tso3.core.terms.steady_terms`.

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
    n_terms = len(term_names(spectrum=spectrum, bright=spectrum))
    return (n_terms + MOST_LEARNED + 6) * ny * nx * 4


@dataclass(frozen=True)
class WeighedTerms:
    """
    Terms at the pixels of a fit, in units of the noise: what fits to all integrations have in common.

    Attributes
    ----------
    unit : ndarray of float32, shape (n_terms, n_pixels)
        Terms over the noise, scaled to unit length.
    size : ndarray of float64, shape (n_terms,)
        The lengths before.
    matrix : ndarray of float64, shape (n_terms, n_terms)
        Normal matrix of ``unit``.
    weight : ndarray of float32, shape (n_pixels,)
        One over the noise.
    order : ndarray of int64, shape (n_pixels,)
        Pixels in the order of their class, `levels`.
    edges : ndarray of int64, shape (n_levels + 1,)
        Where in ``order`` each class begins, and the last one ends.
    """

    unit: NDArray[np.float32]
    size: NDArray[np.float64]
    matrix: NDArray[np.float64]
    weight: NDArray[np.float32]
    order: NDArray[np.int64]
    edges: NDArray[np.int64]


def weigh_terms(terms: NDArray[np.floating], noise: NDArray[np.floating]) -> WeighedTerms:
    """
    Return what fits of the same terms to the same pixels have in common.

    Parameters
    ----------
    terms : ndarray, shape (n_terms, n_pixels)
        Terms at the pixels of the fit.
    noise : ndarray, shape (n_pixels,)
        Their noise, positive.

    Returns
    -------
    weighed : WeighedTerms

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import weigh_terms
    >>> weigh_terms(np.ones((1, 4)), np.full(4, 0.5)).size.tolist()
    [4.0]
    """
    weighted = np.ascontiguousarray(terms / noise, dtype=np.float32)
    size = np.sqrt((weighted.astype(np.float64) ** 2).sum(axis=1))
    size = np.where(size > 0.0, size, 1.0)
    unit = np.ascontiguousarray(weighted / size[:, np.newaxis].astype(np.float32), dtype=np.float32)
    matrix = unit.astype(np.float64) @ unit.T.astype(np.float64)
    level = levels(weighted[0])
    order = np.argsort(level, kind="stable")
    edges = np.searchsorted(level[order], np.arange(N_LEVELS + 1))
    return WeighedTerms(unit, size, matrix, (1.0 / noise).astype(np.float32), order, edges)


def fit_terms(terms: WeighedTerms, data: NDArray[np.float32], keep_residual: bool = False) -> TemplateFit:
    """
    Fit the terms to integrations, each by itself, by least squares with clipping.

    Parameters
    ----------
    terms : WeighedTerms
        From `weigh_terms`.
    data : ndarray of float32, shape (n_int, n_pixels)
        Samples; NaN is bad. Not modified.
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
    8 times. The compiled code releases the interpreter's lock.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import fit_terms, weigh_terms
    >>> data = np.full((1, 40), 2.0, np.float32)
    >>> data[0, 3] = 900.0
    >>> fit_terms(weigh_terms(np.ones((1, 40)), np.ones(40)), data).coefficients.round(6).tolist()
    [[2.0]]
    """
    n_int, n_pixels = data.shape
    n_terms = len(terms.size)
    coefficients, errors = np.full((2, n_int, n_terms), np.nan)
    scales = np.ones((n_int, N_LEVELS))
    residual = np.empty((n_int if keep_residual else 0, n_pixels), np.float32)
    if n_int and n_pixels:
        results = (coefficients, errors, scales, residual)
        fit_all(
            terms.unit,
            terms.matrix,
            terms.weight,
            np.ascontiguousarray(data),
            (terms.order, terms.edges),
            results,
            make_work(n_terms, n_pixels),
        )
    return TemplateFit(coefficients / terms.size, errors / terms.size, scales, residual)


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
    size = np.nan_to_num(np.abs(signal))
    level = np.zeros(size.shape, np.uint8)
    for edge in 3.0 ** np.arange(1, N_LEVELS):
        level += size >= edge
    return level


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
        Modified: the residuals. NaN stays NaN. The last axis is contiguous.

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
        plane = flatten(data, np.float32)
        if not np.shares_memory(plane.flat, data):
            raise ValueError("data must have rows that are contiguous float32")
        subtract_all(flatten(terms, np.float32), coefficients.astype(np.float32), plane, data.shape[1:])


def noise_of_integrations(
    noise: NDArray[np.float32], level: NDArray[np.uint8], stretch: NDArray[np.float32], err: NDArray[np.float32]
) -> None:
    """
    Fill the noise of integrations: that of the exposure, stretched by a factor for each class of pixels.

    Parameters
    ----------
    noise : ndarray of float32, shape (n_rows, nx)
        Steady noise.
    level : ndarray of uint8, shape (n_rows, nx)
        Class of each pixel, `levels`.
    stretch : ndarray of float32, shape (n_int, n_levels)
        Factors.
    err : ndarray of float32, shape (n_int, n_rows, nx)
        Filled.

    Raises
    ------
    ValueError
        If a class has no factor.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.template import noise_of_integrations
    >>> err = np.empty((1, 1, 2), np.float32)
    >>> level = np.array([[0, 1]], np.uint8)
    >>> noise_of_integrations(np.ones((1, 2), np.float32), level, np.array([[1.0, 1.5]], np.float32), err)
    >>> err.tolist()
    [[[1.0, 1.5]]]
    """
    if level.size and level.max() >= stretch.shape[1]:
        raise ValueError(f"a class {level.max()} and factors of {stretch.shape[1]}")
    spread_noise(noise, level, stretch, err)
