"""Planes as they are on disk to arrays of the machine, with the mask of bad samples, in one pass over the bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["convert_frames", "swap_word"]

Words = NDArray[np.uint32]

_DO_NOT_USE = np.uint32(1)
_EXPONENT = np.uint32(0x7F800000)


@njit(cache=True, nogil=True, inline="always")
def swap_word(word: np.uint32) -> np.uint32:
    """Return a word with its bytes in the opposite order; for compiled code."""
    return (
        (word >> np.uint32(24))
        | ((word >> np.uint32(8)) & np.uint32(0xFF00))
        | ((word << np.uint32(8)) & np.uint32(0xFF0000))
        | (word << np.uint32(24))
    )


@njit(cache=True, nogil=True)
def _convert(
    sci: Words,
    err: Words,
    dq: Words,
    flip: np.uint32,
    data_out: Words,
    err_out: Words,
    dq_out: Words,
    mask_out: NDArray[np.bool_],
) -> None:
    for i in range(sci.size):
        a = swap_word(sci[i])
        b = swap_word(err[i])
        q = swap_word(dq[i]) ^ flip
        data_out[i] = a
        err_out[i] = b
        dq_out[i] = q
        bad = (a & _EXPONENT) == _EXPONENT
        bad |= (b & _EXPONENT) == _EXPONENT
        bad |= (q & _DO_NOT_USE) != 0
        mask_out[i] = bad


def _words(array: NDArray[np.generic]) -> Words:
    """Return the 32-bit words of a contiguous array, without regard to its byte order."""
    return array.reshape(-1).view(np.uint32)


def convert_frames(
    raw: Mapping[str, NDArray[np.generic]],
    data: NDArray[np.float32],
    err: NDArray[np.float32],
    dq: NDArray[np.uint32],
    mask: NDArray[np.bool_],
    *,
    top_bit: bool,
) -> None:
    """
    Fill native stacks and their mask from raw SCI, ERR and DQ.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``SCI``, ``ERR``, ``DQ``, as `tso3.io.reader.Reader.read` gives them. Not modified.
    data, err : ndarray of float32
        Filled; same shape, contiguous.
    dq : ndarray of uint32
        Filled with the quality bits.
    mask : ndarray of bool
        Filled: True where SCI or ERR is not finite or DQ has DO_NOT_USE.
    top_bit : bool
        True if DQ is stored with an offset of 2^31.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.convert import convert_frames
    >>> raw = {"SCI": np.array([1, np.nan, 3], ">f4"), "ERR": np.ones(3, ">f4"), "DQ": np.array([0, 0, 5], ">i4")}
    >>> data, err = np.empty(3, np.float32), np.empty(3, np.float32)
    >>> dq, mask = np.empty(3, np.uint32), np.empty(3, bool)
    >>> convert_frames(raw, data, err, dq, mask, top_bit=False)
    >>> data, dq, mask
    (array([ 1., nan,  3.], dtype=float32), array([0, 0, 5], dtype=uint32), array([False,  True,  True]))
    """
    flip = np.uint32(2**31 if top_bit else 0)
    _convert(
        _words(raw["SCI"]),
        _words(raw["ERR"]),
        _words(raw["DQ"]),
        flip,
        _words(data),
        _words(err),
        _words(dq),
        mask.reshape(-1),
    )
