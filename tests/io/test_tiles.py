"""Bad samples found and marked in planes as they are on disk, against the plain version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.io.segment import PLANES
from tso3.io.tiles import LeftOut, Place, mark_rows, ready_rows

SHAPE = (3, 4, 5)
TOP = np.uint32(2**31)
WHOLE = Place(0, SHAPE[1], 0)


def make(seed, names=PLANES):
    """Return big-endian planes, DQ with its offset, and the bits of DQ."""
    rng = np.random.default_rng(seed)
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    planes = {name: rng.choice(odd, SHAPE).astype(">f4") for name in names if name != "DQ"}
    bits = rng.choice(np.array([0, 1, 2, 4, 16, 2**31, 2**31 + 1], np.uint32), SHAPE)
    planes["DQ"] = (bits ^ TOP).view(np.int32).astype(">i4")
    return planes, bits


def stored_bits(planes):
    return planes["DQ"].astype(np.int32).view(np.uint32) ^ TOP


def plain_bad(planes, bits, bad_pixels):
    bad = (bits & 1 != 0) | bad_pixels
    for name in set(planes) - {"DQ"}:
        bad |= ~np.isfinite(planes[name])
    return bad


@pytest.mark.parametrize("names", [PLANES, ("SCI", "ERR", "DQ"), ("SCI", "ERR", "DQ", "VAR_RNOISE")], ids=len)
@given(seed=st.integers(0, 2**32 - 1))
def test_marks_and_copies_equal_the_plain_version(names, seed):
    planes, bits = make(seed, names)
    before = {name: plane.copy() for name, plane in planes.items()}
    rng = np.random.default_rng(seed)
    outlier, bad_pixels = rng.random(SHAPE) < 0.1, rng.random(SHAPE[1:]) < 0.1
    kept = {"data": np.empty(SHAPE, np.float32), "dq": np.empty(SHAPE, np.uint32), "mask": np.empty(SHAPE, bool)}
    mark_rows(planes, WHOLE, outlier, bad_pixels, kept, (0, SHAPE[1], 0), top_bit=True)
    bad = plain_bad(before, bits, bad_pixels)
    expected = bits.copy()
    expected[bad] |= 1
    expected[outlier] |= 17
    np.testing.assert_array_equal(stored_bits(planes), expected)
    np.testing.assert_array_equal(kept["dq"], expected)
    np.testing.assert_array_equal(kept["mask"], bad | outlier)
    for name in set(names) - {"DQ"}:
        np.testing.assert_array_equal(planes[name], np.where(bad | outlier, np.nan, before[name]))
    np.testing.assert_array_equal(kept["data"], planes["SCI"])
    again = {name: plane.tobytes() for name, plane in planes.items()}
    mark_rows(planes, WHOLE, None, None, {}, (0, 0, 0), top_bit=True)
    assert all(plane.tobytes() == again[name] for name, plane in planes.items())


@pytest.mark.parametrize("rule", [LeftOut(1, False), LeftOut(4, False), LeftOut(0, True)], ids=str)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_takes_part_equals_the_plain_version(rule, seed):
    planes, bits = make(seed)
    bad_pixels = np.random.default_rng(seed).random(SHAPE[1:]) < 0.1
    out = np.empty(SHAPE, np.float32), np.empty(SHAPE, np.float32), np.empty(SHAPE, bool)
    ready_rows(planes, WHOLE, rule, bad_pixels, out, top_bit=True)
    np.testing.assert_array_equal(out[0], planes["SCI"])
    np.testing.assert_array_equal(out[1], planes["ERR"])
    with_mask = bits | bad_pixels
    expected = np.isnan(planes["SCI"]) | (with_mask & rule.bits != 0)
    if rule.all_bad:
        expected |= ~np.isfinite(planes["SCI"]) | ~np.isfinite(planes["ERR"]) | (with_mask & 1 != 0)
    np.testing.assert_array_equal(out[2], expected)


def test_rows_are_those_of_the_place():
    planes, _ = make(1)
    before = {name: plane.copy() for name, plane in planes.items()}
    kept = {"data": np.full((SHAPE[0], 3, SHAPE[2]), 7.0, np.float32)}
    mark_rows(planes, Place(1, 3, 11), None, None, kept, (12, 15, 12), top_bit=True)
    for name in PLANES:
        for row in (0, 3):
            assert planes[name][:, row].tobytes() == before[name][:, row].tobytes()
    np.testing.assert_array_equal(kept["data"][:, 0], planes["SCI"][:, 2])
    np.testing.assert_array_equal(kept["data"][:, 1:], 7.0)
