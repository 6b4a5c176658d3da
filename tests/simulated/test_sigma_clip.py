"""Clipping by each pixel's own scatter, from calints to flags: found what is there, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.io.dqflags import pixel_flags
from tso3.simulate import simulate

OUTLIER = pixel_flags()["OUTLIER"]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """A star that neither moves nor varies, five times the nominal rate of particles, two segments."""
    scene = {"depth": 0.0, "jitter": 0.0, "drift": 0.0, "cosmic_rays": 5.0, "seed": 5}
    folder = tmp_path_factory.mktemp("steady")
    return simulate("NRS_BRIGHTOBJ", folder, configuration="PRISM", n_int=50, segments=2, **scene)


def flags(visit, folder, width, **arguments):
    """Return the flags of a run."""
    step = {"method": "sigma_clip", "rolling_window_width": width}
    parameters = {"outlier_detection": step, "extract_1d": {"skip": True}, "rectify": {"skip": True}}
    result = tso3.run(visit.association, folder, parameters=parameters, **arguments)
    return np.concatenate([fits.getdata(p, "DQ") & OUTLIER != 0 for p in sorted(result.products["crfints"])])


@pytest.mark.parametrize(("width", "false_per_sample"), [(25, 5e-4), (0, 2e-5)])
def test_cosmic_rays_are_found(steady, tmp_path, width, false_per_sample):
    found = flags(steady, tmp_path / "whole", width)
    truth = dict(np.load(next(iter(steady.truths.values()))))
    good = np.concatenate([fits.getdata(p, "DQ") & 1 == 0 for p in steady.members])
    missed = ~truth["cosmic_ray_caught"].astype(bool)
    where = tuple(truth[f"cosmic_ray_{axis}"][missed] for axis in ("integration", "y", "x"))
    large = (truth["cosmic_ray_sigma"][missed] > 8.0) & good[where]
    assert large.sum() >= 5
    assert found[where][large].mean() >= 0.95
    real = np.zeros(found.shape, bool)
    real[where] = True
    assert (found & good & ~real).sum() <= false_per_sample * good.sum()
    np.testing.assert_array_equal(flags(steady, tmp_path / "blocks", width, block_size=7, workers=3), found)


def test_a_series_that_does_not_fit_into_memory_is_told(steady, tmp_path):
    text = r"rolling_window_width: 0 makes sigma_clip look at 50 integrations .* 1 MiB, and 0 MiB are allowed"
    with pytest.raises(tso3.Tso3Error, match=text):
        flags(steady, tmp_path, 0, max_memory="300KiB")
