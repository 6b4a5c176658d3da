"""What asdf has to load before it can read a gWCS, loaded once and without the detour that costs most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["load_plugins"]


@cache
def load_plugins() -> None:
    """
    Let asdf load its extensions; every later `asdf.open` finds them ready.

    asdf reads some fifty manifests of its extensions with YAML's loader in Python. The loader in C gives the same
    objects: 0.37 instead of 1.2 s of processor time for a calints file, of a run that takes 5 s in all.
    """
    import asdf

    with _loader_in_c():
        _ = asdf.get_config().extensions  # read for its effect: the manifests are parsed on first access


@contextmanager
def _loader_in_c() -> Iterator[None]:
    """Replace `yaml.safe_load` by its equal in C where PyYAML was built with it."""
    import yaml

    if not yaml.__with_libyaml__:
        yield
        return
    in_python = yaml.safe_load

    def in_c(stream: Any) -> Any:
        return yaml.load(stream, Loader=yaml.CSafeLoader)

    yaml.safe_load = in_c
    try:
        yield
    finally:
        yaml.safe_load = in_python
