"""The difficult scenes: each trouble does what it says, and leaves the rest of the scene as it was."""

import numpy as np
import pytest

from tso3.errors import InputError, ParameterError
from tso3.simulate import Troubles, simulate
from tso3.simulate.configurations import instrument_of
from tso3.simulate.detector import Options, make_scene
from tso3.simulate.optics import spread
from tso3.simulate.render import PLANES, Renderer
from tso3.simulate.scene import Pointing, Transit
from tso3.simulate.troubles import make_troubles

N_INT = 24
QUIET = {"cosmic_rays": 0.0, "bad_pixels": 0.0, "noise": False}


def rendered(mode="NRC_TSIMAGE", n_int=N_INT, motion=(0.0, 0.0, ()), subarray=None, depth=0.0, **options):
    """Return the planes of all integrations by name, and the scene."""
    instrument = instrument_of(mode, "PRISM" if mode.startswith("NRS") else None)
    area = instrument.subarrays[subarray] if subarray else next(iter(instrument.subarrays.values()))
    scene = make_scene(instrument, 0, area, Options(n_int, 4, Transit(depth=depth), Pointing(*motion), **options))
    out = {n: np.empty(scene.shape, np.uint32 if n == "DQ" else np.float32) for n in PLANES}
    renderer, stacks = Renderer(scene), {n: [] for n in PLANES}
    for i in range(n_int):
        renderer.integration(i, out)
        for name, plane in out.items():
            stacks[name].append(plane.copy())
    return {name: np.array(planes) for name, planes in stacks.items()}, scene


def test_the_noise_is_the_same_draw_on_an_undisturbed_scene():
    troubled = {"cosmic_rays": 20.0, "bad_pixels": 0.01, "troubles": Troubles(hot_pixels=0.01, lapsing_pixels=0.01,
                tilt=0.1, tails=0.05)}  # fmt: skip
    motion = (0.01, 0.05, ((0.62, 0.06, 0.08),))
    noise = []
    for options, moves in ((troubled, motion), (QUIET, (0.0, 0.0, ()))):
        with_noise = rendered(motion=moves, n_int=4, **{**options, "noise": True})[0]
        without = rendered(motion=moves, n_int=4, **{**options, "noise": False})[0]
        sigma = np.sqrt(with_noise["VAR_POISSON"] + with_noise["VAR_RNOISE"])
        noise.append((with_noise["SCI"] - without["SCI"]) / sigma)
    good = np.isfinite(noise).all(axis=0)
    assert good.mean() > 0.97
    assert np.quantile(np.abs(noise[0] - noise[1])[good], 0.97) < 0.02


@pytest.mark.parametrize(("stripes", "axis"), [("columns", 1), ("rows", 2)])
def test_stripes_run_where_asked(stripes, axis):
    options = {**QUIET, "noise": True, "one_over_f": 0.9}
    noisy, _ = rendered(n_int=3, troubles=Troubles(stripes=stripes), **options)
    clean, _ = rendered(n_int=3, **QUIET)
    noise = (noisy["SCI"] - clean["SCI"]) / np.sqrt(noisy["VAR_RNOISE"] + noisy["VAR_POISSON"])
    noise = np.where(clean["SCI"] < np.median(clean["SCI"]) * 1.5, noise, np.nan)
    along, across = np.nanmean(noise, axis=axis), np.nanmean(noise, axis=3 - axis)
    assert np.nanstd(along) > 0.5
    assert np.nanstd(across) < 0.25


def test_wrong_errors_leave_the_data_alone():
    right, _ = rendered(n_int=2, cosmic_rays=0.0)
    wrong, _ = rendered(n_int=2, cosmic_rays=0.0, troubles=Troubles(err_scale=1.2))
    np.testing.assert_array_equal(right["SCI"], wrong["SCI"])
    np.testing.assert_allclose(wrong["ERR"], 1.2 * right["ERR"], rtol=1e-5)
    np.testing.assert_allclose(wrong["VAR_RNOISE"], 1.44 * right["VAR_RNOISE"], rtol=1e-5)


def test_pixels_come_and_go_and_hot_ones_have_no_flag():
    plain, _ = rendered(**QUIET)
    found, scene = rendered(**QUIET, troubles=Troubles(lapsing_pixels=0.02, hot_pixels=0.02))
    assert abs(len(scene.bad.of("lapsing")) - len(scene.bad.of("telegraph"))) <= 1
    assert len(scene.bad.of("hot")) == round(0.02 * scene.convert.size)
    assert len(set(zip(scene.bad.y, scene.bad.x, strict=True))) == len(scene.bad.y)
    which = scene.bad.of("lapsing")
    flagged = found["DQ"][:, scene.bad.y[which], scene.bad.x[which]] & 1
    assert 0.2 < flagged.mean() < 0.8
    assert (np.diff(flagged.astype(int), axis=0) != 0).sum(axis=0).max() <= N_INT // 4 + 1
    gone = np.isnan(found["SCI"][:, scene.bad.y[which], scene.bad.x[which]])
    np.testing.assert_array_equal(gone, flagged == 1)
    hot = scene.bad.of("hot")
    more = (found["SCI"] - plain["SCI"])[:, scene.bad.y[hot], scene.bad.x[hot]]
    assert (more > 0).all()
    assert not found["DQ"][:, scene.bad.y[hot], scene.bad.x[hot]].any()


def test_a_saturated_core_loses_groups_and_values():
    plain, scene = rendered(depth=0.05, **QUIET)
    found, _ = rendered(depth=0.05, **QUIET, troubles=Troubles(saturation=0.163))
    bright = plain["SCI"] / plain["SCI"][0].max()
    lost = np.isnan(found["SCI"])
    assert 0 < lost.sum() < 100 * N_INT
    assert (bright[lost] > 0.95).all()
    shortened = ~lost & (found["DQ"] & 2 != 0)
    assert (bright[shortened] > 0.1).all()
    assert (found["VAR_POISSON"][shortened] > plain["VAR_POISSON"][shortened]).all()
    same = found["DQ"] == 0
    np.testing.assert_array_equal(found["SCI"][same], plain["SCI"][same])
    assert scene.clock.ngroups == 12
    assert len(set(lost.sum(axis=(1, 2)))) > 1  # the transit brings some of them back


def test_a_tilt_event_is_one_step(tmp_path):
    visit = simulate("NRC_TSIMAGE", tmp_path, n_int=20, jitter=0.0, drift=0.0, troubles={"tilt": 0.1})
    truth = np.load(next(iter(visit.truths.values())))
    steps = np.diff(truth["offset_x"]), np.diff(truth["offset_y"])
    assert [int(np.count_nonzero(s)) for s in steps] == [1, 1]
    assert np.hypot(*(s.sum() for s in steps)) == pytest.approx(0.1)


def test_the_background_rises_and_nothing_else():
    plain, scene = rendered(**QUIET)
    found, _ = rendered(**QUIET, troubles=Troubles(background_change=24.0))
    rise = ((found["SCI"] - plain["SCI"]) / scene.convert).mean(axis=(1, 2))
    np.testing.assert_allclose(np.diff(rise), 1.0, rtol=0.02)


def test_cosmic_rays_leave_tails():
    plain, _ = rendered(noise=False, bad_pixels=0.0, cosmic_rays=20.0)
    tailed, _ = rendered(noise=False, bad_pixels=0.0, cosmic_rays=20.0, troubles=Troubles(tails=0.05))
    more = tailed["SCI"] - plain["SCI"]
    assert (more >= -1e-3 * plain["ERR"]).all()
    struck = np.unravel_index(np.argmax(np.where(np.arange(N_INT)[:, None, None] < 10, more, 0)), more.shape)
    later = more[struck[0] : struck[0] + 5, struck[1], struck[2]]
    assert (np.diff(later) < 0).all()
    assert later[1] / later[0] == pytest.approx(np.exp(-1 / 3), rel=0.2)


def test_phase_curve_and_flare_are_in_the_truth():
    _, scene = rendered(**QUIET, n_int=200, troubles=Troubles(flare=0.2, phase_curve=0.01))
    assert 0.15 < scene.ramp.max() - 1.0 < 0.21
    assert int(np.argmax(scene.ramp)) in (160, 161, 162)
    assert scene.ramp[100] == pytest.approx(1.0, abs=1e-4)
    assert scene.ramp[0] == pytest.approx(1.01 + 0.01 * np.cos(np.pi * 0.3 / 1.3), abs=1e-3)


def test_a_profile_from_a_frame(tmp_path):
    from scipy.stats import norm

    y, x = np.indices((256, 2048), dtype=float)
    trace = 70.0 - 0.01 * x
    light = 100.0 * (norm.pdf(y - trace + 6.0, scale=2.0) + norm.pdf(y - trace - 6.0, scale=2.0))
    np.save(tmp_path / "frame.npy", light + 5.0)
    profile = spread(f"frame:{tmp_path / 'frame.npy'}", 1)
    offset = np.arange(-16.0, 17.0)
    shares, slope, _ = profile.on_pixels(offset, np.ones_like(offset))
    assert shares.sum() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(shares, shares[::-1], atol=0.002)
    wanted = norm.cdf(offset + 6.5, scale=2) - norm.cdf(offset + 5.5, scale=2)
    np.testing.assert_allclose(shares, (wanted + wanted[::-1]) / 2, atol=0.004)
    near = profile.on_pixels(offset - 0.01, np.ones_like(offset))[0]
    np.testing.assert_allclose(near - shares, 0.01 * slope, atol=1e-4)
    (tmp_path / "other.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match="256 x 2048"):
        spread(f"frame:{tmp_path / 'other.npy'}", 1)


@pytest.mark.parametrize(
    ("troubles", "text"),
    [
        ({"earthquake": 1.0}, "earthquake is no trouble; there are background_change"),
        ({"tilt": -1.0}, "tilt"),
        ({"stripes": "diagonal"}, "columns or rows"),
        ({"profile": "frame.npy"}, "NRC_TSIMAGE"),
    ],
)
def test_mistakes_are_named(troubles, text):
    with pytest.raises(ParameterError, match=text):
        make_troubles(troubles, instrument_of("NRC_TSIMAGE"))
    with pytest.raises(ParameterError, match="is no file"):
        make_troubles({"profile": "frame.npy"}, instrument_of("NIS_SOSS"))
