"""What runs in a worker of a cluster: one task; its progress and warnings are told to the run that asked for it."""

from __future__ import annotations

import pickle
import platform
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tso3.blas import one_blas_thread
from tso3.errors import ClusterError, Tso3Error, Tso3Warning

__all__ = ["Done", "RunEnded", "differences", "facts", "processor_warning", "work"]


@dataclass(frozen=True)
class Done:
    """
    A task that is done.

    Attributes
    ----------
    result : object
        What its function gave.
    warnings : tuple of str
        Texts of the warnings of tso3, each once.
    """

    result: Any
    warnings: tuple[str, ...]


class RunEnded(Exception):
    """The run that asked for a task is no more: it was interrupted, or another task failed."""


_PROCESSOR = "processor"


def facts() -> dict[str, str]:
    """Return the versions that must be the same in all processes of a run, and the processor for which is compiled."""
    import llvmlite.binding
    import numba
    import numpy

    import tso3

    return {
        "tso3": tso3.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        _PROCESSOR: llvmlite.binding.get_host_cpu_name(),
    }


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """
    Return which versions of a worker are not those of the run.

    Parameters
    ----------
    here, there : dict
        `facts` of the run and of the worker.

    Returns
    -------
    odd : str
        Empty if none; another processor is no other version.

    Examples
    --------
    >>> from tso3.cluster_worker import differences
    >>> differences({"numpy": "2.1", "processor": "znver3"}, {"numpy": "2.0", "processor": "skylake"})
    'numpy 2.0 (here 2.1)'
    """
    return ", ".join(
        f"{name} {there.get(name)} (here {version})"
        for name, version in here.items()
        if name != _PROCESSOR and there.get(name) != version
    )


def processor_warning(here: dict[str, str], there: dict[str, str]) -> str:
    """
    Return what is to be said about the processor of a worker.

    Parameters
    ----------
    here, there : dict
        `facts` of the run and of the worker.

    Returns
    -------
    text : str
        Empty if it is that of the run.
    """
    one, other = here.get(_PROCESSOR), there.get(_PROCESSOR)
    if one == other:
        return ""
    return (
        f"a worker has another processor ({other}) than the run ({one}): numbers are those of one process to within"
        " rounding, not bit for bit"
    )


def work(path: str, index: int, topic: str) -> Done:
    """
    Do one of the tasks of a run.

    Parameters
    ----------
    path : str
        File with the `facts` of the run, then the function and all tasks.
    index : int
        Which task.
    topic : str
        Under which progress is told.

    Returns
    -------
    done : Done
        Its result, and the warnings on the way.

    Raises
    ------
    ClusterError
        If the worker does not see the file, or has other versions than the run: it may have come later than that was
        checked for all.
    RunEnded
        If the file is removed in the meantime: nobody waits for the result.
    """
    from distributed import get_worker

    worker = get_worker()
    try:
        with open(path, "rb") as file:
            expected, here = pickle.load(file), facts()  # a dictionary of strings, which any version reads
            odd = differences(expected, here)
            if odd:
                raise ClusterError(f"the worker has {odd.replace('(here', '(the run')}; end it", worker.address)
            function, tasks = pickle.load(file)
    except FileNotFoundError:
        raise ClusterError(
            f"the worker {worker.address} does not see this folder; workers need the file system of the run",
            Path(path).parent.parent,
        ) from None
    slots, task = worker.state.nthreads, tasks[index]
    threads = task.limits.workers or slots
    task = replace(task, limits=replace(task.limits, workers=threads).shared(slots))
    with one_blas_thread(), _noted_warnings() as texts:
        other = processor_warning(expected, here)
        if other:
            warnings.warn(other, Tso3Warning, stacklevel=2)
        try:
            result = function(task, _Report(worker, topic, index, Path(path)))
        except (Tso3Error, RunEnded):
            raise
        except Exception as error:  # noqa: BLE001 - a defect; not everything that is raised can be sent, a text can
            raise RuntimeError(f"in a worker: {''.join(traceback.format_exception(error))}") from None
    return Done(result, tuple(dict.fromkeys(texts)))


class _Report:
    """A display (`tso3.progress.Progress`) whose content goes to the run; also learns from it that the run ended."""

    def __init__(self, worker: Any, topic: str, index: int, path: Path) -> None:
        self._worker, self._topic, self._index, self._path = worker, topic, index, path
        self._done = 0
        self._lock = threading.Lock()
        self._tell()

    def _tell(self) -> None:
        self._worker.log_event(self._topic, {"index": self._index, "done": self._done})

    def start(self, stage: str, total: int) -> None:
        """Nothing to tell: the run has stages of its own."""

    def advance(self, n: int = 1) -> None:
        """Tell how much of the task is done; stop if nobody waits for it."""
        if not self._path.exists():
            raise RunEnded(f"{self._path} is gone")
        with self._lock:
            self._done += n
            self._tell()

    def finish(self) -> None:
        """Nothing to tell."""

    def message(self, text: str) -> None:
        """Nothing to tell."""


_recorders: list[list[str]] = []
_recording = threading.Lock()
_filters: list[warnings.catch_warnings[Any]] = []


@contextmanager
def _noted_warnings() -> Iterator[list[str]]:
    """Note the texts of the warnings of tso3; tasks that run at the same time in one process note those of all."""
    texts: list[str] = []
    with _recording:
        if not _recorders:
            filters = warnings.catch_warnings()
            filters.__enter__()
            warnings.simplefilter("always", Tso3Warning)
            warnings.showwarning = _note
            _filters.append(filters)
        _recorders.append(texts)
    try:
        yield texts
    finally:
        with _recording:
            _recorders[:] = [recorder for recorder in _recorders if recorder is not texts]
            if not _recorders:
                _filters.pop().__exit__(None, None, None)


def _note(message: Warning | str, category: type[Warning], *args: Any, **keywords: Any) -> None:
    if issubclass(category, Tso3Warning):
        for texts in list(_recorders):
            texts.append(str(message))
