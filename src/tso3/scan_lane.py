"""An exposure of spectra on its way to a scan of apertures: prepared as for a run, but nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.lightcurve import in_band
from tso3.io.reader import Reader
from tso3.lane import Setting
from tso3.recipe import Segments
from tso3.scan_grid import Gathered, Grid, scan_exposure, settled
from tso3.scan_result import ScannedLight, ScanPoint
from tso3.spectral_lane import SpectralLane, SpectralRecipe
from tso3.steps import scan, soss_frames, white_light
from tso3.steps.extraction_plan import Extract1DPlan

__all__ = ["SpectralScanLane", "default_widths", "settle_widths"]


@dataclass(frozen=True)
class SpectralScanRecipe(SpectralRecipe):
    """
    How blocks become the light of all apertures.

    Attributes
    ----------
    scans : tuple of SpectrumScan
        One for each spectrum in the exposure.
    """

    scans: tuple[scan.SpectrumScan, ...] = ()

    @property
    def used_rows(self) -> slice:
        """Rows of the apertures and the backgrounds."""
        used = super().used_rows
        starts, stops = ([getattr(s.rows, end) for s in self.scans] for end in ("start", "stop"))
        return slice(min([used.start, *starts]), max([used.stop, *stops]))

    @property
    def result_bytes(self) -> int:
        """Bytes per integration beside the block."""
        return super().result_bytes + max((s.turned_bytes for s in self.scans), default=0)

    def gather(self, segments: Segments) -> Any:
        """Return what takes up the light of blocks."""
        return Gathered()

    def consume(self, block: Block, gathered: Any, rows: Any) -> None:
        """Sum one block in every aperture."""
        self.leave_out(block)
        block = self.replaced(block)
        if self.frames is not None:
            block = soss_frames.run(self.frames, block)
        gathered.parts[block.start] = [scan.run(each, block) for each in self.scans]


class SpectralScanLane(SpectralLane):
    """
    An exposure whose spectra are summed in every aperture of a grid.

    Parameters
    ----------
    setting : Setting
        As of a run; its crew does the work.
    exposure : Exposure
        What is scanned.
    bad_pixels : ndarray of bool, shape (ny, nx), or None
        Pixels that the user calls bad.
    grid : Grid
        What is scanned.
    """

    recipe: SpectralScanRecipe

    def __init__(self, setting: Setting, exposure: Any, bad_pixels: NDArray[np.bool_] | None, grid: Grid) -> None:
        self.grid = grid
        super().__init__(setting, exposure, bad_pixels)

    def prepare(self, reader: Reader) -> None:
        """Lay down every aperture."""
        self._check_completion()
        spectral_recipe(self, reader, self.grid)

    def scan(self) -> list[ScannedLight]:
        """Return the light curves of each spectrum, from one pass over the data."""
        return spectral_lights(self.recipe, scan_exposure(self.setting, self.recipe))


def spectral_recipe(lane: SpectralLane, reader: Reader, grid: Grid) -> SpectralScanRecipe:
    """
    Lay down every aperture of a grid, and make that the recipe of a lane.

    Parameters
    ----------
    lane : SpectralLane
        Of an exposure whose outliers are dealt with.
    reader : Reader
        Of the exposure.
    grid : Grid
        What is scanned.

    Returns
    -------
    recipe : SpectralScanRecipe
        Now also that of the lane.
    """
    extraction = lane.setting.parameters.extract_1d
    known = lane.knowledge(reader)
    usual = lane.extraction(scan.with_aperture(extraction, "as-is", None), known)
    sizes = grid.sizes or default_widths(usual)
    scans = scan.prepare(
        lambda parameters, shape_of: lane.extraction(parameters, replace(known, shape_of=shape_of, workers=1)),
        lambda plan: _light(lane, plan),
        extraction,
        sizes,
        grid.backgrounds,
    )
    if lane.model is not None and lane.setting.parameters.white_light.normalized:
        scans = tuple(scan.weighted(each, lane.model) for each in scans)
    kept = lane.fixed_bytes + sum(each.n_bytes for each in scans) + lane.setting.limits.workers * scan.CHUNK_BYTES
    recipe = SpectralScanRecipe(lane.exposure, lane.outliers, lane.bad_pixels, kept, plans=usual, scans=scans)
    left_out = lane.unsteady(extraction.missing == "complete")
    lane.recipe = recipe = replace(recipe, replacement=lane.replacement(usual), unsteady=left_out)
    framed = lane.with_frames(recipe, reader)
    assert isinstance(framed, SpectralScanRecipe)
    lane.recipe = framed
    return framed


def _light(lane: SpectralLane, plan: Extract1DPlan) -> scan.Light:
    """Return what of a spectrum is in its white light."""
    light = lane.setting.parameters.white_light
    expected = plan.expected if light.missing == "complete" else None
    path = lane.setting.references.path("wavelengthrange")
    order = plan.header.spectral_order
    band = white_light.band(light, lane.setting.wavelength_ranges, order, lane.exposure, path)
    inside = in_band(plan.wavelength, band.shortest, band.longest)
    if expected is not None:
        inside &= expected > 0.0
    return scan.Light(inside, expected)


def spectral_lights(recipe: SpectralScanRecipe, gathered: Sequence[NDArray[np.float64]]) -> list[ScannedLight]:
    """
    Return the light curves of each spectrum.

    Parameters
    ----------
    recipe : SpectralScanRecipe
        That was followed.
    gathered : sequence of ndarray
        From `scan_exposure`.

    Returns
    -------
    lights : list of ScannedLight
        One for each spectrum.
    """
    found = []
    for plan, each, light in zip(recipe.plans, recipe.scans, gathered, strict=True):
        flux, limit, missing, weighted, its_limit = light
        found.append(
            ScannedLight(
                exposure=recipe.exposure.name,
                detector=recipe.exposure.detector,
                label=_label(recipe, plan),
                kind="width",
                unit=plan.header.flux_unit,
                usual=_width(plan),
                points=tuple(ScanPoint(a.width, a.background) for a in each.apertures),
                flux=flux,
                limit_variance=limit,
                missing=missing,
                weighted=weighted,
                weighted_limit=its_limit,
            )
        )
    return found


def settle_widths(lane: SpectralLane, reader: Reader) -> tuple[float, ...]:
    """
    Return the width that a scan of the whole exposure chooses for each of its spectra, and tell the display.

    Parameters
    ----------
    lane : SpectralLane
        Of an exposure whose outliers are dealt with; its recipe is left as it was.
    reader : Reader
        Of the exposure.

    Returns
    -------
    widths : tuple of float
        Pixel; the usual width where the scatter cannot be told.

    Warns
    -----
    tso3.errors.Tso3Warning
        Where the scatter cannot be told.
    """
    before = lane.recipe
    recipe = spectral_recipe(lane, reader, Grid())
    lane.recipe = before
    widths = []
    for light in spectral_lights(recipe, scan_exposure(lane.setting, recipe)):
        widths.append(settled(light, "extract_1d.extract_width"))
        lane.setting.progress.message(light.verdict)
    return tuple(widths)


def _label(recipe: SpectralScanRecipe, plan: Extract1DPlan) -> str:
    """Return which spectrum of its exposure this is."""
    if recipe.exposure.stripe:
        return f"stripe {recipe.exposure.stripe}"
    return f"order {plan.header.spectral_order}" if len(recipe.plans) > 1 else ""


def _width(plan: Extract1DPlan) -> float:
    """Return the width of the usual aperture [pixel]: that of most columns."""
    return float(np.median(plan.box.npixels[plan.columns]))


def default_widths(plans: Sequence[Extract1DPlan]) -> tuple[float, ...]:
    """
    Return the widths that are scanned if none are given: from a quarter to one and a half times the usual one.

    Parameters
    ----------
    plans : sequence of Extract1DPlan
        Of the usual aperture of each spectrum.

    Returns
    -------
    widths : tuple of float
        Whole pixels, up to some 16 of them, not reaching into the background.
    """
    if not plans:
        return (1.0,)
    usual = max(_width(plan) for plan in plans)
    step = max(1, round(usual / 10.0))
    first = max(2, round(usual / 4.0))
    last = min(1.5 * usual, *(_room(plan) for plan in plans))
    return tuple(float(w) for w in range(first, max(int(last), first) + 1, step))


def _room(plan: Extract1DPlan) -> float:
    """Return the width beyond which the aperture would reach into the background [pixel]."""
    box = plan.box
    rows = box.rows[:, np.newaxis]
    weight = box.aperture.sum(axis=0)
    middle = (box.aperture * rows).sum(axis=0) / np.where(weight > 0.0, weight, 1.0)
    distance = np.where((box.background > 0.0) & (weight > 0.0), np.abs(rows - middle), np.inf).min(axis=0)
    known = distance[np.isfinite(distance)]
    return 2.0 * float(np.median(known)) - 1.0 if known.size else np.inf
