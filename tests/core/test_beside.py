"""Samples that touch an outlier: against a slow version, in any cut, and by how often noise alone has them."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter
from scipy.stats import norm

from tso3.core.beside import Settling, settle
from tso3.core.median import window_bounds
from tso3.core.outliers import OUTLIER, SUSPECT, flag_outliers


@pytest.fixture(params=[(3, 9, 40), (1, 1, 5), (2, 7, 1), (4, 2, 70)])
def level(request):
    """Levels of which many touch."""
    return np.random.default_rng(1).choice([0, OUTLIER, SUSPECT], request.param, p=[0.8, 0.08, 0.12]).astype(np.uint8)


def slow(level):
    """Every sample that is an outlier, or a suspect in whose three by three samples there is one."""
    near = maximum_filter((level == OUTLIER).astype(np.uint8), size=(1, 3, 3), mode="constant").astype(bool)
    return (level == OUTLIER) | ((level == SUSPECT) & near)


def test_suspects_that_touch_an_outlier_are_outliers(level):
    outlier = settle(level)
    assert outlier.dtype == bool
    np.testing.assert_array_equal(outlier, slow(level))
    for first in range(level.shape[1]):
        np.testing.assert_array_equal(settle(level, first, first + 1), slow(level)[:, first : first + 1])


def test_a_chain_of_suspects_does_not_spread():
    level = np.full((1, 1, 9), SUSPECT, np.uint8)
    level[0, 0, 4] = OUTLIER
    assert np.flatnonzero(settle(level)).tolist() == [3, 4, 5]


def test_integrations_do_not_touch_each_other():
    level = np.array([[[OUTLIER]], [[SUSPECT]]], np.uint8)
    assert settle(level).ravel().tolist() == [True, False]


def test_rows_that_come_one_after_the_other_are_settled_alike(level):
    n_rows = level.shape[1]
    for step in range(1, n_rows + 1):
        for first, last in ((0, n_rows), (1, n_rows), (0, n_rows - 1), (1, n_rows - 1)):
            if last <= first:
                continue
            settling = Settling(first, level[:, first - 1 : first] if first else None)
            got = [
                each for low in range(first, last, step) for each in settling.add(level[:, low : min(low + step, last)])
            ]
            got += settling.close(level[:, last : last + 1] if last < n_rows else None)
            assert [each.row for each in got] == np.cumsum([first, *(each.outlier.shape[1] for each in got)])[
                :-1
            ].tolist()
            np.testing.assert_array_equal(
                np.concatenate([each.outlier for each in got], axis=1), slow(level)[:, first:last]
            )


def judged(data, **keywords):
    return flag_outliers(data, np.ones_like(data), np.isnan(data), *window_bounds(len(data), 25), **keywords)


@pytest.mark.parametrize("maxiters", [1, 3])
def test_suspects_exceed_the_lower_threshold_upwards(maxiters):
    data = np.zeros((30, 1, 5), np.float32)
    data[15, 0] = [6, 4.5, -4.5, 3.5, np.nan]
    found = judged(data, snr=5.0, suspect_snr=4.0, maxiters=maxiters, keep_median=False)
    assert found.level[15, 0].tolist() == [OUTLIER, SUSPECT, 0, 0, 0]
    assert np.count_nonzero(found.level) == 2
    assert found.n_flagged[15] == 1
    assert found.outlier[15, 0].tolist() == [True, False, False, False, False]
    assert judged(data, snr=5.0, maxiters=maxiters).level[15, 0].tolist() == [OUTLIER, 0, 0, 0, 0]
    both = judged(data, snr=5.0, suspect_snr=6.5, maxiters=maxiters).level[15, 0].tolist()
    assert both == [OUTLIER, 0, 0, 0, 0]


def test_noise_alone_is_as_often_suspect_as_normal_deviates_are():
    data = np.random.default_rng(3).normal(size=(400, 50, 100)).astype(np.float32)
    level = judged(data, snr=20.0, suspect_snr=3.0, keep_median=False).level
    expected = data.size * norm.sf(3.0 / np.sqrt(1 + 1 / 25))
    assert np.count_nonzero(level == SUSPECT) == pytest.approx(expected, rel=0.1)


def test_a_lower_threshold_must_be_positive():
    with pytest.raises(ValueError, match="suspect_snr"):
        judged(np.zeros((3, 1, 1), np.float32), snr=5.0, suspect_snr=0.0)
