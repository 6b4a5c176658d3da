"""Optimal extraction and the moving profile on simulated visits: unbiased, less noise, the same however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.cli.summary import print_summary
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.simulate import simulate

FLAT = {"rectify": {"skip": True}}
OPTIMAL = {"extract_1d": {"extraction_type": "optimal"}} | FLAT
FAINT = {"n_int": 24, "segments": 2, "seed": 4, "depth": 0.0, "jitter": 0.02, "flux_scale": 0.03, "subarray": "SUB512S"}


@pytest.fixture(scope="module")
def faint(tmp_path_factory):
    """PRISM, a star of which most columns are dominated by read noise."""
    folder = tmp_path_factory.mktemp("faint")
    visit = simulate("NRS_BRIGHTOBJ", folder, configuration="PRISM", bad_pixels=0.005, **FAINT)
    return visit, tso3.run(visit.association, folder / "optimal", parameters=OPTIMAL, block_size=7, workers=2)


def white(result):
    name = next(name for name in result.white_light.colnames if name.startswith("whitelight_flux"))
    return np.asarray(result.white_light[name], float)


def columns(result, *names):
    with fits.open(result.products["x1dints"][0]) as file:
        tables = (file["EXTRACT1D", 1].data, file["TSO3_EXTRACT1D"].data)
        return [np.array(tables[name not in tables[0].names][name], float) for name in names]


def test_less_noise_than_the_box_and_both_are_told(faint, capsys):
    _, result = faint
    (exposure,) = result.exposures
    assert exposure.scatter_ppm < 1.5 * exposure.limit_ppm  # 24 integrations: 18 % of scatter in the scatter itself
    print_summary(result)
    text = capsys.readouterr().out
    assert "of the box" in text
    assert f"{exposure.box_scatter_ppm:.0f}" in text


def test_the_box_beside_it_is_the_box(faint, tmp_path):
    visit, result = faint
    plain = tso3.run(visit.association, tmp_path, parameters=OPTIMAL | {"extract_1d": {"extraction_type": "box"}})
    assert np.isnan(plain.exposures[0].box_scatter_ppm)
    assert result.exposures[0].limit_ppm < 0.65 * plain.exposures[0].limit_ppm
    assert result.exposures[0].box_scatter_ppm == pytest.approx(plain.exposures[0].scatter_ppm, rel=0.05)
    best, box = columns(result, "FLUX"), columns(plain, "FLUX")
    assert np.isfinite(best).sum() >= 0.99 * np.isfinite(box).sum()


def test_the_same_numbers_whatever_blocks_and_threads(faint, tmp_path):
    visit, result = faint
    again = tso3.run(visit.association, tmp_path, parameters=OPTIMAL, block_size=24, workers=1)
    names = ("FLUX", "FLUX_VAR_POISSON", "FLUX_VAR_FLAT", "NPIXELS", "MISSING_FRACTION", "DQ", "FLUX_VAR_LIMIT")
    for one, other in zip(columns(result, *names), columns(again, *names), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(white(result), white(again))


def test_what_lacks_pixels_says_so(faint):
    _, result = faint
    flux, npixels, missing, dq, kept = columns(result, "FLUX", "NPIXELS", "MISSING_FRACTION", "DQ", "FLUX_UNCOMPLETED")
    lacking = npixels < npixels.max(axis=0)
    known = np.isfinite(flux)
    flags = pixel_flags()
    bright = lacking & (np.nanmean(flux, axis=0) > 0.2 * np.nanmax(np.nanmean(flux, axis=0)))
    assert bright.sum() > 5
    assert (missing[bright] > 0).mean() > 0.7  # a wing whose light is below that of the background counts as 0
    assert (dq[lacking & known] == flags["FLUX_ESTIMATED"]).all()
    assert (dq[~known] == flags["DO_NOT_USE"]).all()
    whole = known & (missing == 0)
    np.testing.assert_array_equal(flux[whole], kept[whole])
    assert (np.abs(flux - kept)[known & (missing > 0.2)] > 0).all()


@pytest.mark.parametrize(
    ("mode", "configuration", "scale"),
    [
        ("NRS_BRIGHTOBJ", "PRISM", 0.01),
        ("MIR_LRS-SLITLESS", None, 1.0),
    ],
)
def test_the_flux_is_that_of_the_box(mode, configuration, scale, tmp_path):
    scene = {"n_int": 12, "seed": 2, "depth": 0.0, "bad_pixels": 0.0, "cosmic_rays": 0.0, "flux_scale": scale}
    visit = simulate(mode, tmp_path, configuration=configuration, **scene)
    result = tso3.run(visit.association, tmp_path / "optimal", parameters=OPTIMAL)
    box = tso3.run(visit.association, tmp_path / "box", parameters=FLAT)
    best, plain = white(result), white(box)
    (noise,) = columns(box, "FLUX_ERROR_TEMPORAL")
    inside = np.isfinite(columns(box, "FLUX")[0]).all(axis=0)
    error = np.sqrt(np.nansum(noise[:, inside] ** 2) / len(best)) / plain.mean() / np.sqrt(len(best))
    assert abs(best.mean() / plain.mean() - 1) < 1e-4 + 3 * error


def test_a_moving_image_does_not_move_completed_samples(tmp_path):
    squares = {"steady": [], "moving": []}
    for seed in (6, 7):
        scene = {"n_int": 30, "seed": seed, "depth": 0.0, "cosmic_rays": 0.0, "bad_pixels": 0.02, "jitter": 0.03}
        visit = simulate("NRS_BRIGHTOBJ", tmp_path / str(seed), configuration="PRISM", **scene)
        for profile, found in squares.items():
            given = {"extract_1d": {"profile": profile}, "rectify": {"skip": True}}
            result = tso3.run(visit.association, tmp_path / f"{profile}{seed}", parameters=given)
            flux, noise, missing = columns(result, "FLUX", "FLUX_ERROR_TEMPORAL", "MISSING_FRACTION")
            always = (missing > 0.02).all(axis=0) & np.isfinite(flux).all(axis=0)
            found.extend((((flux - flux.mean(axis=0)) / noise)[:, always] ** 2).mean(axis=0))
    assert len(squares["steady"]) > 30
    rest = {profile: np.sqrt(np.mean(found)) for profile, found in squares.items()}
    assert rest["moving"] < 1.15
    assert rest["steady"] > 1.1 * rest["moving"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"survey": {"n_sample": 0}, "extract_1d": {"missing": "drop"}}, "n_sample"),
        ({"extract_1d": {"soss_variance": "linear"}}, "soss_variance"),
    ],
)
def test_what_cannot_be_done_is_an_error(faint, tmp_path, parameters, words):
    visit, _ = faint
    given = {step: dict(values) for step, values in parameters.items()}
    given["extract_1d"]["extraction_type"] = "optimal"
    if "survey" in given:
        given["white_light"] = {"missing": "drop"}
        given["outlier_detection"] = {"method": "rolling_median"}
    with pytest.raises(ParameterError, match=words):
        tso3.run(visit.association, tmp_path / "out", parameters=given)
