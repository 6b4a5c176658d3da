from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError
from tso3.io.badpixels import read_bad_pixels
from tso3.io.exposure import read_observation


@pytest.fixture
def exposure(tmp_path, make_calints):
    """Frames of 5 x 7 at row 4 and column 3 of the full frame."""
    make_calints(tmp_path / "a_calints.fits", substrt1=3, substrt2=4)
    return read_observation(tmp_path / "a_calints.fits").exposures[0]


@pytest.fixture
def truth():
    bad = np.zeros((5, 7), bool)
    bad[0, 0] = bad[2, 3] = bad[4, 6] = True
    return bad


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_types_and_places(tmp_path, exposure, truth, dtype):
    path = tmp_path / "m.fits"
    image = np.where(truth, 3, 0).astype(dtype)
    full = np.zeros((20, 30), dtype)
    full[3:8, 2:9] = image
    full[2, :] = full[8, :] = full[:, 1] = full[:, 9] = 1
    for data in (image, full):
        for hdus in (
            [fits.PrimaryHDU(data)],
            [fits.PrimaryHDU(), fits.ImageHDU(data)],
            [fits.PrimaryHDU(), fits.ImageHDU(data + 1, name="SCI"), fits.ImageHDU(data, name="DQ")],
            [fits.PrimaryHDU(), fits.ImageHDU(data + 1, name="NRS2"), fits.ImageHDU(data, name="NRS1")],
        ):
            fits.HDUList(hdus).writeto(path, overwrite=True)
            bad = read_bad_pixels(path, exposure)
            assert bad.dtype == bool
            np.testing.assert_array_equal(bad, truth)


def test_nan_is_bad(tmp_path, exposure, truth):
    fits.writeto(tmp_path / "m.fits", np.where(truth, np.nan, 0.0))
    np.testing.assert_array_equal(read_bad_pixels(tmp_path / "m.fits", exposure), truth)


@pytest.mark.parametrize("start", [2, 5])
def test_a_slit_in_a_subarray(tmp_path, make_calints, truth, start):
    """SLTSTRT2 counts from the subarray if that is possible, else it repeats SUBSTRT2."""
    hdus = make_calints(tmp_path / "x.fits", substrt1=1, substrt2=5, subsize2=8)
    hdus["SCI"].header["SLTSTRT1"], hdus["SCI"].header["SLTSTRT2"] = 1, start
    hdus.writeto(tmp_path / "a_calints.fits")
    exposure = read_observation(tmp_path / "a_calints.fits").exposures[0]
    shift = 1 if start == 2 else 0
    full = np.zeros((40, 40), "u1")
    full[4 + shift : 9 + shift, :7] = truth
    sub = full[4:12, :7]
    for data in (full, sub):
        fits.writeto(tmp_path / "m.fits", np.ascontiguousarray(data), overwrite=True)
        np.testing.assert_array_equal(read_bad_pixels(tmp_path / "m.fits", exposure), truth)


def test_refusals(tmp_path, exposure):
    path = tmp_path / "m.fits"
    for data, message in (
        (np.zeros((5, 8), "u1"), r"has shape \(5, 8\); the frames of a have \(5, 7\) and begin at row 4, column 3"),
        (np.zeros((3, 5, 7), "u1"), "holds no 2-D image"),
        (np.ones((5, 7), "u1"), "every pixel is marked bad"),
        (None, "holds no 2-D image"),
    ):
        fits.HDUList([fits.PrimaryHDU(data)]).writeto(path, overwrite=True)
        with pytest.raises(InputError, match=message) as caught:
            read_bad_pixels(path, exposure)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(InputError, match="no such file"):
        read_bad_pixels(tmp_path / "none.fits", exposure)
    path.write_text("0 1 0")
    with pytest.raises(InputError, match="not a FITS file"):
        read_bad_pixels(path, exposure)
