"""Catalogues as the archive has them: astropy tables in ECSV, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tso3.io.atomic import atomic_path

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["write_catalog"]


def write_catalog(path: str | Path, table: QTable) -> Path:
    """
    Write a catalogue: the photometry (``*_phot.ecsv``) or the white light (``*_whtlt.ecsv``).

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
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return Path(path)
