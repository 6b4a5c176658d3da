"""The two modes that no other program reduces at stage 3: stripes of NIRCam's DHS, and MIRI's MRS."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import tso3
from tso3.io.exposure import read_observation
from tso3.io.ifu_apertures import CircularApertures, mrs_fwhm
from tso3.io.wcs import world_of_grid
from tso3.simulate import simulate
from tso3.steps import extract_1d

QUIET = {"one_over_f": 0.0, "cosmic_rays": 0.2}
PLAIN = {
    "extract_1d": {"missing": "drop", "subtract_background": False},
    "white_light": {"missing": "drop"},
    "outlier_detection": {"skip": True},
    "rectify": {"skip": True},
}


def depth(flux, error, truth, transit):
    """Return the depth in units of the true one, and its error, by least squares of level and depth."""
    level = truth / transit  # ramp and star
    design = np.stack([np.ones_like(flux), transit - 1.0], axis=1)
    y, sigma = flux / level, error / level
    covariance = np.linalg.inv(design.T @ (design / sigma[:, None] ** 2))
    solution = covariance @ (design.T @ (y / sigma**2))
    residual = (y - design @ solution) / sigma
    scale = np.sqrt(covariance[1, 1]) / solution[0]
    return solution[1] / solution[0], scale, float(np.sum(residual**2) / (len(y) - 2))


# ------------------------------------------------------------------ stripes


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    visit = simulate("NRC_TSGRISM", tmp_path_factory.mktemp("dhs"), configuration="DHS", detectors=["NRCA1"], n_int=12,
                     segments=2, seed=5, **QUIET)  # fmt: skip
    return visit, tso3.run(visit.association, tmp_path_factory.mktemp("out"))


def truth_of(visit, number):
    with np.load(next(iter(visit.truths.values()))) as truth:
        suffix = "" if number == 1 else f"_{number}"
        transit = np.average(truth[f"transit{suffix}"], axis=0)
        return truth[f"white_light{suffix}"], transit, truth[f"trace{suffix}"]


def test_every_stripe_and_their_sum_show_the_transit(stripes):
    visit, result = stripes
    table = result.white_light
    assert "whitelight_flux_stripe_1" in table.colnames
    sums, limits = np.zeros(12), np.zeros(12)
    for number in range(1, 5):
        flux, error = (table[f"whitelight_{kind}_stripe_{number}"].value for kind in ("flux", "flux_error"))
        white, transit, _ = truth_of(visit, number)
        ratio, sigma, chi2 = depth(flux, error, white, transit)
        assert abs(ratio - 1.0) < 4.0 * sigma
        assert sigma < 0.05
        assert 0.3 < chi2 < 2.5
        sums, limits = sums + flux, limits + table[f"photon_limit_stripe_{number}"].value ** 2
    np.testing.assert_allclose(table["whitelight_flux"].value, sums, rtol=1e-12)
    np.testing.assert_allclose(table["photon_limit"].value, np.sqrt(limits), rtol=1e-12)
    ratio, sigma, chi2 = depth(sums, table["whitelight_flux_error"].value, white, transit)
    assert abs(ratio - 1.0) < 4.0 * sigma
    assert sigma < 0.025
    assert 0.3 < chi2 < 2.5


def test_apertures_lie_on_the_light(stripes):
    visit, result = stripes
    for number, view in enumerate(result.views, start=1):
        weights = view.apertures["aperture"][:, 4:-4]
        rows = np.arange(len(weights))[:, np.newaxis]
        middle = (weights * rows).sum(axis=0) / weights.sum(axis=0)
        first = 1 + 41 * (number - 1)
        assert np.abs(middle - (truth_of(visit, number)[2][4:-4] - first)).max() < 0.25
        assert view.name.endswith(f"stripe {number}")


def test_products_have_every_stripe(stripes):
    visit, result = stripes
    assert [path.name for path in result.products["crfints"]] == [
        f"jw04453010001_02106_00001-seg00{k}_nrca1_o010_crfints.fits" for k in (1, 2)
    ]
    with fits.open(result.products["crfints"][0]) as after, fits.open(visit.members[0]) as before:
        assert [(h.name, h.ver) for h in before] == [(h.name, h.ver) for h in after]
    with fits.open(result.products["x1dints"][0]) as hdus:
        tables = [hdu for hdu in hdus if hdu.name == "EXTRACT1D"]
        assert [t.header["SLTNAME"] for t in tables] == ["1", "2", "3", "4"]
        assert len(hdus["HDRTAB"].data) == 2  # files, not slits
    assert set(result.spectra.children) == {f"NRCA1_{k}" for k in range(1, 5)}
    assert tso3.open_spectra(result.products["x1dints"][0], slit="3").attrs["slit_name"] == "3"
    assert result.n_int == 12
    assert [e.stripe for e in result.exposures] == ["1", "2", "3", "4"]
    (path,) = result.products["whtlt"]
    assert len(QTable.read(path, format="ascii.ecsv")) == 12


def test_the_sum_of_a_stripe_is_the_obvious_one(stripes, tmp_path):
    visit, _ = stripes
    with pytest.warns(tso3.Tso3Warning, match="integrations 7-12 are in none"):
        result = tso3.run(visit.members[0], tmp_path, parameters=PLAIN)
    with fits.open(visit.members[0]) as hdus, fits.open(result.products["x1dints"][0]) as product:
        for number, view in enumerate(result.views, start=1):
            data, dq = hdus["SCI", number].data.astype(float), hdus["DQ", number].data
            data[(dq & 1) > 0] = np.nan
            area = hdus["SCI", number].header["PIXAR_SR"]
            spectrum = product["EXTRACT1D", number].data
            columns = np.flatnonzero(np.isfinite(hdus["WAVELENGTH", number].data).any(axis=0))
            with np.errstate(invalid="ignore"):
                expected = np.nansum(view.apertures["aperture"] * data, axis=1)[:, columns] * area * 1e6
            np.testing.assert_allclose(spectrum["FLUX"], expected, rtol=1e-5)


def test_apertures_of_a_reference_by_the_name_of_the_stripe(stripes, tmp_path):
    visit, _ = stripes
    own = {"id": "2", "region_type": "target", "dispaxis": 1, "ystart": 10, "ystop": 29}
    common = {"id": "NRC_TSGRISM", "region_type": "target", "dispaxis": 1, "ystart": 15, "ystop": 24}
    reference = tmp_path / "extract1d.json"
    reference.write_text(json.dumps({"apertures": [own, common]}))
    with pytest.warns(tso3.Tso3Warning, match="integrations 7-12 are in none"):
        result = tso3.run(visit.members[0], tmp_path / "out", parameters=PLAIN, overrides={"extract1d": reference})
    with fits.open(result.products["x1dints"][0]) as hdus:
        pixels = [np.max(hdus["EXTRACT1D", k].data["NPIXELS"]) for k in range(1, 5)]
    assert pixels == [10.0, 20.0, 10.0, 10.0]


def test_a_run_that_fails_in_a_later_stripe_leaves_nothing(stripes, tmp_path, monkeypatch):
    visit, _ = stripes
    whole = extract_1d.run

    def fail(plan, block):
        if plan.header.slit_name == "3":
            raise RuntimeError("the power is gone")
        return whole(plan, block)

    monkeypatch.setattr(extract_1d, "run", fail)
    with pytest.raises(RuntimeError, match="the power is gone"):
        tso3.run(visit.association, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # nothing is left, not even the folder that the run made


# ------------------------------------------------------------------ slices


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    visit = simulate("MIR_MRS", tmp_path_factory.mktemp("mrs"), n_int=12, subarray="ROWS96", detectors=["MIRIFUSHORT"],
                     seed=4, **QUIET)  # fmt: skip
    return visit, tso3.run(visit.association, tmp_path_factory.mktemp("out"))


def test_both_channels_show_the_transit(slices):
    visit, result = slices
    with fits.open(result.products["x1dints"][0]) as hdus:
        names = [hdu.header["SLTNAME"] for hdu in hdus if hdu.name == "EXTRACT1D"]
        level = [np.nanmedian(hdus["EXTRACT1D", k].data["FLUX"]) for k in (1, 2)]
    assert names == ["1SHORT", "2SHORT"]
    for number, name in enumerate(names, start=1):
        flux, error = (result.white_light[f"whitelight_{kind}_channel_{name}"].value for kind in ("flux", "flux_error"))
        white, transit, _ = truth_of(visit, number)
        ratio, sigma, chi2 = depth(flux, error, white, transit)
        assert abs(ratio - 1.0) < 4.0 * sigma
        assert sigma < 0.05
        assert 0.2 < chi2 < 3.0
        with np.load(next(iter(visit.truths.values()))) as truth:
            star = np.median(truth["flux" if number == 1 else "flux_2"])
        assert 0.85 < level[number - 1] / star < 1.0  # the halo is outside, in part taken for background
    with fits.open(result.products["crfints"][0]) as hdus:
        assert hdus["SCI"].shape == (12, 96, 1032)


def test_the_sum_over_slices_is_the_obvious_one(slices, tmp_path):
    visit, _ = slices
    result = tso3.run(visit.members[0], tmp_path, parameters=PLAIN)
    (exposure,) = read_observation(visit.members[0]).exposures
    ra, dec, wavelength = world_of_grid(exposure.wcs, exposure.ny, exposure.nx)
    with fits.open(visit.members[0]) as hdus, fits.open(result.products["x1dints"][0]) as product:
        data = hdus["SCI"].data.astype(float)
        data[(hdus["DQ"].data & 1) > 0] = np.nan
        for number, (columns, pixel, width) in enumerate((
            (slice(0, 516), 0.196, 0.177), (slice(516, 1032), 0.196, 0.28)), start=1):  # fmt: skip
            table = product["EXTRACT1D", number]
            x = (ra - table.header["SLIT_RA"]) * np.cos(np.radians(dec)) * 3600.0
            y = (dec - table.header["SLIT_DEC"]) * 3600.0
            inside = np.hypot(x, y)[:, columns] <= 2.0 * mrs_fwhm(wavelength[:, columns])
            with np.errstate(invalid="ignore"):
                sums = np.nansum(np.where(inside, data[:, :, columns], 0.0), axis=2)
            expected = sums * 1e6 * pixel * width / 206264.806247**2
            differ = np.abs(table.data["FLUX"] / expected - 1.0)
            assert np.median(differ) < 1e-6
            assert (differ < 1e-6).mean() > 0.97  # a pixel on the edge of the circle, by the place of the source
            mean = np.where(inside, wavelength[:, columns], 0.0).sum(axis=1) / inside.sum(axis=1)
            assert np.median(np.abs(table.data["WAVELENGTH"][0] - mean)) < 1e-7


def test_radii_of_the_reference_are_used(slices, tmp_path):
    visit, default = slices
    result = tso3.run(visit.members[0], tmp_path, overrides={"extract1d": visit.references["extract1d"]})
    pixels = []
    for run in (default, result):
        with fits.open(run.products["x1dints"][0]) as hdus:
            pixels.append(np.nanmedian(hdus["EXTRACT1D", 1].data["NPIXELS"]))
    assert 1.05 < pixels[1] / pixels[0] < 1.45  # 1.21, but for the steps of whole slices
    assert CircularApertures.built_in().radius[0] == pytest.approx(2.0 * (0.033 * 4.0 + 0.106))
