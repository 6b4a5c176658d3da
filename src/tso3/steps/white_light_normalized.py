"""
The white light that noisy wavelengths cannot dominate: the brightness of the star, weighted by steady variances.

Weights are the same in every integration, so are the wavelengths: what a sample that is not valid would have added is
taken from its neighbours (see `tso3.core.weighted`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.core.spectra import Spectra
from tso3.core.weighted import GroupWeights, baseline_level, common, equal_groups, group_brightness, weigh
from tso3.errors import ParameterError
from tso3.io.exposure import Exposure, Observation
from tso3.parameters import Parameters, integration_ranges
from tso3.steps import extract_1d

if TYPE_CHECKING:
    from tso3.io.spectra_rows import SpectrumRows

__all__ = [
    "NormalizedCurve",
    "SteadyLight",
    "baseline_integrations",
    "check_baseline",
    "columns",
    "joined",
    "sampled_light",
    "steady_light",
]

_GROUPS = 16
"""Groups of neighbouring wavelengths, of equal light, within which a missing sample is taken from the others."""
_END = 10
"""Part of the exposure at each end that the baseline is taken from: a tenth."""
_FEWEST = 3
_VALUES = ("value", "variance", "limit_variance")


@dataclass(frozen=True)
class SteadyLight:
    """
    What a spectrum is expected to be, and how much it scatters.

    Attributes
    ----------
    expected : ndarray of float64, shape (n_wave,)
        Steady spectrum, unit of the flux; NaN where unknown.
    variance : ndarray of float64, shape (n_wave,)
        Steady variance of a sample; NaN where unknown.
    """

    expected: NDArray[np.float64]
    variance: NDArray[np.float64]


def steady_light(plan: extract_1d.Extract1DPlan, model: ExposureModel | None) -> SteadyLight | None:
    """
    Return the steady spectrum of an exposure and its steady variance: those of its reference image, extracted.

    Parameters
    ----------
    plan : Extract1DPlan
        How spectra of the exposure are extracted.
    model : ExposureModel or None
        From the survey.

    Returns
    -------
    light : SteadyLight or None
        None without a survey. The variance is that of the extracted reference image, the fit of the background and the
        completion of pixels that are always bad included.
    """
    if model is None or plan.expected is None or model.noise is None:
        return None
    image = model.reference.astype(np.float32)[np.newaxis]
    noise = (model.noise.astype(np.float64) ** 2).astype(np.float32)[np.newaxis]
    bad = ~(np.isfinite(image) & np.isfinite(noise))
    if model.unsteady is not None:
        bad |= model.unsteady
    image, noise = np.where(bad, np.float32(np.nan), image), np.where(bad, np.float32(np.nan), noise)
    frame = Block(0, image, None, None, bad, noise, np.zeros_like(noise), None)
    spectra = extract_1d.run(plan, frame)
    return SteadyLight(plan.expected, spectra.flux_var_poisson[0])


def sampled_light(spectrum: SpectrumRows, path: Path, n_sample: int) -> SteadyLight:
    """
    Return the steady spectrum and variance of spectra that are there already: medians of a sample of integrations.

    Parameters
    ----------
    spectrum : SpectrumRows
        Of one exposure and order.
    path : Path
        Where they are.
    n_sample : int
        Integrations to be looked at, at most.

    Returns
    -------
    light : SteadyLight
    """
    sample = spectrum.sample(path, n_sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a wavelength without any valid sample: NaN is right
        variance = np.nanmedian(sample.flux_var_poisson + sample.flux_var_rnoise, axis=0)
        return SteadyLight(np.nanmedian(sample.flux, axis=0), variance)


def baseline_integrations(baseline: str, exposure: Exposure, parameter: str = "white_light.baseline") -> NDArray[Any]:
    """
    Return the integrations whose median a light curve is divided by.

    Parameters
    ----------
    baseline : str
        ``"ends"``, ``"all"``, or ranges of INT_NUM.
    exposure : Exposure
        Has the numbers of its integrations.
    parameter : str, optional
        Its name, for the message.

    Returns
    -------
    chosen : ndarray of bool, shape (n_int,)

    Raises
    ------
    ParameterError
        If the ranges hold none of them.
    """
    number = exposure.times.int_num
    n = exposure.n_int
    if baseline == "all":
        return np.ones(n, dtype=bool)
    if baseline == "ends":
        size = max(n // _END, min(_FEWEST, n))
        index = np.arange(n)
        return (index < size) | (index >= n - size)
    chosen = np.zeros(n, dtype=bool)
    for first, last in integration_ranges(baseline):
        chosen |= (number >= first) & (number <= last)
    if not chosen.any():
        raise ParameterError(
            f"{baseline} holds none of the integrations of {exposure.label}, which are {number.min()} to"
            f" {number.max()}",
            parameter,
        )
    return chosen


def check_baseline(observation: Observation, parameters: Parameters) -> None:
    """
    Raise if the baseline holds no integration of an exposure whose light is divided by it, before anything is read.

    Parameters
    ----------
    observation : Observation
        Images have no such light.
    parameters : Parameters
        Of all steps.

    Raises
    ------
    ParameterError
        If there is none.
    """
    wanted = not parameters.white_light.skip or parameters.channels.spec is not None
    if wanted and not observation.mode.is_imaging:
        for exposure in observation.exposures:
            baseline_integrations(parameters.white_light.baseline, exposure)


class NormalizedCurve:
    """
    The brightness of one exposure in one order, filled as blocks finish.

    Parameters
    ----------
    light : SteadyLight
        Gives the weights.
    wavelength : ndarray of float, shape (n_wave,)
        Micron.
    inside : ndarray of bool, shape (n_wave,)
        Wavelengths of the band.
    baseline : ndarray of bool, shape (n_int,)
        Integrations whose median is 1.

    Attributes
    ----------
    value, variance, limit_variance : ndarray of float64, shape (n_int,)
        Brightness in units of the steady spectrum, the variance of photon and read noise, and that without missing
        pixels and samples. NaN where nothing was valid.
    whole : float
        Sum of the squares of signal over noise: the weight of the whole curve beside others.
    baseline : ndarray of bool, shape (n_int,)
        As given.
    correlated : float or None
        Variance of the value by noise that its pixels share; None where it was not measured.
    effective_wavelength : float
        Mean wavelength with these weights [micron]; NaN if there is none.
    """

    def __init__(
        self,
        light: SteadyLight,
        wavelength: NDArray[np.float64],
        inside: NDArray[np.bool_],
        baseline: NDArray[np.bool_],
    ) -> None:
        one = weigh(light.expected, light.variance, np.where(inside, 0, -1), 1)
        group = equal_groups(one, wavelength, _GROUPS)
        self.weights: GroupWeights = weigh(light.expected, light.variance, group, _GROUPS)
        self.baseline = baseline
        self.correlated: float | None = None
        self.whole = float(one.whole[0])
        used = one.group == 0
        self.effective_wavelength = (
            float((one.light[used] * wavelength[used]).sum() / self.whole) if self.whole > 0.0 else float("nan")
        )
        self.value, self.variance, self.limit_variance = (np.full(baseline.size, np.nan) for _ in range(3))

    @property
    def factors(self) -> NDArray[np.float64]:
        """What the flux of each wavelength counts in the value, shape (n_wave,)."""
        whole = float(self.weights.whole.sum())
        return self.weights.factor / whole if whole > 0.0 else np.zeros_like(self.weights.factor)

    def add(self, spectra: Spectra) -> None:
        """Take the spectra of a block; safe from several threads, since each block has its own integrations."""
        here = slice(spectra.start, spectra.stop)
        whole = self.weights.whole
        temporal = spectra.flux_var_poisson + spectra.flux_var_rnoise
        found = group_brightness(spectra.flux, temporal, self.weights)
        ideal = group_brightness(spectra.flux, spectra.flux_var_limit, self.weights)
        mean = common(found.value, found.variance, whole)
        limit = common(ideal.value, ideal.variance * ideal.kept, whole)
        self.value[here], self.variance[here] = mean.value[:, 0], mean.variance[:, 0]
        self.limit_variance[here] = limit.variance[:, 0] * limit.kept[:, 0]

    def part(self, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        """Return what is known of the integrations ``start`` to ``stop``."""
        return {f"normalized_{name}": getattr(self, name)[start:stop].copy() for name in _VALUES}

    def put(self, start: int, stop: int, values: Mapping[str, NDArray[np.float64]]) -> None:
        """Take what another curve of the same spectra knows of some integrations."""
        for name in _VALUES:
            getattr(self, name)[start:stop] = values[f"normalized_{name}"]

    @property
    def level(self) -> float:
        """Median brightness of the baseline; NaN where it is not known."""
        return baseline_level(self.value, self.baseline)


def joined(curves: Sequence[NormalizedCurve | None]) -> NormalizedCurve | None:
    """
    Return the common brightness of several spectra of the same integrations (stripes), as if they were one.

    Parameters
    ----------
    curves : sequence of NormalizedCurve or None
        At least one.

    Returns
    -------
    curve : NormalizedCurve or None
        None if one of them is; NaN in integrations in which one is.
    """
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(curves):
        return None
    whole = np.array([curve.whole for curve in known])
    known, whole = [curve for curve in known if curve.whole > 0.0] or known, whole[whole > 0.0]
    share = whole / whole.sum() if whole.size else np.full(len(known), np.nan)
    empty = SteadyLight(np.empty(0), np.empty(0))
    sum_ = NormalizedCurve(empty, np.empty(0), np.empty(0, bool), known[0].baseline)
    sum_.whole = float(whole.sum())
    sum_.effective_wavelength = float(
        sum(s * curve.effective_wavelength for s, curve in zip(share, known, strict=True))
    )
    sum_.value = sum((s * curve.value / curve.level for s, curve in zip(share, known, strict=True)), start=0.0)
    for name in _VALUES[1:]:
        parts = (s**2 * getattr(curve, name) / curve.level**2 for s, curve in zip(share, known, strict=True))
        setattr(sum_, name, sum(parts, start=0.0))
    if all(curve.correlated is not None for curve in known):
        parts = (s**2 * (curve.correlated or 0.0) / curve.level**2 for s, curve in zip(share, known, strict=True))
        sum_.correlated = float(sum(parts, start=0.0))
    return sum_


def columns(curve: NormalizedCurve) -> dict[str, NDArray[np.float64]]:
    """
    Return the columns of a curve, by the first part of their names.

    Parameters
    ----------
    curve : NormalizedCurve
        Complete.

    Returns
    -------
    columns : dict of str to ndarray of float64, shape (n_int,)
        The curve divided by its baseline, its error, its photon limit, and, where it was measured, the part of the
        error by noise that pixels share.
    """
    level, shared = curve.level, curve.correlated
    found = {
        "whitelight_normalized": curve.value / level,
        "whitelight_normalized_error": np.sqrt(curve.variance + (shared or 0.0)) / level,
        "whitelight_normalized_limit": np.sqrt(curve.limit_variance) / level,
    }
    if shared is not None:
        found["whitelight_normalized_error_correlated"] = np.full(curve.value.size, np.sqrt(shared) / level)
    return found
