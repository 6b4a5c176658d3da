"""
Time and memory against the number of integrations: measured, fitted, drawn.

    python benchmarks/scaling.py --case bots --n-int 75 150 300 600 1200 5000 --figure docs/figures/scaling.png

Prints the slope of each curve in the log–log plane over its upper half, where start-up no longer counts, and keeps the
numbers in ``benchmarks/scaling.json``. The exit code is 1 if time grows faster than linearly, or if memory is not the
same within 10 % from 300 integrations on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cases import CASES
from report import machine
from run import HERE, PEER_VARIABLE, find_peer, one_run, simulated

TIME_SLOPE_AT_MOST = 1.1
MEMORY_GROWTH_AT_MOST = 1.1 / 0.9
"""The same within 10 %, ..."""
MEMORY_FROM = 300
"""... from as many integrations on: fewer do not fill the blocks."""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Run every program at every size and return wall times and private memory."""
    programs = ["archive", "default"] + (["jwst"] if options.against == "jwst" else [])
    record: dict[str, Any] = {"case": options.case, "machine": machine(), "n_int": sorted(options.n_int)}
    record["programs"] = {name: {"seconds": [], "private_bytes": []} for name in programs}
    with tempfile.TemporaryDirectory(prefix="tso3-scaling-") as temporary:
        for n_int in record["n_int"]:
            case = replace(CASES[options.case], n_int=n_int)
            folder = (options.work_dir or Path(temporary)).absolute() / f"{case.name}-{n_int}"
            visit = simulated(case, folder / "visit")
            for name in programs:
                rounds = 1 if name == "jwst" else options.repeat
                if name != "jwst":
                    one_run(name, visit, case, folder, options)
                results = [one_run(name, visit, case, folder, options)[0] for _ in range(rounds)]
                seconds = statistics.median(result.seconds for result in results)
                private = max(result.private_bytes for result in results)
                record["programs"][name]["seconds"].append(seconds)
                record["programs"][name]["private_bytes"].append(private)
                print(f"{n_int} {name}: {seconds:.2f} s, {private / 2**20:.0f} MiB", file=sys.stderr)
            if options.work_dir is None:
                shutil.rmtree(folder)
    return record


def slope(n_int: list[int], values: list[float]) -> float:
    """Return d log(value) / d log(n_int) over the upper half of the sizes."""
    half = len(n_int) // 2 if len(n_int) > 2 else 0
    return float(np.polyfit(np.log(n_int[half:]), np.log(values[half:]), 1)[0])


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw time and memory against the number of integrations, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    label = {"archive": "tso3, archive preset", "default": "tso3, default preset", "jwst": "jwst 3.0.0"}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for name, program in record["programs"].items():
        left.loglog(record["n_int"], program["seconds"], "o-", label=label[name])
        right.loglog(record["n_int"], np.array(program["private_bytes"]) / 2**20, "o-", label=label[name])
    n_int = np.array(record["n_int"], dtype=float)
    first = record["programs"]["archive"]["seconds"][-1]
    left.loglog(n_int, first * n_int / n_int[-1], ":", color="gray", label="proportional")
    left.set(xlabel="integrations", ylabel="wall time [s]")
    right.set(xlabel="integrations", ylabel="peak private memory [MiB]")
    left.legend()
    figure.suptitle(CASES[record["case"]].mode)
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the slopes, keep the numbers; 1 if a curve is too steep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--case", choices=CASES, default="bots")
    parser.add_argument("--n-int", type=int, nargs="+", default=[75, 150, 300, 600, 1200, 5000])
    parser.add_argument("--against", choices=["jwst"])
    parser.add_argument("--peer-python", type=Path, help=f"interpreter that has jwst 3.0.0 (default: ${PEER_VARIABLE})")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--max-memory", help="handed to tso3 run")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds before each run, for the disk (default 5)")
    parser.add_argument(
        "--touch-memory", action="store_true", help="use 3 GiB of memory before each run, as run.py does"
    )
    parser.add_argument("--work-dir", type=Path, help="keeps the simulated visits (default: a temporary folder)")
    parser.add_argument("--figure", type=Path, help="where the figure goes (PNG, SVG)")
    options = parser.parse_args(argv)
    if options.against == "jwst":
        options.peer_python = find_peer(options.peer_python)
    record = measured(options)
    failed = False
    for name, program in record["programs"].items():
        steep = slope(record["n_int"], program["seconds"])
        private = [
            n for n, n_int in zip(program["private_bytes"], record["n_int"], strict=True) if n_int >= MEMORY_FROM
        ]
        growth = max(private) / min(private) if private else 1.0
        print(
            f"{name}: time grows as n_int^{steep:.2f}; memory by a factor {growth:.2f}"
            f" from {MEMORY_FROM} integrations on"
        )
        failed |= name != "jwst" and (steep > TIME_SLOPE_AT_MOST or growth > MEMORY_GROWTH_AT_MOST)
        program["slope"] = steep
    (HERE / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")
    if options.figure:
        draw(record, options.figure)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
