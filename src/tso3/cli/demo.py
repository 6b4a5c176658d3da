"""``tso3 demo`` and ``tso3 simulate``: observations whose truth is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tso3.cli.run import Request, run_and_report, running

if TYPE_CHECKING:
    from tso3.simulate import SimulatedVisit

__all__ = ["run_demo", "run_simulate"]


def run_demo(output_dir: Path, *, n_int: int, seed: int, quiet: bool) -> None:
    """
    Simulate a transit, reduce it and draw the light curve.

    Parameters
    ----------
    output_dir : path
        Gets the products and the figure; the simulated inputs go into ``calints`` below it.
    n_int : int
        Integrations.
    seed : int
        Seed of the simulation.
    quiet : bool
        Show warnings and errors only.
    """
    visit = _simulated(
        "NRS_BRIGHTOBJ", output_dir / "calints", n_int=n_int, segments=2, seed=seed, depth=0.01, quiet=quiet
    )
    run_and_report(
        Request(
            inputs=[str(visit.association)],
            output_dir=output_dir,
            overrides=dict(visit.references),
            figure=True,
            quiet=quiet,
        )
    )


def run_simulate(
    mode: str, output_dir: Path, *, n_int: int, segments: int, seed: int, depth: float, quiet: bool
) -> None:
    """
    Simulate an observation and say what was written.

    Parameters
    ----------
    mode : str
        EXP_TYPE.
    output_dir : path
        Gets the calints, the association and the references.
    n_int, segments : int
        Integrations of each exposure and files that it is split into.
    seed : int
        Seed of the simulation.
    depth : float
        Depth of the transit.
    quiet : bool
        Print nothing.
    """
    visit = _simulated(mode, output_dir, n_int=n_int, segments=segments, seed=seed, depth=depth, quiet=quiet)
    if not quiet:
        options = "".join(f" --override-{name} {path}" for name, path in visit.references.items())
        sys.stdout.write(f"reduce it with:\n  tso3 run {visit.association}{options} -o DIR\n")


def _simulated(
    mode: str, output_dir: Path, *, n_int: int, segments: int, seed: int, depth: float, quiet: bool
) -> SimulatedVisit:
    with running(quiet=quiet) as (progress, _):
        progress.message(f"simulating {n_int} integrations of {mode} in {output_dir}")
        from tso3.simulate import simulate

        return simulate(mode, output_dir, n_int=n_int, segments=segments, seed=seed, depth=depth)
