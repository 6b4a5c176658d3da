"""What is told of light curves before and after spectra are read: what their range misses, and what has no flux."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from tso3.errors import InputError, ParameterError, Tso3Warning
from tso3.steps.white_light import WhiteLightCurve

__all__ = ["check", "warn_if_empty"]


def check(curves: Sequence[WhiteLightCurve]) -> None:
    """
    Warn of curves that their range misses, before the spectra are read.

    Parameters
    ----------
    curves : sequence of WhiteLightCurve
        All of a run.

    Raises
    ------
    ParameterError
        If the ranges miss every spectrum.
    InputError
        If spectra of one light curve have different units in different exposures.
    """
    left_out = [curve for curve in curves if curve.span is None]
    if curves and len(left_out) == len(curves):
        first = left_out[0]
        others = f", nor any of other spectra ({len(left_out) - 1}) in their ranges" if len(left_out) > 1 else ""
        raise ParameterError(f"no wavelength of {_described(first)} {_missed(first)}{others}", "white_light")
    for curve in left_out:
        warnings.warn(
            f"no wavelength of {_described(curve)} {_missed(curve)}; it is left out of the white light, and its columns"
            " are NaN",
            Tso3Warning,
            stacklevel=3,
        )
    units: dict[tuple[str, str, int], WhiteLightCurve] = {}
    for curve in curves:
        header = curve.header
        other = units.setdefault((curve.exposure.detector, header.slit_name, header.spectral_order), curve)
        if other.flux_unit != curve.flux_unit:
            raise InputError(
                f"spectra are in {curve.flux_unit}, those of {other.exposure.label} in {other.flux_unit}; reduce the"
                " exposures one by one, or calibrate both",
                curve.exposure.paths[0],
            )


def warn_if_empty(curves: Sequence[WhiteLightCurve]) -> None:
    """
    Warn of light curves without any finite value, but for those that their range misses.

    Parameters
    ----------
    curves : sequence of WhiteLightCurve
        All of a run, complete.
    """
    for curve in curves:
        if curve.span is not None and not np.isfinite(curve.flux).any():
            warnings.warn(
                f"no valid flux in any of the {curve.exposure.n_int} integrations of {_described(curve)}, so its light"
                f" curve is NaN; check the DQ flags in {curve.exposure.paths[0]}, the mask of bad pixels, and where the"
                " aperture lies",
                Tso3Warning,
                stacklevel=3,
            )


def _missed(curve: WhiteLightCurve) -> str:
    """Return why a curve is left out, and what to change."""
    if curve.wavelengths is None:
        return "is known (check the WCS of the inputs)"
    return f"lies {curve.band} (change {curve.band.source})"


def _described(curve: WhiteLightCurve) -> str:
    """Return exposure, order or channel, and wavelengths of a curve, for messages."""
    header, ends = curve.header, curve.wavelengths
    part = f"order {header.spectral_order}"
    if curve.exposure.mode.exp_type == "MIR_MRS":
        part = f"channel {header.slit_name}"
    known = "wavelengths unknown" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g} micron"
    return f"{curve.exposure.label}, {part} ({known})"
