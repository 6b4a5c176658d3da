"""``--preset archive`` beside ``jwst.pipeline.Tso3Pipeline`` 3.0.0: the same files, every product, every column."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.jwst

MODES = ("NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS", "NRC_TSIMAGE")
ROLLING, STATIC = 56, 30
"""Integrations of each exposure in two segments: more, and fewer, per segment than the window of 25."""

SMALL = {"NRS_BRIGHTOBJ": {}, "MIR_LRS-SLITLESS": {}, "NRC_TSIMAGE": {}}

BACKGROUND = {"extract_1d": {"subtract_background": True}}
NO_BACKGROUND = {"extract_1d": {"subtract_background": False}}
NO_APCORR = {"extract_1d": {"subtract_background": True, "apply_apcorr": False}}

CASES = {
    "bots, background": ("NRS_BRIGHTOBJ", ROLLING, BACKGROUND),
    "bots, no background": ("NRS_BRIGHTOBJ", ROLLING, NO_BACKGROUND),
    "bots, no aperture correction": ("NRS_BRIGHTOBJ", STATIC, NO_APCORR),
    "bots, static": ("NRS_BRIGHTOBJ", STATIC, BACKGROUND),
    "bots, median background": (
        "NRS_BRIGHTOBJ",
        STATIC,
        {"extract_1d": {"subtract_background": True, "bkg_fit": "median", "smoothing_length": 5}},
    ),
    "bots, sloped background": (
        "NRS_BRIGHTOBJ",
        STATIC,
        {"extract_1d": {"subtract_background": True, "bkg_fit": "poly", "bkg_order": 1}},
    ),
    "bots, even window, limits": (
        "NRS_BRIGHTOBJ",
        ROLLING,
        {
            "outlier_detection": {"rolling_window_width": 10, "snr": "4.0 3.0"},
            "extract_1d": {"subtract_background": False, "position_offset": 0.3},
            "white_light": {"min_wavelength": 3.0, "max_wavelength": 4.5},
        },
    ),
    "lrs, background": ("MIR_LRS-SLITLESS", ROLLING, BACKGROUND),
    "lrs, no background": ("MIR_LRS-SLITLESS", STATIC, NO_BACKGROUND),
    "lrs, no aperture correction": ("MIR_LRS-SLITLESS", STATIC, NO_APCORR),
    "tsimage": ("NRC_TSIMAGE", ROLLING, None),
    "tsimage, static": ("NRC_TSIMAGE", STATIC, None),
    "tsimage, moving": ("NRC_TSIMAGE", STATIC, {"tso_photometry": {"moving_centroid": True, "radius": 4.5}}),
    "tsimage, no centroid": ("NRC_TSIMAGE", STATIC, {"tso_photometry": {"centroid_source": False}}),
}
"""Mode, number of integrations of each exposure, parameters given to both."""


@pytest.mark.parametrize("name", CASES)
def test_products_are_equal(name, visit, compared):
    mode, n_int, parameters = CASES[name]
    comparisons = compared(visit(mode, n_int=n_int, segments=2, seed=11, **SMALL[mode]), parameters)
    kinds = {comparison.product for comparison in comparisons}
    spectra = {"files", "crfints", "x1dints", "whtlt"}
    assert kinds == ({"files", "crfints", "phot"} if mode == "NRC_TSIMAGE" else spectra)
    for comparison in comparisons:
        comparison.check()
