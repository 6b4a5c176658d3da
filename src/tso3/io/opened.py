"""
Reference files opened such that whatever is wrong with one ends in an error of one line that names it.

A damaged file makes the libraries below raise nearly anything: an index that is out of range where a count was changed,
a warning and then a missing extension where the end is lacking. What a reader does with the content belongs into the
block of these context managers too, as the content is what is damaged.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tso3.errors import ReferenceFileError, Tso3Error
from tso3.io.plaintree import read_plain_tree

__all__ = ["guarded", "opened_asdf", "opened_fits"]

_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_LONGEST = 160


def _one_line(error: BaseException) -> str:
    """Return what an error says, on one line; the name of a key that is missing says little alone."""
    text = " ".join(str(error).split())[:_LONGEST]
    if isinstance(error, KeyError) and " " not in text:
        return f"lacks {text}"
    return text or type(error).__name__


@contextmanager
def guarded(path: str | Path, found: str, error: type[Tso3Error] = ReferenceFileError) -> Iterator[None]:
    """
    Turn what a damaged file makes a block raise into an error of one line.

    Parameters
    ----------
    path : path-like
        The file.
    found : str
        What the message says of it; the reason follows in brackets.
    error : type, optional
        Class of the error.

    Raises
    ------
    Tso3Error
        Of the class asked for. Errors of tso3's own pass as they are.

    Examples
    --------
    >>> from tso3.io.opened import guarded
    >>> with guarded("a.json", "is no list of apertures"):
    ...     {}["apertures"]
    Traceback (most recent call last):
    tso3.errors.ReferenceFileError: a.json: is no list of apertures (lacks 'apertures')
    """
    try:
        yield
    except _DAMAGE as fault:
        raise error(f"{found} ({_one_line(fault)})", path) from fault


@contextmanager
def opened_asdf(path: str | Path, kind: str, error: type[Tso3Error] = ReferenceFileError) -> Iterator[dict[str, Any]]:
    """
    Open an ASDF file, with its arrays in memory.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it should be, for the message: ``"wavelengthrange reference"``.
    error : type, optional
        Class of the error.

    Yields
    ------
    tree : dict
        Its tree.

    Raises
    ------
    Tso3Error
        If it cannot be read, or the block cannot make sense of what is in it.
    """
    with guarded(path, f"cannot be read as ASDF, so it is no {kind}", error):
        tree = read_plain_tree(path)
    with guarded(path, f"is not a {kind}", error):
        yield tree


@contextmanager
def opened_fits(path: str | Path, kind: str) -> Iterator[Any]:
    """
    Open a FITS file of references that is whole.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str
        What it should be, for the message: ``"gain reference"``.

    Yields
    ------
    hdus : astropy.io.fits.HDUList
        Open while the block lasts.

    Raises
    ------
    ReferenceFileError
        If it is truncated, cannot be read, or the block cannot make sense of what is in it.
    """
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyError
    from astropy.utils.exceptions import AstropyWarning

    with guarded(path, f"is no {kind}"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", AstropyWarning)
        try:
            with fits.open(path, memmap=False) as hdus:
                len(hdus)  # reads all headers
                for warning in told:
                    _check_whole(str(warning.message), path)
                yield hdus
        except VerifyError as fault:
            raise ValueError(_one_line(fault)) from fault


def _check_whole(warning: str, path: str | Path) -> None:
    """Raise if astropy warned that a file ends too early, or that units of it are left out."""
    if "truncated" in warning:
        raise ReferenceFileError("is truncated; fetch it again", path)
    if "Error validating header" in warning:
        raise ReferenceFileError("has a header that is damaged or cut short; fetch it again", path)
