"""A file of spectroscopic channels: one edge per line, or the two limits of a channel."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from tso3.errors import ParameterError

__all__ = ["read_edges"]


def read_edges(path: str | Path) -> tuple[tuple[float, float], ...]:
    r"""
    Return the channels of a text file.

    Parameters
    ----------
    path : path-like
        In each line a wavelength [micron], the edge of two channels, or two: where a channel begins and ends. Blanks,
        tabs, commas or semicolons stand between numbers; what follows ``#`` is a comment.

    Returns
    -------
    channels : tuple of (float, float)
        Limits [micron] of each, as they stand in the file; whether they rise is not looked at.

    Raises
    ------
    ParameterError
        If the file cannot be read, or a line is something else.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from tso3.io.channel_edges import read_edges
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "edges.txt"
    >>> _ = path.write_text("# micron\n2.9\n3.0\n3.2\n")
    >>> read_edges(path)
    ((2.9, 3.0), (3.0, 3.2))
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ParameterError("is no text file; give one edge per line, or two columns", path) from error
    except OSError as error:
        raise ParameterError(f"cannot be read ({error.strerror})", path) from error
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        row = tuple(_number(word) for word in words)
        if len(row) > 2 or not all(math.isfinite(value) for value in row) or (rows and len(row) != len(rows[0])):
            raise ParameterError(
                f"line {number} is {' '.join(words)!r}; give one edge per line, or in every line begin and end of a"
                " channel, in micron",
                path,
            )
        rows.append(row)
    if not rows or (len(rows[0]) == 1 and len(rows) < 2):
        raise ParameterError("holds no channel; give at least two edges, one per line, in micron", path)
    if len(rows[0]) == 2:
        return tuple((row[0], row[1]) for row in rows)
    return tuple((low[0], high[0]) for low, high in pairwise(rows))


def _number(word: str) -> float:
    """Return a number, NaN for anything else."""
    try:
        return float(word)
    except ValueError:
        return math.nan
