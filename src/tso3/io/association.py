"""What the user gave - associations, files, a pattern, a folder - as lists of files and a product name."""

from __future__ import annotations

import glob
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tso3.errors import InputError, Tso3Warning

__all__ = ["Association", "Given", "expand_inputs", "read_association", "resolve_inputs"]

_WILDCARDS = "*?["


@dataclass(frozen=True)
class Association:
    """
    The files of one observation and how its products are named.

    Attributes
    ----------
    paths : tuple of Path
        Science members, in the order given.
    product_name : str or None
        Name of the level-3 product; None if there is no association (it is then derived from the files).
    asn_id : str or None
        Identifier of the association, e.g. ``o003`` or ``a3001``, which becomes part of the names of ``crfints``.
    asn_pool, asn_table : str or None
        Name of its pool, and its own file name: ASNPOOL and ASNTABLE of the products.
    """

    paths: tuple[Path, ...]
    product_name: str | None = None
    asn_id: str | None = None
    asn_pool: str | None = None
    asn_table: str | None = None


@dataclass(frozen=True)
class Given:
    """
    What inputs stand for: associations, or else files.

    Attributes
    ----------
    associations : tuple of Path
        Each is an observation. None has been looked into, but for those of folders and patterns, which are of type
        ``tso3`` or cannot be read.
    files : tuple of Path
        Together they are one observation; empty if there are associations.
    """

    associations: tuple[Path, ...]
    files: tuple[Path, ...]


def expand_inputs(inputs: str | Path | Sequence[str | Path]) -> Given:
    """
    Return the associations or the files that inputs stand for.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        Associations (``.json``), or FITS files; patterns (``data/*_asn.json``, ``data/*_calints.fits``) and folders
        stand for many. A folder is its ``*_asn.json`` of type ``tso3``; only if it has none, its ``*_calints.fits``,
        else its ``*_crfints.fits``, else its ``*_x1dints.fits``. What is given twice counts once.

    Returns
    -------
    given : Given
        Associations or files, in the order given.

    Raises
    ------
    InputError
        If nothing is given, a pattern or folder holds nothing that could be reduced, an association does not exist,
        or associations are mixed with files.

    Warns
    -----
    tso3.errors.Tso3Warning
        If a folder or pattern has associations of another type, which are left out.

    Examples
    --------
    >>> from tso3.io.association import expand_inputs
    >>> expand_inputs("data/no_such_*.fits")
    Traceback (most recent call last):
        ...
    tso3.errors.InputError: data/no_such_*.fits: no file matches this pattern
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if not given:
        raise InputError("no input given; give associations (.json), calints files, a pattern or a folder")
    found = [path for item in given for path in _expand(item)]
    associations = _unique([path for path in found if _is_json(path)])
    files = _unique([path for path in found if not _is_json(path)])
    if associations and files:
        raise InputError(
            f"is an association and {files[0]} is none; give associations, each of them an observation, or the files of"
            " one observation",
            associations[0],
        )
    absent = [path for path in associations if not path.exists()]
    if absent:
        more = f"; nor is there {_some([str(path) for path in absent[1:]])}" if absent[1:] else ""
        raise InputError(f"no such file; check the name of the association{more}", absent[0])
    return Given(associations, files)


def resolve_inputs(inputs: str | Path | Sequence[str | Path]) -> Association:
    """
    Return the calints files of the one observation that inputs stand for.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        As `expand_inputs` takes them, with one association at most.

    Returns
    -------
    association : Association
        Without an association, ``product_name`` and the ``asn_*`` are None.

    Raises
    ------
    InputError
        As of `expand_inputs` and `read_association`, and if there are several associations.

    Examples
    --------
    >>> from tso3.io.association import resolve_inputs
    >>> resolve_inputs([])
    Traceback (most recent call last):
        ...
    tso3.errors.InputError: no input given; give associations (.json), calints files, a pattern or a folder
    """
    given = expand_inputs(inputs)
    if not given.associations:
        return Association(paths=given.files)
    if len(given.associations) > 1:
        raise InputError(
            f"is one of {len(given.associations)} associations, each of them an observation, and here one is reduced;"
            " tso3.run_many takes several",
            given.associations[0],
        )
    return read_association(given.associations[0])


def read_association(path: str | Path) -> Association:
    """
    Return the science members of a level-3 association of type ``tso3``.

    Members are looked for beside the association. Those of another ``exptype`` than ``science`` (target acquisition,
    in either of the archive's spellings, background, ...) are left out, with a line that names them; they need not
    exist.

    Parameters
    ----------
    path : path-like
        JSON file with one product.

    Returns
    -------
    association : Association
        All members exist.

    Raises
    ------
    InputError
        If it is no association of this type, has no product or several, or a member is missing.

    Warns
    -----
    tso3.errors.Tso3Warning
        If members are left out.
    """
    path = Path(path)
    table = _load_json(path)
    kind = table.get("asn_type")
    if kind != "tso3":
        raise InputError(f"is an association of type {kind!r}; type 'tso3' is needed", path)
    products = table.get("products")
    if not isinstance(products, list) or not products:
        raise InputError("the association has no products; list the members under products", path)
    if len(products) > 1:
        raise InputError(f"the association has {len(products)} products; give one association for each", path)
    product = products[0] if isinstance(products[0], dict) else {}
    name = product.get("name")
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise InputError("the product of the association has no name that could be a file name", path)
    members = _science_members(product.get("members"), path)
    return Association(
        paths=members,
        product_name=name.strip(),
        asn_id=_text(table, "asn_id", path),
        asn_pool=_text(table, "asn_pool", path),
        asn_table=path.name,
    )


def _science_members(members: object, path: Path) -> tuple[Path, ...]:
    """Return the files of exptype science, all of which exist."""
    if not isinstance(members, list) or not all(isinstance(m, dict) for m in members) or not members:
        raise InputError("the product of the association has no members", path)
    science: list[Path] = []
    others: list[str] = []
    for member in members:
        name, kind = member.get("expname"), str(member.get("exptype", "")).strip().lower()
        if not isinstance(name, str) or not name.strip():
            raise InputError("a member of the association has no expname", path)
        if kind == "science":
            science.append(path.parent / name.strip())
        else:
            others.append(f"{name.strip()} ({kind or 'without exptype'})")
    if others and science:
        warnings.warn(f"{path}: left out, for they are no science: {_some(others)}", Tso3Warning, stacklevel=4)
    if not science:
        raise InputError(f"none of the {len(members)} members of the association is of exptype 'science'", path)
    missing = [file.name for file in science if not file.exists()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(science)} members are missing: {_some(missing)}; put them beside the association",
            path,
        )
    twice = sorted({file.name for file in science if science.count(file) > 1})
    if twice:
        warnings.warn(
            f"{path}: lists members more than once; each counts once: {_some(twice)}", Tso3Warning, stacklevel=4
        )
    return _unique(science)


def _some(names: list[str]) -> str:
    """Return the first names, and how many there are besides."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _load_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file; check the name of the association", path) from None
    except PermissionError:
        raise InputError("no permission to read it; change its access rights (chmod u+r)", path) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"is no JSON, so no association ({reason})", path) from None
    if not isinstance(table, dict):
        raise InputError("is no association: its JSON holds no object", path)
    return table


def _text(table: dict[str, object], key: str, path: Path) -> str | None:
    """Return an entry that must be text fit for a file name, or absent."""
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or "/" in value or not value.strip().isprintable():
        raise InputError(f"{key} = {value!r} of the association cannot be used in a name", path)
    return value.strip() or None


def _expand(item: str | Path) -> list[Path]:
    """Return the files that one input stands for."""
    if "\0" in str(item):
        raise InputError(f"{str(item)!r} cannot be the name of a file")
    path = Path(item).expanduser()
    text = str(path)
    try:
        exists, folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", item) from None
    if folder:
        associations = sorted(path.glob("*_asn.json"))
        if found := _of_stage_3(associations, path):
            return found
        for suffix in ("calints", "crfints", "x1dints"):  # the earliest stage that is there
            if found := sorted(path.glob(f"*_{suffix}.fits")):
                return found
        raise InputError(
            "the folder holds no association of type 'tso3' and no *_calints.fits (nor _crfints or _x1dints);"
            " give the files",
            path,
        )
    if exists or not any(c in text for c in _WILDCARDS):
        return [path]
    matched = sorted(Path(name) for name in glob.glob(text))
    if not matched:
        raise InputError("no file matches this pattern", item)
    associations = [each for each in matched if _is_json(each)]
    kept = _of_stage_3(associations, item)
    found = [each for each in matched if each in kept or not _is_json(each)]
    if not found:
        raise InputError("no association that matches this pattern is of type 'tso3'", item)
    return found


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _of_stage_3(associations: Sequence[Path], where: str | Path) -> list[Path]:
    """Return associations of type tso3, and what cannot be read, which is told when its turn comes."""
    kept, others = [], []
    for path in associations:
        try:
            kind = _load_json(path).get("asn_type")
        except InputError:
            kind = "tso3"
        if kind == "tso3":
            kept.append(path)
        else:
            others.append(f"{path.name} ({kind or 'without asn_type'})")
    if others:
        warnings.warn(
            f"{where}: left out, for they are no associations of type 'tso3': {_some(others)}",
            Tso3Warning,
            stacklevel=5,
        )
    return kept


def _unique(paths: list[Path]) -> tuple[Path, ...]:
    """Return the paths without repetitions (same file after resolving links), in order."""
    first: dict[str, Path] = {}
    for path in paths:
        first.setdefault(os.path.realpath(path), path)
    return tuple(first.values())
