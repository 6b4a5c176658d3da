"""
Bad pixels of a block replaced by estimates, before extraction: three ways to estimate them.

`mingrad` takes the mean of two neighbours, `fit_profile` a profile from the columns around in the same integration,
`time_profile` the time-stable image of the exposure, scaled to the column of that integration. All return new arrays;
good pixels are never touched, and an integration never looks at another, so that a number does not depend on the block
it was computed in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tso3.core._repair_fit import fit_columns
from tso3.core._repair_time import fill_columns, fill_reference
from tso3.core.block import Block

__all__ = ["DqBits", "expected_image", "fit_profile", "mingrad", "time_profile"]

_BORDER = 2
"""Rows and columns at the lower edges that jwst leaves alone; at the upper edges it is one."""

_FIRST_VARIANCE = 2
"""Index of the first variance among the planes."""

_Stack = NDArray[np.float32]
_Planes = tuple[_Stack, _Stack, _Stack, _Stack, _Stack]
"""Data, error, Poisson, read-noise and flat variance; empty where the block has none."""


class DqBits(NamedTuple):
    """Values of the quality bits that replacement reads or sets."""

    do_not_use: int
    non_science: int
    flux_estimated: int


def mingrad(block: Block, bits: DqBits) -> Block:
    """
    Return the block with every isolated bad pixel replaced by the mean of two neighbours, as jwst 3.0.0 does it.

    Of the pairs left-right and below-above that which differs less is taken (left-right where both differ alike); a
    pair with a bad pixel is none. Errors are averaged, variances as their square roots.

    Parameters
    ----------
    block : Block
        In detector orientation, ``dq`` given; bad pixels NaN in all planes. Not modified.
    bits : DqBits
        Values of the quality bits.

    Returns
    -------
    replaced : Block
        New planes, with ``estimated``. DO_NOT_USE is taken away unless the pixel is NON_SCIENCE, and FLUX_ESTIMATED
        set. The two first rows and columns and the last ones stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.block import Block
    >>> from tso3.core.repair import DqBits, mingrad
    >>> data = np.ones((1, 5, 5), np.float32)
    >>> data[0, 2] = [2, 2, np.nan, 4, 2]
    >>> dq = np.isnan(data).astype(np.uint32)
    >>> new = mingrad(Block(0, data, None, dq, dq > 0, data, None, None), DqBits(1, 512, 2**28))
    >>> float(new.data[0, 2, 2]), int(new.dq[0, 2, 2]), new.mask.any()
    (1.0, 268435456, np.False_)
    """
    data = block.data
    bad = ~np.isfinite(data)
    bad[:, :_BORDER], bad[:, -1:], bad[..., :_BORDER], bad[..., -1:] = False, False, False, False
    i, y, x = np.nonzero(bad)

    def pairs(plane: _Stack) -> tuple[_Stack, ...]:
        return plane[i, y, x - 1], plane[i, y, x + 1], plane[i, y - 1, x], plane[i, y + 1, x]

    left, right, below, above = pairs(data)
    along, across = np.abs(left - right), np.abs(below - above)
    along, across = (np.where(np.isnan(step), np.inf, step) for step in (along, across))
    usable = ~(np.isinf(along) & np.isinf(across))
    horizontal = along <= across

    planes = _copies(block)
    for k, plane in enumerate(planes):
        if plane.size:
            with np.errstate(invalid="ignore"):
                four = [np.sqrt(v) for v in pairs(plane)] if k >= _FIRST_VARIANCE else pairs(plane)
            mean = np.where(horizontal, (four[0] + four[1]) / np.float32(2), (four[2] + four[3]) / np.float32(2))
            plane[i[usable], y[usable], x[usable]] = (mean**2 if k >= _FIRST_VARIANCE else mean)[usable]
    estimated = np.zeros(data.shape, dtype=np.bool_)
    estimated[i[usable], y[usable], x[usable]] = True
    return _finished(block, planes, estimated, bits)


def fit_profile(block: Block, bits: DqBits, n_adjacent_cols: int = 3) -> Block:
    """
    Return the block with bad pixels replaced from the median profile of the columns around, as jwst 3.0.0 does it.

    The profile of a column is the median of its neighbours, each divided by its largest absolute value (by 1 if none of
    their pixels is five times its error). It is scaled to the column by a least-squares fit of absolute values, both
    normalised, with jwst's optimiser (Nelder and Mead 1965 in one dimension, in single precision, ended within 1e-4).

    Parameters
    ----------
    block : Block
        Dispersion along the last axis, ``err`` and ``dq`` given; bad pixels NaN in all planes. Not modified.
    bits : DqBits
        Values of the quality bits.
    n_adjacent_cols : int, optional
        Columns on each side that the profile is made from; those without a good pixel are left out.

    Returns
    -------
    replaced : Block
        New planes, with ``estimated``: pixels that were DO_NOT_USE and not NON_SCIENCE, and for which the profile is
        known. Errors and square roots of variances are scaled like the data.

    Raises
    ------
    ValueError
        If the block has no ``err`` or no ``dq``.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.block import Block
    >>> from tso3.core.repair import DqBits, fit_profile
    >>> data = np.outer([1, 3, 1], [10, 20, 30]).astype(np.float32)[np.newaxis]
    >>> data[0, 2, 1] = np.nan
    >>> dq = np.isnan(data).astype(np.uint32)
    >>> err = np.where(dq > 0, np.nan, np.float32(0.1)).astype(np.float32)
    >>> float(fit_profile(Block(0, data, err, dq, dq > 0, None, None, None), DqBits(1, 512, 2**28)).data[0, 2, 1])
    20.0
    """
    if block.err is None or block.dq is None:
        raise ValueError("fit_profile needs err and dq")
    planes = _copies(block)
    estimated = np.zeros(block.data.shape, dtype=np.bool_)
    unusable = (block.dq & np.uint32(bits.do_not_use)) != 0
    outside = (block.dq & np.uint32(bits.non_science)) != 0
    fit_columns(planes, unusable, outside, n_adjacent_cols, estimated)
    return _finished(block, planes, estimated, bits)


def expected_image(reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """
    Return the reference image of an exposure with its bad pixels filled from the columns around.

    Parameters
    ----------
    reference : ndarray, shape (n_rows, n_wave)
        Dispersion along the last axis, any unit; NaN where no sample was valid. Not modified.

    Returns
    -------
    expected : ndarray of float64, shape (n_rows, n_wave)
        A bad pixel is the mean of the valid ones of its row, within 2, else 4, else 8 columns, scaled by the light of
        its column over that of theirs, in the rows that are valid in both; NaN where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.repair import expected_image
    >>> image = np.outer([1.0, 3.0, 1.0], [10.0, 20.0, 30.0])
    >>> image[1, 1] = np.nan
    >>> float(expected_image(image)[1, 1])
    60.0
    """
    image = np.array(reference, dtype=np.float64)
    fill_reference(np.array(image), image)
    return image


def time_profile(
    block: Block, bits: DqBits, expected: NDArray[np.float64], aperture: NDArray[np.float64] | None = None
) -> Block:
    """
    Return the block with bad pixels replaced by the exposure's image, scaled to the column of the integration.

    Parameters
    ----------
    block : Block
        Dispersion along the last axis, ``dq`` given; bad pixels NaN in all planes. Not modified.
    bits : DqBits
        Values of the quality bits.
    expected : ndarray, shape (n_rows, n_wave)
        From `expected_image`, unit of the block; NaN where unknown: not replaced, and left out of the fit.
    aperture : ndarray, shape (n_rows, n_wave), optional
        Weights of the sum over a column whose variance is to be right; by default 1.

    Returns
    -------
    replaced : Block
        New planes, with ``estimated``: pixels that were DO_NOT_USE and not NON_SCIENCE.

    Raises
    ------
    ValueError
        If the block has no ``dq`` or a shape does not fit.

    Notes
    -----
    With E the expected image, the good pixels d_g of a column and weights w_g = 1 / V_g, scale s and offset c minimise
    sum_g w_g (d_g - s E_g - c)^2, and a bad pixel becomes f_b = s E_b + c: a weighted sum of the good ones,
    sum_g h_bg d_g. V_g = a max(E_g, 0) + VAR_RNOISE_g, where a is the sum of VAR_POISSON over that of E in the column:
    a pixel that is high by chance does not get a low weight. With fewer than three good pixels, or an image that does
    not vary across the column, there is no offset.

    Each variance component of f_b is sum_g h_bg^2 v_g. As f_b depends on the same pixels that it is summed with, what
    the sum over the aperture, with weights A, would lack,
    2 sum_b A_b sum_g h_bg A_g v_g + sum_{b != b'} A_b A_b' sum_g h_bg h_b'g v_g, is added in equal parts to the bad
    pixels in the aperture: the variance of the sum is then that of the sum.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.block import Block
    >>> from tso3.core.repair import DqBits, time_profile
    >>> data = np.array([[[0.0], [9.0], [np.nan], [0.0]]], np.float32)
    >>> dq = np.isnan(data).astype(np.uint32)
    >>> expected = np.array([[0.0], [10.0], [20.0], [0.0]])
    >>> new = time_profile(Block(0, data, None, dq, dq > 0, None, None, None), DqBits(1, 512, 2**28), expected)
    >>> new.data.ravel()
    array([ 0.,  9., 18.,  0.], dtype=float32)
    """
    if block.dq is None:
        raise ValueError("time_profile needs dq")
    weights = np.ones(expected.shape) if aperture is None else np.ascontiguousarray(aperture, dtype=np.float64)
    if expected.shape != block.data.shape[1:] or weights.shape != expected.shape:
        raise ValueError(f"image {expected.shape} and aperture {weights.shape} for a block of {block.data.shape}")
    planes = _copies(block)
    estimated = np.zeros(block.data.shape, dtype=np.bool_)
    target = ((block.dq & np.uint32(bits.do_not_use)) != 0) & ((block.dq & np.uint32(bits.non_science)) == 0)
    fill_columns(planes, target, np.ascontiguousarray(expected), weights, estimated)
    return _finished(block, planes, estimated, bits)


def _copies(block: Block) -> _Planes:
    """Return contiguous copies of the planes of a block."""

    def copied(plane: _Stack | None) -> _Stack:
        return np.empty((0, 0, 0), dtype=np.float32) if plane is None else np.array(plane, order="C")

    variances = copied(block.var_poisson), copied(block.var_rnoise), copied(block.var_flat)
    return copied(block.data), copied(block.err), *variances


def _finished(block: Block, planes: _Planes, estimated: NDArray[np.bool_], bits: DqBits) -> Block:
    """Return a block of new planes, its quality and mask brought up to date."""
    dq = None
    if block.dq is not None:
        science = (block.dq & np.uint32(bits.non_science)) == 0
        cleared = np.where(estimated & science, block.dq & ~np.uint32(bits.do_not_use), block.dq)
        dq = np.where(estimated, cleared | np.uint32(bits.flux_estimated), block.dq)
    data, err, var_poisson, var_rnoise, var_flat = planes
    return Block(
        start=block.start,
        data=data,
        err=None if block.err is None else err,
        dq=dq,
        mask=block.mask & ~estimated,
        var_poisson=None if block.var_poisson is None else var_poisson,
        var_rnoise=None if block.var_rnoise is None else var_rnoise,
        var_flat=None if block.var_flat is None else var_flat,
        estimated=estimated,
    )
