"""Which reference is used: the user's, else one of CRDS where that is set up, else the built-in default."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from tso3.errors import ParameterError, ReferenceFileError
from tso3.io.exposure import read_observation
from tso3.io.references import find_references


@pytest.fixture
def observation(tmp_path, make_calints):
    path = tmp_path / "jw01366003001_04101_00001-seg001_nrs1_calints.fits"
    make_calints(path, 2)
    return read_observation([path])


@pytest.fixture
def no_crds(monkeypatch):
    for name in ("CRDS_PATH", "CRDS_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "crds", None)  # an import would fail


@pytest.fixture
def crds(monkeypatch, tmp_path):
    """A stand-in for the package, and what it was asked."""
    asked = SimpleNamespace(header=None, kinds=None, answer={}, error=None)

    def getreferences(header, reftypes, observatory):
        asked.header, asked.kinds = header, reftypes
        if asked.error is not None:
            raise asked.error
        return {kind: asked.answer.get(kind, "NOT FOUND n/a") for kind in reftypes}

    class CrdsError(Exception):
        pass

    asked.CrdsError = CrdsError
    module, core, exceptions = ModuleType("crds"), ModuleType("crds.core"), ModuleType("crds.core.exceptions")
    module.getreferences, exceptions.CrdsError = getreferences, CrdsError
    for name, value in (("crds", module), ("crds.core", core), ("crds.core.exceptions", exceptions)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.setenv("CRDS_PATH", str(tmp_path))
    monkeypatch.setenv("CRDS_SERVER_URL", "https://crds.invalid")
    return asked


def test_without_anything_the_aperture_is_built_in(observation, no_crds):
    found = find_references(observation, {})
    assert found.built_in("extract1d")
    assert found.path("apcorr") is None
    assert not found.built_in("apcorr")


def test_the_users_file_comes_first(observation, crds, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("{}")
    found = find_references(observation, {"extract1d": path})
    assert found.path("extract1d") == path
    assert found.by_kind["extract1d"].source == "user"
    assert "extract1d" not in crds.kinds


@pytest.mark.parametrize("word", ["N/A", "n/a"])
def test_none_is_none(observation, no_crds, word):
    found = find_references(observation, {"extract1d": word})
    assert found.path("extract1d") is None
    assert not found.built_in("extract1d")
    assert found.by_kind["extract1d"].name == "N/A"


def test_crds_where_it_is_set_up(observation, crds, tmp_path):
    crds.answer = {"apcorr": str(tmp_path / "jwst_nirspec_apcorr_0001.fits")}
    found = find_references(observation, {})
    assert found.by_kind["apcorr"].name == "crds://jwst_nirspec_apcorr_0001.fits"
    assert found.built_in("extract1d")
    assert crds.header["META.INSTRUMENT.GRATING"] == "G395H"


def test_crds_that_fails_is_no_traceback(observation, crds):
    crds.error = crds.CrdsError("no network")
    with pytest.raises(ReferenceFileError, match="no network"):
        find_references(observation, {})


def test_a_file_that_does_not_exist(observation, no_crds, tmp_path):
    with pytest.raises(ReferenceFileError, match="does not exist"):
        find_references(observation, {"apcorr": tmp_path / "nothing.fits"})


def test_an_unknown_kind(observation, no_crds):
    with pytest.raises(ParameterError, match="there is no reference of kind 'dark'"):
        find_references(observation, {"dark": "a.fits"})
