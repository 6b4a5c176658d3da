"""What is inside reference files: extract1d (JSON, ASDF), wavelengthrange (ASDF) and gain (FITS)."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import ReferenceFileError

__all__ = ["Aperture1D", "Gain", "WavelengthRange", "read_extract1d", "read_gain", "read_wavelengthrange"]


@dataclass(frozen=True)
class Aperture1D:
    """
    One entry of an extract1d reference, with the archive's keys.

    Attributes
    ----------
    id : str
        Slit name, EXP_TYPE, or ``ANY``.
    region_type : str
        ``"target"`` for spectra of the source.
    spectral_order, dispaxis : int or None
        Order that it is for (None: any), and dispersion axis (1 = x, 2 = y).
    xstart, xstop, ystart, ystop : float or None
        Limits [pixel], 0-based, inclusive.
    extract_width : float or None
        Full width across dispersion [pixel].
    src_coeff, bkg_coeff : tuple of tuple of float or None
        Polynomials of the limits, in pairs of lower and upper.
    independent_var : str
        ``"pixel"`` or ``"wavelength"``: what the polynomials are in.
    bkg_fit : str or None
        ``"poly"``, ``"mean"`` or ``"median"``.
    bkg_order, smoothing_length : int or None
        Order of the polynomial; length of the boxcar along dispersion [pixel].
    use_source_posn : bool or None
        Whether the aperture follows the source.
    subtract_background : bool or None
        Whether the background is subtracted.
    """

    id: str = "ANY"
    region_type: str = "target"
    spectral_order: int | None = None
    dispaxis: int | None = None
    xstart: float | None = None
    xstop: float | None = None
    ystart: float | None = None
    ystop: float | None = None
    extract_width: float | None = None
    src_coeff: tuple[tuple[float, ...], ...] | None = None
    bkg_coeff: tuple[tuple[float, ...], ...] | None = None
    independent_var: str = "pixel"
    bkg_fit: str | None = None
    bkg_order: int | None = None
    smoothing_length: int | None = None
    use_source_posn: bool | None = None
    subtract_background: bool | None = None


@dataclass(frozen=True)
class WavelengthRange:
    """
    One row of a wavelengthrange reference.

    Attributes
    ----------
    order : int
        Spectral order.
    filter : str
        Filter.
    shortest, longest : float
        Limits [micron], inclusive.
    """

    order: int
    filter: str
    shortest: float
    longest: float


@dataclass(frozen=True)
class Gain:
    """
    Gain of a detector.

    Attributes
    ----------
    data : ndarray of float64, shape (ny, nx)
        Gain [electron / DN].
    corner : tuple of int or None
        SUBSTRT1, SUBSTRT2 of the image (1-based); None if it has none.
    """

    data: NDArray[np.float64]
    corner: tuple[int, int] | None


def read_extract1d(path: str | Path) -> tuple[Aperture1D, ...]:
    """
    Return the apertures of an extract1d reference.

    Parameters
    ----------
    path : path-like
        JSON, or ASDF.

    Returns
    -------
    apertures : tuple of Aperture1D
        In the order of the file.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, has no apertures, or one of them has a value of the wrong kind.
    """
    tree = _read_asdf(path) if Path(path).suffix == ".asdf" else _read_json(path)
    entries = tree.get("apertures") if isinstance(tree, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ReferenceFileError("holds no list 'apertures', so it is no extract1d reference for slits", path)
    return tuple(_aperture(entry, k, path) for k, entry in enumerate(entries))


_NUMBERS = ("xstart", "xstop", "ystart", "ystop", "extract_width")
_INTEGERS = ("spectral_order", "dispaxis", "bkg_order", "smoothing_length")


def _aperture(entry: Any, k: int, path: str | Path) -> Aperture1D:
    where = f"aperture {k + 1}"
    if not isinstance(entry, dict):
        raise ReferenceFileError(f"{where} is no table of keys", path)
    known = {field.name for field in fields(Aperture1D)}
    values = {key: value for key, value in entry.items() if key in known and value is not None}
    try:
        for key in _NUMBERS:
            if key in values:
                values[key] = float(values[key])
        for key in _INTEGERS:
            if key in values:
                values[key] = int(values[key])
        for key in ("src_coeff", "bkg_coeff"):
            if key in values:
                values[key] = tuple(tuple(float(c) for c in polynomial) for polynomial in values[key])
    except (TypeError, ValueError) as error:
        raise ReferenceFileError(f"{where}: a value is no number ({error})", path) from error
    for key in ("src_coeff", "bkg_coeff"):
        if len(values.get(key, ())) % 2:
            raise ReferenceFileError(f"{where}: {key} needs pairs of polynomials, found {len(values[key])}", path)
    if values.get("dispaxis") not in (None, 1, 2):
        raise ReferenceFileError(f"{where}: dispaxis is {values['dispaxis']}; it is 1 (x) or 2 (y)", path)
    return Aperture1D(**values)


def read_wavelengthrange(path: str | Path) -> tuple[WavelengthRange, ...]:
    """
    Return the rows of a wavelengthrange reference.

    Parameters
    ----------
    path : path-like
        ASDF.

    Returns
    -------
    ranges : tuple of WavelengthRange
        In the order of the file.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read or has no rows of order, filter and two limits.
    """
    rows = _read_asdf(path).get("wavelengthrange")
    try:
        return tuple(WavelengthRange(int(a), str(b), float(c), float(d)) for a, b, c, d in rows)
    except (TypeError, ValueError) as error:
        raise ReferenceFileError("holds no rows of (order, filter, shortest, longest wavelength)", path) from error


def read_gain(path: str | Path) -> Gain:
    """
    Return a gain reference.

    Parameters
    ----------
    path : path-like
        FITS with the gain in its SCI extension.

    Returns
    -------
    gain : Gain
        As it is in the file.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read or has no 2-D SCI extension.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            data = np.array(hdus["SCI"].data, np.float64)
            header = hdus[0].header
            corner = (int(header["SUBSTRT1"]), int(header["SUBSTRT2"])) if "SUBSTRT1" in header else None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ReferenceFileError(f"is no gain reference ({error})", path) from error
    if data.ndim != 2:
        raise ReferenceFileError(f"has a gain of {data.ndim} dimensions; 2 are needed", path)
    return Gain(data, corner)


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReferenceFileError(f"cannot be read as JSON ({error})", path) from error


def _read_asdf(path: str | Path) -> dict[str, Any]:
    import asdf

    try:
        with asdf.open(path, lazy_load=False, memmap=False) as tree:
            return dict(tree.tree)
    except (OSError, ValueError, asdf.exceptions.AsdfError) as error:
        raise ReferenceFileError(f"cannot be read as ASDF ({error})", path) from error
