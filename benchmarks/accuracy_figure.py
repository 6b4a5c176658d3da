"""
The figure of the accuracy programme: scatter, depth and channels of every scene, with their bounds.

``python benchmarks/accuracy_figure.py [--figure docs/figures/accuracy.png]`` draws what ``accuracy.json`` holds: a line
for each scene that was measured. A circle is within its bound by two standard errors, a cross
is not, and of an open circle that is not known.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accuracy_pool import BOUNDS, Figure, figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent
_COLOURS = {"tso3": "#0072b2", "optimal": "#009e73", "archive": "#d55e00", "jwst": "#999999"}
"""Programs that are drawn, in the order of their colours; the last lie below the others."""
_PANELS = (
    ("out", "scatter out of transit / undisturbed - 1", 0.1, 1.0),
    ("pull mean", "pull of the depth: mean", 1.0, 0.0),
    ("pull std", "pull of the depth:\nstandard deviation", 2.0, 0.0),
    ("chi2", "chi-square of the\ndepths in channels", 2.0, 0.0),
)
"""Measure, label, where the axis passes from linear to logarithmic, and what is subtracted."""
_HEIGHT, _WIDTH = 0.17, 9.6


def bounds(name: str, kind: str) -> tuple[float, float]:
    """
    Return the interval that a measure should be in.

    Parameters
    ----------
    name : str
        Key of `accuracy_pool.figures`.
    kind : str
        Set of the scene.

    Returns
    -------
    low, high : float
        Infinite or 0 where there is none.
    """
    values = BOUNDS[kind]
    if name == "pull mean":
        return -values["mean"], values["mean"]
    if name == "pull std":
        return values["low"], values["high"]
    return (values["chi2_low"], values["chi2"]) if name == "chi2" else (0.0, values["out"])


def draw_panel(ax: Axes, scenes: Sequence[tuple[str, Mapping[str, Any]]], panel: tuple[str, str, float, float]) -> int:
    """
    Draw one measure of all scenes.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where.
    scenes : sequence of (str, mapping)
        Name and rows by program, from above.
    panel : tuple
        One of those of the figure.

    Returns
    -------
    n_points : int
        How many numbers were drawn.
    """
    name, label, linear, level = panel
    n_points = 0
    for line, (_, rows) in enumerate(scenes):
        low, high = bounds(name, next(iter(rows.values()))["set"])
        if math.isfinite(high):
            begin = 0.0 if name == "out" else low - level
            ax.fill_betweenx([line - 0.5, line + 0.5], begin, high - level, color="0.88", lw=0)
        for program in reversed(_COLOURS):
            if program not in rows or not rows[program]["seeds"]:
                continue
            found: Figure = figures(rows[program], rows[program]["set"], program == "optimal")[name]
            if math.isfinite(found.value):
                n_points += 1
                error = found.error if math.isfinite(found.error) else 0.0
                mark = "x" if found.holds is False else "o"
                fill = "none" if found.holds is None else _COLOURS[program]
                ax.errorbar(
                    found.value - level, line, xerr=error, fmt=mark, ms=3.5, mew=1.0, lw=0.7,
                    color=_COLOURS[program], mfc=fill, label=program,
                )  # fmt: skip
    ax.set_xscale("symlog", linthresh=linear)
    if name in ("pull std", "chi2"):
        ax.set_xlim(left=0.0)
    ax.set_xlabel(label, fontsize=7)
    ax.tick_params(labelsize=6.5)
    return n_points


def draw(rows: Mapping[str, Any], path: Path) -> int:
    """
    Draw the figure.

    Parameters
    ----------
    rows : mapping
        Of ``accuracy.json``.
    path : Path
        PNG.

    Returns
    -------
    n_points : int
        How many numbers were drawn.
    """
    from matplotlib.figure import Figure as Page

    scenes = [(name, programs) for name, programs in rows.items() if any(row["seeds"] for row in programs.values())]
    page = Page(figsize=(_WIDTH, 1.0 + _HEIGHT * len(scenes)), layout="constrained")
    axes = page.subplots(1, len(_PANELS), sharey=True)
    n_points = sum(draw_panel(ax, scenes, panel) for ax, panel in zip(axes, _PANELS, strict=True))
    axes[0].set_yticks(np.arange(len(scenes)), [f"{name} ({_seeds(programs)})" for name, programs in scenes])
    axes[0].set_ylim(len(scenes) - 0.5, -0.5)
    kinds = [next(iter(programs.values()))["set"] for _, programs in scenes]
    if {"nominal", "difficult"} <= set(kinds):
        for ax in axes:
            ax.axhline(kinds.index("difficult") - 0.5, color="0.4", lw=0.6)
    known = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    order = [program for program in _COLOURS if program in known]
    page.legend([known[name] for name in order], order, loc="outside upper right", ncols=len(order) or 1, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(path, dpi=150)
    return n_points


def _seeds(programs: Mapping[str, Any]) -> int:
    return max(len(row["seeds"]) for row in programs.values())


def main() -> int:
    """Draw the figure; 1 if there is nothing to draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER / "accuracy.json")
    parser.add_argument("--figure", type=Path, default=FOLDER.parent / "docs" / "figures" / "accuracy.png")
    options = parser.parse_args()
    n_points = draw(json.loads(options.results.read_text(encoding="utf-8"))["rows"], options.figure)
    print(f"{options.figure}: {n_points} numbers")
    return 0 if n_points else 1


if __name__ == "__main__":
    raise SystemExit(main())
