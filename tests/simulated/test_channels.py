"""Spectroscopic light curves and the weighted white light: the obvious loop, the simulator's truth, all ways."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import QTable, Table

import tso3
from tso3.cli import main
from tso3.errors import ParameterError
from tso3.parameters import Channels
from tso3.simulate import simulate
from tso3.steps.channel_spec import parse_channels

LENGTHS = (6, 5, 4)


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        warnings.showwarning = lambda *_, **__: None
        return tso3.run(*arguments, **options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, make_spectra, tiny_aperture):
    """Two detectors, three segments, eight wavelengths, three channels; one sample of NRS1 is missing."""
    folder = tmp_path_factory.mktemp("in")
    paths = [path for name in ("NRS1", "NRS2") for path in make_spectra(folder, LENGTHS, name, depth=0.1)]
    with fits.open(paths[0], mode="update") as hdus:
        hdus["DQ"].data[2, :, 5] = 1
    options = {"overrides": tiny_aperture, "parameters": {"channels": {"spec": 3}}}
    return paths, tso3.run(paths, tmp_path_factory.mktemp("out"), **options)


@pytest.fixture(scope="module")
def prism(tmp_path_factory):
    """PRISM with a transit of 2 %, 60 integrations, and what is made of it in 20 channels."""
    folder = tmp_path_factory.mktemp("prism")
    visit = simulate(
        "NRS_BRIGHTOBJ", folder / "in", configuration="PRISM", n_int=60, segments=2, seed=11, depth=0.02, jitter=0.003
    )
    parameters = {"channels": {"spec": 20}, "rectify": {"skip": True}}
    result = quietly(visit.association, folder / "out", overrides=visit.references, parameters=parameters)
    return visit, result


def slow_channels(spectra, low, high, baseline):
    """Every number of the channels of one spectrum, sample by sample."""
    flux = np.asarray(spectra.flux)
    variance = np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise)
    wavelength = np.asarray(spectra.wavelength)
    steady, noise = np.nanmedian(flux, axis=0), np.nanmedian(variance, axis=0)
    found = {name: np.full((len(flux), len(low)), np.nan) for name in ("normalized_flux", "normalized_flux_error",
             "flux", "flux_error", "missing_fraction", "n_valid")}  # fmt: skip
    for c in range(len(low)):
        last = c == len(low) - 1
        inside = [low[c] <= w < high[c] or (last and w == high[c]) for w in wavelength]
        members = [x for x in range(wavelength.size) if inside[x] and steady[x] > 0 and noise[x] > 0]
        for i in range(len(flux)):
            good = [x for x in members if np.isfinite(flux[i, x])]
            light = sum(steady[x] ** 2 / noise[x] for x in good)
            whole, seen = sum(steady[x] for x in members), sum(steady[x] for x in good)
            found["n_valid"][i, c] = len(good)
            lost = [float(spectra.missing_fraction[i, x]) if x in good else 1.0 for x in members]
            found["missing_fraction"][i, c] = (
                sum(part * steady[x] for part, x in zip(lost, members, strict=True)) / whole
            )
            if seen < 0.5 * whole:
                continue
            found["normalized_flux"][i, c] = sum(steady[x] / noise[x] * flux[i, x] for x in good) / light
            found["normalized_flux_error"][i, c] = (
                sum((steady[x] / noise[x]) ** 2 * variance[i, x] for x in good) ** 0.5 / light
            )
            found["flux"][i, c] = sum(flux[i, x] for x in good) * whole / seen
            found["flux_error"][i, c] = sum(variance[i, x] for x in good) ** 0.5 * whole / seen
        level = np.nanmedian(found["normalized_flux"][baseline, c])
        found["normalized_flux"][:, c] /= level
        found["normalized_flux_error"][:, c] /= level
    return found


def ends(n):
    size = max(n // 10, 3)
    return (np.arange(n) < size) | (np.arange(n) >= n - size)


def test_channels_are_those_of_the_obvious_loop(tiny):
    _, result = tiny
    channels = result.channels
    for detector in ("NRS1", "NRS2"):
        mine = channels.isel(channel=np.asarray(channels.channel_detector == detector))
        spectra = tso3.open_spectra(result.products["x1dints"][0], detector).load()
        slow = slow_channels(spectra, mine.wavelength_low.values, mine.wavelength_high.values, ends(15))
        for name, values in slow.items():
            np.testing.assert_allclose(mine[name].values, values, rtol=1e-12, err_msg=name)
    first = channels.isel(channel=np.asarray(channels.channel_detector == "NRS1"))
    assert first.n_valid.values[2].tolist() == [3, 2, 2]  # one is missing, and completed
    assert first.missing_fraction.values[2, 2] == pytest.approx(1 / 3, abs=0.01)
    assert first.flux.values[2, 2] == pytest.approx(first.flux.values[1, 2], rel=0.01)
    assert first.flux_error.values[2, 2] > 1.1 * first.flux_error.values[1, 2]


def test_table_and_netcdf_hold_the_same_numbers(tiny):
    _, result = tiny
    path, netcdf = result.products["channels"]
    assert (path.suffix, netcdf.suffix) == (".ecsv", ".nc")
    table, channels = QTable.read(path), result.channels
    assert len(table) == 6 * 15
    assert table.meta["channels"] == "3"
    assert str(table["flux"].unit) == "Jy" or table["flux"].unit is None or str(table["flux"].unit) == "DN / s"
    assert channels.flux.dims == ("time", "channel")
    for k in range(6):
        rows = table[np.asarray(table["channel"]) == k + 1]
        one = channels.isel(channel=k)
        assert set(rows["detector"]) == {str(one.channel_detector.values)}
        assert np.asarray(rows["int_num"]).tolist() == one.int_num.values.tolist() == list(range(1, 16))
        for name in ("normalized_flux", "normalized_flux_error", "normalized_flux_limit", "flux", "flux_error",
                     "flux_error_flat", "missing_fraction", "n_valid"):  # fmt: skip
            np.testing.assert_array_equal(np.asarray(rows[name]), one[name].values, err_msg=name)
        np.testing.assert_array_equal(rows["MJD_UTC"].value, one.mjd_utc.sel(detector=one.channel_detector).values)


def assert_equal_but_for_correlated_noise(channels, others):
    """From spectra nothing is known of the noise that pixels share: NaN, and not in the errors."""
    assert set(channels.variables) == set(others.variables)
    for name in channels.variables:
        values, other = channels[name].values, others[name].values
        if name.endswith("_correlated"):
            assert np.isfinite(values[np.isfinite(channels.flux.values)]).all()
            assert np.isnan(other).all()
        elif f"{name}_correlated" in channels.variables:
            own = values**2 - channels[f"{name}_correlated"].values ** 2
            np.testing.assert_allclose(other, np.sqrt(own), rtol=1e-12, err_msg=name)
        elif name == "normalized_flux_fixed_error":
            own = values**2 - channels["normalized_flux_error_correlated"].values ** 2
            np.testing.assert_allclose(other, np.sqrt(own), rtol=1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(other, values, err_msg=name)


def test_from_the_product_they_are_the_same(tiny, tmp_path, monkeypatch):
    _, result = tiny
    monkeypatch.setattr("tso3.steps.channels._BLOCK_BYTES", 1)  # one integration at a time
    monkeypatch.setattr("tso3.io.channels._TILE_BYTES", 1)  # one channel
    again = quietly(result.products["x1dints"][0], tmp_path / "a", parameters={"channels": {"spec": 3}})
    assert list(again.products) == ["whtlt", "channels"]
    assert [path.name for path in again.products["channels"]] == [path.name for path in result.products["channels"]]
    assert_equal_but_for_correlated_noise(result.channels, again.channels)
    table, other = (QTable.read(each.products["channels"][0]) for each in (result, again))
    assert table.colnames == other.colnames
    assert table.meta == other.meta
    alone = quietly(
        result.products["x1dints"][0],
        tmp_path / "b",
        parameters={"channels": {"spec": 3}, "white_light": {"skip": True}},
    )
    assert list(alone.products) == ["channels"]


def test_the_layout_of_the_spectra_does_not_matter(tiny, tmp_path, tiny_aperture):
    layout = {"x1dints": {"layout": "segment"}, "channels": {"spec": 3}}
    by_segment = quietly(tiny[0], tmp_path, parameters=layout, overrides=tiny_aperture)
    assert by_segment.products["channels"][1].read_bytes() == tiny[1].products["channels"][1].read_bytes()


def test_part_of_the_integrations_and_a_baseline_of_the_user(tiny, tmp_path):
    _, result = tiny
    parameters = {"channels": {"spec": "native", "max_rows": 10}, "white_light": {"baseline": [[4, 5]]}}
    part = quietly(result.products["x1dints"][0], tmp_path, parameters=parameters, integrations="4:12")
    (netcdf,) = part.products["channels"]
    assert any("would have 144 rows, more than channels.max_rows = 10" in text for text in part.warnings)
    with xr.open_dataset(netcdf, engine="scipy") as channels:
        assert channels.sizes["channel"] == 16
        assert channels.int_num.values.tolist() == list(range(4, 13))
        np.testing.assert_allclose(channels.normalized_flux[:2].mean("time"), 1.0, rtol=1e-12)
        assert channels.normalized_flux[2:6].mean() == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(part.white_light["whitelight_normalized_NRS1"][:2].mean(), 1.0, rtol=1e-12)
    with pytest.raises(
        ParameterError, match=r"white_light.baseline: 20:30 holds none of the integrations of .* 1 to 15"
    ):
        quietly(result.products["x1dints"][0], tmp_path, parameters={"white_light": {"baseline": "20:30"}})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--channels", "nothing"], "channels.spec: 'nothing' is no file and nothing that is known"),
        (["--channels", "5.0,6.0"], "channels.spec: 5.0,6.0 leaves no channel with light in"),
        (["--channels", "3", "--set", "channels.min_wavelength=9"], "channels.spec: 3 leaves no channel with light"),
        (["--channels", "3", "--set", "white_light.baseline=a"], "--set: white_light.baseline = a: must be ends, all"),
    ],
)
def test_what_cannot_be_made_is_one_line(tiny, tmp_path, capsys, options, told):
    assert main(["run", str(tiny[1].products["x1dints"][0]), "-o", str(tmp_path), "-q", *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    assert told in lines[0]


def test_channels_without_a_wavelength_are_refused_before_the_work(tiny, tmp_path, tiny_aperture):
    with pytest.raises(
        ParameterError, match=r"5.0,6.0 leaves no channel with a wavelength of \S+, which has 3 to 4 mic"
    ):
        quietly(tiny[0], tmp_path / "out", parameters={"channels": {"spec": "5.0,6.0"}}, overrides=tiny_aperture)
    assert not (tmp_path / "out").exists()


def test_channels_without_light_are_refused_before_the_work(tiny, tmp_path):
    """The spectrum that is expected has no light in the only channel; in another it has."""
    wavelength, light = np.linspace(3.0, 4.0, 11), np.where(np.arange(11) < 8, 5.0, np.nan)
    spec = parse_channels(Channels(spec="3.85,4.1"))
    with pytest.raises(ParameterError, match=r"^channels.spec: 3.85,4.1 leaves no channel with light in a, .* to 3.7"):
        spec.check([(wavelength, light)], "a")
    spec.check([(wavelength, None)], "a")
    parse_channels(Channels(spec="3.0,3.2")).check([(wavelength, light)], "a")


def test_channels_of_given_spectra_are_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(ParameterError, match="leaves no channel with light"):
        quietly(tiny[1].products["x1dints"][0], tmp_path / "out", parameters={"channels": {"spec": "5.0,6.0"}})
    assert not (tmp_path / "out").exists()


def test_spectra_without_companion_have_errors_but_no_limit(tiny, tmp_path):
    source = tiny[1].products["x1dints"][0]
    with fits.open(source) as hdus:
        fits.HDUList([hdu for hdu in hdus if not hdu.name.startswith("TSO3_")]).writeto(tmp_path / source.name)
    options = {"channels": {"spec": 3}, "white_light": {"skip": True}}
    result = quietly(tmp_path / source.name, tmp_path / "out", parameters=options)
    assert sum("has no companion tables of tso3; photon limit" in text for text in result.warnings) == 1
    for name in ("normalized_flux_limit", "missing_fraction"):
        assert np.isnan(result.channels[name]).all()
    for name in ("normalized_flux", "normalized_flux_error", "flux", "flux_error"):
        np.testing.assert_array_equal(result.channels[name], tiny[1].channels[name])


def test_images_have_no_channels(tmp_path):
    visit = simulate("NRC_TSIMAGE", tmp_path / "in", n_int=4, detectors=["NRCB1"])
    with pytest.raises(ParameterError, match=r"^channels.spec: NRC_TSIMAGE has no spectra to make channels of"):
        tso3.run(visit.association, tmp_path / "out", parameters={"channels": {"spec": 3}})


def test_the_weighted_white_light_is_that_of_the_obvious_loop(tiny, tmp_path):
    """Of spectra that are there: medians of flux and variance as weights; missing samples from their own group."""
    _, result = tiny
    light = quietly(result.products["x1dints"][0], tmp_path).white_light
    spectra = tso3.open_spectra(result.products["x1dints"][0], "NRS1").load()
    flux, variance = np.asarray(spectra.flux), np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise)
    steady, noise = np.nanmedian(flux, axis=0), np.nanmedian(variance, axis=0)
    share = steady**2 / noise / (steady**2 / noise).sum()
    value, error = np.empty(15), np.empty(15)
    for i in range(15):
        good = np.isfinite(flux[i])
        weight = share * good / share[good].sum()  # eight wavelengths in sixteen groups: each is its own
        value[i] = (weight[good] * flux[i, good] / steady[good]).sum()
        error[i] = np.sqrt((weight[good] ** 2 * variance[i, good] / steady[good] ** 2).sum())
    level = np.median(value[ends(15)])
    np.testing.assert_allclose(light["whitelight_normalized_NRS1"], value / level, rtol=1e-12)
    np.testing.assert_allclose(light["whitelight_normalized_error_NRS1"], error / level, rtol=1e-12)
    assert error[2] > 1.02 * error[1]
    limit = np.asarray(light["whitelight_normalized_limit_NRS1"])
    assert limit[2] == pytest.approx(limit[1], rel=1e-2)


def test_the_archive_has_neither(tiny, tmp_path, tiny_aperture):
    light = quietly(tiny[0], tmp_path, preset="archive", overrides=tiny_aperture).white_light
    assert not [name for name in light.colnames if "normalized" in name]
    assert "effective_wavelength" not in light.meta


def true_curves(truth, wavelength, light, members):
    """Return the true relative light curve of each channel, weighted as the estimate is."""
    nodes = truth["transit_wavelength"]
    order = np.argsort(nodes)
    transit = np.array([np.interp(wavelength, nodes[order], row[order]) for row in truth["transit"].T])
    transit *= truth["ramp"][:, None] / np.median(truth["ramp"][ends(len(truth["ramp"]))])
    return np.array([(transit[:, m] * light[m]).sum(axis=1) / light[m].sum() for m in members]).T


def fitted_depth(curve, error, shape):
    """Return scale of the true shape and its error, by least squares with a free level."""
    columns = np.stack([np.ones_like(shape), shape - 1.0], axis=1) / error[:, None]
    covariance = np.linalg.inv(columns.T @ columns)
    return (covariance @ columns.T @ (curve / error))[1], np.sqrt(covariance[1, 1])


def test_depths_of_channels_are_the_true_ones(prism):
    visit, result = prism
    channels = result.channels
    spectra = tso3.open_spectra(result.products["x1dints"][0]).load()
    flux, variance = np.asarray(spectra.flux), np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise)
    known = np.isfinite(flux).any(axis=0)  # wavelengths that lack too much light are left out of all integrations
    flux, variance = flux[:, known], variance[:, known]
    light = np.nanmedian(flux, axis=0) ** 2 / np.nanmedian(variance, axis=0)
    wavelength = np.asarray(spectra.wavelength)[known]
    low, high = channels.wavelength_low.values, channels.wavelength_high.values
    members = [(wavelength >= a) & (wavelength < b) & (light > 0) for a, b in zip(low, high, strict=True)]
    truth = dict(np.load(next(iter(visit.truths.values()))))
    curves = true_curves(truth, wavelength, light, members)
    pulls, residuals = [], []
    for k in range(channels.sizes["channel"]):
        one = channels.isel(channel=k)
        depth, error = fitted_depth(one.normalized_flux.values, one.normalized_flux_error.values, curves[:, k])
        pulls.append((depth - 1.0) / error)
        residuals.append((one.normalized_flux.values - curves[:, k]) / one.normalized_flux_error.values)
    assert len(pulls) == 20
    assert np.mean(np.square(pulls)) < 2.2  # 20 of them: 1 +- 0.32
    assert abs(np.mean(pulls)) < 0.8
    spread = np.std(residuals, axis=1)
    assert 0.85 < np.median(spread) < 1.15


def test_the_weighted_white_light_has_the_true_shape_and_its_error(prism):
    visit, result = prism
    light = result.white_light
    truth = dict(np.load(next(iter(visit.truths.values()))))
    curve = light["whitelight_normalized_NRS1"]
    error = light["whitelight_normalized_error_NRS1"]
    out = ends(60)
    assert np.median(curve[out]) == pytest.approx(1.0, abs=1e-12)
    shape = truth["white_light"] / np.median(truth["white_light"][out])
    assert np.std((curve - shape) / error) < 1.35
    limit = np.asarray(light["whitelight_normalized_limit_NRS1"])
    plain = light["photon_limit_NRS1"] / np.median(light["whitelight_flux_NRS1"][out])
    assert np.median(limit) < np.median(plain.value)
    assert (error > 0.99 * limit).all()
    assert light.meta["effective_wavelength"]["whitelight_normalized_NRS1"] == pytest.approx(1.8, abs=0.6)


def test_the_columns_of_the_table_say_what_they_are(tiny):
    table = Table.read(tiny[1].products["channels"][0])
    assert "minus 2400000.5" in table["BJD_TDB"].description
    assert str(table["wavelength"].unit) == "um"
