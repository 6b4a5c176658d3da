"""A star whose core saturates, out of transit more than in it: all integrations sum the same pixels and wavelengths."""

from __future__ import annotations

import numpy as np
import pytest

import tso3
from tso3.io.spectra_dataset import open_spectra
from tso3.simulate import simulate


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    """A visit of the prism that moves, with saturated pixels."""
    folder = tmp_path_factory.mktemp("saturated")
    scene = {"n_int": 40, "subarray": "SUB512S", "depth": 0.01, "drift": 0.05, "jitter": 0.01, "cosmic_rays": 0.0}
    visit = simulate(
        "NRS_BRIGHTOBJ", folder / "in", configuration="PRISM", seed=1, troubles={"saturation": 0.3}, **scene
    )
    result = tso3.run(visit.association, folder / "out", parameters={"rectify": {"skip": True}})
    return visit, result


def test_a_wavelength_is_in_all_integrations_or_in_none(reduced):
    _, result = reduced
    spectra = open_spectra(result.products["x1dints"][0])
    known = np.isfinite(spectra["flux"].values).sum(axis=0)
    assert set(known) <= {0, 40}
    assert (known == 0).any()  # of some the core is gone
    missing = spectra["missing_fraction"].values[:, known == 40]
    middle = np.median(missing, axis=0)
    assert np.median(np.abs(missing - middle), axis=0).max() < 0.02


def test_the_light_curve_scatters_as_it_says(reduced):
    visit, result = reduced
    table = result.white_light
    truth = np.load(next(iter(visit.truths.values())))["white_light"]
    ratio = np.asarray(table["whitelight_flux_NRS1"], float) / truth
    index = np.arange(ratio.size)
    rest = ratio / np.polyval(np.polyfit(index, ratio, 1), index) - 1.0
    told = float(np.median(np.asarray(table["whitelight_flux_error_NRS1"] / table["whitelight_flux_NRS1"])))
    assert np.std(rest) < 1.4 * told  # without this 2.3 times
