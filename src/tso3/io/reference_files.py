"""What is inside reference files: extract1d (JSON, ASDF), apcorr (FITS), wavelengthrange (ASDF) and gain (FITS)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import ReferenceFileError
from tso3.io.opened import guarded, opened_fits
from tso3.io.wavelength_ranges import WavelengthRange, read_asdf, read_wavelengthrange

__all__ = [
    "Aperture1D",
    "ApertureCorrection",
    "Gain",
    "WavelengthRange",
    "read_apcorr",
    "read_extract1d",
    "read_gain",
    "read_wavelengthrange",
]


@dataclass(frozen=True)
class Aperture1D:
    """
    One entry of an extract1d reference, with the archive's keys; None where the entry does not have the key.

    Attributes
    ----------
    id : str
        Slit name, EXP_TYPE, or ``ANY``.
    region_type : str
        ``"target"`` for spectra of the source; others are not used.
    spectral_order : int or None
        Order that it is for; None for any.
    dispaxis : int or None
        Dispersion axis (1 = x, 2 = y); the exposure's own is what counts.
    xstart, xstop, ystart, ystop : float or None
        Limits [pixel], 0-based, inclusive.
    extract_width : float or None
        Full width across dispersion [pixel].
    src_coeff, bkg_coeff : tuple of tuple of float or None
        Polynomials of the edges, in pairs of lower and upper.
    bkg_offsets : tuple of (float, float) or None
        Background regions as limits relative to the middle of the aperture [pixel], so that they follow a curved trace.
        Ours, not the archive's; it counts where there is no ``bkg_coeff``.
    independent_var : str
        ``"pixel"`` or ``"wavelength"``: what the polynomials are in.
    bkg_fit : str or None
        ``"poly"``, ``"mean"`` or ``"median"``.
    bkg_order : int or None
        Order of the polynomial.
    smoothing_length : float or None
        Length of the boxcar along dispersion [pixel].
    use_source_posn : bool or None
        Whether the aperture follows the source.
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
    bkg_offsets: tuple[tuple[float, float], ...] | None = None
    independent_var: str = "pixel"
    bkg_fit: str | None = None
    bkg_order: int | None = None
    smoothing_length: float | None = None
    use_source_posn: bool | None = None


@dataclass(frozen=True)
class ApertureCorrection:
    """
    The row of an apcorr reference that is for one configuration.

    Attributes
    ----------
    wavelength : ndarray of float64, shape (n_wl,)
        Micron.
    size : ndarray of float64, shape (n_size,) or (n_size, n_wl)
        Width of the aperture [``size_unit``].
    factor : ndarray of float64, shape (n_size, n_wl) or (n_phase, n_size, n_wl)
        Total flux over flux in the aperture.
    phase : ndarray of float64, shape (n_phase,), or None
        Position of the source in its pixel, where the correction depends on it (NIRSpec).
    size_unit : str
        ``"pixels"`` or ``"arcsec"``.
    """

    wavelength: NDArray[np.float64]
    size: NDArray[np.float64]
    factor: NDArray[np.float64]
    phase: NDArray[np.float64] | None
    size_unit: str


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
    tree = read_asdf(path, "extract1d reference") if Path(path).suffix == ".asdf" else read_json(path)
    entries = tree.get("apertures") if isinstance(tree, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ReferenceFileError("holds no list 'apertures', so it is no extract1d reference for slits", path)
    return tuple(_aperture(entry, k, path) for k, entry in enumerate(entries))


_NUMBERS = ("xstart", "xstop", "ystart", "ystop", "extract_width", "smoothing_length")
_INTEGERS = ("spectral_order", "dispaxis", "bkg_order")
_LISTS = ("src_coeff", "bkg_coeff", "bkg_offsets")
_CHOICES = {"bkg_fit": ("poly", "mean", "median"), "independent_var": ("pixel", "wavelength"), "dispaxis": (1, 2)}


def _aperture(entry: Any, k: int, path: str | Path) -> Aperture1D:
    where = f"aperture {k + 1}"
    if not isinstance(entry, dict):
        raise ReferenceFileError(f"{where} is no table of keys", path)
    known = {field.name for field in fields(Aperture1D)}
    values = {key: value for key, value in entry.items() if key in known and value is not None}
    if values.get("spectral_order") == "ANY":
        del values["spectral_order"]
    values |= {key: str(values[key]) for key in ("id", "region_type") if key in values}
    if "independent_var" in values:
        values["independent_var"] = str(values["independent_var"]).lower()
    try:
        values |= {key: float(values[key]) for key in _NUMBERS if key in values}
        values |= {key: _integer(values[key]) for key in _INTEGERS if key in values}
        for key in _LISTS:
            if key in values:
                values[key] = tuple(tuple(float(c) for c in part) for part in values[key])
    except (TypeError, ValueError, OverflowError) as error:
        raise ReferenceFileError(f"{where}: a value is not the number it should be ({error})", path) from error
    for key, choices in _CHOICES.items():
        if key in values and values[key] not in choices:
            raise ReferenceFileError(f"{where}: {key} is {values[key]!r}; it is one of {choices}", path)
    if not isinstance(values.get("use_source_posn", False), bool):
        raise ReferenceFileError(f"{where}: use_source_posn is {values['use_source_posn']!r}, not true or false", path)
    _check_lists(values, where, path)
    return Aperture1D(**values)


def _integer(value: Any) -> int:
    if int(value) != float(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _check_lists(values: Mapping[str, Any], where: str, path: str | Path) -> None:
    for key in ("src_coeff", "bkg_coeff"):
        polynomials = values.get(key, ())
        if len(polynomials) % 2 or any(len(polynomial) == 0 for polynomial in polynomials):
            raise ReferenceFileError(f"{where}: {key} needs pairs of polynomials, lower and upper edge", path)
    if any(len(pair) != 2 for pair in values.get("bkg_offsets", ())):
        raise ReferenceFileError(f"{where}: bkg_offsets needs pairs of numbers, lower and upper limit", path)
    if values.get("extract_width", 1.0) <= 0.0:
        raise ReferenceFileError(f"{where}: extract_width is {values['extract_width']}; it must be positive", path)


_SELECTORS = ("subarray", "filter", "pupil", "grating", "slit")


def read_apcorr(path: str | Path, configuration: Mapping[str, str | None]) -> ApertureCorrection:
    """
    Return the aperture correction for a configuration.

    Parameters
    ----------
    path : path-like
        FITS with the table in its APCORR extension: as of MIRI LRS (wavelength, size, correction of shape
        (n_wl, n_size)), NIRCam and NIRISS, or of NIRSpec (with ``pixphase``, sizes of shape (n_size, n_wl), and a
        correction of shape (n_size, n_wl, n_phase) or (n_phase, n_size, n_wl)).
    configuration : mapping of str to str or None
        ``subarray``, ``filter``, ``pupil``, ``grating`` and ``slit`` of the exposure; those that the table has as
        columns select its row, upper and lower case alike.

    Returns
    -------
    correction : ApertureCorrection

    Raises
    ------
    ReferenceFileError
        If the file is no such table, or not exactly one row fits.
    """
    with opened_fits(path, "apcorr reference") as hdus:
        hdu = hdus["APCORR"]
        columns = {name.lower(): np.asarray(hdu.data[name]) for name in hdu.columns.names}
        unit = str(hdu.header.get("SIZEUNIT", "pixels")).strip().lower()
    if len(next(iter(columns.values()), ())) == 0:
        raise ReferenceFileError("has an empty table APCORR", path)
    lacking = [name for name in ("wavelength", "size", "apcorr") if name not in columns]
    if lacking:
        raise ReferenceFileError(f"has no column {', '.join(lacking)} in APCORR", path)
    selectors = [name for name in _SELECTORS if name in columns]
    wanted = {name: str(configuration.get(name) or "").strip().upper() for name in selectors}
    rows = np.ones(len(columns["wavelength"]), dtype=bool)
    for name in selectors:
        rows &= np.array([str(value).strip().upper() == wanted[name] for value in columns[name]], dtype=bool)
    if np.count_nonzero(rows) != 1:
        asked = ", ".join(f"{name} {value}" for name, value in wanted.items())
        raise ReferenceFileError(
            f"has {np.count_nonzero(rows)} rows for {asked}, needed is one; --override-apcorr N/A does without", path
        )
    row = int(np.flatnonzero(rows)[0])
    with guarded(path, "is not an apcorr reference"):
        return _correction({name: column[row] for name, column in columns.items()}, unit, path)


def _correction(row: Mapping[str, Any], unit: str, path: str | Path) -> ApertureCorrection:
    """Return a row of an apcorr table without its padding, sizes first and wavelengths last."""
    wavelength, size, factor = (np.asarray(row[name], np.float64) for name in ("wavelength", "size", "apcorr"))
    n_wl, n_size = (
        _length(row.get(key), full) for key, full in (("nelem_wl", wavelength.size), ("nelem_size", len(size)))
    )
    phase = np.asarray(row["pixphase"], np.float64) if "pixphase" in row else None
    if phase is None:
        fits_layout = factor.ndim == 2 and factor.shape == (wavelength.size, size.size)
        factor = factor[:n_wl, :n_size].T if fits_layout else factor
        return _checked(ApertureCorrection(wavelength[:n_wl], size[:n_size], factor, None, unit), fits_layout, path)
    if factor.shape == (*size.shape, phase.size):
        factor = np.moveaxis(factor, -1, 0)
    fits_layout = size.ndim == 2 and size.shape[1] == wavelength.size and factor.shape == (phase.size, *size.shape)
    size, factor = size[:n_size, :n_wl], factor[..., :n_size, :n_wl]
    return _checked(ApertureCorrection(wavelength[:n_wl], size, factor, phase, unit), fits_layout, path)


def _length(value: Any, full: int) -> int:
    """Return how many elements of a padded array count."""
    return full if value is None or not 0 < int(value) <= full else int(value)


def _checked(correction: ApertureCorrection, good: bool, path: str | Path) -> ApertureCorrection:
    if not good:
        raise ReferenceFileError("columns WAVELENGTH, SIZE, PIXPHASE and APCORR do not fit each other in shape", path)
    if not (correction.size_unit.startswith("arcsec") or correction.size_unit.startswith("pix")):
        raise ReferenceFileError(f"SIZEUNIT is {correction.size_unit!r}; it is pixels or arcsec", path)
    return correction


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
    with opened_fits(path, "gain reference") as hdus:
        data = np.array(hdus["SCI"].data, np.float64)
        header = hdus[0].header
        corner = (int(header["SUBSTRT1"]), int(header["SUBSTRT2"])) if "SUBSTRT1" in header else None
    if data.ndim != 2:
        raise ReferenceFileError(f"has a gain of {data.ndim} dimensions; 2 are needed", path)
    return Gain(data, corner)


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds; raise ReferenceFileError if it is none."""
    with guarded(path, "cannot be read as JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8"))
