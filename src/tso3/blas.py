"""
One thread for products of matrices, so that a number does not depend on how many processors a machine has.

A library for linear algebra that shares a sum among threads adds in another order, and its last digits change with the
number of threads: a run in one process and one on a cluster, whose workers have one thread for it, would not give the
same products. The matrices are small here, and threads of our own have the processors.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["one_blas_thread", "start_with_one_blas_thread"]

_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
"""Read by the libraries when they are loaded; that of OpenMP by an OpenBLAS that is built with it."""

_started_with_one: list[bool] = []


def start_with_one_blas_thread() -> None:
    """Tell the libraries before any is loaded: for a process of our own. Does nothing once numpy is there."""
    if "numpy" not in sys.modules:
        os.environ.update(dict.fromkeys(_VARIABLES, "1"))
        _started_with_one.append(True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Run a block with one thread in every library for linear algebra, loaded already or in the block.

    Several threads may be in such blocks at once; the limit is that of the process. An OpenBLAS that is built with
    OpenMP has a limit for each thread: where it is loaded already, set ``OMP_NUM_THREADS=1`` (the command does).

    Yields
    ------
    None
        As many threads as before are used again afterwards.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.blas import one_blas_thread
    >>> with one_blas_thread():
    ...     float(np.ones(3) @ np.ones(3))
    3.0
    """
    if _started_with_one:
        yield
        return
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


class _Limit:
    """The limit of this process: the first block that needs it sets it, the last one takes it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._undo = ExitStack()

    def enter(self) -> None:
        """Count a block in."""
        with self._lock:
            if self._n_inside == 0:
                with ExitStack() as undo:  # nothing is left of it if it is interrupted
                    before = {name: os.environ.get(name) for name in _VARIABLES}
                    undo.callback(_restore, before)
                    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
                    undo.enter_context(_kept(before))
                    self._undo = undo.pop_all()
            self._n_inside += 1

    def leave(self) -> None:
        """Count a block out."""
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._undo.close()


@contextmanager
def _kept(before: Mapping[str, str | None]) -> Iterator[None]:
    """
    Keep the libraries at one thread, from a thread of its own.

    Only the thread that has set the limit of OpenBLAS may take it back (threadpoolctl 3.8), and those that enter and
    leave blocks need not be the same.
    """
    done = threading.Event()
    is_set: Future[None] = Future()
    keeper = threading.Thread(target=_keep, args=(is_set, done, before), name="tso3-blas", daemon=True)
    keeper.start()
    try:
        is_set.result()
        yield
    finally:
        done.set()
        keeper.join()


def _keep(is_set: Future[None], done: threading.Event, before: Mapping[str, str | None]) -> None:
    """Set the limit, say so, wait, and take it back; libraries that were loaded meanwhile get what they would have."""
    from threadpoolctl import ThreadpoolController, threadpool_limits

    try:
        with ExitStack() as stack:
            stack.enter_context(threadpool_limits(1, user_api="blas"))
            known = {each["filepath"]: each["num_threads"] for each in _libraries()}
            if any(number != 1 for number in known.values()):  # another thread has the say: take it from it
                _take_over()
                stack.enter_context(threadpool_limits(1, user_api="blas"))
            is_set.set_result(None)
            done.wait()
        for library in ThreadpoolController().lib_controllers:
            if library.user_api == "blas" and library.filepath not in known:
                library.set_num_threads(_usual(before))
    except BaseException as error:
        if not is_set.done():
            is_set.set_exception(error)
            return
        raise


def _libraries() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    return [each for each in threadpool_info() if each["user_api"] == "blas"]


def _take_over() -> None:
    """Let this thread set the limit of OpenBLAS, though another one that lives has set it before (a user's block)."""
    import threadpoolctl

    clear = getattr(getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)


def _usual(before: Mapping[str, str | None]) -> int:
    """Return how many threads a library takes where nobody says anything else."""
    from tso3.engine import available_workers

    given = before["OPENBLAS_NUM_THREADS"] or before["OMP_NUM_THREADS"]
    return int(given) if given and given.isdigit() and int(given) > 0 else available_workers()


_LIMIT = _Limit()


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
