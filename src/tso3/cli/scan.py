"""``tso3 scan``: gather what was asked, scan the apertures, print the table."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tso3.cli.run import Request, common_options, resolved, running, tell_late
from tso3.errors import ParameterError

if TYPE_CHECKING:
    from rich.table import Table

    from tso3.scan_result import ScannedLight, ScanResult

__all__ = ["GridRequest", "print_scan", "scan_and_report"]


@dataclass(frozen=True)
class GridRequest:
    """The grid that the user of ``tso3 scan`` typed; the names are those of `tso3.scan` and of the options."""

    width: str | None = None
    radius: str | None = None
    background: str = "as-is"
    annulus: str | None = None


def scan_and_report(request: Request, grid: GridRequest) -> int:
    """
    Scan the apertures of one observation, with a display, and print the table.

    Parameters
    ----------
    request : Request
        What was typed besides the grid.
    grid : GridRequest
        The grid.

    Returns
    -------
    code : int
        0.

    Raises
    ------
    Tso3Error
        If the inputs, the parameters or the output folder cannot be used, or a scan makes no sense for the mode.
    """
    import tso3

    figures: list[Path] = []
    with running(quiet=request.quiet, verbose=request.verbose) as (progress, shown):
        preset, parameters = resolved(request, progress)
        from tso3.observations import find_observations

        sources = find_observations(request.inputs)
        if len(sources) != 1:
            raise ParameterError(f"{len(sources)} observations are given; a scan is of one", "scan")
        result = tso3.scan(
            sources[0].inputs,
            request.output_dir,
            width=grid.width,
            radius=grid.radius,
            background=grid.background,
            annulus=grid.annulus,
            **common_options(request, preset, parameters),
            progress=progress,
        )
        if request.figure:
            from tso3.report.scan import write_scan

            figures.append(write_scan(result))
    if not request.quiet:
        print_scan(result, figures=figures, preset=preset)
    tell_late(result, shown)
    return 0


def print_scan(
    result: ScanResult, *, figures: Sequence[Path] = (), preset: str = "default", stream: TextIO | None = None
) -> None:
    """
    Print what a scan found.

    Parameters
    ----------
    result : ScanResult
        What `tso3.scan` gave.
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
    console.print(f"scatter from point to point of {result.lights[0].judged}; * best, < the smallest as good")
    for light in result.lights:
        console.print(_table(light))
        console.print(light.verdict)
        console.print()
    for kind, path in (("scan", result.product), *(("figure", path) for path in figures)):
        if path is not None:
            console.print(f"{kind}  {path}")
    n_int = sum({light.exposure: light.flux.shape[1] for light in result.lights}.values())
    console.print(
        f"{n_int} integrations, {len(result.lights[0].points)} apertures in {result.seconds:.1f} s, "
        f"peak memory {result.peak_memory / 2**20:.0f} MiB, preset {preset}"
    )
    if result.references:
        console.print("references: " + ", ".join(result.references))
    if result.warnings:
        console.print(f"{len(result.warnings)} warning{'s' if len(result.warnings) > 1 else ''}, see above")


def _table(light: ScannedLight) -> Table:
    """One row for each aperture; ``*`` marks the best, ``<`` the smallest that is as good."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=light.name, title_justify="left")
    unit = f"flux [{light.unit}]" if light.unit else "flux"
    kind = f"{light.kind} [pixel]"
    plain = ("sum [ppm]",) if light.is_weighted else ()
    heads = (kind, "background", "scatter [ppm]", "robust", "limit [ppm]", "ratio", *plain, unit, "missing")
    for head in (*heads, ""):
        table.add_column(head, justify="left" if head in ("background", "") else "right")
    ranking = light.ranking
    for k, point in enumerate(light.points):
        scatter, limit = ranking.scatter[k], light.limit[k]
        marks = ("*" if k == ranking.best else "") + ("<" if k == ranking.chosen else "")
        table.add_row(
            f"{point.size:g}",
            point.background,
            _ppm(scatter),
            _ppm(light.robust_scatter[k]),
            _ppm(limit),
            f"{scatter / limit:.3f}" if math.isfinite(scatter / limit) else "–",
            *([_ppm(light.sum_ranking.scatter[k])] if light.is_weighted else []),
            f"{light.level[k]:.5g}" if math.isfinite(light.level[k]) else "–",
            f"{light.mean_missing[k]:.2e}" if math.isfinite(light.mean_missing[k]) else "–",
            marks,
        )
    return table


def _ppm(value: float) -> str:
    return f"{1e6 * value:.1f}" if math.isfinite(value) else "–"
