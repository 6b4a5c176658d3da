"""Time stamps from a file: its formats, how rows are matched, and one line for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from tso3.errors import InputError, Tso3Warning
from tso3.io.exposure import read_observation
from tso3.io.user_times import apply_times

NUMBER = np.arange(1, 13)
MJD, BJD = 59791.0 + NUMBER / 1000.0, 59791.5 + NUMBER / 1000.0


def write(path, **columns):
    if path.suffix == ".npy":
        np.save(path, np.rec.fromarrays(list(columns.values()), names=list(columns)))
    else:
        formats = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".txt": "ascii.basic"}
        Table(columns).write(path, format=formats[path.suffix])
    return path


@pytest.mark.parametrize("kind", ["ecsv", "csv", "txt", "npy"])
def test_every_format(segments, tmp_path, kind):
    observation = read_observation(segments)
    before = observation.exposures[0].times
    new = apply_times(observation, write(tmp_path / f"times.{kind}", MJD_UTC=MJD, BJD_TDB=BJD)).exposures[0]
    np.testing.assert_array_equal(new.times.mid_mjd_utc, MJD)
    np.testing.assert_array_equal(new.times.mid_bjd_tdb, BJD)
    assert new.times.source == "user"
    assert [segment.times.int_num.tolist() for segment in new.segments] == [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11, 12]]
    length = before.end_mjd_utc - before.mid_mjd_utc  # beginning and end move along with the middle
    np.testing.assert_allclose(new.times.end_mjd_utc - MJD, length, atol=1e-10)
    assert observation.exposures[0].times is before


def test_a_header_behind_a_hash(segments, tmp_path):
    path = tmp_path / "times.txt"
    path.write_text("# MJD_UTC BJD_TDB\n" + "".join(f"{a} {b}\n" for a, b in zip(MJD, BJD, strict=True)))
    np.testing.assert_array_equal(apply_times(read_observation(segments), path).exposures[0].times.mid_mjd_utc, MJD)


def test_rows_in_any_order_with_numbers(segments, tmp_path):
    back = slice(None, None, -1)
    path = write(tmp_path / "times.csv", int_num=np.append(NUMBER[back], 77), BJD_TDB=np.append(BJD[back], 0.0),
                 MJD_UTC=np.append(MJD[back], 0.0))  # fmt: skip
    times = apply_times(read_observation(segments), path).exposures[0].times
    np.testing.assert_array_equal(times.mid_bjd_tdb, BJD)


def test_full_julian_dates_become_what_the_archives_columns_hold(segments, tmp_path):
    path = write(tmp_path / "times.ecsv", MJD_UTC=MJD, BJD_TDB=BJD + 2400000.5)
    np.testing.assert_allclose(
        apply_times(read_observation(segments), path).exposures[0].times.mid_bjd_tdb, BJD, atol=1e-8
    )


def test_one_scale_alone_leaves_the_other(segments, tmp_path):
    observation = read_observation(segments)
    path = write(tmp_path / "times.ecsv", BJD_TDB=BJD)
    with pytest.warns(Tso3Warning, match=r"times.ecsv: gives BJD_TDB alone; MJD_UTC stays as it was"):
        times = apply_times(observation, path).exposures[0].times
    np.testing.assert_array_equal(times.mid_bjd_tdb, BJD)
    np.testing.assert_array_equal(times.mid_mjd_utc, observation.exposures[0].times.mid_mjd_utc)


def test_detectors_share_rows_or_have_their_own_columns(tmp_path, make_calints):
    for name in ("nrs1", "nrs2"):
        make_calints(tmp_path / f"jw01_{name}_calints.fits", 12, detector=name.upper())
    observation = read_observation(tmp_path)
    both = write(tmp_path / "a.csv", MJD_UTC=MJD, BJD_TDB=BJD)
    own = write(tmp_path / "b.csv", MJD_UTC=MJD, BJD_TDB_NRS1=BJD, BJD_TDB_NRS2=BJD + 0.1)
    for exposure in apply_times(observation, both).exposures:
        np.testing.assert_array_equal(exposure.times.mid_bjd_tdb, BJD)
    first, second = apply_times(observation, own).exposures
    np.testing.assert_allclose(second.times.mid_bjd_tdb - first.times.mid_bjd_tdb, 0.1, atol=1e-9)


def test_exposures_one_after_another(tmp_path, make_calints):
    for k in (1, 2):
        make_calints(tmp_path / f"jw01_{k}_calints.fits", 6, exposure=f"0000{k}")
    observation = read_observation(tmp_path)
    path = write(tmp_path / "a.csv", int_num=np.tile(np.arange(1, 7), 2), MJD_UTC=MJD, BJD_TDB=BJD)
    first, second = apply_times(observation, path).exposures
    np.testing.assert_array_equal(np.concatenate([first.times.mid_mjd_utc, second.times.mid_mjd_utc]), MJD)
    path = write(tmp_path / "b.csv", int_num=NUMBER, MJD_UTC=MJD, BJD_TDB=BJD)
    with pytest.raises(InputError, match="int_num does not run as the integrations"):
        apply_times(observation, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"MJD_UTC": MJD[:11], "BJD_TDB": BJD[:11]}, r"has 11 rows, but 12 integrations are reduced \(12\)"),
        ({"int_num": NUMBER[1:], "MJD_UTC": MJD[1:]}, "has no row for 1 of 12 integrations .* number 1 the first"),
        ({"int_num": np.ones(12, int), "MJD_UTC": MJD}, "has integration 1 more than once"),
        ({"time": MJD}, "has no column MJD_UTC or BJD_TDB"),
        ({"MJD_UTC": np.where(NUMBER == 3, np.nan, MJD)}, "mjd_utc is not finite in row 3"),
        ({"MJD_UTC": [str(value) + "x" for value in MJD]}, "has no column MJD_UTC"),
        ({"BJD_TDB_NRS2": BJD}, "has no column MJD_UTC or BJD_TDB for detector NRS1"),
    ],
)
def test_what_cannot_be_used(segments, tmp_path, columns, message):
    path = write(tmp_path / "times.csv", **columns)
    with pytest.raises(InputError, match=message) as caught:
        apply_times(read_observation(segments), path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(segments, tmp_path):
    observation = read_observation(segments)
    np.save(tmp_path / "plain.npy", MJD)
    (tmp_path / "broken.npy").write_bytes(b"no array")
    (tmp_path / "broken.ecsv").write_text("# %ECSV 1.0\n# nothing")
    for name, message in (
        ("gone.csv", "no such file"),
        ("times.fits", "ends in .ecsv"),
        ("plain.npy", "has no column MJD_UTC"),
        ("broken.npy", "cannot be read"),
        ("broken.ecsv", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            apply_times(observation, tmp_path / name)


@pytest.mark.parametrize("column", ["MJD_UTC", "BJD_TDB"])
def test_times_far_from_those_of_the_exposure_are_refused(segments, tmp_path, column):
    away = {"MJD_UTC": MJD, "BJD_TDB": BJD} | {column: MJD - 2000.0}
    with pytest.raises(InputError, match=rf"{column} has 57791.001 for .*: more than 100 days apart"):
        apply_times(read_observation(segments), write(tmp_path / "times.csv", **away))


def test_full_and_modified_dates_in_one_column_are_refused(segments, tmp_path):
    mixed = np.where(NUMBER > 5, BJD + 2400000.5, BJD)
    with pytest.raises(InputError, match=r"bjd_tdb mixes full Julian dates \(such as 24\d+.\d\) and others"):
        apply_times(read_observation(segments), write(tmp_path / "times.csv", MJD_UTC=MJD, BJD_TDB=mixed))


def test_the_name_of_the_file_is_kept(segments, tmp_path):
    observation = apply_times(read_observation(segments), write(tmp_path / "t.csv", MJD_UTC=MJD, BJD_TDB=BJD))
    assert observation.times_file == "t.csv"
