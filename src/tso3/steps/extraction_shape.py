"""What extraction knows of the shape of a spectrum: its profile in every integration, and weights of least noise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import BackgroundFit, background_image
from tso3.core.box import BoxPlan
from tso3.core.edge_light import EdgeLight, edge_light
from tso3.core.learning import sample_median
from tso3.core.model import ExposureModel
from tso3.core.moving import MovingProfile, Prediction, moving_profile
from tso3.core.optimal import OptimalPlan, PixelNoise, SteadyImages, plan_optimal
from tso3.core.profile import SpatialProfile, spatial_profile
from tso3.errors import ParameterError
from tso3.parameters import Extract1D
from tso3.steps.extraction_setup import ExtractionSetup
from tso3.steps.outlier_detection import TemplateJudge

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.reader import Reader

__all__ = ["Knowledge", "Steady", "SteadyShapes", "Variances", "check", "edges", "moving", "optimal", "read_variances"]

ShapeOf = Callable[[ExtractionSetup, ExposureModel, bool], "Steady"]

_SAMPLE = 16
"""Integrations whose variances are looked at."""


@dataclass(frozen=True)
class Variances:
    """
    Typical variances of an exposure, in detector orientation.

    Attributes
    ----------
    poisson, rnoise : ndarray of float32, shape (ny, nx)
        Medians of the planes, input unit squared; NaN where unknown.
    """

    poisson: NDArray[np.float32]
    rnoise: NDArray[np.float32]


@dataclass(frozen=True)
class Knowledge:
    """
    What was learned about an exposure before its extraction is planned.

    Attributes
    ----------
    model : ExposureModel or None
        From the survey.
    judge : TemplateJudge or None
        Its template with the coefficients of every integration, where outliers are judged by it.
    variances : Variances or None
        For optimal extraction.
    across : callable
        Gives the motion of the star across dispersion, and its error [pixel], each of shape (n_int,); None if it is
        not known.
    shape_of : callable
        Gives what each spectrum looks like, by default `SteadyShapes`.
    workers : int
        Threads that plan spectra at a time; ``shape_of`` is called by all of them.
    """

    model: ExposureModel | None
    judge: TemplateJudge | None = None
    variances: Variances | None = None
    across: Callable[[], tuple[NDArray[np.float64], NDArray[np.float64]] | None] = lambda: None
    shape_of: ShapeOf = field(default_factory=lambda: SteadyShapes())
    workers: int = 1


def check(exposure: Exposure, parameters: Extract1D, model: ExposureModel | None) -> None:
    """
    Raise an error if optimal extraction is asked for and cannot be done.

    Parameters
    ----------
    exposure : Exposure
        What is extracted.
    parameters : Extract1D
        The step's parameters.
    model : ExposureModel or None
        From the survey.

    Raises
    ------
    ParameterError
        Without a survey, for MIRI's MRS, or with the archive's variances of SOSS.
    """
    if parameters.extraction_type != "optimal":
        return
    if exposure.mode.exp_type == "MIR_MRS":
        raise ParameterError(
            "optimal needs one profile across dispersion, and a row of the detector crosses the slices of MIR_MRS, each"
            f" at another wavelength ({exposure.segments[0].path.name}); set it to box",
            "extract_1d.extraction_type",
        )
    if model is None:
        raise ParameterError(
            "optimal needs the image of the survey, and survey.n_sample = 0 makes none; give a sample of at least 1,"
            " or extraction_type = box",
            "extract_1d.extraction_type",
        )
    if parameters.soss_variance == "linear":
        raise ParameterError(
            "optimal propagates variances by component; set extract_1d.soss_variance = squared, or"
            " extraction_type = box",
            "extract_1d.extraction_type",
        )


def read_variances(exposure: Exposure, reader: Reader, model: ExposureModel) -> Variances:
    """
    Return the typical variances of an exposure.

    Parameters
    ----------
    exposure : Exposure
        Of which.
    reader : Reader
        Of this exposure.
    model : ExposureModel
        Names the sample, of which at most 16 integrations are read.

    Returns
    -------
    variances : Variances
        Where the files have neither plane, the square of the error stands for the read noise.
    """
    indices = model.sample[:: max(1, -(-len(model.sample) // _SAMPLE))]
    present = [name for name in ("VAR_POISSON", "VAR_RNOISE") if name in exposure.segments[0].planes]
    found = {}
    for name in present or ["ERR"]:
        stack = np.empty((len(indices), exposure.ny, exposure.nx), np.float32)
        for k, i in enumerate(indices):
            raw = reader.read(int(i), int(i) + 1, (name,))
            stack[k] = raw[name][0]
        stack[~np.isfinite(stack)] = np.nan
        found[name] = sample_median(stack)[0]
    nothing = np.zeros((exposure.ny, exposure.nx), np.float32)
    rnoise = found["ERR"] ** 2 if not present else found.get("VAR_RNOISE", nothing)
    return Variances(found.get("VAR_POISSON", nothing), rnoise)


@dataclass(frozen=True)
class Steady:
    """
    What a spectrum of an exposure looks like, dispersion along the last axis.

    Attributes
    ----------
    reference : ndarray, shape (n_rows, n_columns)
        Reference image; NaN where unknown.
    background : ndarray or None, shape (n_rows, n_columns)
        Its background; None where none is subtracted.
    profile : SpatialProfile
        Of the image without it.
    turned : bool
        True if dispersion runs along y on the detector.
    n_sample : int
        Integrations that the image was made from.
    """

    reference: NDArray[np.float64]
    background: NDArray[np.float64] | None
    profile: SpatialProfile
    turned: bool
    n_sample: int

    @property
    def net(self) -> NDArray[np.float64]:
        """Reference image without background."""
        return self.reference if self.background is None else self.reference - self.background

    @property
    def light(self) -> NDArray[np.float64]:
        """Light of the reference image in the aperture, bad pixels filled; NaN where unknown."""
        return self.profile.profile * self.profile.spectrum


class SteadyShapes:
    """What spectra of one exposure look like in its reference image; a background that several share is made once."""

    def __init__(self) -> None:
        self._last: tuple[NDArray[np.bool_], BackgroundFit, NDArray[np.float64]] | None = None
        self._lock = threading.Lock()

    def __call__(self, setup: ExtractionSetup, model: ExposureModel, turned: bool) -> Steady:
        """
        Return what a spectrum looks like in the reference image.

        Parameters
        ----------
        setup : ExtractionSetup
            Where the spectrum is.
        model : ExposureModel
            From the survey; the same in all calls.
        turned : bool
            True if dispersion runs along y; the same in all calls.

        Returns
        -------
        steady : Steady
        """
        reference = model.reference.T if turned else model.reference
        background = None if setup.region is None else self._background(reference, setup.region, setup.fit)
        net = reference if background is None else reference - background
        return Steady(reference, background, spatial_profile(net, setup.aperture), turned, len(model.sample))

    def _background(
        self, reference: NDArray[np.float64], region: NDArray[np.bool_], fit: BackgroundFit
    ) -> NDArray[np.float64]:
        with self._lock:
            if self._last is None or self._last[0] is not region or self._last[1] != fit:
                self._last = region, fit, background_image(reference, region, fit)
            return self._last[2]


def moving(known: Knowledge, box: BoxPlan, shape: Steady) -> MovingProfile | None:
    """
    Return the profile of a spectrum in every integration.

    Parameters
    ----------
    known : Knowledge
        About the exposure.
    box : BoxPlan
        The aperture.
    shape : Steady
        What the spectrum looks like.

    Returns
    -------
    moving : MovingProfile or None
        None where there is no template.
    """
    if known.judge is None:
        return None
    template = known.judge.template
    images, noise = template.images, template.noise
    if shape.turned:
        images, noise = images.swapaxes(1, 2), noise.T
    judge = known.judge
    prediction = Prediction(template.names, images, noise, judge.coefficients, judge.errors, shape.n_sample)
    return moving_profile(box, prediction, shape.reference, shape.background, shape.light)


def edges(known: Knowledge, box: BoxPlan, shape: Steady) -> EdgeLight | None:
    """
    Return what the motion across dispersion takes over the edges of an aperture.

    Parameters
    ----------
    known : Knowledge
        About the exposure.
    box : BoxPlan
        The aperture.
    shape : Steady
        What the spectrum looks like.

    Returns
    -------
    edges : EdgeLight or None
        None where the motion is not known.
    """
    if known.judge is None or (moved := known.across()) is None:
        return None
    noise = known.judge.noise.T if shape.turned else known.judge.noise
    return edge_light(box, shape.net, noise * (1.2533 / np.sqrt(max(shape.n_sample, 1))), *moved)


def optimal(known: Knowledge, box: BoxPlan, shape: Steady, moving: MovingProfile | None, snr: float) -> OptimalPlan:
    """
    Return the weights of optimal extraction, and what pixels are rejected by.

    Parameters
    ----------
    known : Knowledge
        About the exposure, variances included.
    box : BoxPlan
        The aperture.
    shape : Steady
        What the spectrum looks like.
    moving : MovingProfile or None
        The profile in every integration.
    snr : float
        Deviation over noise from which a pixel is rejected.

    Returns
    -------
    plan : OptimalPlan
    """
    assert known.variances is not None
    planes = (known.variances.poisson, known.variances.rnoise)
    poisson, rnoise = (plane.T if shape.turned else plane for plane in planes)
    images = SteadyImages(shape.net, shape.background, shape.light, poisson, rnoise, shape.n_sample)
    noise = None if moving is None else _pixel_noise(known.judge, box, shape.turned)
    return plan_optimal(box, images, noise, moving, snr)


def _pixel_noise(judge: TemplateJudge | None, box: BoxPlan, turned: bool) -> PixelNoise | None:
    """Return the noise by which outliers are judged, at the pixels of the aperture."""
    if judge is None:
        return None
    inside = np.ix_(box.rows, box.start + np.arange(box.npixels.size))
    noise, level = (plane.T if turned else plane for plane in (judge.noise, judge.template.level))
    return PixelNoise(np.ascontiguousarray(noise[inside]), np.ascontiguousarray(level[inside]), judge.stretch)
