"""What can be asked for as channels, where their edges are, and the line that a bad specification gets."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.config import resolve
from tso3.errors import ParameterError
from tso3.parameters import Channels
from tso3.steps.channel_spec import parse_channels, pixel_edges

WAVELENGTH = np.linspace(1.0, 2.0, 101)


def edges(spec, wavelength=WAVELENGTH, **limits):
    return parse_channels(Channels(spec=spec, **limits)).edges(wavelength)


def test_nothing_is_asked_for_by_default():
    assert parse_channels(Channels()) is None


def test_a_number_of_equal_width():
    found = edges("10")
    np.testing.assert_allclose(np.diff(found.low), 1.01 / 10)
    assert (found.low[0], found.high[-1]) == pytest.approx((0.995, 2.005))
    np.testing.assert_array_equal(found.low[1:], found.high[:-1])
    counts = np.bincount(found.members(WAVELENGTH), minlength=10)
    assert counts.sum() == 101
    assert counts.min() >= 10


def test_a_resolving_power():
    found = edges("R=20")
    middle, width = 0.5 * (found.low + found.high), found.high - found.low
    np.testing.assert_allclose(middle / width, (middle / width)[0])
    assert (middle / width)[0] == pytest.approx(20.0, rel=0.04)  # whole channels fill the range
    assert (found.low[0], found.high[-1]) == pytest.approx((0.995, 2.005))


def test_native_is_a_channel_for_each_pixel_in_the_order_of_wavelength():
    wavelength = WAVELENGTH[::-1].copy()
    wavelength[4] = np.nan
    found = edges("native", wavelength)
    members = found.members(wavelength)
    assert members[4] == -1
    assert np.delete(members, 4).tolist() == list(range(99, -1, -1))


def test_edges_include_the_last_but_no_pixel_twice():
    found = edges("1.0,1.5,2.0")
    assert np.bincount(found.members(WAVELENGTH)).tolist() == [50, 51]
    assert (edges("1.2,1.3").members(np.array([1.1, 1.2, 1.3, 1.31, np.nan])) == [-1, 0, 0, -1, -1]).all()


def test_a_file_of_edges_and_one_of_channels(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two, with a comma.csv"
    one.write_text("# micron\n1.0\n\n1.5  # middle\n2.0\n")
    two.write_text("1.0,1.2\n1.5;2.0\n")
    assert parse_channels(Channels(spec=str(one))).channels == ((1.0, 1.5), (1.5, 2.0))
    found = edges(str(two))
    assert np.bincount(found.members(WAVELENGTH) + 1).tolist() == [30, 20, 51]


def test_the_range_that_is_divided():
    found = edges("4", min_wavelength=1.2, max_wavelength=1.4)
    assert (found.low[0], found.high[-1]) == pytest.approx((1.195, 1.405))
    assert edges("1.0,1.2,1.5,2.0", max_wavelength=1.5).high.tolist() == [1.2, 1.5]
    assert edges("4", min_wavelength=3.0).low.size == 0


def test_pixels_end_halfway_to_their_neighbours():
    low, high = pixel_edges(np.array([1.0, 2.0, 4.0]))
    assert low.tolist() == [0.5, 1.5, 3.0]
    assert high.tolist() == [1.5, 3.0, 5.0]
    assert np.isnan(pixel_edges(np.array([1.0]))[0]).all()


def test_lists_and_numbers_are_taken_from_toml_and_python(tmp_path):
    path = tmp_path / "tso3.toml"
    path.write_text("[channels]\nspec = [2.9, 3.0, 3.4]\n")
    assert resolve(files=[path])[1].channels.spec == "2.9,3.0,3.4"
    assert resolve(explicit={"channels": {"spec": 20}})[1].channels.spec == "20"
    assert resolve(assignments=["channels.spec=none"])[1].channels.spec is None


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("no_such_file", r"'no_such_file' is no file and nothing that is known; give a number of channels \(20\), a"),
        ("0", "0 is no number of channels between 1 and 100000"),
        ("-3", "-3 is no number of channels"),
        ("R=0", "'R=0' is no resolving power between 1 and a million"),
        ("R=abc", "'R=abc' is no resolving power"),
        ("2.9,x", "'2.9,x' is no list of edges in micron, nor a file"),
        ("2.9,", "'2.9,' is no list"),
        ("3.0,2.9", "channel 3 to 2.9 micron does not rise"),
        ("2.5", "'2.5' is no file and nothing that is known"),
        ("", "'' is no file"),
    ],
)
def test_a_bad_specification_is_one_line(spec, told):
    with pytest.raises(ParameterError, match=rf"^channels.spec: {told}") as caught:
        parse_channels(Channels(spec=spec))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no channel; give at least two edges"),
        ("2.9\n", "holds no channel; give at least two edges"),
        ("2.9\n3.0\nabc\n", "line 3 is 'abc'; give one edge per line"),
        ("2.9\n3.0 3.1\n", "line 2 is '3.0 3.1'; give one edge"),
        ("1 2 3\n", "line 1 is '1 2 3'; give one edge"),
        ("2.9 3.1\n3.0 3.2\n", "channel 3 to 3.2 micron begins before 3.1, where the one before ends"),
        ("inf\n", "line 1 is 'inf'"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, text, told):
    path = tmp_path / "edges.txt"
    path.write_text(text)
    with pytest.raises(ParameterError, match=rf"edges.txt: {told}"):
        parse_channels(Channels(spec=str(path)))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match=r"edges\.txt: is no text file"):
        parse_channels(Channels(spec=str(path)))


def test_limits_that_are_the_wrong_way_round():
    with pytest.raises(ParameterError, match=r"^channels.min_wavelength: 3.0 is not below channels.max_wavelength"):
        parse_channels(Channels(spec="4", min_wavelength=3.0, max_wavelength=2.0))
