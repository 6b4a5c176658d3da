"""
Box extraction of a range of columns of one integration: the compiled pieces of `tso3.core.box`.

A *tile* is a range of up to `TILE` neighbouring columns. Sums over rows are kept for all its columns at once, row after
row, so that the inner loops run along memory and vectorise; what is particular about a column (its normal matrix, its
median) is done column by column afterwards. Bad pixels are replaced by zeros of zero weight.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tso3.core._box_rows import (
    TILE,
    add_kept,
    add_lost,
    add_product,
    add_scaled,
    add_squared,
    collect,
    copy,
    fill,
    horner,
    inner,
    keep,
    mark_aperture,
    mark_level,
    part,
    stretch,
)
from tso3.core._planes import Plane
from tso3.core.background import invert_moments, select_median

__all__ = [
    "KIND_MEDIAN",
    "KIND_NONE",
    "KIND_POLY",
    "N_QUANTITIES",
    "TILE",
    "BoxPlan",
    "Planes",
    "Quantity",
    "Work",
    "find_medians",
    "finish",
    "fit_medians",
    "fit_polynomials",
    "make_work",
    "sum_aperture",
    "sum_background",
    "sum_noise",
]

_LEADING = TILE + 16  # distance between rows of the level mask: no power of two, which would thrash the cache
KIND_NONE, KIND_POLY, KIND_MEDIAN = 0, 1, 2

NO_PIXELS = 1e-8
"""An aperture with no more than this many valid pixels holds none (as ``jwst``, which compares by numpy.isclose)."""

MEDIAN_NOISE = 1.2
"""Error of a median over that of a mean; ``jwst`` takes this for sqrt(pi / 2)."""

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
FLUX, BACKGROUND, NPIXELS = 0, 4, 8  # rows of Work.total: numba takes no IntEnum as an index
MISSING, UNCOMPLETED, LIMIT = 9, 10, 11


class BoxPlan(NamedTuple):
    """
    What a box extraction needs besides the pixels; made by `tso3.core.box.plan_box`.

    ``rows`` (n_rows) are the rows of the stack that are read, ``start`` its first column. ``aperture``, ``background``
    (1 where the background is fitted) and ``profile`` (share of the aperture's light) have shape (n_rows, n_wave),
    ``ordinate`` (n_rows), ``npixels`` and ``regular`` (n_wave), the ranges of columns ``aperture_bounds`` and
    ``background_bounds`` (n_rows, n_tiles, 2), outside which a row has no weight. ``powers`` (m, n_wave) are the sums
    of the aperture weights times powers of the ordinate, ``inverse`` (m, m, n_wave) the inverse normal matrix, both
    without bad pixels. ``kind`` is one of ``KIND_*``; ``complete`` is true if missing pixels are completed.
    """

    rows: NDArray[np.int64]
    start: int
    aperture: NDArray[np.float64]
    background: NDArray[np.float32]
    profile: NDArray[np.float64]
    ordinate: NDArray[np.float64]
    npixels: NDArray[np.float64]
    regular: NDArray[np.bool_]
    aperture_bounds: NDArray[np.int64]
    background_bounds: NDArray[np.int64]
    powers: NDArray[np.float64]
    inverse: NDArray[np.float64]
    kind: int
    smoothing: int
    complete: bool
    max_missing: float


class Work(NamedTuple):
    """
    Work space of one tile; arrays over columns are flat, with TILE elements per quantity.

    ``total`` (12) holds the running sums, by `Quantity`; ``powers`` and ``values`` (m) the sums of good aperture
    weights and of background pixels times powers of the ordinate; ``weights`` (m) the polynomial that gives the weight
    of a background pixel in the aperture sum of the background; ``inverse`` (m * m) the inverse normal matrices;
    ``bad`` how many background pixels of a column are bad (of a median, which ``values`` holds: how many are good),
    ``determined`` whether its background is. ``level``
    (n_rows, ..) is 1 where a pixel takes part in the fit. ``row`` is a row of numbers, ``zero`` stands for an absent
    plane. ``sample`` (TILE, n_rows) and ``n_sample`` (TILE) collect the pixels of medians; the last four invert one
    normal matrix.
    """

    total: NDArray[np.float64]
    powers: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    inverse: NDArray[np.float64]
    bad: NDArray[np.float64]
    determined: NDArray[np.bool_]
    level: NDArray[np.float32]
    row: NDArray[np.float64]
    zero: NDArray[np.float32]
    sample: NDArray[np.float32]
    n_sample: NDArray[np.int64]
    moments: NDArray[np.float64]
    matrix: NDArray[np.float64]
    vectors: NDArray[np.float64]
    inverted: NDArray[np.float64]


@inner
def make_work(n_rows: int, size: int, kind: int) -> Work:
    """Return work space for images of `n_rows` rows and polynomials of `size` coefficients."""
    return Work(
        np.zeros(N_QUANTITIES * TILE),
        np.zeros(size * TILE),
        np.zeros(size * TILE),
        np.zeros(size * TILE),
        np.zeros(size * size * TILE),
        np.zeros(TILE),
        np.ones(TILE, np.bool_),
        np.zeros((n_rows, _LEADING), np.float32),
        np.zeros(TILE),
        np.zeros(TILE, np.float32),
        np.zeros((TILE, n_rows if kind == KIND_MEDIAN else 1), np.float32),
        np.zeros(TILE, np.int64),
        np.zeros(2 * size - 1),
        np.zeros((size, size)),
        np.zeros((size, size)),
        np.zeros((size, size)),
    )


@inner
def sum_aperture(plan: BoxPlan, planes: Planes, i: int, x0: int, x1: int, work: Work) -> None:
    """Sum the aperture over all rows."""
    total, powers = work.total, work.powers
    fill(total, 0.0)
    fill(powers, 0.0)
    for r in range(plan.rows.size):
        a, b = plan.aperture_bounds[r, x0 // TILE]
        if a >= b:
            continue
        first, row, lo, n = plan.start + a, plan.rows[r], a - x0, b - a
        data = stretch(planes[0], i, row, first, n, work.zero)
        poisson = stretch(planes[1], i, row, first, n, work.zero)
        rnoise = stretch(planes[2], i, row, first, n, work.zero)
        flat = stretch(planes[3], i, row, first, n, work.zero)
        kept, weight = work.row[:n], plan.aperture[r, a:b]
        mark_aperture(kept, weight, data, poisson, rnoise, flat)
        add_kept(part(total, FLUX, lo, n), kept, data)
        add_squared(part(total, 1, lo, n), kept, poisson)
        add_squared(part(total, 2, lo, n), kept, rnoise)
        add_squared(part(total, 3, lo, n), kept, flat)
        add_lost(part(total, MISSING, lo, n), plan.profile[r, a:b], weight, kept)
        factor = 1.0
        for k in range(plan.powers.shape[0]):
            add_scaled(part(powers, k, lo, n), kept, factor)
            factor *= plan.ordinate[r]
    copy(part(total, NPIXELS, 0, TILE), powers[:TILE])


@inner
def sum_background(
    plan: BoxPlan, planes: Planes, i: int, x0: int, x1: int, smooth: NDArray[np.float32], work: Work
) -> None:
    """Sum what the background fit needs over all rows, and note which pixels take part in it."""
    total, values, size = work.total, work.values, plan.powers.shape[0]
    fill(values, 0.0)
    fill(work.bad, 0.0)
    for x in range(x1 - x0):
        work.n_sample[x] = 0
    for r in range(plan.rows.size):
        fill(work.level[r, : x1 - x0], 0.0)
        a, b = plan.background_bounds[r, x0 // TILE]
        if a >= b:
            continue
        first, row, lo, n = plan.start + a, plan.rows[r], a - x0, b - a
        data = stretch(planes[0], i, row, first, n, work.zero)
        poisson = stretch(planes[1], i, row, first, n, work.zero)
        rnoise = stretch(planes[2], i, row, first, n, work.zero)
        flat = stretch(planes[3], i, row, first, n, work.zero)
        level, region = work.level[r, lo : lo + n], plan.background[r, a:b]
        mark_level(level, region, data, poisson, rnoise, flat)
        if plan.kind == KIND_POLY:
            add_lost(work.bad[lo : lo + n], region, region, level)
        if size == 1:
            add_kept(part(total, 5, lo, n), level, poisson)
            add_kept(part(total, 6, lo, n), level, rnoise)
            add_kept(part(total, 7, lo, n), level, flat)
        if plan.smoothing > 1:
            data = smooth[r, a:b]
        if plan.kind == KIND_MEDIAN:
            collect(plan.smoothing > 1, region, data, level, work.sample[lo:], work.n_sample[lo:])
            continue
        kept = work.row[:n]
        keep(kept, data, level)
        factor = 1.0
        for k in range(size):
            add_scaled(part(values, k, lo, n), kept, factor)
            factor *= plan.ordinate[r]


@inner
def _invert_column(plan: BoxPlan, at: int, work: Work) -> bool:
    """Invert the normal matrix of a column from the pixels that take part in its fit."""
    fill(work.moments, 0.0)
    for r in range(plan.rows.size):
        if work.level[r, at] > 0.0:
            power = 1.0
            for k in range(work.moments.size):
                work.moments[k] += power
                power *= plan.ordinate[r]
    return invert_moments(work.moments, plan.powers.shape[0], work.matrix, work.vectors, work.inverted)


@inner
def fit_polynomials(plan: BoxPlan, x0: int, x1: int, work: Work) -> None:
    """Write the background of every column, and the polynomial of its weights."""
    size, n = plan.powers.shape[0], x1 - x0
    for k in range(size):
        for j in range(size):
            copy(part(work.inverse, k * size + j, 0, n), plan.inverse[k, j, x0:x1])
    for x in range(n):
        work.determined[x] = plan.regular[x0 + x]
        if work.bad[x] > 0.0:
            work.determined[x] = _invert_column(plan, x, work)
            for k in range(size):
                for j in range(size):
                    work.inverse[(k * size + j) * TILE + x] = work.inverted[k, j] if work.determined[x] else 0.0
    level = part(work.total, BACKGROUND, 0, n)
    fill(work.weights, 0.0)
    coefficient = work.row[:n]
    for k in range(size):
        fill(coefficient, 0.0)
        for j in range(size):
            inverse = part(work.inverse, k * size + j, 0, n)
            add_product(coefficient, inverse, part(work.values, j, 0, n))
            if plan.complete:
                add_product(part(work.weights, k, 0, n), inverse, part(work.powers, j, 0, n))
            else:
                add_product(part(work.weights, k, 0, n), inverse, plan.powers[j, x0:x1])
        add_product(level, coefficient, part(work.powers, k, 0, n))


@inner
def find_medians(plan: BoxPlan, n: int, work: Work) -> None:
    """Write the median of the background pixels of n columns to ``work.values``, and their number to ``work.bad``."""
    for x in range(n):
        n_level = work.n_sample[x] + 0.0
        if plan.smoothing > 1:  # a smoothed image has values at bad pixels too
            n_level = 0.0
            for r in range(plan.rows.size):
                n_level += work.level[r, x]
        work.bad[x] = n_level
        work.values[x] = select_median(work.sample[x], work.n_sample[x]) if work.n_sample[x] > 0 else np.nan


@inner
def fit_medians(plan: BoxPlan, x0: int, x1: int, work: Work) -> None:
    """Write the median background of every column, and the weight of its pixels."""
    npixels = part(work.total, NPIXELS, 0, x1 - x0)
    for x in range(x1 - x0):
        n_level = work.bad[x]
        nominal = npixels[x] if plan.complete else plan.npixels[x0 + x]
        work.weights[x] = MEDIAN_NOISE * nominal / n_level if n_level > 0.0 else 0.0
        work.determined[x] = work.values[x] == work.values[x]
        work.total[BACKGROUND * TILE + x] = work.values[x] * npixels[x] if work.determined[x] else 0.0


@inner
def sum_noise(plan: BoxPlan, planes: Planes, i: int, x0: int, x1: int, work: Work) -> None:
    """Sum the variances of the background pixels with their weights squared."""
    total, size = work.total, plan.powers.shape[0]
    if size == 1:
        for k in range(5, 8):
            for x in range(x1 - x0):
                total[k * TILE + x] *= work.weights[x] * work.weights[x]
        return
    for r in range(plan.rows.size):
        a, b = plan.background_bounds[r, x0 // TILE]
        if a >= b:
            continue
        first, row, lo, n = plan.start + a, plan.rows[r], a - x0, b - a
        weight = work.row[:n]
        fill(weight, 0.0)
        for k in range(size - 1, -1, -1):
            horner(weight, part(work.weights, k, lo, n), plan.ordinate[r])
        keep(weight, weight, work.level[r, lo : lo + n])
        add_squared(part(total, 5, lo, n), weight, stretch(planes[1], i, row, first, n, work.zero))
        add_squared(part(total, 6, lo, n), weight, stretch(planes[2], i, row, first, n, work.zero))
        add_squared(part(total, 7, lo, n), weight, stretch(planes[3], i, row, first, n, work.zero))


@inner
def finish(plan: BoxPlan, n: int, work: Work) -> None:
    """Turn the sums of every column into its quantities, in place."""
    total, complete = work.total, plan.complete
    for x in range(n):
        determined = plan.kind == KIND_NONE or work.determined[x]
        if not determined and plan.kind == KIND_MEDIAN:
            for k in (0, 1, 2, 3, 8):
                total[k * TILE + x] = 0.0
        for k in range(1, 4):
            total[k * TILE + x] += total[(4 + k) * TILE + x]
        flux = total[x] - total[BACKGROUND * TILE + x]
        if total[NPIXELS * TILE + x] <= NO_PIXELS or (complete and not determined):
            flux = np.nan
        kept = 1.0 - total[MISSING * TILE + x]
        noise = total[TILE + x] + total[2 * TILE + x]
        total[x] = total[UNCOMPLETED * TILE + x] = flux
        total[LIMIT * TILE + x] = noise / kept if kept > 0.0 and not np.isnan(flux) else np.nan
        if not complete:
            continue
        if not determined:
            for k in range(4, 8):
                total[k * TILE + x] = np.nan
        if np.isnan(flux) or not kept >= 1.0 - plan.max_missing or not kept > 0.0:
            for k in (0, 1, 2, 3, 11):
                total[k * TILE + x] = np.nan
            continue
        total[x] = flux / kept
        for k in range(1, 4):
            total[k * TILE + x] /= kept * kept
