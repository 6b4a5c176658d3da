"""Cosmic rays: tracks with an energy distribution, charge shared between pixels, and an afterglow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso3.simulate.scene import stream

__all__ = ["CosmicRays", "Deposit"]

_POINTS_PER_PIXEL = 3
_RADIUS = 2
_DIFFUSION = 0.33
_CAPACITANCE = 0.006


@dataclass(frozen=True)
class Deposit:
    """
    Charge that particles left in one integration, pixel by pixel.

    Attributes
    ----------
    index : ndarray of int, shape (n,)
        Flat pixel index, unique, ascending.
    charge : ndarray of float, shape (n,)
        Deposited charge [electron].
    phase : ndarray of float, shape (n,)
        When in the ramp, 0 to 1, of the largest particle on the pixel.
    """

    index: np.ndarray
    charge: np.ndarray
    phase: np.ndarray


@dataclass(frozen=True)
class CosmicRays:
    """
    Particles on one detector.

    The rate is taken as 4 per cm2 and second, the order of what is reported for L2; the energy lost per unit length is
    a log-normal with a heavy tail (a stand-in for the Landau distribution); directions are isotropic, so a track
    crosses ``thickness * tan(angle)`` pixels. Diffusion and inter-pixel capacitance share the charge with neighbours.

    Attributes
    ----------
    rate : float
        Multiplier of the rate at L2.
    pixel_microns : float
        Pixel size [micron].
    thickness : float
        Sensitive depth in parts of a pixel.
    """

    rate: float
    pixel_microns: float
    thickness: float

    def expected(self, n_pixel: int, seconds: float) -> float:
        """Return the mean number of particles."""
        return self.rate * 4.0 * n_pixel * (self.pixel_microns * 1e-4) ** 2 * seconds

    def deposit(self, shape: tuple[int, int], seconds: float, seed: int, key: tuple[int, ...]) -> Deposit:
        """
        Return what falls on the detector during one integration.

        Parameters
        ----------
        shape : (ny, nx)
            Detector.
        seconds : float
            Integration time [s].
        seed : int
            Seed of the visit.
        key : tuple of int
            The stream of this integration.

        Returns
        -------
        deposit : Deposit
            Pixels with more than 3 electrons, each once.
        """
        empty = np.zeros(0)
        if self.rate == 0:
            return Deposit(empty.astype(np.int64), empty, empty)
        rng = stream(seed, *key)
        n = int(rng.poisson(self.expected(shape[0] * shape[1], seconds)))
        y0, x0 = rng.uniform(-0.5, shape[0] - 0.5, n), rng.uniform(-0.5, shape[1] - 0.5, n)
        cosine = np.maximum(np.sqrt(rng.uniform(0, 1, n)), 0.05)
        length = self.thickness * np.minimum(np.sqrt(1 - cosine**2) / cosine, 20.0)
        angle, phase = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.02, 0.98, n)
        loss = np.exp(rng.normal(np.log(900.0), 0.55, n)) * (1 + rng.pareto(2.2, n) * 0.35)
        charge = loss * np.hypot(length, self.thickness) / 0.3 * 0.6
        points = np.clip(np.ceil(length * _POINTS_PER_PIXEL), 1, 128).astype(np.int64)
        hit = np.repeat(np.arange(n), points)
        along = (np.arange(len(hit)) - np.repeat(np.cumsum(points) - points, points) + 0.5) / points[hit] - 0.5
        ys = y0[hit] + (length * np.sin(angle))[hit] * along
        xs = x0[hit] + (length * np.cos(angle))[hit] * along
        share = rng.gamma(2.0, 0.5, len(hit)) / points[hit]
        return _share(ys, xs, charge[hit] * share, phase[hit], shape)


def _share(ys: np.ndarray, xs: np.ndarray, charge: np.ndarray, phase: np.ndarray, shape: tuple[int, int]) -> Deposit:
    """Spread charge at points over pixels by Gaussian diffusion (0.33 pixel) and capacitance (0.6 % to neighbours)."""
    from scipy.special import ndtr

    reach = np.arange(-_RADIUS, _RADIUS + 1)
    edges = np.arange(-_RADIUS, _RADIUS + 2) - 0.5
    iy, ix = np.rint(ys).astype(np.int64), np.rint(xs).astype(np.int64)
    wy = _with_neighbours(np.diff(ndtr((edges - (ys - iy)[:, None]) / _DIFFUSION), axis=1))
    wx = _with_neighbours(np.diff(ndtr((edges - (xs - ix)[:, None]) / _DIFFUSION), axis=1))
    yy, xx = iy[:, None, None] + reach[:, None], ix[:, None, None] + reach[None, :]
    amount = charge[:, None, None] * wy[:, :, None] * wx[:, None, :]
    keep = (yy >= 0) & (yy < shape[0]) & (xx >= 0) & (xx < shape[1]) & (amount > 0.05)
    flat, amount, when = (
        (yy * shape[1] + xx)[keep],
        amount[keep],
        np.broadcast_to(phase[:, None, None], keep.shape)[keep],
    )
    if not len(flat):
        return Deposit(flat, amount, when)
    order = np.lexsort((amount, flat))
    index, first = np.unique(flat[order], return_index=True)
    total = np.add.reduceat(amount[order], first)
    largest = np.append(first[1:], len(flat)) - 1
    strong = total > 3.0
    return Deposit(index[strong], total[strong], when[order][largest][strong])


def _with_neighbours(weight: np.ndarray) -> np.ndarray:
    """Return weights after inter-pixel capacitance along the last axis."""
    shared = (1 - 2 * _CAPACITANCE) * weight
    shared[:, 1:] += _CAPACITANCE * weight[:, :-1]
    shared[:, :-1] += _CAPACITANCE * weight[:, 1:]
    return shared
