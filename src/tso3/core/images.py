"""A stack of images in the unit of the measurement, and the compiled pieces that photometry and centroids share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Images", "fill_net", "first_pixel"]


@dataclass(frozen=True)
class Images:
    """
    A stack of images and the factor that brings it to the unit of the measurement.

    Attributes
    ----------
    data, err : ndarray of float32, shape (n_int, ny, nx)
        Stack and its 1-sigma error, in the unit of the input; NaN marks a bad pixel.
    var_poisson, var_rnoise : ndarray of float32 or None, shape (n_int, ny, nx)
        The parts of the variance that scatter in time, input unit squared; one that is None counts as zero.
    scale : ndarray of float32, shape (ny, nx)
        Factor from the unit of the input to that of the measurement. A NaN makes its pixel bad.
    """

    data: NDArray[np.float32]
    err: NDArray[np.float32]
    var_poisson: NDArray[np.float32] | None
    var_rnoise: NDArray[np.float32] | None
    scale: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        data: NDArray[np.float32],
        err: NDArray[np.float32],
        var_poisson: NDArray[np.float32] | None = None,
        var_rnoise: NDArray[np.float32] | None = None,
        scale: NDArray[np.float32] | None = None,
    ) -> Images:
        """Return a stack; the factor is 1 where none is given."""
        return cls(data, err, var_poisson, var_rnoise, np.ones(data.shape[1:], np.float32) if scale is None else scale)


@njit(cache=True, nogil=True)
def first_pixel(centre: float, width: int) -> int:
    """Return the first pixel of a box of odd or even width around a position; it may lie outside the array."""
    return math.ceil(centre - width / 2)


@njit(cache=True, nogil=True)
def fill_net(
    image: NDArray[np.float32],
    scale: NDArray[np.float32],
    background: float,
    low: int,
    left: int,
    cut: NDArray[np.float64],
) -> tuple[int, float]:
    """Fill a cutout with the scaled image minus background (NaN where not finite); return finite pixels and sum."""
    n_valid, total = 0, 0.0
    for j in range(cut.shape[0]):
        for i in range(cut.shape[1]):
            scaled = np.float32(image[low + j, left + i] * scale[low + j, left + i])
            value = float(np.float32(scaled - np.float32(background)))
            if np.isfinite(value):
                cut[j, i] = value
                n_valid += 1
                total += value
            else:
                cut[j, i] = np.nan
    return n_valid, total
