"""
Correlated noise of an exposure: how much lines of the detector differ in an integration, and what that adds to sums.

1/f noise is common to the pixels of a row or of a column, and so is in no variance plane as what it is for a sum over
many of them. It is measured once, in differences of neighbouring integrations less what the template says about them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.correlated import (
    LineNoise,
    Tally,
    excess_of_groups,
    excess_variance,
    line_noise,
    line_tally,
    subtracted_variance,
    sum_weights,
)
from tso3.core.lines import make_lines
from tso3.core.template import Template, subtract_terms
from tso3.core.weighted import GroupWeights
from tso3.io.convert import valid_frames
from tso3.steps.extraction_plan import Extract1DPlan
from tso3.steps.outlier_detection import OutlierPlan
from tso3.steps.residual_background import BackgroundPlan, is_sought, light_of, line_numbers, units_along

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.reader import Reader

__all__ = ["CorrelatedNoise", "SharedBySpectrum", "measure", "spectral_weights"]

_PLANES = ("SCI", "ERR", "DQ")
_KINDS = ("row", "column")
_PIXELS = 4_000_000
"""Pixels of all pairs that are looked at; between 8 and the parameter's number of pairs."""
_FEWEST_PAIRS = 8
_TELLING = 2**18
"""Pixels of larger frames from which the levels are taken: some 100 bytes each, while this is measured."""
_DARK = 10.0
"""Light of the star over the noise of a pixel above which it tells nothing here."""
_STILL = 0.1
"""What star and telescope change a pixel by, over its noise, above which it tells nothing here: what derivatives lack
of an undersampled image that moves is common to the pixels of a line as well."""


@dataclass(frozen=True)
class CorrelatedNoise:
    """
    What is common to the pixels of the lines of an exposure.

    Attributes
    ----------
    line : dict of str to ndarray of int32, shape (ny, nx)
        Number of each pixel's row, and of its column.
    unit : ndarray of float32, shape (ny, nx)
        What a level of 1 adds to a pixel.
    found : dict of str to LineNoise
        What was measured of them.
    noise : ndarray of float32, shape (ny, nx)
        Steady noise of a pixel.
    removed : BackgroundPlan or None
        How levels of one kind are removed before anything is summed.
    removed_kind : str
        Which; empty if none.
    """

    line: dict[str, NDArray[np.int32]]
    unit: NDArray[np.float32]
    found: dict[str, LineNoise]
    noise: NDArray[np.float32]
    removed: BackgroundPlan | None = None
    removed_kind: str = ""

    def variance_of(self, weights: NDArray[np.float64]) -> float:
        """
        Return what a sum scatters in time beyond the variances of its pixels.

        Parameters
        ----------
        weights : ndarray, shape (ny, nx)
            What each pixel counts in the sum.

        Returns
        -------
        variance : float
            Of rows and of columns, each not below zero.
        """
        total = 0.0
        for kind, line in self.line.items():
            variance = self.found[kind].believed
            if variance == 0.0:
                continue
            if kind == self.removed_kind and self.removed is not None and self.removed.lines.pixel.size:
                own, together = self.removed.lines, self.removed.together
                total += max(subtracted_variance(own, together, self.noise, weights, variance), 0.0)
            else:
                total += max(excess_variance(line, self.unit, weights, variance), 0.0)
        return total

    def variances_of(self, weights: NDArray[np.float64], group: NDArray[np.int64], n_group: int) -> NDArray[np.float64]:
        """
        Return `variance_of` of several sums of pixels that do not overlap.

        Parameters
        ----------
        weights : ndarray, shape (ny, nx)
            What each pixel counts in its sum.
        group : ndarray of int64, shape (ny, nx)
            The sum a pixel is part of; -1 for none.
        n_group : int
            Number of sums.

        Returns
        -------
        variances : ndarray of float64, shape (n_group,)
        """
        if self.removed is not None:
            sums = (np.where(group == k, weights, 0.0) for k in range(n_group))
            return np.array([self.variance_of(each) for each in sums])
        total = np.zeros(n_group)
        for kind, line in self.line.items():
            if (variance := self.found[kind].believed) > 0.0:
                excess = excess_of_groups(line, self.unit, weights, group, n_group)
                total += variance * np.maximum(excess, 0.0)
        return total


@dataclass(frozen=True)
class SharedBySpectrum:
    """
    The noise that pixels share, as a spectrum holds it.

    Attributes
    ----------
    noise : CorrelatedNoise
        Of its exposure.
    plan : Extract1DPlan
        How it is extracted.
    """

    noise: CorrelatedNoise
    plan: Extract1DPlan

    def variances(self, weights: GroupWeights) -> NDArray[np.float64]:
        """
        Return what it adds to the variances of the brightness of groups of wavelengths, shape (n_group,).

        Parameters
        ----------
        weights : GroupWeights
            As of `tso3.core.weighted.group_brightness`.
        """
        used = weights.group >= 0
        factor = np.zeros(weights.factor.size)
        factor[used] = weights.factor[used] / weights.whole[weights.group[used]]
        shape = self.noise.unit.shape
        pixels = spectral_weights(self.plan, factor, shape)
        along = np.full(shape[0] if self.plan.turned else shape[1], -1, np.int64)
        along[self.plan.box.start + self.plan.columns[used]] = weights.group[used]
        group = np.broadcast_to(along[:, np.newaxis] if self.plan.turned else along, shape)
        return self.noise.variances_of(pixels, group, weights.n_group)


def measure(
    exposure: Exposure,
    reader: Reader,
    outliers: OutlierPlan | None,
    n_pairs: int,
    bad_pixels: NDArray[np.bool_] | None = None,
    removed: tuple[str, BackgroundPlan | None] = ("", None),
    workers: int = 1,
) -> CorrelatedNoise | None:
    """
    Return what is common to the lines of an exposure.

    Parameters
    ----------
    exposure : Exposure
        What is looked at.
    reader : Reader
        Of this exposure.
    outliers : OutlierPlan or None
        With the template and its coefficients.
    n_pairs : int
        Pairs of neighbouring integrations that are looked at, at most; 0 for none.
    bad_pixels : ndarray of bool, shape (ny, nx), optional
        Pixels that the user calls bad.
    removed : (str, BackgroundPlan or None), optional
        Kind of the levels that are removed, and how.
    workers : int, optional
        Threads.

    Returns
    -------
    found : CorrelatedNoise or None
        None without a template, or with fewer than three integrations.
    """
    judge = None if outliers is None else outliers.judge
    if judge is None or n_pairs == 0 or exposure.n_int < 3:
        return None
    unit = units_along(exposure, reader)
    noise = judge.template.noise
    if bad_pixels is not None:
        noise = np.where(bad_pixels, np.float32(np.nan), noise)
    with np.errstate(invalid="ignore"):
        dark = np.abs(light_of(judge.template, unit)) < _DARK * noise
        dark &= _change(judge.template, judge.coefficients) < _STILL * noise
    if (step := -(-dark.size // _TELLING)) > 1:
        dark &= np.indices(dark.shape).sum(axis=0) % step == 0
    lines = {kind: make_lines(line_numbers(exposure, kind), unit, noise, dark) for kind in _KINDS}
    n = min(n_pairs, exposure.n_int - 1, max(_FEWEST_PAIRS, _PIXELS // (exposure.ny * exposure.nx)))
    first = np.unique(np.linspace(0, exposure.n_int - 2, n).astype(np.int64))
    coefficients = judge.coefficients.copy()
    coefficients[:, [is_sought(name) for name in judge.template.names]] = 0.0

    def tally(i: int) -> list[Tally | None]:
        frame = _difference(reader, judge.template, coefficients, i)
        return [line_tally(each, frame) for each in lines.values()]

    with ThreadPoolExecutor(workers, thread_name_prefix="tso3") as pool:
        tallies = list(pool.map(tally, first.tolist()))
    found = {
        kind: line_noise([each for each in of_pairs if each is not None])
        for kind, of_pairs in zip(lines, zip(*tallies, strict=True), strict=True)
    }
    numbers = {kind: each.line for kind, each in lines.items()}
    return CorrelatedNoise(numbers, lines["row"].unit, found, judge.template.noise, removed[1], removed[0])


def _change(template: Template, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return by how much the terms of star and telescope change each pixel from integration to integration."""
    scatter = np.nanstd(np.diff(coefficients, axis=0), axis=0) * np.sqrt(0.5)
    total = np.zeros_like(template.noise)
    for name, image, size in zip(template.names, template.images, scatter, strict=True):
        if not is_sought(name):
            total += (np.float32(size) * image) ** 2
    return np.sqrt(total)


def _difference(reader: Reader, template: Template, coefficients: NDArray[np.float64], i: int) -> NDArray[np.float32]:
    """Return what the template leaves of the difference of two neighbours, with the noise of one integration."""
    exposure = reader.exposure
    top_bit = exposure.segments[0].planes["DQ"].top_bit
    frame = np.empty((2, exposure.ny, exposure.nx), np.float32)
    err = np.empty(frame.shape, np.float32)
    valid_frames(reader.read(i, i + 2, _PLANES), frame, err, top_bit=top_bit)
    difference = frame[1:] - frame[:1]
    subtract_terms(template.images, coefficients[i + 1 : i + 2] - coefficients[i : i + 1], difference)
    return difference[0] * np.float32(np.sqrt(0.5))


def spectral_weights(
    plan: Extract1DPlan, factor: NDArray[np.float64], shape: tuple[int, int], optimally: bool = True
) -> NDArray[np.float64]:
    """
    Return what each pixel counts in a weighted sum of the flux over wavelength.

    Parameters
    ----------
    plan : Extract1DPlan
        How the spectrum is extracted.
    factor : ndarray of float64, shape (n_wave,)
        What the flux of each wavelength counts.
    shape : (int, int)
        Of the detector's frame.
    optimally : bool, optional
        Whether optimal weights count where there are any; else those of the box.

    Returns
    -------
    weights : ndarray, shape ``shape``
        In the orientation of the detector.
    """
    whole = np.zeros(plan.box.npixels.size)
    calibration = 1.0 if plan.calibration is None else plan.calibration
    correction = 1.0 if plan.nominal is None else plan.nominal
    np.add.at(whole, plan.columns, np.nan_to_num(factor * plan.units.flux * calibration * correction))
    box = plan.box if plan.optimal is None or not optimally else plan.optimal.weights
    turned = sum_weights(box, whole, shape[::-1] if plan.turned else shape)
    return turned.T if plan.turned else turned
