"""Scans of apertures, from the command to the table: every light curve is that of a run with that aperture."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import QTable

import tso3
from tso3.cli import main
from tso3.modes import MODES
from tso3.parameters import Extract1D
from tso3.scanning import parse_annuli, parse_sizes, scanned_grid
from tso3.simulate import simulate
from tso3.steps.mrs import mrs_setups

STILL = {"survey": {"n_sample": 12}, "rectify": {"skip": True}}
VISITS = {
    "prism": ("NRS_BRIGHTOBJ", {"configuration": "PRISM", "n_int": 24, "segments": 2, "cosmic_rays": 20.0}),
    "lrs": ("MIR_LRS-SLITLESS", {"n_int": 12, "segments": 2}),
    "soss": ("NIS_SOSS", {"n_int": 2, "segments": 1}),
    "image": ("NRC_TSIMAGE", {"n_int": 24, "segments": 2, "bad_pixels": 0.02}),
}


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """Make visits, each once."""

    @functools.cache
    def make(name):
        mode, scene = VISITS[name]
        return simulate(mode, tmp_path_factory.mktemp(name), seed=5, **scene)

    return make


def run(visit, folder, **parameters):
    return tso3.run(str(visit.association), folder, parameters=STILL | parameters)


def column(table, first):
    """Return the column whose name begins so, as plain numbers."""
    (name,) = [name for name in table.colnames if name.startswith(first) and "error" not in name]
    return np.asarray(getattr(table[name], "value", table[name]), float)


@pytest.fixture(scope="module")
def prism(visits):
    return tso3.scan(
        str(visits("prism").association), width=[9.5, 5.0, 13.0], background="as-is,none", parameters=STILL
    )


@pytest.mark.parametrize(("k", "changes"), [
    (0, {"extract_width": 5.0}), (1, {"extract_width": 9.5}), (2, {"extract_width": 13.0}),
    (4, {"extract_width": 9.5, "subtract_background": False}),
])  # fmt: skip
def test_spectra_are_those_of_a_run_with_that_aperture(visits, prism, tmp_path, k, changes):
    (light,) = prism.lights
    table = run(visits("prism"), tmp_path, extract_1d=changes | {"edge_light": "left"}).white_light
    assert light.points[k].size == changes["extract_width"]
    missing = column(table, "missing_fraction")
    assert missing.max() > 1e-4
    # what bad pixels take away is completed from one profile for all widths: ever so little of very little
    assert np.allclose(light.missing[k], missing, rtol=5e-3, atol=1e-9)
    assert np.allclose(light.flux[k], column(table, "whitelight_flux"), rtol=1e-6, atol=0.0)
    steady = {"rtol": 1e-4, "atol": 0.0}  # weights and steady spectrum hang on the profile as well
    weighted = light.weighted[k] / np.median(light.weighted[k])
    normalized = np.asarray(table["whitelight_normalized_NRS1"])
    assert np.allclose(weighted, normalized / np.median(normalized), rtol=1e-6, atol=0.0)
    assert np.allclose(np.sqrt(light.weighted_limit[k]) / np.median(light.weighted[k]),
                       table["whitelight_normalized_limit_NRS1"] / np.median(normalized), **steady)  # fmt: skip
    assert np.allclose(np.sqrt(light.limit_variance[k]), column(table, "photon_limit"), rtol=1e-5, atol=0.0)


def test_the_usual_width_is_what_a_run_takes(visits, prism, tmp_path):
    (light,) = prism.lights
    assert light.usual == 13.0
    without = run(visits("prism"), tmp_path / "1").white_light
    given = run(visits("prism"), tmp_path / "2", extract_1d={"extract_width": 13.0}).white_light
    assert np.array_equal(column(without, "whitelight_flux"), column(given, "whitelight_flux"))


def test_blocks_and_threads_change_no_bit(visits, prism):
    again = tso3.scan(
        str(visits("prism").association), width="5,9.5,13", background=["as-is", "none"], parameters=STILL,
        block_size=5, workers=1,
    )  # fmt: skip
    for name in ("flux", "limit_variance", "missing"):
        assert np.array_equal(getattr(again.lights[0], name), getattr(prism.lights[0], name))


@pytest.mark.filterwarnings("default:.*no photom reference")
@pytest.mark.parametrize(("name", "width"), [("lrs", 8.0), ("soss", 30.0)])
def test_turned_spectra_and_several_orders(visits, tmp_path, name, width):
    visit, fewer = visits(name), {"soss_order_3": False}
    result = tso3.scan(str(visit.association), width=[width, width + 6.0], parameters=STILL | {"extract_1d": fewer})
    table = run(visit, tmp_path, extract_1d=fewer | {"extract_width": width, "edge_light": "left"}).white_light
    orders = [f"_order_{k}" for k in (1, 2)] if name == "soss" else [""]
    assert [light.label for light in result.lights] == [end[1:].replace("_", " ") for end in orders]
    for light, end in zip(result.lights, orders, strict=True):
        assert np.allclose(light.flux[0], column(table, f"whitelight_flux{end}"), rtol=1e-5, atol=0.0)
        assert (light.flux[1] > light.flux[0]).all()


@pytest.mark.parametrize("moving", [False, True])
def test_photometry_is_that_of_a_run_with_that_radius(visits, tmp_path, moving):
    visit = visits("image")
    photometry = {"moving_centroid": moving}
    result = tso3.scan(
        str(visit.association), radius="2:3:0.5", annulus="4:5,4.5:7", parameters=STILL | {"tso_photometry": photometry}
    )
    (light,) = result.lights
    assert [(p.size, p.background) for p in light.points[2:4]] == [(3.0, "4-5"), (2.0, "4.5-7")]
    for k, sizes in ((1, {"radius": 2.5}), (5, {"radius": 3.0, "radius_inner": 4.5, "radius_outer": 7.0})):
        table = run(visit, tmp_path / str(k), tso_photometry=photometry | sizes).white_light
        assert np.array_equal(light.flux[k], table["net_aperture_sum"].value)
        assert np.array_equal(light.missing[k], table["missing_fraction"])
        assert np.allclose(np.sqrt(light.limit_variance[k]), table["photon_limit"].value, rtol=1e-14)


def test_the_command_prints_and_writes_a_table_and_nothing_else(visits, tmp_path, capsys):
    visit = visits("prism")
    code = main(["scan", str(visit.association), "--width", "6:12:2", "--background", "as-is,median", "--figure", "-o",
                 str(tmp_path), "--set", "survey.n_sample=8"])  # fmt: skip
    assert code == 0
    shown = capsys.readouterr().out
    assert "best width" in shown
    assert shown.count("median") >= 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ecsv", ".png"]
    table = QTable.read(next(tmp_path.glob("*_scan.ecsv")), format="ascii.ecsv")
    assert table["width"].value.tolist() == [6.0, 8.0, 10.0, 12.0] * 2
    assert (table["best"].sum(), table["chosen"].sum()) == (1, 1)
    assert (table["scatter"] > 0.0).all()
    assert table.meta["judged"] == "whitelight_normalized"
    assert (table["sum_scatter"] > 0.0).all()
    assert np.allclose(table["ratio"], (table["scatter"] / table["photon_limit"]).value)


def test_auto_takes_what_the_scan_chooses_and_says_so(visits, tmp_path):
    visit = visits("prism")
    (light,) = tso3.scan(str(visit.association), parameters=STILL).lights
    made = run(visit, tmp_path / "auto", extract_1d={"extract_width": "auto"})
    fixed = run(visit, tmp_path / "fixed", extract_1d={"extract_width": light.chosen.size})
    assert np.array_equal(column(made.white_light, "whitelight_flux"), column(fixed.white_light, "whitelight_flux"))
    assert list(made.white_light.meta["extract_width"].values()) == [light.chosen.size]
    assert made.exposures[0].chosen == f"extract_width {light.chosen.size:g}"
    assert made.warnings == ()


def test_auto_radius(visits, tmp_path):
    visit = visits("image")
    (light,) = tso3.scan(str(visit.association), parameters=STILL).lights
    made = run(visit, tmp_path / "auto", tso_photometry={"radius": "auto"})
    fixed = run(visit, tmp_path / "fixed", tso_photometry={"radius": light.chosen.size})
    assert np.array_equal(made.white_light["net_aperture_sum"].value, fixed.white_light["net_aperture_sum"].value)
    assert f"r={light.chosen.size} pixels" in str(made.white_light.meta)
    assert made.exposures[0].chosen == f"radius {light.chosen.size:g}"


def test_auto_with_too_few_integrations_keeps_the_usual_width(visits, tmp_path):
    with pytest.warns(tso3.Tso3Warning, match=r"at least 10 integrations.* keeps 13 pixels"):
        made = tso3.run(
            str(visits("prism").association), tmp_path, integrations="1:6",
            parameters=STILL | {"extract_1d": {"extract_width": "auto"}},
        )  # fmt: skip
    assert list(made.white_light.meta["extract_width"].values()) == [13.0]


def test_the_integral_field_has_no_width():
    mode = MODES["MIR_MRS"]
    exposure = SimpleNamespace(mode=mode, from_spectra=False)
    with pytest.raises(tso3.ParameterError, match="makes no sense for MIR_MRS"):
        scanned_grid(SimpleNamespace(mode=mode, exposures=(exposure,)), None, None, "as-is", None)
    with pytest.raises(tso3.ParameterError, match="has no meaning for MIR_MRS"):
        mrs_setups(exposure, None, Extract1D(extract_width=5.0), None)


def test_what_makes_no_sense_is_told_in_one_line(visits, tmp_path):
    prism, image = (str(visits(name).association) for name in ("prism", "image"))
    with pytest.raises(tso3.ParameterError, match="is for imaging; for NRS_BRIGHTOBJ give width"):
        tso3.scan(prism, radius="2:4")
    with pytest.raises(tso3.ParameterError, match="is for spectra; for NRC_TSIMAGE give radius"):
        tso3.scan(image, width="2:4")
    with pytest.raises(tso3.ParameterError, match="reach into the annulus, which begins at 4"):
        tso3.scan(image, radius="2:6", parameters=STILL)
    with pytest.raises(tso3.ParameterError, match="'column' is none of as-is, none, mean, median, line"):
        tso3.scan(prism, background="column")
    with pytest.raises(tso3.ParameterError, match="pixels about what"):
        tso3.run(
            prism, tmp_path, parameters=STILL | {"extract_1d": {"extract_width": 5.0}}, overrides={"extract1d": "N/A"}
        )
    assert main(["scan", prism, image, "-o", str(tmp_path)]) == 2


@pytest.mark.parametrize("text", ["", "a:b", "4:2", "0:3", "1:2:0", "1:2:3:4", "1:1e9", "nan:3", "-1,3"])
def test_grids_that_are_none(text):
    with pytest.raises(tso3.ParameterError):
        parse_sizes(text, "width")


def test_a_grid_that_falls_is_told():
    with pytest.raises(tso3.ParameterError, match=r"^width: '12:4': the last, 4, is below the first, 12; give FIRST"):
        parse_sizes("12:4", "width")


@pytest.mark.parametrize("text", ["5", "5:4", "0:4", "a:b", "1:2:3"])
def test_annuli_that_are_none(text):
    with pytest.raises(tso3.ParameterError):
        parse_annuli(text)
