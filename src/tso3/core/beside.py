"""
Samples beside an outlier: what a cosmic ray leaves in the pixels around the one it struck.

A particle's charge diffuses, and neighbouring pixels share it, so a sample that touches an outlier holds stray charge
far more often than another, and a smaller deviation is enough to doubt it. Chance alone has it beyond s sigma upwards
with the probability Q(s) of a normal deviate: 3e-5 for s = 4, 2.5e-4 for all eight neighbours of an outlier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Array
from tso3.core.outliers import OUTLIER

__all__ = ["Settled", "Settling", "settle"]

_OUTLIER = np.uint8(OUTLIER)


def settle(level: NDArray[np.uint8], first: int = 0, last: int | None = None) -> NDArray[np.bool_]:
    """
    Return the outliers of some rows: samples that are so by themselves, and suspects that touch one of these.

    A suspect that touches nothing but suspects is none, so that no result depends on more than the rows next to it.

    Parameters
    ----------
    level : ndarray of uint8, shape (n_int, n_rows, nx)
        `tso3.core.outliers.OUTLIER`, `SUSPECT` or 0. Beyond its first and last row there is nothing to touch.
    first, last : int
        Half-open range of the rows that are wanted; by default all.

    Returns
    -------
    outlier : ndarray of bool, shape (n_int, last - first, nx)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.beside import settle
    >>> settle(np.array([[[1, 0, 0, 0], [0, 2, 2, 0]]], np.uint8)).astype(int).tolist()
    [[[1, 0, 0, 0], [0, 1, 0, 0]]]
    """
    end = level.shape[1] if last is None else last
    outlier = np.empty((level.shape[0], end - first, level.shape[2]), np.bool_)
    _settle(level, first, outlier.view(np.uint8))
    return outlier


@njit(cache=True, nogil=True)
def _settle(level: Array, first: int, outlier: Array) -> None:
    """Fill outlier; rows without a suspect are only compared."""
    n_int, n_rows, nx = outlier.shape
    for i in range(n_int):
        for y in range(n_rows):
            row, out = level[i, first + y], outlier[i, y]
            seen = np.uint8(0)
            for x in range(nx):
                seen |= row[x]
                out[x] = 1 if row[x] == _OUTLIER else 0
            if seen <= _OUTLIER:
                continue
            for x in range(nx):
                if row[x] > _OUTLIER and _touches(level[i], first + y, x):
                    out[x] = 1


@njit(cache=True, nogil=True, inline="always")
def _touches(level: Array, y: int, x: int) -> bool:
    """Tell whether one of the eight neighbours is an outlier by itself."""
    for v in range(max(y - 1, 0), min(y + 2, level.shape[0])):
        for u in range(max(x - 1, 0), min(x + 2, level.shape[1])):
            if level[v, u] == _OUTLIER:
                return True
    return False


@dataclass(frozen=True)
class Settled:
    """
    Rows whose outliers are known.

    Attributes
    ----------
    row : int
        The first of them.
    outlier : ndarray of bool, shape (n_int, n_rows, nx)
        Their outliers.
    """

    row: int
    outlier: NDArray[np.bool_]


class Settling:
    """
    Settles rows that are judged one after the other, each when the row after it is known.

    Parameters
    ----------
    row : int
        The first row that is wanted.
    before : ndarray of uint8, shape (n_int, 1, nx), or None
        Levels of the row before it; None where the frame begins.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.beside import Settling
    >>> settling = Settling(7, None)
    >>> [settled.row for settled in settling.add(np.array([[[0, 2], [2, 0]]], np.uint8))]
    [7]
    >>> [settled.outlier.tolist() for settled in settling.close(np.array([[[0, 1]]], np.uint8))]
    [[[[True, False]]]]
    """

    def __init__(self, row: int, before: NDArray[np.uint8] | None) -> None:
        self._row = row
        self._held = before
        self._context = 0 if before is None else 1

    def add(self, level: NDArray[np.uint8]) -> Iterator[Settled]:
        """Take the levels of the next rows, shape (n_int, n_rows, nx), and return what they settle."""
        yield from self._settled(level, 1)

    def close(self, after: NDArray[np.uint8] | None) -> Iterator[Settled]:
        """Take the row after the last, None where the frame ends, and return the rest."""
        if after is not None:
            yield from self._settled(after, 1)
        elif self._held is not None:
            yield from self._settled(self._held[:, :0], 0)

    def _settled(self, level: NDArray[np.uint8], open_rows: int) -> Iterator[Settled]:
        rows = level if self._held is None else np.concatenate([self._held, level], axis=1)
        n_rows, first = rows.shape[1], self._context
        if n_rows - open_rows > first:
            yield Settled(self._row, settle(rows, first, n_rows - open_rows))
            self._row += n_rows - open_rows - first
        self._held = rows[:, max(0, n_rows - 2) :]
        self._context = self._held.shape[1] - 1
