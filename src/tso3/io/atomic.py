"""A product appears under its name only when it is whole: temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tso3.errors import OutputError

__all__ = ["atomic_path"]

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


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """
    Give a temporary path beside ``path``; what is written there becomes ``path`` when the block ends well.

    At the end of the block the temporary file is flushed to disk, renamed to ``path`` (an older file of that name is
    replaced in one step), and the folder is flushed. If the block raises, the temporary file is removed and an older
    ``path`` is left as it was. A reader therefore never sees half a product.

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
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
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
