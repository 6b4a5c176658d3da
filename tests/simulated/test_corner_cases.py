"""Corner cases that other pipelines met; T numbers are those of the project's list of them."""

from __future__ import annotations

import hashlib
import json
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import tso3
from tso3.parameters import preset


def edit(path, change):
    with fits.open(path, mode="update") as hdus:
        change(hdus)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*_calints.fits"))}


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        warnings.showwarning = lambda *_, **__: None
        return tso3.run(*arguments, **options)


@pytest.mark.parametrize("name", ["default", "archive"])
def test_pixels_that_are_never_valid_cause_no_warning(tmp_path, make_spectra, tiny_aperture, name):  # T6
    paths = make_spectra(tmp_path, (7, 6))

    def blank(hdus):
        hdus["SCI"].data[:, 2, 3] = np.nan  # one pixel of the trace
        hdus["SCI"].data[:, :, 6] = np.nan  # a whole column
        hdus["DQ"].data[:, :, 6] = 1

    for path in paths:
        edit(path, blank)
    result = tso3.run(paths, tmp_path / "out", preset=name, overrides=tiny_aperture)  # every warning is an error here
    assert np.isfinite(result.white_light["whitelight_flux_NRS1"]).all()
    with fits.open(result.products["x1dints"][0]) as hdus:
        assert np.isnan(hdus["EXTRACT1D", 1].data["FLUX"][:, 6]).all()
        assert (hdus["EXTRACT1D", 1].data["DQ"][:, 6] & 1).all()


def test_inputs_are_neither_changed_nor_removed(tmp_path, make_spectra, tiny_aperture):  # T7, T8
    make_spectra(tmp_path, (4, 4))
    before = digests(tmp_path)
    result = tso3.run(tmp_path, tmp_path, overrides=tiny_aperture)  # products go where the inputs are
    assert digests(tmp_path) == before
    crfints = {path: path.read_bytes() for path in result.products["crfints"]}
    spectra = {path: path.read_bytes() for path in result.products["x1dints"]}
    quietly(list(spectra), tmp_path)
    assert all(path.read_bytes() == content for path, content in spectra.items())
    quietly(list(crfints), tmp_path, overrides=tiny_aperture)  # makes the spectra anew
    assert all(path.read_bytes() == content for path, content in crfints.items())


def test_wavelengths_without_world_coordinates_suffice(tmp_path, make_spectra, tiny_aperture):  # T9
    paths = make_spectra(tmp_path, (4,))
    with fits.open(paths[0]) as hdus:
        assert "ASDF" not in hdus
    assert tso3.run(paths, tmp_path / "out", overrides=tiny_aperture).spectra.sizes == {"time": 4, "wavelength": 8}


def test_the_identifier_of_the_association_is_in_a_name_once(tmp_path, make_spectra, tiny_aperture):  # T10
    make_spectra(tmp_path, (4, 4))
    out = tmp_path / "out"

    def associate(folder, paths):
        members = [{"expname": path.name, "exptype": "science"} for path in paths]
        table = {"asn_type": "tso3", "asn_id": "o003", "products": [{"name": "jw01366-o003_t001", "members": members}]}
        (folder / "a_asn.json").write_text(json.dumps(table))
        return folder / "a_asn.json"

    calints = sorted(tmp_path.glob("*_calints.fits"))
    flat = {"rectify": {"skip": True}}
    result = tso3.run(associate(tmp_path, calints), out, parameters=flat, overrides=tiny_aperture)
    names = [path.name for paths in result.products.values() for path in paths]
    assert names == [
        "jw01366003001_04101_00001-seg001_nrs1_o003_crfints.fits",
        "jw01366003001_04101_00001-seg002_nrs1_o003_crfints.fits",
        "jw01366-o003_t001_x1dints.fits",
        "jw01366-o003_t001_whtlt.ecsv",
        "jw01366-o003_t001_qa.ecsv",
    ]
    assert {path.parent for paths in result.products.values() for path in paths} == {out}
    again = associate(out, result.products["crfints"])
    again_skipped = {"outlier_detection": {"skip": True}}
    for inputs in (again, result.products["crfints"]):
        second = quietly(inputs, tmp_path / "again", parameters=again_skipped, overrides=tiny_aperture)
        assert not any("o003_o003" in path.name for paths in second.products.values() for path in paths)
    assert second.products["x1dints"][0].name == "jw01366003001_04101_00001_nrs1_x1dints.fits"


def test_parameters_that_are_used_again_are_as_they_were(tmp_path, make_spectra, tiny_aperture):  # T11
    paths = make_spectra(tmp_path, (4,))
    parameters = preset("default")
    first = tso3.run(paths, tmp_path / "a", parameters=parameters, overrides=tiny_aperture)
    quietly(first.products["crfints"], tmp_path / "b", parameters=parameters, overrides=tiny_aperture)  # skips a step
    assert not parameters.outlier_detection.skip
    third = tso3.run(paths, tmp_path / "c", parameters=parameters, overrides=tiny_aperture)
    assert "crfints" in third.products
    np.testing.assert_array_equal(third.white_light["whitelight_flux_NRS1"], first.white_light["whitelight_flux_NRS1"])


@pytest.mark.parametrize("axes", [2, 3])
def test_a_single_integration_is_a_time_series(tmp_path, make_spectra, tiny_aperture, axes):  # T12, T16, T25
    (path,) = make_spectra(tmp_path, (1,))
    if axes == 2:
        with fits.open(path) as hdus:
            for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
                hdus[name] = fits.ImageHDU(hdus[name].data[0], hdus[name].header)
            hdus.writeto(tmp_path / "b.fits")
        (tmp_path / "b.fits").replace(path)
    result = tso3.run(path, tmp_path / "out", overrides=tiny_aperture)
    assert result.n_int == len(result.white_light) == 1
    assert np.isfinite(result.white_light["whitelight_flux_NRS1"]).all()
    assert fits.getdata(result.products["crfints"][0], "SCI").ndim == axes


def test_repeated_missing_and_reversed_times_move_nothing(tmp_path, make_spectra, tiny_aperture):  # T20
    paths = make_spectra(tmp_path, (5, 5))
    straight = tso3.run(paths, tmp_path / "straight", overrides=tiny_aperture).white_light

    def disturb(hdus):
        for column in hdus["INT_TIMES"].columns.names[1:]:
            values = hdus["INT_TIMES"].data[column]
            values[1] = values[0]  # repeated
            values[2] = np.nan  # missing
            values[4] = values[0] - 1.0  # earlier than all before

    edit(paths[0], disturb)
    with pytest.warns(tso3.Tso3Warning, match="integrations 2 repeat and of 5 precede an earlier one; all are kept"):
        result = tso3.run(paths[::-1], tmp_path / "out", overrides=tiny_aperture)
    light = QTable.read(result.products["whtlt"][0])
    np.testing.assert_array_equal(light["whitelight_flux_NRS1"], straight["whitelight_flux_NRS1"])
    with fits.open(result.products["x1dints"][0]) as hdus:
        assert hdus["EXTRACT1D", 1].data["INT_NUM"].tolist() == list(range(1, 11))
        np.testing.assert_array_equal(hdus["EXTRACT1D", 1].data["MJD-AVG"], light["MJD_UTC_NRS1"])
    assert np.isnan(light["MJD_UTC_NRS1"]).tolist() == [False, False, True] + [False] * 7
    again = quietly(result.products["x1dints"][0], tmp_path / "again").white_light
    np.testing.assert_array_equal(again["whitelight_flux_NRS1"], light["whitelight_flux_NRS1"])


def test_samples_that_are_nan_are_left_out_of_the_white_light(tmp_path, make_spectra, tiny_aperture):  # T20
    (path,) = make_spectra(tmp_path, (6,))

    def blank(hdus):
        hdus["SCI"].data[1, :, 2] = np.nan
        hdus["SCI"].data[4] = np.nan

    edit(path, blank)
    drop = {"white_light": {"missing": "drop"}}
    light = tso3.run(path, tmp_path / "out", parameters=drop, overrides=tiny_aperture).white_light
    assert light["n_valid_NRS1"].tolist() == [8, 7, 8, 8, 0, 8]
    flux = np.asarray(light["whitelight_flux_NRS1"])
    assert np.isnan(flux).tolist() == [False] * 4 + [True, False]
    assert flux[1] / flux[0] == pytest.approx(7 / 8, abs=0.01)


def test_integrations_without_number_and_tables_that_begin_elsewhere(tmp_path, make_spectra, tiny_aperture):  # T21
    first, second = make_spectra(tmp_path, (3, 4))
    edit(first, lambda hdus: hdus[0].header.remove("INTSTART"))  # counts from 1
    edit(second, lambda hdus: hdus["INT_TIMES"].data["integration_number"].__isub__(3))  # numbered from 1 again
    with pytest.warns(tso3.Tso3Warning, match="numbers its rows from 1, INTSTART is 4; the rows are taken in order"):
        result = tso3.run(tmp_path, tmp_path / "out", overrides=tiny_aperture)
    with fits.open(result.products["x1dints"][0]) as hdus:
        assert hdus["EXTRACT1D", 1].data["INT_NUM"].tolist() == list(range(1, 8))
        assert (np.diff(hdus["EXTRACT1D", 1].data["MJD-AVG"]) > 0).all()


def test_detectors_have_their_own_times_and_numbers_of_integrations(tmp_path, make_spectra, tiny_aperture):  # T20, T21
    make_spectra(tmp_path, (4, 3), "NRS1")
    for path in make_spectra(tmp_path, (4,), "NRS2"):

        def later(hdus):
            for column in hdus["INT_TIMES"].columns.names[1:]:
                hdus["INT_TIMES"].data[column] += 0.01
            hdus[0].header["NINTS"] = 4

        edit(path, later)
    light = tso3.run(tmp_path, tmp_path / "out", overrides=tiny_aperture).white_light
    assert len(light) == 7
    np.testing.assert_allclose((light["MJD_UTC_NRS2"] - light["MJD_UTC_NRS1"])[:4], 0.01, atol=1e-9)
    assert np.isnan(light["whitelight_flux_NRS2"][4:]).all()
    assert np.isfinite(light["whitelight_flux_NRS1"]).all()


def test_members_may_differ_in_their_numbers_of_integrations(tmp_path, make_spectra, tiny_aperture):
    make_spectra(tmp_path, (4, 2), number=1)
    make_spectra(tmp_path, (3,), number=2)
    result = tso3.run(tmp_path, tmp_path / "out", overrides=tiny_aperture)
    assert [exposure.n_int for exposure in result.exposures] == [6, 3]
    with fits.open(result.products["x1dints"][0]) as hdus:
        numbers = [hdus["EXTRACT1D", version].data["INT_NUM"].tolist() for version in (1, 2)]
    assert numbers == [[1, 2, 3, 4, 5, 6], [1, 2, 3]]
    again = quietly(result.products["x1dints"][0], tmp_path / "again").white_light
    np.testing.assert_array_equal(again["whitelight_flux_NRS1"], result.white_light["whitelight_flux_NRS1"])
    assert (np.diff(np.asarray(again["MJD_UTC_NRS1"])) > 0).all()


def test_what_the_inputs_say_is_in_the_products(tmp_path, make_spectra, tiny_aperture):  # T24
    paths = make_spectra(tmp_path, (3, 3))

    def say(hdus):
        hdus["SCI"].header["S_REGION"] = "POLYGON ICRS  1.0 2.0 3.0 4.0 5.0 6.0"
        hdus["SCI"].header["PA_APER"] = 120.5

    for path in paths:
        edit(path, say)
    result = tso3.run(paths, tmp_path / "out", overrides=tiny_aperture)
    for path in result.products["crfints"]:
        header = fits.getheader(path, "SCI")
        assert header["S_REGION"].startswith("POLYGON ICRS")
        assert header["PA_APER"] == 120.5
    with fits.open(result.products["x1dints"][0]) as hdus:
        primary, header = hdus[0].header, hdus["EXTRACT1D", 1].header
        assert (primary["INTSTART"], primary["INTEND"], primary["S_PXREPL"]) == (1, 6, "SKIPPED")
        assert header["S_REGION"].startswith("POLYGON ICRS")
        assert header["PA_APER"] == 120.5
        assert (header["EXTRXSTR"], header["EXTRXSTP"], header["EXTRYSTR"], header["EXTRYSTP"]) == (1, 8, 2.0, 5.0)
        assert list(hdus["HDRTAB"].data["FILENAME"]) == [path.name for path in paths]


def test_a_range_that_is_given_replaces_the_record_of_stage_2(tmp_path, make_spectra, tiny_aperture):
    import asdf

    (path,) = make_spectra(tmp_path, (3,))
    edit(path, lambda hdus: hdus[0].header.set("R_WAVRAN", "crds://jwst_nirspec_wavelengthrange_0004.asdf"))
    given = tmp_path / "mine.asdf"
    asdf.AsdfFile({"wavelengthrange": [[1, "F290LP", 3.2, 3.6]]}).write_to(given)
    for overrides, record, n in (
        (tiny_aperture, "crds://jwst_nirspec_wavelengthrange_0004.asdf", 8),
        (tiny_aperture | {"wavelengthrange": given}, "mine.asdf", 3),
    ):
        result = tso3.run(path, tmp_path / "out", overrides=overrides)
        assert fits.getheader(result.products["x1dints"][0])["R_WAVRAN"] == record
        assert set(result.white_light["n_valid_NRS1"]) == {n}


def test_more_integrations_than_an_int16_can_count(tmp_path, make_spectra, tiny_aperture):  # T21
    n = 33_000
    paths = make_spectra(tmp_path, (32_000, n - 32_000), ny=6, nx=2)
    detect = {"outlier_detection": {"rolling_window_width": 5, "maxiters": 1}}
    result = quietly(paths, tmp_path / "out", parameters=detect, overrides=tiny_aperture)
    numbers = np.arange(1, n + 1)
    middle = 59791.0 + ((numbers - 1) * 16.2 + 8.0) / 86400
    with fits.open(result.products["x1dints"][0]) as hdus:
        rows = hdus["EXTRACT1D", 1].data
        np.testing.assert_array_equal(rows["INT_NUM"], numbers)
        np.testing.assert_array_equal(rows["SEGMENT"], np.where(numbers <= 32_000, 1, 2))
        np.testing.assert_allclose(rows["MJD-AVG"], middle, atol=1e-9, rtol=0)
        np.testing.assert_array_equal(hdus["INT_TIMES"].data["integration_number"], numbers)
    with fits.open(result.products["crfints"][1]) as hdus:
        np.testing.assert_array_equal(hdus["INT_TIMES"].data["integration_number"], numbers[32_000:])
        assert hdus["SCI"].shape[0] == 1000
    light = QTable.read(result.products["whtlt"][0])
    assert light.meta["number_of_integrations"] == len(light) == n
    np.testing.assert_allclose(light["MJD_UTC_NRS1"], middle, atol=1e-9, rtol=0)
    part = quietly(result.products["x1dints"][0], tmp_path / "part", integrations="32766:32770").white_light
    np.testing.assert_allclose(part["MJD_UTC_NRS1"], middle[32765:32770], atol=1e-9, rtol=0)
