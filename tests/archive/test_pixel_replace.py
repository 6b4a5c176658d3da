"""Replacement of bad pixels beside ``jwst.pixel_replace`` 3.0.0: the kernels bit by bit, and whole runs."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from tso3.core.block import Block
from tso3.core.repair import DqBits, fit_profile, mingrad
from tso3.io.dqflags import pixel_flags

pytestmark = pytest.mark.jwst

FLAGS = pixel_flags()
BITS = DqBits(FLAGS["DO_NOT_USE"], FLAGS["NON_SCIENCE"], FLAGS["FLUX_ESTIMATED"])
KERNELS = {"mingrad": mingrad, "fit_profile": fit_profile}
PLANES = ("data", "err", "var_poisson", "var_rnoise", "var_flat")

SCENES = {
    "few": {"bad": 0.02},
    "many": {"bad": 0.3, "outside": 0.1},
    "small": {"shape": (8, 60), "bad": 0.7, "outside": 0.1},
    "faint": {"bad": 0.1, "flux": 0.5},
    "tiny numbers": {"bad": 0.1, "flux": 1e-4, "noise": 1e-6},
    "tall": {"shape": (150, 30), "bad": 0.05},
}


def scene(seed=0, shape=(24, 80), bad=0.0, outside=0.0, flux=100.0, noise=2.0):
    """Two integrations of a star on a background, with variances; bad pixels NaN and flagged."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = np.exp(-0.5 * ((y - shape[0] / 2 + 0.3) / 1.5) ** 2) * flux * (1 + 0.3 * np.sin(x / 3)) + 0.5 * noise
    stack = image * np.array([1.0, 0.98])[:, None, None]
    poisson, rnoise, flat = np.abs(stack) * 0.3 * noise, np.full(stack.shape, noise**2), (stack * 1e-3) ** 2
    stack = stack + rng.normal(size=stack.shape) * np.sqrt(poisson + rnoise)
    dq = np.where(rng.random(stack.shape) < bad, FLAGS["DO_NOT_USE"], 0)
    dq |= np.where(rng.random(stack.shape) < outside, FLAGS["DO_NOT_USE"] | FLAGS["NON_SCIENCE"], 0)
    mask = (dq & FLAGS["DO_NOT_USE"]) > 0
    planes = [stack, np.sqrt(poisson + rnoise + flat), poisson, rnoise, flat]
    data, err, *variances = (np.where(mask, np.nan, p).astype(np.float32) for p in planes)
    return Block(0, data, err, dq.astype(np.uint32), mask, *variances)


def theirs(block, algorithm, axis=1, n_adjacent_cols=3):
    """What jwst makes of every integration."""
    from jwst.pixel_replace.pixel_replace import PixelReplaceArrays, PixelReplacement

    work = PixelReplacement(None, algorithm, n_adjacent_cols)
    names = ("data", "dq", "err", "var_poisson", "var_rnoise", "var_flat")
    out = []
    for i in range(block.n_int):
        planes = [None if getattr(block, n) is None else getattr(block, n)[i].copy() for n in names]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out.append(getattr(work, algorithm)(PixelReplaceArrays(*planes, None, axis)))
    return out


def same(ours, expected):
    for i, one in enumerate(expected):
        for name in PLANES:
            if getattr(ours, name) is not None:
                np.testing.assert_array_equal(getattr(ours, name)[i], getattr(one, name), err_msg=name)
        np.testing.assert_array_equal(ours.dq[i], one.dq, err_msg="dq")


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("algorithm", KERNELS)
def test_kernels_give_the_same_bits(algorithm, name):
    block = scene(**SCENES[name])
    ours = KERNELS[algorithm](block, BITS)
    assert ours.estimated.any()
    same(ours, theirs(block, algorithm))


@pytest.mark.parametrize("n_adjacent_cols", [1, 5])
def test_the_number_of_columns(n_adjacent_cols):
    block = scene(bad=0.1)
    same(fit_profile(block, BITS, n_adjacent_cols), theirs(block, "fit_profile", n_adjacent_cols=n_adjacent_cols))


def test_t23_not_square_and_dispersion_along_y():
    # T23, transposed dispersion size mismatch (jwst 1.14 #8312)
    block = scene(bad=0.05, shape=(12, 70))
    turned = replace(block, **{n: getattr(block, n).swapaxes(1, 2) for n in ("dq", "mask", *PLANES)})
    expected = theirs(turned, "fit_profile", axis=2)
    ours = fit_profile(block, BITS)
    for i, one in enumerate(expected):
        for name in PLANES:
            np.testing.assert_array_equal(getattr(ours, name)[i], getattr(one, name).T, err_msg=name)
        np.testing.assert_array_equal(ours.dq[i], one.dq.T)


BOTS, LRS = "NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS"
CASES = {
    "bots, mingrad": (BOTS, {"algorithm": "mingrad"}, {"subtract_background": True}),
    "lrs, fit_profile": (
        LRS,
        {"algorithm": "fit_profile", "n_adjacent_cols": 2},
        {"subtract_background": True, "apply_apcorr": False},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_products_are_equal(name, visit, compared, ours):
    mode, replacement, extraction = CASES[name]
    only = {"detectors": ["NRS1"]} if mode == BOTS else {}
    simulated = visit(mode, n_int=3, seed=11, bad_pixels=0.01, **only)
    parameters = {"pixel_replace": {"skip": False, **replacement}, "extract_1d": extraction}
    simulated = simulated.with_references(wavelengthrange=None)
    comparisons = compared(simulated, parameters)
    assert {comparison.product for comparison in comparisons} == {"files", "crfints", "x1dints", "whtlt"}
    for comparison in comparisons:
        comparison.check()
    with fits.open(ours(simulated, parameters).products["x1dints"][0]) as file:
        assert file[0].header["S_PXREPL"] == "COMPLETE"
        replaced = file["TSO3_EXTRACT1D"].data["MISSING_FRACTION"] > 0
        whole = file["EXTRACT1D", 1].data["NPIXELS"] >= file["EXTRACT1D", 1].data["NPIXELS"].max() - 1e-6
    assert (replaced & whole).sum() > 50, "without replaced pixels the comparison proves nothing"
