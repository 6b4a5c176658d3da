"""What a reference file says of itself: whether it is of this telescope and instrument, and of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tso3.errors import ReferenceFileError
from tso3.io.opened import opened_asdf, opened_fits
from tso3.io.reference_files import read_json

__all__ = ["check_identity"]

_ANY = ("", "ANY", "N/A", "NONE")


def check_identity(path: str | Path, kind: str, instrument: str | None) -> None:
    """
    Raise an error if a reference file is of another telescope, instrument or kind.

    Parameters
    ----------
    path : path-like
        FITS (keywords TELESCOP, INSTRUME and REFTYPE), ASDF (``meta``) or JSON; one that says nothing is taken.
    kind : str
        Kind that it is given as, such as ``"apcorr"``.
    instrument : str or None
        INSTRUME of the exposures; None if they do not say.

    Raises
    ------
    ReferenceFileError
        If the file is another's, or cannot be read.
    """
    telescope, of, reftype = _said(Path(path), kind)
    if telescope not in (*_ANY, "JWST"):
        raise ReferenceFileError(f"is a reference of {telescope}, not of JWST; give another for {kind}", path)
    if reftype not in (*_ANY, kind.upper()):
        raise ReferenceFileError(f"is of kind {reftype.lower()} (REFTYPE), but is given as {kind}", path)
    if instrument is not None and of not in (*_ANY, instrument.strip().upper()):
        raise ReferenceFileError(
            f"is a reference of {of}, but the exposures are of {instrument.strip().upper()}; give another for {kind}",
            path,
        )


def _said(path: Path, kind: str) -> tuple[str, str, str]:
    """Return telescope, instrument and kind in upper case, empty where the file does not say."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        tree = read_json(path)
        tree = {str(key).lower(): value for key, value in tree.items()} if isinstance(tree, dict) else {}
        return _of_tree(tree)
    if suffix == ".asdf":
        with opened_asdf(path, f"{kind} reference") as content:
            meta = content.get("meta")
            return _of_tree(meta if isinstance(meta, dict) else {})
    with opened_fits(path, f"{kind} reference") as hdus:
        header = hdus[0].header
        return _text(header.get("TELESCOP")), _text(header.get("INSTRUME")), _text(header.get("REFTYPE"))


def _of_tree(tree: Mapping[str, Any]) -> tuple[str, str, str]:
    instrument = tree.get("instrument", tree.get("instrume"))
    instrument = instrument.get("name") if isinstance(instrument, Mapping) else instrument
    return _text(tree.get("telescope", tree.get("telescop"))), _text(instrument), _text(tree.get("reftype"))


def _text(value: Any) -> str:
    return value.strip().upper() if isinstance(value, str) else ""
