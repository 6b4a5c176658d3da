"""The units (headers and data) of the product of spectra."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.io.metadata import cards_of
from tso3.io.times import IntTimes
from tso3.io.x1dplan import TableSpec
from tso3.io.x1dtable import COMPANION_COLUMNS, Column, table_header

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["Unit", "asdf_header", "companion_name", "companion_unit", "int_times_array", "small_table", "spectra_unit"]

_TRIES = 5


@dataclass(frozen=True)
class Unit:
    """A unit of the file: header, and either its data or the columns and the number of rows to come."""

    header: fits.Header
    data: bytes = b""
    columns: tuple[Column, ...] = ()
    spec: int = -1

    @property
    def data_size(self) -> int:
        """Bytes of data."""
        if not self.columns:
            return len(self.data)
        return int(self.header["NAXIS1"]) * int(self.header["NAXIS2"])


def companion_name(version: int) -> str:
    """Return the EXTNAME of the companion of EXTRACT1D, EXTVER ``version``."""
    return "TSO3_EXTRACT1D" if version == 1 else f"TSO3_EXTRACT1D_{version}"


def spectra_unit(table: TableSpec, index: int, columns: tuple[Column, ...]) -> Unit:
    """Return the EXTRACT1D unit of a table; ``index`` counts from 0, EXTVER from 1."""
    header = table_header(columns, table.n_int, table.n_wave, table.units, "EXTRACT1D", index + 1)
    for card in cards_of(table.values, "EXTRACT1D"):
        header.append(card, end=True)
    return Unit(header, columns=columns, spec=index)


def companion_unit(table: TableSpec, index: int) -> Unit:
    """Return the companion of a table, with the cards that tell which spectrum it is."""
    name = companion_name(index + 1)
    header = table_header(COMPANION_COLUMNS, table.n_int, table.n_wave, table.units, name, index + 1)
    header["X1DVER"] = (index + 1, "EXTVER of EXTRACT1D with the same rows")
    for card in cards_of(table.values, "EXTRACT1D"):
        if card[0] in ("DETECTOR", "SPORDER"):
            header.append(card, end=True)
    if table.pixel_area is not None:
        header["PIXAR_SR"] = (table.pixel_area, "Nominal pixel area in steradians")
    return Unit(header, columns=COMPANION_COLUMNS, spec=index)


def int_times_array(times: IntTimes) -> NDArray[np.void]:
    """Return the rows of INT_TIMES."""
    names = [f"int_{end}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for end in ("start", "mid", "end")]
    array = np.empty(len(times), dtype=[("integration_number", "i4"), *((name, "f8") for name in names)])
    array["integration_number"] = times.int_num
    for name in names:
        array[name] = getattr(times, name.removeprefix("int_").lower())
    return array


def small_table(name: str, array: NDArray[np.void]) -> Unit:
    """
    Return the unit of a table that is complete from the beginning.

    Python 3.11 counts the depth of syntax trees for all threads together, and raises a SystemError where two of them
    parse at once (python/cpython issue 106905): numpy parses the formats of columns. Then it is tried again.
    """
    for _ in range(_TRIES - 1):
        try:
            return _table_unit(name, array)
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise
    return _table_unit(name, array)


def _table_unit(name: str, array: NDArray[np.void]) -> Unit:
    from astropy.io import fits

    hdu = fits.BinTableHDU(name=name, ver=1)
    hdu.data = fits.FITS_rec.from_columns(fits.ColDefs(array))  # given as argument, it imports all of astropy.table
    hdu.header["EXTVER"] = (1, "extension value")
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    raw = buffer.getvalue()
    begin = len(fits.PrimaryHDU().header.tostring()) + len(hdu.header.tostring())
    size = int(hdu.header["NAXIS1"]) * int(hdu.header["NAXIS2"]) + int(hdu.header["PCOUNT"])
    return Unit(hdu.header, raw[begin : begin + size])


def asdf_header(size: int) -> fits.Header:
    """Return the header of the ASDF extension."""
    from astropy.io import fits

    header = fits.Header()
    header["XTENSION"] = ("BINTABLE", "binary table extension")
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (2, "number of array dimensions")
    header["NAXIS1"] = (size, "length of dimension 1")
    header["NAXIS2"] = (1, "length of dimension 2")
    header["PCOUNT"] = (0, "number of group parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["TFIELDS"] = (1, "number of table fields")
    header["TTYPE1"] = "ASDF_METADATA"
    header["TFORM1"] = f"{size}B"
    header["EXTNAME"] = ("ASDF", "extension name")
    return header
