"""
Rows of integrations as they are on disk, made ready for outlier detection and marked afterwards; a few rows at a time.

Planes are read in large pieces and worked on in small ones, which stay in the processor's cache. The kernels work on
bit patterns: constants are turned round instead of big-endian data, where these are only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.io.convert import swap_word
from tso3.io.dqflags import pixel_flags
from tso3.io.segment import PLANES

__all__ = ["LeftOut", "Place", "flagged_samples", "mark_rows", "ready_rows"]

Words = NDArray[np.uint32]
Bytes = NDArray[np.uint8]

_KEPT = {"data": "SCI", "err": "ERR", "dq": "DQ"} | {name: name for name in PLANES if name.startswith("VAR_")}
_EXPONENT, _NAN = (int(np.array([word], ">u4").view(np.uint32)[0]) for word in (0x7F800000, 0x7FC00000))
_SIGN = np.uint32(0x7FFFFFFF)
_INFINITE = np.uint32(0x7F800000)


@dataclass(frozen=True)
class LeftOut:
    """
    Which samples take part in no median: those whose SCI is NaN, and more.

    Attributes
    ----------
    bits : int
        Those with any of these bits in DQ.
    all_bad : bool
        Those that are bad for any reason: SCI or ERR not finite, or DO_NOT_USE.
    """

    bits: int
    all_bad: bool


@dataclass(frozen=True)
class Place:
    """
    Which rows of a buffer are worked on.

    Attributes
    ----------
    low, high : int
        Half-open range of rows of the buffers of raw planes.
    row : int
        Row of the frame that ``low`` is.
    """

    low: int
    high: int
    row: int


def ready_rows(
    raw: Mapping[str, NDArray[np.generic]],
    place: Place,
    rule: LeftOut,
    bad_pixels: NDArray[np.bool_] | None,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]],
    *,
    top_bit: bool,
) -> None:
    """
    Fill values and errors in the byte order of the machine, and which of them take part in no median.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``SCI``, ``ERR`` and ``DQ`` as on disk, contiguous. Not modified.
    place : Place
        Which rows.
    rule : LeftOut
        What takes part.
    bad_pixels : ndarray of bool, shape (ny, nx), or None
        Of the frame: these count as DO_NOT_USE.
    out : tuple of ndarray, shape (n_int, n_rows, nx)
        Values, errors, and what is left out; contiguous, filled.
    top_bit : bool
        True if DQ is stored with an offset of 2^31.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.tiles import LeftOut, Place, ready_rows
    >>> raw = {"SCI": np.array([[[1, np.nan, 3]]], ">f4"), "ERR": np.ones((1, 1, 3), ">f4")}
    >>> raw["DQ"] = np.array([[[0, 0, 5]]], ">i4")
    >>> out = np.empty((1, 1, 3), "f4"), np.empty((1, 1, 3), "f4"), np.empty((1, 1, 3), bool)
    >>> ready_rows(raw, Place(0, 1, 0), LeftOut(4, False), None, out, top_bit=False)
    >>> out[0].ravel(), out[2].ravel()
    (array([ 1., nan,  3.], dtype=float32), array([False,  True,  True]))
    """
    bits = rule.bits | (pixel_flags()["DO_NOT_USE"] if rule.all_bad else 0)
    data, err, left_out = out
    _ready_rows(
        (_words(raw["SCI"]), _words(raw["ERR"]), _words(raw["DQ"])),
        place.low,
        (_word(bits), _word(2**31 if top_bit else 0), rule.all_bad),
        _pixels(bad_pixels if bits & pixel_flags()["DO_NOT_USE"] else None, place),
        (data.view(np.uint32), err.view(np.uint32)),
        left_out.view(np.uint8),
    )


def flagged_samples(raw: Mapping[str, NDArray[np.generic]], place: Place, bits: int) -> NDArray[np.int64]:
    """
    Return which samples have any of some bits in DQ.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``DQ`` as on disk, contiguous. Not modified.
    place : Place
        Which rows.
    bits : int
        Below 2^31.

    Returns
    -------
    index : ndarray of int64, shape (n,)
        Into the flattened rows of ``place``, rising.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.tiles import Place, flagged_samples
    >>> flagged_samples({"DQ": np.array([[[0, 1], [4, 6]]], ">i4")}, Place(1, 2, 0), 4).tolist()
    [0, 1]
    """
    words = _words(raw["DQ"])
    index = np.empty(_flagged(words, place.low, place.high, _word(bits), np.empty(0, np.int64)), np.int64)
    _flagged(words, place.low, place.high, _word(bits), index)
    return index


def mark_rows(
    raw: Mapping[str, NDArray[np.generic]],
    place: Place,
    outlier: NDArray[np.bool_] | None,
    bad_pixels: NDArray[np.bool_] | None,
    kept: Mapping[str, NDArray[np.generic]],
    used: tuple[int, int, int],
    *,
    top_bit: bool,
) -> None:
    """
    Mark bad samples and outliers in the planes as they are on disk, and keep what extraction needs.

    Parameters
    ----------
    raw : mapping of str to ndarray, big-endian, shape (n_int, n_rows, nx)
        ``SCI``, ``ERR``, ``DQ`` and whichever variances exist, contiguous. Modified: bad samples (DO_NOT_USE, or not
        finite in any plane) and outliers become NaN, with DO_NOT_USE, and for outliers OUTLIER, in DQ.
    place : Place
        Which rows.
    outlier : ndarray of bool, shape (n_int, high - low, nx), or None
        Outliers in these rows.
    bad_pixels : ndarray of bool, shape (ny, nx), or None
        Of the frame: these are bad.
    kept : mapping of str to ndarray, shape (at least n_int, n_kept, nx)
        Any of ``data``, ``err``, ``dq``, ``VAR_*`` and ``mask`` (True where bad), in the byte order of the machine.
        Filled.
    used : tuple of int
        Half-open range of rows of the frame that are kept, and the row of the frame with which ``kept`` begins.
    top_bit : bool
        True if DQ is stored with an offset of 2^31.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.tiles import Place, mark_rows
    >>> raw = {"SCI": np.ones((1, 1, 3), ">f4"), "ERR": np.array([[[1, np.inf, 1]]], ">f4")}
    >>> raw["DQ"] = np.zeros((1, 1, 3), ">i4")
    >>> kept = {"data": np.empty((1, 1, 3), "f4"), "mask": np.empty((1, 1, 3), bool)}
    >>> mark_rows(raw, Place(0, 1, 0), np.array([[[True, False, False]]]), None, kept, (0, 1, 0), top_bit=False)
    >>> raw["DQ"].ravel().tolist(), kept["data"].ravel().tolist()
    ([17, 1, 0], [nan, nan, 1.0])
    """
    flags = pixel_flags()
    do_not_use, both = flags["DO_NOT_USE"], flags["DO_NOT_USE"] | flags["OUTLIER"]
    nothing = np.empty((0, 0, 0), np.uint32)
    targets = {name: _words(array) for name, array in kept.items() if name != "mask"}
    _mark_rows(
        tuple(_words(raw[name] if name in raw else raw["SCI"]) for name in PLANES),
        (place.low, place.high, place.row),
        (_word(do_not_use), _word(both), np.uint32(2**31 if top_bit else 0)),
        nothing.view(np.uint8) if outlier is None else outlier.view(np.uint8),
        _pixels(bad_pixels, place),
        tuple(targets.get(_kept_name(name), nothing) for name in PLANES),
        kept["mask"].view(np.uint8) if "mask" in kept else nothing.view(np.uint8),
        used,
    )


def _kept_name(plane: str) -> str:
    """Return the name of a plane among those that are kept."""
    return next(name for name, source in _KEPT.items() if source == plane)


def _words(plane: NDArray[Any]) -> Words:
    """Return the words of a contiguous plane, without regard to its byte order."""
    return plane.view(np.uint32)


def _word(value: int) -> np.uint32:
    """Return a word as it looks in big-endian planes that are read natively."""
    return np.uint32(np.array([value], ">u4").view(np.uint32)[0])


def _pixels(bad_pixels: NDArray[np.bool_] | None, place: Place) -> Bytes:
    """Return the rows of a mask of the frame; empty if there is none."""
    if bad_pixels is None:
        return np.empty((0, 0), np.uint8)
    rows = bad_pixels[place.row : place.row + place.high - place.low]
    return np.ascontiguousarray(rows).view(np.uint8)


@njit(cache=True, nogil=True)
def _swap_row(raw: Words, flip: np.uint32, out: Words) -> None:
    for x in range(out.size):
        out[x] = swap_word(raw[x]) ^ flip


@njit(cache=True, nogil=True)
def _left_out_row(data: Words, dq: Words, bits: np.uint32, flip: np.uint32, out: Bytes) -> None:
    for x in range(out.size):
        out[x] = (((dq[x] ^ flip) & bits) != 0) | ((data[x] & _SIGN) > _INFINITE)


@njit(cache=True, nogil=True)
def _add_not_finite(raw: Words, out: Bytes) -> None:
    exponent = np.uint32(_EXPONENT)
    for x in range(out.size):
        out[x] |= (raw[x] & exponent) == exponent


@njit(cache=True, nogil=True)
def _add(mask: Bytes, out: Bytes) -> None:
    for x in range(out.size):
        out[x] |= mask[x]


@njit(cache=True, nogil=True)
def _flagged(dq: Words, low: int, high: int, bits: np.uint32, index: NDArray[np.int64]) -> int:
    """Return how many samples of some rows have the bits; fill where they are, unless index is empty."""
    n, at = 0, 0
    for i in range(dq.shape[0]):
        for r in range(low, high):
            here = np.uint32(0)
            for x in range(dq.shape[2]):
                here |= dq[i, r, x]
            if (here & bits) != 0:
                for x in range(dq.shape[2]):
                    if (dq[i, r, x] & bits) != 0:
                        if index.size:
                            index[n] = at + x
                        n += 1
            at += dq.shape[2]
    return n


@njit(cache=True, nogil=True)
def _ready_rows(raw: Any, low: int, rule: Any, bad_pixels: Bytes, out: Any, left_out: Bytes) -> None:
    sci, err, dq = raw
    bits, flip, all_bad = rule
    data_out, err_out = out
    for i in range(left_out.shape[0]):
        for r in range(left_out.shape[1]):
            _swap_row(sci[i, low + r], np.uint32(0), data_out[i, r])
            _swap_row(err[i, low + r], np.uint32(0), err_out[i, r])
            _left_out_row(data_out[i, r], dq[i, low + r], bits, flip, left_out[i, r])
            if all_bad:
                _add_not_finite(sci[i, low + r], left_out[i, r])
                _add_not_finite(err[i, low + r], left_out[i, r])
            if bad_pixels.size:
                _add(bad_pixels[r], left_out[i, r])


@njit(cache=True, nogil=True)
def _bad_row(
    sci: Words, err: Words, dq: Words, poisson: Words, rnoise: Words, flat: Words, do_not_use: np.uint32, out: Bytes
) -> None:
    exponent = np.uint32(_EXPONENT)
    for x in range(out.size):
        out[x] = (
            ((sci[x] & exponent) == exponent)
            | ((err[x] & exponent) == exponent)
            | ((poisson[x] & exponent) == exponent)
            | ((rnoise[x] & exponent) == exponent)
            | ((flat[x] & exponent) == exponent)
            | ((dq[x] & do_not_use) != 0)
        )


@njit(cache=True, nogil=True)
def _count(mask: Bytes) -> int:
    n = np.uint32(0)
    for x in range(mask.size):
        n = np.uint32(n + mask[x])
    return n


@njit(cache=True, nogil=True)
def _set_where(mask: Bytes, word: np.uint32, out: Words) -> None:
    for x in range(out.size):
        out[x] = word if mask[x] != 0 else out[x]


@njit(cache=True, nogil=True)
def _add_bits_where(mask: Bytes, word: np.uint32, out: Words) -> None:
    for x in range(out.size):
        out[x] |= word if mask[x] != 0 else np.uint32(0)


@njit(cache=True, nogil=True)
def _copy(source: Bytes, out: Bytes) -> None:
    for x in range(out.size):
        out[x] = source[x]


@njit(cache=True, nogil=True)
def _mark_rows(
    raw: Any, place: Any, words: Any, outlier: Bytes, bad_pixels: Bytes, kept: Any, mask: Bytes, used: Any
) -> None:
    sci, err, dq, poisson, rnoise, flat = raw
    low, high, first_row = place
    do_not_use, both, flip = words
    nan = np.uint32(_NAN)
    bad = np.empty(sci.shape[2], np.uint8)
    for i in range(sci.shape[0]):
        for r in range(low, high):
            _bad_row(sci[i, r], err[i, r], dq[i, r], poisson[i, r], rnoise[i, r], flat[i, r], do_not_use, bad)
            if bad_pixels.size:
                _add(bad_pixels[r - low], bad)
            if outlier.size:
                if _count(outlier[i, r - low]):
                    _add_bits_where(outlier[i, r - low], both, dq[i, r])
                _add(outlier[i, r - low], bad)
            if _count(bad):
                _add_bits_where(bad, do_not_use, dq[i, r])
                _set_where(bad, nan, sci[i, r])
                _set_where(bad, nan, err[i, r])
                _set_where(bad, nan, poisson[i, r])
                _set_where(bad, nan, rnoise[i, r])
                _set_where(bad, nan, flat[i, r])
            y = first_row + r - low
            if not used[0] <= y < used[1]:
                continue
            y -= used[2]
            for target, plane in zip(kept, raw):  # noqa: B905
                if target.size:
                    _swap_row(plane[i, r], np.uint32(0), target[i, y])
            if kept[2].size and flip:
                for x in range(sci.shape[2]):
                    kept[2][i, y, x] ^= flip
            if mask.size:
                _copy(bad, mask[i, y])
