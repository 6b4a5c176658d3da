"""``tso3 demo`` and ``tso3 simulate``: observations whose truth is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    scene = {"n_int": n_int, "segments": 2, "seed": seed}
    visit = _simulated("NRS_BRIGHTOBJ", output_dir / "calints", scene, quiet=quiet)
    run_and_report(
        Request(
            inputs=[str(visit.association)],
            output_dir=output_dir,
            overrides=dict(visit.references),
            figure=True,
            mid_transit=_mid_transit(visit),
            quiet=quiet,
        )
    )


def run_simulate(mode: str, output_dir: Path, scene: dict[str, Any], *, quiet: bool) -> None:
    """
    Simulate an observation and say how to reduce it.

    Parameters
    ----------
    mode : str
        EXP_TYPE.
    output_dir : path
        Gets the calints, the association and the references.
    scene : dict
        Further arguments of `tso3.simulate.simulate`.
    quiet : bool
        Print nothing.
    """
    visit = _simulated(mode, output_dir, scene, quiet=quiet)
    if not quiet:
        unread = ("specprofile", "speckernel", "spectrace", "wavemap")  # pastasoss is given too
        given = {name: path for name, path in visit.references.items() if name not in unread}
        options = "".join(f" --override-{name} {path}" for name, path in given.items())
        sys.stdout.write(f"reduce it with:\n  tso3 run {visit.association}{options} -o DIR\n")


def _simulated(mode: str, output_dir: Path, scene: dict[str, Any], *, quiet: bool) -> SimulatedVisit:
    with running(quiet=quiet) as (progress, _):
        from tso3.simulate import simulate

        return simulate(mode, output_dir, progress=progress, **scene)


def _mid_transit(visit: SimulatedVisit) -> float:
    """Time of mid-transit, BJD_TDB - 2400000.5 [day]: the centre of the light that the simulated transit takes away."""
    import numpy as np

    with np.load(next(iter(visit.truths.values()))) as truth:
        taken = 1.0 - truth["transit"].mean(axis=0)
        return float(np.average(truth["time_bjd_tdb"], weights=taken))
