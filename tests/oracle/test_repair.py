"""`time_profile` and `mingrad` against slow, obvious versions: one pixel at a time, least squares by numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.block import Block
from tso3.core.repair import DqBits, mingrad, time_profile

BITS = DqBits(1, 512, 2**28)


def slow_time_profile(planes, target, expected, aperture):
    """Data and three variances of one integration, replaced column by column."""
    out = [np.array(p, float) for p in planes]
    for x in range(expected.shape[1]):
        known = np.isfinite(expected[:, x])
        bad = np.flatnonzero(target[:, x] & known)
        usable = np.all([np.isfinite(p[:, x]) for p in planes], axis=0)
        good = np.flatnonzero(~target[:, x] & known & usable)
        if not bad.size or not good.size:
            continue
        data, *variances = (np.asarray(p[good, x], float) for p in planes)
        image = expected[good, x]
        light = np.maximum(image, 0).sum()
        model = (variances[0].sum() / light if light > 0 else 0.0) * np.maximum(image, 0) + variances[1]
        weight = (
            np.divide(1, model, out=np.zeros(good.size), where=model > 0) if (model > 0).any() else np.ones(good.size)
        )
        if not (weight * image**2).sum() > 0:
            continue
        spread = weight.sum() * (weight * image**2).sum() - (weight * image).sum() ** 2
        with_offset = good.size >= 3 and spread > 1e-3 * weight.sum() * (weight * image**2).sum()
        design = np.stack([np.ones(good.size), image] if with_offset else [image]).T
        inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
        at_bad = np.stack([np.ones(bad.size), expected[bad, x]] if with_offset else [expected[bad, x]]).T
        share = at_bad @ inverse @ design.T * weight  # (bad, good)
        out[0][bad, x] = share @ data
        inside = aperture[bad, x]
        for k, v in enumerate(variances, start=1):
            own = share**2 @ v
            total = inside @ share
            lacking = (total * (total + 2 * aperture[good, x])) @ v - inside**2 @ own
            extra = lacking / (inside**2).sum() if inside.any() else 0.0
            out[k][bad, x] = np.where(inside > 0, np.maximum(own + extra, 0), own)
    return out


@given(
    seed=st.integers(0, 2**32 - 1),
    bad=st.sampled_from([0.0, 0.1, 0.6]),
    unknown=st.sampled_from([0.0, 0.2]),
    n_rows=st.integers(1, 14),
    flat=st.booleans(),
)
@settings(max_examples=60)
def test_time_profile_is_that_of_the_slow_version(seed, bad, unknown, n_rows, flat):
    rng = np.random.default_rng(seed)
    shape = (n_rows, 6)
    image = np.full(shape, 10.0) if flat else rng.uniform(-2, 100, shape)
    image[rng.random(shape) < unknown] = np.nan
    truth = np.nan_to_num(image, nan=5.0)
    target = rng.random(shape) < bad
    aperture = np.where(rng.random(shape) < 0.5, rng.random(shape), 0.0)
    planes = [truth + rng.normal(size=shape), np.abs(truth) * 0.1, rng.uniform(0, 2, shape), rng.uniform(0, 1, shape)]
    if seed % 3 == 0:
        planes[2] = np.zeros(shape)
    data, *variances = (np.where(target, np.nan, p).astype(np.float32) for p in planes)
    block = Block(0, data[None], None, target[None].astype(np.uint32), target[None], *(v[None] for v in variances))
    new = time_profile(block, BITS, image, aperture)
    slow = slow_time_profile([data, *variances], target, image, aperture)
    for ours, expected in zip((new.data, new.var_poisson, new.var_rnoise, new.var_flat), slow, strict=True):
        scale = np.nanmax(np.abs(expected)) if np.isfinite(expected).any() else 1.0
        np.testing.assert_allclose(ours[0], expected, rtol=2e-5, atol=1e-6 * scale)


@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([0.1, 0.5]))
@settings(max_examples=20)
def test_mingrad_is_that_of_the_slow_version(seed, bad):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(7, 8)).astype(np.float32)
    data[rng.random(data.shape) < bad] = np.nan
    expected = data.copy()
    for y in range(2, 6):
        for x in range(2, 7):
            pairs = ((data[y, x - 1], data[y, x + 1]), (data[y - 1, x], data[y + 1, x]))
            pairs = [(abs(a - b), (a + b) / 2) for a, b in pairs if np.isfinite(a) and np.isfinite(b)]
            if np.isnan(data[y, x]) and pairs:
                expected[y, x] = min(pairs, key=lambda pair: pair[0])[1]
    stack = data[None]
    new = mingrad(Block(0, stack, None, np.isnan(stack).astype(np.uint32), np.isnan(stack), None, None, None), BITS)
    np.testing.assert_array_equal(new.data[0], expected)
