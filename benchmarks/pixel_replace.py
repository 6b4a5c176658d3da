"""
What missing pixels do to spectra, and how well each way of dealing with them undoes it.

A visit without bad pixels and cosmic rays is simulated and reduced: these spectra lack nothing. Then a share of all
pixels, drawn anew in every integration, is marked DO_NOT_USE, and the visit is reduced in each way: missing pixels
dropped, completed by the extraction, or replaced before it by one of the algorithms of ``pixel_replace``. The noise is
the same in all, so that the difference to the spectra that lack nothing is what the missing pixels did::

    python benchmarks/pixel_replace.py                       # the table of docs/steps/pixel_replace.md
    python benchmarks/pixel_replace.py --mode NRS_BRIGHTOBJ --share 0.01 --n-int 20
    python benchmarks/pixel_replace.py --trace-model         # beside jwst's adaptive trace model; needs jwst

Columns: mean and scatter of the relative difference of single samples that lack something [ppm], the same of the white
light; ``chi`` is the root mean square of the difference between those samples and the noise-free ones, in units of
their error (VAR_POISSON and VAR_RNOISE), and ``NaN`` the share of samples that lack something and have no value.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS", "NRC_TSGRISM")
SHARES = (0.001, 0.01)
TRACED = (("NRS_BRIGHTOBJ", "G395H"), ("NRS_BRIGHTOBJ", "PRISM"), ("MIR_LRS-SLITLESS", None))

WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "drop": {"extract_1d": {"missing": "drop"}, "white_light": {"missing": "drop"}},
    "complete": {},
    "mingrad": {"pixel_replace": {"skip": False, "algorithm": "mingrad"}},
    "fit_profile": {"pixel_replace": {"skip": False, "algorithm": "fit_profile"}},
    "time_profile": {"pixel_replace": {"skip": False, "algorithm": "time_profile"}},
}
"""Parameters of each way; what an algorithm leaves is completed by the extraction."""


@dataclass(frozen=True)
class Reduced:
    """Spectra, shape (n_int, n_wave), and white light of one reduction."""

    flux: np.ndarray
    variance: np.ndarray
    missing: np.ndarray
    white: np.ndarray


def simulated(mode: str, folder: Path, n_int: int, noise: bool = True, configuration: str | None = None) -> Any:
    """Simulate a visit in which nothing is missing."""
    from tso3.simulate import simulate

    arguments: dict[str, Any] = {"detectors": ["NRS1"]} if mode == "NRS_BRIGHTOBJ" else {}
    return simulate(
        mode,
        folder,
        configuration=configuration,
        n_int=n_int,
        seed=5,
        noise=noise,
        bad_pixels=0.0,
        cosmic_rays=0.0,
        **arguments,
    )


def spoil(visit: Any, folder: Path, share: float, size: int, seed: int = 1) -> Path:
    """Copy a visit with squares of ``size`` pixels marked DO_NOT_USE, ``share`` of all; return its association."""
    import shutil

    from astropy.io import fits

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for member in visit.members:
        with fits.open(member) as file:
            dq = file["DQ"].data
            centres = rng.random(dq.shape) < share / size**2
            marked = centres.copy()
            for dy in range(size):
                for dx in range(size):
                    marked |= np.roll(centres, (dy, dx), axis=(1, 2))
            file["DQ"].data = dq | np.where(marked, 1, 0).astype(dq.dtype)
            file.writeto(folder / member.name)
    shutil.copy(visit.association, folder)
    return folder / visit.association.name


def reduce(visit: Any, association: Path, folder: Path, parameters: dict[str, dict[str, Any]]) -> Reduced:
    """Reduce a visit; outliers are not searched for, so that all ways see the same pixels."""
    from astropy.io import fits

    import tso3

    given = {"outlier_detection": {"skip": True}, **parameters}
    result = tso3.run(str(association), folder, parameters=given, overrides=dict(visit.references))
    white = next(n for n in result.white_light.colnames if n in ("whitelight_flux", "whitelight_flux_NRS1"))
    with fits.open(result.products["x1dints"][0]) as file:
        table, ours = file["EXTRACT1D", 1].data, file["TSO3_EXTRACT1D"].data
        return Reduced(
            flux=np.array(table["FLUX"], float),
            variance=np.array(table["FLUX_VAR_POISSON"] + table["FLUX_VAR_RNOISE"], float),
            missing=np.array(ours["MISSING_FRACTION"], float),
            white=np.asarray(result.white_light[white], float),
        )


def row(whole: Reduced, truth: Reduced, lacking: Reduced) -> str:
    """Return the numbers of one row of the table."""
    affected = (lacking.missing > 0.0) & (whole.missing == 0.0)
    known = affected & np.isfinite(lacking.flux)
    relative = ((lacking.flux - whole.flux) / np.median(truth.flux, axis=0))[known]
    chi = chi_of(lacking, truth, known)
    white = lacking.white / whole.white - 1
    numbers = (1e6 * relative.mean(), 1e6 * relative.std(), 1e6 * white.mean(), 1e6 * white.std())
    lost = 1 - known.sum() / affected.sum()
    return " | ".join(f"{n:.0f}" for n in numbers) + f" | {chi:.2f} | {lost:.3f} |"


def chi_of(reduced: Reduced, truth: Reduced, which: np.ndarray) -> float:
    """Return the root mean square of the difference from the truth in units of the error."""
    pull = (reduced.flux - truth.flux)[which] / np.sqrt(reduced.variance[which])
    return float(np.sqrt(np.mean(pull**2)))


def table(mode: str, folder: Path, n_int: int, shares: list[float]) -> None:
    """Print the table of one mode."""
    visit = simulated(mode, folder / mode / "whole", n_int)
    whole = reduce(visit, visit.association, folder / mode / "products", {})
    ideal = simulated(mode, folder / mode / "truth", n_int, noise=False)
    truth = reduce(ideal, ideal.association, folder / mode / "products", {})
    noise = 1e6 * np.nanmedian(np.sqrt(whole.variance) / truth.flux)
    white = 1e6 * np.std(whole.white / truth.white)
    chi = chi_of(whole, truth, np.isfinite(whole.flux))
    print(f"\n### {mode}, {n_int} integrations\n")
    print(f"Nothing missing: noise of a sample {noise:.0f} ppm, of the white light {white:.0f} ppm, chi {chi:.2f}.\n")
    print("| share, squares | way | mean | rms | white mean | white rms | chi | NaN |")
    print("|---|---|---|---|---|---|---|---|")
    for share in shares:
        for size in (1, 3):
            association = spoil(visit, folder / mode / f"{share}-{size}", share, size)
            for name, parameters in WAYS.items():
                lacking = reduce(visit, association, folder / mode / "products", parameters)
                print(f"| {100 * share:g} %, {size} × {size} | {name} | " + row(whole, truth, lacking), flush=True)


def planes_of(path: Path) -> Any:
    """Return a member as a data model of jwst, everything bad NaN, as outlier detection leaves it."""
    from jwst.lib.pipe_utils import match_nans_and_flags
    from stdatamodels.jwst import datamodels

    model = datamodels.open(path)
    match_nans_and_flags(model)
    return model


def across(truth_file: Path, shape: tuple[int, int], turned: bool) -> np.ndarray:
    """Return the distance of every pixel from the trace [pixel], which stands in for jwst's slit coordinate."""
    trace = np.load(truth_file)["trace"]
    y, x = np.indices(shape, dtype=float)
    return x - trace[:, np.newaxis] if turned else y - trace[np.newaxis, :]


def jwst_filled(path: Path, algorithm: str, alpha: np.ndarray) -> np.ndarray:
    """Return SCI after ``adaptive_trace_model`` (for ``trace_model``) and ``pixel_replace`` of jwst."""
    from jwst.adaptive_trace_model import trace_model
    from jwst.adaptive_trace_model.adaptive_trace_model_step import AdaptiveTraceModelStep
    from jwst.pixel_replace.pixel_replace_step import PixelReplaceStep

    model = planes_of(path)
    if algorithm == "trace_model":  # the simulated world coordinates have no frame of the slit
        trace_model._get_alpha_nrs_slit = trace_model._get_alpha_mir_lrs = lambda *_: alpha
        model = AdaptiveTraceModelStep.call(model, skip=False)
    return np.array(PixelReplaceStep.call(model, skip=False, algorithm=algorithm).data, float)


def our_filled(path: Path, turned: bool) -> np.ndarray:
    """Return SCI after ``time_profile``."""
    from tso3.core.block import Block
    from tso3.core.repair import DqBits, expected_image, time_profile

    model = planes_of(path)

    def upright(plane: Any) -> np.ndarray:
        plane = np.asarray(plane)
        return np.array(plane.swapaxes(1, 2) if turned else plane, plane.dtype.newbyteorder("="))

    names = ("var_poisson", "var_rnoise", "var_flat")
    data, err, dq, *variances = (upright(getattr(model, name)) for name in ("data", "err", "dq", *names))
    block = Block(0, data, err, dq, np.isnan(data), *variances)
    filled = time_profile(block, DqBits(1, 512, 2**28), expected_image(np.nanmedian(data, axis=0)))
    return upright(filled.data).astype(float)


def trace_models(mode: str, configuration: str | None, folder: Path, n_int: int) -> None:
    """Print how far replaced pixels are from the noise-free ones, for jwst's algorithms and ours."""
    from astropy.io import fits

    from peer import go_offline

    go_offline()
    folder = folder / f"{mode}-{configuration}"
    visit = simulated(mode, folder / "whole", n_int, configuration=configuration)
    ideal = simulated(mode, folder / "truth", n_int, noise=False, configuration=configuration)
    association = spoil(visit, folder / "spoiled", 0.01, 1)
    turned = mode == "MIR_LRS-SLITLESS"
    member = association.parent / visit.members[0].name
    with fits.open(ideal.members[0]) as file, fits.open(member) as spoiled:
        truth = file["SCI"].data.astype(float)
        bad = (spoiled["DQ"].data & 1 > 0) & ~(file["DQ"].data & 1 > 0)
    alpha = across(next(iter(ideal.truths.values())), truth.shape[1:], turned)
    light = np.nansum(np.where(np.abs(alpha) < 6, np.median(truth, axis=0), 0.0), axis=int(turned))
    column = light[np.newaxis, :, np.newaxis] if turned else light[np.newaxis, np.newaxis, :]
    bright = bad & (np.abs(alpha) < 3) & (column > 0.2 * np.median(light))
    curve = np.nansum(truth, axis=(1, 2))
    inside = (curve < curve.mean())[:, np.newaxis, np.newaxis] & bright
    print(f"\n### {mode} {configuration or ''}: {int(bright.sum())} pixels within 3 of the trace\n")
    print("| way | mean | rms | 68 % | mean in transit | mean out of transit |")
    print("|---|---|---|---|---|---|")
    for way in ("mingrad", "fit_profile", "trace_model", "time_profile"):
        filled = our_filled(member, turned) if way == "time_profile" else jwst_filled(member, way, alpha)
        error = 1e6 * (filled - truth) / column
        known = bright & np.isfinite(error)
        parts = (known & inside, known & ~inside)
        low, high = np.percentile(error[known], [16, 84])
        spread = (error[known].std(), (high - low) / 2)
        numbers = (error[known].mean(), *spread, *(error[part].mean() for part in parts))
        print(f"| {way} | " + " | ".join(f"{n:.0f}" for n in numbers) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--share", action="append", type=float)
    parser.add_argument("--n-int", type=int, default=40)
    parser.add_argument("--trace-model", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if given.trace_model:  # jwst has none for NIRCam ("Unknown detector")
            for mode, configuration in TRACED:
                trace_models(mode, configuration, Path(folder), given.n_int)
            return
        for mode in given.mode or MODES:
            table(mode, Path(folder), given.n_int, given.share or list(SHARES))


if __name__ == "__main__":
    main()
