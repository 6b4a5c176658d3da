"""What the simulator must know of an instrument: the record of a mode, of a detector, of a subarray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tso3.simulate.slices import Channel

__all__ = [
    "DETECTOR1",
    "REFERENCES",
    "Archive",
    "DetectorRecord",
    "Instrument",
    "OrderRecord",
    "Slit",
    "Subarray",
    "table",
]

COLLECTING_AREA = 25.4
"""Collecting area of the telescope [m2]."""
PLANCK = 6.62607015e-34
"""Planck constant [J s]."""
DETECTOR1 = ("dq_init", "saturation", "linearity", "dark_sub", "jump", "ramp_fit", "gain_scale")
"""Steps of stage 1 that all modes share."""
REFERENCES = ("mask", "saturation", "linearity", "dark", "readnoise", "gain", "flat", "photom", "area")
"""Types of reference files that all modes share."""


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
    trace_shift : float
        How far traces lie from where they are in the subarray that the records describe [pixel].
    reference_columns, reference_rows : tuple of int
        Columns and rows of reference pixels, beside those that all subarrays of the instrument have.
    """

    name: str
    nx: int
    ny: int
    xstart: int
    ystart: int
    frame_time: float
    trace_shift: float = 0.0
    reference_columns: tuple[int, ...] = ()
    reference_rows: tuple[int, ...] = ()


def table(*subarrays: Subarray) -> Mapping[str, Subarray]:
    """Return subarrays by name, the default first."""
    return MappingProxyType({s.name: s for s in subarrays})


@dataclass(frozen=True)
class OrderRecord:
    """
    One spectral order, stripe or slice of a detector that shows several.

    Attributes
    ----------
    number : int
        Spectral order, or number of the stripe.
    dispersion, wavelength_limits, trace, tilt
        As in `DetectorRecord`; empty or None: those of the detector.
    efficiency : callable or None
        As in `Instrument`; None: that of the instrument.
    profile : str
        Spatial profile: ``"telescope"``, ``"soss"``, the wide one with two horns, or ``"stripe"``, that of a piece of
        the pupil.
    band : tuple of int or None
        Cross-dispersion pixels (first, stop) that this order's light can reach; None: all. Pixels of a band belong to
        this order alone.
    slices : Channel or None
        Of an integral field unit: the slices of the channel that this is.
    """

    number: int
    dispersion: tuple[float, ...] = ()
    wavelength_limits: tuple[float, float] | None = None
    trace: tuple[float, ...] = ()
    tilt: float | None = None
    efficiency: Callable[[np.ndarray], np.ndarray] | None = None
    profile: str = "telescope"
    band: tuple[int, int] | None = None
    slices: Channel | None = None


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
    readout : tuple of int
        FASTAXIS and SLOWAXIS keywords.
    orders : tuple of OrderRecord
        Spectral orders (stripes, slices) whose light adds up on it; empty: one, described by the fields above.
    brightness : float
        Flux of the star on it in parts of the mode's ``source_flux``.
    transits : bool
        False where another star, without a planet, is on this detector.
    optics : tuple of (str, str)
        Optical elements that differ from one detector to the next, as in `Instrument`.
    """

    name: str
    gain: float
    read_noise: float
    bounds: tuple[float, float, float, float]
    sca_num: int
    readout: tuple[int, int]
    dispersion: tuple[float, ...] = ()
    dispersion_nodes: tuple[tuple[float, float], ...] = ()
    wavelength_limits: tuple[float, float] = (0.0, 100.0)
    trace: tuple[float, ...] = ()
    tilt: float = 0.0
    time_offset: float = 0.0
    orders: tuple[OrderRecord, ...] = ()
    brightness: float = 1.0
    transits: bool = True
    optics: tuple[tuple[str, str], ...] = ()

    def in_order(self, order: OrderRecord) -> DetectorRecord:
        """Return the detector as one of its orders sees it: dispersion, limits, trace and tilt of the order."""
        own = {name: getattr(order, name) for name in ("wavelength_limits", "tilt")}
        own = {name: value for name, value in own.items() if value is not None}
        own |= {"trace": order.trace} if order.trace else {}
        own |= {"dispersion": order.dispersion, "dispersion_nodes": ()} if order.dispersion else {}
        return replace(self, **own)

    def wavelength(self, pixel: np.ndarray) -> np.ndarray:
        """
        Return the wavelength [micron] at dispersion pixels (0-based, any shape), without limits applied.

        Examples
        --------
        >>> from tso3.simulate.configurations import instrument_of
        >>> nrs1 = instrument_of("NRS_BRIGHTOBJ").detectors[0]
        >>> bool(3.70 < nrs1.wavelength(2040.0) < 3.73)
        True
        """
        if self.dispersion_nodes:
            from scipy.interpolate import PchipInterpolator

            nodes = np.array(self.dispersion_nodes)
            return PchipInterpolator(nodes[:, 0], nodes[:, 1], extrapolate=True)(pixel)
        return np.polynomial.polynomial.polyval(np.asarray(pixel, float), self.dispersion)


@dataclass(frozen=True)
class Slit:
    """
    A slit in front of the spectrograph.

    Attributes
    ----------
    name : str
        SLTNAME keyword.
    height : float
        Height on the detector [pixel]; the slit frame counts in parts of it, from the middle.
    size : float
        Height on the sky [arcsec].
    source : tuple of float
        Place of the star in the slit frame (SRCXPOS, SRCYPOS).
    """

    name: str
    height: float
    size: float
    source: tuple[float, float]


@dataclass(frozen=True)
class Archive:
    """
    What the archive's names are made of.

    Attributes
    ----------
    program, observation, visit, group, sequence, activity : str
        Digits of the file name.
    product : str
        Last part of the product name; ``{subarray}`` stands for the subarray in lower case.
    aperture : str
        APERNAME keyword; ``{detector}`` and ``{subarray}`` are filled in.
    template : str
        TEMPLATE keyword.
    """

    program: str
    observation: str
    visit: str
    group: str
    sequence: str
    activity: str
    product: str
    aperture: str
    template: str


@dataclass(frozen=True)
class Instrument:
    """
    What a mode needs to be simulated.

    Attributes
    ----------
    exp_type, configuration, name, model : str
        EXP_TYPE, what tells the mode's records apart (``"G395H"``), INSTRUME and the data model's name.
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
    jitter, drift : float
        Default pointing jitter (rms per integration) and drift over the exposure [pixel].
    thickness : float
        Depth of the sensitive layer in parts of a pixel: how long a cosmic-ray track is.
    flux_per_pixel : str
        ``"MJy"`` (NIRSpec point source) or ``"MJy/sr"``.
    archive : Archive
        Names.
    readpatt : str
        READPATT keyword.
    cal_steps, reference_types : tuple of str
        Steps of stages 1 and 2 that are complete, and types of reference files they used, as attributes of ``meta``.
    noutputs : int
        NOUTPUTS keyword.
    v2v3 : tuple of float
        Place of the aperture in the telescope's focal plane [arcsec].
    bandwidth : float
        Imaging: width of the filter [micron]; spectroscopy: 0 (the dispersion gives it).
    slit : Slit or None
        None if slitless. Behind a slit, pixels without a wavelength are blank.
    ramp : tuple of float
        Exponential settling at the start: fraction of the flux, e-folding time in parts of the exposure.
    afterglow : float
        Part of a particle's charge that shows in the next integration.
    pixel_microns : float
        Pixel size [micron].
    striping_axis : int
        Array axis along which the common read noise of a line (1/f) is constant.
    stripe_parts : int
        Parts of a line (outputs side by side) that each have their own common read noise.
    reference_columns, reference_rows : tuple of int
        Columns and rows of reference pixels.
    sharpest : float
        Wavelength [micron] below which the optics are not limited by diffraction: the image gets no sharper.
    blank_outside : bool
        Slitless: True if stage 2 gives every pixel a wavelength and blanks those outside ``wavelength_limits``.
    background_shape : callable or None
        Factor of the background at a column; None for 1.
    field_point : tuple of float
        Grism: place of the star without it, (x, y) [pixel], which all pixels have as their place on the sky.
    source_offset : tuple of float
        Imaging: place of the star relative to the middle of the subarray, (x, y) [pixel].
    defocus : float
        Imaging: waves of defocus that a weak lens adds, at 2.12 micron, centre to edge of the pupil.
    flicker : float
        Part of the common read noise of a line (1/f) that stage 1 leaves (clean_flicker_noise and kin).
    """

    exp_type: str
    configuration: str
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
    archive: Archive
    readpatt: str
    cal_steps: tuple[str, ...]
    reference_types: tuple[str, ...]
    noutputs: int
    v2v3: tuple[float, float]
    bandwidth: float = 0.0
    slit: Slit | None = None
    ramp: tuple[float, float] = (0.0, 1.0)
    afterglow: float = 0.003
    pixel_microns: float = 18.0
    striping_axis: int = 0
    stripe_parts: int = 1
    reference_columns: tuple[int, ...] = ()
    reference_rows: tuple[int, ...] = ()
    sharpest: float = 0.0
    blank_outside: bool = False
    background_shape: Callable[[np.ndarray], np.ndarray] | None = None
    field_point: tuple[float, float] | None = None
    source_offset: tuple[float, float] = (0.0, 0.0)
    defocus: float = 0.0
    flicker: float = 1.0

    @property
    def is_blanked(self) -> bool:
        """Whether pixels without a calibrated wavelength are blank."""
        return self.slit is not None or self.blank_outside

    @property
    def slit_shift(self) -> float:
        """How far the star is from the middle of the slit across dispersion [pixel]."""
        return 0.0 if self.slit is None else self.slit.height * self.slit.source[1]

    @property
    def pixel_area_sr(self) -> float:
        """Solid angle of a pixel [sr]."""
        return float((self.pixel_scale / 206264.806247) ** 2)

    def response(
        self,
        wavelength: np.ndarray,
        width: np.ndarray,
        efficiency: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """
        Return electrons per second for 1 Jy.

        Photon rate of 1 Jy in a band: 1e-26 A width / (h wavelength), times the efficiency.

        Parameters
        ----------
        wavelength, width : ndarray
            Wavelength and width of a pixel (or filter) [micron]; NaN gives NaN.
        efficiency : callable, optional
            Of an order; by default that of the mode.

        Returns
        -------
        response : ndarray
            [electron / s / Jy].
        """
        photons = 1e-26 * COLLECTING_AREA / PLANCK * np.abs(width) / wavelength
        return photons * (efficiency or self.efficiency)(wavelength)
