"""The simulator: valid products, honest noise, independent integrations, truth that is true."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from tso3.errors import InputError, OutputError, ParameterError
from tso3.simulate import reused_parts, simulate
from tso3.simulate.configurations import instrument_of

PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
MODES = {
    "NRS_BRIGHTOBJ": {"n_int": 6, "segments": (2, 4)},
    "MIR_LRS-SLITLESS": {"n_int": 8, "segments": 2, "cosmic_rays": 5.0},
    "NRC_TSIMAGE": {"n_int": 30, "segments": 2, "cosmic_rays": 200.0, "bad_pixels": 0.01},
}


@pytest.fixture(scope="module", params=MODES)
def visit(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.lower())
    return request.param, simulate(request.param.lower(), folder, seed=3, **MODES[request.param])


def read(paths, name):
    return np.concatenate([fits.getdata(path, name) for path in paths])


def test_products_validate(visit):
    mode, made = visit
    kind = "CubeModel" if mode == "NRC_TSIMAGE" else "SlitModel"
    for path in made.members:
        with datamodels.open(path) as model:
            model.validate()
            assert type(model).__name__ == kind
            assert model.meta.exposure.type == mode
            assert model.meta.filename == path.name
            assert model.data.shape == model.dq.shape == model.var_flat.shape
            assert model.dq.dtype == np.uint32
            assert model.meta.exposure.nints == MODES[mode]["n_int"]
            n = model.meta.exposure.integration_end - model.meta.exposure.integration_start + 1
            assert len(model.int_times) == n == len(model.data)
            assert model.int_times["integration_number"][0] == model.meta.exposure.integration_start
            assert model.meta.wcs.bounding_box is not None


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
def test_fitsverify_finds_no_error(visit):
    paths = [*visit[1].members, *(p for p in visit[1].references.values() if p.suffix == ".fits")]
    out = subprocess.run(["fitsverify", *map(str, paths)], capture_output=True, text=True, check=False).stdout
    assert "and 0 error(s)" in out
    assert "*** Error" not in out
    assert out.count("*** Warning") == out.count("OGIP long string")


def test_association_lists_members_in_order(visit):
    content = json.loads(visit[1].association.read_text())
    product = content["products"][0]
    assert content["asn_type"] == "tso3"
    assert product["name"] == visit[1].product_name
    assert [m["expname"] for m in product["members"]] == [p.name for p in visit[1].members]


def test_nan_and_flags(visit):
    for path in visit[1].members:
        planes = {name: fits.getdata(path, name) for name in PLANES}
        missing = np.isnan(planes["SCI"])
        assert ((planes["DQ"][missing] & 1) == 1).all()
        for name in ("ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
            np.testing.assert_array_equal(np.isnan(planes[name]), missing)
        total = planes["VAR_POISSON"] + planes["VAR_RNOISE"] + planes["VAR_FLAT"]
        np.testing.assert_allclose(planes["ERR"][~missing] ** 2, total[~missing], rtol=2e-6)


def test_wavelengths_are_those_of_the_wcs(visit):
    mode, made = visit
    if mode == "NRC_TSIMAGE":
        pytest.skip("imaging")
    for path in made.members[:2]:
        with datamodels.open(path) as model:
            y, x = np.indices(model.wavelength.shape, dtype=float)
            ra, dec, wavelength = model.meta.wcs(x, y)
            good = np.isfinite(model.wavelength)
            np.testing.assert_allclose(wavelength[good], model.wavelength[good], rtol=3e-7)
            back = model.meta.wcs.invert(ra[good], dec[good], wavelength[good], with_bounding_box=False)
            np.testing.assert_allclose(back[0], x[good], atol=1e-6)
            np.testing.assert_allclose(back[1], y[good], atol=1e-6)


def test_slit_frame_leads_to_the_trace(visit):
    mode, made = visit
    if mode != "NRS_BRIGHTOBJ":
        pytest.skip("slits only")
    for path, truth in zip(made.members[:2], made.truths.values(), strict=True):
        with datamodels.open(path) as model:
            to_detector = model.meta.wcs.get_transform("slit_frame", "detector")
            t = np.load(truth)
            wavelength = t["wavelength"][800:2040:100] * 1e-6
            x, y = to_detector(np.full(13, model.source_xpos), np.full(13, model.source_ypos), wavelength)
            np.testing.assert_allclose(x, np.arange(800, 2040, 100), atol=0.01)
            np.testing.assert_allclose(y, t["trace"][800:2040:100], atol=0.001)


def test_same_integrations_however_cut(tmp_path):
    options = {"n_int": 7, "seed": 5, "cosmic_rays": 50.0, "bad_pixels": 0.02}
    one = simulate("NRC_TSIMAGE", tmp_path / "a", **options)
    cut = simulate("NRC_TSIMAGE", tmp_path / "b", segments=(1, 4, 2), **options)
    other = simulate("NRC_TSIMAGE", tmp_path / "c", **{**options, "seed": 6})
    for name in PLANES:
        np.testing.assert_array_equal(read(one.members, name), read(cut.members, name))
    assert not np.array_equal(read(one.members, "SCI"), read(other.members, "SCI"), equal_nan=True)
    times = read(cut.members, "INT_TIMES")
    np.testing.assert_array_equal(times["integration_number"], np.arange(1, 8))


@pytest.mark.parametrize("mode", ["MIR_LRS-SLITLESS", "NRC_TSIMAGE", "NRS_BRIGHTOBJ"])
def test_noise_is_what_err_says(mode, tmp_path):
    options = {"n_int": 12, "seed": 1, "cosmic_rays": 2.0, "detectors": ["NRS2"] if mode.startswith("NRS") else None}
    noisy = simulate(mode, tmp_path / "noisy", **options).members
    clean = simulate(mode, tmp_path / "clean", noise=False, **options).members
    variance = read(noisy, "VAR_POISSON") + read(noisy, "VAR_RNOISE")
    deviation = (read(noisy, "SCI") - read(clean, "SCI")) / np.sqrt(variance)
    deviation = deviation[np.isfinite(deviation)].astype(float)
    assert abs(deviation.mean()) < 0.02
    assert np.mean(deviation**2) == pytest.approx(1.0, abs=0.02)
    assert np.mean(np.abs(deviation) > 3) == pytest.approx(0.0027, abs=0.001)


def test_bright_pixels_have_a_signal_to_noise_of_hundreds(visit):
    _, made = visit
    ratio = np.nan_to_num(read(made.members[:1], "SCI") / read(made.members[:1], "ERR"))
    assert 150 < np.median(ratio, axis=0).max() < 500


def test_truth_of_cosmic_rays(tmp_path):
    options = {"n_int": 9, "noise": False, "seed": 2, "jitter": 0.0, "drift": 0.0, "bad_pixels": 0.0}
    made = simulate("MIR_LRS-SLITLESS", tmp_path / "with", cosmic_rays=8.0, **options)
    without = simulate("MIR_LRS-SLITLESS", tmp_path / "without", cosmic_rays=0.0, **options)
    difference = (read(made.members, "SCI") - read(without.members, "SCI")).astype(float)
    truth = np.load(next(iter(made.truths.values())))
    where = (truth["cosmic_ray_integration"], truth["cosmic_ray_y"], truth["cosmic_ray_x"])
    image = np.abs(read(made.members, "SCI")[where])
    assert (np.abs(difference[where] - truth["cosmic_ray_amplitude"]) <= 1e-6 * image).all()
    difference[where] = 0
    assert (difference == 0).all()
    assert (truth["cosmic_ray_amplitude"][truth["cosmic_ray_caught"]] >= 0).all()
    caught = truth["cosmic_ray_caught"]
    flags = read(made.members, "DQ")[tuple(index[caught] for index in where)]
    assert (flags & 4 == 4).all()
    # charge is shared: hits come in clusters
    assert len(where[0]) > 5 * len(np.unique(where[0]))


def test_truth_of_the_light_curve_in_images(tmp_path):
    made = simulate("NRC_TSIMAGE", tmp_path, n_int=20, noise=False, cosmic_rays=0, bad_pixels=0, flat_error=0)
    truth = np.load(next(iter(made.truths.values())))
    with datamodels.open(made.members[0]) as model:
        net = model.data.astype(float) - truth["background"]
        flux = net.sum(axis=(1, 2)) * model.meta.photometry.pixelarea_steradians * 1e6
    enclosed = flux / truth["white_light"]
    assert 0.90 < enclosed.mean() < 1.0
    np.testing.assert_allclose(enclosed, enclosed.mean(), rtol=2e-5)
    # limb darkening makes the middle of the transit deeper than the mean depth
    assert truth["white_light"].min() == pytest.approx(truth["white_light"][0] * 0.99, rel=2e-3)


def test_truth_of_spectra(tmp_path):
    made = simulate("MIR_LRS-SLITLESS", tmp_path, n_int=10, noise=False, cosmic_rays=0, bad_pixels=0, flat_error=0)
    truth = np.load(next(iter(made.truths.values())))
    with datamodels.open(made.members[0]) as model:
        net = model.data.astype(float) - truth["background"]
        flux = net[:, :, 4:].sum(axis=2) * model.meta.photometry.pixelarea_steradians * 1e6
    rows = slice(120, 380)
    ratio = flux[:, rows] / truth["spectra"][:, rows]
    assert ((ratio > 0.9) & (ratio < 1.001)).all()
    np.testing.assert_allclose(ratio / ratio.mean(0), 1, rtol=1e-3)
    np.testing.assert_allclose(truth["spectra"][:, truth["calibrated"]].sum(1), truth["white_light"], rtol=1e-6)


def test_bad_pixels_follow_their_pattern(tmp_path):
    made = simulate("NRC_TSIMAGE", tmp_path, n_int=60, bad_pixels=0.05, cosmic_rays=0)
    truth, dq, sci = np.load(next(iter(made.truths.values()))), read(made.members, "DQ"), read(made.members, "SCI")
    kinds = list(truth["bad_kinds"])
    i = np.arange(60)[:, None]
    which = truth["bad_kind"] == kinds.index("intermittent")
    flagged = dq[:, truth["bad_y"][which], truth["bad_x"][which]] & 1
    np.testing.assert_array_equal(flagged, (i + truth["bad_phase"][which]) % truth["bad_period"][which] == 0)
    dead = truth["bad_kind"] == kinds.index("dead")
    assert np.isnan(sci[:, truth["bad_y"][dead], truth["bad_x"][dead]]).all()
    hot = truth["bad_kind"] == kinds.index("hot_flagged")
    assert np.isfinite(sci[:, truth["bad_y"][hot], truth["bad_x"][hot]]).all()
    assert (dq[:, truth["bad_y"][hot], truth["bad_x"][hot]] & 2049 == 2049).all()


def test_several_exposures(tmp_path):
    made = simulate("NRC_TSIMAGE", tmp_path, n_int=4, exposures=2, segments=2)
    assert [p.name.partition("_03102")[2] for p in made.members] == [
        f"_{exposure:05d}-seg{segment:03d}_nrcb1_calints.fits" for exposure in (1, 2) for segment in (1, 2)
    ]
    times = read(made.members, "INT_TIMES")
    np.testing.assert_array_equal(times["integration_number"], [1, 2, 3, 4, 1, 2, 3, 4])
    assert (np.diff(times["int_mid_MJD_UTC"]) > 0).all()
    assert len(made.truths) == 2


def test_times(visit):
    with datamodels.open(visit[1].members[0]) as model:
        exposure, times = model.meta.exposure, model.int_times
        length = (times["int_end_MJD_UTC"] - times["int_start_MJD_UTC"]) * 86400
        np.testing.assert_allclose(length, exposure.integration_time, atol=1e-5)
        cadence = (exposure.end_time - exposure.start_time) * 86400 / exposure.nints
        assert exposure.integration_time < cadence < exposure.integration_time + exposure.group_time
        light = (times["int_mid_BJD_TDB"] - times["int_mid_MJD_UTC"]) * 86400 - 69.184
        assert (np.abs(light) < 500).all()


def test_count_rates_and_no_flat(tmp_path):
    made = simulate("MIR_LRS-SLITLESS", tmp_path, n_int=2, photom=False, flat_error=0)
    with datamodels.open(made.members[0]) as model:
        assert model.meta.bunit_data == "DN/s"
        assert model.meta.cal_step.photom == "SKIPPED"
        assert not model.hasattr("var_flat")
    with fits.open(made.members[0]) as hdulist:
        assert "VAR_FLAT" not in hdulist


def test_references_open(visit):
    mode, made = visit
    if mode == "NRC_TSIMAGE":
        with datamodels.GainModel(made.references["gain"]) as gain, datamodels.open(made.members[0]) as model:
            assert gain.data.shape == model.data.shape[1:]
            assert gain.meta.subarray.xstart == model.meta.subarray.xstart
        assert set(made.references) == {"gain"}
        return
    assert "gain" not in made.references  # spectra have no use for it
    aperture = json.loads(made.references["extract1d"].read_text())["apertures"][0]
    assert aperture["use_source_posn"] is False
    kind = datamodels.NrsFsApcorrModel if mode.startswith("NRS") else datamodels.MirLrsApcorrModel
    with kind(made.references["apcorr"]) as apcorr:
        factor = apcorr.apcorr_table["apcorr"][0]
        assert (factor >= 1).all()
        assert (factor < 2.5).all()
    with datamodels.WavelengthrangeModel(made.references["wavelengthrange"]) as ranges:
        assert ranges.wavelengthrange[0][0] == (-1 if mode.startswith("NRS") else 1)  # as the genuine ones


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": "NIS_NOTHING"}, InputError, "NRS_BRIGHTOBJ, MIR_LRS-SLITLESS, NRC_TSIMAGE"),
        ({"n_int": 0}, ParameterError, "n_int"),
        ({"segments": 5, "n_int": 4}, ParameterError, "1 to 4"),
        ({"segments": (2, 3), "n_int": 4}, ParameterError, "do not add up"),
        ({"detectors": ["NRS1"]}, ParameterError, "NRCB1"),
        ({"subarray": "SUB512"}, ParameterError, "SUB64P"),
        ({"depth": -0.1}, ParameterError, "depth"),
        ({"bad_pixels": 2.0}, ParameterError, "bad_pixels"),
    ],
)
def test_mistakes_are_named(options, error, text, tmp_path):
    options = {"mode": "NRC_TSIMAGE", "n_int": 3, **options}
    with pytest.raises(error, match=text):
        simulate(output_dir=tmp_path / "nothing", **options)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("scale", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_star_without_light_is_refused(scale, tmp_path):
    with pytest.raises(ParameterError, match="flux_scale"):
        simulate("NRC_TSIMAGE", tmp_path, n_int=2, segments=1, flux_scale=scale)


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tso3.simulate.visit.write_segment", full)
    with pytest.raises(OutputError, match=r"_calints\.fits: cannot be written: No space left on device; free some"):
        simulate("NRC_TSIMAGE", tmp_path, n_int=2, segments=1)


def test_nothing_left_behind_when_interrupted(tmp_path):
    class Stop:
        def start(self, stage, total):
            assert (stage, total) == ("simulate", 4)

        def advance(self, n):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate("NRC_TSIMAGE", tmp_path, n_int=4, segments=2, progress=Stop())
    assert [p.name for p in Path(tmp_path).glob(".*")] == []


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("NRS_BRIGHTOBJ", {"configuration": "PRISM", "segments": 2}),
        ("NRC_TSIMAGE", {}),
        ("MIR_MRS", {"subarray": "ROWS96"}),
    ],
)
def test_reused_parts_change_no_byte_but_dates(mode, options, tmp_path):
    options = {
        "n_int": 4,
        "detectors": [instrument_of(mode, options.get("configuration")).detectors[0].name],
        **options,
    }
    with reused_parts():
        kept = [simulate(mode, tmp_path / f"kept{seed}", seed=seed, **options) for seed in (3, 4)]
    fresh = [simulate(mode, tmp_path / f"fresh{seed}", seed=seed, **options) for seed in (3, 4)]
    for one, other in zip(kept, fresh, strict=True):
        assert {kind: path.name for kind, path in one.references.items()} == {
            kind: path.name for kind, path in other.references.items()
        }
        for a, b in zip(one.members, other.members, strict=True):
            with fits.open(a) as first, fits.open(b) as second:
                assert [hdu.name for hdu in first] == [hdu.name for hdu in second]
                assert first[0].header["FILENAME"] == second[0].header["FILENAME"]
                for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "INT_TIMES"):
                    assert first[name].data.tobytes() == second[name].data.tobytes()
        truths = [np.load(next(iter(visit.truths.values()))) for visit in (one, other)]
        for name in truths[0].files:
            np.testing.assert_array_equal(truths[0][name], truths[1][name])
    with fits.open(kept[0].members[0]) as first, fits.open(kept[1].members[0]) as second:
        assert not np.array_equal(first["SCI"].data, second["SCI"].data, equal_nan=True)
