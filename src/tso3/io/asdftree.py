"""
Edits in the ASDF extension of a product, in its text: what is not edited stays byte for byte as it was.

The extension holds one ASDF file: a YAML tree (metadata, gWCS, links to the FITS planes) and binary blocks. Reading it
into objects and writing it again would need every package that ever contributed a type, and would rewrite what we have
no business with. Here the YAML is only parsed for the *positions* of its nodes; a handful of scalars is replaced or
added in the text, and the offsets in the block index are moved along.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tso3.errors import InputError

__all__ = ["ExtraCard", "edit_tree", "join_tree", "split_tree", "tree_value"]

_END = re.compile(rb"^\.\.\.\r?$", re.MULTILINE)
_INDEX = b"#ASDF BLOCK INDEX"
_BLOCK = b"\xd3BLK"

Edit = tuple[int, int, str]


@dataclass(frozen=True)
class ExtraCard:
    """
    A PRIMARY card of ours, as the data models keep cards that no schema knows.

    Attributes
    ----------
    keyword, comment : str
        Of the card.
    value : str, bool, int, float or None
        Of the card.
    """

    keyword: str
    value: str | bool | int | float | None
    comment: str


def tree_value(content: bytes, path: Sequence[str]) -> str | None:
    r"""
    Return the text of a scalar in the tree, None if there is none at that path.

    Parameters
    ----------
    content : bytes
        The ASDF file as it is embedded.
    path : sequence of str
        Keys from the root on.

    Returns
    -------
    text : str or None
        As it is written, without its quotes.

    Raises
    ------
    InputError
        If it is no ASDF file or its tree is damaged.

    Examples
    --------
    >>> from tso3.io.asdftree import tree_value
    >>> tree_value(b"#ASDF 1.0.0\n---\nmeta: {filename: a.fits}\n...\n", ("meta", "filename"))
    'a.fits'
    """
    import yaml

    node = _compose(_split(content)[0])
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((v for k, v in node.value if k.value == key), None)
    return node.value if isinstance(node, yaml.ScalarNode) else None


def edit_tree(content: bytes, values: Mapping[tuple[str, ...], Any], extra: Sequence[ExtraCard] = ()) -> bytes:
    r"""
    Return an ASDF file with some values of its tree set.

    Parameters
    ----------
    content : bytes
        The ASDF file as it is embedded. Not modified.
    values : mapping of path to value
        Path as a tuple of keys; value a string, number, bool, None, or plain lists and dictionaries of these. What is
        at the path is replaced; a missing path is created.
    extra : sequence of ExtraCard, optional
        PRIMARY cards of ours; one of the same keyword is replaced.

    Returns
    -------
    edited : bytes
        Equal to ``content`` but for these values and the block index.

    Raises
    ------
    InputError
        If it is no ASDF file or its tree is damaged (the caller adds the file's name).

    Examples
    --------
    >>> from tso3.io.asdftree import edit_tree
    >>> text = b"#ASDF 1.0.0\n---\nmeta:\n  filename: a.fits\n...\n"
    >>> print(edit_tree(text, {("meta", "filename"): "b.fits", ("meta", "cal_step"): {"x": "DONE"}}).decode())
    #ASDF 1.0.0
    ---
    meta:
      cal_step: {"x": "DONE"}
      filename: "b.fits"
    ...
    <BLANKLINE>
    """
    head, tail = _split(content)
    root = _compose(head)
    edits = [edit for path, value in _merged(values, root).items() for edit in _set(root, path, value)]
    edits += _set_extra(root, extra)
    text = head
    for start, end, new in sorted(edits, key=lambda e: (e[0], e[1]), reverse=True):
        text = text[:start] + new + text[end:]
    raw = text.encode("utf-8")
    return raw + _move_index(tail, len(raw) - len(head.encode("utf-8")))


def split_tree(content: bytes) -> tuple[str, Any, bytes]:
    """
    Return an ASDF file in parts that `join_tree` joins.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    head : str
        The comments before the tree.
    root : yaml.MappingNode
        The tree.
    tail : bytes
        What follows the tree, from its end mark on.

    Raises
    ------
    InputError
        If it is no ASDF file or its tree is damaged.
    """
    text, tail = _split(content)
    return text[: text.index("%YAML")], _compose(text), tail


def join_tree(head: str, root: Any, tail: bytes, more: Mapping[str, Any], dumper: type[Any]) -> bytes:
    r"""
    Return an ASDF file with further values at the end of its tree.

    Parameters
    ----------
    head, root, tail : str, yaml.MappingNode, bytes
        As of `split_tree`; the root may have been changed, it is changed here.
    more : mapping
        Further values of the root, in their order.
    dumper : type
        YAML's dumper, which knows the types in ``more``.

    Returns
    -------
    content : bytes
        The file, its block index moved along.

    Examples
    --------
    >>> import yaml
    >>> from tso3.io.asdftree import join_tree, split_tree
    >>> text = b"#ASDF 1.0.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\na: 1\n...\n"
    >>> head, root, tail = split_tree(text)
    >>> join_tree(head, root, tail, {"b": [2, 3]}, yaml.SafeDumper).splitlines()[3:]
    [b'--- !core/asdf-1.1.0', b'a: 1', b'b: [2, 3]', b'...']
    """
    stream = io.BytesIO()
    tags = {"!": "tag:stsci.edu:asdf/"}
    writer = dumper(
        stream,
        default_flow_style=None,
        explicit_start=True,
        version=(1, 1),
        allow_unicode=True,
        encoding="utf-8",
        tags=tags,
    )
    writer.open()
    root.value += [(writer.represent_data(key), writer.represent_data(value)) for key, value in more.items()]
    writer.serialize(root)
    writer.close()
    raw = head.encode("utf-8") + stream.getvalue().removesuffix(b"...\n")
    start = tail.find(_BLOCK)
    moved = 0 if start < 0 else len(raw) + start - _first_block(tail)
    return raw + _move_index(tail, moved)


def _split(content: bytes) -> tuple[str, bytes]:
    """Return the YAML text, and what follows from its end mark on."""
    end = _END.search(content)
    if not content.startswith(b"#ASDF") or end is None:
        raise InputError("the ASDF extension holds no ASDF tree; file damaged?")
    try:
        return content[: end.start()].decode("utf-8"), content[end.start() :]
    except UnicodeDecodeError:
        raise InputError("the tree in the ASDF extension is not UTF-8; file damaged?") from None


def _compose(text: str) -> Any:
    """Return the root node of the YAML text, with positions."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"the tree in the ASDF extension is no YAML ({reason}); file damaged?") from None
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise InputError("the tree in the ASDF extension is empty; file damaged?")
    return node


def _child(node: Any, key: str) -> Any:
    """Return the value of a key of a mapping node, None if there is none."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return None
    return next((v for k, v in node.value if k.value == key), None)


def _merged(values: Mapping[tuple[str, ...], Any], root: Any) -> dict[tuple[str, ...], Any]:
    """Join values whose parent has to be created, so that each missing parent is created once."""
    merged: dict[tuple[str, ...], Any] = {}
    for path, value in values.items():
        node, depth = root, 0
        while depth < len(path) and (child := _child(node, path[depth])) is not None:
            node, depth = child, depth + 1
        top = path[: depth + 1]
        if len(top) == len(path):
            merged[path] = value
            continue
        tree = merged.setdefault(top, {})
        for key in path[depth + 1 : -1]:
            tree = tree.setdefault(key, {})
        tree[path[-1]] = value
    return merged


def _set(root: Any, path: tuple[str, ...], value: Any) -> list[Edit]:
    """Return the edit that sets a path whose parent exists."""
    parent = root
    for key in path[:-1]:
        parent = _child(parent, key)
    present = _child(parent, path[-1])
    if present is not None:
        return [(present.start_mark.index, present.end_mark.index, _replacement(present, value))]
    entry = f"{json.dumps(path[-1]) if not path[-1].isidentifier() else path[-1]}: {_yaml(value)}"
    if not hasattr(parent, "flow_style") or not isinstance(parent.value, list):
        raise InputError(f"the tree in the ASDF extension has a value where {path[-2]} should be; file damaged?")
    if parent.flow_style:
        at = parent.start_mark.index
        return [_insert_flow(parent, entry, at)]
    first = parent.value[0][0].start_mark
    return [(first.index, first.index, f"{entry}\n{' ' * first.column}")]


def _insert_flow(node: Any, entry: str, at: int) -> Edit:
    """Return the edit that puts an entry first in a flow mapping or sequence."""
    # the mark of a tagged or anchored node may lie before its bracket; its first child lies after it
    if node.value:
        first = node.value[0][0] if isinstance(node.value[0], tuple) else node.value[0]
        return (first.start_mark.index, first.start_mark.index, f"{entry}, ")
    return (node.end_mark.index - 1, node.end_mark.index - 1, entry)


def _replacement(node: Any, value: Any) -> str:
    """Return the text of a value; a block collection ends at the start of the next line, which must stay there."""
    text = _yaml(value)
    block = not getattr(node, "flow_style", True) and isinstance(node.value, list)
    return f"{text}\n{' ' * node.end_mark.column}" if block else text


def _set_extra(root: Any, extra: Sequence[ExtraCard]) -> list[Edit]:
    """Return the edits that put cards into ``extra_fits.PRIMARY.header``."""
    import yaml

    cards = {card.keyword: [card.keyword, card.value, card.comment] for card in extra}
    if not cards:
        return []
    header = _child(_child(_child(root, "extra_fits"), "PRIMARY"), "header")
    if header is None or not isinstance(header, yaml.SequenceNode):
        path = ("extra_fits", "PRIMARY", "header")
        merged = _merged({path: list(cards.values())}, root)
        return [edit for at, value in merged.items() for edit in _set(root, at, value)]
    edits: list[Edit] = []
    for item in header.value:
        known = isinstance(item, yaml.SequenceNode) and item.value and cards.pop(item.value[0].value, None)
        if known:
            edits.append((item.start_mark.index, item.end_mark.index, _replacement(item, known)))
    if not cards:
        return edits
    if header.flow_style or not header.value:
        entries = ", ".join(_yaml(card) for card in cards.values())
        return [*edits, _insert_flow(header, entries, header.start_mark.index)]
    first = header.value[0].start_mark
    indent = " " * (first.column - 2)
    text = "".join(f"{_yaml(card)}\n{indent}- " for card in cards.values())
    return [*edits, (first.index, first.index, text)]


def _yaml(value: Any) -> str:
    """
    Return a plain value as YAML on one line (which JSON is, but for numbers that are not finite).

    Parameters
    ----------
    value : str, bool, int, float, None, mapping or list
        Of plain values throughout.

    Returns
    -------
    text : str
        YAML in flow style.

    Examples
    --------
    >>> print(_yaml({"a": [1, float("inf"), None, "x"]}))
    {"a": [1, .inf, null, "x"]}
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_yaml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(entry) for entry in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    return json.dumps(value, ensure_ascii=False)


def _first_block(tail: bytes) -> int:
    """Return the first offset in the block index."""
    found = re.search(rb"(?m)^- (\d+)", tail[max(tail.rfind(_INDEX), 0) :])
    return int(found.group(1)) if found is not None else 0


def _move_index(tail: bytes, shift: int) -> bytes:
    """Return the blocks with the offsets of the block index moved."""
    at = tail.rfind(_INDEX)
    if at < 0:
        return tail
    moved = re.sub(rb"(?m)^- (\d+)", lambda m: b"- %d" % (int(m.group(1)) + shift), tail[at:])
    return tail[:at] + moved
