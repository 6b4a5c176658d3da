"""
Each default beside its alternatives, on scenes where they differ.

    python benchmarks/defaults.py --seeds 12

simulates each scene once per seed and reduces it with the default preset and with one parameter changed at a time; what
is measured is that of `accuracy.py`. Writes ``defaults.md``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy_flags import COUNTED
from accuracy_pool import Figure, add, false_flags, figures
from accuracy_rounds import scratch_folder, unheard
from accuracy_rows import version
from accuracy_seed import PROGRAMS, Program, measure_seed
from scenes import Scene, load

FOLDER = Path(__file__).parent
DEFAULT = "tso3"


@dataclass(frozen=True)
class Alternative:
    """
    Another value than the default.

    Attributes
    ----------
    name : str
        As a user would set it.
    parameters : dict
        By step.
    scenes : tuple of str
        Where it is measured.
    """

    name: str
    parameters: Mapping[str, Any]
    scenes: tuple[str, ...]


def _one(step: str, name: str, value: Any, *scenes: str) -> Alternative:
    """Return an alternative of one parameter."""
    return Alternative(f"{step}.{name} = {value}", {step: {name: value}}, scenes)


_GRATING, _IMAGE, _LINES = "g395h", "nircam image", "prism, 1/f along rows"
ALTERNATIVES = (
    _one("outlier_detection", "method", "rolling_median", "prism", _GRATING, _IMAGE),
    _one("outlier_detection", "method", "sigma_clip", "prism", _GRATING, _IMAGE),
    _one("outlier_detection", "snr", 4.0, "prism", _GRATING, "mrs"),
    _one("outlier_detection", "snr", 6.0, "prism", _GRATING, "mrs"),
    _one("outlier_detection", "snr_around", None, "lrs", "mrs"),
    Alternative(
        "outlier_detection.snr_beside = None, outlier_detection.snr_around = None",
        {"outlier_detection": {"snr_beside": None, "snr_around": None}},
        ("lrs", "mrs"),
    ),
    _one("survey", "n_sample", 32, "prism", _IMAGE),
    _one("survey", "n_pairs", 0, _LINES, "nircam grism"),
    _one("residual_background", "background", "row", _LINES, "nircam grism"),
    Alternative(
        "extract_1d.missing = drop, white_light.missing = drop",
        {"extract_1d": {"missing": "drop"}, "white_light": {"missing": "drop"}},
        ("prism", _GRATING),
    ),
    _one("extract_1d", "profile", "steady", "prism, jitter 0.02", _GRATING),
    _one("extract_1d", "edge_light", "left", "prism, jitter 0.02", _GRATING),
    Alternative(
        "extract_1d.extraction_type = optimal",
        PROGRAMS["optimal"].parameters,
        ("prism", _GRATING, "prism, saturated core"),
    ),
    _one("channels", "motion", "none", "prism, jitter 0.02", "lrs"),
    _one("tso_photometry", "missing", "drop", _IMAGE, "miri image"),
    _one("tso_photometry", "profile", "steady", f"{_IMAGE}, jitter 0.02", "miri image"),
    _one("tso_photometry", "moving_centroid", True, f"{_IMAGE}, jitter 0.02"),
    _one("tso_photometry", "annulus_clip", 3.0, _IMAGE),
)
_MEASURES = ("out", "edge", "chi2 out", "pull mean", "pull std", "found 6", "chi2")
_HEAD = ("scene", "changed", "out of transit", "ingress, egress", "chi2, out", "pull: mean", "pull: std", "rays > 6",
         "chi2, channels", "false flags (E)")  # fmt: skip
_ABOUT = """# Defaults and their alternatives

Made by `benchmarks/defaults.py`; the columns are those of `accuracy.md`, and every row of a scene has the same {seeds}
seeds, with the same noise. The first row of a scene is the default preset; in the others one parameter is changed.

"""


def measured(scene: Scene, seeds: int, settings: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the sums over seeds of one scene, by what is changed."""
    from tso3.simulate import reused_parts

    chosen = {each.name: each for each in ALTERNATIVES if scene.name in each.scenes}
    PROGRAMS.update({name: Program(parameters=_merged(each.parameters)) for name, each in chosen.items()})
    rows: dict[str, dict[str, Any]] = {name: {"sums": {}, "failed": {}} for name in (DEFAULT, *chosen)}
    with reused_parts(), warnings.catch_warnings():
        warnings.showwarning = unheard  # tso3 passes its own warnings on whatever the filter
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="defaults-", dir=folder) as scratch:
                answers = measure_seed(scene, seed, list(rows), Path(scratch), settings, None)
            for name, row in rows.items():
                numbers = answers[name]
                if isinstance(numbers, str):
                    row["failed"][seed] = numbers
                else:
                    add(row["sums"], numbers)
    return rows


def _merged(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {step: dict(values) for step, values in parameters.items()}


def line(scene: str, name: str, row: Mapping[str, Any], kind: str) -> str:
    """Return a row of the table."""
    found = figures(row, kind, False)
    cells = [Figure(found[each].value, found[each].error).text(4 if each == "found 6" else 2) for each in _MEASURES]
    counts = [false_flags(row["sums"], place, kind)[:2] for place in COUNTED]
    flags = f"{sum(n for n, _ in counts):.0f} ({sum(e for _, e in counts):.1f})"
    failed = f" ({len(row['failed'])} ended in an error)" if row["failed"] else ""
    cells = [cells[0], *cells[1:], flags]
    shown = "*default*" if name == DEFAULT else f"`{name}`".replace(", ", "`, `")
    return "| " + " | ".join([scene if name == DEFAULT else "", shown + failed, *cells]) + " |"


def main() -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", type=Path, default=FOLDER / "defaults.md", help="page of results")
    options = parser.parse_args()
    settings, scenes = load()
    named = {name for each in ALTERNATIVES for name in each.scenes}
    chosen = [scene for scene in scenes if scene.name in named]
    folder, now = scratch_folder(options.jobs), version(None)
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(measured, scene, options.seeds, settings, folder) for scene in chosen]
        tables = [task.result() for task in tasks]
    lines = [_ABOUT.format(seeds=options.seeds), "| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
    for scene, rows in zip(chosen, tables, strict=True):
        lines += [line(scene.name, name, row, scene.set) for name, row in rows.items()]
    lines += ["", f"{now.origin}; digest of the code {now.code}, commit {now.commit or 'unknown'}."]
    options.write.write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n", encoding="utf-8")
    print(options.write.read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
