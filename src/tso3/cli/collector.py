"""The collector of unreachable objects: it has nothing to do while modules are imported, and looks again and again."""

from __future__ import annotations

import gc

__all__ = ["collect_as_ever", "collect_seldom"]

_SELDOM = 1_000_000
"""New objects until the collector looks at them; the imports of a run make some hundred thousand."""

_usual: list[tuple[int, int, int]] = []


def collect_seldom() -> None:
    """
    Let the collector of this process sleep while modules are imported.

    It looks at every object after each 700 new ones, and modules are objects that stay: a sixth of the time of a short
    run. Only the command's own process calls this.

    Examples
    --------
    >>> import gc
    >>> from tso3.cli.collector import collect_as_ever, collect_seldom
    >>> before = gc.get_threshold()
    >>> collect_seldom()
    >>> collect_as_ever()
    >>> gc.get_threshold() == before
    True
    >>> gc.unfreeze()
    """
    _usual.append(gc.get_threshold())
    gc.set_threshold(_SELDOM, *_usual[-1][1:])


def collect_as_ever() -> None:
    """Let the collector work as before `collect_seldom`, on objects that are made from now on; nothing before it."""
    if _usual:
        gc.freeze()
        gc.set_threshold(*_usual.pop())
