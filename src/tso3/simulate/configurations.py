"""
The modes that can be simulated: one record per EXP_TYPE.

A further mode is one more record. Nothing here is calibration. Pixel scales, frame times, subarray corners, gains,
read noise and wavelength ranges are rounded values of the kind the public JWST documentation gives; they were not
checked one by one, so take none from here. Wavelengths of the MIRI prism are read off the WCS of a genuine product up
to row 390; the last two nodes are drawn smoother than there. Efficiencies, fluxes, traces and motions are choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tso3.errors import InputError
from tso3.simulate.instruments import Archive, DetectorRecord, Instrument, Slit, Subarray

__all__ = ["INSTRUMENTS", "instrument_of"]


def _g395h(wavelength: np.ndarray) -> np.ndarray:
    """Return the blaze of G395H behind F290LP (a choice: sinc-like blaze, 0.40 at 3.95 micron)."""
    blaze = np.sinc(0.42 * (wavelength - 3.95)) ** 2
    return 0.40 * blaze / (1.0 + np.exp(-(wavelength - 2.872) / 0.006))


def _p750l(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of MIRI's prism: peak near 6.5 micron, falling to a few percent beyond 12."""
    rise = 1.0 / (1.0 + np.exp(-(wavelength - 4.65) / 0.12))
    return rise * (0.25 * np.exp(-(((wavelength - 6.4) / 3.9) ** 2)) + 0.020)


def _f210m(wavelength: np.ndarray) -> np.ndarray:
    """Return the flat top of F210M."""
    return np.full_like(np.asarray(wavelength, float), 0.40)


_DETECTOR1 = ("dq_init", "saturation", "linearity", "dark_sub", "jump", "ramp_fit", "gain_scale")
_REFERENCES = ("mask", "saturation", "linearity", "dark", "readnoise", "gain", "flat", "photom", "area")


def _table(*subarrays: Subarray) -> Mapping[str, Subarray]:
    """Return subarrays by name, the default first."""
    return MappingProxyType({s.name: s for s in subarrays})


_NRS = Instrument(
    exp_type="NRS_BRIGHTOBJ",
    name="NIRSPEC",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            name="NRS1",
            gain=0.996,
            read_noise=7.2,
            bounds=(3.5, 2043.5, -0.5, 31.5),
            sca_num=491,
            readout=(2, 1),
            dispersion=(2.3572, 6.705e-4, -1.9e-9),
            wavelength_limits=(2.87, 3.72),
            trace=(16.1, 1.25, -0.62),
            tilt=-0.021,
        ),
        DetectorRecord(
            name="NRS2",
            gain=1.137,
            read_noise=6.9,
            bounds=(3.5, 2043.5, -0.5, 31.5),
            sca_num=492,
            readout=(-2, -1),
            dispersion=(3.8186, 6.752e-4, -2.1e-9),
            wavelength_limits=(3.82, 5.18),
            trace=(15.2, -1.42, -0.48),
            tilt=-0.028,
            time_offset=0.064,
        ),
    ),
    subarrays=_table(Subarray("SUB2048", 2048, 32, 1, 1033, 0.90156)),
    dispersion_axis=1,
    optics=MappingProxyType({
        "filter": "F290LP", "grating": "G395H", "fixed_slit": "S1600A1", "lamp_mode": "BRIGHTOBJ", "lamp_state": "NONE",
    }),
    slit=Slit("S1600A1", 16.0, 1.6, (0.012, -0.035)),
    pixel_scale=0.1,
    ngroups=18,
    efficiency=_g395h,
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
        *_DETECTOR1, "superbias", "refpix", "clean_flicker_noise", "assign_wcs", "extract_2d", "srctype", "wavecorr",
        "flat_field", "photom",
    ),
    reference_types=(
        *_REFERENCES, "camera", "collimator", "disperser", "fore", "fpa", "msa", "ote", "sflat", "fflat", "superbias",
        "wavecorr", "wavelengthrange",
    ),
    noutputs=1,
    v2v3=(321.6, -473.7),
    reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
)  # fmt: skip

_LRS = Instrument(
    exp_type="MIR_LRS-SLITLESS",
    name="MIRI",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            name="MIRIMAGE",
            gain=3.1,
            read_noise=14.0,
            bounds=(3.5, 71.5, 5.5, 395.5),
            sca_num=493,
            readout=(1, 2),
            dispersion_nodes=(
                (5, 14.076), (7, 14.048), (20, 13.870), (40, 13.589), (80, 13.000), (120, 12.367), (160, 11.676),
                (200, 10.918), (240, 10.075), (280, 9.110), (320, 7.976), (340, 7.309), (360, 6.536), (370, 6.084),
                (380, 5.557), (385, 5.242), (390, 4.833), (394, 4.440), (396, 4.250),
            ),
            trace=(37.4, 0.22, 0.05),
        ),
    ),
    subarrays=_table(Subarray("SLITLESSPRISM", 72, 416, 1, 529, 0.15904)),
    dispersion_axis=2,
    optics=MappingProxyType({"filter": "P750L", "ccc_state": "OPEN", "lamp_mode": "NONE"}),
    pixel_scale=0.11,
    ngroups=60,
    efficiency=_p750l,
    band=(4.4, 14.06),
    source_flux=0.066,
    reference_wavelength=6.5,
    temperature=4500.0,
    resolution=100.0,
    background=70.0,
    jitter=0.002,
    drift=0.006,
    thickness=1.4,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="01366",
        observation="011",
        visit="001",
        group="04",
        sequence="1",
        activity="03",
        product="miri_p750l-{subarray}",
        aperture="MIRIM_SLITLESSPRISM",
        template="MIRI Low Resolution Spectroscopy",
    ),
    readpatt="FASTR1",
    cal_steps=(
        *_DETECTOR1, "emicorr", "firstframe", "lastframe", "reset", "assign_wcs", "bkg_subtract", "srctype",
        "flat_field", "photom",
    ),
    reference_types=(*_REFERENCES, "distortion", "specwcs", "reset", "emicorr", "rscd"),
    noutputs=4,
    v2v3=(-378.832, -344.945),
    ramp=(0.0016, 0.08),
    afterglow=0.01,
    pixel_microns=25.0,
    striping_axis=1,
    reference_columns=(0, 1, 2, 3),
)  # fmt: skip

_NRC = Instrument(
    exp_type="NRC_TSIMAGE",
    name="NIRCAM",
    model="CubeModel",
    detectors=(
        DetectorRecord(
            name="NRCB1", gain=2.05, read_noise=10.5, bounds=(-0.5, 63.5, -0.5, 63.5), sca_num=486, readout=(1, -2)
        ),
    ),
    subarrays=_table(
        Subarray("SUB64P", 64, 64, 1025, 1, 0.05016),
        Subarray("SUB160P", 160, 160, 945, 1, 0.27864),
        Subarray("SUB400P", 400, 400, 701, 1, 1.65312),
    ),
    dispersion_axis=0,
    optics=MappingProxyType({"filter": "F210M", "pupil": "CLEAR", "channel": "SHORT", "module": "B"}),
    pixel_scale=0.0311,
    ngroups=12,
    efficiency=_f210m,
    bandwidth=0.205,
    band=(2.0, 2.2),
    source_flux=0.105,
    reference_wavelength=2.095,
    temperature=5400.0,
    resolution=100.0,
    background=0.6,
    jitter=0.006,
    drift=0.015,
    thickness=0.3,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="01366",
        observation="002",
        visit="001",
        group="03",
        sequence="1",
        activity="02",
        product="nircam_f210m-{subarray}",
        aperture="{detector}_{subarray}",
        template="NIRCam Time Series",
    ),
    readpatt="RAPID",
    cal_steps=(*_DETECTOR1, "superbias", "refpix", "assign_wcs", "flat_field", "photom"),
    reference_types=(*_REFERENCES, "distortion", "superbias", "filteroffset"),
    noutputs=1,
    v2v3=(-119.2, -527.4),
    source_offset=(0.37, -0.61),
    striping_axis=1,
)

INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType({i.exp_type: i for i in (_NRS, _LRS, _NRC)})
"""Modes that can be simulated, by EXP_TYPE."""


def instrument_of(mode: str) -> Instrument:
    """
    Return the record of a mode.

    Parameters
    ----------
    mode : str
        EXP_TYPE, in any case.

    Returns
    -------
    instrument : Instrument
        The record.

    Raises
    ------
    InputError
        If the mode is unknown; the message names the modes there are.

    Examples
    --------
    >>> from tso3.simulate.configurations import instrument_of
    >>> instrument_of("nrc_tsimage").name
    'NIRCAM'
    """
    try:
        return INSTRUMENTS[mode.upper()]
    except (KeyError, AttributeError):
        known = ", ".join(INSTRUMENTS)
        raise InputError(f"no simulator for mode {mode!r}; one of {known}") from None
