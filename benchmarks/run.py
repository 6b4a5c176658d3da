"""
Measure tso3 beside a plain copy of its bytes and, if asked, beside the reference pipeline, in one run.

    python benchmarks/run.py --case bots --against jwst --repeat 3

Everything is timed as whole processes, alternating: copy with sync, ``tso3 run --preset archive``, ``tso3 run``, the
same with ``--skip rectify`` (what it takes less is the cost of rectified exposures, held against writing their
bytes), reference pipeline; then again. With ``--again N`` a round has N runs of the archive preset, the further ones
after the reference pipeline, and their median counts: a run of some seconds is more at the mercy of the machine than
one of minutes. Every run, of every program, begins with its inputs in memory. The visit of a case is simulated once
and kept in the work folder. The result goes to ``benchmarks/results.md`` (and ``results.json``), one row per case; a
case that is measured again replaces its row.

The reference pipeline needs an environment of its own (Python 3.12, ``pip install jwst==3.0.0 setuptools``); tell its
interpreter with ``--peer-python`` or the variable ``TSO3_PEER_PYTHON``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from cases import CASES, Case
from measure import Measured, copy_with_sync, folder_bytes, measure, read_once, touch_memory
from report import machine, write_results
from tso3.errors import InputError

HERE = Path(__file__).parent
PEER_VARIABLE = "TSO3_PEER_PYTHON"
TOUCHED_BEFORE_RUN = 3 * 2**30
PROGRAMS = ("archive", "default", "unrectified", "jwst")


@dataclass(frozen=True)
class Visit:
    """A simulated visit on disk: association, members, reference files by type."""

    association: Path
    members: tuple[Path, ...]
    references: dict[str, Path]


def simulated(case: Case, folder: Path) -> Visit:
    """Return the visit of a case, simulated unless the folder has it already."""
    record = folder / "visit.json"
    if not record.exists():
        from tso3.simulate import simulate

        folder.mkdir(parents=True, exist_ok=True)
        print(f"simulating {case.title} in {folder}", file=sys.stderr)
        made = simulate(case.mode, folder, n_int=case.n_int, segments=case.segments, seed=1, **case.simulate)
        content = {
            "association": str(made.association),
            "members": [str(path) for path in made.members],
            "references": {kind: str(path) for kind, path in made.references.items()},
        }
        record.write_text(json.dumps(content))
    content = json.loads(record.read_text())
    check_shape(case, Path(content["members"][0]))
    return Visit(
        Path(content["association"]),
        tuple(Path(path) for path in content["members"]),
        {kind: Path(path) for kind, path in content["references"].items() if kind in case.references},
    )


def check_shape(case: Case, member: Path) -> None:
    """Stop if the frames are not of the size that the case says."""
    from astropy.io import fits

    header = fits.getheader(member, "SCI")
    if (header["NAXIS2"], header["NAXIS1"]) != case.shape:
        raise SystemExit(f"{member} has {header['NAXIS2']} x {header['NAXIS1']} pixels, not those of {case.title}")


def our_command(visit: Visit, case: Case, program: str, output: Path, max_memory: str | None) -> list[str]:
    """Return the command line of ``tso3 run`` for a case; ``program`` is a preset, or ``unrectified``."""
    script = Path(sys.executable).with_name("tso3")
    how = ["default", "--skip", "rectify"] if program == "unrectified" else [program]
    command = [str(script), "run", str(visit.association), "-o", str(output), "--preset", *how]
    for kind, path in visit.references.items():
        command += [f"--override-{kind}", str(path)]
    for step, values in case.parameters.items():
        for name, value in values.items():
            command += ["--set", f"{step}.{name}={json.dumps(value)}"]
    return command if max_memory is None else [*command, "--max-memory", max_memory]


def peer_command(visit: Visit, case: Case, python: Path, output: Path, folder: Path) -> list[str]:
    """Write the job of the reference pipeline and return its command line."""
    job = {
        "association": str(visit.association),
        "output_dir": str(output),
        "references": {kind: str(path) for kind, path in visit.references.items()},
        "parameters": case.parameters,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return [str(python), str(HERE / "peer.py"), str(path)]


def settle(inputs: Iterable[Path], options: argparse.Namespace) -> None:
    """
    Give every program the same start, whoever ran before.

    The disk finishes what it has and is left alone: one that has just taken some gigabytes is slower for a while. The
    inputs are read once, since one that used most of the memory has pushed them out. With ``--touch-memory`` some free
    memory is used, since a virtual machine gives back to its host what a large program leaves.
    """
    os.sync()
    time.sleep(options.settle)
    read_once(inputs)
    if options.touch_memory:
        touch_memory(at_most=TOUCHED_BEFORE_RUN)


def one_run(program: str, visit: Visit, case: Case, folder: Path, options: argparse.Namespace) -> tuple[Measured, int]:
    """Run one program once in an empty folder; return what it cost and the bytes that it wrote."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    if program == "jwst":
        command = peer_command(visit, case, options.peer_python, output, folder)
    else:
        command = our_command(visit, case, program, output, options.max_memory)
    settle(visit.members, options)
    result = measure(command, cwd=folder)
    if result.returncode != 0:
        raise SystemExit(f"{program} failed on {case.title}:\n{result.stderr[-3000:]}")
    written = folder_bytes([output])
    shutil.rmtree(output)
    if program == "jwst":
        result = replace(result, step_seconds=json.loads(result.stdout.splitlines()[-1])["step_seconds"])
    return result, written


def benchmark(case: Case, visit: Visit, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case, alternating between the programs, and return its record."""
    programs = [name for name in PROGRAMS if name != "jwst" or options.against == "jwst"]
    runs: dict[str, list[Measured]] = {name: [] for name in programs}
    written: dict[str, int] = {}
    copies: list[float] = []
    writes: list[float] = []
    n_read = folder_bytes(visit.members)
    n_written = n_read
    for i in range(options.repeat + 1):  # the first round warms caches; the reference pipeline is too slow for it
        settle(visit.members, options)
        seconds = copy_with_sync(visit.members, n_written, folder)
        copies += [seconds] if i else []
        for name in [*programs, *["archive"] * (options.again - 1 if i else 0)]:
            if i == 0 and name == "jwst":
                continue
            result, written[name] = one_run(name, visit, case, folder, options)
            n_written = written["archive"]
            label = f"{case.title} {name}" + ("" if i else " (warm-up)")
            print(f"{label}: {result.seconds:.2f} s, {result.private_bytes / 2**20:.0f} MiB", file=sys.stderr)
            if i:
                runs[name].append(result)
        settle((), options)
        seconds = copy_with_sync((), written["default"] - written["unrectified"], folder)
        writes += [seconds] if i else []
    return {
        "case": case.name,
        "title": case.title,
        "segments": case.segments,
        "at_most": case.at_most,
        "aim": case.aim,
        "date": date.today().isoformat(),
        "repeat": options.repeat,
        "max_memory": options.max_memory,
        "bytes_read": n_read,
        "bytes_written": n_written,
        "copy_seconds": sorted(copies),
        "rectified_write_seconds": sorted(writes),
        "programs": {name: _record(results, written[name]) for name, results in runs.items() if results},
        "machine": machine(),
        "peer_versions": peer_versions(options.peer_python) if options.against == "jwst" else None,
    }


def _record(results: list[Measured], written: int) -> dict[str, Any]:
    """Return the numbers of all runs of one program, and the bytes that it wrote, as plain values."""
    steps = {step for result in results for step in result.step_seconds}
    return {
        "seconds": sorted(result.seconds for result in results),
        "cpu_seconds": statistics.median(result.cpu_seconds for result in results),
        "private_bytes": max(result.private_bytes for result in results),
        "resident_bytes": max(result.resident_bytes for result in results),
        "bytes_read": max(result.read_bytes for result in results),
        "bytes_written": written,
        "step_seconds": {
            step: statistics.median(result.step_seconds.get(step, 0.0) for result in results) for step in sorted(steps)
        },
    }


def peer_versions(python: Path) -> dict[str, str]:
    """Return the versions in the environment of the reference pipeline."""
    answer = subprocess.run(
        [str(python), str(HERE / "peer.py"), "--versions"], capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def find_peer(given: Path | None) -> Path:
    """Return the interpreter of the reference pipeline's environment, or say how to make one."""
    text = given or (Path(os.environ[PEER_VARIABLE]) if os.environ.get(PEER_VARIABLE) else None)
    if text is None or not text.exists():
        found = "no interpreter given" if text is None else f"{text} does not exist"
        raise SystemExit(
            f"run.py: --against jwst: {found}. The reference pipeline runs in an environment of its own: "
            "`python3.12 -m venv peer && peer/bin/pip install jwst==3.0.0 setuptools`, then "
            f"`--peer-python peer/bin/python` or {PEER_VARIABLE}=peer/bin/python"
        )
    return text.absolute()


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="a case; repeat for several (default: bots)")
    parser.add_argument("--all", action="store_true", help="every case that the simulator can make")
    parser.add_argument("--n-int", type=int, help="integrations, instead of the case's own")
    parser.add_argument("--against", choices=["jwst"], help="measure the reference pipeline as well")
    parser.add_argument("--repeat", type=int, default=1, help="rounds after the warm-up (default 1)")
    parser.add_argument(
        "--again", type=int, default=1, help="runs of the archive preset in a round, the others last (default 1)"
    )
    parser.add_argument("--peer-python", type=Path, help=f"interpreter that has jwst 3.0.0 (default: ${PEER_VARIABLE})")
    parser.add_argument("--max-memory", help="handed to tso3 run")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds before each run, for the disk (default 10)")
    parser.add_argument("--work-dir", type=Path, help="keeps the simulated visits (default: a temporary folder)")
    parser.add_argument(
        "--touch-memory",
        action="store_true",
        help="use the free memory once, first, and 3 GiB of it before each run: for a virtual machine",
    )
    parser.add_argument("--no-save", action="store_true", help="leave benchmarks/results.* as they are")
    options = parser.parse_args(argv)
    if options.repeat < 1 or options.again < 1:
        parser.error("--repeat and --again are at least 1")
    if options.against == "jwst":
        options.peer_python = find_peer(options.peer_python)
    return options


def main(argv: list[str] | None = None) -> int:
    """Measure the cases asked for; 1 if one of them misses its factor."""
    options = arguments(argv)
    names = list(CASES) if options.all else options.case or ["bots"]
    cases = [CASES[name] if options.n_int is None else replace(CASES[name], n_int=options.n_int) for name in names]
    records = []
    if options.touch_memory:
        print(f"used {touch_memory() / 2**30:.1f} GiB of memory once", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="tso3-bench-") as temporary:
        for case in cases:
            folder = (options.work_dir or Path(temporary)).absolute() / f"{case.name}-{case.n_int}"
            try:
                visit = simulated(case, folder / "visit")
            except InputError as error:
                if not options.all:
                    raise SystemExit(f"run.py: {error}") from None
                print(f"{case.title} is left out: {error}", file=sys.stderr)
                continue
            records.append(benchmark(case, visit, folder, options))
            if options.work_dir is None:
                shutil.rmtree(folder)
    text, holds = write_results(records, None if options.no_save or options.n_int else HERE)
    print(text)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
