"""Replacement of bad pixels: hand-computed cases, properties, and what never changes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.block import Block
from tso3.core.repair import DqBits, expected_image, fit_profile, mingrad, time_profile

BITS = DqBits(1, 512, 2**28)
PLANES = ("data", "err", "var_poisson", "var_rnoise", "var_flat")
nan = np.nan


def block_of(data, dq=None, variance=None):
    """A block in which NaN is bad; variances 1, 2 and 3 unless given."""
    data = np.array(data, np.float32)
    dq = np.isnan(data).astype(np.uint32) if dq is None else np.array(dq, np.uint32)
    mask = (dq & 1) > 0
    variances = [np.where(mask, nan, v).astype(np.float32) for v in variance or (1.0, 2.0, 3.0)]
    err = np.sqrt(sum(variances)).astype(np.float32)
    return Block(0, np.where(mask, np.float32(nan), data), err, dq, mask, *variances)


def star(seed=0, shape=(16, 30), n_int=3, bad=0.05, noise=1.0):
    """A star on a background, two thirds of whose variance is that of photons; and its noise-free stack."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = 5 + 800 * np.exp(-0.5 * ((y - 7.3) / 1.4) ** 2) * (1 + 0.2 * np.sin(x / 4))
    truth = image * (1 + 0.01 * np.arange(n_int))[:, None, None]
    poisson, rnoise = truth * noise, np.full(truth.shape, 20.0 * noise)
    data = truth + rng.normal(size=truth.shape) * np.sqrt(poisson + rnoise)
    dq = (rng.random(truth.shape) < bad).astype(np.uint32)
    return block_of(data, dq, (poisson, rnoise, (truth * 1e-3) ** 2)), truth, image


def run(algorithm, block):
    if algorithm == "mingrad":
        return mingrad(block, BITS)
    if algorithm == "fit_profile":
        return fit_profile(block, BITS)
    return time_profile(block, BITS, star(shape=block.data.shape[1:], n_int=1)[2])


ALGORITHMS = ("mingrad", "fit_profile", "time_profile")


def test_mingrad_by_hand():
    data = np.arange(36, dtype=float).reshape(1, 6, 6) ** 2
    data[0, 2, 2] = data[0, 3, 4] = nan
    new = mingrad(block_of(data), BITS)
    assert new.data[0, 2, 2] == (13**2 + 15**2) / 2  # left and right differ by 56, below and above by 336
    assert new.data[0, 3, 4] == (21**2 + 23**2) / 2
    assert new.var_rnoise[0, 2, 2] == pytest.approx(2.0)
    assert new.dq[0, 2, 2] == BITS.flux_estimated
    assert np.argwhere(new.estimated).tolist() == [[0, 2, 2], [0, 3, 4]]


def test_t23_no_valid_neighbours():
    # T23, bad pixel without valid neighbours crashed (jwst 1.20 #9754)
    data = np.ones((1, 7, 7))
    data[0, 2:5, 3] = data[0, 3, 2:5] = nan
    new = mingrad(block_of(data), BITS)
    assert np.isnan(new.data[0, 3, 3])
    assert new.dq[0, 3, 3] == BITS.do_not_use
    assert new.estimated.sum() == 4
    everything = block_of(np.full((1, 6, 6), nan))
    for algorithm in ALGORITHMS:
        assert not run(algorithm, everything).estimated.any()


def test_mingrad_leaves_the_border():
    new = mingrad(block_of(np.where(np.indices((6, 7)).sum(axis=0)[np.newaxis] % 2, nan, 1.0)), BITS)
    assert set(np.argwhere(new.estimated)[:, 1]) <= {2, 3, 4}
    assert set(np.argwhere(new.estimated)[:, 2]) <= {2, 3, 4, 5}


def test_fit_profile_by_hand():
    data = np.outer([1, 4, 2], [10, 20, 30, 40]).astype(float)[np.newaxis]
    data[0, 1, 2] = nan  # the peak: 4 of the profile 0.25, 1, 0.5, and 30 and 60 are what it is scaled to
    new = fit_profile(block_of(data, variance=(1e-4, 1e-4, 1e-4)), BITS)
    assert new.data[0, 1, 2] == pytest.approx(120, rel=1e-3)
    assert new.dq[0, 1, 2] == BITS.flux_estimated


def test_t23_scaling_on_noise():
    # T23, scaling on noise (jwst 1.18 #9004): without signal the profile is not normalised to its largest noise peak
    rng = np.random.default_rng(3)
    data = rng.normal(0, 1, (1, 12, 20))
    data[0, 5, 10] = nan
    new = fit_profile(block_of(data, variance=(1.0, 0.0, 0.0)), BITS)
    around = [7, 8, 9, 11, 12, 13]
    assert new.data[0, 5, 10] == pytest.approx(np.median(data[0, 5, around]), rel=1e-6)
    ours = time_profile(block_of(data, variance=(1.0, 0.0, 0.0)), BITS, expected_image(data[0]))
    assert abs(ours.data[0, 5, 10]) < 5


def test_time_profile_by_hand():
    expected = np.array([[0.0], [10.0], [20.0], [0.0]])
    block = block_of([[[1.0], [10.0], [nan], [1.0]]], variance=(0.0, 1.0, 0.0))
    new = time_profile(block, BITS, expected)  # offset 1, scale 0.9, all weights equal
    assert new.data[0, 2, 0] == pytest.approx(19.0)
    # f = 2 d_1 - (d_0 + d_3) / 2: own variance 4.5, and the column's sum, 3 d_1 + (d_0 + d_3) / 2, has 9.5
    assert new.var_rnoise[0, 2, 0] == pytest.approx(9.5 - 3.0)
    assert new.err[0, 2, 0] == pytest.approx(np.sqrt(6.5))
    alone = time_profile(block, BITS, expected, np.array([[1.0], [1.0], [0.0], [1.0]]))
    assert alone.var_rnoise[0, 2, 0] == pytest.approx(4.5)


def test_time_profile_follows_a_changing_star_and_background():
    block, truth, image = star(noise=1e-8, bad=0.2)
    new = time_profile(block, BITS, image)
    assert new.estimated.sum() == block.mask.sum()
    np.testing.assert_allclose(new.data[new.estimated], truth[new.estimated], rtol=5e-4)
    raised = block_of(truth + 40, block.dq, (truth * 1e-8, truth * 0 + 1e-6, truth * 0))
    np.testing.assert_allclose(
        time_profile(raised, BITS, image).data[new.estimated], (truth + 40)[new.estimated], rtol=5e-4
    )


def test_the_variance_of_a_sum_is_that_of_the_sum():
    """Sums over an aperture of 400 noisy copies of a column with three bad pixels scatter as their variance says."""
    rng = np.random.default_rng(1)
    n = 400
    image = star()[2][:, :8]
    aperture = np.zeros(image.shape)
    aperture[3:12] = 1.0
    variance = image + 20.0
    data = image + rng.normal(size=(n, *image.shape)) * np.sqrt(variance)
    dq = np.zeros(data.shape, np.uint32)
    dq[:, [6, 8, 13]] = 1
    planes = (np.broadcast_to(image, data.shape), np.full(data.shape, 20.0), np.zeros(data.shape))
    new = time_profile(block_of(data, dq, planes), BITS, image, aperture)
    total = (new.data * aperture).sum(axis=1) - (image * aperture).sum(axis=0)
    claimed = ((new.var_poisson + new.var_rnoise) * aperture**2).sum(axis=1)
    chi = np.sqrt((total**2 / claimed).mean())
    assert abs(chi - 1) < 4 / np.sqrt(2 * total.size)
    assert claimed.mean() > 1.2 * (variance * aperture).sum(axis=0).mean()


def test_a_bad_pixel_of_the_reference_is_filled_from_its_row():
    image = star()[2]
    holes = image.copy()
    holes[7, 12], holes[3, 20:23] = nan, nan
    filled = expected_image(holes)
    np.testing.assert_allclose(filled, image, rtol=0.05)
    assert np.isnan(expected_image(np.full((3, 3), nan))).all()
    assert np.isnan(holes[7, 12])


def test_t23_non_science_is_not_counted():
    # T23, NON_SCIENCE not counted (jwst 1.13 #8090)
    block, _, image = star(bad=0.0)
    dq = block.dq.copy()
    dq[:, :4] |= 513
    dq[:, 8, 5] = 1
    masked = block_of(block.data, dq, (block.var_poisson, block.var_rnoise, block.var_flat))
    for new in (fit_profile(masked, BITS), time_profile(masked, BITS, image)):
        assert np.argwhere(new.estimated).tolist() == [[i, 8, 5] for i in range(3)]
        assert (new.dq[:, :4] == 513).all()
    # mingrad fills them where it can, as jwst, but they stay DO_NOT_USE
    one = block.dq.copy()
    one[:, 8, 5] = 513
    new = mingrad(block_of(block.data, one), BITS)
    assert (new.dq[:, 8, 5] == 513 | BITS.flux_estimated).all()


def test_t23_unflagged_nan():
    # T23, slices with only unflagged NaN (jwst 1.13 #8120)
    block, _, image = star(bad=0.0)
    data, dq = block.data.copy(), block.dq.copy()
    data[:, :, 7] = nan
    dq[:, 3, 8] = 1
    data[:, 3, 8] = nan
    odd = Block(0, data, block.err, dq, np.isnan(data), block.var_poisson, block.var_rnoise, block.var_flat)
    for new in (fit_profile(odd, BITS), time_profile(odd, BITS, image)):
        assert np.isnan(new.data[:, :, 7]).all()
        assert np.isfinite(new.data[:, 3, 8]).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_t23_variances_that_do_not_exist(algorithm):
    # T23, uninitialised variances (jwst 2.0 #10387)
    block, truth, _ = star()
    bare = Block(0, block.data, block.err, block.dq, block.mask, None, None, None)
    new = run(algorithm, bare)
    assert new.var_poisson is None
    inner = new.estimated[:, 5:10]
    np.testing.assert_allclose(new.data[:, 5:10][inner], truth[:, 5:10][inner], rtol=0.8)


def test_t23_trace_centre():
    # T23, trace centre scaling (jwst 1.12 #7886): a tilted trace, its peak replaced in every column
    y, x = np.indices((24, 60))
    image = 5 + 800 * np.exp(-0.5 * ((y - 8.0 - 0.1 * x) / 1.4) ** 2)
    dq = np.zeros((1, 24, 60), np.uint32)
    dq[0, np.round(8.0 + 0.1 * np.arange(60)).astype(int), np.arange(60)] = 1
    one = block_of(0.98 * image[np.newaxis], dq, (image * 1e-6, image * 0 + 1e-6, image * 0))
    new = time_profile(one, BITS, image)
    np.testing.assert_allclose(new.data[0], 0.98 * image, rtol=1e-3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.0, 0.05, 0.5, 1.0]), k=st.sampled_from([0.25, 8.0]))
@settings(max_examples=15)
def test_properties(algorithm, seed, bad, k):
    """Input unchanged, good pixels the same, scaling, each integration by itself."""
    block = star(seed, (14, 20), 3, bad)[0]
    before = {f.name: np.copy(getattr(block, f.name)) for f in fields(Block) if f.name not in ("start", "estimated")}
    new = run(algorithm, block)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(block, name), value)
    good = ~block.mask
    assert not (new.estimated & good).any()
    for name in PLANES:
        np.testing.assert_array_equal(getattr(new, name)[good], getattr(block, name)[good])
        assert np.isfinite(getattr(new, name)[new.estimated]).all()
        if name.startswith("var"):
            assert (getattr(new, name)[new.estimated] >= 0).all()
    assert (new.mask == (block.mask & ~new.estimated)).all()
    assert (np.isnan(new.data) == new.mask).all()
    assert ((new.dq & BITS.flux_estimated > 0) == new.estimated).all()
    powers = {"data": k, "err": k, "var_poisson": k**2, "var_rnoise": k**2, "var_flat": k**2}
    scaled = {name: (getattr(block, name) * np.float32(power)) for name, power in powers.items()}
    larger = run_scaled(algorithm, Block(0, dq=block.dq, mask=block.mask, **scaled), k)
    for name, power in powers.items():
        a, b = getattr(larger, name), getattr(new, name) * np.float32(power)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.float32(power))
    parts = [Block(i, *(getattr(block, f.name)[i : i + 1] for f in fields(Block)[1:-1])) for i in range(3)]
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(run(algorithm, part).data[0], new.data[i])


def run_scaled(algorithm, block, k):
    if algorithm == "time_profile":
        return time_profile(block, BITS, k * star(shape=block.data.shape[1:], n_int=1)[2])
    return run(algorithm, block)


def test_what_cannot_be_done_is_said():
    block, _, image = star()
    with pytest.raises(ValueError, match="err and dq"):
        fit_profile(Block(0, block.data, None, block.dq, block.mask, None, None, None), BITS)
    with pytest.raises(ValueError, match="needs dq"):
        time_profile(Block(0, block.data, None, None, block.mask, None, None, None), BITS, image)
    with pytest.raises(ValueError, match="aperture"):
        time_profile(block, BITS, image[:, :5])


@pytest.mark.parametrize("shape", [(0, 5, 5), (1, 1, 1), (1, 0, 4)])
def test_nothing_and_a_single_pixel(shape):
    block = block_of(np.full(shape, nan))
    assert not mingrad(block, BITS).estimated.any()
    assert not fit_profile(block, BITS).estimated.any()
    assert not time_profile(block, BITS, np.full(shape[1:], nan)).estimated.any()
