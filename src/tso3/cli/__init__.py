"""
The ``tso3`` command: what can be typed, and how it ends.

Only signatures and help texts live here, so that ``tso3 --help`` imports nothing but typer; the work of each command
is in a module of its own, imported when the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tso3.cli.options import with_overrides, with_shared

__all__ = ["app", "main", "process"]

app = typer.Typer(
    name="tso3",
    help="Stage 3 of the JWST calibration pipeline for time series: from calints to light curves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_VALUES, _PART, _DISPLAY, _SCENE, _GRID = "Parameters", "Integrations", "Display", "Scene", "Grid"
_Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Associations (JSON), each an observation, or folders or quoted globs of them; or the *_calints, *_crfints"
        " or *_x1dints.fits of one observation. A folder is its associations of type tso3, without any its files.",
    ),
]
_Output = Annotated[Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder of the products.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.", rich_help_panel=_DISPLAY)]
_AGAIN_SECONDS = 0.05
_Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]


def _version(value: bool) -> None:
    if value:
        from tso3 import __version__

        typer.echo(f"tso3 {__version__}")
        raise typer.Exit


@app.callback()
def _tso3(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Stage 3 of the JWST calibration pipeline for time series: from calints to light curves."""


@app.command("run")
@with_shared
def _run(
    inputs: _Inputs,
    output_dir: _Output = Path("."),
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Spectroscopic light curves: 20 channels, R=100, edges in micron (2.9,3.1,3.4), a file of edges, or"
            " native.",
            rich_help_panel=_VALUES,
        ),
    ] = None,
    times: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="MJD_UTC or BJD_TDB of every integration (ECSV, CSV, text, npy), in place of the inputs'.",
            rich_help_panel=_PART,
        ),
    ] = None,
    figure: Annotated[
        bool, typer.Option("--figure", help="Draw the light curve and the detector (PNG).", rich_help_panel=_DISPLAY)
    ] = False,
    *,
    shared: dict[str, Any],
) -> None:
    """
    Reduce observations: flag outliers, extract spectra or photometry, make the white light.

    Parameters come from, in rising order: the preset, tso3.toml, pars-*.asdf, --set. `tso3 params` lists them.
    Several observations are reduced one after the other; one that fails does not stop the others.
    Exit code: 0; 2 if an observation failed or what is given cannot be used; 130 after an interruption.
    """
    from tso3.cli.run import Request, run_and_report

    if channels is not None:
        shared["assignments"].append(f"channels.spec={channels}")
    code = run_and_report(Request(inputs=inputs, output_dir=output_dir, times=times, figure=figure, **shared))
    if code:
        raise typer.Exit(code)


@app.command("scan")
@with_shared
def _scan(
    inputs: _Inputs,
    width: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:LAST[:STEP]", help="Spectra: full widths of the aperture in pixels.", rich_help_panel=_GRID
        ),
    ] = None,
    background: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Spectra: as-is (what a run would do), none, mean, median, line.",
            rich_help_panel=_GRID,
        ),
    ] = "as-is",
    radius: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:LAST[:STEP]", help="Imaging: radii of the aperture in pixels.", rich_help_panel=_GRID
        ),
    ] = None,
    annulus: Annotated[
        str | None,
        typer.Option(
            metavar="INNER:OUTER,...",
            help="Imaging: annuli in pixels; by default that of a run.",
            rich_help_panel=_GRID,
        ),
    ] = None,
    output_dir: _Output = Path("."),
    figure: Annotated[
        bool, typer.Option("--figure", help="Draw scatter against size (PNG).", rich_help_panel=_DISPLAY)
    ] = False,
    *,
    shared: dict[str, Any],
) -> None:
    """
    Measure the scatter of the white light in many apertures, in one pass over the data.

    Writes the table PRODUCT_scan.ecsv and nothing else. Options are those of `tso3 run`.
    """
    from tso3.cli.run import Request
    from tso3.cli.scan import GridRequest, scan_and_report

    grid = GridRequest(width=width, radius=radius, background=background, annulus=annulus)
    scan_and_report(Request(inputs=inputs, output_dir=output_dir, figure=figure, **shared), grid)


@app.command("demo")
def _demo(
    output_dir: _Output = Path("tso3_demo"),
    n_int: Annotated[int, typer.Option(min=10, help="Integrations.")] = 120,
    seed: _Seed = 1,
    quiet: _Quiet = False,
) -> None:
    """Simulate a transit seen by NIRSpec G395H, reduce it and draw the light curve; the first run compiles kernels."""
    from tso3.cli.demo import run_demo

    run_demo(output_dir, n_int=n_int, seed=seed, quiet=quiet)


@app.command("simulate")
def _simulate(
    mode: Annotated[str, typer.Argument(help="EXP_TYPE, such as NRS_BRIGHTOBJ; `tso3 modes` lists them.")],
    output_dir: _Output = Path("."),
    configuration: Annotated[
        str | None, typer.Option(metavar="NAME", help="Grating, filter or pupil, such as PRISM.")
    ] = None,
    n_int: Annotated[int, typer.Option(min=1, metavar="N", help="Integrations of each exposure.")] = 100,
    segments: Annotated[int, typer.Option(min=1, metavar="N", help="Files into which an exposure is split.")] = 2,
    exposures: Annotated[int, typer.Option(min=1, metavar="N", help="Exposures, one after another.")] = 1,
    seed: _Seed = 1,
    depth: Annotated[float, typer.Option(help="Depth of the transit.", rich_help_panel=_SCENE)] = 0.01,
    noise: Annotated[bool, typer.Option(help="Photon and read noise.", rich_help_panel=_SCENE)] = True,
    cosmic_rays: Annotated[float, typer.Option(help="Multiplier of their rate.", rich_help_panel=_SCENE)] = 1.0,
    bad_pixels: Annotated[float, typer.Option(help="Fraction of bad pixels.", rich_help_panel=_SCENE)] = 0.001,
    jitter: Annotated[
        float | None, typer.Option(help="Motion per integration, rms, in pixels.", rich_help_panel=_SCENE)
    ] = None,
    drift: Annotated[
        float | None, typer.Option(help="Motion over the exposure, in pixels.", rich_help_panel=_SCENE)
    ] = None,
    flux_scale: Annotated[float, typer.Option(help="Multiplier of the star's flux.", rich_help_panel=_SCENE)] = 1.0,
    photom: Annotated[bool, typer.Option(help="Calibrated flux, or DN/s.", rich_help_panel=_SCENE)] = True,
    detectors: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of these detectors only.", rich_help_panel=_SCENE)
    ] = None,
    subarray: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the mode's subarrays.", rich_help_panel=_SCENE)
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Make the calints of an observation whose truth is known, with its association and reference files."""
    scene = {key: value for key, value in locals().items() if key not in ("mode", "output_dir", "quiet")}
    from tso3.cli.demo import run_simulate

    run_simulate(mode, output_dir, scene, quiet=quiet)


@app.command("modes")
def _modes(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of the documentation.")] = False,
) -> None:
    """List the time-series modes, the steps that apply to each, and what can be simulated."""
    from tso3.cli.modes import show

    show(markdown=markdown)


@app.command("references")
@with_overrides
def _references(inputs: _Inputs, *, overrides: dict[str, Path]) -> None:
    """Tell which reference file of each kind would be used, and why; nothing is reduced."""
    from tso3.cli.references import show

    show(inputs, overrides)


@app.command("params")
def _params(
    step: Annotated[str | None, typer.Argument(help="One step only.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The page of the documentation.")] = False,
) -> None:
    """List every parameter with its unit, default, value in the archive preset and meaning."""
    from tso3.cli.params import show

    show(step, markdown=markdown)


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command line and return its exit code.

    Parameters
    ----------
    arguments : list of str, optional
        What follows ``tso3``; by default the arguments of the process.

    Returns
    -------
    code : int
        0 after success; 2 after a fault in what the user gave, told on standard error in one line for each fault, also
        if only some of several observations failed;
        130 after an interruption from the keyboard (143 or 129 if a batch system or a closed terminal ends the run:
        temporary files are removed). Any other error is a defect of tso3 and keeps its traceback.

    Examples
    --------
    >>> from tso3.cli import main
    >>> main(["--version"])  # doctest: +ELLIPSIS
    tso3 ...
    0
    """
    from tso3.errors import Tso3Error

    _stop_on_signals()
    usage_error: Any = typer.BadParameter.__mro__[2]  # click's ClickException, wherever typer keeps it
    try:
        code = app(arguments, prog_name="tso3", standalone_mode=False)
    except Tso3Error as error:
        return _fail(str(error))
    except usage_error as error:
        return _fail(" ".join(error.format_message().split()))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 1
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        typer.echo("tso3: interrupted", err=True)
    return code if isinstance(code, int) else 0


def process() -> NoReturn:
    """Run the command line as a process of its own, and end it with its exit code; see `main`."""
    from tso3.blas import start_with_one_blas_thread
    from tso3.cli.collector import collect_seldom
    from tso3.cli.leave import leave

    collect_seldom()
    start_with_one_blas_thread()
    leave(main())


def _stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end a run like an interruption, so that nothing half-written stays behind."""
    import signal
    import threading

    def stop(number: int, frame: object) -> None:
        _repeat_if_swallowed(number)
        raise SystemExit(128 + number)

    def interrupt(number: int, frame: object) -> None:
        _repeat_if_swallowed(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
                signal.signal(getattr(signal, name), stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)


def _repeat_if_swallowed(number: int) -> None:
    """
    Send a signal once more if what its handler raises is lost.

    While a kernel is compiled the handler may run in a function that the compiler calls from C: Python then prints what
    is raised there, and goes on.
    """
    import os
    import sys
    import threading

    usual = sys.unraisablehook

    def hook(lost: Any) -> None:
        sys.unraisablehook = usual
        if isinstance(lost.exc_value, SystemExit | KeyboardInterrupt):
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)).start()
        else:
            usual(lost)

    sys.unraisablehook = hook


def _fail(message: str) -> int:
    for line in message.splitlines():
        typer.echo(f"tso3: error: {line}", err=True)
    return 2
