"""``tso3 run`` with several observations: one after the other, a line for each when it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tso3.cli.run import Request, reduce_one, running, tell_late
from tso3.cli.summary import heading, line, totals
from tso3.observations import Outcome, Source, reduce_all

if TYPE_CHECKING:
    from tso3.result import RunResult

__all__ = ["run_several"]


def run_several(request: Request, sources: Sequence[Source], options: dict[str, Any]) -> int:
    """
    Reduce several observations; one that fails does not stop the others.

    Parameters
    ----------
    request : Request
        What was typed.
    sources : sequence of Source
        The observations.
    options : dict
        Arguments of `tso3.run`.

    Returns
    -------
    code : int
        0, or 2 if some failed.

    Notes
    -----
    An interruption, or an error that is a defect, ends everything after the totals of what was done are printed.
    """
    width = max(len(source.name) for source in sources)
    begun: list[str] = []
    outcomes: list[Outcome] = []

    def reduce(source: Source) -> RunResult:
        begun.append(source.name)
        with running(quiet=request.quiet, verbose=request.verbose, observation=source.name) as (progress, shown):
            number = len(begun) + sum(each.error is not None for each in sources)
            progress.message(f"{number} of {len(sources)}: {source.name}")
            result, _ = reduce_one(request, source.inputs, options, progress)
        tell_late(result, shown)
        return replace(result, views=())  # drawn already; images of many observations would fill the memory

    def told(outcome: Outcome) -> None:
        if not outcomes:
            _say(request, heading(width))
        outcomes.append(outcome)
        if request.quiet and outcome.error is not None:
            sys.stderr.write(f"tso3: error: {outcome.name}: {outcome.error}\n")
        _say(request, line(outcome, width))

    try:
        reduce_all(sources, reduce, told)
    finally:
        _say(request, totals(outcomes, len(sources), request.output_dir, options["preset"]))
    failed = [outcome.name for outcome in outcomes if outcome.error is not None]
    if failed:
        names = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if failed[3:] else "")
        sys.stderr.write(f"tso3: error: {len(failed)} of {len(sources)} observations failed: {names}\n")
    return 2 if failed else 0


def _say(request: Request, text: str) -> None:
    """Write a line at once, so that a log of a long call is up to date."""
    if not request.quiet:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
