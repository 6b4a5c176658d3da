"""
Loops over the columns of one row: the innermost pieces of `tso3.core.box`.

Each is a function of its own with one output array: with more, the compiler would need more checks for overlap than it
makes, and would not vectorise the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Plane

__all__ = [
    "TILE",
    "Row",
    "add_kept",
    "add_lost",
    "add_product",
    "add_scaled",
    "add_squared",
    "collect",
    "copy",
    "fill",
    "horner",
    "inner",
    "keep",
    "mark_aperture",
    "mark_level",
    "part",
    "stretch",
]

TILE = 256
"""Columns that are carried together."""

Row = NDArray[np.floating]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def inner(function: Kernel) -> Kernel:
    """Compile a function that only compiled code calls: a way in from Python would take longer than the function."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
    compiled: Kernel = njit(cache=True, nogil=True, **options)(function)
    return compiled


@inner
def mark_aperture(kept: Row, weight: Row, data: Row, poisson: Row, rnoise: Row, flat: Row) -> None:
    """Write the weights of good pixels, 0 for bad ones."""
    for x in range(kept.size):
        finite = data[x] - data[x] == 0.0
        known = (poisson[x] == poisson[x]) & (rnoise[x] == rnoise[x]) & (flat[x] == flat[x])
        kept[x] = weight[x] if finite & known else 0.0


@inner
def mark_level(level: Row, region: Row, data: Row, poisson: Row, rnoise: Row, flat: Row) -> None:
    """Write 1 for pixels of the background region that are good and whose variance is finite in float32, else 0."""
    for x in range(level.size):
        noise = (rnoise[x] + poisson[x]) + flat[x]
        good = (data[x] - data[x] == 0.0) & (noise - noise == 0.0)
        level[x] = region[x] if good else 0.0


@inner
def add_kept(total: Row, kept: Row, row: Row) -> None:
    """Add weight times value; values without weight may be NaN."""
    for x in range(total.size):
        total[x] += kept[x] * (row[x] if kept[x] != 0.0 else 0.0)


@inner
def add_squared(total: Row, kept: Row, row: Row) -> None:
    """Add weight squared times value; values without weight may be NaN."""
    for x in range(total.size):
        total[x] += kept[x] * kept[x] * (row[x] if kept[x] != 0.0 else 0.0)


@inner
def add_lost(total: Row, share: Row, weight: Row, kept: Row) -> None:
    """Add the share of pixels that have lost their weight; a share that is not known (NaN) stays so."""
    for x in range(total.size):
        total[x] += share[x] if (weight[x] > 0.0) & (kept[x] == 0.0) else 0.0


@inner
def add_scaled(total: Row, row: Row, factor: float) -> None:
    """Add factor times value."""
    for x in range(total.size):
        total[x] += factor * row[x]


@inner
def add_product(total: Row, first: Row, second: Row) -> None:
    """Add the product of two rows."""
    for x in range(total.size):
        total[x] += first[x] * second[x]


@inner
def keep(kept: Row, row: Row, mask: Row) -> None:
    """Write a row with zeros where the mask is 0."""
    for x in range(kept.size):
        kept[x] = row[x] if mask[x] != 0.0 else 0.0


@inner
def horner(result: Row, coefficient: Row, ordinate: float) -> None:
    """Multiply by the ordinate and add the next lower coefficient."""
    for x in range(result.size):
        result[x] = result[x] * ordinate + coefficient[x]


@inner
def copy(target: Row, row: Row) -> None:
    """Copy a row."""
    for x in range(target.size):
        target[x] = row[x]


@inner
def fill(target: Row, value: float) -> None:
    """Set every element."""
    for x in range(target.size):
        target[x] = value


@inner
def part(flat: Row, k: int, lo: int, n: int) -> Row:
    """Return n columns of quantity k."""
    return flat[k * TILE + lo : k * TILE + lo + n]


@inner
def stretch(plane: Plane, i: int, row: int, first: int, n: int, zero: Row) -> Row:
    """Return n pixels of a row of integration `i`; zeros where the plane is absent."""
    if plane.flat.size == 0:
        return zero[:n]
    at = i * plane.step_int + row * plane.step_row + first
    return plane.flat[at : at + n]


@inner
def collect(
    smoothed: bool, region: Row, data: Row, level: Row, sample: NDArray[np.float32], n_sample: NDArray[np.int64]
) -> None:
    """Append the pixels of a row to the samples of the medians; a smoothed image has values at bad pixels too."""
    for x in range(region.size):
        if (level[x] > 0.0 or (smoothed and region[x] > 0.0)) and np.isfinite(data[x]):
            sample[x, n_sample[x]] = data[x]
            n_sample[x] += 1
