"""
Where blocks are computed: how an exposure is cut, and the threads that work on the pieces.

A *block* is a run of integrations of one segment; a *tile* is a range of rows of a block. Outlier detection works tile
by tile (a pixel needs its own time series only), extraction and photometry block by block. What belongs to a tile
depends on the memory that is allowed, never on the result: every tile reads the neighbours that its windows need.
Where a block takes several tiles, they only find its outliers; it is copied and extracted in *pieces* afterwards, whole
frames of a few integrations, which lie in one run on the disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import pairwise

from tso3.errors import ParameterError

__all__ = ["BlockPlan", "Footprint", "available_workers", "parse_size", "plan_blocks", "run_blocks"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_BLOCKS_IN_FLIGHT = 2
_LARGEST_BLOCK = 256
_ENOUGH_BLOCK = 64
"""Integrations in a block from which more gain little time (measured for 32 × 2048 pixels and a window of 25)."""
_BLOCK_BYTES_AIM = 48 * 2**20
_SMALLEST_BLOCK = 1
_TILE_BYTES_AIM = 128 * 2**20
_LEAST_WHOLE = 32
_WHOLE_FRAMES_AIM = 192 * 2**20
"""Up to so many bytes, a tile is a whole block: its planes are read and written by one call each."""
_PIECE_AIM = 48 * 2**20
"""So many bytes of whole frames are copied at a time where blocks take several tiles."""
_JUDGED_TILE_AIM = 48 * 2**20
"""Of a tile that only finds outliers."""
_ALONE_AIM = 64 * 2**20
"""The same where no integration needs its neighbours: nothing is gained by larger blocks then."""


def available_workers() -> int:
    """
    Return the number of processors that this process may use.

    Returns
    -------
    n : int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_size(text: str | int) -> int:
    """
    Return a number of bytes from a text such as ``1GiB``.

    Parameters
    ----------
    text : str or int
        A number, with an optional unit B, kB, MB, GB, KiB, MiB or GiB.

    Returns
    -------
    size : int
        Bytes.

    Raises
    ------
    ParameterError
        If the text is no size.

    Examples
    --------
    >>> from tso3.engine import parse_size
    >>> parse_size("200MiB")
    209715200
    """
    digits = str(text).strip()
    unit = digits.lstrip("0123456789.").strip()
    number = digits[: len(digits) - len(unit)].strip() if unit else digits
    try:
        size = int(float(number) * _UNITS[unit.lower()])
    except (KeyError, ValueError) as error:
        raise ParameterError(f"'{text}' is no size; give for example 500MiB or 2GiB", "max_memory") from error
    if size <= 0:
        raise ParameterError(f"'{text}' is not positive; give for example 500MiB or 2GiB", "max_memory")
    return size


@dataclass(frozen=True)
class Footprint:
    """
    What one exposure needs in memory, from which the cut is derived.

    Attributes
    ----------
    ny, nx : int
        Size of a frame.
    used_rows : int
        Rows that extraction or photometry reads; they are kept for the whole block.
    read_bytes, halo_bytes : int
        Bytes per pixel of an integration of the block itself, and of a neighbour that only the window needs.
    kept_bytes : int
        Bytes per pixel that are kept for extraction.
    result_bytes : int
        Bytes per integration of what extraction returns.
    fixed_bytes : int
        Bytes for the whole exposure: the exposure model, numbers per integration.
    judge_bytes : int
        Bytes per pixel of an integration of the block itself that are read to find its outliers; 0 if tiles must be
        finished one by one.
    border_rows : int
        Rows beside a tile that is finished by itself which are read with it, those of one side at a time.
    """

    ny: int
    nx: int
    used_rows: int
    read_bytes: int
    halo_bytes: int
    kept_bytes: int
    result_bytes: int
    fixed_bytes: int
    judge_bytes: int = 0
    border_rows: int = 0

    def tile(self, rows: int, block: int, halo: int) -> int:
        """Return the bytes of one tile of ``rows`` rows."""
        return rows * self.nx * (block * self.read_bytes + halo * self.halo_bytes)

    def block(self, block: int) -> int:
        """Return the bytes that a block keeps until it is extracted."""
        return block * (self.used_rows * self.nx * self.kept_bytes + self.result_bytes)

    def judged(self, rows: int, block: int, halo: int) -> int:
        """Return the bytes of one tile of ``rows`` rows that only finds outliers."""
        return rows * self.nx * (block * self.judge_bytes + halo * self.halo_bytes)

    def piece(self, n_int: int) -> int:
        """Return the bytes of so many whole frames that are copied and extracted."""
        return self.tile(self.ny, n_int, 0) + self.block(n_int)


@dataclass(frozen=True)
class BlockPlan:
    """
    How an exposure is cut.

    Attributes
    ----------
    blocks : tuple of (int, int)
        Half-open ranges of exposure indices, none of which crosses a segment border, in the order of work: segments
        take turns.
    tiles : tuple of slice
        Row ranges that together make a frame.
    workers : int
        Threads.
    memory : int
        Bytes that this cut needs at most.
    in_flight : int
        Blocks that are worked on at a time.
    piece : int
        Integrations that are copied and extracted at a time when all tiles of their block have found its outliers; 0 if
        tiles are finished one by one.
    """

    blocks: tuple[tuple[int, int], ...]
    tiles: tuple[slice, ...]
    workers: int
    memory: int
    in_flight: int
    piece: int = 0

    def pieces(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the half-open ranges of integrations in which a block is copied; none if it is not."""
        return _cut(start, stop, self.piece) if self.piece else []


def _cut(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """Cut a range into nearly equal pieces of at most ``size``."""
    n = last - first
    pieces = -(-n // size)
    edges = [first + n * k // pieces for k in range(pieces + 1)]
    return list(pairwise(edges))


def plan_blocks(
    bounds: Sequence[tuple[int, int]],
    footprint: Footprint,
    halo_of: Callable[[int, int], int],
    *,
    max_memory: int,
    workers: int,
    block_size: int | None = None,
) -> BlockPlan:
    """
    Return the cut of an exposure that fits into the memory allowed.

    Parameters
    ----------
    bounds : sequence of (int, int)
        Half-open range of exposure indices of each segment.
    footprint : Footprint
        Bytes that pixels and results cost.
    halo_of : callable
        Number of neighbours outside a block ``(start, stop)`` that its windows need.
    max_memory : int
        Bytes allowed, above what the imports cost.
    workers : int
        Threads wanted; fewer are used if memory is short.
    block_size : int, optional
        Integrations per block; about 64 by default, or for small frames 48 MiB, up to 256, or what fits.
        Segments that are longer than this do not need more memory.

    Returns
    -------
    plan : BlockPlan
        The cut.

    Raises
    ------
    ParameterError
        If not even single rows of small blocks fit; the message says what would.
    """
    longest = max(last - first for first, last in bounds)
    alone = block_size is None and all(halo_of(first, first + 1) == 0 for first, _ in bounds)
    enough = _ALONE_AIM // footprint.tile(footprint.ny, 1, 0) if alone else longest
    sizes = _sizes_to_try(max(1, min(longest, enough)), footprint) if block_size is None else [min(block_size, longest)]
    fewest = min(_LEAST_WHOLE, sizes[0] if alone else longest)
    least = None
    for n_workers in range(workers, 0, -1):
        cuts = [_tried(bounds, size, footprint, halo_of) for size in sizes]
        for blocks, size, per_row in cuts:
            whole = _whole_frames(blocks, footprint, (size, per_row), max_memory, n_workers)
            if whole is not None and size >= fewest:
                return replace(whole, blocks=_in_turns(blocks, bounds, n_workers))
        for cut in cuts:
            staged = _staged(cut[0], footprint, halo_of, max_memory, n_workers)
            if staged is not None and cut[1] >= fewest:
                return replace(staged, blocks=_in_turns(cut[0], bounds, n_workers))
        for blocks, size, per_row in cuts:
            in_flight = min(_BLOCKS_IN_FLIGHT, len(blocks)) if n_workers > 1 else 1
            kept = footprint.fixed_bytes + in_flight * footprint.block(size)
            room = (max_memory - kept) // n_workers - footprint.border_rows * per_row
            need = kept + n_workers * (1 + footprint.border_rows) * per_row
            least = need if least is None else min(least, need)
            if room < per_row:
                continue
            rows = _rows_per_tile(footprint.ny, min(room, _TILE_BYTES_AIM) // per_row, n_workers)
            tiles = tuple(slice(a, b) for a, b in _cut(0, footprint.ny, rows))
            turns = _in_turns(blocks, bounds, n_workers)
            memory = kept + n_workers * (rows + footprint.border_rows) * per_row
            return BlockPlan(turns, tiles, n_workers, memory, in_flight)
    raise ParameterError(
        f"{max_memory / 2**20:.0f} MiB do not hold one row of the smallest block; "
        f"allow at least {-(-(least or 0) // 2**20)} MiB",
        "max_memory",
    )


def _in_turns(
    blocks: Sequence[tuple[int, int]], bounds: Sequence[tuple[int, int]], workers: int
) -> tuple[tuple[int, int], ...]:
    """
    Return the blocks in an order in which neighbours belong to different segments, as far as there are several.

    A file takes the writes of one thread at a time: with a segment for each thread, none waits for the other.
    """
    left = [[block for block in blocks if first <= block[0] < last] for first, last in bounds]
    order: list[tuple[int, int]] = []
    while left:
        order += [segment.pop(0) for segment in left[:workers]]
        left = [segment for segment in left if segment]
    return tuple(order)


def _tried(
    bounds: Sequence[tuple[int, int]], size: int, footprint: Footprint, halo_of: Callable[[int, int], int]
) -> tuple[tuple[tuple[int, int], ...], int, int]:
    """Return the blocks of at most ``size`` integrations, that size, and the bytes that a row of such a block needs."""
    blocks = tuple(piece for first, last in bounds for piece in _cut(first, last, size))
    halo = max(halo_of(start, stop) for start, stop in blocks)
    return blocks, size, footprint.tile(1, size, halo)


def _whole_frames(
    blocks: tuple[tuple[int, int], ...],
    footprint: Footprint,
    size: tuple[int, int],
    max_memory: int,
    n_workers: int,
) -> BlockPlan | None:
    """Return the plan in which every worker has blocks of its own; None if these are too large or too few."""
    n_int, per_row = size
    tile = footprint.ny * per_row
    in_flight = min(n_workers + 1, len(blocks)) if n_workers > 1 else 1
    memory = footprint.fixed_bytes + in_flight * footprint.block(n_int) + n_workers * tile
    if tile > _WHOLE_FRAMES_AIM or memory > max_memory or (n_workers > 1 and len(blocks) < 2 * n_workers):
        return None
    return BlockPlan(blocks, (slice(0, footprint.ny),), n_workers, memory, in_flight)


def _staged(
    blocks: tuple[tuple[int, int], ...],
    footprint: Footprint,
    halo_of: Callable[[int, int], int],
    max_memory: int,
    n_workers: int,
) -> BlockPlan | None:
    """Return the plan in which tiles only find outliers; None if that is not wanted or does not fit."""
    if not footprint.judge_bytes:
        return None
    n_int = max(stop - start for start, stop in blocks)
    halo = max(halo_of(start, stop) for start, stop in blocks)
    in_flight = min(_BLOCKS_IN_FLIGHT, len(blocks)) if n_workers > 1 else 1
    piece = max(1, min(n_int, _PIECE_AIM // footprint.piece(1)))
    kept = footprint.fixed_bytes + in_flight * n_int * footprint.ny * footprint.nx + n_workers * footprint.piece(piece)
    per_row = footprint.judged(1, n_int, halo)
    fitting = min((max_memory - kept) // n_workers, _JUDGED_TILE_AIM) // per_row
    if fitting < 1:
        return None
    rows = _rows_per_tile(footprint.ny, fitting, n_workers)
    tiles = tuple(slice(a, b) for a, b in _cut(0, footprint.ny, rows))
    return BlockPlan(blocks, tiles, n_workers, kept + n_workers * rows * per_row, in_flight, piece)


def _sizes_to_try(longest: int, footprint: Footprint) -> list[int]:
    filling = _BLOCK_BYTES_AIM // footprint.tile(footprint.ny, 1, 0)
    if filling > _ENOUGH_BLOCK:
        sizes = [min(longest, filling, _LARGEST_BLOCK)]
    else:  # the number of blocks is rounded: two short ones read many neighbours twice
        sizes = [-(-longest // max(1, round(longest / _ENOUGH_BLOCK)))]
    while sizes[-1] > _SMALLEST_BLOCK:
        sizes.append(max(_SMALLEST_BLOCK, sizes[-1] // 2))
    return sizes


def _rows_per_tile(ny: int, fitting: int, workers: int) -> int:
    """Return as many rows as fit, but so few that every worker has a tile of each block."""
    rows = max(1, min(ny, fitting))
    return max(1, min(rows, -(-ny // workers)))


Piece = tuple[int, int]


class _BlockJob:
    """One open block: tiles, and then pieces, that nobody has begun, and how many are being worked on."""

    def __init__(self, state: object, tiles: Sequence[slice], pieces: Sequence[Piece]) -> None:
        self.state = state
        self.waiting: list[slice | Piece] = list(reversed(tiles))
        self.later: list[slice | Piece] = list(reversed(pieces))
        self.running = 0


class _OpenJobs:
    """The blocks that are open; hands out their tiles and pieces, and knows which was the last of its block."""

    def __init__(self) -> None:
        self._jobs: list[_BlockJob] = []
        self._changed = threading.Condition()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: _BlockJob) -> None:
        """Open a block."""
        with self._changed:
            self._jobs.append(job)

    def take(self) -> tuple[_BlockJob, slice | Piece] | None:
        """
        Return work on the block that the fewest threads work on: writers to one file wait for each other.

        While the last tiles of all blocks are worked on, it waits for their pieces. None once the run is stopped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or any(job.waiting for job in self._jobs))
            if self._stopped:
                return None
            job = min((job for job in self._jobs if job.waiting), key=lambda job: job.running)
            job.running += 1
            return job, job.waiting.pop()

    def done(self, job: _BlockJob) -> bool:
        """Note that one tile or piece is done and tell whether it was the last."""
        with self._changed:
            job.running -= 1
            if job.running or job.waiting:
                return False
            job.waiting, job.later = job.later, []
            self._changed.notify_all()
            return not job.waiting

    def remove(self, job: _BlockJob) -> None:
        """Forget a block that is closed."""
        with self._changed:
            self._jobs.remove(job)

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _no_pieces(state: object, start: int, stop: int) -> None:
    raise ValueError(f"integrations {start} to {stop} were to be copied, and nobody copies them")


def run_blocks(
    plan: BlockPlan,
    open_block: Callable[[int, int], object],
    run_tile: Callable[[object, slice], None],
    close_block: Callable[[object], None],
    run_piece: Callable[[object, int, int], None] = _no_pieces,
) -> None:
    """
    Run all tiles, pieces and blocks of a plan in threads; the first error stops everything and is raised.

    Parameters
    ----------
    plan : BlockPlan
        The cut.
    open_block : callable
        Makes the state of block ``(start, stop)``; called in the plan's order, by the calling thread.
    run_tile : callable
        Does one tile of a block; several run at once.
    close_block : callable
        Called when all tiles and pieces of a block are done; several may run at once.
    run_piece : callable, optional
        Does the integrations ``start`` to ``stop`` of a block, all tiles of which are done; several run at once.
    """

    def work(state: object, item: slice | Piece) -> None:
        if isinstance(item, slice):
            run_tile(state, item)
        else:
            run_piece(state, *item)

    if plan.workers == 1:
        for start, stop in plan.blocks:
            state = open_block(start, stop)
            for item in (*plan.tiles, *plan.pieces(start, stop)):
                work(state, item)
            close_block(state)
        return

    jobs = _OpenJobs()

    def task() -> None:
        taken = jobs.take()
        if taken is None:
            return
        job, item = taken
        try:
            work(job.state, item)
            if jobs.done(job):
                close_block(job.state)
                jobs.remove(job)
        except BaseException:
            jobs.stop()
            raise

    with ThreadPoolExecutor(plan.workers, thread_name_prefix="tso3") as pool:
        futures: set[Future[None]] = set()
        try:
            for start, stop in plan.blocks:
                while len(jobs) == plan.in_flight:
                    futures = _still_running(futures)
                pieces = plan.pieces(start, stop)
                jobs.add(_BlockJob(open_block(start, stop), plan.tiles, pieces))
                futures |= {pool.submit(task) for _ in (*plan.tiles, *pieces)}
            while futures:
                futures = _still_running(futures)
        except BaseException:
            jobs.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _still_running(futures: set[Future[None]]) -> set[Future[None]]:
    """Wait until at least one is done and return the others; an error is raised."""
    done, left = wait(futures, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left
