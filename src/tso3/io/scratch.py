"""A folder beside the products for what the processes of one run pass to each other; it is gone when the run ends."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tso3.io.disk import refusal

__all__ = ["scratch_folder"]


@contextmanager
def scratch_folder(folder: Path, product: str) -> Iterator[Path]:
    """
    Give an empty folder beside the products, and remove it with all that is in it.

    Folders that killed runs of the same product have left are removed first: those that nobody holds.

    Parameters
    ----------
    folder : Path
        Of the products; made if it does not exist, and removed again if nothing is in it at the end.
    product : str
        Stem of the products.

    Yields
    ------
    scratch : Path
        Its name starts with a dot.

    Raises
    ------
    tso3.errors.OutputError
        If the folder cannot be made.
    """
    new = not folder.exists()
    scratch = folder / f".tso3-{os.getpid()}-{secrets.token_hex(4)}-{product}.parts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder, product)
        scratch.mkdir()
        held = os.open(scratch, os.O_RDONLY)
    except OSError as error:
        raise refusal(error, folder) from error
    try:
        with suppress(OSError):  # a file system that cannot lock keeps what a killed run leaves
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield scratch
    finally:
        os.close(held)
        shutil.rmtree(scratch, ignore_errors=True)
        if new:
            with suppress(OSError):
                folder.rmdir()


def _remove_abandoned(folder: Path, product: str) -> None:
    """Remove the folders of killed runs of the same product."""
    for left in folder.glob(f".tso3-*-{product}.parts"):
        with suppress(OSError):
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)
