"""
Where the spectra of MIRI's MRS are on the detector: a circle on the sky, drawn on the slices.

The archive rebuilds a cube from the slices before it extracts; for time series it does neither. Here the sum is taken
on the detector itself: every pixel whose place on the sky is inside the circle about the source, row by row in each of
the two channels of the detector. No pixel is resampled, so noise stays independent and the sum is the same in every
integration; in turn a row gathers the wavelengths that its slices have there (`row_spread`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import BackgroundFit
from tso3.core.model import ExposureModel
from tso3.core.slices import light_centre, pixel_areas
from tso3.errors import InputError, ParameterError, Tso3Warning
from tso3.io.ifu_apertures import CircularApertures, read_ifu_extract1d
from tso3.io.memory import Arrays
from tso3.io.wcs import world_of_grid
from tso3.parameters import Extract1D
from tso3.steps.extraction_setup import ExtractionSetup

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["mrs_setups", "row_spread"]

_PLANES = ("ra", "dec", "wavelength", "alpha", "beta")
_ARCSEC = 3600.0
_STERADIAN = (np.pi / 180.0 / _ARCSEC) ** 2
"""One square arc second [sr]."""


@dataclass(frozen=True)
class _Sky:
    """
    What every pixel sees.

    Attributes
    ----------
    x, y : ndarray, shape (ny, nx)
        Place in the tangent plane about ``origin`` [arcsec]: to the east, to the north.
    wavelength, area : ndarray, shape (ny, nx)
        Micron; square arc seconds.
    origin : (float, float)
        Right ascension and declination [deg].
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    area: NDArray[np.float64]
    origin: tuple[float, float]

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Return right ascension and declination of a place [deg]."""
        ra, dec = self.origin
        return (ra + x / _ARCSEC / np.cos(np.radians(dec))) % 360.0, dec + y / _ARCSEC


def mrs_setups(
    exposure: Exposure, references: References, parameters: Extract1D, model: ExposureModel | None
) -> tuple[ExtractionSetup, ...]:
    """
    Return where the spectra of an MRS exposure are extracted: one for each of the detector's two channels.

    Parameters
    ----------
    exposure : Exposure
        Of one detector.
    references : References
        Names the extract1d reference; without one the built-in radii hold.
    parameters : Extract1D
        The step's parameters; of those that place it, ``subtract_background`` and ``bkg_fit`` are used.
    model : ExposureModel or None
        Its reference image shows where the source is; without it the source is taken to be where TARG_RA, TARG_DEC say.

    Returns
    -------
    setups : tuple of ExtractionSetup
        By channel, those of one detector in the order of its columns. Their names are channel and band: ``1SHORT``.

    Raises
    ------
    InputError
        If the exposure has no WCS with slices, or no light.
    ParameterError
        If a width is asked for.
    ReferenceFileError
        If the reference cannot be used.
    """
    if parameters.extract_width is not None:
        raise ParameterError(
            f"{parameters.extract_width} has no meaning for {exposure.mode.exp_type}, whose aperture is a circle on the"
            " sky that grows with wavelength; its radii are those of the extract1d reference",
            "extract_1d.extract_width",
        )
    path = references.path("extract1d")
    apertures = CircularApertures.built_in() if path is None else read_ifu_extract1d(path)
    halves = _channels(exposure)
    names = _names(exposure, halves)
    return tuple(
        _setup(exposure, half, name, apertures, parameters, _centre(exposure, half, name, apertures, model))
        for half, name in zip(halves, names, strict=True)
    )


def row_spread(setup: ExtractionSetup, wavelength: NDArray[np.floating]) -> float:
    """
    Return by how much the wavelengths that one sample gathers differ, as a mean over the samples.

    Parameters
    ----------
    setup : ExtractionSetup
        Of a channel.
    wavelength : ndarray, shape (ny, nx)
        Of every pixel [micron].

    Returns
    -------
    spread : float
        Root mean square about the mean of the row [micron].
    """
    inside = setup.aperture.T > 0.0
    used = inside.any(axis=1)
    values = np.where(inside, wavelength, np.nan)[used]
    return float(np.sqrt(np.mean(np.nanvar(values, axis=1))))


def _channels(exposure: Exposure) -> list[_Sky]:
    """Return what the pixels of each channel see, from the WCS; one is on the left half of the detector, one right."""
    file = exposure.segments[0].path
    answer = exposure.geometry.ask(_slices, exposure.ny, exposure.nx)
    if answer is None or "no_slices" in answer:
        raise InputError("has no WCS with the slices of an IFU (frame alpha_beta); spectra cannot be extracted", file)
    planes = tuple(answer[name] for name in _PLANES)
    ra = planes[0]
    if not np.isfinite(ra).any():
        raise InputError("no pixel lies in a slice of the WCS", file)
    right = np.broadcast_to(np.arange(exposure.nx) >= exposure.nx // 2, ra.shape)
    halves = (inside & np.isfinite(ra) for inside in (~right, right))
    try:
        return [_sky(*(np.where(inside, plane, np.nan) for plane in planes)) for inside in halves if inside.any()]
    except ValueError as error:
        raise InputError(f"its WCS shows {error}", file) from error


def _slices(wcs: Any, ny: int, nx: int) -> Arrays:
    """Return the planes of what every pixel sees; ``no_slices`` if the WCS has none."""
    if "alpha_beta" not in wcs.available_frames:
        return {"no_slices": np.array(True)}
    planes = (*world_of_grid(wcs, ny, nx), *world_of_grid(wcs, ny, nx, "alpha_beta")[:2])
    return dict(zip(_PLANES, planes, strict=True))


def _sky(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    wavelength: NDArray[np.float64],
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
) -> _Sky:
    """Return what the pixels of one channel see."""
    first = np.flatnonzero(np.isfinite(ra))[0]
    turn = np.mod(ra - ra.flat[first] + 180.0, 360.0) - 180.0  # continuous where right ascension passes 0
    origin = float(ra.flat[first] + np.nanmedian(turn)), float(np.nanmedian(dec))
    x = (np.mod(ra - origin[0] + 180.0, 360.0) - 180.0) * np.cos(np.radians(origin[1])) * _ARCSEC
    return _Sky(x, (dec - origin[1]) * _ARCSEC, wavelength, pixel_areas(alpha, beta), origin)


def _names(exposure: Exposure, halves: list[_Sky]) -> list[str]:
    """Return channel and band of each half: channels rise with wavelength."""
    channels = str(exposure.header("CHANNEL", "")).strip()
    band = str(exposure.header("BAND", "")).strip()
    if len(channels) < len(halves):
        raise InputError(
            f"CHANNEL = {channels!r}, but {len(halves)} channels are on the detector; correct the header",
            exposure.segments[0].path,
        )
    order = np.argsort(np.argsort([float(np.nanmean(half.wavelength)) for half in halves]))
    return [f"{sorted(channels)[k]}{band}" for k in order]


def _radii(apertures: CircularApertures, radii: NDArray[np.float64], sky: _Sky) -> NDArray[np.float64]:
    return np.asarray(np.interp(sky.wavelength, apertures.wavelength, radii))


def _centre(
    exposure: Exposure, sky: _Sky, name: str, apertures: CircularApertures, model: ExposureModel | None
) -> tuple[float, float]:
    """Return where the source is in the tangent plane [arcsec]."""
    file = exposure.segments[0].path
    if model is not None:
        try:
            return light_centre(model.reference, sky.x, sky.y, _radii(apertures, apertures.radius, sky))
        except ValueError as error:
            raise InputError(f"channel {name}: {error}, so there is no source to extract", file) from error
    target = exposure.header("TARG_RA"), exposure.header("TARG_DEC")
    if not all(isinstance(value, int | float) for value in target):
        raise InputError("has no TARG_RA and TARG_DEC, and no survey was made to find the source in", file)
    warnings.warn(
        f"{file}: no survey was made, so the source of channel {name} is taken to be at TARG_RA, TARG_DEC",
        Tso3Warning,
        stacklevel=5,
    )
    ra, dec = (float(value) for value in target)  # type: ignore[arg-type]
    east = np.mod(ra - sky.origin[0] + 180.0, 360.0) - 180.0
    return float(east * np.cos(np.radians(sky.origin[1])) * _ARCSEC), (dec - sky.origin[1]) * _ARCSEC


def _setup(
    exposure: Exposure,
    sky: _Sky,
    name: str,
    apertures: CircularApertures,
    parameters: Extract1D,
    centre: tuple[float, float],
) -> ExtractionSetup:
    """Return where the spectrum of one channel is extracted, turned to dispersion along the last axis."""
    distance = np.hypot(sky.x - centre[0], sky.y - centre[1])
    inside = (distance <= _radii(apertures, apertures.radius, sky)) & np.isfinite(sky.area)
    rows = np.flatnonzero(inside.any(axis=1))
    if rows.size == 0:
        raise InputError(f"channel {name}: no pixel within the aperture", exposure.segments[0].path)
    weights = inside.astype(np.float64)
    count = np.where(inside.any(axis=1), weights.sum(axis=1), 1.0)

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.where(inside, plane, 0.0).sum(axis=1) / count
        return np.where(inside.any(axis=1), total, np.nan)

    region, fit = _background(distance, sky, apertures, parameters)
    calibrated = str(exposure.header("S_PHOTOM", "")).upper() == "COMPLETE"
    return ExtractionSetup(
        aperture=np.ascontiguousarray(weights.T),
        region=None if region is None else np.ascontiguousarray(region.T),
        fit=fit,
        wavelength=mean(sky.wavelength),
        lower=None,
        upper=None,
        first=int(rows[0]),
        last=int(rows[-1]),
        sky=sky.position(*centre),
        order=1,
        name=name,
        calibration=mean(sky.area) * _STERADIAN if calibrated else None,
    )


def _background(
    distance: NDArray[np.float64], sky: _Sky, apertures: CircularApertures, parameters: Extract1D
) -> tuple[NDArray[np.bool_] | None, BackgroundFit]:
    """Return the pixels of the annulus, and how the background is taken from them: their mean, or their median."""
    if apertures.inner is None or apertures.outer is None or parameters.subtract_background is False:
        return None, BackgroundFit()
    inner, outer = (_radii(apertures, radii, sky) for radii in (apertures.inner, apertures.outer))
    region = (distance > inner) & (distance <= outer)
    fit = BackgroundFit("median" if parameters.bkg_fit == "median" else "poly", 0)
    return region, fit
