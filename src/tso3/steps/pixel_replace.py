"""
Bad pixels replaced by estimates, between outlier detection and extraction; ``crfints`` are written before.

The kernels are in `tso3.core.repair`; this step decides what they are given and turns spectra that run along y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.core.repair import DqBits, expected_image, fit_profile, mingrad, time_profile
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.parameters import PixelReplace

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.steps.extraction_plan import Extract1DPlan

__all__ = ["PixelReplacePlan", "prepare", "run"]


@dataclass(frozen=True)
class PixelReplacePlan:
    """
    What replacement needs to know about an exposure, once.

    Attributes
    ----------
    parameters : PixelReplace
        The step's parameters.
    turned : bool
        True if dispersion runs along y.
    bits : DqBits
        Values of the quality bits.
    expected : ndarray of float64, shape (n_rows, n_wave), or None
        Image of the exposure, dispersion along the last axis, for ``time_profile``.
    aperture : ndarray of float64, shape (n_rows, n_wave), or None
        Largest weight of each pixel in any spectrum of the exposure.
    """

    parameters: PixelReplace
    turned: bool
    bits: DqBits
    expected: NDArray[np.float64] | None
    aperture: NDArray[np.float64] | None


def prepare(
    exposure: Exposure,
    parameters: PixelReplace,
    model: ExposureModel | None,
    spectra: Sequence[Extract1DPlan] = (),
) -> PixelReplacePlan | None:
    """
    Return the plan of an exposure, None if the step is skipped.

    Parameters
    ----------
    exposure : Exposure
        Whose pixels are replaced.
    parameters : PixelReplace
        The step's parameters.
    model : ExposureModel or None
        Its reference image is what ``time_profile`` scales.
    spectra : sequence of Extract1DPlan, optional
        What will be extracted: the variances of ``time_profile`` are right for sums over these apertures. By default
        for sums over whole columns.

    Returns
    -------
    plan : PixelReplacePlan or None

    Raises
    ------
    ParameterError
        For ``time_profile`` without a survey.
    """
    if parameters.skip:
        return None
    turned = exposure.dispersion_axis == 2
    expected, aperture = None, None
    if parameters.algorithm == "time_profile":
        if model is None:
            raise ParameterError(
                "time_profile scales the reference image of the survey, and survey.n_sample = 0 makes none; give a"
                " sample of at least 1, or the algorithm mingrad or fit_profile",
                "pixel_replace.algorithm",
            )
        expected = expected_image(model.reference.T if turned else model.reference)
        aperture = _aperture(expected.shape, spectra)
    flags = pixel_flags()
    bits = DqBits(flags["DO_NOT_USE"], flags["NON_SCIENCE"], flags["FLUX_ESTIMATED"])
    return PixelReplacePlan(parameters, turned, bits, expected, aperture)


def run(plan: PixelReplacePlan, block: Block) -> Block:
    """
    Return a block with bad pixels replaced.

    Parameters
    ----------
    plan : PixelReplacePlan
        Of its exposure.
    block : Block
        Whole frames in detector orientation, with ``err`` and ``dq``. Not modified.

    Returns
    -------
    replaced : Block
        New planes in detector orientation, with ``estimated``; integrations do not depend on where the block begins or
        ends.
    """
    if plan.parameters.algorithm == "mingrad":  # has no direction: neighbours along x come first, as in jwst
        return mingrad(block, plan.bits)
    upright = _turn(block) if plan.turned else block
    if plan.parameters.algorithm == "fit_profile":
        new = fit_profile(upright, plan.bits, plan.parameters.n_adjacent_cols)
    else:
        assert plan.expected is not None
        new = time_profile(upright, plan.bits, plan.expected, plan.aperture)
    return _turn(new) if plan.turned else new


def _aperture(shape: tuple[int, ...], spectra: Sequence[Extract1DPlan]) -> NDArray[np.float64] | None:
    """Return the largest weight of each pixel in any of the spectra."""
    if not spectra:
        return None
    weights = np.zeros(shape)
    for plan in spectra:
        columns = slice(plan.box.start, plan.box.start + plan.box.npixels.size)
        weights[plan.box.rows, columns] = np.maximum(weights[plan.box.rows, columns], plan.box.aperture)
    return weights


def _turn(block: Block) -> Block:
    """Return a block with rows and columns exchanged; a view."""

    def turned(plane: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if plane is None else plane.swapaxes(1, 2)

    return Block(
        block.start,
        block.data.swapaxes(1, 2),
        turned(block.err),
        turned(block.dq),
        block.mask.swapaxes(1, 2),
        turned(block.var_poisson),
        turned(block.var_rnoise),
        turned(block.var_flat),
        turned(block.estimated),
    )
