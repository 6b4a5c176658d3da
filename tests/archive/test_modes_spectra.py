"""
``--preset archive`` beside jwst 3.0.0 for the modes with one spectrum in a frame: gratings, prism and grism.

Few integrations: what is particular here is where the light is and what the headers say, not how long an exposure is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

pytestmark = pytest.mark.jwst

BOTS, GRISM = "NRS_BRIGHTOBJ", "NRC_TSGRISM"
BACKGROUND = {"outlier_detection": {"snr": "3.5 3.0"}, "extract_1d": {"subtract_background": True}}
"""Few integrations hold few outliers, so the threshold is low."""


@dataclass(frozen=True)
class Case:
    """One run of both pipelines on a visit with a transit, cosmic rays and bad pixels."""

    mode: str
    configuration: str
    n_int: int
    simulate: dict[str, Any] = field(default_factory=dict)
    along_wcs: bool = False
    detectors: int = 1


CASES = {
    "prism, 16 rows, along the trace": Case(BOTS, "PRISM", 6, {"subarray": "SUB512S", "segments": 2}, along_wcs=True),
    "g395m": Case(BOTS, "G395M", 3),
    # T30: two detectors with different numbers of wavelengths
    "g140h, two detectors": Case(BOTS, "G140H", 3, detectors=2),
    "tsgrism f322w2": Case(GRISM, "F322W2", 4, {"segments": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_equal(name, visit, compared):
    case = CASES[name]
    made = visit(case.mode, configuration=case.configuration, n_int=case.n_int, seed=12, **case.simulate)
    made = made.along_wcs() if case.along_wcs else made
    made = made.with_references(wavelengthrange=None)  # jwst reads it for SOSS only: test_differences.py
    if case.mode == GRISM:
        made = made.with_references(apcorr=None)  # jwst 3.0.0 crashes with one: test_differences.py, row 13
    comparisons = compared(made, BACKGROUND)
    assert {comparison.product for comparison in comparisons} == {"files", "crfints", "x1dints", "whtlt"}
    n_segments = case.simulate.get("segments", 1)
    assert sum(c.product == "crfints" for c in comparisons) == n_segments * case.detectors
    for comparison in comparisons:
        comparison.check()
    assert sum(comparison.n_flagged for comparison in comparisons) > 0
