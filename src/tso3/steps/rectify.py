"""
Rectification of an exposure: straight spectra on one wavelength grid, or images in a plane without distortion.

The place of a pixel in a rectified spectrum is its wavelength and v = y - T(wavelength), where T is the row of the
trace at that wavelength: the trace becomes a row, a line of constant wavelength a column, and at constant wavelength
v runs like y, so that sums across dispersion are kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tso3.core._overlap import quadrilateral_areas
from tso3.core.block import Block
from tso3.core.box_covariance import covariance_factor
from tso3.core.rectify import Corners, Rectified, Rectifier, corners_of, make_rectifier, rectify
from tso3.core.wavelength_grid import GridEdges, place_on_grid
from tso3.errors import ParameterError
from tso3.io.rectified import RectifiedLayout
from tso3.io.rectified_grid import SpectralGrid
from tso3.parameters import Rectify
from tso3.steps.rectified_frame import SpectrumPlace, shared_edges, shared_rows, taken_step

__all__ = ["VARIANCES", "RectifyPlan", "frame", "prepare_spectra", "rectified", "rectifier_of", "run"]

VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
_CHUNK = 8 * 2**20
_FEWEST = 5
"""Integrations over which the cost of finding what overlaps is spread."""
_BESIDE = 4
"""Rows more than are used, so that corners of pixels are what they are in the whole frame."""
_BOX = 5
"""Rows of the box whose covariance is recorded."""

Write = Callable[[int, int, Mapping[str, NDArray[np.generic]]], None]


@dataclass(frozen=True)
class RectifyPlan:
    """
    How one spectrum of an exposure, or its images, are rectified; the same for all blocks.

    Attributes
    ----------
    layout : RectifiedLayout
        What the product is like.
    rectifier : Rectifier
        Overlaps of the pixels.
    variances : tuple of str
        Planes of variances that the exposure has.
    shifts : ndarray of float64, shape (n_int, 2), or None
        How far the light of each integration lies from that of the reference image [pixel]: along dispersion and
        across, of images in x and y.
    moved : callable or None
        Gives the overlaps for such a shift.
    reach : slice or None
        Detector rows that any of the integrations reads, where they are moved.
    """

    layout: RectifiedLayout
    rectifier: Rectifier
    variances: tuple[str, ...]
    shifts: NDArray[np.float64] | None = None
    moved: Callable[[tuple[float, float]], Rectifier] | None = None
    reach: slice | None = None

    @property
    def rows(self) -> slice:
        """Detector rows that are read."""
        return self.rectifier.rows if self.reach is None else self.reach

    def following(
        self, shifts: NDArray[np.float64] | None, moved: Callable[[tuple[float, float]], Rectifier]
    ) -> RectifyPlan:
        """Return the plan with integrations that are moved by shifts, if there are any; ``moved`` is pickled."""
        if shifts is None:
            return self
        ends = itertools.product(*((float(axis.min()), float(axis.max())) for axis in shifts.T))
        rows = [self.rectifier.rows, *(moved(end).rows for end in ends)]  # farther shifts reach farther rows
        rows = [each for each in rows if each.start < each.stop]
        reach = slice(min(each.start for each in rows), max(each.stop for each in rows)) if rows else slice(0, 0)
        return replace(self, shifts=shifts, moved=moved, reach=reach)

    @property
    def needs_err(self) -> bool:
        """Whether errors are propagated from ERR, since there are no variances."""
        return not self.variances

    @property
    def chunk(self) -> int:
        """Integrations that are rectified at once."""
        pixels = max(self.layout.grid.shape[0] * self.layout.grid.shape[1], math.prod(self.rectifier.input_shape))
        return max(_FEWEST, _CHUNK // (pixels * 4 * (4 + len(self.variances))))

    @property
    def chunk_bytes(self) -> int:
        """Bytes that a thread needs while it rectifies, the bytes on their way to the disk included."""
        pixels = self.layout.grid.shape[0] * self.layout.grid.shape[1]
        return self.chunk * pixels * 4 * (6 + len(self.variances))

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept for the whole exposure."""
        return self.rectifier.nbytes


def prepare_spectra(
    places: Sequence[SpectrumPlace], parameters: Rectify, shifts: Sequence[NDArray[np.float64] | None]
) -> list[RectifyPlan]:
    """
    Return the plans of spectra of one detector and order, which share their grid.

    Parameters
    ----------
    places : sequence of SpectrumPlace
        One for each exposure.
    parameters : Rectify
        The step's parameters.
    shifts : sequence of (ndarray or None)
        How far the light of each integration lies from that of the reference image; None moves nothing.

    Returns
    -------
    plans : list of RectifyPlan
        One for each place.

    Raises
    ------
    ParameterError
        If the grid that is asked for has no column of the spectrum.
    """
    edges = shared_edges(places, parameters)
    _check_columns(places, edges, parameters)
    n_rows, centre = shared_rows(places, edges, parameters.height)
    taken = taken_step(places, parameters)
    step = "edges" if isinstance(taken, str) and "," in taken else str(taken)
    plans = [_plan(place, edges, (n_rows, centre), moved) for place, moved in zip(places, shifts, strict=True)]
    return [replace(plan, layout=replace(plan.layout, step=step)) for plan in plans]


def _check_columns(places: Sequence[SpectrumPlace], edges: GridEdges, parameters: Rectify) -> None:
    """Raise an error if a column is as wide as the spectrum."""
    line = np.concatenate([place.on_trace for place in places])
    line = line[np.isfinite(line)]
    span = float(line.max() - line.min())
    asked = parameters.step
    given = isinstance(asked, float) or (isinstance(asked, str) and asked.startswith("R="))
    if given and float(np.diff(edges.edges).min()) >= span:
        raise ParameterError(
            f"{asked} makes one column of all of {places[0].exposure.label} ({line.min():g} to {line.max():g} micron);"
            " choose a smaller step",
            "rectify.step",
        )


def _plan(
    place: SpectrumPlace, edges: GridEdges, rows: tuple[int, int], shifts: NDArray[np.float64] | None
) -> RectifyPlan:
    """Return the plan of one spectrum."""
    sky, step = place.on_sky()
    grid = SpectralGrid(rows[0], rows[1], edges.edges, edges.kind, sky, step)
    rectifier = rectifier_of(place, edges, rows)
    exposure = place.exposure
    present = tuple(name for name in VARIANCES if name in exposure.planes)
    half = min(_BOX // 2, rows[1], rows[0] - 1 - rows[1])
    layout = RectifiedLayout(
        kind="s2dints",
        mark=place.mark,
        grid=grid,
        variances=present,
        order=place.order,
        covariance=covariance_factor(rectifier, slice(rows[1] - half, rows[1] + half + 1)),
        density=place.per_pixel,
    )
    return RectifyPlan(layout, rectifier, present).following(shifts, partial(rectifier_of, place, edges, rows))


def rectifier_of(
    place: SpectrumPlace, edges: GridEdges, rows: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)
) -> Rectifier:
    """
    Return the overlaps of the pixels of a spectrum with its grid.

    Parameters
    ----------
    place : SpectrumPlace
        Where the spectrum is.
    edges : GridEdges
        Columns of the grid.
    rows : (int, int)
        Rows of the grid, and which of them the trace lies on.
    shift : (float, float), optional
        How far the light lies from where it is expected: along dispersion and across [pixel].

    Returns
    -------
    rectifier : Rectifier
    """
    wavelength, across = place.coordinates(shift)
    near = _near(across + rows[1], rows[0])
    lines, offsets = corners_of(wavelength[near]), corners_of(across[near])
    corners = Corners(place_on_grid(edges, lines), offsets + rows[1])
    usable = np.isfinite(place.wavelength[near])
    size = edges.edges.size - 1
    density, widths = None, None
    if place.per_pixel:
        area = quadrilateral_areas(lines, offsets)
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(usable & (area > 0.0), 1.0 / area, 0.0)
        widths = np.diff(edges.edges)
    inside = (near.start, len(across))
    return make_rectifier(corners, (rows[0], size), usable, density, widths, turned=place.turned, inside=inside)


def _near(row: NDArray[np.float64], n_rows: int) -> slice:
    """Return the detector rows that hold anything of a grid of so many rows, and a few beside; all if there is none."""
    with np.errstate(invalid="ignore"):
        used = np.flatnonzero(((row > -1.0) & (row < n_rows)).any(axis=1))
    return slice(max(int(used[0]) - _BESIDE, 0), int(used[-1]) + 1 + _BESIDE) if used.size else slice(0, len(row))


def rectified(plan: RectifyPlan, block: Block, part: slice) -> Rectified:
    """
    Return some integrations of a block, rectified.

    Parameters
    ----------
    plan : RectifyPlan
        Of the exposure.
    block : Block
        Bad pixels NaN. Not modified.
    part : slice
        Which of its integrations.

    Returns
    -------
    rectified : Rectified
        ``variances`` in the order of ``plan.variances``.
    """
    planes = {"VAR_POISSON": block.var_poisson, "VAR_RNOISE": block.var_rnoise, "VAR_FLAT": block.var_flat}
    variances = [planes[name] for name in plan.variances]
    given: tuple[NDArray[np.float32] | None, ...] = tuple(None if v is None else v[part] for v in variances)
    if plan.needs_err:
        assert block.err is not None
        given = (np.square(block.err[part]),)
    if plan.shifts is None:
        return rectify(plan.rectifier, block.data[part], given)
    return _followed(plan, block, part, given)


def _followed(plan: RectifyPlan, block: Block, part: slice, given: tuple[NDArray[np.float32] | None, ...]) -> Rectified:
    """Return integrations each of which is moved by its own shift."""
    assert plan.shifts is not None
    assert plan.moved is not None
    found = []
    for i in range(*part.indices(block.n_int)):
        first, second = (float(value) for value in plan.shifts[block.start + i])
        rectifier = plan.moved((first, second))
        one = slice(i - part.start, i - part.start + 1)
        planes = tuple(None if v is None else v[one] for v in given)
        found.append(rectify(rectifier, block.data[i : i + 1], planes))
    joined = [np.concatenate([getattr(each, name) for each in found]) for name in ("data", "err", "weight")]
    variances = tuple(
        None if plane is None else np.concatenate([_known(each.variances[k]) for each in found])
        for k, plane in enumerate(given)
    )
    return Rectified(joined[0], joined[1], joined[2], variances)


def _known(plane: NDArray[np.float32] | None) -> NDArray[np.float32]:
    assert plane is not None
    return plane


def run(plan: RectifyPlan, block: Block, write: Write) -> None:
    """
    Rectify a block and write it.

    Parameters
    ----------
    plan : RectifyPlan
        Of the exposure.
    block : Block
        Its integrations, bad pixels NaN. Not modified.
    write : callable
        Takes exposure indices and planes by name (see `tso3.io.rectified.RectifiedWriter.write`).
    """
    for first in range(0, block.n_int, plan.chunk):
        part = slice(first, min(first + plan.chunk, block.n_int))
        found = rectified(plan, block, part)
        planes: dict[str, NDArray[np.generic]] = {"SCI": found.data, "ERR": found.err, "WHT": found.weight}
        planes["DQ"] = (found.weight == 0.0).view(np.uint8)  # DO_NOT_USE is 1
        for name, plane in zip(plan.variances, found.variances, strict=False):
            assert plane is not None
            planes[name] = plane
        write(block.start + part.start, block.start + part.stop, planes)


def frame(plan: RectifyPlan, image: NDArray[np.floating]) -> NDArray[np.float32]:
    """
    Return one image, rectified without errors.

    Parameters
    ----------
    plan : RectifyPlan
        Of the exposure.
    image : ndarray, shape (ny, nx)
        NaN where unknown.

    Returns
    -------
    rectified : ndarray of float32, shape (n_rows, n_columns)
    """
    found: NDArray[np.float32] = rectify(plan.rectifier, np.asarray(image, np.float32)[np.newaxis]).data[0]
    return found
