"""
Depths in channels, and both white light curves, of simulated transits against the truth: tables and figure of the docs.

    python benchmarks/channels.py                                        # the scenes of docs/steps/channels.md; minutes
    python benchmarks/channels.py --scene prism-still --figure docs/figures/channels.png
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tso3
from tso3.simulate import simulate

MOVING = {"jitter": 0.003, "drift": 0.05}
STILL = {"jitter": 0.0, "drift": 0.0}
COMMON = {"depth": 0.013, "cosmic_rays": 5.0, "segments": 2}
_PRISM = {"configuration": "PRISM", "n_int": 60}
_G395H = {"configuration": "G395H", "detectors": ["NRS1"], "n_int": 40}
SCENES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "prism-still": ("NRS_BRIGHTOBJ", 6, _PRISM | STILL),
    "lrs-still": ("MIR_LRS-SLITLESS", 4, {"n_int": 60} | STILL),
    "grism-still": ("NRC_TSGRISM", 2, {"n_int": 30} | STILL),
    "prism": ("NRS_BRIGHTOBJ", 8, _PRISM | MOVING),
    "g395h": ("NRS_BRIGHTOBJ", 3, _G395H | MOVING),
    "soss": ("NIS_SOSS", 1, {"n_int": 24} | MOVING),
    "grism": ("NRC_TSGRISM", 2, {"n_int": 30} | MOVING),
    "lrs": ("MIR_LRS-SLITLESS", 4, {"n_int": 60} | MOVING),
}


@dataclass(frozen=True)
class Found:
    """What one seed gives: depths of channels over the true ones, and residuals of both white light curves [ppm].

    ``fixed`` are the deviations of depths from the truth, over their errors, with the motion along dispersion left in.
    """

    wavelength: np.ndarray
    depth: np.ndarray
    error: np.ndarray
    true_depth: np.ndarray
    fixed: np.ndarray
    weighted: np.ndarray
    weighted_error: float
    plain: np.ndarray
    plain_error: float


def ends(n: int) -> np.ndarray:
    """Return the integrations of the baseline."""
    size, index = max(n // 10, 3), np.arange(n)
    return (index < size) | (index >= n - size)


def fitted(values: np.ndarray, sigma: np.ndarray, shape: np.ndarray) -> tuple[float, float]:
    """Return scale and error of a true light curve in a measured one, its level free."""
    terms = np.stack([np.ones_like(shape), shape - 1.0], axis=1) / sigma[:, np.newaxis]
    covariance = np.linalg.inv(terms.T @ terms)
    return float((covariance @ terms.T @ (values / sigma))[1]), float(np.sqrt(covariance[1, 1]))


def run(mode: str, seed: int, options: dict[str, Any], folder: Path) -> Found:
    """Simulate, reduce and compare, for the first detector and order."""
    visit = simulate(mode, folder / "in", seed=seed, **(COMMON | options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        asked = {"channels": {"spec": 20}}
        result = tso3.run(visit.association, folder / "out", overrides=visit.references, parameters=asked)
    truth = dict(np.load(next(iter(visit.truths.values()))))
    spectra = tso3.open_spectra(result.products["x1dints"][0])
    if "flux" not in getattr(spectra, "variables", {}):
        spectra = next(iter(spectra.children.values())).to_dataset()
    wavelength, flux = np.asarray(spectra.wavelength), np.asarray(spectra.flux)
    steady = np.nan_to_num(np.nanmedian(flux, axis=0))
    variance = np.nanmedian(np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise), axis=0)
    used = (steady > 0.0) & (variance > 0.0)
    light = np.where(used, steady**2 / np.where(used, variance, 1.0), 0.0)
    order = np.argsort(truth["transit_wavelength"])
    nodes = truth["transit_wavelength"][order]
    curves = np.array([np.interp(wavelength, nodes, row[order]) for row in truth["transit"].T])
    curves *= truth["ramp"][:, np.newaxis]
    base = ends(len(flux))

    def true_curve(weight: np.ndarray) -> np.ndarray:
        curve = (curves * weight).sum(axis=1) / weight.sum()
        return curve / np.median(curve[base])

    channels = result.channels
    here = (channels.channel_detector == channels.channel_detector[0]) & (
        channels.spectral_order == channels.spectral_order[0]
    )
    channels = channels.isel(channel=np.asarray(here)).load()
    fits = []
    for k in range(channels.sizes["channel"]):
        one = channels.isel(channel=k)
        inside = (wavelength >= float(one.wavelength_low)) & (wavelength < float(one.wavelength_high))
        shape = true_curve(light * inside)
        scale, error = fitted(one.normalized_flux.values, one.normalized_flux_error.values, shape)
        left_in = fitted(one.normalized_flux_fixed.values, one.normalized_flux_fixed_error.values, shape)
        deepest = 1e6 * (1.0 - shape.min())
        fits.append((float(one.wavelength), scale * deepest, error * deepest, deepest, (left_in[0] - 1.0) / left_in[1]))
    table = result.white_light
    name = next(name for name in table.colnames if name.startswith("whitelight_normalized"))
    end = name.removeprefix("whitelight_normalized")
    weighted = np.asarray(table[name]) - true_curve(light)
    plain, whole = np.asarray(table[f"whitelight_flux{end}"]), true_curve(np.where(used, steady, 0.0))
    level = np.median(plain / whole)
    return Found(
        *np.array(fits).T,
        1e6 * weighted,
        1e6 * float(np.median(table[f"whitelight_normalized_error{end}"])),
        1e6 * (plain / level - whole),
        1e6 * float(np.median(np.asarray(table[f"whitelight_flux_error{end}"])) / level),
    )


def draw(found: list[Found], path: Path) -> None:
    """Draw depths over the true ones, all seeds together, and both light curves of the first seed."""
    from tso3.report.style import colour_of, figure, write_png

    with figure(7.0, 5.6) as page:
        above, below = page.subplots(2, 1)
        for index, (label, values, error) in enumerate(
            (
                ("sum", found[0].plain, found[0].plain_error),
                ("weighted", found[0].weighted, found[0].weighted_error),
            )
        ):
            text = f"{label}: rms {values.std():.0f} ppm, error {error:.0f}"
            above.plot(values, "o", ms=3, color=colour_of(index), label=text)
        above.set_xlabel("integration")
        above.set_ylabel("white light less truth [ppm]")
        above.margins(y=0.2)
        above.legend(loc="upper right", ncols=2)
        weight = np.array([each.error**-2 for each in found])
        depth = (np.array([each.depth for each in found]) * weight).sum(axis=0) / weight.sum(axis=0)
        below.errorbar(
            found[0].wavelength, depth, weight.sum(axis=0) ** -0.5, fmt="o", ms=3, lw=0.8, color=colour_of(0),
            label=f"found, mean of {len(found)} seeds",
        )  # fmt: skip
        below.plot(found[0].wavelength, found[0].true_depth, color=colour_of(1), lw=1.0, label="true")
        below.set_xlabel("wavelength [micron]")
        below.set_ylabel("loss of light in mid-transit [ppm]")
        below.legend(loc="upper right")
        write_png(page, path)


def main() -> None:
    """Print a row for each scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", choices=SCENES, action="append", help="all by default")
    parser.add_argument("--figure", type=Path, help="of the last scene")
    given = parser.parse_args()
    print(
        "| scene | seeds, integrations | chi-square | motion left in | weighted [ppm] | its error | sum | its error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in given.scene or SCENES:
        mode, n_seeds, options = SCENES[name]
        found = []
        for seed in range(1, n_seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                found.append(run(mode, seed, options, Path(folder)))
        pulls = np.concatenate([(each.depth - each.true_depth) / each.error for each in found])
        numbers = [
            np.mean([each.weighted.std() for each in found]), np.mean([each.weighted_error for each in found]),
            np.mean([each.plain.std() for each in found]), np.mean([each.plain_error for each in found]),
        ]  # fmt: skip
        print(
            f"| {name} | {n_seeds}, {options['n_int']} | {np.mean(pulls**2):.2f} ± {np.sqrt(2 / pulls.size):.2f} | "
            + f"{np.mean(np.concatenate([each.fixed for each in found]) ** 2):.2f} | "
            + " | ".join(f"{number:.0f}" for number in numbers)
            + " |",
            flush=True,
        )
    if given.figure is not None:
        draw(found, given.figure)


if __name__ == "__main__":
    main()
