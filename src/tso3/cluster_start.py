"""How a crew of several processes comes together: workers of this machine, or of a cluster that is there already."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tso3.cluster import Cluster
from tso3.cluster_client import GRACE, LOST, close, connected, quiet
from tso3.crew import Crew, ThisProcess
from tso3.errors import ClusterError, ParameterError, Tso3Warning
from tso3.io.scratch import scratch_folder
from tso3.recipe import Limits

__all__ = ["assembled", "check_choice", "check_scheduler"]

_ERROR = re.compile(r" - (ERROR|CRITICAL) - |^[\w.]+Error\b")
"""A line of a log of distributed that tells an error, or the last one of a traceback."""

_FAILURES = 10
"""How often a segment is begun again when its worker dies, with workers of this machine."""


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
        If both are given, the address is empty, or what is asked for is no number.

    Examples
    --------
    >>> from tso3.cluster_start import check_choice
    >>> check_choice(None, "local:2"), check_choice("tcp://localhost:8786", None)
    (2, 0)
    """
    if scheduler is not None and cluster is not None:
        raise ParameterError("was given together with a scheduler; give one of the two", "cluster")
    if scheduler is not None and not scheduler.strip():
        raise ParameterError("is empty; give the address of a scheduler, such as tcp://node1:8786", "scheduler")
    if cluster is None:
        return 0
    kind, _, number = cluster.partition(":")
    if kind != "local" or not number.isdecimal() or int(number) < 1:
        raise ParameterError(f"'{cluster}' is not local:N with a number N of at least 1, such as local:4", "cluster")
    return int(number)


def check_scheduler(address: str) -> None:
    """
    Find what is wrong with a cluster, before the first of several observations begins.

    Parameters
    ----------
    address : str
        Of the scheduler.

    Raises
    ------
    ClusterError
        As `assembled` raises it.
    """
    _imported()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Tso3Warning)  # told when the cluster is used
        with connected(address):
            pass


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
            client = stack.enter_context(connected(scheduler))
            yield stack.enter_context(Cluster(client, each, place))


def _imported() -> None:
    """Import ``distributed``, or say how to get it."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ClusterError(f"needs the package distributed ({error}); install tso3[distributed]", "cluster") from error


class _Local:
    """
    Worker processes of this machine, with a scheduler in this process.

    Parameters
    ----------
    n : int
        How many.
    folder : Path
        For what they write; removed by whoever gave it.
    """

    def __init__(self, n: int, folder: Path) -> None:
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
        self._log = folder / "log"
        self._ended = False
        options = ("--nthreads=1", "--no-dashboard", "--memory-limit=0", "--death-timeout=30", "--host=127.0.0.1")
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self._cluster.scheduler_address, *options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--nworkers={n}", f"--local-directory={folder}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interruption from the keyboard is this process's alone
            )

    def check(self) -> None:
        """Raise if the workers have ended by themselves."""
        code = self._process.poll()
        if code is not None:
            raise ClusterError(f"the worker processes have ended (exit code {code}){_last_error(self._log)}", "cluster")

    def end(self) -> None:
        """End all of it at once: whatever is still being done is of no use. Doing so twice does no harm."""
        if self._ended:
            return
        self._ended = True
        _kill(self._process)
        close(self.client)
        with suppress(*LOST):
            self._cluster.close(timeout=GRACE)


def _last_error(log: Path) -> str:
    """Return the last error that workers have logged, to be put at the end of a message; empty if there is none."""
    lines = log.read_text(errors="replace").splitlines()
    found = next((line for line in reversed(lines) if _ERROR.search(line)), None)
    return "" if found is None else f": {' '.join(found.split())[:160]}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the leader of a group of processes and all others of it, and wait until they have ended."""
    import psutil  # distributed needs it

    group = []
    for each in psutil.process_iter():
        with suppress(OSError):  # it has ended meanwhile
            if os.getpgid(each.pid) == process.pid:
                group.append(each)
    with suppress(ProcessLookupError):  # a leader that has ended may leave others, or not
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for(group)


def _wait_for(processes: Sequence[Any]) -> None:
    """Wait until processes have ended, so that their files are free."""
    import psutil

    until = time.monotonic() + GRACE
    left = list(processes)
    while left and time.monotonic() < until:
        left = [p for p in left if p.is_running() and _status(p) != psutil.STATUS_ZOMBIE]
        time.sleep(0.01)


def _status(process: Any) -> str:
    import psutil

    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


@contextmanager
def _local_workers(n: int) -> Iterator[_Local]:
    """Give workers of this machine; they start while the run is prepared."""
    with quiet(), scratch_folder(Path(tempfile.gettempdir()), "local-workers") as folder:
        folder.chmod(0o700)
        local = _Local(n, folder)
        try:
            yield local
        finally:
            local.end()
