"""
Shifts of simulated stars over the Cramer-Rao bound of their scenes: the table and the figure of the page on covariates.

    python benchmarks/covariates.py                       # the table of docs/steps/covariates.md; some minutes
    python benchmarks/covariates.py --scene g395h-5 --figure docs/figures/covariates.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import tso3
from tso3.simulate import simulate

SCENES: dict[str, tuple[str, dict[str, Any]]] = {
    "g395h-5": ("NRS_BRIGHTOBJ", {"configuration": "G395H", "detectors": ["NRS1"], "n_int": 60, "jitter": 0.005}),
    "g395h-10": ("NRS_BRIGHTOBJ", {"configuration": "G395H", "detectors": ["NRS1"], "n_int": 100, "jitter": 0.01}),
    "f210m-10": ("NRC_TSIMAGE", {"configuration": "F210M", "n_int": 200, "jitter": 0.01, "one_over_f": 0.0}),
    "f210m-20": ("NRC_TSIMAGE", {"configuration": "F210M", "n_int": 200, "jitter": 0.02, "one_over_f": 0.0}),
    "lrs-10": ("MIR_LRS-SLITLESS", {"configuration": "P750L", "n_int": 60, "jitter": 0.01}),
}
COMMON = {"seed": 7, "drift": 0.01}
_FEW = 12


def bound(mode: str, options: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return the least error that any unbiased estimate of the shifts can have, colours and background unknown."""
    quiet = {"depth": 0.0, "noise": False, "cosmic_rays": 0.0, "bad_pixels": 0.0}
    visit = simulate(mode, folder, **(options | COMMON | quiet | {"n_int": _FEW}))
    frames = np.concatenate([fits.getdata(path, "SCI").astype(float) for path in visit.members])
    variance = sum(fits.getdata(visit.members[0], f"VAR_{name}")[0].astype(float) for name in ("POISSON", "RNOISE"))
    motion = dict(np.load(next(iter(visit.truths.values()))))
    course = np.stack([np.ones(_FEW), motion["offset_x"], motion["offset_y"]], axis=1)
    star, along_x, along_y = np.linalg.lstsq(course, frames.reshape(_FEW, -1), rcond=None)[0]
    y, x = np.mgrid[-1.0 : 1.0 : frames.shape[1] * 1j, -1.0 : 1.0 : frames.shape[2] * 1j]
    u = (y if mode.startswith("MIR_LRS") else x).ravel()
    colours = [star * u**k for k in range(1 if "IMAGE" in mode else 5)]
    known = np.isfinite(star) & (variance.ravel() > 0.0)
    terms = np.stack([along_x, along_y, np.ones(u.size), *colours])[:, known] / np.sqrt(variance.ravel()[known])
    size = np.sqrt((terms**2).sum(axis=1))
    terms /= size[:, np.newaxis]
    least = np.sqrt(np.linalg.inv(terms @ terms.T).diagonal()) / size
    return {"x": float(least[0]), "y": float(least[1])}


def measured(mode: str, options: dict[str, Any], folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return, by axis, the shifts that were put in, those that were found, and their errors."""
    visit = simulate(mode, folder / "in", depth=0.01, **(options | COMMON))
    result = tso3.run(visit.association, folder / "out", parameters={"extract_1d": {"skip": True}})
    truth = dict(np.load(next(iter(visit.truths.values()))))
    table, found = result.covariates, {}
    for axis in "xy":
        name = next(name for name in table.colnames if name.startswith(f"shift_{axis}") and "error" not in name)
        error = name.replace(f"shift_{axis}", f"shift_{axis}_error")
        put_in = truth[f"offset_{axis}"]
        shift = np.asarray(table[name].value)
        found[axis] = put_in - put_in.mean(), shift - shift.mean(), np.asarray(table[error].value)
    return found


def draw(found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw the shifts found over those put in."""
    from tso3.report.style import colour_of, figure, write_png

    with figure(7.0, 3.4) as page:
        for index, (ax, axis) in enumerate(zip(page.subplots(1, 2), found, strict=True)):
            put_in, shift, error = (1e3 * each for each in found[axis])
            ax.errorbar(put_in, shift, error, fmt="o", ms=3, lw=0.8, color=colour_of(index))
            ax.axline((0.0, 0.0), slope=1.0, color="0.4", lw=0.8, zorder=0)
            ax.set_xlabel(f"{axis} put in [0.001 pixel]")
            ax.set_ylabel(f"{axis} found [0.001 pixel]")
        write_png(page, path)


def main() -> None:
    """Print a row for each scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", choices=SCENES, action="append", help="all by default")
    parser.add_argument("--figure", type=Path, help="of the last scene")
    given = parser.parse_args()
    print(
        "| scene | rms error x / bound | y / bound | bound x, y [pixel] | rms / error column |\n|---|---|---|---|---|"
    )
    for name in given.scene or SCENES:
        mode, options = SCENES[name]
        with tempfile.TemporaryDirectory() as folder:
            least = bound(mode, options, Path(folder) / "pure")
            found = measured(mode, options, Path(folder))
        rms = {axis: (shift - put_in).std(ddof=1) for axis, (put_in, shift, _) in found.items()}
        pull = " ".join(f"{rms[axis] / np.median(found[axis][2]):.2f}" for axis in "xy")
        ratio = " | ".join(f"{rms[axis] / least[axis]:.2f}" for axis in "xy")
        print(f"| {name} | {ratio} | {least['x']:.2g}, {least['y']:.2g} | {pull} |", flush=True)
    if given.figure is not None:
        draw(found, given.figure)


if __name__ == "__main__":
    main()
