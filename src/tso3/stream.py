"""
One exposure as a stream: read a tile, flag it, write it, and hand the finished block on.

Every pixel of an integration is read once (and, near the border of a block, once more as a neighbour in a time window)
and written once. What is kept is one or two blocks of the rows that extraction needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.engine import BlockPlan, Footprint, plan_blocks, run_blocks
from tso3.io.convert import convert_frames, to_float
from tso3.io.exposure import Exposure
from tso3.io.planes import bad_mask, patch
from tso3.io.reader import Reader
from tso3.steps import outlier_detection

__all__ = ["ExposureStream", "PlaneWriter", "StreamCounts"]

_FRAME_PLANES = ("SCI", "ERR", "DQ")
_VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
_NATIVE_BYTES = 4 + 4 + 4 + 1 + 1 + 5  # data, err, dq, mask, bad, and what the step needs beside them
_RAW_FRAME_BYTES = 12
_SINGLE_BYTES = 64 * 2**20


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
        return {name: np.empty((self._n_int, ny, nx), dtype) for name, dtype in self._names.items()}

    def give(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Take arrays back."""
        with self._lock:
            self._free.append(arrays)


@dataclass(frozen=True)
class _OpenBlock:
    start: int
    stop: int
    arrays: dict[str, NDArray[np.generic]]

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
    ) -> None:
        self.exposure = exposure
        self.reader = reader
        self.outliers = outliers
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
        self._kept_bytes = sum(np.dtype(kind).itemsize for kind in names.values())
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
        median_bytes = 8 if self.outliers is not None and self.outliers.parameters.save_intermediate_results else 0
        footprint = Footprint(
            ny=self.exposure.ny,
            nx=self.exposure.nx,
            used_rows=self.used[1] - self.used[0],
            read_bytes=_RAW_FRAME_BYTES + _NATIVE_BYTES + 4 * len(self.variances) + 2 + median_bytes,
            halo_bytes=_RAW_FRAME_BYTES + _NATIVE_BYTES,
            kept_bytes=self._kept_bytes,
            result_bytes=result_bytes,
            fixed_bytes=fixed_bytes,
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
            consume(state.block())
            self._pool.give(state.arrays)

        self._pool = _BlockPool(self._kept, max(stop - start for start, stop in plan.blocks))
        run_blocks(plan, self._open, self._run_tile, close)

    def single(self, start: int, stop: int) -> Block:
        """Return one block by itself, flagged like any other; nothing is written or counted."""
        state = _OpenBlock(start, stop, _BlockPool(self._kept, stop - start).take(self.exposure.ny, self.exposure.nx))
        first, last = self.reach(start, stop)
        rows = max(1, _SINGLE_BYTES // ((last - first) * self.exposure.nx * (_RAW_FRAME_BYTES + _NATIVE_BYTES)))
        for low in range(self.used[0], self.used[1], rows):
            self._run_tile(state, slice(low, min(low + rows, self.used[1])), dry=True)
        return state.block()

    def flagged(self, start: int, stop: int, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """
        Return values and errors of some rows, NaN where a sample is bad or an outlier; nothing is written or counted.

        They are views of buffers that the next call in the same thread uses again.
        """
        first, last = self.reach(start, stop)
        raw, stack = self._read(first, last, rows)
        own = slice(start - first, stop - first)
        own_raw = {name: plane[own] for name, plane in raw.items()} | self._read_variances(start, stop, rows)
        bad = bad_mask(own_raw, out=self._scratch.get("bad", own_raw["SCI"].shape, np.bool_))
        if self.bad_pixels is not None:
            bad |= self.bad_pixels[rows]
        if self.outliers is not None:
            bad |= outlier_detection.run(self.outliers, stack, first, start, stop, rows).outlier
        data, err = stack[0][own], stack[1][own]
        data[bad] = np.nan
        err[bad] = np.nan
        return data, err

    def _open(self, start: int, stop: int) -> _OpenBlock:
        return _OpenBlock(start, stop, self._pool.take(self.exposure.ny, self.exposure.nx))

    def _run_tile(self, state: _OpenBlock, rows: slice, *, dry: bool = False) -> None:
        start, stop = state.start, state.stop
        first, last = self.reach(start, stop)
        raw, stack = self._read(first, last, rows)
        own = slice(start - first, stop - first)
        own_raw = {name: plane[own] for name, plane in raw.items()}
        own_raw |= self._read_variances(start, stop, rows)
        bad = bad_mask(own_raw, out=self._scratch.get("bad", own_raw["SCI"].shape, np.bool_))
        if self.bad_pixels is not None:
            bad |= self.bad_pixels[rows]
        outlier = None
        if self.outliers is not None:
            result = outlier_detection.run(self.outliers, stack, first, start, stop, rows)
            outlier = result.outlier
            if result.median is not None and self.writer is not None and not dry:
                self.writer.write_median(start, stop, result.median, rows)
        patch(own_raw, bad, outlier)
        if outlier is not None:
            bad |= outlier
        if not dry:
            if outlier is not None:
                with self._lock:
                    self.counts.n_outlier[start:stop] += result.n_flagged
            if self.writer is not None:
                self.writer.write(start, stop, own_raw, rows)
        self._keep(state, own_raw, bad, rows)

    def _read(self, first: int, last: int, rows: slice) -> tuple[dict[str, NDArray[np.generic]], tuple]:
        shape = (last - first, rows.stop - rows.start, self.exposure.nx)
        planes = self.exposure.segments[0].planes
        buffers = {name: self._scratch.get(name, shape, planes[name].dtype) for name in _FRAME_PLANES}
        raw = self.reader.read(first, last, _FRAME_PLANES, rows, out=buffers)
        data = self._scratch.get("data", shape, np.float32)
        err = self._scratch.get("err", shape, np.float32)
        dq = self._scratch.get("dq", shape, np.uint32)
        mask = self._scratch.get("mask", shape, np.bool_)
        convert_frames(raw, data, err, dq, mask, top_bit=self.top_bit)
        if self.bad_pixels is not None:
            mask |= self.bad_pixels[rows]
            dq |= self.bad_pixels[rows]
        return raw, (data, err, dq, mask)

    def _read_variances(self, start: int, stop: int, rows: slice) -> dict[str, NDArray[np.generic]]:
        shape = (stop - start, rows.stop - rows.start, self.exposure.nx)
        planes = self.exposure.segments[0].planes
        buffers = {name: self._scratch.get(name, shape, planes[name].dtype) for name in self.variances}
        return self.reader.read(start, stop, self.variances, rows, out=buffers)

    def _keep(
        self, state: _OpenBlock, raw: Mapping[str, NDArray[np.generic]], bad: NDArray[np.bool_], rows: slice
    ) -> None:
        """Copy the rows that extraction needs into the block."""
        low, high = max(rows.start, self.used[0]), min(rows.stop, self.used[1])
        if low >= high:
            return
        inside = slice(low - rows.start, high - rows.start)
        source = {"data": "SCI", "err": "ERR"} | {name: name for name in self.variances}
        for i in range(state.stop - state.start):
            for name, array in state.arrays.items():
                if name == "mask":
                    array[i, low:high] = bad[i, inside]
                elif name == "dq":
                    self.reader.native(raw["DQ"][i, inside], out=array[i, low:high])
                else:
                    to_float(raw[source[name]][i, inside], array[i, low:high])
