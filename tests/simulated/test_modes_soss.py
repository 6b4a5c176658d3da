"""NIRISS SOSS from its calints to its products; T numbers are those of the project's list of corner cases."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate

ISOLATED = {1: (0.95, 2.2), 2: (0.62, 0.95), 3: (0.68, 0.90)}
"""Wavelengths [micron] at which an order stands alone, nearly: 6 % of order 3 is light of order 2."""
LIGHT = {"pastasoss", "photom"}
FLAT = {"rectify": {"skip": True}}
"""Where only spectra are looked at: frames of 256 rows and three orders take long to rectify."""


def overrides(visit, kinds):
    return {kind: path for kind, path in visit.references.items() if kind in kinds}


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        warnings.showwarning = lambda *_, **__: None
        return tso3.run(*arguments, **options)


def truth(visit, order, name):
    (path,) = visit.truths.values()
    return np.load(path)[name if order == 1 else f"{name}_{order}"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Two integrations of SUBSTRIP256 without noise."""
    folder = tmp_path_factory.mktemp("soss256")
    return simulate(
        "NIS_SOSS",
        folder,
        n_int=2,
        segments=1,
        noise=False,
        cosmic_rays=0,
        bad_pixels=0,
        flat_error=0,
        jitter=0,
        drift=0,
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Six integrations of SUBSTRIP96 in two segments, with noise."""
    return simulate(
        "NIS_SOSS", tmp_path_factory.mktemp("soss96"), n_int=6, segments=2, subarray="SUBSTRIP96", seed=4, jitter=0
    )


@pytest.fixture(scope="module")
def known(clean, tmp_path_factory):
    """The clean visit, reduced with all references; every warning is an error."""
    kinds = LIGHT | {"wavelengthrange"}
    return tso3.run(clean.association, tmp_path_factory.mktemp("known"), overrides=overrides(clean, kinds))


@pytest.fixture(scope="module")
def reduced(short, tmp_path_factory):
    """The short visit, reduced with traces and flux calibration."""
    return tso3.run(short.association, tmp_path_factory.mktemp("reduced"), overrides=overrides(short, LIGHT))


def spectra(result):
    """Return wavelength, flux and unit of each order's table in the first product of spectra."""
    with fits.open(result.products["x1dints"][0]) as hdus:
        tables = [hdu for hdu in hdus if hdu.name == "EXTRACT1D"]
        return {
            hdu.header["SPORDER"]: (hdu.data["WAVELENGTH"][0].copy(), hdu.data["FLUX"].copy(), hdu.columns["FLUX"].unit)
            for hdu in tables
        }


def ratio(visit, found, order, scale=1e-6):
    """Return flux over truth at the wavelengths at which the order stands alone."""
    wavelength, flux, _ = found[order]
    true = truth(visit, order, "spectra")[0, : wavelength.size] * scale
    inside = (wavelength > ISOLATED[order][0]) & (wavelength < ISOLATED[order][1])
    return flux[0, inside] / true[inside]


def test_spectra_of_three_orders_are_the_star(clean, known):
    found = spectra(known)
    assert sorted(found) == [1, 2, 3]
    assert [found[k][0].size for k in (1, 2, 3)] == [2048, 1783, 1134]  # as the archive
    assert all(unit == "MJy" for _, _, unit in found.values())
    for order, tolerance in ((1, 0.015), (2, 0.015), (3, 0.08)):
        assert np.abs(ratio(clean, found, order) - 1).max() < tolerance
        along = truth(clean, order, "wavelength")[: found[order][0].size]
        assert np.nanmax(np.abs(found[order][0] - along)) < 1e-6
    white = known.white_light
    for order in (1, 2, 3):  # each order has its own range (T20): jwst takes that of the first for all
        low, high = {1: (0.86, 2.80), 2: (0.62, 1.05), 3: (0.65, 0.90)}[order]
        wavelength, flux, _ = found[order]
        inside = (wavelength >= low) & (wavelength <= high)
        assert white[f"whitelight_flux_order_{order}"].value == pytest.approx(
            np.nansum(flux[:, inside], axis=1), rel=1e-9
        )


def test_without_references_traces_are_those_of_the_light(clean, known, tmp_path):
    from tso3.io.soss_references import read_photom

    with pytest.warns(tso3.Tso3Warning, match="no photom reference is given, so spectra stay in DN/s"):
        result = tso3.run(clean.association, tmp_path, parameters=FLAT)
    found = spectra(result)
    assert all(unit == "DN/s" for _, _, unit in found.values())
    inside = (found[2][0] >= 0.6) & (found[2][0] <= 0.85)  # where order 1 does not reach: the built-in range
    assert result.white_light["whitelight_flux_order_2"].value == pytest.approx(
        np.nansum(found[2][1][:, inside], axis=1)
    )
    rows = read_photom(clean.references["photom"], "CLEAR", "GR700XD")
    for order, (wavelength, flux, _) in spectra(known).items():
        inside = (wavelength > ISOLATED[order][0]) & (wavelength < ISOLATED[order][1])
        factor = rows[order].scale * np.interp(wavelength, rows[order].wavelength, rows[order].response)
        assert np.abs(found[order][1][0, inside] * factor[inside] / flux[0, inside] - 1).max() < 0.02
        assert np.abs(found[order][0] - wavelength)[inside].max() < 0.01  # the scene's traces are not the telescope's


def test_the_older_layout_of_traces_gives_the_same(clean, known, tmp_path):
    kinds = {"spectrace", "wavemap", "photom"}
    old = spectra(tso3.run(clean.association, tmp_path, overrides=overrides(clean, kinds), parameters=FLAT))
    for order in (1, 2, 3):
        assert np.allclose(ratio(clean, old, order), ratio(clean, spectra(known), order), rtol=2e-4)


def test_decontamination_is_refused_not_forgotten(short, tmp_path):
    for parameters, name in (({"soss_atoca": True}, "soss_atoca"), ({"soss_bad_pix": "model"}, "soss_bad_pix")):
        with pytest.raises(tso3.ParameterError, match="this version does not have") as caught:
            tso3.run(short.association, tmp_path, parameters={"extract_1d": parameters})
        assert name in str(caught.value)


def test_the_short_subarray_has_two_orders_and_errors_that_hold(short, reduced):
    found = spectra(reduced)
    assert sorted(found) == [1, 2]
    assert np.nanmedian(ratio(short, found, 1)) == pytest.approx(1.0, abs=0.01)
    with fits.open(reduced.products["x1dints"][0]) as hdus:
        table = hdus["EXTRACT1D", 1].data
        error, parts = table["FLUX_ERROR"], [table[f"FLUX_VAR_{k}"] for k in ("POISSON", "RNOISE", "FLAT")]
        known = np.isfinite(error)
        assert np.allclose(error[known] ** 2, sum(parts)[known], rtol=1e-9)
        true = truth(short, 1, "spectra") * 1e-6
        steps = np.diff(table["FLUX"] / true, axis=0)[:, 300:1900]
        expected = np.sqrt((parts[0] + parts[1])[1:] + (parts[0] + parts[1])[:-1])[:, 300:1900] / true[1:, 300:1900]
        assert np.nanstd(steps / expected) == pytest.approx(1.0, abs=0.1)
        assert (table["DQ"][:, :4] & 1).all()  # reference columns
        assert set(hdus["EXTRACT1D", 1].header) >= {"SPORDER"}
        assert hdus[0].header["S_PHOTOM"] == "COMPLETE"
        assert hdus[0].header["SOSSWDTH"] == 40.0


def test_blocks_do_not_matter(short, tmp_path):
    products = []
    for size in (1, 4):
        result = quietly(
            short.association, tmp_path / str(size), preset="archive", block_size=size,
            overrides=overrides(short, LIGHT),
            parameters={"extract_1d": {"subtract_background": True}},
        )  # fmt: skip
        with fits.open(result.products["x1dints"][0]) as hdus:
            products.append([hdu.data.tobytes() for hdu in hdus if "EXTRACT1D" in hdu.name])
    assert products[0] == products[1]


def test_an_order_that_is_almost_all_flagged(short, tmp_path):  # T18
    mask = np.zeros((96, 2048), np.uint8)
    trace = np.rint(truth(short, 2, "trace")).astype(int)
    for x in range(1783):
        mask[max(trace[x] - 21, 0) : max(trace[x] + 22, 0), x] = x % 100 != 0
    path = tmp_path / "mask.fits"
    fits.PrimaryHDU(mask).writeto(path)
    for name in ("default", "archive"):
        result = quietly(
            short.association, tmp_path / name, preset=name, bad_pixels=path, overrides=overrides(short, LIGHT)
        )
        assert len(result.white_light) == 6


def copied(visit, folder, change):
    """Copy the members and the association of a visit, with changed headers."""
    folder.mkdir(exist_ok=True)
    for path in visit.members:
        shutil.copy(path, folder / path.name)
        with fits.open(folder / path.name, mode="update") as hdus:
            change(hdus)
    shutil.copy(visit.association, folder / visit.association.name)
    return folder / visit.association.name


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [("FILTER", "F277W", "F277W"), ("SUBARRAY", "FULL", "FULL is not a subarray that SOSS is extracted from")],
)
def test_what_is_not_extracted_is_skipped_with_a_line(short, tmp_path, keyword, value, message):  # T17
    association = copied(short, tmp_path / "in", lambda hdus: hdus[0].header.set(keyword, value))
    with pytest.warns(tso3.Tso3Warning, match=message):
        result = tso3.run(association, tmp_path / "out")
    assert sorted(result.products) == ["crfints", "qa"]
    assert len(result.products["crfints"]) == 2
    assert result.white_light is None


def test_the_pupil_wheel_must_be_known(short, tmp_path):
    association = copied(short, tmp_path / "none", lambda hdus: hdus[0].header.remove("PWCPOS"))
    with pytest.raises(tso3.InputError, match="PWCPOS"):
        tso3.run(association, tmp_path / "out", overrides=overrides(short, {"pastasoss"}))
    association = copied(short, tmp_path / "far", lambda hdus: hdus[0].header.set("PWCPOS", 246.4))
    with pytest.raises(tso3.InputError, match=r"PWCPOS = 246.4 is outside"):
        tso3.run(association, tmp_path / "out")


def test_an_exposure_of_one_integration_and_f277w_beside_clear(short, tmp_path):  # T16, T17
    folder = tmp_path / "visit"
    first = simulate("NIS_SOSS", folder / "a", n_int=1, segments=1, subarray="SUBSTRIP96", seed=9)
    other = simulate(
        "NIS_SOSS", folder / "b", configuration="F277W", n_int=2, segments=1, subarray="SUBSTRIP96", seed=9
    )
    content = json.loads(first.association.read_text())
    members = content["products"][0]["members"]
    for visit in (first, other):
        for path in visit.members:
            shutil.copy(path, folder / path.name)
            if visit is other:
                members.append({**members[0], "expname": path.name})
    association = folder / first.association.name
    association.write_text(json.dumps(content))
    with pytest.warns(tso3.Tso3Warning, match="F277W"):
        result = tso3.run(association, tmp_path / "out", overrides=overrides(first, LIGHT))
    assert len(result.products["crfints"]) == 2
    assert len(result.white_light) == 1
    assert sorted(spectra(result)) == [1, 2]


def test_times_of_stripes_are_kept_and_combined(short, tmp_path):  # T21, jwst#10755
    n_stripe = 3
    names = [f"int_{end}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for end in ("start", "mid", "end")]

    def add(hdus):
        times = hdus["INT_TIMES"].data
        rows = np.repeat(times, n_stripe)
        stripe = np.tile(np.arange(1, n_stripe + 1), len(times))
        columns = [
            fits.Column("integration_number", "J", array=rows["integration_number"]),
            fits.Column("stripe_number", "J", array=stripe),
            *(fits.Column(name, "D", array=rows[name] + stripe * 1e-5) for name in names),
        ]
        hdus.append(fits.BinTableHDU.from_columns(columns, name="INT_TIMES_STRIPE"))

    association = copied(short, tmp_path / "in", add)
    result = quietly(association, tmp_path / "out", overrides=overrides(short, LIGHT), parameters=FLAT)
    for source, product in zip(
        sorted((tmp_path / "in").glob("*calints.fits")), result.products["crfints"], strict=True
    ):
        with fits.open(source) as before, fits.open(product) as after:
            assert after["INT_TIMES_STRIPE"].data.tobytes() == before["INT_TIMES_STRIPE"].data.tobytes()
    with fits.open(result.products["x1dints"][0]) as hdus:
        table = hdus["INT_TIMES_STRIPE"].data
        assert table["integration_number"].tolist() == np.repeat(np.arange(1, 7), n_stripe).tolist()
        assert table["stripe_number"].tolist() == [1, 2, 3] * 6
        mid = np.repeat(hdus["INT_TIMES"].data["int_mid_BJD_TDB"], n_stripe) + table["stripe_number"] * 1e-5
        assert np.allclose(table["int_mid_BJD_TDB"], mid, rtol=0, atol=1e-9)
    from stdatamodels.jwst import datamodels

    with datamodels.open(result.products["x1dints"][0]) as model:
        assert len(model.int_times_stripe) == 18


def test_stripes_are_extracted_where_the_short_name_does_not_fit(clean, known, tmp_path):
    association = copied(clean, tmp_path / "in", lambda hdus: hdus[0].header.set("SUBARRAY", "SUB204STRIPE_SOSS"))
    found = spectra(tso3.run(association, tmp_path / "out", overrides=overrides(clean, LIGHT), parameters=FLAT))
    for order, (_, flux, _) in spectra(known).items():
        assert np.array_equal(found[order][1], flux, equal_nan=True)


def test_images_of_another_size_are_refused(short, tmp_path):
    association = copied(short, tmp_path / "in", lambda hdus: hdus[0].header.set("SUBARRAY", "SUBSTRIP256"))
    with pytest.raises(tso3.InputError, match="96 x 2048 pixels; those of SUBSTRIP256 are 256 x 2048"):
        tso3.run(association, tmp_path / "out")


def test_photom_can_be_skipped_and_has_no_row(short, tmp_path):
    result = tso3.run(
        short.association, tmp_path, overrides=overrides(short, LIGHT), parameters={"photom": {"skip": True}} | FLAT
    )
    assert all(unit == "DN/s" for _, _, unit in spectra(result).values())
    with fits.open(result.products["x1dints"][0]) as hdus:
        assert hdus[0].header["S_PHOTOM"] == "SKIPPED"
    association = copied(short, tmp_path / "in", lambda hdus: hdus[0].header.set("PUPIL", "CLEARP"))
    with pytest.warns(tso3.Tso3Warning, match="has no row for CLEAR, CLEARP and order"):
        tso3.run(association, tmp_path / "out", overrides=overrides(short, LIGHT), parameters=FLAT)


def test_spectra_are_read_again(reduced, tmp_path):
    again = quietly(reduced.products["x1dints"], tmp_path)
    for name in ("whitelight_flux_order_1", "whitelight_flux_order_2"):
        assert again.white_light[name].value == pytest.approx(reduced.white_light[name].value, rel=1e-6)


def test_each_order_has_the_unit_of_its_own_spectra(clean, tmp_path):
    photom = tmp_path / "photom.fits"
    with fits.open(clean.references["photom"]) as hdus:
        hdus[1].data = hdus[1].data[hdus[1].data["order"] != 3]
        hdus.writeto(photom)
    given = overrides(clean, LIGHT) | {"photom": photom}
    band = {"white_light": {"min_wavelength": 0.96, "max_wavelength": 2.8}} | FLAT
    result = quietly(clean.association, tmp_path / "out", overrides=given, parameters=band)
    light = result.white_light
    units = [str(light[f"whitelight_flux_order_{order}"].unit) for order in (1, 2, 3)]
    assert units == ["MJy", "MJy", "DN / s"]
    assert sum("left out of the white light" in text and "order 3" in text for text in result.warnings) == 1
    assert [bool(np.isfinite(light[f"whitelight_flux_order_{order}"]).all()) for order in (1, 2, 3)] == [1, 1, 0]


def test_flagged_f277w_alone_leaves_nothing_to_do(short, tmp_path):
    for member in short.members:
        with fits.open(member) as hdus:
            hdus[0].header["FILTER"], hdus[0].header["S_OUTLIR"] = "F277W", "COMPLETE"
            hdus.writeto(tmp_path / member.name.replace("calints", "crfints"))
    result = quietly(tmp_path, tmp_path / "out")
    assert result.products == {}
    assert any("every step that makes a product is skipped" in text for text in result.warnings)
