"""The files that are written while an exposure streams: ``crfints`` per segment and, if asked for, the medians."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tso3.io.crfints import CrfintsRecord, CrfintsWriter, crfints_name
from tso3.io.exposure import Exposure
from tso3.io.median import MedianWriter

__all__ = ["ExposureProducts"]


class ExposureProducts:
    """
    Writers of all segments of one exposure; a context manager.

    Parameters
    ----------
    exposure : Exposure
        What is written.
    folder : Path
        Of the products.
    asn_id : str or None
        Identifier of the association, part of the names.
    record : CrfintsRecord
        What the headers say.
    crfints, medians : bool
        Which of the two are written.

    Attributes
    ----------
    crfints_paths, median_paths : list of Path
        Products, in the order of the segments.
    """

    def __init__(
        self,
        exposure: Exposure,
        folder: Path,
        asn_id: str | None,
        record: CrfintsRecord,
        *,
        crfints: bool,
        medians: bool,
    ) -> None:
        names = [crfints_name(segment, asn_id) for segment in exposure.segments]
        self.crfints_paths = [folder / name for name in names] if crfints else []
        self.median_paths = [folder / name.replace("_crfints", "_median") for name in names] if medians else []
        self._crfints = [CrfintsWriter(exposure, i, path, record) for i, path in enumerate(self.crfints_paths)]
        self._medians = [MedianWriter(exposure, i, path) for i, path in enumerate(self.median_paths)]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for writer in (*self._crfints, *self._medians):
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, start: int, stop: int, raw: Mapping[str, NDArray[np.generic]], rows: slice) -> None:
        """
        Write planes of integrations, each segment its own.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices.
        raw : mapping of str to ndarray, big-endian, shape (stop - start, n_rows, nx)
            Planes, bad samples marked.
        rows : slice
            Rows that they hold.
        """
        for writer in self._crfints:
            writer.write(start, stop, raw, rows)

    def write_median(self, start: int, stop: int, median: NDArray[np.floating], rows: slice) -> None:
        """
        Write what the integrations were compared with.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices.
        median : ndarray of float, shape (stop - start, n_rows, nx)
            In the unit of the input, NaN where unknown.
        rows : slice
            Rows that it holds.
        """
        for writer in self._medians:
            writer.write(start, stop, median, rows)
