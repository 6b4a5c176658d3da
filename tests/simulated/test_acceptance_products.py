"""Products are what the archive's tools expect: they open, validate, survive a save, and can be read by others."""

from __future__ import annotations

import shutil
import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate

MODES = ("NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS", "NRC_TSIMAGE")
MODEL = {"NRS_BRIGHTOBJ": "SlitModel", "MIR_LRS-SLITLESS": "SlitModel", "NRC_TSIMAGE": "CubeModel"}
INHERENT = ("contains character '-'", "OGIP long string keyword convention")
"""What fitsverify warns of and the archive's layout cannot do without: '-' in column names, long strings."""


@pytest.fixture(scope="module", params=MODES)
def made(request, tmp_path_factory):
    """Mode, visit and result of a short run with the default preset."""
    visit = simulate(request.param, tmp_path_factory.mktemp("visit"), n_int=14, segments=2, seed=9)
    result = tso3.run(str(visit.association), tmp_path_factory.mktemp("products"), overrides=visit.references)
    return request.param, visit, result


def fits_products(result):
    return [path for paths in result.products.values() for path in paths if path.suffix == ".fits"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_products_open_and_validate(made):
    from stdatamodels.jwst import datamodels

    mode, _, result = made
    for path in fits_products(result):
        with datamodels.open(path, strict_validation=True) as model:
            model.validate()
            name = type(model).__name__
            ending = path.stem.rpartition("_")[2]
            assert name == {"x1dints": "TSOMultiSpecModel", "median": "ImageModel"}.get(ending, MODEL[mode])
            assert model.meta.cal_step.outlier_detection == "COMPLETE"
            assert model.meta.filename == path.name


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_companion_table_survives_open_and_save(made, tmp_path):
    from stdatamodels.jwst import datamodels

    mode, _, result = made
    if mode == "NRC_TSIMAGE":
        assert "x1dints" not in result.products
        return
    path = result.products["x1dints"][0]
    with datamodels.open(path) as model:
        model.save(tmp_path / "saved.fits")
    with fits.open(path) as before, fits.open(tmp_path / "saved.fits") as after:
        tables = [(h.name, h.ver) for h in before if h.name.startswith("TSO3_")]
        assert len(tables) == len([h for h in before if h.name == "EXTRACT1D"]) > 0
        for name, _ in tables:
            assert after[name].header["X1DVER"] == before[name].header["X1DVER"]
            assert after[name].columns.names == before[name].columns.names
            for column in before[name].columns.names:
                np.testing.assert_array_equal(after[name].data[column], before[name].data[column])


def test_companion_and_spectra_have_the_same_rows(made):
    mode, _, result = made
    if mode == "NRC_TSIMAGE":
        return
    with fits.open(result.products["x1dints"][0]) as file:
        for spectra in (h for h in file if h.name == "EXTRACT1D"):
            (companion,) = (h for h in file if h.name.startswith("TSO3_") and h.header["X1DVER"] == spectra.ver)
            assert len(companion.data) == len(spectra.data) == 14
            np.testing.assert_array_equal(companion.data["INT_NUM"], spectra.data["INT_NUM"])
            np.testing.assert_array_equal(spectra.data["INT_NUM"], np.arange(1, 15))


def test_specutils_reads_the_spectra(made):
    mode, _, result = made
    if mode == "NRC_TSIMAGE":
        return
    from specutils import SpectrumList

    path = result.products["x1dints"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectra = SpectrumList.read(path, format="JWST x1d multi")
    with fits.open(path) as file:
        flux = [row for h in file if h.name == "EXTRACT1D" for row in h.data["FLUX"]]
        unit = file["EXTRACT1D"].columns["FLUX"].unit
    assert len(spectra) == len(flux)
    for spectrum, expected in zip(spectra, flux, strict=True):
        assert str(spectrum.flux.unit) == unit
        np.testing.assert_array_equal(np.sort(spectrum.flux.value), np.sort(expected))


def test_fitsverify_finds_nothing_but_what_is_inherent(made):
    if shutil.which("fitsverify") is None:
        pytest.skip("fitsverify is not installed (Debian: apt install fitsverify)")
    _, _, result = made
    for path in fits_products(result):
        done = subprocess.run(["fitsverify", str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        assert not [line for line in lines if "*** Error" in line], path.name
        warned = [line for line in lines if "*** Warning" in line]
        assert not [line for line in warned if not any(text in line for text in INHERENT)], path.name
