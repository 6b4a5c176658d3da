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
        Light, variance of photon and read noise were no pixel missing, and share of the light on bad pixels.
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

    @property
    def name(self) -> str:
        """Exposure, and which spectrum of it."""
        return f"{self.exposure} {self.label}".strip()

    @cached_property
    def level(self) -> NDArray[np.float64]:
        """
        What scatter is relative to, shape (n_point,): the median light of the star in an aperture of that size.

        Light from which no background was subtracted holds the sky as well, which would make its scatter look small; it
        is measured against the star's, if the grid has the same size with a background subtracted.
        """
        known = np.isfinite(self.flux).any(axis=1)
        median = np.full(len(self.flux), np.nan)
        median[known] = np.nanmedian(self.flux[known], axis=1)
        star = {p.size: m for p, m in zip(self.points, median, strict=True) if p.background == "as-is"}
        return np.array(
            [star.get(p.size, m) if p.background == "none" else m for p, m in zip(self.points, median, strict=True)]
        )

    @cached_property
    def ranking(self) -> Ranking:
        """Scatter of every aperture, the least, and what is to be taken."""
        return rank_curves(self.flux, np.array([point.size for point in self.points]), self.level)

    @cached_property
    def robust_scatter(self) -> NDArray[np.float64]:
        """`tso3.core.noise.point_to_point` of every aperture, as a run prints it; shape (n_point,)."""
        return np.array([point_to_point(flux) for flux in self.flux]) * self._own_level

    @cached_property
    def limit(self) -> NDArray[np.float64]:
        """Scatter that photon and read noise alone would give, shape (n_point,)."""
        found = [photon_limit(flux, v) for flux, v in zip(self.flux, self.limit_variance, strict=True)]
        return np.array(found) * self._own_level

    @cached_property
    def mean_missing(self) -> NDArray[np.float64]:
        """Mean share of the light on bad pixels, shape (n_point,)."""
        return _means(self.missing)

    @property
    def _own_level(self) -> NDArray[np.float64]:
        """Median of each curve over what it is measured against."""
        pairs = zip(self.flux, self.level, strict=True)
        return np.array([np.nanmedian(f) / level if np.isfinite(f).any() else np.nan for f, level in pairs])

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
        ``scatter``, ``excess_error``, ``robust_scatter``, ``photon_limit`` [1e-6], ``ratio`` (scatter over limit),
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

    table = QTable(meta=dict(meta))
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
