"""The results of the benchmarks as a page, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

__all__ = ["machine", "write_results"]

_HEADER = (
    "| case | copy + sync | archive preset | default preset | jwst 3.0.0 | jwst / archive | at least | aim |"
    " archive / copy | default, not rectified / archive | rectified: added / written | memory archive, default, jwst |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def machine() -> dict[str, str]:
    """Return what the numbers depend on: processor, memory, system, versions."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("tso3", "numpy", "numba", "astropy", "photutils", "scipy")},
    }


def _seconds(values: list[float]) -> str:
    """Return the median, and the range if there is one."""
    middle = f"{statistics.median(values):.2f} s"
    return middle if len(values) == 1 else f"{middle} ({values[0]:.2f} to {values[-1]:.2f})"


def row(record: dict[str, Any]) -> tuple[str, bool]:
    """Return the row of one case and whether its factor holds (True where it was not measured)."""
    programs = record["programs"]
    ours = statistics.median(programs["archive"]["seconds"])
    copy = statistics.median(record["copy_seconds"])
    holds, factor = True, "–"
    if "jwst" in programs:
        ratio = statistics.median(programs["jwst"]["seconds"]) / ours
        holds = ratio >= record["at_most"]
        factor = f"**{ratio:.1f}**" if holds else f"{ratio:.1f} (missed)"
    times = [
        _seconds(programs[name]["seconds"]) if name in programs else "–" for name in ("archive", "default", "jwst")
    ]
    memory = [
        f"{programs[name]['private_bytes'] / 2**20:.0f}" if name in programs else "–"
        for name in ("archive", "default", "jwst")
    ]
    cells = [
        record["title"],
        _seconds(record["copy_seconds"]),
        *times,
        factor,
        f"{record['at_most']:g}",
        f"{record['aim']:g}",
        f"{ours / copy:.1f}",
        *_rectified(record),
        ", ".join(memory) + " MiB",
    ]
    return "| " + " | ".join(cells) + " |", holds


def _rectified(record: dict[str, Any]) -> tuple[str, str]:
    """Return the time without rectified exposures over the archive preset, and what these add beside a plain write."""
    programs = record["programs"]
    if "unrectified" not in programs:
        return "–", "–"
    archive, default, without = (
        statistics.median(programs[name]["seconds"]) for name in ("archive", "default", "unrectified")
    )
    write = statistics.median(record["rectified_write_seconds"])
    return f"{without / archive:.2f}", f"{default - without:.2f} s / {write:.2f} s"


def details(record: dict[str, Any]) -> list[str]:
    """Return the lines under the table for one case: bytes, time per step."""
    lines = [
        "",
        f"**{record['title']}**, {record['segments']} segments, {record['date']}, rounds: {record['repeat']}"
        + (f", --max-memory {record['max_memory']}" if record["max_memory"] else "")
        + f". Read {record['bytes_read'] / 1e6:.0f} MB, written {record['bytes_written'] / 1e6:.0f} MB.",
        "",
    ]
    for name, program in record["programs"].items():
        steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in program["step_seconds"].items())
        lines.append(f"- {name}: {program['cpu_seconds']:.1f} s of processor time; {steps or 'no steps announced'}")
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in record["machine"].items()))
    if record["peer_versions"]:
        lines.append("- peer: " + ", ".join(f"{name} {value}" for name, value in record["peer_versions"].items()))
    return lines


def page(records: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return the page of all records and whether every factor holds."""
    rows = [row(record) for record in records]
    lines = [
        "# Measured",
        "",
        "Wall time of whole processes, start-up included; median (and range) of the rounds. Memory is the peak of",
        "private memory summed over the process tree. Written by `benchmarks/run.py`.",
        "",
        *_HEADER,
        *(text for text, _ in rows),
    ]
    for record in records:
        lines += details(record)
    return "\n".join(lines) + "\n", all(holds for _, holds in rows)


def write_results(records: list[dict[str, Any]], folder: Path | None) -> tuple[str, bool]:
    """
    Return the page of these records, and merge them into ``results.json`` and ``results.md`` of a folder.

    Parameters
    ----------
    records : list of dict
        One per case measured now.
    folder : Path or None
        Where the results are kept; None writes nothing.
    """
    text, holds = page(records)
    if folder is not None:
        store = folder / "results.json"
        known = {r["case"]: r for r in json.loads(store.read_text())} if store.exists() else {}
        known.update({record["case"]: record for record in records})
        store.write_text(json.dumps(list(known.values()), indent=1) + "\n")
        (folder / "results.md").write_text(page(list(known.values()))[0])
    return text, holds
