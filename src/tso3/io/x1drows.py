"""
Rows of the product of spectra: written at their byte offsets, into the product itself or into a part of it.

One process writes into the product. On a cluster every worker writes the rows of its segment into a file of its own
(`PartRows`), in which they lie as in the product; whoever holds the product copies them (`X1dintsWriter.take`). So no
two processes ever write the same file, which network file systems do not bear.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import OutputError
from tso3.io.disk import begin_flush, refusal, reserve, write_at
from tso3.io.fitsfile import open_readonly, pread_exactly
from tso3.io.x1dplan import TableSpec
from tso3.io.x1dtable import UNSIGNED, Column, row_dtype

__all__ = ["PartRows", "RowPiece", "RowUnit", "RowWriter", "RowsPart", "copy_rows"]

_BUFFER = 2**21
"""Bytes that are converted and written at a time: small enough to stay in the cache."""

_CHUNK = 8 * 2**20
"""Bytes that are copied at a time."""

_TIME_COLUMNS = {
    "MJD-BEG": "start_mjd_utc",
    "MJD-AVG": "mid_mjd_utc",
    "MJD-END": "end_mjd_utc",
    "TDB-BEG": "start_bjd_tdb",
    "TDB-MID": "mid_bjd_tdb",
    "TDB-END": "end_bjd_tdb",
}


@dataclass(frozen=True)
class RowUnit:
    """
    Where the rows of one unit of the file lie.

    Attributes
    ----------
    spec : int
        Which table.
    columns : tuple of Column
        Of a row.
    offset : int
        Byte of row 0 of the table; in a part, where it would be.
    """

    spec: int
    columns: tuple[Column, ...]
    offset: int

    def row_bytes(self, table: TableSpec) -> int:
        """Return the bytes of a row."""
        return row_dtype(self.columns, table.n_wave).itemsize


class RowWriter:
    """
    Writes rows of tables at their offsets; safe to call from several threads.

    Parameters
    ----------
    tables : sequence of TableSpec
        All tables of the product.
    units : sequence of RowUnit
        EXTRACT1D and companions, where their rows lie in the file.
    descriptor : int
        The file, open for writing.
    path : path-like
        The product, for the messages of errors.

    Attributes
    ----------
    units : tuple of RowUnit
        As given.
    written : list of ndarray of bool, shape (n_int,)
        By table: the rows that are there.
    """

    def __init__(
        self, tables: Sequence[TableSpec], units: Sequence[RowUnit], descriptor: int, path: str | Path
    ) -> None:
        self._tables = tuple(tables)
        self.units = tuple(units)
        self._descriptor = descriptor
        self._path = path
        self._local = threading.local()
        self.written = [np.zeros(table.n_int, dtype=np.bool_) for table in self._tables]

    def write(self, name: str, spectra: Any) -> None:
        """
        Write the spectra of consecutive integrations of one exposure.

        Parameters
        ----------
        name : str
            Name of the exposure (``Exposure.name``).
        spectra : tso3.core.spectra.Spectra, or any object with its attributes
            ``start`` is the index of the first integration in the exposure. Not modified, not kept.

        Raises
        ------
        ValueError
            If no table has such rows or such wavelengths.
        """
        key, start = (name, spectra.header.slit_name, int(spectra.header.spectral_order)), int(spectra.start)
        stop = start + spectra.flux.shape[0]
        done = 0
        for i, table in enumerate(self._tables):
            first, last = max(start, table.start), min(stop, table.stop)
            if table.key != key or first >= last:
                continue
            if spectra.flux.shape[1] != table.n_wave:
                raise ValueError(f"{spectra.flux.shape[1]} wavelengths, but the table of {name} has {table.n_wave}")
            self._write_rows(i, first - table.start, spectra, first - start, last - start)
            done += last - first
        if done != stop - start:
            slit, order = key[1:]
            raise ValueError(
                f"integrations {start}-{stop - 1} of {name}, {slit}, order {order}, are not all in the tables"
            )

    def _write_rows(self, index: int, row: int, spectra: Any, first: int, last: int) -> None:
        """Write rows of one table and of its companion."""
        table = self._tables[index]
        for unit in self.units:
            if unit.spec != index:
                continue
            dtype = row_dtype(unit.columns, table.n_wave)
            step = max(1, _BUFFER // dtype.itemsize)
            for begin in range(first, last, step):
                end = min(begin + step, last)
                at = row + begin - first
                buffer = self._buffer(dtype, end - begin)
                _fill(buffer, unit.columns, table, at, _rows_of(spectra, unit.columns, begin, end))
                write_at(self._descriptor, buffer.view(np.uint8).data, unit.offset + at * dtype.itemsize, self._path)
            n_bytes = (last - first) * dtype.itemsize
            begin_flush(self._descriptor, unit.offset + row * dtype.itemsize, n_bytes)  # little is left for the end
        self.written[index][row : row + last - first] = True

    def _buffer(self, dtype: np.dtype[np.void], n: int) -> NDArray[np.void]:
        """Return a buffer of n rows that belongs to this thread."""
        kept: dict[Any, NDArray[np.void]] = self._local.__dict__
        key = f"{dtype.itemsize}.{len(dtype.names or ())}"
        if key not in kept or kept[key].size < n:
            kept[key] = np.empty(n, dtype=dtype)
        return kept[key][:n]


@dataclass(frozen=True)
class RowPiece:
    """
    Consecutive rows of one unit in a part.

    Attributes
    ----------
    unit : int
        Which unit of the product (index in its list of `RowUnit`).
    first, last : int
        Half-open range of rows of the table.
    offset : int
        Byte in the part.
    """

    unit: int
    first: int
    last: int
    offset: int


@dataclass(frozen=True)
class RowsPart:
    """
    A file with rows of a product.

    Attributes
    ----------
    path : Path
        The file.
    pieces : list of RowPiece
        What is in it.
    """

    path: Path
    pieces: list[RowPiece] = field(default_factory=list)


@dataclass(frozen=True)
class PartRows:
    """
    Takes rows into a file beside the product; can be sent to another process.

    Attributes
    ----------
    tables : tuple of TableSpec
        All tables of the product.
    units : tuple of RowUnit
        As they lie in the product.
    folder : Path
        Where the file is made.
    """

    tables: tuple[TableSpec, ...]
    units: tuple[RowUnit, ...]
    folder: Path

    @contextmanager
    def opened(self, name: str, start: int, stop: int) -> Iterator[tuple[RowWriter, RowsPart]]:
        """
        Give a writer of the rows of some integrations, and the record of the file, which is filled when it ends.

        Parameters
        ----------
        name : str
            Name of the exposure.
        start, stop : int
            Half-open range of its integrations.

        Yields
        ------
        rows : RowWriter
            Takes the spectra.
        part : RowsPart
            What `X1dintsWriter.take` needs.
        """
        part = RowsPart(self.folder / f"rows-{os.getpid()}-{secrets.token_hex(4)}")
        pieces, units, size = self._layout(name, start, stop)
        try:
            descriptor = os.open(part.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise refusal(error, part.path) from error
        try:
            if size:
                reserve(descriptor, size, part.path)
            rows = RowWriter(self.tables, units, descriptor, part.path)
            yield rows, part
            part.pieces.extend(p for p in pieces if rows.written[self.units[p.unit].spec][p.first : p.last].all())
            _flushed(descriptor, part.path)
        except BaseException:
            with suppress(OSError):
                part.path.unlink()
            raise
        finally:
            os.close(descriptor)

    def _layout(self, name: str, start: int, stop: int) -> tuple[list[RowPiece], list[RowUnit], int]:
        """Return which rows may come, their units as they lie in the part, and its size."""
        pieces, units, size = [], [], 0
        for i, unit in enumerate(self.units):
            table = self.tables[unit.spec]
            first, last = max(start, table.start) - table.start, min(stop, table.stop) - table.start
            if table.key[0] != name or first >= last:
                continue
            pieces.append(RowPiece(i, first, last, size))
            units.append(RowUnit(unit.spec, unit.columns, size - first * unit.row_bytes(table)))
            size += (last - first) * unit.row_bytes(table)
        return pieces, units, size


def copy_rows(part: RowsPart, piece: RowPiece, row_bytes: int, descriptor: int, offset: int, path: Path) -> None:
    """
    Copy rows of a part to their place in the product.

    Parameters
    ----------
    part : RowsPart
        The file.
    piece : RowPiece
        Which rows of it.
    row_bytes : int
        Bytes of a row.
    descriptor : int
        The product, open for writing.
    offset : int
        Byte of row 0 of the table in it.
    path : Path
        The product, for the messages of errors.
    """
    source = open_readonly(part.path)
    try:
        size = (piece.last - piece.first) * row_bytes
        for done in range(0, size, _CHUNK):
            data = pread_exactly(source, min(_CHUNK, size - done), piece.offset + done, part.path)
            write_at(descriptor, data, offset + piece.first * row_bytes + done, path)
            begin_flush(descriptor, offset + piece.first * row_bytes + done, len(data))
    finally:
        os.close(source)


def _flushed(descriptor: int, path: Path) -> None:
    """Flush a file, so that another machine reads what was written, and a full disk shows here."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path) from error


def _rows_of(spectra: Any, columns: Sequence[Column], begin: int, end: int) -> dict[str, NDArray[Any]]:
    """Return the vector columns of some integrations; those that do not change with time as they are."""
    rows: dict[str, NDArray[Any]] = {}
    for column in columns:
        if column.vector:
            array = np.asarray(getattr(spectra, column.key))
            rows[column.name] = array if array.ndim == 1 else array[begin:end]
    return rows


def _fill(
    buffer: NDArray[np.void], columns: Sequence[Column], table: TableSpec, at: int, vectors: Mapping[str, NDArray[Any]]
) -> None:
    """Fill rows of the file from arrays: the only pass over the numbers, big-endian as they are stored."""
    here = slice(at, at + buffer.size)
    for column in columns:
        target = buffer[column.name]
        if column.vector and column.unsigned:
            np.bitwise_xor(vectors[column.name], np.uint32(UNSIGNED), out=target.view(">u4"))
        elif column.vector:
            target[...] = vectors[column.name]
        elif column.name == "INT_NUM":
            target[...] = table.times.int_num[here]
        elif column.name == "SEGMENT":
            target[...] = table.segment[here]
        elif column.name == "N_ALONGDISP":
            target[...] = table.n_wave - UNSIGNED
        elif column.name == "SOURCE_TYPE":
            target[...] = table.source_type.encode("ascii", "replace")
        else:
            target[...] = getattr(table.times, _TIME_COLUMNS[column.name])[here]
