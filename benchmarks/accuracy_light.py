"""The light curve of a run against its truth: residuals, depth of the transit, depths in channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from modes import columns_of, dataset_of, fit_depth, true_curve, true_curves


@dataclass(frozen=True)
class Light:
    """
    The light curve of a run that is judged: the first of its table.

    Attributes
    ----------
    flux, error : ndarray, shape (n_int,)
        As in the table; NaN errors where a program gives none.
    transit, ramp : ndarray, shape (n_int,)
        Truth: by the transit alone, weighted over wavelength as the flux is; everything else.
    channels : tuple of (flux, error, transit)
        Of wavelength channels; empty for images.
    shifts : ndarray, shape (n_shift, n_int)
        Motion of the star as the run measured it, scaled to unit scatter; none if it made no covariates.
    """

    flux: np.ndarray
    error: np.ndarray
    transit: np.ndarray
    ramp: np.ndarray
    channels: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...] = ()
    shifts: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def residual(self, inside: np.ndarray) -> np.ndarray:
        """Return the light curve over the truth, minus 1; its median over ``inside`` is 0."""
        relative = self.flux / (self.transit * self.ramp)
        return relative / np.nanmedian(relative[inside]) - 1.0


def read_light(folder: Path, truths: Mapping[str, Path], n_channels: int) -> Light:
    """
    Return the light curve of the products in a folder.

    Parameters
    ----------
    folder : Path
        With one ``*_whtlt.ecsv`` or ``*_phot.ecsv``, and for spectra one ``*_x1dints.fits``.
    truths : mapping of str to Path
        Truth files by exposure.
    n_channels : int
        Of the spectroscopic light curves.

    Returns
    -------
    light : Light
    """
    from astropy.table import QTable

    from tso3.io.spectra_dataset import open_spectra

    table = QTable.read(_only(folder, "*_whtlt.ecsv", "*_phot.ecsv"), format="ascii.ecsv")
    truth = dict(np.load(next(iter(truths.values()))))
    column, error_column = next(iter(columns_of(table)))
    flux = _plain(table[column])
    error = _plain(table[error_column]) if error_column in table.colnames else np.full(len(flux), np.nan)
    ramp = truth["ramp"]
    if column.startswith("net_aperture_sum"):
        return Light(flux, error, true_curve(truth, None) / ramp, ramp)
    spectra = open_spectra(_only(folder, "*_x1dints.fits"))
    several = _parts_of(column, spectra, table)
    curves = [true_curve(truth, dataset) for dataset in several]
    weights = [float(np.nansum(dataset["flux"].median("time", skipna=True).values)) for dataset in several]
    curve = np.average(curves, axis=0, weights=weights)
    product = sorted(folder.glob("*_channels.nc"))
    channels = tuple(_published(product[0], several[0], truth) if product else _channels(several[0], truth, n_channels))
    return Light(flux, error, curve / ramp, ramp, channels, _shifts(folder, len(flux)))


def _shifts(folder: Path, n_int: int) -> np.ndarray:
    """Return the shifts of the covariates, those that are known everywhere and vary."""
    from astropy.table import QTable

    found = []
    for path in sorted(folder.glob("*_qa.ecsv"))[:1]:
        table = QTable.read(path, format="ascii.ecsv")
        for axis in ("shift_x", "shift_y"):
            names = [name for name in table.colnames if name.startswith(axis) and "error" not in name]
            values = _plain(table[names[0]]) if names else np.full(n_int, np.nan)
            if np.isfinite(values).all() and np.ptp(values) > 0:
                found.append((values - values.mean()) / values.std())
    return np.array(found).reshape(len(found), n_int)


def _only(folder: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise FileNotFoundError(f"{folder}: no product {' or '.join(patterns)}")
    return found[0]


def _parts_of(column: str, spectra: Any, table: Any) -> list[Any]:
    """Return the spectra that a light curve sums: all stripes for a sum of stripes."""
    stripes = any("_stripe_" in name for name in table.colnames)
    if stripes and "_stripe_" not in column:
        return [child.to_dataset() for child in spectra.children.values()]
    return [dataset_of(column, spectra)]


def _plain(column: Any) -> np.ndarray:
    return np.asarray(getattr(column, "value", column), float)


def _published(product: Path, dataset: Any, truth: Mapping[str, Any]) -> list[tuple[np.ndarray, ...]]:
    """Return brightness, error and true transit of the channels that a run made of these spectra."""
    import xarray

    flux = np.nanmedian(dataset["flux"].values.astype(float), axis=0)
    variance = np.nanmedian(sum(dataset[f"flux_var_{part}"].values for part in ("poisson", "rnoise")), axis=0)
    wavelength = dataset["wavelength"].values
    curves, _ = true_curves(truth, dataset)
    found = []
    with xarray.open_dataset(product) as table:
        ours = table["channel_detector"].values == dataset.attrs["detector"]
        ours &= table["spectral_order"].values == dataset.attrs["spectral_order"]
        for k in np.flatnonzero(ours):
            low, high = (float(table[f"wavelength_{end}"][k]) for end in ("low", "high"))
            weights = np.where((wavelength >= low) & (wavelength < high), flux**2 / variance, 0.0)
            known = np.isfinite(weights) & (weights > 0.0) & np.isfinite(curves).all(axis=0)
            if known.any():
                curve = (curves[:, known] * weights[known]).sum(axis=1) / weights[known].sum()
                values = (table[name].values[:, k] for name in ("normalized_flux", "normalized_flux_error"))
                found.append((*values, curve))
    return found


def _channels(dataset: Any, truth: Mapping[str, Any], n_channels: int) -> list[tuple[np.ndarray, ...]]:
    """
    Return flux, error and true transit of channels of equal width in wavelength.

    A sample that is missing in an integration is completed from the median spectrum scaled to the channel's light in
    that integration, as in the white light; without that every program would be judged by what it drops.
    """
    flux = dataset["flux"].values.astype(float)
    variance = sum(dataset[f"flux_var_{part}"].values.astype(float) for part in ("poisson", "rnoise"))
    median = np.nanmedian(np.where(np.isfinite(flux).any(0), flux, 0.0), axis=0)
    wavelength = dataset["wavelength"].values
    used = np.isfinite(wavelength) & np.isfinite(median) & (median > 0)
    edges = np.linspace(wavelength[used].min(), wavelength[used].max() * (1 + 1e-9), n_channels + 1)
    curves, weights = true_curves(truth, dataset)
    found = []
    for low, high in pairwise(edges):
        inside = used & (wavelength >= low) & (wavelength < high)
        if not inside.any():
            continue
        part, shape = flux[:, inside], median[inside]
        known = np.isfinite(part)
        seen = (known * shape).sum(1) / shape.sum()
        total = np.where(known, part, 0.0).sum(1) / np.where(seen > 0, seen, np.nan)
        error = np.sqrt(np.where(known, variance[:, inside], 0.0).sum(1)) / np.where(seen > 0, seen, np.nan)
        known_curves = (curves[:, inside] * weights[inside]).sum(axis=1) / weights[inside].sum()
        found.append((total, error, known_curves))
    return found


def judge(light: Light, reference: Light, contact: Sequence[float]) -> dict[str, float]:
    """
    Return the numbers of one seed that are pooled over seeds.

    Parameters
    ----------
    light, reference : Light
        Of the program, and of the same noise on the undisturbed scene.
    contact : sequence of float
        Fourth and third contact after mid-transit, in parts of the exposure.

    Returns
    -------
    numbers : dict of str to float
        ``out``, ``out_ref``: variance of the residuals out of transit [1e-12]; ``chi2_out``: the same over that
        of the errors of the table; ``edge``, ``edge_ref``: mean square in ingress and egress; ``pull``: depth
        in units of its error; ``scale``: depth over the true one; ``chi2``: that of the channels per channel;
        ``chi2_free``: the same of fits with the measured shifts as further terms. NaN where there is none.
    """
    n = len(light.flux)
    away = np.abs((np.arange(n) + 0.5) / n - 0.5)
    out = away > contact[0] + 0.5 / n
    edge = (away > contact[1] - 1.0 / n) & (away < contact[0] + 1.0 / n)
    numbers = {}
    for name, curve in (("", light), ("_ref", reference)):
        residual = 1e6 * curve.residual(out)
        numbers[f"out{name}"] = float(np.nanvar(residual[out], ddof=1))
        numbers[f"edge{name}"] = float(np.nanmean(residual[edge] ** 2))
    numbers["lost"] = float(np.mean(~np.isfinite(light.flux)))
    relative = 1e6 * light.error / np.abs(light.flux)
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers["chi2_out"] = numbers["out"] / float(np.mean(relative[out & np.isfinite(relative)] ** 2))
    if np.ptp(light.transit) == 0.0:
        return numbers | {"pull": np.nan, "scale": np.nan, "chi2": np.nan, "chi2_free": np.nan}
    if np.isfinite(light.error).any():
        scale, error = fit_depth(light.flux / light.ramp, light.error / light.ramp, light.transit)
    else:
        scale, error = fit_depth(light.flux / light.ramp, np.ones(n), light.transit)[0], np.nan
    chi2 = _chi2_of_channels(light, np.empty((0, n)))
    free = _chi2_of_channels(light, light.shifts) if len(light.shifts) else np.nan
    return numbers | {"pull": (scale - 1.0) / error, "scale": scale, "chi2": chi2, "chi2_free": free}


def _chi2_of_channels(light: Light, terms: np.ndarray) -> float:
    """Return the mean squared pull of the depths; terms (n_terms, n_int) are fitted as well."""
    pulls = [_pull(flux / light.ramp, sigma / light.ramp, curve, terms) for flux, sigma, curve in light.channels]
    pulls = [pull for pull in pulls if np.isfinite(pull)]
    return float(np.mean(np.square(pulls))) if pulls else np.nan


def _pull(flux: np.ndarray, error: np.ndarray, transit: np.ndarray, terms: np.ndarray) -> float:
    """Return how many errors the depth in parts of the true one is off 1; NaN where it cannot be told."""
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    if good.sum() < 4 + len(terms) or np.ptp(transit[good]) == 0.0:
        return np.nan
    design = np.vstack([np.ones(len(flux)), transit - 1.0, terms])[:, good] / error[good]
    covariance = np.linalg.inv(design @ design.T)
    found = covariance @ design @ (flux[good] / error[good])
    return float((found[1] - found[0]) / np.sqrt(covariance[1, 1] - 2 * covariance[0, 1] + covariance[0, 0]))
