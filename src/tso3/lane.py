"""One exposure on its way through the flow: what is prepared once, what happens to a block, what is left at the end."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.covariates import Covariates
from tso3.core.model import ExposureModel
from tso3.core.noise import photon_limit, point_to_point
from tso3.core.template import template_bytes
from tso3.crew import Crew
from tso3.errors import ParameterError, Tso3Warning
from tso3.fit_part import FitPart, fit_part, joined_fits
from tso3.io.crfints import CrfintsRecord
from tso3.io.exposure import Exposure, Observation
from tso3.io.reader import Reader
from tso3.parameters import Parameters
from tso3.progress import Progress
from tso3.recipe import Limits, Part, Recipe, Segments, reduce_part
from tso3.result import DetectorView, ExposureSummary
from tso3.steps import outlier_detection, series, survey
from tso3.steps.covariates import ExposureCovariates, measured

if TYPE_CHECKING:
    from tso3.io.reference_files import WavelengthRange
    from tso3.io.references import References
    from tso3.io.x1dints import X1dintsWriter
    from tso3.steps.channel_spec import ChannelSpec

__all__ = ["Lane", "Setting", "mean", "run_lanes"]

_NUMBERS_PER_INTEGRATION = 400


@dataclass(frozen=True)
class Setting:
    """
    What a run was asked to do.

    Attributes
    ----------
    observation : Observation
        What is reduced.
    folder : Path
        Of the products.
    parameters : Parameters
        Of all steps.
    preset : str
        Name of the preset that they began with.
    references : References
        Reference files by kind.
    wavelength_ranges : tuple of WavelengthRange or None
        From the wavelengthrange reference, if there is one.
    bad_pixels : path-like or None
        The user's mask of bad pixels.
    limits : Limits
        What this process may use.
    crew : Crew
        Who reduces the exposures.
    progress : Progress
        The display.
    channels : ChannelSpec or None
        Which spectroscopic light curves are asked for.
    """

    observation: Observation
    folder: Path
    parameters: Parameters
    preset: str
    references: References
    wavelength_ranges: tuple[WavelengthRange, ...] | None
    bad_pixels: str | Path | None
    limits: Limits
    crew: Crew
    progress: Progress
    channels: ChannelSpec | None = None


class Lane:
    """
    One exposure on its way.

    Parameters
    ----------
    setting : Setting
        What the run was asked to do.
    exposure : Exposure
        Whose lane this is.

    Attributes
    ----------
    model : ExposureModel or None
        From the survey.
    recipe : Recipe
        What is done to its blocks.
    counts : ndarray of int64, shape (n_int,)
        Outliers in each integration, after `run_lanes`.
    products : dict of str to list of Path
        ``crfints`` and ``median``, after `run_lanes`.
    """

    recipe: Recipe

    def __init__(self, setting: Setting, exposure: Exposure, bad_pixels: NDArray[np.bool_] | None) -> None:
        self.setting = setting
        self.exposure = exposure
        self.bad_pixels = bad_pixels
        self.references = setting.references.of(exposure)
        self.products: dict[str, list[Path]] = {}
        self._measured: Future[Covariates] | None = None
        parameters = setting.parameters
        skipped = parameters.outlier_detection.skip
        self.outliers = None if skipped else outlier_detection.prepare(exposure, parameters.outlier_detection)
        wanted = not skipped and parameters.outlier_detection.method == "template"
        if wanted:
            self._check_memory()
        with Reader(exposure) as reader, ThreadPoolExecutor(1, thread_name_prefix="tso3-measuring") as aside:
            limits = setting.limits
            self.model: ExposureModel | None = survey.run(
                exposure, reader, parameters.survey, bad_pixels, wanted, limits.workers, limits.max_memory
            )
            if wanted:
                self._judge_by_template(aside)
            if self.outliers is not None and self.outliers.whole_series:
                self.outliers = series.clipped(self.outliers, reader, bad_pixels, limits.workers, limits.max_memory)
            self.prepare(reader)
        self.counts = np.zeros(exposure.n_int, np.int64)

    def _check_memory(self) -> None:
        """Tell before anything is read if a template of such frames does not fit."""
        exposure, allowed = self.exposure, self.setting.limits.max_memory
        needed = template_bytes(exposure.ny, exposure.nx, spectrum=exposure.dispersion_axis != 0)
        if needed > allowed:
            raise ParameterError(
                f"template needs {needed / 2**20:.0f} MiB for frames of {exposure.ny} x {exposure.nx} pixels, and"
                f" {allowed / 2**20:.0f} MiB are allowed; raise max_memory, or set it to rolling_median",
                "outlier_detection.method",
            )

    @property
    def motion(self) -> Covariates | None:
        """What star and telescope did in every integration; None without a template."""
        return None if self._measured is None else self._measured.result()

    @property
    def found(self) -> Covariates | None:
        """The same as far as it is to be told."""
        return None if self.setting.parameters.covariates.skip else self.motion

    def _judge_by_template(self, aside: Executor) -> None:
        """Fit the template to every integration, so that outliers are judged against it."""
        if self.model is None:
            raise ParameterError(
                "0 leaves no template to judge outliers by; set outlier_detection.method = rolling_median as well,"
                " or a sample of at least 1",
                "survey.n_sample",
            )
        if self.outliers is None:
            return
        if self.model.template is None:
            warnings.warn(
                f"{self.exposure.segments[0].path}: too few pixels are ever valid to fit a template to; outliers are"
                " judged by the median of their time window",
                Tso3Warning,
                stacklevel=3,
            )
            return
        crew, fitted = self.setting.crew, self.model.template
        parts = [FitPart(fitted, self.exposure, segments, crew.limits) for segments in crew.pieces(self.exposure)]
        found = crew.run(fit_part, parts, f"{self.exposure.label}: template", self.setting.progress)
        fit = joined_fits(list(found))
        self.outliers = outlier_detection.judged(self.outliers, fitted, fit)
        self._measured = aside.submit(measured, self.exposure, fitted, fit)

    def unsteady(self, complete: bool) -> NDArray[np.bool_] | None:
        """Return the pixels that are left out of all integrations, which needs that missing light is completed."""
        return self.model.unsteady if complete and self.model is not None else None

    def prepare(self, reader: Reader) -> None:
        """Make what is needed once per exposure, and the recipe of it."""
        raise NotImplementedError

    def absorb(self, segments: Segments, gathered: Any) -> None:
        """Take what `Recipe.gather` has of some segments."""
        raise NotImplementedError

    def light_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return flux, variance of its limit, and mean share of missing light."""
        nothing = np.full(self.exposure.n_int, np.nan)
        return nothing, nothing, float("nan")

    def missing(self) -> dict[str, NDArray[np.float64]]:
        """Return the share of light on bad pixels per integration, by what the name of its column ends with."""
        return {}

    def covariates(self) -> ExposureCovariates:
        """Return what is known of star, telescope and flags in every integration."""
        detection = self.setting.parameters.outlier_detection
        without = "outlier_detection.skip = true"
        if not detection.skip:
            without = f"outlier_detection.method = {detection.method}"
        if not detection.skip and detection.method == "template":
            without = "too few valid pixels to fit one"
        return ExposureCovariates(
            exposure=self.exposure,
            found=self.found,
            n_flagged=None if detection.skip else self.counts,
            missing=self.missing(),
            without="" if self.found is not None else f"none: {without}",
        )

    def view(self) -> DetectorView | None:
        """Return the survey's image with the apertures on it; None without a survey."""
        if self.model is None:
            return None
        image = self.model.reference.astype(np.float32)
        return DetectorView(self.exposure.label, self.exposure.detector, self.exposure.bunit, image, **self.apertures())

    def apertures(self) -> dict[str, Any]:
        """Return where the exposure is measured, as the arguments of `DetectorView`."""
        return {}

    def summary(self) -> ExposureSummary:
        """Return this exposure's share of the result."""
        flux, variance, missing = self.light_curve()
        return ExposureSummary(
            name=self.exposure.name,
            detector=self.exposure.detector,
            n_int=self.exposure.n_int,
            n_flagged=int(self.counts.sum()),
            n_outlier_per_integration=tuple(int(n) for n in self.counts),
            scatter_ppm=1e6 * point_to_point(flux),
            limit_ppm=1e6 * photon_limit(flux, variance),
            missing_fraction=missing,
            stripe=self.exposure.stripe,
            chosen=self.chosen,
        )

    @property
    def chosen(self) -> str:
        """The aperture that a scan chose, in words; empty if none did."""
        return ""

    @property
    def fixed_bytes(self) -> int:
        """Bytes that are kept for the whole exposure."""
        frames = 0 if self.model is None else 2
        frames += 0 if self.outliers is None else len(self.outliers.series)
        if self.model is not None and self.model.template is not None:
            frames += 1 + len(self.model.template.images) // 2
        elif self.model is not None:
            frames += 1
        return frames * self.exposure.ny * self.exposure.nx * 8 + self.exposure.n_int * _NUMBERS_PER_INTEGRATION


def run_lanes(lanes: Sequence[Lane], record: CrfintsRecord, writer: X1dintsWriter | None = None) -> None:
    """
    Reduce exposures, in the pieces that the crew cuts them into; slits of the same files write into the same products.

    Parameters
    ----------
    lanes : sequence of Lane
        All of a run.
    record : CrfintsRecord
        What the headers of ``crfints`` say.
    writer : X1dintsWriter, optional
        The product of spectra, open.
    """
    setting = lanes[0].setting
    groups: dict[tuple[Path, ...], list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(_absolute(lane.exposure.paths), []).append(lane)
    parts = [part for group in groups.values() for part in _parts(group, record, writer)]
    stage = parts[0].label if len(groups) == 1 else f"{len(groups)} exposures"
    results = []
    for result in setting.crew.run(reduce_part, parts, stage, setting.progress):
        if result.rows is not None and writer is not None:
            writer.take(result.rows)
        results.append(result)
    for part in sorted(results, key=lambda result: result.segments.first):
        group = groups[_absolute(part.paths)]
        for lane, flags, gathered in zip(group, part.n_outlier, part.gathered, strict=True):
            lane.counts[part.segments.start : part.segments.stop] = flags
            lane.absorb(part.segments, gathered)
        for kind, names in (("crfints", part.crfints), ("median", part.medians)):
            group[0].products.setdefault(kind, []).extend(setting.folder / name for name in names)
        for name in part.rectified:
            kind = "s2dints" if name.endswith("_s2dints.fits") else "i2dints"
            group[0].products.setdefault(kind, []).append(setting.folder / name)


def _absolute(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return paths as a worker in another folder gives them back."""
    return tuple(path.absolute() for path in paths)


def _parts(group: Sequence[Lane], record: CrfintsRecord, writer: X1dintsWriter | None) -> list[Part]:
    """Return the pieces of the exposures of the same files."""
    setting = group[0].setting
    detection = setting.parameters.outlier_detection
    return [
        Part(
            recipes=tuple(lane.recipe for lane in group),
            segments=segments,
            limits=setting.crew.limits,
            folder=setting.folder,
            asn_id=setting.observation.asn_id,
            record=record,
            crfints=not detection.skip and detection.save_results,
            medians=not detection.skip and detection.save_intermediate_results,
            rows=None if writer is None else setting.crew.rows(writer),
        )
        for segments in setting.crew.pieces(group[0].exposure)
    ]


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is finite, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
