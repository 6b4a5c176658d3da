"""
A crew of several processes: workers of this machine, or of a Dask cluster that somebody has started.

A task is some segments of an exposure. What is prepared is written to a file beside the products, which the workers
read: they need the file system of the run. Every worker writes the ``crfints`` of its segment, and its rows of spectra
into a file from which this process copies them. Results are small; they are fetched as they come, so that a worker
that dies later takes nothing with it.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tso3.cluster_worker import Done, facts, work
from tso3.crew import Crew, Task, ThisProcess
from tso3.errors import ClusterError, ParameterError, Tso3Warning
from tso3.io.atomic import remove_leftovers
from tso3.io.exposure import Exposure
from tso3.io.scratch import scratch_folder
from tso3.io.x1dints import X1dintsWriter
from tso3.progress import Progress
from tso3.recipe import Limits, RowTarget, Segments

__all__ = ["Cluster", "assembled", "check_choice"]

_PATIENCE = 10.0
"""Seconds for which a scheduler, and one worker of it, is waited for."""

_GRACE = 5.0
"""Seconds for which the end of workers of this machine is waited for."""

_FAILURES = 10
"""How often a segment is begun again when its worker dies, with workers of this machine."""

T = TypeVar("T", bound=Task)
R = TypeVar("R")


def check_choice(scheduler: str | None, cluster: str | None) -> int:
    """
    Return the number of worker processes of this machine that are asked for.

    Parameters
    ----------
    scheduler : str or None
        Address of the scheduler of a Dask cluster.
    cluster : str or None
        ``local:N``.

    Returns
    -------
    n : int
        0 if none are asked for.

    Raises
    ------
    ParameterError
        If both are given, or what is asked for is no number.

    Examples
    --------
    >>> from tso3.cluster import check_choice
    >>> check_choice(None, "local:2"), check_choice("tcp://localhost:8786", None)
    (2, 0)
    """
    if scheduler is not None and cluster is not None:
        raise ParameterError("was given together with a scheduler; give one of the two", "cluster")
    if cluster is None:
        return 0
    kind, _, number = cluster.partition(":")
    if kind != "local" or not number.isdecimal() or int(number) < 1:
        raise ParameterError(f"'{cluster}' is not local:N with a number N of at least 1, such as local:4", "cluster")
    return int(number)


@contextmanager
def assembled(
    scheduler: str | None, n_local: int, limits: Limits, given_workers: int | None, place: tuple[Path, str]
) -> Iterator[Crew]:
    """
    Give the crew that was asked for, while the block lasts.

    Parameters
    ----------
    scheduler : str or None
        Address of the scheduler of a Dask cluster.
    n_local : int
        Worker processes of this machine; 0 for none.
    limits : Limits
        Of the run: shared by the workers of this machine, of each worker of a cluster.
    given_workers : int or None
        Threads that the user asked for; by default a worker of a cluster uses as many as it was started with.
    place : (Path, str)
        Folder of the products, and their stem.

    Yields
    ------
    crew : Crew
        The threads of this process if neither is asked for.

    Raises
    ------
    ClusterError
        If ``distributed`` is not installed, or the scheduler or its workers cannot be used.
    """
    if scheduler is None and n_local == 0:
        yield ThisProcess(limits)
        return
    with ExitStack() as stack:
        _imported()
        if scheduler is None:
            local = stack.enter_context(_local_workers(n_local))
            yield stack.enter_context(Cluster(local.client, limits.shared(n_local), place, local))
        else:
            each = Limits(limits.max_memory, given_workers or 0, limits.block_size)
            client = stack.enter_context(_connected(scheduler))
            yield stack.enter_context(Cluster(client, each, place))


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
    local : _Local, optional
        Workers of this machine that belong to it.
    """

    def __init__(self, client: Any, limits: Limits, place: tuple[Path, str], local: _Local | None = None) -> None:
        self.limits = limits
        self._client = client
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
        token = secrets.token_hex(4)
        path, topic = self._shared() / f"tasks-{token}", f"tso3-{token}"
        _write(path, (function, list(tasks)))
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
            with suppress(Exception):  # of a connection that is lost
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
        alone = False
        while left:
            try:
                k = ready.get(timeout=1.0)
            except queue.Empty:
                alone = self._look_after(progress, alone)
                continue
            done = self._result(futures[k])
            futures[k] = None
            left -= 1
            yield k, done

    def _result(self, future: Any) -> Done:
        """Return what a future holds; what went wrong with the cluster is told in one line."""
        from concurrent.futures import CancelledError

        from distributed.scheduler import KilledWorker

        try:
            done: Done = future.result()
        except KilledWorker as error:
            raise ClusterError(
                "several workers died over the same segment; is their memory enough for --max-memory?", self._address
            ) from error
        except CancelledError as error:
            raise ClusterError("the connection to the scheduler was lost", self._address) from error
        return done

    @property
    def _address(self) -> str:
        return str(self._client.scheduler.address if self._client.scheduler else "cluster")

    def _look_after(self, progress: Progress, alone: bool) -> bool:
        """Raise if the cluster is gone; say once if it has no worker. Returns whether it has none."""
        if self._local is not None:
            self._local.check()
        if self._client.status not in ("running", "connecting", "newly-created"):
            raise ClusterError("the connection to the scheduler was lost", self._address)
        none = self._local is None and not self._client.scheduler_info().get("workers")
        if none and not alone:
            progress.message(f"{self._address}: has no worker any more; waiting for one")
        return none

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


def _write(path: Path, value: Any) -> None:
    buffer = io.BytesIO()
    _AbsolutePaths(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    try:
        with path.open("xb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ClusterError(f"cannot be written: {error.strerror}", path.parent.parent) from error


def _imported() -> None:
    """Import ``distributed``, or say how to get it."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ClusterError(f"needs the package distributed ({error}); install tso3[distributed]", "cluster") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what distributed tells about lost connections from the display: what matters is told by errors."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give a client of a scheduler that has workers with the versions of this process."""
    from distributed import Client

    with _quiet():
        try:
            client = Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise ClusterError(
                f"no scheduler can be reached here ({reason}); start one with dask scheduler", address
            ) from error
        try:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError as error:
                raise ClusterError(f"has no worker; start some with dask worker {address}", address) from error
            _check_versions(client, address)
            yield client
        finally:
            client.close()


def _check_versions(client: Any, address: str) -> None:
    """Raise if a worker lacks tso3 or has other versions than this process."""
    here = facts()
    for worker, there in client.run(facts, on_error="return").items():
        if not isinstance(there, dict):
            raise ClusterError(f"the worker {worker} cannot use tso3 ({there}); install it there too", address)
        odd = [
            f"{name} {there.get(name)} (here {version})" for name, version in here.items() if there.get(name) != version
        ]
        if odd:
            raise ClusterError(f"the worker {worker} has {', '.join(odd)}; install the same versions there", address)


class _Local:
    """
    Worker processes of this machine, with a scheduler in this process.

    Parameters
    ----------
    n : int
        How many.
    """

    def __init__(self, n: int) -> None:
        import dask
        from distributed import Client, LocalCluster

        settings = {"worker-saturation": 1.0, "allowed-failures": _FAILURES}
        with dask.config.set({f"distributed.scheduler.{name}": value for name, value in settings.items()}):
            self._cluster = LocalCluster(
                n_workers=0,
                protocol="tcp",
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
        self.client = Client(self._cluster, set_as_default=False)
        self._folder = Path(tempfile.mkdtemp(prefix="tso3-workers-"))
        options = ("--nthreads=1", "--no-dashboard", "--memory-limit=0", "--death-timeout=30", "--host=127.0.0.1")
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self._cluster.scheduler_address, *options]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--nworkers={n}", f"--local-directory={self._folder}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interruption from the keyboard is this process's alone
            )

    def check(self) -> None:
        """Raise if the workers have ended by themselves."""
        code = self._process.poll()
        if code is not None:
            lines = (self._folder / "log").read_text(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")[:160]
            raise ClusterError(f"the worker processes have ended (exit code {code}): {last}", "cluster")

    def end(self) -> None:
        """End all of it at once: whatever is still being done is of no use. Doing so twice does no harm."""
        if not self._folder.exists():
            return
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _wait_for_group(self._process.pid)
        with suppress(Exception):  # of connections that were just cut
            self.client.close(timeout=_GRACE)
            self._cluster.close(timeout=_GRACE)
        shutil.rmtree(self._folder, ignore_errors=True)


def _wait_for_group(group: int) -> None:
    """Wait until the processes of a group are gone, so that their files are free."""
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except OSError:
            return
        time.sleep(0.02)


@contextmanager
def _local_workers(n: int) -> Iterator[_Local]:
    """Give workers of this machine; they start while the run is prepared."""
    with _quiet():
        local = _Local(n)
        try:
            yield local
        finally:
            local.end()
