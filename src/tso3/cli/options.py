"""Options that several commands have, declared once: those of a reduction, and one for every kind of reference file."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tso3.io.reference_kinds import KINDS

__all__ = ["with_overrides", "with_shared"]

_VALUES, _PART, _REFERENCES, _RESOURCES, _DISPLAY = (
    "Parameters", "Integrations", "Reference files", "Resources", "Display",
)  # fmt: skip
_LISTS = ("assignments", "config", "skip")
"""Options that can be given several times."""


def _reduction(
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="default|archive", help="The best light curve, or jwst's numbers.", rich_help_panel=_VALUES
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STEP.PARAMETER=VALUE", help="Set one parameter.", rich_help_panel=_VALUES),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="tso3.toml, or the archive's pars-*.asdf.", rich_help_panel=_VALUES),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="STEP", help="Skip a step.", rich_help_panel=_VALUES)
    ] = None,
    integrations: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:LAST",
            help="Reduce these only, as INT_NUM counts them from 1; both included.",
            rich_help_panel=_PART,
        ),
    ] = None,
    bad_pixels: Annotated[
        Path | None,
        typer.Option(metavar="FITS", help="Image that is not 0 where a pixel is bad.", rich_help_panel=_REFERENCES),
    ] = None,
    max_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Private memory at most.", rich_help_panel=_RESOURCES)
    ] = "1GiB",
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads; by default all processors.", rich_help_panel=_RESOURCES),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Integrations in a block; by default what fits.", rich_help_panel=_RESOURCES
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Scheduler of a Dask cluster that reduces the segments, such as tcp://node1:8786.",
            rich_help_panel=_RESOURCES,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="local:N", help="N processes of this machine reduce the segments.", rich_help_panel=_RESOURCES
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.", rich_help_panel=_DISPLAY)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Show the parameters and every warning too.", rich_help_panel=_DISPLAY),
    ] = False,
) -> None:
    """Declare the options of a reduction; never called."""


def with_shared(command: Callable[..., None]) -> Callable[..., None]:
    """
    Return a command with the options of a reduction, and one ``--override-KIND`` for every kind of reference file.

    Parameters
    ----------
    command : callable
        With a keyword ``shared``: gets what was given, by the names of `tso3.cli.run.Request`.

    Returns
    -------
    command : callable
        With the signature that typer reads.
    """
    options = _annotated(_reduction)
    names = [option.name for option in options]

    def gathered(values: dict[str, Any]) -> dict[str, Any]:
        shared = {name: values.pop(name) for name in names}
        shared |= {name: list(shared[name] or ()) for name in _LISTS}
        return {"shared": shared | {"overrides": _files(values)}}

    return _extended(command, "shared", [*options, *(_option(kind) for kind in KINDS)], gathered)


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

    def gathered(values: dict[str, Any]) -> dict[str, Any]:
        return {"overrides": _files(values)}

    return _extended(command, "overrides", [_option(kind) for kind in KINDS], gathered)


def _extended(
    command: Callable[..., None],
    keyword: str,
    options: Sequence[inspect.Parameter],
    gathered: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[..., None]:
    """Return a command with more options, which ``gathered`` takes out of all values and hands on as one keyword."""
    own = [parameter for parameter in _annotated(command) if parameter.name != keyword]

    def called(**values: Any) -> None:
        more = gathered(values)
        command(**values, **more)

    called.__name__ = command.__name__
    called.__doc__ = command.__doc__
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *options)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _annotated(command: Callable[..., None]) -> list[inspect.Parameter]:
    """Return the parameters of a function, their annotations evaluated."""
    types = typing.get_type_hints(command, include_extras=True)
    return [p.replace(annotation=types[name]) for name, p in inspect.signature(command).parameters.items()]


def _files(values: dict[str, Any]) -> dict[str, Path]:
    """Take the reference files that were given out of the values of a command, by kind."""
    files = {kind: values.pop(f"override_{kind}") for kind in KINDS}
    return {kind: path for kind, path in files.items() if path is not None}


def _option(kind: str) -> inspect.Parameter:
    """Return the option of one kind."""
    option = typer.Option(metavar="FILE", help=f"{KINDS[kind].holds}.", rich_help_panel=_REFERENCES)
    return inspect.Parameter(
        f"override_{kind}",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, option],
    )
