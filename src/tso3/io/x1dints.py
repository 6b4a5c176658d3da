"""
Writer of the product of spectra (``x1dints``), which fills a file that is laid out before the first spectrum exists.

The file has the layout of the archive (jwst 3.0.0, TSOMultiSpecModel): PRIMARY, INT_TIMES, one EXTRACT1D table per
detector and spectral order (or per segment as well), HDRTAB, then our companion tables, and ASDF at the end. How many
integrations and wavelengths there will be is known from the plan of extraction, so headers are written first, the
space of the tables is reserved, and rows go to their byte offsets as blocks of integrations finish, in any order and
from any thread. Memory does not grow with the number of integrations.

``stdatamodels`` keeps, of several units that it does not know, only the last of each EXTNAME. The companion of
EXTRACT1D, EXTVER 1 is therefore called ``TSO3_EXTRACT1D`` and that of EXTVER n ``TSO3_EXTRACT1D_n``; both have the
EXTVER of their partner, which a card X1DVER repeats (EXTVER itself is lost in a save by ``stdatamodels``).

Typical use (``pipeline``)::

    plans = [SpectrumPlan(exposure, header, wavelength), ...]
    with x1dints_writer(path, observation, plans, layout="detector", ...) as writer:
        writer.write(exposure.name, spectra)      # as blocks finish
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tso3.errors import OutputError
from tso3.io.atomic import atomic_path
from tso3.io.disk import reserve, write_at
from tso3.io.exposure import Observation
from tso3.io.fitsfile import padded
from tso3.io.metadata import Blended, Member, Provenance, blend, cards_of
from tso3.io.schemas import Value
from tso3.io.soss_product import extraction_values, stripe_times, unused_references
from tso3.io.times import IntTimes
from tso3.io.x1dplan import SpectrumPlan, TableSpec, plan_tables
from tso3.io.x1drows import PartRows, RowsPart, RowUnit, RowWriter, copy_rows
from tso3.io.x1dtable import ARCHIVE_COLUMNS, COMPANION_COLUMNS, Column, asdf_datatype, source_type_column
from tso3.io.x1dtree import asdf_bytes, link, link_to_array, product_tree, read_cal_logs, spectrum_entry
from tso3.io.x1dunits import (
    Unit,
    asdf_header,
    companion_name,
    companion_unit,
    int_times_array,
    small_table,
    spectra_unit,
)

__all__ = ["SpectrumPlan", "TableSpec", "X1dintsWriter", "companion_name", "plan_tables", "x1dints_writer"]


def x1dints_writer(
    path: str | Path,
    observation: Observation,
    plans: Sequence[SpectrumPlan],
    *,
    layout: str,
    source_type_column: bool,
    steps: Mapping[str, str],
    provenance: Provenance,
    files: Sequence[Path] = (),
) -> X1dintsWriter:
    """
    Return the writer of an observation's spectra, with all metadata blended.

    Parameters
    ----------
    path : path-like
        The product, ``<product>_x1dints.fits``.
    observation : Observation
        What is reduced.
    plans : sequence of SpectrumPlan
        By exposure, then spectral order.
    layout : {"detector", "segment"}
        Parameter ``x1dints.layout``.
    source_type_column : bool
        Parameter ``x1dints.source_type_column``.
    steps : mapping of str to str
        Status by step, see `tso3.io.metadata.blend`.
    provenance : Provenance
        Versions, parameters and references of the run.
    files : sequence of Path, optional
        Input files in the order of the association; by default by exposure, then time.

    Returns
    -------
    writer : X1dintsWriter
        A context manager.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    given = {Path(file).name: i for i, file in enumerate(files)}
    segments = sorted(observation.segments, key=lambda s: given.get(s.path.name, len(given)))
    blended = blend(
        [Member(segment.path.name, segment.primary) for segment in segments],
        filename=Path(path).name,
        date=date,
        steps=steps,
        references=provenance.references | unused_references(observation, steps),
        association=(observation.asn_pool, observation.asn_table),
        extra=extraction_values(observation, provenance),
    )
    return X1dintsWriter(
        path,
        plan_tables(plans, "segment" if layout == "segment" else "detector", files),
        blended=blended,
        times=observation.exposures[0].times,
        provenance=provenance,
        source_type_column=source_type_column,
        cal_logs=read_cal_logs(segments[0]),
        stripes=stripe_times(observation.exposures[0]),
    )


class X1dintsWriter:
    """
    A product of spectra that is filled row by row; a context manager.

    The file appears under its name when the block ends without an exception, and only if every row was written. Its
    headers are made in a thread while the block begins; what goes wrong there is raised where rows are written.

    Parameters
    ----------
    path : path-like
        The product.
    tables : sequence of TableSpec
        In the order of their EXTVER.
    blended : Blended
        Metadata of the product and HDRTAB.
    times : IntTimes
        Rows of INT_TIMES: those of the first detector.
    provenance : Provenance
        How the product is made.
    source_type_column : bool, optional
        Whether EXTRACT1D gets a SOURCE_TYPE column.
    cal_logs : mapping, optional
        Logs of the earlier pipelines.
    stripes : structured ndarray, optional
        Rows of INT_TIMES_STRIPE.

    Examples
    --------
    See ``tests/io/test_x1dints.py``.
    """

    def __init__(
        self,
        path: str | Path,
        tables: Sequence[TableSpec],
        *,
        blended: Blended,
        times: IntTimes,
        provenance: Provenance,
        source_type_column: bool = True,
        cal_logs: Mapping[str, Any] | None = None,
        stripes: NDArray[np.void] | None = None,
    ) -> None:
        self.path = Path(path)
        self._tables = tuple(tables)
        self._blended = blended
        self._small = {"INT_TIMES": int_times_array(times)} | ({} if stripes is None else {"INT_TIMES_STRIPE": stripes})
        self._provenance = provenance
        self._with_source_type = source_type_column
        self._cal_logs = dict(cal_logs or {})
        self._units: list[Unit] = []
        self._offsets: list[int] = []
        self._laid_out: Future[RowWriter]
        self._stack = ExitStack()
        self._descriptor = -1

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, self._descriptor)
            reserve(self._descriptor, self._bytes_of_rows(), self.path)  # a full disk is noticed here
            aside = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="tso3-layout"))
            self._laid_out = aside.submit(self._lay_out)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        with ExitStack() as stack:
            stack.push(self._stack.pop_all())
            if kind is not None:
                return stack.__exit__(kind, error, traceback)
            self._finish()
        return None

    # ------------------------------------------------------------------ rows

    @property
    def _rows(self) -> RowWriter:
        """What writes rows; waits until they have their place."""
        return self._laid_out.result()

    def write(self, name: str, spectra: Any) -> None:
        """
        Write the spectra of consecutive integrations of one exposure; safe to call from several threads.

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
        self._rows.write(name, spectra)

    @contextmanager
    def opened(self, name: str, start: int, stop: int) -> Iterator[tuple[X1dintsWriter, None]]:
        """Give this writer itself: rows go straight into the product, and nothing is left to be taken."""
        yield self, None

    def parts(self, folder: Path) -> PartRows:
        """Return what takes rows in other processes, into files in a folder."""
        return PartRows(self._tables, self._rows.units, folder)

    def take(self, part: RowsPart) -> None:
        """
        Copy the rows of a part into the product.

        Parameters
        ----------
        part : RowsPart
            What one of `parts` gave.
        """
        for piece in part.pieces:
            unit = self._rows.units[piece.unit]
            size = unit.row_bytes(self._tables[unit.spec])
            copy_rows(part, piece, size, self._descriptor, unit.offset, self.path)
            self._rows.written[unit.spec][piece.first : piece.last] = True

    def update(self, index: int, values: Mapping[str, Value]) -> None:
        """
        Change metadata of a spectrum that is known only at the end.

        Parameters
        ----------
        index : int
            Which table, from 0.
        values : mapping
            By path in the tree, for example ``{"spec.extraction_ystart": 12.5}``; the table must have had a value
            for it before, since its header has its final length.
        """
        unknown = values.keys() - self._tables[index].values.keys()
        if unknown:
            raise ValueError(f"no place was reserved for {', '.join(sorted(unknown))}")
        self._tables[index].values.update(values)

    def _pwrite(self, data: bytes | memoryview, offset: int) -> None:
        """Write all bytes at an offset."""
        write_at(self._descriptor, data, offset, self.path)

    # ---------------------------------------------------------------- layout

    def _bytes_of_rows(self) -> int:
        """Return the bytes of all rows, which are nearly those of the file."""
        return sum(
            table.n_int * RowUnit(i, columns, 0).row_bytes(table)
            for i, table in enumerate(self._tables)
            for columns in (self._columns_of(table), COMPANION_COLUMNS)
        )

    def _lay_out(self) -> RowWriter:
        """Write all headers and small tables, and reserve the space of the others; return what writes their rows."""
        self._units = self._plan_units()
        offset = 0
        for unit in self._units:
            head = unit.header.tostring(padding=True).encode("ascii")
            self._pwrite(head, offset)
            self._offsets.append(offset + len(head))
            self._pwrite(unit.data, self._offsets[-1])
            offset = self._offsets[-1] + padded(unit.data_size)
        self._end = offset
        places = zip(self._units, self._offsets, strict=True)
        units = [RowUnit(unit.spec, unit.columns, at) for unit, at in places if unit.columns]
        reserve(self._descriptor, offset, self.path)
        return RowWriter(self._tables, units, self._descriptor, self.path)

    def _plan_units(self) -> list[Unit]:
        """Return the units of the file but ASDF."""
        return [
            Unit(self._blended.header(self._provenance.cards())),
            *(small_table(name, array) for name, array in self._small.items()),
            *(spectra_unit(table, i, self._columns_of(table)) for i, table in enumerate(self._tables)),
            small_table("HDRTAB", self._blended.hdrtab),
            *(companion_unit(table, i) for i, table in enumerate(self._tables)),
        ]

    def _columns_of(self, table: TableSpec) -> tuple[Column, ...]:
        """Return the columns of an EXTRACT1D table."""
        return (*ARCHIVE_COLUMNS, source_type_column(table.source_type)) if self._with_source_type else ARCHIVE_COLUMNS

    # ---------------------------------------------------------------- finish

    def _finish(self) -> None:
        """Write what was not known before: changed headers and the ASDF extension."""
        for table, written in zip(self._tables, self._rows.written, strict=True):
            if not written.all():
                raise RuntimeError(f"{np.count_nonzero(~written)} rows of {table.key[0]} were never written")
        for unit, offset in zip(self._units, self._offsets, strict=True):
            if unit.header.get("EXTNAME") == "EXTRACT1D":
                self._rewrite_header(unit, offset)
        tree = asdf_bytes(self._tree())
        unit = Unit(asdf_header(len(tree)), tree)
        head = unit.header.tostring(padding=True).encode("ascii")
        self._pwrite(head + tree + bytes(padded(len(tree)) - len(tree)), self._end)

    def _rewrite_header(self, unit: Unit, offset: int) -> None:
        """Write a header again if its values have changed."""
        before = unit.header.tostring(padding=True)
        for keyword, value, _ in cards_of(self._tables[unit.spec].values, "EXTRACT1D"):
            unit.header[keyword] = value
        after = unit.header.tostring(padding=True)
        if len(after) != len(before):
            raise OutputError("the header of a table has outgrown its place", self.path)
        if after != before:
            self._pwrite(after.encode("ascii"), offset - len(after))

    def _tree(self) -> dict[str, Any]:
        """Return the ASDF tree."""
        date = str(self._blended.values["meta.date"])
        spectra = []
        for i, table in enumerate(self._tables):
            datatype = asdf_datatype(self._columns_of(table), table.n_wave)
            spectra.append(spectrum_entry(table, link("EXTRACT1D", i + 1, datatype, table.n_int), date))
        links: dict[str, Any] = {
            "hdrtab": link_to_array("HDRTAB", self._blended.hdrtab),
            **{name.lower(): link_to_array(name, array) for name, array in self._small.items()},
            "tso3": self._provenance.tree(),
        }
        if self._cal_logs:
            links["cal_logs"] = self._cal_logs
        return product_tree(self._blended, spectra, links)
