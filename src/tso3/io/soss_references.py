"""Reference files of SOSS: traces and wavelengths (pastasoss, or spectrace and wavemap), and flux calibration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import ReferenceFileError, Tso3Warning
from tso3.io.opened import guarded, opened_asdf, opened_fits

__all__ = [
    "PhotomRow",
    "SossReference",
    "TraceModel",
    "TraceTable",
    "read_pastasoss",
    "read_photom",
    "read_spectrace",
    "read_wavemap",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TraceModel:
    """
    One order at the commanded position of the pupil wheel.

    Attributes
    ----------
    order : int
        Spectral order.
    x, y : ndarray, shape (n,)
        Points of the trace in SUBSTRIP256 [pixel], 0-based.
    pivot : (float, float)
        About which it turns, (x, y).
    cutoff : int
        Columns that the order reaches, from 0.
    coefficients : ndarray, shape (n_terms,)
        Of the wavelength [micron]: see `tso3.core.soss.wavelength_polynomial`.
    low, high : (float, float)
        Column and offset of the wheel [deg] that are scaled to 0 and to 1.
    """

    order: int
    x: Floats
    y: Floats
    pivot: tuple[float, float]
    cutoff: int
    coefficients: Floats
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True)
class SossReference:
    """
    Traces and wavelengths of all orders.

    Attributes
    ----------
    path : Path or None
        The file; None for what is built in.
    commanded : float
        Position of the pupil wheel that the traces are for [deg].
    bounds : (float, float)
        Positions for which the reference holds [deg].
    grid : ndarray, shape (n,)
        Wavelengths by which traces are tabulated [micron].
    orders : mapping of int to TraceModel
        By spectral order.
    """

    path: Path | None
    commanded: float
    bounds: tuple[float, float]
    grid: Floats
    orders: Mapping[int, TraceModel]


@dataclass(frozen=True)
class TraceTable:
    """
    One order in the older layout.

    Attributes
    ----------
    wavelength, x, y : ndarray, shape (n,)
        Points of the trace [micron, pixel].
    subarray : str
        In which the rows count; empty if the file does not say.
    """

    wavelength: Floats
    x: Floats
    y: Floats
    subarray: str


@dataclass(frozen=True)
class PhotomRow:
    """
    Flux calibration of one order.

    Attributes
    ----------
    scale : float
        PHOTMJ [MJy per DN/s].
    wavelength, response : ndarray, shape (n,)
        Relative response at wavelengths [micron], increasing.
    """

    scale: float
    wavelength: Floats
    response: Floats


def read_pastasoss(path: str | Path) -> SossReference:
    """
    Return a pastasoss reference.

    Parameters
    ----------
    path : path-like
        ASDF file.

    Returns
    -------
    reference : SossReference

    Raises
    ------
    ReferenceFileError
        If it cannot be read, or something in it is missing; the message says what.
    """
    with opened_asdf(path, "pastasoss reference") as tree:
        return _pastasoss(Path(path), tree)


def _pastasoss(path: Path, tree: Mapping[str, Any]) -> SossReference:
    meta = tree["meta"]
    low, high = (float(limit) for limit in meta["pwcpos_bounds"])
    grid = np.linspace(float(meta["wavemap_wlmin"]), float(meta["wavemap_wlmax"]), int(meta["wavemap_nwl"]))
    orders = {}
    for trace, wave in zip(tree["traces"], tree["wavecal_models"], strict=True):
        points = np.asarray(trace["trace"], np.float64)
        scale = np.asarray(wave["scale_extents"], np.float64)
        coefficients = np.asarray(wave["coefficients"], np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or scale.shape != (2, 2):
            raise ReferenceFileError(f"has a trace of shape {points.shape} and scale_extents {scale.shape}", path)
        orders[int(trace["spectral_order"])] = TraceModel(
            order=int(trace["spectral_order"]),
            x=points[:, 0].copy(),
            y=points[:, 1].copy(),
            pivot=(float(trace["pivot_x"]), float(trace["pivot_y"])),
            cutoff=int(trace["cutoff"]),
            coefficients=coefficients,
            low=(float(scale[0, 0]), float(scale[0, 1])),
            high=(float(scale[1, 0]), float(scale[1, 1])),
        )
    return SossReference(path, float(meta["pwcpos_cmd"]), (low, high), grid, orders)


def _tables(path: Path, kind: str) -> tuple[dict[int, Any], str]:
    """Return the ORDER units of a file in the older layout, by spectral order, and its subarray."""
    with opened_fits(path, f"{kind} reference") as hdus:
        subarray = str(hdus[0].header.get("SUBARRAY", "")).strip()
        found = {
            int(hdu.header["ORDER"]): (hdu.header.copy(), np.array(hdu.data)) for hdu in hdus if "ORDER" in hdu.header
        }
    if not found:
        raise ReferenceFileError(f"is not a {kind} reference: has no unit with a keyword ORDER", path)
    return found, subarray


def read_spectrace(path: str | Path) -> dict[int, TraceTable]:
    """
    Return the traces of a spectrace reference.

    Parameters
    ----------
    path : path-like
        FITS file with a table ORDER for every order: WAVELENGTH, X, Y.

    Returns
    -------
    traces : dict of int to TraceTable
        By spectral order.

    Raises
    ------
    ReferenceFileError
        If it is no such file.
    """
    path = Path(path)
    traces = {}
    tables, subarray = _tables(path, "spectrace")
    for order, (_, table) in tables.items():
        if table.dtype.names is None or not {"WAVELENGTH", "X", "Y"} <= set(table.dtype.names):
            raise ReferenceFileError("is not a spectrace reference: lacks a column WAVELENGTH, X or Y", path)
        with guarded(path, f"has a column of order {order} that holds no numbers"):
            wavelength, x, y = (np.asarray(table[name], np.float64) for name in ("WAVELENGTH", "X", "Y"))
        if wavelength.ndim != 1 or wavelength.size == 0:
            raise ReferenceFileError(f"has no points of order {order}", path)
        traces[order] = TraceTable(wavelength, x, y, subarray)
    return traces


def read_wavemap(path: str | Path) -> dict[int, Floats]:
    """
    Return the wavelengths of a wavemap reference.

    Parameters
    ----------
    path : path-like
        FITS file with an image ORDER for every order.

    Returns
    -------
    maps : dict of int to ndarray, shape (ny, nx)
        Wavelength [micron] of the native pixels, border and oversampling removed; NaN where there is none.

    Raises
    ------
    ReferenceFileError
        If it is no such file.
    """
    path = Path(path)
    maps = {}
    for order, (header, image) in _tables(path, "wavemap")[0].items():
        if image.ndim != 2:
            raise ReferenceFileError("is not a wavemap reference: holds no images", path)
        with guarded(path, "is not a wavemap reference"):
            inner = _native(image, int(header.get("OVERSAMP", 1)), int(header.get("PADDING", 0)))
        if inner.size == 0:
            raise ReferenceFileError(f"has no pixels of order {order} inside its border", path)
        maps[order] = np.where(inner > 0.0, inner, np.nan)
    return maps


def _native(image: NDArray[Any], times: int, border: int) -> Floats:
    """Return the mean of every ``times`` by ``times`` pixels, without a border of native pixels."""
    native = image.astype(np.float64)
    ny, nx = native.shape[0] // times, native.shape[1] // times
    native = native[: ny * times, : nx * times].reshape(ny, times, nx, times).mean(axis=(1, 3))
    return np.asarray(native[border : ny - border, border : nx - border])


def read_photom(path: str | Path, filter_name: str | None, pupil: str | None) -> dict[int, PhotomRow]:
    """
    Return the flux calibration for a filter and pupil.

    Parameters
    ----------
    path : path-like
        FITS file with a table PHOTOM: filter, pupil, order, photmj, nelem, wavelength, relresponse.
    filter_name, pupil : str or None
        FILTER and PUPIL of the exposure.

    Returns
    -------
    rows : dict of int to PhotomRow
        By spectral order; the first row of each. Empty if there is none for the filter and pupil.

    Raises
    ------
    ReferenceFileError
        If it is no such file.

    Warns
    -----
    Tso3Warning
        If it has a correction for time, which is not applied.
    """
    path = Path(path)
    with opened_fits(path, "photom reference") as hdus:
        table = np.array(hdus["PHOTOM"].data)
        changing = any(hdu.name.startswith("TIMECOEFF") for hdu in hdus)
    if changing:
        warnings.warn(
            f"{path}: holds how the throughput changes with time (TIMECOEFF), which is not applied",
            Tso3Warning,
            stacklevel=2,
        )
    names = {name.lower(): name for name in table.dtype.names or ()}
    lacking = [n for n in ("filter", "pupil", "order", "photmj", "wavelength", "relresponse") if n not in names]
    if lacking:
        raise ReferenceFileError(f"is not a photom reference of SOSS: lacks the column {lacking[0]}", path)
    if table.size == 0:
        raise ReferenceFileError("has an empty table PHOTOM", path)
    wanted = {"filter": (filter_name or "").strip().upper(), "pupil": (pupil or "").strip().upper()}
    rows: dict[int, PhotomRow] = {}
    with guarded(path, "is not a photom reference of SOSS"):
        for row in table:
            order = int(row[names["order"]])
            if order not in rows and all(_text(row[names[key]]) == value for key, value in wanted.items()):
                rows[order] = _photom_row(row, names, path)
    return rows


def _text(value: Any) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip().upper()


def _photom_row(row: Any, names: Mapping[str, str], path: Path) -> PhotomRow:
    """Return one row, wavelengths increasing and in micron (some files have metres)."""
    full = np.size(row[names["wavelength"]])
    n = int(row[names["nelem"]]) if "nelem" in names else full
    if not 0 < n <= full:
        raise ReferenceFileError(
            f"has nelem {n} of {full} for order {row[names['order']]}; needed is 1 to {full}", path
        )
    wavelength = np.asarray(row[names["wavelength"]], np.float64)[:n]
    response = np.asarray(row[names["relresponse"]], np.float64)[:n]
    order = np.argsort(wavelength, kind="stable")
    wavelength, response = wavelength[order], response[order]
    if 0.0 < wavelength.max() < 1e-4:
        wavelength = wavelength * 1e6
    return PhotomRow(float(row[names["photmj"]]), wavelength, response)
