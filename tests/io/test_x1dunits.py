"""Units of the product of spectra."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.io import x1dunits

TABLE = np.array([(1, "a"), (2, "bc")], dtype=[("number", "i4"), ("name", "U2")])


def failing(monkeypatch, times, text):
    """Let the first calls raise what Python 3.11 raises where two threads parse at once."""
    made, left = x1dunits._table_unit, [times]

    def unit(name, array):
        left[0] -= 1
        if left[0] >= 0:
            raise SystemError(text)
        return made(name, array)

    monkeypatch.setattr(x1dunits, "_table_unit", unit)


def test_threads_that_parse_at_once_are_no_error(monkeypatch):
    expected = x1dunits.small_table("T", TABLE)
    failing(monkeypatch, 2, "AST constructor recursion depth mismatch (before=48, after=192)")
    assert x1dunits.small_table("T", TABLE) == expected


@pytest.mark.parametrize(("times", "text"), [(9, "recursion depth mismatch"), (1, "something else")])
def test_other_errors_are_raised(times, text, monkeypatch):
    failing(monkeypatch, times, text)
    with pytest.raises(SystemError, match=text):
        x1dunits.small_table("T", TABLE)
