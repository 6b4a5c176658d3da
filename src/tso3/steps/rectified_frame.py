"""Where the spectra of an exposure are, as rectification needs it: wavelength of every pixel, and the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.model import ExposureModel
from tso3.core.soss_trace import column_centroids, smooth_shift
from tso3.core.wavelength_grid import GridEdges, grid_edges, mean_step, width_ratio
from tso3.errors import ParameterError
from tso3.parameters import Extract1D, Rectify, listed_numbers
from tso3.steps.soss_light import on_soss_light

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References
    from tso3.steps.extraction_plan import Extract1DPlan

__all__ = ["SpectrumPlace", "missed", "shared_edges", "shared_rows", "soss_places", "spectrum_place", "taken_step"]

Floats = NDArray[np.float64]

_HALF_LIGHT = 6.0
"""Half width of the window of a centroid [pixel]."""
_DEGREE = 3
_CUT = 0.99
"""Share of the width of its neighbour below which the column of a box is cut."""
_VARIES = 1.005
"""
Ratio of the widths of pixels above which ``auto`` takes the pixels' own grid.

It is 1.0005 for NIRCam's grism and DHS, 1.0075 and 1.013 for G395H (NRS1, NRS2), 1.07, 1.18 and 1.22 for SOSS, 5.2 for
the prism and 7.4 for LRS. On columns of the mean dispersion the flux of a spectrum that is smooth over 20 pixels is off
by more than 1e-4 from 1.18 on; the normalized white light differs from that of the detector by 0.03 of its error at
1.0005, but 0.16 to 0.32 from 1.0075 to 1.07. On the columns of the pixels both are smaller throughout.
"""
_PER_AREA = ("Jy", "MJy", "mJy", "uJy", "MJy/sr")
"""Units of flux density: of spectra their mean over wavelengths is what is kept."""


@dataclass(frozen=True)
class SpectrumPlace:
    """
    Where one spectrum of an exposure is, dispersion along the last axis.

    Attributes
    ----------
    exposure : Exposure
        Whose.
    wavelength : ndarray of float64, shape (n_rows, n_wave)
        Of every pixel [micron]; NaN where there is none.
    trace : ndarray of float64, shape (n_wave,)
        Row of the light; finite.
    turned : bool
        True if dispersion runs along y on the detector.
    order : int
        Spectral order.
    mark : str
        What the names of its products say besides.
    """

    exposure: Exposure
    wavelength: Floats
    trace: Floats
    turned: bool
    order: int
    mark: str

    @property
    def per_pixel(self) -> bool:
        """Whether values are amounts in a pixel (a count rate), whose sum is kept, and not densities."""
        return self.exposure.bunit not in _PER_AREA

    @property
    def on_trace(self) -> Floats:
        """Wavelength on the trace, shape (n_wave,); NaN where unknown."""
        n_rows, n_wave = self.wavelength.shape
        low = np.clip(np.floor(self.trace).astype(np.int64), 0, max(n_rows - 2, 0))
        share, columns = self.trace - low, np.arange(n_wave)
        first, second = self.wavelength[low, columns], self.wavelength[np.minimum(low + 1, n_rows - 1), columns]
        return np.asarray(first + share * (second - first))

    def coordinates(self, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Floats, Floats]:
        """
        Return wavelength and distance from the trace at the centre of every pixel.

        ``shift`` is by how much the light lies farther along dispersion and across [pixel] than expected.
        """
        along, across = shift
        wavelength = self.wavelength
        if along:
            wavelength = wavelength - along * np.gradient(wavelength, axis=1)
        line = self.on_trace
        known = np.flatnonzero(np.isfinite(line))
        rising = known[np.argsort(line[known], kind="stable")]
        rows = np.arange(float(wavelength.shape[0]))[:, np.newaxis]
        trace = np.interp(wavelength, line[rising], self.trace[rising])
        return wavelength, np.asarray(rows - trace - across)

    def on_sky(self) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """Return the place of the trace on the sky, and the way from one row to the next to east and north [deg]."""
        line = self.on_trace
        known = np.flatnonzero(np.isfinite(line))
        middle = int(known[known.size // 2])
        rows = self.trace[middle] + np.array([-2.0, 0.0, 2.0])
        near = np.clip(np.rint(rows), 0, self.wavelength.shape[0] - 1).astype(np.int64)
        step = float(np.nanmedian(np.diff(line[known])))
        columns = middle - (self.wavelength[near, middle] - line[middle]) / step
        x, y = (rows, columns) if self.turned else (columns, rows)
        found = self.exposure.geometry.skies(x, y)
        if found is None or not np.isfinite([found[0][1], found[1][1]]).all():
            return None, None
        sky = float(found[0][1]), float(found[1][1])
        if not np.isfinite(found).all():
            return sky, None
        east = float(found[0][2] - found[0][0]) * np.cos(np.radians(sky[1])) / 4.0
        north = float(found[1][2] - found[1][0]) / 4.0
        return sky, None if np.hypot(east, north) < 1e-9 else (east, north)


def spectrum_place(exposure: Exposure, plan: Extract1DPlan, model: ExposureModel | None, mark: str) -> SpectrumPlace:
    """
    Return where a spectrum is: along the middle of its aperture, moved onto the light of the reference image.

    Parameters
    ----------
    exposure : Exposure
        Whose.
    plan : Extract1DPlan
        How it is extracted.
    model : ExposureModel or None
        Its reference image shows the light; without it the middle of the aperture is the trace.
    mark : str
        What the names of its products say besides.

    Returns
    -------
    place : SpectrumPlace
    """
    turned = plan.turned
    wavelength = exposure.wavelength
    assert wavelength is not None
    plane: Floats = np.asarray(wavelength.T if turned else wavelength, np.float64)
    box = plan.box
    columns = box.start + np.arange(box.npixels.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (box.aperture * box.rows[:, np.newaxis]).sum(axis=0) / box.npixels
    known = _whole(box.npixels) & np.isfinite(middle)
    trace = np.interp(np.arange(float(plane.shape[1])), columns[known], middle[known])
    if model is not None:
        trace = _on_light(trace, model.reference.T if turned else model.reference, plan)
    return SpectrumPlace(exposure, plane, trace, turned, plan.header.spectral_order, mark)


def _whole(npixels: Floats) -> NDArray[np.bool_]:
    """Return the columns of a box without those at its ends that are narrower than the next: something cuts them."""
    first, last = 0, npixels.size - 1
    while first < last and not npixels[first] >= _CUT * npixels[first + 1]:
        first += 1
    while last > first and not npixels[last] >= _CUT * npixels[last - 1]:
        last -= 1
    columns = np.arange(npixels.size)
    return (columns >= first) & (columns <= last)


def _on_light(trace: Floats, image: NDArray[np.floating], plan: Extract1DPlan) -> Floats:
    """Return a trace moved by a polynomial onto the light of an image; as it is where the light does not tell."""
    rows = np.arange(float(image.shape[0]))[:, np.newaxis]
    away = np.where(np.abs(rows - trace) > _HALF_LIGHT + 2.0, image, np.nan)
    known = np.isfinite(away).any(axis=0)
    level = np.zeros(image.shape[1])
    level[known] = np.nanmedian(away[:, known], axis=0)
    net = np.asarray(image, np.float64) - level
    half = min(_HALF_LIGHT, max(2.0, (image.shape[0] - 1) / 2.0 - 1.0))
    centroid = column_centroids(net, trace, half)
    light = np.nansum(np.where(np.abs(rows - trace) <= half, net, 0.0), axis=0)
    bright = light > 0.1 * np.nanmax(light)
    inside = np.zeros(image.shape[1], bool)
    inside[plan.box.start + plan.columns] = True
    shift = smooth_shift(np.where(bright & inside, centroid - trace, np.nan), _DEGREE, least=20)
    return trace if shift is None else trace + shift


def soss_places(
    exposure: Exposure,
    references: References,
    parameters: Extract1D,
    model: ExposureModel | None,
    orders: Sequence[int],
) -> list[SpectrumPlace]:
    """
    Return where the orders of SOSS are: along the traces that are extracted, with the wavelength of each column.

    Parameters
    ----------
    exposure : Exposure
        Of NIS_SOSS.
    references : References
        Names the reference of the traces.
    parameters : Extract1D
        Of the extraction.
    model : ExposureModel or None
        Its image corrects built-in traces.
    orders : sequence of int
        Which.

    Returns
    -------
    places : list of SpectrumPlace
    """
    from tso3.steps.soss import find_traces

    lines, kept = [], []
    for found in find_traces(exposure, references, parameters, model):
        known = np.isfinite(found.trace) & np.isfinite(found.wavelength)
        if known.sum() >= 2:
            line = np.full((2, exposure.nx), np.nan)
            line[:, np.flatnonzero(known)] = found.trace[known], found.wavelength[known]
            lines.append(line)
            kept.append(found.order)
    traces = [line[0] for line in lines]
    if model is not None and lines:
        traces = on_soss_light(traces, model.reference)
    places = []
    for order, trace, (_, line) in zip(kept, traces, lines, strict=True):
        if order in orders:
            known = np.isfinite(trace)
            everywhere = np.interp(np.arange(float(exposure.nx)), np.flatnonzero(known), trace[known])
            wavelength = np.repeat(line[np.newaxis], exposure.ny, axis=0)
            places.append(SpectrumPlace(exposure, wavelength, everywhere, False, order, f"_order{order}"))
    return places


def taken_step(places: Sequence[SpectrumPlace], parameters: Rectify) -> float | str:
    """
    Return how the columns of spectra of one detector and order are spaced: ``rectify.step``, with ``auto`` decided.

    Parameters
    ----------
    places : sequence of SpectrumPlace
        One for each exposure.
    parameters : Rectify
        ``step`` says what is asked for.

    Returns
    -------
    step : float or str
        For ``auto`` ``"mean"``, or ``"native"`` where the widest pixel of the trace is more than `_VARIES` times as
        wide as the narrowest.
    """
    if parameters.step != "auto":
        return parameters.step
    return "native" if width_ratio(places[0].on_trace) > _VARIES else "mean"


def shared_edges(places: Sequence[SpectrumPlace], parameters: Rectify) -> GridEdges:
    """
    Return the columns of the grid of spectra of one detector and order.

    Parameters
    ----------
    places : sequence of SpectrumPlace
        One for each exposure.
    parameters : Rectify
        ``step`` says how they are spaced.

    Returns
    -------
    edges : GridEdges

    Raises
    ------
    ParameterError
        If there is no column, or none of the spectrum is in it.
    """
    lines = [line[np.isfinite(line)] for line in (place.on_trace for place in places)]
    span = _span(places)
    asked = taken_step(places, parameters)
    try:
        if asked == "mean":
            return grid_edges(span, step=mean_step(places[0].on_trace))
        if asked == "native":
            return _native(np.sort(lines[0]))
        if isinstance(asked, float):
            return grid_edges(span, step=asked)
        if asked.startswith("R="):
            return grid_edges(span, resolution=float(asked[2:]))
    except ValueError as error:
        raise ParameterError(f"{asked} makes {error}; choose another step", "rectify.step") from None
    edges = np.array(listed_numbers(asked))
    if missed(places, parameters):
        raise ParameterError(
            f"{edges[0]:g} to {edges[-1]:g} micron holds nothing of {places[0].exposure.label}"
            f" ({span[0]:g} to {span[1]:g})",
            "rectify.step",
        )
    return GridEdges(edges, "edges")


def missed(places: Sequence[SpectrumPlace], parameters: Rectify) -> bool:
    """
    Return whether a list of edges holds no wavelength of spectra of one detector and order.

    Parameters
    ----------
    places : sequence of SpectrumPlace
        One for each exposure.
    parameters : Rectify
        ``step`` may be a list.

    Returns
    -------
    missed : bool
        False if it is none.
    """
    asked = parameters.step
    if not isinstance(asked, str) or "," not in asked:
        return False
    edges, span = listed_numbers(asked), _span(places)
    return edges[-1] <= span[0] or edges[0] >= span[1]


def _span(places: Sequence[SpectrumPlace]) -> tuple[float, float]:
    """Return the least and the largest wavelength on the traces."""
    lines = [place.on_trace[np.isfinite(place.on_trace)] for place in places]
    return min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)


def _native(line: Floats) -> GridEdges:
    """Return edges half-way between the wavelengths of the pixels of the trace."""
    inner = 0.5 * (line[:-1] + line[1:])
    edges = np.concatenate([[2.0 * line[0] - inner[0]], inner, [2.0 * line[-1] - inner[-1]]])
    return GridEdges(edges, "edges")


def shared_rows(places: Sequence[SpectrumPlace], edges: GridEdges, height: int) -> tuple[int, int]:
    """
    Return the rows of the grid: how many, and which of them the trace lies on.

    Parameters
    ----------
    places : sequence of SpectrumPlace
        One for each exposure.
    edges : GridEdges
        Its columns.
    height : int
        Most rows.

    Returns
    -------
    n_rows, centre : int
        As far as the detector reaches from the trace anywhere, but no more than half the height on either side.
    """
    below, above = 0.0, 0.0
    for place in places:
        line = place.on_trace
        inside = np.isfinite(line) & (line > edges.edges[0]) & (line < edges.edges[-1])
        trace = place.trace[inside]
        below = max(below, float(trace.max()))
        above = max(above, float(place.wavelength.shape[0] - 1 - trace.min()))
    centre = int(min(np.ceil(below), height // 2))
    return centre + 1 + int(min(np.ceil(above), height - 1 - height // 2)), centre
