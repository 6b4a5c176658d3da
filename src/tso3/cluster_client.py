"""The connection to the scheduler of a Dask cluster: whether there is one, and whether its workers fit this process."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tso3.cluster_worker import differences, facts, processor_warning
from tso3.errors import ClusterError, Tso3Warning

__all__ = ["GRACE", "LOST", "close", "connected", "quiet", "workers_of"]

LOST = (OSError, RuntimeError, asyncio.CancelledError)
"""What a connection raises that is no more."""

GRACE = 5.0
"""Seconds for which the end of a connection, and of workers of this machine, is waited for."""

_PATIENCE = 10.0
"""Seconds for which a scheduler, one worker of it, and an answer of every worker are waited for."""

_IMPORTS = 120.0
"""Seconds for which is waited until a worker that answers has imported tso3, over a slow network too."""

_LOGGERS = ("distributed", "tornado", "asyncio")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what distributed and its libraries tell of lost connections from the display: errors tell what matters."""
    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LOGGERS]
    loggers = [logging.getLogger(name) for name in {*_LOGGERS, *known}]  # some have a level of their own
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """
    Give a client of a scheduler that has workers with the versions of this process.

    Parameters
    ----------
    address : str
        Of the scheduler.

    Yields
    ------
    client : distributed.Client
        Closed when the block ends.

    Raises
    ------
    ClusterError
        If nothing answers there, or something else than a scheduler; if there is no worker, or one that does not
        answer or differs.
    """
    with quiet():
        _probe(address)
        client = _client(address)
        try:
            try:
                client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError as error:
                raise ClusterError(f"has no worker; start some with dask worker {address}", address) from error
            except LOST as error:
                raise ClusterError(f"the connection to the scheduler was lost ({_brief(error)})", address) from error
            _check_workers(client, address)
            yield client
        finally:
            close(client)


def close(client: Any) -> None:
    """Close a client, whatever has become of its scheduler."""
    with suppress(*LOST):
        client.close(timeout=GRACE)
    client.status = "closed"  # or its destructor would try once more, for longer, and tell it in a traceback


def workers_of(client: Any, patience: float = _PATIENCE) -> list[str]:
    """
    Return the addresses of the workers that a scheduler has.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    patience : float, optional
        Seconds for which is waited.

    Returns
    -------
    workers : list of str
        Their addresses.

    Raises
    ------
    OSError
        A TimeoutError if the scheduler does not answer.
    """

    async def ask() -> list[str]:
        return list(await client.nthreads())

    workers: list[str] = client.sync(ask, callback_timeout=patience)
    return workers


def _probe(address: str) -> None:
    """Raise if no scheduler answers: a client would wait for ever for one that is something else."""
    import dask.config
    from distributed.comm.addressing import parse_address
    from distributed.comm.core import CommClosedError

    if parse_address(address)[0] == "inproc" or dask.config.get("distributed.client.security-loader", None):
        return  # a scheduler of this process; keys that only the client can load
    _check_address(address)
    kind: list[str] = []
    failure: list[Exception] = []

    def look() -> None:
        try:
            kind.append(asyncio.run(_kind_of_server(address)))
        except Exception as error:  # noqa: BLE001 - no finite list: what answers may be anything, such as a web
            # server whose first eight bytes are taken for a length of 3 EiB (MemoryError); all of it is told below
            failure.append(error)

    thread = threading.Thread(target=look, name="tso3-probe", daemon=True)
    thread.start()
    thread.join(_PATIENCE + GRACE)
    if kind and kind[0].endswith("Scheduler"):
        return
    if kind:
        raise ClusterError(f"a {kind[0]} of Dask answers here; give the address that the scheduler tells", address)
    error = failure[0] if failure else TimeoutError("no answer")
    if isinstance(error, OSError) and not isinstance(error, (TimeoutError, CommClosedError)):
        raise ClusterError(
            f"no scheduler can be reached here ({_brief(error)}); start one with dask scheduler", address
        ) from error
    raise ClusterError(
        f"something answers here, but not as a Dask scheduler does ({_brief(error)}; its dashboard, another program,"
        " or a scheduler that hangs?); give the address that the scheduler tells",
        address,
    ) from error


def _check_address(address: str) -> None:
    """Raise if an address cannot be one."""
    from distributed.comm import registry
    from distributed.comm.addressing import get_address_host_port, parse_address
    from distributed.security import Security

    try:
        scheme, _ = parse_address(address)
        registry.get_backend(scheme)
        get_address_host_port(address)
        keys = Security().get_connection_args("client")
        if scheme in ("tls", "wss") and keys["ssl_context"] is None:
            raise ValueError("no TLS keys are configured")
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ClusterError(
            f"no scheduler can be reached here ({_brief(error)}); give an address such as tcp://host:8786", address
        ) from error


async def _kind_of_server(address: str) -> str:
    """Return what says of itself to be at an address: ``"Scheduler"``."""
    from distributed.comm import connect
    from distributed.core import send_recv
    from distributed.security import Security

    async def ask() -> Any:
        comm = await connect(address, timeout=_PATIENCE, **Security().get_connection_args("client"))
        try:
            return await send_recv(comm, op="identity")
        finally:
            comm.abort()

    # connecting has a deadline of its own, which is an OSError; this later one is for what then says nothing
    answer = await asyncio.wait_for(ask(), _PATIENCE + 0.2 * GRACE)
    return str(answer.get("type")) if isinstance(answer, dict) else type(answer).__name__


def _client(address: str) -> Any:
    """Return a client; one that does not come about is closed at once, not by its destructor."""
    from distributed import Client

    client: Any = Client.__new__(Client)
    try:
        client.__init__(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        close(client)
        raise ClusterError(
            f"no scheduler can be reached here ({_brief(error)}); start one with dask scheduler", address
        ) from error
    return client


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _check_workers(client: Any, address: str) -> None:
    """Raise if a worker does not answer, lacks tso3 or has other versions; warn of other processors."""
    for function, patience in ((os.getpid, _PATIENCE), (facts, _IMPORTS)):
        answers = _answers(client, function, patience, address)
        silent = [worker for worker, answer in answers.items() if isinstance(answer, OSError)]
        if silent:
            names = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if silent[3:] else "")
            raise ClusterError(f"no answer from the worker {names} in {patience:g} s; end it or start it anew", address)
    here = facts()
    for worker, there in answers.items():
        if not isinstance(there, dict):
            raise ClusterError(
                f"the worker {worker} cannot use tso3 ({_brief(there)}); install the same version there", address
            )
        odd = differences(here, there)
        if odd:
            raise ClusterError(f"the worker {worker} has {odd}; install the same versions there", address)
    for text in {processor_warning(here, there): None for there in answers.values()}:
        if text:
            warnings.warn(text, Tso3Warning, stacklevel=2)


def _answers(client: Any, function: Callable[[], Any], patience: float, address: str) -> dict[str, Any]:
    """Return what every worker answers, or the exception instead; `OSError` of those that are there but silent."""

    async def ask() -> dict[str, Any]:
        tasks = {
            worker: asyncio.ensure_future(client.run(function, workers=[worker], on_error="return"))
            for worker in await client.nthreads()
        }
        if tasks:
            await asyncio.wait(tasks.values(), timeout=patience)
        still = await client.nthreads()
        answers: dict[str, Any] = {}
        for worker, task in tasks.items():
            answer = task.result().get(worker) if task.done() else TimeoutError()
            task.cancel()
            if worker in still or not isinstance(answer, OSError):
                answers[worker] = answer
        return answers

    try:
        answers: dict[str, Any] = client.sync(ask, callback_timeout=patience + _PATIENCE)
    except LOST as error:
        raise ClusterError(f"the scheduler does not answer any more ({_brief(error)})", address) from error
    return answers
