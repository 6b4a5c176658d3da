"""Windows and rolling medians: cases computed by hand, NaN, ends, layouts."""

import tracemalloc

import numpy as np
import pytest

from tso3.core.median import WIDEST_SORTED, rolling_median, window_bounds


def column(*values):
    """One pixel as a stack."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


def medians(values, width, edges="shrink", **keywords):
    """Rolling median of one pixel; NaN is masked."""
    data = column(*values)
    lo, hi = window_bounds(len(data), width, edges)
    return rolling_median(data, np.isnan(data), lo, hi, **keywords).ravel().tolist()


nan = float("nan")


@pytest.mark.parametrize(
    ("n_int", "width", "edges", "lo", "hi"),
    [
        (7, 3, "shrink", [0, 0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7, 7]),
        (7, 3, "full", [0, 0, 1, 2, 3, 4, 4], [3, 3, 4, 5, 6, 7, 7]),
        (7, 3, "repeat", [0, 0, 1, 2, 3, 4, 4], [3, 3, 4, 5, 6, 7, 7]),
        (5, 4, "shrink", [0, 0, 0, 1, 2], [2, 3, 4, 5, 5]),
        (5, 4, "repeat", [0, 0, 0, 1, 1], [4, 4, 4, 5, 5]),
        (4, 2, "repeat", [0, 0, 1, 2], [2, 2, 3, 4]),
        (3, 3, "shrink", [0, 0, 0], [3, 3, 3]),
        (3, 25, "repeat", [0, 0, 0], [3, 3, 3]),
        (3, 1, "shrink", [0, 0, 0], [3, 3, 3]),
        (3, 0, "full", [0, 0, 0], [3, 3, 3]),
        (1, 25, "shrink", [0], [1]),
        (0, 25, "shrink", [], []),
    ],
)
def test_windows_by_hand(n_int, width, edges, lo, hi):
    assert [bounds.tolist() for bounds in window_bounds(n_int, width, edges)] == [lo, hi]


@pytest.mark.parametrize("edges", ["shrink", "full", "repeat"])
@pytest.mark.parametrize("width", [2, 3, 4, 24, 25])
@pytest.mark.parametrize("extra", [1, 2, 30])
def test_every_window_lies_in_the_span_and_holds_its_integration(edges, width, extra):
    n_int = width + extra
    lo, hi = window_bounds(n_int, width, edges)
    index = np.arange(n_int)
    assert (lo >= 0).all()
    assert (hi <= n_int).all()
    assert (lo <= index).all()
    assert (index < hi).all() or width == 2
    size = hi - lo
    assert (size == width).all() if edges != "shrink" else (size[width // 2 : n_int - width // 2] == width).all()


def test_odd_and_even_windows_by_hand():
    assert medians([1, 2, 90, 4, 5, 6], 3, min_valid=1) == [1.5, 2, 4, 5, 5, 5.5]
    assert medians([1, 2, 90, 4, 5, 6], 4, min_valid=1) == [1.5, 2, 3, 4.5, 5.5, 5]
    assert medians([1, 2, 90, 4, 5, 6], 4, "repeat", min_valid=1) == [3, 3, 3, 4.5, 5.5, 5.5]


def test_width_two_is_a_median_of_neighbours_and_not_one_value_for_all():
    expected = [0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert medians(range(8), 2, "repeat", nan_policy="propagate") == expected
    assert medians(range(8), 2, "repeat", min_valid=1) == expected


def test_bad_samples_are_left_out():
    assert medians([1, nan, 90, 4, 5], 3, min_valid=1) == [1, 45.5, 47, 5, 4.5]
    data = column(1, 1000, 90, 4, 5)
    mask = np.zeros(data.shape, bool)
    mask[1] = True
    lo, hi = window_bounds(5, 3)
    assert rolling_median(data, mask, lo, hi, min_valid=1).ravel().tolist() == [1, 45.5, 47, 5, 4.5]


def test_too_few_valid_samples_have_no_median():
    found = medians([1, nan, 90, 4, 5], 3, min_valid=3)
    np.testing.assert_array_equal(found, [nan, nan, nan, 5, nan])


def test_propagate_empties_every_window_of_a_bad_sample():
    found = medians([1, 2, 3, nan, 5, 6, 7, 8], 3, "repeat", nan_policy="propagate")
    np.testing.assert_array_equal(found, [2, 2, nan, nan, nan, 6, 7, 7])


@pytest.mark.parametrize("n_int", [1, 2])
def test_one_or_two_integrations(n_int):
    assert np.isnan(medians(range(n_int), 25)).all()
    assert medians(range(n_int), 25, min_valid=1) == [np.median(range(n_int))] * n_int


@pytest.mark.parametrize("n_int", [24, 25, 26])
def test_lengths_around_the_width(n_int):
    values = np.random.default_rng(n_int).normal(size=n_int).astype(np.float32)
    found = medians(values, 25)
    if n_int <= 25:
        assert found == [np.median(values)] * n_int
    else:
        assert found[12] == np.median(values[:25])
        assert found[13] == np.median(values[1:26])
        assert found[0] == np.median(values[:13])


def test_all_nan_gives_nan_without_a_warning():
    assert np.isnan(medians([nan] * 30, 5)).all()
    assert np.isnan(medians([nan] * 30, 0)).all()
    assert np.isnan(medians([nan] * 30, 5, nan_policy="propagate")).all()


def test_even_medians_are_means_in_the_stated_dtype():
    data = column(1, 1 + 2**-23, 7, 9)[:2]
    mask = np.zeros(data.shape, bool)
    skipped = rolling_median(data, mask, [0], [2], min_valid=1)
    propagated = rolling_median(data, mask, [0], [2], nan_policy="propagate")
    assert skipped.dtype == np.float32
    assert skipped.item() == 1.0  # half a step between two float32 numbers, to even
    assert propagated.dtype == np.float64
    assert propagated.item() == 1 + 2**-24


def test_negative_zero_is_zero():
    data = column(-0.0, 0.0, -0.0, 0.0, -0.0)
    for windows in (window_bounds(5, 3), window_bounds(5, 0)):
        assert not np.signbit(rolling_median(data, data > 1, *windows, min_valid=1)).any()


@pytest.mark.parametrize("n_int", [40, 2 * WIDEST_SORTED])
@pytest.mark.parametrize(("ny", "nx"), [(1, 1), (3, 5), (2, 300), (300, 2)])
def test_every_shape_agrees_with_nanmedian(n_int, ny, nx):
    rng = np.random.default_rng(ny)
    data = rng.normal(size=(n_int, ny, nx)).astype(np.float32)
    mask = rng.random(data.shape) < 0.1
    masked = np.where(mask, np.nan, data)
    for width in (7, 0):
        lo, hi = window_bounds(n_int, width)
        expected = [np.nanmedian(masked[a:b], axis=0) for a, b in zip(lo, hi, strict=True)]
        np.testing.assert_array_equal(rolling_median(data, mask, lo, hi, min_valid=1), np.array(expected))


def test_windows_in_any_order():
    data = column(*range(10))
    mask = np.zeros(data.shape, bool)
    lo, hi = [7, 0, 3, 3, 0, 9], [10, 3, 6, 4, 10, 10]
    assert rolling_median(data, mask, lo, hi, min_valid=1).ravel().tolist() == [8, 1, 4, 3, 4.5, 9]


def test_row_ranges_and_other_layouts_give_the_same():
    rng = np.random.default_rng(3)
    data = rng.normal(size=(30, 6, 20)).astype(np.float32)
    mask = rng.random(data.shape) < 0.1
    lo, hi = window_bounds(30, 5)
    whole = rolling_median(data, mask, lo, hi)
    np.testing.assert_array_equal(rolling_median(data[:, 2:5], mask[:, 2:5], lo, hi), whole[:, 2:5])
    np.testing.assert_array_equal(rolling_median(data[..., ::2], mask[..., ::2], lo, hi), whole[..., ::2])
    np.testing.assert_array_equal(rolling_median(data[:, ::-1], mask[:, ::-1], lo, hi), whole[:, ::-1])
    np.testing.assert_array_equal(rolling_median(data.astype(">f4"), mask, lo, hi), whole)
    turned = np.asfortranarray(data)
    np.testing.assert_array_equal(rolling_median(turned, mask, lo, hi), whole)


def test_a_range_of_integrations_with_its_neighbours_gives_the_same_bits():
    rng = np.random.default_rng(4)
    data = rng.normal(size=(60, 2, 11)).astype(np.float32)
    mask = rng.random(data.shape) < 0.1
    lo, hi = window_bounds(60, 9)
    whole = rolling_median(data, mask, lo, hi)
    for start in range(0, 60, 7):
        stop = min(start + 7, 60)
        first, last = lo[start], hi[stop - 1]
        part = rolling_median(data[first:last], mask[first:last], lo[start:stop] - first, hi[start:stop] - first)
        assert part.tobytes() == whole[start:stop].tobytes()


def test_inputs_are_not_modified_and_memory_is_the_output():
    data = np.random.default_rng(5).normal(size=(40, 50, 64)).astype(np.float32)
    mask = data > 2
    lo, hi = window_bounds(40, 25)
    before = data.tobytes(), mask.tobytes()
    rolling_median(data[:, 10:20], mask[:, 10:20], lo, hi)
    tracemalloc.start()
    rolling_median(data[:, 10:20], mask[:, 10:20], lo, hi)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < data[:, 10:20].nbytes + 200_000
    assert before == (data.tobytes(), mask.tobytes())


def test_an_empty_stack_has_empty_medians():
    data = np.empty((0, 3, 4), np.float32)
    assert rolling_median(data, data > 0, *window_bounds(0, 25)).shape == (0, 3, 4)
    data = np.empty((5, 0, 4), np.float32)
    assert rolling_median(data, data > 0, *window_bounds(5, 3)).shape == (5, 0, 4)


def test_mistakes_are_named():
    data = column(1, 2, 3)
    mask = np.zeros(data.shape, bool)
    with pytest.raises(ValueError, match="edges is 'wrap'"):
        window_bounds(5, 3, "wrap")
    with pytest.raises(ValueError, match="cannot be negative"):
        window_bounds(-1, 3)
    with pytest.raises(ValueError, match="same three axes"):
        rolling_median(data, mask[:2], [0], [3])
    with pytest.raises(ValueError, match=r"window 0 is \[0, 4\)"):
        rolling_median(data, mask, [0], [4])
    with pytest.raises(ValueError, match="which is empty"):
        rolling_median(data, mask, [2], [2])
    with pytest.raises(ValueError, match="same single axis"):
        rolling_median(data, mask, [0, 1], [3])
    with pytest.raises(ValueError, match="nan_policy is 'omit'"):
        rolling_median(data, mask, [0], [3], nan_policy="omit")
    with pytest.raises(ValueError, match="min_valid is 0"):
        rolling_median(data, mask, [0], [3], min_valid=0)
