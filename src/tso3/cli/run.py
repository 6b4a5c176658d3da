"""``tso3 run``: gather what was asked, run the pipeline, show what came out."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tso3.cli.lean import ImportsAhead, import_lean
from tso3.config import resolve
from tso3.errors import Tso3Warning
from tso3.progress import Progress, make_progress

if TYPE_CHECKING:
    from tso3.parameters import Parameters
    from tso3.result import RunResult
    from tso3.scan_result import ScanResult

__all__ = ["Request", "common_options", "reduce_one", "resolved", "run_and_report", "running", "tell_late"]


@dataclass(frozen=True)
class Request:
    """What the user of ``tso3 run`` typed; the names are those of `tso3.run` and of the options."""

    inputs: Sequence[str]
    output_dir: Path
    preset: str | None = None
    assignments: Sequence[str] = ()
    config: Sequence[Path] = ()
    skip: Sequence[str] = ()
    overrides: dict[str, Path] = field(default_factory=dict)
    integrations: str | None = None
    times: Path | None = None
    bad_pixels: Path | None = None
    max_memory: str = "1GiB"
    workers: int | None = None
    block_size: int | None = None
    scheduler: str | None = None
    cluster: str | None = None
    figure: bool = False
    mid_transit: float | None = None
    quiet: bool = False
    verbose: bool = False


def run_and_report(request: Request) -> int:
    """
    Run the pipeline, with a display, and print the summary: of one observation, or a line for each of several.

    Parameters
    ----------
    request : Request
        What was typed.

    Returns
    -------
    code : int
        0, or 2 if some of several observations failed.

    Raises
    ------
    Tso3Error
        If the inputs, the parameters or the output folder cannot be used.
    """
    with running(quiet=request.quiet, verbose=request.verbose) as (progress, shown):
        preset, parameters = resolved(request, progress)
        from tso3.observations import check_options, find_observations

        sources = find_observations(request.inputs)
        options = _options(request, preset, parameters)
        if len(sources) == 1:
            result, figures = reduce_one(request, sources[0].inputs, options, progress)
        else:
            check_options(request.output_dir, **options)
    if len(sources) > 1:
        from tso3.cli.many import run_several

        return run_several(request, sources, options)
    if not request.quiet:
        from tso3.cli.summary import print_summary

        print_summary(result, figures=figures, preset=preset)
    tell_late(result, shown)
    return 0


def resolved(request: Request, progress: Progress) -> tuple[str, Parameters]:
    """
    Return the preset and the parameters that were asked for; tell them if the user wants to see everything.

    Parameters
    ----------
    request : Request
        What was typed.
    progress : Progress
        The display.

    Returns
    -------
    preset : str
        Its name.
    parameters : Parameters
        Of all steps.
    """
    preset, parameters = resolve(request.preset, request.config, request.assignments, explicit=None, skip=request.skip)
    if request.verbose:
        for step, values in parameters.model_dump().items():
            progress.message(f"{step}: " + ", ".join(f"{name}={value}" for name, value in values.items()))
    return preset, parameters


def _options(request: Request, preset: str, parameters: Parameters) -> dict[str, Any]:
    """Return the arguments of `tso3.run` that hold for every observation."""
    return common_options(request, preset, parameters) | {"times": request.times}


def common_options(request: Request, preset: str, parameters: Parameters) -> dict[str, Any]:
    """
    Return the arguments that `tso3.run` and `tso3.scan` share.

    Parameters
    ----------
    request : Request
        What was typed.
    preset : str
        Name of the preset.
    parameters : Parameters
        Of all steps.

    Returns
    -------
    options : dict
        By name of the argument.
    """
    return {
        "preset": preset,
        "parameters": parameters,
        "overrides": request.overrides,
        "integrations": request.integrations,
        "bad_pixels": request.bad_pixels,
        "max_memory": request.max_memory,
        "workers": request.workers,
        "block_size": request.block_size,
        "scheduler": request.scheduler,
        "cluster": request.cluster,
    }


def reduce_one(
    request: Request, inputs: Sequence[Path], options: dict[str, Any], progress: Progress
) -> tuple[RunResult, list[Path]]:
    """
    Reduce one observation, and draw its figures if they were asked for.

    Parameters
    ----------
    request : Request
        What was typed.
    inputs : sequence of Path
        The association or files of the observation.
    options : dict
        Arguments of `tso3.run`.
    progress : Progress
        The display.

    Returns
    -------
    result : RunResult
        What `tso3.run` gave.
    figures : list of Path
        What was drawn.
    """
    import tso3

    result = tso3.run(inputs, request.output_dir, **options, progress=progress)
    return result, _draw(result, request.mid_transit) if request.figure else []


def tell_late(result: RunResult | ScanResult, shown: set[str]) -> None:
    """
    Write the warnings of a run that its display has not shown.

    Parameters
    ----------
    result : RunResult or ScanResult
        Has all warnings of the run.
    shown : set of str
        Those that were shown, each in one line.
    """
    for text in result.warnings:
        if " ".join(text.split()) not in shown:
            sys.stderr.write(f"tso3: warning: {text}\n")


def _draw(result: RunResult, mid_transit: float | None) -> list[Path]:
    from tso3.report.files import write_detectors, write_light_curve, write_noise

    paths = (write_light_curve(result, mid_transit=mid_transit), write_noise(result), write_detectors(result))
    return [path for path in paths if path is not None]


@contextmanager
def running(
    *, quiet: bool = False, verbose: bool = False, observation: str | None = None
) -> Iterator[tuple[Progress, set[str]]]:
    """
    Give a display while the work is done, and show each warning on it, once and in one line.

    Parameters
    ----------
    quiet : bool, optional
        No display; warnings go to standard error all the same.
    verbose : bool, optional
        Show the warnings of other packages too.
    observation : str, optional
        Name put before each warning, where there are several observations.

    Yields
    ------
    progress : Progress
        The display; compiled kernels are announced on it.
    shown : set of str
        Texts of the warnings that were shown.
    """
    shown: set[str] = set()
    with make_progress(quiet=quiet) as progress, warnings.catch_warnings():

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            ours = issubclass(category, Tso3Warning)
            text = " ".join(str(message).split())
            if text in shown or not (ours or verbose):
                return
            shown.add(text)
            text = text if observation is None else f"{observation}: {text}"
            text = f"tso3: warning: {text}" if ours else f"{category.__name__}: {text}"
            if quiet:
                sys.stderr.write(f"{text}\n")
            else:
                progress.message(text)

        warnings.simplefilter("always", Tso3Warning)
        warnings.showwarning = show
        with _announced_compilation(progress):
            yield ImportsAhead(progress), shown


@contextmanager
def _announced_compilation(progress: Progress) -> Iterator[None]:
    """Say once that kernels are being compiled, if they are: after the first run they come from numba's cache."""
    import_lean()
    from numba.core import event

    class Listener(event.Listener):
        announced = False

        def on_start(self, event: Any) -> None:
            module = getattr(event.data["dispatcher"].py_func, "__module__", "")
            if not self.announced and module.startswith("tso3"):
                self.announced = True
                progress.message("compiling kernels, once: this takes some seconds")

        def on_end(self, event: Any) -> None:
            """Nothing to say."""

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)
