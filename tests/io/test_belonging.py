"""Files that do not belong together are refused, with both names and both values in one line."""

from __future__ import annotations

import pytest

from tso3.errors import InputError
from tso3.io.exposure import read_observation

A, B = "jw01_a_calints.fits", "jw01_b_calints.fits"


def two(folder, make_calints, first=None, second=None, **both):
    """Two exposures of an observation that differ as told."""
    both = {"targname": "TOI-1"} | both
    make_calints(folder / A, 2, **{"exposure": "00001", **both, **(first or {})})
    make_calints(folder / B, 2, **{"exposure": "00002", **both, **(second or {})})
    return [folder / A, folder / B]


@pytest.mark.parametrize(
    ("key", "value", "other"),
    [
        ("TARGNAME", "TOI-1", "WASP-43"),
        ("PROGRAM", "01366", "01442"),
        ("SUBARRAY", "SUB2048", "SUB512"),
        ("FILTER", "F290LP", "F170LP"),
        ("GRATING", "G395H", "G235H"),
        ("PUPIL", "CLEAR", "WLP8"),
        ("EXP_TYPE", "NRS_BRIGHTOBJ", "NRC_TSGRISM"),
    ],
)
def test_another_target_program_or_optical_element(tmp_path, make_calints, key, value, other):
    paths = two(tmp_path, make_calints, {key.lower(): value}, {key.lower(): other})
    with pytest.raises(InputError) as caught:
        read_observation(paths)
    text = str(caught.value)
    for word in (A, B, key, value, other, "run them apart"):
        assert word in text
    assert "\n" not in text


def test_the_proposers_name_counts_where_there_is_no_other(tmp_path, make_calints):
    names = [{"targname": None, "targprop": "A"}, {"targname": None, "targprop": "B"}]
    with pytest.raises(InputError, match="TARGPROP = 'B', but 'A'"):
        read_observation(two(tmp_path, make_calints, *names))
    known = [{"targname": "X", "targprop": "A"}, {"targname": "X", "targprop": "B"}]
    assert len(read_observation(two(tmp_path, make_calints, *known)).exposures) == 2


def test_what_only_one_file_says_is_no_difference(tmp_path, make_calints):
    paths = two(tmp_path, make_calints, {"targname": None, "program": None}, exposure=None)
    assert len(read_observation(paths).exposures) == 2


def test_exposures_in_f277w_belong_to_a_soss_visit(tmp_path, make_calints):  # T25
    soss = {"exp_type": "NIS_SOSS", "instrume": "NIRISS", "detector": "NIS", "grating": None}
    paths = two(tmp_path, make_calints, {"filter": "CLEAR"}, {"filter": "F277W"}, **soss)
    assert [exposure.filter for exposure in read_observation(paths).exposures] == ["CLEAR", "F277W"]


@pytest.mark.parametrize(
    ("exp_type", "text"),
    [
        ("NRS_TACQ", "EXP_TYPE NRS_TACQ is a target acquisition; mark it so in the association"),
        ("MIR_TACONFIRM", "is a target acquisition"),
        ("NRS_WATA", "is a target acquisition"),
        ("FGS_ID-STACK", "of the fine guidance sensor, which has no time-series mode"),
        ("NRC_WFSS", "is not reduced by tso3; it takes NRC_TSIMAGE"),
    ],
)
def test_what_is_no_time_series_is_named(tmp_path, make_calints, exp_type, text):
    paths = two(tmp_path, make_calints, {}, {"exp_type": exp_type})
    with pytest.raises(InputError, match=text) as caught:
        read_observation(paths)
    assert B in str(caught.value)


def test_calints_and_crfints_do_not_mix(tmp_path, make_calints):
    paths = two(tmp_path, make_calints, {}, {"s_outlir": "COMPLETE"})
    with pytest.raises(InputError, match=rf"{B}: has its outliers flagged already .*{A} has not"):
        read_observation(paths)


def test_spectra_stand_alone(tmp_path, make_calints):
    make_calints(tmp_path / A, 2)
    (tmp_path / "jw01_x1dints.fits").touch()
    with pytest.raises(InputError, match=rf"jw01_x1dints.fits: .* stand alone; {A} was given too"):
        read_observation([tmp_path / A, tmp_path / "jw01_x1dints.fits"])


@pytest.mark.parametrize(("key", "value", "other"), [("BAND", "SHORT", "LONG"), ("CHANNEL", "12", "34")])
def test_segments_of_one_exposure_agree_in_channel_and_band(tmp_path, make_calints, key, value, other):
    mrs = {"exp_type": "MIR_MRS", "instrume": "MIRI", "detector": "MIRIFUSHORT", "exposure": "00001"}
    make_calints(tmp_path / A, 2, **mrs, **{key.lower(): value})
    make_calints(tmp_path / B, 2, **mrs, **{key.lower(): other})
    with pytest.raises(InputError, match=f"{key} = '.*, but '"):
        read_observation([tmp_path / A, tmp_path / B])
