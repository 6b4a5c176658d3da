"""
The instruments of the simulator: one record per mode, from which everything else is derived.

A further mode is one more record in ``INSTRUMENTS``. Numbers are rounded from public JWST documentation (pixel scales,
frame times, wavelength ranges, gains, dark and read noise); where a value is a choice of the simulator it is said so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from tso3.errors import InputError

__all__ = ["INSTRUMENTS", "DetectorRecord", "Instrument", "Subarray", "instrument_of"]

COLLECTING_AREA = 25.4
"""Collecting area of the telescope [m2]."""
PLANCK = 6.62607015e-34
"""Planck constant [J s]."""


@dataclass(frozen=True)
class Subarray:
    """
    A subarray of one detector.

    Attributes
    ----------
    name : str
        SUBARRAY keyword.
    nx, ny : int
        Size [pixel].
    xstart, ystart : int
        First column and row on the detector, 1-based (SUBSTRT1, SUBSTRT2).
    frame_time : float
        Time of one frame [s] (TFRAME).
    """

    name: str
    nx: int
    ny: int
    xstart: int
    ystart: int
    frame_time: float


@dataclass(frozen=True)
class DetectorRecord:
    """
    One detector of an instrument as a mode uses it.

    Attributes
    ----------
    name : str
        DETECTOR keyword.
    gain : float
        Electrons per DN.
    read_noise : float
        Noise of one read [electron].
    dispersion : tuple of float
        Polynomial of wavelength [micron] in the dispersion pixel, lowest order first; empty if ``dispersion_nodes``
        is given or for imaging.
    dispersion_nodes : tuple of (float, float)
        Pairs (dispersion pixel, wavelength) through which a monotone curve is drawn.
    wavelength_limits : tuple of float
        Wavelengths outside have no calibration: WAVELENGTH is NaN there.
    trace : tuple of float
        Polynomial of the trace in u = (pixel - middle) / half length, lowest order first: cross-dispersion pixel.
    tilt : float
        Shift along dispersion of a line of equal wavelength per pixel across it.
    bounds : tuple of float
        Bounding box of the WCS in pixel: (xmin, xmax, ymin, ymax).
    time_offset : float
        Start of its exposure after the start of the first detector's [s].
    sca_num : int
        SCA_NUM keyword.
    """

    name: str
    gain: float
    read_noise: float
    bounds: tuple[float, float, float, float]
    sca_num: int
    dispersion: tuple[float, ...] = ()
    dispersion_nodes: tuple[tuple[float, float], ...] = ()
    wavelength_limits: tuple[float, float] = (0.0, 100.0)
    trace: tuple[float, ...] = ()
    tilt: float = 0.0
    time_offset: float = 0.0

    def wavelength(self, pixel: np.ndarray) -> np.ndarray:
        """
        Return the wavelength [micron] at dispersion pixels (0-based, any shape), without limits applied.

        Examples
        --------
        >>> from tso3.simulate.instruments import INSTRUMENTS
        >>> nrs1 = INSTRUMENTS["NRS_BRIGHTOBJ"].detectors[0]
        >>> bool(3.70 < nrs1.wavelength(2040.0) < 3.73)
        True
        """
        if self.dispersion_nodes:
            from scipy.interpolate import PchipInterpolator

            nodes = np.array(self.dispersion_nodes)
            return PchipInterpolator(nodes[:, 0], nodes[:, 1], extrapolate=True)(pixel)
        return np.polynomial.polynomial.polyval(np.asarray(pixel, float), self.dispersion)


@dataclass(frozen=True)
class Instrument:
    """
    What a mode needs to be simulated.

    Attributes
    ----------
    exp_type, name, model : str
        EXP_TYPE, INSTRUME and the data model's name.
    detectors : tuple of DetectorRecord
        In the order of the association.
    subarrays : mapping of str to Subarray
        The first is the default.
    dispersion_axis : int
        0 imaging, 1 along x, 2 along y.
    optics : mapping
        FILTER, PUPIL, GRATING and kin, as attribute of ``meta.instrument`` and value.
    pixel_scale : float
        [arcsec].
    ngroups : int
        Groups (of one frame) per integration.
    efficiency : callable
        Photon-to-electron efficiency at a wavelength [micron]; of the whole system.
    bandwidth : float
        Imaging: width of the filter [micron]; spectroscopy: 0 (the dispersion gives it).
    band : tuple of float
        Wavelength range [micron] of the mode.
    source_flux : float
        Flux density [Jy] of the star at ``reference_wavelength``.
    reference_wavelength : float
        [micron].
    temperature : float
        Effective temperature of the star [K].
    resolution : float
        Resolving power to which the lines of the star are smoothed.
    background : float
        Sky and telescope [electron / s / pixel].
    ramp : tuple of float
        Exponential settling of the detector at the start: fraction of the flux, e-folding time in parts of the exposure.
    jitter, drift : float
        Default pointing jitter (rms per integration) and drift over the exposure [pixel].
    thickness : float
        Depth of the sensitive layer in parts of a pixel: how long a cosmic-ray track is.
    flux_per_pixel : str
        ``"MJy"`` (NIRSpec point source) or ``"MJy/sr"``.
    """

    exp_type: str
    name: str
    model: str
    detectors: tuple[DetectorRecord, ...]
    subarrays: Mapping[str, Subarray]
    dispersion_axis: int
    optics: Mapping[str, str]
    pixel_scale: float
    ngroups: int
    efficiency: Callable[[np.ndarray], np.ndarray]
    band: tuple[float, float]
    source_flux: float
    reference_wavelength: float
    temperature: float
    resolution: float
    background: float
    jitter: float
    drift: float
    thickness: float
    flux_per_pixel: str
    archive: Mapping[str, str]
    readpatt: str
    cal_steps: tuple[str, ...]
    reference_types: tuple[str, ...]
    bandwidth: float = 0.0
    ramp: tuple[float, float] = (0.0, 1.0)
    afterglow: float = 0.003
    pixel_microns: float = 18.0
    striping_axis: int = 0
    source_offset: tuple[float, float] = (0.0, 0.0)
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def pixel_area_sr(self) -> float:
        """Solid angle of a pixel [sr]."""
        return float((self.pixel_scale / 206264.806247) ** 2)

    def response(self, wavelength: np.ndarray, width: np.ndarray) -> np.ndarray:
        """
        Return electrons per second for 1 Jy.

        Photon rate of 1 Jy in a band: 1e-26 A width / (h wavelength), times the efficiency.

        Parameters
        ----------
        wavelength, width : ndarray
            Wavelength and width of a pixel (or filter) [micron]; NaN gives NaN.

        Returns
        -------
        response : ndarray
            [electron / s / Jy].
        """
        photons = 1e-26 * COLLECTING_AREA / PLANCK * np.abs(width) / wavelength
        return photons * self.efficiency(wavelength)


def _g395h(wavelength: np.ndarray) -> np.ndarray:
    """Return the blaze of G395H behind F290LP (a choice: sinc-like blaze, 0.40 at 3.95 micron)."""
    blaze = np.sinc(0.42 * (wavelength - 3.95)) ** 2
    return 0.40 * blaze / (1.0 + np.exp(-(wavelength - 2.872) / 0.006))


def _p750l(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of MIRI's prism: peak near 6.5 micron, falling to a few percent beyond 12."""
    rise = 1.0 / (1.0 + np.exp(-(wavelength - 4.75) / 0.12))
    return rise * (0.25 * np.exp(-(((wavelength - 6.4) / 3.4) ** 2)) + 0.012)


def _f210m(wavelength: np.ndarray) -> np.ndarray:
    """Return the flat top of F210M."""
    return np.full_like(np.asarray(wavelength, float), 0.40)


_DETECTOR1 = ("dq_init", "saturation", "linearity", "dark_sub", "jump", "ramp_fit", "gain_scale")
_NRS_STEPS = (*_DETECTOR1, "superbias", "refpix", "assign_wcs", "extract_2d", "srctype", "wavecorr", "flat_field",
              "photom", "clean_flicker_noise")  # fmt: skip
_LRS_STEPS = (*_DETECTOR1, "emicorr", "firstframe", "lastframe", "reset", "assign_wcs", "srctype", "flat_field",
              "photom", "bkg_subtract")  # fmt: skip
_NRC_STEPS = (*_DETECTOR1, "superbias", "refpix", "assign_wcs", "flat_field", "photom")

_COMMON_REFERENCES = ("mask", "saturation", "linearity", "dark", "readnoise", "gain", "flat", "photom", "area")

_NRS = Instrument(
    exp_type="NRS_BRIGHTOBJ",
    name="NIRSPEC",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            "NRS1",
            0.996,
            7.2,
            (3.5, 2043.5, -0.5, 31.5),
            491,
            dispersion=(2.3572, 6.705e-4, -1.9e-9),
            wavelength_limits=(2.87, 3.72),
            trace=(16.1, 1.25, -0.62),
            tilt=-0.021,
        ),
        DetectorRecord(
            "NRS2",
            1.137,
            6.9,
            (3.5, 2043.5, -0.5, 31.5),
            492,
            dispersion=(3.8186, 6.752e-4, -2.1e-9),
            wavelength_limits=(3.82, 5.18),
            trace=(15.2, -1.42, -0.48),
            tilt=-0.028,
            time_offset=0.064,
        ),
    ),
    subarrays=MappingProxyType({"SUB2048": Subarray("SUB2048", 2048, 32, 1, 1033, 0.90156)}),
    dispersion_axis=1,
    optics=MappingProxyType(
        {
            "filter": "F290LP",
            "grating": "G395H",
            "fixed_slit": "S1600A1",
            "lamp_mode": "BRIGHTOBJ",
            "lamp_state": "NONE",
        }
    ),
    pixel_scale=0.1,
    ngroups=18,
    efficiency=_g395h,
    band=(2.87, 5.18),
    source_flux=0.36,
    reference_wavelength=4.0,
    temperature=5400.0,
    resolution=2700.0,
    background=0.08,
    jitter=0.003,
    drift=0.01,
    thickness=0.3,
    flux_per_pixel="MJy",
    archive=MappingProxyType(
        {
            "program": "01366",
            "observation": "003",
            "visit": "001",
            "group": "04",
            "sequence": "1",
            "activity": "01",
            "target": "t001",
            "product": "nirspec_f290lp-g395h-s1600a1-sub2048",
        }
    ),
    readpatt="NRSRAPID",
    cal_steps=_NRS_STEPS,
    reference_types=(
        *_COMMON_REFERENCES,
        "camera",
        "collimator",
        "disperser",
        "fore",
        "fpa",
        "msa",
        "ote",
        "sflat",
        "fflat",
        "superbias",
        "wavecorr",
        "wavelengthrange",
    ),
    source_offset=(0.012, -0.035),
)

_LRS = Instrument(
    exp_type="MIR_LRS-SLITLESS",
    name="MIRI",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            "MIRIMAGE",
            3.1,
            14.0,
            (3.5, 71.5, 5.5, 395.5),
            493,
            dispersion_nodes=(
                (5, 14.076),
                (7, 14.048),
                (20, 13.870),
                (40, 13.589),
                (80, 13.000),
                (120, 12.367),
                (160, 11.676),
                (200, 10.918),
                (240, 10.075),
                (280, 9.110),
                (320, 7.976),
                (340, 7.309),
                (360, 6.536),
                (370, 6.084),
                (380, 5.557),
                (385, 5.242),
                (390, 4.833),
                (394, 4.440),
                (396, 4.250),
            ),
            trace=(37.4, 0.22, 0.05),
        ),
    ),
    subarrays=MappingProxyType({"SLITLESSPRISM": Subarray("SLITLESSPRISM", 72, 416, 1, 529, 0.15904)}),
    dispersion_axis=2,
    optics=MappingProxyType({"filter": "P750L", "ccc_state": "OPEN", "lamp_mode": "NONE"}),
    pixel_scale=0.11,
    ngroups=60,
    efficiency=_p750l,
    band=(4.4, 14.06),
    source_flux=0.042,
    reference_wavelength=6.5,
    temperature=4500.0,
    resolution=100.0,
    background=190.0,
    jitter=0.003,
    drift=0.008,
    thickness=1.4,
    flux_per_pixel="MJy/sr",
    archive=MappingProxyType(
        {
            "program": "01366",
            "observation": "011",
            "visit": "001",
            "group": "04",
            "sequence": "1",
            "activity": "03",
            "target": "t001",
            "product": "miri_p750l-slitlessprism",
        }
    ),
    readpatt="FASTR1",
    cal_steps=_LRS_STEPS,
    reference_types=(*_COMMON_REFERENCES, "distortion", "specwcs", "reset", "emicorr", "rscd"),
    ramp=(0.0016, 0.08),
    afterglow=0.01,
    pixel_microns=25.0,
    striping_axis=1,
)

_NRC = Instrument(
    exp_type="NRC_TSIMAGE",
    name="NIRCAM",
    model="CubeModel",
    detectors=(DetectorRecord("NRCB1", 2.05, 10.5, (-0.5, 63.5, -0.5, 63.5), 486),),
    subarrays=MappingProxyType(
        {
            "SUB64P": Subarray("SUB64P", 64, 64, 1025, 1, 0.05016),
            "SUB160": Subarray("SUB160", 160, 160, 945, 1, 0.27864),
            "SUB160P": Subarray("SUB160P", 160, 160, 1, 1, 0.27864),
        }
    ),
    dispersion_axis=0,
    optics=MappingProxyType({"filter": "F210M", "pupil": "CLEAR", "channel": "SHORT", "module": "B"}),
    pixel_scale=0.0311,
    ngroups=12,
    efficiency=_f210m,
    bandwidth=0.205,
    band=(2.0, 2.2),
    source_flux=0.058,
    reference_wavelength=2.095,
    temperature=5400.0,
    resolution=100.0,
    background=0.6,
    jitter=0.008,
    drift=0.03,
    thickness=0.3,
    flux_per_pixel="MJy/sr",
    archive=MappingProxyType(
        {
            "program": "01366",
            "observation": "002",
            "visit": "001",
            "group": "03",
            "sequence": "1",
            "activity": "02",
            "target": "t001",
            "product": "nircam_f210m-{subarray}",
        }
    ),
    readpatt="RAPID",
    cal_steps=_NRC_STEPS,
    reference_types=(*_COMMON_REFERENCES, "distortion", "superbias", "filteroffset"),
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
    >>> from tso3.simulate.instruments import instrument_of
    >>> instrument_of("nrc_tsimage").name
    'NIRCAM'
    """
    try:
        return INSTRUMENTS[mode.upper()]
    except (KeyError, AttributeError):
        known = ", ".join(INSTRUMENTS)
        raise InputError(f"no simulator for mode {mode!r}; one of {known}") from None
