"""Wall time and private memory of a whole process with all its children, and the cost of a plain copy."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Measured", "copy_with_sync", "folder_bytes", "measure", "touch_memory"]

INTERVAL = 0.01
"""Seconds between two samples of memory."""

FAMILY_INTERVAL = 0.25
"""Seconds between two looks for children, which cost more."""

_STAGE_DONE = re.compile(r"^\d\d:\d\d:\d\d (?P<stage>.+): done in ")
_CHUNK = 8 * 2**20


@dataclass(frozen=True)
class Measured:
    """
    What one process cost.

    Attributes
    ----------
    seconds : float
        Wall time from start to end, start-up included.
    cpu_seconds : float
        User and system time, children included.
    private_bytes : int
        Largest sum over the process tree of private memory, sampled.
    resident_bytes : int
        Largest resident memory of one process of the tree, as the kernel counted it; shared pages included.
    read_bytes : int
        Bytes that the process tree has read, from whatever they came (disk, page cache); 0 where the system does not
        count them. Some tens of MB are Python's modules.
    returncode : int
        Exit code.
    step_seconds : dict of str to float
        Time between the announced ends of stages, from the process's plain progress lines.
    stdout, stderr : str
        What it wrote.
    """

    seconds: float
    cpu_seconds: float
    private_bytes: int
    resident_bytes: int
    read_bytes: int
    returncode: int
    step_seconds: dict[str, float]
    stdout: str
    stderr: str


def _private_bytes(process: psutil.Process) -> int:
    """
    Return the private memory of a process; 0 if it has just ended.

    On Linux the anonymous pages (resident less file-backed), which the kernel counts anyway: reading them costs 30 µs
    and leaves the process alone, where the exact unique set walks its pages (10 ms per GB) under a lock.
    """
    try:
        info = process.memory_info()
        return info.rss - info.shared if hasattr(info, "shared") else process.memory_full_info().uss
    except psutil.Error:
        return 0


def measure(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> Measured:
    """
    Run a command to its end and return what it cost.

    Parameters
    ----------
    command : list of str
        Program and arguments.
    cwd : Path
        Working folder.
    env : dict of str to str, optional
        Environment variables in addition to those of this process.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[tuple[float, str]] = []
    outputs: list[str] = []
    readers = [
        threading.Thread(target=lambda: lines.extend((time.perf_counter() - start, s) for s in process.stderr or ())),
        threading.Thread(target=lambda: outputs.extend(process.stdout or ())),
    ]
    peak = [0]
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, ended))
    for thread in (*readers, sampler):
        thread.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.perf_counter() - start
    read = _read_bytes(process.pid)  # counted until the process is waited for
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    for thread in (*readers, sampler):
        thread.join()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return Measured(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        private_bytes=peak[0],
        resident_bytes=usage.ru_maxrss * 1024,
        read_bytes=read,
        returncode=process.returncode,
        step_seconds=_stages(lines, seconds),
        stdout="".join(outputs),
        stderr="".join(text for _, text in lines),
    )


def _read_bytes(pid: int) -> int:
    """Return the bytes that a process that has just ended, and the children it waited for, have read."""
    counters = Path(f"/proc/{pid}/io")
    if not counters.exists():
        return 0
    return int(dict(line.split(": ") for line in counters.read_text().splitlines())["rchar"])


def _sample(pid: int, peak: list[int], ended: threading.Event) -> None:
    """Keep the largest private memory of a process tree until it ends."""
    try:
        root = psutil.Process(pid)
        family, looked = [root], time.perf_counter()
        while not ended.wait(INTERVAL):
            if time.perf_counter() - looked > FAMILY_INTERVAL:
                family, looked = [root, *root.children(recursive=True)], time.perf_counter()
            peak[0] = max(peak[0], sum(_private_bytes(process) for process in family))
    except psutil.Error:
        return


def _stages(lines: Iterable[tuple[float, str]], seconds: float) -> dict[str, float]:
    """Return the time before the first stage, of each stage, and after the last, from timed progress lines."""
    begun: dict[str, float] = {}
    stages: dict[str, float] = {}
    last = 0.0
    for at, text in lines:
        done = _STAGE_DONE.match(text)
        if done:
            stage = done["stage"]
            stages[stage] = stages.get(stage, 0.0) + at - begun.pop(stage, last)
            last = at
        else:
            name = text[9:].split(":", 1)[0].strip()
            if name:
                begun.setdefault(name, at)
                if not stages:
                    stages["start-up"] = at
    if stages:
        stages["end"] = seconds - last
    return stages


def folder_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes of files, and of all files below folders."""
    total = 0
    for path in paths:
        files = (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        total += sum(p.stat().st_size for p in files)
    return total


def copy_with_sync(inputs: Iterable[Path], n_written: int, folder: Path) -> float:
    """
    Return the seconds that reading the inputs and writing as many bytes as a run does take, synced to disk.

    Parameters
    ----------
    inputs : iterable of Path
        Files, each read once.
    n_written : int
        Bytes that are written; what is read is written, repeated or cut to this number.
    folder : Path
        Where the copy goes; it is removed afterwards.
    """
    target = folder / "copy.bin"
    buffer = memoryview(bytearray(_CHUNK))
    left = n_written
    start = time.perf_counter()
    try:
        with target.open("wb", buffering=0) as out:
            for path in inputs:
                with path.open("rb", buffering=0) as source:
                    while n := source.readinto(buffer):
                        left -= out.write(buffer[: min(n, left)]) if left > 0 else 0
            while left > 0:
                left -= out.write(buffer[: min(_CHUNK, left)])
            os.fsync(out.fileno())
        return time.perf_counter() - start
    finally:
        target.unlink(missing_ok=True)


def read_once(paths: Iterable[Path]) -> int:
    """
    Read files to their ends and return their bytes.

    A program that has used most of the memory leaves the next one to read its inputs from the disk; after this, whoever
    comes next finds them in memory, as far as they fit.

    Parameters
    ----------
    paths : iterable of Path
        Files.
    """
    n_bytes = 0
    room = memoryview(bytearray(8 << 20))
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(room):
                n_bytes += n
    return n_bytes


def touch_memory(share: float = 0.8, at_most: int | None = None) -> int:
    """
    Use memory that is free once, give it back, and return how many bytes it was.

    A virtual machine that has just started has its memory only on paper: the first use of each page is a call to its
    host. On the machine of `results.md` 19 GiB took 38 s the first time and 2.7 s the second. Programs that write
    gigabytes through the page cache would pay for that, one after the other, until all pages were used once.

    Parameters
    ----------
    share : float
        Of the memory that is available.
    at_most : int, optional
        Bytes, where less will do.
    """
    n_bytes = int(psutil.virtual_memory().available * share)
    n_bytes = n_bytes if at_most is None else min(n_bytes, at_most)
    page = mmap.PAGESIZE
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
        for offset in range(0, n_bytes, page):
            room[offset] = 1
    return n_bytes
