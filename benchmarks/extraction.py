"""
What optimal extraction gains, and what the moving profile does for bad pixels in the aperture.

Scenes of the simulator, small ones; every number is that of the white light of the whole band, out of all seeds::

    python benchmarks/extraction.py                    # the tables of docs/steps/extract_1d.md
    python benchmarks/extraction.py --table missing --case PRISM
    python benchmarks/extraction.py --figure docs/figures/extraction.png

``optimal``: a transit of 1 %, jitter of 0.02 pixel, 0.1 % of bad pixels, cosmic rays. Columns: photon limit of the box
and of the weighted sum [ppm], scatter over its limit of either (the shape of the true light curve and a constant
fitted), and mean and standard deviation over the seeds of the pull of the depth; then the mean flux over that of the
box less one, with the standard error of that difference, and the same without noise.

``missing``: no bad pixels but those that are marked, the same in all integrations or others in each, in a scene that is
otherwise as it was. The difference from the reduction that lacks nothing is what they did: its root mean square in the
samples that lack something, in units of their noise, and in the white light [ppm].
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "PRISM": ("NRS_BRIGHTOBJ", {"configuration": "PRISM"}),
    "PRISM, a tenth of the light": ("NRS_BRIGHTOBJ", {"configuration": "PRISM", "flux_scale": 0.1}),
    "G395H": ("NRS_BRIGHTOBJ", {"configuration": "G395H", "detectors": ["NRS1"]}),
    "G395H, a tenth of the light": (
        "NRS_BRIGHTOBJ",
        {"configuration": "G395H", "detectors": ["NRS1"], "flux_scale": 0.1},
    ),
    "LRS": ("MIR_LRS-SLITLESS", {}),
    "grism": ("NRC_TSGRISM", {}),
}
"""Mode and what else the simulator is told, by the name in the tables."""

WAYS: dict[str, dict[str, Any]] = {
    "box": {},
    "optimal": {"extraction_type": "optimal"},
    "optimal, steady profile": {"extraction_type": "optimal", "profile": "steady"},
}


@dataclass(frozen=True)
class Reduced:
    """White light with its errors and limit, shape (n_int,), and spectra, shape (n_int, n_wave)."""

    white: np.ndarray
    error: np.ndarray
    limit: np.ndarray
    flux: np.ndarray
    noise: np.ndarray
    missing: np.ndarray


def simulated(case: str, folder: Path, n_int: int, **arguments: Any) -> Any:
    """Simulate one visit of a case."""
    from tso3.simulate import simulate

    mode, given = CASES[case]
    return simulate(mode, folder, n_int=n_int, **{"jitter": 0.02, **given, **arguments})


def reduce(association: Path, folder: Path, parameters: dict[str, Any]) -> Reduced:
    """Reduce a visit with some parameters of ``extract_1d``."""
    from astropy.io import fits

    import tso3

    result = tso3.run(str(association), folder, parameters={"extract_1d": parameters})
    name = next(n for n in result.white_light.colnames if n.startswith("whitelight_flux"))
    columns = (name, name.replace("_flux", "_flux_error", 1), name.replace("whitelight_flux", "photon_limit", 1))
    white, error, limit = (np.asarray(result.white_light[column], float) for column in columns)
    with fits.open(result.products["x1dints"][0]) as file:
        table, ours = file["EXTRACT1D", 1].data, file["TSO3_EXTRACT1D"].data
        flux, noise, missing = (
            np.array(plane, float) for plane in (table["FLUX"], ours["FLUX_ERROR_TEMPORAL"], ours["MISSING_FRACTION"])
        )
    return Reduced(white, error, limit, flux, noise, missing)


def curve_of(visit: Any) -> np.ndarray:
    """Return the true light curve, 1 at its brightest."""
    white = np.load(next(iter(visit.truths.values())))["white_light"]
    return white / white.max()


@dataclass(frozen=True)
class Fit:
    """Scatter over limit, pull of the depth, limit [ppm] and mean flux of a light curve."""

    ratio: float
    pull: float
    limit: float
    flux: float


def fitted(reduced: Reduced, curve: np.ndarray) -> Fit:
    """Return how a light curve compares with the true one."""
    design = np.stack([np.ones_like(curve), curve - 1.0], axis=1)
    weighed = design / reduced.error[:, np.newaxis]
    covariance = np.linalg.inv(weighed.T @ weighed)
    base, slope = covariance @ (weighed.T @ (reduced.white / reduced.error))
    residual = reduced.white - design @ (base, slope)
    limit = float(np.median(reduced.limit))
    pull = (slope / base - 1.0) / (covariance[1, 1] ** 0.5 / base)
    return Fit(residual.std(ddof=2) / limit, pull, 1e6 * limit / base, reduced.white.mean())


def optimal_table(cases: list[str], folder: Path, n_int: int, seeds: int) -> None:
    """Print what the weighted sum gains."""
    print(f"\n{n_int} integrations, {seeds} seeds\n")
    heads = ("scene", "way", "photon limit [ppm]", "scatter / limit", "pull of the depth", "bias", "without noise")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for case in cases:
        found: dict[str, list[Fit]] = {way: [] for way in WAYS}
        for seed in range(1, seeds + 1):
            with tempfile.TemporaryDirectory(dir=folder) as place:
                visit = simulated(case, Path(place), n_int, seed=seed)
                for way, parameters in WAYS.items():
                    reduced = reduce(visit.association, Path(place) / "out", parameters)
                    found[way].append(fitted(reduced, curve_of(visit)))
        still = {"noise": False, "depth": 0.0, "cosmic_rays": 0.0, "bad_pixels": 0.0, "seed": 1}
        with tempfile.TemporaryDirectory(dir=folder) as place:
            visit = simulated(case, Path(place), 12, **still)
            flux = {way: reduce(visit.association, Path(place) / "out", given).white for way, given in WAYS.items()}
        box = found["box"]
        for way, fits in found.items():
            pull = np.array([fit.pull for fit in fits])
            limit = np.mean([fit.limit for fit in fits])
            spread = f"{pull.mean():+.2f} ± {pull.std(ddof=1):.2f}" if seeds > 1 else f"{pull[0]:+.2f}"
            scatter = np.sqrt(np.mean([fit.ratio**2 for fit in fits]))
            bias = np.mean([fit.flux / plain.flux - 1.0 for fit, plain in zip(fits, box, strict=True)])
            gained = max(np.mean([plain.limit for plain in box]) ** 2 - limit**2, 0.0) ** 0.5
            error = 1e-6 * gained / np.sqrt(n_int * seeds)
            numbers = f"{limit:.1f} | {scatter:.3f} ± {1 / np.sqrt(2 * (n_int - 2) * seeds):.3f} | {spread}"
            clean = flux[way].mean() / flux["box"].mean() - 1.0
            print(f"| {case} | {way} | {numbers} | {bias:+.1e} ± {error:.0e} | {clean:+.0e} |", flush=True)


def marked(visit: Any, folder: Path, share: float, always: bool) -> Path:
    """Copy a visit with a share of all pixels marked DO_NOT_USE; return its association."""
    import shutil

    from astropy.io import fits

    folder.mkdir(parents=True)
    for number, member in enumerate(visit.members):
        rng = np.random.default_rng(1 if always else 2 + number)
        with fits.open(member) as file:
            dq = file["DQ"].data
            bad = rng.random(dq.shape[1:] if always else dq.shape) < share
            file["DQ"].data = dq | np.where(bad, 1, 0).astype(dq.dtype)
            file.writeto(folder / member.name)
    shutil.copy(visit.association, folder)
    return folder / visit.association.name


def missing_table(cases: list[str], folder: Path, n_int: int) -> None:
    """Print what bad pixels in the aperture do to spectra completed from either profile."""
    print(f"\n{n_int} integrations, jitter 0.02 pixel; photon limit of the white light in brackets\n")
    print("| scene | bad pixels | profile | rms of samples / noise | rms of the white light [ppm] |")
    print("|---|---|---|---|---|")
    for case in cases:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            visit = simulated(case, Path(place) / "whole", n_int, seed=3, bad_pixels=0.0, cosmic_rays=0.0)
            whole = reduce(visit.association, Path(place) / "out", {})
            limit = 1e6 * np.median(whole.limit / whole.white)
            for share in (0.001, 0.01):
                for always in (True, False):
                    name = f"{100 * share:g} %, {'the same in all' if always else 'others in each'}"
                    association = marked(visit, Path(place) / name, share, always)
                    for profile in ("steady", "moving"):
                        lacking = reduce(association, Path(place) / "out", {"profile": profile})
                        samples, white = difference(whole, lacking)
                        numbers = f"{samples:.3f} | {white:.1f}"
                        print(f"| {case} ({limit:.0f}) | {name} | {profile} | {numbers} |", flush=True)


def difference(whole: Reduced, lacking: Reduced) -> tuple[float, float]:
    """Return the rms of what missing pixels did in time, to samples in units of their noise, and to the sum [ppm]."""
    lost = (lacking.missing > 0.0) & (whole.missing == 0.0) & np.isfinite(lacking.flux) & np.isfinite(whole.flux)
    change = np.where(lost, lacking.flux - whole.flux, 0.0)
    always = lost.all(axis=0)
    change = (change - np.where(always, change.mean(axis=0), 0.0)) / whole.noise
    ratio = lacking.white / whole.white
    return float(np.sqrt(np.mean(change[lost] ** 2))), float(1e6 * ratio.std() / ratio.mean())


def figure(path: Path, folder: Path, n_int: int) -> None:
    """Draw the noise of single wavelengths of a faint PRISM scene, and the weights that lower it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from astropy.io import fits

    import tso3

    with tempfile.TemporaryDirectory(dir=folder) as place:
        visit = simulated("PRISM, a tenth of the light", Path(place), n_int, seed=1, depth=0.0)
        drawn, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), width_ratios=[3, 2], layout="constrained")
        for way, colour in (("box", "tab:gray"), ("optimal", "tab:blue")):
            given = {"extract_1d": WAYS[way]}
            result = tso3.run(str(visit.association), Path(place) / "out", parameters=given)
            with fits.open(result.products["x1dints"][0]) as file:
                table, ours = file["EXTRACT1D", 1].data, file["TSO3_EXTRACT1D"].data
                wavelength, flux = table["WAVELENGTH"][0], np.array(table["FLUX"], float)
                error = np.nanmedian(ours["FLUX_ERROR_TEMPORAL"] / np.nanmedian(flux, axis=0), axis=0)
            axes[0].plot(wavelength, np.nanstd(flux, axis=0) / np.nanmedian(flux, axis=0), ".", ms=3, color=colour)
            axes[0].plot(wavelength, error, "-", lw=1.0, color=colour, label=f"{way}: its error")
            name = next(n for n in result.white_light.colnames if n.startswith("whitelight_flux"))
            white = np.asarray(result.white_light[name], float)
            axes[1].plot(1e6 * (white / np.median(white) - 1.0), ".-", lw=0.5, color=colour, label=way)
        axes[0].set(yscale="log", xlabel="wavelength [micron]", ylabel="scatter in time / flux")
        axes[1].set(xlabel="integration", ylabel="white light [ppm]")
        for axis in axes:
            axis.legend(fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=130)


def main() -> None:
    """Print the tables, or draw the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--table", action="append", choices=("optimal", "missing"))
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--n-int", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if given.figure is not None:
            figure(given.figure, Path(folder), given.n_int)
            return
        tables = given.table or ["optimal", "missing"]
        if "optimal" in tables:
            optimal_table(given.case or list(CASES), Path(folder), given.n_int, given.seeds)
        if "missing" in tables:
            without_faint = [case for case in given.case or CASES if "tenth" not in case]
            missing_table(without_faint, Path(folder), given.n_int)


if __name__ == "__main__":
    main()
