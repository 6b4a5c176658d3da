"""
The tree of an ASDF file of plain values and arrays, kept from run to run.

Reference files hold dictionaries, lists, numbers, text and arrays. To read these asdf imports the plug-ins for all that
might be in a file, which takes longer than the rest of a short run; so the tree is kept (`tso3.io.memory`) under the
bytes of its file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.memory import Arrays, code_digest, digest, remembered, versions

__all__ = ["read_plain_tree"]

_ARRAY = "!array"
_TREE = "tree"


def read_plain_tree(path: str | Path) -> dict[str, Any]:
    """
    Return the tree of an ASDF file, its arrays in memory.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    tree : dict
        Of plain dictionaries, lists, numbers, text and arrays, the same in every run; as asdf gives it if there is
        more.

    Raises
    ------
    OSError, ValueError
        And whatever else asdf raises for a file that is damaged; nothing is kept then.
    """
    read: list[dict[str, Any]] = []

    def compute() -> Arrays:
        read.append(_read(path))
        arrays: list[NDArray[Any]] = []
        try:
            text = json.dumps(_packed(read[0], arrays))
        except (TypeError, RecursionError):  # something that is not plain: read anew every time
            return {}
        return {_TREE: np.array(text), **{str(k): array for k, array in enumerate(arrays)}}

    key = digest("asdf", Path(path).read_bytes(), versions("asdf", "numpy"), code_digest(read_plain_tree))
    kept = remembered(key, compute)
    if not kept:
        return read[0] if read else _read(path)
    return dict(_unpacked(json.loads(str(kept[_TREE])), kept))


def _read(path: str | Path) -> dict[str, Any]:
    import asdf
    import yaml
    from asdf.exceptions import AsdfWarning, ValidationError

    from tso3.io.asdfplugins import load_plugins

    load_plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AsdfWarning)  # what is not understood is not needed, or is missed later
        try:
            with asdf.open(path, lazy_load=False, memmap=False) as opened:
                return dict(opened.tree)
        except (yaml.YAMLError, ValidationError) as fault:
            raise ValueError(str(fault)) from fault


def _packed(node: Any, arrays: list[NDArray[Any]]) -> Any:
    """Return a node as JSON can hold it, arrays by their number; TypeError if it is not plain."""
    if isinstance(node, Mapping):
        if not all(isinstance(key, str) and key != _ARRAY for key in node):
            raise TypeError("a key that is no text")
        return {key: _packed(value, arrays) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_packed(value, arrays) for value in node]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    from asdf.tags.core import NDArrayType

    array = node[...] if isinstance(node, NDArrayType) else node
    if type(array) is not np.ndarray or array.dtype.kind not in "biufcSU":  # no units, no masks, no objects
        raise TypeError(f"{type(node).__name__} is not plain")
    arrays.append(array)
    return {_ARRAY: str(len(arrays) - 1)}


def _unpacked(node: Any, arrays: Arrays) -> Any:
    if isinstance(node, dict):
        if _ARRAY in node:
            return arrays[node[_ARRAY]]
        return {key: _unpacked(value, arrays) for key, value in node.items()}
    return [_unpacked(value, arrays) for value in node] if isinstance(node, list) else node
