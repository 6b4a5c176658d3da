"""Which seeds are measured when, and by whom: scenes take turns, a process for each processor measures."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accuracy_seed import Peer, measure_seed
from scenes import Scene

_MEMORY = Path("/dev/shm")
_ENOUGH = 4 << 30
"""Bytes that must be free in memory's file system for each process, if scenes are to be written there."""


@dataclass(frozen=True)
class Plan:
    """
    How seeds are measured.

    Attributes
    ----------
    settings : mapping
        The table ``measure`` of the scenes' file.
    folder : Path
        Where scenes are simulated and reduced.
    peer_python : str
        Interpreter of the reference pipeline.
    """

    settings: Mapping[str, Any]
    folder: Path
    peer_python: str = ""


@dataclass(frozen=True)
class Task:
    """
    Some seeds of a scene, for one process; what the scene's seeds share is made once.

    Attributes
    ----------
    scene : Scene
        Which.
    seeds : tuple of (int, tuple of str)
        Seeds, and the programs that each is still to be reduced by.
    plan : Plan
        How.
    end : float
        Time of day after which no seed is begun [s].
    """

    scene: Scene
    seeds: tuple[tuple[int, tuple[str, ...]], ...]
    plan: Plan
    end: float = math.inf


@dataclass(frozen=True)
class Answer:
    """
    What came of one seed.

    Attributes
    ----------
    seed : int
        Which.
    numbers : dict
        By program, see `accuracy_seed.measure_seed`.
    seconds : float
        Processor time, that of the reference pipeline left out [s].
    """

    seed: int
    numbers: dict[str, dict[str, float] | str]
    seconds: float


def rounds(targets: Mapping[str, int], chunk: int) -> Iterator[dict[str, range]]:
    """
    Yield the seeds of each round by scene: one each, then so many of the scene with most seeds, others in proportion.

    Parameters
    ----------
    targets : mapping of str to int
        Seeds that each scene gets in the end.
    chunk : int
        Seeds in a round of the scenes that get most.

    Yields
    ------
    seeds : dict of str to range
        Of the scenes that have any in this round.
    """
    most = max(targets.values(), default=0)
    steps = [1, *range(chunk, most, chunk), most] if chunk > 1 else [*range(1, most + 1)]
    done = dict.fromkeys(targets, 0)
    for step in steps:
        due = {name: min(n, math.ceil(n * step / most)) for name, n in targets.items()}
        found = {name: range(done[name], due[name]) for name in targets if due[name] > done[name]}
        done = due
        if found:
            yield found


def measure(task: Task) -> list[Answer]:
    """Measure the seeds of a task, in this process."""
    from tso3.simulate import reused_parts

    answers = []
    with reused_parts(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.showwarning = unheard  # tso3 passes its own warnings on whatever the filter
        for seed, programs in task.seeds:
            if time.time() > task.end:
                break
            before = _processor_seconds()
            peer = _peer(task.plan) if "jwst" in programs else None
            with tempfile.TemporaryDirectory(prefix="accuracy-", dir=task.plan.folder) as scratch:
                numbers = measure_seed(task.scene, seed, programs, Path(scratch), task.plan.settings, peer)
            answers.append(Answer(seed, numbers, _processor_seconds() - before))
    return answers


def results(tasks: Sequence[Task], pool: Executor | None) -> Iterator[tuple[Task, list[Answer]]]:
    """Yield what came of each task as it ends; in this process if there is no pool."""
    if pool is None:
        yield from ((task, measure(task)) for task in tasks)
        return
    futures = {pool.submit(measure, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def workshop(plan: Plan, jobs: int) -> Iterator[tuple[Plan, Executor | None]]:
    """
    Give a plan with a folder of its own, removed at the end, and the processes that measure; none for a single job.

    What tso3 remembers about files is kept in that folder too.
    """
    with tempfile.TemporaryDirectory(prefix="accuracy-", dir=plan.folder) as scratch:
        there = replace(plan, folder=Path(scratch))
        with _environment(TSO3_CACHE_DIR=str(there.folder / "remembered"), NUMBA_NUM_THREADS="1", OMP_NUM_THREADS="1"):
            if jobs == 1:
                yield there, None
                _PEERS.clear()
                return
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(jobs, mp_context=context) as pool:
                yield there, pool


def scratch_folder(jobs: int) -> Path:
    """Return where scenes are best written: memory, if there is enough of it."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH * jobs:
        return _MEMORY
    return Path(tempfile.gettempdir())


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that are not set, for the processes that are begun meanwhile too."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def unheard(*_: Any, **__: Any) -> None:
    """Take a warning and show nothing."""


_PEERS: dict[str, Peer] = {}


def _peer(plan: Plan) -> Peer:
    """Return the reference pipeline of this process, begun when it is first needed."""
    if plan.peer_python not in _PEERS:
        folder = plan.folder / f"peer-{os.getpid()}"
        folder.mkdir()
        _PEERS[plan.peer_python] = Peer(plan.peer_python, folder)
    return _PEERS[plan.peer_python]


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
