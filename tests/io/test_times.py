from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError, Tso3Warning
from tso3.io.exposure import read_observation
from tso3.io.segment import read_segment

FIELDS = ("start_mjd_utc", "mid_mjd_utc", "end_mjd_utc", "start_bjd_tdb", "mid_bjd_tdb", "end_bjd_tdb")


def replace_table(path, table):
    with fits.open(path) as hdus:
        del hdus["INT_TIMES"]
        if table is not None:
            hdus.insert(len(hdus), table)
        hdus.writeto(path.with_name("new.fits"))
    path.with_name("new.fits").replace(path)


@pytest.fixture
def table_of():
    """Rows of INT_TIMES, numbered as given."""

    def make(numbers, start=59791.0):
        numbers = np.asarray(numbers)
        begin = start + (numbers - 1) * 16.2 / 86400
        columns = [fits.Column("integration_number", "J", array=numbers)]
        for scale, shift in (("MJD_UTC", 0.0), ("BJD_TDB", 0.004)):
            for phase, late in (("start", 0.0), ("mid", 8.0), ("end", 16.0)):
                columns.append(fits.Column(f"int_{phase}_{scale}", "D", array=begin + shift + late / 86400))
        return fits.BinTableHDU.from_columns(columns, name="INT_TIMES")

    return make


def test_rows_of_the_segment_and_of_the_whole_exposure_read_alike(segments, table_of):
    own = read_observation(segments).exposures[0].times
    for path in segments:
        replace_table(path, table_of(np.arange(1, 13)))
    whole = read_observation(segments).exposures[0].times
    assert own.source == whole.source == "INT_TIMES"
    for name in FIELDS:
        np.testing.assert_allclose(getattr(own, name), getattr(whole, name), atol=1e-9, rtol=0)
    np.testing.assert_allclose(np.diff(own.mid_mjd_utc), 16.2 / 86400, atol=1e-9)
    assert own.slice(3, 5).int_num.tolist() == [4, 5]


def test_rows_in_any_order(segments, table_of):
    replace_table(segments[1], table_of(np.array([7, 5, 6])))
    times = read_segment(segments[1]).times
    np.testing.assert_allclose(times.start_mjd_utc, 59791.0 + np.array([4, 5, 6]) * 16.2 / 86400)


def test_rows_numbered_from_one_in_a_later_segment_are_taken_in_order(segments, table_of):
    replace_table(segments[2], table_of(np.arange(1, 6)))
    with pytest.warns(Tso3Warning, match="numbers its rows from 1, INTSTART is 8; the rows are taken in order"):
        times = read_segment(segments[2]).times
    assert times.int_num.tolist() == [8, 9, 10, 11, 12]
    assert times.start_mjd_utc[0] == 59791.0
    assert times.source == "INT_TIMES"


@pytest.mark.parametrize("case", ["missing", "empty"])
def test_header_times_where_cadence_agrees(segments, table_of, case):
    replace_table(segments[1], None if case == "missing" else table_of(np.arange(0)))
    reason = "has no INT_TIMES table" if case == "missing" else "INT_TIMES has no rows"
    with pytest.warns(Tso3Warning, match=reason + r"; 3 of 3 integrations \(5-7\): times from EXPSTART and a cadence"):
        times = read_segment(segments[1]).times
    assert times.source == "header"
    expected = 59791.0 + np.array([4, 5, 6]) * 16.2 / 86400
    np.testing.assert_allclose(times.start_mjd_utc, expected, atol=1e-9, rtol=0)
    np.testing.assert_allclose(times.mid_mjd_utc, expected + 8 / 86400, atol=1e-9, rtol=0)
    np.testing.assert_allclose(times.end_mjd_utc, expected + 16 / 86400, atol=1e-9, rtol=0)
    assert np.isnan(times.mid_bjd_tdb).all()


def test_a_short_table_keeps_what_it_has(segments, table_of):
    replace_table(segments[2], table_of(np.array([8, 9, 11])))
    with pytest.warns(Tso3Warning, match=r"INT_TIMES has no row for 10, 12 \(it holds 8-9, 11\); 2 of 5 integr"):
        times = read_segment(segments[2]).times
    assert np.isfinite(times.mid_mjd_utc).all()
    np.testing.assert_array_equal(np.isnan(times.mid_bjd_tdb), [False, False, True, False, True])
    assert times.source == "header"


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("EFFINTTM", 12.0, "= 16.2000 s and EFFINTTM = 12.0000 s differ by more than TGROUP = 0.9000 s"),
        ("EXPEND", 59790.0, "differ by more than TGROUP"),
        ("NINTS", 0, "NINTS = 0, so times are NaN"),
        ("EXPSTART", None, "the header has no EXPSTART, so times are NaN"),
    ],
)
def test_times_are_nan_where_the_header_disagrees(segments, keyword, value, message):
    replace_table(segments[1], None)
    if value is None:
        fits.delval(segments[1], keyword)
    else:
        fits.setval(segments[1], keyword, value=value)
    with pytest.warns(Tso3Warning, match=message):
        times = read_segment(segments[1]).times
    assert times.source == "none"
    assert all(np.isnan(getattr(times, name)).all() for name in FIELDS)
    assert times.int_num.tolist() == [5, 6, 7]


def test_more_integrations_than_16_bits_hold(tmp_path, make_calints, table_of):
    path = tmp_path / "a_calints.fits"
    make_calints(path, intstart=40001, nints=50000)
    replace_table(path, table_of(np.arange(1, 50001)))
    assert read_segment(path).times.int_num.tolist() == [40001, 40002, 40003, 40004]
    assert read_segment(path).times.source == "INT_TIMES"


def test_a_table_without_a_column_or_with_bad_formats(segments, table_of):
    table = table_of(np.arange(5, 8))
    table.columns.del_col("int_mid_BJD_TDB")
    replace_table(segments[1], table)
    with pytest.warns(Tso3Warning, match="INT_TIMES has no column int_mid_BJD_TDB"):
        assert read_segment(segments[1]).times.source == "header"
    replace_table(segments[1], table_of(np.arange(5, 8)))
    raw = segments[1].read_bytes()
    segments[1].write_bytes(raw.replace(b"TFORM3  = 'D       '", b"TFORM3  = 'Z       '"))
    with pytest.raises(InputError, match="TFORM3 = 'Z' is no FITS format"):
        read_segment(segments[1])
    segments[1].write_bytes(raw.replace(b"TFORM3  = 'D       '", b"TFORM3  = 'E       '"))
    with pytest.raises(InputError, match="columns fill 48 bytes of rows of 52"):
        read_segment(segments[1])
