"""Compiled pieces of `aperture`: which pixels of an annulus count."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Stack", "annulus_bounds", "beyond", "clip_steady"]

_GAUSSIAN = 1.482602218505602
"""Standard deviation over median absolute deviation of a normal distribution."""
_ROUNDS = 10

Stack: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]
]
"""SCI, ERR, VAR_POISSON, VAR_RNOISE (empty where there is none) and the factor of the unit, for the compiled code."""


@njit(cache=True, nogil=True)
def clip_steady(
    reference: NDArray[np.float64],
    corner: tuple[int, int],
    weights: NDArray[np.float64],
    clip: float,
    sample: NDArray[np.float32],
) -> None:
    """Take the weight from pixels of the annulus in which the steady image is far from its median there: neighbours."""
    low, left = corner
    n = 0
    for j in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            if weights[j, k] > 0.0 and np.isfinite(reference[low + j, left + k]):
                sample[n] = reference[low + j, left + k]
                n += 1
    least, most = _bounds(sample, n, clip)
    for j in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            steady = np.float32(reference[low + j, left + k])
            if np.isfinite(steady) and not (least <= steady <= most):
                weights[j, k] = 0.0


@njit(cache=True, nogil=True)
def annulus_bounds(
    stack: Stack,
    i: int,
    place: tuple[int, int, float, bool],
    weights: NDArray[np.float64],
    reference: NDArray[np.float64],
    sample: NDArray[np.float32],
) -> tuple[np.float32, np.float32]:
    """Return least and largest difference from the steady image that counts in the annulus; place: corner and rule."""
    data, err, _, _, scale = stack
    low, left, clip, known = place
    if clip <= 0.0:
        return np.float32(-np.inf), np.float32(np.inf)
    n = 0
    for j in range(weights.shape[0]):
        for k in range(weights.shape[1]):
            if weights[j, k] > 0.0:
                q, p = low + j, left + k
                value = np.float32(data[i, q, p] * scale[q, p])
                if np.isfinite(value) and np.isfinite(np.float32(err[i, q, p] * scale[q, p])):
                    sample[n] = beyond(value, reference, q, p, known)
                    n += 1
    return _bounds(sample, n, clip)


@njit(cache=True, nogil=True)
def beyond(value: np.float32, reference: NDArray[np.float64], q: int, p: int, known: bool) -> np.float32:
    """Return what a value is above the steady image, where that is known."""
    if known and np.isfinite(reference[q, p]):
        return np.float32(value - reference[q, p])
    return value


@njit(cache=True, nogil=True)
def _bounds(sample: NDArray[np.float32], n: int, clip: float) -> tuple[np.float32, np.float32]:
    """Return the least and the largest of n values that iterative clipping about their median leaves."""
    if n == 0:
        return np.float32(-np.inf), np.float32(np.inf)
    sample[:n].sort()
    a, b = 0, n
    for _ in range(_ROUNDS):
        middle = (np.float64(sample[(a + b - 1) // 2]) + np.float64(sample[(a + b) // 2])) / 2.0
        reach = clip * _GAUSSIAN * np.median(np.abs(sample[a:b] - middle))
        first, last = a, b
        while first < last and sample[first] < middle - reach:
            first += 1
        while last > first and sample[last - 1] > middle + reach:
            last -= 1
        if (first == a and last == b) or reach <= 0.0:
            break
        a, b = first, last
    return sample[a], sample[b - 1]
