"""The default outlier detection on scenes with a transit and a moving star: few false flags, all large cosmic rays."""

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.io.dqflags import pixel_flags
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
from tso3.parameters import preset
from tso3.simulate import simulate
from tso3.steps import survey, template

OUTLIER = pixel_flags()["OUTLIER"]


def flags_and_truth(visit, folder, **parameters):
    """Return flags of the run, cosmic rays that were not caught, and which samples came in good."""
    unused = {"extract_1d": {"skip": True}, "rectify": {"skip": True}}
    result = tso3.run(visit.association, folder, parameters=unused | parameters)
    flagged = np.concatenate([fits.getdata(p, "DQ") & OUTLIER != 0 for p in sorted(result.products["crfints"])])
    good = np.concatenate([fits.getdata(p, "DQ") & 1 == 0 for p in visit.members])
    truth = dict(np.load(next(iter(visit.truths.values()))))
    missed = ~truth["cosmic_ray_caught"].astype(bool)
    where = tuple(truth[f"cosmic_ray_{axis}"][missed] for axis in ("integration", "y", "x"))
    return flagged, where, truth["cosmic_ray_sigma"][missed], good


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """PRISM, two segments, transit of 1.3 %, jitter of 0.015 pixel, five times the nominal rate of particles."""
    scene = {"depth": 0.013, "jitter": 0.015, "drift": 0.05, "cosmic_rays": 5.0, "seed": 5}
    folder = tmp_path_factory.mktemp("moving")
    return simulate("NRS_BRIGHTOBJ", folder, configuration="PRISM", n_int=80, segments=2, **scene)


def test_the_template_is_the_same_whatever_memory_and_threads(moving):
    with Reader(read_observation([moving.association]).exposures[0]) as reader:
        exposure, bad = reader.exposure, np.zeros((reader.exposure.ny, reader.exposure.nx), bool)
        bad[5, 100:110] = True
        settings = preset("default").survey
        kept = survey.run(exposure, reader, settings, bad, True)
        read_again = survey.run(exposure, reader, settings, bad, True, workers=3, max_memory=3 * 2**20)
        fits = [template.fit(kept.template, exposure, reader, workers) for workers in (1, 3)]
        part = template.fit(kept.template, exposure, reader, 2, (33, 57))
    assert (kept.bad == read_again.bad).all()
    assert kept.bad[5, 100:110].all()
    for name in ("images", "noise", "level", "pixels"):
        np.testing.assert_array_equal(getattr(kept.template, name), getattr(read_again.template, name))
    np.testing.assert_array_equal(fits[0].coefficients, fits[1].coefficients)
    np.testing.assert_array_equal(fits[0].scales[33:57], part.scales)


def test_a_transit_and_a_moving_star_are_no_outliers(moving, tmp_path):
    flagged, where, sigma, good = flags_and_truth(moving, tmp_path)
    real = np.zeros(flagged.shape, bool)
    real[where] = True
    by_noise = 5.7e-7 * good.sum()
    false = flagged & ~real & good
    assert false.sum() <= 10.0 * by_noise + 10.0  # the rolling median has thousands: see the next test
    visible = good[where] & (sigma > 8.0)
    assert visible.sum() >= 20
    assert flagged[where][visible].mean() > 0.99


def test_the_rolling_median_takes_them_for_outliers(moving, tmp_path):
    flagged, where, _, good = flags_and_truth(moving, tmp_path, outlier_detection={"method": "rolling_median"})
    real = np.zeros(flagged.shape, bool)
    real[where] = True
    assert (flagged & ~real & good).sum() > 1000


def test_fewer_integrations_than_the_window_do_as_well(tmp_path):
    visit = simulate(
        "NRS_BRIGHTOBJ", tmp_path / "in", configuration="G140M", n_int=20, seed=2, depth=0.01, cosmic_rays=0.0
    )
    flagged, _, _, good = flags_and_truth(visit, tmp_path / "out")
    assert (flagged & good).sum() <= 10.0 * 5.7e-7 * good.sum() + 10.0


def test_without_a_survey_there_is_no_template(moving, tmp_path):
    parameters = {"survey": {"n_sample": 0}, "extract_1d": {"skip": True}}
    with pytest.raises(tso3.Tso3Error, match="leaves no template"):
        tso3.run(moving.association, tmp_path, parameters=parameters)
    assert not list(tmp_path.iterdir())


def test_a_template_that_does_not_fit_is_told_before_anything_is_read(moving, tmp_path):
    with pytest.raises(
        tso3.Tso3Error, match="template needs 2 MiB for frames of 32 x 512 pixels, and 1 MiB are allowed"
    ):
        tso3.run(moving.association, tmp_path, max_memory="1MiB")
    assert not list(tmp_path.iterdir())
