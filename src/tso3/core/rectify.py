"""
Rectification: images resampled onto a straight grid by the exact overlap of pixels.

Every input pixel is a quadrilateral in the output grid, and a_ji the area that it shares with the output pixel j. With
weights w_i of 1, or 0 for bad pixels,

    W_j = sum_i a_ji w_i,                                                     (1)
    S_j = sum_i a_ji w_i s_i / W_j,                                           (2)
    V_j = sum_i (a_ji w_i)^2 v_i / W_j^2,                                     (3)

which is what drizzle does with a square kernel and a pixel fraction of 1 (Fruchter & Hook 2002, PASP 114, 144, eqs. 3
to 5). A quantity per pixel, as a count rate, is turned into a density first: s_i / A_i times the area of the output
pixel, so that its sum is conserved. The areas are the same for all integrations and computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tso3.core._overlap import fill_overlaps, in_diagonals
from tso3.core._overlap_sums import add_overlaps
from tso3.core._planes import Plane, flatten

__all__ = ["Corners", "Rectified", "Rectifier", "corners_of", "make_rectifier", "rectify"]

Floats = NDArray[np.float64]

_ROOM = 64 * 2**20
_LAYERS = 12
"""Overlaps of an output pixel for which there is room at first."""


@dataclass(frozen=True)
class Corners:
    """
    Where the corners of the input pixels lie in the output grid.

    Attributes
    ----------
    x, y : ndarray of float64, shape (ny + 1, nx + 1)
        Column and row, an integer being the centre of a pixel; NaN where there is no place.
    """

    x: Floats
    y: Floats

    def moved(self, x: float, y: float) -> Corners:
        """Return the corners moved by some output pixels."""
        return Corners(self.x + x, self.y + y)


@dataclass(frozen=True)
class Rectifier:
    """
    The overlaps of the pixels of an image with those of a grid.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the grid.
    input_shape : (int, int)
        Rows and columns of the image.
    first : ndarray of int64, shape (n_rows + 1,)
        Where the overlaps of each output row begin; within a row they are laid out as (overlap, column).
    index : ndarray of int32
        Input pixel of each overlap; 0 where an output pixel has fewer than others of its row.
    weight : ndarray of float32
        Its area [output pixel]; 0 there.
    value : ndarray of float32
        What its value counts with: ``weight``, or, for a quantity per pixel, times the density that it stands for.
    nominal : ndarray of float32, shape (n_rows, n_columns)
        Weight without bad pixels.
    falling : bool
        Whether columns further to the right read pixels further to the left, as where wavelengths fall along rows.
    """

    shape: tuple[int, int]
    input_shape: tuple[int, int]
    first: NDArray[np.int64]
    index: NDArray[np.int32]
    weight: NDArray[np.float32]
    value: NDArray[np.float32]
    nominal: NDArray[np.float32]
    falling: bool

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        value = 0 if self.value is self.weight else self.value.nbytes
        return self.index.nbytes + self.weight.nbytes + value + self.nominal.nbytes

    @cached_property
    def rows(self) -> slice:
        """Input rows that it reads."""
        used = self.index[self.weight > 0.0]
        if used.size == 0:
            return slice(0, 0)
        return slice(int(used.min()) // self.input_shape[1], int(used.max()) // self.input_shape[1] + 1)


@dataclass(frozen=True)
class Rectified:
    """
    Rectified integrations.

    Attributes
    ----------
    data : ndarray of float32, shape (n_int, n_rows, n_columns)
        NaN where no valid pixel overlaps.
    err : ndarray of float32
        Root of the sum of the variances.
    weight : ndarray of float32
        Area of the valid input pixels in each output pixel.
    variances : tuple of ndarray of float32 or None
        Poisson, read noise and flat field, as they were given.
    """

    data: NDArray[np.float32]
    err: NDArray[np.float32]
    weight: NDArray[np.float32]
    variances: tuple[NDArray[np.float32] | None, ...]


def corners_of(plane: NDArray[np.floating]) -> Floats:
    """
    Return a coordinate at the corners of pixels from its values at their centres.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        At least 3 by 3 pixels; where it is NaN it is extrapolated from the nearest two in the row, else in the column.

    Returns
    -------
    corners : ndarray of float64, shape (ny + 1, nx + 1)
        Element (r, c) is at (r - 1/2, c - 1/2). NaN if fewer than two rows or columns are known.

    Notes
    -----
    The mean of the four centres about a corner is off by an eighth of the sum of the second differences, which is taken
    off first: exact for polynomials of degree 3 in each axis.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectify import corners_of
    >>> y, x = np.indices((3, 4), dtype=float)
    >>> corners_of(x * x + y)[0].round(6)
    array([-0.25, -0.25,  1.75,  5.75, 11.75])
    """
    values = np.asarray(plane, np.float64)
    for axis in (1, 0):
        values = _extrapolated(values if axis else values.T)
        values = values if axis else values.T
    second = np.zeros_like(values)
    for axis in (0, 1):
        if values.shape[axis] >= 3:
            inner = np.diff(values, 2, axis=axis)
            second += np.concatenate([inner.take([0], axis), inner, inner.take([-1], axis)], axis=axis)
    values = values - second / 8.0
    for axis in (0, 1):
        n = values.shape[axis]
        if n >= 3:
            low = _beyond(*(values.take([k], axis) for k in (0, 1, 2)))
            high = _beyond(*(values.take([n - k], axis) for k in (1, 2, 3)))
        else:
            low, high = (values.take([k], axis) for k in (0, -1))
        padded = np.concatenate([low, values, high], axis=axis)
        values = 0.5 * (padded[:, :-1] + padded[:, 1:] if axis else padded[:-1] + padded[1:])
    return np.asarray(values)


def _beyond(nearest: Floats, next_one: Floats, third: Floats) -> Floats:
    """Return the value one step beyond, of a parabola through three."""
    return np.asarray(3.0 * nearest - 3.0 * next_one + third)


def _extrapolated(values: Floats) -> Floats:
    """Return rows whose ends are continued on a straight line through the two outermost known values."""
    out = values.copy()
    found = np.isfinite(out).sum(axis=1)
    for k in np.flatnonzero((found >= 2) & (found < out.shape[1])):
        row = out[k]
        known = np.flatnonzero(np.isfinite(row))
        (a, b), (y, z) = known[:2], known[-2:]
        before, after = np.arange(a), np.arange(z + 1, row.size)
        row[before] = row[a] + (before - a) * (row[b] - row[a]) / (b - a)
        row[after] = row[z] + (after - z) * (row[z] - row[y]) / (z - y)
        inside = np.flatnonzero(~np.isfinite(row))
        row[inside] = np.interp(inside, known, row[known])
    return out


def make_rectifier(
    corners: Corners,
    shape: tuple[int, int],
    usable: NDArray[np.bool_] | None = None,
    density: NDArray[np.floating] | None = None,
    widths: NDArray[np.floating] | None = None,
    *,
    turned: bool = False,
    inside: tuple[int, int] | None = None,
) -> Rectifier:
    """
    Return the overlaps of the pixels of an image with those of a grid.

    Parameters
    ----------
    corners : Corners
        Of the input pixels.
    shape : (int, int)
        Rows and columns of the grid.
    usable : ndarray of bool, shape (ny, nx), optional
        Pixels that take part; all by default.
    density : ndarray, shape (ny, nx), optional
        Factor by which each value is multiplied before the mean; 1 by default.
    widths : ndarray, shape (n_columns,), optional
        With ``density``: factor by which the mean in each column is multiplied; 1 by default.
    turned : bool, optional
        True if the images that are rectified have the axes of ``corners`` exchanged.
    inside : (int, int), optional
        Where the pixels are only some rows of the images: the first of them, and how many rows the images have.

    Returns
    -------
    rectifier : Rectifier

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectify import Corners, make_rectifier, rectify
    >>> y, x = np.indices((2, 4)) - 0.5
    >>> shifted = make_rectifier(Corners(x + 0.25, y), (1, 3))
    >>> rectify(shifted, np.array([[[1.0, 2.0, 4.0]]], np.float32)).data.round(3)
    array([[[1.  , 1.75, 3.5 ]]], dtype=float32)
    """
    x, y = (np.array(values, np.float64, order="C") for values in (corners.x, corners.y))
    size = (x.shape[0] - 1, x.shape[1] - 1)
    taking = np.ones(size, np.bool_) if usable is None else np.ascontiguousarray(usable)
    count, found_index, found_weight = _found((x, y), taking, shape)
    first = np.zeros(shape[0] + 1, np.int64)
    first[1:] = np.cumsum(count.max(axis=1).astype(np.int64) * shape[1])
    index, weight = np.empty(int(first[-1]), np.int32), np.empty(int(first[-1]), np.float32)
    for row in range(shape[0]):
        part, n_layers = slice(int(first[row]), int(first[row + 1])), int(count[row].max())
        index[part] = found_index[row, :n_layers].ravel()
        weight[part] = found_weight[row, :n_layers].ravel()
    steps = np.diff(x, axis=1)
    falling = bool(np.count_nonzero(steps < 0.0) > np.count_nonzero(steps > 0.0))
    for row in range(shape[0]):
        part = slice(int(first[row]), int(first[row + 1]))
        layers = (index[part].reshape(-1, shape[1]), weight[part].reshape(-1, shape[1]))
        in_diagonals(*layers, size[0] * size[1], -1 if falling else 1)
    value = weight
    if density is not None:
        value = (weight * np.asarray(density, np.float64).ravel()[index]).astype(np.float32)
        value[weight == 0.0] = 0.0
        if widths is not None:
            value = (value.reshape(-1, shape[1]) * widths).astype(np.float32).ravel()
    nominal = np.zeros(shape, np.float32)
    for row in range(shape[0]):
        nominal[row] = weight[first[row] : first[row + 1]].reshape(-1, shape[1]).sum(axis=0, dtype=np.float64)
    if inside is not None:
        index, size = index + inside[0] * size[1], (inside[1], size[1])
    if turned:
        index, size = (index % size[1]) * size[0] + index // size[1], (size[1], size[0])
    return Rectifier(shape, size, first, index.astype(np.int32), weight, value, nominal, falling)


def _found(
    corners: tuple[Floats, Floats], taking: NDArray[np.bool_], shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return how many overlaps each output pixel has, and these: pixels and areas, (row, overlap, column)."""
    n_layers = _LAYERS if 8 * _LAYERS * shape[0] * shape[1] <= _ROOM else 0  # of a large grid they are counted first
    while True:
        count = np.zeros(shape, np.int32)
        index = np.zeros((shape[0], n_layers, shape[1]), np.int32)
        weight = np.zeros(index.shape, np.float32)
        fill_overlaps(corners, taking, shape, count, index, weight)
        most = int(count.max(initial=0))
        if most <= n_layers:
            return count, index, weight
        n_layers = most


def rectify(
    rectifier: Rectifier,
    data: NDArray[np.float32],
    variances: tuple[NDArray[np.float32] | None, ...] = (),
) -> Rectified:
    """
    Return rectified integrations.

    Parameters
    ----------
    rectifier : Rectifier
        For images of this size.
    data : ndarray of float32, shape (n_int, ny, nx)
        Stack; a pixel is bad where this is not finite, or a variance is NaN. Not modified.
    variances : tuple of (ndarray of float32 or None), optional
        Variances of the same shape, up to three; the sum is that of the error. None counts as zero.

    Returns
    -------
    rectified : Rectified
        Each integration by itself: it does not depend on the others.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectify import Corners, make_rectifier, rectify
    >>> y, x = np.indices((2, 4)) - 0.5
    >>> shifted = make_rectifier(Corners(x + 0.5, y), (1, 3))
    >>> stack = np.array([[[4.0, np.nan, 4.0]]], np.float32)
    >>> found = rectify(shifted, stack, (stack,))
    >>> found.data[0, 0].tolist(), found.weight[0, 0].tolist(), found.err[0, 0].tolist()
    ([4.0, 4.0, 4.0], [0.5, 0.5, 0.5], [2.0, 2.0, 2.0])
    """
    if data.shape[1:] != rectifier.input_shape:
        raise ValueError(f"images of {data.shape[1:]} pixels, the overlaps are those of {rectifier.input_shape}")
    given = (*variances, None, None, None)[:3]
    used = [k for k, plane in enumerate(given) if plane is not None]
    nothing = np.zeros((1, *data.shape[1:]), np.float32) if len(used) < 3 else data[:0]
    planes = [_flat(data)]
    for plane in given:
        planes.append(_flat(nothing)._replace(step_int=0) if plane is None else _flat(plane))
    out = np.empty((3 + len(used), data.shape[0], *rectifier.shape), np.float32)
    outputs = np.full(4, -1, np.int64)
    for at, k in enumerate(used):
        outputs[1 + k] = 3 + at
    if data.size:
        add_overlaps(
            (rectifier.first, rectifier.index, rectifier.weight, rectifier.value),
            (planes[0], planes[1], planes[2], planes[3]),
            rectifier.falling,
            outputs,
            out,
        )
    parts = tuple(None if outputs[1 + k] < 0 else out[outputs[1 + k]] for k in range(len(variances)))
    return Rectified(out[0], out[1], out[2], parts)


def _flat(stack: NDArray[np.float32]) -> Plane:
    """Return a stack as the kernel sees it: images without gaps between their rows."""
    plane = flatten(stack, np.float32)
    return plane if plane.step_row == stack.shape[2] else flatten(np.ascontiguousarray(stack), np.float32)
