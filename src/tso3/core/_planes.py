"""Stacks as the kernels of the time axis see them: flat, with steps, so that one compiled version serves all."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Place", "Plane", "flatten", "merge_rows"]

Array = NDArray[Any]
Place = tuple[int, ...]
"""Offsets of the first pixel of a chunk in each of several planes."""


class Plane(NamedTuple):
    """A stack as the kernels see it: element (t, y, x) is ``flat[t * step_int + y * step_row + x]``."""

    flat: Array
    step_int: int
    step_row: int


def flatten(stack: Array, dtype: type) -> Plane:
    """
    Return a stack as the kernels see it: one-dimensional, with the steps to its next integration and next row.

    Parameters
    ----------
    stack : ndarray, shape (n_int, ny, nx)
        May be a row range of a larger stack, ``stack[:, first:last, :]``; copied only if its last axis is not
        contiguous or its dtype differs. Not modified.
    dtype : type
        Wanted dtype.

    Returns
    -------
    plane : Plane
        A view of `stack` wherever possible; steps in elements.

    Examples
    --------
    >>> import numpy as np
    >>> plane = flatten(np.arange(12.0).reshape(2, 3, 2)[:, 1:2, :], np.float64)
    >>> float(plane.flat[1 * plane.step_int + 0 * plane.step_row + 1]), plane.step_int, plane.step_row
    (9.0, 6, 2)
    """
    wanted = np.dtype(dtype)
    array = stack.view(np.uint8) if stack.dtype == np.bool_ and wanted == np.uint8 else stack
    array = np.asarray(array, dtype=wanted)
    size = wanted.itemsize
    if array.size == 0:
        return Plane(np.empty(0, wanted), 0, 0)
    contiguous = array.strides[2] == size or array.shape[2] == 1
    if not contiguous or any(step < 0 or step % size for step in array.strides[:2]):
        array = np.ascontiguousarray(array)
    step_int, step_row = array.strides[0] // size, array.strides[1] // size
    span = (array.shape[0] - 1) * step_int + (array.shape[1] - 1) * step_row + array.shape[2]
    return Plane(np.lib.stride_tricks.as_strided(array, (span,), (size,)), step_int, step_row)


def merge_rows(shape: tuple[int, ...], *planes: Plane) -> tuple[int, int]:
    """
    Return the rows and columns to loop over: one long row if frames are contiguous in every plane.

    Parameters
    ----------
    shape : tuple of int
        Of the stacks, (n_int, ny, nx).
    *planes : Plane
        The stacks.

    Returns
    -------
    ny, nx : int
        Either those of `shape`, or 1 and their product.

    Examples
    --------
    >>> import numpy as np
    >>> merge_rows((9, 4, 3), Plane(np.empty(108), 12, 3))
    (1, 12)
    """
    _, ny, nx = shape
    return (1, ny * nx) if all(plane.step_row == nx for plane in planes) else (ny, nx)
