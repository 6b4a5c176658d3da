"""Samples as they are on disk to samples of the machine, NaN where they are bad: whole frames, or a few pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["pick_pixels", "swap_word", "valid_frames"]

Words = NDArray[np.uint32]

_DO_NOT_USE = np.uint32(1)
_EXPONENT = np.uint32(0x7F800000)
_NAN = np.uint32(0x7FC00000)


@njit(cache=True, nogil=True, inline="always")
def swap_word(word: np.uint32) -> np.uint32:
    """Return a word with its bytes in the opposite order; for compiled code."""
    return (
        (word >> np.uint32(24))
        | ((word >> np.uint32(8)) & np.uint32(0xFF00))
        | ((word << np.uint32(8)) & np.uint32(0xFF0000))
        | (word << np.uint32(24))
    )


@njit(cache=True, nogil=True, inline="always")
def _bad(sci: Any, err: Any, dq: Any) -> Any:
    bad = (sci & _EXPONENT) == _EXPONENT
    bad |= (err & _EXPONENT) == _EXPONENT
    bad |= (dq & _DO_NOT_USE) != 0
    return bad


@njit(cache=True, nogil=True)
def _valid(sci: Words, err: Words, dq: Words, flip: Any, data_out: Words, err_out: Words) -> None:
    for i in range(sci.size):
        a, b = swap_word(sci[i]), swap_word(err[i])
        bad = _bad(a, b, swap_word(dq[i]) ^ flip)
        data_out[i] = _NAN if bad else a
        err_out[i] = _NAN if bad else b


@njit(cache=True, nogil=True)
def _pick(sci: Words, err: Words, dq: Words, flip: Any, pixels: NDArray[np.int64], data_out: Words) -> None:
    for i in range(sci.shape[0]):
        for k in range(pixels.size):
            p = np.uint64(pixels[k])
            a = swap_word(sci[i, p])
            bad = _bad(a, swap_word(err[i, p]), swap_word(dq[i, p]) ^ flip)
            data_out[i, k] = _NAN if bad else a


def _words(array: NDArray[np.generic], *shape: int) -> Words:
    """Return the 32-bit words of a contiguous array, without regard to its byte order."""
    return array.reshape(shape).view(np.uint32)


def valid_frames(
    raw: Mapping[str, NDArray[np.generic]], data: NDArray[np.float32], err: NDArray[np.float32], *, top_bit: bool
) -> None:
    """
    Fill data and errors of whole frames.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``SCI``, ``ERR``, ``DQ``, as `tso3.io.reader.Reader.read` gives them. Not modified.
    data, err : ndarray of float32
        Filled; same shape, contiguous. NaN in both where SCI or ERR is not finite or DQ has DO_NOT_USE.
    top_bit : bool
        True if DQ is stored with an offset of 2^31.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.convert import valid_frames
    >>> raw = {"SCI": np.array([1, np.inf, 3], ">f4"), "ERR": np.ones(3, ">f4"), "DQ": np.array([4, 0, 5], ">i4")}
    >>> data, err = np.empty((2, 3), np.float32)
    >>> valid_frames(raw, data, err, top_bit=False)
    >>> data, err
    (array([ 1., nan, nan], dtype=float32), array([ 1., nan, nan], dtype=float32))
    """
    sci, err_in, dq = (_words(raw[name], -1) for name in ("SCI", "ERR", "DQ"))
    _valid(sci, err_in, dq, _flip(top_bit), _words(data, -1), _words(err, -1))


def pick_pixels(
    raw: Mapping[str, NDArray[np.generic]], pixels: NDArray[np.int64], data: NDArray[np.float32], *, top_bit: bool
) -> None:
    """
    Fill the data of some pixels.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``SCI``, ``ERR``, ``DQ``. Not modified.
    pixels : ndarray of int64, shape (n_pixels,)
        Flat indices into the rows given.
    data : ndarray of float32, shape (n_int, n_pixels)
        Filled; contiguous. NaN where SCI or ERR is not finite or DQ has DO_NOT_USE.
    top_bit : bool
        True if DQ is stored with an offset of 2^31.

    Raises
    ------
    ValueError
        If an index lies outside the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.convert import pick_pixels
    >>> raw = {"SCI": np.array([[[1, 2, 3]]], ">f4"), "ERR": np.ones((1, 1, 3), ">f4")}
    >>> raw["DQ"] = np.zeros((1, 1, 3), ">i4")
    >>> data = np.empty((1, 2), np.float32)
    >>> pick_pixels(raw, np.array([0, 2]), data, top_bit=False)
    >>> data.tolist()
    [[1.0, 3.0]]
    """
    n_int, size = len(data), raw["SCI"][0].size if len(data) else 0
    if pixels.size and not 0 <= pixels.min() <= pixels.max() < max(size, 1):
        raise ValueError(f"pixels {pixels.min()} to {pixels.max()} of rows with {size}")
    sci, err, dq = (_words(raw[name], n_int, size) for name in ("SCI", "ERR", "DQ"))
    _pick(sci, err, dq, _flip(top_bit), pixels, _words(data, n_int, pixels.size))


def _flip(top_bit: bool) -> np.uint32:
    """Return the bits that turn DQ as stored into its bits."""
    return np.uint32(2**31 if top_bit else 0)
