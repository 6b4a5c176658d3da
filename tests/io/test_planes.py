from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tso3.io.planes import bad_mask, patch
from tso3.io.segment import PLANES

FLOATS = [name for name in PLANES if name != "DQ"]
SHAPE = (3, 4, 5)


def make(seed, order, names=PLANES):
    rng = np.random.default_rng(seed)
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    planes = {name: rng.choice(odd, SHAPE).astype(f"{order}f4") for name in names if name != "DQ"}
    planes["DQ"] = rng.choice(np.array([0, 1, 2, 4, 16, 2**31, 2**31 + 1], np.uint32), SHAPE).astype(f"{order}u4")
    return planes


def oracle(planes):
    bad = planes["DQ"] & 1 != 0
    for name in set(planes) - {"DQ"}:
        bad |= ~np.isfinite(planes[name])
    return bad


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("names", [PLANES, ("SCI", "ERR", "DQ"), ("SCI", "ERR", "DQ", "VAR_RNOISE")], ids=len)
@given(seed=st.integers(0, 2**32 - 1))
def test_bad_mask_and_patch_equal_the_plain_version(order, names, seed):
    planes = make(seed, order, names)
    before = {name: plane.copy() for name, plane in planes.items()}
    bad = bad_mask(planes)
    np.testing.assert_array_equal(bad, oracle(planes))
    assert all(planes[name].tobytes() == before[name].tobytes() for name in planes)
    outlier = np.random.default_rng(seed).random(SHAPE) < 0.1
    n = patch(planes, bad, outlier)
    marked = bad | outlier
    assert n == marked.sum()
    expected = before["DQ"].astype(np.uint32)
    expected[bad] |= 1
    expected[outlier] |= 17
    np.testing.assert_array_equal(planes["DQ"], expected)
    for name in set(names) - {"DQ"}:
        np.testing.assert_array_equal(planes[name], np.where(marked, np.nan, before[name]))
    np.testing.assert_array_equal(bad_mask(planes), np.isnan(planes["SCI"]))
    again = {name: plane.tobytes() for name, plane in planes.items()}
    patch(planes, bad_mask(planes))
    assert all(plane.tobytes() == again[name] for name, plane in planes.items())


def test_stored_dq_offset_does_not_matter():
    planes = make(1, ">")
    bits = planes["DQ"].astype(np.uint32)
    planes["DQ"] = (bits ^ np.uint32(2**31)).view(np.int32).astype(">i4")
    outlier = np.zeros(SHAPE, bool)
    outlier[1, 2, 3] = True
    patch(planes, bad_mask(planes), outlier)
    stored = planes["DQ"].astype(np.int32).view(np.uint32) ^ np.uint32(2**31)
    assert stored[1, 2, 3] == bits[1, 2, 3] | 17
    np.testing.assert_array_equal(stored & 2**31, bits & 2**31)


def test_nothing_is_touched_where_nothing_is_bad():
    planes = {name: np.ones(SHAPE, ">f4") for name in FLOATS} | {"DQ": np.full(SHAPE, 4, ">i4")}
    for plane in planes.values():
        plane.flags.writeable = True
    before = {name: plane.tobytes() for name, plane in planes.items()}
    assert patch(planes, np.zeros(SHAPE, bool)) == 0
    assert all(plane.tobytes() == before[name] for name, plane in planes.items())


def test_planes_that_do_not_fit_are_refused():
    planes = make(0, ">")
    with pytest.raises(ValueError, match="masks of 59"):
        patch(planes, np.zeros(59, bool))
    with pytest.raises(ValueError, match="byte order"):
        bad_mask(planes | {"ERR": planes["ERR"].astype("<f4")})
    with pytest.raises(ValueError, match="contiguous 32-bit"):
        bad_mask(planes | {"ERR": planes["ERR"].astype(">f8")})
    with pytest.raises(ValueError, match="contiguous 32-bit"):
        bad_mask(planes | {"SCI": planes["SCI"][::2]})
