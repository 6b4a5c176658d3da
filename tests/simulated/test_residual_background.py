"""Residual background from calints to light curves: a level that was put in is taken out, and the star stays."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate


def run(visit, folder, background="none", *, steps=None, **arguments):
    parameters = {"residual_background": {"background": background}, "rectify": {"skip": True}} | (steps or {})
    return tso3.run(visit.association, folder, parameters=parameters, **arguments)


def scatter(visit, table, name):
    """Return the standard deviation of a light curve over the truth [ppm], a slope removed."""
    truth = np.load(next(iter(visit.truths.values())))["white_light"]
    ratio = np.asarray(table[name], float) / truth
    index = np.arange(ratio.size)
    return 1e6 * np.std(ratio / np.polyval(np.polyfit(index, ratio, 1), index))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A star in focus, and a level in every row of every integration, five times the read noise of a pixel."""
    folder = tmp_path_factory.mktemp("rows")
    visit = simulate("NRC_TSIMAGE", folder, n_int=40, segments=2, seed=3, one_over_f=0.0)
    rng = np.random.default_rng(6)
    for path in visit.members:
        with fits.open(path, mode="update") as file:
            sigma = np.sqrt(np.nanmedian(file["VAR_RNOISE"].data))
            n_int, ny, _ = file["SCI"].data.shape
            file["SCI"].data += rng.normal(0.0, 5.0 * sigma, (n_int, ny, 1)).astype(np.float32)
    return visit


def test_rows_of_an_image(rows, tmp_path):
    steps = {"tso_photometry": {"radius": 8.0, "radius_inner": 10.0, "radius_outer": 20.0}}
    tables, flagged = {}, {}
    for kind in ("none", "row"):
        result = run(rows, tmp_path / kind, kind, steps=steps)
        tables[kind] = result.white_light
        flagged[kind] = [fits.getdata(path, "SCI") for path in sorted(result.products["crfints"])]
    for before, after in zip(flagged["none"], flagged["row"], strict=True):  # flagged exposures hold what came in
        np.testing.assert_array_equal(before, after)
    name = "net_aperture_sum"
    limit = float(np.median(tables["none"]["photon_limit"]) / np.median(tables["none"][name])) * 1e6
    before, after = (scatter(rows, tables[kind], name) for kind in ("none", "row"))
    assert before > 1.5 * limit
    assert after < 0.7 * before
    assert after < 1.3 * limit
    assert float(np.median(tables["row"][name]) / np.median(tables["none"][name])) == pytest.approx(1.0, abs=5e-3)
    assert (tables["row"]["photon_limit"] > tables["none"]["photon_limit"]).all()  # the levels have errors
    blocks = run(rows, tmp_path / "blocks", "row", steps=steps, block_size=7, workers=3).white_light
    for column in (name, "net_aperture_sum_err", "photon_limit"):
        np.testing.assert_array_equal(blocks[column], tables["row"][column])


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """Few rows of the prism; a level in every column of every integration, three times the read noise of its pixels."""
    folder = tmp_path_factory.mktemp("columns")
    scene = {"depth": 0.01, "cosmic_rays": 0.0, "bad_pixels": 0.0, "one_over_f": 0.0, "seed": 4}
    visit = simulate("NRS_BRIGHTOBJ", folder, configuration="PRISM", n_int=24, **scene)
    rng = np.random.default_rng(5)
    with fits.open(visit.members[0], mode="update") as file:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # columns without calibration
            sigma = np.sqrt(np.nanmedian(file["VAR_RNOISE"].data, axis=(0, 1)))
        level = 3.0 * sigma * rng.normal(size=(24, 1, sigma.size))
        file["SCI"].data += level.astype(np.float32)
    return visit


def test_columns_without_a_background_of_their_own(columns, tmp_path):
    plain = {"extract_1d": {"subtract_background": False}}
    name = "whitelight_flux_NRS1"
    tables = {kind: run(columns, tmp_path / kind, kind, steps=plain).white_light for kind in ("none", "column")}
    before, after = (scatter(columns, tables[kind], name) for kind in ("none", "column"))
    assert after < 0.5 * before
    for kind, found in (("none", before), ("column", after)):  # the errors know of the levels, and of what is left
        error = 1e6 * float(np.median(tables[kind]["whitelight_flux_error_NRS1"] / tables[kind][name]))
        assert 0.6 < found / error < 1.5
    shared = tables["none"]["whitelight_flux_error_correlated_NRS1"] / tables["none"]["whitelight_flux_error_NRS1"]
    assert (shared > 0.5).all()


def test_it_needs_the_template(columns, tmp_path):
    steps = {"outlier_detection": {"method": "rolling_median"}}
    with pytest.raises(tso3.Tso3Error, match="column needs the template of outlier detection"):
        run(columns, tmp_path, "column", steps=steps)
