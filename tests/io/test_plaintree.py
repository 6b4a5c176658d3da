"""The trees of reference files, kept from run to run: the same either way, and asdf not imported the second time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asdf
import numpy as np
import pytest

from tso3.io.plaintree import read_plain_tree

TREE = {
    "meta": {"reftype": "pastasoss", "number": 3, "real": 0.1, "nothing": None, "yes": True},
    "traces": [{"order": 1, "trace": np.arange(12.0).reshape(4, 3)}, {"order": 2, "trace": np.ones(2, ">f4")}],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSO3_CACHE_DIR", str(tmp_path / "cache"))
    asdf.AsdfFile(TREE).write_to(tmp_path / "reference.asdf")
    return tmp_path / "reference.asdf"


def test_kept_tree_is_the_tree_that_was_read(path: Path) -> None:
    fresh = read_plain_tree(path)
    kept = read_plain_tree(path)
    for tree in (fresh, kept):
        assert tree["meta"] == TREE["meta"]
        assert [entry["order"] for entry in tree["traces"]] == [1, 2]
        for entry, true in zip(tree["traces"], TREE["traces"], strict=True):
            array = np.asarray(entry["trace"])
            assert array.dtype == true["trace"].dtype
            np.testing.assert_array_equal(array, true["trace"])


def test_asdf_stays_out_of_the_second_reading(path: Path) -> None:
    read_plain_tree(path)
    code = (
        "import sys; from tso3.io.plaintree import read_plain_tree as r; r(sys.argv[1]); print('asdf' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_another_file_is_read_anew(path: Path) -> None:
    read_plain_tree(path)
    asdf.AsdfFile({"meta": {"reftype": "other"}}).write_to(path)
    assert read_plain_tree(path)["meta"] == {"reftype": "other"}


def test_what_is_not_plain_is_read_every_time(path: Path) -> None:
    asdf.AsdfFile({"value": 1 + 2j, "number": 5}).write_to(path)
    assert [read_plain_tree(path)["value"] for _ in range(2)] == [1 + 2j, 1 + 2j]


def test_damaged_file_is_not_kept(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"#ASDF 1.0.0\n%YAML 1.1\n--- {a: [1, 2\n...\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="expected"):
            read_plain_tree(path)
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_units_and_masks_are_not_dropped(path: Path) -> None:
    from astropy import units as u

    asdf.AsdfFile({"width": [1.0, 2.0] * u.pixel, "masked": np.ma.array([1.0, 2.0], mask=[0, 1])}).write_to(path)
    for _ in range(2):
        tree = read_plain_tree(path)
        assert tree["width"].unit == u.pixel
        np.testing.assert_array_equal(np.ma.getmaskarray(np.ma.asanyarray(tree["masked"][...])), [False, True])
