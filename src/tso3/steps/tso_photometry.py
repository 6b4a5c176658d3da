"""
Aperture photometry: parameters, references and blocks in, a table of one row per integration out.

Where the boxes and the fixed aperture sit must be known before the first block is measured. By default the reference
image of the survey tells (``centroid_span = survey``), and one pass over the data is enough. The archive takes medians
of the centroids of all integrations of a segment, twice: those passes are made by `locate` and `settle`, which a
caller repeats until `PhotometryPlan.ready`. Nothing but numbers per integration is kept, 120 bytes from a pass and 270
from the photometry, so memory does not depend on the size of the images, and no result on the cut into blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.aperture import PhotometryQuality, Treatment, photometry_of, sum_apertures
from tso3.core.centroid import Box, Centroids, find_centroids, median_position
from tso3.core.gaussian import FIT_METHODS, FWHM_TO_SIGMA, GaussianFits, fit_gaussians
from tso3.core.images import Images
from tso3.core.moving_star import recompleted_sums
from tso3.core.overlap import circle_overlap
from tso3.errors import InputError, Tso3Warning
from tso3.steps.photometry_layout import choose_layout, saturated_apertures, without_reference_pixels
from tso3.steps.photometry_records import (
    PhotometryPart,
    PhotometryPlan,
    SourceTrack,
    joined_parts,
    joined_tracks,
    sliced_track,
)
from tso3.steps.photometry_source import moving_source, settle_by_reference, steady_source
from tso3.steps.photometry_table import (
    PhotometryTable,
    catalogue,
    catalogue_name,
    catalogues,
    photometry_table,
    segment_catalogues,
)
from tso3.steps.photometry_units import image_unit

if TYPE_CHECKING:
    from tso3.core.block import Block
    from tso3.core.model import ExposureModel
    from tso3.io.exposure import Exposure
    from tso3.io.references import References
    from tso3.io.times import IntTimes
    from tso3.parameters import TsoPhotometry
    from tso3.steps.outlier_detection import TemplateJudge

__all__ = [
    "PhotometryPart",
    "PhotometryPlan",
    "SourceTrack",
    "catalogue",
    "catalogue_name",
    "catalogues",
    "finish",
    "locate",
    "prepare",
    "run",
    "segment_catalogues",
    "settle",
    "weights_of_sum",
]

_DOUBTFUL_BELOW = 5.0
_BAD_SHARE = 0.01
_AT_BOUND = 0.999


def prepare(
    exposure: Exposure,
    references: References,
    parameters: TsoPhotometry,
    model: ExposureModel | None,
    judge: TemplateJudge | None = None,
) -> PhotometryPlan:
    """
    Return the plan of an exposure's photometry.

    Parameters
    ----------
    exposure : Exposure
        An imaging exposure.
    references : References
        The gain is taken from it where the unit is DN/s, radii where there is a tsophot reference.
    parameters : TsoPhotometry
        The step's parameters.
    model : ExposureModel or None
        Its reference image places the aperture (``centroid_span = survey``) and completes bad pixels
        (``missing = complete``). Without it all integrations of the exposure place the aperture, and bad pixels are
        dropped.
    judge : TemplateJudge, optional
        The template with its coefficients in every integration, by which the image that bad pixels are completed from
        moves with the star (``profile = moving``).

    Returns
    -------
    plan : PhotometryPlan
        ``ready``, unless the position has to be measured first.

    Raises
    ------
    InputError
        If BUNIT, XREF_SCI or YREF_SCI is missing.
    ParameterError, ReferenceFileError
        If radii cannot be, or the tsophot reference has none for the exposure.

    Warns
    -----
    tso3.errors.Tso3Warning
        If the unit cannot be converted, a box width is even, the annulus lies off the array, or there is nothing to
        complete bad pixels with.
    """
    planned = (_reference_pixel(exposure, "XREF_SCI"), _reference_pixel(exposure, "YREF_SCI"))
    unit = image_unit(exposure, references)
    if parameters.reference_pixels == "skip":
        unit = without_reference_pixels(exposure, unit)
    layout = choose_layout(exposure, references, parameters, planned)
    by_segment = parameters.centroid_span == "segment"
    spans = exposure.segment_bounds if by_segment else ((0, exposure.n_int),)
    plan = PhotometryPlan(
        exposure=exposure,
        parameters=parameters,
        unit=unit,
        layout=layout,
        spans=tuple(spans),
        planned=planned,
        boxes=(Box(*planned, layout.search, layout.sizes.radius_inner),) * len(spans),
        apertures=(planned,) * len(spans),
        unplaced=(False,) * len(spans),
        treatment=Treatment(None, False, parameters.max_missing, _squared(parameters), parameters.annulus_clip),
        passes=2 if layout.centroids else 0,
    )
    if model is None:
        if parameters.missing == "complete":
            _warn(exposure, "no survey was made to complete bad pixels from; they are left out of the sums")
        return plan
    surveyed = settle_by_reference(plan, model)
    if parameters.missing == "complete":
        steady = steady_source(surveyed, model)
        star = moving_source(surveyed, steady, judge)
        plan, surveyed = (
            replace(p, treatment=p.treatment._replace(reference=steady, complete=True), star=star)
            for p in (plan, surveyed)
        )
    return surveyed if parameters.centroid_span == "survey" else plan


def locate(plan: PhotometryPlan, block: Block) -> SourceTrack:
    """
    Return where the source is in a block, with the plan as it stands: one pass of those that `settle` ends.

    Parameters
    ----------
    plan : PhotometryPlan
        Not yet ``ready``.
    block : Block
        A run of integrations; not modified.

    Returns
    -------
    track : SourceTrack
        Of the integrations of the block. Widths and flux are NaN in the first pass.
    """
    images = _images(plan, block)
    return joined_tracks([_measure(plan, images, block.start, piece, k) for k, piece in _pieces(plan, block)])


def settle(plan: PhotometryPlan, tracks: Sequence[SourceTrack]) -> PhotometryPlan:
    """
    Return the plan after a pass of `locate` over all blocks.

    The first pass moves the boxes to the median of what was found with the wide box; the second places the aperture at
    the median of what was found with the narrow one, and keeps the track, so that `run` need not measure it again.

    Parameters
    ----------
    plan : PhotometryPlan
        With which `locate` was called.
    tracks : sequence of SourceTrack
        Of all blocks, in the order of the exposure.

    Returns
    -------
    plan : PhotometryPlan
        To be used for what follows.
    """
    track = joined_tracks(tracks)
    found = [median_position(track.x[first:last], track.y[first:last]) for first, last in plan.spans]
    places = tuple(plan.planned if at is None else at for at in found)
    unplaced = tuple(lost or at is None for lost, at in zip(plan.unplaced, found, strict=True))
    if plan.passes > 1:
        boxes = tuple(Box(x, y, plan.layout.fit, plan.boxes[0].source_radius) for x, y in places)
        return replace(plan, boxes=boxes, unplaced=unplaced, passes=1)
    return replace(plan, apertures=places, unplaced=unplaced, passes=0, track=track)


def run(plan: PhotometryPlan, block: Block) -> PhotometryPart:
    """
    Return the photometry of a block.

    Parameters
    ----------
    plan : PhotometryPlan
        ``ready``.
    block : Block
        A run of integrations of the exposure, in the unit of the input; not modified.

    Returns
    -------
    part : PhotometryPart
        One row per integration; NaN and flagged where nothing could be measured, never an exception.

    Raises
    ------
    ValueError
        If the plan is not ready.
    """
    if not plan.ready:
        raise ValueError("the position of the aperture is not known yet; locate all blocks and settle first")
    images = _images(plan, block)
    parts = joined_parts([_run_piece(plan, images, block.start, piece, k) for k, piece in _pieces(plan, block)])
    if block.dq is None:
        return parts
    saturated = saturated_apertures(block.dq, parts.x, parts.y, plan.radii.radius)
    quality = parts.photometry.quality | np.where(saturated, PhotometryQuality.SATURATED, 0)
    return replace(parts, photometry=replace(parts.photometry, quality=quality))


def _run_piece(plan: PhotometryPlan, images: Images, start: int, piece: slice, k: int) -> PhotometryPart:
    """Return the photometry of the integrations of a block that belong to span ``k``."""
    images = _cut(images, piece)
    n_int = images.data.shape[0]
    first = start + piece.start
    track = None
    if plan.track is not None:
        track = sliced_track(plan.track, first, first + n_int)
    elif plan.layout.centroids:
        track = _measure(plan, images, first, slice(0, n_int), k)
    x, y = (np.full(n_int, at) for at in plan.apertures[k])
    if track is not None and plan.parameters.moving_centroid and not plan.unplaced[k]:
        x, y = track.x, track.y
    sums = sum_apertures(images, x, y, plan.radii, plan.treatment)
    if plan.star is not None:
        clipped = plan.treatment.clip > 0.0  # pixels of the annulus that were left out are not completed
        radii = plan.radii._replace(inner=0.0, outer=0.0) if clipped else plan.radii
        sums = recompleted_sums(images, x, y, radii, plan.star.some(first, first + n_int), sums)
    photometry = photometry_of(sums, plan.treatment, subtract=plan.layout.subtract)
    quality = photometry.quality.copy()
    if track is not None:
        quality |= track.quality
        little = np.isfinite(track.x) & (photometry.missing_fraction > plan.parameters.max_missing)
        quality[little] |= PhotometryQuality.DOUBTFUL_CENTROID
    if plan.unplaced[k]:
        quality |= PhotometryQuality.PLANNED_POSITION
    return PhotometryPart(first, x, y, track, replace(photometry, quality=quality))


def weights_of_sum(plan: PhotometryPlan) -> NDArray[np.float64]:
    """
    Return what each pixel counts in the net sum of an exposure's first span.

    Parameters
    ----------
    plan : PhotometryPlan
        Ready.

    Returns
    -------
    weights : ndarray, shape (ny, nx)
        Unit of the table over that of the stack: the aperture, less the mean of the annulus.
    """
    (x, y), radii = plan.apertures[0], plan.radii
    shape = plan.exposure.ny, plan.exposure.nx
    aperture = circle_overlap(x, y, radii.radius, shape)
    if plan.layout.subtract:
        annulus = circle_overlap(x, y, radii.outer, shape) - circle_overlap(x, y, radii.inner, shape)
        aperture = aperture - annulus * (aperture.sum() / annulus.sum())
    return aperture * plan.unit.scale


def finish(
    plan: PhotometryPlan, parts: Sequence[PhotometryPart], times: IntTimes, correlated: float | None = None
) -> PhotometryTable:
    """
    Return the table of an exposure from the parts of its blocks.

    Parameters
    ----------
    plan : PhotometryPlan
        With which the parts were made.
    parts : sequence of PhotometryPart
        Of all blocks, in any order.
    times : IntTimes
        Of all integrations.
    correlated : float, optional
        Variance of the net sum by noise that its pixels share.

    Returns
    -------
    table : PhotometryTable
        Columns in the archive's order, then ours.

    Raises
    ------
    ValueError
        If the parts do not make up the exposure.
    """
    part = joined_parts(sorted(parts, key=lambda p: p.start))
    if part.start != 0 or part.x.size != len(times):
        raise ValueError(f"{part.x.size} integrations were measured, from {part.start}, of {len(times)}")
    return photometry_table(plan, part, times, correlated)


def _measure(plan: PhotometryPlan, images: Images, start: int, piece: slice, k: int) -> SourceTrack:
    """Return the source in the integrations ``piece`` of a stack, with the box of span ``k``."""
    images = _cut(images, piece)
    n_int = images.data.shape[0]
    if plan.unplaced[k]:
        nothing = np.full(n_int, np.nan)
        flag = int(PhotometryQuality.NO_CENTROID | PhotometryQuality.NO_FIT)
        return SourceTrack(*(nothing,) * 10, np.full(n_int, flag, np.int64))
    steady = plan.treatment.reference if plan.treatment.complete else None
    start += piece.start
    star = steady if plan.star is None else plan.star.some(start, start + n_int)
    found = find_centroids(images, plan.boxes[k], star)
    if plan.passes > 1:
        nothing = np.full(n_int, np.nan)
        fits = GaussianFits(*(nothing,) * 6)
    else:
        method = FIT_METHODS[plan.parameters.psf_fit]
        fits = fit_gaussians(images, found.background, found.x, found.y, plan.layout.fit, method)
    errors = found.x_error, found.y_error
    quality = _position_quality(plan, found, fits)
    of_fit = fits.width_x, fits.width_y, fits.flux, fits.width_x_err, fits.width_y_err, fits.flux_err
    return SourceTrack(found.x, found.y, *errors, *of_fit, quality)


def _position_quality(plan: PhotometryPlan, found: Centroids, fits: GaussianFits) -> NDArray[np.int64]:
    """
    Return the bits that concern the position.

    Bad pixels beside the source make a centroid doubtful if there are more than a hundredth of the aperture's: one, but
    for weak lenses. A width at its bound says that the light is no Gaussian.
    """
    lost = ~np.isfinite(found.x)
    with np.errstate(invalid="ignore"):
        faint = ~(found.total >= _DOUBTFUL_BELOW * found.error)
        bound = _AT_BOUND * plan.layout.fit * FWHM_TO_SIGMA
        shapeless = ~(np.maximum(fits.width_x, fits.width_y) < bound)
    n_allowed = _BAD_SHARE * np.pi * plan.layout.sizes.radius**2
    quality = np.zeros(found.x.size, np.int64)
    quality[lost] |= PhotometryQuality.NO_CENTROID
    quality[~lost & (faint | (found.n_bad > n_allowed))] |= PhotometryQuality.DOUBTFUL_CENTROID
    quality[shapeless] |= PhotometryQuality.NO_FIT
    return quality


def _images(plan: PhotometryPlan, block: Block) -> Images:
    """Return the stack of a block with the factor of the unit."""
    if block.err is None:
        raise ValueError("photometry needs the errors of its block")
    return Images(block.data, block.err, block.var_poisson, block.var_rnoise, plan.unit.scale)


def _cut(images: Images, piece: slice) -> Images:
    """Return some of the integrations of a stack."""
    poisson = None if images.var_poisson is None else images.var_poisson[piece]
    rnoise = None if images.var_rnoise is None else images.var_rnoise[piece]
    return Images(images.data[piece], images.err[piece], poisson, rnoise, images.scale)


def _pieces(plan: PhotometryPlan, block: Block) -> Iterator[tuple[int, slice]]:
    """Yield the spans that a block has a part in, and that part as a range of the block."""
    for k, (first, last) in enumerate(plan.spans):
        low, high = max(first, block.start), min(last, block.stop)
        if low < high:
            yield k, slice(low - block.start, high - block.start)


def _reference_pixel(exposure: Exposure, key: str) -> float:
    """Return where the telescope was to point [pixel, 0-based]."""
    value = exposure.header(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{key} is missing, so the source has no planned position", exposure.segments[0].path)
    return float(value) - 1.0


def _squared(parameters: TsoPhotometry) -> bool:
    """Return whether weights are squared in variances; photutils does it since 3.1."""
    if parameters.error_weights != "photutils":
        return parameters.error_weights == "squared"
    major, minor = (int(word) for word in version("photutils").split(".")[:2])
    return (major, minor) >= (3, 1)


def _warn(exposure: Exposure, text: str) -> None:
    """Warn, naming the first file."""
    warnings.warn(f"{exposure.segments[0].path}: {text}", Tso3Warning, stacklevel=3)
