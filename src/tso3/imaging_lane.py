"""An exposure on its way to photometry."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.errors import Tso3Warning
from tso3.io.catalog import write_catalog
from tso3.io.reader import Reader
from tso3.lane import Lane, mean
from tso3.progress import Progress, SilentProgress
from tso3.recipe import Part, PartResult, Recipe, Segments, reduce_part
from tso3.result import Circle
from tso3.steps import correlated_noise, residual_background, tso_photometry
from tso3.steps.known_outliers import joined_outliers
from tso3.steps.photometry_table import PhotometryTable, segment_catalogues

__all__ = ["ImagingLane", "ImagingRecipe"]


@dataclass(frozen=True)
class ImagingRecipe(Recipe):
    """
    How blocks of images are measured.

    Attributes
    ----------
    plan : PhotometryPlan or None
        Of the exposure; None if nothing is measured. While it is not ready, sources are only located.
    background : BackgroundPlan or None
        How the residual background is removed before.
    """

    plan: tso_photometry.PhotometryPlan | None = None
    background: residual_background.BackgroundPlan | None = None

    @property
    def keep_err(self) -> bool:
        """Whether `consume` reads ``err`` and ``dq``."""
        return True

    def gather(self, segments: Segments) -> Measured:
        """Return what takes up the photometry of blocks."""
        return Measured()

    def consume(self, block: Block, gathered: Measured, rows: Any) -> None:
        """Measure one block, or locate the source in it."""
        if self.plan is not None:
            self.leave_out(block)
            residual_background.run(self.background, block)
            measure = tso_photometry.run if self.plan.ready else tso_photometry.locate
            gathered.parts[block.start] = measure(self.plan, block)


class Measured:
    """Photometry of blocks, or tracks of the source; blocks come from several threads in any order."""

    def __init__(self) -> None:
        self.parts: dict[int, Any] = {}

    def result(self) -> tuple[Any, ...]:
        """Return them in the order of the exposure."""
        return tuple(self.parts[start] for start in sorted(self.parts))


def locate_part(part: Part, progress: Progress) -> PartResult:
    """Locate the source in some segments; a pass that the display does not show block by block."""
    return reduce_part(part, SilentProgress())


class ImagingLane(Lane):
    """
    An exposure that ends in aperture photometry.

    Attributes
    ----------
    radius : float or None
        Radius of the aperture that a scan chose [pixel]; None if none did.
    correlated : float or None
        Variance of the photometry by noise that its pixels share; None where it was not measured.
    """

    recipe: ImagingRecipe
    radius: float | None = None
    correlated: float | None = None

    def prepare(self, reader: Reader) -> None:
        """Place the aperture; where the parameters ask for it, by passes over the whole exposure."""
        self._parts: list[tso_photometry.PhotometryPart] = []
        self.table: PhotometryTable | None = None
        self.recipe = ImagingRecipe(self.exposure, self.outliers, self.bad_pixels, self.fixed_bytes)
        parameters = self.setting.parameters.tso_photometry
        if parameters.skip:
            return
        choose = parameters.radius == "auto"
        if choose:
            parameters = parameters.model_copy(update={"radius": None})
        judge = None if self.outliers is None else self.outliers.judge
        plan = tso_photometry.prepare(self.exposure, self.references, parameters, self.model, judge)
        self.recipe = replace(self.recipe, unsteady=self.unsteady(plan.treatment.complete))
        self.recipe = self._with_background(reader, plan)
        while not plan.ready:
            plan = tso_photometry.settle(plan, self._located(plan))
        if choose:
            from tso3.scan_imaging import settle_radius, with_radius

            self.radius = settle_radius(self, plan)
            plan = with_radius(plan, self.radius)
        self.recipe = replace(self.recipe, plan=plan)
        removed = self.setting.parameters.residual_background.background, self.recipe.background
        n_pairs = self.setting.parameters.survey.n_pairs
        noise = correlated_noise.measure(self.exposure, reader, self.outliers, n_pairs, self.bad_pixels, removed)
        if noise is not None:
            self.correlated = noise.variance_of(tso_photometry.weights_of_sum(plan))

    def _with_background(self, reader: Reader, plan: tso_photometry.PhotometryPlan) -> ImagingRecipe:
        """Return the recipe that removes the residual background, if it is to be."""
        exposure, parameters = self.exposure, self.setting.parameters.residual_background
        if parameters.background == "none":
            return self.recipe
        x, y = plan.apertures[0]
        rows, columns = np.ogrid[: exposure.ny, : exposure.nx]
        inside = (columns - x) ** 2 + (rows - y) ** 2 < plan.radii.radius**2
        later = plan.layout.subtract
        background = residual_background.prepare(exposure, reader, parameters, self.outliers, inside, later)
        fixed = self.fixed_bytes + residual_background.PLAN_BYTES * exposure.ny * exposure.nx
        return replace(self.recipe, background=background, fixed_bytes=fixed)

    def _located(self, plan: tso_photometry.PhotometryPlan) -> list[tso_photometry.SourceTrack]:
        """
        Return where the source is in every integration, in the order of the exposure.

        The first pass looks for outliers; the passes after it, the one that writes included, mark what it has found.
        """
        setting = self.setting
        recipe = replace(self.recipe, plan=plan, noting=self._may_note)
        pieces = setting.crew.pieces(self.exposure)
        parts = [Part((recipe,), segments, setting.crew.limits, setting.folder) for segments in pieces]
        found = setting.crew.run(locate_part, parts, f"{self.exposure.label}: position", setting.progress)
        results = sorted(found, key=lambda result: result.segments.start)
        if recipe.noting:
            known = joined_outliers([result.known[0] for result in results if result.known[0] is not None])
            self.recipe = replace(self.recipe, known=known, fixed_bytes=self.recipe.fixed_bytes + known.nbytes)
        return [track for result in results for track in result.gathered[0]]

    @property
    def _may_note(self) -> bool:
        """Whether a pass can tell the later ones which samples are outliers; medians are written when they are made."""
        if self.outliers is None or self.recipe.known is not None:
            return False
        return not self.outliers.parameters.save_intermediate_results

    def absorb(self, segments: Segments, gathered: tuple[tso_photometry.PhotometryPart, ...]) -> None:
        """Take the photometry of some segments."""
        self._parts.extend(gathered)

    @property
    def _plan(self) -> tso_photometry.PhotometryPlan:
        if self.recipe.plan is None:
            raise RuntimeError("photometry was skipped")
        return self.recipe.plan

    def finish(self) -> PhotometryTable:
        """Return the table of the exposure, and write the catalogues of its segments if asked for."""
        plan = self._plan
        self.table = tso_photometry.finish(plan, self._parts, self.exposure.times, self.correlated)
        name = "aperture_sum" if plan.whole_array else "net_aperture_sum"
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

    @property
    def chosen(self) -> str:
        """The radius that a scan chose, in words; empty if none did."""
        return "" if self.radius is None else f"radius {self.radius:g}"

    def apertures(self) -> dict[str, Any]:
        """Return aperture and annulus as they lie in the first integration."""
        if self.table is None or not len(self.table["aperture_x"]):
            return {}
        x, y = (float(np.asarray(self.table[f"aperture_{axis}"])[0]) for axis in "xy")
        radii = self._plan.radii
        edges = ((radii.radius, "aperture"), (radii.inner, "annulus"), (radii.outer, "annulus"))
        return {"circles": tuple(Circle(x, y, r, label) for r, label in edges if np.isfinite(r) and r > 0.0)}

    def missing(self) -> dict[str, NDArray[np.float64]]:
        """Return the share of the source's light on bad pixels."""
        return {} if self.table is None else {"": self.table["missing_fraction"]}

    def light_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the background-subtracted photometry."""
        if self.table is None:
            return super().light_curve()
        missing = mean(self.table["missing_fraction"])
        return self.table["net_aperture_sum"], self.table["photon_limit"] ** 2, missing
