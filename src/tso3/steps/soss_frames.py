"""
What the archive preset does to the images of SOSS before they are summed, and to the columns afterwards.

Each choice is a parameter of extract_1d: ``soss_infill``, ``soss_background`` and ``soss_variance``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.box import box_extract
from tso3.core.soss_fill import clipped_background, fill_in_time
from tso3.core.spectra import Spectra
from tso3.io.reader import reference_pixels
from tso3.parameters import Extract1D
from tso3.steps.extraction_plan import Extract1DPlan

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure

__all__ = ["SossBlock", "SossFrames", "finished", "prepare", "run"]

_TILE_BYTES = 16 * 2**20
_BYTES_PER_SAMPLE = 40

Flagged = tuple[NDArray[np.float32], NDArray[np.float32]]
Read = Callable[[int, int, slice], Flagged]
"""Gives values and errors of integrations (from, to) in some rows, NaN where a sample is bad; called by threads."""


@dataclass(frozen=True)
class SossFrames:
    """
    What is done to the images of an exposure.

    Attributes
    ----------
    subtract : bool
        Whether the clipped background is subtracted.
    linear : bool
        Whether variances are weighted linearly, in the total alone.
    rows : slice
        Rows of the images that extraction reads; nothing is done to the others. All, if the background is subtracted.
    bounds : tuple of (int, int)
        Integrations of each segment.
    masked : tuple of ndarray of bool, shape (ny, nx)
        By segment: pixels that are left out of it.
    first : ndarray of int64, shape (n_int + 1,)
        Where the filled samples of each integration begin.
    pixel, value, error : ndarray
        Filled samples: flat index in the image, value and error.
    """

    subtract: bool
    linear: bool
    rows: slice
    bounds: tuple[tuple[int, int], ...]
    masked: tuple[NDArray[np.bool_], ...]
    first: NDArray[np.int64]
    pixel: NDArray[np.int64]
    value: NDArray[np.float32]
    error: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes that they need."""
        arrays = (*self.masked, self.first, self.pixel, self.value, self.error)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class SossBlock(Block):
    """
    A block whose images are ready to be summed.

    Attributes
    ----------
    level : ndarray of float32 or None, shape (n_int, nx)
        Background that was subtracted; None if `extract_1d` fits it.
    total : ndarray of float32 or None, shape (n_int, ny, nx)
        Total variance of every sample, NaN where its value is; None if its components are used.
    """

    level: NDArray[np.float32] | None = None
    total: NDArray[np.float32] | None = None


def prepare(
    exposure: Exposure, parameters: Extract1D, read: Read, rows: slice, workers: int = 1, *, every_row: bool = False
) -> SossFrames | None:
    """
    Return what is done to the images of an exposure, None if nothing is.

    Parameters
    ----------
    exposure : Exposure
        Of NIS_SOSS.
    parameters : Extract1D
        The step's parameters.
    read : callable
        Reads flagged integrations; with ``soss_infill = median`` every segment is read once, in tiles of rows.
    rows : slice
        Rows that extraction reads.
    workers : int, optional
        Threads that do so.
    every_row : bool, optional
        Read the other rows as well, for the sake of whoever listens; nothing is filled there.

    Returns
    -------
    frames : SossFrames or None
        Filled samples are kept: 24 bytes for each.
    """
    infill, linear = parameters.soss_infill == "median", parameters.soss_variance == "linear"
    clipped = parameters.soss_background == "clipped"
    if not (infill or linear or clipped):
        return None
    subtract = clipped and bool(parameters.subtract_background)
    rows = slice(0, exposure.ny) if subtract else rows
    masked: list[NDArray[np.bool_]] = []
    parts: list[_Part] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="tso3-soss") as pool:
        for start, stop in exposure.segment_bounds:
            never = reference_pixels(exposure, start)
            if infill:
                parts += _fill_segment((start, stop), rows, read, never, pool, every_row=every_row)
            masked.append(never)
    integration, pixel, value, error = _joined(parts)
    order = np.lexsort((pixel, integration))
    return SossFrames(
        subtract=subtract,
        linear=linear,
        rows=rows,
        bounds=exposure.segment_bounds,
        masked=tuple(masked),
        first=np.searchsorted(integration[order], np.arange(exposure.n_int + 1)),
        pixel=pixel[order],
        value=value[order],
        error=error[order],
    )


def _fill_segment(
    bounds: tuple[int, int], rows: slice, read: Read, never: NDArray[np.bool_], pool: Executor, *, every_row: bool
) -> list[_Part]:
    """Return what the missing samples of a segment are replaced by; mark in ``never`` the pixels without any valid."""
    start, stop = bounds
    ny, nx = never.shape
    step = max(1, _TILE_BYTES // ((stop - start) * nx * _BYTES_PER_SAMPLE))

    def fill(tile: slice) -> list[_Part]:
        data, err = read(start, stop, tile)
        if not (rows.start <= tile.start and tile.stop <= rows.stop):
            return []
        filled = fill_in_time(data, err)
        never[tile] |= filled.never
        return [(filled.integration + start, filled.pixel + tile.start * nx, filled.value, filled.error)]

    ranges = [(0, rows.start), (rows.start, rows.stop), (rows.stop, ny)] if every_row else [(rows.start, rows.stop)]
    tiles = [slice(at, min(at + step, high)) for low, high in ranges for at in range(low, high, step)]
    return [part for parts in pool.map(fill, tiles) for part in parts]


_Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


def _joined(parts: list[_Part]) -> _Part:
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32)
    integration, pixel, value, error = zip(*parts, strict=True)
    return np.concatenate(integration), np.concatenate(pixel), np.concatenate(value), np.concatenate(error)


def run(frames: SossFrames, block: Block) -> SossBlock:
    """
    Return a block with missing samples filled, masked pixels NaN, and the background subtracted.

    Parameters
    ----------
    frames : SossFrames
        Of its exposure.
    block : Block
        With ``err``. Its arrays are modified: whole frames are too large to be copied for nothing.

    Returns
    -------
    block : SossBlock
        With the same arrays.
    """
    assert block.err is not None
    data, err = block.data, block.err
    variances = {name: getattr(block, name) for name in ("var_poisson", "var_rnoise", "var_flat")}
    total = np.empty_like(err) if frames.linear else None
    level = np.zeros((block.n_int, data.shape[2]), np.float32)
    for k in range(block.n_int):
        i_int = block.start + k
        segment = next(s for s, (start, stop) in enumerate(frames.bounds) if start <= i_int < stop)
        here = slice(int(frames.first[i_int]), int(frames.first[i_int + 1]))
        pixel = frames.pixel[here]
        data[k].ravel()[pixel] = frames.value[here]
        err[k].ravel()[pixel] = frames.error[here]
        first = True
        for plane in variances.values():
            if plane is not None:
                plane[k].ravel()[pixel] = frames.error[here] ** 2 if first else 0.0
                first = False
        if frames.subtract:
            image = np.nan_to_num(data[k], nan=0.0)  # pixels that are never valid count as dark among the brightest
            level[k] = clipped_background(image, frames.masked[segment] | np.isnan(data[k]))
            data[k] -= level[k]
        data[k][frames.masked[segment]] = np.nan
        if total is not None:
            np.multiply(err[k, frames.rows], err[k, frames.rows], out=total[k, frames.rows])
            total[k, frames.rows][~np.isfinite(data[k, frames.rows])] = np.nan
    return SossBlock(block.start, data, err, block.dq, block.mask, **variances, level=level, total=total)


def finished(plan: Extract1DPlan, block: SossBlock, spectra: Spectra) -> Spectra:
    """
    Return spectra with the columns that the archive has.

    Parameters
    ----------
    plan : Extract1DPlan
        Of their order.
    block : SossBlock
        What they were summed from.
    spectra : Spectra
        Of the block.

    Returns
    -------
    spectra : Spectra
        The background of a column is the level that was subtracted; with linear weights the error is the root of the
        weighted sum of the total variances, components and quality are 0.
    """
    changes: dict[str, NDArray[np.generic]] = {}
    calibration = np.ones(plan.wavelength.size) if plan.calibration is None else plan.calibration
    columns = plan.box.start + plan.columns
    nothing = np.zeros_like(spectra.flux)
    if block.level is not None:
        changes["background"] = block.level[:, columns].astype(np.float64) * calibration
        for name in ("bkgd_error", "bkgd_var_poisson", "bkgd_var_rnoise", "bkgd_var_flat"):
            changes[name] = nothing
    if block.total is not None:
        variance = box_extract(plan.box, block.total).flux[:, plan.columns]
        changes["flux_error"] = np.sqrt(variance) * calibration
        for name in ("flux_var_poisson", "flux_var_rnoise", "flux_var_flat"):
            changes[name] = nothing
        changes["dq"] = np.zeros_like(spectra.dq)
    return replace(spectra, **changes)  # type: ignore[arg-type]
