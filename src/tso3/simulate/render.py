"""From a scene to the planes of an integration: noise, cosmic rays, flags, variances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tso3.simulate.detector import DetectorScene
from tso3.simulate.particles import Deposit
from tso3.simulate.scene import stream

__all__ = ["PLANES", "Hits", "Renderer"]

PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
"""Planes of a product, in the order of its HDUs."""

_DO_NOT_USE, _SATURATED, _JUMP = 1, 2, 4
_MISSED = 0.15
"""Share of the particles that the jump step does not catch."""
_TAIL, _TAIL_LENGTH = 3.0, 10
"""E-folding time and length of the tail of a cosmic ray [integrations]."""


@dataclass(frozen=True)
class Hits:
    """
    Cosmic rays in one integration as they are in the product.

    Attributes
    ----------
    index : ndarray of int, shape (n,)
        Flat pixel index.
    amplitude : ndarray of float, shape (n,)
        What was added to SCI, in its unit.
    caught : ndarray of bool, shape (n,)
        True where the jump step caught it: nothing is added, the flag is JUMP_DET and the variance larger.
    sigma : ndarray of float, shape (n,)
        Amplitude in units of ERR there; NaN where ERR is NaN.
    """

    index: np.ndarray
    amplitude: np.ndarray
    caught: np.ndarray
    sigma: np.ndarray


class Renderer:
    """
    Make integrations of one scene, in any order.

    An integration depends on the scene and its own number only, never on which others were made.

    Parameters
    ----------
    scene : DetectorScene
        The scene.
    """

    def __init__(self, scene: DetectorScene) -> None:
        self.scene = scene
        self._convert = scene.convert.astype(np.float32)
        self._convert2 = (scene.convert**2).astype(np.float32)
        self._read = scene.read_variance
        self._dead = (scene.static_dq & _DO_NOT_USE).astype(bool)
        which = scene.bad.of("hot_flagged")
        self._dead[scene.bad.y[which], scene.bad.x[which]] = False
        self._dead |= ~np.isfinite(scene.convert)
        self._normal = np.empty(scene.shape, np.float32)
        self._deposits: dict[int, Deposit] = {}
        self._well = np.inf
        if scene.options.troubles.saturation:
            self._well = scene.options.troubles.saturation * float(np.max(scene.model(0) - scene.background))

    def integration(self, i_int: int, out: dict[str, np.ndarray]) -> Hits:
        """
        Fill the planes of one integration.

        Parameters
        ----------
        i_int : int
            0-based integration of the exposure.
        out : dict of str to ndarray, shape (ny, nx)
            Planes to fill, native float32 and uint32; VAR_FLAT may be absent.

        Returns
        -------
        hits : Hits
            The cosmic rays in it.
        """
        scene, options = self.scene, self.scene.options
        rate = scene.model(i_int)
        out["DQ"][...] = scene.static_dq
        poisson = np.maximum(rate, np.float32(1e-3)) / np.float32(scene.clock.fitted)
        read = self._read
        hits, read = self._hits(i_int, rate, poisson, read.copy() if np.isfinite(self._well) else read, out["DQ"])
        lost = self._saturate(rate, poisson, read, out["DQ"])
        if options.noise:
            rate += self._noise(i_int, poisson, read)
        rate.ravel()[hits.index] += hits.amplitude.astype(np.float32)
        np.multiply(rate, self._convert, out=out["SCI"])
        np.multiply(poisson, self._convert2, out=out["VAR_POISSON"])
        np.multiply(read, self._convert2, out=out["VAR_RNOISE"])
        total = out["VAR_POISSON"] + out["VAR_RNOISE"]
        if "VAR_FLAT" in out:
            np.square(out["SCI"] * np.float32(options.flat_error), out=out["VAR_FLAT"])
            total += out["VAR_FLAT"]
        np.sqrt(total, out=out["ERR"])
        self._misjudge(out)
        self._blank(i_int, lost, out)
        amplitude = hits.amplitude * scene.convert.ravel()[hits.index]
        return replace(hits, amplitude=amplitude, sigma=amplitude / out["ERR"].ravel()[hits.index])

    def _saturate(self, rate: np.ndarray, poisson: np.ndarray, read: np.ndarray, dq: np.ndarray) -> np.ndarray | None:
        """
        Shorten the ramps of saturated pixels: flag them and raise their variances, in place.

        Return where fewer than two groups are left; None without saturation.
        """
        if not np.isfinite(self._well):
            return None
        n = self.scene.clock.ngroups
        kept = np.floor(np.minimum(n * self._well / np.maximum(rate, np.float32(1e-6)), n)).astype(np.int64)
        dq[kept < n] |= _SATURATED
        kept = np.maximum(kept, 1)
        poisson *= ((n - 1) / np.maximum(kept - 1, 1)).astype(np.float32)
        read *= ((n**3 - n) / np.maximum(kept**3 - kept, 6)).astype(np.float32)
        return kept < 2

    def _misjudge(self, out: dict[str, np.ndarray]) -> None:
        """Make the errors wrong by the factor that was asked for."""
        factor = self.scene.options.troubles.err_scale
        if factor != 1.0:
            for name, plane in out.items():
                if name == "ERR" or name.startswith("VAR_"):
                    plane *= np.float32(factor if name == "ERR" else factor**2)

    def _blank(self, i_int: int, lost: np.ndarray | None, out: dict[str, np.ndarray]) -> None:
        """Set NaN where nothing was measured: dead, saturated, and those that come and go while they are bad."""
        bad = self.scene.bad
        which = bad.flagged(i_int)
        out["DQ"][bad.y[which], bad.x[which]] |= _DO_NOT_USE
        if lost is not None:
            out["DQ"][lost] |= _DO_NOT_USE
        for name, plane in out.items():
            if name != "DQ":
                plane[self._dead] = np.nan
                if lost is not None:
                    plane[lost] = np.nan
                plane[bad.y[which], bad.x[which]] = np.nan

    def _noise(self, i_int: int, poisson: np.ndarray, read: np.ndarray) -> np.ndarray:
        """Return photon and read noise of the rate; a part of the read noise is common to lines (1/f)."""
        scene = self.scene
        share = scene.options.one_over_f * scene.instrument.flicker
        rng = stream(scene.options.seed, *scene.key, 4, i_int)
        rng.standard_normal(dtype=np.float32, out=self._normal)
        noise = np.sqrt(poisson + np.float32(1 - share**2) * read) * self._normal
        if share:
            axis, parts = scene.instrument.striping_axis, scene.instrument.stripe_parts
            if scene.options.troubles.stripes is not None:
                asked = 0 if scene.options.troubles.stripes == "columns" else 1
                axis, parts = asked, parts if asked == axis else 1
            common = rng.standard_normal((scene.shape[1 - axis], parts), dtype=np.float32)
            common *= np.float32(share) * np.sqrt(np.mean(self._read))
            lines = np.repeat(common, -(-scene.shape[axis] // parts), axis=1)[:, : scene.shape[axis]]
            noise += lines.T if axis == 0 else lines
        return noise

    def _hits(
        self, i_int: int, rate: np.ndarray, poisson: np.ndarray, read: np.ndarray, dq: np.ndarray
    ) -> tuple[Hits, np.ndarray]:
        """
        Return the cosmic rays of an integration as rates [electron / s], and the read variance they leave.

        The jump step catches most particles above four times the noise of a group; those pixels lose a group, so
        their variances grow (slopes of two half ramps, weighted). The rest bends the ramp: charge Q arriving at a
        part u of the ramp changes the least-squares slope by 6 Q u (1 - u) / T.
        """
        scene, clock = self.scene, self.scene.clock
        now = self._deposit(i_int)
        noise = np.sqrt(2 * scene.detector.read_noise**2 + rate.ravel()[now.index] * clock.group)
        particle = np.modf(now.phase * 1e4)[0]
        caught = (particle > _MISSED) & (now.charge > 0.8 * noise)
        amplitude = np.where(caught, 0.0, 6 * now.charge * now.phase * (1 - now.phase) / clock.integration)
        flagged = now.index[caught]
        if len(flagged):
            dq.ravel()[flagged] |= _JUMP
            read = read.copy()
            first = np.clip(np.rint(now.phase[caught] * clock.ngroups), 1, clock.ngroups - 1)
            second = clock.ngroups - first
            kept = (first**3 - first) + (second**3 - second)
            read.ravel()[flagged] *= (clock.ngroups**3 - clock.ngroups) / np.maximum(kept, 6.0)
            poisson.ravel()[flagged] *= (clock.ngroups - 1) / max(clock.ngroups - 2, 1)
        index = now.index
        if i_int > 0 and scene.options.cosmic_rays:
            for age in range(1, min(i_int, _TAIL_LENGTH if scene.options.troubles.tails else 1) + 1):
                before = self._deposit(i_int - age)
                part = scene.options.troubles.tails * np.exp(-age / _TAIL)
                glow = before.charge * (part + (scene.instrument.afterglow if age == 1 else 0.0)) / clock.integration
                visible = glow * clock.integration > 1.0
                index = np.concatenate([index, before.index[visible]])
                amplitude = np.concatenate([amplitude, glow[visible]])
                caught = np.concatenate([caught, np.zeros(int(visible.sum()), bool)])
            index, inverse = np.unique(index, return_inverse=True)
            amplitude = np.bincount(inverse, amplitude, len(index))
            caught = np.bincount(inverse, caught, len(index)) > 0
        return Hits(index, amplitude, caught, amplitude), read

    def _deposit(self, i_int: int) -> Deposit:
        """Return the particles of an integration; those of the last few are kept, for what they leave."""
        if i_int not in self._deposits:
            scene = self.scene
            key = (*scene.key, 5, i_int)
            made = scene.rays.deposit(scene.shape, scene.clock.integration, scene.options.seed, key)
            self._deposits = {i: d for i, d in self._deposits.items() if abs(i - i_int) <= _TAIL_LENGTH} | {i_int: made}
        return self._deposits[i_int]
