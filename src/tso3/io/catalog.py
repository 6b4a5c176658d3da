"""Catalogues as the archive has them: astropy tables in ECSV, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tso3.io.atomic import atomic_path

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["write_phot", "write_whitelight"]


def write_phot(path: str | Path, table: QTable) -> Path:
    """
    Write the catalogue of photometry (``*_phot.ecsv``).

    Parameters
    ----------
    path : path-like
        The product; an older one is replaced in one step.
    table : astropy.table.QTable
        One row per integration; units and keywords go with it, numbers in full precision.

    Returns
    -------
    path : Path
        What was written.

    Raises
    ------
    tso3.errors.OutputError
        If the disk is full or the folder cannot be written to.
    """
    return _write(path, table)


def write_whitelight(path: str | Path, table: QTable) -> Path:
    """
    Write the white light (``*_whtlt.ecsv``).

    Parameters
    ----------
    path : path-like
        The product; an older one is replaced in one step.
    table : astropy.table.QTable
        One row per integration; units and keywords go with it, numbers in full precision.

    Returns
    -------
    path : Path
        What was written.

    Raises
    ------
    tso3.errors.OutputError
        If the disk is full or the folder cannot be written to.
    """
    return _write(path, table)


def _write(path: str | Path, table: QTable) -> Path:
    """Write a table as ECSV under a temporary name, flush and rename."""
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return Path(path)
