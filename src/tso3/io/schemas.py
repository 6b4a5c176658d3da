"""
The data-model schemas of the archive, read from the installed ``stdatamodels`` without importing it.

A schema says which FITS keyword a piece of metadata has, in which unit of the file, under which heading, and how the
values of several files are blended into one. That is declared in the YAML files of the ``stdatamodels`` package and
nowhere else; here the few files that matter are read (0.1 s, and then remembered; importing the package costs more than
a second).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.memory import code_digest, digest, remembered, versions

__all__ = ["Item", "read_items"]

Value = str | bool | int | float

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class Item:
    """
    One piece of metadata that has a FITS keyword.

    Attributes
    ----------
    path : str
        Place in the tree, for example ``"meta.exposure.nints"``; inside lists without the index, for example
        ``"spec.name"``.
    keyword : str
        FITS keyword.
    hdu : str
        EXTNAME of the unit that holds it; ``"PRIMARY"`` for the first.
    comment : str
        Comment of the card.
    headings : tuple of (str, str)
        Path and title of the titled groups around it, outermost first.
    kind : str or None
        JSON type of the value; None for any.
    allowed : frozenset or None
        Values that the schema admits; None for all.
    rule : str or None
        How the values of several files become one; None: the first is taken.
    in_table : bool
        Whether HDRTAB has a column for it.
    """

    path: str
    keyword: str
    hdu: str
    comment: str
    headings: tuple[tuple[str, str], ...]
    kind: str | None
    allowed: frozenset[Value] | None
    rule: str | None
    in_table: bool

    def admits(self, value: object) -> bool:
        """
        Return whether the schema admits a value.

        Examples
        --------
        >>> from tso3.io.schemas import Item
        >>> item = Item("meta.exposure.nints", "NINTS", "PRIMARY", "", (), "integer", None, None, True)
        >>> item.admits(4), item.admits(4.0), item.admits(True)
        (True, False, False)
        """
        if self.kind in _KINDS:
            if isinstance(value, bool) and self.kind != "boolean":
                return False
            if not isinstance(value, _KINDS[self.kind]):
                return False
        return self.allowed is None or value in self.allowed


@lru_cache(maxsize=8)
def read_items(name: str) -> tuple[Item, ...]:
    """
    Return all metadata with a FITS keyword that a schema declares, in the order in which the archive writes it.

    Parameters
    ----------
    name : str
        Schema, for example ``"tso_multispec"``.

    Returns
    -------
    items : tuple of Item
        Declared in the schema and in those that it refers to.

    Raises
    ------
    FileNotFoundError
        If ``stdatamodels`` has no such schema.

    Examples
    --------
    >>> from tso3.io.schemas import read_items
    >>> next(item.rule for item in read_items("tso_multispec") if item.keyword == "DETECTOR")
    'multi'
    """

    def compute() -> dict[str, NDArray[Any]]:
        return {"items": np.frombuffer(_as_text(_declared(name)), np.uint8)}

    key = digest("schema", name, code_digest(_declared), str(_folder()), versions("stdatamodels"))
    return _from_text(remembered(key, compute)["items"].tobytes())


def _declared(name: str) -> tuple[Item, ...]:
    """Return the items of a schema from its files."""
    tree: dict[str, Any] = {}
    _merge(tree, _read(name))
    found: list[Item] = []
    _collect(tree, "", (), found)
    return tuple(found)


def _as_text(items: tuple[Item, ...]) -> bytes:
    """Return items as JSON."""
    values = [asdict(item) for item in items]
    for value in values:
        value["allowed"] = None if value["allowed"] is None else sorted(value["allowed"], key=repr)
    return json.dumps(values).encode()


def _from_text(text: bytes) -> tuple[Item, ...]:
    """Return items from JSON."""
    values = json.loads(text)
    for value in values:
        value["allowed"] = None if value["allowed"] is None else frozenset(value["allowed"])
        value["headings"] = tuple((path, title) for path, title in value["headings"])
    return tuple(Item(**value) for value in values)


def _folder() -> Path:
    """Return the folder of the schemas; finding the package runs only its empty outermost ``__init__``."""
    from importlib.util import find_spec

    spec = find_spec("stdatamodels")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package stdatamodels, which brings the schemas, is not installed")
    return Path(spec.origin).parent / "jwst" / "datamodels" / "schemas"


def _read(name: str) -> dict[str, Any]:
    """Return one schema file as it stands."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    path = _folder() / f"{name.removesuffix('.schema')}.schema.yaml"
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    return loaded


def _merge(tree: dict[str, Any], schema: dict[str, Any]) -> None:
    """Merge a schema into a tree: references are followed, the parts of allOf become one, a later word counts."""
    if "$ref" in schema:
        _merge(tree, _read(schema["$ref"]))
        return
    for key, value in schema.items():
        if key == "properties":
            children = tree.setdefault("properties", {})
            for child, sub in value.items():
                _merge(children.setdefault(child, {}), sub)
        elif key == "items" and isinstance(value, dict):
            _merge(tree.setdefault("items", {}), value)
        elif key == "allOf":
            for part in value:
                _merge(tree, part)
        else:
            tree[key] = value


def _collect(tree: dict[str, Any], path: str, headings: tuple[tuple[str, str], ...], found: list[Item]) -> None:
    """Append the items of a merged tree in its order."""
    if "fits_keyword" in tree and path:
        found.append(_item(tree, path, headings))
    if "properties" in tree:
        inside = (*headings, (path, tree["title"])) if path and "title" in tree else headings
        for child, sub in tree["properties"].items():
            _collect(sub, f"{path}.{child}" if path else child, inside, found)
    elif isinstance(tree.get("items"), dict):
        _collect(tree["items"], path, headings, found)


def _item(tree: dict[str, Any], path: str, headings: tuple[tuple[str, str], ...]) -> Item:
    """Return the item that a leaf of the tree declares."""
    choices = [tree] + [part for key in ("anyOf", "oneOf") for part in tree.get(key, [])]
    listed = [part["enum"] for part in choices if "enum" in part]
    kind = tree.get("type")
    words = tree.get("title") or tree.get("description") or ""
    return Item(
        path=path,
        keyword=tree["fits_keyword"],
        hdu=tree.get("fits_hdu") or "PRIMARY",
        comment=words.strip().partition("\n")[0],
        headings=headings,
        kind=kind if isinstance(kind, str) else None,
        allowed=frozenset(value for values in listed for value in values) if listed else None,
        rule=tree.get("blend_rule"),
        in_table=bool(tree.get("blend_table")),
    )
