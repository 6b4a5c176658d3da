"""Circular apertures of integral field units, whose radius depends on wavelength: from a reference, or built in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import ReferenceFileError
from tso3.io.wavelength_ranges import read_asdf

__all__ = ["BUILT_IN", "CircularApertures", "mrs_fwhm", "read_ifu_extract1d"]

BUILT_IN = (
    "circle of 2.0 FWHM about the light, background 2.5 to 3.5 FWHM from it, FWHM = 0.033 arcsec (wavelength / micron)"
    " + 0.106 arcsec; source: FWHM of Law et al. 2023 (AJ 166, 45, Eq. 1), 2.0 of it as their apertures of point"
    " sources; background our choice"
)
"""The built-in apertures of the MRS, in words."""

_RADII = (2.0, 2.5, 3.5)
_KEYS = ("wavelength", "radius", "inner_bkg", "outer_bkg")


@dataclass(frozen=True)
class CircularApertures:
    """
    Radii of the aperture and of the background annulus.

    Attributes
    ----------
    wavelength : ndarray of float64, shape (n,)
        Micron, rising.
    radius : ndarray of float64, shape (n,)
        Arc seconds.
    inner, outer : ndarray of float64, shape (n,), or None
        Of the annulus [arcsec]; None without background.
    """

    wavelength: NDArray[np.float64]
    radius: NDArray[np.float64]
    inner: NDArray[np.float64] | None
    outer: NDArray[np.float64] | None

    @classmethod
    def built_in(cls) -> CircularApertures:
        """Return those of the MRS without a reference, see `BUILT_IN`."""
        wavelength = np.array([4.0, 30.0])  # the FWHM is linear between
        radius, inner, outer = (factor * mrs_fwhm(wavelength) for factor in _RADII)
        return cls(wavelength, radius, inner, outer)


def mrs_fwhm(wavelength: NDArray[np.floating]) -> NDArray[np.float64]:
    """
    Return the full width at half maximum of a point source in the MRS.

    Parameters
    ----------
    wavelength : ndarray
        Micron.

    Returns
    -------
    fwhm : ndarray of float64
        Arc seconds (Law et al. 2023, AJ 166, 45, Eq. 1).

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.ifu_apertures import mrs_fwhm
    >>> mrs_fwhm(np.array([10.0])).round(3)
    array([0.436])
    """
    return np.asarray(0.033 * np.asarray(wavelength, np.float64) + 0.106)


def read_ifu_extract1d(path: str | Path) -> CircularApertures:
    """
    Return the apertures of an extract1d reference for an IFU (ASDF, data model Extract1dIFUModel).

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    apertures : CircularApertures
        Without annulus if the reference says that no background is to be subtracted.

    Raises
    ------
    ReferenceFileError
        If it cannot be read, or lacks the arrays.
    """
    if Path(path).suffix != ".asdf":
        raise ReferenceFileError("is no ASDF file; the extract1d reference of an IFU is one", path)
    tree = read_asdf(path, "extract1d reference")
    data = tree.get("data", tree)
    data = data if isinstance(data, dict) else {}
    values = {key: _numbers(data[key], key, path) for key in _KEYS if key in data}
    if not {"wavelength", "radius"} <= values.keys():
        raise ReferenceFileError("has no arrays 'wavelength' and 'radius', so it is no reference of an IFU", path)
    if len({array.size for array in values.values()}) > 1 or np.any(np.diff(values["wavelength"]) <= 0.0):
        raise ReferenceFileError("has arrays of different lengths, or wavelengths that do not rise", path)
    meta = tree.get("meta", {})
    wanted = meta.get("subtract_background", True) if isinstance(meta, dict) else True
    annulus = wanted and {"inner_bkg", "outer_bkg"} <= values.keys()
    return CircularApertures(
        values["wavelength"],
        values["radius"],
        values["inner_bkg"] if annulus else None,
        values["outer_bkg"] if annulus else None,
    )


def _numbers(value: Any, key: str, path: str | Path) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ReferenceFileError(f"{key} is no array of numbers ({error})", path) from error
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ReferenceFileError(f"{key} has shape {array.shape} or numbers that are not finite", path)
    return array
