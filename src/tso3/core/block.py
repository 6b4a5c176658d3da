"""A run of integrations, as the steps receive it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """
    Consecutive integrations of one exposure, with everything bad already NaN.

    Attributes
    ----------
    start : int
        Index in the exposure (0-based) of the first integration.
    data, err : ndarray of float32, shape (n_int, ny, nx)
        Stack and its 1-sigma error, in the unit of the input; NaN where ``mask``.
    dq : ndarray of uint32, shape (n_int, ny, nx)
        Quality bits, those of outlier detection included. Like ``err``, None where the consumer does not read it.
    mask : ndarray of bool, shape (n_int, ny, nx)
        True where bad.
    var_poisson, var_rnoise, var_flat : ndarray of float32 or None, shape (n_int, ny, nx)
        Variance components, input unit squared; None where the input has no such plane (taken as zero).
    estimated : ndarray of bool or None, shape (n_int, ny, nx)
        True where a bad pixel was replaced by an estimate; None where none was.
    """

    start: int
    data: NDArray[np.float32]
    err: NDArray[np.float32] | None
    dq: NDArray[np.uint32] | None
    mask: NDArray[np.bool_]
    var_poisson: NDArray[np.float32] | None
    var_rnoise: NDArray[np.float32] | None
    var_flat: NDArray[np.float32] | None
    estimated: NDArray[np.bool_] | None = None

    @property
    def n_int(self) -> int:
        """Number of integrations."""
        return int(self.data.shape[0])

    @property
    def stop(self) -> int:
        """Index in the exposure one past the last integration."""
        return self.start + self.n_int
