"""Genuine reference files of the archive are read, or refused in one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tso3.errors import ReferenceFileError
from tso3.io.reference_files import read_apcorr, read_extract1d, read_wavelengthrange
from tso3.io.soss_references import read_photom, read_spectrace, read_wavemap

FILES = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared") / "data/crds"
PRISM = {"filter": "CLEAR", "grating": "PRISM", "slit": "S1600A1"}

READ = {
    "extract1d_slit_full_spec2.json": lambda path: (
        {a.id for a in read_extract1d(path)} == {"MIR_LRS-FIXEDSLIT", "MIR_LRS-SLITLESS"}
    ),
    "jwst_nircam_wavelengthrange_0002.asdf": lambda path: (
        [round(row.longest, 3) for row in read_wavelengthrange(path) if row.fits(1, "F322W2")] == [4.216]
    ),
    "jwst_nircam_wavelengthrange_0003.asdf": lambda path: len(read_wavelengthrange(path)) == 24,
    "jwst_niriss_wavelengthrange_0002.asdf": lambda path: (
        not any(row.fits(1, "CLEAR") for row in read_wavelengthrange(path))
    ),  # grism imaging only: of no use to SOSS, which the white light then says
    "jwst_nirspec_wavelengthrange_0004.asdf": lambda path: (
        [
            (round(row.shortest, 3), round(row.longest, 3))
            for row in read_wavelengthrange(path)
            if row.fits(1, "F290LP", "G395H")
        ]
        == [(2.87, 5.27)]
    ),
    "jwst_nirspec_apcorr_0003.fits": lambda path: read_apcorr(path, PRISM).factor.shape == (3, 3, 2048),
    "jwst_niriss_spectrace_0023.fits": lambda path: list(read_spectrace(path)) == [1, 2, 3],
    "jwst_niriss_wavemap_0020.fits": lambda path: list(read_wavemap(path)) == [1, 2, 3],
    "jwst_niriss_photom_rev2.fits": lambda path: list(read_photom(path, "CLEAR", "GR700XD")) == [1, 2, 3],
}
REFUSED = {
    "jwst_miri_wavelengthrange_0005.asdf": (read_wavelengthrange, "bands of the MIRI spectrometer"),
}
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="set TSO3_SHARED to the folder of genuine data")


def test_every_file_is_accounted_for():
    assert {path.name for path in FILES.iterdir()} == {*READ, *REFUSED}


@pytest.mark.parametrize("name", sorted(READ))
def test_genuine_files_are_read(name):
    assert READ[name](FILES / name)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_used_is_refused_in_one_line(name):
    read, message = REFUSED[name]
    with pytest.raises(ReferenceFileError, match=message) as caught:
        read(FILES / name)
    assert str(caught.value).startswith(str(FILES / name))
    assert "\n" not in str(caught.value)
