"""
Sums over many apertures at once: a running sum across dispersion, from the narrowest width to the widest.

The weight of a pixel in the aperture of width k is w_k. A pixel adds (w_k - w_(k-1)) d to a sum that starts with width
k, so that the sums of all widths are one running sum over k, and a pixel costs only where its weight changes: once or
twice, however many widths there are. Variances add (w_k^2 - w_(k-1)^2) v in the same way. What a bad pixel takes away
is added to every width that holds it. The background is fitted once; each width takes its own share of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._box_rows import add_product, copy, fill, inner, part
from tso3.core._box_tile import (
    BACKGROUND,
    KIND_MEDIAN,
    KIND_NONE,
    KIND_POLY,
    LIMIT,
    MISSING,
    NPIXELS,
    TILE,
    BoxPlan,
    Planes,
    Work,
    find_medians,
    finish,
    fit_medians,
    fit_polynomials,
    make_work,
    sum_background,
    sum_noise,
)
from tso3.core._planes import flatten
from tso3.core.box import smooth_background
from tso3.core.moving import MOST_BELIEVED, MovingProfile

__all__ = ["BoxPixels", "ScanGrid", "ScanLight", "ScanPlan", "ScanSums", "join_boxes", "scan_extract"]

_LOST, _MOVED, _POWERS = 4, 5, 6
_OUT = 3


class ScanGrid(NamedTuple):
    """
    The pixels of all apertures, for the compiled code.

    ``row`` and ``column`` (n_pix) say where a pixel is, by row of the stack and column of the plan, ``ordinate``
    (n_pix) where in the polynomial of the background. ``first`` (n_pix) is the first width that holds it, ``last`` the
    one from which on its weight stays; ``weight`` and ``share`` (n_pix, n_width) are its weight and its share of the
    aperture's light. ``tile`` (n_tiles + 1) is where the pixels of each tile of columns begin. ``powers``
    (n_width, m, n_wave) are as in `BoxPlan`, for each width.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    ordinate: NDArray[np.float64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    weight: NDArray[np.float64]
    share: NDArray[np.float64]
    tile: NDArray[np.int64]
    powers: NDArray[np.float64]


class ScanLight(NamedTuple):
    """
    The light of the pixels in every integration, as `tso3.core.moving.MovingProfile` has it, for the compiled code.

    ``terms`` (n_pix, n_terms) are the terms at the pixels of a grid, ``whole`` (n_width, n_terms, n_wave) their sums
    over each aperture. ``coefficients`` (n_int, n_terms) are those of the integrations, ``trusted`` (n_wave) is true
    where motion is believed. Without a moving profile there is no term.
    """

    terms: NDArray[np.float32]
    whole: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    trusted: NDArray[np.bool_]

    def of(self, start: int, stop: int) -> ScanLight:
        """Return the light of some integrations of the exposure."""
        n_terms = self.terms.shape[1]
        if n_terms == 0:
            return self._replace(coefficients=np.zeros((stop - start, 0)))
        return self._replace(coefficients=np.ascontiguousarray(self.coefficients[start:stop]))


@dataclass(frozen=True)
class ScanPlan:
    """
    What a scan needs besides the pixels; made by `join_boxes`.

    Attributes
    ----------
    box : BoxPlan
        Rows, columns and background that all widths share; its aperture is that of the last width.
    grid : ScanGrid
        Pixels of all apertures.
    light : ScanLight
        Their light in every integration, by which missing pixels are completed.
    """

    box: BoxPlan
    grid: ScanGrid
    light: ScanLight

    @property
    def n_width(self) -> int:
        """Apertures."""
        return int(self.grid.weight.shape[1])

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        arrays = [*self.grid, *self.light, *(field for field in self.box if isinstance(field, np.ndarray))]
        return int(sum(array.nbytes for array in arrays))

    def lowered(self, first: int) -> ScanPlan:
        """Return the plan for stacks that begin at row ``first``."""
        box, grid = self.box, self.grid
        return ScanPlan(box._replace(rows=box.rows - first), grid._replace(row=grid.row - first), self.light)


@dataclass(frozen=True)
class ScanSums:
    """
    Spectra of all widths, each an array of shape (n_width, n_int, n_wave), in the unit of the stack.

    Attributes
    ----------
    flux : ndarray
        As `tso3.core.box.BoxSums` has it for the box of that width alone.
    limit : ndarray
        Its Poisson and read-noise variance if no pixel were missing.
    missing : ndarray
        Fraction of the profile on bad pixels.
    """

    flux: NDArray[np.float64]
    limit: NDArray[np.float64]
    missing: NDArray[np.float64]


@dataclass(frozen=True)
class BoxPixels:
    """
    The pixels of one box, without the images that a `BoxPlan` holds.

    Attributes
    ----------
    row, column : ndarray of int64, shape (n_pix,)
        Of the stack.
    ordinate, weight, share : ndarray of float64, shape (n_pix,)
        Where a pixel is in the polynomial of the background, its weight, and its share of the aperture's light.
    start : int
        First column.
    powers : ndarray of float64, shape (m, n_wave)
        As of `BoxPlan`; of the pixels alone where the background is no polynomial.
    background : bytes
        Digest of how and where the background is fitted, and of what becomes of missing pixels.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    ordinate: NDArray[np.float64]
    weight: NDArray[np.float64]
    share: NDArray[np.float64]
    start: int
    powers: NDArray[np.float64]
    background: bytes

    @classmethod
    def of(cls, box: BoxPlan) -> BoxPixels:
        """Return the pixels of a box."""
        r, x = np.nonzero(box.aperture)
        where, along = np.nonzero(box.background)
        rule = (box.kind, box.smoothing, box.complete, box.max_missing, box.powers.shape[0])
        digest = hashlib.sha256(repr(rule).encode())
        for index in (box.rows[where], along + box.start):
            digest.update(np.asarray(index, np.int64).tobytes())
        return cls(
            row=box.rows[r],
            column=x + box.start,
            ordinate=box.ordinate[r],
            weight=box.aperture[r, x],
            share=box.profile[r, x],
            start=box.start,
            powers=box.powers.copy() if box.kind == KIND_POLY else box.npixels[np.newaxis].copy(),
            background=digest.digest(),
        )


def join_boxes(last: BoxPlan, pixels: Sequence[BoxPixels], moving: MovingProfile | None = None) -> ScanPlan:
    """
    Return the plan of a scan of boxes that share their background.

    Parameters
    ----------
    last : BoxPlan
        The widest, from `tso3.core.box.plan_box`.
    pixels : sequence of BoxPixels
        Of all boxes, the widest last.
    moving : MovingProfile, optional
        The profile in every integration, for the rows and columns of the widest; by default missing pixels are
        completed from the steady profile.

    Returns
    -------
    plan : ScanPlan
        For the columns of the widest; a box without a pixel in a column has NaN there.

    Raises
    ------
    ValueError
        If backgrounds or treatments of missing pixels differ, or the last does not reach as far as all others.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box import plan_box
    >>> from tso3.core.scan import BoxPixels, join_boxes, scan_extract
    >>> boxes = [plan_box(np.array([[w], [1.0], [w]]), profile=np.ones((3, 1))) for w in (0.0, 0.5)]
    >>> plan = join_boxes(boxes[-1], [BoxPixels.of(box) for box in boxes])
    >>> scan_extract(plan, np.array([[[1.0], [5.0], [2.0]]], np.float32)).flux.ravel()
    array([5. , 6.5])
    """
    if len({box.background for box in pixels}) > 1:
        raise ValueError("boxes of one scan differ in their background, or in what becomes of missing pixels")
    n_wave = last.npixels.size
    if any(box.start < last.start or box.start + box.powers.shape[1] > last.start + n_wave for box in pixels):
        raise ValueError("the last box of a scan has to reach as far along dispersion as all others")
    grid = _grid(pixels, last.start, n_wave)
    return ScanPlan(last._replace(npixels=np.ones(n_wave)), grid, _light(last, grid, moving))


def _light(last: BoxPlan, grid: ScanGrid, moving: MovingProfile | None) -> ScanLight:
    """Return the light of the pixels of a grid."""
    n_width, n_wave = grid.weight.shape[1], last.npixels.size
    if moving is None or not last.complete:
        nothing = np.zeros((grid.row.size, 0), np.float32)
        return ScanLight(nothing, np.zeros((n_width, 0, n_wave)), np.zeros((0, 0)), np.zeros(n_wave, np.bool_))
    terms = np.ascontiguousarray(moving.terms[:, np.searchsorted(last.rows, grid.row), grid.column].T)
    whole = np.zeros((n_width, terms.shape[1], n_wave))
    for k in range(n_width):
        for t in range(terms.shape[1]):
            whole[k, t] = np.bincount(grid.column, grid.weight[:, k] * terms[:, t], n_wave)
    return ScanLight(terms, whole, np.ascontiguousarray(moving.coefficients), moving.trusted)


def _grid(boxes: Sequence[BoxPixels], start: int, n_wave: int) -> ScanGrid:
    """Return the pixels of all boxes, tile by tile, in each row by row."""
    n_rows = max(int(box.row.max()) + 1 for box in boxes)
    found = []
    for box in boxes:
        column = box.column - start
        found.append((column // TILE * n_rows + box.row) * TILE + column % TILE)
    keys = np.unique(np.concatenate(found))
    weight, share = np.zeros((2, keys.size, len(boxes)))
    powers = np.zeros((len(boxes), boxes[-1].powers.shape[0], n_wave))
    ordinate = np.zeros(keys.size)
    for k, (box, key) in enumerate(zip(boxes, found, strict=True)):
        at = np.searchsorted(keys, key)
        weight[at, k], share[at, k], ordinate[at] = box.weight, box.share, box.ordinate
        powers[k, :, box.start - start : box.start - start + box.powers.shape[1]] = box.powers
    tile = keys // TILE // n_rows
    change = np.diff(weight, axis=1, prepend=0.0) != 0.0
    return ScanGrid(
        row=keys // TILE % n_rows,
        column=tile * TILE + keys % TILE,
        ordinate=ordinate,
        first=change.argmax(axis=1),
        last=len(boxes) - change[:, ::-1].argmax(axis=1),
        weight=weight,
        share=share,
        tile=np.searchsorted(tile, np.arange(-(-n_wave // TILE) + 1)),
        powers=powers,
    )


def scan_extract(
    plan: ScanPlan,
    data: NDArray[np.float32],
    var_poisson: NDArray[np.float32] | None = None,
    var_rnoise: NDArray[np.float32] | None = None,
    var_flat: NDArray[np.float32] | None = None,
    *,
    start: int = 0,
) -> ScanSums:
    """
    Return the spectra of a stack for every width.

    Parameters
    ----------
    plan : ScanPlan
        From `join_boxes`, for images of the same size.
    data : ndarray of float32, shape (n_int, n_rows, n_wave)
        Stack, dispersion on the last axis; bad pixels as in `tso3.core.box.box_extract`. Not modified.
    var_poisson, var_rnoise, var_flat : ndarray of float32, shape (n_int, n_rows, n_wave), optional
        Variance components, unit of ``data`` squared; None counts as zero.
    start : int, optional
        Exposure index of the first integration.

    Returns
    -------
    sums : ScanSums
        For the columns ``plan.box.start`` and following. Equal to `tso3.core.box.box_extract` for each width but for
        rounding; every number depends on its own integration alone.

    Notes
    -----
    Memory: three numbers per width, integration and wavelength.
    """
    empty = np.empty((0, 0, 0), dtype=np.float32)
    stacks = (data, *(empty if v is None else v for v in (var_poisson, var_rnoise, var_flat)))
    first, second, third, fourth = (flatten(stack, np.float32) for stack in stacks)
    out = np.empty((_OUT, plan.n_width, data.shape[0], plan.box.npixels.size))
    if data.size:
        light = plan.light.of(start, start + data.shape[0])
        _scan(plan.box, plan.grid, light, (first, second, third, fourth), data.shape[2], out)
    return ScanSums(*out)


@inner
def _value(planes: Planes, k: int, i: int, row: int, column: int) -> float:
    """Return a pixel of a plane, 0 where the plane is absent."""
    plane = planes[k]
    if plane.flat.size == 0:
        return 0.0
    return float(plane.flat[i * plane.step_int + row * plane.step_row + column])


@inner
def _sum_pixels(
    plan: BoxPlan, grid: ScanGrid, light: ScanLight, planes: Planes, i: int, tile: int, sums: NDArray[np.float64]
) -> None:
    """Add up the pixels of a tile of columns, for all widths."""
    n_width, size = sums.shape[0], grid.powers.shape[1]
    sums[:] = 0.0
    for p in range(grid.tile[tile], grid.tile[tile + 1]):
        row, column = grid.row[p], plan.start + grid.column[p]
        x = grid.column[p] - tile * TILE
        value = _value(planes, 0, i, row, column)
        poisson = _value(planes, 1, i, row, column)
        rnoise = _value(planes, 2, i, row, column)
        flat = _value(planes, 3, i, row, column)
        if np.isfinite(value) and not (np.isnan(poisson) or np.isnan(rnoise) or np.isnan(flat)):
            before = 0.0
            for k in range(grid.first[p], grid.last[p]):
                weight = grid.weight[p, k]
                more, square = weight - before, weight * weight - before * before
                before = weight
                sums[k, x] += more * value
                sums[k, TILE + x] += square * poisson
                sums[k, 2 * TILE + x] += square * rnoise
                sums[k, 3 * TILE + x] += square * flat
                for j in range(size):
                    sums[k, (_POWERS + j) * TILE + x] += more
                    more *= grid.ordinate[p]
        else:
            predicted = 0.0
            for t in range(light.terms.shape[1]):
                predicted += light.coefficients[i, t] * light.terms[p, t]
            for k in range(grid.first[p], n_width):
                if grid.weight[p, k] > 0.0:
                    sums[k, _LOST * TILE + x] += grid.share[p, k]
                    sums[k, _MOVED * TILE + x] += grid.weight[p, k] * predicted
    for k in range(1, n_width):
        for x in range(sums.shape[1]):
            if x // TILE != _LOST and x // TILE != _MOVED:
                sums[k, x] += sums[k - 1, x]


@inner
def _move(plan: BoxPlan, light: ScanLight, i: int, x0: int, x1: int, sums: NDArray[np.float64]) -> None:
    """Replace what bad pixels take away by what they take away in this integration, where that is believed."""
    n_terms = light.terms.shape[1]
    for k in range(sums.shape[0]):
        for x in range(x1 - x0):
            lost, moved = sums[k, _LOST * TILE + x], sums[k, _MOVED * TILE + x]
            if moved == 0.0 or not light.trusted[x0 + x] or not 1.0 - lost >= 1.0 - plan.max_missing:
                continue
            whole = 0.0
            for t in range(n_terms):
                whole += light.coefficients[i, t] * light.whole[k, t, x0 + x]
            if whole > 0.0 and moved < whole and abs(moved / whole - lost) <= MOST_BELIEVED:
                sums[k, _LOST * TILE + x] = moved / whole


@inner
def _fit(plan: BoxPlan, x0: int, x1: int, work: Work, coefficients: NDArray[np.float64]) -> None:
    """Fit the background of a tile once; ``work.inverse`` is left with what gives the weights of its pixels."""
    size, n = plan.powers.shape[0], x1 - x0
    if plan.kind == KIND_MEDIAN:  # plan.npixels is 1 here: one pixel of background, and its noise
        fill(part(work.total, NPIXELS, 0, n), 1.0)
        find_medians(plan, x1 - x0, work)
        fit_medians(plan, x0, x1, work)
        copy(coefficients[:n], part(work.total, BACKGROUND, 0, n))
        copy(part(work.inverse, 0, 0, n), work.weights[:n])
        return
    fit_polynomials(plan, x0, x1, work)
    for k in range(size):
        coefficient = part(coefficients, k, 0, n)
        fill(coefficient, 0.0)
        for j in range(size):
            add_product(coefficient, part(work.inverse, k * size + j, 0, n), part(work.values, j, 0, n))


@inner
def _take_width(
    grid: ScanGrid, complete: bool, k: int, x0: int, x1: int, sums: NDArray[np.float64],
    coefficients: NDArray[np.float64], noise: NDArray[np.float64], work: Work,
) -> None:  # fmt: skip
    """Put the sums of width k, its background and the weights of that into the work space."""
    total, size, n = work.total, grid.powers.shape[1], x1 - x0
    fill(total, 0.0)
    for j in range(4):
        copy(total[j * TILE : (j + 1) * TILE], sums[k, j * TILE : (j + 1) * TILE])
    copy(part(total, MISSING, 0, TILE), part(sums[k], _LOST, 0, TILE))
    copy(part(total, NPIXELS, 0, TILE), part(sums[k], _POWERS, 0, TILE))
    fill(work.weights, 0.0)
    for j in range(size):
        add_product(part(total, BACKGROUND, 0, n), part(coefficients, j, 0, n), part(sums[k], _POWERS + j, 0, n))
        for m in range(size):
            inverse = part(work.inverse, j * size + m, 0, n)
            if complete:
                add_product(part(work.weights, j, 0, n), inverse, part(sums[k], _POWERS + m, 0, n))
            else:
                add_product(part(work.weights, j, 0, n), inverse, grid.powers[k, m, x0:x1])
    if size == 1:
        copy(total[5 * TILE : 8 * TILE], noise)


@njit(cache=True, nogil=True)
def _scan(
    plan: BoxPlan, grid: ScanGrid, light: ScanLight, planes: Planes, n_columns: int, out: NDArray[np.float64]
) -> None:
    """Fill `out` (quantity, width, integration, wavelength)."""
    n_width, n_wave, size = grid.weight.shape[1], plan.npixels.size, plan.powers.shape[0]
    work = make_work(plan.rows.size, size, plan.kind)
    sums = np.zeros((n_width, (_POWERS + size) * TILE))
    coefficients = np.zeros(size * TILE)
    noise = np.zeros(3 * TILE)
    smooth = np.zeros((plan.rows.size if plan.smoothing > 1 else 0, n_wave), np.float32)
    for i in range(out.shape[2]):
        if plan.smoothing > 1:
            smooth_background(plan, planes, i, n_columns, smooth)
        for tile in range(grid.tile.size - 1):
            x0, x1 = tile * TILE, min((tile + 1) * TILE, n_wave)
            _sum_pixels(plan, grid, light, planes, i, tile, sums)
            if light.terms.shape[1] > 0:
                _move(plan, light, i, x0, x1, sums)
            fill(work.total, 0.0)
            if plan.kind != KIND_NONE:
                sum_background(plan, planes, i, x0, x1, smooth, work)
                copy(noise, work.total[5 * TILE : 8 * TILE])
                _fit(plan, x0, x1, work, coefficients)
            for k in range(n_width):
                _take_width(grid, plan.complete, k, x0, x1, sums, coefficients, noise, work)
                if plan.kind != KIND_NONE:
                    sum_noise(plan, planes, i, x0, x1, work)
                finish(plan, x1 - x0, work)
                copy(out[0, k, i, x0:x1], work.total[: x1 - x0])
                copy(out[1, k, i, x0:x1], part(work.total, LIMIT, 0, x1 - x0))
                copy(out[2, k, i, x0:x1], part(work.total, MISSING, 0, x1 - x0))
