"""
Say where the time of a run goes: wall time by phase, processor time by kind of work.

    python benchmarks/where_time_goes.py --case bots --preset archive --write docs/scaling.md

Needs py-spy (``pip install py-spy``), which looks at the stacks of all threads of the running program from outside, so
the program is measured as it is. A sample counts for the first kind of work whose place in the source is found in its
stack. With ``--write`` the tables replace what stands between the two marker lines of a page.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cases import CASES
from measure import measure
from report import machine
from run import our_command, settle, simulated

RATE = 250
"""Samples per second."""

SETTLE = 10.0
"""Seconds for the disk before each run."""

KINDS: tuple[tuple[str, str], ...] = (
    ("importing modules", r"_find_and_load"),
    ("flushing to disk", r"_flush|flush_data|begin_flush|fdatasync|fsync"),
    ("reading", r"_pread_into|pread_exactly|preadv"),
    ("writing", r"write_at|pwrite|_write_pages"),
    ("flagging outliers", r"steps/outlier_detection\.py|core/outliers\.py|core/median\.py"),
    ("survey and template", r"steps/survey\.py|steps/template\.py|core/template\.py|core/learning\.py"),
    ("extraction, light curve, rows of spectra", r"consume \(|steps/extract_1d\.py|core/box"),
    ("converting byte order, marking bad samples", r"io/convert\.py|io/tiles\.py|reader\.py|stream\.py"),
    ("headers, tables, ASDF trees", r"tso3/(io|steps|pipeline|intake|spectral_lane|lane|recipe|crew)"),
)
"""Kinds of work, and what a stack that does it has in it; the first that fits counts."""

_MARKERS = ("<!-- profile: begin -->", "<!-- profile: end -->")


def sampled(command: list[str], folder: Path) -> Counter[str]:
    """Return the number of samples of each kind of work in a run of the command."""
    output = folder / "stacks.txt"
    spy = Path(sys.executable).with_name("py-spy")
    options = ["record", "--rate", str(RATE), "--format", "raw", "--threads", "--nonblocking", "--output", str(output)]
    subprocess.run([str(spy), *options, "--", *command], check=True, capture_output=True)
    found: Counter[str] = Counter()
    for line in output.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        kind = next((name for name, pattern in KINDS if re.search(pattern, stack)), "the rest")
        found[kind] += int(count)
    return found


def tables(title: str, phases: dict[str, float], work: Counter[str]) -> str:
    """Return the two tables as Markdown."""
    total = sum(phases.values())
    names = {"start-up": "start-up: imports, headers, plan", "end": "end: last flush, tables"}
    lines = [f"{title}.", "", "| phase | wall time [s] | share |", "|---|---|---|"]
    for name, seconds in phases.items():
        lines.append(
            f"| {names.get(name, 'stream: read, flag, write, extract')} | {seconds:.2f} | {seconds / total:.0%} |"
        )
    lines += ["", "| kind of work | processor time [s] | share |", "|---|---|---|"]
    samples = sum(work.values())
    for kind, count in work.most_common():
        lines.append(f"| {kind} | {count / RATE:.2f} | {count / samples:.0%} |")
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put the tables between the marker lines of a page."""
    content = page.read_text()
    begin, end = (content.index(marker) for marker in _MARKERS)
    page.write_text(content[: begin + len(_MARKERS[0])] + f"\n\n{text}\n\n" + content[end:])


def main(argv: list[str] | None = None) -> int:
    """Run the case twice, once timed and once looked at, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--case", choices=CASES, default="bots")
    parser.add_argument("--preset", choices=["archive", "default"], default="archive")
    parser.add_argument("--work-dir", type=Path, help="keeps the simulated visit (default: a temporary folder)")
    parser.add_argument("--settle", type=float, default=SETTLE, help=f"seconds before each run (default {SETTLE:g})")
    parser.add_argument(
        "--touch-memory", action="store_true", help="use 3 GiB of memory before each run, as run.py does"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose marked part the tables replace")
    options = parser.parse_args(argv)
    case = CASES[options.case]
    with tempfile.TemporaryDirectory(prefix="tso3-profile-") as temporary:
        folder = (options.work_dir or Path(temporary)).absolute() / f"{case.name}-{case.n_int}"
        visit = simulated(case, folder / "visit")
        scratch = Path(tempfile.mkdtemp(dir=temporary))
        command = our_command(visit, case, options.preset, folder / "out", None)
        measure(command, cwd=scratch)  # warms the page cache and compiles the kernels
        settle(visit.members, options)
        timed = measure(command, cwd=scratch)
        if timed.returncode:
            raise SystemExit(timed.stderr[-2000:])
        settle(visit.members, options)
        work = sampled(command, scratch)
        for path in (folder / "out").glob("*"):
            path.unlink()
    used = ", ".join(f"{name} {value}" for name, value in machine().items() if name in ("processor", "processors"))
    title = f"{case.title}, preset {options.preset}, {timed.seconds:.1f} s ({used}), samples of {1000 // RATE} ms"
    text = tables(title, timed.step_seconds, work)
    print(text)
    if options.write:
        write(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
