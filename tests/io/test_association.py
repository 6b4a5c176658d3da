from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tso3.errors import InputError, Tso3Warning
from tso3.io.association import read_association, resolve_inputs
from tso3.io.crfints import crfints_name
from tso3.io.exposure import read_observation

SHARED = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared")
REAL = sorted((SHARED / "data/asn").glob("*.json"))


def write_asn(folder, members, **changes):
    table = {"asn_type": "tso3", "asn_id": "o003", "asn_pool": "pool_1"}
    table["products"] = [{"name": "jw1_t001_x", "members": members}]
    table.update(changes)
    path = folder / "jw1-o003_tso3_001_asn.json"
    path.write_text(json.dumps({key: value for key, value in table.items() if value != "absent"}))
    return path


def science(*names):
    return [{"expname": name, "exptype": "science"} for name in names]


@pytest.mark.skipif(not REAL, reason="the archive's associations are not beside this checkout")
@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore:.*left out, for they are no science")
def test_associations_of_the_archive(path, tmp_path):
    table = json.loads(path.read_text())
    members = table["products"][0]["members"]
    wanted = [m["expname"] for m in members if m["exptype"] == "science"]
    for name in wanted:
        (tmp_path / name).touch()
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    association = resolve_inputs(copy)
    assert [p.name for p in association.paths] == list(dict.fromkeys(wanted))
    assert association.product_name == table["products"][0]["name"]
    assert (association.asn_id, association.asn_pool) == (table["asn_id"], table["asn_pool"])
    assert association.asn_table == path.name


EXP_TYPES = {"niriss": "NIS_SOSS", "nirspec": "NRS_BRIGHTOBJ", "nircam": "NRC_TSIMAGE", "miri": "MIR_LRS-SLITLESS"}


@pytest.mark.skipif(not REAL, reason="the archive's associations are not beside this checkout")
@pytest.mark.filterwarnings("ignore:.*left out, for they are no science")
@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name)
def test_observations_of_the_archive(path, tmp_path, make_calints):
    """Stand-ins for the members: products are named after the association, detectors and exposures are apart."""
    table = json.loads(path.read_text())
    (product,) = table["products"]
    exp_type = next(value for name, value in EXP_TYPES.items() if f"_{name}_" in product["name"])
    members = list(dict.fromkeys(m["expname"] for m in product["members"] if m["exptype"] == "science"))
    for name in members:
        exposure, _, detector = name.removesuffix("_calints.fits").rpartition("_")
        number = (
            f"{exposure}{detector}" if detector.isdigit() else exposure
        )  # jw_00001: the detector is not in the name
        make_calints(tmp_path / name, 2, exp_type=exp_type, detector=detector.upper(), exposure=number)
    (tmp_path / path.name).write_text(path.read_text())
    observation = read_observation(tmp_path / path.name)
    assert observation.product_name == product["name"]
    assert observation.asn_id == table["asn_id"]
    assert sorted(p.name for exposure in observation.exposures for p in exposure.paths) == sorted(members)
    for segment in observation.segments:
        assert crfints_name(segment, observation.asn_id).endswith(f"_{table['asn_id']}_crfints.fits")


def test_target_acquisition_in_either_spelling_is_left_out(tmp_path):
    (tmp_path / "a.fits").touch()
    members = science("a.fits")
    members += [{"expname": "gone.fits", "exptype": kind} for kind in ("target_acquistion", "target_acquisition")]
    members += [{"expname": "sky.fits", "exptype": "background"}, {"expname": "x.fits"}]
    told = r"left out, .*: gone.fits \(target_acquistion\), gone.fits \(target_acquisition\), sky.fits .* and 1 more$"
    with pytest.warns(Tso3Warning, match=told):
        found = read_association(write_asn(tmp_path, members))
    assert [p.name for p in found.paths] == ["a.fits"]


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        (science("a.fits"), {"asn_type": "image3"}, "type 'image3'; type 'tso3' is needed"),
        (science("a.fits"), {"asn_type": "absent"}, "type None"),
        (science("a.fits"), {"products": []}, "has no products"),
        (science("a.fits"), {"products": "absent"}, "has no products"),
        (science("a.fits"), {"products": [{"name": "x", "members": []}] * 2}, "has 2 products"),
        (science("a.fits"), {"products": [{"members": []}]}, "no name"),
        (science("a.fits"), {"products": ["x"]}, "no name"),
        (science("a.fits"), {"products": [{"name": "a\nb", "members": science("a.fits")}]}, "no name"),
        (science("a.fits"), {"asn_id": "../up"}, "cannot be used in a name"),
        (science("a.fits"), {"asn_id": 3}, "cannot be used in a name"),
        ([], {}, "has no members"),
        ("a.fits", {}, "has no members"),
        ([{"expname": "a.fits", "exptype": "background"}], {}, "none of the 1 members"),
        ([{"exptype": "science"}], {}, "has no expname"),
        (
            science("a.fits", "b.fits", "c.fits", "d.fits", "e.fits"),
            {},
            "4 of 5 members are missing: b.fits, c.fits, d.f",
        ),
    ],
)
def test_refusals_are_one_line_that_names_the_file(tmp_path, members, changes, message):
    (tmp_path / "a.fits").touch()
    path = write_asn(tmp_path, members, **changes)
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        resolve_inputs(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "\x00", '{"asn_type": "tso3", "products": {"a": 1}}', "[" * 100000]
)
def test_what_is_no_association(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        resolve_inputs(path)
    assert "\n" not in str(caught.value)


def test_files_patterns_and_folders(tmp_path):
    for name in ("b_calints.fits", "a_calints.fits", "a_crfints.fits"):
        (tmp_path / name).touch()
    names = ["a_calints.fits", "b_calints.fits"]
    assert [p.name for p in resolve_inputs(tmp_path).paths] == names
    assert [p.name for p in resolve_inputs(str(tmp_path / "*_calints.fits")).paths] == names
    assert [p.name for p in resolve_inputs([tmp_path / names[1], tmp_path / "[ab]_cal*"]).paths] == names[::-1]
    (tmp_path / "odd[1].fits").touch()
    assert [p.name for p in resolve_inputs(tmp_path / "odd[1].fits").paths] == ["odd[1].fits"]


def test_a_file_given_twice_counts_once(tmp_path):
    (tmp_path / "a.fits").touch()
    (tmp_path / "link.fits").symlink_to("a.fits")
    assert len(resolve_inputs([tmp_path / "a.fits", tmp_path / "a.fits", tmp_path / "link.fits"]).paths) == 1


def test_nothing_given(tmp_path):
    for inputs, message in (
        ([], "no input given"),
        (tmp_path, "holds no"),
        (tmp_path / "*.fits", "no file matches"),
        ([tmp_path / "a.json", tmp_path / "b.fits"], "a.json: is an association and .*b.fits is none"),
        ([tmp_path / "a.json", tmp_path / "b.json"], "a.json: no such file; .*; nor is there .*b.json"),
        (tmp_path / "none.json", "no such file"),
        (os.fspath(tmp_path / "a\0b"), "cannot be the name"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_inputs(inputs)


def test_a_member_listed_twice_is_told(tmp_path):
    (tmp_path / "a_calints.fits").touch()
    path = write_asn(tmp_path, science("a_calints.fits", "a_calints.fits"))
    with pytest.warns(Tso3Warning, match=r"lists members more than once; each counts once: a_calints\.fits$"):
        assert len(read_association(path).paths) == 1
