"""A product appears under its name only when it is whole: temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tso3.errors import OutputError

__all__ = ["atomic_path", "remove_leftovers"]

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another output folder",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f); choose another output folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another output folder",
    errno.EACCES: "no permission to write here; choose another output folder",
    errno.EPERM: "no permission to write here; choose another output folder",
    errno.EROFS: "the file system is read-only; choose another output folder",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "the folder does not exist; create it first",
    errno.EISDIR: "a folder has this name; move it away or choose another output folder",
    errno.ENAMETOOLONG: "the file name is too long for this file system",
}
"""What to do about the system errors that a user can meet while writing."""

_STALE = 600.0
"""Age [s] from which on a temporary file that nobody writes is what a killed run has left."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary path beside ``path``; what is written there becomes ``path`` when the block ends well.

    At the end of the block the temporary file is flushed to disk, renamed to ``path`` (an older file of that name is
    replaced in one step), and the folder is flushed. If the block raises, the temporary file is removed and an older
    ``path`` is left as it was. A reader therefore never sees half a product.

    A run that was killed (SIGKILL, power) cannot remove its temporary file; the next one that writes the same product
    does: it removes temporary files that nobody holds open for writing and whose process is gone (or, if that is of
    another machine, that are older than some minutes).

    Parameters
    ----------
    path : str or Path
        The product. Its folder must exist.

    Yields
    ------
    temporary : Path
        An empty file in the same folder, whose name starts with a dot and ends as that of the product (so that a
        writer which looks at the extension is content).

    Raises
    ------
    tso3.errors.OutputError
        If the system refuses to write: disk full, quota, permission, missing folder. Other errors of the block are
        passed on as they are.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tso3.io.atomic import atomic_path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "curve.ecsv") as temporary:
    ...         _ = temporary.write_text("1 2 3")
    ...     [p.name for p in Path(folder).iterdir()]
    ['curve.ecsv']
    """
    final = Path(path)
    temporary = final.with_name(f".tso3-{os.getpid()}-{secrets.token_hex(4)}-{final.name[-160:]}")
    handle = -1
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        _lock(handle)
        _remove_stale(final)
        yield temporary
        _flush(temporary)
        os.replace(temporary, final)
        _flush(final.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        advice = _advice(error, ours={str(temporary), str(final), str(final.parent)})
        if advice is None:
            raise
        raise OutputError(f"cannot be written: {advice}", final) from error
    finally:
        if handle >= 0:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Take the lock that says a file is being written; False if another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """
    Remove what killed processes have left of a product that nobody writes any more.

    Parameters
    ----------
    path : Path
        The product. Temporary files that another process holds open for writing stay.
    """
    with suppress(OSError):
        _remove_stale(path, ended=True)


def _remove_stale(final: Path, ended: bool = False) -> None:
    """Remove what killed runs have left of the same product; ``ended`` if all processes are known to have ended."""
    tail = f"-{final.name[-160:]}"
    for name in os.listdir(final.parent):
        if not (name.startswith(".tso3-") and name.endswith(tail)):
            continue
        left = final.with_name(name)
        with suppress(OSError):
            if not ended and time.time() - left.stat().st_mtime < _STALE and _runs_here(name):
                continue
            handle = os.open(left, os.O_WRONLY)
            try:
                if _lock(handle):
                    left.unlink()
            finally:
                os.close(handle)


def _runs_here(name: str) -> bool:
    """Return whether the process that made a temporary file may still run on this machine."""
    try:
        os.kill(int(name.split("-")[1]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, IndexError):
        return True
    return True


def _advice(error: BaseException | None, ours: set[str]) -> str | None:
    """Return what to do about a system error that concerns one of our paths (or no path, as a full disk does)."""
    while error is not None:
        if isinstance(error, OSError) and (error.filename is None or str(error.filename) in ours):
            advice = _ADVICE.get(error.errno or 0)
            if advice is not None:
                return advice
        error = error.__cause__ or error.__context__
    return None


def _flush(path: Path) -> None:
    """Flush a file or a folder to disk; file systems that cannot flush a folder are left alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
