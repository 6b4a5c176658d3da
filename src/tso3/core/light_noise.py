"""What a light curve scatters by: standard deviation, robust scatter, from point to point, and averaged over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.noise import photon_limit, point_to_point
from tso3.core.quiet import quiet_samples

__all__ = ["NoiseMeasures", "TimeAveraging", "noise_measures", "time_averaging"]

_FEWEST = 8
_FEWEST_MEANS = 8
_ENOUGH_MEANS = 16
"""Means of which the scatter is known to 19 %: enough to speak of red noise."""
_FITTED = 2
_TO_SIGMA = 1.482602218505602
"""Standard deviation over median absolute deviation, of a normal distribution."""


@dataclass(frozen=True)
class TimeAveraging:
    """
    How the scatter of a light curve falls when neighbouring samples are averaged.

    Attributes
    ----------
    size : ndarray of int64, shape (n_sizes,)
        Samples in a mean, rising from 1.
    n_means : ndarray of int64, shape (n_sizes,)
        Means of that size.
    scatter : ndarray of float64, shape (n_sizes,)
        Standard deviation of the means, in the unit of the residuals.
    expected : ndarray of float64, shape (n_sizes,)
        What it would be if the samples were independent: that of single samples over the root of the size.
    """

    size: NDArray[np.int64]
    n_means: NDArray[np.int64]
    scatter: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class NoiseMeasures:
    """
    Scatter of a light curve, all relative to its level outside a transit (1e-6 is one ppm); NaN where not known.

    Attributes
    ----------
    n_quiet : int
        Samples outside a transit, from which all but the scatter from point to point are taken.
    standard_deviation : float
        About a straight line through them.
    robust_scatter : float
        1.4826 times their median absolute deviation from the line.
    point_to_point : float
        `tso3.core.noise.point_to_point` of the whole light curve.
    photon_limit : float
        `tso3.core.noise.photon_limit`.
    averaging : TimeAveraging
        Of the residuals from the line.
    """

    n_quiet: int
    standard_deviation: float
    robust_scatter: float
    point_to_point: float
    photon_limit: float
    averaging: TimeAveraging

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> NoiseMeasures:
        """
        Return the measures that the metadata of a table hold.

        Parameters
        ----------
        numbers : mapping
            As `as_dict` gives them.

        Returns
        -------
        measures : NoiseMeasures
            To the digits that were written.
        """
        size, n_means = (np.array(numbers[f"averaging_{name}"], np.int64) for name in ("size", "n_means"))
        scatter, expected = (1e-6 * np.array(numbers[f"averaging_{name}_ppm"]) for name in ("scatter", "expected"))
        return cls(
            n_quiet=int(numbers["n_quiet"]),
            standard_deviation=1e-6 * float(numbers["standard_deviation_ppm"]),
            robust_scatter=1e-6 * float(numbers["robust_scatter_ppm"]),
            point_to_point=1e-6 * float(numbers["point_to_point_ppm"]),
            photon_limit=1e-6 * float(numbers["photon_limit_ppm"]),
            averaging=TimeAveraging(size, n_means, scatter, expected),
        )

    @property
    def ratio(self) -> float:
        """Scatter from point to point over the photon limit."""
        return self.point_to_point / self.photon_limit if self.photon_limit > 0.0 else float("nan")

    @property
    def averaged_over(self) -> int:
        """Samples in the longest mean of which there are at least 16; 0 if there is none longer than 1."""
        enough = self.averaging.size[(self.averaging.n_means >= _ENOUGH_MEANS) & (self.averaging.size > 1)]
        return int(enough[-1]) if enough.size else 0

    @property
    def red_noise(self) -> float:
        """Scatter of these means over what independent samples would give: 1 for white noise."""
        return self._of_longest()[0]

    @property
    def red_noise_error(self) -> float:
        """How much that would vary from draw to draw of white noise."""
        return self._of_longest()[1]

    def _of_longest(self) -> tuple[float, float]:
        if not self.averaged_over or not self.standard_deviation > 0.0:
            return float("nan"), float("nan")
        which = int(np.flatnonzero(self.averaging.size == self.averaged_over)[0])
        ratio = float(self.averaging.scatter[which] / self.averaging.expected[which])
        return ratio, float(1.0 / np.sqrt(2.0 * (self.averaging.n_means[which] - _FITTED)))

    def as_dict(self) -> dict[str, object]:
        """
        Return the numbers as they are written into the metadata of a table: plain, scatters in ppm.

        Returns
        -------
        numbers : dict
            Lists for the time averaging.
        """
        curve = self.averaging
        return {
            "n_quiet": self.n_quiet,
            "standard_deviation_ppm": _ppm(self.standard_deviation),
            "robust_scatter_ppm": _ppm(self.robust_scatter),
            "point_to_point_ppm": _ppm(self.point_to_point),
            "photon_limit_ppm": _ppm(self.photon_limit),
            "ratio_to_photon_limit": round(self.ratio, 4),
            "averaged_over": self.averaged_over,
            "red_noise": round(self.red_noise, 4),
            "red_noise_error": round(self.red_noise_error, 4),
            "averaging_size": [int(n) for n in curve.size],
            "averaging_n_means": [int(n) for n in curve.n_means],
            "averaging_scatter_ppm": [_ppm(value) for value in curve.scatter],
            "averaging_expected_ppm": [_ppm(value) for value in curve.expected],
        }


def noise_measures(
    flux: NDArray[np.float64],
    variance: NDArray[np.float64] | None = None,
    quiet: NDArray[np.bool_] | None = None,
) -> NoiseMeasures:
    """
    Return how much a light curve scatters outside a transit.

    Parameters
    ----------
    flux : ndarray of float, shape (n_int,)
        Light curve in the order of time, evenly sampled, any unit. NaN marks a missing sample.
    variance : ndarray of float, shape (n_int,), optional
        Variance of photon and read noise without bad pixels, from which the photon limit is.
    quiet : ndarray of bool, shape (n_int,), optional
        Samples outside a transit; by default `tso3.core.quiet.quiet_samples` finds them. Give those of the white light
        for its channels.

    Returns
    -------
    measures : NoiseMeasures
        NaN where fewer than 8 samples are quiet.

    Notes
    -----
    A straight line is subtracted, fitted to all quiet samples by least squares; slower changes than that, a ramp or a
    flare, count as noise. What the transit itself scatters by is in the scatter from point to point alone.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.light_noise import noise_measures
    >>> rng = np.random.default_rng(3)
    >>> flux = 50.0 * (1.0 + 1e-3 * rng.standard_normal(400))
    >>> flux[150:250] *= 0.99
    >>> found = noise_measures(flux, np.full(400, 0.05**2))
    >>> round(1e6 * found.standard_deviation, -2), round(1e6 * found.photon_limit), round(found.red_noise)
    (1000.0, 1000, 1)
    """
    flux = np.asarray(flux, dtype=np.float64)
    quiet = (quiet_samples(flux) if quiet is None else quiet) & np.isfinite(flux)
    limit = float("nan") if variance is None else photon_limit(flux, np.asarray(variance, dtype=np.float64))
    level = float(np.median(flux[quiet])) if quiet.any() else 0.0
    if np.count_nonzero(quiet) < _FEWEST or level == 0.0:
        nothing = TimeAveraging(*np.empty((2, 0), np.int64), *np.empty((2, 0)))
        unknown = float("nan")
        return NoiseMeasures(int(quiet.sum()), unknown, unknown, point_to_point(flux), limit, nothing)
    index = np.flatnonzero(quiet)
    residual = _without_line(index, flux[quiet] / abs(level))
    averaging = time_averaging(residual, np.split(np.arange(index.size), np.flatnonzero(_breaks(index, flux)) + 1))
    return NoiseMeasures(
        n_quiet=index.size,
        standard_deviation=float(np.sqrt((residual**2).sum() / (index.size - _FITTED))),
        robust_scatter=float(_TO_SIGMA * np.median(np.abs(residual - np.median(residual)))),
        point_to_point=point_to_point(flux),
        photon_limit=limit,
        averaging=averaging,
    )


def time_averaging(residual: NDArray[np.float64], runs: list[NDArray[np.int64]] | None = None) -> TimeAveraging:
    """
    Return the scatter of means of neighbouring samples, over their number.

    Parameters
    ----------
    residual : ndarray of float, shape (n,)
        Light curve less a straight line; finite.
    runs : list of ndarray of int64, optional
        Indices of stretches without a break; no mean runs across a break. By default all is one stretch.

    Returns
    -------
    averaging : TimeAveraging
        Sizes 1, 2, 3, 4, 6, 8, 12, ..., as long as there are 8 means; samples at the end of a stretch that fill no mean
        are left out of it.

    Notes
    -----
    Pont, Zucker and Queloz (2006), section 3; the sum of squares is divided by the number of means less the two
    parameters of the line. The curve is called that of Allan (1966), who took differences of neighbouring means.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.light_noise import time_averaging
    >>> found = time_averaging(np.tile([1.0, -1.0], 16))
    >>> found.size.tolist(), found.scatter.round(2).tolist()
    ([1, 2, 3, 4], [1.03, 0.0, 0.37, 0.0])
    """
    stretches = [residual] if runs is None else [residual[run] for run in runs]
    sizes, counts, scatters = [], [], []
    size = 1
    while True:
        parts = [each[: each.size // size * size].reshape(-1, size).mean(axis=1) for each in stretches]
        means = np.concatenate(parts)
        if means.size < _FEWEST_MEANS:
            break
        sizes.append(size)
        counts.append(means.size)
        scatters.append(float(np.sqrt((means**2).sum() / (means.size - _FITTED))))
        size = size + 1 if size < 4 else (3 * size // 2 if size & (size - 1) == 0 else 4 * size // 3)
    n = np.array(sizes, np.int64)
    scatter = np.array(scatters)
    expected = scatter[:1] / np.sqrt(n)
    return TimeAveraging(n, np.array(counts, np.int64), scatter, expected)


def _breaks(index: NDArray[np.int64], flux: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return after which of the quiet samples finite ones are left out: where the transit was."""
    finite = np.concatenate([[0], np.cumsum(np.isfinite(flux))])
    broken: NDArray[np.bool_] = np.diff(finite[index]) > 1
    return broken


def _without_line(time: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a series less its straight line."""
    t = time - time.mean()
    residual: NDArray[np.float64] = value - value.mean() - t * ((value * t).sum() / (t * t).sum())
    return residual


def _ppm(value: float) -> float:
    return round(1e6 * float(value), 3)
