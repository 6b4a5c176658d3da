"""
What the simulator knows of NIRISS SOSS; see `tso3.simulate.configurations` for what these numbers are worth.

Shapes of traces and dispersions are polynomials through a genuine trace reference, jwst_niriss_spectrace_0023.fits
(orders 2 and 3 to 0.2 pixel, order 1 to 2 pixels), rounded. Efficiencies imitate its throughputs.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import (
    DETECTOR1,
    Archive,
    DetectorRecord,
    Instrument,
    OrderRecord,
    Subarray,
    table,
)

__all__ = ["NIRISS", "PWCPOS", "PWCPOS_COMMANDED"]

PWCPOS_COMMANDED = 245.76
"""Position of the pupil wheel that is asked for [deg] (Baines et al. 2023, JWST-STScI-008571)."""
PWCPOS = 245.79
"""Position that the simulated wheel came to rest at [deg]: traces are rotated by the difference."""


def _edge(wavelength: np.ndarray, place: float, width: float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-(np.asarray(wavelength, float) - place) / width))


def _order_1(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of order 1: blaze at 1.25 micron."""
    w = np.asarray(wavelength, float)
    blaze = np.exp(-(((w - 1.25) / 0.42) ** 2)) * (w < 1.25) + np.exp(-(((w - 1.25) / 0.95) ** 2)) * (w >= 1.25)
    return 0.45 * (0.85 * blaze + 0.12) * _edge(w, 0.86, 0.03)


def _order_2(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of order 2: blaze at 0.69 micron, a few percent of its peak where it meets order 1."""
    w = np.asarray(wavelength, float)
    return (0.28 * np.exp(-(((w - 0.69) / 0.14) ** 2)) + 0.008 * _edge(w, 0.95, 0.05)) * _edge(w, 0.58, 0.015)


def _order_3(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of order 3: a few percent at 0.8 micron."""
    w = np.asarray(wavelength, float)
    return 0.022 * np.exp(-(((w - 0.82) / 0.10) ** 2)) * _edge(w, 0.60, 0.02)


def _background(column: np.ndarray) -> np.ndarray:
    """Return the shape of what is left of the background along the columns: a slope, and the step at column 700."""
    x = np.asarray(column, float)
    return 1.0 + 0.5 * x / 2048.0 - 0.7 * _edge(x, 700.0, 4.0)


_ORDERS = (
    OrderRecord(
        1,
        dispersion=(2.8351, -1.0075e-3, 1.563e-8),
        wavelength_limits=(0.83, 2.84),
        trace=(46.06, -30.06, 14.39, 24.37, 18.48),
        profile="soss",
        efficiency=_order_1,
    ),
    OrderRecord(
        2,
        dispersion=(1.409, -4.4561e-4, -4.7833e-8, 2.1978e-11),
        wavelength_limits=(0.58, 1.42),
        trace=(104.4, 48.47, 76.22, 67.17, 73.44, 37.01),
        profile="soss",
        efficiency=_order_2,
    ),
    OrderRecord(
        3,
        dispersion=(0.95404, -3.1851e-4, 2.5569e-8),
        wavelength_limits=(0.60, 0.96),
        trace=(226.2, 206.1, 183.0, 59.72),
        profile="soss",
        efficiency=_order_3,
    ),
)

_CLEAR = Instrument(
    exp_type="NIS_SOSS",
    configuration="CLEAR",
    name="NIRISS",
    model="CubeModel",
    detectors=(
        DetectorRecord(
            name="NIS",
            gain=1.61,
            read_noise=11.5,
            bounds=(-0.5, 2047.5, -0.5, 255.5),
            sca_num=496,
            readout=(-2, -1),
            orders=_ORDERS,
        ),
    ),
    subarrays=table(
        Subarray("SUBSTRIP256", 2048, 256, 1, 1793, 5.494, reference_rows=(-4, -3, -2, -1)),
        Subarray("SUBSTRIP96", 2048, 96, 1, 1803, 2.214, trace_shift=-10.0),
    ),
    dispersion_axis=1,
    optics=MappingProxyType({"filter": "CLEAR", "pupil": "GR700XD", "pupil_position": PWCPOS}),
    pixel_scale=0.0656,
    ngroups=4,
    efficiency=_order_1,
    band=(0.86, 2.80),
    source_flux=0.40,
    reference_wavelength=1.25,
    temperature=5400.0,
    resolution=650.0,
    background=1.5,
    background_shape=_background,
    jitter=0.004,
    drift=0.010,
    thickness=0.3,
    flux_per_pixel="MJy",
    archive=Archive(
        program="01366",
        observation="021",
        visit="001",
        group="04",
        sequence="1",
        activity="01",
        product="niriss_clear-gr700xd-{subarray}",
        aperture="NIS_{subarray}",
        template="NIRISS Single-Object Slitless Spectroscopy",
    ),
    readpatt="NISRAPID",
    cal_steps=(*DETECTOR1, "superbias", "refpix", "assign_wcs", "bkg_subtract", "srctype", "flat_field"),
    reference_types=("mask", "saturation", "linearity", "dark", "readnoise", "gain", "flat", "superbias", "specwcs"),
    noutputs=1,
    v2v3=(-294.4, -703.6),
    reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
)


def _f277w(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of order 1 behind F277W: nothing below 2.4 micron."""
    return _order_1(wavelength) * _edge(wavelength, 2.41, 0.01)


_F277W = replace(
    _CLEAR,
    configuration="F277W",
    detectors=(replace(_CLEAR.detectors[0], orders=(replace(_ORDERS[0], efficiency=_f277w),)),),
    optics=MappingProxyType(dict(_CLEAR.optics) | {"filter": "F277W"}),
    band=(2.42, 2.80),
    archive=replace(_CLEAR.archive, activity="02", product="niriss_f277w-gr700xd-{subarray}"),
)

NIRISS = (_CLEAR, _F277W)
"""NIS_SOSS, the default first."""
