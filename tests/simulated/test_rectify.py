"""Rectified exposures of simulated visits: what the products hold, who opens them, that blocks do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import tso3
from tso3.io.exposure import read_observation
from tso3.simulate import simulate


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visit")
    return simulate("NRS_BRIGHTOBJ", folder, n_int=12, segments=2, seed=3, configuration="PRISM")


@pytest.fixture(scope="module")
def result(visit, tmp_path_factory):
    return tso3.run(visit.association, tmp_path_factory.mktemp("out"), overrides=visit.references)


def test_one_product_for_each_segment_and_the_medians(result):
    names = [path.name for path in result.products["s2dints"]]
    assert len(names) == 2
    assert all(name.endswith("_nrs1_o003_s2dints.fits") for name in names)
    assert [path.name.split("_o003_")[1] for path in result.products["median"]] == [
        "cal_median.fits", "s2d_median.fits",
    ]  # fmt: skip


def test_the_median_on_the_detector_lies_where_the_input_does(visit, result):
    path = next(path for path in result.products["median"] if path.name.endswith("cal_median.fits"))
    found, given = fits.getheader(path, "SCI"), fits.getheader(visit.members[0], "SCI")
    cards = [
        name for name in given if name.startswith(("WCSAXES", "CTYPE", "CRPIX", "CRVAL", "CDELT", "PC", "DISPAXIS"))
    ]
    assert len(cards) > 5
    assert {name: found.get(name) for name in cards} == {name: given[name] for name in cards}


def test_planes_and_headers(result):
    first, second = (fits.open(path) for path in result.products["s2dints"])
    with first, second:
        assert [hdu.name for hdu in first] == [
            "PRIMARY", "SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "WHT", "WAVELENGTH", "INT_TIMES",
            "WCS-TABLE", "ASDF",
        ]  # fmt: skip
        first.verify("exception")
        assert first["SCI"].shape[1:] == second["SCI"].shape[1:]
        np.testing.assert_array_equal(first["WAVELENGTH"].data, second["WAVELENGTH"].data)
        np.testing.assert_array_equal(second["INT_TIMES"].data["integration_number"], np.arange(7, 13))
        assert first["PRIMARY"].header["S_RESAMP"] == "COMPLETE"
        assert first["PRIMARY"].header["R_CONSRV"] == "MEAN"
        data, weight = first["SCI"].data, first["WHT"].data
        np.testing.assert_array_equal(np.isnan(data), weight == 0.0)
        np.testing.assert_array_equal(first["DQ"].data == 1, weight == 0.0)
        variance = sum(first[f"VAR_{name}"].data.astype(float) for name in ("POISSON", "RNOISE", "FLAT"))
        np.testing.assert_allclose(first["ERR"].data, np.sqrt(variance), rtol=1e-6)
        assert np.all(np.diff(first["WAVELENGTH"].data[0]) > 0.0)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_worlds_agree_with_that_of_the_exposure(visit, result):
    from stdatamodels.jwst import datamodels

    exposure = read_observation(visit.association).exposures[0]
    path = result.products["s2dints"][0]
    plane = fits.getdata(path, "WAVELENGTH")
    with fits.open(path) as product:
        world = WCS(product["SCI"].header, fobj=product)
    assert world.naxis == 4  # across the slit, of one pixel
    with datamodels.open(path) as model:
        assert type(model).__name__ == "SlitModel"
        assert model.data.shape == model.wht.shape
        gwcs = model.meta.wcs
        for x, y in ((5, 16), (plane.shape[1] // 2, 12), (plane.shape[1] - 6, 20)):
            wavelength, ra, dec, number = world.all_pix2world([[x, y, 3, 0]], 0)[0]
            assert wavelength * 1e6 == pytest.approx(plane[y, x], rel=1e-6)
            assert number == 4.0
            np.testing.assert_allclose(gwcs(x, y), (ra, dec, plane[y, x]), rtol=1e-6)
            row, column = np.unravel_index(
                np.nanargmin(_distance(exposure, ra, dec, plane[y, x])), exposure.wavelength.shape
            )
            there = exposure.geometry.sky(float(column), float(row))
            assert np.hypot((there[0] - ra) * np.cos(np.radians(dec)), there[1] - dec) * 3600.0 < 0.06  # of 0.1 arcsec


def _distance(exposure, ra, dec, wavelength):
    """Distance of every pixel from a place on the sky [pixel], and from a wavelength."""
    y, x = np.indices(exposure.wavelength.shape, dtype=float)
    ras, decs = exposure.geometry.skies(x, y)
    away = np.hypot((ras - ra) * np.cos(np.radians(dec)), decs - dec) * 36000.0
    return away + np.abs(exposure.wavelength - wavelength) / 0.01


def test_numbers_do_not_depend_on_blocks(visit, result, tmp_path):
    again = tso3.run(visit.association, tmp_path, overrides=visit.references, block_size=5, workers=1)
    for path, other in zip(result.products["s2dints"], again.products["s2dints"], strict=True):
        with fits.open(path) as one, fits.open(other) as two:
            for name in ("SCI", "ERR", "WHT", "DQ", "VAR_POISSON"):
                assert one[name].data.tobytes() == two[name].data.tobytes()


STEPS = {"auto": "native", "mean": "mean", "native": "native", "R=120": "R=120", "0.7,1.0,1.2,1.7,2.9,3.0,4.4": "edges"}


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize(("step", "named"), STEPS.items())
def test_every_world_of_a_product_says_the_same_wavelength(step, named, visit, tmp_path):
    """FITS WCS (with its table), gWCS and plane, at three places: to a millionth of a column, or of float32."""
    from stdatamodels.jwst import datamodels

    parameters = {"rectify": {"step": step}, "extract_1d": {"skip": True}, "outlier_detection": {"save_results": False}}
    result = tso3.run(visit.association, tmp_path, overrides=visit.references, parameters=parameters)
    paths = [result.products["s2dints"][1], next(path for path in result.products["median"] if "s2d" in path.name)]
    for path in paths:
        with fits.open(path) as product, datamodels.open(path, strict_validation=True) as model:
            assert product["PRIMARY"].header["R_STEP"] == named
            product.verify("exception")
            assert ("WCS-TABLE" in product) == (named in ("native", "edges"))
            plane = product["WAVELENGTH"].data.astype(float)
            gwcs = model.meta.wcs
            for name in ("SCI", "ERR", "WHT") if len(product) > 6 else ("SCI",):
                world = WCS(product[name].header, fobj=product)
                for x, y in ((0, 3), (plane.shape[1] // 2, 16), (plane.shape[1] - 1, 20)):
                    pixel = [x, y, *[0] * (world.naxis - 2)]
                    ra, dec, wavelength = gwcs(x, y)
                    told = world.all_pix2world([pixel], 0)[0]
                    width = np.gradient(plane[y])[x]
                    assert abs(told[0] * 1e6 - wavelength) < 1e-6 * width
                    assert world.pixel_to_world(*pixel)[0].to_value("um") == pytest.approx(wavelength, rel=1e-12)
                    assert plane[y, x] == pytest.approx(wavelength, rel=1e-7)  # of float32
                    np.testing.assert_allclose(told[1:3], (ra, dec), rtol=1e-10)


def test_the_median_has_the_numbers_of_the_whole_exposure(visit, result):
    given = fits.getheader(visit.members[1])
    assert (given["INTSTART"], given["EXSEGNUM"]) != (1, 1)
    for path in result.products["median"]:
        header = fits.getheader(path)
        found = [header[name] for name in ("INTSTART", "INTEND", "NINTS", "EXSEGNUM", "EXSEGTOT")]
        assert found == [1, 12, 12, 1, 1]


def test_off_in_the_archive_preset_and_where_it_is_skipped(visit, tmp_path):
    kept = tso3.run(visit.association, tmp_path, preset="archive", overrides=visit.references)
    assert not {"s2dints", "median"} & set(kept.products)
    assert not list(tmp_path.glob("*s2d*"))
    skipped = tso3.run(
        visit.association, tmp_path / "b", parameters={"rectify": {"skip": True}}, overrides=visit.references
    )
    assert not {"s2dints", "median"} & set(skipped.products)


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_an_image_without_distortion_stays_as_it_is(tmp_path):
    visit = simulate("NRC_TSIMAGE", tmp_path, n_int=6, segments=1, seed=2)
    result = tso3.run(visit.association, tmp_path / "out", overrides=visit.references)
    (path,) = result.products["i2dints"]
    (flagged,) = result.products["crfints"]
    exposure = read_observation(visit.association).exposures[0]
    with fits.open(path) as product, fits.open(flagged) as given:
        found, data = product["SCI"].data, given["SCI"].data
        assert found.shape == data.shape
        np.testing.assert_allclose(found, np.where(np.isfinite(found), data, np.nan), rtol=2e-4, atol=0.05)
        header = product["SCI"].header
    world = WCS(header)
    for x, y in ((3, 4), (30, 33), (60, 10)):
        ra, dec, _ = world.all_pix2world([[x, y, 0]], 0)[0]
        np.testing.assert_allclose((ra, dec), exposure.geometry.sky(x, y), atol=1e-8)


@pytest.fixture
def distorted(tmp_path, monkeypatch):
    """A visit whose gWCS has distortion of half a pixel, with SIP in its header, as stage 2 writes."""
    from astropy.modeling import models

    from tso3.simulate import wcs

    plain = wcs._imaging_wcs

    def bent(scene):
        found = plain(scene)
        x = models.Polynomial2D(2, c0_0=0.3, c1_0=0.99, c2_0=2e-4, c1_1=-1e-4)
        y = models.Polynomial2D(2, c0_0=-0.2, c0_1=1.01, c0_2=-1e-4, c1_1=2e-4)
        found.insert_transform("detector", models.Mapping((0, 1, 0, 1)) | x & y, after=True)
        return found

    monkeypatch.setattr(wcs, "_imaging_wcs", bent)
    visit = simulate("NRC_TSIMAGE", tmp_path, n_int=4, segments=1, seed=2)
    for path in visit.members:
        for card in (("CTYPE1", "RA---TAN-SIP"), ("A_ORDER", 2), ("A_2_0", 2e-4), ("SIPMXERR", 0.1)):
            fits.setval(path, card[0], value=card[1], extname="SCI")
    return visit


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_distortion_is_in_neither_wcs_and_the_area_of_a_pixel_is_that_of_the_grid(distorted, tmp_path):
    result = tso3.run(
        distorted.association,
        tmp_path / "out",
        overrides=distorted.references,
        parameters={"rectify": {"pixel_scale": 0.05, "north_up": True}},
    )
    exposure = read_observation(distorted.association).exposures[0]
    from stdatamodels.jwst import datamodels

    (path,) = result.products["i2dints"]
    header = fits.getheader(path, "SCI")
    assert not {"A_ORDER", "A_2_0", "SIPMXERR"} & set(header)
    assert header["PIXAR_A2"] == pytest.approx(0.05**2)
    assert header["PIXAR_SR"] == pytest.approx(0.05**2 * np.radians(1 / 3600) ** 2)
    assert 1.0 < fits.getheader(path)["R_COVAR"] < 1.5
    world = WCS(header)
    with datamodels.open(path) as model:
        for x, y in ((3, 4), (15.5, 12.25), (25, 30)):
            ra, dec, _ = world.all_pix2world([[x, y, 0]], 0)[0]
            np.testing.assert_allclose(model.meta.wcs(x, y), (ra, dec), rtol=1e-10)
    frame = np.nan_to_num(fits.getdata(path, "SCI")[0])
    y, x = np.unravel_index(np.argmax(frame), frame.shape)
    ra, dec, _ = world.all_pix2world([[x, y, 0]], 0)[0]
    given = np.nan_to_num(fits.getdata(distorted.members[0], "SCI")[0])
    row, column = np.unravel_index(np.argmax(given), given.shape)
    there = exposure.geometry.sky(float(column), float(row))
    assert np.hypot((there[0] - ra) * np.cos(np.radians(dec)), there[1] - dec) * 3600.0 < 0.05


def test_images_too_small_for_a_box_have_no_factor_of_covariance(tmp_path):
    visit = simulate("NRC_TSIMAGE", tmp_path, n_int=4, segments=1, seed=2)
    result = tso3.run(
        visit.association, tmp_path / "out", overrides=visit.references, parameters={"rectify": {"pixel_scale": 1.0}}
    )
    (path,) = result.products["i2dints"]
    assert fits.getdata(path, "SCI").shape == (4, 3, 3)
    assert "R_COVAR" not in fits.getheader(path)


def test_a_list_of_edges_for_one_of_two_detectors(tmp_path):
    visit = simulate("NRS_BRIGHTOBJ", tmp_path, n_int=4, segments=1, seed=3, configuration="G395H")
    given = {"rectify": {"step": "2.9,3.1,3.4"}, "extract_1d": {"skip": True}}
    result = tso3.run(visit.association, tmp_path / "out", overrides=visit.references, parameters=given)
    (path,) = result.products["s2dints"]
    assert "nrs1" in path.name
    with pytest.raises(tso3.Tso3Error, match=r"5.5 to 6.1 micron holds nothing of .*nrs1"):
        tso3.run(visit.association, tmp_path / "none", parameters={"rectify": {"step": "5.5,5.8,6.1"}})
    assert not list(tmp_path.glob("none/*"))


@pytest.mark.parametrize("mode", ["NRC_TSIMAGE", "NRC_TSGRISM"])
def test_frames_that_follow_the_star_do_not_depend_on_blocks(mode, tmp_path):
    options = {"subarray": "SUBGRISM128"} if mode == "NRC_TSGRISM" else {}
    visit = simulate(mode, tmp_path, n_int=8, segments=1, seed=2, jitter=0.4, **options)
    found = []
    for name, follow, more in (("one", True, {}), ("two", True, {"block_size": 1, "workers": 2}), ("still", False, {})):
        given = {"rectify": {"follow_jitter": follow, "height": 20}}
        result = tso3.run(visit.association, tmp_path / name, overrides=visit.references, parameters=given, **more)
        path = result.products["i2dints" if mode == "NRC_TSIMAGE" else "s2dints"][0]
        with fits.open(path) as product:
            found.append({plane: product[plane].data.copy() for plane in ("SCI", "ERR", "WHT", "VAR_POISSON")})
    one, two, still = found
    for plane, values in one.items():
        assert values.tobytes() == two[plane].tobytes()
    assert not np.array_equal(one["SCI"], still["SCI"], equal_nan=True)
