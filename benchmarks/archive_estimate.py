"""
What the archive of time series, and one programme on a laptop, cost: from measured costs, as tables of docs/scaling.md.

    python benchmarks/archive_estimate.py            # print the tables
    python benchmarks/archive_estimate.py --write    # put them into docs/scaling.md, between its two marker lines

The costs are those of ``benchmarks/results.json``, which ``benchmarks/run.py`` writes. For each case and preset

    processor time of an exposure = start-up + (processor time measured - start-up) / (bytes measured) * (its bytes)

where start-up is the time until the archive preset begins with the exposure: modules, headers, the survey's sample. All
else that a run does is counted as if it grew with the bytes, although writing headers and tables hardly does: the
estimates are upper limits. What the default preset does more before its stream counts by the byte too, and all of what
jwst does. Bytes read are those that the programs asked for, whether they came from the disk or from the page cache, and
include the modules of Python (some 80 MB, which weigh in the smallest cases).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- estimate: begin -->", "<!-- estimate: end -->"

EXPOSURE = 10e9
"""Bytes of the calints of one exposure, all segments together."""
EXPOSURES = 10_000
"""Exposures in the archive."""
VISITS = 10
"""Exposures of one observing programme."""
STORAGE = (1e9, 5e9, 20e9)
"""What the shared storage of a cluster moves [byte/s], reading and writing together."""
DISKS = (1e9, 3e9)
"""What the disk of a laptop moves [byte/s]."""


@dataclass(frozen=True)
class Cost:
    """
    What one case cost with one program.

    Attributes
    ----------
    case, program : str
        Title of the case; archive, default or jwst.
    start_up : float
        Processor time that does not grow with the bytes [s]; 0 for jwst, which does not announce it.
    cpu, wall : float
        Processor time and wall time per byte of calints, start-up left out [s/byte].
    read, written : float
        Bytes read and written per byte of calints.
    memory : float
        Peak of private memory [byte].
    processors : str
        How many processors the wall time is for.
    """

    case: str
    program: str
    start_up: float
    cpu: float
    wall: float
    read: float
    written: float
    memory: float
    processors: str

    def core_seconds(self, n_bytes: float) -> float:
        """Return the processor time of an exposure [s]."""
        return self.start_up + self.cpu * n_bytes

    def seconds(self, n_bytes: float) -> float:
        """Return the wall time of an exposure on the machine of the measurement [s]."""
        return self.start_up + self.wall * n_bytes

    def traffic(self, n_bytes: float) -> float:
        """Return the bytes of an exposure that the storage moves, reading and writing."""
        return (self.read + self.written) * n_bytes


def costs(records: Iterable[dict[str, Any]]) -> list[Cost]:
    """
    Return the costs in the results of the benchmarks.

    Parameters
    ----------
    records : iterable of dict
        As in ``results.json``.
    """
    found = []
    for record in records:
        n_bytes = record["bytes_read"]
        fixed = record["programs"]["archive"]["step_seconds"].get("start-up", 0.0)
        for name, program in record["programs"].items():
            if "bytes_written" not in program:
                raise SystemExit(
                    f"archive_estimate.py: {record['title']} was measured before bytes were counted for each program;"
                    f" measure it again: python benchmarks/run.py --case {record['case']}"
                )
            start_up = 0.0 if name == "jwst" else fixed
            found.append(
                Cost(
                    case=record["title"],
                    program=name,
                    start_up=start_up,
                    cpu=max(program["cpu_seconds"] - start_up, 0.0) / n_bytes,
                    wall=max(statistics.median(program["seconds"]) - start_up, 0.0) / n_bytes,
                    read=max(program["bytes_read"] / n_bytes, 1.0),
                    written=program["bytes_written"] / n_bytes,
                    memory=program["private_bytes"],
                    processors=record["machine"]["processors"],
                )
            )
    return found


def measured(found: Sequence[Cost]) -> list[str]:
    """Return the table of what was measured."""
    rows = [
        (
            each.case,
            each.program,
            f"{each.start_up:.1f} s" if each.start_up else "–",
            f"{each.cpu * 1e9:.1f} s",
            f"{each.read:.2f}",
            f"{each.written:.2f}",
            f"{each.memory / 2**20:.0f} MiB",
        )
        for each in found
    ]
    headings = ("case", "program", "start-up", "processor time per GB", "read per byte", "written per byte", "memory")
    return _table(headings, rows)


def archive(found: Sequence[Cost]) -> list[str]:
    """Return the table of what the archive costs on a cluster, if all of it were like one case."""
    rows = []
    for each in found:
        core_seconds = each.core_seconds(EXPOSURE)
        rate = each.traffic(EXPOSURE) / core_seconds
        rows.append(
            (
                each.case,
                each.program,
                f"{core_seconds * EXPOSURES / 3600:,.0f}",
                f"{each.read * EXPOSURE * EXPOSURES / 1e15:.2f} PB",
                f"{each.written * EXPOSURE * EXPOSURES / 1e15:.2f} PB",
                f"{rate / 1e6:.0f} MB/s",
                *(
                    f"{max(1.0, storage / rate):,.0f}: {_time(EXPOSURES * each.traffic(EXPOSURE) / storage)}"
                    for storage in STORAGE
                ),
            )
        )
    limits = [f"{storage / 1e9:g} GB/s: cores, time" for storage in STORAGE]
    return _table(("case", "program", "core-hours", "read", "written", "storage per core", *limits), rows)


def programme(found: Sequence[Cost]) -> list[str]:
    """Return the table of what one programme costs on a laptop."""
    rows = [
        (
            each.case,
            each.program,
            _time(VISITS * each.seconds(EXPOSURE)),
            *(_time(VISITS * each.traffic(EXPOSURE) / disk) for disk in DISKS),
            f"{each.memory / 2**20:.0f} MiB",
        )
        for each in found
        if each.program != "jwst"
    ]
    processors = "/".join(sorted({each.processors for each in found}))
    disks = [f"disk of {disk / 1e9:g} GB/s" for disk in DISKS]
    return _table(("case", "preset", f"as measured, {processors} processors", *disks, "memory"), rows)


def page(found: Sequence[Cost]) -> str:
    """Return what stands between the marker lines of docs/scaling.md."""
    return "\n".join(
        [
            "### Measured costs",
            "",
            *measured(found),
            "",
            f"### The archive: {EXPOSURES:,} exposures of {EXPOSURE / 1e9:g} GB",
            "",
            *archive(found),
            "",
            f"### One programme: {VISITS} visits of {EXPOSURE / 1e9:g} GB on a laptop",
            "",
            *programme(found),
        ]
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _time(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (72 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if seconds / size >= 10 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def put(path: Path, text: str) -> None:
    """Put text between the marker lines of a page."""
    whole = path.read_text(encoding="utf-8")
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise SystemExit(f"archive_estimate.py: {path} needs one line {BEGIN} and after it one line {END}")
    before, after = whole.split(BEGIN)[0], whole.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="written by benchmarks/run.py")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the marker lines")
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    options = parser.parse_args(argv)
    if not options.results.exists():
        parser.error(f"{options.results} does not exist; measure first: python benchmarks/run.py --all")
    text = page(costs(json.loads(options.results.read_text(encoding="utf-8"))))
    if options.write:
        put(options.page, text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
