"""Spectra from rectified frames: the same light as from the detector, in straight columns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import tso3
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.parameters import Parameters
from tso3.simulate import simulate
from tso3.straight_lane import check

QUIET = {"outlier_detection": {"save_results": False}}


def reduced(visit, folder, source, **options):
    parameters = QUIET | {"extract_1d": {"from": source}, "rectify": {"skip": True}}
    return tso3.run(visit.association, folder, overrides=visit.references, parameters=parameters, **options)


@pytest.fixture(scope="module", params=[("NRC_TSGRISM", None), ("NRS_BRIGHTOBJ", "G395H")], ids=lambda case: case[0])
def visit(request, tmp_path_factory):
    mode, configuration = request.param
    folder = tmp_path_factory.mktemp("visit")
    return simulate(mode, folder, n_int=8, segments=2, seed=3, configuration=configuration)


@pytest.fixture(scope="module")
def results(visit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    return {source: reduced(visit, folder / source, source) for source in ("exposure", "rectified")}


def test_white_light_is_that_of_the_detector(results):
    first, second = (results[source].white_light for source in ("exposure", "rectified"))
    names = [name for name in first.colnames if name.startswith("whitelight_flux") and "error" not in name]
    assert names
    for name in (name for name in names if "limit" not in name):
        a, b = (np.asarray(table[name], float) for table in (first, second))
        error_name = name.replace("whitelight_flux", "whitelight_flux_error")
        error, other = (np.asarray(table[error_name], float) for table in (first, second))
        apart = np.abs(b / np.median(b) - a / np.median(a)) / (error / np.median(a))
        assert np.median(apart) < 0.2
        assert apart.max() < 1.0
        np.testing.assert_allclose(other / b, error / a, rtol=0.05)  # covariance of pixels and columns included


def test_spectra_lie_on_the_rectified_grid_and_say_what_was_completed(results):
    (path,) = results["rectified"].products["x1dints"]
    with fits.open(path) as product:
        table = product["EXTRACT1D", 1].data
        wavelength, dq = table["WAVELENGTH"][0], table["DQ"]
        assert np.all(np.diff(wavelength) > 0.0)
        (before,) = results["exposure"].products["x1dints"]
        known = np.isfinite(fits.getdata(before, ("EXTRACT1D", 1))["FLUX"]).mean()
        assert np.isfinite(table["FLUX"]).mean() > 0.97 * known
        estimated = (dq & pixel_flags()["FLUX_ESTIMATED"]) != 0
        assert estimated.any()
        assert np.isfinite(table["FLUX"][estimated]).all()


def test_numbers_do_not_depend_on_blocks_threads_and_what_was_in_memory(visit, results, tmp_path, monkeypatch):
    def used_before(shape, dtype):
        array = np.empty(shape, dtype)
        array.view(np.uint8)[...] = 0xA0
        if dtype == np.float32:
            array.view(np.uint32)[...] = 0x7FA00000  # a signalling NaN: any sum with it warns
        return array

    monkeypatch.setattr("tso3.stream._thin", used_before)
    again = reduced(visit, tmp_path, "rectified", block_size=3, workers=1)
    (first,), (second,) = (result.products["x1dints"] for result in (results["rectified"], again))
    with fits.open(first) as one, fits.open(second) as other:
        for name in ("FLUX", "FLUX_ERROR", "NPIXELS"):
            np.testing.assert_array_equal(one["EXTRACT1D", 1].data[name], other["EXTRACT1D", 1].data[name])


@pytest.mark.parametrize(
    ("extraction", "said"),
    [({"extraction_type": "optimal"}, "optimal weighs pixels of the detector")],
)
def test_what_cannot_be_done_is_an_error_of_parameters(visit, extraction, said, tmp_path):
    parameters = QUIET | {"extract_1d": {"from": "rectified", **extraction}}
    with pytest.raises(ParameterError, match=said):
        tso3.run(visit.association, tmp_path / "out", overrides=visit.references, parameters=parameters)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("exp_type", ["MIR_MRS", "NRC_TSIMAGE"])
def test_slices_and_images_are_no_straight_frame(exp_type):
    parameters = Parameters.model_validate({"extract_1d": {"from": "rectified"}})
    mode = SimpleNamespace(exp_type=exp_type, is_imaging=exp_type == "NRC_TSIMAGE")
    setting = SimpleNamespace(parameters=parameters, observation=SimpleNamespace(mode=mode))
    with pytest.raises(ParameterError, match=f"{exp_type} has no spectrum in one straight frame"):
        check(setting)


def test_a_column_as_wide_as_the_spectrum_is_an_error(visit, tmp_path):
    with pytest.raises(ParameterError, match="makes one column"):
        tso3.run(
            visit.association, tmp_path / "out", overrides=visit.references, parameters={"rectify": {"step": 50.0}}
        )


def test_errors_of_channels_hold_the_covariance_of_columns(tmp_path):
    """On a grid beside that of the pixels every column shares a quarter of its noise or more with the next."""
    visit = simulate("NRS_BRIGHTOBJ", tmp_path, n_int=8, segments=1, seed=3, configuration="G395H", detectors=["NRS2"])
    errors = []
    for source in ("exposure", "rectified"):
        parameters = QUIET | {"extract_1d": {"from": source}, "rectify": {"skip": True}, "channels": {"spec": "6"}}
        result = tso3.run(visit.association, tmp_path / source, overrides=visit.references, parameters=parameters)
        table = Table.read(next(path for path in result.products["channels"] if path.suffix == ".ecsv"))
        error = np.asarray(table["normalized_flux_error"], float).reshape(-1, 8)
        errors.append(np.median(error, axis=1))
    np.testing.assert_allclose(errors[1] / errors[0], 1.0, atol=0.06)
