"""
Residual background: what a column, a row or a whole frame is above or below the prediction, away from the star.

Read noise that the pixels of a line share (1/f noise), and a background that changes, shift whole lines of an
integration. The template (`tso3.steps.template`) says what the integration should look like; what is left of it in the
pixels that hold little light gives the level of each line, which is subtracted before photometry and extraction.
Nothing of this reaches the ``crfints`` products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import column_medians
from tso3.core.lines import LineLevels, Lines, line_levels, make_lines
from tso3.core.template import Template, subtract_terms
from tso3.errors import ParameterError
from tso3.parameters import ResidualBackground
from tso3.steps.outlier_detection import OutlierPlan, TemplateJudge

if TYPE_CHECKING:
    from tso3.core.block import Block
    from tso3.io.exposure import Exposure
    from tso3.io.reader import Reader

__all__ = ["BackgroundPlan", "is_sought", "light_of", "line_numbers", "prepare", "run", "units_along"]

_LOOKED_AT = 9
"""Integrations of which the read noise is looked at."""
_OUTPUTS = 4
_UNKNOWN, _LACKING = 1.0, 0.0
"""What the prediction of the star's light may lack in a line that holds one wavelength, and in one that holds all."""
_FULL_WIDTH = 2048
PLAN_BYTES = 240
"""Per pixel: lines, units, weights, up to 20 terms in double precision, and a frame of residuals."""


@dataclass(frozen=True)
class BackgroundPlan:
    """
    How the residual background of an exposure is removed.

    Attributes
    ----------
    judge : TemplateJudge
        The template with its coefficients in every integration.
    coefficients : ndarray of float64, shape (n_int, n_terms)
        The same without those of the background, which is what is looked for, and of the learned components.
    lines : Lines
        Which pixels tell the level of which line.
    together : ndarray of float32, shape (ny, nx)
        Pixels of a line that are summed with a pixel: the variance of a level counts so many times.
    """

    judge: TemplateJudge
    coefficients: NDArray[np.float64]
    lines: Lines
    together: NDArray[np.float32]


def prepare(
    exposure: Exposure,
    reader: Reader,
    parameters: ResidualBackground,
    outliers: OutlierPlan | None,
    aperture: NDArray[np.floating] | None = None,
    subtracted_later: bool = False,
) -> BackgroundPlan | None:
    """
    Return how the residual background of an exposure is removed, None if it is not.

    Parameters
    ----------
    exposure : Exposure
        Tells where the dispersion runs.
    reader : Reader
        Of the exposure; the read noise of a few integrations is looked at.
    parameters : ResidualBackground
        The step's parameters.
    outliers : OutlierPlan or None
        With the template and its coefficients.
    aperture : ndarray, shape (ny, nx), optional
        Weights with which pixels are summed; by default all are.
    subtracted_later : bool, optional
        Whether a background of their own is subtracted from these sums: what is common to a sum then cancels, with its
        variance.

    Returns
    -------
    plan : BackgroundPlan or None

    Raises
    ------
    ParameterError
        If there is no template.
    """
    if parameters.background == "none":
        return None
    if outliers is None or outliers.judge is None:
        raise ParameterError(
            f"{parameters.background} needs the template of outlier detection to know what is not background, and there"
            " is none for this exposure; set outlier_detection.method = template and do not skip it, or background ="
            " none",
            "residual_background.background",
        )
    judge = outliers.judge
    template = judge.template
    unit = units_along(exposure, reader)
    light = light_of(template, unit)
    bright = np.abs(light) > parameters.threshold * template.noise
    weights = np.ones(bright.shape) if aperture is None else aperture
    line = line_numbers(exposure, parameters.background)
    along = {"region": 0, "row": 1, "column": 2}[parameters.background]
    if exposure.dispersion_axis not in (0, along) or exposure.mode.infrared == "mid":
        # one wavelength in a line, or a sky as bright as the star: not told from a level
        lines = make_lines(line, unit, template.noise, ~(bright | (weights > 0.0)), light, _UNKNOWN)
    else:
        terms = template.images[[name != "background" for name in template.names]]
        lines = make_lines(line, unit, template.noise, ~bright, light, _LACKING, terms)
    coefficients = judge.coefficients.copy()
    sought = [is_sought(name) for name in template.names]
    coefficients[:, sought] = 0.0  # levels that are strong may have been learned as components
    return BackgroundPlan(judge, coefficients, lines, _together(exposure, line, weights, subtracted_later))


def run(plan: BackgroundPlan | None, block: Block) -> None:
    """
    Subtract the residual background of a block.

    Parameters
    ----------
    plan : BackgroundPlan or None
        Of the exposure; with None nothing is done.
    block : Block
        Whole frames. Modified: the data, and the variances and errors, to which those of the levels are added.

    Notes
    -----
    Every integration is worked on by itself: nothing depends on where the block begins or ends.
    """
    if plan is None:
        return
    names = [name for name in ("var_poisson", "var_rnoise", "var_flat") if getattr(block, name) is not None]
    residual = np.empty((1, *block.data.shape[1:]), np.float32)
    for k in range(block.n_int):
        residual[0] = block.data[k]
        coefficients = plan.coefficients[block.start + k : block.start + k + 1]
        subtract_terms(plan.judge.template.images, coefficients, residual)
        planes = [getattr(block, name)[k] for name in names]
        found = line_levels(plan.lines, residual[0], tuple(planes))
        _subtract(plan, found, block.data[k], planes, None if block.err is None else block.err[k])


def _subtract(
    plan: BackgroundPlan,
    found: LineLevels,
    data: NDArray[np.float32],
    planes: list[NDArray[np.float32]],
    err: NDArray[np.float32] | None,
) -> None:
    """Subtract levels from an integration and add their variances, in place."""
    line, unit = plan.lines.line, plan.lines.unit
    data -= found.level.astype(np.float32)[line] * unit
    square = unit * unit * plan.together
    for plane, variance in zip(planes, found.variance, strict=True):
        plane += variance.astype(np.float32)[line] * square
    if err is not None and planes:
        total = found.variance.sum(axis=0).astype(np.float32)
        np.sqrt(err * err + total[line] * square, out=err)


def is_sought(name: str) -> bool:
    """Return whether a term of the template may hold levels of lines, and is no part of what the star does."""
    return name == "background" or name.startswith("learned")


def light_of(template: Template, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the star's light: the reference image less its darkest quarter, which is even in the unit of a level."""
    light: NDArray[np.float32] = template.images[0] - unit * _floor(template.images[0] / unit, template.noise)
    return light


def _floor(image: NDArray[np.float32], noise: NDArray[np.float32]) -> float:
    """Return the level of the darkest quarter of an image: what is not the star's light."""
    known = image[np.isfinite(noise) & np.isfinite(image)]
    return float(np.percentile(known, 12.5)) if known.size else 0.0


def line_numbers(exposure: Exposure, kind: str) -> NDArray[np.int32]:
    """Return the line of each pixel; a row of a stripe that four amplifiers read is four lines."""
    shape = (exposure.ny, exposure.nx)
    y, x = (np.broadcast_to(index, shape).astype(np.int32) for index in np.ogrid[: shape[0], : shape[1]])
    if kind == "region":
        return np.zeros(shape, np.int32)
    if kind == "column":
        return x
    if exposure.header("NOUTPUTS") != _OUTPUTS or exposure.nx != _FULL_WIDTH:
        return y
    width = _FULL_WIDTH // _OUTPUTS
    return (y * _OUTPUTS + x // width).astype(np.int32)


def units_along(exposure: Exposure, reader: Reader) -> NDArray[np.float32]:
    """
    Return what a level of 1 adds to each pixel: the flux calibration, which noise of the detector has gone through.

    It is seen in the read noise, which is about the same for all pixels before it: the root of the median variance
    across dispersion. For images it is 1.
    """
    shape = (exposure.ny, exposure.nx)
    axis = exposure.dispersion_axis
    if axis == 0 or "VAR_RNOISE" not in exposure.planes:
        return np.ones(shape, np.float32)
    chosen = np.unique(np.linspace(0, exposure.n_int - 1, _LOOKED_AT).astype(int))
    variance = np.array(
        [reader.native(reader.read(int(i), int(i) + 1, ("VAR_RNOISE",))["VAR_RNOISE"])[0] for i in chosen]
    )
    variance[~np.isfinite(variance)] = np.nan
    across = variance.reshape(-1, shape[1]) if axis == 1 else variance.transpose(0, 2, 1).reshape(-1, shape[0])
    along = np.sqrt(column_medians(across))
    along = along / np.nanmedian(along) if np.isfinite(along).any() else np.ones_like(along)
    return np.broadcast_to(along if axis == 1 else along[:, None], shape).astype(np.float32)


def _together(
    exposure: Exposure, line: NDArray[np.int32], weights: NDArray[np.floating], subtracted_later: bool
) -> NDArray[np.float32]:
    """
    Return how many pixels of its line are summed with each pixel: those across dispersion, or of an image all.

    0 if the line holds the whole sum and a background is subtracted from it later.
    """
    axis = exposure.dispersion_axis
    along = {0: np.zeros_like(line), 1: np.arange(line.shape[1]), 2: np.arange(line.shape[0])[:, None]}[axis]
    sums = np.broadcast_to(along, line.shape)
    key = line.astype(np.int64) * (max(line.shape) + 1) + sums
    number = np.unique(key, return_inverse=True)[1].reshape(line.shape)
    if subtracted_later and number.max() == sums.max():
        return np.zeros(line.shape, np.float32)
    count = np.bincount(number.ravel(), weights.ravel())
    return np.maximum(count[number], 1.0).astype(np.float32)
