"""
Imaging beside ``jwst.pipeline.Tso3Pipeline`` 3.0.0: weak lenses, MIRI, two detectors; and where ours differs knowingly.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import QTable

from compare_products import ecsv

pytestmark = pytest.mark.jwst

NIRCAM, MIRI = "NRC_TSIMAGE", "MIR_IMAGE"
WEAK_LENS = {"tso_photometry": {"radius": 50.0, "radius_inner": 60.0, "radius_outer": 70.0}}


@dataclass(frozen=True)
class Case:
    """One run of both pipelines on two segments."""

    mode: str
    n_int: int
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    simulate: dict[str, Any] = field(default_factory=dict)


CASES = {
    "wlp8, sub64p": Case(NIRCAM, 8, simulate={"configuration": "WLP8", "subarray": "SUB64P"}),
    "wlp8, sub160p": Case(NIRCAM, 6, WEAK_LENS, {"configuration": "WLP8"}),
    "wlp4, sub160p": Case(NIRCAM, 6, simulate={"configuration": "WLP4"}),  # boxes of 41 and 11 in the ring: jwst 9919
    "mir_image, sub64": Case(MIRI, 54),
    "mir_image, f1500w, DN/s, moving": Case(
        MIRI,
        8,
        {"tso_photometry": {"moving_centroid": True}},
        {"configuration": "F1500W", "subarray": "SUB64", "photom": False},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_equal(name, visit, compared):
    case = CASES[name]
    made = visit(case.mode, n_int=case.n_int, segments=2, seed=11, **case.simulate)
    comparisons = compared(made, case.parameters)
    assert {comparison.product for comparison in comparisons} == {"files", "phot", "crfints"}
    for comparison in comparisons:
        comparison.check()


@pytest.fixture(scope="module")
def two_detectors(visit):
    """Two detectors of one observation, which see two stars."""
    return visit(NIRCAM, configuration="A1A3", n_int=4, segments=2, seed=11)


def table(path: Path) -> QTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return QTable.read(path, format="ascii.ecsv")


@pytest.mark.parametrize("detector", ["NRCA1", "NRCA3"])
def test_25_each_detector_has_the_archives_table_of_it_alone(detector, visit, two_detectors, peer, ours):
    """T25."""
    alone = visit(NIRCAM, configuration="A1A3", n_int=4, segments=2, seed=11, detectors=[detector])
    theirs = peer.run(alone.association, alone.references)
    assert theirs.error is None
    paths = {path.name.rsplit("-", 1)[1]: path for path in ours(two_detectors).products["phot"]}
    assert set(paths) == {"nrca1_phot.ecsv", "nrca3_phot.ecsv"}
    ecsv("phot", paths[f"{detector.lower()}_phot.ecsv"], theirs.product("_phot.ecsv")).check()


def test_25_two_detectors_are_two_light_curves(two_detectors, both):
    """T25: the reference pipeline stacks the rows of both detectors in one table, segment by segment."""
    theirs, result = both(two_detectors)
    mixed = table(theirs.product("_phot.ecsv"))["net_aperture_sum"].value
    flux = {name: found["net_aperture_sum"].value for name, found in result.photometry.items()}
    assert len(mixed) == 8
    np.testing.assert_allclose(mixed[:4], np.concatenate([flux["NRCA1"][:2], flux["NRCA3"][:2]]), rtol=1e-6)
    assert flux["NRCA1"].max() < 0.6 * flux["NRCA3"].min()


def test_22_weak_lens_in_sub64p_says_what_it_does(visit, both, ours):
    """T22: both sum the whole array; ours says so, and does not centroid an image that is larger than the array."""
    made = visit(NIRCAM, configuration="WLP8", subarray="SUB64P", n_int=8, segments=2, seed=11)
    theirs, archive = both(made)
    assert not any("annulus" in text for text in archive.warnings)
    with warnings.catch_warnings(record=True):
        default = ours(made, None, "default")
    assert any("lies off the array of 64 x 64 pixels: the whole array is summed" in text for text in default.warnings)
    peer_sum = table(theirs.product("_phot.ecsv"))["net_aperture_sum"].value
    np.testing.assert_allclose(default.white_light["net_aperture_sum"].value, peer_sum, rtol=0.02)
    assert "centroid_x" not in default.white_light.colnames
