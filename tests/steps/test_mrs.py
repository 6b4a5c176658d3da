"""Radii of the MRS by wavelength, and places on the sky where right ascension passes 0."""

import asdf
import numpy as np
import pytest

from tso3.errors import ReferenceFileError
from tso3.io.ifu_apertures import CircularApertures, read_ifu_extract1d
from tso3.steps.mrs import _sky

ARRAYS = {
    "wavelength": np.array([5.0, 10.0, 28.0], "f4"),
    "radius": np.array([0.6, 0.9, 2.1], "f4"),
    "inner_bkg": np.array([0.8, 1.1, 2.5], "f4"),
    "outer_bkg": np.array([1.0, 1.4, 3.0], "f4"),
}


def write(path, data, **meta):
    asdf.AsdfFile({"meta": meta, "data": data}).write_to(path)
    return path


def test_a_reference_is_read(tmp_path):
    apertures = read_ifu_extract1d(write(tmp_path / "a.asdf", ARRAYS))
    np.testing.assert_allclose(apertures.radius, ARRAYS["radius"])
    np.testing.assert_allclose(apertures.outer, ARRAYS["outer_bkg"])
    without = read_ifu_extract1d(write(tmp_path / "b.asdf", ARRAYS, subtract_background=False))
    assert without.inner is None
    assert CircularApertures.built_in().outer is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"radius": None}, "has no arrays 'wavelength' and 'radius'"),
        ({"radius": np.array([1.0, 2.0])}, "different lengths"),
        ({"wavelength": np.array([5.0, 4.0, 6.0])}, "do not rise"),
        ({"radius": "wide"}, "radius is no array of numbers"),
        ({"radius": np.array([1.0, np.nan, 2.0])}, "not finite"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, change, told):
    data = {key: value for key, value in (ARRAYS | change).items() if value is not None}
    with pytest.raises(ReferenceFileError, match=told):
        read_ifu_extract1d(write(tmp_path / "a.asdf", data))
    with pytest.raises(ReferenceFileError, match="is no ASDF file"):
        read_ifu_extract1d(tmp_path / "a.fits")


@pytest.mark.parametrize("ra", [0.0, 359.9999, 120.0])
def test_the_tangent_plane_goes_through_zero(ra):
    alpha = np.tile([-0.4, -0.2, 0.0, 0.2, 0.4, np.nan, -0.4, -0.2, 0.0, 0.2, 0.4], (3, 1))
    beta = np.tile([*[0.0] * 5, np.nan, *[0.5] * 5], (3, 1))
    dec = np.where(np.isfinite(beta), 60.0 + beta / 3600.0, np.nan)
    sky = _sky(np.mod(ra + alpha / 3600.0 / np.cos(np.radians(60.0)), 360.0), dec, alpha * 0 + 5.0, alpha, beta)
    known = np.isfinite(alpha)
    np.testing.assert_allclose(np.diff(sky.x[:, :5]), 0.2, atol=1e-5)
    where = sky.position(float(sky.x[0, 8]), float(sky.y[0, 8]))
    assert where[1] == pytest.approx(60.0 + 0.5 / 3600.0, abs=1e-8)
    assert (where[0] - ra + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=1e-7)
    assert 0.0 <= where[0] < 360.0
    assert np.isfinite(sky.area[known]).all()
