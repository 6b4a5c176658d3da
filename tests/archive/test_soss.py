"""SOSS through ``--preset archive`` and through ``jwst.pipeline.Tso3Pipeline`` 3.0.0 with sums in boxes."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.jwst

BOX = {"extract_1d": {"soss_atoca": False}}
"""jwst's default is the decontamination of overlapping orders, which is not compared."""


@pytest.mark.parametrize(
    ("subarray", "parameters"),
    [("SUBSTRIP256", {"subtract_background": True}), ("SUBSTRIP96", {"soss_width": 30.0})],
    ids=["soss, three orders, background", "soss, short subarray"],
)
def test_products_are_equal(subarray, parameters, visit, compared):
    simulated = visit("NIS_SOSS", n_int=4, segments=2, seed=11, subarray=subarray)
    simulated = simulated.with_references(wavelengthrange=None, gain=None, spectrace=None, wavemap=None)
    comparisons = compared(simulated, {"extract_1d": BOX["extract_1d"] | parameters})
    assert {comparison.product for comparison in comparisons} == {"files", "crfints", "x1dints", "whtlt"}
    for comparison in comparisons:
        comparison.check()
    assert sum(comparison.n_flagged for comparison in comparisons) > 0
