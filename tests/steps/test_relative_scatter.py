"""By how much integrations are noisier than others: real differences count, those of the estimate do not."""

import numpy as np

from tso3.steps.outlier_detection import relative_scatter

N_PIXELS = np.array([1000, 1000, 3000, 8000])


def measured(true, seed=0):
    """Scatter as it would be estimated from so many pixels of each class."""
    rng = np.random.default_rng(seed)
    return true[:, None] * (1.0 + rng.normal(size=(len(true), 4)) * 1.16 / np.sqrt(N_PIXELS))


def test_integrations_that_are_alike_keep_one_threshold():
    factor = np.concatenate([relative_scatter(measured(np.ones(24), seed), N_PIXELS) for seed in range(50)])
    assert np.abs(factor - 1.0).max() < 0.05
    assert np.exp(25.0 * (factor - 1.0)).mean() < 1.05  # false flags at 5 sigma, over those of one threshold


def test_noisier_integrations_are_found_whatever_the_class():
    true = 1.0 + 0.02 * np.random.default_rng(2).normal(size=24)
    factor = relative_scatter(measured(true), N_PIXELS)
    expected = np.maximum(true / np.median(true), 1.0)
    np.testing.assert_allclose(factor, np.broadcast_to(expected[:, None], factor.shape), atol=0.025)
    assert (factor[:, 0] > 1.01).sum() > 3


def test_a_class_that_alone_is_far_too_noisy_is_on_its_own():
    scales = measured(np.ones(30))
    scales[7, 1] = 1.6
    factor = relative_scatter(scales, N_PIXELS)
    assert factor[7, 1] == scales[7, 1] / np.median(scales[:, 1])
    assert np.abs(np.delete(factor, 1, axis=1) - 1.0).max() < 0.03


def test_one_integration_and_none_are_usual():
    assert relative_scatter(np.full((1, 4), 0.9), N_PIXELS).tolist() == [[1.0] * 4]
    assert relative_scatter(np.full((3, 4), 0.9), np.zeros(4, int)).tolist() == [[1.0] * 4] * 3
