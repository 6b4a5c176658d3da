"""
Spectra as the brightness of their star: means over groups of wavelengths, with weights that are steady in time.

A sample f_il is taken as b_il S_l, with S the steady spectrum and V its steady variance. In a group g of wavelengths
the best linear estimate of a common brightness is

    b_ig = sum_l k_l f_il / sum_l k_l S_l,    k_l = S_l / V_l,

over the samples that are valid in integration i: a sample that is not is taken to have the brightness of the others of
its group. Nothing else depends on it, as the groups are added with steady weights. (Gauss and Markov; for spectra, with
the sum over pixels in place of that over wavelengths, Horne 1986, Eq. 8.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Brightness", "GroupWeights", "baseline_level", "common", "equal_groups", "group_brightness", "weigh"]


@dataclass(frozen=True)
class GroupWeights:
    """
    Steady weights of the wavelengths of a spectrum, in groups.

    Attributes
    ----------
    factor : ndarray of float64, shape (n_wave,)
        What a sample is multiplied with; 0 where a wavelength has no part in anything.
    light : ndarray of float64, shape (n_wave,)
        ``factor`` times the steady spectrum: the share of each wavelength, in any unit.
    group : ndarray of int64, shape (n_wave,)
        Which group a wavelength belongs to; -1 for none.
    whole : ndarray of float64, shape (n_group,)
        Sum of ``light`` over each group.
    """

    factor: NDArray[np.float64]
    light: NDArray[np.float64]
    group: NDArray[np.int64]
    whole: NDArray[np.float64]

    @property
    def n_group(self) -> int:
        """Number of groups."""
        return int(self.whole.size)


@dataclass(frozen=True)
class Brightness:
    """
    Brightness of groups of wavelengths, in units of the steady spectrum.

    Attributes
    ----------
    value, variance : ndarray of float64, shape (n_int, n_group)
        Estimate and its variance; NaN where a group has no valid sample.
    kept : ndarray of float64, shape (n_int, n_group)
        Share of the group's light that is in valid samples.
    n_valid : ndarray of int64, shape (n_int, n_group)
        Valid samples.
    """

    value: NDArray[np.float64]
    variance: NDArray[np.float64]
    kept: NDArray[np.float64]
    n_valid: NDArray[np.int64]


def weigh(
    expected: NDArray[np.float64],
    variance: NDArray[np.float64] | None,
    group: NDArray[np.int64],
    n_group: int,
) -> GroupWeights:
    """
    Return the weights of wavelengths.

    Parameters
    ----------
    expected : ndarray of float, shape (n_wave,)
        Steady spectrum. Wavelengths where it is NaN or not positive have no part.
    variance : ndarray of float, shape (n_wave,), or None
        Its steady variance; wavelengths where it is NaN or not positive have no part. None for a plain sum: each sample
        has the factor 1.
    group : ndarray of int, shape (n_wave,)
        Which group a wavelength belongs to, from 0; negative for none.
    n_group : int
        Number of groups; some may be empty.

    Returns
    -------
    weights : GroupWeights

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.weighted import weigh
    >>> weights = weigh(np.array([2.0, 4.0, np.nan]), np.array([1.0, 2.0, 1.0]), np.array([0, 0, 0]), 1)
    >>> weights.factor.tolist(), weights.whole.tolist()
    ([2.0, 2.0, 0.0], [12.0])
    """
    spectrum = np.asarray(expected, np.float64)
    used = (np.asarray(group) >= 0) & (spectrum > 0.0) & np.isfinite(spectrum)
    if variance is not None:
        used &= (variance > 0.0) & np.isfinite(variance)
    noise = 1.0 if variance is None else np.where(used, variance, 1.0)
    factor = np.where(used, 1.0 if variance is None else spectrum / noise, 0.0)
    light = np.where(used, factor * np.where(used, spectrum, 0.0), 0.0)
    chosen = np.where(used, group, -1).astype(np.int64)
    whole = np.zeros(n_group)
    np.add.at(whole, chosen[used], light[used])
    return GroupWeights(factor, light, chosen, whole)


def equal_groups(weights: GroupWeights, wavelength: NDArray[np.float64], n_group: int) -> NDArray[np.int64]:
    """
    Return groups of neighbouring wavelengths that hold about the same share of the light.

    Parameters
    ----------
    weights : GroupWeights
        Whose ``light`` is shared out.
    wavelength : ndarray of float, shape (n_wave,)
        By which wavelengths are neighbours.
    n_group : int
        Groups at most.

    Returns
    -------
    group : ndarray of int64, shape (n_wave,)
        From 0, in the order of wavelength; -1 where a wavelength has no part.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.weighted import equal_groups, weigh
    >>> weights = weigh(np.array([1.0, 1.0, 2.0, np.nan]), np.ones(4), np.zeros(4, int), 1)
    >>> equal_groups(weights, np.array([3.0, 2.0, 1.0, 0.0]), 2).tolist()
    [1, 1, 0, -1]
    """
    used = np.flatnonzero(weights.group >= 0)
    order = used[np.argsort(wavelength[used], kind="stable")]
    light = weights.light[order]
    group = np.full(wavelength.size, -1, np.int64)
    if order.size:
        middle = (np.cumsum(light) - 0.5 * light) / light.sum()
        group[order] = np.minimum((middle * n_group).astype(np.int64), n_group - 1)
    return group


def group_brightness(flux: NDArray[np.float64], variance: NDArray[np.float64], weights: GroupWeights) -> Brightness:
    """
    Return the brightness of every group in every integration.

    Parameters
    ----------
    flux, variance : ndarray of float, shape (n_int, n_wave)
        Spectra and their variances; samples are independent. A NaN flux is not valid. Not modified.
    weights : GroupWeights
        The same for all integrations.

    Returns
    -------
    brightness : Brightness
        Each integration depends on itself alone.

    Notes
    -----
    A NaN variance of a valid flux makes the variance of its group NaN: an error that is not known is not small. The
    compiled code releases the interpreter's lock; it keeps 32 bytes for each integration and group.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.weighted import group_brightness, weigh
    >>> weights = weigh(np.array([1.0, 2.0]), np.ones(2), np.zeros(2, int), 1)
    >>> found = group_brightness(np.array([[1.0, 2.0], [np.nan, 1.0]]), np.ones((2, 2)), weights)
    >>> found.value.ravel().tolist(), found.variance.ravel().tolist(), found.kept.ravel().tolist()
    ([1.0, 0.5], [0.2, 0.25], [1.0, 0.8])
    """
    n_int = flux.shape[0]
    sums = np.zeros((3, n_int, weights.n_group))
    n_valid = np.zeros((n_int, weights.n_group), np.int64)
    chosen = np.flatnonzero(weights.group >= 0)
    parts = (chosen, weights.group[chosen], weights.factor[chosen], weights.light[chosen])
    _sum_groups(np.asarray(flux, np.float64), np.asarray(variance, np.float64), parts, sums, n_valid)
    total, noise, seen = sums
    known = n_valid > 0
    light = np.where(known, seen, 1.0)
    whole = np.where(weights.whole > 0.0, weights.whole, 1.0)
    return Brightness(
        np.where(known, total / light, np.nan), np.where(known, noise / light**2, np.nan), seen / whole, n_valid
    )


def common(values: NDArray[np.float64], variances: NDArray[np.float64], whole: NDArray[np.float64]) -> Brightness:
    """
    Return the brightness that groups have in common: their mean, weighted with the light of each.

    Parameters
    ----------
    values, variances : ndarray of float, shape (n_int, n_group)
        Brightness of each group, NaN where it is not known: it is then taken to be that of the others.
    whole : ndarray of float, shape (n_group,)
        Light of each group; one without light has no part.

    Returns
    -------
    brightness : Brightness
        Of one group; ``n_valid`` counts groups.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.weighted import common
    >>> found = common(np.array([[1.0, 4.0], [np.nan, 4.0]]), np.ones((2, 2)), np.array([1.0, 2.0]))
    >>> found.value.ravel().tolist(), found.variance.ravel().round(3).tolist()
    ([3.0, 4.0], [0.556, 1.0])
    """
    total, noise, seen = np.zeros((3, len(values), 1))
    n_known = np.zeros((len(values), 1), np.int64)
    for k in range(whole.size):  # in a fixed order
        known = np.isfinite(values[:, k : k + 1]) & (whole[k] > 0.0)
        total += np.where(known, whole[k] * values[:, k : k + 1], 0.0)
        noise += np.where(known, whole[k] ** 2 * variances[:, k : k + 1], 0.0)
        seen += np.where(known, whole[k], 0.0)
        n_known += known
    light = np.where(seen > 0.0, seen, np.nan)
    everything = float(whole.sum())
    kept = seen / everything if everything > 0.0 else seen
    return Brightness(total / light, noise / light**2, kept, n_known)


def baseline_level(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    """
    Return the level of a light curve by which it is divided: the median of some integrations.

    Parameters
    ----------
    values : ndarray of float, shape (n_int,)
        Light curve; NaN is left out.
    chosen : ndarray of bool, shape (n_int,)
        True in the baseline.

    Returns
    -------
    level : float
        NaN if nothing is known there, or the level is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.weighted import baseline_level
    >>> baseline_level(np.array([2.0, np.nan, 1.0, 4.0]), np.array([True, True, False, True]))
    3.0
    """
    known = values[chosen & np.isfinite(values)]
    level = float(np.median(known)) if known.size else float("nan")
    return level if level > 0.0 else float("nan")


@njit(cache=True, nogil=True)
def _sum_groups(
    flux: NDArray[np.float64],
    variance: NDArray[np.float64],
    parts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    sums: NDArray[np.float64],
    n_valid: NDArray[np.int64],
) -> None:
    """Add samples, their variances, and their light to their groups, in the order of the wavelengths."""
    chosen, group, factor, light = parts
    for i in range(flux.shape[0]):
        for k in range(chosen.size):
            value = flux[i, chosen[k]]
            if np.isfinite(value):
                g = group[k]
                sums[0, i, g] += factor[k] * value
                sums[1, i, g] += factor[k] * factor[k] * variance[i, chosen[k]]
                sums[2, i, g] += light[k]
                n_valid[i, g] += 1
