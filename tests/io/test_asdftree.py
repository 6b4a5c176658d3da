from __future__ import annotations

import io

import asdf
import numpy as np
import pytest
import yaml

from tso3.errors import InputError
from tso3.io.asdftree import ExtraCard, edit_tree, tree_value

CARDS = [ExtraCard("TSO3VER", "0.1.0", "Version"), ExtraCard("TSO3N", 3, "é")]


def embedded(tree):
    buffer = io.BytesIO()
    with asdf.AsdfFile(tree) as file:
        file.write_to(buffer)
    return buffer.getvalue()


def opened(content):
    with asdf.open(io.BytesIO(content), lazy_load=False, memmap=False) as file:
        return {key: value for key, value in file.tree.items() if key not in ("asdf_library", "history")}


@pytest.mark.parametrize("shape", ["none", "step", "extra", "both"])
def test_values_are_set_and_blocks_stay_readable(shape):
    rng = np.random.default_rng(0)
    tree = {
        "meta": {"filename": "ä.fits", "wcs": rng.random(300), "target": {"name": "π Men"}},
        "small": rng.random(200),
    }
    if shape in ("step", "both"):
        tree["meta"]["cal_step"] = {"outlier_detection": "SKIPPED", "flat_field": "COMPLETE"}
    if shape in ("extra", "both"):
        old = [["TSO3VER", "0.0.1", ""], ["FILETYPE", "countrate", "kind"]]
        tree["extra_fits"] = {"PRIMARY": {"header": old}}
    content = embedded(tree)
    values = {
        ("meta", "filename"): "a longer name than it was_crfints.fits",
        ("meta", "cal_step", "outlier_detection"): "COMPLETE",
        ("meta", "asn", "pool_name"): None,
        ("meta", "asn", "table_name"): "x: 'y' \"z\" #",
        ("tso3",): {"parameters": {"snr": 5.0, "top": float("inf"), "text": "ü\u2028", "on": True}},
    }
    edited = edit_tree(content, values, CARDS)
    found = opened(edited)
    assert found["meta"]["filename"] == values["meta", "filename"]
    assert found["meta"]["cal_step"]["outlier_detection"] == "COMPLETE"
    assert found["meta"]["asn"]["table_name"] == "x: 'y' \"z\" #"
    assert found["tso3"]["parameters"] == {"snr": 5.0, "top": float("inf"), "text": "ü\u2028", "on": True}
    assert found["meta"]["target"]["name"] == "π Men"
    np.testing.assert_array_equal(found["meta"]["wcs"], tree["meta"]["wcs"])
    np.testing.assert_array_equal(found["small"], tree["small"])
    header = {row[0]: row[1] for row in found["extra_fits"]["PRIMARY"]["header"]}
    assert header["TSO3VER"] == "0.1.0"
    assert header["TSO3N"] == 3
    assert ("FILETYPE" in header) == (shape in ("extra", "both"))
    assert edit_tree(edited, values, CARDS) == edited
    assert tree_value(edited, ("meta", "filename")) == values["meta", "filename"]
    assert tree_value(edited, ("meta", "target", "none")) is None


def test_only_the_edited_text_differs():
    content = embedded({"meta": {"filename": "a.fits", "date": "now"}, "data": np.arange(50.0)})
    edited = edit_tree(content, {("meta", "date"): "noW"})
    assert edited.replace(b'"noW"', b"now", 1)[: content.index(b"\xd3BLK")] == content[: content.index(b"\xd3BLK")]
    assert edited.endswith(b"...\n")
    index = edited.rindex(b"#ASDF BLOCK INDEX")
    (offset,) = yaml.safe_load(edited[index:])
    assert edited[offset : offset + 4] == b"\xd3BLK"


def test_block_and_flow_styles_and_collections_are_replaced():
    text = b"#ASDF 1.0.0\n--- !core/asdf-1.1.0\nmeta:\n  a:\n    b: 1\n    c: 2\n  d: {}\n  e: [1, 2]\nz: 1\n...\n"
    edited = edit_tree(text, {("meta", "a"): 5, ("meta", "d", "x", "y"): 1, ("meta", "e"): "q", ("z",): None})
    tree = yaml.safe_load(edited.decode().replace("!core/asdf-1.1.0", ""))
    assert tree == {"meta": {"a": 5, "d": {"x": {"y": 1}}, "e": "q"}, "z": None}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not asdf",
        b"#ASDF 1.0.0\n---\nmeta: {",
        b"#ASDF 1.0.0\n---\nmeta: {\n...\n",
        b"#ASDF 1.0.0\n---\n3\n...\n",
        b"#ASDF 1.0.0\n---\nmeta: \xff\n...\n",
        b"#ASDF 1.0.0\n---\nmeta: 5\n...\n",
        b"#ASDF 1.0.0\n---\n{}\n...\n",
    ],
)
def test_damaged_trees_are_refused(content):
    with pytest.raises(InputError, match="damaged"):
        edit_tree(content, {("meta", "filename"): "b.fits"})
