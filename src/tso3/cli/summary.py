"""The table at the end of ``tso3 run``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from tso3.result import RunResult

__all__ = ["print_summary"]


def print_summary(
    result: RunResult, *, figures: Sequence[Path] = (), preset: str = "default", stream: TextIO | None = None
) -> None:
    """
    Print what a run made.

    Parameters
    ----------
    result : RunResult
        What `tso3.run` gave.
    figures : sequence of path, optional
        Figures drawn from it.
    preset : str, optional
        Name of the preset in force.
    stream : text file, optional
        Standard output by default.
    """
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    console = Console(file=stream, width=None if stream.isatty() else 120, markup=False, highlight=False)
    console.print(_exposures(result))
    console.print(_products(result, figures))
    console.print(
        f"{result.n_int} integrations in {_duration(result.seconds)}, "
        f"peak memory {result.peak_memory / 2**20:.0f} MiB, preset {preset}"
    )
    if result.references:
        console.print("references: " + ", ".join(result.references))
    if result.warnings:
        console.print(f"{len(result.warnings)} warning{'s' if len(result.warnings) > 1 else ''}, see above")


def _exposures(result: RunResult) -> Table:
    """One row for each exposure; scatter is from point to point, beside what photons and read noise allow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("exposure", overflow="fold")
    for heading in ("integrations", "pixels flagged", "scatter [ppm]", "photon limit [ppm]", "ratio"):
        table.add_column(heading, justify="right")
    for exposure in result.exposures:
        scatter, limit = exposure.scatter_ppm, exposure.limit_ppm
        known = math.isfinite(scatter) and math.isfinite(limit) and limit > 0
        table.add_row(
            exposure.label,
            f"{exposure.n_int}",
            f"{exposure.n_flagged}",
            _number(scatter),
            _number(limit),
            f"{scatter / limit:.2f}" if known else "–",
        )
    return table


def _products(result: RunResult, figures: Sequence[Path]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for kind, paths in {**result.products, "figure": list(figures)}.items():
        for path in paths:
            table.add_row(kind, str(path))
    table.add_row("")
    return table


def _number(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "–"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
