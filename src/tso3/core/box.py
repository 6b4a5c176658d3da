"""
Box extraction: weighted sums of a stack across dispersion, all integrations of a block in one compiled call.

For a pixel weight w (the fraction of the pixel inside the aperture), a background fit, and a stack d with variances v,

    flux = sum(w d) - background,    variance = sum(w^2 v) + sum(t^2 v),

where t are the weights of the background pixels in the aperture sum of the fitted background: a fit without weights is
linear. The normal matrix of a column is the same in all integrations but for its bad pixels, so it is inverted once;
where a pixel is bad, again. All sums run over rows in the same order and over one integration, so that a number never
depends on the block it was computed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._box_rows import copy, inner
from tso3.core._box_tile import (
    KIND_MEDIAN,
    KIND_NONE,
    KIND_POLY,
    N_QUANTITIES,
    TILE,
    BoxPlan,
    Planes,
    find_medians,
    finish,
    fit_medians,
    fit_polynomials,
    make_work,
    sum_aperture,
    sum_background,
    sum_noise,
)
from tso3.core._planes import flatten
from tso3.core.background import BackgroundFit, invert_moments, smooth_row, unit_ordinate
from tso3.core.box_levels import BoxLevels, no_levels, take_levels

__all__ = ["BoxPlan", "BoxSums", "background_weights", "box_extract", "plan_box", "smooth_background", "with_weights"]

_KINDS = {"none": KIND_NONE, "poly": KIND_POLY, "median": KIND_MEDIAN}


@dataclass(frozen=True)
class BoxSums:
    """
    Sums over the aperture; every array has shape (n_int, n_wave), units are those of the stack.

    Attributes
    ----------
    flux : ndarray
        Sum less background; NaN where no pixel is valid (or too much is missing, if missing pixels are completed).
    var_poisson, var_rnoise, var_flat : ndarray
        Variance components of ``flux``, those of the background included.
    background : ndarray
        Sum of the background over the valid pixels of the aperture.
    bkgd_var_poisson, bkgd_var_rnoise, bkgd_var_flat : ndarray
        Variance components of the sum of the background.
    npixels : ndarray
        Sum of the weights of the valid pixels.
    missing : ndarray
        Fraction of the profile on bad pixels.
    uncompleted : ndarray
        ``flux`` of the valid pixels alone.
    limit : ndarray
        Poisson and read-noise variance that ``flux`` would have if no pixel were missing.
    """

    flux: NDArray[np.float64]
    var_poisson: NDArray[np.float64]
    var_rnoise: NDArray[np.float64]
    var_flat: NDArray[np.float64]
    background: NDArray[np.float64]
    bkgd_var_poisson: NDArray[np.float64]
    bkgd_var_rnoise: NDArray[np.float64]
    bkgd_var_flat: NDArray[np.float64]
    npixels: NDArray[np.float64]
    missing: NDArray[np.float64]
    uncompleted: NDArray[np.float64]
    limit: NDArray[np.float64]


def plan_box(
    aperture: NDArray[np.float64],
    background: NDArray[np.bool_] | None = None,
    fit: BackgroundFit | None = None,
    profile: NDArray[np.float64] | None = None,
    complete: bool = False,
    max_missing: float = 0.5,
    span: tuple[int, int] | None = None,
) -> BoxPlan:
    """
    Return everything that the extraction of an exposure needs besides its pixels.

    Parameters
    ----------
    aperture : ndarray, shape (n_rows, n_wave)
        Weight of every pixel, between 0 and 1.
    background : ndarray of bool, shape (n_rows, n_wave), optional
        True where the background is fitted.
    fit : BackgroundFit, optional
        How; no background by default.
    profile : ndarray, shape (n_rows, n_wave), optional
        Expected distribution of the light of each column, any normalisation; NaN where unknown. By default unknown,
        and the missing fraction is that of the area.
    complete : bool, optional
        Complete sums by the fraction of the profile on bad pixels; else drop missing pixels.
    max_missing : float, optional
        Missing fraction above which a completed sum is NaN.
    span : (int, int), optional
        Columns that are kept (half-open), whether they have weight or not; by default from the first to the last with.

    Returns
    -------
    plan : BoxPlan
        Only rows with weight are kept.

    Raises
    ------
    ValueError
        If the aperture holds no pixel, or shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box import plan_box
    >>> plan_box(np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])).npixels
    array([1.5, 1.5])
    """
    fit = BackgroundFit() if fit is None else fit
    region = np.zeros(aperture.shape, dtype=bool) if background is None or fit.kind == "none" else background
    if region.shape != aperture.shape or (profile is not None and profile.shape != aperture.shape):
        raise ValueError(f"aperture, background and profile differ in shape: {aperture.shape}, {region.shape}")
    columns = np.flatnonzero(aperture.any(axis=0))
    if columns.size == 0:
        raise ValueError("the aperture holds no pixel")
    start, stop = (int(columns[0]), int(columns[-1]) + 1) if span is None else span
    aperture, region = aperture[:, start:stop], region[:, start:stop]
    rows = np.flatnonzero(aperture.any(axis=1) | region.any(axis=1))
    kept_aperture = np.ascontiguousarray(aperture[rows])
    size = fit.order + 1 if fit.kind == "poly" else 1
    plan = BoxPlan(
        rows=rows.astype(np.int64),
        start=start,
        aperture=kept_aperture,
        background=np.ascontiguousarray(region[rows]).astype(np.float32),
        profile=_share(kept_aperture, None if profile is None else profile[:, start:stop][rows], complete),
        ordinate=unit_ordinate(aperture.shape[0])[rows],
        npixels=kept_aperture.sum(axis=0),
        regular=np.ones(kept_aperture.shape[1], dtype=bool),
        aperture_bounds=_bounds(kept_aperture > 0.0),
        background_bounds=_bounds(region[rows]),
        powers=np.zeros((size, kept_aperture.shape[1])),
        inverse=np.zeros((size, size, kept_aperture.shape[1])),
        kind=_KINDS[fit.kind],
        smoothing=int(fit.smoothing) if fit.kind != "none" else 0,
        complete=bool(complete),
        max_missing=float(max_missing),
    )
    if plan.kind == KIND_POLY:
        _prepare_columns(plan)
    return plan


def with_weights(plan: BoxPlan, weights: NDArray[np.float64], light: NDArray[np.float64]) -> BoxPlan:
    """
    Return a plan that sums the same pixels, less the same background, with other weights.

    Parameters
    ----------
    plan : BoxPlan
        From `plan_box`.
    weights : ndarray, shape (n_rows, n_wave)
        Of the plan's rows and columns, not negative; 0 outside its aperture.
    light : ndarray, shape (n_rows, n_wave)
        Expected light of each pixel, any normalisation within a column; NaN where unknown.

    Returns
    -------
    plan : BoxPlan
        Sums that lack pixels are completed by their share of the weighted light.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box import plan_box, with_weights
    >>> plan = with_weights(plan_box(np.ones((2, 1))), np.array([[1.0], [3.0]]), np.ones((2, 1)))
    >>> plan.profile.ravel().tolist(), plan.npixels.tolist()
    ([0.25, 0.75], [4.0])
    """
    weights = np.ascontiguousarray(np.where(plan.aperture > 0.0, weights, 0.0))
    new = plan._replace(
        aperture=weights,
        profile=_share(weights, light, True),
        npixels=weights.sum(axis=0),
        aperture_bounds=_bounds(weights > 0.0),
        powers=np.zeros_like(plan.powers),
        inverse=plan.inverse.copy(),
        regular=plan.regular.copy(),
        complete=True,
    )
    if new.kind == KIND_POLY:
        _prepare_columns(new)
    return new


def _prepare_columns(plan: BoxPlan) -> None:
    """Fill what belongs to columns without bad pixels: ``plan.powers``, ``plan.inverse`` and ``plan.regular``."""
    size = plan.powers.shape[0]
    matrix, vectors, inverse = (np.empty((size, size)) for _ in range(3))
    ordinate = plan.ordinate[:, np.newaxis]
    for k in range(size):
        plan.powers[k] = (plan.aperture * ordinate**k).sum(axis=0)
    moments = np.array([(plan.background * ordinate**k).sum(axis=0) for k in range(2 * size - 1)]).T.copy()
    for x in range(plan.npixels.size):
        plan.regular[x] = invert_moments(moments[x], size, matrix, vectors, inverse)
        if plan.regular[x]:
            plan.inverse[:, :, x] = inverse


def background_weights(plan: BoxPlan) -> NDArray[np.float64]:
    """
    Return what each pixel counts in the background that is subtracted from the sum of its column.

    Parameters
    ----------
    plan : BoxPlan
        From `plan_box`.

    Returns
    -------
    weights : ndarray, shape (n_rows, n_wave)
        Of columns without bad pixels; of a median, those of the mean. 0 where nothing is fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.background import BackgroundFit
    >>> from tso3.core.box import background_weights, plan_box
    >>> aperture = np.array([[0.0], [1.0], [0.0]])
    >>> background_weights(plan_box(aperture, aperture == 0.0, BackgroundFit("poly", 1))).ravel().tolist()
    [0.5, 0.0, 0.5]
    """
    if plan.kind == KIND_NONE:
        return np.zeros(plan.aperture.shape)
    if plan.kind == KIND_MEDIAN:
        count = plan.background.sum(axis=0)
        return plan.background * (plan.npixels / np.where(count > 0.0, count, np.inf))
    weights = np.zeros(plan.aperture.shape)
    for k in range(len(plan.powers)):
        factor = np.where(plan.regular, (plan.powers * plan.inverse[:, k]).sum(axis=0), 0.0)
        weights += factor * plan.ordinate[:, np.newaxis] ** k
    return weights * plan.background


def _share(aperture: NDArray[np.float64], profile: NDArray[np.float64] | None, complete: bool) -> NDArray[np.float64]:
    """Return the fraction of a column's light in the aperture that falls on each pixel; NaN where unknown."""
    if profile is None:
        profile = np.full(aperture.shape, np.nan if complete else 1.0)
    light = np.where(aperture > 0.0, aperture * profile, 0.0)
    total = light.sum(axis=0)
    known = total > 0.0
    return np.where(known | (aperture == 0.0), light / np.where(known, total, 1.0), np.nan)


def _bounds(used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for each row and tile, the half-open range of columns outside which nothing is used."""
    n_rows, n_wave = used.shape
    tiles = np.zeros((n_rows, -(-n_wave // TILE) * TILE), dtype=np.bool_)
    tiles[:, :n_wave] = used
    tiles = tiles.reshape(n_rows, -1, TILE)
    first = np.arange(tiles.shape[1]) * TILE
    bounds = np.zeros((*tiles.shape[:2], 2), dtype=np.int64)
    bounds[..., 0] = first + tiles.argmax(axis=2)
    bounds[..., 1] = first + TILE - tiles[:, :, ::-1].argmax(axis=2)
    bounds[~tiles.any(axis=2)] = 0
    return bounds


def box_extract(
    plan: BoxPlan,
    data: NDArray[np.float32],
    var_poisson: NDArray[np.float32] | None = None,
    var_rnoise: NDArray[np.float32] | None = None,
    var_flat: NDArray[np.float32] | None = None,
    levels: BoxLevels | None = None,
) -> BoxSums:
    """
    Return the spectra of a stack of integrations.

    Parameters
    ----------
    plan : BoxPlan
        From `plan_box`, for images of the same size.
    data : ndarray of float32, shape (n_int, n_rows, n_wave)
        Stack, dispersion on the last axis, any unit; a pixel is bad where this or a variance is NaN, or this infinite.
        Not modified.
    var_poisson, var_rnoise, var_flat : ndarray of float32, shape (n_int, n_rows, n_wave), optional
        Variance components, unit of ``data`` squared; None counts as zero.
    levels : BoxLevels, optional
        Medians of the background, from `tso3.core.box_levels.box_levels` and the same stack; by default they are found.

    Returns
    -------
    sums : BoxSums
        For the columns ``plan.start`` to ``plan.start + plan.npixels.size``.

    Notes
    -----
    Memory: twelve numbers per integration and wavelength. A block that is not contiguous along its last axis is copied.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box import box_extract, plan_box
    >>> stack = np.array([[[4.0], [2.0]], [[np.nan], [2.0]]], dtype=np.float32)
    >>> sums = box_extract(plan_box(np.array([[1.0], [0.5]])), stack, stack)
    >>> sums.flux.ravel(), sums.var_poisson.ravel(), sums.npixels.ravel()
    (array([5., 1.]), array([4.5, 0.5]), array([1.5, 0.5]))
    """
    empty = np.empty((0, 0, 0), dtype=np.float32)
    stacks = (data, *(empty if v is None else v for v in (var_poisson, var_rnoise, var_flat)))
    for stack in stacks[1:]:
        if stack.size and stack.shape != data.shape:
            raise ValueError(f"variance has shape {stack.shape}, data {data.shape}")
    first, second, third, fourth = (flatten(stack, np.float32) for stack in stacks)
    out = np.empty((N_QUANTITIES, data.shape[0], plan.npixels.size))
    if data.size:
        known = no_levels() if levels is None else levels
        _extract(plan, (first, second, third, fourth), data.shape[2], known, out)
    return BoxSums(*out)


@inner
def smooth_background(plan: BoxPlan, planes: Planes, i: int, n_columns: int, smooth: NDArray[np.float32]) -> None:
    """Smooth the background rows of one integration along dispersion."""
    valid = np.empty(n_columns, np.bool_)
    whole = np.empty(n_columns, np.float32)
    for r in range(plan.rows.size):
        if np.max(plan.background_bounds[r]) == 0:
            continue
        at = i * planes[0].step_int + plan.rows[r] * planes[0].step_row
        row = planes[0].flat[at : at + n_columns]
        for x in range(n_columns):
            valid[x] = np.isfinite(row[x])
        for k in range(1, 4):
            plane = planes[k]
            if plane.flat.size:
                at = i * plane.step_int + plan.rows[r] * plane.step_row
                for x in range(n_columns):
                    valid[x] = valid[x] and not np.isnan(plane.flat[at + x])
        smooth_row(row, valid, plan.smoothing, whole)
        copy(smooth[r], whole[plan.start : plan.start + smooth.shape[1]])


@njit(cache=True, nogil=True)
def _extract(plan: BoxPlan, planes: Planes, n_columns: int, levels: BoxLevels, out: NDArray[np.float64]) -> None:
    """Fill `out` (quantity, integration, wavelength)."""
    n_rows, n_wave = plan.aperture.shape
    work = make_work(n_rows, plan.powers.shape[0], plan.kind)
    smooth = np.zeros((n_rows if plan.smoothing > 1 else 0, n_wave), np.float32)
    for i in range(out.shape[1]):
        if plan.smoothing > 1:
            smooth_background(plan, planes, i, n_columns, smooth)
        for x0 in range(0, n_wave, TILE):
            x1 = min(x0 + TILE, n_wave)
            sum_aperture(plan, planes, i, x0, x1, work)
            if plan.kind != KIND_NONE:
                if levels.sums.size:
                    take_levels(levels, i, plan.start + x0, x1 - x0, work)
                else:
                    sum_background(plan, planes, i, x0, x1, smooth, work)
                if plan.kind == KIND_POLY:
                    fit_polynomials(plan, x0, x1, work)
                else:
                    if not levels.sums.size:
                        find_medians(plan, x1 - x0, work)
                    fit_medians(plan, x0, x1, work)
                sum_noise(plan, planes, i, x0, x1, work)
            finish(plan, x1 - x0, work)
            for k in range(out.shape[0]):
                copy(out[k, i, x0:x1], work.total[k * TILE : k * TILE + x1 - x0])
