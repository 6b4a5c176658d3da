"""The telescope's point-spread function and what it looks like on pixels: images and spatial profiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import BSpline, RectBivariateSpline, make_interp_spline

__all__ = ["LineSpread", "PointSpread", "line_spread", "point_spread", "spread"]

DIAMETER = 6.5
"""Diameter of the telescope [m]."""
_PIECE = 1.6
"""Height of the piece of the pupil that an element of the Dispersed Hartmann Sensor sees (a choice) [m]."""
_EXTENT = 26.0
_STEP = 0.1


def _pupil(n: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the complex pupil of 18 hexagons with gaps, central obscuration and three struts.

    Wavefront errors are pistons and tilts per segment, drawn once with a fixed seed: 60 nm rms at 2.1 micron.
    """
    axis = (np.arange(n) - (n - 1) / 2) / n * 1.04
    x, y = np.meshgrid(axis, axis)
    flat = 1.32 / DIAMETER
    rng = np.random.Generator(np.random.SFC64(2022))
    pupil = np.zeros((n, n), complex)
    for q in range(-2, 3):
        for r in range(-2, 3):
            if max(abs(q), abs(r), abs(q + r)) not in (1, 2):
                continue
            u = x - flat * 1.005 * (q + r / 2)
            v = y - flat * 1.005 * r * np.sqrt(3) / 2
            inside = np.maximum.reduce(
                [np.abs(u), np.abs(u / 2 + v * np.sqrt(3) / 2), np.abs(u / 2 - v * np.sqrt(3) / 2)]
            )
            error = rng.normal(0, 0.12) + (rng.normal(0, 0.5) * u + rng.normal(0, 0.5) * v) / flat * 0.3
            pupil += np.where(inside < flat * 0.498, np.exp(1j * error), 0)
    radius = np.hypot(x, y)
    for angle in np.deg2rad([90.0, 240.0, 300.0]):
        across = np.abs(-x * np.sin(angle) + y * np.cos(angle))
        along = x * np.cos(angle) + y * np.sin(angle)
        pupil[(across < 0.011) & (along > 0)] = 0
    pupil[radius > 0.515] = 0
    return pupil, axis


@lru_cache(maxsize=4)
def _master(defocus: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the normalised PSF (square, step 0.1 wavelength / diameter) and its axis.

    A weak lens adds W waves of defocus, a phase 2 pi W r^2 with r = 1 at the edge of the pupil; by its slope the light
    of the edge arrives 4 W wavelengths / diameter from the centre, which is the radius of the image.
    """
    from scipy.ndimage import gaussian_filter

    pupil, axis = _pupil()
    if defocus:
        pupil = pupil * np.exp(8j * np.pi * defocus * (axis[None, :] ** 2 + axis[:, None] ** 2))
    extent = _extent(defocus)
    u = np.arange(-extent, extent + _STEP / 2, _STEP)
    kernel = np.exp(-2j * np.pi * np.outer(u, axis))
    psf = np.abs(kernel @ pupil @ kernel.T) ** 2
    psf = gaussian_filter(psf, 0.22 / _STEP)
    centre = (psf * u).sum() / psf.sum(), (psf.sum(1) * u).sum() / psf.sum()
    psf = np.clip(RectBivariateSpline(u, u, psf)(u + centre[1], u + centre[0]), 0, None)
    return psf / psf.sum() / _STEP**2, u


def _extent(defocus: float) -> float:
    """Return how far the PSF is computed [wavelength / diameter]: beyond the edge of a defocused image."""
    return _EXTENT + 4 * abs(defocus) if defocus else _EXTENT


@dataclass(frozen=True)
class LineSpread:
    """
    The PSF summed along dispersion, as a function of the cross-dispersion coordinate.

    Attributes
    ----------
    cumulative : BSpline
        Fraction of the light below a coordinate in wavelength / diameter.
    """

    cumulative: BSpline

    def on_pixels(self, offset: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the fraction of the light on pixels and its first two derivatives with respect to the source position.

        Parameters
        ----------
        offset : ndarray
            Pixel centre minus source [pixel].
        scale : ndarray
            Wavelength / diameter [pixel], broadcast against ``offset``.

        Returns
        -------
        fraction, first, second : ndarray
            Fraction, its derivative per pixel of source motion and the second derivative.
        """
        low, high = (offset - 0.5) / scale, (offset + 0.5) / scale
        limits = (-_EXTENT + 1, _EXTENT - 1)
        low, high = np.clip(low, *limits), np.clip(high, *limits)
        value, slope, curve = (self.cumulative.derivative(k) if k else self.cumulative for k in range(3))
        return (
            value(high) - value(low),
            -(slope(high) - slope(low)) / scale,
            (curve(high) - curve(low)) / scale**2,
        )

    def enclosed(self, half_width: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the fraction of the light within ``half_width`` pixels on either side of the trace."""
        u = np.clip(np.asarray(half_width) / scale, 0, _EXTENT - 1)
        return self.cumulative(u) - self.cumulative(-u)


@lru_cache(maxsize=2)
def line_spread(axis: int = 0) -> LineSpread:
    """Return the line-spread function summed along x (``axis`` 1, light spread in y) or along y (``axis`` 2)."""
    psf, u = _master()
    line = psf.sum(1 if axis == 1 else 0) * _STEP
    cumulative = np.concatenate([[0.0], np.cumsum((line[1:] + line[:-1]) / 2) * _STEP])
    return LineSpread(make_interp_spline(u, cumulative / cumulative[-1], k=5))


@dataclass(frozen=True)
class WideSpread:
    """
    The wide spatial profile of a defocusing weak lens (SOSS): flat, with two horns, the same at all wavelengths.

    Attributes
    ----------
    cumulative : BSpline
        Fraction of the light below a cross-dispersion offset [pixel].
    """

    cumulative: BSpline

    def on_pixels(self, offset: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `LineSpread.on_pixels` returns; of ``scale`` only the shape is used."""
        near = np.abs(offset) < _EXTENT + 1.0  # beyond there is no light, and splines take their time
        found = LineSpread(self.cumulative).on_pixels(offset[near], np.ones(1))
        images = np.zeros((3, *np.broadcast_shapes(offset.shape, np.shape(scale))))
        images[:, near] = found
        return images[0], images[1], images[2]

    def enclosed(self, half_width: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the fraction of the light within ``half_width`` pixels on either side of the trace."""
        return LineSpread(self.cumulative).enclosed(half_width, np.ones_like(scale))


@lru_cache(maxsize=1)
def wide_spread() -> WideSpread:
    """
    Return the profile of SOSS: 23 pixels wide, horns at -9 and +8 pixels, and wings.

    Shape by eye from the published images of the mode (Albert et al. 2023, PASP 135, 075001); the numbers are choices.
    """
    u = np.arange(-_EXTENT, _EXTENT + _STEP / 2, _STEP)
    flat = 1.0 / (1.0 + np.exp((np.abs(u) - 11.3) / 0.45))
    horns = 1.1 * np.exp(-(((u + 9.1) / 1.7) ** 2)) + 0.9 * np.exp(-(((u - 8.6) / 1.9) ** 2))
    ripple = 1.0 + 0.10 * np.cos(2 * np.pi * (u + 0.4) / 4.6)
    line = flat * (0.8 * ripple + horns) + 0.012 / (1.0 + (u / 9.0) ** 2)
    cumulative = np.concatenate([[0.0], np.cumsum((line[1:] + line[:-1]) / 2)])
    cumulative /= cumulative[-1]
    middle = np.sum(np.diff(cumulative) * (u[1:] + u[:-1]) / 2)
    return WideSpread(make_interp_spline(u - middle, cumulative, k=5))


@dataclass(frozen=True)
class StripeSpread:
    """
    The profile of a piece of the pupil: that of the telescope, wider.

    Attributes
    ----------
    whole : LineSpread
        Of the telescope.
    """

    whole: LineSpread

    def on_pixels(self, offset: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the fraction of the light on pixels and its first two derivatives, as `LineSpread.on_pixels`."""
        return self.whole.on_pixels(offset, scale * (DIAMETER / _PIECE))

    def enclosed(self, half_width: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the fraction of the light within ``half_width`` pixels on either side of the trace."""
        return self.whole.enclosed(half_width, scale * (DIAMETER / _PIECE))


def spread(name: str, axis: int) -> LineSpread | WideSpread | StripeSpread:
    """
    Return a spatial profile by its name in the records.

    Parameters
    ----------
    name : str
        ``"telescope"``, ``"soss"``, ``"stripe"``: that of a piece of the pupil, or ``"frame:"`` and the path of a
        median frame of SOSS.
    axis : int
        Dispersion axis: 1 along x, 2 along y.

    Returns
    -------
    profile : LineSpread, WideSpread or StripeSpread
        All have ``on_pixels`` and ``enclosed``.
    """
    if name.startswith("frame:"):
        from tso3.simulate.frame_profile import frame_spread

        return frame_spread(name.removeprefix("frame:"))
    makers = {
        "telescope": lambda: line_spread(axis),
        "soss": wide_spread,
        "stripe": lambda: StripeSpread(line_spread(axis)),
    }
    return makers[name]()


@dataclass(frozen=True)
class PointSpread:
    """
    The PSF integrated over pixels of one size, as a spline.

    Attributes
    ----------
    spline : RectBivariateSpline
        Fraction of the light on a pixel at (dy, dx) pixels from the source.
    reach : float
        Beyond this distance along either axis [pixel] there is no light.
    """

    spline: RectBivariateSpline
    reach: float

    def on_pixels(self, dy: np.ndarray, dx: np.ndarray, *, ny: int = 0, nx: int = 0) -> np.ndarray:
        """Return the fraction, or its derivative of order ``ny``, ``nx`` in the source position, on a grid."""
        sign = (-1) ** (ny + nx)
        within = [np.flatnonzero(np.abs(at) <= self.reach) for at in (dy, dx)]
        image = np.zeros((len(dy), len(dx)))
        if all(index.size for index in within):
            rows, columns = (slice(index[0], index[-1] + 1) for index in within)
            image[rows, columns] = sign * self.spline(dy[rows], dx[columns], dx=ny, dy=nx)
        return image

    def enclosed(self, radius: float) -> float:
        """Return the fraction of the light within a radius [pixel]."""
        step = 0.1
        grid = np.arange(-radius, radius + step / 2, step)
        inside = np.hypot(*np.meshgrid(grid, grid)) <= radius
        return float((self.spline(grid, grid) * inside).sum() * step**2)


@lru_cache(maxsize=4)
def point_spread(scale: float, defocus: float = 0.0) -> PointSpread:
    """
    Return the pixel-integrated PSF.

    Parameters
    ----------
    scale : float
        Wavelength / diameter [pixel].
    defocus : float, optional
        Waves of defocus at the wavelength, centre to edge of the pupil.

    Returns
    -------
    psf : PointSpread
        Fractions sum to 1 over the plane.
    """
    psf, u = _master(defocus)
    cumulative = np.cumsum(np.cumsum(psf, 0), 1) * _STEP**2
    edge = RectBivariateSpline(u + _STEP / 2, u + _STEP / 2, cumulative)
    reach = (_extent(defocus) - 2) * scale
    pixel = np.arange(-reach, reach, 0.25)
    low, high = (pixel - 0.5) / scale, (pixel + 0.5) / scale
    fraction = edge(high, high) - edge(high, low) - edge(low, high) + edge(low, low)
    return PointSpread(RectBivariateSpline(pixel, pixel, fraction, kx=4, ky=4), reach - 0.5)
