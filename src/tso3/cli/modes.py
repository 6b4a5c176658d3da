"""``tso3 modes``: the modes as `tso3.modes` declares them, with the configurations that can be simulated."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tso3.modes import MODES, STEPS, Mode

__all__ = ["Row", "markdown", "rows", "show"]


@dataclass(frozen=True)
class Row:
    """
    One mode, as shown.

    Attributes
    ----------
    exp_type, name : str
        EXP_TYPE and what observers call it.
    group : str
        Imaging, spectroscopy or SOSS, in the near or the mid infrared.
    steps : tuple of str
        Those that apply.
    in_jwst : bool
        Whether stage 3 of the jwst package reduces it.
    condition : str
        What the header must say besides, or nothing.
    references : tuple of str
        Kinds of reference files that it can use.
    configurations : tuple of str
        What `tso3 simulate` can make of it.
    """

    exp_type: str
    name: str
    group: str
    steps: tuple[str, ...]
    in_jwst: bool
    condition: str
    references: tuple[str, ...]
    configurations: tuple[str, ...]


def rows() -> list[Row]:
    """
    Return every mode, in the order of the table.

    Returns
    -------
    rows : list of Row
        One for each mode.

    Examples
    --------
    >>> from tso3.cli.modes import rows
    >>> [row.name for row in rows() if "tso_photometry" in row.steps]
    ['NIRCam imaging', 'MIRI imaging']
    """
    return [_row(mode) for mode in MODES.values()]


def _row(mode: Mode) -> Row:
    from tso3.io.reference_kinds import kinds_of
    from tso3.simulate.configurations import CONFIGURATIONS

    kind = "SOSS" if mode.exp_type == "NIS_SOSS" else mode.kind
    return Row(
        exp_type=mode.exp_type,
        name=mode.name,
        group=f"{kind}, {mode.infrared} infrared",
        steps=mode.steps,
        in_jwst=mode.in_jwst,
        condition="TSOVISIT = T" if mode.needs_tsovisit else "",
        references=tuple(kind.name for kind in kinds_of(mode.exp_type)),
        configurations=tuple(CONFIGURATIONS.get(mode.exp_type, ())),
    )


def _mark(row: Row, step: str) -> str:
    """Return the cell of a step: applies (in brackets: if asked for), stage 3 of jwst has it not, does not apply."""
    from tso3.parameters import Parameters

    if step not in row.steps:
        return ""
    asked_for = getattr(getattr(Parameters(), step, None), "skip", False)
    return ("(✓)" if asked_for else "✓") + ("" if row.in_jwst else " ours")


def markdown() -> str:
    """
    Return the page of the documentation.

    Returns
    -------
    text : str
        Markdown: steps against modes, then reference files and configurations of each.

    Examples
    --------
    >>> from tso3.cli.modes import markdown
    >>> markdown().splitlines()[0]
    '# Modes'
    """
    shown = rows()
    lines = [
        "# Modes",
        "",
        "Made by `tso3 modes --markdown`; do not edit. Steps in their order against the time-series modes: ✓ where a",
        "step applies, (✓) where it is skipped unless asked for (its parameter `skip`, see",
        "[parameters](../parameters.md)), *ours* where stage 3 of jwst 3.0.0 does not reduce the mode. Exposures of",
        "any other type are refused, those of the fine guidance sensor and target acquisitions among them.",
        "",
        "| step | " + " | ".join(f"{row.name} `{row.exp_type}`" for row in shown) + " |",
        "|---|" + "---|" * len(shown),
        "| | " + " | ".join(row.group for row in shown) + " |",
    ]
    for step in STEPS:
        cells = " | ".join(_mark(row, step).replace("ours", "*ours*") for row in shown)
        lines.append(f"| `{step}` | {cells} |")
    lines += [
        "",
        "What each needs in its header besides EXP_TYPE, the reference files that it can use (`tso3 references INPUT`",
        "tells which would be; see [references](../references.md)), and the configurations that `tso3 simulate` can",
        "make, the first by default:",
        "",
        "| mode | header | reference files | `--configuration` |",
        "|---|---|---|---|",
    ]
    for row in shown:
        kinds = ", ".join(row.references)
        lines.append(f"| `{row.exp_type}` | {row.condition} | {kinds} | {', '.join(row.configurations) or '–'} |")
    return "\n".join(lines) + "\n"


def show(*, markdown: bool = False) -> None:
    """
    Print the modes to standard output.

    Parameters
    ----------
    markdown : bool, optional
        Print the page of the documentation.
    """
    if markdown:
        sys.stdout.write(globals()["markdown"]())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", header_style="bold")
    for row in rows():
        table.add_column(f"{row.name}\n{row.exp_type}", header_style="bold", justify="center")
    table.add_row("", *[row.group for row in rows()], end_section=True)
    for step in STEPS:
        table.add_row(step, *[_mark(row, step) for row in rows()])
    table.add_section()
    table.add_row("header", *[row.condition for row in rows()])
    table.add_row("tso3 simulate\n--configuration", *["\n".join(row.configurations) or "–" for row in rows()])
    console.print(table, markup=False)
    console.print("✓ applies   (✓) if asked for   ours: stage 3 of jwst does not reduce this mode", markup=False)
