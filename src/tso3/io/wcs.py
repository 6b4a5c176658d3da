"""The world coordinate system that a calints file carries in its ASDF extension; ask `tso3.io.geometry` instead."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.asdfplugins import load_plugins
from tso3.io.fitsfile import read_unit, scan_hdus

if TYPE_CHECKING:
    from gwcs import WCS

__all__ = ["pixel_scale", "read_tree", "read_wcs", "sky_position", "wavelength_of_grid", "world_of_grid"]

_GRID_PIXELS = 2**17
"""Pixels that a transform is evaluated for at once."""


def wavelength_of_grid(wcs: WCS, ny: int, nx: int) -> NDArray[np.float64]:
    """
    Return the wavelength at the centre of every pixel.

    Parameters
    ----------
    wcs : gwcs.WCS
        Transform from detector (x, y) to sky and wavelength (third output), micron.
    ny, nx : int
        Size of the image.

    Returns
    -------
    wavelength : ndarray, shape (ny, nx)
        Micron; NaN outside the bounding box.
    """
    y, x = np.indices((ny, nx), dtype=np.float64)
    return np.asarray(wcs(x, y)[2], dtype=np.float64)


def world_of_grid(
    wcs: WCS, ny: int, nx: int, frame: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the first three coordinates of the centre of every pixel.

    Parameters
    ----------
    wcs : gwcs.WCS
        Transform from detector (x, y).
    ny, nx : int
        Size of the image.
    frame : str, optional
        Frame of the coordinates; the last by default.

    Returns
    -------
    first, second, third : ndarray, shape (ny, nx)
        Right ascension and declination [deg] and wavelength [micron], or what the frame has; NaN where there is none.
    """
    transform = wcs if frame is None else wcs.get_transform(wcs.available_frames[0], frame)
    planes = np.empty((3, ny, nx))
    rows = max(1, _GRID_PIXELS // nx)  # a transform needs many times the memory of its results
    for low in range(0, ny, rows):
        y, x = np.indices((min(rows, ny - low), nx), dtype=np.float64)
        planes[:, low : low + rows] = transform(x, y + low)[:3]
    return planes[0], planes[1], planes[2]


def sky_position(wcs: WCS, x: float, y: float) -> tuple[float, float] | None:
    """
    Return right ascension and declination [deg] of a detector position (0-based), or None where the WCS has none.

    As in the archive, a NaN in any output of the WCS (outside its bounding box, say) means none.
    """
    outputs = [float(v) for v in wcs(x, y)]
    return None if any(np.isnan(outputs)) else (outputs[0], outputs[1])


def read_wcs(path: str | Path, slit: int | None = None) -> WCS | None:
    """
    Return the gWCS of a calints file.

    Parameters
    ----------
    path : path-like
        File with an ASDF extension as ``stdatamodels`` writes it.
    slit : int, optional
        Of a file with several slits, which: its EXTVER.

    Returns
    -------
    wcs : gwcs.WCS or None
        ``meta.wcs``, or that of the slit; None if there is no such extension or no WCS in it. The last few files are
        remembered.

    Raises
    ------
    InputError
        If the extension cannot be read.
    """
    node = read_tree(path)
    if slit is not None:
        slits = node.get("slits", [])
        node = slits[slit - 1] if slit <= len(slits) else {}
    meta = node.get("meta")
    return meta.get("wcs") if isinstance(meta, dict) else None


def read_tree(path: str | Path) -> dict[str, Any]:
    """
    Return the tree of the ASDF extension of a file, empty if it has none; arrays in it are read when used.

    Parameters
    ----------
    path : path-like
        File with an ASDF extension as ``stdatamodels`` writes it.

    Returns
    -------
    tree : dict
        Not to be modified: it is remembered.

    Raises
    ------
    InputError
        If the extension cannot be read.
    """
    state = os.stat(path)
    opened = _cached_tree(str(path), state.st_mtime_ns, state.st_size)
    return {} if opened is None else opened.tree


@lru_cache(maxsize=8)
def _cached_tree(path: str, mtime_ns: int, size: int) -> Any:
    """Return the open ASDF extension, whose arrays may still have to be loaded, once per version of a file."""
    del mtime_ns, size
    import warnings

    import asdf
    from asdf.exceptions import AsdfWarning
    from yaml import YAMLError

    hdu = next((h for h in scan_hdus(path) if h.name == "ASDF"), None)
    if hdu is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AsdfWarning)  # versions newer or older than the writer's
            load_plugins()
            return asdf.open(io.BytesIO(read_unit(hdu, path)))
    except (ValueError, OSError, YAMLError, AttributeError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"its ASDF extension cannot be read ({reason}); fetch the file again", path) from error


def pixel_scale(wcs: WCS, ra: float, dec: float, wavelength: float, dispersion_axis: int) -> float | None:
    """
    Return the size of a pixel across dispersion.

    Through NIRCam's grism all pixels see the one place of the star; there it is the size without the grism.

    Parameters
    ----------
    wcs : gwcs.WCS
        With an inverse, or with the frame ``direct_image`` of a grism.
    ra, dec, wavelength : float
        Where: degrees and micron.
    dispersion_axis : int
        1 if dispersion runs along x, 2 along y.

    Returns
    -------
    scale : float or None
        Arc seconds; None if the WCS cannot be inverted there.
    """
    from astropy.coordinates import angular_separation

    step = (0.0, 1.0) if dispersion_axis == 1 else (1.0, 0.0)
    if "direct_image" in wcs.available_frames:
        to_direct = wcs.get_transform(wcs.available_frames[0], "direct_image")
        x, y, *other = (float(value) for value in to_direct(0.0, 0.0))
        world = wcs.get_transform("direct_image", "world")(
            np.array([x, x + step[0]]), np.array([y, y + step[1]]), *(np.full(2, value) for value in other)
        )
    else:
        try:
            x, y = (float(value) for value in wcs.invert(ra, dec, wavelength, with_bounding_box=False)[:2])
        except NotImplementedError:
            return None
        world = wcs(np.array([x, x + step[0]]), np.array([y, y + step[1]]), with_bounding_box=False)
    ras, decs = (np.radians(np.asarray(value, np.float64)) for value in world[:2])
    scale = float(np.degrees(angular_separation(ras[0], decs[0], ras[1], decs[1])) * 3600.0)
    return scale if scale > 0.0 else None
