"""The end of the process: what Python would take down object by object is given back to the system at once."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

__all__ = ["leave"]


def leave(code: int) -> NoReturn:
    """
    End this process: threads are waited for, what was registered for the end is run, what was printed is flushed.

    An ordinary end does the same and then deletes every object of every module, which takes some tenths of a second
    after a run and leaves nothing behind that the system would not remove by itself.

    Parameters
    ----------
    code : int
        Exit code; 1 instead of 0 if what was printed cannot be delivered.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)
