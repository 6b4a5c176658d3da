"""One detector of a visit: the static arrays of its scene, and the planes of an integration."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tso3.simulate.instruments import DetectorRecord, Instrument, Subarray
from tso3.simulate.optics import DIAMETER, line_spread, point_spread
from tso3.simulate.particles import CosmicRays
from tso3.simulate.pixels import BadPixels, draw_bad_pixels
from tso3.simulate.scene import Pointing, Star, Transit, stream

__all__ = ["Clock", "DetectorScene", "Geometry", "Options", "geometry", "make_scene"]

_NODE = 0.1


@dataclass(frozen=True)
class Options:
    """
    What can be chosen about a visit; see `tso3.simulate.simulate` for the meaning of each.

    Attributes
    ----------
    n_int, seed, noise, cosmic_rays, bad_pixels, flat_error, photom, one_over_f
        As the arguments of ``simulate``.
    """

    n_int: int
    seed: int
    transit: Transit
    pointing: Pointing
    noise: bool = True
    cosmic_rays: float = 1.0
    bad_pixels: float = 0.001
    flat_error: float = 0.002
    photom: bool = True
    one_over_f: float = 0.3
    flux_scale: float = 1.0


@dataclass(frozen=True)
class Clock:
    """
    Times of the ramps.

    Attributes
    ----------
    group : float
        Time of one group [s].
    ngroups : int
        Groups per integration; one reset frame precedes every integration.
    """

    group: float
    ngroups: int

    @property
    def integration(self) -> float:
        """Effective integration time [s] (EFFINTTM)."""
        return self.group * self.ngroups

    @property
    def cadence(self) -> float:
        """From start to start [s]: the integration and one reset frame."""
        return self.group * (self.ngroups + 1)

    @property
    def fitted(self) -> float:
        """Time between the first and last group [s], over which the slope is measured."""
        return self.group * (self.ngroups - 1)


@dataclass(frozen=True)
class Geometry:
    """
    Where light of a wavelength falls on a detector.

    Attributes
    ----------
    wavelength : ndarray, shape (ny, nx)
        [micron]; NaN outside the calibrated area. Imaging: NaN everywhere.
    everywhere : ndarray, shape (ny, nx)
        The same without limits.
    trace : ndarray, shape (n_disp,)
        Cross-dispersion pixel of the source for each dispersion pixel; imaging: (x, y) of the source.
    along : ndarray, shape (n_disp,)
        Wavelength on the trace [micron], without limits.
    width : ndarray, shape (ny, nx)
        Width of a pixel [micron].
    """

    wavelength: np.ndarray
    everywhere: np.ndarray
    trace: np.ndarray
    along: np.ndarray
    width: np.ndarray


def trace_of(detector: DetectorRecord, pixel: np.ndarray, length: int) -> np.ndarray:
    """Return the cross-dispersion pixel of the middle of the slit at dispersion pixels."""
    u = (np.asarray(pixel, float) - (length - 1) / 2) / (length / 2)
    return np.polynomial.polynomial.polyval(u, detector.trace)


def geometry(instrument: Instrument, detector: DetectorRecord, subarray: Subarray) -> Geometry:
    """Return the geometry of a detector in a subarray."""
    y, x = np.indices((subarray.ny, subarray.nx), dtype=float)
    if instrument.dispersion_axis == 0:
        nothing = np.full(y.shape, np.nan)
        full = np.full(y.shape, instrument.reference_wavelength)
        centre = np.array([(subarray.nx - 1) / 2, (subarray.ny - 1) / 2]) + instrument.source_offset
        return Geometry(nothing, full, centre, np.array([instrument.reference_wavelength]),
                        np.full(y.shape, instrument.bandwidth))  # fmt: skip
    along, across = (x, y) if instrument.dispersion_axis == 1 else (y, x)
    length = subarray.nx if instrument.dispersion_axis == 1 else subarray.ny
    index = np.arange(length, dtype=float)
    trace = trace_of(detector, index, length) + instrument.slit_shift
    nodes = detector.dispersion_nodes
    limits = (nodes[0][0], nodes[-1][0]) if nodes else (-1e9, 1e9)
    place = np.clip(along + detector.tilt * (across - trace_of(detector, along, length)), *limits)
    everywhere = detector.wavelength(place)
    width = np.abs(detector.wavelength(place + 0.5) - detector.wavelength(place - 0.5))
    x0, x1, y0, y1 = detector.bounds
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    low, high = detector.wavelength_limits
    inside &= (everywhere >= low) & (everywhere <= high)
    on_trace = detector.wavelength(np.clip(index + detector.tilt * instrument.slit_shift, *limits))
    return Geometry(np.where(inside, everywhere, np.nan), everywhere, trace, on_trace, width)


@dataclass
class DetectorScene:
    """
    Everything about one detector that does not change from integration to integration.

    Rates are electrons per second; a plane of an integration is ``rate * convert`` in the unit of the product.

    Attributes
    ----------
    star : ndarray, shape (ny, nx)
        Rate of the star if all its light at that wavelength fell on the pixel.
    convert : ndarray, shape (ny, nx)
        Product unit per electron / s; NaN where there is no calibration.
    background : ndarray, shape (ny, nx)
        Sky and hot pixels, static.
    flat : ndarray, shape (ny, nx)
        Residual of the flat field, a factor near 1.
    read_variance : ndarray, shape (ny, nx)
        Variance of the rate by read noise [(electron / s)^2].
    static_dq : ndarray of uint32, shape (ny, nx)
        Flags of every integration.
    light_curves : ndarray, shape (n_node, n_int)
        Relative flux of the star at ``nodes`` [micron], transit only.
    ramp : ndarray, shape (n_int,)
        Settling of the detector, a factor.
    offsets : ndarray, shape (n_int, 2)
        (x, y) motion of the star [pixel].
    """

    instrument: Instrument
    detector: DetectorRecord
    subarray: Subarray
    options: Options
    clock: Clock
    key: tuple[int, int]
    geometry: Geometry
    star: np.ndarray
    convert: np.ndarray
    background: np.ndarray
    flat: np.ndarray
    read_variance: np.ndarray
    static_dq: np.ndarray
    bad: BadPixels
    rays: CosmicRays
    nodes: np.ndarray
    light_curves: np.ndarray
    ramp: np.ndarray
    offsets: np.ndarray
    spectrum: np.ndarray
    _basis: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.star.shape

    def transmission(self, i_int: int) -> np.ndarray:
        """Return the relative flux of the star (transit and ramp) on the dispersion pixels (imaging: one)."""
        curve = self.light_curves[:, i_int]
        if len(self.nodes) > 1:
            curve = np.interp(self.geometry.along, self.nodes, curve)
        return curve * self.ramp[i_int]

    def model(self, i_int: int) -> np.ndarray:
        """
        Return the noise-free rate of an integration, without cosmic rays.

        Parameters
        ----------
        i_int : int
            0-based integration of the exposure.

        Returns
        -------
        rate : ndarray of float32, shape (ny, nx)
            [electron / s].
        """
        dx, dy = self.offsets[i_int]
        node = (round(dx / _NODE), round(dy / _NODE))
        if node not in self._basis:
            self._basis[node] = self._expand(node[0] * _NODE, node[1] * _NODE)
        dx, dy = dx - node[0] * _NODE, dy - node[1] * _NODE
        if self.instrument.dispersion_axis == 0:
            weights: tuple[float, ...] = (dx, dy, dx * dx / 2, dx * dy, dy * dy / 2)
        else:
            across, along = (dy, dx) if self.instrument.dispersion_axis == 1 else (dx, dy)
            weights = (across, across * across / 2, along)
        basis = self._basis[node]
        rate = basis[0].copy()
        for weight, term in zip(weights, basis[1:], strict=True):
            rate += np.float32(weight) * term
        relative = self.transmission(i_int).astype(np.float32)
        rate *= relative[:, None] if self.instrument.dispersion_axis == 2 else relative[None, :]
        rate += self.background
        on = self.bad.switched_on(i_int)
        rate[self.bad.y[on], self.bad.x[on]] += self.bad.rate[on].astype(np.float32)
        return rate

    def _expand(self, dx: float, dy: float) -> list[np.ndarray]:
        """Return the star's image at a shift and its derivatives with respect to further shifts (Taylor terms)."""
        if self.instrument.dispersion_axis == 0:
            x0, y0 = self.geometry.trace[0] + dx, self.geometry.trace[1] + dy
            psf = point_spread(float(self.psf_scale(self.geometry.along[0])))
            py, px = np.arange(self.shape[0]) - y0, np.arange(self.shape[1]) - x0
            orders = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
            terms = [psf.on_pixels(py, px, ny=ny, nx=nx) * self.star for nx, ny in orders]
        else:
            y, x = np.indices(self.shape, dtype=float)
            horizontal = self.instrument.dispersion_axis == 1
            trace = self.geometry.trace[None, :] if horizontal else self.geometry.trace[:, None]
            across, along = (dy, dx) if horizontal else (dx, dy)
            scale = self.psf_scale(self.geometry.everywhere)
            profile = line_spread(self.instrument.dispersion_axis).on_pixels(
                (y if horizontal else x) - trace - across, scale
            )
            slope = np.gradient(self.star, axis=1 if horizontal else 0)
            star = self.star - along * slope
            terms = [profile[0] * star, profile[1] * star, profile[2] * star, -profile[0] * slope]
        return [(term * self.flat).astype(np.float32) for term in terms]

    def psf_scale(self, wavelength: np.ndarray) -> np.ndarray:
        """Return wavelength [micron] / diameter in pixels."""
        return np.asarray(wavelength) * 1e-6 / DIAMETER * 206264.806247 / self.instrument.pixel_scale


def make_scene(
    instrument: Instrument, i_detector: int, subarray: Subarray, options: Options, exposure: int = 0
) -> DetectorScene:
    """
    Return the scene of one detector and exposure.

    Parameters
    ----------
    instrument : Instrument
        The mode.
    i_detector : int
        Index of the detector in the instrument.
    subarray : Subarray
        Where it is read.
    options : Options
        What was chosen.
    exposure : int, optional
        0-based number of the exposure.

    Returns
    -------
    scene : DetectorScene
        Static arrays and numbers per integration.
    """
    detector = instrument.detectors[i_detector]
    place = geometry(instrument, detector, subarray)
    clock = Clock(subarray.frame_time, instrument.ngroups)
    star = Star(instrument.source_flux * options.flux_scale, instrument.reference_wavelength, instrument.temperature,
                instrument.resolution)  # fmt: skip
    response = instrument.response(place.everywhere, place.width)
    with np.errstate(divide="ignore"):
        if options.photom:
            convert = 1e-6 / response / (1.0 if instrument.flux_per_pixel == "MJy" else instrument.pixel_area_sr)
        else:
            convert = np.full(place.everywhere.shape, 1.0 / detector.gain)
    rng = stream(options.seed, 0, i_detector, 3)
    sigma2 = 12.0 * detector.read_noise**2 / ((clock.ngroups**3 - clock.ngroups) * clock.group**2)
    read_variance = sigma2 * np.exp(rng.normal(0, 0.12, place.everywhere.shape))
    flat = 1.0 + options.flat_error * rng.normal(0, 1, read_variance.shape)
    bad = draw_bad_pixels(options.bad_pixels, read_variance.shape, np.sqrt(sigma2), options.seed, i_detector)
    y = np.linspace(-1, 1, subarray.ny)[:, None]
    background = instrument.background * (1 + 0.02 * y) * np.ones(read_variance.shape) * flat
    for kind in ("hot_flagged", "hot"):
        which = bad.of(kind)
        background[bad.y[which], bad.x[which]] += bad.rate[which]
    dq = _static_dq(instrument, place, bad)
    reference = (dq >> 31).astype(bool)
    rates = star.spectrum(place.everywhere) * response * np.where(reference, 0, 1)
    fraction = (np.arange(options.n_int) + 0.5) / options.n_int
    nodes = np.array([instrument.reference_wavelength])
    if instrument.dispersion_axis:
        nodes = np.linspace(place.along.min(), place.along.max(), 32)
    return DetectorScene(
        instrument, detector, subarray, options, clock, (exposure, i_detector), place, rates,
        convert if instrument.slit is None else np.where(np.isnan(place.wavelength), np.nan, convert),
        np.where(reference, 0, background).astype(np.float32), flat, read_variance.astype(np.float32), dq, bad,
        CosmicRays(options.cosmic_rays, instrument.pixel_microns, instrument.thickness), nodes,
        options.transit.light_curves(fraction, nodes, 1.0 / options.n_int),
        1.0 + instrument.ramp[0] * np.exp(-fraction / instrument.ramp[1]),
        options.pointing.offsets(options.n_int, options.seed, exposure), star.spectrum(place.along),
    )  # fmt: skip


def _static_dq(instrument: Instrument, place: Geometry, bad: BadPixels) -> np.ndarray:
    """Return the flags that every integration has."""
    from stdatamodels.jwst.datamodels.dqflags import pixel

    dq = np.zeros(place.wavelength.shape, np.uint32)
    if instrument.slit is not None:
        dq[np.isnan(place.wavelength)] = pixel["NON_SCIENCE"] | pixel["DO_NOT_USE"]
    dq[:, list(instrument.reference_columns)] |= pixel["REFERENCE_PIXEL"] | pixel["NON_SCIENCE"]
    for kind, flag in (("dead", "DEAD"), ("hot_flagged", "HOT")):
        which = bad.of(kind)
        dq[bad.y[which], bad.x[which]] |= pixel["DO_NOT_USE"] | pixel[flag]
    return dq
