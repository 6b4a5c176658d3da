"""
Spectra of a product as ``xarray`` datasets, opened lazily: the numbers stay on disk until they are asked for.

A product holds one table per detector and spectral order (in the archive's layout one per segment as well), and tables
may have different wavelengths. One dataset is the spectra of one detector in one order: the tables of its segments,
end to end along time, with their companions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.fitsfile import Hdu, scan_hdus

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SpectraTable", "TableField", "locate_table", "open_spectra", "read_column", "tables_of"]

_COMPANION = "TSO3_EXTRACT1D"
_TYPES = {"D": ">f8", "E": ">f4", "J": ">i4", "K": ">i8", "I": ">i2", "A": "S"}
_TOP_BIT = 2**31
_TIME = "MJD-AVG"

_COORDINATES = {
    "INT_NUM": "int_num",
    "SEGMENT": "segment",
    "MJD-BEG": "mjd_beg",
    "MJD-END": "mjd_end",
    "TDB-BEG": "tdb_beg",
    "TDB-MID": "tdb_mid",
    "TDB-END": "tdb_end",
}
"""Columns with one number per integration that become coordinates beside the time."""


@dataclass(frozen=True)
class TableField:
    """A column of one table: where it is, and what it holds."""

    offset: int
    dtype: np.dtype[Any]
    unsigned: bool
    unit: str


@dataclass(frozen=True)
class SpectraTable:
    """A table of the file, by byte offsets."""

    hdu: Hdu
    n_int: int
    stride: int
    fields: dict[str, TableField]


def open_spectra(
    path: str | Path, detector: str | None = None, order: int | None = None, slit: str | None = None
) -> xr.Dataset | xr.DataTree:
    """
    Open the spectra of an ``x1dints`` product without reading them.

    Parameters
    ----------
    path : path-like
        A product of tso3, or of jwst (1.19 or later: one row per integration).
    detector : str, optional
        Choose one detector, for example ``"NRS1"``.
    order : int, optional
        Choose one spectral order.
    slit : str, optional
        Choose one slit by its name: a stripe (``"1"``), or channel and band of the MRS (``"1SHORT"``).

    Returns
    -------
    spectra : xarray.Dataset or xarray.DataTree
        A dataset if one detector, order and slit is left, else a tree of them, named ``"NRS1"`` (``"NRS1_order2"`` if
        there are several orders, ``"NRCA1_2"`` if there are several slits). Dimensions ``time`` and ``wavelength``;
        variables are the columns in lower case (``flux``, ``flux_error``, ``dq``, ..., and those of the companion
        table), each with its unit in ``attrs["units"]``. Coordinates: ``time`` (middle of the integration, MJD UTC
        [day]), ``tdb_mid`` (BJD (TDB) - 2400000.5 [day]), ``int_num``, ``segment``, and ``wavelength`` [micron]. Only
        coordinates are read at once; values are read from the file when they are used, in the pieces that are asked
        for, and the file may be moved only after that.

    Raises
    ------
    tso3.errors.InputError
        If the file is no such product, or nothing is left of it.

    Examples
    --------
    ``open_spectra("..._x1dints.fits", "NRS1").flux.sel(wavelength=slice(3.0, 3.2)).sum("wavelength")``
    """
    import xarray as xr

    groups = tables_of(Path(path))
    chosen = (detector, order, slit)
    keys = [key for key in groups if all(want in (None, has) for want, has in zip(chosen, key, strict=True))]
    if not keys:
        several = len(groups) > len({key[:2] for key in groups}) or slit is not None
        has = (f"{d} order {o}" + (f" slit {s}" if several else "") for d, o, s in groups)
        wanted = f"detector {detector}, order {order}" + ("" if slit is None else f", slit {slit}")
        raise InputError(f"no spectra of {wanted}; it has {', '.join(has) or 'no table of spectra'}", path)
    datasets = {key: _dataset(Path(path), groups[key], key) for key in keys}
    if len(keys) == 1:
        return datasets[keys[0]]
    orders = len({o for _, o, _ in keys}) > 1
    slits = len(keys) > len({(d, o) for d, o, _ in keys})
    named = {d + (f"_order{o}" if orders else "") + (f"_{s}" if slits else ""): datasets[d, o, s] for d, o, s in keys}
    return xr.DataTree.from_dict(named)


def tables_of(path: Path) -> dict[tuple[str, int, str], list[tuple[SpectraTable, SpectraTable | None]]]:
    """Return the tables of each detector, order and slit, in the order of the file, with their companions."""
    hdus = scan_hdus(path)
    companions = {
        int(hdu.header.get("X1DVER", hdu.version)): locate_table(hdu, path)
        for hdu in hdus
        if hdu.name.startswith(_COMPANION)
    }
    groups: dict[tuple[str, int, str], list[tuple[SpectraTable, SpectraTable | None]]] = {}
    for hdu in hdus:
        if hdu.name == "EXTRACT1D":
            name = hdu.header.get("DETECTOR") or hdus[0].header.get("DETECTOR") or "detector"
            key = (str(name), int(hdu.header.get("SPORDER", 1)), str(hdu.header.get("SLTNAME", "")).strip())
            groups.setdefault(key, []).append((locate_table(hdu, path), companions.get(hdu.version)))
    return groups


def locate_table(hdu: Hdu, path: Path) -> SpectraTable:
    """Return where the columns of a table lie."""
    header = hdu.header
    fields: dict[str, TableField] = {}
    at = 0
    for i in range(1, int(header["TFIELDS"]) + 1):
        form = str(header[f"TFORM{i}"]).strip()
        digits = form.rstrip("DEJKIA")
        code, count = form[len(digits) :], int(digits or 1)
        if code not in _TYPES or (digits and not digits.isdigit()):
            raise InputError(f"{hdu.name}: a column of format {form!r} is not expected in spectra", path)
        dtype = np.dtype(f"S{count}") if code == "A" else np.dtype((_TYPES[code], (count,) if digits else ()))
        name = str(header[f"TTYPE{i}"]).strip()
        unsigned = header.get(f"TZERO{i}") == _TOP_BIT
        fields[name] = TableField(at, dtype, unsigned, str(header.get(f"TUNIT{i}", "")))
        at += dtype.itemsize
    return SpectraTable(hdu, int(header["NAXIS2"]), int(header["NAXIS1"]), fields)


def _dataset(
    path: Path, tables: Sequence[tuple[SpectraTable, SpectraTable | None]], key: tuple[str, int, str]
) -> xr.Dataset:
    """Return the dataset of one detector, order and slit."""
    import xarray as xr

    spectra = [table for table, _ in tables]
    companions = [companion for _, companion in tables if companion is not None]
    wavelength = read_column(path, spectra[0], "WAVELENGTH", slice(0, 1))[0]
    for table in spectra[1:]:
        if not np.array_equal(read_column(path, table, "WAVELENGTH", slice(0, 1))[0], wavelength, equal_nan=True):
            raise InputError(f"the segments of {key[0]} differ in their wavelengths; open them one by one", path)
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"wavelength": ("wavelength", wavelength, {"units": "um"})}
    for parts in (spectra, companions if len(companions) == len(spectra) else []):
        for name, field in parts[0].fields.items() if parts else ():
            attributes = {"units": field.unit} if field.unit else {}
            if field.dtype.shape and name != "WAVELENGTH":
                variables[name.lower()] = (("time", "wavelength"), _lazy(path, parts, name), attributes)
            elif name == _TIME or name in _COORDINATES:
                values = np.concatenate([read_column(path, part, name, slice(None)) for part in parts])
                coordinates[_COORDINATES.get(name, "time")] = ("time", values, attributes)
    about = {"detector": key[0], "spectral_order": key[1], "slit_name": key[2], "file": path.name}
    return xr.Dataset(variables, coords=coordinates, attrs=about)


def read_column(path: Path, table: SpectraTable, name: str, rows: Any, samples: Any = Ellipsis) -> NDArray[Any]:
    """Return some rows, and of these some samples, of a column, in native byte order; only these are read."""
    field = table.fields[name]
    element = field.dtype.base
    column = np.ndarray(
        (table.n_int, *field.dtype.shape),
        element,
        np.memmap(path, np.uint8, "r", table.hdu.data_offset, (table.n_int * table.stride,)),
        offset=field.offset,
        strides=(table.stride, *(element.itemsize for _ in field.dtype.shape)),
    )
    chosen = column[:, samples] if field.dtype.shape else column
    native: NDArray[Any] = np.ascontiguousarray(chosen[rows], dtype=element.newbyteorder("="))
    return np.bitwise_xor(native.view(np.uint32), np.uint32(_TOP_BIT)) if field.unsigned else native


def _lazy(path: Path, tables: Sequence[SpectraTable], name: str) -> Any:
    """Return a vector column of tables that follow each other in time, as an array that xarray reads when used."""
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Column(BackendArray):
        """The column, indexed by integration and wavelength."""

        def __init__(self) -> None:
            field = tables[0].fields[name]
            self.shape = (sum(table.n_int for table in tables), *field.dtype.shape)
            self.dtype = np.dtype(np.uint32) if field.unsigned else field.dtype.base.newbyteorder("=")

        def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

        def _get(self, key: tuple[Any, ...]) -> NDArray[Any]:
            time, samples = key
            rows = np.atleast_1d(np.arange(self.shape[0])[time])
            values = _read_rows(path, tables, name, np.sort(rows), samples)
            if not isinstance(time, slice):
                return np.asarray(values[0])
            return values if time.step is None or time.step > 0 else values[::-1]

    return indexing.LazilyIndexedArray(Column())


def _read_rows(
    path: Path, tables: Sequence[SpectraTable], name: str, rows: NDArray[np.int64], samples: Any
) -> NDArray[Any]:
    """Return rows, in rising order, of tables that follow each other in time."""
    parts, first = [], 0
    for table in tables:
        mine = rows[(rows >= first) & (rows < first + table.n_int)] - first
        first += table.n_int
        if mine.size:
            step = int(mine[1] - mine[0]) if mine.size > 1 else 1
            parts.append(read_column(path, table, name, slice(int(mine[0]), int(mine[-1]) + 1, step), samples))
    if not parts:
        return read_column(path, tables[0], name, slice(0, 0), samples)
    return np.concatenate(parts)
