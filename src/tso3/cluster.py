"""
A crew of several processes: workers of this machine, or of a Dask cluster that somebody has started.

A task is some segments of an exposure. What is prepared is written to a file beside the products, which the workers
read: they need the file system of the run. Every worker writes the ``crfints`` of its segment, and its rows of spectra
into a file from which this process copies them. Results are small; they are fetched as they come, so that a worker
that dies later takes nothing with it.
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tso3.cluster_client import LOST, workers_of
from tso3.cluster_worker import Done, facts, work
from tso3.crew import Task
from tso3.errors import ClusterError, Tso3Warning
from tso3.io.atomic import remove_leftovers
from tso3.io.exposure import Exposure
from tso3.io.scratch import scratch_folder
from tso3.io.x1dints import X1dintsWriter
from tso3.progress import Progress
from tso3.recipe import Limits, RowTarget, Segments

__all__ = ["Cluster"]

T = TypeVar("T", bound=Task)
R = TypeVar("R")


class Helpers(Protocol):
    """Worker processes that belong to the run."""

    def check(self) -> None:
        """Raise if they have ended by themselves."""

    def end(self) -> None:
        """End them."""


class Cluster:
    """
    The workers of a Dask cluster: every segment is a piece.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    limits : Limits
        Of each worker process; 0 threads for as many as it was started with.
    place : (Path, str)
        Folder of the products, and their stem.
    local : Helpers, optional
        Workers of this machine that belong to it.
    """

    def __init__(self, client: Any, limits: Limits, place: tuple[Path, str], local: Helpers | None = None) -> None:
        self.limits = limits
        self._client = client
        self._address = str(client.scheduler.address)
        self._local = local
        self._folder, self._product = place
        self._stack = ExitStack()
        self._scratch: Path | None = None
        self._products: set[Path] = set()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()  # running tasks learn from the missing folder that nobody waits for them
        if self._local is not None:
            self._local.end()
        for path in self._products:
            remove_leftovers(path)

    def pieces(self, exposure: Exposure) -> list[Segments]:
        """Return every segment by itself."""
        return Segments.each(exposure)

    def rows(self, writer: X1dintsWriter) -> RowTarget:
        """Return files from which rows are copied into the product."""
        return writer.parts(self._shared())

    def run(
        self, function: Callable[[T, Progress], R], tasks: Sequence[T], stage: str, progress: Progress
    ) -> Iterator[R]:
        """
        Let the workers do tasks.

        Parameters
        ----------
        function : callable
            Does a task; a function of a module, which workers import.
        tasks : sequence of Task
            What is to be done.
        stage : str
            What the display calls it.
        progress : Progress
            The display.

        Yields
        ------
        result : object
            What the function gives, in the order in which tasks finish.

        Raises
        ------
        Tso3Error
            Of a worker, as it raised it; tasks that have not begun are not begun then.
        ClusterError
            If the scheduler is lost, or too many workers died over one task.
        """
        self._check_connection()
        token = secrets.token_hex(4)
        path, topic = self._shared() / f"tasks-{token}", f"tso3-{token}"
        _write(path, facts(), (function, list(tasks)))
        self._products.update(product for task in tasks for product in getattr(task, "products", ()))
        progress.start(stage, sum(task.total for task in tasks))
        tracker = _Tracker(tasks, progress)
        self._client.subscribe_topic(topic, tracker.event)
        futures = [
            self._client.submit(work, str(path.absolute()), k, topic, key=f"{topic}-{k}", pure=False)
            for k in range(len(tasks))
        ]
        try:
            for k, done in self._finished(futures, progress):
                tracker.finished(k)
                for text in done.warnings:
                    warnings.warn(text, Tso3Warning, stacklevel=3)
                yield done.result
        finally:
            with suppress(ClusterError, *LOST):
                self._check_connection()
                self._client.cancel([future for future in futures if future is not None])
                self._client.unsubscribe_topic(topic)
            path.unlink(missing_ok=True)
        progress.finish()

    def _finished(self, futures: list[Any], progress: Progress) -> Iterator[tuple[int, Done]]:
        """Yield results as they come; each is fetched and let go, so that no worker has to keep it."""
        ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        for k, future in enumerate(futures):
            future.add_done_callback(lambda _, k=k: ready.put(k))
        left = len(futures)
        trouble = ""
        while left:
            try:
                k = ready.get(timeout=1.0)
            except queue.Empty:
                trouble = self._look_after(progress, trouble)
                continue
            done = self._result(futures[k])
            futures[k] = None
            left -= 1
            yield k, done

    def _result(self, future: Any) -> Done:
        """Return what a future holds; what went wrong with the cluster is told in one line."""
        from distributed.scheduler import KilledWorker

        try:
            done: Done = future.result()
        except KilledWorker as error:
            raise ClusterError(
                "several workers died over the same segment; is their memory enough for --max-memory?", self._address
            ) from error
        except CancelledError as error:
            raise ClusterError("the connection to the scheduler was lost", self._address) from error
        except ImportError as error:  # of the task itself; one within it comes as another error
            raise ClusterError(
                f"a worker cannot use tso3 ({error}); end it, or install tso3 there", self._address
            ) from (error)
        return done

    def _check_connection(self) -> None:
        """Raise if the scheduler was lost, and connecting again has failed."""
        if self._client.status not in ("running", "connecting", "newly-created"):
            raise ClusterError("the connection to the scheduler was lost", self._address)

    def _look_after(self, progress: Progress, told: str) -> str:
        """Raise if the cluster is gone; say once what is waited for. Returns that: empty if it can go on."""
        if self._local is not None:
            self._local.check()
        self._check_connection()
        if self._local is not None:
            return ""  # its scheduler is this process, and workers that die are replaced
        try:
            trouble = "" if workers_of(self._client) else "has no worker any more; waiting for one"
        except TimeoutError:
            trouble = "the scheduler does not answer; waiting for it"
        except LOST:
            return told  # it is being connected to again, or the next look finds it lost
        if trouble and trouble != told:
            progress.message(f"{self._address}: {trouble}")
        return trouble

    def _shared(self) -> Path:
        """Return the folder that workers read, made when it is first needed."""
        if self._scratch is None:
            self._scratch = self._stack.enter_context(scratch_folder(self._folder, self._product))
        return self._scratch


class _Tracker:
    """Progress of tasks, some of which may be begun again."""

    def __init__(self, tasks: Sequence[Task], progress: Progress) -> None:
        self._tasks = tasks
        self._progress = progress
        self._done = [0] * len(tasks)
        self._begun = [False] * len(tasks)
        self._lock = threading.Lock()

    def event(self, event: tuple[float, Any]) -> None:
        """Take what a worker tells."""
        k, done = int(event[1]["index"]), int(event[1]["done"])
        with self._lock:
            if done == 0 and self._begun[k]:
                self._progress.message(f"{', '.join(self._tasks[k].files)}: its worker was lost, it is done again")
            self._begun[k] = True
            self._advance(k, done)

    def finished(self, k: int) -> None:
        """Note a task as done, whatever its worker has told."""
        with self._lock:
            self._advance(k, self._tasks[k].total)

    def _advance(self, k: int, done: int) -> None:
        if done > self._done[k]:
            self._progress.advance(done - self._done[k])
            self._done[k] = done


class _AbsolutePaths(pickle.Pickler):
    """Writes paths as absolute ones: the process that reads them may be in another folder."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a path is written; all else as ever."""
        return (Path, (str(value.absolute()),)) if isinstance(value, Path) else NotImplemented


def _write(path: Path, *values: Any) -> None:
    """Write values one after the other, each of which can be read without the next."""
    buffer = io.BytesIO()
    for value in values:
        _AbsolutePaths(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    try:
        with path.open("xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ClusterError(f"cannot be written: {error.strerror}", path.parent.parent) from error
