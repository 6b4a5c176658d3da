"""Start in the middle, reduce a part, with other times: products are those of the whole run as far as they can be."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

import tso3
from tso3.cli import main
from tso3.intake import _select_spectra
from tso3.io.exposure import read_observation
from tso3.io.selection import parse_integrations
from tso3.report.files import write_light_curve

LENGTHS = (6, 5, 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_spectra, tiny_aperture):
    """Inputs and result of a run over two detectors of three segments, with a gap in the spectra of one."""
    folder = tmp_path_factory.mktemp("in")
    paths = [path for name in ("NRS1", "NRS2") for path in make_spectra(folder, LENGTHS, name, depth=0.001)]
    with fits.open(paths[0], mode="update") as hdus:
        hdus["DQ"].data[2, :, 5] = 1  # one wavelength without any pixel
    return paths, tso3.run(paths, tmp_path_factory.mktemp("out"), overrides=tiny_aperture)


@pytest.fixture(scope="module")
def by_segment(whole, tmp_path_factory, tiny_aperture):
    """The same in the archive's layout: a table for each segment."""
    layout = {"x1dints": {"layout": "segment", "source_type_column": False}}
    return tso3.run(whole[0], tmp_path_factory.mktemp("segments"), parameters=layout, overrides=tiny_aperture)


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        warnings.showwarning = lambda *_, **__: None
        return tso3.run(*arguments, **options)


def without_correlated_noise(table):
    """Return a light curve as it is where the noise that pixels share was not measured."""
    table = table.copy()
    for name in [name for name in table.colnames if "_error_correlated" in name]:
        total = name.replace("_correlated", "")
        table[total] = np.sqrt(table[total] ** 2 - table[name] ** 2)
        del table[name]
    return table


def assert_equal(table, other, rtol=0.0):
    other = without_correlated_noise(other)
    assert table.colnames == other.colnames
    about, others = dict(table.meta), dict(other.meta)
    if rtol:  # noise follows from the numbers below, and weights are of another sample
        assert list(about.pop("noise")) == list(others.pop("noise"))
        assert about.pop("effective_wavelength") == pytest.approx(others.pop("effective_wavelength"), rel=5e-3)
    assert about == others
    for name in table.colnames:
        most = max(rtol, 5e-3) if rtol and "normalized" in name else rtol
        np.testing.assert_allclose(np.asarray(table[name]), np.asarray(other[name]), rtol=most, err_msg=name)
        assert table[name].unit == other[name].unit


def test_crfints_are_not_flagged_again(whole, tmp_path, tiny_aperture):
    _, before = whole
    result = quietly(before.products["crfints"], tmp_path, overrides=tiny_aperture)
    assert "crfints" not in result.products
    assert any("outlier_detection is not run again and no crfints is written" in text for text in result.warnings)
    assert result.products["x1dints"][0].name == before.products["x1dints"][0].name
    assert fits.getheader(result.products["x1dints"][0])["S_OUTLIR"] == "COMPLETE"
    assert_equal(result.white_light, before.white_light, rtol=1e-3)  # the survey no longer sees the outliers


def test_a_folder_of_crfints(whole, tmp_path, tiny_aperture):
    folder = tmp_path / "only"
    folder.mkdir()
    for path in whole[1].products["crfints"]:
        (folder / path.name).symlink_to(path)
    assert quietly(folder, tmp_path / "out", overrides=tiny_aperture).n_int == 30


@pytest.mark.parametrize("layout", ["detector", "segment"])
def test_the_white_light_of_spectra_is_that_of_the_run(whole, by_segment, tmp_path, layout):
    before = whole[1] if layout == "detector" else by_segment
    drop = {"white_light": {"missing": "drop"}}
    inputs = before.products["x1dints"][0]
    result = quietly(inputs, tmp_path, parameters=drop)
    assert list(result.products) == ["whtlt"]
    assert result.products["whtlt"][0].name == before.products["whtlt"][0].name
    assert any("holds spectra; the white light is made of them" in text for text in result.warnings)
    assert not any("companion" in text for text in result.warnings)
    completed = quietly(inputs, tmp_path)
    assert_equal(completed.white_light, before.white_light, rtol=2e-3)
    complete = np.asarray(result.white_light["n_valid_NRS1"]) == 8
    assert np.count_nonzero(~complete) == 1
    for name in ("whitelight_flux_NRS1", "whitelight_flux_error_NRS1", "photon_limit_NRS2", "MJD_UTC_NRS2"):
        now, then = np.asarray(result.white_light[name])[complete], np.asarray(before.white_light[name])[complete]
        np.testing.assert_array_equal(now, then, err_msg=name)


def test_spectra_without_companion_have_errors_but_no_photon_limit(by_segment, tmp_path):
    path = tmp_path / by_segment.products["x1dints"][0].name
    with fits.open(by_segment.products["x1dints"][0]) as hdus:
        kept = [hdu for hdu in hdus if not hdu.name.startswith("TSO3_")]
        fits.HDUList(kept).writeto(path)
    result = quietly(path, tmp_path / "out")
    light = result.white_light
    assert any("has no companion tables of tso3; photon limit" in text for text in result.warnings)
    assert np.isnan(light["photon_limit_NRS1"]).all()
    assert np.isfinite(light["whitelight_flux_error_NRS1"]).all()


def test_a_band_of_spectra(whole, tmp_path):
    path = whole[1].products["x1dints"][0]
    band = {"white_light": {"min_wavelength": 3.2, "max_wavelength": 3.6}}
    light = quietly(path, tmp_path, parameters=band).white_light
    assert set(light["n_valid_NRS2"]) == {3}
    assert light.meta["wavelength_range"]["whitelight_flux_NRS2"] == pytest.approx([3.285714, 3.571429], abs=1e-5)


def test_a_range_that_only_one_detector_reaches(make_spectra, tmp_path, tiny_aperture):
    paths = [path for name in ("NRS1", "NRS2") for path in make_spectra(tmp_path, (6,), name)]
    with fits.open(paths[1], mode="update") as hdus:
        hdus["WAVELENGTH"].data += 1.0
    band = {"white_light": {"min_wavelength": 3.0, "max_wavelength": 3.5}}
    result = quietly(paths, tmp_path / "a", parameters=band, overrides=tiny_aperture)
    again = quietly(result.products["x1dints"][0], tmp_path / "b", parameters=band)
    for run in (result, again):
        (text,) = [text for text in run.warnings if "left out of the white light" in text]
        assert "nrs2, order 1 (4 to 5 micron) lies between 3 and 3.5 micron (change white_light.min" in text
        assert np.isfinite(run.white_light["whitelight_flux_NRS1"]).all()
        assert np.isnan(run.white_light["whitelight_flux_NRS2"]).all()
        assert list(run.white_light.meta["wavelength_range"]) == ["whitelight_flux_NRS1"]
        assert write_light_curve(run).exists()
    band = {"white_light": {"min_wavelength": 1.0, "max_wavelength": 2.0}}
    with pytest.raises(tso3.Tso3Error, match=r"no wavelength of .* lies between 1 and 2 micron .*, nor any of other"):
        quietly(paths, tmp_path / "c", parameters=band, overrides=tiny_aperture)
    assert not (tmp_path / "c").exists()


def test_spectra_without_any_flux_are_told(make_spectra, tmp_path, tiny_aperture):
    (path,) = make_spectra(tmp_path, (6,))
    with fits.open(path, mode="update") as hdus:
        hdus["DQ"].data[:] = 1
    drop = {"survey": {"n_sample": 0}, "extract_1d": {"missing": "drop"}, "white_light": {"missing": "drop"}}
    drop["outlier_detection"] = {"method": "rolling_median"}
    result = quietly(path, tmp_path / "a", parameters=drop, overrides=tiny_aperture)
    again = quietly(result.products["x1dints"][0], tmp_path / "b", parameters=drop)
    for run in (result, again):
        assert np.isnan(run.white_light["whitelight_flux_NRS1"]).all()
        assert sum("no valid flux in any of the 6 integrations" in text for text in run.warnings) == 1


def test_spectra_are_read_in_pieces(whole, tmp_path, monkeypatch):
    path = whole[1].products["x1dints"][0]
    at_once = quietly(path, tmp_path / "a").white_light
    monkeypatch.setattr("tso3.io.spectra_rows._BUFFER", 1)
    held = []
    monkeypatch.setattr(
        "tso3.steps.white_light.WhiteLightCurve._missing", lambda _, block: held.append(block.n_int) or 0.0
    )
    in_pieces = quietly(path, tmp_path / "b").white_light
    np.testing.assert_array_equal(in_pieces["whitelight_flux_NRS1"], at_once["whitelight_flux_NRS1"])
    assert set(held) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remove": "INT_NUM"}, r"has not one row per integration \(no INT_NUM\)"),
        ({"only": "PRIMARY"}, "holds no table EXTRACT1D"),
        ({"int_num": 1}, "INT_NUM does not rise"),
        ({"exp_type": "NRC_WFSS"}, "NRC_WFSS is not reduced"),
    ],
)
def test_spectra_that_cannot_be_used(whole, tmp_path, change, message):
    path = tmp_path / "a_x1dints.fits"
    with fits.open(whole[1].products["x1dints"][0]) as hdus:
        hdus = fits.HDUList([hdu.copy() for hdu in hdus])
        if "exp_type" in change:
            hdus[0].header["EXP_TYPE"] = change["exp_type"]
        if "int_num" in change:
            hdus["EXTRACT1D", 1].data["INT_NUM"] = change["int_num"]
        if "remove" in change:
            hdus["EXTRACT1D", 1].header["TTYPE1"] = "OTHER"
        fits.HDUList(hdus[:1] if "only" in change else hdus).writeto(path)
    if "remove" in change:
        path.write_bytes(path.read_bytes().replace(b"TTYPE1  = 'INT_NUM ", b"TTYPE1  = 'OTHER   "))
    with pytest.raises(tso3.InputError, match=message):
        tso3.run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_part_is_what_the_files_would_be_if_they_held_no_more(whole, tmp_path, tiny_aperture):
    from stdatamodels.jwst import datamodels

    paths, before = whole
    static = {"outlier_detection": {"rolling_window_width": 0}, "survey": {"n_sample": 4}, "rectify": {"skip": True}}
    result = quietly(paths, tmp_path, integrations="5:9", parameters=static, overrides=tiny_aperture)
    names = [path.name for paths in result.products.values() for path in paths]
    assert names == [
        *(f"jw01366003001_04101_00001-seg00{k}_{d}-int5-9_crfints.fits" for d in ("nrs1", "nrs2") for k in (1, 2)),
        "jw01366003001_04101_00001-int5-9_x1dints.fits",
        "jw01366003001_04101_00001-int5-9_whtlt.ecsv",
        "jw01366003001_04101_00001-int5-9_qa.ecsv",
    ]
    assert before.products["x1dints"][0].name not in names
    for path, numbers in zip(result.products["crfints"], ([5, 6], [7, 8, 9]) * 2, strict=True):
        with fits.open(path) as hdus, fits.open(paths[0].parent / path.name.replace("-int5-9_crf", "_cal")) as given:
            hdus.verify("exception")
            assert hdus["INT_TIMES"].data["integration_number"].tolist() == numbers
            assert (hdus[0].header["INTSTART"], hdus[0].header["INTEND"]) == (numbers[0], numbers[-1])
            assert hdus[0].header["NINTS"] == 15
            at = numbers[0] - given[0].header["INTSTART"]
            good = (hdus["DQ"].data & 1) == 0
            np.testing.assert_array_equal(hdus["SCI"].data[good], given["SCI"].data[at : at + len(numbers)][good])
        with datamodels.open(path) as model:
            assert model.data.shape[0] == len(numbers)
    with fits.open(result.products["x1dints"][0]) as hdus:
        assert hdus["EXTRACT1D", 1].data["INT_NUM"].tolist() == [5, 6, 7, 8, 9]
        assert hdus["EXTRACT1D", 1].data["SEGMENT"].tolist() == [1, 1, 2, 2, 2]
        assert hdus["INT_TIMES"].data["integration_number"].tolist() == [5, 6, 7, 8, 9]
        assert (hdus[0].header["INTSTART"], hdus[0].header["INTEND"]) == (5, 9)
    np.testing.assert_array_equal(result.white_light["MJD_UTC_NRS1"], before.white_light["MJD_UTC_NRS1"][4:9])
    again = quietly(result.products["crfints"], tmp_path / "again", parameters=static, overrides=tiny_aperture)
    assert again.products["x1dints"][0].name == "jw01366003001_04101_00001-int5-9_x1dints.fits"
    assert again.n_int == 10


def test_a_part_of_spectra(whole, tmp_path):
    before = whole[1]
    result = quietly(before.products["x1dints"][0], tmp_path, integrations=(3, 7))
    assert result.products["whtlt"][0].name == "jw01366003001_04101_00001-int3-7_whtlt.ecsv"
    now, then = result.white_light["whitelight_flux_NRS2"], before.white_light["whitelight_flux_NRS2"][2:7]
    np.testing.assert_allclose(np.asarray(now), np.asarray(then), rtol=1e-12)
    with pytest.raises(tso3.InputError, match="has integrations 1 to 15; none is in 16 to 20"):
        tso3.run(before.products["x1dints"][0], tmp_path, integrations="16:20")


def test_an_exposure_of_spectra_without_any_of_the_integrations_is_told(whole):
    observation = read_observation(whole[1].products["x1dints"][0])
    first, second = observation.exposures
    short = second.select(second.times.int_num <= 3)
    with pytest.warns(tso3.Tso3Warning, match=f"{second.name}: has no integration in 5 to 9; left out"):
        part = _select_spectra(replace(observation, exposures=(first, short)), parse_integrations("5:9"))
    assert [exposure.n_int for exposure in part.exposures] == [5]


def test_times_of_a_file_are_in_all_products(whole, tmp_path, tiny_aperture):
    n = sum(LENGTHS)
    mjd, bjd = 59800.0 + np.arange(n) / 100.0, 59800.1 + np.arange(n) / 100.0
    Table({"int_num": np.arange(1, n + 1), "MJD_UTC": mjd, "BJD_TDB": bjd}).write(tmp_path / "times.csv")
    result = tso3.run(whole[0], tmp_path / "out", times=tmp_path / "times.csv", overrides=tiny_aperture)
    light = QTable.read(result.products["whtlt"][0])
    np.testing.assert_array_equal(light["MJD_UTC_NRS1"], mjd)
    np.testing.assert_array_equal(light["BJD_TDB_NRS2"], bjd)
    with fits.open(result.products["x1dints"][0]) as hdus:
        np.testing.assert_array_equal(hdus["EXTRACT1D", 2].data["TDB-MID"], bjd)
        np.testing.assert_array_equal(hdus["INT_TIMES"].data["int_mid_MJD_UTC"], mjd)
    with fits.open(result.products["crfints"][1]) as hdus:
        np.testing.assert_array_equal(hdus["INT_TIMES"].data["int_mid_BJD_TDB"], bjd[6:11])
        assert hdus[0].header["TSO3TIME"] == "times.csv"
    assert fits.getheader(result.products["x1dints"][0])["TSO3TIME"] == "times.csv"
    assert light.meta["times_file"] == "times.csv"
    of_spectra = quietly(
        result.products["x1dints"][0], tmp_path / "b", times=tmp_path / "times.csv", integrations="2:4"
    )
    np.testing.assert_array_equal(of_spectra.white_light["MJD_UTC_NRS1"], mjd[1:4])


def test_the_command(whole, tmp_path, tiny_aperture, capsys):
    paths = [str(path) for path in whole[0][:3]]
    options = ["-q", "-o", str(tmp_path), "--override-extract1d", str(tiny_aperture["extract1d"])]
    assert main(["run", *paths, *options, "--integrations", "1:4"]) == 0
    assert (tmp_path / "jw01366003001_04101_00001_nrs1-int1-4_whtlt.ecsv").exists()
    assert main(["run", *paths, *options, "--integrations", "4:1"]) == 2
    assert "tso3: error: integrations: '4:1' ends before it begins" in capsys.readouterr().err
    Table({"MJD_UTC": np.arange(3.0)}).write(tmp_path / "short.csv")
    assert main(["run", *paths, *options, "--times", str(tmp_path / "short.csv")]) == 2
    assert "short.csv: has 3 rows, but 15 integrations are reduced" in capsys.readouterr().err
