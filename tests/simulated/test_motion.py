"""A star that moves: shifts, brightness and depths in channels of simulated spectra against the truth."""

import warnings

import numpy as np
import pytest

import tso3
from tso3.simulate import simulate

pytestmark = pytest.mark.filterwarnings("ignore::tso3.Tso3Warning")
SCENES = {
    "lrs": ("MIR_LRS-SLITLESS", {"n_int": 40, "jitter": 0.01, "seed": 4}),
    "prism": (
        "NRS_BRIGHTOBJ",
        {"configuration": "PRISM", "subarray": "SUB512S", "n_int": 60, "jitter": 0.003, "seed": 1},
    ),
}


def ends(n):
    size = max(n // 10, 3)
    return (np.arange(n) < size) | (np.arange(n) >= n - size)


@pytest.fixture(scope="module", params=SCENES)
def scene(request, tmp_path_factory):
    """Name, result and truth of a visit with a transit of 1 % and a drift of 0.05 pixel."""
    mode, options = SCENES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    visit = simulate(mode, folder / "in", drift=0.05, depth=0.01, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        parameters = {"channels": {"spec": 20}, "rectify": {"skip": True}}
        result = tso3.run(visit.association, folder / "out", parameters=parameters)
    return request.param, result, dict(np.load(next(iter(visit.truths.values()))))


def column(table, name):
    found = next(each for each in table.colnames if each.startswith(name) and "error" not in each)
    return np.asarray(getattr(table[found], "value", table[found]), float)


def test_shifts_have_the_right_size_and_error(scene):
    name, result, truth = scene
    across, along = ("x", "y") if name == "lrs" else ("y", "x")
    shift, true = column(result.covariates, f"shift_{across}"), truth[f"offset_{across}"]
    assert np.polyfit(true, shift, 1)[0] == pytest.approx(1.0, abs=0.04)
    if name == "prism":
        return  # along dispersion the template knows little of it; the spectra know more
    shift, true = column(result.covariates, f"shift_{along}"), truth[f"offset_{along}"]
    error = next(each for each in result.covariates.colnames if each.startswith(f"shift_{along}_error"))
    error = np.median(result.covariates[error].value)
    assert (shift - true).std() < 1.4 * error
    assert np.polyfit(true, shift, 1)[0] == pytest.approx(1.0, abs=0.1)


def test_the_white_light_keeps_what_the_aperture_loses(scene):
    _, result, truth = scene
    table = result.white_light
    curve = column(table, "whitelight_normalized")
    error = next(each for each in table.colnames if each.startswith("whitelight_normalized_error"))
    order = np.argsort(truth["transit_wavelength"])
    spectra = tso3.open_spectra(result.products["x1dints"][0])
    wavelength, flux = np.asarray(spectra.wavelength), np.asarray(spectra.flux)
    variance = np.nanmedian(np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise), axis=0)
    steady = np.nan_to_num(np.nanmedian(flux, axis=0))
    light = np.where((steady > 0) & (variance > 0), steady**2 / np.where(variance > 0, variance, 1.0), 0.0)
    nodes = truth["transit_wavelength"][order]
    curves = np.array([np.interp(wavelength, nodes, row[order]) for row in truth["transit"].T])
    true = (curves * light).sum(axis=1) / light.sum() * truth["ramp"]
    left = curve / true / np.median(curve / true) - 1.0
    assert left.std() < 1.3 * np.median(table[error])


def depths(channels, spectra, truth, name):
    """Depths over the true ones, less 1, in their errors: least squares with scale and level free."""
    wavelength, flux = np.asarray(spectra.wavelength), np.asarray(spectra.flux)
    steady = np.nan_to_num(np.nanmedian(flux, axis=0))
    variance = np.nanmedian(np.asarray(spectra.flux_var_poisson + spectra.flux_var_rnoise), axis=0)
    light = np.where((steady > 0) & (variance > 0), steady**2 / np.where(variance > 0, variance, 1.0), 0.0)
    order = np.argsort(truth["transit_wavelength"])
    nodes = truth["transit_wavelength"][order]
    curves = np.array([np.interp(wavelength, nodes, row[order]) for row in truth["transit"].T])
    curves *= truth["ramp"][:, np.newaxis]
    pulls = []
    for k in range(channels.sizes["channel"]):
        one = channels.isel(channel=k)
        inside = (wavelength >= float(one.wavelength_low)) & (wavelength < float(one.wavelength_high))
        shape = (curves * light * inside).sum(axis=1) / (light * inside).sum()
        shape /= np.median(shape[ends(len(shape))])
        sigma = one[f"{name}_error"].values
        design = np.stack([np.ones_like(shape), shape - 1.0], axis=1) / sigma[:, np.newaxis]
        covariance = np.linalg.inv(design.T @ design)
        level, drop = covariance @ design.T @ (one[name].values / sigma)
        pulls.append((drop / level - 1.0) / np.sqrt(covariance[1, 1]))
    return np.array(pulls)


def test_depths_in_channels_are_right_although_the_star_moves(scene):
    _, result, truth = scene
    channels = result.channels.load()
    spectra = tso3.open_spectra(result.products["x1dints"][0])
    left_in = np.mean(depths(channels, spectra, truth, "normalized_flux_fixed") ** 2)
    taken_out = np.mean(depths(channels, spectra, truth, "normalized_flux") ** 2)
    assert left_in > 2.0
    assert taken_out < 1.0 + 3.0 * np.sqrt(2.0 / 20)
    assert np.abs(channels.motion.values).max() > 0.0
    quiet = channels.normalized_flux_error.values / channels.normalized_flux_fixed_error.values
    assert np.median(quiet) < 1.1


def test_the_motion_can_be_left_in(scene, tmp_path):
    _, result, _ = scene
    parameters = {"channels": {"spec": 20, "motion": "none"}}
    again = tso3.run(result.products["x1dints"][0], tmp_path, parameters=parameters)
    values, kept = again.channels.load(), result.channels.load()
    np.testing.assert_array_equal(values.normalized_flux.values, kept.normalized_flux_fixed.values)
    np.testing.assert_array_equal(values.normalized_flux_fixed.values, kept.normalized_flux_fixed.values)
    assert not values.motion.values.any()


def test_motion_along_dispersion_has_its_size_without_noise(tmp_path):
    options = {"configuration": "PRISM", "subarray": "SUB512S", "n_int": 24, "noise": False, "jitter": 0.0}
    visit = simulate("NRS_BRIGHTOBJ", tmp_path / "in", drift=0.4, depth=0.0, cosmic_rays=0.0, bad_pixels=0.0, **options)
    parameters = {"channels": {"spec": 20}, "rectify": {"skip": True}}
    result = tso3.run(visit.association, tmp_path / "out", parameters=parameters)
    true = np.load(next(iter(visit.truths.values())))["offset_x"]
    inner = slice(8, 16)  # the motion is a running mean: near the ends it lags behind
    found = np.asarray(result.channels["motion"])[inner, 0]
    assert np.polyfit(true[inner], found, 1)[0] == pytest.approx(1.0, abs=0.05)


def test_the_light_of_the_background_is_in_the_unit_of_the_flux(scene):
    from tso3.io.spectra_dataset import tables_of
    from tso3.io.spectra_rows import SpectrumRows, TablePart

    name, result, truth = scene
    path = result.products["x1dints"][0]
    ((table, companion),) = next(iter(tables_of(path).values()))
    wavelength = np.asarray(tso3.open_spectra(path).wavelength)
    part = TablePart(table, companion, 0, 1, None)
    sample = SpectrumRows(None, wavelength, (part,)).sample(path, 1)
    share = np.nanmedian(sample.background[0] / sample.flux[0])
    sky = np.nanmedian(truth["background"]) / np.nanmedian(truth["reference"].max(axis=0 if name == "prism" else 1))
    assert 0.0 < share < 30.0 * sky + 0.1
    if name == "prism":
        alone = SpectrumRows(None, wavelength, (TablePart(table, None, 0, 1, None),)).sample(path, 1)
        assert not alone.background.any()  # nothing tells the pixel area
