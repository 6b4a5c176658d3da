"""Samples with NaN where they are bad, against the planes in the byte order of the machine."""

import numpy as np
import pytest

from tso3.io.convert import pick_pixels, valid_frames


@pytest.mark.parametrize("top_bit", [True, False])
def test_samples_are_those_of_the_planes(top_bit):
    rng = np.random.default_rng(4)
    shape = (3, 4, 9)
    raw = {name: rng.normal(5.0, 1.0, shape).astype(">f4") for name in ("SCI", "ERR")}
    raw["SCI"][0, 1, 2], raw["ERR"][1, 2, 3] = np.nan, np.inf
    dq = rng.integers(0, 4, shape)
    raw["DQ"] = (dq - 2**31 if top_bit else dq).astype(">i4")
    bad = (dq & 1 != 0) | ~np.isfinite(raw["SCI"]) | ~np.isfinite(raw["ERR"])
    found, found_err = np.empty((2, *shape), np.float32)
    valid_frames(raw, found, found_err, top_bit=top_bit)
    np.testing.assert_array_equal(found, np.where(bad, np.nan, raw["SCI"]))
    np.testing.assert_array_equal(found_err, np.where(bad, np.nan, raw["ERR"]))
    pixels = np.array([0, 11, 21, 35])
    picked = np.empty((3, 4), np.float32)
    pick_pixels(raw, pixels, picked, top_bit=top_bit)
    np.testing.assert_array_equal(picked, found.reshape(3, -1)[:, pixels])
    with pytest.raises(ValueError, match="pixels 2 to 36 of rows with 36"):
        pick_pixels(raw, np.array([2, 36]), picked, top_bit=top_bit)
