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
from numba import njit
from numpy.typing import NDArray

from tso3.core._lanes import Plane
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
    "extract_tile",
    "make_work",
    "prepare_columns",
]

TILE = 256
_LEADING = TILE + 16  # distance between rows of the level mask: no power of two, which would thrash the cache
KIND_NONE, KIND_POLY, KIND_MEDIAN = 0, 1, 2

NO_PIXELS = 1e-8
"""An aperture with no more than this many valid pixels holds none (as ``jwst``, which compares by numpy.isclose)."""

MEDIAN_NOISE = 1.2
"""Error of a median over that of a mean; ``jwst`` takes this for sqrt(pi / 2)."""

Planes = tuple[Plane, Plane, Plane, Plane]
"""Data, Poisson, read-noise and flat variance."""

Row = NDArray[np.floating]


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
MISSING, UNCOMPLETED, LIMIT, N_BAD = 9, 10, 11, 12


class BoxPlan(NamedTuple):
    """
    What a box extraction needs besides the pixels; made by `tso3.core.box.plan_box`.

    ``rows`` (n_rows) are the rows of the stack that are read, ``start`` its first column. ``aperture``, ``background``
    (1 where the background is fitted) and ``profile`` (share of the aperture's light) have shape (n_rows, n_wave),
    ``ordinate`` (n_rows), ``npixels`` and ``regular`` (n_wave), the column ranges ``aperture_bounds`` and
    ``background_bounds`` (n_rows, 2). ``powers`` (m, n_wave) are the sums of the aperture weights times powers of the
    ordinate, ``inverse`` (m, m, n_wave) the inverse normal matrix, both without bad pixels. ``kind`` is one of
    ``KIND_*``; ``complete`` is true if missing pixels are completed.
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

    ``total`` (13) holds the running sums, by `Quantity`, and the number of bad pixels; ``powers`` and ``values`` (m)
    the sums of good aperture weights and of background pixels times powers of the ordinate; ``weights`` (m) the
    polynomial that gives the weight of a background pixel in the aperture sum of the background; ``level``
    (n_rows, ..) is 1 where a pixel takes part in the fit. ``row`` is a row of numbers, ``zero`` stands for an absent
    plane. ``sample`` (TILE, n_rows) and ``n_sample`` (TILE) collect the pixels of medians; the last four invert normal
    matrices.
    """

    total: NDArray[np.float64]
    powers: NDArray[np.float64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    level: NDArray[np.float32]
    row: NDArray[np.float64]
    zero: NDArray[np.float32]
    sample: NDArray[np.float32]
    n_sample: NDArray[np.int64]
    moments: NDArray[np.float64]
    matrix: NDArray[np.float64]
    vectors: NDArray[np.float64]
    inverse: NDArray[np.float64]


@njit(cache=True, nogil=True)
def make_work(n_rows: int, size: int, kind: int) -> Work:
    """Return work space for images of `n_rows` rows and polynomials of `size` coefficients."""
    return Work(
        np.zeros(13 * TILE),
        np.zeros(size * TILE),
        np.zeros(size * TILE),
        np.zeros(size * TILE),
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


@njit(cache=True, nogil=True)
def _add_aperture(
    total: Row, kept: Row, weight: Row, profile: Row, data: Row, poisson: Row, rnoise: Row, flat: Row
) -> None:
    """Add a row to the sums over the aperture; `kept` is given the weights of its good pixels."""
    for x in range(weight.size):
        finite = data[x] - data[x] == 0.0
        good = finite & (poisson[x] == poisson[x]) & (rnoise[x] == rnoise[x]) & (flat[x] == flat[x])
        w = weight[x] if good else 0.0
        kept[x] = w
        total[x] += w * (data[x] if good else 0.0)
        total[TILE + x] += w * w * (poisson[x] if good else 0.0)
        total[2 * TILE + x] += w * w * (rnoise[x] if good else 0.0)
        total[3 * TILE + x] += w * w * (flat[x] if good else 0.0)
        total[8 * TILE + x] += w
        total[9 * TILE + x] += 0.0 if good else profile[x]
        total[12 * TILE + x] += 0.0 if good else 1.0


@njit(cache=True, nogil=True)
def _add_background(total: Row, level: Row, region: Row, data: Row, poisson: Row, rnoise: Row, flat: Row) -> None:
    """Mark the pixels of a row that take part in the fit, and add their variances (without weights)."""
    for x in range(region.size):
        noise = (rnoise[x] + poisson[x]) + flat[x]
        good = (data[x] - data[x] == 0.0) & (noise - noise == 0.0)
        used = good & (region[x] > 0.0)
        level[x] = 1.0 if used else 0.0
        total[5 * TILE + x] += poisson[x] if used else 0.0
        total[6 * TILE + x] += rnoise[x] if used else 0.0
        total[7 * TILE + x] += flat[x] if used else 0.0
        total[12 * TILE + x] += 0.0 if good else 1.0


@njit(cache=True, nogil=True)
def _keep(kept: Row, row: Row, mask: Row) -> None:
    """Write a row with zeros where the mask is 0."""
    for x in range(kept.size):
        kept[x] = row[x] if mask[x] > 0.0 else 0.0


@njit(cache=True, nogil=True)
def _add_scaled(total: Row, row: Row, factor: float) -> None:
    """Add factor times value to running sums."""
    for x in range(total.size):
        total[x] += factor * row[x]


@njit(cache=True, nogil=True)
def _horner(result: Row, coefficient: Row, ordinate: float) -> None:
    """Multiply by the ordinate and add the next lower coefficient."""
    for x in range(result.size):
        result[x] = result[x] * ordinate + coefficient[x]


@njit(cache=True, nogil=True)
def _add_noise(total: Row, weight: Row, level: Row, poisson: Row, rnoise: Row, flat: Row) -> None:
    """Add the variances of the pixels that take part in the fit, with their weights squared."""
    for x in range(weight.size):
        used = level[x] > 0.0
        square = weight[x] * weight[x]
        total[5 * TILE + x] += square * (poisson[x] if used else 0.0)
        total[6 * TILE + x] += square * (rnoise[x] if used else 0.0)
        total[7 * TILE + x] += square * (flat[x] if used else 0.0)


@njit(cache=True, nogil=True)
def _stretch(plane: Plane, i: int, row: int, first: int, last: int, zero: Row) -> Row:
    """Return the pixels `first` to `last` of a row of integration `i`; zeros where the plane is absent."""
    if plane.flat.size == 0:
        return zero[: last - first]
    at = i * plane.step_int + row * plane.step_row
    return plane.flat[at + first : at + last]


@njit(cache=True, nogil=True)
def _sum_aperture(plan: BoxPlan, planes: Planes, i: int, r: int, x0: int, x1: int, work: Work) -> None:
    """Add a row to the sums over the aperture."""
    a, b = max(x0, plan.aperture_bounds[r, 0]), min(x1, plan.aperture_bounds[r, 1])
    if a >= b:
        return
    first, last, row, lo, n = plan.start + a, plan.start + b, plan.rows[r], a - x0, b - a
    data = _stretch(planes[0], i, row, first, last, work.zero)
    poisson = _stretch(planes[1], i, row, first, last, work.zero)
    rnoise = _stretch(planes[2], i, row, first, last, work.zero)
    flat = _stretch(planes[3], i, row, first, last, work.zero)
    kept = work.row[:n]
    _add_aperture(work.total[lo:], kept, plan.aperture[r, a:b], plan.profile[r, a:b], data, poisson, rnoise, flat)
    factor = 1.0
    for k in range(plan.powers.shape[0]):
        _add_scaled(work.powers[k * TILE + lo : k * TILE + lo + n], kept, factor)
        factor *= plan.ordinate[r]


@njit(cache=True, nogil=True)
def _sum_background(
    plan: BoxPlan, planes: Planes, i: int, r: int, x0: int, x1: int, smooth: NDArray[np.float32], work: Work
) -> None:
    """Add a row to the sums that the background fit needs, and note which of its pixels take part."""
    a, b = max(x0, plan.background_bounds[r, 0]), min(x1, plan.background_bounds[r, 1])
    work.level[r, : x1 - x0] = 0.0
    if a >= b:
        return
    first, last, row, lo, n = plan.start + a, plan.start + b, plan.rows[r], a - x0, b - a
    data = _stretch(planes[0], i, row, first, last, work.zero)
    poisson = _stretch(planes[1], i, row, first, last, work.zero)
    rnoise = _stretch(planes[2], i, row, first, last, work.zero)
    flat = _stretch(planes[3], i, row, first, last, work.zero)
    level, region = work.level[r, lo : lo + n], plan.background[r, a:b]
    _add_background(work.total[lo:], level, region, data, poisson, rnoise, flat)
    if plan.smoothing > 1:
        data = smooth[r, a:b]
    if plan.kind == KIND_POLY:
        kept = work.row[:n]
        _keep(kept, data, level)
        factor = 1.0
        for k in range(plan.powers.shape[0]):
            _add_scaled(work.values[k * TILE + lo : k * TILE + lo + n], kept, factor)
            factor *= plan.ordinate[r]
        return
    for x in range(n):
        known = plan.smoothing > 1 or (poisson[x] == poisson[x] and rnoise[x] == rnoise[x] and flat[x] == flat[x])
        if region[x] > 0.0 and known and np.isfinite(data[x]):
            work.sample[lo + x, work.n_sample[lo + x]] = data[x]
            work.n_sample[lo + x] += 1


@njit(cache=True, nogil=True)
def _invert_column(plan: BoxPlan, at: int, work: Work) -> bool:
    """Invert the normal matrix of a column from the pixels that take part in its fit."""
    work.moments[:] = 0.0
    for r in range(plan.rows.size):
        if work.level[r, at] > 0.0:
            power = 1.0
            for k in range(work.moments.size):
                work.moments[k] += power
                power *= plan.ordinate[r]
    return invert_moments(work.moments, plan.powers.shape[0], work.matrix, work.vectors, work.inverse)


@njit(cache=True, nogil=True)
def _fit_polynomial(plan: BoxPlan, x: int, at: int, work: Work) -> bool:
    """Write the background of a column, and the polynomial of its weights; False if it is not determined."""
    size = plan.powers.shape[0]
    if work.total[N_BAD * TILE + at] == 0.0:
        determined = plan.regular[x]
        for k in range(size):
            for j in range(size):
                work.inverse[k, j] = plan.inverse[k, j, x]
    else:
        determined = _invert_column(plan, at, work)
    level = 0.0
    for k in range(size):
        coefficient, weight = 0.0, 0.0
        for j in range(size):
            coefficient += work.inverse[k, j] * work.values[j * TILE + at]
            weight += work.inverse[k, j] * (work.powers[j * TILE + at] if plan.complete else plan.powers[j, x])
        level += coefficient * work.powers[k * TILE + at]
        work.weights[k * TILE + at] = weight if determined else 0.0
    work.total[BACKGROUND * TILE + at] = level if determined else 0.0
    return determined


@njit(cache=True, nogil=True)
def _fit_median(plan: BoxPlan, x: int, at: int, work: Work) -> bool:
    """Write the median background of a column, and the weight of its pixels; False if there are none."""
    n_level = 0.0
    for r in range(plan.rows.size):
        n_level += work.level[r, at]
    npixels = work.total[NPIXELS * TILE + at]
    nominal = npixels if plan.complete else plan.npixels[x]
    work.weights[at] = MEDIAN_NOISE * nominal / n_level if n_level > 0.0 else 0.0
    determined = work.n_sample[at] > 0
    middle = select_median(work.sample[at], work.n_sample[at])
    work.total[BACKGROUND * TILE + at] = middle * npixels if determined else 0.0
    return determined


@njit(cache=True, nogil=True)
def _sum_noise(plan: BoxPlan, planes: Planes, i: int, x0: int, x1: int, work: Work) -> None:
    """Weight the variances of the background pixels."""
    size = plan.powers.shape[0]
    if size == 1:
        for k in range(5, 8):
            for x in range(x1 - x0):
                work.total[k * TILE + x] *= work.weights[x] * work.weights[x]
        return
    work.total[5 * TILE : 8 * TILE] = 0.0
    for r in range(plan.rows.size):
        a, b = max(x0, plan.background_bounds[r, 0]), min(x1, plan.background_bounds[r, 1])
        if a >= b:
            continue
        first, last, row, lo, n = plan.start + a, plan.start + b, plan.rows[r], a - x0, b - a
        weight = work.row[:n]
        weight[:] = 0.0
        for k in range(size - 1, -1, -1):
            _horner(weight, work.weights[k * TILE + lo : k * TILE + lo + n], plan.ordinate[r])
        poisson = _stretch(planes[1], i, row, first, last, work.zero)
        rnoise = _stretch(planes[2], i, row, first, last, work.zero)
        flat = _stretch(planes[3], i, row, first, last, work.zero)
        _add_noise(work.total[lo:], weight, work.level[r, lo : lo + n], poisson, rnoise, flat)


@njit(cache=True, nogil=True)
def _finish_column(at: int, determined: bool, kind: int, complete: bool, max_missing: float, total: Row) -> None:
    """Turn the sums of a column into its quantities, in place."""
    if not determined and kind == KIND_MEDIAN:
        for k in (0, 1, 2, 3, 8):
            total[k * TILE + at] = 0.0
    for k in range(1, 4):
        total[k * TILE + at] += total[(4 + k) * TILE + at]
    flux = total[at] - total[BACKGROUND * TILE + at]
    if total[NPIXELS * TILE + at] <= NO_PIXELS or (complete and not determined):
        flux = np.nan
    kept = 1.0 - total[MISSING * TILE + at]
    total[at] = total[UNCOMPLETED * TILE + at] = flux
    noise = total[TILE + at] + total[2 * TILE + at]
    total[LIMIT * TILE + at] = noise / kept if kept > 0.0 else np.nan
    if not complete:
        return
    if np.isnan(flux) or not kept >= 1.0 - max_missing or not kept > 0.0:
        for k in (0, 1, 2, 3, 11):
            total[k * TILE + at] = np.nan
        return
    total[at] = flux / kept
    for k in range(1, 4):
        total[k * TILE + at] /= kept * kept


@njit(cache=True, nogil=True)
def extract_tile(
    plan: BoxPlan, planes: Planes, i: int, x0: int, x1: int, smooth: NDArray[np.float32], work: Work
) -> None:
    """
    Extract the columns x0 to x1 (of the plan) of one integration into ``work.total``.

    Parameters
    ----------
    plan : BoxPlan
        Aperture and background.
    planes : tuple of Plane
        Data and the three variances, float32; an empty plane counts as zero.
    i, x0, x1 : int
        Integration and columns, at most TILE of these.
    smooth : ndarray of float32, shape (n_rows, n_wave)
        Smoothed image of the integration, if the plan wants one.
    work : Work
        Work space; elements k * TILE + x of ``work.total`` are the result, k by `Quantity`.

    Notes
    -----
    With f the fraction of the profile on bad pixels, a completed sum is that of the good pixels over (1 - f), and its
    variances over (1 - f)^2 (``plan.complete``). Else the sum is what the good pixels give, as in the archive, where a
    background that is not determined counts as 0 (polynomial) or empties the column (median), and the variance of the
    background is that of the whole aperture.
    """
    work.total[:] = 0.0
    work.powers[:] = 0.0
    work.values[:] = 0.0
    work.n_sample[:] = 0
    for r in range(plan.rows.size):
        _sum_aperture(plan, planes, i, r, x0, x1, work)
        if plan.kind != KIND_NONE:
            _sum_background(plan, planes, i, r, x0, x1, smooth, work)
    determined = np.ones(x1 - x0, np.bool_)
    if plan.kind == KIND_POLY:
        for at in range(x1 - x0):
            determined[at] = _fit_polynomial(plan, x0 + at, at, work)
    elif plan.kind == KIND_MEDIAN:
        for at in range(x1 - x0):
            determined[at] = _fit_median(plan, x0 + at, at, work)
    if plan.kind != KIND_NONE:
        _sum_noise(plan, planes, i, x0, x1, work)
    for at in range(x1 - x0):
        _finish_column(at, determined[at], plan.kind, plan.complete, plan.max_missing, work.total)


@njit(cache=True, nogil=True)
def prepare_columns(plan: BoxPlan) -> None:
    """Fill what belongs to columns without bad pixels: ``plan.powers``, ``plan.inverse`` and ``plan.regular``."""
    size = plan.powers.shape[0]
    work = make_work(plan.rows.size, size, KIND_POLY)
    for x in range(plan.npixels.size):
        for r in range(plan.rows.size):
            work.level[r, 0] = plan.background[r, x]
            factor = 1.0
            for k in range(size):
                plan.powers[k, x] += factor * plan.aperture[r, x]
                factor *= plan.ordinate[r]
        plan.regular[x] = _invert_column(plan, 0, work)
        plan.inverse[:, :, x] = work.inverse
