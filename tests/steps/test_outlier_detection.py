"""The step of outlier detection: which window belongs to which integration, in either preset."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from tso3.core.template import N_LEVELS, Template, TemplateFit
from tso3.errors import ParameterError
from tso3.io.tiles import Place, flagged_samples
from tso3.parameters import preset
from tso3.steps import outlier_detection


def flags(series, segments, parameters):
    """Outliers of one pixel with unit errors, whose exposure is cut into ``segments``."""
    edges = np.concatenate([[0], np.cumsum(segments)])
    exposure = SimpleNamespace(n_int=int(edges[-1]), segment_bounds=tuple(pairwise(edges)))
    data = np.asarray(series, np.float32).reshape(-1, 1, 1)
    stack = (data, np.ones_like(data), np.isnan(data))
    plan = outlier_detection.prepare(exposure, parameters)
    found = np.zeros(data.size, bool)
    for start, stop in exposure.segment_bounds:  # as the stream does: a run of integrations with its neighbours
        first, last = outlier_detection.reach(plan, start, stop)
        part = tuple(plane[first:last] for plane in stack)
        found[start:stop] = outlier_detection.run(plan, part, first, start, stop).outlier.ravel()
    return found


def test_08_an_ingress_at_a_segment_border_is_flagged_by_the_archive_only():
    depth = np.clip(2.0 * (np.arange(120) - 58), 0.0, 24.0)  # two sigma in each integration, across the border at 60
    archive = flags(100.0 - depth, [60, 60], preset("archive").outlier_detection)
    ours = flags(100.0 - depth, [60, 60], preset("default").outlier_detection)
    np.testing.assert_array_equal(np.flatnonzero(archive), np.arange(60, 68))
    assert not ours.any()


def test_segments_do_not_matter_in_the_default_preset():
    rng = np.random.default_rng(3)
    series = rng.normal(0, 1, 90)
    series[[0, 29, 30, 31, 60, 89]] += 12.0
    default = preset("default").outlier_detection
    expected = flags(series, [90], default)
    assert set(np.flatnonzero(expected)) >= {0, 29, 30, 31, 60, 89}
    np.testing.assert_array_equal(flags(series, [30, 30, 30], default), expected)
    np.testing.assert_array_equal(flags(series, [1, 59, 30], default), expected)


@pytest.mark.parametrize("n_int", [1, 2, 24, 25, 26])
def test_number_of_integrations_around_the_width(n_int):
    for name in ("default", "archive"):
        found = flags(np.full(n_int, 5.0), [n_int], preset(name).outlier_detection)
        assert found.shape == (n_int,)
        assert not found.any()


def test_unknown_bits_are_named():
    parameters = preset("default").outlier_detection.model_copy(update={"good_bits": "SATURATE"})
    with pytest.raises(ParameterError, match=r"outlier_detection\.good_bits: 'SATURATE' names no DQ bits"):
        flags([1.0], [1], parameters)


def test_samples_that_lost_groups_are_judged_by_their_own_error():
    """The steady noise is 1; two samples at 6 have an error of 2, and one of them says that its ramp was cut short."""
    n_int = 30
    exposure = SimpleNamespace(n_int=n_int, segment_bounds=((0, n_int),))
    template = Template(
        ("brightness",), np.zeros((1, 1, 2), np.float32), np.ones((1, 2), np.float32), np.zeros((1, 2), np.uint8),
        np.arange(2),
    )  # fmt: skip
    fit = TemplateFit(np.ones((n_int, 1)), np.ones((n_int, 1)), np.ones((n_int, N_LEVELS)), np.empty((0, 2)))
    plan = outlier_detection.judged(
        outlier_detection.prepare(exposure, preset("default").outlier_detection), template, fit
    )
    data, err = np.zeros((n_int, 1, 2), np.float32), np.ones((n_int, 1, 2), np.float32)
    data[12], err[12] = 6.0, 2.0
    bits = outlier_detection.shortened_bits()
    assert bits == 2 | 4
    raw = {"DQ": np.zeros((n_int, 1, 2), ">i4")}
    raw["DQ"][12, 0, 1] = 4
    shortened = flagged_samples(raw, Place(0, 1, 0), bits)
    assert shortened.tolist() == [25]
    found = outlier_detection.run(plan, (data, err, np.zeros(data.shape, bool)), 0, 0, n_int, None, shortened)
    assert np.argwhere(found.outlier).tolist() == [[12, 0, 0]]
