"""
Bad samples in the planes as they lie on disk: found, and marked, without a conversion.

Both kernels work on bit patterns, so they take big-endian and native planes alike: the constants are turned round
instead of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tso3.io.dqflags import pixel_flags
from tso3.io.segment import PLANES

__all__ = ["bad_mask", "patch"]

Bits = NDArray[np.uint32]


def bad_mask(planes: Mapping[str, NDArray[np.generic]], out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """
    Return where samples are bad: DO_NOT_USE in DQ, or a value that is not finite in any plane.

    Parameters
    ----------
    planes : mapping of str to ndarray, shape (n_int, ny, nx)
        SCI, ERR, DQ and whichever variances exist, in either byte order (all in the same), contiguous. Not modified.
    out : ndarray of bool, optional
        Where to put it.

    Returns
    -------
    bad : ndarray of bool, shape (n_int, ny, nx)
        True where bad.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.planes import bad_mask
    >>> sci = np.array([1.0, np.nan, 1.0, 1.0], ">f4")
    >>> err = np.array([1.0, 1.0, np.inf, 1.0], ">f4")
    >>> bad_mask({"SCI": sci, "ERR": err, "DQ": np.array([4, 0, 0, 5], ">u4")})
    array([False,  True,  True,  True])
    """
    sci = planes["SCI"]
    if out is None:
        out = np.empty(sci.shape, np.bool_)
    a, b, dq, c, d, e = (_bits(planes.get(name, sci), sci) for name in PLANES)
    exponent, do_not_use = _word(0x7F800000, sci.dtype), _word(_flags()[0], sci.dtype)
    _bad_mask(a, b, dq, c, d, e, exponent, do_not_use, out.reshape(-1))
    return out


def patch(
    planes: Mapping[str, NDArray[np.generic]],
    bad: NDArray[np.bool_],
    outlier: NDArray[np.bool_] | None = None,
) -> int:
    """
    Mark bad samples and outliers, in place: NaN in SCI, ERR and VAR_*, and the bits in DQ.

    Parameters
    ----------
    planes : mapping of str to ndarray, shape (n_int, ny, nx)
        SCI, ERR, DQ and whichever variances exist, in either byte order (all in the same), contiguous. Modified.
    bad : ndarray of bool, shape (n_int, ny, nx)
        Where DO_NOT_USE is set. With `bad_mask` of the same planes, NaN and DQ agree everywhere afterwards.
    outlier : ndarray of bool, shape (n_int, ny, nx), optional
        Where DO_NOT_USE and OUTLIER are set, whether bad or not.

    Returns
    -------
    n_marked : int
        Samples that are marked now.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.planes import patch
    >>> planes = {"SCI": np.ones(3, ">f4"), "ERR": np.ones(3, ">f4"), "DQ": np.zeros(3, ">u4")}
    >>> patch(planes, np.array([True, False, False]), np.array([False, True, False]))
    2
    >>> planes["SCI"].tolist(), planes["DQ"].tolist()
    ([nan, nan, 1.0], [1, 17, 0])
    """
    sci = planes["SCI"]
    a, b, dq, c, d, e = (_bits(planes.get(name, sci), sci) for name in PLANES)
    do_not_use, flagged = (_word(flag, sci.dtype) for flag in _flags())
    flat = bad.reshape(-1)
    extra = flat if outlier is None else outlier.reshape(-1)
    if flat.size != a.size or extra.size != flat.size:
        raise ValueError(f"masks of {flat.size} and {extra.size} samples for planes of {a.size}")
    both = flagged if outlier is not None else do_not_use
    nan = _word(0x7FC00000, sci.dtype)
    return int(_patch(a, b, dq, c, d, e, flat, extra, nan, do_not_use, both))


@lru_cache
def _flags() -> tuple[int, int]:
    """Return DO_NOT_USE, and DO_NOT_USE with OUTLIER."""
    flags = pixel_flags()
    return flags["DO_NOT_USE"], flags["DO_NOT_USE"] | flags["OUTLIER"]


def _word(value: int, like: np.dtype[np.generic]) -> np.uint32:
    """Return a 32-bit word as it looks in planes of that byte order, read natively."""
    order = "<u4" if like.newbyteorder("<") == like else ">u4"
    return np.uint32(np.array([value], order).view(np.uint32)[0])


def _bits(plane: NDArray[np.generic], like: NDArray[np.generic]) -> Bits:
    """Return a plane as its words, read natively; no copy."""
    if not plane.flags.c_contiguous or plane.dtype.itemsize != 4 or plane.shape != like.shape:
        raise ValueError(
            f"plane of {plane.shape} {plane.dtype}: needed are contiguous 32-bit samples, all of one shape"
        )
    if (plane.dtype.newbyteorder(">") == plane.dtype) != (like.dtype.newbyteorder(">") == like.dtype):
        raise ValueError("planes of different byte order")
    return plane.reshape(-1).view(np.uint32)


@njit(cache=True, nogil=True)
def _bad_mask(
    sci: Bits,
    err: Bits,
    dq: Bits,
    var_poisson: Bits,
    var_rnoise: Bits,
    var_flat: Bits,
    exponent: np.uint32,
    do_not_use: np.uint32,
    out: NDArray[np.bool_],
) -> None:
    for i in range(out.size):
        out[i] = (
            ((sci[i] & exponent) == exponent)
            | ((err[i] & exponent) == exponent)
            | ((var_poisson[i] & exponent) == exponent)
            | ((var_rnoise[i] & exponent) == exponent)
            | ((var_flat[i] & exponent) == exponent)
            | ((dq[i] & do_not_use) != 0)
        )


@njit(cache=True, nogil=True)
def _patch(
    sci: Bits,
    err: Bits,
    dq: Bits,
    var_poisson: Bits,
    var_rnoise: Bits,
    var_flat: Bits,
    bad: NDArray[np.bool_],
    outlier: NDArray[np.bool_],
    nan: np.uint32,
    do_not_use: np.uint32,
    flagged: np.uint32,
) -> int:
    n = 0
    for i in range(bad.size):
        if bad[i] | outlier[i]:
            n += 1
            sci[i] = nan
            err[i] = nan
            var_poisson[i] = nan
            var_rnoise[i] = nan
            var_flat[i] = nan
            dq[i] |= flagged if outlier[i] else do_not_use
    return n
