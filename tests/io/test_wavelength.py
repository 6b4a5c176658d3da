"""Wavelengths: the plane, the WCS where there is none, and what is wrong with either."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError
from tso3.io.segment import read_segment
from tso3.io.wavelength import pixel_scale, read_wavelength, read_wcs, sky_position, wavelength_of_grid

NY, NX = 5, 7


def make_wcs():
    """Wavelength 3 + 0.01 x; 0.1 arcsec per pixel along y, at 45 degrees; nothing outside the image."""
    import gwcs
    from astropy import coordinates, units
    from astropy.modeling.models import Mapping, Scale, Shift
    from gwcs import coordinate_frames as cf

    sky = cf.CelestialFrame(name="sky", axes_order=(0, 1), reference_frame=coordinates.ICRS())
    spectral = cf.SpectralFrame(name="wave", axes_order=(2,), unit=(units.micron,))
    world = cf.CompositeFrame([sky, spectral], name="world")
    detector = cf.Frame2D(name="detector", axes_order=(0, 1), unit=(units.pix, units.pix))
    ra, dec, wave = Scale(1e-9) | Shift(45.0), Scale(0.1 / 3600) | Shift(45.0), Scale(0.01) | Shift(3.0)
    transform = Mapping((0, 1, 0), n_inputs=2) | ra & dec & wave
    transform.inverse = Mapping((2, 1)) | wave.inverse & dec.inverse
    wcs = gwcs.WCS([(detector, transform), (world, None)])
    wcs.bounding_box = ((-0.5, NX - 1.5), (-0.5, NY - 0.5))
    return wcs


@pytest.fixture
def calints(tmp_path, make_calints):
    """A file with, or without, a WAVELENGTH plane and a WCS."""

    def make(wavelength=None, wcs=None):
        path = tmp_path / "jw01366003001_04101_00001-seg001_nrs1_calints.fits"
        hdus = make_calints(path, 1, NY, NX)
        if wavelength is not None:
            hdus.append(fits.ImageHDU(wavelength, name="WAVELENGTH"))
        if wcs is not None:
            import io

            import asdf

            buffer = io.BytesIO()
            asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(buffer)
            content = np.frombuffer(buffer.getvalue(), np.uint8)
            column = fits.Column("ASDF_METADATA", f"{content.size}B", array=content[None])
            hdus.append(fits.BinTableHDU.from_columns([column], name="ASDF"))
        hdus.writeto(path, overwrite=True)
        return read_segment(path)

    return make


def test_the_plane_is_taken(calints):
    plane = np.linspace(3, 5, NY * NX).reshape(NY, NX).astype("f4")
    plane[0, 0] = np.nan
    found = read_wavelength(calints(plane, make_wcs()))
    np.testing.assert_array_equal(found, plane)
    assert found.dtype.isnative


@pytest.mark.parametrize("plane", [None, np.zeros((NY, NX), "f4")])
def test_without_a_plane_the_wcs_is_evaluated(calints, plane):
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


def test_a_damaged_tree(calints):
    segment = calints(None, make_wcs())
    hdu = segment.hdu("ASDF")
    with open(segment.path, "r+b") as file:
        file.seek(hdu.data_offset)
        file.write(b"#ASDX")
    with pytest.raises(InputError, match="ASDF extension cannot be read"):
        read_wcs(segment.path)


def test_position_and_pixel_on_the_sky():
    wcs = make_wcs()
    ra, dec = sky_position(wcs, 2.0, 3.0)
    assert ra == pytest.approx(45.0, abs=1e-6)
    assert dec == pytest.approx(45.0 + 0.3 / 3600)
    assert sky_position(wcs, 50.0, 3.0) is None
    assert pixel_scale(wcs, ra, dec, 3.02, 1) == pytest.approx(0.1)


def test_the_grid_is_evaluated_as_pixel_by_pixel():
    wcs = make_wcs()
    grid = wavelength_of_grid(wcs, NY, NX)
    single = [[wcs(x, y)[2] for x in range(NX)] for y in range(NY)]
    np.testing.assert_array_equal(grid, single)
