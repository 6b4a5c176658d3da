"""A folder beside the products for what the processes of one run pass to each other; it is gone when the run ends."""

from __future__ import annotations

import fcntl
import os
import re
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder, product)
        scratch, held = _held_folder(folder, product)
    except OSError as error:
        raise refusal(error, folder) from error
    try:
        yield scratch
    finally:
        _remove(scratch)
        os.close(held)
        if new:
            with suppress(OSError):
                folder.rmdir()


def _held_folder(folder: Path, product: str) -> tuple[Path, int]:
    """Make a folder and lock it; anew if another run takes it for an abandoned one before it is locked."""
    while True:
        scratch = folder / f".tso3-{os.getpid()}-{secrets.token_hex(4)}-{product}.parts"
        scratch.mkdir()
        try:
            held = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it is being removed
            os.close(held)
            continue
        except OSError:  # a file system that cannot lock: what a killed run leaves is kept, nothing is taken away
            return scratch, held
        if scratch.exists():
            return scratch, held
        os.close(held)


def _remove(scratch: Path) -> None:
    """Remove a folder in which other processes may just be making files: under another name they find it no more."""
    ended = scratch.with_name(scratch.name.replace(".tso3-", ".tso3-0", 1))
    try:
        scratch.rename(ended)
    except OSError:
        ended = scratch
    shutil.rmtree(ended, ignore_errors=True)


def _remove_abandoned(folder: Path, product: str) -> None:
    """Remove the folders of killed runs of the same product."""
    name = re.compile(rf"\.tso3-\d+-[0-9a-f]{{8}}-{re.escape(product)}\.parts")
    for left in [path for path in folder.glob(".tso3-*.parts") if name.fullmatch(path.name)]:
        with suppress(OSError):
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)
