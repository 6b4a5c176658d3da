"""Parameters that may be numbers, words or lists: what is taken, and how it is kept as text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

__all__ = ["grid_as_text", "integration_ranges", "listed_numbers", "ranges_as_text"]


def integration_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """
    Return ranges of integrations.

    Parameters
    ----------
    text : str
        Ranges ``FIRST:LAST`` as INT_NUM counts them from 1, both included, with commas between them.

    Returns
    -------
    ranges : tuple of (int, int)
        At least one.

    Raises
    ------
    ValueError
        If the text has another form, or a range ends before it begins.

    Examples
    --------
    >>> from tso3.parameter_values import integration_ranges
    >>> integration_ranges("1:60, 180:200")
    ((1, 60), (180, 200))
    """
    found = []
    for part in text.split(","):
        first, colon, last = (piece.strip() for piece in part.partition(":"))
        if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise ValueError("must be ends, all, or ranges of integrations such as 1:60,180:200")
        found.append((int(first), int(last)))
    return tuple(found)


def ranges_as_text(value: Any) -> Any:
    """Take ranges as a list of pairs too; return them as text."""
    if isinstance(value, list | tuple):
        try:
            value = ",".join(f"{int(first)}:{int(last)}" for first, last in value)
        except (TypeError, ValueError) as error:
            raise ValueError("must be ends, all, or pairs of integrations such as [[1, 60], [180, 200]]") from error
    if isinstance(value, str) and value not in ("ends", "all"):
        return ",".join(f"{first}:{last}" for first, last in integration_ranges(value))
    return value


def listed_numbers(text: str) -> tuple[float, ...]:
    """
    Return the numbers of a list.

    Parameters
    ----------
    text : str
        Numbers with commas between them.

    Returns
    -------
    numbers : tuple of float
        At least two, rising.

    Raises
    ------
    ValueError
        If it is something else.

    Examples
    --------
    >>> from tso3.parameter_values import listed_numbers
    >>> listed_numbers("2.9, 3.1,3.4")
    (2.9, 3.1, 3.4)
    """
    numbers = tuple(float(part) for part in text.split(","))
    if len(numbers) < 2 or not all(0.0 < a < b < float("inf") for a, b in pairwise(numbers)):
        raise ValueError("edges must be positive and rise")
    return numbers


def grid_as_text(value: Any) -> Any:
    """Take a step as a number or text; check what the text says."""
    wrong = "must be auto, mean, native, a step in micron, R=100 or edges such as 2.9,3.1,3.4"
    if isinstance(value, list | tuple):
        value = ",".join(str(edge) for edge in value)
    if isinstance(value, str) and value not in ("auto", "mean", "native"):
        try:
            if value.startswith("R="):
                number = float(value[2:])
            elif "," in value:
                return ",".join(str(edge) for edge in listed_numbers(value))
            else:
                number = value = float(value)
        except ValueError:
            raise ValueError(wrong) from None
        if not 0.0 < number < float("inf"):
            raise ValueError(wrong)
    elif isinstance(value, int | float) and not (not isinstance(value, bool) and 0.0 < value < float("inf")):
        raise ValueError(wrong)
    return float(value) if isinstance(value, int | float) else value
