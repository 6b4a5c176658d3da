"""Replacement of bad pixels as a step: parameters, orientation, and what extraction makes of replaced pixels."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tso3.config import resolve
from tso3.core.block import Block
from tso3.core.box import plan_box
from tso3.core.model import ExposureModel
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.parameters import PixelReplace, preset
from tso3.steps import extract_1d, pixel_replace
from tso3.steps.extraction_plan import Extract1DPlan, Units

FLAGS = pixel_flags()
N_INT, NY, NX = 5, 14, 30
PLANES = ("data", "err", "dq", "mask", "var_poisson", "var_rnoise", "var_flat")


def scene(bad=0.08, seed=0):
    """A star whose light falls by 1 % per integration, and the image of the exposure."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((NY, NX))
    image = 900 * np.exp(-0.5 * ((y - 6.2) / 1.3) ** 2) * (1 + 0.1 * np.sin(x / 3))
    truth = image * (1 - 0.01 * np.arange(N_INT))[:, None, None]
    mask = rng.random(truth.shape) < bad
    planes = [truth, truth * 1e-4 + 1e-3, np.full(truth.shape, 1e-3), truth * 0 + 1e-6]
    data, poisson, rnoise, flat = (np.where(mask, np.nan, p).astype(np.float32) for p in planes)
    err = np.sqrt(poisson + rnoise + flat)
    block = Block(0, data, err, mask.astype(np.uint32) * FLAGS["DO_NOT_USE"], mask, poisson, rnoise, flat)
    return block, truth, ExposureModel(image, np.zeros(image.shape, bool), np.arange(3))


def turned(block):
    return replace(block, **{name: np.ascontiguousarray(getattr(block, name).swapaxes(1, 2)) for name in PLANES})


def plan_of(algorithm, model, axis=1, spectra=()):
    exposure = SimpleNamespace(dispersion_axis=axis)
    return pixel_replace.prepare(exposure, PixelReplace(skip=False, algorithm=algorithm), model, spectra)


def test_skipped_by_default_in_both_presets():
    for name in ("default", "archive"):
        assert preset(name).pixel_replace.skip
        assert preset(name).pixel_replace.algorithm == "mingrad"
    assert pixel_replace.prepare(SimpleNamespace(dispersion_axis=1), PixelReplace(), None) is None


def test_trace_model_is_refused_with_what_to_use_instead():
    with pytest.raises(ParameterError, match=r"pixel_replace\.algorithm = trace_model.* use time_profile"):
        resolve(assignments=["pixel_replace.algorithm=trace_model"])
    with pytest.raises(ParameterError, match="'mingrad', 'fit_profile' or 'time_profile'"):
        resolve(assignments=["pixel_replace.algorithm=spline"])


def test_time_profile_needs_a_survey():
    with pytest.raises(ParameterError, match=r"survey\.n_sample = 0"):
        plan_of("time_profile", None)


@pytest.mark.parametrize("algorithm", ["mingrad", "fit_profile", "time_profile"])
def test_dispersion_along_y_gives_the_same(algorithm):
    block, _, model = scene()
    straight = pixel_replace.run(plan_of(algorithm, model), block)
    rotated = ExposureModel(model.reference.T, model.bad.T, model.sample)
    other = pixel_replace.run(plan_of(algorithm, rotated, axis=2), turned(block))
    assert straight.estimated.any()
    for name in (*PLANES, "estimated"):
        np.testing.assert_array_equal(getattr(other, name).swapaxes(1, 2), getattr(straight, name), err_msg=name)
    for name in PLANES:
        assert getattr(straight, name) is not getattr(block, name)


def spectrum_plan(missing="complete", max_missing=0.5):
    """A plan of extraction over rows 2 to 10, without background, profile from the image."""
    _, _, model = scene()
    aperture = np.zeros((NY, NX))
    aperture[2:11] = 1.0
    profile = model.reference / (aperture * model.reference).sum(axis=0)
    box = plan_box(aperture, profile=profile, complete=missing == "complete", max_missing=max_missing)
    wavelength = np.linspace(3, 4, NX)
    return Extract1DPlan(
        header=SimpleNamespace(background_unit=None), wavelength=wavelength, expected=None, rows=slice(2, 11),
        box=box, columns=np.arange(NX),
        turned=False, units=Units(1.0, 0.0, 1.0), calibration=None, correction=None, nominal=None,
        segment_bounds=((0, N_INT),), needs_first=False,
    )  # fmt: skip


def test_replaced_pixels_are_there_but_flagged():
    block, truth, model = scene()
    spectra = spectrum_plan()
    plan = plan_of("time_profile", model, spectra=(spectra,))
    assert plan.aperture.sum() == 9 * NX
    completed = extract_1d.run(spectra, block)
    replaced = extract_1d.run(spectra, pixel_replace.run(plan, block))
    lacking = completed.npixels < 9
    assert lacking.any()
    assert (replaced.npixels == 9).all()
    np.testing.assert_allclose(replaced.missing_fraction, completed.missing_fraction, atol=1e-12)
    np.testing.assert_array_equal(replaced.dq, completed.dq)
    assert (replaced.dq[lacking & ~np.isnan(replaced.flux)] == FLAGS["FLUX_ESTIMATED"]).all()
    np.testing.assert_allclose(
        replaced.flux, np.where(np.isnan(replaced.flux), np.nan, truth[:, 2:11].sum(axis=1)), rtol=1e-5
    )
    whole = ~lacking
    for name in ("flux", "flux_error", "dq"):
        np.testing.assert_array_equal(getattr(replaced, name)[whole], getattr(completed, name)[whole])
    assert np.nanmax(replaced.flux_error[lacking] / completed.flux_error[lacking]) < 1.02


def test_samples_that_are_mostly_replaced_are_nan():
    block, _, model = scene(bad=0.4)
    strict, loose = spectrum_plan(max_missing=0.2), spectrum_plan(max_missing=1.0)
    new = pixel_replace.run(plan_of("time_profile", model), block)
    few, all_of_them = extract_1d.run(strict, new), extract_1d.run(loose, new)
    over = all_of_them.missing_fraction > 0.2
    assert 0 < over.sum() < over.size
    np.testing.assert_array_equal(np.isnan(few.flux), over)
    np.testing.assert_array_equal(few.dq == FLAGS["DO_NOT_USE"], over)
    assert np.isnan(few.flux_error[over]).all()


def test_dropped_pixels_count_as_pixels_once_replaced():
    block, _, model = scene()
    plain = spectrum_plan(missing="drop")
    new = extract_1d.run(plain, pixel_replace.run(plan_of("fit_profile", model), block))
    assert (new.npixels == 9).all()
    assert not new.dq.any()  # as the archive has it
    assert new.missing_fraction.max() > 0
