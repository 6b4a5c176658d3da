"""The slices of an integral field unit on a detector: where they lie, what they see, and the star on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.simulate.layers import Geometry, Layer
from tso3.simulate.wcs import frames_of, to_sky

if TYPE_CHECKING:
    from gwcs import WCS

    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.instruments import DetectorRecord, Instrument, Subarray
    from tso3.simulate.scene import Star, Transit

__all__ = ["Channel", "SliceLayer", "slice_layers", "slices_wcs"]

_HALF = 512.0
_BEND = 9.0
"""How far slices are bent at the ends of the detector [pixel]."""
_LEAN = 0.015
"""Rows by which a line of equal wavelength rises per column of a slice."""
_STAGGER = 1.6
"""Largest offset of the wavelengths of a slice [row]."""
_SOURCE = (0.21, -0.13)
"""Place of the star in the field, (alpha, beta) [arcsec]."""
_HALO = (0.12, 3.0)
"""Share of the light in the halo, and its width in that of the core."""


@dataclass(frozen=True)
class Channel:
    """
    One channel of the spectrometer.

    Attributes
    ----------
    n_slices : int
        Slices.
    width : float
        Of a slice [arcsec].
    pixel : float
        Size of a pixel along a slice [arcsec].
    length : float
        Of a slice [arcsec].
    columns : (int, int)
        First column of the detector that it uses, and the one after the last.
    rising : bool
        True if wavelength rises with the row.
    """

    n_slices: int
    width: float
    pixel: float
    length: float
    columns: tuple[int, int]
    rising: bool

    @property
    def order(self) -> list[int]:
        """Slices from left to right: the odd ones, then the even ones, so that neighbours in the field are apart."""
        return [*range(0, self.n_slices, 2), *range(1, self.n_slices, 2)]

    def beta(self, index: int) -> float:
        """Return the position of a slice across the slices [arcsec]."""
        return (index - (self.n_slices - 1) / 2) * self.width

    def middle(self, place: int) -> float:
        """Return the column of the middle of the slice at a place, counted from the left, in the middle row."""
        first, stop = self.columns
        return first + (place + 0.5) * (stop - first) / self.n_slices

    def stagger(self, index: int) -> float:
        """Return the offset of a slice's wavelengths [row]."""
        return _STAGGER * np.sin(2.1 * index)


def _bend(channel: Channel, row: np.ndarray) -> np.ndarray:
    """Return by how much slices are bent at rows of the whole detector [pixel]: outwards at both ends."""
    sign = -1.0 if channel.columns[0] < _HALF else 1.0
    return sign * _BEND * (((np.asarray(row, float) - _HALF) / _HALF) ** 2 - 1.0 / 3.0)


@dataclass(frozen=True)
class _Place:
    """What pixels of a channel see, shape (ny, nx): slice (-1: none), alpha, beta [arcsec], wavelength [micron]."""

    index: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    wavelength: np.ndarray


def _place(channel: Channel, limits: tuple[float, float], subarray: Subarray) -> _Place:
    """Return what the pixels of a subarray see in one channel."""
    y, x = np.indices((subarray.ny, subarray.nx), dtype=float)
    row = y + subarray.ystart - 1
    index = np.full(y.shape, -1)
    alpha, beta = np.full(y.shape, np.nan), np.full(y.shape, np.nan)
    stagger = np.zeros(y.shape)
    for place, k in enumerate(channel.order):
        along = (x - channel.middle(place) - _bend(channel, row)) * channel.pixel
        inside = np.abs(along) <= channel.length / 2
        index[inside], alpha[inside], beta[inside] = k, along[inside], channel.beta(k)
        stagger[inside] = channel.stagger(k)
    at = row + stagger + _LEAN * np.nan_to_num(alpha) / channel.pixel
    return _Place(index, alpha, beta, _wavelength(channel, limits, at))


def _wavelength(channel: Channel, limits: tuple[float, float], row: np.ndarray) -> np.ndarray:
    """Return the wavelength [micron] at rows of the whole detector."""
    share = np.asarray(row, float) / (2 * _HALF - 1)
    share = share if channel.rising else 1.0 - share
    return limits[0] + (limits[1] - limits[0]) * share


@dataclass
class SliceLayer(Layer):
    """
    The star in one channel.

    Attributes
    ----------
    place : _Place
        What its pixels see.
    """

    place: _Place | None = None

    def _expand(self, dx: float, dy: float) -> list[np.ndarray]:
        """Return the star on the slices and its derivatives: motion in x is along the slices, in y across them."""
        assert self.place is not None
        assert self.order.slices is not None
        step = 0.05
        scale = self.order.slices.pixel

        def image(a: float, b: float) -> np.ndarray:
            return _shares(self.place, self.order.slices, _SOURCE[0] + a * scale, _SOURCE[1] + b * scale)

        middle = image(dx, dy)
        low, high = image(dx - step, dy), image(dx + step, dy)
        across = (high - low) / (2 * step), (high - 2 * middle + low) / step**2
        along = (image(dx, dy + step) - image(dx, dy - step)) / (2 * step)
        return [term * self.star for term in (middle, *across, along)]


def _shares(place: _Place, channel: Channel, alpha: float, beta: float) -> np.ndarray:
    """Return the share of the star's light on each pixel: two Gaussians, integrated along and across the slice."""
    from scipy.special import erf

    sigma = (0.033 * place.wavelength + 0.106) / 2.3548

    def within(distance: np.ndarray, size: float, width: np.ndarray) -> np.ndarray:
        return (erf((distance + size / 2) / width / np.sqrt(2)) - erf((distance - size / 2) / width / np.sqrt(2))) / 2

    share = np.zeros(sigma.shape)
    for part, wide in ((1.0 - _HALO[0], 1.0), (_HALO[0], _HALO[1])):
        along = within(place.alpha - alpha, channel.pixel, wide * sigma)
        share += part * along * within(place.beta - beta, channel.width, wide * sigma)
    return np.where(place.index >= 0, share, 0.0)


def slice_layers(
    instrument: Instrument, detector: DetectorRecord, subarray: Subarray, star: Star, transit: Transit, n_int: int
) -> tuple[Layer, ...]:
    """Return one layer for each channel of a detector; arguments as of `tso3.simulate.layers.make_layers`."""
    fraction = (np.arange(n_int) + 0.5) / n_int
    layers = []
    for order in detector.orders:
        assert order.slices is not None
        assert order.wavelength_limits is not None
        channel, limits = order.slices, order.wavelength_limits
        place = _place(channel, limits, subarray)
        rows = np.arange(subarray.ny, dtype=float) + subarray.ystart - 1
        width = (limits[1] - limits[0]) / (2 * _HALF - 1)
        geometry = Geometry(
            wavelength=np.where(place.index >= 0, place.wavelength, np.nan),
            everywhere=place.wavelength,
            trace=_trace(channel, rows),
            along=_wavelength(channel, limits, rows),
            width=np.full(place.wavelength.shape, width),
        )
        response = instrument.response(place.wavelength, geometry.width)
        spectrum = star.spectrum(geometry.along) * detector.brightness
        nodes = np.linspace(geometry.along.min(), geometry.along.max(), 32)
        curves = transit.light_curves(fraction, nodes, 1.0 / n_int)
        area = channel.pixel * channel.width / 206264.806247**2
        layers.append(
            SliceLayer(
                instrument,
                order,
                geometry,
                response * (area / instrument.pixel_area_sr),  # calibrated is what a pixel sees, not what it would
                star.spectrum(place.wavelength) * response * detector.brightness,
                spectrum,
                nodes,
                curves,
                place=place,
            )
        )
    return tuple(layers)


def _trace(channel: Channel, rows: np.ndarray) -> np.ndarray:
    """Return the column of the star in the slice that sees most of it."""
    nearest = min(range(channel.n_slices), key=lambda k: abs(channel.beta(k) - _SOURCE[1]))
    return channel.middle(channel.order.index(nearest)) + _bend(channel, rows) + _SOURCE[0] / channel.pixel


def slices_wcs(scene: DetectorScene) -> WCS:
    """
    Return the WCS of a detector of the spectrometer, with the frames of stage 2: alpha_beta, v2v3, world.

    Each slice has transforms of its own, chosen by a map of the detector's pixels; between slices all is NaN.
    """
    from astropy import units
    from gwcs import WCS, selector
    from gwcs import coordinate_frames as cf

    labels = np.zeros(scene.shape, np.int16)
    transforms = {}
    for layer in scene.layers:
        assert isinstance(layer, SliceLayer)
        assert layer.place is not None
        assert layer.order.slices is not None
        assert layer.order.wavelength_limits is not None
        channel = layer.order.slices
        inside = layer.place.index >= 0
        labels[inside] = 100 * layer.order.number + layer.place.index[inside] + 1
        for place, k in enumerate(channel.order):
            transforms[100 * layer.order.number + k + 1] = _slice_model(layer, scene.subarray.ystart - 1, place, k)
    to_slices = selector.RegionsSelector(
        ("x", "y"), ("alpha", "beta", "lam"), label_mapper=selector.LabelMapperArray(labels), selector=transforms
    )
    frames = frames_of("um")
    pixel = cf.Frame2D(name="detector", axes_order=(0, 1), unit=(units.pix, units.pix))
    spatial = cf.Frame2D(
        name="alpha_beta_spatial", axes_order=(0, 1), unit=(units.arcsec, units.arcsec), axes_names=("alpha", "beta")
    )
    wave = cf.SpectralFrame(name="alpha_beta_spectral", axes_order=(2,), unit=(units.um,), axes_names=("lambda",))
    v2, v3 = scene.instrument.v2v3
    return WCS([
        (pixel, to_slices),
        (cf.CompositeFrame([spatial, wave], name="alpha_beta"), _to_v2v3(v2, v3)),
        (frames["v2v3"], to_sky(v2, v3) & _identity(1)),
        (frames["world"], None),
    ])  # fmt: skip


def _identity(n: int) -> Any:
    from astropy.modeling import models

    return models.Identity(n)


def _to_v2v3(v2: float, v3: float) -> Any:
    """Return the transform from the field to the focal plane: the star is at the reference point."""
    from astropy.modeling import models

    return (models.Shift(v2 - _SOURCE[0]) & models.Shift(v3 - _SOURCE[1])) & models.Identity(1)


def _slice_model(layer: SliceLayer, first: int, place: int, index: int) -> Any:
    """Return the transform from pixels to (alpha, beta, wavelength) of one slice, as polynomials."""
    from astropy.modeling import models

    channel, limits = layer.order.slices, layer.order.wavelength_limits
    assert channel is not None
    assert limits is not None
    rows = np.array([0.0, _HALF, 2 * _HALF])
    c0, c1, c2 = np.polynomial.polynomial.polyfit(rows - first, _bend(channel, rows), 2)
    pixel, middle = channel.pixel, channel.middle(place)
    alpha = models.Polynomial2D(2, c0_0=-(middle + c0) * pixel, c1_0=pixel, c0_1=-c1 * pixel, c0_2=-c2 * pixel)
    sign = 1.0 if channel.rising else -1.0
    slope = sign * (limits[1] - limits[0]) / (2 * _HALF - 1)
    start = limits[0] if channel.rising else limits[1]
    tilt = slope * _LEAN
    wavelength = models.Polynomial2D(
        2,
        c0_0=start + slope * (first + channel.stagger(index)) - tilt * (middle + c0),
        c1_0=tilt,
        c0_1=slope - tilt * c1,
        c0_2=-tilt * c2,
    )
    return models.Mapping((0, 1, 0, 0, 1), n_inputs=2) | alpha & models.Const1D(channel.beta(index)) & wavelength
