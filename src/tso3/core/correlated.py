"""
Noise that pixels of a detector line share: how large it is, and what it adds to the variance of a sum.

The variance t^2 by which the levels of lines scatter in an integration, beyond what the noise of their pixels explains,
is measured away from the star, in differences of neighbouring integrations. A sum s = sum_p c_p d_p then has, beside
the variances of its pixels, which hold t^2 already, the covariances of pixels of the same line,

    E = t^2 sum_l [(sum_{p in l} c_p u_p)^2 - sum_{p in l} (c_p u_p)^2],

with the unit u_p of a level. A background that is subtracted has part in c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core._line_sums import means_of_lines, start
from tso3.core.box import BoxPlan, background_weights
from tso3.core.lines import Lines, levels_of_sum

__all__ = [
    "LineNoise",
    "Tally",
    "excess_of_groups",
    "excess_variance",
    "line_noise",
    "line_tally",
    "subtracted_variance",
    "sum_weights",
]

_FEWEST_LINES = 8
_KEPT_SCATTER = 0.9989
"""Variance of a normal distribution within 4 standard deviations."""


@dataclass(frozen=True)
class LineNoise:
    """
    By how much lines differ in an integration.

    Attributes
    ----------
    variance, error : float
        Variance beyond the noise of the pixels, unit of a level squared, and its standard error; not bounded by zero.
    """

    variance: float
    error: float

    @property
    def believed(self) -> float:
        """The variance where it exceeds twice its error, else 0."""
        return self.variance if self.variance > 2.0 * self.error else 0.0


@dataclass(frozen=True)
class Tally:
    """
    What one frame tells about the scatter of lines.

    Attributes
    ----------
    above : float
        Weighted squares of the levels about their mean, less what the noise of the pixels explains.
    weight : float
        What a variance of 1 between the lines would add to it.
    """

    above: float
    weight: float


def line_tally(lines: Lines, residual: NDArray[np.float32]) -> Tally | None:
    """
    Return what a frame tells about the scatter of lines.

    Parameters
    ----------
    lines : Lines
        Which pixels tell.
    residual : ndarray of float32, shape (ny, nx)
        A frame of noise, such as the difference of two integrations over the root of 2; NaN is left out.

    Returns
    -------
    tally : Tally or None
        None if fewer than 8 lines are known.

    Notes
    -----
    From the weighted means of the lines, without pixels more than 4 sigma from the median, and their weights w:
    Q - q (L - 1) with Q = sum w (mean - common mean)^2, and sum w - sum w^2 / sum w (DerSimonian and Laird 1986,
    Eq. 8), where q is the scatter within the lines over the noise that was assumed, squared: an error in that cancels.
    """
    unit = lines.unit.ravel()[lines.pixel].astype(np.float64)
    kept = np.empty(unit.size, np.bool_)
    one, mean, within, count = (np.empty(lines.n_lines) for _ in range(4))
    value = residual.ravel()[lines.pixel] / unit
    start(lines.first, lines.sigma, value, np.empty(unit.size), kept)
    means_of_lines(lines.first, lines.sigma, value, kept, (one, mean, within, count))
    known = count > 1.0
    if known.sum() < _FEWEST_LINES:
        return None
    w = one[known]
    total = w.sum()
    ratio = within[known].sum() / (count[known] - 1.0).sum() / _KEPT_SCATTER
    common = (w * mean[known]).sum() / total
    above = (w * (mean[known] - common) ** 2).sum() - ratio * (w.size - 1.0)
    return Tally(float(above), float(total - (w**2).sum() / total))


def line_noise(tallies: Sequence[Tally]) -> LineNoise:
    """
    Return by how much the levels of lines scatter beyond the noise of their pixels.

    Parameters
    ----------
    tallies : sequence of Tally
        Of independent frames.

    Returns
    -------
    noise : LineNoise
        The sum of what is above the noise over that of the weights, with the error of this mean over the frames; zero
        with an infinite error if there are fewer than two.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.correlated import line_noise, line_tally
    >>> from tso3.core.lines import make_lines
    >>> rng = np.random.default_rng(3)
    >>> ones = np.ones((64, 100))
    >>> lines = make_lines(np.broadcast_to(np.arange(64)[:, None], ones.shape), ones, ones, ones > 0)
    >>> frames = [rng.normal(0, 1, ones.shape) + rng.normal(0, 0.5, (64, 1)) for _ in range(20)]
    >>> bool(abs(line_noise([line_tally(lines, frame) for frame in frames]).variance - 0.25) < 0.03)
    True
    """
    if len(tallies) < 2:
        return LineNoise(0.0, np.inf)
    own, whole = np.array([(each.above, each.weight) for each in tallies]).T
    variance = float(own.sum() / whole.sum())
    rest = own - variance * whole
    error = float(np.sqrt((rest**2).sum() * own.size / (own.size - 1.0)) / whole.sum())
    return LineNoise(variance, error)


def sum_weights(plan: BoxPlan, factor: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """
    Return what each pixel counts in a sum over the columns of an extraction.

    Parameters
    ----------
    plan : BoxPlan
        Aperture and background.
    factor : ndarray, shape (n_wave,)
        What the flux of each column of the plan counts.
    shape : (int, int)
        Of the frame, dispersion along the last axis.

    Returns
    -------
    weights : ndarray, shape ``shape``
        Of the aperture, less those with which the background is fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.background import BackgroundFit
    >>> from tso3.core.box import plan_box
    >>> from tso3.core.correlated import sum_weights
    >>> aperture = np.array([[0.0], [1.0], [1.0], [0.0]])
    >>> plan = plan_box(aperture, aperture == 0.0, BackgroundFit("poly", 0))
    >>> sum_weights(plan, np.array([2.0]), (4, 1)).ravel().tolist()
    [-2.0, 2.0, 2.0, -2.0]
    """
    whole = np.zeros(shape)
    columns = plan.start + np.arange(plan.npixels.size)
    whole[np.ix_(plan.rows, columns)] = (plan.aperture - background_weights(plan)) * factor
    return whole


def excess_variance(
    line: NDArray[np.integer], unit: NDArray[np.floating], weights: NDArray[np.float64], variance: float
) -> float:
    """
    Return what the covariance of pixels of a line adds to the variance of a sum.

    Parameters
    ----------
    line : ndarray of int, shape (ny, nx)
        Number of each pixel's line.
    unit : ndarray, shape (ny, nx)
        What a level of 1 adds to a pixel.
    weights : ndarray, shape (ny, nx)
        What each pixel counts.
    variance : float
        Variance between lines.

    Returns
    -------
    excess : float
        E of the module; negative where what is common cancels.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.correlated import excess_variance
    >>> line = np.array([[0, 0], [1, 1]])
    >>> excess_variance(line, np.ones((2, 2)), np.array([[1.0, 1.0], [0.0, 1.0]]), 0.5)
    1.0
    """
    own = (weights * unit).ravel()
    used = np.flatnonzero(own)
    sums = np.bincount(line.ravel()[used], own[used])
    return float(variance * ((sums**2).sum() - (own[used] ** 2).sum()))


def excess_of_groups(
    line: NDArray[np.integer],
    unit: NDArray[np.floating],
    weights: NDArray[np.float64],
    group: NDArray[np.int64],
    n_group: int,
) -> NDArray[np.float64]:
    """
    Return what the covariance of pixels of a line adds to the variances of several sums, for a variance of 1.

    Parameters
    ----------
    line : ndarray of int, shape (ny, nx)
        Number of each pixel's line.
    unit : ndarray, shape (ny, nx)
        What a level of 1 adds to a pixel.
    weights : ndarray, shape (ny, nx)
        What each pixel counts in its sum.
    group : ndarray of int64, shape (ny, nx)
        The sum a pixel is part of; -1 for none.
    n_group : int
        Number of sums.

    Returns
    -------
    excess : ndarray of float64, shape (n_group,)
        E of the module for each sum, in one pass over the pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.correlated import excess_of_groups
    >>> line, group = np.array([[0, 0, 0], [1, 1, 1]]), np.array([[0, 0, 1], [0, 0, 1]])
    >>> excess_of_groups(line, np.ones((2, 3)), np.ones((2, 3)), group, 2).tolist()
    [4.0, 0.0]
    """
    own = (weights * unit).ravel()
    chosen = group.ravel()
    used = np.flatnonzero((own != 0.0) & (chosen >= 0))
    own, chosen = own[used], chosen[used]
    _, sums_of = np.unique(line.ravel()[used].astype(np.int64) * n_group + chosen, return_inverse=True)
    sums = np.bincount(sums_of, own)
    of_group = np.zeros(sums.size, np.int64)
    of_group[sums_of] = chosen
    whole = np.bincount(of_group, sums**2, minlength=n_group)
    return np.asarray(whole - np.bincount(chosen, own**2, minlength=n_group))


def subtracted_variance(
    lines: Lines,
    together: NDArray[np.float32],
    noise: NDArray[np.float32],
    weights: NDArray[np.float64],
    variance: float,
) -> float:
    """
    Return what the propagated variance of a sum lacks after the levels of lines were subtracted.

    Parameters
    ----------
    lines : Lines
        Whose levels were subtracted.
    together : ndarray, shape (ny, nx)
        How often the variance of a level was added to that of a pixel.
    noise : ndarray, shape (ny, nx)
        Noise of a pixel, the part that lines share included.
    weights : ndarray, shape (ny, nx)
        What each pixel counts in the sum.
    variance : float
        Variance between lines.

    Returns
    -------
    excess : float
        The variance of the sum with weights c less those of the levels that the pixels of each line tell, for pixels
        with independent noise and lines with a common one, less what is propagated.
    """
    unit = lines.unit.ravel().astype(np.float64)
    line = lines.line.ravel()
    own = weights.ravel() * unit
    share = np.bincount(line, own, minlength=lines.n_lines).astype(np.float64)
    by_level, of_levels = levels_of_sum(lines, share, variance)
    whole = own.copy()
    whole[lines.pixel] -= by_level
    sigma2 = np.nan_to_num(np.where(unit > 0.0, noise.ravel().astype(np.float64) / np.where(unit > 0, unit, 1.0), 0.0))
    sigma2 **= 2
    true = (whole**2 * np.maximum(sigma2 - variance, 0.0)).sum()
    true += variance * (np.bincount(line, whole, minlength=lines.n_lines) ** 2).sum()
    propagated = (own**2 * (sigma2 + of_levels[line] * together.ravel())).sum()
    return float(true - propagated)
