"""The table of white light from curves made by hand: units, ranges, what is left out, what is told."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tso3.steps.white_light import WhiteLightCurve, table

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


def curve(of, order=1, unit="MJy", slit="", limits=(None, None), wavelength=WAVELENGTH, flux=1.0):
    """Return the light curve of constant spectra."""
    header = SimpleNamespace(spectral_order=order, slit_name=slit, flux_unit=unit)
    made = WhiteLightCurve(of, header, wavelength, limits)
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
