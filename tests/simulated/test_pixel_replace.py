"""Whole runs with replaced pixels: status, crfints untouched, any block size, and what the light curve gains."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate

ON = {"skip": False, "algorithm": "time_profile"}


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """A MIRI visit, noise and transit in it, in which every integration loses 1 % of its pixels; and the whole one."""
    whole = simulate(
        "MIR_LRS-SLITLESS",
        tmp_path_factory.mktemp("whole"),
        n_int=8,
        segments=2,
        seed=4,
        bad_pixels=0.0,
        cosmic_rays=0.0,
    )
    spoiled = tmp_path_factory.mktemp("spoiled")
    rng = np.random.default_rng(0)
    for member in whole.members:
        with fits.open(member) as file:
            file["DQ"].data = file["DQ"].data | (rng.random(file["DQ"].data.shape) < 0.01)
            file.writeto(spoiled / member.name)
    association = spoiled / whole.association.name
    association.write_text(whole.association.read_text())
    return whole, association


@pytest.fixture(scope="module")
def reduce(visits, tmp_path_factory):
    """Reduce either with parameters of pixel_replace."""

    def run(spoiled=True, replacement=None, extract=None, **arguments):
        whole, association = visits
        parameters = {"pixel_replace": replacement or {}, "extract_1d": extract or {}, "rectify": {"skip": True}}
        return tso3.run(
            association if spoiled else whole.association, tmp_path_factory.mktemp("out"), parameters=parameters,
            overrides=dict(whole.references), **arguments,
        )  # fmt: skip

    return run


def rows(result):
    """FLUX, NPIXELS, DQ and the companion's share of missing light, and the status in the header."""
    with fits.open(result.products["x1dints"][0]) as file:
        table, ours = file["EXTRACT1D", 1].data, file["TSO3_EXTRACT1D"].data
        planes = [np.array(table[name]) for name in ("FLUX", "FLUX_ERROR", "NPIXELS", "DQ")]
        return [*planes, np.array(ours["MISSING_FRACTION"])], file[0].header["S_PXREPL"]


def test_status_crfints_and_the_light_curve(reduce):
    reference = rows(reduce(spoiled=False))[0][0]
    runs = {"complete": reduce(), "replaced": reduce(replacement=ON), "drop": reduce(extract={"missing": "drop"})}
    assert [rows(runs[name])[1] for name in runs] == ["SKIPPED", "COMPLETE", "SKIPPED"]
    for one, other in zip(runs["complete"].products["crfints"], runs["replaced"].products["crfints"], strict=True):
        with fits.open(one) as first, fits.open(other) as second:
            for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
                np.testing.assert_array_equal(first[name].data, second[name].data)
    scatter = {}
    for name, result in runs.items():
        (flux, _, npixels, _, missing), _ = rows(result)
        lacking = missing > 0.01
        assert lacking.mean() > 0.05
        scatter[name] = np.nanstd((flux - reference)[lacking] / np.median(reference, axis=0)[np.nonzero(lacking)[1]])
        full = npixels.max()
        assert (npixels[lacking] == full).all() == (name == "replaced")
    assert scatter["replaced"] < 0.5 * scatter["drop"]
    assert scatter["replaced"] < 1.1 * scatter["complete"]


@pytest.mark.parametrize("algorithm", ["mingrad", "fit_profile", "time_profile"])
def test_the_cut_into_blocks_does_not_show(reduce, algorithm):
    replacement = {"skip": False, "algorithm": algorithm}
    one = rows(reduce(replacement=replacement, block_size=1, workers=2))[0]
    whole = rows(reduce(replacement=replacement, workers=1))[0]
    for ours, expected in zip(one, whole, strict=True):
        np.testing.assert_array_equal(ours, expected)
