"""The whole series of every pixel, clipped: a pass over all integrations in tiles of rows, before the stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.sigma_clip import ClippedSeries, clip_series
from tso3.errors import ParameterError
from tso3.io.reader import Reader
from tso3.io.tiles import Place, ready_rows
from tso3.steps.outlier_detection import OutlierPlan, left_out

__all__ = ["clipped"]

_PLANES = ("SCI", "ERR", "DQ")
_SAMPLE_BYTES = 12 + 9
"""Per sample of a tile: as on disk, and value, error and mask."""
_TILE_BYTES = 128 * 2**20


def clipped(
    plan: OutlierPlan, reader: Reader, bad_pixels: NDArray[np.bool_] | None, workers: int, max_memory: int
) -> OutlierPlan:
    """
    Return the plan with median and scatter of every pixel, for the spans that one window covers.

    Parameters
    ----------
    plan : OutlierPlan
        With ``method = sigma_clip``.
    reader : Reader
        Of the exposure.
    bad_pixels : ndarray of bool, shape (ny, nx), or None
        Pixels that the user calls bad.
    workers : int
        Threads.
    max_memory : int
        Bytes allowed.

    Returns
    -------
    plan : OutlierPlan

    Raises
    ------
    ParameterError
        If one row of all integrations does not fit; the message says what would.

    Notes
    -----
    Tiles of rows hold all integrations; no number depends on their size. Each sample is read once more than without.
    """
    exposure = reader.exposure
    starts = [int(i) for i in np.flatnonzero(plan.static) if int(plan.lo[i]) == i]
    longest = max(int(plan.hi[i]) - i for i in starts)
    row = longest * exposure.nx * _SAMPLE_BYTES
    n_threads = max(1, min(workers, max_memory // (2 * row)))
    if row > max_memory:
        raise ParameterError(
            f"0 makes sigma_clip look at {longest} integrations of a pixel at once; one row of them needs"
            f" {-(-row // 2**20)} MiB, and {max_memory / 2**20:.0f} MiB are allowed; raise max_memory, or give a"
            " window",
            "outlier_detection.rolling_window_width",
        )
    rows = max(1, min(_TILE_BYTES, max_memory // 2) // (row * n_threads))
    tiles = [slice(low, min(low + rows, exposure.ny)) for low in range(0, exposure.ny, rows)]
    found = []
    for start in starts:
        frame = (exposure.ny, exposure.nx)
        whole = ClippedSeries(np.empty(frame, np.float32), np.empty(frame, np.float32))
        _fill(plan, reader, bad_pixels, (start, int(plan.hi[start])), tiles, n_threads, whole)
        found.append((start, whole))
    return replace(plan, series=tuple(found))


def _fill(
    plan: OutlierPlan,
    reader: Reader,
    bad_pixels: NDArray[np.bool_] | None,
    span: tuple[int, int],
    tiles: list[slice],
    n_threads: int,
    whole: ClippedSeries,
) -> None:
    """Fill what clipping leaves of all pixels of a span."""
    start, stop = span
    exposure, parameters = reader.exposure, plan.parameters
    top_bit = exposure.segments[0].planes["DQ"].top_bit

    def look(rows: slice) -> None:
        shape = (stop - start, rows.stop - rows.start, exposure.nx)
        data, err = (np.empty(shape, np.float32) for _ in range(2))
        mask = np.empty(shape, np.bool_)
        place = Place(0, shape[1], rows.start)
        raw = reader.read(start, stop, _PLANES, rows)
        ready_rows(raw, place, left_out(plan, start), bad_pixels, (data, err, mask), top_bit=top_bit)
        tile = clip_series(data, mask, snr=parameters.snr, maxiters=parameters.maxiters, min_valid=parameters.min_valid)
        whole.centre[rows], whole.scatter[rows] = tile.centre, tile.scatter

    with ThreadPoolExecutor(n_threads, thread_name_prefix="tso3") as pool:
        list(pool.map(look, tiles))
