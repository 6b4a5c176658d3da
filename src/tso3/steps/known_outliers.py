"""Outliers that an earlier pass over an exposure has found, so that the next pass need not look for them again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.tiles import Place

__all__ = ["KnownOutliers", "OutlierNotes", "joined_outliers"]


@dataclass(frozen=True)
class KnownOutliers:
    """
    All outliers of an exposure.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of a frame.
    first : ndarray of int64, shape (n_int + 1,)
        Where the outliers of each integration begin in ``pixel``.
    pixel : ndarray of int32, shape (n_outlier,)
        Index in the flattened frame; ascending within an integration.
    """

    shape: tuple[int, int]
    first: NDArray[np.int64]
    pixel: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Bytes that they need."""
        return int(self.first.nbytes + self.pixel.nbytes)

    def marked(self, start: int, stop: int, place: Place) -> NDArray[np.bool_]:
        """
        Return the outliers of some integrations in some rows.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices.
        place : Place
            The rows.

        Returns
        -------
        outlier : ndarray of bool, shape (stop - start, n_rows, nx)

        Examples
        --------
        >>> import numpy as np
        >>> from tso3.io.tiles import Place
        >>> from tso3.steps.known_outliers import KnownOutliers
        >>> known = KnownOutliers((2, 3), np.array([0, 1, 3]), np.array([1, 0, 4], np.int32))
        >>> known.marked(1, 2, Place(0, 1, 1)).tolist()
        [[[False, True, False]]]
        """
        nx = self.shape[1]
        n_rows = place.high - place.low
        low, high = place.row * nx, (place.row + n_rows) * nx
        outlier = np.zeros((stop - start, n_rows * nx), np.bool_)
        for k in range(start, stop):
            pixel = self.pixel[self.first[k] : self.first[k + 1]]
            here = slice(*np.searchsorted(pixel, (low, high)))
            outlier[k - start, pixel[here] - low] = True
        return outlier.reshape(stop - start, n_rows, nx)


class OutlierNotes:
    """
    Takes down outliers as tiles find them, in any order and from several threads.

    Parameters
    ----------
    shape : tuple of int
        Integrations, rows and columns of the exposure.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.tiles import Place
    >>> from tso3.steps.known_outliers import OutlierNotes
    >>> notes = OutlierNotes((2, 2, 3))
    >>> notes.add(0, Place(0, 1, 1), np.array([[[False, False, False]], [[False, True, False]]]))
    >>> notes.known().first.tolist(), notes.known().pixel.tolist()
    ([0, 0, 1], [4])
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._lock = threading.Lock()

    def add(self, start: int, place: Place, outlier: NDArray[np.bool_]) -> None:
        """Take the outliers of the integrations from ``start`` on in some rows, shape (n_int, n_rows, nx)."""
        nx = self._shape[2]
        integration, index = np.divmod(np.flatnonzero(outlier), outlier.shape[1] * nx)
        with self._lock:
            self._found.append((integration + start, index + place.row * nx))

    def known(self) -> KnownOutliers:
        """Return all of them."""
        n_int, ny, nx = self._shape
        nothing = np.zeros(0, np.int64)
        integration = np.concatenate([nothing, *(found[0] for found in self._found)])
        pixel = np.concatenate([nothing, *(found[1] for found in self._found)])
        return _ordered((ny, nx), n_int, integration, pixel)


def joined_outliers(parts: Sequence[KnownOutliers]) -> KnownOutliers:
    """
    Return the outliers of an exposure from those of its segments.

    Parameters
    ----------
    parts : sequence of KnownOutliers
        At least one; each has the outliers of other integrations, numbered as in the exposure.

    Returns
    -------
    known : KnownOutliers

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.steps.known_outliers import KnownOutliers, joined_outliers
    >>> late = KnownOutliers((1, 3), np.array([0, 0, 1]), np.array([2], np.int32))
    >>> early = KnownOutliers((1, 3), np.array([0, 2, 2]), np.array([0, 1], np.int32))
    >>> joined = joined_outliers([late, early])
    >>> joined.first.tolist(), joined.pixel.tolist()
    ([0, 2, 3], [0, 1, 2])
    """
    n_int = parts[0].first.size - 1
    integration = np.concatenate([np.repeat(np.arange(n_int), np.diff(part.first)) for part in parts])
    return _ordered(parts[0].shape, n_int, integration, np.concatenate([part.pixel for part in parts]))


def _ordered(
    shape: tuple[int, int], n_int: int, integration: NDArray[np.int64], pixel: NDArray[np.integer[Any]]
) -> KnownOutliers:
    """Return outliers by integration and pixel."""
    order = np.lexsort((pixel, integration))
    first = np.searchsorted(integration[order], np.arange(n_int + 1))
    return KnownOutliers(shape, first, pixel[order].astype(np.int32))
