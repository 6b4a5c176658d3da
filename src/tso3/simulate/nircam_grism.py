"""
What the simulator knows of NIRCam's grism time series; see `tso3.simulate.configurations` for what it is worth.

The star is at row 34 of the cutout, as ``extract_2d`` leaves it, and its spectrum runs along x: wavelength 3.95 micron
at the column of the field point, 0.98 nm per pixel in first order. In second order a wavelength lies where the first
order has twice that wavelength, so at the nominal field points no second order is on the detector; ``F322W2-ORDER2`` is
a visit whose star was put 700 columns to the left, which brings 2.42 to 2.55 micron of it into view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import (
    DETECTOR1,
    REFERENCES,
    Archive,
    DetectorRecord,
    Instrument,
    OrderRecord,
    Subarray,
    table,
)

__all__ = ["NIRCAM_GRISM"]

_UNDEVIATED, _DISPERSION = 3.95, 9.8e-4


@dataclass(frozen=True)
class _Filter:
    """
    What tells one filter from another.

    Attributes
    ----------
    band : tuple of float
        Wavelengths that it lets through [micron].
    field_point : float
        Column of the star without grism.
    background : float
        Sky behind the grism [electron / s / pixel].
    order : int
        Spectral order.
    """

    band: tuple[float, float]
    field_point: float
    background: float
    order: int = 1


_FILTERS = {
    "F322W2": _Filter((2.42, 4.03), 1581.0, 1.2),
    "F444W": _Filter((3.88, 4.98), 952.0, 0.9),
    "F277W": _Filter((2.42, 3.13), 1581.0, 0.5),
    "F356W": _Filter((3.14, 3.98), 1581.0, 0.4),
    "F322W2-ORDER2": _Filter((2.42, 4.03), 881.0, 1.2, 2),
}
"""Configurations, the default first."""


def _through(band: tuple[float, float], order: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the efficiency of grism and filter: 0.25 inside the band (second order 0.03), with soft edges."""
    peak = 0.25 if order == 1 else 0.03

    def efficiency(wavelength: np.ndarray) -> np.ndarray:
        rise = 1.0 / (1.0 + np.exp(-(wavelength - band[0] - 0.01) / 0.004))
        fall = 1.0 / (1.0 + np.exp((wavelength - band[1] + 0.01) / 0.004))
        return peak * rise * fall

    return efficiency


def _record(name: str, setting: _Filter) -> Instrument:
    """Return the record of a configuration."""
    optics = name.split("-", maxsplit=1)[0]
    dispersion = tuple(c / setting.order for c in (_UNDEVIATED - _DISPERSION * setting.field_point, _DISPERSION))
    detector = DetectorRecord(
        name="NRCALONG",
        gain=1.82,
        read_noise=13.5,
        bounds=(3.5, 2043.5, 3.5, 255.5),
        sca_num=485,
        readout=(-1, 2),
        dispersion=dispersion,
        wavelength_limits=setting.band,
        trace=(34.1, 0.25, -0.12),
        orders=(OrderRecord(setting.order),),
    )
    return Instrument(
        exp_type="NRC_TSGRISM",
        configuration=name,
        name="NIRCAM",
        model="SlitModel",
        detectors=(detector,),
        subarrays=table(
            Subarray("SUBGRISM64", 2048, 64, 1, 1, 0.34061),
            Subarray("SUBGRISM128", 2048, 128, 1, 1, 0.67597),
            Subarray("SUBGRISM256", 2048, 256, 1, 1, 1.34669),
        ),
        dispersion_axis=1,
        optics=MappingProxyType({"filter": optics, "pupil": "GRISMR", "channel": "LONG", "module": "A"}),
        pixel_scale=0.063,
        ngroups=12,
        efficiency=_through(setting.band, setting.order),
        band=setting.band,
        source_flux=0.25,
        reference_wavelength=3.5,
        temperature=5400.0,
        resolution=1600.0,
        background=setting.background,
        jitter=0.003,
        drift=0.009,
        thickness=0.3,
        flux_per_pixel="MJy/sr",
        archive=Archive(
            program="01366",
            observation="001",
            visit="001",
            group="04",
            sequence="1",
            activity="01",
            product=f"nircam_{optics.lower()}-grismr-{{subarray}}",
            aperture=f"NRCA5_{{subarray}}_{optics}".replace("SUB", ""),
            template="NIRCam Grism Time Series",
        ),
        readpatt="RAPID",
        cal_steps=(
            *DETECTOR1, "superbias", "refpix", "assign_wcs", "extract_2d", "srctype", "flat_field", "photom",
        ),
        reference_types=(*REFERENCES, "distortion", "filteroffset", "specwcs", "superbias", "wavelengthrange"),
        noutputs=4,
        v2v3=(50.8, -556.4),
        striping_axis=1,
        stripe_parts=4,
        reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
        reference_rows=(0, 1, 2, 3),
        blank_outside=True,
        field_point=(setting.field_point, 34.0),
    )  # fmt: skip


NIRCAM_GRISM = tuple(_record(name, setting) for name, setting in _FILTERS.items())
"""NRC_TSGRISM, the default first."""
