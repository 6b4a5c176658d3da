"""
The errors that a user can cause, and nothing else.

Every one says what was found, where, and what to do about it. The command line prints the message on one line and
leaves with exit code 2; a traceback from ``tso3`` is a defect of ``tso3``.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ClusterError",
    "InputError",
    "OutputError",
    "ParameterError",
    "ReferenceFileError",
    "Tso3Error",
    "Tso3Warning",
]


class Tso3Error(Exception):
    """
    Base of every error that has its cause in what the user gave.

    Parameters
    ----------
    found : str
        What was found, in a few words, and what to do about it.
    where : path-like or str or None
        The file (or parameter) in which it was found.

    Examples
    --------
    >>> from tso3.errors import InputError
    >>> str(InputError("no association has this shape; list members under products", "a.json"))
    'a.json: no association has this shape; list members under products'
    """

    def __init__(self, found: str, where: str | Path | None = None) -> None:
        self.found = found
        self.where = where
        super().__init__(found if where is None else f"{where}: {found}")


class InputError(Tso3Error):
    """An input file or association cannot be used."""


class ParameterError(Tso3Error):
    """A parameter is unknown or out of its bounds."""


class ReferenceFileError(Tso3Error):
    """A reference file cannot be used."""


class OutputError(Tso3Error):
    """A product cannot be written."""


class ClusterError(Tso3Error):
    """A cluster, its scheduler or its workers cannot be used."""


class Tso3Warning(UserWarning):
    """Something in the input was repaired, replaced or left out; the text names it."""
