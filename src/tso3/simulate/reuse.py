"""
What visits share that differ in their seed alone: layers of light, headers, reference files, times.

Nothing is kept unless `reused_parts` is entered, as a programme does that simulates one scene many times; the files are
the same either way, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["Same", "reused", "reused_parts"]

_Part = TypeVar("_Part")
_KEPT: ContextVar[dict[Hashable, Any] | None] = ContextVar("tso3_simulate_kept", default=None)


class Same:
    """
    An object as a key: equal to itself alone, and alive as long as the key.

    Parameters
    ----------
    item : object
        Any; need not be hashable.

    Examples
    --------
    >>> from tso3.simulate.reuse import Same
    >>> record = {"name": "NRS1"}
    >>> Same(record) == Same(record), Same(record) == Same(dict(record))
    (True, False)
    """

    def __init__(self, item: object) -> None:
        self._item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._item is other._item

    def __hash__(self) -> int:
        return id(self._item)


@contextmanager
def reused_parts() -> Iterator[None]:
    """
    Keep, in this thread, what no random number touches, until the block is left.

    Examples
    --------
    >>> from tso3.simulate.reuse import reused, reused_parts
    >>> with reused_parts():
    ...     first, second = (reused("list", 3, lambda: [1, 2, 3]) for _ in range(2))
    >>> first is second, reused("list", 3, lambda: [1, 2, 3]) is first
    (True, False)
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def reused(kind: str, key: Hashable, make: Callable[[], _Part]) -> _Part:
    """
    Return a part, the one that was made before if parts are kept.

    Parameters
    ----------
    kind : str
        What it is.
    key : hashable
        All that it depends on.
    make : callable
        Makes it.

    Returns
    -------
    part : object
        Not to be modified.
    """
    kept = _KEPT.get()
    if kept is None:
        return make()
    if (kind, key) not in kept:
        kept[kind, key] = make()
    found: _Part = kept[kind, key]
    return found
