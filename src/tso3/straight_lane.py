"""Spectra from rectified frames: what changes in the lane of an exposure that has been prepared as usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.rectified_sums import typical_variance
from tso3.errors import ParameterError
from tso3.lane import Setting
from tso3.spectral_lane import SpectralLane
from tso3.steps import correlated_noise, extract_rectified
from tso3.steps.rectify import RectifyPlan
from tso3.steps.white_light import WhiteLightCurve
from tso3.steps.white_light_normalized import SteadyLight

__all__ = ["check", "extract_from"]

_FROM = "extract_1d.from"
Straight = extract_rectified.RectifiedExtraction


def check(setting: Setting) -> None:
    """
    Raise an error if spectra are to be extracted from rectified frames, and cannot be.

    Parameters
    ----------
    setting : Setting
        What the run was asked to do.

    Raises
    ------
    ParameterError
        For images, MIRI's MRS, optimal extraction, and what changes the frames before extraction.
    """
    parameters, mode = setting.parameters, setting.observation.mode
    if not parameters.extract_1d.rectified:
        return
    reasons = {
        f"{mode.exp_type} has no spectrum in one straight frame": mode.is_imaging or mode.exp_type == "MIR_MRS",
        "extraction_type = optimal weighs pixels of the detector": parameters.extract_1d.extraction_type == "optimal",
        "pixel_replace fills the frames before": not parameters.pixel_replace.skip,
        "soss_infill, soss_background or soss_variance change the frames as the archive does": mode.exp_type
        == "NIS_SOSS"
        and (
            parameters.extract_1d.soss_infill != "none"
            or parameters.extract_1d.soss_background != "region"
            or parameters.extract_1d.soss_variance != "squared"
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise ParameterError(f"rectified is not possible: {reason}; set it to exposure", _FROM)


def extract_from(lane: SpectralLane, plans: Sequence[tuple[int, RectifyPlan]]) -> None:
    """
    Extract the spectra of an exposure from its rectified frames; its recipe is changed.

    Parameters
    ----------
    lane : SpectralLane
        Prepared for extraction from the detector.
    plans : sequence of (int, RectifyPlan)
        How its spectra are rectified, by spectral order.

    Raises
    ------
    ParameterError
        If one of its spectra cannot be rectified, or its box does not fit.
    """
    parameters = lane.setting.parameters
    by_order = dict(plans)
    straight = []
    for source in lane.plans:
        order = source.header.spectral_order
        if order not in by_order:
            raise ParameterError(f"order {order} of {lane.exposure.label} cannot be rectified; use exposure", _FROM)
        offset = parameters.extract_1d.position_offset
        straight.append(extract_rectified.prepare(source, by_order[order], lane.model, offset))
    noise = None if parameters.white_light.skip else lane.shared
    curves, spreads = [], []
    for each in straight:
        curve, factor = _curve(lane, each)
        curves.append(curve)
        spreads.append(factor)
        if noise is not None:
            for light in (curve, curve.normalized):
                if light is not None:
                    light.correlated = noise.variance_of(_weights(each, light.factors))
    recipe = lane.recipe
    kept = recipe.fixed_bytes + sum(each.light.nbytes + each.aperture.nbytes + each.reach.nbytes for each in straight)
    lane.recipe = replace(
        recipe,
        plans=tuple(each.plan for each in straight),
        curves=tuple(curves),
        straight=tuple(straight),
        spreads=tuple(spreads),
        fixed_bytes=kept,
    )


def _curve(lane: SpectralLane, straight: Straight) -> tuple[WhiteLightCurve, float]:
    """Return the empty light curve of a spectrum, and what covariance makes of its variance."""
    model, light = lane.model, lane.setting.parameters.white_light
    plain = lane.curve_of(straight.plan, None)
    steady = None if model is None else extract_rectified.steady_spectra(straight, model)
    if model is None or steady is None or light.skip:
        return plain, 1.0
    variance = steady.flux_var_poisson[0]
    factor = _spread(straight, plain.factors, variance, lane)
    if not light.normalized or straight.plan.expected is None:
        return plain, factor
    return lane.curve_of(straight.plan, SteadyLight(straight.plan.expected, variance * factor)), factor


def _spread(
    straight: Straight, factors: NDArray[np.float64], variance: NDArray[np.float64], lane: SpectralLane
) -> float:
    """Return the variance of the sum over wavelength over the sum of the variances of its columns."""
    known = np.isfinite(variance)
    weights = _weights(straight, np.where(known, factors, 0.0))
    pixels = typical_variance(lane.model, straight.rectify.rectifier)
    separate = float((factors[known] ** 2 * variance[known]).sum())
    return float((weights**2 * pixels).sum()) / separate if separate > 0.0 else 1.0


def _weights(straight: Straight, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each pixel of the detector counts in a weighted sum of the flux over wavelength."""
    shape = straight.rectifier.shape
    return straight.input_weights(correlated_noise.spectral_weights(straight.plan, factors, shape))
