"""
Samples around an outlier: what a cosmic ray leaves in the pixels around the one it struck.

A particle's charge diffuses, and neighbouring pixels share it, so a sample that touches an outlier holds stray charge
far more often than another, and a smaller deviation is enough to doubt it. Chance alone has it beyond s sigma upwards
with the probability Q(s) of a normal deviate: 3e-5 for s = 4, 2.5e-4 for all eight neighbours of an outlier. And where
these together are brighter than noise makes them, each of them is the more suspect: their sum over the root of their
number exceeds 3 with the probability 1.3e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.core._planes import Array
from tso3.core.outliers import GRADE_ZERO, GRADES_PER_SIGMA, OUTLIER, grade

__all__ = ["CONTEXT", "BesideRule", "Settled", "Settling", "settle"]

CONTEXT = 2
"""Rows on either side that decide about a row: its neighbours may be outliers, whose neighbours testify."""

_OUTLIER = np.uint8(OUTLIER)
_NEVER = 1000
_ZERO, _STEP = np.float64(GRADE_ZERO) - 0.5, 1.0 / GRADES_PER_SIGMA
_DARKEST, _BRIGHTEST = -3.0, 6.0
"""Deviations are cut here before they are summed, so that no single one speaks for all."""


class BesideRule(NamedTuple):
    """
    When a sample that touches an outlier is one.

    Attributes
    ----------
    alone : int
        Grade from which it is by itself.
    around : float
        Sum of the deviations of all that touch the outlier, over the root of their number, above which they count.
    with_others : int
        Grade from which it is one then.
    """

    alone: int
    around: float
    with_others: int

    @classmethod
    def of(cls, snr_beside: float | None, snr_around: float | None, with_others: float = 2.0) -> BesideRule:
        """
        Return the rule of some thresholds, in units of the errors; None for one that is never reached.

        Examples
        --------
        >>> from tso3.core.beside import BesideRule
        >>> BesideRule.of(4.0, 3.0)
        BesideRule(alone=162, around=3.0, with_others=130)
        """
        alone = _NEVER if snr_beside is None else grade(snr_beside)
        return cls(alone, float("inf") if snr_around is None else float(snr_around), grade(with_others))


def settle(level: NDArray[np.uint8], rule: BesideRule, first: int = 0, last: int | None = None) -> NDArray[np.bool_]:
    """
    Return the outliers of some rows: samples that are so by themselves, and what touches one of these and is suspect.

    What is an outlier only because it touches one makes nothing else suspect, so that no result depends on more than
    the two rows next to it.

    Parameters
    ----------
    level : ndarray of uint8, shape (n_int, n_rows, nx)
        `tso3.core.outliers.OUTLIER`, or the grade of a sample; 0 where it is not known. Beyond its first and last row
        there is nothing to touch.
    rule : BesideRule
        When a sample is suspect.
    first, last : int
        Half-open range of the rows that are wanted; by default all.

    Returns
    -------
    outlier : ndarray of bool, shape (n_int, last - first, nx)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.beside import BesideRule, settle
    >>> level = np.array([[[1, 98, 98, 98], [98, 170, 170, 98]]], np.uint8)
    >>> settle(level, BesideRule.of(4.0, None)).astype(int).tolist()
    [[[1, 0, 0, 0], [0, 1, 0, 0]]]
    """
    end = level.shape[1] if last is None else last
    outlier = np.empty((level.shape[0], end - first, level.shape[2]), np.bool_)
    _settle(level, rule, first, outlier.view(np.uint8))
    return outlier


@njit(cache=True, nogil=True)
def _settle(level: Array, rule: BesideRule, first: int, outlier: Array) -> None:
    """Fill outlier; rows without one are only compared."""
    n_int, n_rows, nx = outlier.shape
    for i in range(n_int):
        for y in range(n_rows):
            row, out = level[i, first + y], outlier[i, y]
            for x in range(nx):
                out[x] = 1 if row[x] == _OUTLIER else 0
        for y in range(max(first - 1, 0), min(first + n_rows + 1, level.shape[1])):
            row = level[i, y]
            found = np.uint8(0)
            for x in range(nx):
                found |= np.uint8(row[x] == _OUTLIER)
            if found == 0:
                continue
            for x in range(nx):
                if row[x] == _OUTLIER:
                    _mark_around(level[i], rule, first, y, x, outlier[i])


@njit(cache=True, nogil=True, inline="always")
def _mark_around(level: Array, rule: BesideRule, first: int, y: int, x: int, outlier: Array) -> None:
    """Mark the suspects around the outlier in row y, column x."""
    total, number = 0.0, 0
    low, high = max(y - 1, 0), min(y + 2, level.shape[0])
    left, right = max(x - 1, 0), min(x + 2, level.shape[1])
    for v in range(low, high):
        for u in range(left, right):
            if level[v, u] > _OUTLIER:
                total += min(max((level[v, u] - _ZERO) * _STEP, _DARKEST), _BRIGHTEST)
                number += 1
    if number == 0:
        return
    least = rule.with_others if total > rule.around * np.sqrt(number) else rule.alone
    for v in range(max(low, first), min(high, first + outlier.shape[0])):
        for u in range(left, right):
            if level[v, u] >= least:
                outlier[v - first, u] = 1


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
    Settles rows that are judged one after the other, each when the two rows after it are known.

    Parameters
    ----------
    row : int
        The first row that is wanted.
    before : ndarray of uint8, shape (n_int, n, nx), or None
        Levels of the `CONTEXT` rows before it, fewer or None where the frame begins.
    rule : BesideRule
        When a sample is suspect.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.beside import BesideRule, Settling
    >>> settling = Settling(7, None, BesideRule.of(4.0, None))
    >>> [settled.row for settled in settling.add(np.array([[[98, 170], [170, 98], [98, 98]]], np.uint8))]
    [7]
    >>> [settled.outlier.astype(int).tolist() for settled in settling.close(np.array([[[1, 98]]], np.uint8))]
    [[[[0, 0], [0, 0]]]]
    """

    def __init__(self, row: int, before: NDArray[np.uint8] | None, rule: BesideRule) -> None:
        self._row = row
        self._rule = rule
        self._held = before
        self._context = 0 if before is None else before.shape[1]

    def add(self, level: NDArray[np.uint8]) -> Iterator[Settled]:
        """Take the levels of the next rows, shape (n_int, n_rows, nx), and return what they settle."""
        yield from self._settled(level, CONTEXT)

    def close(self, after: NDArray[np.uint8] | None) -> Iterator[Settled]:
        """Take the `CONTEXT` rows after the last, fewer or None where the frame ends, and return the rest."""
        if after is not None:
            yield from self._settled(after, after.shape[1])
        elif self._held is not None:
            yield from self._settled(self._held[:, :0], 0)

    def _settled(self, level: NDArray[np.uint8], open_rows: int) -> Iterator[Settled]:
        rows = level if self._held is None else np.concatenate([self._held, level], axis=1)
        first, stop = self._context, max(rows.shape[1] - open_rows, self._context)
        if stop > first:
            yield Settled(self._row, settle(rows, self._rule, first, stop))
            self._row += stop - first
        kept = max(stop - CONTEXT, 0)
        self._held, self._context = rows[:, kept:], stop - kept
