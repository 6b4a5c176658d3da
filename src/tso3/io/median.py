"""The intermediate product ``median``: what every integration was compared with by outlier detection."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tso3.io.atomic import atomic_path
from tso3.io.disk import reserve, write_at
from tso3.io.exposure import Exposure
from tso3.io.fitsfile import padded

__all__ = ["MedianWriter"]


class MedianWriter:
    """
    Rolling medians of one segment, as the SCI extension of a FITS file; a context manager.

    Parameters
    ----------
    exposure : Exposure
        What the segment belongs to.
    i_segment : int
        Index of the segment in the exposure.
    path : path-like
        The product; it appears when the block ends without an exception.
    """

    def __init__(self, exposure: Exposure, i_segment: int, path: str | Path) -> None:
        self.path = Path(path)
        self._segment = exposure.segments[i_segment]
        self._start, self._stop = exposure.segment_bounds[i_segment]
        self._stack = ExitStack()
        self._descriptor = -1
        self._offset = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, self._descriptor)
            head = self._headers()
            self._offset = len(head)
            size = (self._stop - self._start) * self._segment.ny * self._segment.nx * 4
            write_at(self._descriptor, head, 0, self.path)
            reserve(self._descriptor, self._offset + padded(size), self.path)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, start: int, stop: int, median: NDArray[np.floating], rows: slice) -> None:
        """
        Put medians in their place; integrations of other segments are left out.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices that ``median`` holds.
        median : ndarray of float, shape (stop - start, n_rows, nx)
            In the unit of the input; NaN where unknown. Stored as float32.
        rows : slice
            Rows of the frame that it holds.
        """
        row_bytes = 4 * self._segment.nx
        for i in range(max(start, self._start), min(stop, self._stop)):
            frame = (i - self._start) * self._segment.ny * row_bytes
            data = median[i - start].astype(">f4").tobytes()
            write_at(self._descriptor, data, self._offset + frame + rows.start * row_bytes, self.path)

    def _headers(self) -> bytes:
        """Return the PRIMARY header of the input, renamed, and that of SCI with its shape and unit alone."""
        from astropy.io import fits

        primary = self._segment.primary.copy()
        for keyword in ("CHECKSUM", "DATASUM"):
            primary.remove(keyword, ignore_missing=True)
        primary["FILENAME"] = self.path.name
        primary["DATAMODL"] = "CubeModel"
        shape = (self._stop - self._start, self._segment.ny, self._segment.nx)
        sci = fits.Header([("XTENSION", "IMAGE", "Image extension"), ("BITPIX", -32), ("NAXIS", 3)])
        for axis, size in enumerate(reversed(shape), 1):
            sci[f"NAXIS{axis}"] = size
        for keyword, value in (("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", "SCI")):  # extend() would strip the first two
            sci[keyword] = value
        if "BUNIT" in self._segment.sci:
            sci["BUNIT"] = self._segment.sci["BUNIT"]
        return b"".join(header.tostring(padding=True).encode("ascii") for header in (primary, sci))
