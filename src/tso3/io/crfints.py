"""
The product ``crfints``: a calints file with its bad samples marked, written block by block.

A ``crfints`` differs from its input in a few samples per thousand, so it is laid out once (headers corrected, tables
and unknown units copied as they are) and the planes are filled by positioned writes as blocks finish. It appears under
its name when it is whole (`tso3.io.atomic`). Slits of one file, which are reduced one after another, share one writer.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tso3.errors import OutputError, Tso3Warning
from tso3.io.atomic import atomic_path
from tso3.io.crfintsplan import CrfintsRecord, Piece, plan_crfints
from tso3.io.direct import DirectFile
from tso3.io.disk import reserve, write_at
from tso3.io.exposure import Exposure
from tso3.io.fitsfile import open_readonly, pread_exactly
from tso3.io.segment import Segment

__all__ = ["CrfintsRecord", "CrfintsWriter", "crfints_name"]

_CHUNK = 16 * 2**20


def crfints_name(segment: Segment, asn_id: str | None = None) -> str:
    """
    Return the archive's file name: ``<calints stem>_<asn_id>_crfints.fits``.

    Parameters
    ----------
    segment : Segment
        The input.
    asn_id : str, optional
        Identifier of the association, left out if None or if the stem ends in it already.

    Returns
    -------
    name : str
        Without a folder.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from tso3.io.crfints import crfints_name
    >>> crfints_name(SimpleNamespace(stem="jw01366003001_04101_00001-seg001_nrs1"), "o003")
    'jw01366003001_04101_00001-seg001_nrs1_o003_crfints.fits'
    """
    stem = segment.stem.removesuffix("_crfints")
    if asn_id and not stem.endswith(f"_{asn_id}"):
        stem = f"{stem}_{asn_id}"
    return f"{stem}_crfints.fits"


class CrfintsWriter:
    """
    The ``crfints`` of one segment, to be used as a context manager.

    On entering, the whole file is laid out under a temporary name and its space reserved. `write` puts planes in place
    and may be called from several threads. On leaving, the file is flushed to disk and renamed; if the block raised,
    it is removed and an earlier product stays as it was.

    Parameters
    ----------
    exposure : Exposure or sequence of Exposure
        What the segment belongs to; for files with several slits, all their exposures.
    i_segment : int
        Index of the segment in the exposure.
    path : path-like
        The product; its folder must exist.
    record : CrfintsRecord, optional
        What the headers say.

    Raises
    ------
    tso3.errors.OutputError
        If the product would replace an input, or cannot be written.

    Warns
    -----
    tso3.errors.Tso3Warning
        On entering, if cards of the input had to be repaired in the copy; each is named.

    Examples
    --------
    Every integration has to be written once; ``start`` and ``stop`` are indices in the exposure::

        with CrfintsWriter(exposure, 0, folder / crfints_name(exposure.segments[0], "o003")) as writer:
            for start, stop in blocks:
                raw = reader.read(start, stop)
                mark_rows(raw, Place(0, exposure.ny, 0), outlier, None, {}, (0, 0, 0), top_bit=True)
                writer.write(start, stop, raw)
    """

    def __init__(
        self,
        exposure: Exposure | Sequence[Exposure],
        i_segment: int,
        path: str | Path,
        record: CrfintsRecord | None = None,
    ) -> None:
        slits = (exposure,) if isinstance(exposure, Exposure) else tuple(exposure)
        self.path = Path(path)
        self.segment = slits[0].segments[i_segment]
        self._slits = {slit.segments[i_segment].slit: slit.segments[i_segment] for slit in slits}
        if len(self._slits) != self.segment.n_slits:
            raise ValueError(f"{self.segment.path} has {self.segment.n_slits} slits, given are {len(self._slits)}")
        self._start, self._stop = slits[0].segment_bounds[i_segment]
        self._inputs = slits[0].paths
        self._record = CrfintsRecord() if record is None else record
        self._stack = ExitStack()
        self._descriptor = -1
        self._offsets: dict[tuple[int, str], int] = {}
        self._missing = {(k, name): s.n_int * s.ny for k, s in self._slits.items() for name in s.planes}
        self._lock = threading.Lock()

    def __enter__(self) -> CrfintsWriter:
        _refuse_inputs(self.path, self._inputs)
        repairs = [f"{hdu.name or hdu.index}: {text}" for hdu in self.segment.hdus for text in hdu.repairs]
        if repairs:
            shown = "; ".join(repairs[:6]) + (f"; and {len(repairs) - 6} more" if len(repairs) > 6 else "")
            warnings.warn(f"{self.segment.path}: repaired in the copy: {shown}", Tso3Warning, stacklevel=2)
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            self._stack.callback(os.close, self._descriptor)
            self._file = self._stack.enter_context(DirectFile(temporary, self._descriptor, self.path))
            self._lay_out()
        except BaseException as error:
            if not self._stack.__exit__(type(error), error, error.__traceback__):
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and any(self._missing.values()):
            missing = {f"{name},{slit}": rows for (slit, name), rows in self._missing.items() if rows}
            error = RuntimeError(f"{self.path}: rows that were not written exactly once: {missing}")
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)

    def write(
        self,
        start: int,
        stop: int,
        raw: Mapping[str, NDArray[np.generic]],
        rows: slice | None = None,
        slit: int | None = None,
    ) -> None:
        """
        Put planes in their place; integrations of other segments are left out.

        Parameters
        ----------
        start, stop : int
            0-based indices in the exposure, half-open, of the integrations that ``raw`` holds.
        raw : mapping of str to ndarray, shape (stop - start, n_rows, nx)
            Big-endian planes, as `tso3.io.reader.Reader.read` gives them and `tso3.io.tiles.mark_rows` has marked them.
        rows : slice, optional
            Rows of the frame that they hold; all by default.
        slit : int, optional
            Which of several slits (its EXTVER); the first by default.

        Raises
        ------
        tso3.errors.OutputError
            If the system refuses to write.
        """
        segment = self.segment if slit is None else self._slits[slit]
        low, high, _ = (rows or slice(None)).indices(segment.ny)
        a, b = max(start, self._start), min(stop, self._stop)
        if a >= b or high <= low:
            return
        for name, plane in segment.planes.items():
            array = raw[name]
            if array.shape != (stop - start, high - low, segment.nx) or array.dtype != plane.dtype:
                raise ValueError(f"{name} is {array.shape} {array.dtype} for integrations {start} to {stop}")
            part = np.ascontiguousarray(array[a - start : b - start])
            self._write_plane(segment, self._offsets[segment.slit, name], part, a - self._start, low)
        with self._lock:
            for name in segment.planes:
                self._missing[segment.slit, name] -= (b - a) * (high - low)
            if not any(self._missing.values()):
                self._file.flush()

    def _write_plane(self, segment: Segment, offset: int, part: NDArray[np.generic], i_first: int, low: int) -> None:
        row = segment.nx * part.itemsize
        frame = segment.ny * row
        offset += i_first * frame + low * row
        flat = part.reshape(-1).view(np.uint8).data
        size = part.shape[1] * row
        if size == frame:
            self._file.write([(flat, offset)])
        else:
            self._file.write((flat[i * size : (i + 1) * size], offset + i * frame) for i in range(part.shape[0]))

    def _pwrite(self, data: memoryview | bytes, offset: int) -> None:
        write_at(self._descriptor, data, offset, self.path)

    def _lay_out(self) -> None:
        """Reserve the space; write headers, tables and units that are copied."""
        descriptor = open_readonly(self.segment.path)
        try:
            pieces = plan_crfints(self.segment, descriptor, self.path.name, self._record)
            reserve(self._descriptor, pieces[-1].end, self.path)
            planes = {p.offset: (k, name) for k, slit in self._slits.items() for name, p in slit.planes.items()}
            for piece in pieces:
                self._pwrite(piece.header, piece.offset)
                plane = planes.get(piece.hdu.data_offset) if piece.hdu.data_size else None
                if plane is not None:
                    self._offsets[plane] = piece.data_offset
                elif piece.data is not None:
                    self._pwrite(piece.data, piece.data_offset)
                else:
                    self._copy(descriptor, piece)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, piece: Piece) -> None:
        """Copy the data of a unit as they are; ASCII tables are filled up with blanks."""
        for done in range(0, piece.data_size, _CHUNK):
            size = min(_CHUNK, piece.data_size - done)
            data = pread_exactly(descriptor, size, piece.hdu.data_offset + done, self.segment.path)
            self._pwrite(data, piece.data_offset + done)
        if piece.hdu.header.get("XTENSION") == "TABLE":
            end = piece.data_offset + piece.data_size
            self._pwrite(b" " * (piece.end - end), end)


def _refuse_inputs(path: Path, inputs: tuple[Path, ...]) -> None:
    """Raise if a product would replace an input."""
    for given in inputs:
        same = path.resolve() == given.resolve() or (path.exists() and given.exists() and path.samefile(given))
        if same:
            raise OutputError("the product would replace an input; choose another output folder", path)
