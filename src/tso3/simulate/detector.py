"""One detector of a visit: the static arrays of its scene, and the planes of an integration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso3.simulate.instruments import DetectorRecord, Instrument, Subarray
from tso3.simulate.layers import Geometry, Layer, make_layers, plane, psf_scale
from tso3.simulate.particles import CosmicRays
from tso3.simulate.pixels import BadPixels, draw_bad_pixels
from tso3.simulate.reuse import Same, reused
from tso3.simulate.scene import Pointing, Star, Transit, stream
from tso3.simulate.troubles import NO_TROUBLES, Troubles, spoil_pixels

__all__ = ["Clock", "DetectorScene", "Options", "make_scene"]

_NODE = 0.1


@dataclass(frozen=True)
class Options:
    """
    What can be chosen about a visit; see `tso3.simulate.simulate` for the meaning of each.

    Attributes
    ----------
    n_int, seed, noise, cosmic_rays, bad_pixels, flat_error, photom, one_over_f, flux_scale, troubles
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
    troubles: Troubles = NO_TROUBLES


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


@dataclass
class DetectorScene:
    """
    Everything about one detector that does not change from integration to integration.

    Rates are electrons per second; a plane of an integration is ``rate * convert`` in the unit of the product.

    Attributes
    ----------
    layers : tuple of Layer
        The light of the star by spectral order (stripe, slice); the first is what ``geometry`` and the like speak of.
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
    ramp : ndarray, shape (n_int,)
        Settling of the detector and the star's own variation, a factor.
    offsets : ndarray, shape (n_int, 2)
        (x, y) motion of the star [pixel].
    """

    instrument: Instrument
    detector: DetectorRecord
    subarray: Subarray
    options: Options
    clock: Clock
    key: tuple[int, int]
    layers: tuple[Layer, ...]
    convert: np.ndarray
    background: np.ndarray
    flat: np.ndarray
    read_variance: np.ndarray
    static_dq: np.ndarray
    bad: BadPixels
    rays: CosmicRays
    ramp: np.ndarray
    offsets: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.convert.shape

    @property
    def steady_key(self) -> tuple[object, ...]:
        """All that distinguishes the scene from others, but for the seed."""
        return Same(self.instrument), self.key, Same(self.subarray), replace(self.options, seed=0)

    @property
    def sky(self) -> np.ndarray:
        """What an even background looks like: the flat field, 0 on reference pixels."""
        return np.where(self.static_dq >> 31, 0, self.flat).astype(np.float32)

    @property
    def geometry(self) -> Geometry:
        """Where light falls in the first layer."""
        return self.layers[0].geometry

    @property
    def wavelength(self) -> np.ndarray:
        """Wavelength [micron] of the pixels (ny, nx) over all layers; NaN where there is none."""
        return plane(self.layers, lambda layer: layer.geometry.wavelength)

    def transmission(self, i_int: int, layer: int = 0) -> np.ndarray:
        """Return the relative flux of the star (transit and ramp) on the dispersion pixels (imaging: one)."""
        return self.layers[layer].transmission(i_int) * self.ramp[i_int]

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
        rest = dx - node[0] * _NODE, dy - node[1] * _NODE
        rate: np.ndarray | None = None
        for number, layer in enumerate(self.layers):
            light = layer.image(node, rest, _NODE, self.flat)
            relative = self.transmission(i_int, number).astype(np.float32)
            light *= relative[:, None] if self.instrument.dispersion_axis == 2 else relative[None, :]
            rate = light if rate is None else np.add(rate, light, out=rate)
        assert rate is not None
        rate += self.background
        if self.options.troubles.background_change:
            rate += np.float32(self.options.troubles.background_change * (i_int + 0.5) / self.options.n_int) * self.sky
        on = self.bad.switched_on(i_int)
        rate[self.bad.y[on], self.bad.x[on]] += self.bad.rate[on].astype(np.float32)
        return rate

    def psf_scale(self, wavelength: np.ndarray) -> np.ndarray:
        """Return wavelength [micron] / diameter in pixels."""
        return psf_scale(self.instrument, wavelength)


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
    if options.troubles.profile:
        orders = tuple(replace(order, profile=f"frame:{options.troubles.profile}") for order in detector.orders)
        detector = replace(detector, orders=orders)
    clock = Clock(subarray.frame_time, instrument.ngroups)
    star = Star(instrument.source_flux * options.flux_scale, instrument.reference_wavelength, instrument.temperature,
                instrument.resolution)  # fmt: skip
    key = (Same(instrument), i_detector, Same(subarray), star, options.transit, options.n_int, options.troubles.profile)
    layers = reused(
        "layers", key, lambda: make_layers(instrument, detector, subarray, star, options.transit, options.n_int)
    )
    layers = tuple(replace(layer, _basis={}) for layer in layers)
    wavelength = plane(layers, lambda layer: layer.geometry.wavelength)
    convert = _convert(instrument, detector, layers, options)
    rng = stream(options.seed, 0, i_detector, 3)
    sigma2 = 12.0 * detector.read_noise**2 / ((clock.ngroups**3 - clock.ngroups) * clock.group**2)
    read_variance = sigma2 * np.exp(rng.normal(0, 0.12, convert.shape))
    flat = 1.0 + options.flat_error * rng.normal(0, 1, read_variance.shape)
    bad = draw_bad_pixels(options.bad_pixels, read_variance.shape, np.sqrt(sigma2), options.seed, i_detector)
    bad = spoil_pixels(bad, options.troubles, read_variance.shape, np.sqrt(sigma2), (options.seed, i_detector))
    y = np.linspace(-1, 1, subarray.ny)[:, None]
    background = instrument.background * (1 + 0.02 * y) * np.ones(read_variance.shape) * flat
    if instrument.background_shape is not None:
        background = background * instrument.background_shape(np.arange(subarray.nx))
    for kind in ("hot_flagged", "hot"):
        which = bad.of(kind)
        background[bad.y[which], bad.x[which]] += bad.rate[which]
    dq = _static_dq(instrument, subarray, wavelength, bad)
    reference = (dq >> 31).astype(bool)
    for layer in layers:
        layer.star *= np.where(reference, 0, 1)
    fraction = (np.arange(options.n_int) + 0.5) / options.n_int
    return DetectorScene(
        instrument, detector, subarray, options, clock, (exposure, i_detector), layers,
        np.where(np.isnan(wavelength), np.nan, convert) if instrument.is_blanked else convert,
        np.where(reference, 0, background).astype(np.float32), flat, read_variance.astype(np.float32), dq, bad,
        CosmicRays(options.cosmic_rays, instrument.pixel_microns, instrument.thickness),
        (1.0 + instrument.ramp[0] * np.exp(-fraction / instrument.ramp[1])) * options.troubles.variation(options.n_int),
        options.pointing.offsets(options.n_int, options.seed, exposure),
    )  # fmt: skip


def _convert(
    instrument: Instrument, detector: DetectorRecord, layers: tuple[Layer, ...], options: Options
) -> np.ndarray:
    """Return the unit of the product per electron / s: calibrated flux, or DN / s where there is no such step."""
    if not options.photom or "photom" not in instrument.cal_steps:
        return np.full(layers[0].star.shape, 1.0 / detector.gain)
    response = plane(layers, lambda layer: layer.response)
    with np.errstate(divide="ignore"):
        return 1e-6 / response / (1.0 if instrument.flux_per_pixel == "MJy" else instrument.pixel_area_sr)


def _static_dq(instrument: Instrument, subarray: Subarray, wavelength: np.ndarray, bad: BadPixels) -> np.ndarray:
    """Return the flags that every integration has."""
    from stdatamodels.jwst.datamodels.dqflags import pixel

    dq = np.zeros(wavelength.shape, np.uint32)
    if instrument.is_blanked:
        dq[np.isnan(wavelength)] = pixel["NON_SCIENCE"] | pixel["DO_NOT_USE"]
    dq[[*instrument.reference_rows, *subarray.reference_rows]] |= pixel["REFERENCE_PIXEL"] | pixel["NON_SCIENCE"]
    columns = [*instrument.reference_columns, *subarray.reference_columns]
    dq[:, columns] |= pixel["REFERENCE_PIXEL"] | pixel["NON_SCIENCE"]
    for kind, flag in (("dead", "DEAD"), ("hot_flagged", "HOT")):
        which = bad.of(kind)
        dq[bad.y[which], bad.x[which]] |= pixel["DO_NOT_USE"] | pixel[flag]
    return dq
