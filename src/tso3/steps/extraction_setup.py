"""
From an aperture of an extract1d reference to pixel weights: which aperture, where, and where the background is.

Everything is turned so that dispersion runs along the last axis, whatever the detector's orientation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import BackgroundFit
from tso3.core.trace import (
    Limits,
    aperture_centre,
    aperture_weights,
    polynomial_limits,
    slit_position,
    slit_trace,
    width_limits,
)
from tso3.errors import InputError, ParameterError, ReferenceFileError, Tso3Warning
from tso3.io.memory import Arrays
from tso3.io.reference_files import Aperture1D
from tso3.parameters import Extract1D

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure

__all__ = ["ExtractionSetup", "choose_aperture", "given_width", "set_up", "spectral_order", "target_name"]

_FOLLOWS_SOURCE = ("NRS_BRIGHTOBJ",)
"""Modes whose apertures follow the source unless something says otherwise."""

_MICRON = 1e-6


@dataclass(frozen=True)
class ExtractionSetup:
    """
    Where a spectrum is extracted, dispersion along the last axis.

    Attributes
    ----------
    aperture : ndarray of float64, shape (n_rows, n_wave)
        Weight of every pixel; 0 where the pixel has no wavelength.
    region : ndarray of bool or None, shape (n_rows, n_wave)
        True where the background is fitted; None without background.
    fit : BackgroundFit
        How.
    wavelength : ndarray of float64, shape (n_wave,)
        Mean wavelength of the aperture in each column [micron]; NaN where there is none.
    lower, upper : float or None
        Mean inclusive limits of the aperture across dispersion [pixel], 0-based; None where not finite.
    first, last : int
        First and last column of the aperture.
    sky : (float, float) or None
        Right ascension and declination of the middle of the aperture [deg].
    order : int
        Spectral order.
    name : str
        Name of the spectrum, as of `target_name`.
    calibration : ndarray of float64, shape (n_wave,), or None
        Factor from the sum in the unit of the stack to ``flux_unit``; None where the stack is calibrated already.
    flux_unit : str or None
        Unit of the flux; None for what the stack's own calibration gives.
    span : (int, int) or None
        Columns (half-open) of which there are samples, even where the aperture is empty; None for those it covers.
    """

    aperture: NDArray[np.float64]
    region: NDArray[np.bool_] | None
    fit: BackgroundFit
    wavelength: NDArray[np.float64]
    lower: float | None
    upper: float | None
    first: int
    last: int
    sky: tuple[float, float] | None
    order: int
    name: str
    calibration: NDArray[np.float64] | None = None
    flux_unit: str | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Frame:
    """An image turned so that dispersion runs along the last axis."""

    shape: tuple[int, int]
    wavelength: NDArray[np.floating]
    turned: bool

    def along(self, aperture: Aperture1D) -> tuple[float, float]:
        """Return the limits along dispersion."""
        limits = (aperture.ystart, aperture.ystop) if self.turned else (aperture.xstart, aperture.xstop)
        return _default(limits[0], 0.0), _default(limits[1], self.shape[1] - 1.0)

    def across(self, aperture: Aperture1D) -> tuple[float, float]:
        """Return the limits across dispersion."""
        limits = (aperture.xstart, aperture.xstop) if self.turned else (aperture.ystart, aperture.ystop)
        return _default(limits[0], 0.0), _default(limits[1], self.shape[0] - 1.0)


def _default(value: float | None, default: float) -> float:
    return default if value is None else value


def target_name(exposure: Exposure) -> str:
    """Return the name of a spectrum: the slit's for NRS_BRIGHTOBJ and stripes, else the EXP_TYPE, as the archive."""
    name = exposure.slit_name if exposure.mode.exp_type == "NRS_BRIGHTOBJ" else exposure.stripe or None
    return exposure.mode.exp_type if name is None else name


def spectral_order(exposure: Exposure) -> int:
    """Return the spectral order of an exposure that has one (SPORDER); 1 where the header has none."""
    value = exposure.header("SPORDER")
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 1


def choose_aperture(apertures: Sequence[Aperture1D], name: str, order: int, path: str | Path | None) -> Aperture1D:
    """
    Return the first aperture that is for a slit and spectral order.

    Parameters
    ----------
    apertures : sequence of Aperture1D
        Entries of the reference, in its order.
    name : str
        Name of the slit, as of `target_name`.
    order : int
        Spectral order.
    path : path-like or None
        The reference, for messages.

    Returns
    -------
    aperture : Aperture1D

    Raises
    ------
    ReferenceFileError
        If there is none. (``jwst`` ends with a traceback, or without products if only the order does not fit.)
    """
    named = [a for a in apertures if a.id in (name, "ANY") and a.region_type == "target"]
    if not named:
        found = ", ".join(dict.fromkeys(a.id for a in apertures))
        raise ReferenceFileError(f"has no target aperture for {name} (it has {found}); add one, or give its id", path)
    for aperture in named:
        if aperture.spectral_order in (None, order):
            return aperture
    raise ReferenceFileError(f"has an aperture for {name}, but not for spectral order {order}; add one", path)


def set_up(
    exposure: Exposure,
    aperture: Aperture1D | None,
    parameters: Extract1D,
    path: Path | None = None,
    trace: NDArray[np.float64] | None = None,
) -> ExtractionSetup:
    """
    Return where the spectrum of an exposure is extracted.

    Parameters
    ----------
    exposure : Exposure
        Whose spectrum it is.
    aperture : Aperture1D or None
        What the reference says; None extracts the whole image without background, as the archive without reference.
    parameters : Extract1D
        What the user says, which takes precedence.
    path : Path, optional
        The reference, for messages.
    trace : ndarray, shape (n_wave,), optional
        Row of the source in every column, where it is known from elsewhere than the WCS [pixel].

    Returns
    -------
    setup : ExtractionSetup

    Raises
    ------
    InputError
        If the exposure has no wavelengths, or none in the aperture.
    ParameterError
        If a width is asked for, and there is no aperture that has a middle.
    ReferenceFileError
        If the background regions lie outside the image.

    Warns
    -----
    tso3.errors.Tso3Warning
        If the source position was asked for and cannot be had, or background without a region for it.
    """
    frame = _frame(exposure)
    width = given_width(parameters)
    if aperture is None and width is not None:
        raise ParameterError(
            f"{width:g} pixels about what? There is no extract1d reference, so all rows of {_file(exposure).name} are"
            " summed; give --override-extract1d FILE",
            "extract_1d.extract_width",
        )
    chosen = Aperture1D(use_source_posn=False) if aperture is None else aperture
    offset = 0.0
    if trace is None:
        offset, trace = _source_offset(exposure, frame, chosen, parameters)
    if aperture is not None and parameters.position_offset != 0.0:
        offset += parameters.position_offset
        trace = None if trace is None else trace + parameters.position_offset
    regions, limits = _target(frame, chosen, offset, trace, width)
    weights = aperture_weights(regions, frame.shape, *frame.along(chosen))
    weights[~np.isfinite(frame.wavelength)] = 0.0
    columns = np.flatnonzero(weights.sum(axis=0) > 0.0)
    if columns.size == 0:
        raise InputError("no pixel of the aperture has a wavelength; check the extract1d reference", _file(exposure))
    region, fit = _background(exposure, frame, chosen, parameters, _Centre(offset, trace, weights))
    if region is not None and not region.any():
        raise ReferenceFileError("has background regions outside the image; correct bkg_coeff", path)
    row, column = aperture_centre(weights)
    return ExtractionSetup(
        aperture=weights,
        region=region,
        fit=fit,
        wavelength=_mean_wavelength(frame.wavelength, weights),
        lower=limits[0],
        upper=limits[1],
        first=int(columns[0]),
        last=int(columns[-1]),
        sky=_sky(exposure, row, column, frame.turned),
        order=spectral_order(exposure),
        name=target_name(exposure),
    )


def _file(exposure: Exposure) -> Path:
    return exposure.segments[0].path


def _frame(exposure: Exposure) -> _Frame:
    wavelength = exposure.wavelength
    if wavelength is None:
        raise InputError("has neither a WAVELENGTH plane nor a WCS, so no wavelengths", _file(exposure))
    turned = exposure.dispersion_axis == 2
    shape = (exposure.nx, exposure.ny) if turned else (exposure.ny, exposure.nx)
    return _Frame(shape, wavelength.T if turned else wavelength, turned)


def _mean_wavelength(wavelength: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean wavelength of each column, NaN where there are no weights."""
    total = weights.sum(axis=0)
    weighted = np.where(weights > 0.0, wavelength * weights, 0.0).sum(axis=0)
    return np.where(total > 0.0, weighted / np.where(total > 0.0, total, 1.0), np.nan)


def _sky(exposure: Exposure, row: float, column: float, turned: bool) -> tuple[float, float] | None:
    return exposure.geometry.sky(row, column) if turned else exposure.geometry.sky(column, row)


def given_width(parameters: Extract1D) -> float | None:
    """
    Return the width of the aperture that the user gives, None if the reference's holds.

    Parameters
    ----------
    parameters : Extract1D
        Of the step.

    Returns
    -------
    width : float or None
        Pixel.

    Raises
    ------
    ValueError
        If it is still ``auto``: a scan has to be made before.
    """
    if isinstance(parameters.extract_width, str):
        raise ValueError("extract_width = auto has to be settled by a scan before anything is set up")
    return parameters.extract_width


def _target(
    frame: _Frame,
    aperture: Aperture1D,
    offset: float,
    trace: NDArray[np.float64] | None,
    width: float | None = None,
) -> tuple[tuple[Limits, ...], tuple[float | None, float | None]]:
    """Return the parts of the aperture, by the archive's precedence, and its mean limits; ``width`` is the user's."""
    if width is not None and aperture.src_coeff is not None:
        edges = polynomial_limits(aperture.src_coeff, _variable(frame, aperture), offset)
        low, high = np.min([e.lower for e in edges], axis=0), np.max([e.upper for e in edges], axis=0)
        aperture, trace = replace(aperture, src_coeff=None), (low + high) / 2.0
    if width is not None:
        aperture = replace(aperture, extract_width=width)
    if aperture.src_coeff is not None:
        regions = polynomial_limits(aperture.src_coeff, _variable(frame, aperture), offset)
        low = min(float(np.mean(region.lower)) for region in regions)
        high = max(float(np.mean(region.upper)) for region in regions)
        return regions, (_finite(low), _finite(high))
    if aperture.extract_width is not None and trace is not None:
        region = width_limits(trace, aperture.extract_width)
        return (region,), (_finite(float(np.nanmean(region.lower))), _finite(float(np.nanmean(region.upper))))
    low, high = (limit + offset for limit in frame.across(aperture))
    if aperture.extract_width is not None:
        region = width_limits((low + high) / 2.0, aperture.extract_width)
    else:
        region = Limits(np.asarray(low), np.asarray(high))
    return (region,), (float(region.lower), float(region.upper))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _variable(frame: _Frame, aperture: Aperture1D) -> NDArray[np.floating]:
    """Return what the polynomials of the edges are in."""
    return frame.wavelength if aperture.independent_var == "wavelength" else np.arange(float(frame.shape[1]))


def _source_offset(
    exposure: Exposure, frame: _Frame, aperture: Aperture1D, parameters: Extract1D
) -> tuple[float, NDArray[np.float64] | None]:
    """Return by how much the source lies off the aperture as the reference has it, and its trace."""
    asked = parameters.use_source_posn
    wanted = asked
    if wanted is None and exposure.header("SRCTYPE") != "POINT":
        wanted = False
    if wanted is None:
        wanted = aperture.use_source_posn
    if wanted is None:
        wanted = exposure.mode.exp_type in _FOLLOWS_SOURCE
    if not wanted:
        return 0.0, None
    source = _slit_source(exposure, frame, parameters.trace_origin == "box")
    if isinstance(source, str):
        warnings.warn(f"{_file(exposure)}: {source}; the aperture stays where it is", Tso3Warning, stacklevel=4)
        return 0.0, None
    column, row, trace = source
    regions, _ = _target(frame, aperture, 0.0, None)
    nominal = aperture_weights(regions, frame.shape, *frame.along(aperture))
    return row - aperture_centre(nominal, column)[0], trace


def _slit_source(
    exposure: Exposure, frame: _Frame, from_box: bool
) -> tuple[int, float, NDArray[np.float64] | None] | str:
    """Return column and row of the source in mid-spectrum and its trace; or why there are none."""
    if exposure.mode.exp_type not in _FOLLOWS_SOURCE:
        return f"the position of the source is not known from the WCS for {exposure.mode.exp_type}"
    x, y = exposure.header("SRCXPOS"), exposure.header("SRCYPOS")
    if not isinstance(x, int | float) or not isinstance(y, int | float):
        return "has no position of the source in the slit (SRCXPOS, SRCYPOS)"
    source = (float(x), float(y))
    answer = exposure.geometry.ask(_through_slit, source, frame.shape, from_box)
    if answer is None or "no_slit" in answer:
        return "has no WCS with a slit frame"
    if "outside" in answer:
        return "the WCS puts the source outside the slit's image"
    trace = answer["trace"]
    return int(answer["column"]), float(answer["row"]), trace if np.isfinite(trace).any() else None


def _through_slit(wcs: Any, source: tuple[float, float], shape: tuple[int, int], from_box: bool) -> Arrays:
    """Return column, row and trace of a source; ``outside`` or ``no_slit`` if the WCS has none."""
    if not {"detector", "slit_frame"} <= set(wcs.available_frames):
        return {"no_slit": np.array(True)}
    box = _bounding_box(wcs, shape)
    to_detector = wcs.get_transform("slit_frame", "detector")
    scale = _MICRON if "gwa" in wcs.available_frames else 1.0
    position = slit_position(wcs, to_detector, box, source, scale)
    if position is None:
        return {"outside": np.array(True)}
    to_slit = wcs.get_transform("detector", "slit_frame")
    trace = slit_trace(to_slit, to_detector, box, source, shape[1], from_box)
    return {"column": np.array(position.column), "row": np.array(position.row), "trace": trace}


def _bounding_box(wcs: Any, shape: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    box = wcs.bounding_box
    if box is None:
        return (-0.5, shape[1] - 0.5), (-0.5, shape[0] - 0.5)
    (x0, x1), (y0, y1) = ((float(limit) for limit in tuple(box[axis])) for axis in (0, 1))
    return (x0, x1), (y0, y1)


@dataclass(frozen=True)
class _Centre:
    """Where the aperture ended up."""

    offset: float
    trace: NDArray[np.float64] | None
    weights: NDArray[np.float64]

    @property
    def rows(self) -> NDArray[np.float64]:
        """Middle of the aperture in each column."""
        if self.trace is not None:
            return self.trace
        total = self.weights.sum(axis=0)
        moment = (np.arange(float(len(self.weights)))[:, np.newaxis] * self.weights).sum(axis=0)
        return np.where(total > 0.0, moment / np.where(total > 0.0, total, 1.0), np.nan)


def _background(
    exposure: Exposure, frame: _Frame, aperture: Aperture1D, parameters: Extract1D, centre: _Centre
) -> tuple[NDArray[np.bool_] | None, BackgroundFit]:
    """Return where and how the background is fitted."""
    has_regions = aperture.bkg_coeff is not None or aperture.bkg_offsets is not None
    wanted = has_regions if parameters.subtract_background is None else parameters.subtract_background
    if wanted and not has_regions:
        warnings.warn(
            f"{_file(exposure)}: the extract1d reference has no background region (bkg_coeff); nothing is subtracted",
            Tso3Warning,
            stacklevel=4,
        )
    if not wanted or not has_regions:
        return None, BackgroundFit()
    fit = _fit(exposure, aperture, parameters)
    if aperture.bkg_coeff is not None:
        regions = polynomial_limits(aperture.bkg_coeff, _variable(frame, aperture), centre.offset)
    else:
        middle = centre.rows
        regions = tuple(Limits(middle + low, middle + high) for low, high in aperture.bkg_offsets or ())
    weights = aperture_weights(regions, frame.shape, *frame.along(aperture), partial=fit.kind != "median")
    return weights > 0.0, fit


def _fit(exposure: Exposure, aperture: Aperture1D, parameters: Extract1D) -> BackgroundFit:
    """Return the kind of fit: the user's, else the reference's, else a constant."""
    kind = parameters.bkg_fit if parameters.bkg_fit is not None else aperture.bkg_fit
    order = parameters.bkg_order if parameters.bkg_order is not None else aperture.bkg_order
    name: Literal["poly", "median"] = "median" if kind == "median" else "poly"
    degree = 0 if kind == "mean" or order is None else order
    length = parameters.smoothing_length if parameters.smoothing_length is not None else aperture.smoothing_length
    return BackgroundFit(name, degree, _smoothing(exposure, _default(length, 0.0)))


def _smoothing(exposure: Exposure, length: float) -> int:
    """Return a smoothing length that is odd and at least 3, or 0; with a warning if it is not what was asked for."""
    used = round(length)
    if 0 < used < 3:
        used = 0
    elif used % 2 == 0 and used > 0:
        used -= 1
    if used != length:
        warnings.warn(
            f"{_file(exposure)}: smoothing_length {length:g} cannot be used, it must be odd and at least 3; {used} is",
            Tso3Warning,
            stacklevel=5,
        )
    return used
