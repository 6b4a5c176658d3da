"""Options that are declared elsewhere: one ``--override-KIND`` for every kind of reference file."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tso3.io.reference_kinds import KINDS

__all__ = ["with_overrides"]

_PANEL = "Reference files"


def with_overrides(command: Callable[..., None]) -> Callable[..., None]:
    """
    Return a command with an option ``--override-KIND`` for every kind of reference file.

    Parameters
    ----------
    command : callable
        With a keyword ``overrides``: gets the files that were given, by kind.

    Returns
    -------
    command : callable
        With the signature that typer reads.
    """
    types = typing.get_type_hints(command, include_extras=True)
    given = [
        p.replace(annotation=types[name])
        for name, p in inspect.signature(command).parameters.items()
        if name != "overrides"
    ]
    options = [_option(kind) for kind in KINDS]

    def called(**values: Any) -> None:
        files = {kind: values.pop(f"override_{kind}") for kind in KINDS}
        command(**values, overrides={kind: path for kind, path in files.items() if path is not None})

    called.__name__ = command.__name__
    called.__doc__ = command.__doc__
    parameters = [*given, *options]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _option(kind: str) -> inspect.Parameter:
    """Return the option of one kind."""
    option = typer.Option(metavar="FILE", help=f"{KINDS[kind].holds}.", rich_help_panel=_PANEL)
    return inspect.Parameter(
        f"override_{kind}",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, option],
    )
