"""``--preset archive`` beside ``jwst.pipeline.Tso3Pipeline`` 3.0.0: the same files, every product, every column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

pytestmark = pytest.mark.jwst

BOTS, LRS, TSIMAGE = "NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS", "NRC_TSIMAGE"
ONE = {"detectors": ["NRS1"]}
"""Only one detector of NIRSpec, where the second would add nothing."""


@dataclass(frozen=True)
class Case:
    """
    One run of both pipelines.

    ``n_int`` integrations of each exposure in two segments: 52 or more per exposure is more per segment than the
    window of 25 (rolling median), fewer than 51 is not (static median).
    """

    mode: str
    n_int: int
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    simulate: dict[str, Any] = field(default_factory=dict)
    along_wcs: bool = False


def extract(**parameters):
    return {"extract_1d": parameters}


def photometry(**parameters):
    return {"tso_photometry": parameters}


CASES = {
    "bots, background": Case(BOTS, 52, extract(subtract_background=True), ONE),
    "bots, two detectors": Case(BOTS, 6, extract(subtract_background=False, apply_apcorr=False)),
    "bots, static, defaults of all steps": Case(BOTS, 10, simulate=ONE),
    "bots, along the trace": Case(
        BOTS, 10, extract(subtract_background=True, position_offset=0.3), ONE, along_wcs=True
    ),
    "bots, even window, limits": Case(
        BOTS,
        30,
        {
            "outlier_detection": {"rolling_window_width": 10, "snr": "4.0 3.0"},
            "extract_1d": {"subtract_background": False, "apply_apcorr": False},
            "white_light": {"min_wavelength": 3.0, "max_wavelength": 3.5},
        },
        ONE,
    ),
    "lrs, background": Case(LRS, 56, extract(subtract_background=True, apply_apcorr=False)),
    "lrs, no background": Case(LRS, 8, extract(subtract_background=False, apply_apcorr=False)),
    "lrs, aperture correction": Case(LRS, 6, extract(subtract_background=True)),
    "lrs, along the trace": Case(LRS, 8, extract(subtract_background=False, apply_apcorr=False), along_wcs=True),
    "lrs, mean background, DN/s": Case(
        LRS, 8, extract(subtract_background=True, bkg_fit="mean", apply_apcorr=False), {"photom": False}
    ),
    "lrs, no outlier detection": Case(
        LRS, 8, {"outlier_detection": {"skip": True}, **extract(subtract_background=True, apply_apcorr=False)}
    ),
    "tsimage": Case(TSIMAGE, 56),
    "tsimage, static": Case(TSIMAGE, 30),
    "tsimage, moving": Case(
        TSIMAGE, 30, photometry(moving_centroid=True, radius=4.5, radius_inner=6.0, radius_outer=9.5)
    ),
    "tsimage, no centroid": Case(TSIMAGE, 30, photometry(centroid_source=False)),
    "tsimage, DN/s": Case(TSIMAGE, 16, photometry(search_box_width=20), {"photom": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_equal(name, visit, compared):
    case = CASES[name]
    simulated = visit(case.mode, n_int=case.n_int, segments=2, seed=11, **case.simulate)
    if case.along_wcs:
        simulated = simulated.along_wcs()
    simulated = simulated.with_references(wavelengthrange=None)  # jwst reads it for SOSS only: test_differences.py
    comparisons = compared(simulated, case.parameters)
    kinds = {comparison.product for comparison in comparisons}
    expected = {"files", "phot"} if case.mode == TSIMAGE else {"files", "x1dints", "whtlt"}
    if not case.parameters.get("outlier_detection", {}).get("skip"):
        expected.add("crfints")
    assert kinds == expected
    for comparison in comparisons:
        comparison.check()
    flagged = sum(comparison.n_flagged for comparison in comparisons)
    assert flagged > 0 or "crfints" not in expected, "without outliers the flags prove nothing"
