"""Where parameters come from, which origin wins, and what a mistake is answered."""

from __future__ import annotations

import asdf
import pytest

from tso3.config import ARCHIVE_CLASSES, read_file, resolve
from tso3.errors import ParameterError, Tso3Warning
from tso3.parameters import PRESETS, Parameters


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "tso3.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def pars(tmp_path):
    def write(tree, name="pars-outlierdetectionstep.asdf"):
        path = tmp_path / name
        asdf.AsdfFile(tree).write_to(path)
        return path

    return write


def outlier_pars(**parameters):
    return {
        "class": "jwst.outlier_detection.outlier_detection_step.OutlierDetectionStep",
        "name": "OutlierDetectionStep",
        "parameters": parameters,
    }


def test_each_origin_beats_the_one_before(toml, pars):
    in_toml = toml("[outlier_detection]\nsnr = 6.0\nrolling_window_width = 31\nmaxiters = 2\nmin_valid = 5\n")
    in_asdf = pars(outlier_pars(snr="7.0 6.0", rolling_window_width=33, maxiters=4))
    name, parameters = resolve(
        "archive",
        [in_asdf, in_toml],  # the order on the command line does not matter between kinds
        ["outlier_detection.snr=8", "outlier_detection.rolling_window_width=35"],
        {"outlier_detection": {"snr": 9.0}},
    )
    step = parameters.outlier_detection
    assert name == "archive"
    assert (step.snr, step.rolling_window_width, step.maxiters, step.min_valid) == (9.0, 35, 4, 5)
    assert step.edges == "repeat"


def test_preset_of_the_file_is_used_unless_one_is_given(toml):
    path = toml('preset = "archive"\n')
    assert resolve(files=[path]) == ("archive", Parameters.model_validate(PRESETS["archive"]))
    assert resolve("default", [path]) == ("default", Parameters())


def test_an_unknown_preset_of_a_file_names_the_file(toml):
    path = toml('preset = "best"\n')
    with pytest.raises(ParameterError, match=r"tso3\.toml: there is no preset 'best'"):
        resolve(files=[path])
    with pytest.raises(ParameterError, match=r"^there is no preset 'better'"):
        resolve("better", files=[path])


@pytest.mark.parametrize("assignment", ["outlier_detection.snr=inf", "extract_1d.soss_width=1e9"])
def test_numbers_without_sense_are_refused(assignment):
    with pytest.raises(ParameterError, match=assignment.split("=")[0]):
        resolve(assignments=[assignment])


def test_complete_parameters_take_the_place_of_the_preset():
    given = Parameters.model_validate({"outlier_detection": {"snr": 3.0}})
    assert resolve("archive", explicit=given)[1] == given


def test_skip_of_steps():
    parameters = resolve(skip=["outlier_detection", "white_light"])[1]
    assert parameters.outlier_detection.skip
    assert parameters.white_light.skip
    assert not parameters.extract_1d.skip


def test_none_where_none_is_allowed():
    parameters = resolve(assignments=["white_light.max_wavelength=none", "extract_1d.bkg_order=None"])[1]
    assert parameters.white_light.max_wavelength is None
    assert parameters.extract_1d.bkg_order is None


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("outlier_detection.snr=-1", "--set: outlier_detection.snr = -1: must be greater than 0"),
        (
            "outlier_detection.edges=round",
            "--set: outlier_detection.edges = round: must be 'shrink', 'full' or 'repeat'",
        ),
        ("tso_photometry.radius=big", "--set: tso_photometry.radius = big: must be 'auto' or a valid number"),
        ("tso_photometry.radius=-3", "--set: tso_photometry.radius = -3: must be 'auto' or greater than 0"),
        ("tso_photometry.radius_inner=big", "--set: tso_photometry.radius_inner = big: must be a valid number"),
        ("extract1d.bkg_order=1", "--set: there is no step 'extract1d'; did you mean extract_1d?"),
        ("extract_1d.bkg_ordr=1", "--set: extract_1d has no parameter 'bkg_ordr'; did you mean bkg_order?"),
        ("white_light.snr=4", "--set: white_light has no parameter 'snr'; did you mean outlier_detection.snr?"),
        ("snr=4", "--set: 'snr' lacks its step: write outlier_detection.snr"),
        ("snr", "--set: 'snr' must have the form step.parameter=value"),
        ("survey.skip=true", "--set: survey cannot be skipped"),
    ],
)
def test_one_line_for_a_mistake(assignment, line):
    with pytest.raises(ParameterError) as caught:
        resolve(assignments=[assignment])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_every_mistake_has_its_own_line():
    with pytest.raises(ParameterError) as caught:
        resolve(assignments=["outlier_detection.snr=x", "extract_1d.missing=guess", "white_light.colour=red"])
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[outlier_detection\n", "is no TOML file"),
        ("[outliers]\nsnr = 3\n", "there is no step 'outliers'"),
        ("snr = 3\n", "'snr' lacks its step: write outlier_detection.snr"),
        ("outlier_detection = 3\n", "must be a table"),
        ('preset = "arch"\n', "there is no preset 'arch'; did you mean archive?"),
        ("preset = 3\n", "preset = 3 must be a name"),
        ("[outlier_detection]\nsnr = -3\n", "outlier_detection.snr = -3: must be greater than 0"),
    ],
)
def test_mistakes_in_toml(toml, text, message):
    path = toml(text)
    with pytest.raises(ParameterError, match=r"preset|tso3\.toml") as caught:
        resolve(files=[path])
    assert message in str(caught.value)


def test_pipeline_parameter_file(pars):
    tree = {
        "class": "jwst.pipeline.calwebb_tso3.Tso3Pipeline",
        "name": "Tso3Pipeline",
        "parameters": {"save_results": True, "skip": False},
        "steps": [
            outlier_pars(snr="4.5 4.0", kernel_size="7 7", suffix=None),
            {"class": "x.TSOPhotometryStep", "name": "tso_photometry", "parameters": {"radius": 7.0}},
            {
                "class": "x.Extract1dStep",
                "name": "extract_1d",
                "parameters": {"extraction_type": None, "bkg_order": None},
            },
            {"class": "x.PixelReplaceStep", "name": "pixel_replace", "parameters": {"skip": True}},
            {"class": "x.PhotomStep", "name": "photom", "parameters": {"skip": False}},
        ],
    }
    parameters = resolve(files=[pars(tree)])[1]
    assert parameters.outlier_detection.snr == 4.5
    assert parameters.tso_photometry.radius == 7.0
    assert parameters.extract_1d.extraction_type == "box"


def test_what_tso3_does_not_have_is_named(pars):
    tree = {"class": "x.AdaptiveTraceModelStep", "name": "adaptive_trace_model", "parameters": {"skip": False}}
    with pytest.warns(Tso3Warning, match="without effect in tso3: adaptive_trace_model"):
        resolve(files=[pars(tree)])


@pytest.mark.parametrize("class_name", sorted(ARCHIVE_CLASSES))
def test_parameter_files_of_every_step_are_read(pars, class_name):
    step = ARCHIVE_CLASSES[class_name]
    tree = {"class": f"jwst.x.{class_name}", "name": step, "parameters": {"new_option": 3, "suffix": "x"}}
    path = pars(tree, f"pars-{class_name.lower()}.asdf")
    with pytest.warns(
        Tso3Warning, match=rf"pars-{class_name.lower()}.asdf: without effect in tso3: {step}.new_option$"
    ):
        resolve(files=[path])


@pytest.mark.parametrize(
    ("class_name", "name", "value"),
    [
        ("OutlierDetectionStep", "rolling_window_width", 31),
        ("TSOPhotometryStep", "radius_outer", 14.0),
        ("Extract1dStep", "bkg_order", 1),
        ("WhiteLightStep", "max_wavelength", 5.0),
        ("PixelReplaceStep", "skip", False),
        ("PixelReplaceStep", "n_adjacent_cols", 5),
        *([("PhotomStep", "skip", True)] if "photom" in Parameters.model_fields else []),
    ],
)
def test_values_of_the_archives_parameter_files_arrive(pars, class_name, name, value):
    step = ARCHIVE_CLASSES[class_name]
    tree = {"class": f"jwst.x.{class_name}", "name": step, "parameters": {name: value, "input_dir": ""}}
    parameters = resolve(files=[pars(tree)])[1]
    assert getattr(getattr(parameters, step), name) == value


def test_file_that_is_none(tmp_path, pars):
    with pytest.raises(ParameterError, match="no such parameter file"):
        read_file(tmp_path / "absent.toml")
    (tmp_path / "a.asdf").write_text("nothing")
    with pytest.raises(ParameterError, match="cannot be read as ASDF"):
        read_file(tmp_path / "a.asdf")
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ParameterError, match=r"ends in \.toml or \.asdf"):
        read_file(tmp_path / "a.yaml")
    with pytest.raises(ParameterError, match="is no parameter file"):
        read_file(pars({"roman": 1}))


@pytest.mark.jwst
def test_parameters_exported_by_the_reference_pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    monkeypatch.setenv("CRDS_PATH", str(tmp_path))
    monkeypatch.setenv("CRDS_CONTEXT", "jwst_0000.pmap")
    pipeline = pytest.importorskip("jwst.pipeline").Tso3Pipeline()
    path = tmp_path / "pars-tso3pipeline.asdf"
    pipeline.export_config(path)
    sizes = {"radius": 3.0, "radius_inner": 4.0, "radius_outer": 5.0, "search_box_width": 41, "fit_box_width": 11}
    soss = {"soss_atoca": True, "soss_estimate": None}  # the default there; not in this version, and refused for SOSS
    explicit = {"tso_photometry": sizes, "extract_1d": soss}
    assert resolve("archive", [path])[1] == resolve("archive", explicit=explicit)[1]
