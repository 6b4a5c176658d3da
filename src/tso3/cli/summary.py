"""What ``tso3 run`` prints at the end: tables for one observation, a line for each of several."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from tso3.observations import Outcome
    from tso3.result import RunResult

__all__ = ["heading", "line", "print_summary", "totals"]


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
    for exposure in result.exposures:
        if exposure.chosen:
            console.print(f"{exposure.label}: {exposure.chosen} pixels, chosen by a scan (auto)")
    if result.noise:
        console.print(_noise(result))
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
    both = any(math.isfinite(exposure.box_scatter_ppm) for exposure in result.exposures)
    box = ("of the box [ppm]",) if both else ()
    for heading in ("integrations", "pixels flagged", "scatter [ppm]", *box, "photon limit [ppm]", "ratio"):
        table.add_column(heading, justify="right")
    for exposure in result.exposures:
        scatter, limit = exposure.scatter_ppm, exposure.limit_ppm
        known = math.isfinite(scatter) and math.isfinite(limit) and limit > 0
        table.add_row(
            exposure.label,
            f"{exposure.n_int}",
            f"{exposure.n_flagged}",
            _number(scatter),
            *((_number(exposure.box_scatter_ppm),) if both else ()),
            _number(limit),
            f"{scatter / limit:.2f}" if known else "–",
        )
    return table


def _noise(result: RunResult) -> Table:
    """One row for each light curve: scatter outside the transit, its limit, and what averaging makes of it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("noise outside the transit [ppm]", no_wrap=True)
    columns = ("samples", "std", "robust", "point to point", "limit", "ratio", "averaged over", "over white noise")
    for heading in columns:
        table.add_column(heading, justify="right")
    for name, noise in result.noise.items():
        averaged = f"{noise.red_noise:.2f} ± {noise.red_noise_error:.2f}" if noise.averaged_over else "–"
        table.add_row(
            name,
            f"{noise.n_quiet}",
            _number(1e6 * noise.standard_deviation),
            _number(1e6 * noise.robust_scatter),
            _number(1e6 * noise.point_to_point),
            _number(1e6 * noise.photon_limit),
            f"{noise.ratio:.2f}" if math.isfinite(noise.ratio) else "–",
            f"{noise.averaged_over}" if noise.averaged_over else "–",
            averaged,
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


def heading(width: int) -> str:
    """
    Return the heading above the lines of several observations.

    Parameters
    ----------
    width : int
        Characters of the longest name.

    Returns
    -------
    text : str
        One line.
    """
    return _columns(("observation", "mode", "integ.", "flagged", "scatter", "limit [ppm]", "time"), width)


def line(outcome: Outcome, width: int) -> str:
    """
    Return the line of one of several observations.

    Parameters
    ----------
    outcome : Outcome
        What became of it.
    width : int
        Characters of the longest name.

    Returns
    -------
    text : str
        Name, mode, integrations, flagged pixels, scatter and photon limit of the exposures [ppm], and time; or the
        name, ``failed`` and why.
    """
    result = outcome.result
    if result is None:
        return f"{outcome.name:<{width}}  failed: {' '.join(str(outcome.error).split())}"
    numbers = (
        result.exp_type,
        f"{result.n_int}",
        f"{result.n_flagged}",
        _several([exposure.scatter_ppm for exposure in result.exposures]),
        _several([exposure.limit_ppm for exposure in result.exposures]),
        _duration(result.seconds),
    )
    return _columns((outcome.name, *numbers), width)


def totals(outcomes: Sequence[Outcome], n_sources: int, output_dir: Path, preset: str) -> str:
    """
    Return the last line of several observations.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of those that have ended.
    n_sources : int
        How many there were to reduce.
    output_dir : Path
        Folder of the products.
    preset : str
        Name of the preset in force.

    Returns
    -------
    text : str
        How many were reduced, failed, and were not begun or finished, and what the others took.
    """
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    counts = [f"{len(results)} of {n_sources} observations reduced"]
    if failed := len(outcomes) - len(results):
        counts.append(f"{failed} failed")
    if left := n_sources - len(outcomes):
        counts.append(f"{left} not finished")
    if not results:
        return ", ".join(counts)
    warned = sum(len(result.warnings) for result in results)
    peak = max(result.peak_memory for result in results)
    return (
        f"{', '.join(counts)}: {sum(result.n_int for result in results)} integrations in"
        f" {_duration(sum(result.seconds for result in results))}, peak memory {peak / 2**20:.0f} MiB, preset {preset},"
        f" products in {output_dir}" + (f"; warnings, see above: {warned}" if warned else "")
    )


def _columns(cells: Sequence[str], width: int) -> str:
    name, mode, *numbers = cells
    return f"{name:<{width}}  {mode:<17}" + "".join(f"{text:>12}" for text in numbers)


def _several(values: Sequence[float]) -> str:
    """Return the number of one exposure, of two, or the range of many."""
    known = [value for value in values if math.isfinite(value)]
    if len(values) < 3:
        return "/".join(_number(value) for value in values)
    return f"{_number(min(known))}-{_number(max(known))}" if known else _number(math.nan)


def _number(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "–"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
