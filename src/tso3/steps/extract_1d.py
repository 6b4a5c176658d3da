"""
Spectral extraction: the spectrum of every integration, summed over a box across dispersion, plainly or weighted.

Aperture weights, background weights, wavelengths, the profile by which missing pixels are completed, and the aperture
correction are made once per exposure (`prepare`); then every block is one call (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.apcorr import aperture_correction
from tso3.core.block import Block
from tso3.core.box import BoxPlan, BoxSums, box_extract
from tso3.core.box_levels import BoxLevels, box_levels, widest
from tso3.core.edge_light import restored
from tso3.core.moving import recompleted
from tso3.core.optimal import optimal_extract
from tso3.core.spectra import Spectra
from tso3.io.dqflags import pixel_flags
from tso3.steps.extraction_plan import Extract1DPlan, prepare

__all__ = [
    "Extract1DPlan",
    "Extracted",
    "extract",
    "levels_plan",
    "prepare",
    "run",
    "shared_levels",
    "with_first_integrations",
]

Planes = tuple[NDArray[np.float32] | None, ...]


@dataclass(frozen=True)
class Extracted:
    """
    The spectra of a block.

    Attributes
    ----------
    spectra : Spectra
        As asked for.
    box : Spectra or None
        Beside optimal ones, those of the box.
    """

    spectra: Spectra
    box: Spectra | None


def with_first_integrations(plan: Extract1DPlan, blocks: Mapping[int, Block]) -> Extract1DPlan:
    """
    Return the plan with the aperture correction of every segment's first integration.

    Parameters
    ----------
    plan : Extract1DPlan
        With ``needs_first``; any other is returned as it is.
    blocks : mapping of int to Block
        By index of the segment, a block that begins with its first integration, outliers flagged.

    Returns
    -------
    plan : Extract1DPlan
    """
    if not plan.needs_first or plan.correction is None:
        return plan
    first = dict(plan.first)
    for segment, block in blocks.items():
        if block.start != plan.segment_bounds[segment][0]:
            raise ValueError(
                f"segment {segment} begins at {plan.segment_bounds[segment][0]}, the block at {block.start}"
            )
        box, planes = _planes(plan, block, 1)
        npixels = _summed(box, planes).npixels[0, plan.columns]
        first[segment] = aperture_correction(plan.correction, plan.wavelength, npixels)
    return replace(plan, first=first)


def run(plan: Extract1DPlan, block: Block) -> Spectra:
    """
    Return the spectra of a block.

    Parameters
    ----------
    plan : Extract1DPlan
        Of its exposure.
    block : Block
        Some integrations in detector orientation, bad pixels NaN; only ``plan.rows`` are read. Not modified.

    Returns
    -------
    spectra : Spectra
        Its own integrations; they do not depend on where the block begins or ends.

    Raises
    ------
    KeyError
        If the plan needs the first integration of a segment and was not given it (`with_first_integrations`).
    """
    return extract(plan, block).spectra


def levels_plan(plans: Sequence[Extract1DPlan]) -> BoxPlan | None:
    """
    Return the box whose background serves all spectra of an exposure.

    Parameters
    ----------
    plans : sequence of Extract1DPlan
        Of all spectra of the exposure.

    Returns
    -------
    base : BoxPlan or None
        For `shared_levels`; None where each spectrum looks at the pixels by itself.
    """
    if any(plan.turned or plan.optimal is not None for plan in plans):
        return None
    return widest([plan.box for plan in plans])


def shared_levels(base: BoxPlan | None, block: Block) -> BoxLevels | None:
    """
    Return the medians of the background of a block, where several spectra take them from the same pixels.

    Parameters
    ----------
    base : BoxPlan or None
        From `levels_plan`.
    block : Block
        As of `run`.

    Returns
    -------
    levels : BoxLevels or None
        For `extract`; None where each spectrum looks at the pixels by itself.
    """
    if base is None:
        return None
    return box_levels(base, block.data, block.var_poisson, block.var_rnoise, block.var_flat)


def extract(plan: Extract1DPlan, block: Block, levels: BoxLevels | None = None) -> Extracted:
    """
    Return the spectra of a block, beside optimal ones also those of the box.

    Parameters
    ----------
    plan : Extract1DPlan
        Of its exposure.
    block : Block
        As of `run`.
    levels : BoxLevels, optional
        What `shared_levels` says of the background of this block.

    Returns
    -------
    extracted : Extracted
    """
    box, planes = _planes(plan, block, block.n_int)
    if plan.optimal is None:
        return Extracted(_spectra(plan, block, _completed(plan, box, planes, block.start, levels)), None)
    data = _marked(plan, block, box, planes)
    planes = (data, *planes[1:])
    weights = plan.optimal.weights._replace(rows=box.rows)
    shifted = replace(plan.optimal, weights=weights)
    weighed = optimal_extract(shifted, data, planes[1:], block.start)
    plain = _completed(plan, box, planes, block.start)
    lost = ~(plain.missing <= plan.box.max_missing)
    names = ("flux", "var_poisson", "var_rnoise", "var_flat", "limit")
    changed = {name: np.where(lost, np.nan, getattr(weighed, name)) for name in names}
    best = replace(plain, **changed, uncompleted=weighed.uncompleted)
    block = replace(block, estimated=None)
    return Extracted(_spectra(plan, block, best), _spectra(plan, block, plain))


def _spectra(plan: Extract1DPlan, block: Block, sums: BoxSums) -> Spectra:
    """Return the spectra from sums over the aperture."""
    if plan.edges is not None:
        sums = restored(sums, plan.edges, block.start)
    sums, replaced = _without_guesses(plan, sums, block)
    replaced = replaced[:, plan.columns]
    sums = BoxSums(*(np.ascontiguousarray(values[:, plan.columns]) for values in vars(sums).values()))
    if plan.left_out is not None:
        sums = _with_nan(sums, plan.left_out)
    used = np.where(sums.npixels > 0.0, sums.npixels, 1.0)
    factor = _factors(plan, block, sums.npixels)
    calibrated = factor if plan.calibration is None else factor * plan.calibration
    flux = _column(sums, plan.units.flux * calibrated)
    whole = plan.box.npixels[plan.columns]
    bright = _column(
        sums, plan.units.surf_bright * factor / (np.where(whole > 0.0, whole, 1.0) if plan.complete else used)
    )
    per_pixel = plan.units.background / used
    if plan.header.background_unit is not None and plan.calibration is not None:
        per_pixel = per_pixel * plan.calibration
    level = _background_column(sums, per_pixel)
    return Spectra(
        start=block.start,
        header=plan.header,
        wavelength=plan.wavelength,
        flux=flux.value,
        flux_error=flux.error,
        flux_var_poisson=flux.var_poisson,
        flux_var_rnoise=flux.var_rnoise,
        flux_var_flat=flux.var_flat,
        surf_bright=bright.value,
        sb_error=bright.error,
        sb_var_poisson=bright.var_poisson,
        sb_var_rnoise=bright.var_rnoise,
        sb_var_flat=bright.var_flat,
        dq=_quality(plan, flux.value, sums.npixels, replaced),
        background=level.value,
        bkgd_error=level.error,
        bkgd_var_poisson=level.var_poisson,
        bkgd_var_rnoise=level.var_rnoise,
        bkgd_var_flat=level.var_flat,
        npixels=sums.npixels,
        missing_fraction=np.maximum(sums.missing + replaced, 0.0),
        flux_uncompleted=sums.uncompleted * (plan.units.flux * calibrated),
        flux_error_temporal=np.sqrt(flux.var_poisson + flux.var_rnoise),
        flux_var_limit=sums.limit * (plan.units.flux * calibrated) ** 2,
    )


@dataclass(frozen=True)
class _Column:
    """A quantity with its variances, shape (n_int, n_wave)."""

    value: NDArray[np.float64]
    var_poisson: NDArray[np.float64]
    var_rnoise: NDArray[np.float64]
    var_flat: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """Root of the sum of the variances."""
        return np.sqrt(self.var_poisson + self.var_rnoise + self.var_flat)


def _column(sums: BoxSums, factor: NDArray[np.float64]) -> _Column:
    """Return the sums over the aperture times a factor; zeros, also for NaN, where the factor is 0 throughout."""
    if not factor.any():
        return _Column(*(np.zeros_like(sums.flux) for _ in range(4)))
    square = factor**2
    return _Column(sums.flux * factor, sums.var_poisson * square, sums.var_rnoise * square, sums.var_flat * square)


def _background_column(sums: BoxSums, factor: NDArray[np.float64]) -> _Column:
    """Return the sums of the background times a factor."""
    square = factor**2
    return _Column(
        sums.background * factor,
        sums.bkgd_var_poisson * square,
        sums.bkgd_var_rnoise * square,
        sums.bkgd_var_flat * square,
    )


def _planes(plan: Extract1DPlan, block: Block, n_int: int) -> tuple[BoxPlan, Planes]:
    """Return data and variances of the first integrations of a block, dispersion along x, and the box in them."""
    planes = [block.data, block.var_poisson, block.var_rnoise, block.var_flat]
    box = plan.box
    first, last = int(box.rows[0]), int(box.rows[-1]) + 1
    if plan.turned:
        box = box._replace(rows=box.rows - first)
        turned = [None if p is None else np.ascontiguousarray(p[:n_int, :, first:last].swapaxes(1, 2)) for p in planes]
        return box, tuple(turned)
    if plan.optimal is not None:
        return box._replace(rows=box.rows - first), tuple(None if p is None else p[:n_int, first:last] for p in planes)
    return box, tuple(None if p is None else p[:n_int] for p in planes)


def _summed(box: BoxPlan, planes: Planes, levels: BoxLevels | None = None) -> BoxSums:
    """Return the sums over the aperture."""
    data, var_poisson, var_rnoise, var_flat = planes
    assert data is not None
    return box_extract(box, data, var_poisson, var_rnoise, var_flat, levels)


def _completed(
    plan: Extract1DPlan, box: BoxPlan, planes: Planes, start: int, levels: BoxLevels | None = None
) -> BoxSums:
    """Return the sums over the aperture; missing pixels are completed from the profile of each integration."""
    sums = _summed(box, planes, levels)
    if plan.moving is None or not box.complete:
        return sums
    return recompleted(box, sums, plan.moving, start, planes, plan.moving_light)


def _marked(plan: Extract1DPlan, block: Block, box: BoxPlan, planes: Planes) -> NDArray[np.float32]:
    """Return a copy of the data in which guesses, and pixels whose variance is not known, are bad as well."""
    data = planes[0]
    assert data is not None
    data = np.array(data, np.float32, order="C")
    for plane in planes[1:]:
        if plane is not None:
            data[np.isnan(plane)] = np.nan
    if block.estimated is not None:
        first = int(plan.box.rows[0])
        rows = slice(first, first + data.shape[1])
        estimated = block.estimated[:, :, rows].swapaxes(1, 2) if plan.turned else block.estimated[:, rows]
        data[estimated] = np.nan
    return data


def _factors(plan: Extract1DPlan, block: Block, npixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the aperture correction of every sample, shape (n_int, n_wave) or what broadcasts to it."""
    if plan.correction is None:
        return np.ones((1, plan.wavelength.size))
    if plan.nominal is not None:
        return plan.nominal[np.newaxis]
    if not plan.needs_first:
        return aperture_correction(plan.correction, plan.wavelength, npixels)
    factors = np.empty((block.n_int, plan.wavelength.size))
    for segment, (start, stop) in enumerate(plan.segment_bounds):
        low, high = max(start, block.start), min(stop, block.stop)
        if low < high:
            factors[low - block.start : high - block.start] = plan.first[segment]
    return factors


def _without_guesses(plan: Extract1DPlan, sums: BoxSums, block: Block) -> tuple[BoxSums, NDArray[np.float64]]:
    """Return sums without samples that are mostly replaced, and the share of the profile on replaced pixels."""
    share = np.zeros(sums.flux.shape)
    if block.estimated is None:
        return sums, share
    estimated = block.estimated.swapaxes(1, 2) if plan.turned else block.estimated
    box = plan.box
    columns = slice(box.start, box.start + box.npixels.size)
    i, r, x = np.nonzero(estimated[:, box.rows, columns] & (box.aperture > 0.0))
    np.add.at(share, (i, x), box.profile[r, x])
    if not plan.complete:
        return sums, share
    lost = ~(sums.missing + share <= box.max_missing)
    return _with_nan(sums, lost), share


def _with_nan(sums: BoxSums, lost: NDArray[np.bool_]) -> BoxSums:
    """Return sums of which some samples are NaN."""
    names = ("flux", "var_poisson", "var_rnoise", "var_flat", "limit")
    return replace(sums, **{name: np.where(lost, np.nan, getattr(sums, name)) for name in names})


def _quality(
    plan: Extract1DPlan, flux: NDArray[np.float64], npixels: NDArray[np.float64], replaced: NDArray[np.float64]
) -> NDArray[np.uint32]:
    """Return the quality of every sample."""
    flags = pixel_flags()
    unknown = np.isnan(flux)
    dq = np.where(unknown, flags["DO_NOT_USE"], 0)
    if plan.complete:
        lacking = (npixels < plan.box.npixels[plan.columns] * (1.0 - 1e-12)) | (replaced != 0.0)
        dq = np.where(~unknown & lacking, flags["FLUX_ESTIMATED"], dq)
    return dq.astype(np.uint32)
