"""Columns of a binary table, read by their place in the row."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.fitsfile import Hdu, header_value, open_readonly, pread_exactly

__all__ = ["read_table"]


def read_table(hdu: Hdu, path: str | Path, columns: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """
    Return scalar numeric columns of a binary table.

    Parameters
    ----------
    hdu : Hdu
        A BINTABLE unit.
    path : path-like
        Its file.
    columns : tuple of str
        Names; upper and lower case are the same, as FITS has it.

    Returns
    -------
    values : dict of ndarray of float64, shape (n_rows,)
        Those of the columns that exist and hold one number per row.

    Raises
    ------
    InputError
        If the table cannot be read.
    """
    formats = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
    widths = {"L": 1, "X": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
    header = hdu.header
    row, n_rows = int(header["NAXIS1"]), int(header["NAXIS2"])
    wanted = {name.upper(): name for name in columns}
    raw = np.frombuffer(_table_bytes(hdu, path, row * n_rows), np.uint8).reshape(n_rows, row)
    values: dict[str, NDArray[np.float64]] = {}
    at = 0
    for i in range(1, int(header_value(header, "TFIELDS", int, path) or 0) + 1):
        form = str(header.get(f"TFORM{i}", "")).strip()
        digits = len(form) - len(form.lstrip("0123456789"))
        count, code = int(form[:digits] or 1), form[digits : digits + 1]
        if code not in widths:
            raise InputError(f"table {hdu.name}: TFORM{i} = {form!r} is no FITS format", path)
        size = -(-count // 8) if code == "X" else count * widths[code]
        name = wanted.get(str(header.get(f"TTYPE{i}", "")).strip().upper())
        if name is not None and count == 1 and code in formats and at + size <= row:
            values[name] = raw[:, at : at + size].copy().view(formats[code])[:, 0].astype(np.float64)
        at += size
    if at != row:
        raise InputError(f"table {hdu.name}: columns fill {at} bytes of rows of {row}; file damaged?", path)
    return values


def _table_bytes(hdu: Hdu, path: str | Path, size: int) -> bytes:
    """Return the main part of a table."""
    descriptor = open_readonly(path)
    try:
        return pread_exactly(descriptor, size, hdu.data_offset, path)
    finally:
        os.close(descriptor)
