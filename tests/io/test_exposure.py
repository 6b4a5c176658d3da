from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from astropy.io import fits

from tso3.errors import InputError, Tso3Warning
from tso3.io.exposure import read_observation

SHARED = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared")
LRS = SHARED / "data/miri_lrs/ERS_NGTS10_2022_new_drift_041_calints.fits"


def test_members_in_any_order_are_one_stack(segments):
    for order in itertools.permutations(segments):
        observation = read_observation(list(order))
        (exposure,) = observation.exposures
        assert [s.path for s in exposure.segments] == segments
        assert (exposure.n_int, exposure.ny, exposure.nx) == (12, 5, 7)
        assert exposure.segment_bounds == ((0, 4), (4, 7), (7, 12))
        assert exposure.times.int_num.tolist() == list(range(1, 13))
        assert observation.product_name == exposure.name == "jw01366003001_04101_00001_nrs1"
        assert (exposure.detector, exposure.bunit, exposure.mode.exp_type) == ("NRS1", "MJy", "NRS_BRIGHTOBJ")


def test_association_names_product_and_tables(segments):
    path = segments[0].parent / "x_asn.json"
    members = [{"expname": p.name, "exptype": "science"} for p in segments]
    path.write_text(
        json.dumps({"asn_type": "tso3", "asn_id": "a3001", "products": [{"name": "prod", "members": members}]})
    )
    observation = read_observation(path)
    assert (observation.product_name, observation.asn_id, observation.asn_table) == ("prod", "a3001", "x_asn.json")


def test_detectors_and_exposures_are_apart_and_sorted(tmp_path, make_calints):
    names = []
    for exposure, detector in itertools.product((2, 1), ("nrs2", "nrs1")):
        path = tmp_path / f"jw01366003001_04101_0000{exposure}_{detector}_calints.fits"
        make_calints(path, exposure=f"0000{exposure}", detector=detector.upper(), nx=7 + (detector == "nrs2"))
        names.append(path)
    observation = read_observation(names)
    found = [(e.header("EXPOSURE"), e.detector, e.nx) for e in observation.exposures]
    assert found == [("00001", "NRS1", 7), ("00001", "NRS2", 8), ("00002", "NRS1", 7), ("00002", "NRS2", 8)]
    assert observation.product_name == "jw01366003001_04101"


def test_files_without_identifiers_are_joined_by_name(tmp_path, make_calints):
    none = dict.fromkeys(("program", "observtn", "visit", "visitgrp", "seq_id", "act_id", "exposure"))
    for i in (1, 2):
        make_calints(tmp_path / f"scene-seg00{i}_calints.fits", intstart=4 * i - 3, exsegnum=i, nints=8, **none)
    make_calints(tmp_path / "other_calints.fits", **none)
    observation = read_observation(tmp_path)
    assert [(e.name, e.n_int) for e in observation.exposures] == [("other", 4), ("scene", 8)]
    assert observation.product_name == "tso3"


def test_a_missing_middle_segment_is_named(segments):
    with pytest.warns(Tso3Warning, match=r"integrations 5-7 \(segment 2\) are in none of the 2 files"):
        (exposure,) = read_observation([segments[2], segments[0]]).exposures
    assert exposure.n_int == 9
    assert exposure.times.int_num.tolist() == [1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert exposure.segment_bounds == ((0, 4), (4, 9))


def test_missing_first_and_last_segments_are_named(segments):
    with pytest.warns(Tso3Warning, match=r"integrations 1-4, 8-12 are in none of the 1 files"):
        read_observation(segments[1])


def test_the_same_integrations_twice_are_refused(segments, make_calints):
    other = segments[0].parent / "jw01366003001_04101_00001-seg009_nrs1_calints.fits"
    make_calints(other, 3, intstart=6, nints=12)
    with pytest.raises(InputError, match=r"seg009.*starts at integration 6, but .*seg002.* holds 5-7"):
        read_observation([*segments, other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filter": "F170LP"}, "FILTER = 'F170LP', but 'F290LP'"),
        ({"subarray": "SUB512"}, "SUBARRAY = 'SUB512'"),
        ({"nx": 8}, "frames of 5 x 8 pixels, but 5 x 7"),
    ],
)
def test_members_that_do_not_belong_together(segments, make_calints, change, message):
    make_calints(segments[1], 3, intstart=5, nints=12, exsegnum=2, **change)
    with pytest.raises(InputError, match=message) as caught:
        read_observation(segments)
    assert str(segments[1]) in str(caught.value)


def test_different_units_and_planes(segments):
    fits.setval(segments[1], "BUNIT", value="DN/s", extname="SCI")
    with pytest.raises(InputError, match="BUNIT = 'DN/s', but 'MJy'"):
        read_observation(segments)
    fits.setval(segments[1], "BUNIT", value="MJy", extname="SCI")
    with fits.open(segments[1]) as hdus:
        del hdus["VAR_FLAT"]
        hdus.writeto(segments[1].with_name("new.fits"))
    segments[1].with_name("new.fits").replace(segments[1])
    with pytest.raises(InputError, match=r"differs from .*seg001.* in the planes it has \(VAR_FLAT\)"):
        read_observation(segments)


def test_two_modes_in_one_observation(tmp_path, make_calints):
    make_calints(tmp_path / "a_calints.fits", exposure="00001")
    make_calints(tmp_path / "b_calints.fits", exposure="00002", exp_type="NRC_TSGRISM")
    with pytest.raises(InputError, match=r"EXP_TYPE = 'NRC_TSGRISM', but 'NRS_BRIGHTOBJ'.*run them apart"):
        read_observation(tmp_path)


def test_products_of_equal_names_would_collide(tmp_path, make_calints):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    make_calints(tmp_path / "one/a_calints.fits", exposure="00001")
    make_calints(tmp_path / "two/a_calints.fits", exposure="00002")
    with pytest.raises(InputError, match="has the same name as"):
        read_observation([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"exp_type": "MIR_IMAGE", "tsovisit": False}, "without TSOVISIT = T is not a time series"),
        ({"exp_type": "MIR_IMAGE", "tsovisit": None}, "without TSOVISIT"),
        ({"exp_type": "NRC_IMAGE"}, "EXP_TYPE NRC_IMAGE is not reduced by tso3; it takes NRC_TSIMAGE"),
        ({"exp_type": None}, "has no EXP_TYPE"),
        ({"intstart": 0}, "INTSTART = 0"),
        ({"intstart": "one"}, "INTSTART = 'one' is not of the expected type"),
        ({"intstart": True}, "INTSTART = True is not"),
    ],
)
def test_headers_that_are_refused(tmp_path, make_calints, keywords, message):
    path = tmp_path / "a_calints.fits"
    if keywords.get("intstart") in (0, "one", True):
        make_calints(path)
        fits.setval(path, "INTSTART", value=keywords["intstart"])
    else:
        make_calints(path, **keywords)
    with pytest.raises(InputError, match=message) as caught:
        read_observation(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["SCI", "ERR", "DQ"])
def test_missing_planes_are_refused(tmp_path, make_calints, name):
    hdus = make_calints(tmp_path / "x.fits")
    del hdus[name]
    hdus.writeto(tmp_path / "a_calints.fits")
    with pytest.raises(InputError, match=f"has no {name} plane"):
        read_observation(tmp_path / "a_calints.fits")


def test_missing_variances_are_told_but_for_the_flat(tmp_path, make_calints):
    hdus = make_calints(tmp_path / "x.fits")
    del hdus["VAR_FLAT"]
    hdus.writeto(tmp_path / "a_calints.fits")
    assert "VAR_FLAT" not in read_observation(tmp_path / "a_calints.fits").exposures[0].planes
    del hdus["VAR_RNOISE"]
    hdus.writeto(tmp_path / "a_calints.fits", overwrite=True)
    with pytest.warns(Tso3Warning, match="has no VAR_RNOISE; taken as zero"):
        read_observation(tmp_path / "a_calints.fits")


def test_one_integration_with_and_without_a_third_axis(tmp_path, make_calints):
    hdus = make_calints(tmp_path / "a_calints.fits", 1)
    exposure = read_observation(tmp_path / "a_calints.fits").exposures[0]
    assert (exposure.n_int, exposure.ny, exposure.nx) == (1, 5, 7)
    for name in exposure.planes:
        hdus[name].data = hdus[name].data[0]
    hdus.writeto(tmp_path / "b_calints.fits")
    exposure = read_observation(tmp_path / "b_calints.fits").exposures[0]
    assert (exposure.n_int, exposure.ny, exposure.nx) == (1, 5, 7)


def test_planes_of_other_types_are_refused(tmp_path, make_calints):
    hdus = make_calints(tmp_path / "x.fits")
    path = tmp_path / "a_calints.fits"
    for name, data, message in (
        ("ERR", hdus["ERR"].data.astype("f8"), "ERR has BITPIX -64; in calints it is -32"),
        ("ERR", hdus["ERR"].data[:, :4], r"ERR has shape \(4, 4, 7\), SCI \(4, 5, 7\)"),
        ("DQ", (hdus["DQ"].data & 1).astype("i2"), "DQ has BITPIX 16"),
        ("SCI", None, "SCI is not an image of 2 or 3 axes"),
    ):
        copy = fits.HDUList([hdu.copy() for hdu in hdus])
        copy[name] = fits.ImageHDU(data, name=name)
        copy.writeto(path, overwrite=True)
        with pytest.raises(InputError, match=message):
            read_observation(path)
    hdus.append(fits.ImageHDU(hdus["SCI"].data, name="SCI", ver=2))
    hdus.writeto(path, overwrite=True)
    with pytest.raises(InputError, match="holds 2 SCI planes"):
        read_observation(path)


def test_signed_dq_without_offset_is_read_as_bits(tmp_path, make_calints):
    hdus = make_calints(tmp_path / "x.fits")
    hdus["DQ"] = fits.ImageHDU((hdus["DQ"].data & 255).astype("i4"), name="DQ")
    hdus.writeto(tmp_path / "a_calints.fits")
    exposure = read_observation(tmp_path / "a_calints.fits").exposures[0]
    assert not exposure.segments[0].planes["DQ"].top_bit


@pytest.mark.skipif(not LRS.exists(), reason="the genuine file is not beside this checkout")
def test_the_genuine_file():
    with pytest.warns(Tso3Warning, match="INT_TIMES has no rows.*11.9355 s and EFFINTTM = 47.7120 s"):
        (exposure,) = read_observation(LRS).exposures
    assert (exposure.n_int, exposure.ny, exposure.nx, exposure.bunit) == (4, 416, 72, "DN/s")
    assert exposure.times.int_num.tolist() == [1847, 1848, 1849, 1850]
    assert exposure.dispersion_axis == 2
    assert exposure.wavelength.shape == (416, 72)
