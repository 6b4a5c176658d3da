"""
Every mode and configuration of the simulator, reduced and held against its truth: the table of the documentation.

``python benchmarks/modes.py [--only NIS_SOSS] [--n-int 40] [--keep DIR]`` simulates each configuration, runs
``tso3.run`` on it without any reference file (built-in apertures), and prints one line per light curve: the scatter
beside the photon limit, and the depth of the transit in parts of the true one with its error. The truth is the
simulator's, weighted with the wavelengths as the light curve weights them, so that only the reduction is judged. The
error of the depth is that of the variances, times the scatter over the photon limit where that is above 1.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("mode", "configuration", "light curve", "n_int", "scatter", "limit", "depth / true", "error", "pull", "s")


@dataclass(frozen=True)
class Row:
    """One light curve beside its truth."""

    mode: str
    configuration: str
    name: str
    n_int: int
    scatter_ppm: float
    limit_ppm: float
    scale: float
    scale_error: float
    seconds: float

    @property
    def pull(self) -> float:
        """How many of its errors the depth is off."""
        return (self.scale - 1.0) / self.scale_error

    def cells(self) -> tuple[str, ...]:
        """Return the texts of a line."""
        numbers = (f"{self.scatter_ppm:.0f}", f"{self.limit_ppm:.0f}", f"{self.scale:.4f}", f"{self.scale_error:.4f}")
        return (self.mode, self.configuration, self.name, str(self.n_int), *numbers, f"{self.pull:+.1f}",
                f"{self.seconds:.1f}")  # fmt: skip


def fit_depth(flux: np.ndarray, error: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """
    Return the depth in parts of the true one, and its error: least squares of ``f (1 + s (truth - 1))``.

    Parameters
    ----------
    flux, error : ndarray, shape (n_int,)
        Light curve; NaN is left out.
    truth : ndarray, shape (n_int,)
        True relative light curve, 1 outside the transit.

    Returns
    -------
    scale, error : float
    """
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    design = np.stack([np.ones(good.sum()), truth[good] - 1.0]) / error[good]
    covariance = np.linalg.inv(design @ design.T)
    level, drop = covariance @ design @ (flux[good] / error[good])
    return drop / level, float(np.sqrt(covariance[1, 1]) / level)


def layer_of(truth: Any, spectra: Any) -> str:
    """Return the end of the truth's names for a spectrum: of its order, else of the layer that has its wavelengths."""
    end = f"_{spectra.attrs['spectral_order']}"
    if f"transit{end}" in truth:
        return end
    middle = float(spectra["wavelength"].median())
    layers = [name.removeprefix("transit_wavelength") for name in truth if name.startswith("transit_wavelength")]
    spans = {end: np.asarray(truth[f"transit_wavelength{end}"]) for end in layers}
    return next((end for end, nodes in spans.items() if nodes.min() <= middle <= nodes.max()), "")


def true_curve(truth: Any, spectra: Any) -> np.ndarray:
    """
    Return the true relative light curve as the sum over wavelength weights it.

    Parameters
    ----------
    truth : mapping of str to ndarray
        Of the exposure.
    spectra : xarray.Dataset or None
        Its spectra, which give the weights; None for imaging.

    Returns
    -------
    curve : ndarray, shape (n_int,)
    """
    if spectra is None:
        return truth["transit"][0] * truth["ramp"]
    curves, weights = true_curves(truth, spectra)
    return (curves * weights).sum(axis=1) / weights.sum() * truth["ramp"]


def true_curves(truth: Any, spectra: Any) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the true relative light curve by the transit alone at every wavelength, and the weights of their sum.

    Parameters
    ----------
    truth : mapping of str to ndarray
        Of the exposure.
    spectra : xarray.Dataset
        Its spectra.

    Returns
    -------
    curves : ndarray, shape (n_int, n_wave)
    weights : ndarray, shape (n_wave,)
        The median spectrum; for SOSS 0 where an order does not stand alone.
    """
    from tso3.io.soss_defaults import built_in_ranges

    weights = np.nan_to_num(spectra["flux"].median("time", skipna=True).values)
    wavelength = spectra["wavelength"].values
    if spectra.attrs["detector"] == "NIS":  # orders are summed where they stand alone
        rows = {row.order: row for row in built_in_ranges("SUBSTRIP256")}
        row = rows[int(spectra.attrs["spectral_order"])]
        weights = np.where((wavelength >= row.shortest) & (wavelength <= row.longest), weights, 0.0)
    end = layer_of(truth, spectra)
    order = np.argsort(truth[f"transit_wavelength{end}"])
    nodes, transit = truth[f"transit_wavelength{end}"][order], truth[f"transit{end}"][order]
    return np.array([np.interp(wavelength, nodes, moment) for moment in transit.T]), weights


def columns_of(table: Any) -> Iterator[tuple[str, str]]:
    """Yield the columns of light curves and of their errors: of photometry what scatters in time, if it is told."""
    for name in table.colnames:
        kind = next((k for k in ("whitelight_flux", "net_aperture_sum") if name.startswith(k)), None)
        if kind is None or "_err" in name:
            continue
        middles = ("net_aperture_sum_err_temporal", "net_aperture_sum_err")
        middles = ("whitelight_flux_error",) if kind == "whitelight_flux" else middles
        errors = [middle + name.removeprefix(kind) for middle in middles]
        yield name, next((error for error in errors if error in table.colnames), errors[-1])


def limit_of(column: str) -> str:
    """Return the column with the photon limit of a light curve."""
    return column.replace("whitelight_flux", "photon_limit").replace("net_aperture_sum", "photon_limit")


def _plain(column: Any) -> np.ndarray:
    return np.asarray(getattr(column, "value", column), float)


def dataset_of(column: str, spectra: Any) -> Any:
    """Return the spectra that a column of light curves sums: those whose detector, order and slit are in its name."""
    if not hasattr(spectra, "children"):
        return spectra
    words = column.removeprefix("whitelight_flux").replace("_order_", "_order").split("_")

    def score(name: str) -> tuple[int, int]:
        parts = name.split("_")
        return sum(part in words for part in parts), -len(parts)

    return spectra.children[max(spectra.children, key=score)].to_dataset()


def measure(mode: str, configuration: str, folder: Path, n_int: int, preset: str) -> list[Row]:
    """Simulate one configuration, reduce it, and hold each of its light curves against the truth."""
    import tso3
    from tso3.core.noise import photon_limit, point_to_point
    from tso3.report.files import write_detectors, write_light_curve
    from tso3.simulate import simulate

    visit = simulate(mode, folder / "calints", configuration=configuration, n_int=n_int, segments=2, seed=3)
    started = time.perf_counter()
    result = tso3.run(visit.association, folder / "products", preset=preset)
    seconds = time.perf_counter() - started
    write_light_curve(result)
    write_detectors(result)
    truths = {stem.rsplit("_", 1)[1]: dict(np.load(path)) for stem, path in visit.truths.items()}
    tables = result.photometry or {"": result.white_light}
    rows = []
    for detector, table in tables.items():
        for name, error in columns_of(table):
            dataset = dataset_of(name, result.spectra) if "x1dints" in result.products else None
            wanted = detector if dataset is None else str(dataset.attrs["detector"])
            curve = true_curve(truths[wanted.lower()], dataset)
            if np.ptp(curve) == 0.0:
                continue  # a star without a planet
            flux, sigma, limit = (_plain(table[column]) for column in (name, error, limit_of(name)))
            scatters = 1e6 * point_to_point(flux), 1e6 * photon_limit(flux, limit**2)
            scale, scale_error = fit_depth(flux, sigma, curve)
            scale_error *= max(1.0, scatters[0] / scatters[1])  # noise that the variances do not know of, such as 1/f
            label = f"{name}, {detector}" if len(tables) > 1 else name
            rows.append(Row(mode, configuration, label, n_int, *scatters, scale, scale_error, seconds))
    shutil.rmtree(folder / "calints")
    return rows


def main() -> int:
    """Print the table; 1 if a depth is off by more than four of its errors."""
    from tso3.simulate.configurations import CONFIGURATIONS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="MODE[/CONFIGURATION]", action="append", help="as often as wanted")
    parser.add_argument("--n-int", type=int, default=40)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--keep", type=Path, help="folder for the files and figures")
    arguments = parser.parse_args()
    wanted = {item.upper() for item in arguments.only or ()}
    rows: list[Row] = []
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mode, records in CONFIGURATIONS.items():
            for configuration in records:
                if wanted and not {mode, f"{mode}/{configuration}"} & wanted:
                    continue
                folder = (arguments.keep or Path(scratch)) / mode.lower() / configuration.lower()
                for row in measure(mode, configuration, folder, arguments.n_int, arguments.preset):
                    rows.append(row)
                    print("| " + " | ".join(row.cells()) + " |", flush=True)
    return int(any(not abs(row.pull) < 4.0 for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
