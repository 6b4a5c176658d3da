"""
Extraction from rectified frames: a box about the level trace, in columns of one wavelength each.

The frame that is rectified has its bad pixels completed as the extraction from the detector completes its sums: in a
column that lacks the share m of its light, the bad pixels get m F of the completed sum F, spread over them as the light
of the exposure's reference image, on the background of that integration. So both extractions have the same light. The
background is fitted on the detector and subtracted there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.apcorr import aperture_correction
from tso3.core.block import Block
from tso3.core.box import BoxSums, background_weights, box_extract, plan_box
from tso3.core.edge_light import edge_light
from tso3.core.model import ExposureModel
from tso3.core.moving import recompleted
from tso3.core.rectified_sums import column_factors, input_weights, rows_of, typical_variance
from tso3.core.rectify import Rectified, Rectifier, rectify
from tso3.core.spectra import Spectra
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.io.rectified_grid import SpectralGrid
from tso3.steps import extract_1d
from tso3.steps.extraction_plan import Extract1DPlan
from tso3.steps.rectify import RectifyPlan, rectified

__all__ = ["RectifiedExtraction", "prepare", "run", "spread", "steady_spectra"]

Floats = NDArray[np.float64]
Planes = tuple[NDArray[np.float32] | None, ...]

_COVERED = 0.9
"""Part of every pixel of the box that a column must have on the detector."""
_WHOLE = 1.0 - 1e-4
"""Part of its weight from which a rectified pixel lacks nothing."""


@dataclass(frozen=True)
class RectifiedExtraction:
    """
    How one spectrum of an exposure is extracted from its rectified frames; the same for all blocks.

    Attributes
    ----------
    plan : Extract1DPlan
        In the rectified frame.
    source : Extract1DPlan
        On the detector, by which bad pixels are completed.
    rectify : RectifyPlan
        How frames are rectified.
    rows : slice
        Rows of the grid that are needed.
    aperture : ndarray of float64, shape (n_rows, n_wave)
        Weights of the aperture on the detector, dispersion along the last axis, columns of ``source.box``.
    light : ndarray of float64, shape (n_rows, n_wave)
        Light of the reference image there, without background, everywhere known.
    reach : ndarray of bool, shape (n_rows, n_wave)
        Pixels that the box in the rectified frame counts.
    nearest : ndarray of int64, shape (n_wavelengths,)
        Column of ``source.box`` that is nearest to each wavelength.
    factors : ndarray of float64, shape (n_columns,)
        What covariance makes of the error of the sum of each column of the grid.
    """

    plan: Extract1DPlan
    source: Extract1DPlan
    rectify: RectifyPlan
    rows: slice
    aperture: Floats
    light: Floats
    reach: NDArray[np.bool_]
    nearest: NDArray[np.int64]
    factors: Floats

    @property
    def rectifier(self) -> Rectifier:
        """Overlaps that make the rows that are needed."""
        return rows_of(self.rectify.rectifier, self.rows)

    @property
    def chunk_bytes(self) -> int:
        """Bytes that a thread needs: copies of frames, twice where they are turned, and rectified ones."""
        ny, nx = self.rectify.rectifier.input_shape
        return self.rectify.chunk_bytes + self.rectify.chunk * ny * nx * 5 * 4 * 2

    @property
    def widths(self) -> Floats:
        """What a background per pixel counts in a column: its width in pixels for an amount per pixel, else 1."""
        if not self.rectify.layout.density:
            return np.ones(self.nearest.size)
        native = np.zeros(self.source.box.npixels.size)
        native[self.source.columns] = np.abs(np.gradient(self.source.wavelength))
        return np.diff(_grid(self.rectify).edges)[self.plan.columns] / native[self.nearest]

    def input_weights(self, weights: Floats) -> Floats:
        """
        Return what the pixels of the detector count in a weighted sum of pixels of the needed rows.

        Those of the background are counted too, by the sum of what the pixels of each column in the aperture count.
        """
        found, box = input_weights(self.rectifier, weights), self.source.box
        if not box.background.any():
            return found
        turned = found.T if self.source.turned else found
        inside = turned[:, box.start : box.start + box.npixels.size]
        mean = inside.sum(axis=0) / np.where(box.npixels > 0.0, box.npixels, 1.0)
        turned[np.ix_(box.rows, box.start + np.arange(box.npixels.size))] -= mean * background_weights(box)
        return found


def prepare(
    source: Extract1DPlan, plan: RectifyPlan, model: ExposureModel | None, offset: float
) -> RectifiedExtraction:
    """
    Return how a spectrum is extracted from rectified frames.

    Parameters
    ----------
    source : Extract1DPlan
        How it is extracted from the detector.
    plan : RectifyPlan
        How its frames are rectified.
    model : ExposureModel or None
        From the survey.
    offset : float
        Of its middle from the trace [pixel].

    Returns
    -------
    extraction : RectifiedExtraction

    Raises
    ------
    ParameterError
        If the box does not fit into the rectified frame.
    """
    box = source.box
    rectifier = plan.rectifier
    level = np.zeros(box.npixels.size)
    n_rows = rectifier.input_shape[1] if source.turned else rectifier.input_shape[0]
    width = float(np.median(box.npixels[source.columns]))
    aperture = _box(plan, source, width, offset)
    if model is not None:
        level = _reference_level(source, model)
    light = _light(source, model, level, n_rows)
    wavelength, columns = _columns(source, plan, aperture)
    used = np.flatnonzero(aperture.any(axis=1))
    rows = slice(int(used[0]), int(used[-1]) + 1)
    part = rows_of(rectifier, rows)
    noise = typical_variance(model, rectifier)
    aperture = aperture[rows]
    full = np.zeros((n_rows, box.npixels.size))
    full[box.rows] = box.aperture
    reach = input_weights(part, aperture) > 0.0
    inside = slice(box.start, box.start + box.npixels.size)
    found = RectifiedExtraction(
        plan=replace(source, wavelength=wavelength, columns=columns, turned=False, moving=None, edges=None),
        source=source,
        rectify=plan,
        rows=rows,
        aperture=full,
        light=light,
        reach=(reach.T if source.turned else reach)[:, inside],
        nearest=source.columns[np.abs(wavelength[:, np.newaxis] - source.wavelength).argmin(axis=1)],
        factors=column_factors(part, aperture, noise),
    )
    return replace(found, plan=_rectified_plan(found, model, aperture))


def _box(plan: RectifyPlan, source: Extract1DPlan, width: float, offset: float) -> Floats:
    """Return the weights of the box in the rectified frame."""
    rectifier = plan.rectifier
    middle = _grid(plan).centre + offset
    low, high = middle - width / 2.0, middle + width / 2.0
    if low < -0.5 - 1e-6 or high > rectifier.shape[0] - 0.5 + 1e-6:
        raise ParameterError(
            f"{rectifier.shape[0]} rows do not hold a box of {width:g} pixels about the trace of"
            f" {source.header.slit_name} (order {source.header.spectral_order}); take a larger height, a smaller"
            " extract_1d.extract_width, or extract_1d.from = exposure",
            "rectify.height",
        )
    row = np.arange(float(rectifier.shape[0]))
    weight = np.clip(np.minimum(row + 0.5, high) - np.maximum(row - 0.5, low), 0.0, 1.0)
    return np.repeat(weight[:, np.newaxis], rectifier.shape[1], axis=1)


def _columns(source: Extract1DPlan, plan: RectifyPlan, aperture: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the wavelengths of the columns that the box covers within the range of the detector's, and which."""
    wavelength = _grid(plan).wavelength
    span = np.sort(source.wavelength)
    ends = span[0] - 0.5 * (span[1] - span[0]), span[-1] + 0.5 * (span[-1] - span[-2])
    edges = _grid(plan).edges
    inside = (edges[:-1] >= ends[0] - 1e-9) & (edges[1:] <= ends[1] + 1e-9)
    covered = np.all((plan.rectifier.nominal > _COVERED) | (aperture == 0.0), axis=0)
    columns = np.flatnonzero(inside & covered)
    if columns.size < 1:
        raise ParameterError("no column of the grid is wholly on the detector", "rectify.step")
    return wavelength[columns], columns


def _grid(plan: RectifyPlan) -> SpectralGrid:
    """Return the grid of a plan of a spectrum."""
    assert isinstance(plan.layout.grid, SpectralGrid)
    return plan.layout.grid


def _reference_level(source: Extract1DPlan, model: ExposureModel) -> Floats:
    """Return the background of the reference image in each column of the aperture."""
    image = model.reference.T if source.turned else model.reference
    sums = box_extract(source.box, np.ascontiguousarray(image, np.float32)[np.newaxis], None, None, None)
    return np.asarray(np.nan_to_num(sums.background[0] / np.where(sums.npixels[0] > 0.0, sums.npixels[0], 1.0)))


def _light(source: Extract1DPlan, model: ExposureModel | None, level: Floats, n_rows: int) -> Floats:
    """Return the light of the reference image; in the aperture that of the profile by which sums are completed."""
    box = source.box
    light = np.zeros((n_rows, box.npixels.size))
    if model is None or source.expected is None:
        return light
    image = (model.reference.T if source.turned else model.reference)[:, box.start : box.start + box.npixels.size]
    light[:] = np.maximum(np.nan_to_num(image - level), 0.0)
    factor = source.units.flux * (1.0 if source.nominal is None else source.nominal)
    factor = factor * (1.0 if source.calibration is None else source.calibration)
    whole = np.zeros(box.npixels.size)
    whole[source.columns] = np.nan_to_num(source.expected / factor)
    inside = box.aperture > 0.0
    share = np.nan_to_num(box.profile) * whole / np.where(inside, box.aperture, 1.0)
    light[box.rows] = np.where(inside & (whole > 0.0), share, light[box.rows])
    return light


def _rectified_plan(
    found: RectifiedExtraction,
    model: ExposureModel | None,
    aperture: Floats,
) -> Extract1DPlan:
    """Return the plan of the spectrum in the rectified frame."""
    source, plan = found.source, found.plan
    light = _rectified_image(found, found.light).astype(np.float64)
    span = (0, found.rectify.rectifier.shape[1])
    box = plan_box(aperture, None, None, light, source.complete, source.box.max_missing, span)
    calibration = _calibration(found)
    nominal = None
    if source.correction is not None:
        nominal = aperture_correction(source.correction, plan.wavelength, box.npixels[plan.columns])
    left_out = None
    if source.left_out is not None:
        lost = np.zeros(source.box.npixels.size, bool)
        lost[source.columns] = source.left_out
        left_out = lost[found.nearest]
    plan = replace(
        plan,
        box=box,
        calibration=calibration,
        nominal=nominal,
        needs_first=False,
        left_out=left_out,
        rows=_rows_read(source, found.rectify),
    )
    expected = None
    if model is not None and light is not None:
        factor = plan.units.flux * (1.0 if nominal is None else nominal) * (1.0 if calibration is None else calibration)
        expected = (aperture * np.nan_to_num(light)).sum(axis=0)[plan.columns] * factor
        expected = expected if left_out is None else np.where(left_out, np.nan, expected)
    if source.edges is not None and found.rectify.shifts is None and model is not None and model.noise is not None:
        noise = np.sqrt(typical_variance(model, found.rectify.rectifier)).astype(np.float32)
        images = [rectify(found.rectifier, noise[np.newaxis]).data[0] * 1.2533 / np.sqrt(max(len(model.sample), 1))]
        shift = source.edges.shift
        plan = replace(plan, edges=edge_light(box, light, images[0], shift, np.zeros_like(shift)))
    return replace(plan, expected=expected)


def _rows_read(source: Extract1DPlan, plan: RectifyPlan) -> slice:
    """Return the detector rows that both frames read."""
    return slice(min(source.rows.start, plan.rows.start), max(source.rows.stop, plan.rows.stop))


def _calibration(found: RectifiedExtraction) -> Floats | None:
    """Return the factor of the flux in the columns of the grid; of an amount per pixel, for the width of a column."""
    source, plan = found.source, found.plan
    if source.calibration is None:
        return None
    order = np.argsort(source.wavelength)
    wavelength, calibration = source.wavelength[order], source.calibration[order]
    if found.rectify.layout.density:
        calibration = calibration * np.abs(np.gradient(wavelength))
    values = np.interp(plan.wavelength, wavelength, calibration)
    if not found.rectify.layout.density:
        return values
    edges = _grid(found.rectify).edges
    return values / np.diff(edges)[plan.columns]


def _rectified_image(found: RectifiedExtraction, image: Floats) -> NDArray[np.float32]:
    """Return an image of the columns of the detector's aperture, rectified; zero beside them."""
    source = found.source
    shape = found.rectify.rectifier.input_shape
    whole = np.zeros(shape[::-1] if source.turned else shape, np.float32)
    whole[:, source.box.start : source.box.start + image.shape[1]] = image
    frame = np.ascontiguousarray(whole.T if source.turned else whole)
    image_of: NDArray[np.float32] = rectify(found.rectifier, frame[np.newaxis]).data[0]
    return image_of


def run(extraction: RectifiedExtraction, block: Block) -> Iterator[Spectra]:
    """
    Yield the spectra of a block, some integrations at a time.

    Parameters
    ----------
    extraction : RectifiedExtraction
        Of its exposure.
    block : Block
        Bad pixels NaN. Not modified.

    Yields
    ------
    spectra : Spectra
        Of consecutive integrations; they do not depend on where the block begins or ends.
    """
    for first in range(0, block.n_int, extraction.rectify.chunk):
        yield _spectra(extraction, block, slice(first, min(first + extraction.rectify.chunk, block.n_int)))


def _spectra(extraction: RectifiedExtraction, block: Block, part: slice) -> Spectra:
    """Return the spectra of some integrations of a block."""
    given = (block.data, block.var_poisson, block.var_rnoise, block.var_flat)
    planes: Planes = tuple(None if plane is None else plane[part] for plane in given)
    start = block.start + part.start
    planes, sums = _filled(extraction, planes, start)
    found = _rectified(extraction, planes, start, None if block.err is None else block.err[part])
    data, names = found[0], found[1]
    frame = Block(start, data, None, None, np.isnan(data), names[0], names[1], names[2])
    spectra = extract_1d.run(extraction.plan, frame)
    if sums is None:
        return spectra
    if extraction.source.box.background.any():
        spectra = _with_background(extraction, spectra, sums)
    return _with_missing(extraction, spectra, sums)


def _rectified(
    extraction: RectifiedExtraction, planes: Planes, start: int, err: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], Planes]:
    """Return the needed rows of rectified frames, and their variances with the factor of covariance."""
    data = planes[0]
    assert data is not None
    plan = extraction.rectify
    if plan.shifts is None:
        found = rectify(extraction.rectifier, data, planes[1:])
    else:
        moved = rectified(
            plan, Block(start, data, err, None, np.isnan(data), planes[1], planes[2], planes[3]), slice(0, len(data))
        )
        cut = extraction.rows
        every = dict(zip(plan.variances, moved.variances, strict=False))
        order = [every.get(name) for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")]
        variances = tuple(None if v is None else v[:, cut] for v in order)
        found = Rectified(moved.data[:, cut], moved.err[:, cut], moved.weight[:, cut], variances)
    values = found.data
    if extraction.source.complete and plan.shifts is None:
        values = np.where(found.weight < extraction.rectifier.nominal * np.float32(_WHOLE), np.float32(np.nan), values)
    square = (extraction.factors**2).astype(np.float32)
    scaled = tuple(None if v is None else np.ascontiguousarray(v * square) for v in found.variances)
    return np.ascontiguousarray(values, np.float32), scaled


def _filled(extraction: RectifiedExtraction, planes: Planes, start: int) -> tuple[Planes, BoxSums | None]:
    """Return frames with the bad pixels of the aperture completed, and the sums on the detector if any was bad."""
    source = extraction.source
    inside = slice(source.box.start, source.box.start + source.box.npixels.size)
    turned = [p if p is None or not source.turned else np.ascontiguousarray(p.swapaxes(1, 2)) for p in planes]
    assert turned[0] is not None
    bad = ~np.isfinite(turned[0][:, :, inside])
    for plane in turned[1:]:
        if plane is not None:
            bad |= np.isnan(plane[:, :, inside])
    subtracted = bool(source.box.background.any())
    i, y, x = np.nonzero(bad & extraction.reach & source.complete)
    if i.size == 0 and not subtracted:
        return planes, None
    data, poisson, rnoise, flat = (None if p is None else np.array(p, order="C") for p in turned)
    assert data is not None
    sums = box_extract(source.box, data, poisson, rnoise, flat)
    if source.moving is not None:
        sums = recompleted(source.box, sums, source.moving, start, (data, poisson, rnoise, flat), source.moving_light)
    light, aperture = extraction.light[y, x], extraction.aperture[y, x]
    lost = np.zeros(sums.flux.shape)
    np.add.at(lost, (i, x), light * aperture)
    whole = (extraction.light * extraction.aperture).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(lost > 0.0, sums.missing * sums.flux / lost, sums.flux / np.where(whole > 0.0, whole, np.nan))
        level = np.where(sums.npixels > 0.0, sums.background / sums.npixels, 0.0)
        part = np.where((aperture > 0.0) & (lost[i, x] > 0.0), light / (lost[i, x] * aperture), 0.0)
    known = np.isfinite(scale[i, x])
    i, y, x, light, part = i[known], y[known], x[known], light[known], part[known]
    at = (i, y, x + source.box.start)
    data[at] = level[i, x] + scale[i, x] * light
    if subtracted:
        read = slice(None) if source.turned else extraction.plan.rows  # other rows hold whatever was in memory
        data[:, read, inside] -= level[:, np.newaxis].astype(np.float32)
    more = 1.0 - (1.0 - sums.missing) ** 2
    for plane, name in ((poisson, "var_poisson"), (rnoise, "var_rnoise"), (flat, "var_flat")):
        if plane is not None:
            plane[at] = np.maximum((getattr(sums, name) * more)[i, x] * part, 0.0)
    back = [
        p if p is None or not source.turned else np.ascontiguousarray(p.swapaxes(1, 2))
        for p in (data, poisson, rnoise, flat)
    ]
    return tuple(back), sums


def _with_background(extraction: RectifiedExtraction, spectra: Spectra, sums: BoxSums) -> Spectra:
    """Return spectra that know of the background that was subtracted on the detector, and of its variance."""
    plan, nearest = extraction.plan, extraction.nearest
    factor = plan.units.flux * (1.0 if plan.nominal is None else plan.nominal) * extraction.widths
    factor = factor * (1.0 if plan.calibration is None else plan.calibration)
    pixels = sums.npixels[:, nearest]
    per_pixel = plan.units.background * extraction.widths / np.where(pixels > 0.0, pixels, 1.0)
    if plan.header.background_unit is not None and plan.calibration is not None:
        per_pixel = per_pixel * plan.calibration
    changed, total, level = {}, np.zeros(spectra.flux.shape), np.zeros(spectra.flux.shape)
    for name in ("var_poisson", "var_rnoise", "var_flat"):
        variance = getattr(sums, f"bkgd_{name}")[:, nearest]
        changed[f"flux_{name}"] = getattr(spectra, f"flux_{name}") + variance * factor**2
        changed[f"bkgd_{name}"] = variance * per_pixel**2
        total += changed[f"flux_{name}"]
        level += changed[f"bkgd_{name}"]
    more = changed["flux_var_poisson"] + changed["flux_var_rnoise"]
    changed["flux_var_limit"] = spectra.flux_var_limit + more - spectra.flux_var_poisson - spectra.flux_var_rnoise
    changed |= {"flux_error": np.sqrt(total), "flux_error_temporal": np.sqrt(more), "bkgd_error": np.sqrt(level)}
    for name in ("var_poisson", "var_rnoise", "var_flat"):
        before = getattr(spectra, f"flux_{name}")
        ratio = np.where(before > 0.0, changed[f"flux_{name}"] / np.where(before > 0.0, before, 1.0), 1.0)
        changed[f"sb_{name}"] = getattr(spectra, f"sb_{name}") * ratio
    changed["sb_error"] = np.sqrt(changed["sb_var_poisson"] + changed["sb_var_rnoise"] + changed["sb_var_flat"])
    return replace(spectra, background=sums.background[:, nearest] * per_pixel, **changed)


def _with_missing(extraction: RectifiedExtraction, spectra: Spectra, sums: BoxSums) -> Spectra:
    """Return spectra that say what the nearest column of the detector lacked."""
    nearest, flags = extraction.nearest, pixel_flags()
    share = np.nan_to_num(sums.missing)[:, nearest]
    missing = np.maximum(share, spectra.missing_fraction)
    estimated = (missing > 0.0) & np.isfinite(spectra.flux)
    width = extraction.source.box.npixels[nearest]
    valid = np.where(width > 0.0, sums.npixels[:, nearest] / np.where(width > 0.0, width, 1.0), 0.0)
    return replace(
        spectra,
        missing_fraction=missing,
        npixels=spectra.npixels * valid,
        dq=spectra.dq | np.where(estimated, flags["FLUX_ESTIMATED"], 0).astype(np.uint32),
        flux_uncompleted=spectra.flux_uncompleted * (1.0 - share),
    )


def spread(spectra: Spectra, factor: float) -> Spectra:
    """Return spectra whose variances are multiplied by a factor, for sums over wavelength."""
    names = ("flux_var_poisson", "flux_var_rnoise", "flux_var_flat", "flux_var_limit")
    return replace(spectra, **{name: getattr(spectra, name) * factor for name in names})


def steady_spectra(extraction: RectifiedExtraction, model: ExposureModel) -> Spectra | None:
    """
    Return the spectrum of the reference image, with the steady noise of one integration as its error.

    Parameters
    ----------
    extraction : RectifiedExtraction
        How it is extracted.
    model : ExposureModel
        From the survey.

    Returns
    -------
    spectra : Spectra or None
        None where the noise is not known.
    """
    if model.noise is None:
        return None
    image = model.reference.astype(np.float32)[np.newaxis].copy()
    noise = (model.noise.astype(np.float64) ** 2).astype(np.float32)[np.newaxis]
    bad = ~(np.isfinite(image) & np.isfinite(noise))
    if model.unsteady is not None:
        bad |= model.unsteady
    image, noise = np.where(bad, np.float32(np.nan), image), np.where(bad, np.float32(np.nan), noise)
    still = replace(extraction, rectify=replace(extraction.rectify, shifts=None))
    still = replace(still, plan=replace(still.plan, edges=None), source=replace(still.source, moving=None))
    return _spectra(still, Block(0, image, None, None, bad, noise, np.zeros_like(noise), None), slice(0, 1))
