"""Sums of rectified pixels against the covariance matrix of all of them."""

from __future__ import annotations

import numpy as np

from tso3.core.rectified_sums import column_factors, group_factors
from tso3.core.rectify import Corners, make_rectifier, rectify


def test_factors_are_those_of_the_covariance_matrix():
    random = np.random.default_rng(4)
    y, x = np.indices((7, 13)) - 0.5
    rectifier = make_rectifier(Corners(1.13 * x + 0.07 * y + 0.3, 0.94 * y + 0.02 * x + 0.1), (4, 12))
    variance = random.uniform(0.5, 2.0, rectifier.input_shape)
    weights = np.zeros(rectifier.shape)
    weights[1:3] = random.uniform(0.2, 1.0, (2, 12))
    one = np.eye(variance.size, dtype=np.float32).reshape(-1, *variance.shape)
    each = np.nan_to_num(rectify(rectifier, one).data).astype(float)  # of every input pixel by itself
    share = each * weights
    group = np.array([-1, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, -1])
    columns = share.sum(axis=1)  # what each input pixel counts in a column
    alone = (columns**2 * variance.reshape(-1, 1)).sum(axis=0)
    expected = [
        (columns[:, group == k].sum(axis=1) ** 2 * variance.ravel()).sum() / alone[group == k].sum() for k in range(3)
    ]
    np.testing.assert_allclose(group_factors(rectifier, weights, variance, group, 3), expected, rtol=1e-5)
    assert min(expected) > 1.1
    separate = (share**2 * variance.reshape(-1, 1, 1)).sum(axis=(0, 1))
    np.testing.assert_allclose(column_factors(rectifier, weights, variance), np.sqrt(alone / separate), rtol=1e-5)
