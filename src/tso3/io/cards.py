"""
The cards of a FITS header, read strictly: what is no valid card is repaired or left out, and named.

A header that has been through several hands may hold cards that no standard knows. Copied blindly they would make
our product invalid as well (and make readers raise in odd places), so a header is looked through once, when it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["BLOCK", "CARD", "Cards", "check_cards", "fit_comment", "parse_value"]

CARD = 80
"""Bytes of one card."""

BLOCK = 2880
"""Bytes of one FITS block."""

_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8} *$")
_STRING = r"'(?:[^']|'')*'"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?"
_VALUE = re.compile(rf" *(?:({_STRING})|([TF])|({_NUMBER})|(\( *{_NUMBER} *, *{_NUMBER} *\)))? *(?:/.*)?$")
_CONTINUE = re.compile(rf" *(?:{_STRING})? *(?:/.*)?$")
_HIERARCH = re.compile(rf" [A-Z0-9_ .-]+=(?:{_VALUE.pattern})")
_AXIS = re.compile(r"(?:CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CROTA|CRDER|CSYER|CNAME)(\d{1,2})$")
_AXES = re.compile(r"(?:PC|CD)(\d{1,2})_(\d{1,2})$")

Value = str | bool | int | float | complex | None


@dataclass(frozen=True)
class Cards:
    """
    The cards of one header, without END.

    Attributes
    ----------
    text : str
        Valid cards of 80 characters each, one after the other, ready for ``astropy.io.fits.Header.fromstring``.
    repairs : tuple of str
        What was changed or left out, one sentence each; empty for a sound header.
    """

    text: str
    repairs: tuple[str, ...] = field(default=())


def parse_value(text: str) -> Value:
    """
    Return the value of a value field (everything after ``= ``).

    Parameters
    ----------
    text : str
        Columns 11 to 80 of a card.

    Returns
    -------
    value : str, bool, int, float, complex or None
        None for an undefined value (blank field).

    Raises
    ------
    ValueError
        If the field does not follow the FITS standard 4.0, section 4.2.

    Examples
    --------
    >>> from tso3.io.cards import parse_value
    >>> parse_value("                  32 / bits"), parse_value("'it''s   '"), parse_value("   T")
    (32, "it's", True)
    """
    match = _VALUE.match(text)
    if match is None:
        raise ValueError(f"{text.strip()!r} is no FITS value")
    string, logical, number, pair = match.groups()
    if string is not None:
        return string[1:-1].replace("''", "'").rstrip()
    if logical is not None:
        return logical == "T"
    if number is not None:
        return int(number) if number.lstrip("+-").isdigit() else float(number.replace("D", "E"))
    if pair is not None:
        real, imaginary = (float(part.replace("D", "E")) for part in pair.strip("()").split(","))
        return complex(real, imaginary)
    return None


def fit_comment(value: object, comment: str) -> str:
    """
    Return as much of a comment as its card has room for.

    A string that does not fit one card is continued on further ones, where there is room for all of it.

    Parameters
    ----------
    value : str, bool, int or float
        Value of the card.
    comment : str
        Its comment.

    Returns
    -------
    fitting : str
        The beginning of the comment.

    Examples
    --------
    >>> from tso3.io.cards import fit_comment
    >>> fit_comment("jw01366003001_04101_00001-seg001_nrs1_o003_crfints.fits", "Name of the file")
    'Name of th'
    """
    width = max(len(value.replace("'", "''")), 8) + 2 if isinstance(value, str) else 20
    return comment if width > CARD - 10 else comment[: max(CARD - 10 - max(width, 20) - 3, 0)]


def check_cards(raw: bytes) -> Cards:
    """
    Return the valid cards of a header, with a sentence for each one that had to be repaired or left out.

    Parameters
    ----------
    raw : bytes
        Header up to, not including, the END card; a multiple of 80 bytes.

    Returns
    -------
    cards : Cards
        Characters that are not printable ASCII become ``?`` in values and comments; a card whose keyword or value
        does not follow the standard is left out; WCSAXES is raised to the highest axis that any card names
        (as wcslib reads such a header).

    Examples
    --------
    >>> from tso3.io.cards import check_cards
    >>> good, bad = b"NINTS   =                    4".ljust(80), b"exposure=   'open".ljust(80)
    >>> check_cards(good + bad).repairs
    ("card 2 ('exposure=   'open') is not valid FITS and is left out",)
    """
    kept: list[str] = []
    repairs: list[str] = []
    continued = False
    for number in range(len(raw) // CARD):
        card, change = _repair(raw[number * CARD : (number + 1) * CARD], continued)
        if change is not None:
            repairs.append(f"card {number + 1} {change}")
        continued = card is not None and (card[:8] == "CONTINUE" or card[8:10] == "= ") and "&'" in card
        if card is not None:
            kept.append(card)
    axes = _raise_wcsaxes(kept)
    if axes is not None:
        repairs.append(axes)
    return Cards("".join(kept), tuple(repairs))


def _repair(raw: bytes, continued: bool) -> tuple[str | None, str | None]:
    """Return the card (None: leave it out) and what was done to it (None: nothing)."""
    card, change = raw.decode("latin-1"), None
    if not (card.isascii() and card.isprintable()):
        change = f"{_shown(card)} holds characters that are not ASCII; they are replaced by '?'"
        card = "".join(c if " " <= c <= "~" else "?" for c in card)
    if _valid(card, continued):
        return card, change
    return None, f"{_shown(raw.decode('latin-1'))} is not valid FITS and is left out"


def _shown(card: str) -> str:
    """Return the beginning of a card, for a message."""
    text = repr(card.rstrip()).replace('"', "'")
    return f"({text if len(text) < 40 else text[:36] + '...' + text[-1]})"


def _valid(card: str, continued: bool) -> bool:
    """Whether a card of printable characters is one that the standard knows."""
    keyword = card[:8]
    if keyword in ("        ", "COMMENT ", "HISTORY "):
        return True
    if keyword == "CONTINUE":
        return continued and _CONTINUE.match(card[8:]) is not None
    if keyword == "HIERARCH":
        return _HIERARCH.match(card[8:]) is not None
    return card[8:10] == "= " and _KEYWORD.match(keyword) is not None and _VALUE.match(card[10:]) is not None


def _raise_wcsaxes(cards: list[str]) -> str | None:
    """Set WCSAXES, in place, to the highest axis that a card names; return what was done."""
    position, declared, highest, first = -1, 0, 0, ""
    for i, card in enumerate(cards):
        keyword = card[:8].rstrip()
        if keyword == "WCSAXES":
            value = parse_value(card[10:])
            position, declared = i, value if isinstance(value, int) else 0
        match = _AXIS.match(keyword) or _AXES.match(keyword)
        if match is not None:
            axis = max(int(group) for group in match.groups())
            if axis > highest:
                highest, first = axis, keyword
    if position < 0 or declared <= 0 or highest <= declared:
        return None
    cards[position] = f"WCSAXES = {highest:>20d}{cards[position][30:]}"
    return f"WCSAXES = {declared} is raised to {highest}, because {first} is given"
