"""Wavelength of every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.fitsfile import read_unit
from tso3.io.geometry import Geometry

if TYPE_CHECKING:
    from tso3.io.fitsfile import Hdu
    from tso3.io.segment import Segment

__all__ = ["read_wavelength"]

_FLOATS = {-32: ">f4", -64: ">f8"}


def read_wavelength(segment: Segment) -> NDArray[np.floating] | None:
    """
    Return the wavelength of every pixel.

    From the WAVELENGTH plane; where there is none, or it is zero everywhere, from the gWCS, which is evaluated once
    for the whole grid (``jwst`` evaluates it pixel by pixel for NRC_TSGRISM, with the same result).

    Parameters
    ----------
    segment : Segment
        A calints file; any segment of an exposure will do.

    Returns
    -------
    wavelength : ndarray of float32 or float64, shape (ny, nx), or None
        Micron, in native byte order; NaN where there is none. None if the file has neither plane nor gWCS.

    Raises
    ------
    InputError
        If the plane does not have the shape of SCI, or the ASDF extension is damaged.
    """
    hdu = segment.hdu("WAVELENGTH")
    if hdu is not None:
        plane = _read_image(hdu, segment.path)
        if plane is not None:
            if plane.shape != (segment.ny, segment.nx):
                raise InputError(f"WAVELENGTH has shape {plane.shape}, SCI {(segment.ny, segment.nx)}", segment.path)
            if np.any(plane != 0.0):
                return np.where(plane > 0.0, plane, np.nan).astype(plane.dtype)  # zeros are places never filled in
    return Geometry(segment.path, segment.in_tree).wavelength(segment.ny, segment.nx)


def _read_image(hdu: Hdu, path: str | Path) -> NDArray[np.floating] | None:
    """Return a floating-point image in native byte order; None if it is empty."""
    if hdu.data_size == 0:
        return None
    dtype = _FLOATS.get(int(hdu.header["BITPIX"]))
    if dtype is None:
        raise InputError(f"{hdu.name} has BITPIX {hdu.header['BITPIX']}; floating point is needed", path)
    image = np.frombuffer(read_unit(hdu, path), dtype=dtype).reshape(hdu.shape)
    return image.astype(image.dtype.newbyteorder("="))
