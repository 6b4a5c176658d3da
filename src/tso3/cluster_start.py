"""How a crew of several processes comes together: workers of this machine, or of a cluster that is there already."""

from __future__ import annotations

import logging
import os
import shutil
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

from tso3.cluster import LOST, Cluster
from tso3.cluster_worker import facts
from tso3.crew import Crew, ThisProcess
from tso3.errors import ClusterError, ParameterError
from tso3.recipe import Limits

__all__ = ["assembled", "check_choice"]

_PATIENCE = 10.0
"""Seconds for which a scheduler, and one worker of it, is waited for."""

_GRACE = 5.0
"""Seconds for which the end of workers of this machine is waited for."""

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
        If both are given, or what is asked for is no number.

    Examples
    --------
    >>> from tso3.cluster_start import check_choice
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
        import psutil  # distributed needs it

        if not self._folder.exists():
            return
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self._process.pid).children(recursive=True)
            os.killpg(self._process.pid, signal.SIGKILL)
            _wait_for(started)
        self._process.wait()
        with suppress(*LOST):
            self.client.close(timeout=_GRACE)
            self._cluster.close(timeout=_GRACE)
        shutil.rmtree(self._folder, ignore_errors=True)


def _wait_for(processes: Sequence[Any]) -> None:
    """Wait until processes have ended, so that their files are free."""
    import psutil

    until = time.monotonic() + _GRACE
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
    with _quiet():
        local = _Local(n)
        try:
            yield local
        finally:
            local.end()
