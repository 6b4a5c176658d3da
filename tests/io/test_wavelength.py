"""Wavelengths: the plane, the WCS where there is none, and what is wrong with either."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tso3.errors import InputError
from tso3.io.wavelength import read_wavelength
from tso3.io.wcs import pixel_scale, read_wcs, sky_position, wavelength_of_grid

NY, NX = 5, 7


def test_the_plane_is_taken(calints, make_wcs):
    plane = np.linspace(3, 5, NY * NX).reshape(NY, NX).astype("f4")
    plane[0, 0] = np.nan
    found = read_wavelength(calints(plane, make_wcs()))
    np.testing.assert_array_equal(found, plane)
    assert found.dtype.isnative


@pytest.mark.parametrize("plane", [None, np.zeros((NY, NX), "f4")])
def test_without_a_plane_the_wcs_is_evaluated(calints, plane, make_wcs):
    segment = calints(plane, make_wcs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gwcs on shape
        found = read_wavelength(segment)
    np.testing.assert_allclose(found[:, : NX - 1], np.broadcast_to(3 + 0.01 * np.arange(NX - 1), (NY, NX - 1)))
    assert np.isnan(found[:, NX - 1]).all()


def test_with_neither_there_is_none(calints):
    segment = calints()
    assert read_wcs(segment.path) is None
    assert read_wavelength(segment) is None


def test_a_plane_of_another_shape(calints):
    with pytest.raises(InputError, match="WAVELENGTH has shape"):
        read_wavelength(calints(np.ones((NY, NX + 1), "f4")))


def test_a_damaged_tree(calints, make_wcs):
    segment = calints(None, make_wcs())
    hdu = segment.hdu("ASDF")
    with open(segment.path, "r+b") as file:
        file.seek(hdu.data_offset)
        file.write(b"#ASDX")
    with pytest.raises(InputError, match="ASDF extension cannot be read"):
        read_wcs(segment.path)


def test_position_and_pixel_on_the_sky(make_wcs):
    wcs = make_wcs()
    ra, dec = sky_position(wcs, 2.0, 3.0)
    assert ra == pytest.approx(45.0, abs=1e-6)
    assert dec == pytest.approx(45.0 + 0.3 / 3600)
    assert sky_position(wcs, 50.0, 3.0) is None
    assert pixel_scale(wcs, ra, dec, 3.02, 1) == pytest.approx(0.1)


def test_the_grid_is_evaluated_as_pixel_by_pixel(make_wcs):
    wcs = make_wcs()
    grid = wavelength_of_grid(wcs, NY, NX)
    single = [[wcs(x, y)[2] for x in range(NX)] for y in range(NY)]
    np.testing.assert_array_equal(grid, single)
