"""The box kernels against a slow, obvious version: one pixel of one column of one integration at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tso3.core.background import BackgroundFit, unit_ordinate
from tso3.core.box import box_extract, plan_box

QUANTITIES = (
    "flux", "var_poisson", "var_rnoise", "var_flat", "background", "bkgd_var_poisson", "bkgd_var_rnoise",
    "bkgd_var_flat", "npixels", "missing", "uncompleted", "limit",
)  # fmt: skip


def slow_smooth(image, good, length):
    """Boxcar mean along dispersion, the outermost pixel repeated, bad pixels left out; in float32."""
    out = np.full(image.shape, np.nan, np.float32)
    for r, x in np.ndindex(image.shape):
        near = [min(max(k, 0), image.shape[1] - 1) for k in range(x - length // 2, x + length // 2 + 1)]
        values = [float(image[r, k]) for k in near if good[r, k]]
        if values:
            out[r, x] = np.float32(sum(values) / len(values))
    return out


def slow_weights(rows, ordinate, order, aperture):
    """Weights of background pixels in the aperture sum of an unweighted polynomial fit; None if it is singular."""
    design = ordinate[rows][:, None] ** np.arange(order + 1)
    matrix = design.T @ design
    if not np.linalg.cond(matrix) < 1e10:
        return None
    target = aperture @ (ordinate[:, None] ** np.arange(order + 1))
    return design @ (np.linalg.inv(matrix) @ target)


def slow_column(image, variances, aperture, region, level, fit, share, complete, max_missing):
    """All quantities of one column."""
    poisson, rnoise, flat = variances
    good = np.isfinite(image) & ~np.isnan(poisson) & ~np.isnan(rnoise) & ~np.isnan(flat)
    kept = np.where(good, aperture, 0.0)
    total = float(np.sum(kept[good] * image[good].astype(float)))
    npixels = float(kept.sum())
    noise = [float(np.sum(kept[good] ** 2 * v[good].astype(float))) for v in variances]
    missing = float(np.sum(np.where(good | (aperture == 0), 0.0, share)))
    background, level_noise, determined = 0.0, [0.0] * 3, True
    usable = np.flatnonzero(region & good & np.isfinite(level))
    if fit.kind == "poly":
        ordinate = unit_ordinate(len(image))
        weights = slow_weights(usable, ordinate, fit.order, kept) if len(usable) else None
        determined = weights is not None
        if determined:
            background = float(weights @ level[usable].astype(float))
            nominal = slow_weights(usable, ordinate, fit.order, kept if complete else aperture)
            level_noise = [float(np.sum(nominal**2 * v[usable].astype(float))) for v in variances]
    elif fit.kind == "median":
        values = level[region & np.isfinite(level)] if fit.smoothing > 1 else level[usable]
        determined = len(values) > 0
        if len(usable):
            weight = 1.2 * (npixels if complete else aperture.sum()) / len(usable)
            level_noise = [float(np.sum(weight**2 * v[usable].astype(float))) for v in variances]
        if determined:
            background = float(np.median(values)) * npixels
        else:
            total, npixels, noise = 0.0, 0.0, [0.0] * 3
    noise = [a + b for a, b in zip(noise, level_noise, strict=True)]
    flux = total - background
    if npixels <= 1e-8 or (complete and not determined):
        flux = np.nan
    left = 1.0 - missing
    limit = (noise[0] + noise[1]) / left if left > 0 and not np.isnan(flux) else np.nan
    completed = flux
    if complete:
        if not determined:
            background, level_noise = np.nan, [np.nan] * 3
        if np.isnan(flux) or not left >= 1 - max_missing or not left > 0:
            completed, noise, limit = np.nan, [np.nan] * 3, np.nan
        else:
            completed, noise = flux / left, [v / left**2 for v in noise]
    return [completed, *noise, background, *level_noise, npixels, missing, flux, limit]


def slow_extract(aperture, region, fit, profile, complete, max_missing, stack, variances):
    """Every column of every integration."""
    n_int, _, n_wave = stack.shape
    out = np.empty((len(QUANTITIES), n_int, n_wave))
    for i in range(n_int):
        planes = [v[i] for v in variances]
        good = np.isfinite(stack[i])
        for plane in planes:
            good &= ~np.isnan(plane)
        level = slow_smooth(stack[i], good, fit.smoothing) if fit.smoothing > 1 else stack[i]
        for x in range(n_wave):
            weight = aperture[:, x]
            light = weight * (profile[:, x] if profile is not None else (np.nan if complete else 1.0))
            whole = light[weight > 0].sum()
            share = np.where(weight > 0, light / whole if whole > 0 else np.nan, 0.0)
            out[:, i, x] = slow_column(
                stack[i, :, x], [p[:, x] for p in planes], weight, region[:, x], level[:, x], fit, share, complete,
                max_missing,
            )  # fmt: skip
    return out


def check(seed, fit, bad, shape, complete, with_profile):
    """Compare both on a random stack."""
    rng = np.random.default_rng(seed)
    aperture = np.clip(rng.uniform(-0.5, 1.5, shape), 0, 1)
    aperture[:, [0, -1]] = np.maximum(aperture[:, [0, -1]], 0.1)
    region = rng.random(shape) < 0.6
    region[: min(fit.order + 2, shape[0])] = True
    stack = rng.normal(50, 5, (2, *shape)).astype(np.float32)
    variances = [rng.uniform(0.5, 2, stack.shape).astype(np.float32) for _ in range(3)]
    stack[rng.random(stack.shape) < bad] = np.nan
    for plane in variances:
        plane[rng.random(stack.shape) < bad / 10] = np.nan
    profile = rng.uniform(0.1, 1, shape) if with_profile else None
    sums = box_extract(plan_box(aperture, region, fit, profile, complete, 0.6), stack, *variances)
    used = region if fit.kind != "none" else np.zeros_like(region)
    slow = slow_extract(aperture, used, fit, profile, complete, 0.6, stack, variances)
    for name, expected in zip(QUANTITIES, slow, strict=True):
        np.testing.assert_allclose(getattr(sums, name), expected, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("with_profile", [True, False])
@pytest.mark.parametrize("complete", [True, False])
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["none", "poly", "median"]),
    order=st.integers(0, 3),
    smoothing=st.sampled_from([0, 3, 7]),
    bad=st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0]),
    n_rows=st.integers(4, 20),
    n_wave=st.sampled_from([1, 3, 9]),
)
@settings(max_examples=25)
def test_box_extraction_is_that_of_the_slow_version(
    complete, with_profile, seed, kind, order, smoothing, bad, n_rows, n_wave
):
    check(seed, BackgroundFit(kind, order, smoothing), bad, (n_rows, n_wave), complete, with_profile)


@pytest.mark.parametrize("fit", [BackgroundFit("poly", 1), BackgroundFit("median", 0, 3)], ids=["poly", "median"])
def test_the_border_of_a_tile_does_not_show(fit):
    check(1, fit, 0.05, (6, 270), True, True)
