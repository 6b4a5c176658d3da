"""The sample of integrations that a survey looks at: read once and kept where memory allows, else read when needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tso3.io.convert import valid_frames
from tso3.io.reader import Reader

__all__ = ["Sample", "memory_room"]

_PLANES = ("SCI", "ERR", "DQ")
_TILE_BYTES = 32 * 2**20
_INTEGRATIONS = 8
_KEPT_BYTES = 4
_WORK_BYTES = 30
"""Per sample of a tile: data, errors, and what the template's making needs beside them."""
_READING_BYTES = 8
"""Per sample of a tile that is only read: errors, and data where they are not kept. Fewer calls read faster."""

Result = TypeVar("Result")


def memory_room(max_memory: int | None, fixed: int) -> int:
    """
    Return the memory that a sample may take.

    Parameters
    ----------
    max_memory : int or None
        Bytes allowed to the whole run; None for no limit.
    fixed : int
        Bytes that are taken otherwise.

    Returns
    -------
    room : int
        Bytes, at least 0.

    Examples
    --------
    >>> from tso3.steps.sample import memory_room
    >>> memory_room(2**20, 2**19), memory_room(10, 20)
    (524288, 0)
    """
    return 2**62 if max_memory is None else max(max_memory - fixed, 0)


class Sample:
    """
    Rows of the sampled integrations of an exposure, NaN where bad.

    Parameters
    ----------
    reader : Reader
        Of the exposure.
    indices : ndarray of int64, shape (n_sample,)
        Exposure indices of the integrations.
    bad_pixels : ndarray of bool, shape (ny, nx), or None
        Pixels that the user calls bad.
    pool : Executor
        Threads.
    workers : int
        Their number.
    room : int
        Bytes that the sample may take, the work on it included.
    keep : bool
        Whether the data are asked for again after `with_errors`; they are kept if they fit into half of the room.

    Attributes
    ----------
    n : int
        Integrations in the sample.
    kept : ndarray of float32, shape (n, ny, nx), or None
        The data, as far as `with_errors` has read them; None if they do not fit.
    """

    def __init__(
        self,
        reader: Reader,
        indices: NDArray[np.int64],
        bad_pixels: NDArray[np.bool_] | None,
        pool: Executor,
        workers: int,
        room: int,
        keep: bool,
    ) -> None:
        self.n = len(indices)
        self._reader = reader
        self._indices = indices
        self._bad_pixels = bad_pixels
        self._pool = pool
        ny, nx = reader.exposure.ny, reader.exposure.nx
        size = self.n * ny * nx * _KEPT_BYTES
        self.kept: NDArray[np.float32] | None = None
        if keep and size <= room // 2:
            self.kept = np.empty((self.n, ny, nx), np.float32)
            room -= size
        tile = min(_TILE_BYTES, room // (2 * workers))
        self._rows_per_tile = max(1, tile // (self.n * nx * _WORK_BYTES))
        self._rows_per_reading = max(1, tile // (self.n * nx * _READING_BYTES))

    def with_errors(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read data and errors of rows of the sample, shape (n, n_rows, nx); keep the data if they fit."""
        shape = (self.n, rows.stop - rows.start, self._reader.exposure.nx)
        data = np.empty(shape, np.float32) if self.kept is None else self.kept[:, rows]
        err = np.empty(shape, np.float32)
        raw = self._reader.buffers(1, _PLANES, rows)
        top_bit = self._reader.exposure.segments[0].planes["DQ"].top_bit
        for k, i in enumerate(self._indices):
            self._reader.read(int(i), int(i) + 1, _PLANES, rows, out=raw)
            valid_frames(raw, data[k], err[k], top_bit=top_bit)
        if self._bad_pixels is not None:
            data[:, self._bad_pixels[rows]] = np.nan
            err[:, self._bad_pixels[rows]] = np.nan
        return data, err

    def data(self, rows: slice) -> NDArray[np.float32]:
        """Return data of rows of the sample, shape (n, n_rows, nx), to be modified at will."""
        return self.with_errors(rows)[0] if self.kept is None else self.kept[:, rows].copy()

    def at(self, pixels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the sample at some pixels, shape (n, n_pixels); ``pixels`` are flat indices, increasing."""
        nx = self._reader.exposure.nx
        picked = np.empty((self.n, pixels.size), np.float32)

        def pick(rows: slice) -> None:
            low, high = np.searchsorted(pixels, (rows.start * nx, rows.stop * nx))
            data = self.with_errors(rows)[0] if self.kept is None else self.kept[:, rows]
            for frame, out in zip(data, picked, strict=True):
                out[low:high] = frame.ravel()[pixels[low:high] - rows.start * nx]

        self.map(pick, slice(int(pixels[0]) // nx, int(pixels[-1]) // nx + 1))
        return picked

    def map(self, function: Callable[[slice], Result], rows: slice, *, reading: bool = False) -> list[Result]:
        """
        Call a function with pieces of a range of rows, in threads; return what it returns, in order.

        The pieces are larger if it does little but ``reading``.
        """
        step = self._rows_per_reading if reading else self._rows_per_tile
        pieces = (slice(a, min(a + step, rows.stop)) for a in range(rows.start, rows.stop, step))
        return list(self._pool.map(function, pieces))

    def map_integrations(self, function: Callable[[slice], Result]) -> list[Result]:
        """Call a function with pieces of the range of sampled integrations, in threads; return its results in order."""
        starts = range(0, self.n, _INTEGRATIONS)
        return list(self._pool.map(function, (slice(a, min(a + _INTEGRATIONS, self.n)) for a in starts)))
