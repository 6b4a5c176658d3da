"""Cosmic rays: tracks with an energy distribution, charge shared between pixels, and an afterglow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso3.simulate.scene import stream

__all__ = ["CosmicRays", "Deposit"]

_STEPS = 16
_RADIUS = 2


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

    The rate is that measured at L2, about 4 per cm2 and second; the energy lost per unit length is a log-normal with a
    heavy tail (a stand-in for the Landau distribution); directions are isotropic, so a track crosses
    ``thickness * tan(angle)`` pixels. Diffusion and inter-pixel capacitance share the charge with neighbours.

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
            Pixels with more than 3 electrons.
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
        along = (np.arange(_STEPS) + 0.5) / _STEPS - 0.5
        ys = y0[:, None] + (length * np.sin(angle))[:, None] * along
        xs = x0[:, None] + (length * np.cos(angle))[:, None] * along
        share = rng.gamma(2.0, 0.5, (n, _STEPS)) / _STEPS
        return _share(ys, xs, charge[:, None] * share, phase, shape)


def _share(ys: np.ndarray, xs: np.ndarray, charge: np.ndarray, phase: np.ndarray, shape: tuple[int, int]) -> Deposit:
    """Spread charge at points over pixels by Gaussian diffusion (0.33 pixel) and capacitance (0.6 % to neighbours)."""
    from scipy.special import ndtr

    reach = np.arange(-_RADIUS, _RADIUS + 1)
    iy, ix = np.rint(ys).astype(np.int64), np.rint(xs).astype(np.int64)
    edges = np.arange(-_RADIUS, _RADIUS + 2) - 0.5
    wy = np.diff(ndtr((edges - (ys - iy)[..., None]) / 0.33), axis=-1)
    wx = np.diff(ndtr((edges - (xs - ix)[..., None]) / 0.33), axis=-1)
    for w in (wy, wx):
        shared = 0.988 * w
        shared[..., 1:] += 0.006 * w[..., :-1]
        shared[..., :-1] += 0.006 * w[..., 1:]
        w[...] = shared
    yy = (iy[..., None] + reach)[..., :, None] + np.zeros(len(reach), np.int64)
    xx = (ix[..., None] + reach)[..., None, :] + np.zeros((len(reach), 1), np.int64)
    amount = charge[..., None, None] * wy[..., :, None] * wx[..., None, :]
    when = np.broadcast_to(phase[:, None, None, None], amount.shape)
    keep = (yy >= 0) & (yy < shape[0]) & (xx >= 0) & (xx < shape[1])
    flat, amount, when = (yy * shape[1] + xx)[keep], amount[keep], when[keep]
    index, inverse = np.unique(flat, return_inverse=True)
    total = np.bincount(inverse, amount, len(index))
    order = np.lexsort((amount, inverse))
    last = np.searchsorted(inverse[order], np.arange(len(index)), side="right") - 1
    strong = total > 3.0
    return Deposit(index[strong], total[strong], when[order][last][strong])
