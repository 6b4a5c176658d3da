"""The motion of a star along dispersion in the spectra of a product, for the light curves in channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tso3.core.sensitivity import calibration_along
from tso3.core.spectral_motion import (
    Motion,
    MotionGauge,
    SpectralShifts,
    change_of_channels,
    gauge,
    measure,
    settled,
)
from tso3.core.weighted import GroupWeights
from tso3.io.spectra_rows import SpectrumRows

__all__ = ["Moved", "found_motion", "motion_gauge"]

_OF_MEDIAN = 1.2533
"""Error of a median over that of a mean."""


def motion_gauge(spectrum: SpectrumRows, path: Path, n_sample: int) -> MotionGauge | None:
    """
    Return what tells the motion of a star along dispersion in spectra that are there already.

    Parameters
    ----------
    spectrum : SpectrumRows
        Of one exposure and order.
    path : Path
        Where they are.
    n_sample : int
        Integrations to be looked at, at most.

    Returns
    -------
    gauge : MotionGauge or None
        None where too few wavelengths have light.
    """
    sample = spectrum.sample(path, n_sample)
    n = len(sample.flux)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a wavelength without any valid sample: NaN is right
        light, poisson = np.nanmedian(sample.flux, axis=0), np.nanmedian(sample.flux_var_poisson, axis=0)
        variance = np.nanmedian(sample.flux_var_poisson + sample.flux_var_rnoise, axis=0)
        total = light + np.nanmedian(sample.background, axis=0)
        poisson = poisson * (1.0 - np.nanmedian(sample.missing_fraction, axis=0))  # completion made it grow
    calibration = calibration_along(total, poisson, np.sqrt(variance / max(n, 1)) * _OF_MEDIAN)
    return gauge(light, variance, calibration, n)


@dataclass(frozen=True)
class Moved:
    """
    The motion of an exposure along dispersion, and what it does to channels.

    Attributes
    ----------
    motion : Motion
        Of every integration.
    brightness : ndarray of float64, shape (n_int,)
        Of the spectra, in units of the steady one.
    response : ndarray of float64, shape (n_wave,)
        Change of the steady spectrum for a motion of one pixel.
    added : ndarray of float64, shape (n_channel,)
        Variance of the brightness of channels for an error of one pixel.
    """

    motion: Motion
    brightness: NDArray[np.float64]
    response: NDArray[np.float64]
    added: NDArray[np.float64]

    def undone(self, flux: NDArray[np.float64], here: slice) -> NDArray[np.float64]:
        """Return spectra (n_int, n_wave) of some integrations as they were without the motion."""
        size = self.motion.shift[here] * self.brightness[here]
        return np.asarray(flux - size[:, np.newaxis] * self.response)

    def variance(self, here: slice) -> NDArray[np.float64]:
        """Return what the error of the motion adds to the variance of the brightness, shape (n_int, n_channel)."""
        return np.asarray(self.motion.error[here, np.newaxis] ** 2 * self.added)


def found_motion(known: MotionGauge, spectra: Iterable[NDArray[np.float64]], weights: GroupWeights) -> Moved | None:
    """
    Return the motion of an exposure.

    Parameters
    ----------
    known : MotionGauge
        What tells it.
    spectra : iterable of ndarray, shape (n, n_wave)
        Of all integrations, in the order of time, in pieces.
    weights : GroupWeights
        Of the brightness of channels.

    Returns
    -------
    moved : Moved or None
        None where no motion can be told.
    """
    if not known.is_usable:
        return None
    parts = [measure(known, flux) for flux in spectra]
    whole = SpectralShifts(*(np.concatenate([getattr(each, name) for each in parts]) for name in vars(parts[0])))
    motion = settled(whole)
    if motion.half_width < 0:
        return None
    added = change_of_channels(known, weights.factor, weights.group, weights.whole)
    return Moved(motion, np.nan_to_num(whole.brightness, nan=1.0), known.response, added)
