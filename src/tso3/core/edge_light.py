"""
The light that a motion across dispersion takes over the edges of an aperture.

A star that moves by d across dispersion loses light over one edge of its aperture and wins some over the other. With
the weights w of the aperture and the image M of the star, its light there changes by

    d sum_y w (-dM/dy) = d sum_y M dw/dy ,

the light per pixel at the lower edge less that at the upper one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.box import BoxPlan, BoxSums
from tso3.core.profile import running_sum
from tso3.core.terms import bridged

__all__ = ["EdgeLight", "edge_light", "restored"]

_HALF_WIDTH = 7
_BRIGHT = 20.0
"""Signal over noise of a stretch of the reference image from which its edges are believed."""
_MOST = 0.25
"""Change of the light in the aperture beyond which it is not believed."""
_POWERS = {"flux": 1, "uncompleted": 1, "var_poisson": 2, "var_rnoise": 2, "var_flat": 2, "limit": 2}


@dataclass(frozen=True)
class EdgeLight:
    """
    What a motion across dispersion does to the light in an aperture.

    Attributes
    ----------
    change : ndarray of float64, shape (n_wave,)
        Relative change of the light for a motion of one pixel towards larger indices; 0 where it is not known.
    shift : ndarray of float64, shape (n_int,)
        Motion of every integration of the exposure [pixel].
    """

    change: NDArray[np.float64]
    shift: NDArray[np.float64]


def edge_light(
    plan: BoxPlan,
    net: NDArray[np.floating],
    noise: NDArray[np.floating],
    shift: NDArray[np.float64],
    error: NDArray[np.float64],
) -> EdgeLight:
    """
    Return what the motion of an exposure does to the light in an aperture.

    Parameters
    ----------
    plan : BoxPlan
        The aperture.
    net : ndarray, shape (n_rows, n_columns)
        Reference image of the exposure less its background, dispersion along the last axis; NaN where unknown.
    noise : ndarray, shape (n_rows, n_columns)
        1-sigma error of that image; not finite where unknown.
    shift, error : ndarray, shape (n_int,)
        Motion across dispersion in every integration, and its error [pixel]; NaN where unknown.

    Returns
    -------
    edge : EdgeLight
        The motion without the part of its scatter that is noise: its distance from the median is multiplied by
        ``1 - e^2 / s^2``, with e^2 the median of the squared errors and s the robust scatter.

    Notes
    -----
    Numerator and denominator are summed over 15 columns, for a profile changes slowly along them.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box import plan_box
    >>> from tso3.core.edge_light import edge_light
    >>> star = np.exp(-0.5 * (np.arange(30.0)[:, np.newaxis] - 14.0) ** 2 / 4.0) * np.ones(20)
    >>> aperture = np.zeros((30, 20))
    >>> aperture[12:20] = 1.0
    >>> plan = plan_box(aperture)
    >>> found = edge_light(plan, star, np.full((30, 20), 1e-4), np.array([0.0, 0.1]), np.zeros(2))
    >>> before, after = (np.exp(-0.5 * (np.arange(12.0, 20.0) - at) ** 2 / 4.0).sum() for at in (14.0, 14.1))
    >>> bool(abs(found.change[5] * 0.1 / (after / before - 1.0) - 1.0) < 0.05)
    True
    """
    columns = slice(plan.start, plan.start + plan.npixels.size)
    low, high = max(int(plan.rows[0]) - 1, 0), min(int(plan.rows[-1]) + 2, len(net))
    part = np.asarray(net[low:high, columns], np.float64)
    image = bridged(part, np.isfinite(part)).astype(np.float64)
    inside = plan.rows - low
    moved = -np.gradient(image, axis=0)[inside] if len(image) > 1 else np.zeros_like(image[inside])
    error2 = np.where(np.isfinite(noise[plan.rows][:, columns]), noise[plan.rows][:, columns], 0.0) ** 2
    sums = [
        running_sum((weights * values).sum(axis=0)[np.newaxis], _HALF_WIDTH)[0]
        for weights, values in ((plan.aperture, moved), (plan.aperture, image[inside]), (plan.aperture**2, error2))
    ]
    good = (sums[1] > 0.0) & (sums[1] > _BRIGHT * np.sqrt(sums[2]))
    change = np.where(good, sums[0] / np.where(good, sums[1], 1.0), 0.0)
    return EdgeLight(np.where(np.abs(change) <= 1.0, change, 0.0), _believed(shift, error))


def restored(sums: BoxSums, edge: EdgeLight, start: int) -> BoxSums:
    """
    Return sums with the light that the motion has taken out of the aperture, or without what it brought in.

    Parameters
    ----------
    sums : BoxSums
        Of consecutive integrations.
    edge : EdgeLight
        Of the exposure and the same columns.
    start : int
        Exposure index of the first integration.

    Returns
    -------
    sums : BoxSums
        ``flux``, ``uncompleted``, the variances and ``limit`` changed.
    """
    change = edge.shift[start : start + len(sums.flux), np.newaxis] * edge.change
    factor = 1.0 + np.where(np.abs(change) <= _MOST, change, 0.0)
    return replace(sums, **{name: getattr(sums, name) / factor**power for name, power in _POWERS.items()})


def _believed(shift: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a motion without the part of its scatter that is noise; the median where it is not known."""
    known = np.isfinite(shift) & np.isfinite(error)
    if not known.any():
        return np.zeros(shift.shape)
    middle = float(np.median(shift[known]))
    away = np.where(known, shift - middle, 0.0)
    scatter2 = max((1.4826 * float(np.median(np.abs(away[known])))) ** 2, 1e-300)
    kept = max(1.0 - float(np.median(error[known] ** 2)) / scatter2, 0.0)
    return middle + kept * away
