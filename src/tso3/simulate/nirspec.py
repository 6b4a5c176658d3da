"""What the simulator knows of NIRSpec; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import (
    DETECTOR1,
    REFERENCES,
    Archive,
    DetectorRecord,
    Instrument,
    OrderRecord,
    Slit,
    Subarray,
    table,
)

__all__ = ["NIRSPEC"]

_SUB2048 = Subarray("SUB2048", 2048, 32, 1, 1033, 0.90156)

_NRS1 = DetectorRecord(
    name="NRS1",
    gain=0.996,
    read_noise=7.2,
    bounds=(3.5, 2043.5, -0.5, 31.5),
    sca_num=491,
    readout=(2, 1),
    dispersion=(2.3572, 6.705e-4, -1.9e-9),
    trace=(16.1, 1.25, -0.62),
    tilt=-0.021,
    orders=(OrderRecord(-1),),
)
_NRS2 = DetectorRecord(
    name="NRS2",
    gain=1.137,
    read_noise=6.9,
    bounds=(3.5, 2043.5, -0.5, 31.5),
    sca_num=492,
    readout=(-2, -1),
    dispersion=(3.8186, 6.752e-4, -2.1e-9),
    trace=(15.2, -1.42, -0.48),
    tilt=-0.028,
    time_offset=0.064,
    orders=(OrderRecord(-1),),
)
"""The detectors as G395H uses them: its wavelength at a pixel, its trace; the order is -1 for all gratings."""


@dataclass(frozen=True)
class _Grating:
    """
    What tells one grating from another.

    Attributes
    ----------
    filter : str
        The filter that goes with it.
    limits : tuple of (float, float)
        Calibrated wavelengths [micron] of each detector that sees its light.
    scale : float
        Wavelength in parts of that of G395H at the same place on the detectors (high resolution).
    blaze : float
        Wavelength of its highest efficiency [micron].
    dispersion : tuple of float
        Medium resolution: wavelength [micron] at pixel 0 of NRS1 and per pixel; empty for high resolution.
    """

    filter: str
    limits: tuple[tuple[float, float], ...]
    scale: float
    blaze: float
    dispersion: tuple[float, ...] = ()


_GRATINGS = {
    "G395H": _Grating("F290LP", ((2.87, 3.72), (3.82, 5.18)), 1.0, 3.95),
    "G235H": _Grating("F170LP", ((1.66, 2.20), (2.26, 3.06)), 0.592, 2.34),
    "G140H": _Grating("F100LP", ((0.97, 1.31), (1.35, 1.83)), 0.353, 1.39),
    "G395M": _Grating("F290LP", ((2.87, 5.14),), 1.0, 3.95, (1.706, 1.79e-3)),
    "G235M": _Grating("F170LP", ((1.66, 3.07),), 1.0, 2.34, (0.985, 1.06e-3)),
    "G140M": _Grating("F100LP", ((0.97, 1.84),), 1.0, 1.39, (0.567, 6.35e-4)),
}
"""Gratings, the default first."""


def _blaze(peak: float, cut: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the efficiency of a grating behind a long-pass filter (a choice: sinc-like blaze, 0.40 at its peak)."""

    def efficiency(wavelength: np.ndarray) -> np.ndarray:
        blaze = np.sinc(0.42 * 3.95 * (wavelength / peak - 1.0)) ** 2
        return 0.40 * blaze / (1.0 + np.exp(-(wavelength - cut - 0.002) / 0.006))

    return efficiency


def _prism(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of the prism: flat, falling below 1 micron."""
    return 0.48 / (1.0 + np.exp(-(wavelength - 0.72) / 0.09))


_G395H = Instrument(
    exp_type="NRS_BRIGHTOBJ",
    configuration="G395H",
    name="NIRSPEC",
    model="SlitModel",
    detectors=(replace(_NRS1, wavelength_limits=(2.87, 3.72)), replace(_NRS2, wavelength_limits=(3.82, 5.18))),
    subarrays=table(_SUB2048),
    dispersion_axis=1,
    optics=MappingProxyType({
        "filter": "F290LP", "grating": "G395H", "fixed_slit": "S1600A1", "lamp_mode": "BRIGHTOBJ", "lamp_state": "NONE",
    }),
    slit=Slit("S1600A1", 16.0, 1.6, (0.012, -0.035)),
    pixel_scale=0.1,
    ngroups=18,
    efficiency=_blaze(3.95, 2.87),
    band=(2.87, 5.18),
    source_flux=0.36,
    reference_wavelength=4.0,
    temperature=5400.0,
    resolution=2700.0,
    background=0.08,
    jitter=0.002,
    drift=0.006,
    thickness=0.3,
    flux_per_pixel="MJy",
    archive=Archive(
        program="01366",
        observation="003",
        visit="001",
        group="04",
        sequence="1",
        activity="01",
        product="nirspec_f290lp-g395h-s1600a1-{subarray}",
        aperture="NRS_S1600A1_SLIT",
        template="NIRSpec Bright Object Time Series",
    ),
    readpatt="NRSRAPID",
    cal_steps=(
        *DETECTOR1, "superbias", "refpix", "clean_flicker_noise", "assign_wcs", "extract_2d", "srctype", "wavecorr",
        "flat_field", "photom",
    ),
    reference_types=(
        *REFERENCES, "camera", "collimator", "disperser", "fore", "fpa", "msa", "ote", "sflat", "fflat", "superbias",
        "wavecorr", "wavelengthrange",
    ),
    noutputs=1,
    v2v3=(321.6, -473.7),
    sharpest=2.0,
    reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
)  # fmt: skip


def _optics(filter_name: str, grating: str) -> Mapping[str, str]:
    """Return the optical elements of a configuration."""
    return MappingProxyType({**_G395H.optics, "filter": filter_name, "grating": grating})


def _named(filter_name: str, grating: str) -> Archive:
    """Return the archive's names for a configuration."""
    return replace(_G395H.archive, product=f"nirspec_{filter_name}-{grating}-s1600a1-{{subarray}}".lower())


def _with_grating(name: str, grating: _Grating) -> Instrument:
    """Return the record of a grating: high resolution on both detectors, medium on NRS1 alone."""
    detectors = []
    for detector, limits in zip((_NRS1, _NRS2), grating.limits, strict=False):
        dispersion = grating.dispersion or tuple(grating.scale * c for c in detector.dispersion)
        detectors.append(replace(detector, dispersion=dispersion, wavelength_limits=limits))
    return replace(
        _G395H,
        configuration=name,
        detectors=tuple(detectors),
        optics=_optics(grating.filter, name),
        efficiency=_blaze(grating.blaze, grating.limits[0][0]),
        band=(grating.limits[0][0], grating.limits[-1][1]),
        reference_wavelength=grating.blaze,
        resolution=1000.0 if grating.dispersion else 2700.0,
        ngroups=8 if grating.dispersion else 18,
        archive=_named(grating.filter, name),
    )


_PRISM = replace(
    _G395H,
    configuration="PRISM",
    detectors=(
        replace(
            _NRS1,
            bounds=(3.5, 507.5, -0.5, 31.5),
            dispersion=(),
            dispersion_nodes=(
                (10, 0.5022),
                (18, 0.5294),
                (26, 0.5588),
                (34, 0.5913),
                (42, 0.6279),
                (50, 0.6725),
                (58, 0.7297),
                (66, 0.8020),
                (70, 0.8454),
                (80, 0.9824),
                (90, 1.1677),
                (100, 1.3883),
                (110, 1.6184),
                (120, 1.8395),
                (130, 2.0441),
                (140, 2.2334),
                (150, 2.4075),
                (160, 2.5679),
                (170, 2.7165),
                (180, 2.8546),
                (204, 3.1526),
                (228, 3.4168),
                (252, 3.6563),
                (276, 3.8765),
                (300, 4.0812),
                (324, 4.2733),
                (348, 4.4548),
                (372, 4.6269),
                (396, 4.7908),
                (420, 4.9472),
                (444, 5.0967),
                (468, 5.2397),
                (492, 5.3766),
            ),
            wavelength_limits=(0.601, 5.30),
            trace=(16.3, 0.35, -0.12),
            tilt=-0.012,
            orders=(OrderRecord(0),),
        ),
    ),
    subarrays=table(
        Subarray("SUB512", 512, 32, 897, 1033, 0.22572), Subarray("SUB512S", 512, 16, 897, 1041, 0.14392, -8.0)
    ),
    optics=_optics("CLEAR", "PRISM"),
    efficiency=_prism,
    band=(0.601, 5.30),
    source_flux=0.045,
    reference_wavelength=2.0,
    resolution=100.0,
    ngroups=6,
    archive=_named("CLEAR", "PRISM"),
)

NIRSPEC = (*(_with_grating(name, grating) for name, grating in _GRATINGS.items()), _PRISM)
"""NRS_BRIGHTOBJ, the default first."""
