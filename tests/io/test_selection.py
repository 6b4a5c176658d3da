"""A part of the integrations: which are meant, and that files are read and written as if they held no more."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError, ParameterError, Tso3Warning
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
from tso3.io.selection import parse_integrations, select_integrations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no range"),
        (":", "no range"),
        ("a:b", "no range"),
        ("1:2:3", "no range"),
        ("-3:", "no range"),
        ("0:4", "begins at 0"),
        ("5:4", "ends before it begins"),
    ],
)
def test_what_is_no_range(text, message):
    with pytest.raises(ParameterError, match=message):
        parse_integrations(text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1:12", range(1, 13)),
        ("4:5", [4, 5]),  # the last of the first segment, the first of the second: both ends are included
        ("5:7", [5, 6, 7]),
        ("7:", range(7, 13)),
        (":4", range(1, 5)),
        ("12", [12]),
        ("1", [1]),
        ("10:99", [10, 11, 12]),
        ((2, 9), range(2, 10)),
    ],
)
def test_both_ends_are_included(segments, text, numbers):
    whole = read_observation(segments)
    part = select_integrations(whole, parse_integrations(text))
    (exposure,) = part.exposures
    assert exposure.times.int_num.tolist() == list(numbers)
    assert exposure.n_int == len(numbers)
    with Reader(exposure) as reader, Reader(whole.exposures[0]) as all_of_it:
        for name, plane in reader.read(0, exposure.n_int).items():
            wanted = all_of_it.read(numbers[0] - 1, numbers[-1])[name]
            np.testing.assert_array_equal(plane.view("u4"), wanted.view("u4"))


def test_the_name_says_which_unless_nothing_is_left_out(segments):
    whole = read_observation(segments)
    assert select_integrations(whole, parse_integrations("1:99")) is whole
    part = select_integrations(whole, parse_integrations("3:5"))
    assert part.product_name == f"{whole.product_name}-int3-5"
    assert [s.stem for s in part.segments] == [
        "jw01366003001_04101_00001-seg001_nrs1-int3-5",
        "jw01366003001_04101_00001-seg002_nrs1-int3-5",
    ]
    assert [(s.primary["INTSTART"], s.primary["INTEND"]) for s in part.segments] == [(3, 4), (5, 5)]
    assert [s.primary["INTSTART"] for s in whole.segments] == [1, 5, 8]  # the whole is as it was


def test_none_of_them(segments):
    with pytest.raises(InputError, match=r"has integrations 1 to 12; none is in 20 to 30"):
        select_integrations(read_observation(segments), parse_integrations("20:30"))


def test_an_exposure_with_none_of_them_is_left_out(segments, make_calints):
    other = segments[0].parent / "jw01366003001_04101_00002_nrs1_calints.fits"
    make_calints(other, 3, exposure="00002")
    observation = read_observation([*segments, other])
    with pytest.warns(Tso3Warning, match="00002_nrs1: has no integration in 4 to 6; left out"):
        part = select_integrations(observation, parse_integrations("4:6"))
    assert [exposure.n_int for exposure in part.exposures] == [3]


def test_a_frame_without_third_axis_is_one_integration(tmp_path, make_calints):  # T12
    hdus = make_calints(tmp_path / "a_calints.fits", 1)
    for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
        hdus[name].data = hdus[name].data[0]
    hdus.writeto(tmp_path / "a_calints.fits", overwrite=True)
    whole = read_observation(tmp_path / "a_calints.fits")
    assert select_integrations(whole, parse_integrations("1:1")) is whole
    assert fits.getdata(tmp_path / "a_calints.fits", "SCI").ndim == 2
