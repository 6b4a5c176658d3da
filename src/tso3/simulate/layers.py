"""
The layers of a scene: each is the light of the star in one spectral order, stripe or slice of a detector.

A detector with one spectrum has one layer. Where several orders fall on the same pixels (SOSS) or on bands of their own
(stripes, slices), the scene is the sum of its layers; each has its own geometry, spectrum, spatial profile and light
curves, all with the same planet in front of the same star.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tso3.simulate.instruments import DetectorRecord, Instrument, OrderRecord, Subarray
from tso3.simulate.optics import DIAMETER, point_spread, spread
from tso3.simulate.reuse import Same, reused
from tso3.simulate.scene import Star, Transit

__all__ = ["Geometry", "Layer", "geometry", "make_layers", "plane"]


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
    """Return the geometry of a detector in a subarray: that of its only order (see `DetectorRecord.in_order`)."""
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
    trace = trace_of(detector, index, length) + instrument.slit_shift + subarray.trace_shift
    nodes = detector.dispersion_nodes
    limits = (nodes[0][0], nodes[-1][0]) if nodes else (-1e9, 1e9)
    middle = trace_of(detector, along, length) + subarray.trace_shift
    place = np.clip(along + detector.tilt * (across - middle), *limits)
    everywhere = detector.wavelength(place)
    width = np.abs(detector.wavelength(place + 0.5) - detector.wavelength(place - 0.5))
    x0, x1, y0, y1 = detector.bounds
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    low, high = detector.wavelength_limits
    inside &= (everywhere >= low) & (everywhere <= high)
    on_trace = detector.wavelength(np.clip(index + detector.tilt * instrument.slit_shift, *limits))
    return Geometry(np.where(inside, everywhere, np.nan), everywhere, trace, on_trace, width)


@dataclass
class Layer:
    """
    The light of the star in one order.

    Attributes
    ----------
    order : OrderRecord
        What is known of the order.
    geometry : Geometry
        Where its light falls.
    response : ndarray, shape (ny, nx)
        Electrons per second for 1 Jy.
    star : ndarray, shape (ny, nx)
        Rate of the star [electron / s] if all its light at that wavelength fell on the pixel; 0 where this order sends
        no light.
    spectrum : ndarray, shape (n_disp,)
        The star [Jy] at the wavelengths of the trace.
    nodes : ndarray, shape (n_node,)
        Wavelengths [micron] of ``light_curves``.
    light_curves : ndarray, shape (n_node, n_int)
        Relative flux of the star, transit only.
    """

    instrument: Instrument
    order: OrderRecord
    geometry: Geometry
    response: np.ndarray
    star: np.ndarray
    spectrum: np.ndarray
    nodes: np.ndarray
    light_curves: np.ndarray
    _basis: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict, repr=False)

    def transmission(self, i_int: int) -> np.ndarray:
        """Return the relative flux of the star in transit on the dispersion pixels (imaging: one number)."""
        curve = self.light_curves[:, i_int]
        if len(self.nodes) > 1:
            curve = np.interp(self.geometry.along, self.nodes, curve)
        return curve

    def image(self, node: tuple[int, int], rest: tuple[float, float], step: float, flat: np.ndarray) -> np.ndarray:
        """
        Return the star's image, without transit.

        Parameters
        ----------
        node : (int, int)
            Shift in x and y [step] at which the image is computed, then kept.
        rest : (float, float)
            Further shift [pixel], by a Taylor series.
        step : float
            Grid of the shifts [pixel].
        flat : ndarray, shape (ny, nx)
            Residual of the flat field.

        Returns
        -------
        rate : ndarray of float32, shape (ny, nx)
            [electron / s].
        """
        if node not in self._basis:
            terms = reused("terms", (Same(self.star), node), lambda: self._expand(node[0] * step, node[1] * step))
            self._basis[node] = [(term * flat).astype(np.float32) for term in terms]
        dx, dy = rest
        if self.instrument.dispersion_axis == 0:
            weights: tuple[float, ...] = (dx, dy, dx * dx / 2, dx * dy, dy * dy / 2)
        else:
            across, along = (dy, dx) if self.instrument.dispersion_axis == 1 else (dx, dy)
            weights = (across, across * across / 2, along)
        basis = self._basis[node]
        rate = basis[0].copy()
        for weight, term in zip(weights, basis[1:], strict=True):
            rate += np.float32(weight) * term
        return rate

    def _expand(self, dx: float, dy: float) -> list[np.ndarray]:
        """
        Return the star's image at a shift and its derivatives with respect to further shifts (Taylor terms).

        They are float64, before the flat field.
        """
        shape = self.star.shape
        if self.instrument.dispersion_axis == 0:
            x0, y0 = self.geometry.trace[0] + dx, self.geometry.trace[1] + dy
            wavelength = float(self.geometry.along[0])
            psf = point_spread(
                float(psf_scale(self.instrument, wavelength)), self.instrument.defocus * 2.12 / wavelength
            )
            py, px = np.arange(shape[0]) - y0, np.arange(shape[1]) - x0
            orders = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
            terms = [psf.on_pixels(py, px, ny=ny, nx=nx) * self.star for nx, ny in orders]
        else:
            y, x = np.indices(shape, dtype=float)
            horizontal = self.instrument.dispersion_axis == 1
            trace = self.geometry.trace[None, :] if horizontal else self.geometry.trace[:, None]
            across, along = (dy, dx) if horizontal else (dx, dy)
            scale = psf_scale(self.instrument, self.geometry.everywhere)
            line = spread(self.order.profile, self.instrument.dispersion_axis)
            profile = line.on_pixels((y if horizontal else x) - trace - across, scale)
            slope = slope_along(self.star, axis=1 if horizontal else 0)
            star = self.star - along * slope
            terms = [profile[0] * star, profile[1] * star, profile[2] * star, -profile[0] * slope]
        return terms


def slope_along(star: np.ndarray, axis: int) -> np.ndarray:
    """
    Return the change of the star's light per pixel along an axis.

    Central differences; where the neighbour on one side has no light (reference pixels, the end of an order) that to
    the other. Pixels without light get none when the star moves.
    """
    rate = np.moveaxis(star, axis, -1)
    before, after = np.zeros((2, *rate.shape))
    before[..., 1:], after[..., :-1] = rate[..., :-1], rate[..., 1:]
    slope = np.where(after > 0.0, after - rate, 0.0)
    slope = np.where(before > 0.0, np.where(after > 0.0, (after - before) / 2.0, rate - before), slope)
    return np.moveaxis(np.where(rate > 0.0, slope, 0.0), -1, axis)


def psf_scale(instrument: Instrument, wavelength: np.ndarray) -> np.ndarray:
    """Return wavelength [micron] / diameter in pixels: the width of the image."""
    limited = np.maximum(wavelength, instrument.sharpest)
    return limited * 1e-6 / DIAMETER * 206264.806247 / instrument.pixel_scale


def make_layers(
    instrument: Instrument, detector: DetectorRecord, subarray: Subarray, star: Star, transit: Transit, n_int: int
) -> tuple[Layer, ...]:
    """
    Return the layers of a detector, in the order of its record.

    Parameters
    ----------
    instrument : Instrument
        The mode.
    detector : DetectorRecord
        The detector.
    subarray : Subarray
        Where it is read.
    star : Star
        The star.
    transit : Transit
        The planet.
    n_int : int
        Integrations of the exposure.

    Returns
    -------
    layers : tuple of Layer
        At least one.
    """
    if any(order.slices is not None for order in detector.orders):
        from tso3.simulate.slices import slice_layers

        return slice_layers(instrument, detector, subarray, star, transit, n_int)
    fraction = (np.arange(n_int) + 0.5) / n_int
    layers = []
    for order in detector.orders or (OrderRecord(1),):
        place = geometry(instrument, detector.in_order(order), subarray)
        efficiency = order.efficiency or instrument.efficiency
        response = instrument.response(place.everywhere, place.width, efficiency)
        rates = star.spectrum(place.everywhere) * response * detector.brightness
        if order.band is not None:
            across = np.arange(rates.shape[0 if instrument.dispersion_axis == 1 else 1])
            lit = (across >= order.band[0]) & (across < order.band[1])
            rates *= lit[:, None] if instrument.dispersion_axis == 1 else lit[None, :]
        nodes = np.array([instrument.reference_wavelength])
        if instrument.dispersion_axis:
            nodes = np.linspace(place.along.min(), place.along.max(), 32)
        planet = transit if detector.transits else replace(transit, depth=0.0)
        curves = planet.light_curves(fraction, nodes, 1.0 / n_int)
        spectrum = star.spectrum(place.along) * detector.brightness
        layers.append(Layer(instrument, order, place, response, rates, spectrum, nodes, curves))
    return tuple(layers)


def plane(layers: tuple[Layer, ...], of: Callable[[Layer], np.ndarray]) -> np.ndarray:
    """
    Return one plane from those of all layers.

    Parameters
    ----------
    layers : tuple of Layer
        The layers.
    of : callable
        Gives the plane (ny, nx) of a layer.

    Returns
    -------
    values : ndarray, shape (ny, nx)
        A pixel has the value of the layer in whose `OrderRecord.band` it is; elsewhere, and where layers overlap, that
        of the first.
    """
    values = of(layers[0])
    for layer in layers[1:]:
        if layer.order.band is None:
            continue
        where = slice(max(layer.order.band[0], 0), max(layer.order.band[1], 0))
        pixels = (where, slice(None)) if layer.instrument.dispersion_axis == 1 else (slice(None), where)
        values = values.copy()
        values[pixels] = of(layer)[pixels]
    return values
