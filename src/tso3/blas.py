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
from contextlib import ExitStack, contextmanager

__all__ = ["one_blas_thread", "start_with_one_blas_thread"]

_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS")
"""Read by the libraries when they are loaded."""

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

    Several threads may be in such blocks at once; the limit is that of the process.

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
            self._n_inside += 1
            if self._n_inside == 1:
                from threadpoolctl import threadpool_limits

                before = {name: os.environ.get(name) for name in _VARIABLES}
                self._undo.callback(_restore, before)
                os.environ.update(dict.fromkeys(_VARIABLES, "1"))
                self._undo.enter_context(threadpool_limits(1, user_api="blas"))

    def leave(self) -> None:
        """Count a block out."""
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._undo.close()


_LIMIT = _Limit()


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
