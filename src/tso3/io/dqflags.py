"""
The archive's data-quality bits, read from the installed ``stdatamodels`` without importing it.

The table is declared there and nowhere else; importing the package for it would cost every run more than a second.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

__all__ = ["pixel_flags"]


@lru_cache
def pixel_flags() -> Mapping[str, int]:
    """
    Return the value of every pixel flag by name.

    Returns
    -------
    flags : mapping of str to int
        ``stdatamodels.jwst.datamodels.dqflags.pixel``.

    Raises
    ------
    ModuleNotFoundError
        If ``stdatamodels`` is not installed, or no longer declares the flags as a table.

    Examples
    --------
    >>> from tso3.io.dqflags import pixel_flags
    >>> pixel_flags()["OUTLIER"]
    16
    """
    spec = find_spec("stdatamodels")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("stdatamodels is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / "jwst" / "datamodels" / "dqflags.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if names == ["pixel"] and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return MappingProxyType(_table(node.value))
    raise ModuleNotFoundError(f"{path} declares no table of pixel flags")


def _table(node: ast.Dict) -> dict[str, int]:
    return {str(ast.literal_eval(key)): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}


def _value(node: ast.expr) -> int:
    """Return a number, or a power written as ``2**n``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return int(_value(node.left) ** _value(node.right))
    return int(ast.literal_eval(node))
