"""The whole flow on small visits: what is refused, what is warned of, what a killed run leaves."""

import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import tso3
from tso3.errors import ParameterError
from tso3.simulate import simulate


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    return simulate("MIR_LRS-SLITLESS", tmp_path_factory.mktemp("visit"), n_int=30, segments=2, seed=9)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"survey": {"n_sample": 0}}, "leaves no template"),
        ({"survey": {"n_sample": 0}, "outlier_detection": {"method": "rolling_median"}}, "nothing to complete"),
        ({"white_light": {"min_wavelength": 20.0}}, "no wavelength of"),
        ({"white_light": {"min_wavelength": 9.0, "max_wavelength": 8.0}}, "no wavelength of"),
        ({"outlier_detection": {"good_bits": "NONSENSE"}}, "names no DQ bits"),
        ({"white_light": {"baseline": "40:50"}}, "40:50 holds none of the integrations of .* 1 to 30"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(visit, tmp_path, parameters, told):
    with pytest.raises(ParameterError, match=told):
        tso3.run(visit.association, tmp_path / "out", parameters=parameters, overrides=visit.references)
    assert not (tmp_path / "out").exists()


def test_a_baseline_outside_is_refused_before_anything_is_read(visit, tmp_path, monkeypatch):
    monkeypatch.setattr("tso3.steps.survey.run", lambda *_, **__: pytest.fail("the survey was made"))
    with pytest.raises(ParameterError, match="holds none of the integrations"):
        tso3.run(visit.association, tmp_path, parameters={"white_light": {"baseline": "31:40"}})


def test_without_the_flagged_exposures_all_else_is_the_same(visit, tmp_path):
    quiet = {"outlier_detection": {"save_results": False}}
    with_them = tso3.run(visit.association, tmp_path / "a", overrides=visit.references)
    without = tso3.run(visit.association, tmp_path / "b", parameters=quiet, overrides=visit.references)
    assert set(with_them.products) - set(without.products) == {"crfints"}
    assert not list((tmp_path / "b").glob("*crfints*"))
    assert without.n_flagged == with_them.n_flagged > 0
    for name in with_them.white_light.colnames:
        np.testing.assert_array_equal(with_them.white_light[name], without.white_light[name])
    spectra = [fits.getdata(result.products["x1dints"][0], "EXTRACT1D") for result in (with_them, without)]
    assert spectra[0].tobytes() == spectra[1].tobytes()


def test_skipping_every_product_is_told(visit, tmp_path):
    skip = {step: {"skip": True} for step in ("outlier_detection", "extract_1d", "rectify")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        result = tso3.run(visit.association, tmp_path, parameters=skip, overrides=visit.references)
    assert result.products == {}
    assert any("every step that makes a product is skipped" in text for text in result.warnings)


def test_white_light_without_a_survey_drops_what_it_says(visit, tmp_path):
    drop = {"survey": {"n_sample": 0}, "extract_1d": {"missing": "drop"}, "white_light": {"missing": "drop"}}
    drop["outlier_detection"] = {"method": "rolling_median"}
    result = tso3.run(visit.association, tmp_path, parameters=drop, overrides=visit.references)
    assert np.isfinite(result.white_light["whitelight_flux"]).all()


def test_exposures_without_number_keep_their_integrations(tmp_path):
    visit = simulate("MIR_LRS-SLITLESS", tmp_path / "in", n_int=8, exposures=2, seed=2)
    for path in visit.members:
        with fits.open(path, mode="update") as hdus:
            del hdus[0].header["EXPOSURE"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        result = tso3.run(visit.members, tmp_path / "out", overrides=visit.references)
    light = QTable.read(result.products["whtlt"][0])
    assert len(light) == result.n_int == 16
    assert (np.diff(np.asarray(light["MJD_UTC"])) > 0).all()


def test_exposures_are_in_the_order_of_time_not_of_their_names(tmp_path):
    visit = simulate("MIR_LRS-SLITLESS", tmp_path / "in", n_int=4, exposures=2, seed=2)
    for path, number in zip(visit.members, ("9", "10"), strict=True):
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["EXPOSURE"] = number
    result = tso3.run(visit.members, tmp_path / "out", overrides=visit.references)
    assert [e.name for e in result.exposures] == [
        path.name.removesuffix("_calints.fits").replace("-seg001", "") for path in visit.members
    ]


SLOWLY = """
import signal, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
from tso3.io import crfints
write = crfints.CrfintsWriter.write
def slow(*arguments):
    time.sleep(0.3)
    write(*arguments)
crfints.CrfintsWriter.write = slow
from tso3.cli import process
process()
"""
"""A run that is never over before a signal comes."""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_an_ended_run_leaves_nothing_that_the_next_does_not_remove(visit, tmp_path, name):
    out = tmp_path / "out"
    arguments = ["run", str(visit.association), "-o", str(out), "--block-size", "1", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(".tso3-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, getattr(signal, name))
    process.wait(60)
    assert process.returncode != 0
    if name != "SIGKILL":
        assert process.returncode == 128 + getattr(signal, name)
        assert not list(out.glob(".tso3-*"))
    subprocess.run([sys.executable, "-m", "tso3", *arguments], check=True, capture_output=True)
    assert not list(out.glob(".tso3-*"))
