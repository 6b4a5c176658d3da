"""A mask of bad pixels that the user gives, for pixels that the pipeline's own flags miss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.exposure import Exposure
from tso3.io.fitsfile import Hdu, header_value, open_readonly, pread_exactly, scan_hdus

__all__ = ["read_bad_pixels"]

_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


def read_bad_pixels(path: str | Path, exposure: Exposure) -> NDArray[np.bool_]:
    """
    Return the bad pixels of a mask file in the frame of an exposure.

    The first unit of the file that holds a 2-D image is used; an image named ``DQ`` or ``MASK`` is preferred, and if
    the file has images for several detectors (EXTNAME is the detector), that of the exposure.

    Parameters
    ----------
    path : path-like
        FITS file, not compressed. Any pixel that is not zero is bad; NaN is bad too. The image has the shape of the
        exposure's frames, or that of the subarray (SUBSIZE1/2; cut with SLTSTRT1/2), or it is of the full frame and cut
        with SUBSTRT1/2 as well.
    exposure : Exposure
        Tells shape and place of the frames.

    Returns
    -------
    bad : ndarray of bool, shape (ny, nx)
        True where bad.

    Raises
    ------
    InputError
        If the file holds no 2-D image, its shape does not fit, or every pixel would be bad.

    Examples
    --------
    A mask in the shape of the frames::

        fits.writeto("hot.fits", np.array([[0, 1, 0], [0, 0, 0]], "u1"))
        read_bad_pixels("hot.fits", exposure)      # array([[False,  True, False], ...
    """
    path = Path(path)
    hdu = _choose(scan_hdus(path), exposure, path)
    image = _read(hdu, path)
    shape = (exposure.ny, exposure.nx)
    if image.shape != shape:
        image = image[_cutout(image.shape, exposure, path)]
    bad = np.ascontiguousarray(image != 0)
    if bad.all():
        raise InputError("every pixel is marked bad (not zero); in this mask good pixels are 0", path)
    return bad


def _choose(hdus: tuple[Hdu, ...], exposure: Exposure, path: Path) -> Hdu:
    """Return the unit that holds the mask."""
    images = [hdu for hdu in hdus if len(hdu.shape) == 2 and hdu.header.get("XTENSION", "IMAGE").strip() == "IMAGE"]
    images = [hdu for hdu in images if min(hdu.shape) > 0]
    if not images:
        shapes = ", ".join(f"{hdu.name or hdu.index} {hdu.shape}" for hdu in hdus)
        raise InputError(f"holds no 2-D image ({shapes}); a mask has one, with pixels that are not 0 where bad", path)
    for name in (exposure.detector.upper(), "DQ", "MASK"):
        named = [hdu for hdu in images if name and hdu.name == name]
        if named:
            return named[0]
    return images[0]


def _read(hdu: Hdu, path: Path) -> NDArray[np.generic]:
    """Return an image whose zero is that of the physical values."""
    descriptor = open_readonly(path)
    try:
        raw = pread_exactly(descriptor, hdu.data_size, hdu.data_offset, path)
    finally:
        os.close(descriptor)
    image: NDArray[np.generic] = np.frombuffer(raw, _TYPES[int(hdu.header["BITPIX"])]).reshape(hdu.shape)
    zero = header_value(hdu.header, "BZERO", float, path)
    scale = header_value(hdu.header, "BSCALE", float, path)
    if zero is None and scale is None:
        return image
    physical: NDArray[np.float64] = image.astype(np.float64) * (1.0 if scale is None else scale)
    return physical + (0.0 if zero is None else zero)


def _cutout(shape: tuple[int, ...], exposure: Exposure, path: Path) -> tuple[slice, slice]:
    """Return the rows and columns of a larger image that the frames of an exposure cover."""
    frame = (exposure.ny, exposure.nx)
    substart, subsize, slit = (_pair(exposure, key) for key in ("SUBSTRT", "SUBSIZE", "SLTSTRT"))
    # SLTSTRT counts from the subarray; where it cannot (it would lead outside), it repeats SUBSTRT: no further shift
    if slit is None or subsize is None or any(s - 1 + n > m for s, n, m in zip(slit, frame, subsize, strict=True)):
        slit = (1, 1)
    if shape == subsize:
        start = (slit[0] - 1, slit[1] - 1)
    elif exposure.stripe:
        raise InputError(
            f"has shape {shape}; stripes do not lie on the full frame as in their subarray: give a mask of the"
            f" subarray, {subsize}",
            path,
        )
    elif substart is not None:
        start = (substart[0] + slit[0] - 2, substart[1] + slit[1] - 2)
    else:
        start = (-1, -1)
    if any(s < 0 or s + n > size for s, n, size in zip(start, frame, shape, strict=True)):
        begins = "unknown (no SUBSTRT1, SUBSTRT2)" if substart is None else f"row {start[0] + 1}, column {start[1] + 1}"
        raise InputError(
            f"has shape {shape}; the frames of {exposure.name} have {frame} and begin at {begins} of the full frame:"
            " give a mask of their shape or of the full frame",
            path,
        )
    return slice(start[0], start[0] + frame[0]), slice(start[1], start[1] + frame[1])


def _pair(exposure: Exposure, key: str) -> tuple[int, int] | None:
    """Return the keywords KEY2 and KEY1 (rows, columns), None unless both are positive integers."""
    rows, columns = exposure.header(f"{key}2"), exposure.header(f"{key}1")
    if isinstance(rows, int) and isinstance(columns, int) and min(rows, columns) > 0:
        return rows, columns
    return None
