"""
Imports that cost a person no time: libraries without what the command has no use for, and others while threads work.

Only the command's own process is told so, never a user's.
"""

from __future__ import annotations

import importlib
import threading
from contextlib import suppress
from typing import Any

from tso3.cli.collector import collect_as_ever
from tso3.progress import Progress

__all__ = ["ImportsAhead", "import_lean"]

_NEEDED_AT_THE_END = ("astropy.table", "astropy.io.misc.yaml", "rich.console", "rich.table")


class ImportsAhead:
    """
    A display in whose first stage the modules are imported that the end of a run needs: 0.25 s that nobody waits for.

    Parameters
    ----------
    progress : Progress
        The display.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.advance, self.finish, self.message = progress.advance, progress.finish, progress.message
        self._ahead: threading.Thread | None = None

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""
        if self._ahead is None:
            self._ahead = threading.Thread(target=_import_ahead, name="tso3-imports")
            self._ahead.start()
        self._progress.start(stage, total)


def _import_ahead() -> None:
    for name in _NEEDED_AT_THE_END:
        importlib.import_module(name)
    collect_as_ever()


_LOADS_ALONE = ("0.68.",)
"""Versions of numba that are known to load compiled kernels without what compiling needs."""


def import_lean() -> None:
    """Import numba, and prepare the import of astropy's tables, without the packages that neither needs here."""
    _numba_without_scipy()
    _kernels_without_compiler()
    _tables_without_asdf()


def _kernels_without_compiler() -> None:
    """
    Tell numba to load a kernel from its cache without everything that it can compile.

    Before it looks into its cache, numba registers the types and implementations of all functions that a kernel might
    call: 0.15 s of processor time, and nothing of it is used unless a kernel has to be compiled; then the compiler
    registers them itself. Loading needs numba's run time alone. Other versions of numba than those tried do as ever.
    """
    import numba
    from numba.core import caching
    from numba.core.runtime import rtsys

    if not numba.__version__.startswith(_LOADS_ALONE):
        return

    def load_overload(self: Any, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    caching.Cache.load_overload = load_overload


def _numba_without_scipy() -> None:
    """
    Import numba, with the functions that kernels may call, but not scipy's linear algebra.

    numba looks whether there is a BLAS, to choose between two ways of ``np.convolve``, by importing scipy.linalg: 0.2 s
    of processor time. No kernel here convolves, so it is told that there is none. ``np.dot`` and the like look again
    when they are compiled, and find it.
    """
    from numba.np import linalg

    asked = getattr(linalg, "ensure_blas", None)
    if asked is None:  # another version of numba, which asks in another way: it may find scipy
        return

    def no_blas() -> None:
        raise ImportError

    linalg.ensure_blas = no_blas
    try:
        import numba.np.arraymath  # noqa: F401  # asks when it is imported
    finally:
        linalg.ensure_blas = asked


def _tables_without_asdf() -> None:
    """Tell astropy that its tables will not be written as ASDF; it would import asdf, 0.2 s of processor time."""
    with suppress(ImportError):  # another version of astropy, which may import asdf
        from astropy.utils.compat import optional_deps

        optional_deps.HAS_ASDF_ASTROPY = False
