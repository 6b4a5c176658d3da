"""An exposure of images on its way to a scan of apertures: prepared as for a run, but nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.errors import ParameterError
from tso3.imaging_lane import ImagingLane
from tso3.io.reader import Reader
from tso3.lane import Setting
from tso3.recipe import Recipe, Segments
from tso3.scan_grid import Gathered, Grid, scan_exposure, settled
from tso3.scan_result import ScannedLight, ScanPoint
from tso3.steps import tso_photometry

__all__ = ["ImagingScanLane", "default_radii", "settle_radius", "with_radius"]


@dataclass(frozen=True)
class ImagingScanRecipe(Recipe):
    """
    How blocks of images are measured in all apertures.

    Attributes
    ----------
    plans : tuple of PhotometryPlan
        One for each point of the grid, ready.
    """

    plans: tuple[tso_photometry.PhotometryPlan, ...] = ()

    @property
    def keep_err(self) -> bool:
        """Whether `consume` reads ``err`` and ``dq``."""
        return True

    def gather(self, segments: Segments) -> Any:
        """Return what takes up the light of blocks."""
        return Gathered()

    def consume(self, block: Block, gathered: Any, rows: Any) -> None:
        """Measure one block in every aperture."""
        self.leave_out(block)
        tracks: dict[int, tso_photometry.SourceTrack] = {}
        light = []
        for plan in self.plans:
            own = replace(plan, track=tracks.get(id(plan.boxes), plan.track))
            part = tso_photometry.run(own, block)
            if part.track is not None and own.track is None:  # where the aperture follows the source: found once
                tracks[id(plan.boxes)] = _from_the_start(part.track, block.start)
            found = part.photometry
            light.append(np.stack([found.net_aperture_sum, found.photon_limit**2, found.missing_fraction]))
        gathered.parts[block.start] = [np.stack(light, axis=1)]


def _from_the_start(track: tso_photometry.SourceTrack, start: int) -> tso_photometry.SourceTrack:
    """Return a track of a block as one that begins with the exposure."""
    parts = vars(track).items()
    return tso_photometry.SourceTrack(**{k: np.concatenate([np.zeros(start, v.dtype), v]) for k, v in parts})


def with_radius(plan: tso_photometry.PhotometryPlan, radius: float) -> tso_photometry.PhotometryPlan:
    """
    Return the plan of photometry with another radius.

    Parameters
    ----------
    plan : PhotometryPlan
        Ready.
    radius : float
        Pixel.

    Returns
    -------
    plan : PhotometryPlan
    """
    layout = plan.layout
    sizes, radii = replace(layout.sizes, radius=radius), layout.radii._replace(radius=radius)
    return replace(plan, layout=replace(layout, sizes=sizes, radii=radii))


def _quick(plan: tso_photometry.PhotometryPlan, radius: float) -> tso_photometry.PhotometryPlan:
    """Return the plan with another radius that locates the source only where the aperture follows it."""
    plan = with_radius(plan, radius)
    centroids = plan.layout.centroids and plan.parameters.moving_centroid
    return replace(plan, layout=replace(plan.layout, centroids=centroids))


def _radii(plan: tso_photometry.PhotometryPlan, sizes: tuple[float, ...]) -> tuple[float, ...]:
    """Return the radii that are scanned with an annulus."""
    inner = plan.layout.sizes.radius_inner if plan.layout.subtract else np.inf
    if not sizes:
        return default_radii(plan.layout.sizes.radius, inner)
    if max(sizes) > inner:
        raise ParameterError(
            f"{max(sizes):g} pixels reach into the annulus, which begins at {inner:g}; give smaller radii, or"
            " another annulus with --annulus INNER:OUTER",
            "radius",
        )
    return sizes


def settle_radius(lane: ImagingLane, plan: tso_photometry.PhotometryPlan) -> float:
    """
    Return the radius that a scan of the whole exposure chooses, and tell the display.

    Parameters
    ----------
    lane : ImagingLane
        Of an exposure whose outliers are dealt with.
    plan : PhotometryPlan
        Ready, with the usual radius.

    Returns
    -------
    radius : float
        Pixel; the usual one where the scatter cannot be told, which a warning says.
    """
    if plan.whole_array:
        raise ParameterError(
            f"auto has nothing to choose from: the whole array of {lane.exposure.name} is summed, since the annulus"
            " lies off it; give a radius, or radius_inner and radius_outer",
            "tso_photometry.radius",
        )
    recipe = ImagingScanRecipe(
        lane.exposure,
        lane.outliers,
        lane.bad_pixels,
        lane.recipe.fixed_bytes,
        known=lane.recipe.known,
        unsteady=lane.unsteady(plan.treatment.complete),
        plans=tuple(_quick(plan, radius) for radius in _radii(plan, ())),
    )
    light = _light(recipe, plan, scan_exposure(lane.setting, recipe))
    radius = settled(light, "tso_photometry.radius")
    lane.setting.progress.message(light.verdict)
    return radius


def _light(
    recipe: ImagingScanRecipe, usual: tso_photometry.PhotometryPlan, gathered: Sequence[NDArray[np.float64]]
) -> ScannedLight:
    """Return the light curves of the star."""
    flux, limit, missing = gathered[0]
    radius = usual.radii.radius
    points = [ScanPoint(plan.layout.sizes.radius, _annulus(plan)) for plan in recipe.plans]
    return ScannedLight(
        exposure=recipe.exposure.name,
        detector=recipe.exposure.detector,
        label="",
        kind="radius",
        unit=str(usual.unit.name),
        usual=float(radius) if np.isfinite(radius) else np.nan,
        points=tuple(points),
        flux=flux,
        limit_variance=limit,
        missing=missing,
        weighted=np.full_like(flux, np.nan),
        weighted_limit=np.full_like(flux, np.nan),
    )


def _annulus(plan: tso_photometry.PhotometryPlan) -> str:
    """Return what a figure calls the annulus."""
    sizes = plan.layout.sizes
    return f"{sizes.radius_inner:g}-{sizes.radius_outer:g}" if plan.layout.subtract else "none"


def default_radii(usual: float, room: float) -> tuple[float, ...]:
    """
    Return the radii that are scanned if none are given: from a quarter of the usual one to twice it.

    Parameters
    ----------
    usual : float
        Radius that a run takes [pixel].
    room : float
        Inner radius of the annulus, which they do not reach into; infinite without.

    Returns
    -------
    radii : tuple of float
        Steps of half pixels or more.

    Examples
    --------
    >>> from tso3.scan_imaging import default_radii
    >>> default_radii(3.0, 4.0)
    (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
    """
    step = max(0.5, round(usual / 6.0) / 2.0)
    first, last = max(1.0, round(usual / 2.0) / 2.0), min(2.0 * usual, room)
    return tuple(first + step * k for k in range(int((last - first) / step + 1e-9) + 1))


class ImagingScanLane(ImagingLane):
    """
    An exposure whose star is measured in every aperture of a grid.

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

    def __init__(self, setting: Setting, exposure: Any, bad_pixels: NDArray[np.bool_] | None, grid: Grid) -> None:
        self.grid = grid
        super().__init__(setting, exposure, bad_pixels)

    def prepare(self, reader: Reader) -> None:
        """Place the aperture, for every annulus; then lay down every radius."""
        setting = self.setting
        if setting.parameters.tso_photometry.skip:
            raise ParameterError("is skipped, so there is nothing to scan", "tso_photometry")
        plans: list[tso_photometry.PhotometryPlan] = []
        for annulus in self.grid.annuli or (None,):
            changes = {} if annulus is None else {"radius_inner": annulus[0], "radius_outer": annulus[1]}
            photometry = setting.parameters.tso_photometry.model_copy(update=changes)
            parameters = setting.parameters.model_copy(update={"tso_photometry": photometry})
            self.setting = replace(setting, parameters=parameters)
            super().prepare(reader)
            plans += [_quick(self._plan, radius) for radius in _radii(self._plan, self.grid.sizes)]
        self.setting = setting
        self.scanning = ImagingScanRecipe(
            self.exposure,
            self.outliers,
            self.bad_pixels,
            self.recipe.fixed_bytes,
            known=self.recipe.known,
            unsteady=self.unsteady(self._plan.treatment.complete),
            plans=tuple(plans),
        )

    def scan(self) -> list[ScannedLight]:
        """Return the light curves of the star, from one pass over the data."""
        return [_light(self.scanning, self._plan, scan_exposure(self.setting, self.scanning))]
