"""
Answers that are expensive to have and always the same, kept on disk from one run to the next.

The folder is ``TSO3_CACHE_DIR``, else ``tso3`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``); set and
empty, the variable switches the memory off. What is in the folder may be deleted at any time, also while a run is
going on. Whatever is wrong with it (no room, no permission, a damaged file) costs the time that would have been saved
and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3 import __version__

__all__ = ["CACHE_VARIABLE", "cache_folder", "code_digest", "digest", "remembered", "versions"]

CACHE_VARIABLE = "TSO3_CACHE_DIR"
"""Environment variable that names the folder."""

_LAYOUT = 1
"""Raised when what is kept changes its meaning."""

_ROOM = 500_000_000
"""Bytes that are kept; a whole detector of MRS takes 42 MB, a grid of wavelengths of 64 rows 1 MB."""

_SUFFIX = ".npz"
_DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error)
"""What reading a file raises that is not whole; MemoryError is not among them."""

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path | None:
    """
    Return the folder where answers are kept, which may not exist yet; None if nothing is to be kept.

    Returns
    -------
    folder : Path or None
        By the environment; None too if there is no home folder. A relative ``XDG_CACHE_HOME`` is passed over, as its
        specification has it.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "tso3"
    try:
        return Path.home() / ".cache" / "tso3"
    except RuntimeError:
        return None


def digest(*parts: Any) -> str:
    """
    Return a number (SHA-256) that is another one whenever a bit of the parts is.

    Parameters
    ----------
    *parts : str, bytes, bool, int, float, None, ndarray, or tuples of these
        Types count: 1, 1.0 and "1" differ, and so do 0.0 and -0.0.

    Returns
    -------
    digest : str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        For parts of other types.

    Examples
    --------
    >>> from tso3.io.memory import digest
    >>> digest("a", 1.0) == digest("a", 1.0), digest(0.0) == digest(-0.0), digest("ab") == digest("a", "b")
    (True, False, False)
    """
    state = hashlib.sha256()
    for part in parts:
        kind, raw = _raw(part)
        state.update(f"{kind}:{len(raw)}:".encode())
        state.update(raw)
    return state.hexdigest()


def _raw(part: Any) -> tuple[str, bytes]:
    """Return the type and the bytes of a part."""
    if isinstance(part, bytes):
        return "bytes", part
    if isinstance(part, str):
        return "str", part.encode()
    if isinstance(part, float):
        return "float", struct.pack("<d", part)
    if part is None or isinstance(part, bool | int):
        return type(part).__name__, repr(part).encode()
    if isinstance(part, tuple):
        return "tuple", digest(*part).encode()
    if isinstance(part, np.ndarray) and not part.dtype.hasobject:
        return f"{part.dtype.str}{part.shape}", np.ascontiguousarray(part).tobytes()
    raise TypeError(f"no digest of {type(part).__name__}")


@lru_cache(maxsize=32)
def code_digest(function: Any) -> str:
    """Return a digest of the source of the module of a function, and of the functions of tso3 that it names."""
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    modules = {function.__module__} | {str(getattr(value, "__module__", "")) for value in named}
    ours = sorted(module for module in modules if module.startswith("tso3."))
    return digest(*((name, Path(str(sys.modules[name].__file__)).read_bytes()) for name in ours))


@lru_cache(maxsize=32)
def versions(*packages: str) -> str:
    """Return the versions of installed packages as one text; they are not imported."""
    from importlib.metadata import PackageNotFoundError, distribution

    found = []
    for package in packages:
        try:
            installed = distribution(package)
            text = installed.read_text("METADATA") or f"Version: {installed.version}"  # which parses it all: 10 ms
        except PackageNotFoundError:
            text = ""
        version = re.search(r"^Version: *(.*)$", text, re.MULTILINE)
        found.append(f"{package} {'none' if version is None else version.group(1)}")
    return ", ".join(found)


def remembered(key: str, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
    """
    Return the answer to a question: as kept from an earlier run, else computed, and kept.

    Parameters
    ----------
    key : str
        Digest of everything that the answer depends on, see `digest`.
    compute : callable
        Returns the answer, arrays by name (no Python objects in them). What it raises passes on; nothing is kept then.

    Returns
    -------
    answer : dict of str to ndarray
        The same bits either way.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.memory import digest, remembered
    >>> remembered(digest("doctest of remembered", 2.0), lambda: {"square": np.array(4.0)})["square"].item()
    4.0
    """
    folder = cache_folder()
    if folder is None:
        return dict(compute())
    path = folder / "answers" / f"{digest(key, _LAYOUT, __version__)}{_SUFFIX}"
    kept = _read(path)
    if kept is not None:
        return kept
    answer = {name: np.asarray(array) for name, array in compute().items()}
    if sum(array.nbytes for array in answer.values()) <= _ROOM // 4:
        with suppress(OSError):
            _write(path, answer)
    return answer


def _read(path: Path) -> Arrays | None:
    """Return what a file holds; None if there is none, or it is damaged (its parts carry checksums)."""
    try:
        raw = path.read_bytes()
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            answer = {name: stored[name] for name in stored.files}
    except _DAMAGE:
        return None
    with suppress(OSError):
        os.utime(path)  # what was used last is kept longest
    return answer


def _write(path: Path, answer: Arrays) -> None:
    """Keep an answer: its file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **answer)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _make_room(path.parent)


def _make_room(folder: Path) -> None:
    """Remove what was used longest ago until the rest fits; what is no file of ours stays."""
    with os.scandir(folder) as entries:
        ours = [entry for entry in entries if entry.name.endswith((_SUFFIX, ".part")) and entry.is_file()]
    files = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in ours)
    excess = sum(size for _, size, _ in files) - _ROOM
    for _, size, path in files:
        if excess <= 0:
            return
        with suppress(OSError):
            os.unlink(path)
        excess -= size
