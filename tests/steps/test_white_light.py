"""The table of white light from curves made by hand: units, ranges, what is left out, what is told."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from tso3.errors import InputError, ParameterError, ReferenceFileError, Tso3Warning
from tso3.io.wavelength_ranges import WavelengthRange
from tso3.parameters import WhiteLight
from tso3.steps.white_light import WhiteLightCurve, table
from tso3.steps.white_light_checks import check, warn_if_empty
from tso3.steps.white_light_range import Band, band

N_INT = 3
WAVELENGTH = np.linspace(1.0, 2.0, 11)


def exposure(detector="NIS", number=1, stripe="", exp_type="NIS_SOSS"):
    """Return what the white light asks of an exposure."""
    start = 59791.0 + number
    times = SimpleNamespace(
        int_num=np.arange(1, N_INT + 1),
        mid_mjd_utc=start + np.arange(N_INT) / 100,
        mid_bjd_tdb=start + np.arange(N_INT) / 100 + 0.004,
    )
    name = f"jw01366003001_04101_{number:05d}_{detector.lower()}"
    return SimpleNamespace(
        name=name, label=name, detector=detector, visit=(str(number),), stripe=stripe, times=times, n_int=N_INT,
        instrument="NIRISS", subarray="SUBSTRIP256", filter="CLEAR", pupil="GR700XD", grating=None,
        mode=SimpleNamespace(exp_type=exp_type, detector_columns=False), header=lambda key: None,
        paths=(f"{name}.fits",),
    )  # fmt: skip


def curve(of, order=1, unit="MJy", slit="", band=None, wavelength=WAVELENGTH, flux=1.0):
    """Return the light curve of constant spectra."""
    header = SimpleNamespace(spectral_order=order, slit_name=slit, flux_unit=unit)
    made = WhiteLightCurve(of, header, wavelength, band)
    values = np.full((N_INT, wavelength.size), flux)
    zero = np.zeros_like(values)
    made.add(
        SimpleNamespace(
            start=0, stop=N_INT, n_int=N_INT, n_wave=wavelength.size, flux=values, missing_fraction=zero,
            flux_var_poisson=zero + 1.0, flux_var_rnoise=zero, flux_var_flat=zero, flux_var_limit=zero + 1.0,
        )
    )  # fmt: skip
    return made


def observed(*exposures):
    return SimpleNamespace(exposures=exposures, mode=exposures[0].mode)


def test_each_order_has_its_own_unit():
    one = exposure()
    light = table(observed(one), [curve(one, 1, "MJy"), curve(one, 3, "DN/s", flux=50.0)])
    assert str(light["whitelight_flux_order_1"].unit) == "MJy"
    assert str(light["whitelight_flux_order_3"].unit) == "DN / s"
    assert str(light["photon_limit_order_3"].unit) == "DN / s"
    np.testing.assert_allclose(light["whitelight_flux_order_3"].value, 550.0)


def test_stripes_are_summed_only_in_one_unit():
    stripes = [exposure("NRCA1", stripe=name, exp_type="NRC_TSGRISM") for name in ("1", "2")]
    same = [curve(stripe, slit=stripe.stripe) for stripe in stripes]
    np.testing.assert_allclose(table(observed(*stripes), same)["whitelight_flux"].value, 22.0)
    mixed = [
        curve(stripe, slit=stripe.stripe, unit=unit) for stripe, unit in zip(stripes, ("MJy", "DN/s"), strict=True)
    ]
    light = table(observed(*stripes), mixed)
    assert "whitelight_flux" not in light.colnames
    assert [str(light[f"whitelight_flux_stripe_{k}"].unit) for k in (1, 2)] == ["MJy", "DN / s"]


def told(action):
    """Return the texts of the warnings of an action."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught]


def test_a_curve_that_its_range_misses_is_left_out_with_one_line():
    one = exposure()
    curves = [curve(one, 1, band=Band(1.35, 1.65)), curve(one, 2, band=Band(3.0, 3.5, "white_light.min_wavelength"))]
    (text,) = told(lambda: check(curves))
    assert text == (
        f"no wavelength of {one.label}, order 2 (1 to 2 micron) lies between 3 and 3.5 micron (change"
        " white_light.min_wavelength); it is left out of the white light, and its columns are NaN"
    )
    light = table(observed(one), curves)
    np.testing.assert_allclose(light["whitelight_flux_order_1"].value, 3.0)
    for name in ("whitelight_flux", "whitelight_flux_error", "photon_limit", "missing_fraction"):
        assert np.isnan(np.asarray(light[f"{name}_order_2"])).all()
    assert light["n_valid_order_2"].tolist() == [0, 0, 0]
    assert light.meta["wavelength_range"] == {"whitelight_flux_order_1": [1.4, 1.6]}
    assert told(lambda: warn_if_empty(curves)) == []  # it has been told of


def test_an_error_only_if_nothing_is_left():
    one = exposure()
    curves = [curve(one, order, band=Band(3.0, None, "white_light.min_wavelength")) for order in (1, 2)]
    with pytest.raises(
        ParameterError, match=r"no wavelength of \S+, order 1 \(1 to 2 micron\) lies above 3 micron .*, nor any"
    ):
        check(curves)
    unknown = curve(one, 3, wavelength=np.full(11, np.nan))
    (text,) = told(lambda: check([curve(one), unknown]))
    assert "order 3 (wavelengths unknown) is known (check the WCS of the inputs); it is left out" in text
    assert str(Band(0.85, 0.8)) == "above 0.85 and also below 0.8 micron"


def test_a_stripe_that_is_left_out_is_not_in_the_sum():
    stripes = [exposure("NRCA1", stripe=name, exp_type="NRC_TSGRISM") for name in ("1", "2")]
    bands = (Band(1.0, 1.5), Band(5.0, 6.0))
    curves = [curve(stripe, slit=stripe.stripe, band=band) for stripe, band in zip(stripes, bands, strict=True)]
    light = table(observed(*stripes), curves)
    np.testing.assert_allclose(light["whitelight_flux"].value, 6.0)
    assert light.meta["wavelength_range"]["whitelight_flux"] == [1.0, 1.5]


def test_limits_of_the_user_go_before_those_of_a_reference():
    one, light = exposure(), WhiteLight(min_wavelength=0.85)
    rows = (WavelengthRange(1, "CLEAR", 0.9, 2.8), WavelengthRange(2, "CLEAR", 0.6, 0.8))
    assert band(light, rows, 1, one) == Band(0.85, 2.8, "white_light.min_wavelength and white_light.built_in_range")
    assert band(light, rows, 2, one, "a.asdf") == Band(0.85, 0.8, "white_light.min_wavelength and a.asdf")
    assert band(light, None, 1, one) == Band(0.85, None, "white_light.min_wavelength")


def test_an_order_that_the_reference_lacks_has_its_built_in_range():
    one, rows = exposure(), (WavelengthRange(1, "CLEAR", 0.9, 2.8),)
    with pytest.warns(
        Tso3Warning, match=r"^a.asdf: has no row for order 2, filter CLEAR; this order is summed over its"
    ):
        assert band(WhiteLight(), rows, 2, one, "a.asdf") == Band(0.6, 0.85, "white_light.built_in_range")
    other = exposure("NRS1", exp_type="NRS_BRIGHTOBJ")
    with pytest.raises(ReferenceFileError, match=r"^a.asdf: has no rows for order 2, filter CLEAR, needed is one"):
        band(WhiteLight(), rows, 2, other, "a.asdf")


def test_one_light_curve_has_one_unit():
    exposures = exposure(), exposure(number=2)
    curves = [curve(one, unit=unit) for one, unit in zip(exposures, ("MJy", "DN/s"), strict=True)]
    with pytest.raises(InputError, match="spectra are in DN/s, those of jw01366003001_04101_00001_nis in MJy"):
        check(curves)


def test_a_light_curve_without_flux_is_told():
    one = exposure()
    (text,) = told(lambda: warn_if_empty([curve(one), curve(one, 2, flux=np.nan)]))
    assert text.startswith(f"no valid flux in any of the 3 integrations of {one.label}, order 2 (1 to 2 micron)")
    assert one.paths[0] in text


def test_rows_name_their_integration_and_exposure():
    one = exposure()
    light = table(observed(one), [curve(one)])
    assert light.colnames[-1] == "int_num"
    assert light["int_num"].tolist() == [1, 2, 3]
    visits = [exposure(name, number) for number in (2, 1) for name in ("NRS1", "NRS2")]
    light = table(observed(*visits), [curve(each) for each in visits])
    assert light.colnames[-2:] == ["int_num", "exposure"]
    assert light["int_num"].tolist() == [1, 2, 3] * 2
    first, second = (f"jw01366003001_04101_0000{number}" for number in (1, 2))
    assert list(light["exposure"]) == [first] * 3 + [second] * 3
    assert (np.diff(light["MJD_UTC_NRS1"]) > 0).all()
