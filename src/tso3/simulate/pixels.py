"""Bad pixels: dead, hot, telegraph, intermittent, lapsing, and those outside the calibrated area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso3.simulate.scene import stream

__all__ = ["KINDS", "BadPixels", "draw_bad_pixels"]

KINDS = ("dead", "hot_flagged", "hot", "telegraph", "intermittent", "lapsing")
"""Kinds of bad pixels: index in this tuple is the code in the truth file."""

_SHARES = (0.35, 0.25, 0.15, 0.12, 0.13)


@dataclass(frozen=True)
class BadPixels:
    """
    The bad pixels of one detector, static in place.

    Attributes
    ----------
    y, x, kind : ndarray of int, shape (n,)
        Place (0-based) and index into ``KINDS``.
    rate : ndarray of float, shape (n,)
        Extra signal [electron / s] of hot and telegraph pixels, 0 for others.
    period : ndarray of int, shape (n,)
        Telegraph: integrations between switches; lapsing: the same, between flagged and good; intermittent: one
        integration in ``period`` is flagged.
    phase : ndarray of int, shape (n,)
        Start of the pattern [integrations].
    """

    y: np.ndarray
    x: np.ndarray
    kind: np.ndarray
    rate: np.ndarray
    period: np.ndarray
    phase: np.ndarray

    def of(self, kind: str) -> np.ndarray:
        """Return the indices of the pixels of one kind."""
        return np.flatnonzero(self.kind == KINDS.index(kind))

    def flagged(self, i_int: int) -> np.ndarray:
        """Return the indices of the intermittent and lapsing pixels that are bad in one integration."""
        which = self.of("intermittent")
        return np.concatenate(
            [which[(i_int + self.phase[which]) % self.period[which] == 0], self._odd("lapsing", i_int)]
        )

    def switched_on(self, i_int: int) -> np.ndarray:
        """Return the indices of the telegraph pixels that are in their high state in one integration."""
        return self._odd("telegraph", i_int)

    def _odd(self, kind: str, i_int: int) -> np.ndarray:
        """Return the indices of the pixels of a kind that are in the second half of their cycle."""
        which = self.of(kind)
        return which[((i_int + self.phase[which]) // self.period[which]) % 2 == 1]


def draw_bad_pixels(fraction: float, shape: tuple[int, int], sigma: float, seed: int, detector: int) -> BadPixels:
    """
    Return bad pixels, a third of them in pairs and small clusters.

    Parameters
    ----------
    fraction : float
        Fraction of all pixels.
    shape : (ny, nx)
        Detector.
    sigma : float
        Read noise of an integration [electron / s], the scale of hot and telegraph signals.
    seed, detector : int
        The random stream; a detector keeps its bad pixels in every exposure.

    Returns
    -------
    bad : BadPixels
        No place twice.
    """
    rng = stream(seed, 0, detector, 2)
    n_pixel = shape[0] * shape[1]
    n = min(round(fraction * n_pixel), n_pixel // 4)
    y, x = rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)
    cluster = rng.random(n) < 0.33
    y[1:][cluster[1:]] = y[:-1][cluster[1:]] + rng.integers(0, 2, int(cluster[1:].sum()))
    x[1:][cluster[1:]] = x[:-1][cluster[1:]] + rng.integers(0, 2, int(cluster[1:].sum()))
    flat = np.unique(np.clip(y, 0, shape[0] - 1) * shape[1] + np.clip(x, 0, shape[1] - 1))
    kind = rng.choice(len(_SHARES), len(flat), p=_SHARES)
    signal = np.exp(rng.normal(np.log(25.0), 0.8, len(flat))) * sigma
    rate = np.where((kind >= 1) & (kind <= 2), signal, np.where(kind == 3, 0.4 * signal, 0.0))
    period = np.where(kind == 3, rng.integers(2, 40, len(flat)), rng.integers(15, 26, len(flat)))
    return BadPixels(flat // shape[1], flat % shape[1], kind, rate, period, rng.integers(0, 1000, len(flat)))
