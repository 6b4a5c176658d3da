"""The noise that pixels of a detector row share, in the errors of channels: NIRCam's grism."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tso3
from tso3.simulate import simulate

N_INT = 30
EDGES = "3.9,4.1,4.3,4.5,4.7,4.9"


def run(visit, folder, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        parameters = {"rectify": {"skip": True}, **parameters}
        return tso3.run(visit.association, folder, overrides=visit.references, parameters=parameters)


@pytest.fixture(scope="module")
def grism(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grism")
    visit = simulate("NRC_TSGRISM", folder / "in", configuration="F444W", n_int=N_INT, seed=3, depth=0.0, jitter=0.003)
    return visit, run(visit, folder / "five", channels={"spec": EDGES})


def test_channels_scatter_as_their_errors_say(grism):
    channels = grism[1].channels
    flux, error = channels.normalized_flux.values, channels.normalized_flux_error.values
    shared = channels.normalized_flux_error_correlated.values
    assert (shared > 0.0).all()
    scatter = flux.std(axis=0, ddof=1)
    own = np.sqrt(error**2 - shared**2)
    assert 0.7 < np.mean(scatter**2 / np.mean(error**2, axis=0)) < 1.3  # five series of thirty, not independent
    assert np.mean(scatter**2 / np.mean(own**2, axis=0)) > 1.6  # without it they would be too small


def test_one_channel_over_everything_has_that_of_the_white_light(grism, tmp_path):
    visit, _ = grism
    channels = {"spec": "2.0,6.0", "motion": "none"}
    result = run(visit, tmp_path / "one", channels=channels, white_light={"min_wavelength": 2.0, "max_wavelength": 6.0})
    white = np.asarray(result.white_light["whitelight_flux_error_correlated"])
    assert result.channels.flux_error_correlated.values[:, 0] == pytest.approx(white, rel=1e-3)
    total, own = (result.channels[name].values for name in ("flux_error", "flux_error_correlated"))
    assert (total > own).all()


def test_without_pairs_it_is_not_known(grism, tmp_path):
    result = run(grism[0], tmp_path / "none", channels={"spec": EDGES}, survey={"n_pairs": 0})
    assert np.isnan(result.channels.normalized_flux_error_correlated).all()
    own = np.sqrt(grism[1].channels.flux_error.values ** 2 - grism[1].channels.flux_error_correlated.values ** 2)
    assert result.channels.flux_error.values == pytest.approx(own, rel=1e-9)


def test_motion_of_an_undersampled_image_is_no_noise_that_pixels_share(tmp_path):
    """What derivatives lack of it is common to the wings in a column, but adds up to nothing in the sum."""
    still = {"n_int": 40, "seed": 3, "depth": 0.0, "cosmic_rays": 0.0, "bad_pixels": 0.0}
    visit = simulate("NRS_BRIGHTOBJ", tmp_path / "in", configuration="PRISM", subarray="SUB512S", jitter=0.02, **still)
    channels = run(visit, tmp_path / "out", channels={"spec": "0.7,1.5,3,5"}).channels
    shared, error = (channels[f"normalized_flux_error{end}"].values for end in ("_correlated", ""))
    assert (shared < 0.2 * error).all()  # 0.56 of it in the third channel if the wings tell
