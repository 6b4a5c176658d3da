"""One column of a box extraction, solved on its own: the compiled pieces of `tso3.core.box`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._lanes import Plane
from tso3.core.background import invert_moments, operator_weights, select_median

__all__ = [
    "KIND_MEDIAN",
    "KIND_NONE",
    "KIND_POLY",
    "NO_PIXELS",
    "N_QUANTITIES",
    "BoxPlan",
    "Planes",
    "Quantity",
    "Work",
    "clean_operator",
    "make_work",
    "solve_column",
]

KIND_NONE, KIND_POLY, KIND_MEDIAN = 0, 1, 2
NO_PIXELS = 1e-8
"""An aperture with no more than this many valid pixels holds none (as ``jwst``, which compares by numpy.isclose)."""

MEDIAN_NOISE = 1.2
"""Error of a median over that of a mean; ``jwst`` rounds sqrt(pi / 2) to this."""

Planes = tuple[Plane, Plane, Plane, Plane]
"""Data, Poisson, read-noise and flat variance."""


class Quantity(IntEnum):
    """What the kernels return for every integration and wavelength, in the order of their output."""

    FLUX = 0
    VAR_POISSON = 1
    VAR_RNOISE = 2
    VAR_FLAT = 3
    BACKGROUND = 4
    BKGD_VAR_POISSON = 5
    BKGD_VAR_RNOISE = 6
    BKGD_VAR_FLAT = 7
    NPIXELS = 8
    MISSING = 9
    UNCOMPLETED = 10
    LIMIT = 11


N_QUANTITIES = len(Quantity)
FLUX, BACKGROUND, NPIXELS = 0, 4, 8
MISSING, UNCOMPLETED, LIMIT = 9, 10, 11


class BoxPlan(NamedTuple):
    """
    What a box extraction needs besides the pixels; made by `tso3.core.box.plan_box`.

    ``rows`` (n_rows) are the rows of the stack that are read, ``start`` its first column; all other arrays have shape
    (n_rows, n_wave) but ``ordinate`` (n_rows), ``npixels`` and ``regular`` (n_wave), and the column ranges
    ``aperture_bounds`` and ``background_bounds`` (n_rows, 2). ``operator`` holds the weights t of columns without bad
    pixels. ``kind`` is one of ``KIND_*``; ``complete`` is true if missing pixels are completed.
    """

    rows: NDArray[np.int64]
    start: int
    aperture: NDArray[np.float64]
    background: NDArray[np.uint8]
    operator: NDArray[np.float64]
    profile: NDArray[np.float64]
    ordinate: NDArray[np.float64]
    npixels: NDArray[np.float64]
    regular: NDArray[np.uint8]
    aperture_bounds: NDArray[np.int64]
    background_bounds: NDArray[np.int64]
    kind: int
    order: int
    smoothing: int
    complete: bool
    max_missing: float


class Work(NamedTuple):
    """Work space of `solve_column`: per row, per coefficient, and the sums of one column."""

    good: NDArray[np.uint8]
    level: NDArray[np.uint8]
    values: NDArray[np.float32]
    weights: NDArray[np.float64]
    moments: NDArray[np.float64]
    target: NDArray[np.float64]
    matrix: NDArray[np.float64]
    vectors: NDArray[np.float64]
    inverse: NDArray[np.float64]
    sums: NDArray[np.float64]


@njit(cache=True, nogil=True)
def make_work(n_rows: int, order: int) -> Work:
    """Return empty work space for columns of `n_rows` rows."""
    size = order + 1
    return Work(
        np.zeros(n_rows, np.uint8),
        np.zeros(n_rows, np.uint8),
        np.zeros(n_rows, np.float32),
        np.zeros(n_rows),
        np.zeros(2 * size - 1),
        np.zeros(size),
        np.zeros((size, size)),
        np.zeros((size, size)),
        np.zeros((size, size)),
        np.zeros(N_QUANTITIES),
    )


@njit(cache=True, nogil=True)
def _moments_of(plan: BoxPlan, used: NDArray[np.uint8], work: Work) -> bool:
    """Sum powers of the ordinate over the used background pixels and invert; False if they determine no fit."""
    for k in range(work.moments.size):
        work.moments[k] = 0.0
    for r in range(used.size):
        if used[r]:
            power = 1.0
            for k in range(work.moments.size):
                work.moments[k] += power
                power *= plan.ordinate[r]
    return invert_moments(work.moments, work.target.size, work.matrix, work.vectors, work.inverse)


@njit(cache=True, nogil=True)
def _fit_weights(plan: BoxPlan, x: int, only_good: bool, n_level: int, work: Work) -> None:
    """Write the weights t for the whole aperture, or for its good pixels only."""
    size = work.target.size
    for k in range(size):
        work.target[k] = 0.0
    for r in range(plan.rows.size):
        if plan.aperture[r, x] > 0.0 and (work.good[r] or not only_good):
            term = plan.aperture[r, x]
            for k in range(size):
                work.target[k] += term
                term *= plan.ordinate[r]
    if plan.kind == KIND_POLY:
        operator_weights(work.inverse, work.target, plan.ordinate, work.weights)
    else:
        share = MEDIAN_NOISE * work.target[0] / n_level if n_level > 0 else 0.0
        for r in range(work.weights.size):
            work.weights[r] = share


@njit(cache=True, nogil=True)
def clean_operator(plan: BoxPlan) -> None:
    """Fill ``plan.operator`` and ``plan.regular`` for columns in which every pixel is valid."""
    work = make_work(plan.rows.size, plan.order if plan.kind == KIND_POLY else 0)
    for x in range(plan.npixels.size):
        n_level = 0
        for r in range(plan.rows.size):
            work.good[r] = 1
            work.level[r] = plan.background[r, x]
            n_level += plan.background[r, x]
        regular = n_level > 0 if plan.kind == KIND_MEDIAN else _moments_of(plan, work.level, work)
        plan.regular[x] = regular
        if regular:
            _fit_weights(plan, x, False, n_level, work)
            for r in range(plan.rows.size):
                plan.operator[r, x] = work.weights[r] if work.level[r] else 0.0


@njit(cache=True, nogil=True)
def _pixel(plane: Plane, i: int, row: int, column: int) -> np.float32:
    """Return one pixel; 0 where the plane is absent."""
    if plane.flat.size == 0:
        return np.float32(0.0)
    return plane.flat[i * plane.step_int + row * plane.step_row + column]


@njit(cache=True, nogil=True)
def _sum_aperture(plan: BoxPlan, planes: Planes, i: int, x: int, work: Work) -> None:
    """Sum the good pixels of the aperture, and mark the good pixels of the aperture and of the background."""
    sums = work.sums
    sums[:] = 0.0
    for r in range(plan.rows.size):
        weight, row = plan.aperture[r, x], plan.rows[r]
        work.good[r] = work.level[r] = 0
        if weight == 0.0 and not plan.background[r, x]:
            continue
        value = _pixel(planes[0], i, row, plan.start + x)
        poisson = _pixel(planes[1], i, row, plan.start + x)
        rnoise = _pixel(planes[2], i, row, plan.start + x)
        flat = _pixel(planes[3], i, row, plan.start + x)
        if not np.isfinite(value) or np.isnan(poisson) or np.isnan(rnoise) or np.isnan(flat):
            if weight > 0.0:
                sums[MISSING] += plan.profile[r, x]
            continue
        work.good[r] = 1
        work.level[r] = plan.background[r, x] and np.isfinite(rnoise + poisson + flat)
        sums[FLUX] += weight * value
        sums[1] += weight * weight * poisson
        sums[2] += weight * weight * rnoise
        sums[3] += weight * weight * flat
        sums[NPIXELS] += weight


@njit(cache=True, nogil=True)
def _fit_level(plan: BoxPlan, planes: Planes, i: int, x: int, smooth: NDArray[np.float32], work: Work) -> bool:
    """Add the background and its variances to the sums; False if the background is not determined."""
    n_values, n_level = 0, 0
    for r in range(plan.rows.size):
        if not plan.background[r, x]:
            continue
        smoothed = plan.smoothing > 1
        value = smooth[r, x] if smoothed else _pixel(planes[0], i, plan.rows[r], plan.start + x)
        if plan.kind == KIND_POLY:
            work.level[r] = work.level[r] and np.isfinite(value)
            work.values[r] = value
        elif np.isfinite(value) and (smoothed or work.good[r]):
            work.values[n_values] = value
            n_values += 1
        n_level += work.level[r]
    if plan.kind == KIND_POLY:
        if not _moments_of(plan, work.level, work):
            return False
        _fit_weights(plan, x, True, n_level, work)
        for r in range(plan.rows.size):
            if work.level[r]:
                work.sums[BACKGROUND] += work.weights[r] * work.values[r]
    else:
        middle = select_median(work.values, n_values)
        if n_values == 0:
            return False
        work.sums[BACKGROUND] = middle * work.sums[NPIXELS]
    if plan.kind == KIND_MEDIAN or not plan.complete:
        _fit_weights(plan, x, plan.complete, n_level, work)
    for k in range(1, 4):
        for r in range(plan.rows.size):
            if work.level[r]:
                variance = _pixel(planes[k], i, plan.rows[r], plan.start + x)
                work.sums[4 + k] += work.weights[r] * work.weights[r] * variance
    return True


@njit(cache=True, nogil=True)
def solve_column(plan: BoxPlan, planes: Planes, i: int, x: int, smooth: NDArray[np.float32], work: Work) -> None:
    """
    Extract one column of one integration, whatever pixels are missing.

    Parameters
    ----------
    plan : BoxPlan
        Aperture and background.
    planes : tuple of Plane
        Data and the three variances, float32; an empty plane counts as zero.
    i, x : int
        Integration, and column of the plan.
    smooth : ndarray of float32, shape (n_rows, n_wave)
        Smoothed image of the integration, if the plan wants one.
    work : Work
        Work space; ``work.sums`` holds the result.

    Notes
    -----
    With f the fraction of the profile on bad pixels, a completed sum is the sum of the good pixels over (1 - f), and
    its variances over (1 - f)^2 (``plan.complete``). Else the sum is what the good pixels give, as in the archive,
    where a background that is not determined counts as 0 (polynomial) or empties the column (median).
    """
    sums = work.sums
    _sum_aperture(plan, planes, i, x, work)
    determined = plan.kind == KIND_NONE or _fit_level(plan, planes, i, x, smooth, work)
    if not determined and plan.kind == KIND_MEDIAN:
        sums[:MISSING] = 0.0
    for k in range(1, 4):
        sums[k] += sums[4 + k]
    flux = sums[FLUX] - sums[BACKGROUND]
    if sums[NPIXELS] <= NO_PIXELS or (plan.complete and not determined):
        flux = np.nan
    missing = sums[MISSING]
    sums[UNCOMPLETED] = flux
    sums[LIMIT] = (sums[1] + sums[2]) / (1.0 - missing) if missing < 1.0 else np.nan
    sums[FLUX] = flux
    if not plan.complete:
        return
    kept = 1.0 - missing
    if not (missing <= plan.max_missing and kept > 0.0) or np.isnan(flux):
        sums[FLUX] = sums[1] = sums[2] = sums[3] = sums[LIMIT] = np.nan
        return
    sums[FLUX] = flux / kept
    for k in range(1, 4):
        sums[k] /= kept * kept
