"""
The product ``crfints``: a calints file with its bad samples marked, written block by block.

A ``crfints`` differs from its input in a few samples per thousand, so it is laid out once (headers corrected, tables
and unknown units copied as they are) and the planes are filled by positioned writes as blocks finish. It appears under
its name when it is whole (`tso3.io.atomic`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError, OutputError, Tso3Warning
from tso3.io.asdftree import ExtraCard, edit_tree, tree_value
from tso3.io.atomic import atomic_path
from tso3.io.exposure import Exposure
from tso3.io.fitsfile import Hdu, open_readonly, padded, pread_exactly
from tso3.io.segment import Segment

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["CrfintsRecord", "CrfintsWriter", "crfints_name"]

_CHUNK = 16 * 2**20
_CHECKSUMS = ("CHECKSUM", "DATASUM")
_AFTER_OUTLIER = ("S_PTHLOS", "S_PERSIS", "S_PHOTOM", "S_PIXREP", "S_PSFALI", "S_RAMP")
_HASH = "_fits_hash"


@dataclass(frozen=True)
class CrfintsRecord:
    """
    What is recorded in the headers of ``crfints``.

    Attributes
    ----------
    status : str
        S_OUTLIR: ``"COMPLETE"`` or ``"SKIPPED"``.
    asn_pool, asn_table : str or None
        ASNPOOL and ASNTABLE; None leaves those of the input.
    cards : sequence of (keyword, value, comment)
        Further PRIMARY cards of ours (as `tso3.io.metadata.Provenance.cards` gives them).
    tree : mapping
        Subtree ``tso3`` of the ASDF extension (as `tso3.io.metadata.Provenance.tree` gives it); plain values only.
    """

    status: str = "COMPLETE"
    asn_pool: str | None = None
    asn_table: str | None = None
    cards: Sequence[tuple[str, Any, str]] = ()
    tree: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Piece:
    """One unit of the product: its header, and its data (bytes, or None: copied from, or like, the input)."""

    hdu: Hdu
    header: bytes
    offset: int
    data: bytes | None

    @property
    def data_offset(self) -> int:
        return self.offset + len(self.header)

    @property
    def data_size(self) -> int:
        return self.hdu.data_size if self.data is None else len(self.data)

    @property
    def end(self) -> int:
        return self.data_offset + padded(self.data_size)


def crfints_name(segment: Segment, asn_id: str | None = None) -> str:
    """
    Return the archive's file name: ``<calints stem>_<asn_id>_crfints.fits``.

    Parameters
    ----------
    segment : Segment
        The input.
    asn_id : str, optional
        Identifier of the association, left out if None or if the stem ends in it already.

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
    exposure : Exposure
        What the segment belongs to.
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
                patch(raw, bad_mask(raw), outlier)
                writer.write(start, stop, raw)
    """

    def __init__(
        self, exposure: Exposure, i_segment: int, path: str | Path, record: CrfintsRecord | None = None
    ) -> None:
        self.path = Path(path)
        self.segment = exposure.segments[i_segment]
        self._start, self._stop = exposure.segment_bounds[i_segment]
        self._inputs = tuple(segment.path for segment in exposure.segments)
        self._record = CrfintsRecord() if record is None else record
        self._stack = ExitStack()
        self._descriptor = -1
        self._offsets: dict[str, int] = {}
        self._missing = dict.fromkeys(self.segment.planes, self.segment.n_int * self.segment.ny)
        self._lock = threading.Lock()
        self._flusher: threading.Thread | None = None
        self._flush_error: OSError | None = None

    def __enter__(self) -> CrfintsWriter:
        _refuse_inputs(self.path, self._inputs)
        repairs = [f"{hdu.name or hdu.index}: {text}" for hdu in self.segment.hdus for text in hdu.repairs]
        if repairs:
            shown = "; ".join(repairs[:6]) + (f"; and {len(repairs) - 6} more" if len(repairs) > 6 else "")
            warnings.warn(f"{self.segment.path}: repaired in the copy: {shown}", Tso3Warning, stacklevel=2)
        try:
            temporary = self._stack.enter_context(atomic_path(self.path))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            self._stack.callback(self._close)
            self._lay_out()
        except BaseException as error:
            if not self._stack.__exit__(type(error), error, error.__traceback__):
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and any(self._missing.values()):
            missing = {name: rows for name, rows in self._missing.items() if rows}
            error = RuntimeError(f"{self.path}: rows that were not written exactly once: {missing}")
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)

    def write(self, start: int, stop: int, raw: Mapping[str, NDArray[np.generic]], rows: slice | None = None) -> None:
        """
        Put planes in their place; integrations of other segments are left out.

        Parameters
        ----------
        start, stop : int
            0-based indices in the exposure, half-open, of the integrations that ``raw`` holds.
        raw : mapping of str to ndarray, shape (stop - start, n_rows, nx)
            Big-endian planes, as `tso3.io.reader.Reader.read` gives them and `tso3.io.planes.patch` has marked them.
        rows : slice, optional
            Rows of the frame that they hold; all by default.

        Raises
        ------
        tso3.errors.OutputError
            If the system refuses to write.
        """
        low, high, _ = (rows or slice(None)).indices(self.segment.ny)
        a, b = max(start, self._start), min(stop, self._stop)
        if a >= b or high <= low:
            return
        for name, plane in self.segment.planes.items():
            array = raw[name]
            if array.shape != (stop - start, high - low, self.segment.nx) or array.dtype != plane.dtype:
                raise ValueError(f"{name} is {array.shape} {array.dtype} for integrations {start} to {stop}")
            part = np.ascontiguousarray(array[a - start : b - start])
            self._write_plane(self._offsets[name], part, a - self._start, low)
        with self._lock:
            for name in self.segment.planes:
                self._missing[name] -= (b - a) * (high - low)
            if self._flusher is None and not any(self._missing.values()):
                self._flusher = threading.Thread(target=self._flush, daemon=True)
                self._flusher.start()

    def _write_plane(self, offset: int, part: NDArray[np.generic], i_first: int, low: int) -> None:
        row = self.segment.nx * part.itemsize
        frame = self.segment.ny * row
        offset += i_first * frame + low * row
        flat = memoryview(part.reshape(-1).view(np.uint8))
        if part.shape[1] == self.segment.ny:
            self._pwrite(flat, offset)
            return
        size = part.shape[1] * row
        for i in range(part.shape[0]):
            self._pwrite(flat[i * size : (i + 1) * size], offset + i * frame)

    def _pwrite(self, data: memoryview | bytes, offset: int) -> None:
        view, done = memoryview(data), 0
        while done < len(view):
            try:
                done += os.pwrite(self._descriptor, view[done:], offset + done)
            except OSError as error:
                raise OutputError(f"cannot be written: {_reason(error)}", self.path) from error

    def _flush(self) -> None:
        """Begin to flush while other segments are still being computed; errors are kept for the end."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._flush_error = error

    def _close(self) -> None:
        if self._flusher is not None:
            self._flusher.join()
        os.close(self._descriptor)
        if self._flush_error is not None:
            raise OutputError(f"cannot be written: {_reason(self._flush_error)}", self.path) from self._flush_error

    def _lay_out(self) -> None:
        """Reserve the space; write headers, tables and units that are copied."""
        descriptor = open_readonly(self.segment.path)
        try:
            pieces = _plan(self.segment, descriptor, self.path.name, self._record)
            _reserve(self._descriptor, pieces[-1].end, self.path)
            planes = {plane.offset: name for name, plane in self.segment.planes.items()}
            for piece in pieces:
                self._pwrite(piece.header, piece.offset)
                name = planes.get(piece.hdu.data_offset) if piece.hdu.data_size else None
                if name is not None:
                    self._offsets[name] = piece.data_offset
                elif piece.data is not None:
                    self._pwrite(piece.data, piece.data_offset)
                else:
                    self._copy(descriptor, piece)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, piece: _Piece) -> None:
        """Copy the data of a unit as they are; ASCII tables are filled up with blanks."""
        for done in range(0, piece.data_size, _CHUNK):
            size = min(_CHUNK, piece.data_size - done)
            data = pread_exactly(descriptor, size, piece.hdu.data_offset + done, self.segment.path)
            self._pwrite(data, piece.data_offset + done)
        if piece.hdu.header.get("XTENSION") == "TABLE":
            end = piece.data_offset + piece.data_size
            self._pwrite(b" " * (piece.end - end), end)


def _reason(error: OSError) -> str:
    return f"{error.strerror}; free some space or choose another output folder"


def _reserve(descriptor: int, size: int, path: Path) -> None:
    """Reserve the space of the whole file, so that a full disk is found before any work is done."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise OutputError(f"cannot be written ({size / 2**20:.0f} MiB): {_reason(error)}", path) from error
        os.ftruncate(descriptor, size)


def _refuse_inputs(path: Path, inputs: tuple[Path, ...]) -> None:
    """Raise if a product would replace an input."""
    for given in inputs:
        same = path.resolve() == given.resolve() or (path.exists() and given.exists() and path.samefile(given))
        if same:
            raise OutputError("the product would replace an input; choose another output folder", path)


def _plan(segment: Segment, descriptor: int, filename: str, record: CrfintsRecord) -> list[_Piece]:
    """Return the units of the product, with their places."""
    headers = {hdu.index: _header_bytes(hdu, segment, filename, record) for hdu in segment.hdus if hdu.name != "ASDF"}
    pieces: list[_Piece] = []
    offset = 0
    for hdu in segment.hdus:
        data = None
        header = headers.get(hdu.index)
        if header is None:
            header, data = _asdf_unit(hdu, segment, descriptor, headers, record)
        piece = _Piece(hdu, header, offset, data)
        pieces.append(piece)
        offset = piece.end
    return pieces


def _header_bytes(hdu: Hdu, segment: Segment, filename: str, record: CrfintsRecord) -> bytes:
    """Return the header of a unit of the product."""
    header = hdu.header.copy()
    for key in _CHECKSUMS:
        header.remove(key, ignore_missing=True, remove_all=True)
    if hdu.index == 0:
        for key, value, comment in _primary_cards(filename, record):
            _set_card(header, key, value, comment)
    return header.tostring().encode("ascii")


def _primary_cards(filename: str, record: CrfintsRecord) -> list[tuple[str, Any, str]]:
    """Return the PRIMARY cards that differ from the input."""
    cards: list[tuple[str, Any, str]] = [
        ("DATE", datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds"), "UTC date file created"),
        ("FILENAME", _ascii(filename), "Name of the file"),
        ("S_OUTLIR", record.status, "Outlier Detection"),
    ]
    if record.asn_pool is not None:
        cards.append(("ASNPOOL", _ascii(record.asn_pool), "Name of the ASN pool"))
    if record.asn_table is not None:
        cards.append(("ASNTABLE", _ascii(record.asn_table), "Name of the ASN table"))
    return [*cards, *((key, _ascii(value), comment) for key, value, comment in record.cards)]


def _ascii(value: Any) -> Any:
    return value.encode("ascii", "replace").decode() if isinstance(value, str) else value


def _set_card(header: fits.Header, key: str, value: Any, comment: str) -> None:
    """Set a card, keeping the comment of one that is there; a new S_OUTLIR goes where the archive has it."""
    if key in header:
        header[key] = value
        return
    if key == "S_OUTLIR":
        before = next((k for k in _AFTER_OUTLIER if k in header), None)
        if before is not None:
            header.insert(before, (key, value, comment))
            return
    header.append((key, value, comment), end=True)


def _asdf_unit(
    hdu: Hdu, segment: Segment, descriptor: int, headers: Mapping[int, bytes], record: CrfintsRecord
) -> tuple[bytes, bytes | None]:
    """Return header and data of the ASDF extension, edited."""
    header = hdu.header.copy()
    for key in _CHECKSUMS:
        header.remove(key, ignore_missing=True, remove_all=True)
    table = header.get("XTENSION") == "BINTABLE"
    simple = header.get("NAXIS2") == 1 and header.get("TFIELDS") == 1 and not header.get("PCOUNT")
    if header.get("BITPIX") != 8 or not (simple if table else header.get("NAXIS") == 1):
        warnings.warn(
            f"{segment.path}: the ASDF extension is laid out in an unknown way; it is copied as it is",
            Tso3Warning,
            stacklevel=5,
        )
        return header.tostring().encode("ascii"), None
    content = pread_exactly(descriptor, hdu.data_size, hdu.data_offset, segment.path)
    try:
        content = _edited(content, segment, descriptor, headers, record)
    except InputError as error:
        raise InputError(error.found, segment.path) from None
    header["NAXIS1"] = len(content)
    if table:
        header["TFORM1"] = f"{len(content)}B"
    return header.tostring().encode("ascii"), content


def _edited(
    content: bytes, segment: Segment, descriptor: int, headers: Mapping[int, bytes], record: CrfintsRecord
) -> bytes:
    """Return the tree with what the headers say now; its hash of the headers is renewed only if it was right."""
    from astropy.io import fits

    primary = fits.Header.fromstring(headers[0])
    values: dict[tuple[str, ...], Any] = {
        ("meta", "filename"): primary["FILENAME"],
        ("meta", "date"): primary["DATE"],
        ("meta", "cal_step", "outlier_detection"): record.status,
    }
    for key, name in (("ASNPOOL", "pool_name"), ("ASNTABLE", "table_name")):
        if getattr(record, f"asn_{name.split('_')[0]}") is not None:
            values["meta", "asn", name] = primary[key]
            values["meta", "asn", "exptype"] = "science"
    if record.tree:
        values[("tso3",)] = dict(record.tree)
    old = tree_value(content, (_HASH,))
    if old is not None:
        raw = hashlib.sha256()
        for hdu in segment.hdus:
            if hdu.name != "ASDF":
                size = hdu.data_offset - hdu.header_offset
                raw.update(pread_exactly(descriptor, size, hdu.header_offset, segment.path))
        valid = old == raw.hexdigest() and not any(hdu.repairs for hdu in segment.hdus)
        new = hashlib.sha256(b"".join(headers[i] for i in sorted(headers))).hexdigest()
        values[(_HASH,)] = new if valid else None
    extra = [ExtraCard(key, primary[key], comment) for key, _, comment in record.cards]
    return edit_tree(content, values, extra)
