"""Samples that touch an outlier: against a slow version, in any cut, and by how often noise alone has them."""

import numpy as np
import pytest
from scipy.stats import norm

from tso3.core.beside import CONTEXT, BesideRule, Settling, settle
from tso3.core.median import window_bounds
from tso3.core.outliers import GRADE_ZERO, OUTLIER, flag_outliers, grade

RULE = BesideRule.of(4.0, 3.0)
ALONE = BesideRule.of(4.0, None)


@pytest.fixture(params=[(3, 9, 40), (1, 1, 5), (2, 7, 1), (4, 2, 70)])
def level(request):
    """Levels of which many touch, some unknown."""
    rng = np.random.default_rng(1)
    graded = np.vectorize(grade)(rng.normal(0.7, 1.5, request.param))
    kind = rng.choice(3, request.param, p=[0.85, 0.08, 0.07])
    return np.choose(kind, [graded, OUTLIER, 0]).astype(np.uint8)


def slow(level, rule=RULE):
    """Every outlier, and around it what is bright by itself, or beyond 2 sigma where all are together beyond 3."""
    outlier = level == OUTLIER
    for i, y, x in np.argwhere(level == OUTLIER):
        near = np.s_[i, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        known = level[near] > OUTLIER
        deviation = (level[near][known].astype(float) - GRADE_ZERO + 0.5) / 16
        together = np.clip(deviation, -3, 6).sum() > rule.around * np.sqrt(known.sum())
        outlier[near] |= known & (level[near] >= (rule.with_others if together else rule.alone))
    return outlier


@pytest.mark.parametrize("rule", [RULE, ALONE, BesideRule.of(None, 2.0)])
def test_suspects_that_touch_an_outlier_are_outliers(level, rule):
    outlier = settle(level, rule)
    assert outlier.dtype == bool
    np.testing.assert_array_equal(outlier, slow(level, rule))
    for first in range(level.shape[1]):
        np.testing.assert_array_equal(settle(level, rule, first, first + 1), slow(level, rule)[:, first : first + 1])


def test_a_chain_of_suspects_does_not_spread():
    level = np.full((1, 1, 9), grade(4.5), np.uint8)
    level[0, 0, 4] = OUTLIER
    for rule in (ALONE, RULE):
        assert np.flatnonzero(settle(level, rule)).tolist() == [3, 4, 5]


def test_integrations_do_not_touch_each_other():
    level = np.array([[[OUTLIER]], [[grade(4.5)]]], np.uint8)
    assert settle(level, RULE).ravel().tolist() == [True, False]


def test_a_bright_ring_condemns_its_bright_samples():
    level = np.full((1, 3, 3), grade(1.5), np.uint8)
    level[0, 1, 1], level[0, 0, 0] = OUTLIER, grade(2.5)
    found = np.zeros((3, 3), int)
    found[0, 0] = found[1, 1] = 1
    assert settle(level, RULE)[0].astype(int).tolist() == found.tolist()
    level[0, 2] = grade(-1.5)  # (2.5 + 4 * 1.5 - 3 * 1.5) / sqrt(8) = 1.4
    assert np.count_nonzero(settle(level, RULE)) == 1
    assert np.count_nonzero(settle(level, ALONE)) == 1


@pytest.mark.parametrize("rule", [RULE, ALONE])
def test_rows_that_come_one_after_the_other_are_settled_alike(level, rule):
    n_rows = level.shape[1]
    for step in range(1, n_rows + 1):
        for first in range(min(n_rows, 4)):
            for last in range(max(n_rows - 3, first + 1), n_rows + 1):
                before, after = level[:, max(first - CONTEXT, 0) : first], level[:, last : last + CONTEXT]
                settling = Settling(first, before if before.size else None, rule)
                cuts = [level[:, low : min(low + step, last)] for low in range(first, last, step)]
                got = [each for part in cuts for each in settling.add(part)]
                got += settling.close(after if after.size else None)
                rows = np.cumsum([first, *(each.outlier.shape[1] for each in got)])[:-1]
                assert [each.row for each in got] == rows.tolist()
                np.testing.assert_array_equal(
                    np.concatenate([each.outlier for each in got], axis=1), slow(level, rule)[:, first:last]
                )


def judged(data, **keywords):
    return flag_outliers(data, np.ones_like(data), np.isnan(data), *window_bounds(len(data), 25), **keywords)


@pytest.mark.parametrize("maxiters", [1, 3])
def test_grades_tell_how_far_a_sample_lies_from_its_median(maxiters):
    data = np.zeros((30, 1, 6), np.float32)
    data[15, 0] = [6, 4.5, -4.5, 3.5, np.nan, -99]
    found = judged(data, snr=5.0, grades=True, maxiters=maxiters, keep_median=False)
    assert found.level[15, 0].tolist() == [OUTLIER, grade(4.5), grade(-4.5), grade(3.5), 0, OUTLIER]
    assert found.n_flagged[15] == 2
    assert found.outlier[15, 0].tolist() == [True, False, False, False, False, True]
    assert judged(data, snr=5.0, maxiters=maxiters).level[15, 0].tolist() == [OUTLIER, 0, 0, 0, 0, OUTLIER]
    high = judged(data, snr=500.0, grades=True, maxiters=maxiters).level[15, 0].tolist()
    assert high == [grade(6.0), grade(4.5), grade(-4.5), grade(3.5), 0, 2]


def test_a_sample_without_error_has_a_grade_only_where_it_is_off():
    data, err = np.zeros((9, 1, 2), np.float32), np.ones((9, 1, 2), np.float32)
    err[4, 0] = [0.0, np.nan]
    found = flag_outliers(data, err, np.isnan(data), *window_bounds(9, 5), snr=5.0, grades=True)
    assert found.level[4, 0].tolist() == [0, 0]
    assert found.level[3, 0].tolist() == [GRADE_ZERO, GRADE_ZERO]


def test_noise_alone_is_as_often_suspect_as_normal_deviates_are():
    data = np.random.default_rng(3).normal(size=(400, 50, 100)).astype(np.float32)
    level = judged(data, snr=20.0, grades=True, keep_median=False).level
    expected = data.size * norm.sf(3.0 / np.sqrt(1 + 1 / 25))
    assert np.count_nonzero(level >= grade(3.0)) == pytest.approx(expected, rel=0.1)


def test_noise_around_an_outlier_is_together_bright_as_often_as_normal_deviates_are():
    deviation = np.random.default_rng(4).normal(size=(300_000, 3, 3))
    level = np.clip(np.floor(16 * deviation) + GRADE_ZERO, 2, 255).astype(np.uint8)
    level[:, 1, 1] = OUTLIER
    rule = BesideRule(300, 3.0, 2)  # all around are condemned where they are bright together
    found = np.count_nonzero(settle(level, rule).sum(axis=(1, 2)) > 1)
    assert found == pytest.approx(300_000 * norm.sf(3.0), rel=0.15)
