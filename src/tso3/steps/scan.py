"""
Scan of the apertures of a spectrum: white light of every width and background from one pass over the data.

What is laid down once (`prepare`) is what extraction would be given with each ``extract_width`` in turn: the same
weights, background, profile, aperture correction and range of wavelengths. Blocks become light curves (`run`); no
spectrum is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import background_image
from tso3.core.block import Block
from tso3.core.box import BoxPlan
from tso3.core.lightcurve import band_sum
from tso3.core.model import ExposureModel
from tso3.core.profile import SpatialProfile, narrowed_profile, spatial_profile
from tso3.core.scan import BoxPixels, ScanPlan, ScanSums, join_boxes, scan_extract
from tso3.core.spectra import SpectrumHeader
from tso3.core.weighted import GroupWeights, common, group_brightness
from tso3.errors import ParameterError
from tso3.parameters import Extract1D
from tso3.steps.extraction_plan import Extract1DPlan
from tso3.steps.extraction_setup import ExtractionSetup
from tso3.steps.extraction_shape import ShapeOf, Steady
from tso3.steps.white_light_normalized import NormalizedCurve, SteadyLight

__all__ = [
    "BACKGROUNDS",
    "CHUNK_BYTES",
    "Aperture",
    "Light",
    "SpectrumScan",
    "prepare",
    "run",
    "weighted",
    "with_aperture",
]

BACKGROUNDS: dict[str, dict[str, Any]] = {
    "as-is": {},
    "none": {"subtract_background": False},
    "mean": {"subtract_background": True, "bkg_fit": "mean"},
    "median": {"subtract_background": True, "bkg_fit": "median"},
    "line": {"subtract_background": True, "bkg_fit": "poly", "bkg_order": 1},
}
"""What can be scanned, by name, as values of extract_1d; ``as-is`` is what a run would do."""

CHUNK_BYTES = 4 * 2**20
"""Spectra of all widths that a thread holds at a time."""


@dataclass(frozen=True)
class Light:
    """
    What of a spectrum is in its white light.

    Attributes
    ----------
    inside : ndarray of bool, shape (n_wave,)
        Wavelengths of the sum.
    expected : ndarray of float64, shape (n_wave,), or None
        Spectrum by which sums that lack samples are completed; None if they are not.
    """

    inside: NDArray[np.bool_]
    expected: NDArray[np.float64] | None


@dataclass(frozen=True)
class Aperture:
    """
    One point of the grid of a spectrum.

    Attributes
    ----------
    background : str
        Key of `BACKGROUNDS`.
    width : float
        Full width [pixel].
    factor : ndarray of float64, shape (n_wave,)
        From the sum in the unit of the stack to the flux; 0 where there is no wavelength.
    light : Light
        Its white light.
    wavelength, spectrum : ndarray of float64, shape (n_wave,)
        Micron, and spectrum of the exposure's reference image in this aperture; NaN where unknown.
    weights : GroupWeights or None
        Of the weighted white light; None if there is none.
    """

    background: str
    width: float
    factor: NDArray[np.float64]
    light: Light
    wavelength: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    weights: GroupWeights | None = None


@dataclass(frozen=True)
class SpectrumScan:
    """
    All apertures of one spectrum (order) of an exposure.

    Attributes
    ----------
    header : SpectrumHeader
        Of the spectrum.
    turned : bool
        True if dispersion runs along y.
    rows : slice
        Detector rows that are read.
    apertures : tuple of Aperture
        The grid.
    groups : tuple of (ScanPlan, tuple of int)
        Apertures that share their background, by index, and the plan that sums them.
    """

    header: SpectrumHeader
    turned: bool
    rows: slice
    apertures: tuple[Aperture, ...]
    groups: tuple[tuple[ScanPlan, tuple[int, ...]], ...]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(plan.n_bytes for plan, _ in self.groups)

    @property
    def turned_bytes(self) -> int:
        """Bytes per integration of the copies of its planes with dispersion along x; 0 where it runs so anyway."""
        rows = max(int(plan.box.rows[-1] - plan.box.rows[0]) + 1 for plan, _ in self.groups)
        return rows * max(plan.box.npixels.size for plan, _ in self.groups) * 16 if self.turned else 0


def with_aperture(parameters: Extract1D, background: str, width: float | None) -> Extract1D:
    """
    Return the parameters of extraction with one point of the grid.

    Parameters
    ----------
    parameters : Extract1D
        Those of a run.
    background : str
        Key of `BACKGROUNDS`.
    width : float or None
        Full width [pixel]; None leaves that of the reference.

    Returns
    -------
    parameters : Extract1D
        With the aperture correction of the aperture without bad pixels, which needs no look at the data.

    Raises
    ------
    ParameterError
        If there is no such background.
    """
    if background not in BACKGROUNDS:
        raise ParameterError(f"{background!r} is none of {', '.join(BACKGROUNDS)}", "--background")
    changes = {"extract_width": width, "extraction_type": "box", "apcorr_npixels": "nominal"}
    return parameters.model_copy(update=changes | BACKGROUNDS[background])


class _Profiles:
    """Profiles of the spectra of an exposure in the widest aperture, from which those of narrower ones are taken."""

    def __init__(self) -> None:
        self._known: list[SpatialProfile] = []
        self._background: NDArray[np.float64] | None = None
        self._region: NDArray[np.bool_] | None = None
        self._next = 0

    def begin(self) -> None:
        """Say that the next call is for the first spectrum again."""
        self._next = 0

    def __call__(self, setup: ExtractionSetup, model: ExposureModel, turned: bool) -> Steady:
        """Return what the next spectrum looks like."""
        reference = model.reference.T if turned else model.reference
        background = self._background_of(setup, reference)
        net = reference if background is None else reference - background
        k, self._next = self._next, self._next + 1
        if k == len(self._known):
            self._known.append(spatial_profile(net, setup.aperture))
            profile = self._known[k]
        else:
            profile = narrowed_profile(net, setup.aperture, self._known[k])
        return Steady(reference, background, profile, turned, len(model.sample))

    def _background_of(self, setup: ExtractionSetup, reference: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the background of the reference image, fitted anew only where its region is another."""
        if setup.region is None:
            return None
        if self._background is None or self._region is None or not np.array_equal(self._region, setup.region):
            self._background = background_image(reference, setup.region, setup.fit)
            self._region = setup.region
        return self._background


def prepare(
    plans_of: Callable[[Extract1D, ShapeOf], Sequence[Extract1DPlan]],
    light_of: Callable[[Extract1DPlan], Light],
    parameters: Extract1D,
    widths: Sequence[float],
    backgrounds: Sequence[str],
) -> tuple[SpectrumScan, ...]:
    """
    Return the scans of an exposure: one for each of its spectra.

    The profile by which missing pixels are completed is made once for each background, in the widest aperture.

    Parameters
    ----------
    plans_of : callable
        Gives the plans of extraction for some parameters, with profiles as it is told.
    light_of : callable
        Gives what of a spectrum is in the white light.
    parameters : Extract1D
        Those of a run.
    widths : sequence of float
        Full widths [pixel], ascending.
    backgrounds : sequence of str
        Keys of `BACKGROUNDS`.

    Returns
    -------
    scans : tuple of SpectrumScan
        Empty if the exposure has no spectrum that can be extracted.
    """
    parts: list[list[_Part]] = []
    boxes: list[dict[bytes, Extract1DPlan]] = []
    for background in backgrounds:
        profiles = _Profiles()
        of_background: list[list[_Part]] = []
        for width in sorted(widths, reverse=True):
            profiles.begin()
            chosen = with_aperture(parameters, background, width)
            if width < max(widths):  # the profile in every integration is that of the widest as well
                chosen = chosen.model_copy(update={"profile": "steady"})
            plans = plans_of(chosen, profiles)
            boxes = boxes or [{} for _ in plans]
            of_background = of_background or [[] for _ in plans]
            for k, plan in enumerate(plans):
                pixels = BoxPixels.of(plan.box)
                boxes[k].setdefault(pixels.background, plan)
                of_background[k].insert(0, _part(background, width, plan, pixels, light_of(plan)))
        parts = parts or [[] for _ in of_background]
        for part, more in zip(parts, of_background, strict=True):
            part.extend(more)
    return tuple(_scan(part, box) for part, box in zip(parts, boxes, strict=True))


@dataclass(frozen=True)
class _Part:
    """What is kept of the plan of one aperture."""

    background: str
    width: float
    header: SpectrumHeader
    turned: bool
    rows: slice
    pixels: BoxPixels
    columns: NDArray[np.int64]
    factor: NDArray[np.float64]
    light: Light
    wavelength: NDArray[np.float64]
    spectrum: NDArray[np.float64] | None


def _part(background: str, width: float, plan: Extract1DPlan, pixels: BoxPixels, light: Light) -> _Part:
    factor = np.full(plan.wavelength.size, plan.units.flux)
    for more in (plan.nominal, plan.calibration):
        factor = factor if more is None else factor * more
    columns = plan.box.start + plan.columns
    kept = (plan.header, plan.turned, plan.rows, pixels, columns, factor, light, plan.wavelength, plan.expected)
    return _Part(background, width, *kept)


def _scan(parts: Sequence[_Part], widest: dict[bytes, Extract1DPlan]) -> SpectrumScan:
    """Return the scan of one spectrum; ``widest`` has the plan of the widest box of each background."""
    groups: list[tuple[ScanPlan, tuple[int, ...]]] = []
    apertures: dict[int, Aperture] = {}
    for digest, plan in widest.items():
        members = [k for k, part in enumerate(parts) if part.pixels.background == digest]
        joined = join_boxes(plan.box, [parts[k].pixels for k in members], plan.moving)
        groups.append((joined, tuple(members)))
        for k in members:
            apertures[k] = _placed(parts[k], plan.box)
    rows = slice(min(part.rows.start for part in parts), max(part.rows.stop for part in parts))
    ordered = tuple(apertures[k] for k in range(len(parts)))
    return SpectrumScan(parts[0].header, parts[0].turned, rows, ordered, tuple(groups))


def _placed(part: _Part, box: BoxPlan) -> Aperture:
    """Return an aperture whose arrays are for the columns of the widest box."""
    n_wave = box.npixels.size
    at = part.columns - box.start
    factor, inside = np.zeros(n_wave), np.zeros(n_wave, dtype=bool)
    factor[at], inside[at] = part.factor, part.light.inside
    wavelength, spectrum, expected = (np.full(n_wave, np.nan) for _ in range(3))
    wavelength[at] = part.wavelength
    if part.spectrum is not None:
        spectrum[at] = part.spectrum
    if part.light.expected is not None:
        expected[at] = part.light.expected
    light = Light(inside, None if part.light.expected is None else expected)
    return Aperture(part.background, part.width, factor, light, wavelength, spectrum)


def weighted(scan: SpectrumScan, model: ExposureModel) -> SpectrumScan:
    """
    Return a scan that measures the weighted white light as well.

    Parameters
    ----------
    scan : SpectrumScan
        Of a spectrum.
    model : ExposureModel
        Its image and noise give the weights, as `tso3.steps.white_light_normalized.steady_light` has them.

    Returns
    -------
    scan : SpectrumScan
        Without weights if the model has no noise.
    """
    if model.noise is None:
        return scan
    image = model.reference.astype(np.float32)[np.newaxis]
    noise = (model.noise.astype(np.float64) ** 2).astype(np.float32)[np.newaxis]
    bad = ~(np.isfinite(image) & np.isfinite(noise))
    image, noise = np.where(bad, np.float32(np.nan), image), np.where(bad, np.float32(np.nan), noise)
    frame = Block(0, image, None, None, bad, noise, np.zeros_like(noise), None)
    apertures = list(scan.apertures)
    for plan, members in scan.groups:
        sums = _sums(scan, plan, frame, slice(0, 1))
        for k, member in enumerate(members):
            aperture = apertures[member]
            with np.errstate(divide="ignore", invalid="ignore"):
                variance = sums.limit[k, 0] / (1.0 - sums.missing[k, 0]) * aperture.factor**2
            steady = SteadyLight(aperture.spectrum, variance)
            curve = NormalizedCurve(steady, aperture.wavelength, aperture.light.inside, np.zeros(1, bool))
            apertures[member] = replace(aperture, weights=curve.weights)
    return replace(scan, apertures=tuple(apertures))


def run(scan: SpectrumScan, block: Block) -> NDArray[np.float64]:
    """
    Return the white light of a block in every aperture.

    Parameters
    ----------
    scan : SpectrumScan
        Of a spectrum of its exposure.
    block : Block
        Some integrations in detector orientation, bad pixels NaN; only ``scan.rows`` are read. Not modified.

    Returns
    -------
    light : ndarray of float64, shape (5, n_aperture, n_int)
        Flux, variance of photon and read noise were no pixel missing, and share of the light that is missing: what
        `tso3.steps.white_light.WhiteLightCurve` has of an extraction with that aperture; then flux and variance of
        the weighted white light, NaN without weights.
    """
    light = np.full((5, len(scan.apertures), block.n_int), np.nan)
    for plan, members in scan.groups:
        step = max(1, CHUNK_BYTES // (24 * len(members) * plan.box.npixels.size))
        for low in range(0, block.n_int, step):
            here = slice(low, min(low + step, block.n_int))
            _run_group(scan, plan, members, block, here, light)
    return light


def _sums(scan: SpectrumScan, plan: ScanPlan, block: Block, here: slice) -> ScanSums:
    """Return the spectra of some integrations of a block, turned to dispersion along x."""
    planes = [block.data, block.var_poisson, block.var_rnoise, block.var_flat]
    if scan.turned:
        first, last = int(plan.box.rows[0]), int(plan.box.rows[-1]) + 1
        plan = plan.lowered(first)
        planes = [None if p is None else np.ascontiguousarray(p[here, :, first:last].swapaxes(1, 2)) for p in planes]
    else:
        planes = [None if p is None else p[here] for p in planes]
    data, var_poisson, var_rnoise, var_flat = planes
    assert data is not None
    return scan_extract(plan, data, var_poisson, var_rnoise, var_flat, start=block.start + here.start)


def _run_group(
    scan: SpectrumScan, plan: ScanPlan, members: Sequence[int], block: Block, here: slice, light: NDArray[np.float64]
) -> None:
    """Fill the light of some integrations in the apertures that share their background."""
    sums = _sums(scan, plan, block, here)
    for k, member in enumerate(members):
        aperture = scan.apertures[member]
        flux, limit = sums.flux[k] * aperture.factor, sums.limit[k] * aperture.factor**2
        inside, expected = aperture.light.inside, aperture.light.expected
        ideal = band_sum(flux, limit, inside, expected)
        light[0, member, here] = ideal.flux
        light[1, member, here] = ideal.variance * ideal.kept
        light[2, member, here] = _missing(flux, sums.missing[k], aperture.light)
        if aperture.weights is not None:
            found = group_brightness(flux, limit, aperture.weights)
            mean = common(found.value, found.variance * found.kept, aperture.weights.whole)
            light[3, member, here] = mean.value[:, 0]
            light[4, member, here] = mean.variance[:, 0] * mean.kept[:, 0]


def _missing(flux: NDArray[np.float64], missing: NDArray[np.float64], light: Light) -> NDArray[np.float64] | float:
    """Return the share of the light that is missing, samples that are not valid included."""
    lost = np.where(np.isfinite(flux), np.maximum(missing, 0.0), 1.0)
    weight = np.ones(light.inside.size) if light.expected is None else light.expected
    weight = np.where(light.inside & (weight > 0.0), weight, 0.0)
    whole = weight.sum()
    if not whole > 0.0:
        return float("nan")
    return np.array([float((row * weight).sum() / whole) for row in lost])
