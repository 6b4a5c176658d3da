"""Small calints files, made with astropy alone, so that each test can break one thing; shared by io and faults."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import settings

from summary import pytest_terminal_summary  # noqa: F401

# The first call of a kernel compiles it, so no deadline. CI draws the same examples every time; elsewhere new ones.
settings.register_profile("tso3", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tso3")


def make_calints(path, n_int=4, ny=5, nx=7, seed=0, **keywords):
    """Write a calints-like file and return its HDUList (still open in memory)."""
    rng = np.random.default_rng(seed)
    shape = (n_int, ny, nx)
    primary = fits.PrimaryHDU()
    cards = {
        "TELESCOP": "JWST", "FILENAME": path.name, "DATAMODL": "SlitModel", "EXP_TYPE": "NRS_BRIGHTOBJ",
        "TSOVISIT": True, "INSTRUME": "NIRSPEC", "DETECTOR": "NRS1", "FILTER": "F290LP", "GRATING": "G395H",
        "SUBARRAY": "SUB2048",
        "PROGRAM": "01366", "OBSERVTN": "003", "VISIT": "001", "VISITGRP": "04", "SEQ_ID": "1", "ACT_ID": "01",
        "EXPOSURE": "00001", "EXPSTART": 59791.0, "EXPEND": 59791.0 + n_int * 16.2 / 86400, "EFFINTTM": 16.0,
        "TGROUP": 0.9, "NINTS": n_int, "INTSTART": 1, "INTEND": n_int, "EXSEGNUM": 1,
        "SUBSTRT1": 1, "SUBSTRT2": 1, "SUBSIZE1": nx, "SUBSIZE2": ny,
    }  # fmt: skip
    cards.update({key.upper(): value for key, value in keywords.items()})
    for key, value in cards.items():
        if value is not None:
            primary.header[key] = value
    hdus = fits.HDUList([primary])
    for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        if name == "DQ":
            data = rng.choice(np.array([0, 1, 4, 2**31 + 1], np.uint32), shape)
        else:
            data = rng.normal(10, 1, shape).astype(np.float32)
        hdus.append(fits.ImageHDU(data, name=name))
        hdus[name].header["EXTVER"] = 1
        if name in ("SCI", "ERR"):
            hdus[name].header["BUNIT"] = "MJy"
    hdus.append(int_times(cards["INTSTART"] or 1, n_int))
    hdus.writeto(path, overwrite=True)
    return hdus


def int_times(first, n, start=59791.0):
    """Return an INT_TIMES table numbered from ``first``."""
    number = np.arange(first, first + n)
    begin = start + (number - 1) * 16.2 / 86400
    columns = [fits.Column("integration_number", "J", array=number)]
    for scale, shift in (("MJD_UTC", 0.0), ("BJD_TDB", 0.004)):
        for phase, late in (("start", 0.0), ("mid", 8.0), ("end", 16.0)):
            columns.append(fits.Column(f"int_{phase}_{scale}", "D", array=begin + shift + late / 86400))
    return fits.BinTableHDU.from_columns(columns, name="INT_TIMES")


@pytest.fixture(name="make_calints")
def make_calints_fixture():
    """The function that writes one small file."""
    return make_calints


@pytest.fixture
def segments(tmp_path):
    """Three segments of one exposure: 4, 3 and 5 integrations."""
    paths, first = [], 1
    for i, n in enumerate((4, 3, 5)):
        path = tmp_path / f"jw01366003001_04101_00001-seg00{i + 1}_nrs1_calints.fits"
        make_calints(path, n, seed=i, intstart=first, intend=first + n - 1, exsegnum=i + 1, nints=12,
                     expend=59791.0 + 12 * 16.2 / 86400)  # fmt: skip
        paths.append(path)
        first += n
    return paths


def make_spectra(folder, lengths=(6, 5, 4), detector="NRS1", ny=6, nx=8, number=1, depth=0.0, **keywords):
    """Write tiny calints with a spectrum along x, which run through the whole flow in no time; return their paths.

    No WCS but a WAVELENGTH plane; extract them with `tiny_aperture`. ``depth`` is missing in the middle third.
    """
    paths, first = [], 1
    total = sum(lengths)
    begin = 59791.0 + (number - 1) * 0.5
    profile = 1000.0 * np.exp(-0.5 * ((np.arange(ny) - 2.5) / 0.8) ** 2)
    for k, n in enumerate(lengths, 1):
        path = folder / f"jw01366003001_04101_{number:05d}-seg{k:03d}_{detector.lower()}_calints.fits"
        cards = {
            "intstart": first, "intend": first + n - 1, "exsegnum": k, "nints": total, "detector": detector,
            "exposure": f"{number:05d}", "targname": "TOI-1", "expstart": begin, "expend": begin + total * 16.2 / 86400,
        } | keywords  # fmt: skip
        hdus = make_calints(path, n, ny, nx, seed=100 * number + k, **cards)
        index = np.arange(first - 1, first + n - 1)
        light = np.where((index >= total // 3) & (index < 2 * total // 3), 1.0 - depth, 1.0)
        hdus["SCI"].data += (light[:, None, None] * profile[:, None] - 10.0).astype(np.float32)
        hdus["DQ"].data[:] = 0
        hdus["ERR"].data[:] = 1.0
        for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
            hdus[name].data[:] = 0.4
        wavelength = np.broadcast_to(np.linspace(3.0, 4.0, nx), (ny, nx)).astype(np.float32)
        hdus.append(fits.ImageHDU(wavelength, name="WAVELENGTH"))
        hdus["INT_TIMES"] = int_times(first, n, begin)
        hdus.writeto(path, overwrite=True)
        paths.append(path)
        first += n
    return paths


@pytest.fixture(name="make_spectra", scope="session")
def make_spectra_fixture():
    """The function that writes tiny spectral exposures."""
    return make_spectra


@pytest.fixture(scope="session")
def tiny_aperture(tmp_path_factory):
    """An extract1d reference for them."""
    path = tmp_path_factory.mktemp("references") / "extract1d.json"
    aperture = {"id": "ANY", "dispaxis": 1, "ystart": 1, "ystop": 4, "use_source_posn": False}
    path.write_text(json.dumps({"apertures": [aperture]}))
    return {"extract1d": path}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Answers of world coordinates are kept in a folder of the session, not in that of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSO3_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def unflushed(request):
    """What a test writes need not reach the disk; only where writing is tested (io, faults), it is flushed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name not in ("io", "faults"):
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, lambda descriptor: None, raising=False)
        yield
