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
    asked = SimpleNamespace(header=None, kinds=None, answer={}, error=None, by_detector=False)

    def getreferences(header, reftypes, observatory):
        asked.header, asked.kinds = header, reftypes
        if asked.error is not None:
            raise asked.error
        if asked.by_detector:
            return {"gain": str(tmp_path / f"{header['META.INSTRUMENT.DETECTOR']}_gain.fits")}
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
    path = tmp_path / "jwst_nirspec_apcorr_0001.fits"
    path.touch()
    crds.answer = {"apcorr": str(path)}
    found = find_references(observation, {})
    assert found.by_kind["apcorr"].name == "crds://jwst_nirspec_apcorr_0001.fits"
    assert found.built_in("extract1d")
    assert crds.header["META.INSTRUMENT.GRATING"] == "G395H"
    assert crds.kinds == ["extract1d", "apcorr"]  # CRDS's wavelengthrange is of stage 2, but for SOSS
    assert found.by_kind["extract1d"].why == "not given; CRDS has none"


@pytest.mark.parametrize("answer", ["N/A", "n/a", "NOT FOUND n/a", "NOT FOUND No match found."])
def test_crds_that_has_none(observation, crds, answer):
    crds.answer = {"apcorr": answer, "extract1d": answer}
    found = find_references(observation, {})
    assert found.built_in("extract1d")
    assert found.by_kind["apcorr"].source == "none"


def test_crds_that_recommends_what_is_not_in_its_cache(observation, crds, tmp_path):
    crds.answer = {"apcorr": str(tmp_path / "gone.fits")}
    with pytest.raises(ReferenceFileError, match=r"gone.fits: CRDS recommends this apcorr reference, but it is not"):
        find_references(observation, {})


def test_crds_chooses_for_each_detector(crds, tmp_path, make_calints):
    for name in ("a1", "a3"):
        make_calints(
            tmp_path / f"jw01_nrc{name}_calints.fits", 2, exp_type="NRC_TSIMAGE", instrume="NIRCAM",
            detector=f"NRC{name.upper()}",
        )  # fmt: skip
        (tmp_path / f"NRC{name.upper()}_gain.fits").touch()
    crds.by_detector = True
    observation = read_observation(sorted(tmp_path.glob("*_calints.fits")))
    found = find_references(observation, {})
    gains = [found.of(exposure).gain for exposure in observation.exposures]
    assert [path.name for path in gains] == ["NRCA1_gain.fits", "NRCA3_gain.fits"]
    assert found.used()["gain"].name == "MULTIPLE"


def test_soss_takes_its_wavelength_range_from_crds(crds, tmp_path, make_calints):
    path = tmp_path / "jw01_nis_calints.fits"
    make_calints(path, 2, exp_type="NIS_SOSS", instrume="NIRISS", detector="NIS")
    (tmp_path / "range.asdf").touch()
    crds.answer = {"wavelengthrange": str(tmp_path / "range.asdf")}
    found = find_references(read_observation(path), {})
    assert found.by_kind["wavelengthrange"].source == "crds"
    assert "extract1d" not in crds.kinds


@pytest.mark.parametrize("kind", ["CrdsError", OSError, SystemExit])
def test_crds_that_fails_is_one_line(observation, crds, kind):
    crds.error = (crds.CrdsError if kind == "CrdsError" else kind)("no network\nat all")
    with pytest.raises(ReferenceFileError, match=r"calints.fits: CRDS could not .*\(no network at all\)") as caught:
        find_references(observation, {})
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist(observation, no_crds, tmp_path):
    with pytest.raises(ReferenceFileError, match="does not exist"):
        find_references(observation, {"apcorr": tmp_path / "nothing.fits"})


def test_an_unknown_kind(observation, no_crds):
    with pytest.raises(ParameterError, match="there is no reference of kind 'dark'"):
        find_references(observation, {"dark": "a.fits"})
