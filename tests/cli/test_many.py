"""Several observations in one call: which there are, what is told, what one that fails does to the others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import tso3
from tso3.cli import main
from tso3.errors import InputError, OutputError, ParameterError, ReferenceFileError, Tso3Error, Tso3Warning
from tso3.io.association import expand_inputs, resolve_inputs
from tso3.observations import Source, find_observations, reduce_all


def write_association(path, members, product, asn_id="o003", **changes):
    """Write an association, of type tso3 unless it is changed, and return its path."""
    table = {"asn_type": "tso3", "asn_id": asn_id, "asn_pool": "pool"}
    table["products"] = [{"name": product, "members": [{"expname": name, "exptype": "science"} for name in members]}]
    path.write_text(json.dumps(table | changes))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_spectra):
    """A folder as a download leaves it: two observations, an association without its members, one of stage 2."""
    folder = tmp_path_factory.mktemp("observations")
    for number, nx in ((1, 8), (2, 9)):
        names = [path.name for path in make_spectra(folder, (7, 6), nx=nx, number=number)]
        write_association(folder / f"jw1-o00{number}_asn.json", names, f"jw1-o00{number}_t001", f"o00{number}")
    write_association(folder / "jw1-o000_asn.json", ["gone_calints.fits"], "jw1-o000_t001", "o000")
    write_association(folder / "jw1-o001_spec2_asn.json", ["a_rateints.fits"], "a", asn_type="tso-spec2")
    return folder


@pytest.fixture(scope="module")
def override(tiny_aperture):
    """The option that names the aperture."""
    return ["--override-extract1d", str(tiny_aperture["extract1d"])]


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory, tiny_aperture):
    """Folder of the products of the two good observations, reduced one by one."""
    output = tmp_path_factory.mktemp("alone")
    for name in ("jw1-o001_asn.json", "jw1-o002_asn.json"):
        tso3.run(folder / name, output, overrides=tiny_aperture)
    return output


def contents(path):
    """Everything in a product that does not depend on when it was made, as bytes (HDRTAB has the date)."""
    if path.suffix == ".ecsv":
        table = QTable.read(path)
        return [np.asarray(table[name]).tobytes() for name in table.colnames]
    with fits.open(path) as hdus:
        return [hdu.data.tobytes() for hdu in hdus if hdu.data is not None and hdu.name not in ("ASDF", "HDRTAB")]


def test_folder_of_associations(folder, alone, override, tmp_path, capsys):
    assert main(["run", str(folder), "-o", str(tmp_path), *override]) == 2
    shown = capsys.readouterr()
    heading, failed, first, second, last = shown.out.splitlines()
    assert heading.split() == ["observation", "mode", "integ.", "flagged", "scatter", "limit", "[ppm]", "time"]
    assert failed.split()[:2] == ["jw1-o000_asn.json", "failed:"]
    assert "1 of 1 members are missing: gone_calints.fits" in failed
    assert first.split()[:3] == ["jw1-o001_t001", "NRS_BRIGHTOBJ", "13"]
    assert second.split()[:3] == ["jw1-o002_t001", "NRS_BRIGHTOBJ", "13"]
    assert all(float(value) > 0 for value in first.split()[4:6])
    assert last.startswith("2 of 3 observations reduced, 1 failed: 26 integrations in ")
    assert shown.err.splitlines()[-1] == "tso3: error: 1 of 3 observations failed: jw1-o000_asn.json"
    assert "no associations of type 'tso3': jw1-o001_spec2_asn.json (tso-spec2)" in shown.err
    names = sorted(path.name for path in alone.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert {"jw1-o001_t001_x1dints.fits", "jw1-o002_t001_whtlt.ecsv"} < set(names)
    for name in names:
        assert contents(tmp_path / name) == contents(alone / name), name


def test_all_well_is_code_0_and_figures_are_drawn(folder, override, tmp_path, capsys):
    assert main(["run", str(folder / "jw1-o00[12]_asn.json"), "-o", str(tmp_path), "--figure", *override]) == 0
    out = capsys.readouterr().out
    assert "\n2 of 2 observations reduced: 26 integrations" in out
    for name in ("jw1-o001_t001_whtlt.png", "jw1-o002_t001_whtlt.png"):
        assert (tmp_path / name).exists()


def test_what_fits_one_observation_only_fails_for_the_other(folder, override, tmp_path, capsys):
    mask = tmp_path / "mask.fits"
    fits.PrimaryHDU(np.zeros((6, 8), np.int16)).writeto(mask)
    both = [str(folder / f"jw1-o00{number}_asn.json") for number in (1, 2)]
    assert main(["run", "-q", *both, "-o", str(tmp_path / "out"), "--bad-pixels", str(mask), *override]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    first, last = (line for line in shown.err.splitlines() if line.startswith("tso3: error"))
    assert first.startswith(f"tso3: error: jw1-o002_t001: {mask}: ")
    assert last == "tso3: error: 1 of 2 observations failed: jw1-o002_t001"
    assert (tmp_path / "out" / "jw1-o001_t001_whtlt.ecsv").exists()
    assert not (tmp_path / "out" / "jw1-o002_t001_whtlt.ecsv").exists()


def test_warnings_name_their_observation(folder, tmp_path, monkeypatch, capsys):
    def warned(inputs, output_dir, **options):
        warnings.warn("a time repeats", Tso3Warning, stacklevel=2)
        raise InputError("cannot be used", inputs[0])

    monkeypatch.setattr(tso3, "run", warned)
    assert main(["run", "-q", str(folder), "-o", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    for name in ("jw1-o001_t001", "jw1-o002_t001"):
        assert f"tso3: warning: {name}: a time repeats\n" in err


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_interruptions_and_defects_end_everything_after_the_totals(error, folder, tmp_path, monkeypatch, capsys):
    def fails(inputs, output_dir, **options):
        raise error

    monkeypatch.setattr(tso3, "run", fails)
    arguments = ["run", str(folder), "-o", str(tmp_path)]
    if error is KeyboardInterrupt:
        assert main(arguments) == 130
    else:
        with pytest.raises(error):
            main(arguments)
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 3 observations reduced, 1 failed, 2 not finished"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["{}/jw1-o001_asn.json", "{}/jw01366003001_04101_00001-seg001_nrs1_calints.fits"], "is an association and "),
        (["{}", "{}/jw01366003001_04101_00001-seg001_nrs1_calints.fits"], "is none; give associations, each of them"),
        (["{}", "{}/jw1-o009_asn.json"], "jw1-o009_asn.json: no such file; check the name of the association"),
        (["{}", "--times", "gone.ecsv"], "gone.ecsv: no such file; check what is given as times"),
        (["{}", "--override-gain", "gone.fits"], "gone.fits: the gain reference does not exist"),
        (["{}", "--max-memory", "much"], "'much' is no size"),
        (["{}", "--integrations", "9:3"], "9:3"),
        (["{}/jw1-*_spec2_asn.json"], "no association that matches this pattern is of type 'tso3'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out, for they are no associations")
def test_faults_of_all_are_told_before_anything_begins(folder, inputs, message, tmp_path, capsys, monkeypatch):
    def untouched(*arguments, **options):
        raise AssertionError("a run began")

    monkeypatch.setattr(tso3, "run", untouched)
    output = tmp_path / "out"
    assert main(["run", "-q", *(text.format(folder) for text in inputs), "-o", str(output)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err.splitlines()[-1]
    assert not output.exists()


def test_products_are_not_overwritten_by_another_observation(folder, tmp_path):
    members = [path.name for path in sorted(folder.glob("*_00001-seg*_calints.fits"))]
    for name in members:
        (tmp_path / name).touch()
    paths = [
        write_association(tmp_path / "a_asn.json", members, "jw1_t001"),
        write_association(tmp_path / "b_asn.json", members, "jw1_t001", "c1001"),
        write_association(tmp_path / "c_asn.json", members, "jw1_t002"),
        write_association(tmp_path / "d_asn.json", members, "jw1_t003", "c1002"),
    ]
    a, b, c, d = find_observations(paths)
    assert a.error is None
    assert d.error is None
    assert str(b.error).startswith(f"{paths[1]}: would write jw1_t001_* in the place of that of {paths[0]}; ")
    assert str(c.error).startswith(f"{paths[2]}: would write jw01366003001_04101_00001-seg001_nrs1_o003_crfints.fits ")


@pytest.mark.filterwarnings("ignore:.*left out, for they are no associations")
def test_what_a_folder_stands_for(folder, tmp_path):
    assert [path.name for path in expand_inputs(folder).associations] == [f"jw1-o00{n}_asn.json" for n in range(3)]
    with pytest.raises(InputError, match=r"is one of 3 associations, .*; tso3\.run_many takes several"):
        resolve_inputs(folder)
    (tmp_path / "a_calints.fits").touch()
    write_association(tmp_path / "a_asn.json", ["a_rateints.fits"], "a", asn_type="tso-image2")
    assert [path.name for path in resolve_inputs(tmp_path).paths] == ["a_calints.fits"]
    (source,) = find_observations(tmp_path)
    assert (source.name, source.error) == ("a_calints", None)
    (tmp_path / "b_asn.json").write_text("{")
    (source,) = find_observations(tmp_path)
    assert "is no JSON" in str(source.error)


def test_run_many(folder, tiny_aperture, tmp_path):
    paths = [folder / "jw1-o001_asn.json", folder / "jw1-o000_asn.json"]
    good, bad = tso3.run_many(paths, tmp_path, overrides=tiny_aperture, workers=1)
    assert (good.name, good.error, good.result.name) == ("jw1-o001_t001", None, "jw1-o001_t001")
    assert good.result.exp_type == "NRS_BRIGHTOBJ"
    assert (bad.name, bad.result, type(bad.error)) == ("jw1-o000_asn.json", None, InputError)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"preset": "best"}, ParameterError),
        ({"parameters": {"outlier_detection": {"snr": -1}}}, ParameterError),
        ({"overrides": {"gian": "a.fits"}}, ParameterError),
        ({"overrides": {"gain": "gone.fits"}}, ReferenceFileError),
        ({"bad_pixels": "gone.fits"}, InputError),
        ({"output_dir": __file__}, OutputError),
    ],
)
def test_run_many_refuses_what_no_observation_can_use(folder, options, error):
    with pytest.raises(error):
        tso3.run_many(folder / "jw1-o00[12]_asn.json", **options)


def test_errors_keep_no_arrays_and_system_errors_are_faults():
    def fails(source):
        if source.name == "disk":
            raise OSError(28, "No space left on device", "out/a.fits")
        try:
            raise ValueError("the cause")
        except ValueError as error:
            raise InputError("cannot be used", "a.fits") from error

    outcomes = reduce_all([Source("disk", (Path("a"),)), Source("input", (Path("b"),))], fails)
    assert [str(each.error) for each in outcomes] == ["out/a.fits: No space left on device", "a.fits: cannot be used"]
    assert all(isinstance(each.error, Tso3Error) for each in outcomes)
    assert outcomes[1].error.__traceback__ is None
    assert outcomes[1].error.__cause__.__traceback__ is None


def test_references_of_several_observations(folder, capsys):
    assert main(["references", str(folder)]) == 2
    shown = capsys.readouterr()
    assert all(f"jw1-o00{number}_t001: NRS_BRIGHTOBJ" in shown.out for number in (1, 2))
    assert "jw1-o000_asn.json: 1 of 1 members are missing" in shown.err


def test_help_says_what_an_input_is(capsys):
    assert main(["run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Associations (JSON), each an observation, or folders or quoted globs of them" in text
    assert "2 if an observation failed" in text
