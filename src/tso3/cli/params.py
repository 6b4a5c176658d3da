"""``tso3 params``: the parameters as `tso3.parameters` declares them."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from tso3.errors import ParameterError
from tso3.parameters import PRESETS, Parameters

__all__ = ["Row", "markdown", "rows", "show"]


@dataclass(frozen=True)
class Row:
    """
    One parameter, as shown.

    Attributes
    ----------
    step, name : str
        Its place.
    unit : str
        Unit, or nothing.
    allowed : str
        Type, choices and bounds.
    default, archive : str
        Value in the default preset; in the archive preset where that differs, else nothing.
    meaning : str
        One line.
    """

    step: str
    name: str
    unit: str
    allowed: str
    default: str
    archive: str
    meaning: str


def rows(step: str | None = None) -> list[Row]:
    """
    Return every parameter, in the order of the steps.

    Parameters
    ----------
    step : str, optional
        One step only.

    Returns
    -------
    rows : list of Row
        One for each parameter.

    Raises
    ------
    ParameterError
        If there is no such step.

    Examples
    --------
    >>> from tso3.cli.params import rows
    >>> row = next(row for row in rows("outlier_detection") if row.name == "snr")
    >>> row.name, row.unit, row.allowed, row.default
    ('snr', 'ERR', 'number > 0', '5.0')
    """
    known = Parameters.model_fields
    if step is not None and step not in known:
        raise ParameterError(f"there is no step {step!r}; known are {', '.join(known)}")
    return list(_rows([step] if step is not None else list(known)))


def _rows(steps: list[str]) -> Iterator[Row]:
    for step in steps:
        model = typing.cast("Any", Parameters.model_fields[step].annotation)
        for name, info in model.model_fields.items():
            default = _text(info.default)
            archive = _text(PRESETS["archive"].get(step, {}).get(name, info.default))
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            yield Row(
                step=step,
                name=name,
                unit=str(extra.get("unit", "")),
                allowed=_allowed(info),
                default=default,
                archive="" if archive == default else archive,
                meaning=" ".join((info.description or "").split()),
            )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _allowed(info: FieldInfo) -> str:
    """Type, choices and bounds in the fewest words."""
    words = {float: "number", int: "integer", bool: "true | false", str: "text", type(None): "none"}
    kinds: list[str] = []

    def collect(annotation: Any) -> None:
        if typing.get_origin(annotation) is typing.Literal:
            kinds.extend(str(choice) for choice in typing.get_args(annotation))
        elif typing.get_args(annotation):
            for part in typing.get_args(annotation):
                collect(part)
        else:
            kinds.append(words.get(annotation, str(annotation)))

    collect(info.annotation)
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in info.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    if bounds:
        kinds[0] += f" {' and '.join(bounds)}"
    return " | ".join(kinds)


def markdown() -> str:
    """
    Return the reference page of the documentation.

    Returns
    -------
    text : str
        Markdown: a table for each step.

    Examples
    --------
    >>> from tso3.cli.params import markdown
    >>> markdown().splitlines()[0]
    '# Parameters'
    """
    lines = [
        "# Parameters",
        "",
        "Made by `tso3 params --markdown`; do not edit. Set a parameter with `--set step.parameter=value`,",
        "in `tso3.toml` (a table for each step), or in Python with",
        "`tso3.run(..., parameters={step: {parameter: value}})`.",
        "The column *archive* is the value of `--preset archive` where it differs from the default.",
    ]
    for step, info in Parameters.model_fields.items():
        lines += ["", f"## {step}", "", info.description or "", ""]
        lines += ["| parameter | unit | allowed | default | archive | meaning |", "|---|---|---|---|---|---|"]
        for row in rows(step):
            cells = (f"`{row.name}`", row.unit, row.allowed, row.default, row.archive, row.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def show(step: str | None = None, *, markdown: bool = False) -> None:
    """
    Print the parameters to standard output.

    Parameters
    ----------
    step : str, optional
        One step only.
    markdown : bool, optional
        Print the page of the documentation, all steps.
    """
    if markdown:
        sys.stdout.write(globals()["markdown"]())
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = rows(step)
    for name in dict.fromkeys(row.step for row in shown):
        table = Table(title=f"{name}: {Parameters.model_fields[name].description}", title_justify="left", box=None)
        for heading in ("parameter", "default", "archive", "unit", "allowed", "meaning"):
            table.add_column(heading, overflow="fold", header_style="bold")
        for row in shown:
            if row.step == name:
                table.add_row(row.name, row.default, row.archive, row.unit, row.allowed, row.meaning)
        console.print(table, markup=False)
        console.print()
