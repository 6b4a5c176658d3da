"""Small calints files with a world coordinate system, shared by the tests of wavelengths and geometry."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from tso3.io.segment import read_segment

NY, NX = 5, 7


@pytest.fixture(scope="session", name="make_wcs")
def wcs_maker():
    """The function that makes the WCS."""
    return make_wcs


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


@pytest.fixture
def calints_with_wcs(calints):
    """Path of a file with a WCS."""
    return calints(None, make_wcs()).path
