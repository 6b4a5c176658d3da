"""Compiled: the median of many positive numbers, by counting them in bins of their leading bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from tso3.core._lanes import inner, select
from tso3.core._planes import Array

__all__ = ["N_BINS", "median_of_positive"]

N_BINS = 2048
"""Bins: the exponent of a single-precision number and three bits of its fraction."""
_SHIFT = np.uint32(20)
_HALF = np.float32(0.5)


@inner
def median_of_positive(bits: Array, values: Array, n: int, tally: Array) -> Any:
    """
    Return the median of the first n values, at least one, none negative or NaN; they are lost.

    ``bits`` are the same numbers as integers (for positive numbers, the order of these is their order), ``tally`` is
    work space (N_BINS). Numbers in the one or two bins around the middle are moved to the front and selected from.
    """
    for b in range(N_BINS):
        tally[b] = 0
    for p in range(n):
        tally[bits[p] >> _SHIFT] += np.int32(1)
    low_rank, high_rank = (n - 1) // 2, n // 2
    below, low = 0, 0
    while below + tally[low] <= low_rank:
        below += tally[low]
        low += 1
    high, seen = low, below + tally[low]
    while seen <= high_rank:
        high += 1
        seen += tally[high]
    first, last = np.uint32(low) << _SHIFT, np.uint32(high + 1) << _SHIFT
    kept = 0
    for p in range(n):
        values[kept] = values[p]
        kept += first <= bits[p] < last
    at = high_rank - below
    select(values, 0, kept - 1, at)
    if low_rank == high_rank:
        return values[at]
    lower = values[0]
    for p in range(1, at):
        lower = max(lower, values[p])
    return (values[at] + lower) * _HALF
