"""Which of several apertures gives the quietest light curve, judged on the same integrations for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranking", "rank_curves"]

_CLIP = 4.0
_MAX_CLIPS = 20
_FEWEST = 8
_MOST = 0.02
"""Excess over the best, as a share of it, beyond which a smaller aperture is not taken, however large the error."""
_GAUSSIAN = 1.482602218505602
_CORRELATED = 1.0 + 2.0 * ((2.0 / 3.0) ** 2 + (1.0 / 6.0) ** 2)
"""Differences from neighbours share points: squares of those 1 and 2 apart have correlations 4/9 and 1/36."""


@dataclass(frozen=True)
class Ranking:
    """
    Light curves by their scatter.

    Attributes
    ----------
    scatter : ndarray of float64, shape (n_curve,)
        Root mean square of the differences of each point from the mean of its neighbours, over sqrt(3/2), relative to
        the level; NaN where it cannot be told.
    excess_error : ndarray of float64, shape (n_curve,)
        Standard error of the difference of its square from that of ``best``, over twice ``scatter``: how well it is
        known by how much a curve scatters more than the best one. 0 for the best.
    best : int
        Curve of least scatter; -1 if none can be told.
    chosen : int
        The smallest that scatters more than the best by no more than the standard error of the difference, and by no
        more than 2 %.
    n_used : int
        Differences that are judged: those within 4 standard deviations in every curve.
    """

    scatter: NDArray[np.float64]
    excess_error: NDArray[np.float64]
    best: int
    chosen: int
    n_used: int


def rank_curves(
    flux: NDArray[np.float64], size: NDArray[np.float64], level: NDArray[np.float64] | None = None
) -> Ranking:
    """
    Return which of several light curves of the same integrations scatters least, and which is to be taken.

    Curves of neighbouring apertures share most of their noise, so that the difference of their scatters is known much
    better than either. It is judged by its own standard error: with d_i the difference of point i from the mean of its
    neighbours, by that of the mean of d_i^2 - d_i,best^2, which allows for the correlation of neighbouring d_i.

    Parameters
    ----------
    flux : ndarray, shape (n_curve, n_int)
        Light curves; NaN marks a missing point, and leaves the integration and its neighbours out of all curves. A
        curve with less than half of the points of others is left out itself.
    size : ndarray, shape (n_curve,)
        Of the apertures: of those that are as good as the best, the smallest is chosen.
    level : ndarray, shape (n_curve,), optional
        What scatter is relative to; the median of each curve by default.

    Returns
    -------
    ranking : Ranking

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.scan_choice import rank_curves
    >>> rng = np.random.default_rng(1)
    >>> common = rng.normal(0.0, 1.0, 200)
    >>> flux = 100.0 + np.stack([common + rng.normal(0.0, s, 200) for s in (0.5, 0.05, 0.05, 0.0, 0.3)])
    >>> ranking = rank_curves(flux, np.array([2.0, 3.0, 4.0, 5.0, 6.0]))
    >>> ranking.best, ranking.chosen
    (2, 2)
    """
    n = len(flux)
    nothing = np.full(n, np.nan)
    n_finite = np.isfinite(flux).sum(axis=1)
    usable = n_finite >= max(_FEWEST, 0.5 * n_finite.max(initial=0))
    medians = np.full(n, np.nan)
    medians[usable] = np.nanmedian(flux[usable], axis=1)
    level = medians if level is None else level
    usable &= np.isfinite(level) & (level != 0.0)
    if not usable.any():
        return Ranking(nothing, nothing, -1, -1, 0)
    relative = flux[usable] / level[usable, np.newaxis]
    difference = (relative[:, 1:-1] - 0.5 * (relative[:, :-2] + relative[:, 2:])) / np.sqrt(1.5)
    kept = _kept(difference)
    if kept.sum() < _FEWEST:
        return Ranking(nothing, nothing, -1, -1, int(kept.sum()))
    square = difference[:, kept] ** 2
    mean = square.mean(axis=1)
    first = int(mean.argmin())
    error = np.sqrt(_CORRELATED * (square - square[first]).var(axis=1, ddof=1) / square.shape[1])
    scatter, excess = nothing.copy(), nothing.copy()
    scatter[usable] = np.sqrt(mean)
    excess[usable] = np.where(mean > 0.0, error / (2.0 * np.sqrt(np.where(mean > 0.0, mean, 1.0))), 0.0)
    where = np.flatnonzero(usable)
    good = np.flatnonzero((mean - mean[first] <= error) & (mean <= (1.0 + _MOST) ** 2 * mean[first]))
    chosen = good[np.argmin(size[where[good]])]
    return Ranking(scatter, excess, int(where[first]), int(where[chosen]), square.shape[1])


def _kept(difference: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which differences are within some standard deviations in every curve."""
    kept: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(difference), axis=0)
    for _ in range(_MAX_CLIPS):
        if kept.sum() < _FEWEST:
            break
        sigma = _GAUSSIAN * np.median(np.abs(difference[:, kept]), axis=1)
        within = kept & np.logical_and.reduce(np.abs(difference) <= _CLIP * sigma[:, np.newaxis], axis=0)
        if bool((within == kept).all()):
            break
        kept = within
    return kept
