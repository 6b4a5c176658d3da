"""
The figures of the pages on single steps, from scenes of the simulator.

    python benchmarks/step_figures.py                     # all, into docs/figures; about a minute
    python benchmarks/step_figures.py --step white_light --folder /some/where
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from matplotlib.patches import Circle

import tso3
from tso3.report.style import colour_of, figure, write_png
from tso3.simulate import simulate

_OUTLIER = 1 << 4


def truth_of(visit: Any) -> dict[str, np.ndarray]:
    """Return what went into a visit of one exposure."""
    return dict(np.load(next(iter(visit.truths.values()))))


def flux_of(table: Any, prefix: str) -> np.ndarray:
    """Return the first column whose name begins so."""
    return np.asarray(table[next(name for name in table.colnames if name.startswith(prefix))], float)


def off_truth(flux: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return a light curve over the true one, less one [ppm]."""
    ratio = flux / light
    return 1e6 * (ratio / np.median(ratio) - 1.0)


def outlier_detection(place: Path, path: Path) -> None:
    """Draw how many samples each method flags in a transit, above those that the simulator hit with particles."""
    visit = simulate(
        "NRS_BRIGHTOBJ", place, configuration="PRISM", n_int=120, jitter=0.015, depth=0.013, seed=5, bad_pixels=0.0
    )
    truth = truth_of(visit)
    hit = ~truth["cosmic_ray_caught"] & (truth["cosmic_ray_sigma"] > 5.0)
    expected = np.bincount(truth["cosmic_ray_integration"][hit], minlength=120)
    with figure(7.0, 4.0) as page:
        light, flags = page.subplots(2, 1, sharex=True, height_ratios=[1, 2])
        light.plot(truth["white_light"] / truth["white_light"].max(), color="0.3")
        light.set_ylabel("true light")
        for index, method in enumerate(("rolling_median", "template")):
            given = {"outlier_detection": {"method": method}, "extract_1d": {"skip": True}}
            result = tso3.run(visit.association, place / method, parameters=given)
            marked = [fits.getdata(name, "DQ") & _OUTLIER > 0 for name in result.products["crfints"]]
            found = np.concatenate([each.sum(axis=(1, 2)) for each in marked])
            flags.plot(found, drawstyle="steps-mid", color=colour_of(1 - index), label=f"method = {method}")
        flags.plot(expected, "k.", ms=4, label="particles above 5 sigma put in")
        flags.set(yscale="symlog", xlabel="integration", ylabel="samples flagged", ylim=(-0.3, None))
        page.legend(fontsize=8, ncols=3, loc="outside upper center")
        write_png(page, path)


def background(place: Path, path: Path) -> None:
    """Draw photometry behind a weak lens with and without the levels of rows."""
    visit = simulate("NRC_TSIMAGE", place, configuration="WLP8", n_int=60, seed=3)
    light = truth_of(visit)["white_light"]
    with figure(7.0, 2.8) as page:
        axis = page.subplots()
        for index, way in enumerate(("none", "row")):
            given = {"residual_background": {"background": way}}
            result = tso3.run(visit.association, place / way, parameters=given)
            (table,) = result.photometry.values()
            off = off_truth(np.asarray(table["net_aperture_sum"], float), light)
            label = f"background = {way}: {off.std():.0f} ppm"
            axis.plot(off, ".-", lw=0.6, color=colour_of(1 - index), label=label)
        axis.set(xlabel="integration", ylabel="flux over truth [ppm]")
        axis.legend(fontsize=8)
        write_png(page, path)


def correlated_noise(place: Path, path: Path) -> None:
    """Draw scatter and told error of a NIRCam grism against the 1/f noise that the simulator adds."""
    strengths = np.array([0.0, 0.15, 0.3, 0.45, 0.6])
    scatter, told = np.empty(strengths.size), {24: np.empty(strengths.size), 0: np.empty(strengths.size)}
    for k, strength in enumerate(strengths):
        scene = {"configuration": "F444W", "n_int": 60, "depth": 0.0, "jitter": 0.0, "drift": 0.0, "cosmic_rays": 0.0}
        visit = simulate("NRC_TSGRISM", place / f"{k}", one_over_f=float(strength), bad_pixels=0.0, seed=6, **scene)
        light = truth_of(visit)["white_light"]
        for n_pairs, errors in told.items():
            given = {"survey": {"n_pairs": n_pairs}, "rectify": {"skip": True}}
            table = tso3.run(visit.association, place / f"{k}-{n_pairs}", parameters=given).white_light
            flux = flux_of(table, "whitelight_flux")
            errors[k] = 1e6 * np.median(flux_of(table, "whitelight_flux_error") / flux)
        scatter[k] = off_truth(flux, light).std()
    with figure(7.0, 2.8) as page:
        axis = page.subplots()
        spread = scatter / np.sqrt(2 * 59)
        axis.errorbar(strengths, scatter, spread, fmt="k.", label="scatter about the truth")
        axis.plot(strengths, told[24], color=colour_of(0), label="error told")
        axis.plot(strengths, told[0], color=colour_of(1), label="the same without n_pairs")
        axis.set(xlabel="part of the read noise that rows share", ylabel="white light [ppm]", ylim=(0, None))
        axis.legend(fontsize=8)
        write_png(page, path)


def pixel_replace(place: Path, path: Path) -> None:
    """Draw what bad pixels do to the white light if they are replaced, completed or left out."""
    scene = {"configuration": "PRISM", "n_int": 60, "jitter": 0.01, "depth": 0.0, "seed": 8, "cosmic_rays": 0.0}
    visit = simulate("NRS_BRIGHTOBJ", place, bad_pixels=0.0, **scene)
    whole = flux_of(tso3.run(visit.association, place / "whole").white_light, "whitelight_flux")
    rng = np.random.default_rng(1)
    for member in visit.members:
        with fits.open(member, mode="update") as file:
            file["DQ"].data |= (rng.random(file["DQ"].data.shape) < 0.003).astype(file["DQ"].data.dtype)
    ways = {
        "left out": {"extract_1d": {"missing": "drop"}},
        "mingrad": {"pixel_replace": {"skip": False, "algorithm": "mingrad"}},
        "fit_profile": {"pixel_replace": {"skip": False, "algorithm": "fit_profile"}},
        "time_profile": {"pixel_replace": {"skip": False, "algorithm": "time_profile"}},
        "completed (default)": {},
    }
    with figure(7.0, 3.6) as page:
        axis = page.subplots()
        for index, (name, given) in enumerate(ways.items()):
            result = tso3.run(visit.association, place / f"way{index}", parameters=given)
            off = off_truth(flux_of(result.white_light, "whitelight_flux"), whole)
            label = f"{name}: {off.std():.0f} ppm"
            axis.plot(off, ".", ms=5, color=colour_of(index), label=label)
        axis.set(
            yscale="symlog", xlabel="integration", ylabel="white light, difference from\nthat without bad pixels [ppm]"
        )
        page.legend(fontsize=8, ncols=3, loc="outside upper center")
        write_png(page, path)


def white_light(place: Path, path: Path) -> None:
    """Draw the sum of an LRS observation and its weighted, normalised light curve."""
    visit = simulate("MIR_LRS-SLITLESS", place, n_int=80, depth=0.01, seed=2)
    light = truth_of(visit)["white_light"]
    table = tso3.run(visit.association, place / "out").white_light
    baseline = np.median(light[light > 0.999 * light.max()])
    with figure(7.0, 3.4) as page:
        axis = page.subplots()
        for index, (prefix, name) in enumerate((("whitelight_flux", "sum"), ("whitelight_normalized", "weighted"))):
            flux = flux_of(table, prefix)
            flux = flux / np.median(flux / light) / baseline
            label = f"{name}: {off_truth(flux, light).std():.0f} ppm about the truth"
            axis.plot(flux, ".", ms=4, color=colour_of(1 - index), label=label, zorder=1 + index)
        axis.plot(light / baseline, color="0.3", lw=0.8, label="truth")
        axis.set(xlabel="integration", ylabel="white light, 1 outside the transit")
        axis.legend(fontsize=8)
        write_png(page, path)


def tso_photometry(place: Path, path: Path) -> None:
    """Draw the apertures on an image, and the light curve."""
    visit = simulate("NRC_TSIMAGE", place, configuration="F210M", n_int=100, depth=0.02, seed=4)
    truth = truth_of(visit)
    result = tso3.run(visit.association, place / "out")
    (table,) = result.photometry.values()
    image = np.nanmedian(fits.getdata(visit.members[0], "SCI"), axis=0)
    with figure(7.0, 3.0) as page:
        left, right = page.subplots(1, 2, width_ratios=[2, 3])
        left.imshow(np.arcsinh(image / np.nanstd(image) * 20.0), origin="lower", cmap="gray_r", interpolation="nearest")
        centre = (float(table["aperture_x"][0].value), float(table["aperture_y"][0].value))
        radii = (float(text) for text in re.findall(r"=([\d.]+) pixels", table.meta["apertures"]))
        for index, radius in enumerate(radii):
            left.add_patch(Circle(centre, radius, fill=False, color=colour_of(min(index, 1)), lw=1.0))
        left.set(xlabel="x [pixel]", ylabel="y [pixel]")
        flux, error = (np.asarray(table[f"net_aperture_sum{end}"], float) for end in ("", "_err_temporal"))
        scale = np.median(flux / truth["white_light"]) * truth["white_light"].max()
        right.errorbar(np.arange(flux.size), flux / scale, error / scale, fmt=".", ms=3, lw=0.6, color=colour_of(0))
        right.plot(truth["white_light"] / truth["white_light"].max(), color=colour_of(1), label="truth")
        right.set(xlabel="integration", ylabel="flux, 1 outside the transit")
        right.legend(fontsize=8)
        write_png(page, path)


def rectify(place: Path, path: Path) -> None:
    """Draw the median frame of SOSS as it is on the detector, and its orders rectified."""
    visit = simulate("NIS_SOSS", place, n_int=4, segments=1, seed=1)
    result = tso3.run(visit.association, place / "out")
    with figure(7.0, 6.0) as page:
        shown = result.products["median"]
        for panel, name in zip(page.subplots(len(shown), 1), shown, strict=True):
            image = fits.getdata(name)
            low, high = np.nanpercentile(image, [5.0, 99.5])
            panel.imshow(np.arcsinh(5.0 * (image - low) / (high - low)), origin="lower", aspect="auto", cmap="viridis")
            panel.set_ylabel("row")
            panel.set_title(name.name.split("_nis_")[1], fontsize=8)
        panel.set_xlabel("column")
        write_png(page, path)


def rectify_lines(place: Path, path: Path) -> None:
    """Draw narrow lines of G395H as they are on the detector, and rectified: where they are in each row."""
    from tso3.io.exposure import read_observation

    visit = simulate(
        "NRS_BRIGHTOBJ", place, n_int=2, seed=1, configuration="G395H", detectors=["NRS2"], noise=False,
        cosmic_rays=0.0, bad_pixels=0.0, flat_error=0.0, depth=0.0,
    )  # fmt: skip
    (exposure,) = read_observation(visit.association).exposures
    wavelength = np.asarray(exposure.wavelength, float)
    middle, step = float(wavelength[16, 1000]), float(np.nanmedian(np.diff(wavelength[16])))
    line = np.exp(-0.5 * ((wavelength - middle) / (0.8 * step)) ** 2)
    with fits.open(visit.members[0], mode="update") as product:
        product["SCI"].data *= np.nan_to_num(0.2 + 5.0 * line).astype(np.float32)
    raw = 0.2 + 5.0 * line
    options = {"outlier_detection": {"skip": True}, "extract_1d": {"skip": True}}
    result = tso3.run(visit.association, place / "out", parameters=options)
    (name,) = result.products["s2dints"]
    with fits.open(name) as product:
        straight, grid = product["SCI"].data[0], product["WAVELENGTH"].data
    column = float(np.interp(middle, grid[0], np.arange(grid.shape[1])))
    with figure(7.0, 3.0) as page:
        panels = page.subplots(1, 3)
        for panel, image, at, title in (
            (panels[0], raw, 1000.0, "detector"),
            (panels[1], straight / np.nanmax(straight, axis=1, keepdims=True), column, "rectified"),
        ):
            first = round(at) - 8
            part = image[:, first : first + 17]
            panel.imshow(part, origin="lower", aspect="auto", cmap="viridis", extent=(-8.5, 8.5, -0.5, len(part) - 0.5))
            panel.set_title(title, fontsize=8)
            panel.set_xlabel("column from the line")
            net = np.clip(part - np.nanmedian(part, axis=1, keepdims=True), 0.0, None)[:, 3:14]
            centroid = (net * np.arange(first + 3, first + 14)).sum(axis=1) / net.sum(axis=1) - at
            rows = np.arange(len(part))
            used = slice(4, 28)
            panels[2].plot(centroid[used], rows[used], marker=".", label=title)
        panels[0].set_ylabel("row")
        panels[2].set_xlabel("centroid of the line [column]")
        panels[2].legend(fontsize=7)
        write_png(page, path)


_DRAWN = (
    outlier_detection,
    background,
    correlated_noise,
    pixel_replace,
    white_light,
    tso_photometry,
    rectify,
    rectify_lines,
)
STEPS: dict[str, Callable[[Path, Path], None]] = {each.__name__: each for each in _DRAWN}


def main() -> None:
    """Draw the figures that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--step", action="append", choices=list(STEPS))
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    given.folder.mkdir(parents=True, exist_ok=True)
    for step in given.step or STEPS:
        with tempfile.TemporaryDirectory() as place:
            STEPS[step](Path(place), given.folder / f"{step}.png")
        print(given.folder / f"{step}.png", flush=True)


if __name__ == "__main__":
    main()
