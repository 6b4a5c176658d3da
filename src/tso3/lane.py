"""One exposure on its way through the flow: what is prepared once, what happens to a block, what is left at the end."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.core.noise import photon_limit, point_to_point
from tso3.core.template import template_bytes
from tso3.engine import BlockPlan
from tso3.errors import ParameterError, Tso3Warning
from tso3.io.catalog import write_catalog
from tso3.io.crfints import CrfintsRecord
from tso3.io.exposure import Exposure, Observation
from tso3.io.exposure_products import ExposureProducts, SlitProducts
from tso3.io.reader import Reader
from tso3.parameters import Parameters
from tso3.progress import Progress
from tso3.result import Circle, DetectorView, ExposureSummary
from tso3.steps import outlier_detection, survey, template, tso_photometry
from tso3.steps.photometry_table import PhotometryTable, segment_catalogues
from tso3.stream import ExposureStream, StreamCounts

if TYPE_CHECKING:
    from tso3.io.reference_files import WavelengthRange
    from tso3.io.references import References

__all__ = ["ImagingLane", "Lane", "Setting", "mean", "run_lanes"]

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
    max_memory, workers : int
        Bytes and threads allowed.
    block_size : int or None
        Integrations per block, if asked for.
    progress : Progress
        The display.
    """

    observation: Observation
    folder: Path
    parameters: Parameters
    preset: str
    references: References
    wavelength_ranges: tuple[WavelengthRange, ...] | None
    bad_pixels: str | Path | None
    max_memory: int
    workers: int
    block_size: int | None
    progress: Progress


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
    counts : StreamCounts
        Flags per integration, after `run`.
    products : dict of str to list of Path
        ``crfints`` and ``median``, after `run`.
    """

    keep_err = False

    def __init__(self, setting: Setting, exposure: Exposure, bad_pixels: NDArray[np.bool_] | None) -> None:
        self.setting = setting
        self.exposure = exposure
        self.bad_pixels = bad_pixels
        self.references = setting.references.of(exposure)
        self.products: dict[str, list[Path]] = {}
        parameters = setting.parameters
        skipped = parameters.outlier_detection.skip
        self.outliers = None if skipped else outlier_detection.prepare(exposure, parameters.outlier_detection)
        wanted = not skipped and parameters.outlier_detection.method == "template"
        if wanted:
            self._check_memory()
        with Reader(exposure) as reader:
            self.model: ExposureModel | None = survey.run(exposure, reader, parameters.survey, bad_pixels, wanted)
            if wanted:
                self._judge_by_template(reader)
            self.prepare(reader)
        self.counts = StreamCounts.empty(exposure.n_int)

    def _check_memory(self) -> None:
        """Tell before anything is read if a template of such frames does not fit."""
        exposure, allowed = self.exposure, self.setting.max_memory
        needed = template_bytes(exposure.ny, exposure.nx, spectrum=exposure.dispersion_axis != 0)
        if needed > allowed:
            raise ParameterError(
                f"template needs {needed / 2**20:.0f} MiB for frames of {exposure.ny} x {exposure.nx} pixels, and"
                f" {allowed / 2**20:.0f} MiB are allowed; raise max_memory, or set it to rolling_median",
                "outlier_detection.method",
            )

    def _judge_by_template(self, reader: Reader) -> None:
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
        found = template.fit(self.model.template, self.exposure, reader, self.bad_pixels, self.setting.workers)
        self.outliers = outlier_detection.judged(self.outliers, self.model.template, found)

    def prepare(self, reader: Reader) -> None:
        """Make what is needed once per exposure."""
        raise NotImplementedError

    def consume(self, block: Block) -> None:
        """Reduce one finished block; called from several threads."""
        raise NotImplementedError

    @property
    def used_rows(self) -> slice:
        """Rows that `consume` reads."""
        return slice(0, self.exposure.ny)

    @property
    def result_bytes(self) -> int:
        """Bytes per integration that `consume` needs beside the block."""
        return 0

    def stream(self, reader: Reader, products: SlitProducts | None = None) -> ExposureStream:
        """Return the stream of this exposure."""
        return ExposureStream(
            self.exposure,
            reader,
            self.outliers,
            used_rows=self.used_rows,
            keep_err=self.keep_err,
            bad_pixels=self.bad_pixels,
            writer=products,
        )

    def run(self, products: ExposureProducts) -> None:
        """Stream the exposure: flags, ``crfints``, and `consume` for every block."""
        progress = self.setting.progress
        progress.start(self.exposure.label, self.exposure.n_int)
        with Reader(self.exposure) as reader:
            stream = self.stream(reader, products.of(self.exposure))
            stream.run(self.cut(stream), self._consume_and_count)
        progress.finish()
        self.counts = stream.counts

    def cut(self, stream: ExposureStream) -> BlockPlan:
        """Return how the exposure is cut into blocks and tiles."""
        return stream.plan(
            self.setting.max_memory,
            self.setting.workers,
            block_size=self.setting.block_size,
            result_bytes=self.result_bytes,
            fixed_bytes=self._fixed_bytes(),
        )

    def light_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return flux, variance of its limit, and mean share of missing light."""
        nothing = np.full(self.exposure.n_int, np.nan)
        return nothing, nothing, float("nan")

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
            n_flagged=int(self.counts.n_outlier.sum()),
            n_outlier_per_integration=tuple(int(n) for n in self.counts.n_outlier),
            scatter_ppm=1e6 * point_to_point(flux),
            limit_ppm=1e6 * photon_limit(flux, variance),
            missing_fraction=missing,
            stripe=self.exposure.stripe,
        )

    def _fixed_bytes(self) -> int:
        frames = 0 if self.model is None else 2
        if self.model is not None and self.model.template is not None:
            frames += 1 + len(self.model.template.images) // 2
        return frames * self.exposure.ny * self.exposure.nx * 8 + self.exposure.n_int * _NUMBERS_PER_INTEGRATION

    def _consume_and_count(self, block: Block) -> None:
        self.consume(block)
        self.setting.progress.advance(block.n_int)


def run_lanes(lanes: Sequence[Lane], record: CrfintsRecord) -> None:
    """
    Stream exposures one after another; slits of the same files write into the same products.

    Parameters
    ----------
    lanes : sequence of Lane
        All of a run.
    record : CrfintsRecord
        What the headers of ``crfints`` say.
    """
    groups: dict[tuple[Path, ...], list[Lane]] = {}
    for lane in lanes:
        groups.setdefault(lane.exposure.paths, []).append(lane)
    for group in groups.values():
        setting = group[0].setting
        detection = setting.parameters.outlier_detection
        products = ExposureProducts(
            [lane.exposure for lane in group],
            setting.folder,
            setting.observation.asn_id,
            record,
            crfints=not detection.skip,
            medians=not detection.skip and detection.save_intermediate_results,
        )
        with products:
            for lane in group:
                lane.run(products)
        group[0].products = {"crfints": products.crfints_paths, "median": products.median_paths}


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is finite, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


class ImagingLane(Lane):
    """An exposure that ends in aperture photometry."""

    keep_err = True

    def prepare(self, reader: Reader) -> None:
        """Place the aperture; where the parameters ask for it, by passes over the whole exposure."""
        self._lock = threading.Lock()
        self._parts: list[tso_photometry.PhotometryPart] = []
        self.table: PhotometryTable | None = None
        parameters = self.setting.parameters.tso_photometry
        if parameters.skip:
            return
        self.plan = tso_photometry.prepare(self.exposure, self.references, parameters, self.model)
        while not self.plan.ready:
            stream = self.stream(reader)
            tracks: list[tso_photometry.SourceTrack] = []
            found: dict[int, tso_photometry.SourceTrack] = {}

            def locate(block: Block, found: dict[int, tso_photometry.SourceTrack] = found) -> None:
                found[block.start] = tso_photometry.locate(self.plan, block)

            stream.run(self.cut(stream), locate)
            tracks = [found[start] for start in sorted(found)]
            self.plan = tso_photometry.settle(self.plan, tracks)

    def consume(self, block: Block) -> None:
        """Measure one block."""
        if self.setting.parameters.tso_photometry.skip:
            return
        part = tso_photometry.run(self.plan, block)
        with self._lock:
            self._parts.append(part)

    def finish(self) -> PhotometryTable:
        """Return the table of the exposure, and write the catalogues of its segments if asked for."""
        self.table = tso_photometry.finish(self.plan, self._parts, self.exposure.times)
        name = "aperture_sum" if self.plan.whole_array else "net_aperture_sum"
        if not np.isfinite(self.table[name]).any():
            warnings.warn(
                f"no valid flux in any of the {self.exposure.n_int} integrations of {self.exposure.label}: {name} is"
                f" NaN; check the DQ flags in {self.exposure.segments[0].path}, the mask of bad pixels, and where"
                " aperture and annulus lie",
                Tso3Warning,
                stacklevel=3,
            )
        if self.setting.parameters.tso_photometry.save_catalog:
            for stem, table in segment_catalogues(self.table, self.exposure):
                path = write_catalog(self.setting.folder / f"{stem}_phot.ecsv", table)
                self.products.setdefault("phot", []).append(path)
        return self.table

    def apertures(self) -> dict[str, Any]:
        """Return aperture and annulus as they lie in the first integration."""
        if self.table is None or not len(self.table["aperture_x"]):
            return {}
        x, y = (float(np.asarray(self.table[f"aperture_{axis}"])[0]) for axis in "xy")
        radii = self.plan.radii
        edges = ((radii.radius, "aperture"), (radii.inner, "annulus"), (radii.outer, "annulus"))
        return {"circles": tuple(Circle(x, y, r, label) for r, label in edges if np.isfinite(r) and r > 0.0)}

    def light_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the background-subtracted photometry."""
        if self.table is None:
            return super().light_curve()
        missing = mean(self.table["missing_fraction"])
        return self.table["net_aperture_sum"], self.table["photon_limit"] ** 2, missing
