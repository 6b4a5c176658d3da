"""
Where we knowingly do not do what jwst 3.0.0 does: a test of both behaviours for every row that ``docs/differences.md``
lists. The number in each name is the row of the table of oddities in that page.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

pytestmark = [pytest.mark.jwst, pytest.mark.filterwarnings("ignore")]

NO_BACKGROUND = {"extract_1d": {"subtract_background": False, "apply_apcorr": False}}


def table(path: Path) -> QTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return QTable.read(path, format="ascii.ecsv")


def our_table(result, kind: str) -> QTable:
    return table(result.products[kind][0])


@pytest.fixture(scope="session")
def lrs(visit):
    """A short MIRI exposure in two segments: the cheapest spectra."""
    return visit("MIR_LRS-SLITLESS", n_int=6, segments=2, seed=3).with_references(wavelengthrange=None)


@pytest.fixture(scope="session")
def bots(visit):
    """A short NIRSpec exposure with both detectors, in two segments each."""
    return visit("NRS_BRIGHTOBJ", n_int=4, segments=2, seed=3).with_references(wavelengthrange=None)


@pytest.fixture(scope="session")
def tsimage(visit):
    """A short NIRCam imaging exposure in two segments."""
    return visit("NRC_TSIMAGE", n_int=12, segments=2, seed=3)


def test_01_every_order_has_its_own_wavelength_range():
    from tso3.core.lightcurve import band_sum, in_band
    from tso3.io.reference_files import WavelengthRange
    from tso3.parameters import WhiteLight
    from tso3.steps.white_light import band_limits

    jwst = pytest.importorskip("jwst.white_light.white_light")
    ranges = {1: (0.95, 2.05), 2: (0.65, 0.95)}
    wavelength = np.linspace(0.6, 2.1, 16)
    inside = {order: int(((wavelength >= a) & (wavelength <= b)).sum()) for order, (a, b) in ranges.items()}
    assert inside[1] != inside[2]
    columns = [fits.Column("WAVELENGTH", "16D", array=[wavelength] * 2), fits.Column("MJD-AVG", "D", array=[1.0, 2.0])]
    columns += [
        fits.Column("FLUX", "16D", unit="Jy", array=np.ones((2, 16))),
        fits.Column("TDB-MID", "D", array=[1.0, 2.0]),
    ]
    instrument = SimpleNamespace(name="NIRISS", filter="CLEAR", pupil="GR700XD")
    named = SimpleNamespace(name="SUBSTRIP256", type="NIS_SOSS", catalog_name="A")
    meta = SimpleNamespace(instrument=instrument, exposure=named, subarray=named, target=named)
    spectra = [
        SimpleNamespace(spec_table=fits.BinTableHDU.from_columns(columns).data, spectral_order=order, detector="NIS")
        for order in ranges
    ]
    model = SimpleNamespace(spec=spectra, meta=meta)
    rows = [(order, "CLEAR", *limits) for order, limits in ranges.items()]
    reference = Table(rows=rows, names=["order", "filter", "min_wave", "max_wave"])
    light = jwst.white_light(model, waverange_table=reference)
    assert light["whitelight_flux_order_1"][0].value == inside[1]
    assert light["whitelight_flux_order_2"][0].value == inside[1], "jwst 3.0.0 sums order 2 over the range of order 1"
    given = [WavelengthRange(order, "CLEAR", *limits) for order, limits in ranges.items()]
    for order in (1, 2):
        limits = band_limits(WhiteLight(), given, order, "CLEAR")
        assert limits == ranges[order]
        sums = band_sum(np.ones((2, 16)), np.ones((2, 16)), in_band(wavelength, *limits))
        assert sums.flux.tolist() == [inside[order]] * 2


def test_01_a_wavelength_range_that_is_given_is_used(visit, both):
    given = visit("MIR_LRS-SLITLESS", n_int=6, segments=2, seed=3)
    without = given.with_references(wavelengthrange=None)
    theirs, result = both(given, NO_BACKGROUND)
    reference, whole = both(without, NO_BACKGROUND)
    for name in ("MJD_UTC", "whitelight_flux"):
        np.testing.assert_array_equal(
            table(theirs.product("_whtlt.ecsv"))[name], table(reference.product("_whtlt.ecsv"))[name]
        )
    with fits.open(result.products["x1dints"][0]) as file:
        spectra = file["EXTRACT1D", 1].data
        inside = (spectra["WAVELENGTH"] >= 4.4) & (spectra["WAVELENGTH"] <= 14.06)
        expected = np.nansum(np.where(inside, spectra["FLUX"], 0.0), axis=1)
    light = our_table(result, "whtlt")["whitelight_flux"].value
    np.testing.assert_allclose(light[: len(expected)], expected, rtol=1e-12)
    assert (light < our_table(whole, "whtlt")["whitelight_flux"].value).all()


def test_02_segments_out_of_order(lrs, edited, both):
    reversed_ = edited(lrs, members=lambda members: members[::-1])
    theirs, result = both(reversed_, NO_BACKGROUND)
    straight, reference = both(lrs, NO_BACKGROUND)
    right = table(straight.product("_whtlt.ecsv"))
    wrong = table(theirs.product("_whtlt.ecsv"))
    np.testing.assert_allclose(wrong["MJD_UTC"], right["MJD_UTC"], rtol=0, atol=1e-9)
    n = len(right) // 2
    np.testing.assert_array_equal(wrong["whitelight_flux"][:n], right["whitelight_flux"][n:])
    fixed = our_table(result, "whtlt")
    np.testing.assert_array_equal(fixed["whitelight_flux"], our_table(reference, "whtlt")["whitelight_flux"])
    np.testing.assert_allclose(fixed["whitelight_flux"], right["whitelight_flux"], rtol=1e-6)


def test_03_an_integration_without_data_has_no_flux(lrs, edited, both):
    def spoil(index, model):
        if index == 0:
            model.dq[2] |= 1
            model.data[2] = np.nan

    theirs, result = both(edited(lrs, file=spoil), NO_BACKGROUND)
    assert table(theirs.product("_whtlt.ecsv"))["whitelight_flux"][2].value == 0.0
    assert np.isnan(our_table(result, "whtlt")["whitelight_flux"][2])
    assert np.isfinite(np.delete(our_table(result, "whtlt")["whitelight_flux"].value, 2)).all()


def test_04_integrations_with_the_same_time_are_kept(lrs, edited, both):
    def repeat(index, model):
        for name in ("start", "mid", "end"):
            for scale in ("MJD_UTC", "BJD_TDB"):
                column = model.int_times[f"int_{name}_{scale}"]
                column[2] = column[1]

    changed = edited(lrs, file=repeat)
    theirs, result = both(changed, NO_BACKGROUND)
    n_int = result.n_int
    assert len(table(theirs.product("_whtlt.ecsv"))) < n_int
    with fits.open(theirs.product("_x1dints.fits")) as file:
        assert np.isnan(file["EXTRACT1D", 1].data["MJD-AVG"]).any()
    assert len(our_table(result, "whtlt")) == n_int
    assert np.isfinite(our_table(result, "whtlt")["whitelight_flux"].value).all()
    with fits.open(result.products["x1dints"][0]) as file:
        assert np.isfinite(file["EXTRACT1D", 1].data["MJD-AVG"]).all()


def test_05_detectors_are_paired_by_integration(bots, edited, both):
    def lose(members):
        return [m for m in members if not ("nrs2" in m["expname"] and "seg001" in m["expname"])]

    theirs, result = both(edited(bots, members=lose), NO_BACKGROUND)
    whole = our_table(both(bots, NO_BACKGROUND)[1], "whtlt")
    wrong, fixed = table(theirs.product("_whtlt.ecsv")), our_table(result, "whtlt")
    n = len(whole) // 2
    np.testing.assert_allclose(wrong["whitelight_flux_NRS2"][:n], whole["whitelight_flux_NRS2"][n:], rtol=1e-6)
    assert np.isnan(wrong["whitelight_flux_NRS2"][n:]).all()
    assert np.isnan(fixed["whitelight_flux_NRS2"][:n]).all()
    np.testing.assert_array_equal(fixed["whitelight_flux_NRS2"][n:], whole["whitelight_flux_NRS2"][n:])
    np.testing.assert_array_equal(fixed["whitelight_flux_NRS1"], whole["whitelight_flux_NRS1"])


def test_09_a_window_of_two_is_a_window_of_two():
    tso = pytest.importorskip("jwst.outlier_detection.tso")
    from tso3.core.median import window_bounds

    x = np.arange(8.0)
    np.testing.assert_array_equal(tso.moving_median_over_zeroth_axis(x[:, None], 2)[:, 0], 6.5)
    lo, hi = window_bounds(8, 2, "repeat")
    medians = [np.median(x[a:b]) for a, b in zip(lo, hi, strict=True)]
    np.testing.assert_array_equal(medians, [0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
    for width in (3, 4, 5, 6):
        lo, hi = window_bounds(8, width, "repeat")
        medians = [np.median(x[a:b]) for a, b in zip(lo, hi, strict=True)]
        np.testing.assert_array_equal(medians, tso.moving_median_over_zeroth_axis(x[:, None], width)[:, 0])


def test_13_aperture_correction_of_tsgrism(visit, edited, peer, ours, tmp_path):
    from stdatamodels.jwst import datamodels

    def become_nircam(index, model):
        model.meta.instrument.instance.clear()
        model.meta.instrument.name, model.meta.instrument.detector = "NIRCAM", "NRCALONG"
        model.meta.instrument.filter, model.meta.instrument.pupil = "F322W2", "GRISMR"
        model.meta.instrument.channel, model.meta.instrument.module = "LONG", "A"
        model.meta.exposure.type = "NRC_TSGRISM"
        model.name = None

    apcorr = tmp_path / "apcorr.fits"
    size = np.array([1, 5, 9, 20], dtype=np.uint8)
    wavelength = np.array([2.0, 4.0, 6.0], dtype=np.float32)
    row = ("F322W2", "GRISMR", wavelength, 3, size, 4, np.full((3, 4), 1.25, np.float32), np.zeros((3, 4), np.float32))
    kinds = [("filter", "S12"), ("pupil", "S15"), ("wavelength", "f4", 3), ("nelem_wl", "i2"), ("size", "u1", 4)]
    kinds += [("nelem_size", "i2"), ("apcorr", "f4", (3, 4)), ("apcorr_err", "f4", (3, 4))]
    with datamodels.NrcWfssApcorrModel() as model:
        model.apcorr_table = np.array([row], dtype=kinds)
        model.sizeunit = "pixels"
        model.save(apcorr)
    source = visit("NRS_BRIGHTOBJ", n_int=4, segments=1, seed=4, detectors=["NRS1"])
    extract1d = tmp_path / "extract1d.json"
    text = source.references["extract1d"].read_text().replace("S1600A1", "ANY").replace("NIRSPEC", "NIRCAM")
    extract1d.write_text(text.replace("NRS_BRIGHTOBJ", "NRC_TSGRISM"))
    grism = edited(source, file=become_nircam).with_references(wavelengthrange=None, gain=None, extract1d=extract1d)
    corrected = grism.with_references(apcorr=apcorr)
    assert peer.run(grism.association, grism.with_references(apcorr=None).references).error is None
    error = peer.run(corrected.association, corrected.references).error
    assert error == "KeyError: 'NRC_TSGRISM'"
    flux = []
    for made in (grism.with_references(apcorr=None), corrected):
        with fits.open(ours(made).products["x1dints"][0]) as file:
            flux.append(file["EXTRACT1D", 1].data["FLUX"])
    np.testing.assert_allclose(flux[1], 1.25 * flux[0], rtol=1e-6)
    assert np.isfinite(flux[0]).any()


def test_15_one_failed_centroid_does_not_end_the_run(tsimage, edited, both):
    def spoil(index, model):
        if index == 1:
            model.dq[2] |= 1
            model.data[2] = np.nan

    theirs, result = both(edited(tsimage, file=spoil), {"tso_photometry": {"moving_centroid": True}})
    assert theirs.error is not None
    assert "ValueError" in theirs.error
    photometry = our_table(result, "phot")
    i = len(photometry) // 2 + 2
    for name in ("aperture_sum", "net_aperture_sum", "centroid_x"):
        assert np.isnan(photometry[name][i])
        assert np.isfinite(np.delete(photometry[name].value, i)).all()


def test_16_spectra_without_int_times(lrs, edited, both):
    def remove(index, model):
        del model.int_times

    theirs, result = both(edited(lrs, file=remove), NO_BACKGROUND)
    assert theirs.error is not None
    assert "AttributeError" in theirs.error
    light = our_table(result, "whtlt")
    reference = our_table(both(lrs, NO_BACKGROUND)[1], "whtlt")
    np.testing.assert_array_equal(light["whitelight_flux"], reference["whitelight_flux"])
    seconds = (light["MJD_UTC"] - reference["MJD_UTC"]) * 86400
    cadence = np.diff(reference["MJD_UTC"]).mean() * 86400
    assert np.abs(seconds).max() < cadence
    assert np.isnan(light["BJD_TDB"]).all()
    assert any("INT_TIMES" in text for text in result.warnings)


def test_17_int_times_are_those_of_the_first_detector(bots, edited, both):
    def late(index, model):
        if model.meta.instrument.detector == "NRS2":
            for name in model.int_times.dtype.names[1:]:
                model.int_times[name] += 0.01

    theirs, result = both(edited(bots, file=late), NO_BACKGROUND)
    with fits.open(bots.members[0]) as file:
        first = file["INT_TIMES"].data["int_mid_MJD_UTC"][0]
    with fits.open(theirs.product("_x1dints.fits")) as jwst, fits.open(result.products["x1dints"][0]) as ours:
        assert ours["INT_TIMES"].data["int_mid_MJD_UTC"][0] == first
        assert jwst["INT_TIMES"].data["int_mid_MJD_UTC"][0] > first + 0.009
        for hdu in (h for h in ours if h.name == "EXTRACT1D"):
            match = next(h for h in jwst if (h.name, h.ver) == (hdu.name, hdu.ver))
            assert hdu.header["DETECTOR"] == match.header["DETECTOR"]
            np.testing.assert_allclose(hdu.data["MJD-AVG"], match.data["MJD-AVG"], rtol=0, atol=1e-9)


def test_18_durations_count_once(bots, both):
    theirs, result = both(bots, NO_BACKGROUND)
    keys = ("EFFEXPTM", "DURATION")
    with fits.open(bots.members[0]) as file:
        once = {key: file[0].header[key] for key in keys}
    with fits.open(theirs.product("_x1dints.fits")) as jwst, fits.open(result.products["x1dints"][0]) as ours:
        for key in keys:
            assert ours[0].header[key] == pytest.approx(once[key], rel=1e-9)
            assert jwst[0].header[key] == pytest.approx(len(bots.members) * once[key], rel=1e-9)


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
def test_spectra_of_jwst_give_its_white_light(bots, both, tmp_path):
    """Not a difference: its x1dints, a table for each segment and detector, are taken as input."""
    import tso3

    theirs, _ = both(bots, NO_BACKGROUND)
    drop = {"white_light": {"missing": "drop"}}
    result = tso3.run(theirs.product("_x1dints.fits"), tmp_path, parameters=drop)
    right, light = table(theirs.product("_whtlt.ecsv")), our_table(result, "whtlt")
    for name in right.colnames:
        np.testing.assert_allclose(np.asarray(light[name]), np.asarray(right[name]), rtol=1e-12, err_msg=name)
    assert np.isfinite(light["whitelight_flux_error_NRS1"].value).all()
    assert np.isnan(light["photon_limit_NRS1"].value).all()
