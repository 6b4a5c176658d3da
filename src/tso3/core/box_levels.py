"""
Medians of the background of a column, found once for several boxes that take them from the same pixels.

The orders of SOSS lie in one image, and the background of a column is the median of the pixels away from all of them:
the same for each order. Only its part in the sum of an aperture is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._box_rows import copy, fill, inner, part
from tso3.core._box_tile import KIND_MEDIAN, TILE, BoxPlan, Planes, Work, make_work, sum_background
from tso3.core._planes import flatten
from tso3.core.background import select_median_near

__all__ = ["BoxLevels", "box_levels", "no_levels", "take_levels", "widest"]


class BoxLevels(NamedTuple):
    """
    What boxes need of the background pixels of their columns.

    ``sums`` (5, n_int, n_columns) are the median, how many pixels it was taken of (0: there is none), and the sums of
    their Poisson, read-noise and flat variances; ``start`` is the first of the columns. Nothing if empty.
    """

    sums: NDArray[np.float64]
    start: int


def no_levels() -> BoxLevels:
    """Return nothing, for a box that looks at the background pixels by itself."""
    return BoxLevels(np.empty((0, 0, 0)), 0)


def widest(plans: Sequence[BoxPlan]) -> BoxPlan | None:
    """
    Return the plan whose medians serve all.

    Parameters
    ----------
    plans : sequence of BoxPlan
        Of the same images.

    Returns
    -------
    plan : BoxPlan or None
        The one with the most columns. None if there is one plan alone, if any subtracts no median or smooths the image,
        or if they take it from different pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.background import BackgroundFit
    >>> from tso3.core.box import plan_box
    >>> from tso3.core.box_levels import widest
    >>> aperture = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    >>> region, fit = np.array([[False], [False], [True]]) & np.ones(2, bool), BackgroundFit("median")
    >>> plans = [plan_box(aperture, region, fit, span=(0, n)) for n in (1, 2)]
    >>> widest(plans) is plans[1], widest(plans[:1])
    (True, None)
    """
    if len(plans) < 2 or any(plan.kind != KIND_MEDIAN or plan.smoothing > 1 for plan in plans):
        return None
    base = max(plans, key=lambda plan: plan.npixels.size)
    return base if all(_has(base, plan) for plan in plans) else None


def _has(base: BoxPlan, plan: BoxPlan) -> bool:
    """Return whether the background pixels of a plan are those of another one in the same columns."""
    first, n = plan.start - base.start, plan.npixels.size
    if first < 0 or first + n > base.npixels.size:
        return False
    own, other = plan.background.any(axis=1), base.background[:, first : first + n].any(axis=1)
    return bool(
        np.array_equal(plan.rows[own], base.rows[other])
        and np.array_equal(plan.background[own], base.background[other, first : first + n])
    )


def box_levels(
    plan: BoxPlan,
    data: NDArray[np.float32],
    var_poisson: NDArray[np.float32] | None = None,
    var_rnoise: NDArray[np.float32] | None = None,
    var_flat: NDArray[np.float32] | None = None,
) -> BoxLevels:
    """
    Return the medians of the background pixels of a stack of integrations.

    Parameters
    ----------
    plan : BoxPlan
        From `widest`.
    data, var_poisson, var_rnoise, var_flat : ndarray of float32, shape (n_int, n_rows, n_wave)
        As of `tso3.core.box.box_extract`.

    Returns
    -------
    levels : BoxLevels
        For `tso3.core.box.box_extract`, which gives the same numbers, bit for bit, as without.
    """
    empty = np.empty((0, 0, 0), dtype=np.float32)
    stacks = (data, *(empty if v is None else v for v in (var_poisson, var_rnoise, var_flat)))
    first, second, third, fourth = (flatten(stack, np.float32) for stack in stacks)
    sums = np.empty((5, data.shape[0], plan.npixels.size))
    if data.size:
        _fill(plan, (first, second, third, fourth), sums)
    return BoxLevels(sums, plan.start)


@njit(cache=True, nogil=True)
def _fill(plan: BoxPlan, planes: Planes, sums: NDArray[np.float64]) -> None:
    """Fill `sums` (quantity, integration, column)."""
    n_rows, n_wave = plan.background.shape
    work = make_work(n_rows, plan.powers.shape[0], plan.kind)
    smooth = np.zeros((0, n_wave), np.float32)
    guess, scratch = np.full((n_wave, 2), np.float32(np.nan)), np.empty(n_rows + 1, np.float32)
    for i in range(sums.shape[1]):
        for x0 in range(0, n_wave, TILE):
            n = min(x0 + TILE, n_wave) - x0
            fill(work.total, 0.0)
            sum_background(plan, planes, i, x0, x0 + n, smooth, work)
            for x in range(n):
                count = work.n_sample[x]
                work.bad[x] = count
                near = guess[x0 + x]
                if i == 0 and x0 + x > 0:  # in the first integration the column before is nearest
                    near[0], near[1] = guess[x0 + x - 1, 0], guess[x0 + x - 1, 1]
                work.values[x] = select_median_near(work.sample[x], count, near, scratch) if count > 0 else np.nan
            copy(sums[0, i, x0 : x0 + n], work.values[:n])
            copy(sums[1, i, x0 : x0 + n], work.bad[:n])
            for k in range(3):
                copy(sums[2 + k, i, x0 : x0 + n], part(work.total, 5 + k, 0, n))


@inner
def take_levels(levels: BoxLevels, i: int, first: int, n: int, work: Work) -> None:
    """Put what is known of the background pixels of n columns from ``first`` on where `find_medians` would."""
    at = first - levels.start
    copy(work.values[:n], levels.sums[0, i, at : at + n])
    copy(work.bad[:n], levels.sums[1, i, at : at + n])
    for k in range(3):
        copy(part(work.total, 5 + k, 0, n), levels.sums[2 + k, i, at : at + n])
