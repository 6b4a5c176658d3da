"""What a scan of apertures gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.noise import photon_limit, point_to_point
from tso3.core.scan_choice import Ranking, rank_curves

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["ScanPoint", "ScanResult", "ScannedLight"]


@dataclass(frozen=True)
class ScanPoint:
    """
    One aperture of a grid.

    Attributes
    ----------
    size : float
        Full width of a spectrum's aperture, or radius of a star's [pixel].
    background : str
        What was subtracted: ``as-is``, ``none``, ``mean``, ``median``, ``line``; or the annulus, ``10-20``.
    """

    size: float
    background: str


@dataclass(frozen=True)
class ScannedLight:
    """
    The light curves of one spectrum, or one star, in every aperture of the grid.

    Attributes
    ----------
    exposure, detector : str
        Name of the exposure and its detector.
    label : str
        Which spectrum of it: order, stripe; empty where there is one.
    kind : str
        What the sizes are: ``width`` or ``radius``.
    unit : str
        Of the light.
    usual : float
        Size that a run takes without a scan [pixel]; NaN where it takes no such aperture.
    points : tuple of ScanPoint
        The grid: by background, sizes ascending.
    flux, limit_variance, missing : ndarray of float64, shape (n_point, n_int)
        Light (of a spectrum its plain sum), variance of photon and read noise were no pixel missing, and share of the
        light on bad pixels.
    weighted, weighted_limit : ndarray of float64, shape (n_point, n_int)
        The weighted white light of a spectrum and the variance of its limit; NaN where there is none.
    """

    exposure: str
    detector: str
    label: str
    kind: str
    unit: str
    usual: float
    points: tuple[ScanPoint, ...]
    flux: NDArray[np.float64] = field(repr=False)
    limit_variance: NDArray[np.float64] = field(repr=False)
    missing: NDArray[np.float64] = field(repr=False)
    weighted: NDArray[np.float64] = field(repr=False)
    weighted_limit: NDArray[np.float64] = field(repr=False)

    @property
    def is_weighted(self) -> bool:
        """Whether the weighted white light is judged; else the plain sum."""
        return bool(np.isfinite(self.weighted).any())

    @property
    def judged(self) -> str:
        """Which light curve is judged: its column in the product of a run."""
        if self.kind == "radius":
            return "net_aperture_sum"
        return "whitelight_normalized" if self.is_weighted else "whitelight_flux"

    @property
    def name(self) -> str:
        """Exposure, and which spectrum of it."""
        return f"{self.exposure} {self.label}".strip()

    @cached_property
    def level(self) -> NDArray[np.float64]:
        """
        What scatter of ``flux`` is relative to, shape (n_point,): the star's median light in an aperture of that size.

        Light from which no background was subtracted holds the sky as well, which would make its scatter look small; it
        is measured against the star's, if the grid has the same size with a background subtracted.
        """
        median = _medians(self.flux)
        star = {p.size: m for p, m in zip(self.points, median, strict=True) if p.background == "as-is"}
        pairs = zip(self.points, median, strict=True)
        return np.array([star.get(p.size, m) if p.background == "none" else m for p, m in pairs])

    @cached_property
    def ranking(self) -> Ranking:
        """Scatter of the curve that is judged in every aperture, the least, and what is to be taken."""
        sizes = np.array([point.size for point in self.points])
        if not self.is_weighted:
            return self.sum_ranking
        return rank_curves(self.weighted, sizes, _medians(self.weighted) * self._star)

    @cached_property
    def sum_ranking(self) -> Ranking:
        """The same of the plain sum."""
        return rank_curves(self.flux, np.array([point.size for point in self.points]), self.level)

    @cached_property
    def robust_scatter(self) -> NDArray[np.float64]:
        """`tso3.core.noise.point_to_point` of the curve that is judged, as a run prints it; shape (n_point,)."""
        curves = self.weighted if self.is_weighted else self.flux
        return np.array([point_to_point(curve) for curve in curves]) / self._star

    @cached_property
    def limit(self) -> NDArray[np.float64]:
        """Scatter that photon and read noise alone would give the curve that is judged, shape (n_point,)."""
        return self._limit(self.weighted, self.weighted_limit) if self.is_weighted else self.sum_limit

    @cached_property
    def sum_limit(self) -> NDArray[np.float64]:
        """The same of the plain sum."""
        return self._limit(self.flux, self.limit_variance)

    def _limit(self, curves: NDArray[np.float64], variances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the relative scatter that variances predict."""
        return np.array([photon_limit(*pair) for pair in zip(curves, variances, strict=True)]) / self._star

    @property
    def _star(self) -> NDArray[np.float64]:
        """Share of the star in the light of each aperture: less than 1 where the sky was not subtracted."""
        return self.level / _medians(self.flux)

    @cached_property
    def mean_missing(self) -> NDArray[np.float64]:
        """Mean share of the light on bad pixels, shape (n_point,)."""
        return _means(self.missing)

    @property
    def best(self) -> ScanPoint | None:
        """Aperture of least scatter; None if no scatter can be told."""
        return self.points[self.ranking.best] if self.ranking.best >= 0 else None

    @property
    def chosen(self) -> ScanPoint | None:
        """The smallest that scatters no more than the best by more than the standard error of the difference."""
        return self.points[self.ranking.chosen] if self.ranking.chosen >= 0 else None

    @property
    def verdict(self) -> str:
        """The best aperture and the one to be taken, in one line."""
        best, chosen, ranking = self.best, self.chosen, self.ranking
        if best is None or chosen is None:
            return f"{self.name}: too few integrations to tell the scatter; at least 10 are needed"
        several = len({point.background for point in self.points}) > 1
        names = [f"{p.size:g} pixels" + (f", background {p.background}" if several else "") for p in (best, chosen)]
        text = f"{self.name}: best {self.kind} {names[0]} ({1e6 * ranking.scatter[ranking.best]:.1f} ppm)"
        if chosen == best:
            return f"{text}; no smaller one is as good"
        over = 1e6 * (ranking.scatter[ranking.chosen] - ranking.scatter[ranking.best])
        error = 1e6 * ranking.excess_error[ranking.chosen]
        return f"{text}; smallest as good {names[1]} ({over:.1f} ± {error:.1f} ppm more)"


@dataclass(frozen=True)
class ScanResult:
    """
    What a scan gave.

    Attributes
    ----------
    lights : tuple of ScannedLight
        One for each spectrum or star, in the order of the input.
    product : Path or None
        The table, ``*_scan.ecsv``.
    seconds : float
        Wall time [s].
    peak_memory : int
        Largest resident memory of the process so far [byte], imports included.
    warnings : tuple of str
        What was repaired, replaced or left out.
    references : tuple of str
        Which reference file of each kind was used, and why.
    name, exp_type : str
        Product name and EXP_TYPE of the observation.
    """

    lights: tuple[ScannedLight, ...]
    product: Path | None
    seconds: float
    peak_memory: int
    warnings: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    name: str = ""
    exp_type: str = ""

    @property
    def table(self) -> QTable:
        """
        One row for each aperture.

        Columns: ``exposure``, ``detector``, ``spectrum``, ``background``, ``width`` or ``radius`` [pixel],
        ``scatter``, ``excess_error``, ``robust_scatter``, ``photon_limit`` [1e-6], ``ratio`` (scatter over limit) of
        the curve that is judged (``judged`` in the metadata), ``sum_scatter``, ``sum_photon_limit`` [1e-6],
        ``mean_flux``, ``missing_fraction``, ``best``, ``chosen``.
        """
        return table_of(self.lights, {"exp_type": self.exp_type})


def table_of(lights: tuple[ScannedLight, ...], meta: dict[str, object]) -> QTable:
    """
    Return the table of a scan: see `ScanResult.table`.

    Parameters
    ----------
    lights : tuple of ScannedLight
        At least one.
    meta : dict
        Metadata.

    Returns
    -------
    table : QTable
    """
    from astropy import units as u
    from astropy.table import QTable

    table = QTable(meta=meta | {"judged": lights[0].judged})
    for name in ("exposure", "detector", "label"):
        column = [getattr(light, name) for light in lights for _ in light.points]
        table["spectrum" if name == "label" else name] = column
    table["background"] = [point.background for light in lights for point in light.points]
    table[lights[0].kind] = np.array([point.size for light in lights for point in light.points]) << u.pix
    ppm = u.Unit(1e-6)
    for name, values in (
        ("scatter", [light.ranking.scatter for light in lights]),
        ("excess_error", [light.ranking.excess_error for light in lights]),
        ("robust_scatter", [light.robust_scatter for light in lights]),
        ("photon_limit", [light.limit for light in lights]),
    ):
        table[name] = (1e6 * np.concatenate(values)) << ppm
    table["ratio"] = np.concatenate([light.ranking.scatter / light.limit for light in lights])
    table["sum_scatter"] = (1e6 * np.concatenate([light.sum_ranking.scatter for light in lights])) << ppm
    table["sum_photon_limit"] = (1e6 * np.concatenate([light.sum_limit for light in lights])) << ppm
    flux = np.concatenate([_means(light.flux) for light in lights])
    units = {light.unit for light in lights}
    table["mean_flux"] = flux << u.Unit(units.pop()) if len(units) == 1 and "" not in units else flux
    table["missing_fraction"] = np.concatenate([light.mean_missing for light in lights])
    for name in ("best", "chosen"):
        marks = [np.arange(len(light.points)) == getattr(light.ranking, name) for light in lights]
        table[name] = np.concatenate(marks)
    return table


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of what is finite in each row; NaN where nothing is."""
    known = np.isfinite(values)
    n = known.sum(axis=1)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(n, 1), np.nan)


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of what is finite in each row; NaN where nothing is."""
    return np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in values])
