"""``tso3 references``: which reference file of each kind would be used, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tso3.cli.run import running
from tso3.errors import Tso3Error

if TYPE_CHECKING:
    from tso3.io.exposure import Observation
    from tso3.io.references import Reference, References
    from tso3.observations import Source

__all__ = ["Choice", "choices", "show"]


@dataclass(frozen=True)
class Choice:
    """
    One reference, as shown.

    Attributes
    ----------
    kind : str
        Such as ``extract1d``.
    used : str
        The file; ``built-in``, or ``none``.
    why : str
        Who chose it.
    means : str
        What a built-in default is and where its numbers are from, or what is done without a file; else nothing.
    """

    kind: str
    used: str
    why: str
    means: str


def choices(observation: Observation, references: References) -> list[Choice]:
    """
    Return what would be used for an observation.

    Parameters
    ----------
    observation : Observation
        What is to be reduced.
    references : References
        As `tso3.io.references.find_references` gives them.

    Returns
    -------
    choices : list of Choice
        One for each kind that the mode can use; one for each detector where they differ.
    """
    exp_type = observation.mode.exp_type
    found = []
    for kind, reference in references.by_kind.items():
        each = {d: kinds[kind] for d, kinds in references.by_detector.items()}
        if len(set(each.values())) > 1:
            found += [_choice(f"{kind} ({detector})", exp_type, one) for detector, one in each.items()]
        else:
            found.append(_choice(kind, exp_type, reference))
    return found


def _choice(kind: str, exp_type: str, reference: Reference) -> Choice:
    from tso3.io.defaults import described
    from tso3.io.reference_kinds import KINDS

    if reference.path is not None:
        return Choice(kind, str(reference.path), reference.why, "")
    built_in = reference.source == "built-in"
    means = described(reference.kind, exp_type) if built_in else KINDS[reference.kind].without
    return Choice(kind, "built-in" if built_in else "none", reference.why, means)


def show(inputs: Sequence[str], overrides: Mapping[str, Path]) -> None:
    """
    Print which references would be used for each observation; nothing is reduced or written.

    Parameters
    ----------
    inputs : sequence of str
        As of ``tso3 run``.
    overrides : mapping of str to path
        Files given by the user, by kind.

    Raises
    ------
    Tso3Error
        If the inputs cannot be used, or a reference that was given does not exist; with several observations, after
        what was found for the others is printed.
    """
    with running(quiet=True):
        from tso3.observations import find_observations, reduce_all

        sources = find_observations(list(inputs))
        failed = [each.error for each in reduce_all(sources, lambda one: _show(one, overrides)) if each.error]
    if failed:
        raise failed[0] if len(failed) == 1 else Tso3Error("\n".join(str(error) for error in failed))


def _show(source: Source, overrides: Mapping[str, Path]) -> None:
    """Print which references would be used for one observation."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from tso3.io.exposure import read_observation
    from tso3.io.reference_kinds import KINDS
    from tso3.io.references import find_references

    observation = read_observation(source.inputs)
    references = find_references(observation, overrides)
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    console.print(f"{observation.product_name}: {' '.join(_configuration(observation))}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("kind", "used", "why", "which means"):
        table.add_column(heading, overflow="fold")
    for choice in choices(observation, references):
        table.add_row(choice.kind, choice.used, choice.why, choice.means)
    console.print(table)
    unused = [kind for kind in overrides if kind in KINDS and kind not in references.by_kind]
    if unused:
        console.print(f"without effect for {observation.mode.exp_type}: {', '.join(unused)}")


def _configuration(observation: Observation) -> Iterator[str]:
    """Yield what the choice depends on."""
    first = observation.exposures[0]
    yield observation.mode.exp_type
    detectors = ",".join(dict.fromkeys(exposure.detector for exposure in observation.exposures))
    yield from (text for text in (detectors, first.filter, first.pupil, first.grating, first.subarray) if text)
