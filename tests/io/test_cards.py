from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given
from hypothesis import strategies as st

from tso3.errors import InputError
from tso3.io.cards import check_cards, parse_value
from tso3.io.fitsfile import padded, scan_hdus
from tso3.io.fitstable import read_table


def card(text):
    return text.encode("latin-1").ljust(80)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("                   T / yes", True),
        ("F", False),
        ("-12", -12),
        ("1.5E-3", 1.5e-3),
        ("2.D5 / d", 2e5),
        ("''", ""),
        ("'a''b / c  ' / d", "a'b / c"),
        ("(1.0, -2)", 1 - 2j),
        ("   / undefined", None),
        ("", None),
    ],
)
def test_values_of_the_standard(text, value):
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["'open", "nan", "1.2.3", "5 five", "TRUE", "(1,)", "'a' b"])
def test_values_that_are_none(text):
    with pytest.raises(ValueError, match="is no FITS value"):
        parse_value(text)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.one_of(st.integers(), FLOATS, st.booleans(), TEXT))
@example("'/")
def test_what_astropy_writes_is_read_back(value):
    image = fits.Card("KEY", value).image
    if len(image) == 80:
        written = value.rstrip() if isinstance(value, str) else fits.Card.fromstring(image).value
        assert parse_value(image[10:]) == written  # astropy itself misreads a quote before a slash
        assert check_cards(image.encode()).repairs == ()


def test_bad_cards_are_dropped_and_named_good_ones_kept():
    good = [
        "A       =                    1 / one",
        "",
        "COMMENT anything 'goes",
        "HISTORY = this",
        "HIERARCH ESO DET X = 5 / c",
        "LONG    = 'begin&'",
        "CONTINUE  'end' / c",
    ]
    bad = [
        "a       =                    1",
        "B       = 'open",
        "C       =1",
        "CONTINUE  'stray'",
        "HIERARCH none",
        "FLAGGED  without a value",
    ]
    cards = check_cards(b"".join(card(text) for text in [*good, *bad]))
    assert cards.text == "".join(text.ljust(80) for text in good)
    assert len(cards.repairs) == len(bad)
    assert "card 8 ('a       =" in cards.repairs[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = fits.Header.fromstring(cards.text)
        assert header["LONG"] == "beginend"
        assert header.tostring(padding=False, endcard=False) == cards.text


def test_characters_that_are_not_ascii_become_question_marks():
    cards = check_cards(card("TARGPROP= 'HAT-P-\xb5\x00' / \xe9toile"))
    assert cards.text.rstrip() == "TARGPROP= 'HAT-P-??' / ?toile"
    assert "not ASCII" in cards.repairs[0]


def test_wcsaxes_is_raised_to_the_axes_given():
    raw = card("WCSAXES =                    2 / n") + card("CRPIX3  =                  1.0") + card("PC4_1   = 0.0")
    cards = check_cards(raw)
    assert cards.text[:80].rstrip() == "WCSAXES =                    4 / n"
    assert cards.repairs == ("WCSAXES = 2 is raised to 4, because PC4_1 is given",)
    assert check_cards(card("CRPIX3  =                  1.0")).repairs == ()


def test_offsets_are_those_of_astropy(segments):
    with fits.open(segments[0]) as hdus:
        for ours, theirs in zip(scan_hdus(segments[0]), hdus, strict=True):
            info = theirs.fileinfo()
            assert (ours.header_offset, ours.data_offset) == (info["hdrLoc"], info["datLoc"])
            assert padded(ours.data_size) == info["datSpan"]
            assert (ours.name, ours.version) == (theirs.name, theirs.ver)
            assert ours.header.tostring() == theirs.header.tostring()


def test_columns_of_every_width(tmp_path):
    path = tmp_path / "t.fits"
    rows = np.zeros(3, [("a", "S5"), ("j", "i4"), ("x", "f4", (2,)), ("b", "?"), ("k", "i8"), ("d", "f8")])
    rows["j"], rows["d"], rows["k"] = [1, 2, 3], [0.5, np.nan, 2], [7, 8, 9]
    fits.BinTableHDU(rows, name="T").writeto(path)
    values = read_table(scan_hdus(path)[1], path, ("J", "d", "k", "x", "none"))
    assert sorted(values) == ["J", "d", "k"]
    np.testing.assert_array_equal(values["d"], rows["d"])
    np.testing.assert_array_equal(values["J"], rows["j"])


def test_fill_after_the_last_unit_is_no_unit(segments):
    n = len(scan_hdus(segments[0]))
    with open(segments[0], "ab") as handle:
        handle.write(b"\0" * 6000)
    assert len(scan_hdus(segments[0])) == n
    with open(segments[1], "ab") as handle:
        handle.write(b"junk" * 720)
    with pytest.raises(InputError, match="no FITS extension begins there"):
        scan_hdus(segments[1])
