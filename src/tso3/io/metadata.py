"""
Metadata of a product made from many files: one header by the schema's blend rules, and one table row per file.

The archive declares for each piece of metadata how the values of several files become one (`tso3.io.schemas`): the
first, the common one or ``MULTIPLE``, the smallest, the largest, the mean, the sum. The rules are applied here to the
PRIMARY headers of all segments. One departure: durations are counted once per exposure, not once per file
(``docs/differences.md``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import OutputError, Tso3Warning
from tso3.io.schemas import Item, Value, read_items

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["Blended", "Member", "Provenance", "ReferenceUse", "blend", "cards_of", "read_values"]

_SCHEMA = "tso_multispec"

_EXPOSURE = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
"""Keywords that tell exposures apart; the detectors of one exposure share them."""

_NO_STEP = {"adaptive_trace_model": "SKIPPED", "pixel_replace": "SKIPPED"}
"""Steps that the archive's stage 3 names in its product even when they are skipped."""


@dataclass(frozen=True)
class Member:
    """
    One input file, as far as blending goes.

    Attributes
    ----------
    filename : str
        Name of the file, without its folder.
    primary : astropy.io.fits.Header
        Its PRIMARY header.
    """

    filename: str
    primary: fits.Header


@dataclass(frozen=True)
class ReferenceUse:
    """
    One reference that a run used.

    Attributes
    ----------
    name : str
        What the product records as its name: a path, ``crds://...`` or ``built-in``.
    source : str
        ``"user"``, ``"crds"`` or ``"built-in"``.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Provenance:
    """
    How the product was made: recorded in PRIMARY cards, in ``meta.ref_file`` and in the ASDF subtree ``tso3``.

    Attributes
    ----------
    version : str
        Version of tso3.
    preset : str
        Name of the preset that the parameters began with.
    parameters : mapping
        All parameter values, by step.
    references : mapping of str to ReferenceUse
        By reference type (``"extract1d"``, ``"apcorr"``, ...).
    times : str or None
        Name of the user's file of times; None if the times are those of the inputs.
    """

    version: str
    preset: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, ReferenceUse] = field(default_factory=dict)
    times: str | None = None

    def cards(self) -> list[tuple[str, Value, str]]:
        """Return the PRIMARY cards, as (keyword, value, comment)."""
        cards: list[tuple[str, Value, str]] = [
            ("TSO3VER", self.version, "Version of tso3, which made this product"),
            ("TSO3PSET", self.preset, "Preset of parameters"),
        ]
        if self.times is not None:
            cards.append(("TSO3TIME", _ascii(self.times), "File that the times are from"))
        return cards

    def tree(self) -> dict[str, Any]:
        """Return the ASDF subtree: plain dictionaries, lists, strings and numbers."""
        return ({} if self.times is None else {"times": self.times}) | {
            "version": self.version,
            "preset": self.preset,
            "parameters": {step: dict(values) for step, values in self.parameters.items()},
            "references": {
                kind: {"name": use.name, "source": use.source} for kind, use in sorted(self.references.items())
            },
        }


@dataclass(frozen=True)
class Blended:
    """
    Metadata of a product.

    Attributes
    ----------
    values : dict
        Path in the tree (``"meta.exposure.nints"``) to value, in the schema's order.
    hdrtab : ndarray, structured, shape (n_files,)
        One row per file: the columns that the schema asks for and at least one file has. Strings are ``U``.
    """

    values: dict[str, Value]
    hdrtab: NDArray[np.void]

    def tree(self) -> dict[str, Any]:
        """Return the values as nested dictionaries, ``meta`` outermost."""
        nested: dict[str, Any] = {}
        for path, value in self.values.items():
            *groups, leaf = path.split(".")
            node = nested
            for group in groups:
                node = node.setdefault(group, {})
            node[leaf] = value
        return nested

    def header(self, extra: Sequence[tuple[str, Value, str]] = ()) -> fits.Header:
        """
        Return the PRIMARY header, with the archive's headings and comments.

        Parameters
        ----------
        extra : sequence of (keyword, value, comment), optional
            Cards at the end, under a heading of their own.
        """
        from astropy.io import fits

        header = fits.Header([("SIMPLE", True, "conforms to FITS standard"), ("BITPIX", 8, "array data type")])
        header.append(("NAXIS", 0, "number of array dimensions"))
        header.append(("EXTEND", True))
        for card in cards_of(self.values, "PRIMARY"):
            header.append(card, end=True)
        if extra:
            for card in [*_heading("tso3 information"), *extra]:
                header.append(card, end=True)
        return header


def _heading(title: str) -> list[tuple[str, Value, str]]:
    """Return the three cards of a heading."""
    return [("", "", ""), ("", title, ""), ("", "", "")]


def cards_of(values: Mapping[str, Value], hdu: str) -> list[tuple[str, Value, str]]:
    """
    Return the cards of one unit of the file, in the schema's order and with its headings.

    Parameters
    ----------
    values : mapping
        Path in the tree to value; paths that the schema gives no keyword in this unit are passed over.
    hdu : str
        ``"PRIMARY"`` or the EXTNAME.

    Returns
    -------
    cards : list of (keyword, value, comment)
        Headings are cards with an empty keyword.

    Examples
    --------
    >>> from tso3.io.metadata import cards_of
    >>> cards_of({"spec.spectral_order": 2, "spec.name": "S1600A1"}, "EXTRACT1D")
    [('SLTNAME', 'S1600A1', 'Slit name'), ('SPORDER', 2, 'Spectral order number')]
    """
    cards: list[tuple[str, Value, str]] = []
    shown: set[str] = set()
    for item in read_items(_SCHEMA):
        if item.hdu != hdu or item.path not in values:
            continue
        for path, title in item.headings:
            if path not in shown:
                shown.add(path)
                cards += _heading(title)
        cards.append((item.keyword, values[item.path], _fitting(values[item.path], item.comment)))
    return cards


def _fitting(value: Value, comment: str) -> str:
    """Return as much of a comment as its card has room for; a value that needs more than one card has room for all."""
    width = max(len(value.replace("'", "''")), 8) + 2 if isinstance(value, str) else 20
    room = max(0, 80 - len("KEYWORD = ") - max(width, 20) - len(" / "))
    return comment if width > 70 else comment[:room]


def read_values(header: fits.Header, filename: str, hdu: str = "PRIMARY") -> dict[str, Value]:
    """
    Return the metadata that a header holds, by path in the tree.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header of a file of the archive.
    filename : str
        Its file, for the warnings.
    hdu : str, optional
        EXTNAME of the unit.

    Returns
    -------
    values : dict
        Only what the header gives a value that the schema admits.

    Warns
    -----
    Tso3Warning
        For a value that the schema does not admit: it is left out, as ``stdatamodels`` does when it opens the file.

    Examples
    --------
    >>> from astropy.io import fits
    >>> from tso3.io.metadata import read_values
    >>> read_values(fits.Header({"NINTS": 4, "FILTER": "F290LP", "MYKEY": 1}), "a.fits")
    {'meta.instrument.filter': 'F290LP', 'meta.exposure.nints': 4}
    """
    values: dict[str, Value] = {}
    for item in read_items(_SCHEMA):
        if item.hdu != hdu or item.keyword not in header:
            continue
        value = header[item.keyword]
        if not isinstance(value, str | bool | int | float):
            continue  # a card without a value
        if item.admits(value):
            values[item.path] = value
        else:
            text = f"{filename}: {item.keyword} = {value!r} is not what the archive's schema admits; left out"
            warnings.warn(text, Tso3Warning, stacklevel=2)
    return values


def blend(
    members: Sequence[Member],
    *,
    filename: str,
    date: str,
    steps: Mapping[str, str],
    references: Mapping[str, ReferenceUse],
    association: tuple[str | None, str | None] = (None, None),
    extra: Mapping[str, Value] | None = None,
) -> Blended:
    """
    Return the metadata of an x1dints product.

    Parameters
    ----------
    members : sequence of Member
        Input files in the order of the association; at least one.
    filename : str
        Name of the product, without its folder.
    date : str
        UTC date of its making, ISO 8601.
    steps : mapping of str to str
        Status by step, for example ``{"outlier_detection": "COMPLETE", "extract_1d": "COMPLETE"}``; those that the
        archive's pipeline has and this one does not are SKIPPED.
    references : mapping of str to ReferenceUse
        By reference type.
    association : tuple of (str or None, str or None), optional
        Name of the pool and of the association table.
    extra : mapping, optional
        Further values by path in the tree, which replace those of the files.

    Returns
    -------
    blended : Blended
        Equal to what jwst 3.0.0 writes, but for dates, names, versions and the durations, which are counted once
        per exposure.

    Raises
    ------
    tso3.errors.OutputError
        If the installed schemas have a blend rule that is not known here.
    """
    items = [item for item in read_items(_SCHEMA) if item.hdu == "PRIMARY"]
    common = _common_values(items, date, steps, references, association) | dict(extra or {})
    rows = [{**read_values(m.primary, m.filename), **common, "meta.filename": _ascii(m.filename)} for m in members]
    exposures = [_exposure_of(m.primary) for m in members]
    values: dict[str, Value] = {}
    for item in items:
        given = [(i, row[item.path]) for i, row in enumerate(rows) if item.path in row]
        if item.rule == "sum" and given:
            values[item.path] = _once_per_exposure([(exposures[i], float(value)) for i, value in given])
        elif item.rule not in (None, "first") and given:
            values[item.path] = _rule(item)([value for _, value in given])
        elif item.path in rows[0]:
            values[item.path] = rows[0][item.path]
        if item.path == "meta.filename":
            values[item.path] = _ascii(filename)
    keyed = {item.path for item in items}
    values |= {path: value for path, value in (extra or {}).items() if path not in keyed}  # in the tree alone
    return Blended(values, _table(items, rows))


def _common_values(
    items: Sequence[Item],
    date: str,
    steps: Mapping[str, str],
    references: Mapping[str, ReferenceUse],
    association: tuple[str | None, str | None],
) -> dict[str, Value]:
    """Return what this run adds to the metadata of every file."""
    common: dict[str, Value] = {"meta.date": date, "meta.model_type": "TSOMultiSpecModel"}
    for name, value in zip(("pool_name", "table_name"), association, strict=True):
        if value is not None:
            common[f"meta.asn.{name}"] = _ascii(value)
    common |= {f"meta.cal_step.{step}": status for step, status in {**_NO_STEP, **steps}.items()}
    common |= {f"meta.ref_file.{kind}.name": _ascii(use.name) for kind, use in references.items()}
    known = {item.path for item in items}
    return {path: value for path, value in common.items() if path in known}


def _ascii(text: str) -> str:
    """Return a text as FITS can hold it."""
    return text.encode("ascii", "replace").decode("ascii")


def _exposure_of(header: fits.Header) -> tuple[tuple[Any, ...], Any]:
    """Return what tells the exposure of a file, and its detector."""
    return tuple(header.get(keyword) for keyword in _EXPOSURE), header.get("DETECTOR")


def _once_per_exposure(given: Sequence[tuple[tuple[Any, Any], float]]) -> float:
    """
    Return the sum of a duration over exposures.

    The segments of an exposure repeat its duration, so equal values count once; unequal ones are taken for the
    durations of the segments and added. Detectors observe at the same time: the longest counts.
    """
    durations: dict[Any, dict[Any, list[float]]] = {}
    for (exposure, detector), value in given:
        durations.setdefault(exposure, {}).setdefault(detector, []).append(value)
    total = 0.0
    for detectors in durations.values():
        total += max(v[0] if len(set(v)) == 1 else float(np.sum(v)) for v in detectors.values())
    return total


def _multi(values: Sequence[Any]) -> Any:
    """Return the common value, or MULTIPLE."""
    return values[0] if all(value == values[0] for value in values) else "MULTIPLE"


def _wheel(values: Sequence[Any]) -> Any:
    """Return the state of a wheel that must be good in all files."""
    bad, good = "outside calibration tolerance", "within commanded tolerance"
    return bad if bad in values else good


_RULES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "multi": _multi,
    "mean": lambda values: float(np.mean(values)),
    "wheeltol": _wheel,
} | {
    f"{end}{kind}": (min if end == "min" else max)
    for end in ("min", "max")
    for kind in ("", "date", "time", "datetime")
}
"""What a blend rule makes of the values of several files; ``sum`` needs to know the exposures."""


def _rule(item: Item) -> Callable[[Sequence[Any]], Any]:
    """Return the function of an item's blend rule."""
    try:
        return _RULES[item.rule or ""]
    except KeyError:
        raise OutputError(
            f"the installed stdatamodels blends {item.keyword} by a rule {item.rule!r} that tso3 does not know;"
            " update tso3"
        ) from None


def _table(items: Sequence[Item], rows: Sequence[Mapping[str, Value]]) -> NDArray[np.void]:
    """Return HDRTAB: a column for each item that the schema asks for and some file has, NaN where one has not."""
    columns: dict[str, NDArray[Any]] = {}
    for item in items:
        if item.in_table and any(item.path in row for row in rows):
            columns[item.keyword] = np.array([row.get(item.path, np.nan) for row in rows])
    table = np.empty(len(rows), dtype=[(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table
