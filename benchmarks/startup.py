"""
Time what is the same in every run: the help, the parameters, and a visit so small that hardly anything else is left.

``python benchmarks/startup.py`` simulates 12 integrations of NIRSpec and runs, in turns, a typer program with one
command, ``python -c "import numpy"``, ``tso3 --help``, ``tso3 params``, and ``tso3 run`` in both presets, with what the
WCS says kept from a run before (warm) or not (cold). It prints the least processor time (user and system) of
``--repeat`` rounds, which a busy machine disturbs less than elapsed time, the least elapsed time, and ratios, and keeps
them in startup.json. The exit code is 1 if the help takes more than 2, or the parameters more than 4 times the typer
program, or a warm run more than 2 s of processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HELP_AT_MOST, PARAMS_AT_MOST, WARM_AT_MOST = 2.0, 4.0, 2.0
BARE = """
from typing import Annotated
import typer
app = typer.Typer()
@app.command()
def greet(name: Annotated[str, typer.Option(help="Whom.")] = "world") -> None:
    \"\"\"Greet somebody.\"\"\"
    typer.echo(name)
app()
"""


@dataclass
class Measured:
    """One command: what it is, and its times in s, a pair for each round."""

    command: list[str]
    environment: dict[str, str]
    cold: bool = False
    processor: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return processor and elapsed time of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, elapsed


def commands(folder: Path) -> dict[str, Measured]:
    """Return what is measured, in the order of the table; the visit is simulated."""
    environment = os.environ | {"TSO3_CACHE_DIR": str(folder / "cache"), "COLUMNS": "100"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    if not os.access(Path(__file__).parents[1], os.W_OK):
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    tso3 = [sys.executable, "-m", "tso3"]
    visit, references = folder / "visit", folder / "visit" / "references"
    scene = ["simulate", "NRS_BRIGHTOBJ", "--n-int", "12", "--detectors", "NRS1", "-o", str(visit), "-q"]
    subprocess.run([*tso3, *scene], env=environment, check=True)
    (association,) = visit.glob("*_asn.json")
    reduce = [*tso3, "run", str(association), "-q", "-o", str(folder / "products")]
    reduce += ["--override-extract1d", str(references / "jwst_nirspec_extract1d_sim.json")]
    reduce += ["--override-apcorr", str(references / "jwst_nirspec_apcorr_sim.fits")]
    bare = folder / "bare.py"
    bare.write_text(BARE)
    measured = {
        "typer program --help": Measured([sys.executable, str(bare), "--help"], environment),
        "import numpy": Measured([sys.executable, "-c", "import numpy"], environment),
        "tso3 --help": Measured([*tso3, "--help"], environment),
        "tso3 params": Measured([*tso3, "params"], environment),
    }
    for preset in ("default", "archive"):
        command = [*reduce, "--preset", preset]
        measured[f"tso3 run, {preset}, cold"] = Measured(command, environment, cold=True)
        measured[f"tso3 run, {preset}, warm"] = Measured(command, environment)
    return measured


def measure(repeat: int, folder: Path) -> dict[str, Measured]:
    """Return the commands with their times: one round that is not counted, then the others in turns."""
    measured = commands(folder)
    for i in range(repeat + 1):
        for one in measured.values():
            if one.cold:
                shutil.rmtree(folder / "cache", ignore_errors=True)
            processor, elapsed = run(one.command, one.environment)
            if i > 0:
                one.processor.append(processor)
                one.elapsed.append(elapsed)
    return measured


def main() -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="where they are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options.repeat, Path(folder))
    least = {name: min(one.processor) for name, one in measured.items()}
    bare = least["typer program --help"]
    print(f"{'':28}{'processor':>10}{'elapsed':>9}  of the typer program")
    rows = {}
    for name, one in measured.items():
        ratio = least[name] / bare
        rows[name] = {"processor": least[name], "elapsed": min(one.elapsed), "ratio": ratio}
        print(f"{name:28}{least[name]:8.2f} s{min(one.elapsed):7.2f} s{ratio:8.1f}")
    machine = {"python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count()}
    options.output.write_text(
        json.dumps({"machine": machine, "repeat": options.repeat, "times": rows}, indent=1) + "\n"
    )
    warm = max(least[f"tso3 run, {preset}, warm"] for preset in ("default", "archive"))
    missed = (
        least["tso3 --help"] > HELP_AT_MOST * bare
        or least["tso3 params"] > PARAMS_AT_MOST * bare
        or warm > WARM_AT_MOST
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
