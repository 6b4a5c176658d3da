"""
NetCDF files that are written in pieces: the classic format with 64-bit offsets, which every reader of NetCDF knows.

Libraries that write it keep each variable in memory until the end; here the layout comes first, then any part of any
variable. (The NetCDF classic format specification, Unidata: a header of dimensions, attributes and variables, then the
arrays one after the other, big-endian.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import OutputError

__all__ = ["NetcdfWriter", "Variable"]

_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_CHAR, _INT, _DOUBLE = 2, 4, 6
_KINDS = {"S1": _CHAR, "i4": _INT, "f8": _DOUBLE}
_LARGEST = 2**32 - 4
_PIECE = 4 * 2**20


@dataclass(frozen=True)
class Variable:
    """
    A variable of a file.

    Attributes
    ----------
    dimensions : tuple of str
        Their names.
    kind : {"f8", "i4", "S1"}
        Type of its numbers; ``S1`` for characters.
    attributes : dict
        Texts, numbers or lists of numbers by name.
    fill : float
        What is there before anything is written.
    """

    dimensions: tuple[str, ...]
    kind: str = "f8"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fill: float = 0.0


class NetcdfWriter:
    """
    A file whose variables are all laid out at the start, and filled in any order.

    Parameters
    ----------
    path : Path
        Written over. Wrap it in `tso3.io.atomic.atomic_path`.
    sizes : mapping of str to int
        Dimensions.
    variables : mapping of str to Variable
        By name.
    attributes : mapping of str to object
        Of the file.

    Raises
    ------
    OutputError
        If a variable is larger than 4 GiB, which the format cannot hold.
    """

    def __init__(
        self,
        path: Path,
        sizes: Mapping[str, int],
        variables: Mapping[str, Variable],
        attributes: Mapping[str, Any],
    ) -> None:
        self._path = path
        self._shapes = {name: tuple(sizes[d] for d in each.dimensions) for name, each in variables.items()}
        self._types = {name: np.dtype(each.kind).newbyteorder(">") for name, each in variables.items()}
        for name, shape in self._shapes.items():
            if int(np.prod(shape, dtype=np.int64)) * self._types[name].itemsize > _LARGEST:
                raise OutputError(f"{name} would have {shape} numbers, more than NetCDF can hold; ask for less", path)
        length = len(_header(sizes, variables, attributes, dict.fromkeys(variables, 0), self._sizes()))
        self._offsets: dict[str, int] = {}
        for name, size in self._sizes().items():
            self._offsets[name] = length
            length += size
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(0)
        self._file.write(_header(sizes, variables, attributes, self._offsets, self._sizes()))
        for name, each in variables.items():
            self._fill(name, each.fill)
        self._file.flush()

    def __enter__(self) -> NetcdfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, name: str, values: NDArray[Any], row: int = 0, column: int = 0) -> None:
        """
        Write a part of a variable.

        Parameters
        ----------
        name : str
            Of the variable.
        values : ndarray
            All of it, or of a variable of two dimensions the rows from ``row`` on and in these the columns from
            ``column`` on.
        row, column : int, optional
            Where the part begins.
        """
        data = np.ascontiguousarray(values, self._types[name])
        if data.ndim == 1 or (column == 0 and data.shape[1:] == self._shapes[name][1:]):
            self._write(self._at(name, row, 0), data.tobytes())
            return
        for k, line in enumerate(data):
            self._write(self._at(name, row + k, column), line.tobytes())

    def get(self, name: str, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part of a variable of two dimensions, in native byte order."""
        self._file.flush()
        whole = np.memmap(self._path, self._types[name], "r", self._offsets[name], self._shapes[name])
        return np.ascontiguousarray(whole[rows, columns], self._types[name].newbyteorder("="))

    def _sizes(self) -> dict[str, int]:
        """Return the bytes of each variable, padded to a multiple of four."""
        counts = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in self._shapes.items()}
        return {name: -(-count * self._types[name].itemsize // 4) * 4 for name, count in counts.items()}

    def _at(self, name: str, row: int, column: int) -> int:
        shape = self._shapes[name]
        width = shape[1] if len(shape) > 1 else 1
        return self._offsets[name] + (row * width + column) * self._types[name].itemsize

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[done:], offset + done

    def _fill(self, name: str, value: float) -> None:
        """Write the same number everywhere, a few at a time, so that a full disk is found here."""
        left = self._sizes()[name]
        kind = self._types[name]
        number = b"\0" if kind.kind == "S" else np.array(value, kind).tobytes()
        piece = number * (_PIECE // len(number))
        while left > 0:
            self._file.write(piece[: min(left, len(piece))])
            left -= len(piece)


def _header(
    sizes: Mapping[str, int],
    variables: Mapping[str, Variable],
    attributes: Mapping[str, Any],
    offsets: Mapping[str, int],
    lengths: Mapping[str, int],
) -> bytes:
    """Return the header; its length does not depend on the offsets."""
    names = list(sizes)
    dimensions = [_name(name) + struct.pack(">i", size) for name, size in sizes.items()]
    arrays = []
    for name, variable in variables.items():
        ids = [names.index(dimension) for dimension in variable.dimensions]
        head = _name(name) + struct.pack(f">{len(ids) + 1}i", len(ids), *ids)
        tail = struct.pack(">iIq", _KINDS[variable.kind], lengths[name], offsets[name])
        arrays.append(head + _attributes(variable.attributes) + tail)
    return b"".join(
        [
            b"CDF\x02" + struct.pack(">i", 0),
            _listed(_DIMENSION, dimensions),
            _attributes(attributes),
            _listed(_VARIABLE, arrays),
        ]
    )


def _attributes(attributes: Mapping[str, Any]) -> bytes:
    """Return a list of attributes: texts, whole numbers, or numbers."""
    parts = []
    for name, value in attributes.items():
        if isinstance(value, str):
            text = value.encode()
            parts.append(_name(name) + struct.pack(">ii", _CHAR, len(text)) + _padded(text))
            continue
        numbers = np.atleast_1d(value)
        kind = "i4" if numbers.dtype.kind in "iub" else "f8"
        data = numbers.astype(f">{kind}").tobytes()
        parts.append(_name(name) + struct.pack(">ii", _KINDS[kind], numbers.size) + _padded(data))
    return _listed(_ATTRIBUTE, parts)


def _listed(tag: int, parts: Sequence[bytes]) -> bytes:
    """Return a list of the header; an empty one is zeros."""
    return struct.pack(">ii", tag, len(parts)) + b"".join(parts) if parts else struct.pack(">ii", 0, 0)


def _name(name: str) -> bytes:
    text = name.encode()
    return struct.pack(">i", len(text)) + _padded(text)


def _padded(data: bytes) -> bytes:
    """Return bytes filled up with zeros to a multiple of four."""
    return data + b"\0" * (-len(data) % 4)
