"""The parts of a scene that do not know a detector: star, transit, pointing, and the random streams."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

__all__ = ["Pointing", "Star", "Transit", "stream"]

_HC_K = 14387.768775
"""Second radiation constant [micron K]."""


def stream(seed: int, *key: int) -> np.random.Generator:
    """
    Return the random stream of one purpose.

    The same seed and key give the same numbers on every machine, whatever else was drawn before: this is what makes an
    integration independent of segments and blocks.

    Parameters
    ----------
    seed : int
        Seed of the visit.
    *key : int
        What the numbers are for: exposure, detector, purpose, integration.

    Returns
    -------
    generator : numpy.random.Generator
        A fresh SFC64 generator.

    Examples
    --------
    >>> from tso3.simulate.scene import stream
    >>> bool(stream(1, 0, 2).random() == stream(1, 0, 2).random())
    True
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Star:
    """
    A star: a Planck spectrum with hydrogen lines, a forest of weak lines and the band heads of CO.

    Attributes
    ----------
    flux : float
        Flux density [Jy] at ``reference``.
    reference : float
        [micron].
    temperature : float
        [K].
    resolution : float
        Resolving power to which the lines are smoothed.
    """

    flux: float
    reference: float
    temperature: float
    resolution: float

    def spectrum(self, wavelength: np.ndarray) -> np.ndarray:
        """
        Return the flux density [Jy] at wavelengths [micron]; NaN where the wavelength is NaN.

        Examples
        --------
        >>> from tso3.simulate.scene import Star
        >>> import numpy as np
        >>> bool(Star(1.0, 4.0, 5000.0, 100.0).spectrum(np.array([8.0]))[0] < 0.3)
        True
        """
        grid, lines = self._lines(float(np.nanmin(wavelength)), float(np.nanmax(wavelength)))
        return self.flux * self._planck(wavelength) * np.interp(wavelength, grid, lines, left=1, right=1)

    def _planck(self, wavelength: np.ndarray) -> np.ndarray:
        """Return the Planck function per frequency, 1 at the reference wavelength."""

        def shape(w: np.ndarray | float) -> np.ndarray:
            return np.asarray(w, float) ** -3 / np.expm1(_HC_K / (np.asarray(w, float) * self.temperature))

        return shape(wavelength) / shape(self.reference)

    def _lines(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return a wavelength grid (even in log) and the transmission of the star's lines, smoothed."""
        from scipy.ndimage import gaussian_filter1d

        oversampling = 4 * max(self.resolution, 50.0)
        n = int(np.log((high * 1.03) / (low * 0.97)) * oversampling) + 2
        grid = low * 0.97 * np.exp(np.arange(n) / oversampling)
        depth = np.zeros(n)
        rng = stream(7, 7)
        forest = np.exp(rng.uniform(np.log(2.0), np.log(15.0), 6000))
        strength = np.exp(rng.normal(-12.3, 1.3, 6000))
        hydrogen = (2.166, 2.626, 2.758, 2.873, 3.039, 3.297, 3.741, 4.052, 4.654, 5.908, 7.460, 8.760, 12.37)
        centres = np.concatenate([forest, hydrogen])
        widths = np.concatenate([strength, np.full(len(hydrogen), 1.2e-4)])
        inside = (centres > grid[0]) & (centres < grid[-1])
        np.add.at(depth, np.searchsorted(grid, centres[inside]), widths[inside] * oversampling)
        for head in 2.2935 * np.array([1.0, 1.0128, 1.026]):
            depth += 0.12 * np.where(grid > head, np.exp(-(grid - head) / 0.012), 0)
        for head in (4.295, 4.36, 4.43, 4.50, 4.58, 4.67, 4.76, 4.85):
            depth += 0.035 * np.where(grid > head, np.exp(-(grid - head) / 0.09), 0)
        sigma = oversampling / self.resolution / 2.355
        return grid, np.exp(-gaussian_filter1d(depth, sigma, mode="nearest"))


@dataclass(frozen=True)
class Transit:
    """
    A transit whose depth and limb darkening depend on wavelength, in parts of the exposure.

    Attributes
    ----------
    depth : float
        Square of the radius ratio, mean over the band; 0 means no transit.
    mid : float
        Mid-transit in parts of the exposure.
    duration : float
        First to fourth contact in parts of the exposure.
    impact : float
        Impact parameter [stellar radius].
    a_rs : float
        Semi-major axis [stellar radius].
    features : float
        Size of the features of the transmission spectrum, relative to the depth.
    """

    depth: float = 0.01
    mid: float = 0.5
    duration: float = 0.45
    impact: float = 0.30
    a_rs: float = 11.0
    features: float = 0.04

    def radius_ratio(self, wavelength: np.ndarray) -> np.ndarray:
        """
        Return planet over star radius: water, carbon dioxide and a scattering slope on the mean depth.

        Parameters
        ----------
        wavelength : ndarray
            [micron].

        Returns
        -------
        radius_ratio : ndarray
            Dimensionless, positive.
        """
        w = np.asarray(wavelength, float)
        bumps = ((1.40, 0.09, 0.7), (1.90, 0.12, 0.7), (2.75, 0.18, 1.0), (4.32, 0.11, 1.6), (6.30, 0.50, 0.9),
                 (9.60, 0.70, 0.6))  # fmt: skip
        shape = sum(height * np.exp(-0.5 * ((w - centre) / width) ** 2) for centre, width, height in bumps)
        return np.sqrt(self.depth * (1.0 + self.features * (shape - 0.35) + 0.01 * (0.8 / w - 0.2)))

    @staticmethod
    def limb_darkening(wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quadratic coefficients that fall with wavelength."""
        w = np.asarray(wavelength, float)
        return 0.30 * (w / 1.0) ** -0.75, 0.22 * (w / 1.0) ** -0.35

    def light_curves(self, fraction: np.ndarray, wavelength: np.ndarray, exposure: float = 0.0) -> np.ndarray:
        """
        Return relative flux at times and wavelengths, computed by batman.

        Parameters
        ----------
        fraction : ndarray, shape (n_int,)
            Mid-times in parts of the exposure.
        wavelength : ndarray, shape (n_node,)
            [micron].
        exposure : float, optional
            Integration time in parts of the exposure, over which the curve is averaged; 0 for none.

        Returns
        -------
        relative : ndarray of float, shape (n_node, n_int)
            1 outside the transit.
        """
        relative = np.ones((len(wavelength), len(fraction)))
        if self.depth == 0:
            return relative
        with warnings.catch_warnings():
            # batman 2.5 imports distutils, which warns on Python 3.11 and comes from setuptools on 3.12
            warnings.simplefilter("ignore")
            import batman

        ratio = self.radius_ratio(wavelength)
        u1, u2 = self.limb_darkening(wavelength)
        inclination = np.degrees(np.arccos(self.impact / self.a_rs))
        chord = np.sqrt((1 + np.sqrt(self.depth)) ** 2 - self.impact**2)
        period = self.duration * np.pi / np.arcsin(chord / self.a_rs / np.sin(np.radians(inclination)))
        for k in range(len(wavelength)):
            p = batman.TransitParams()
            p.t0, p.per, p.rp, p.a, p.inc = self.mid, period, ratio[k], self.a_rs, inclination
            p.ecc, p.w, p.limb_dark, p.u = 0.0, 90.0, "quadratic", [u1[k], u2[k]]
            model = batman.TransitModel(p, np.asarray(fraction, float), supersample_factor=7, exp_time=exposure)
            relative[k] = model.light_curve(p)
        return relative


@dataclass(frozen=True)
class Pointing:
    """
    Where the star falls on the pixels, integration by integration.

    Attributes
    ----------
    jitter : float
        White scatter per axis [pixel, rms].
    drift : float
        Peak-to-peak slow motion over the exposure per axis [pixel].
    steps : tuple of (float, float, float)
        Sudden shifts: when, in parts of the exposure, and by how much in x and y [pixel].
    """

    jitter: float
    drift: float
    steps: tuple[tuple[float, float, float], ...] = ()

    def offsets(self, n_int: int, seed: int, exposure: int) -> np.ndarray:
        """
        Return offsets in x and y.

        Parameters
        ----------
        n_int : int
            Integrations.
        seed, exposure : int
            The random stream; the detectors of one exposure share the motion.

        Returns
        -------
        offsets : ndarray of float, shape (n_int, 2)
            (x, y) [pixel].
        """
        rng = stream(seed, exposure, 1000)
        white = stream(seed, exposure, 1001).normal(0.0, 1.0, (n_int, 2)) * self.jitter
        t = (np.arange(n_int) + 0.5) / n_int
        slow = np.zeros((n_int, 2))
        for axis in range(2):
            linear, phase, period = rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.9)
            slow[:, axis] = linear * (t - 0.5) + 0.3 * np.sin(2 * np.pi * t / period + phase)
        sudden = np.zeros((n_int, 2))
        for when, *shift in self.steps:
            sudden[t >= when] += shift
        return white + self.drift * slow + sudden
