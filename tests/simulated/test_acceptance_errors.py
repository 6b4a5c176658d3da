"""A mistake of the user is one clear line, exit code 2, and nothing written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from tso3.cli import main
from tso3.simulate import simulate


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """The smallest visit."""
    return simulate("NRC_TSIMAGE", tmp_path_factory.mktemp("visit"), n_int=4, segments=2, seed=1)


@pytest.fixture
def copy(visit, tmp_path):
    """A copy of the visit that may be broken: (association, members)."""
    folder = tmp_path / "inputs"
    shutil.copytree(Path(visit.association).parent, folder)
    return folder / Path(visit.association).name, [folder / Path(path).name for path in visit.members]


def wrong_exp_type(association, members):
    with fits.open(members[1], mode="update") as file:
        file[0].header["EXP_TYPE"] = "NRC_WFSS"
    return [association], [members[1].name, "NRC_WFSS"]


def missing_member(association, members):
    members[1].unlink()
    return [association], [members[1].name]


def no_fits(association, members):
    members[0].write_text("this is no FITS file\n" * 500)
    return [association], [members[0].name]


def truncated(association, members):
    content = members[0].read_bytes()
    members[0].write_bytes(content[: len(content) // 2 + 1234])
    return [association], [members[0].name]


def no_products(association, members):
    content = json.loads(association.read_text())
    content["products"] = []
    association.write_text(json.dumps(content))
    return [association], [association.name, "products"]


def no_json(association, members):
    association.write_text("{")
    return [association], [association.name]


def unknown_parameter(association, members):
    return [association, "--set", "outlier_detection.snrr=4"], ["snrr"]


def parameter_out_of_bounds(association, members):
    return [association, "--set", "outlier_detection.snr=-4"], ["snr"]


def unknown_preset(association, members):
    return [association, "--preset", "mast"], ["mast", "archive"]


def missing_reference(association, members):
    return [association, "--override-gain", association.parent / "no_gain.fits"], ["no_gain.fits"]


def missing_input(association, members):
    return [association.parent / "nothing_asn.json"], ["nothing_asn.json"]


MISTAKES = (
    wrong_exp_type,
    missing_member,
    no_fits,
    truncated,
    no_products,
    no_json,
    unknown_parameter,
    parameter_out_of_bounds,
    unknown_preset,
    missing_reference,
    missing_input,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_one_line_code_2_nothing_written(copy, mistake, tmp_path, capsys):
    arguments, words = mistake(*copy)
    output = tmp_path / "out"
    before = sorted(copy[0].parent.iterdir())
    code = main(["run", *(str(a) for a in arguments), "-o", str(output), "--quiet"])
    err = capsys.readouterr().err
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]
    assert not output.exists() or not list(output.rglob("*"))
    assert sorted(copy[0].parent.iterdir()) == before


def test_the_untouched_copy_runs(copy, tmp_path):
    assert main(["run", str(copy[0]), "-o", str(tmp_path / "out"), "--quiet"]) == 0
