"""The table of covariates and the noise of light curves of simulated visits, against the truth of the simulator."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

import tso3
from tso3.core.light_noise import noise_measures
from tso3.simulate import simulate

SCENES = {
    "spectrum": ("NRS_BRIGHTOBJ", {"configuration": "G395H", "n_int": 40, "detectors": ["NRS1"], "jitter": 0.005}),
    "image": ("NRC_TSIMAGE", {"configuration": "F210M", "n_int": 120, "jitter": 0.015, "one_over_f": 0.0}),
}
PEACE = {"seed": 7, "drift": 0.01}


@pytest.fixture(scope="module", params=SCENES)
def scene(request, tmp_path_factory):
    """Table, truth and bound of the shifts: from the derivatives of frames without noise, and the variances."""
    mode, options = SCENES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    visit = simulate(mode, folder / "in", depth=0.01, **options, **PEACE)
    unused = {"extract_1d": {"skip": True}, "rectify": {"skip": True}}
    result = tso3.run(visit.association, folder / "out", parameters=unused)
    truth = dict(np.load(next(iter(visit.truths.values()))))
    few = options | {"n_int": 12}
    pure = simulate(mode, folder / "pure", depth=0.0, noise=False, cosmic_rays=0.0, bad_pixels=0.0, **few, **PEACE)
    frames = np.concatenate([fits.getdata(path, "SCI").astype(float) for path in pure.members])
    variance = sum(fits.getdata(pure.members[0], f"VAR_{name}")[0].astype(float) for name in ("POISSON", "RNOISE"))
    motion = dict(np.load(next(iter(pure.truths.values()))))
    course = np.stack([np.ones(12), motion["offset_x"], motion["offset_y"]], axis=1)
    images = np.linalg.lstsq(course, frames.reshape(12, -1), rcond=None)[0]
    u = np.broadcast_to(np.linspace(-1.0, 1.0, frames.shape[2]), frames.shape[1:]).ravel()
    colours = range(5 if request.param == "spectrum" else 1)
    basis = np.stack([images[1], images[2], np.ones(u.size), *(images[0] * u**k for k in colours)])
    known = np.isfinite(images[0]) & (variance.ravel() > 0.0)
    basis = basis[:, known] / np.sqrt(variance.ravel()[known])
    size = np.sqrt((basis**2).sum(axis=1))
    basis /= size[:, np.newaxis]
    bound = np.sqrt(np.linalg.inv(basis @ basis.T).diagonal()) / size
    return result, truth, dict(zip(("x", "y"), bound[:2], strict=True))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_shifts_reach_the_bound_of_the_scene(scene, axis):
    result, truth, bound = scene
    table = result.covariates
    name = next(name for name in table.colnames if name.startswith(f"shift_{axis}") and "error" not in name)
    shift, error = (
        np.asarray(table[each].value) for each in (name, name.replace("shift_" + axis, f"shift_{axis}_error"))
    )
    true = truth[f"offset_{axis}"]
    rms = (shift - true - (shift - true).mean()).std(ddof=1)
    slack = 1.0 + 2.0 / np.sqrt(2.0 * (len(true) - 1))
    assert rms <= 1.2 * slack * bound[axis]
    assert np.median(error) >= 0.99 * bound[axis]
    assert 0.6 < rms / np.median(error) < 1.3


def test_brightness_is_the_light_of_the_star(scene):
    result, truth, _ = scene
    table = result.covariates
    name = next(name for name in table.colnames if name.startswith("brightness") and "error" not in name)
    bright, error = table[name], table[name.replace("brightness", "brightness_error")]
    light = truth["white_light"] / np.median(truth["white_light"])
    pull = (bright / np.median(bright) - light) / error
    assert pull.std() < 1.3
    assert np.polyfit(light, bright / np.median(bright), 1)[0] == pytest.approx(1.0, abs=0.1)


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """PRISM, three segments."""
    folder = tmp_path_factory.mktemp("prism")
    return simulate("NRS_BRIGHTOBJ", folder, configuration="PRISM", n_int=45, segments=3, seed=3, depth=0.01)


def run(visit, folder, **options):
    return tso3.run(visit.association, folder, overrides=visit.references, **options)


def test_the_table_is_the_same_on_a_cluster_and_in_blocks(visit, tmp_path):
    texts = [
        run(visit, tmp_path / str(k), **options).products["qa"][0].read_text()
        for k, options in enumerate(({"workers": 1, "block_size": 7}, {"cluster": "local:2"}))
    ]
    assert texts[0] == texts[1]


@pytest.fixture(scope="module")
def reduced(visit, tmp_path_factory):
    """The visit in the default preset."""
    return run(visit, tmp_path_factory.mktemp("reduced"))


def test_rows_flags_and_missing_light_are_those_of_the_run(reduced):
    result = reduced
    table, light = result.covariates, result.white_light
    assert table["int_num"].tolist() == list(range(1, 46))
    np.testing.assert_array_equal(table["BJD_TDB_NRS1"], light["BJD_TDB_NRS1"])
    np.testing.assert_array_equal(table["missing_fraction_NRS1"], light["missing_fraction_NRS1"])
    assert tuple(table["n_flagged_NRS1"]) == result.exposures[0].n_outlier_per_integration
    assert table.meta["template"] == "fitted"
    assert np.isfinite(np.asarray(table["brightness_NRS1"])).all()


@pytest.mark.parametrize(
    ("parameters", "why", "flags"),
    [
        ({"outlier_detection": {"method": "rolling_median"}}, "none: outlier_detection.method = rolling_median", True),
        ({"outlier_detection": {"skip": True}}, "none: outlier_detection.skip = true", False),
    ],
)
def test_without_a_template_the_table_says_so(visit, tmp_path, parameters, why, flags):
    table = run(visit, tmp_path, parameters=parameters).covariates
    assert table.meta["template"] == why
    assert ("n_flagged_NRS1" in table.colnames) is flags
    assert "missing_fraction_NRS1" in table.colnames
    assert not [name for name in table.colnames if name.startswith(("shift", "brightness"))]


def test_the_archive_preset_makes_no_table(visit, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tso3.Tso3Warning)
        result = run(visit, tmp_path, preset="archive")
    assert "qa" not in result.products
    assert not list(tmp_path.glob("*_qa.ecsv"))
    with pytest.raises(ValueError, match="no covariates"):
        _ = result.covariates


def test_noise_is_in_the_result_and_in_the_product(reduced):
    result = reduced
    table = QTable.read(result.products["whtlt"][0], format="ascii.ecsv")
    flux = np.asarray(table["whitelight_flux_NRS1"].value)
    expected = noise_measures(flux, np.asarray(table["photon_limit_NRS1"].value) ** 2)
    noise = result.noise["whitelight_flux_NRS1"]
    assert noise.standard_deviation == pytest.approx(expected.standard_deviation, rel=1e-5)
    assert table.meta["noise"]["whitelight_flux_NRS1"]["standard_deviation_ppm"] == pytest.approx(
        1e6 * noise.standard_deviation
    )
    assert 1e6 * noise.point_to_point == pytest.approx(result.exposures[0].scatter_ppm, abs=1e-3)
