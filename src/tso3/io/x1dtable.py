"""
The columns of the product of spectra, declared once: types of rows, FITS headers and ASDF descriptions follow.

A row is one integration. ``EXTRACT1D`` has the columns of the archive (jwst 3.0.0, TSOMultiSpecModel): 140 bytes per
wavelength. The companion table holds what the archive's schema does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["ARCHIVE_COLUMNS", "COMPANION_COLUMNS", "Column", "asdf_datatype", "row_dtype", "table_header"]

Unit = Literal["", "um", "d", "flux", "flux_var", "sb", "sb_var", "bkgd", "bkgd_var"]

UNSIGNED = 2**31
"""Offset (TZERO) by which FITS holds unsigned 32-bit integers."""

_TYPES = {"D": ">f8", "E": ">f4", "J": ">i4"}


@dataclass(frozen=True)
class Column:
    """
    One column of a table of spectra.

    Attributes
    ----------
    name : str
        TTYPE.
    code : str
        FITS format of one element: ``"D"``, ``"E"``, ``"J"`` or ``"A"``.
    vector : bool
        True: one element for each wavelength; False: one for each integration.
    unit : str
        A unit, or which of the units of a spectrum: ``"flux"``, ``"sb"``, ``"bkgd"``, or with
        ``_var`` their squares.
    unsigned : bool
        Whether integers are stored with an offset of 2**31.
    width : int
        Characters of a string column.
    """

    name: str
    code: str
    vector: bool = True
    unit: Unit = ""
    unsigned: bool = False
    width: int = 0

    @property
    def key(self) -> str:
        """Name of the array in a record of spectra."""
        return self.name.lower().replace("-", "_")


_TIMES = ("MJD-BEG", "MJD-AVG", "MJD-END", "TDB-BEG", "TDB-MID", "TDB-END")

ARCHIVE_COLUMNS: tuple[Column, ...] = (
    Column("INT_NUM", "J", vector=False),
    Column("WAVELENGTH", "D", unit="um"),
    Column("FLUX", "D", unit="flux"),
    Column("FLUX_ERROR", "D", unit="flux"),
    Column("FLUX_VAR_POISSON", "D", unit="flux_var"),
    Column("FLUX_VAR_RNOISE", "D", unit="flux_var"),
    Column("FLUX_VAR_FLAT", "D", unit="flux_var"),
    Column("SURF_BRIGHT", "D", unit="sb"),
    Column("SB_ERROR", "D", unit="sb"),
    Column("SB_VAR_POISSON", "D", unit="sb_var"),
    Column("SB_VAR_RNOISE", "D", unit="sb_var"),
    Column("SB_VAR_FLAT", "D", unit="sb_var"),
    Column("DQ", "J", unsigned=True),
    Column("BACKGROUND", "D", unit="bkgd"),
    Column("BKGD_ERROR", "D", unit="bkgd"),
    Column("BKGD_VAR_POISSON", "D", unit="bkgd_var"),
    Column("BKGD_VAR_RNOISE", "D", unit="bkgd_var"),
    Column("BKGD_VAR_FLAT", "D", unit="bkgd_var"),
    Column("NPIXELS", "D"),
    Column("N_ALONGDISP", "J", vector=False, unsigned=True),
    Column("SEGMENT", "J", vector=False),
    *(Column(name, "D", vector=False, unit="d") for name in _TIMES),
)
"""Columns of EXTRACT1D as the archive has them; the test of the layout compares them with the schema."""

COMPANION_COLUMNS: tuple[Column, ...] = (
    Column("INT_NUM", "J", vector=False),
    Column("SEGMENT", "J", vector=False),
    Column("MISSING_FRACTION", "D"),
    Column("FLUX_UNCOMPLETED", "D", unit="flux"),
    Column("FLUX_ERROR_TEMPORAL", "D", unit="flux"),
    Column("FLUX_VAR_LIMIT", "D", unit="flux_var"),
)
"""Columns of the companion table."""


def source_type_column(source_type: str) -> Column:
    """Return the string column without which specutils 2.4 cannot read a table with one spectrum per row."""
    return Column("SOURCE_TYPE", "A", vector=False, width=max(1, len(source_type)))


def row_dtype(columns: Sequence[Column], n_wave: int) -> np.dtype[np.void]:
    """
    Return the type of a row as it lies in the file: big-endian, without gaps.

    Parameters
    ----------
    columns : sequence of Column
        Columns of the table.
    n_wave : int
        Number of wavelengths.

    Returns
    -------
    dtype : numpy.dtype
        Structured.

    Examples
    --------
    >>> from tso3.io.x1dtable import ARCHIVE_COLUMNS, row_dtype
    >>> row_dtype(ARCHIVE_COLUMNS, 100).itemsize - row_dtype(ARCHIVE_COLUMNS, 99).itemsize
    140
    """
    fields: list[Any] = []
    for column in columns:
        kind = f"S{column.width}" if column.code == "A" else _TYPES[column.code]
        fields.append((column.name, kind, (n_wave,)) if column.vector else (column.name, kind))
    return np.dtype(fields)


def table_header(
    columns: Sequence[Column], n_rows: int, n_wave: int, units: dict[str, str], name: str, version: int
) -> fits.Header:
    """
    Return the header of a binary table, cards in the order in which astropy (and so the archive) writes them.

    Parameters
    ----------
    columns : sequence of Column
        Its columns.
    n_rows, n_wave : int
        Integrations and wavelengths.
    units : dict
        What ``flux``, ``sb``, ``bkgd`` and, with ``_var``, their squares stand for; an empty string gives no card.
    name, version : str, int
        EXTNAME and EXTVER.

    Returns
    -------
    header : astropy.io.fits.Header
        Complete.
    """
    from astropy.io import fits

    header = fits.Header()
    header["XTENSION"] = ("BINTABLE", "binary table extension")
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (2, "number of array dimensions")
    header["NAXIS1"] = (row_dtype(columns, n_wave).itemsize, "length of dimension 1")
    header["NAXIS2"] = (n_rows, "length of dimension 2")
    header["PCOUNT"] = (0, "number of group parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["TFIELDS"] = (len(columns), "number of table fields")
    for i, column in enumerate(columns, 1):
        count = n_wave if column.vector else column.width or ""
        header[f"TTYPE{i}"] = column.name
        header[f"TFORM{i}"] = f"{count}{column.code}"
        unit = units.get(column.unit, column.unit)
        if unit:
            header[f"TUNIT{i}"] = unit
        if column.unsigned:
            header[f"TZERO{i}"] = UNSIGNED
        if column.vector:
            header[f"TDIM{i}"] = f"({n_wave})"
    header["EXTNAME"] = (name, "extension name")
    header["EXTVER"] = (version, "extension value")
    return header


def asdf_datatype(columns: Sequence[Column], n_wave: int) -> list[dict[str, Any]]:
    """Return the description of a row for the link from the ASDF tree into the table."""
    described: list[dict[str, Any]] = []
    for column in columns:
        if column.code == "A":
            kind: Any = ["ascii", column.width]
        else:
            kind = {"D": "float64", "E": "float32"}.get(column.code, "uint32" if column.unsigned else "int32")
        entry = {"byteorder": "big", "datatype": kind, "name": column.name}
        described.append({**entry, "shape": [n_wave]} if column.vector else entry)
    return described
