"""Imaging modes from calints to light curves: known depth, one integration, two detectors, flags and references."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.errors import Tso3Warning
from tso3.imaging_lane import ImagingLane
from tso3.simulate import simulate
from tso3.simulate.optics import point_spread
from tso3.steps import outlier_detection


def run(inputs, folder, **arguments):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore", Tso3Warning)
        return tso3.run([str(path) for path in inputs], folder, **arguments)


def test_a_weak_lens_makes_a_ring_of_the_right_size():
    """8 waves of defocus at 2.12 micron: an image of about 130 pixels, dark in the middle, all light kept."""
    psf = point_spread(2.12e-6 / 6.5 * 206264.8 / 0.0311, 8.0)
    pixel = np.arange(-105.0, 106.0)
    image = psf.on_pixels(pixel, pixel)
    radius = np.hypot(*np.meshgrid(pixel, pixel))
    assert image.sum() == pytest.approx(1.0, abs=0.02)
    assert image[radius < 66].sum() > 0.9
    assert image[radius < 15].mean() < 0.6 * image[(radius > 40) & (radius < 60)].mean()
    assert psf.on_pixels(np.array([300.0]), pixel).max() == 0.0


@pytest.mark.parametrize(
    ("mode", "configuration", "n_int", "fraction"),
    [("MIR_IMAGE", "F770W", 80, 0.83), ("NRC_TSIMAGE", "WLP4", 30, 0.81)],
)
def test_depth_within_its_uncertainty(tmp_path, mode, configuration, n_int, fraction):
    visit = simulate(mode, tmp_path, configuration=configuration, n_int=n_int, segments=2, seed=5)
    result = run([visit.association], tmp_path / "out")
    (table,) = result.photometry.values()
    truth = np.load(next(iter(visit.truths.values())))
    flux, error = table["net_aperture_sum"].value, table["net_aperture_sum_err_temporal"].value
    transit, level = truth["transit"][0] - 1, truth["white_light"].max()
    design = np.stack([np.ones(n_int), transit], axis=1) * (truth["ramp"] * level / error)[:, None]
    (share, dip), *_ = np.linalg.lstsq(design, flux / error, rcond=None)
    sigma = np.sqrt(np.linalg.inv(design.T @ design)[1, 1]) / share
    assert abs(dip / share - 1) < 4 * sigma < 0.25
    assert share == pytest.approx(fraction, abs=0.04)
    assert (
        np.hypot(*(table[f"aperture_{axis}"][0].value - at for axis, at in zip("xy", truth["trace"], strict=True))) < 1
    )


def test_a_weak_lens_of_eight_waves_is_centred(tmp_path):
    visit = simulate("NRC_TSIMAGE", tmp_path, configuration="WLP8", subarray="SUB160P", n_int=4, seed=6)
    table = run([visit.association], tmp_path / "out").white_light
    place = np.load(next(iter(visit.truths.values())))["trace"]
    for axis, at in zip("xy", place, strict=True):
        assert np.abs(table[f"centroid_{axis}"].value - at).max() < 1.5
        assert (table[f"centroid_{axis}_err"].value < 0.2).all()
    assert np.isfinite(table["net_aperture_sum"].value).all()


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One integration."""
    return simulate("NRC_TSIMAGE", tmp_path_factory.mktemp("single"), n_int=1, seed=2, depth=0.0)


@pytest.mark.parametrize("preset", ["default", "archive"])
@pytest.mark.parametrize("planes", [3, 2])
def test_16_a_single_integration(single, tmp_path, preset, planes):
    """T16, T12: a stack of one integration, and a plain image, are a time series of one."""
    (path,) = single.members
    if planes == 2:
        path = tmp_path / path.name
        with fits.open(single.members[0]) as file:
            for hdu in file:
                if hdu.name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
                    hdu.data = hdu.data[0]
            file.writeto(path)
    table = run([path], tmp_path / "out", preset=preset).white_light
    assert len(table) == 1
    assert np.isfinite(table["net_aperture_sum"].value).all()
    truth = np.load(next(iter(single.truths.values())))
    assert 0.5 < table["net_aperture_sum"].value[0] / truth["white_light"][0] < 0.8


def test_24_keywords_of_the_field_stay(single, tmp_path):
    """T24: footprint, position angle and the status of every earlier step are those of the input."""
    result = run(single.members, tmp_path)
    paths = (single.members[0], result.products["crfints"][0])
    before, after = ([fits.getheader(path, extension) for extension in (0, 1)] for path in paths)
    for key in ("S_REGION", "PA_APER", "RADESYS", "CRVAL1", "XREF_SCI"):
        found = [header.get(key) for header in before]
        assert found == [header.get(key) for header in after]
        assert key == "RADESYS" or any(value is not None for value in found)
    steps = {
        key: value for key, value in before[0].items() if key.startswith("S_") and key not in ("S_REGION", "S_OUTLIR")
    }
    assert len(steps) > 5
    assert {key: after[0][key] for key in steps if key != "S_OUTLIR"} == steps
    assert after[0]["S_OUTLIR"] == "COMPLETE"


def test_22_a_flagged_pixel_does_not_count_whatever_its_value(tmp_path):
    """T22: DO_NOT_USE with a finite value is as good as NaN."""
    visit = simulate("NRC_TSIMAGE", tmp_path, n_int=6, seed=3)
    (path,) = visit.members
    tables = []
    for value in (np.nan, 1e7):
        with fits.open(path, mode="update") as file:
            file["SCI"].data[2, 31, 32] = value
            file["ERR"].data[2, 31, 32] = 1.0
            file["DQ"].data[2, 31, 32] = 1
        tables.append(run([path], tmp_path / "out").white_light)
    for name in ("net_aperture_sum", "aperture_sum", "centroid_x", "missing_fraction"):
        np.testing.assert_array_equal(tables[0][name].value, tables[1][name].value)


def test_photometry_without_any_flux_is_told(single, tmp_path):
    path = Path(shutil.copy(single.members[0], tmp_path))
    with fits.open(path, mode="update") as file:
        file["DQ"].data[:] = 1
    result = run([path], tmp_path / "out")
    assert sum("no valid flux in any of the 1 integrations of" in text for text in result.warnings) == 1
    assert np.isnan(result.white_light["net_aperture_sum"]).all()


def test_25_two_detectors_of_different_lengths(tmp_path):
    """T25: two detectors are two tables and two light curves; one may have more integrations than the other."""
    visit = simulate("NRC_TSIMAGE", tmp_path, configuration="A1A3", n_int=5, segments=[3, 2], seed=4)
    content = json.loads(Path(visit.association).read_text())
    members = content["products"][0]["members"]
    content["products"][0]["members"] = [m for m in members if "seg002_nrca1" not in m["expname"]]
    Path(visit.association).write_text(json.dumps(content))
    result = run([visit.association], tmp_path / "out")
    assert {detector: len(table) for detector, table in result.photometry.items()} == {"NRCA1": 3, "NRCA3": 5}
    product = visit.product_name
    assert [path.name for path in result.products["phot"]] == [
        f"{product}-nrca1_phot.ecsv",
        f"{product}-nrca3_phot.ecsv",
    ]
    for table in result.photometry.values():
        assert (np.diff(table["MJD"]) > 0).all()
        assert "detector" not in table.colnames


def test_radii_of_a_reference_file(single, tmp_path):
    path = tmp_path / "jwst_nircam_tsophot_0001.json"
    path.write_text('{"radii": [{"pupil": "CLEAR", "radius": 8.0, "radius_inner": 12.0, "radius_outer": 20.0}]}')
    result = run(single.members, tmp_path / "out", overrides={"tsophot": path})
    assert "r=8.0 pixels" in result.white_light.meta["apertures"]
    assert result.white_light.meta["sizes_source"] == path.name
    assert "tsophot: jwst_nircam_tsophot_0001.json (user)" in result.references


def test_bad_pixels_are_completed_from_the_moved_star(tmp_path):
    """A bright pixel beside the middle is bad in every other integration; the star moves by 0.05 pixel."""
    options = {"detectors": ["NRCB1"], "configuration": "F210M", "jitter": 0.05, "drift": 0.1, "depth": 0.0}
    visit = simulate("NRC_TSIMAGE", tmp_path / "in", n_int=80, cosmic_rays=0.0, bad_pixels=0.0, noise=False, **options)
    whole = tso3.run(visit.association, tmp_path / "whole")
    x, y = (round(float(np.median(whole.white_light[f"centroid_{axis}"].value))) for axis in "xy")
    with fits.open(visit.members[0], mode="update") as hdus:
        hdus["DQ"].data[::2, y, x + 1] |= 1
    scatter = {}
    for profile in ("steady", "moving"):
        result = tso3.run(visit.association, tmp_path / profile, parameters={"tso_photometry": {"profile": profile}})
        ratio = result.white_light["net_aperture_sum"] / whole.white_light["net_aperture_sum"]
        scatter[profile] = float(np.std(np.asarray(ratio)))
    assert scatter["steady"] > 1e-3
    assert scatter["moving"] < 0.3 * scatter["steady"]


@pytest.mark.parametrize("segments", [1, 2])
def test_three_passes_of_the_archive_look_for_outliers_once(tmp_path, monkeypatch, segments):
    visit = simulate("NRC_TSIMAGE", tmp_path / "in", n_int=40, segments=segments, detectors=["NRCB1"], cosmic_rays=30.0)
    searched = []
    find = outlier_detection.run
    monkeypatch.setattr(outlier_detection, "run", lambda *a, **k: searched.append(a[3:5]) or find(*a, **k))
    once = tso3.run(visit.association, tmp_path / "once", preset="archive", workers=1)
    n_once = len(searched)
    monkeypatch.setattr(ImagingLane, "_may_note", False)
    thrice = tso3.run(visit.association, tmp_path / "thrice", preset="archive", workers=1)
    assert len(searched) - n_once == 3 * n_once
    assert once.n_flagged == thrice.n_flagged > 0
    assert once.exposures == thrice.exposures
    for one, other in zip(once.products["crfints"], thrice.products["crfints"], strict=True):
        for name in ("SCI", "ERR", "DQ"):
            assert fits.getdata(one, name).tobytes() == fits.getdata(other, name).tobytes()
    for name in once.white_light.colnames:
        np.testing.assert_array_equal(once.white_light[name], thrice.white_light[name])
