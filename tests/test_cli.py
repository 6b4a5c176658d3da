"""What can be typed, how it ends, and what it costs before any work begins."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tso3.cli import main, modes
from tso3.cli.params import markdown, rows
from tso3.cli.run import running
from tso3.errors import Tso3Warning
from tso3.io.reference_kinds import KINDS
from tso3.modes import MODES, STEPS
from tso3.parameters import Parameters

DOCS = Path(__file__).parents[1] / "docs"
HEAVY = (
    "numpy",
    "pydantic",
    "astropy",
    "numba",
    "asdf",
    "stdatamodels",
    "gwcs",
    "scipy",
    "matplotlib",
    "tso3.pipeline",
)


def imported_by(*arguments):
    """Names of all modules that a ``tso3`` command has imported when it ends."""
    code = f"import sys; from tso3.cli import main; main({list(arguments)!r}); print('MODULES', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    assert imported_by(*arguments) & set(HEAVY) == set()


@pytest.mark.parametrize("command", ["run", "demo", "simulate"])
def test_help_of_a_command_imports_no_arrays(command):
    assert imported_by(command, "--help") & set(HEAVY) <= {"pydantic"}  # which typer itself uses for numbers


def test_params_imports_no_arrays():
    assert imported_by("params") & set(HEAVY) == {"pydantic"}


def test_import_of_the_package_costs_nothing():
    code = "import sys, tso3; assert 'tso3.errors' not in sys.modules; tso3.Tso3Error; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & set(HEAVY) == set()


def test_public_names_exist():
    import tso3

    for name in tso3.__all__:
        assert getattr(tso3, name) is not None
        assert name in dir(tso3)
    with pytest.raises(AttributeError, match="no attribute 'rn'"):
        tso3.rn  # noqa: B018


def processor_time(command):
    """Processor time of a process [s]; unlike wall time, little disturbed by what else the machine does."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, process.returncode, usage = os.wait4(process.pid, 0)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_start_up_stays_near_a_bare_typer_program(tmp_path):
    script = tmp_path / "bare.py"
    script.write_text("import typer\napp = typer.Typer()\n@app.command()\ndef bare(x: int = 1):\n    pass\napp()\n")
    python = sys.executable
    commands = ([python, script, "--help"], [python, "-m", "tso3", "--help"], [python, "-m", "tso3", "params"])
    times = [[processor_time(command) for command in commands] for _ in range(5)]
    bare, help_, params = (min(column) for column in zip(*times, strict=True))
    assert help_ < 2 * bare
    assert params < 4 * bare


def test_version(capsys):
    import tso3

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tso3 {tso3.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'INPUT'"),
        (["rnu"], "No such command 'rnu'"),
        (["run", "a.json", "--workers", "0"], "Invalid value for '--workers'"),
        (["run", "a.json", "--set", "outlier_detection.snr=-1"], "outlier_detection.snr = -1: must be greater than 0"),
        (["run", "a.json", "--preset", "best"], "there is no preset 'best'; known are default and archive"),
        (["run", "a.json", "--skip", "extract1d"], "there is no step 'extract1d'; did you mean extract_1d?"),
        (["run", "a.json", "--config", "absent.toml"], "absent.toml: there is no such parameter file"),
        (["params", "extract"], "there is no step 'extract'"),
    ],
)
def test_mistakes_are_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("tso3: error: ")
    assert message in line
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_interruption_is_one_line_and_code_130(monkeypatch, capsys):
    def interrupted(request):
        raise KeyboardInterrupt

    monkeypatch.setattr("tso3.cli.run.run_and_report", interrupted)
    assert main(["run", "a.json"]) == 130
    assert capsys.readouterr().err.strip() == "tso3: interrupted"


def test_operating_system_errors_are_one_line(monkeypatch, capsys):
    def full(request):
        raise OSError(28, "No space left on device", "out/a_crfints.fits")

    monkeypatch.setattr("tso3.cli.run.run_and_report", full)
    assert main(["run", "a.json"]) == 2
    assert capsys.readouterr().err == "tso3: error: out/a_crfints.fits: No space left on device\n"


def test_defects_keep_their_traceback(monkeypatch):
    def defect(request):
        raise ZeroDivisionError

    monkeypatch.setattr("tso3.cli.run.run_and_report", defect)
    with pytest.raises(ZeroDivisionError):
        main(["run", "a.json"])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("quiet", [True, False])
def test_warnings_are_one_line_each_and_shown_once(capsys, quiet):
    with running(quiet=quiet) as (_, shown):
        for _ in range(3):
            warnings.warn("a.fits: INT_TIMES is missing;\n times come from the header", Tso3Warning, stacklevel=1)
        warnings.warn("of another package", UserWarning, stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("tso3: warning: a.fits: INT_TIMES is missing; times come from the header")
    assert shown == {"a.fits: INT_TIMES is missing; times come from the header"}


def test_params_lists_every_parameter(capsys):
    assert main(["params"]) == 0
    text = capsys.readouterr().out
    declared = [(s, n) for s, f in Parameters.model_fields.items() for n in f.annotation.model_fields]
    assert [(row.step, row.name) for row in rows()] == declared
    for row in rows():
        assert row.name in text
        assert row.meaning, f"{row.step}.{row.name} has no meaning"


def test_params_of_one_step(capsys):
    assert main(["params", "white_light"]) == 0
    text = capsys.readouterr().out
    assert "max_wavelength" in text
    assert "micron" in text
    assert "outlier_detection" not in text


def test_modes_shows_every_mode_and_step(capsys):
    assert main(["modes"]) == 0
    text = capsys.readouterr().out
    for name in (*MODES, *STEPS):
        assert name in text
    for row in modes.rows():
        assert set(row.steps) <= set(STEPS)
        assert row.configurations, f"{row.exp_type} cannot be simulated"


def test_modes_page_is_current(capsys):
    assert main(["modes", "--markdown"]) == 0
    assert capsys.readouterr().out == (DOCS / "modes" / "index.md").read_text(encoding="utf-8")


def test_references_tells_what_would_be_used_and_why(make_spectra, tiny_aperture, tmp_path, monkeypatch, capsys):
    for name in ("CRDS_PATH", "CRDS_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    make_spectra(tmp_path, (2,))
    before = sorted(tmp_path.iterdir())
    assert main(["references", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("NRS_BRIGHTOBJ NRS1 F290LP G395H SUB2048", "built-in", "extract_width 13", "CRDS is not set up"):
        assert words in text
    given = str(tiny_aperture["extract1d"])
    assert main(["references", str(tmp_path), "--override-extract1d", given, "--override-gain", "n/a"]) == 0
    text = capsys.readouterr().out
    assert "given" in text
    assert "extract_width" not in text
    assert "without effect for NRS_BRIGHTOBJ: gain" in text
    assert sorted(tmp_path.iterdir()) == before
    assert main(["references", str(tmp_path), "--override-apcorr", "gone.fits"]) == 2
    assert "gone.fits: the apcorr reference does not exist" in capsys.readouterr().err


def test_every_built_in_default_is_described():
    from tso3.io.defaults import described

    for kind in KINDS.values():
        assert set(kind.crds) | set(kind.built_in) <= set(kind.modes) <= set(MODES)
        for exp_type in kind.built_in:
            assert len(described(kind.name, exp_type)) > 20
        if set(kind.built_in) < set(kind.modes):
            assert kind.without, f"{kind.name}: what is done without it?"


def test_every_kind_of_reference_has_its_row():
    page = (DOCS / "references.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"`{kind}`" in page


def test_every_kind_of_reference_has_its_option(capsys):
    assert main(["references", "--help"]) == 0
    text = capsys.readouterr().out
    for kind in KINDS:
        assert f"--override-{kind}" in text


def test_parameters_page_is_current(capsys):
    assert main(["params", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown() == (DOCS / "parameters.md").read_text(encoding="utf-8")


SWALLOWED = """
import ctypes, os, signal, sys, time
from tso3.cli import _stop_on_signals

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests were begun by nohup, and left so
_stop_on_signals()
called = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), getattr(signal, sys.argv[1])))
called()  # what the handler raises in here is lost
time.sleep(50)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_a_function_called_from_c_swallows_ends_the_run(name, code):
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, name], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
