"""Pixels of an exposure by positioned reads: as they are on disk (big-endian), or converted while they are copied."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.dqflags import pixel_flags
from tso3.io.exposure import PLANES, Exposure
from tso3.io.fitsfile import open_readonly
from tso3.io.segment import Plane, Segment

__all__ = ["Reader", "reference_pixels", "to_native"]

RawPlanes = dict[str, NDArray[np.generic]]


class Reader:
    """
    Positioned reads of the planes of one exposure, across its segments.

    A file is never mapped and never modified. Reads from several threads at a time are safe (each read carries its
    own offset). Use it as a context manager, or call `close`.

    Parameters
    ----------
    exposure : Exposure
        What to read.

    Examples
    --------
    A block, converted, in buffers that are used again::

        with Reader(exposure) as reader:
            raw = reader.buffers(64)
            for start in range(0, exposure.n_int, 64):
                block = reader.read(start, min(start + 64, exposure.n_int), out=raw)
                data = reader.native(block["SCI"])
    """

    def __init__(self, exposure: Exposure) -> None:
        self.exposure = exposure
        self._descriptors: list[int] = []
        try:
            for segment in exposure.segments:
                self._descriptors.append(open_readonly(segment.path))
        except InputError:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; closing twice does no harm."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def buffers(self, n_int: int, planes: Sequence[str] = PLANES, rows: slice | None = None) -> RawPlanes:
        """
        Return uninitialised big-endian arrays for blocks of up to ``n_int`` integrations, for ``read(out=...)``.

        Parameters
        ----------
        n_int : int
            Integrations of the largest block.
        planes : sequence of str, optional
            Those that the exposure does not have are left out.
        rows : slice, optional
            Rows of the frame; all by default.
        """
        low, high = self._rows(rows)
        shape = (n_int, high - low, self.exposure.nx)
        first = self.exposure.segments[0]
        return {name: np.empty(shape, first.planes[name].dtype) for name in planes if name in first.planes}

    def read(
        self,
        start: int,
        stop: int,
        planes: Sequence[str] = PLANES,
        rows: slice | None = None,
        out: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> RawPlanes:
        """
        Return planes of the integrations ``start`` to ``stop``, as they are on disk.

        Parameters
        ----------
        start, stop : int
            0-based indices in the exposure, half-open.
        planes : sequence of str, optional
            Names of planes; one that the exposure does not have is absent in the result.
        rows : slice, optional
            Rows of the frame (step 1); all by default.
        out : mapping of str to ndarray, optional
            Buffers of at least ``stop - start`` integrations, as `buffers` gives them.

        Returns
        -------
        raw : dict of str to ndarray, shape (stop - start, n_rows, nx)
            ``>f4``, DQ ``>i4`` (offset by 2^31 where the file has it so: see `native`). Views of ``out`` if given.

        Raises
        ------
        InputError
            If a file has become shorter or unreadable since its headers were read.
        ValueError
            If the range or the buffers do not fit.
        """
        if not 0 <= start <= stop <= self.exposure.n_int:
            raise ValueError(f"integrations {start} to {stop} of an exposure of {self.exposure.n_int}")
        low, high = self._rows(rows)
        available = self.exposure.segments[0].planes
        names = [name for name in planes if name in available]
        buffers = self.buffers(stop - start, names, rows) if out is None else out
        raw: RawPlanes = {}
        for name in names:
            target = buffers[name][: stop - start]
            wanted = (stop - start, high - low, self.exposure.nx)
            if target.shape != wanted or target.dtype != available[name].dtype or not target.flags.c_contiguous:
                raise ValueError(f"buffer of {name} is {target.shape} {target.dtype}, needed {wanted}, contiguous")
            self._fill(name, start, stop, low, target)
            raw[name] = target
        return raw

    def native(self, raw: NDArray[np.generic], out: NDArray[np.generic] | None = None) -> NDArray[np.generic]:
        """Return a plane that `read` gave in the byte order of the machine (see `to_native`), DQ as its bits."""
        return to_native(raw, out, top_bit=self.exposure.segments[0].planes["DQ"].top_bit)

    def _rows(self, rows: slice | None) -> tuple[int, int]:
        """Return the first row and one past the last."""
        low, high, step = (rows or slice(None)).indices(self.exposure.ny)
        if step != 1 or high < low:
            raise ValueError(f"rows {rows} are no run of rows")
        return low, high

    def _fill(self, name: str, start: int, stop: int, low: int, target: NDArray[np.generic]) -> None:
        """Read the integrations of one plane, segment by segment."""
        for i, (first, last) in enumerate(self.exposure.segment_bounds):
            a, b = max(start, first), min(stop, last)
            if a < b:
                segment = self.exposure.segments[i]
                part = target[a - start : b - start]
                _read_plane(self._descriptors[i], segment, segment.planes[name], a - first, low, part)


def _read_plane(
    descriptor: int, segment: Segment, plane: Plane, i_first: int, low: int, target: NDArray[np.generic]
) -> None:
    """Fill ``target`` (n, n_rows, nx) from integration ``i_first`` and row ``low`` of a plane on."""
    if target.size == 0:
        return
    row = plane.shape[2] * target.itemsize
    frame = plane.shape[1] * row
    offset = plane.offset + i_first * frame + low * row
    flat = target.reshape(-1).view(np.uint8)
    if target.shape[1] == plane.shape[1]:
        _pread_into(descriptor, flat.data, offset, segment)
        return
    size = target.shape[1] * row
    for i in range(target.shape[0]):
        _pread_into(descriptor, flat[i * size : (i + 1) * size].data, offset + i * frame, segment)


def _pread_into(descriptor: int, view: memoryview, offset: int, segment: Segment) -> None:
    """Fill a view from an offset on."""
    done = 0
    while done < len(view):
        try:
            n = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise InputError(f"reading failed ({error.strerror}); is the disk in order?", segment.path) from None
        if n == 0:
            raise InputError(f"ends at byte {offset + done} now: it was cut while it was read", segment.path)
        done += n


def to_native(
    raw: NDArray[np.generic], out: NDArray[np.generic] | None = None, *, top_bit: bool = True
) -> NDArray[np.generic]:
    """
    Return a plane in the byte order of the machine; the conversion happens while copying.

    Parameters
    ----------
    raw : ndarray, big-endian
        ``>f4`` becomes float32, ``>i4`` (DQ) becomes uint32. Not modified.
    out : ndarray, optional
        Where to put it; same shape, C-contiguous.
    top_bit : bool, optional
        True if integers are stored with an offset of 2^31, as FITS does for unsigned ones: adding it back is the same
        as inverting the top bit.

    Returns
    -------
    native : ndarray of float32 or uint32
        Same shape. NaN stays NaN, bit by bit.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.reader import to_native
    >>> to_native(np.array([-(2**31), -(2**31) + 17], ">i4"))
    array([ 0, 17], dtype=uint32)
    """
    integers = raw.dtype.kind in "iu"
    if out is None:
        out = np.empty(raw.shape, np.uint32 if integers else np.float32)
    bits = out.view(np.uint32)
    np.copyto(bits, raw.view(">u4"))
    if integers and top_bit:
        np.bitwise_xor(bits, np.uint32(2**31), out=bits)
    return out


def reference_pixels(exposure: Exposure, i_int: int) -> NDArray[np.bool_]:
    """
    Return the reference pixels, which see no light.

    Parameters
    ----------
    exposure : Exposure
        What is read.
    i_int : int
        0-based integration whose DQ says so.

    Returns
    -------
    mask : ndarray of bool, shape (ny, nx)
    """
    with Reader(exposure) as reader:
        bits = reader.native(reader.read(i_int, i_int + 1, ("DQ",))["DQ"])[0]
    return np.asarray((bits & np.uint32(pixel_flags()["REFERENCE_PIXEL"])) != 0)
