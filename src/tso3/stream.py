"""
One exposure as a stream: read a tile, flag it, write it, and hand the finished block on.

Every pixel of an integration is read once (and, near the border of a block, once more as a neighbour in a time window)
and written once. What is kept is one or two blocks of the rows that extraction needs.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tso3.core.beside import CONTEXT, Settled, Settling, settle
from tso3.core.block import Block
from tso3.core.outliers import OutlierResult
from tso3.engine import BlockPlan, Footprint, plan_blocks, run_blocks
from tso3.io.exposure import Exposure
from tso3.io.reader import RawPlanes, Reader
from tso3.io.tiles import Place, flagged_samples, mark_rows, ready_rows
from tso3.steps import outlier_detection
from tso3.steps.known_outliers import KnownOutliers, OutlierNotes

__all__ = ["ExposureStream", "PlaneWriter", "StreamCounts"]

_FRAME_PLANES = ("SCI", "ERR", "DQ")
_VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
_STACK_BYTES = 4 + 4 + 1 + 1  # value, error, whether it takes part, whether it is an outlier
_RAW_FRAME_BYTES = 12
_PART_BYTES = 8 * 2**20
"""Rows of so many bytes are worked on at a time: near the processor, and not so few that the calls are felt."""
_SINGLE_BYTES = 64 * 2**20
_LARGE_PAGE = 2 * 2**20


class PlaneWriter(Protocol):
    """Anything that takes finished raw planes of integrations of the exposure."""

    def write(self, start: int, stop: int, raw: Mapping[str, NDArray[np.generic]], rows: slice) -> None:
        """Write big-endian planes of the exposure's integrations ``start`` to ``stop``."""

    def write_median(self, start: int, stop: int, median: NDArray[np.floating], rows: slice) -> None:
        """Write what the integrations were compared with."""


@dataclass
class StreamCounts:
    """
    Numbers per integration that a stream leaves behind.

    Attributes
    ----------
    n_outlier : ndarray of int64, shape (n_int,)
        Outliers in each integration.
    """

    n_outlier: NDArray[np.int64]

    @classmethod
    def empty(cls, n_int: int) -> StreamCounts:
        """Return zeros for ``n_int`` integrations."""
        return cls(np.zeros(n_int, np.int64))


class _Scratch(threading.local):
    """Buffers of one thread, used again from tile to tile."""

    def __init__(self) -> None:
        self._flat: dict[str, NDArray[np.generic]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: str | type) -> NDArray[np.generic]:
        """Return an uninitialised array; the one of the same name before it is no longer valid."""
        size = int(np.prod(shape))
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype)
        return flat[:size].reshape(shape)


class _BlockPool:
    """Arrays of blocks, used again from block to block."""

    def __init__(self, names: Mapping[str, type], n_int: int) -> None:
        self._names = names
        self._n_int = n_int
        self._free: list[dict[str, NDArray[np.generic]]] = []
        self._lock = threading.Lock()

    def take(self, ny: int, nx: int) -> dict[str, NDArray[np.generic]]:
        """Return uninitialised arrays for the largest block."""
        with self._lock:
            if self._free:
                return self._free.pop()
        return {name: _thin((self._n_int, ny, nx), dtype) for name, dtype in self._names.items()}

    def give(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Take arrays back."""
        with self._lock:
            self._free.append(arrays)


def _thin(shape: tuple[int, int, int], dtype: type) -> NDArray[np.generic]:
    """
    Return an array of which only what is filled takes memory.

    Of a block, rows that nobody uses are never touched. In the large pages that numpy asks for, of 2 MiB, they would
    lie beside rows that are.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < _LARGE_PAGE:
        return np.empty(shape, dtype)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        room.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(room, dtype).reshape(shape)


@dataclass(frozen=True)
class _OpenBlock:
    """Integrations that are worked on; ``level`` only where tiles find outliers and pieces are copied later."""

    start: int
    stop: int
    arrays: dict[str, NDArray[np.generic]]
    level: NDArray[np.uint8] | None = None

    def level_of(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the levels of some of its integrations, shape (stop - start, ny, nx), to be filled or read."""
        if self.level is None:
            raise ValueError(f"block {self.start} to {self.stop} holds no outliers")
        return self.level[start - self.start : stop - self.start]

    def block(self) -> Block:
        """Return the finished block."""
        part = {name: array[: self.stop - self.start] for name, array in self.arrays.items()}
        return Block(
            start=self.start,
            data=part["data"],
            err=part.get("err"),
            dq=part.get("dq"),
            mask=part["mask"],
            var_poisson=part.get("VAR_POISSON"),
            var_rnoise=part.get("VAR_RNOISE"),
            var_flat=part.get("VAR_FLAT"),
        )


class ExposureStream:
    """
    Streams one exposure through outlier detection.

    Parameters
    ----------
    exposure : Exposure
        What is streamed.
    reader : Reader
        Of this exposure.
    outliers : OutlierPlan or None
        None where the step is skipped.
    used_rows : slice
        Rows that ``consume`` reads; all others of its block are undefined.
    keep_err : bool
        Whether ``consume`` reads ``err`` and ``dq``.
    bad_pixels : ndarray of bool, shape (ny, nx), optional
        Pixels that the user calls bad.
    writer : PlaneWriter, optional
        Takes the planes with the new flags.
    known : KnownOutliers, optional
        From an earlier pass: they are marked, and none are looked for.
    notes : OutlierNotes, optional
        Takes the outliers that `run` finds.
    """

    def __init__(
        self,
        exposure: Exposure,
        reader: Reader,
        outliers: outlier_detection.OutlierPlan | None,
        *,
        used_rows: slice,
        keep_err: bool,
        bad_pixels: NDArray[np.bool_] | None = None,
        writer: PlaneWriter | None = None,
        known: KnownOutliers | None = None,
        notes: OutlierNotes | None = None,
    ) -> None:
        self.exposure = exposure
        self.reader = reader
        self.outliers = outliers if known is None else None
        self.known = known
        self.notes = notes
        self.bad_pixels = bad_pixels
        self.writer = writer
        self.variances = tuple(name for name in _VARIANCES if name in exposure.planes)
        self.used = used_rows.indices(exposure.ny)[:2]
        self.top_bit = exposure.segments[0].planes["DQ"].top_bit
        names: dict[str, type] = {"data": np.float32, "mask": np.bool_}
        if keep_err:
            names |= {"err": np.float32, "dq": np.uint32}
        names |= dict.fromkeys(self.variances, np.float32)
        self._kept = names
        self._pool = _BlockPool(names, 1)
        self._levels = _BlockPool({"level": np.uint8}, 1)
        self._beside = None if self.outliers is None else self.outliers.beside
        self._kept_bytes = sum(np.dtype(kind).itemsize for kind in names.values())
        self._part_bytes = _PART_BYTES
        self._scratch = _Scratch()
        self._lock = threading.Lock()
        self.counts = StreamCounts.empty(exposure.n_int)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the integrations that ``start`` to ``stop`` need, the neighbours of their windows included."""
        return (start, stop) if self.outliers is None else outlier_detection.reach(self.outliers, start, stop)

    def _halo(self, start: int, stop: int) -> int:
        first, last = self.reach(start, stop)
        return (last - first) - (stop - start)

    def plan(
        self,
        max_memory: int,
        workers: int,
        *,
        block_size: int | None,
        result_bytes: int,
        fixed_bytes: int,
        segments: slice = slice(None),
    ) -> BlockPlan:
        """Return the cut of some segments that fits into ``max_memory`` (see `tso3.engine.plan_blocks`)."""
        self._part_bytes = min(self._part_bytes, max_memory // (16 * workers))
        median_bytes = 8 if self.outliers is not None and self.outliers.parameters.save_intermediate_results else 0
        footprint = Footprint(
            ny=self.exposure.ny,
            nx=self.exposure.nx,
            used_rows=self.used[1] - self.used[0],
            read_bytes=_RAW_FRAME_BYTES + 4 * len(self.variances) + median_bytes,
            halo_bytes=_RAW_FRAME_BYTES,
            kept_bytes=self._kept_bytes,
            result_bytes=result_bytes,
            fixed_bytes=fixed_bytes + workers * 2 * self._part_bytes,  # twice: a part has at least one row
            judge_bytes=_RAW_FRAME_BYTES + median_bytes if self.outliers is not None and self.writer is not None else 0,
            border_rows=CONTEXT if self._beside is not None else 0,
        )
        return plan_blocks(
            self.exposure.segment_bounds[segments],
            footprint,
            self._halo,
            max_memory=max_memory,
            workers=workers,
            block_size=block_size,
        )

    def run(self, plan: BlockPlan, consume: Callable[[Block], None]) -> None:
        """
        Stream what was planned; ``consume`` gets every finished block, from several threads and in any order.

        Parameters
        ----------
        plan : BlockPlan
            The cut.
        consume : callable
            Must not keep the block's arrays: they are used again.
        """

        def close(state: _OpenBlock) -> None:
            if state.level is None:
                consume(state.block())
                self._pool.give(state.arrays)
            else:
                self._levels.give({"level": state.level})  # the pieces have consumed it

        def piece(state: _OpenBlock, start: int, stop: int) -> None:
            copied = _OpenBlock(start, stop, self._pool.take(self.exposure.ny, self.exposure.nx))
            self._copy(copied, state)
            consume(copied.block())
            self._pool.give(copied.arrays)

        longest = max(stop - start for start, stop in plan.blocks)
        self._pool = _BlockPool(self._kept, plan.piece or longest)
        self._levels = _BlockPool({"level": np.uint8}, longest)
        if plan.piece:
            run_blocks(plan, self._open_judged, self._judge_tile, close, piece)
        else:
            run_blocks(plan, self._open, self._run_tile, close)

    def single(self, start: int, stop: int) -> Block:
        """Return one block by itself, flagged like any other; nothing is written or counted."""
        state = _OpenBlock(start, stop, _BlockPool(self._kept, stop - start).take(self.exposure.ny, self.exposure.nx))
        first, last = self.reach(start, stop)
        rows = max(1, _SINGLE_BYTES // ((last - first) * self.exposure.nx * _RAW_FRAME_BYTES))
        for low in range(self.used[0], self.used[1], rows):
            self._run_tile(state, slice(low, min(low + rows, self.used[1])), dry=True)
        return state.block()

    def flagged(
        self, start: int, stop: int, rows: slice, notes: OutlierNotes | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """
        Return values and errors of some rows, NaN where a sample is bad or an outlier; nothing is written or counted.

        They are views of buffers that the next call in the same thread uses again. ``notes`` takes the outliers.
        """
        shape = (stop - start, rows.stop - rows.start, self.exposure.nx)
        data, err = (self._scratch.get(f"flagged {name}", shape, np.float32) for name in ("data", "err"))
        state = _OpenBlock(start, stop, {"data": data, "err": err})
        self._run_tile(state, rows, dry=True, used=(rows.start, rows.stop, rows.start), notes=notes)
        return data, err

    def _open(self, start: int, stop: int) -> _OpenBlock:
        return _OpenBlock(start, stop, self._pool.take(self.exposure.ny, self.exposure.nx))

    def _open_judged(self, start: int, stop: int) -> _OpenBlock:
        level = self._levels.take(self.exposure.ny, self.exposure.nx)["level"]
        return _OpenBlock(start, stop, {}, level.view(np.uint8))

    def _judge_tile(self, state: _OpenBlock, rows: slice) -> None:
        """Judge some rows of a block."""
        start, stop = state.start, state.stop
        first, last = self.reach(start, stop)
        raw = self._read(first, last, rows, _FRAME_PLANES)
        for place in self._parts(rows, last - first):
            found = self._judge(raw, place, (first, start, stop), self.writer)
            state.level_of(start, stop)[:, place.row : place.row + place.high - place.low] = found.level

    def _copy(self, piece: _OpenBlock, whole: _OpenBlock) -> None:
        """Mark whole frames of a block that has been judged, write them, and keep what extraction needs."""
        start, stop = piece.start, piece.stop
        raw = self._read(start, stop, slice(0, self.exposure.ny), (*_FRAME_PLANES, *self.variances))
        level, frame = whole.level_of(start, stop), Place(0, self.exposure.ny, 0)
        outlier = level.view(np.bool_) if self._beside is None else settle(level, self._beside)
        if self.notes is not None:
            self.notes.add(start, frame, outlier)
        self.counts.n_outlier[start:stop] += _numbers(outlier)
        mark_rows(raw, frame, outlier, self.bad_pixels, piece.arrays, (*self.used, 0), top_bit=self.top_bit)
        if self.writer is not None:
            self.writer.write(start, stop, raw, slice(0, self.exposure.ny))

    def _run_tile(
        self,
        state: _OpenBlock,
        rows: slice,
        *,
        dry: bool = False,
        used: tuple[int, int, int] | None = None,
        notes: OutlierNotes | None = None,
    ) -> None:
        start, stop = state.start, state.stop
        first, last = self.reach(start, stop)
        raw = self._read(first, last, rows, _FRAME_PLANES)
        own_raw = {name: plane[start - first : stop - first] for name, plane in raw.items()}
        own_raw |= self._read(start, stop, rows, self.variances)
        notes = notes if dry else self.notes
        n_flagged = np.zeros(stop - start, np.int64)
        for place, outlier in self._outliers(raw, rows, (first, start, stop), None if dry else self.writer):
            if outlier is not None:
                n_flagged += _numbers(outlier)
                if notes is not None:
                    notes.add(start, place, outlier)
            wanted = (*self.used, 0) if used is None else used
            mark_rows(own_raw, place, outlier, self.bad_pixels, state.arrays, wanted, top_bit=self.top_bit)
        if dry:
            return
        with self._lock:
            self.counts.n_outlier[start:stop] += n_flagged
        if self.writer is not None:
            self.writer.write(start, stop, own_raw, rows)

    def _outliers(
        self, raw: RawPlanes, rows: slice, span: tuple[int, int, int], writer: PlaneWriter | None
    ) -> Iterator[tuple[Place, NDArray[np.bool_] | None]]:
        """Yield the outliers in some rows that were read, a few rows at a time; None where none are marked."""
        _, start, stop = span
        parts = self._parts(rows, len(raw["SCI"]))
        if self.outliers is None:
            known = self.known
            yield from ((place, None if known is None else known.marked(start, stop, place)) for place in parts)
        elif self._beside is None:
            yield from ((place, self._judge(raw, place, span, writer).level.view(np.bool_)) for place in parts)
        else:
            before = self._border(slice(rows.start - CONTEXT, rows.start), span)
            settling = Settling(rows.start, before, self._beside)
            for place in parts:
                settled = settling.add(self._judge(raw, place, span, writer).level)
                yield from (_placed(each, rows) for each in settled)
            after = self._border(slice(rows.stop, rows.stop + CONTEXT), span)
            yield from (_placed(each, rows) for each in settling.close(after))

    def _border(self, rows: slice, span: tuple[int, int, int]) -> NDArray[np.uint8] | None:
        """Return the levels of rows next to a tile, which another tile marks; None outside the frame."""
        low, high = max(rows.start, 0), min(rows.stop, self.exposure.ny)
        if low >= high:
            return None
        first, start, stop = span
        _, last = self.reach(start, stop)
        raw = self._read(first, last, slice(low, high), _FRAME_PLANES, "border ")
        return self._judge(raw, Place(0, high - low, low), span, None).level

    def _judge(
        self, raw: RawPlanes, place: Place, span: tuple[int, int, int], writer: PlaneWriter | None
    ) -> OutlierResult:
        """Return which samples of some rows are outliers or suspects; the step is not skipped."""
        if self.outliers is None:
            raise ValueError("outliers of an exposure whose detection is skipped")
        found = self._find_outliers(self.outliers, raw, place, span)
        _, start, stop = span
        if found.median is not None and writer is not None:
            writer.write_median(start, stop, found.median, slice(place.row, place.row + place.high - place.low))
        return found

    def _parts(self, rows: slice, n_stack: int) -> Iterator[Place]:
        """Cut rows that were read at once into those that are worked on at once."""
        n_rows = rows.stop - rows.start
        step = max(1, self._part_bytes // (n_stack * self.exposure.nx * _STACK_BYTES))
        for low in range(0, n_rows, step):
            yield Place(low, min(low + step, n_rows), rows.start + low)

    def _find_outliers(
        self, plan: outlier_detection.OutlierPlan, raw: RawPlanes, place: Place, span: tuple[int, int, int]
    ) -> OutlierResult:
        """Return the outliers of the integrations start to stop in some rows; ``span`` is first, start, stop."""
        first, start, stop = span
        shape = (len(raw["SCI"]), place.high - place.low, self.exposure.nx)
        data = self._scratch.get("data", shape, np.float32)
        err = self._scratch.get("err", shape, np.float32)
        left_out = self._scratch.get("left_out", shape, np.bool_)
        rule = outlier_detection.left_out(plan, start)
        ready_rows(raw, place, rule, self.bad_pixels, (data, err, left_out), top_bit=self.top_bit)
        rows = slice(place.row, place.row + shape[1])
        shortened = None if plan.judge is None else flagged_samples(raw, place, outlier_detection.shortened_bits())
        return outlier_detection.run(plan, (data, err, left_out), first, start, stop, rows, shortened)

    def _read(self, first: int, last: int, rows: slice, names: tuple[str, ...], prefix: str = "") -> RawPlanes:
        """Read planes of some integrations into buffers of this thread, used again by the next call of that prefix."""
        shape = (last - first, rows.stop - rows.start, self.exposure.nx)
        planes = self.exposure.segments[0].planes
        buffers = {name: self._scratch.get(prefix + name, shape, planes[name].dtype) for name in names}
        return self.reader.read(first, last, names, rows, out=buffers)


def _numbers(outlier: NDArray[np.bool_]) -> list[int]:
    """Return how many outliers each integration has."""
    return [int(np.count_nonzero(frame)) for frame in outlier]


def _placed(settled: Settled, rows: slice) -> tuple[Place, NDArray[np.bool_]]:
    """Return settled rows as rows of the buffers that hold ``rows``."""
    low = settled.row - rows.start
    return Place(low, low + settled.outlier.shape[1], settled.row), settled.outlier
