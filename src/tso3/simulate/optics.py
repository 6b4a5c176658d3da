"""The telescope's point-spread function and what it looks like on pixels: images and spatial profiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import BSpline, RectBivariateSpline, make_interp_spline

__all__ = ["LineSpread", "PointSpread", "line_spread", "point_spread"]

DIAMETER = 6.5
"""Diameter of the telescope [m]."""
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


@lru_cache(maxsize=1)
def _master() -> tuple[np.ndarray, np.ndarray]:
    """Return the normalised PSF (square, step 0.1 wavelength / diameter) and its axis."""
    from scipy.ndimage import gaussian_filter

    pupil, axis = _pupil()
    u = np.arange(-_EXTENT, _EXTENT + _STEP / 2, _STEP)
    kernel = np.exp(-2j * np.pi * np.outer(u, axis))
    psf = np.abs(kernel @ pupil @ kernel.T) ** 2
    psf = gaussian_filter(psf, 0.22 / _STEP)
    centre = (psf * u).sum() / psf.sum(), (psf.sum(1) * u).sum() / psf.sum()
    psf = np.clip(RectBivariateSpline(u, u, psf)(u + centre[1], u + centre[0]), 0, None)
    return psf / psf.sum() / _STEP**2, u


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
class PointSpread:
    """
    The PSF integrated over pixels of one size, as a spline.

    Attributes
    ----------
    spline : RectBivariateSpline
        Fraction of the light on a pixel at (dy, dx) pixels from the source.
    """

    spline: RectBivariateSpline

    def on_pixels(self, dy: np.ndarray, dx: np.ndarray, *, ny: int = 0, nx: int = 0) -> np.ndarray:
        """Return the fraction, or its derivative of order ``ny``, ``nx`` in the source position, on a grid."""
        sign = (-1) ** (ny + nx)
        return sign * self.spline(dy, dx, dx=ny, dy=nx)

    def enclosed(self, radius: float) -> float:
        """Return the fraction of the light within a radius [pixel]."""
        step = 0.1
        grid = np.arange(-radius, radius + step / 2, step)
        inside = np.hypot(*np.meshgrid(grid, grid)) <= radius
        return float((self.spline(grid, grid) * inside).sum() * step**2)


@lru_cache(maxsize=4)
def point_spread(scale: float) -> PointSpread:
    """
    Return the pixel-integrated PSF.

    Parameters
    ----------
    scale : float
        Wavelength / diameter [pixel].

    Returns
    -------
    psf : PointSpread
        Fractions sum to 1 over the plane.
    """
    psf, u = _master()
    cumulative = np.cumsum(np.cumsum(psf, 0), 1) * _STEP**2
    edge = RectBivariateSpline(u + _STEP / 2, u + _STEP / 2, cumulative)
    pixel = np.arange(-(_EXTENT - 2) * scale, (_EXTENT - 2) * scale, 0.25)
    low, high = (pixel - 0.5) / scale, (pixel + 0.5) / scale
    fraction = edge(high, high) - edge(high, low) - edge(low, high) + edge(low, low)
    return PointSpread(RectBivariateSpline(pixel, pixel, fraction, kx=4, ky=4))
