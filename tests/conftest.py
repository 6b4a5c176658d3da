"""Small calints files, made with astropy alone, so that each test can break one thing; shared by io and faults."""

from __future__ import annotations

import os

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import settings

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
