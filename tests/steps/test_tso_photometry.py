"""The photometry step on small stacks: position, units, bad pixels, tables, failures."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from tso3.core.aperture import PhotometryQuality as Q
from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.errors import InputError, OutputError, ParameterError, ReferenceFileError, Tso3Warning
from tso3.io.catalog import write_catalog
from tso3.io.exposure import read_exposures
from tso3.io.references import Reference, References
from tso3.parameters import TsoPhotometry
from tso3.steps import tso_photometry

SIZE, X, Y = 32, 16.3, 14.8
AREA = 2.29e-14
JY = 1e6 * AREA
NO_REFERENCES = References({"gain": Reference("gain", None, "none")})
IMAGING = {
    "exp_type": "NRC_TSIMAGE", "datamodl": "CubeModel", "instrume": "NIRCAM", "detector": "NRCB1",
    "channel": "SHORT", "filter": "F210M", "grating": None, "subarray": "SUB64P", "targname": "STAR",
    "pixar_sr": AREA, "xref_sci": 17.0, "yref_sci": 16.0,
}  # fmt: skip


def scene(n_int, *, flux=3e4, background=10.0, noise=2.0, drift=0.0, seed=0):
    """A stack with a star, photon and read noise; its components of variance."""
    from scipy.special import erf

    rng = np.random.default_rng(seed)
    edges = np.arange(SIZE + 1) - 0.5
    data = np.empty((n_int, SIZE, SIZE))
    for i in range(n_int):
        profiles = [np.diff(erf((edges - at) / 1.1 / 2**0.5)) / 2 for at in (Y, X + drift * i)]
        data[i] = background + flux * np.outer(*profiles)
    poisson = np.abs(data) * 0.5
    variances = poisson.astype("f4"), np.full(data.shape, noise**2, "f4")
    data += rng.normal(size=data.shape) * np.sqrt(poisson + noise**2)
    err = np.sqrt(poisson + noise**2 + (1e-3 * data) ** 2)
    return data.astype("f4"), err.astype("f4"), *variances


def cut(stack, size):
    """Blocks of a stack; the segments of `exposure` end after 6 and after 12 integrations."""
    n_int = len(stack[0])
    starts = sorted({*range(0, n_int, size), *range(6, n_int, 6)})
    for start, stop in zip(starts, [*starts[1:], n_int], strict=True):
        data, err, poisson, rnoise = (plane[start:stop] for plane in stack)
        yield Block(start, data, err, None, np.isnan(data), poisson, rnoise, None)


@pytest.fixture
def exposure(tmp_path, make_calints):
    """Headers of an imaging exposure of two segments of six integrations."""

    def make(unit="MJy/sr", n_segments=2, **keywords):
        paths = []
        for k in range(n_segments):
            path = tmp_path / f"jw01366002001_03102_00001-seg00{k + 1}_nrcb1_calints.fits"
            own = {"intstart": 6 * k + 1, "intend": 6 * k + 6, "exsegnum": k + 1, "nints": 6 * n_segments}
            make_calints(path, 6, SIZE, SIZE, seed=k, **(IMAGING | own | {"expend": 59791.0 + 0.01} | keywords))
            if unit is not None:
                fits.setval(path, "BUNIT", value=unit, extname="SCI")
            else:
                fits.delval(path, "BUNIT", extname="SCI")
            paths.append(path)
        return read_exposures(paths)[0]

    return make


def survey(stack):
    """The exposure model that a survey of everything gives."""
    data = stack[0]
    bad = np.isnan(data).mean(axis=0) > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing valid in a pixel
        reference = np.nanmedian(data, axis=0).astype(float)
    return ExposureModel(reference, bad, np.arange(len(data)))


def measure(exposure, stack, model=None, size=5, **parameters):
    """Prepare, locate where needed, run, finish."""
    if model is None:
        parameters = {"missing": "drop"} | parameters
    plan = tso_photometry.prepare(exposure, NO_REFERENCES, TsoPhotometry(**parameters), model)
    while not plan.ready:
        plan = tso_photometry.settle(plan, [tso_photometry.locate(plan, b) for b in cut(stack, size)])
    parts = [tso_photometry.run(plan, block) for block in cut(stack, size)]
    with pytest.warns(Tso3Warning, match="no WCS"):
        return tso_photometry.finish(plan, parts[::-1], exposure.times)


def test_star_of_known_flux(exposure):
    stack = scene(12)
    table = measure(exposure(), stack, survey(stack))
    np.testing.assert_allclose(table["net_aperture_sum"], 3e4 * JY * 0.97, rtol=0.03)
    pull = (table["net_aperture_sum"] - table["net_aperture_sum"].mean()) / table["net_aperture_sum_err_temporal"]
    assert 0.5 < pull.std(ddof=1) < 1.7
    np.testing.assert_allclose(table["aperture_x"], X, atol=0.02)
    np.testing.assert_allclose(table["centroid_y"], Y, atol=0.02)
    np.testing.assert_allclose(table["psf_width_x"], 1.1, rtol=0.02)
    np.testing.assert_allclose(table["psf_flux"], 3e4 * JY, rtol=0.02)
    np.testing.assert_array_equal(table["net_aperture_sum_err_temporal"], table["photon_limit"])
    assert (table["net_aperture_sum_err"] > table["photon_limit"]).all()
    assert (table["quality"] == 0).all()
    np.testing.assert_array_equal(table["int_num"], np.arange(1, 13))


def test_scatter_of_many_integrations_is_the_photon_limit(exposure):
    made = exposure()
    stack = scene(12, seed=3)
    values = []
    for seed in range(40):
        plan = tso_photometry.prepare(made, NO_REFERENCES, TsoPhotometry(), survey(stack))
        parts = [tso_photometry.run(plan, block) for block in cut(scene(12, seed=100 + seed), 12)]
        values += [p.photometry.net_aperture_sum / np.median(p.photometry.photon_limit) for p in parts]
    assert np.std(np.concatenate(values)) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("span", ["survey", "exposure", "segment"])
@pytest.mark.parametrize("moving", [False, True])
def test_blocks_do_not_matter(exposure, span, moving):
    made, stack = exposure(), scene(12, drift=0.03)
    stack[0][3, 14, 16] = stack[1][3, 14, 16] = np.nan
    tables = [
        measure(made, stack, survey(stack), size, centroid_span=span, moving_centroid=moving) for size in (1, 5, 12)
    ]
    for table in tables[1:]:
        for column in table.columns:
            np.testing.assert_array_equal(column.values, tables[0][column.name], err_msg=column.name)


def test_where_the_fixed_aperture_sits(exposure):
    made, stack = exposure(), scene(12, drift=0.05)
    table = measure(made, stack, survey(stack), centroid_span="exposure")
    assert np.unique(table["aperture_x"]).tolist() == [np.median(table["centroid_x"])]
    table = measure(made, stack, survey(stack), centroid_span="segment")
    halves = [np.median(half) for half in np.split(table["centroid_x"], 2)]
    assert np.unique(table["aperture_x"]).tolist() == halves
    table = measure(made, stack, survey(stack), moving_centroid=True)
    np.testing.assert_array_equal(table["aperture_x"], table["centroid_x"])
    table = measure(made, stack, survey(stack), centroid_source=False)
    assert np.unique(table["aperture_x"]).tolist() == [16.0]
    with pytest.raises(KeyError):
        table["centroid_x"]


def test_14_missing_pixels_dropped_or_completed(exposure):
    """T22, both behaviours: ``drop`` is short and says so, ``complete`` restores the flux."""
    made, stack, whole = exposure(), scene(12), scene(12)
    model = survey(whole)
    for plane in stack[:2]:
        plane[4, 15, 16] = np.nan
        plane[9, 14:16, 15:18] = np.nan
        plane[10, 11:20, 12:21] = np.nan
    full = measure(made, whole, model)["net_aperture_sum"]
    dropped = measure(made, stack, model, missing="drop", centroid_span="survey")
    completed = measure(made, stack, model, max_missing=0.9)
    assert dropped["net_aperture_sum"][4] < 0.95 * full[4]
    assert dropped["quality"][4] & Q.INCOMPLETE
    assert completed["net_aperture_sum"][4] == pytest.approx(full[4], rel=0.01)
    assert completed["net_aperture_sum"][9] == pytest.approx(full[9], rel=0.03)
    assert completed["quality"][4] == Q.COMPLETED | Q.MUCH_MISSING
    assert completed["net_aperture_sum_err_temporal"][9] > 1.1 * completed["photon_limit"][9]
    assert np.isnan(completed["net_aperture_sum"][10])
    assert completed["quality"][10] & Q.NOT_MEASURED
    assert completed["quality"][10] & Q.DOUBTFUL_CENTROID
    np.testing.assert_allclose(
        completed["centroid_x"][[4, 9]], measure(made, whole, model)["centroid_x"][[4, 9]], atol=0.03
    )
    assert abs(dropped["centroid_x"][9] - completed["centroid_x"][9]) > 0.05
    assert dropped["quality"][9] & Q.DOUBTFUL_CENTROID


def test_a_steady_bad_pixel_changes_nothing_in_time(exposure):
    made, stack = exposure(), scene(12)
    for plane in stack[:2]:
        plane[:, 15, 17] = np.nan
    model = survey(stack)
    stack[0][5, 15, 17], stack[1][5, 15, 17] = 1e5, 1.0  # good once, and wild
    table = measure(made, stack, model)
    ratio = table["net_aperture_sum"] / np.median(table["net_aperture_sum"])
    assert abs(ratio[5] - 1) < 0.02
    assert (table["quality"] & Q.INCOMPLETE).all()


def test_22_a_failed_centroid_of_a_moving_aperture_is_one_row(exposure):
    """T22: the row is NaN and flagged, the others stand; the archive's pipeline stops."""
    made, stack = exposure(), scene(12)
    for plane in stack[:2]:
        plane[7] = np.nan
    table = measure(made, stack, survey(stack), moving_centroid=True)
    for name in ("aperture_x", "centroid_x", "net_aperture_sum", "psf_flux"):
        assert np.flatnonzero(np.isnan(table[name])).tolist() == [7]
    assert table["quality"][7] & (Q.NO_CENTROID | Q.NOT_MEASURED) == Q.NO_CENTROID | Q.NOT_MEASURED


@pytest.mark.parametrize("planned", [(-3.0, 16.0), (16.0, 36.0)])
def test_22_a_planned_position_outside_the_array(exposure, planned):
    """T22: nothing is found from there; rows are flagged, never an exception."""
    made, stack = exposure(xref_sci=planned[0] + 1, yref_sci=planned[1] + 1), scene(12)
    table = measure(made, stack, survey(stack))
    assert (table["quality"] & Q.PLANNED_POSITION).all()
    assert np.isnan(table["centroid_x"]).all()


def test_22_bad_pixels_of_the_annulus_do_not_count(exposure):
    """T22: NaN in the annulus; the mean is that of the others."""
    made, stack = exposure(), scene(12)
    whole = measure(made, stack, survey(stack))
    for plane in stack[:2]:
        plane[5, 19:21] = np.nan
    table = measure(made, stack, survey(stack))
    ratio = table["annulus_mean"][5] / whole["annulus_mean"][5]
    assert 0.5 < ratio < 2
    assert ratio != 1
    np.testing.assert_allclose(table["net_aperture_sum"][5], whole["net_aperture_sum"][5], rtol=0.03)


def test_noise_only_is_doubtful(exposure):
    made, stack = exposure(), scene(12, flux=0.0)
    table = measure(made, stack, survey(stack), missing="drop")
    assert (table["quality"][np.isfinite(table["centroid_x"])] & Q.DOUBTFUL_CENTROID).all()


def test_nothing_found_leaves_the_planned_position(exposure):
    made, stack = exposure(), scene(12)
    for plane in stack[:2]:
        plane[:] = np.nan
    for model in (None, survey(stack)):
        table = measure(made, stack, model, missing="drop")
        np.testing.assert_array_equal(table["aperture_x"], 16.0)
        assert np.isnan(table["net_aperture_sum"]).all()
        assert (table["quality"] & (Q.PLANNED_POSITION | Q.NOT_MEASURED | Q.NO_CENTROID | Q.NO_FIT)).all()


def test_without_a_survey(exposure):
    made, stack = exposure(), scene(12)
    with pytest.warns(Tso3Warning, match="no survey was made"):
        plan = tso_photometry.prepare(made, NO_REFERENCES, TsoPhotometry(), None)
    assert not plan.ready
    assert not plan.treatment.complete
    with pytest.raises(ValueError, match="settle first"):
        tso_photometry.run(plan, next(cut(stack, 3)))


def test_even_boxes_are_lowered(exposure):
    """T22."""
    with pytest.warns(Tso3Warning, match="fit_box_width = 8 is even; 7 is used"):
        plan = tso_photometry.prepare(exposure(), NO_REFERENCES, TsoPhotometry(fit_box_width=8, missing="drop"), None)
    assert plan.layout.fit == 7


def test_units(exposure, tmp_path):
    """T22: MJy/sr, DN/s, and any other."""
    drop = TsoPhotometry(missing="drop")
    assert tso_photometry.prepare(exposure(), NO_REFERENCES, drop, None).unit.name == "Jy"
    with pytest.warns(Tso3Warning, match="unit mJy is not known"):
        assert tso_photometry.prepare(exposure("mJy"), NO_REFERENCES, drop, None).unit.name == "mJy"
    with pytest.warns(Tso3Warning, match="needs PIXAR_SR"):
        assert tso_photometry.prepare(exposure(pixar_sr=None), NO_REFERENCES, drop, None).unit.name == "MJy/sr"
    with pytest.warns(Tso3Warning, match="--override-gain"):
        assert tso_photometry.prepare(exposure("DN/s"), NO_REFERENCES, drop, None).unit.name == "DN/s"
    header = fits.Header({"SUBSTRT1": 1, "SUBSTRT2": 1})
    gain = np.arange(40 * 50.0).reshape(40, 50)
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(gain, name="SCI")]).writeto(tmp_path / "gain.fits")
    references = References({"gain": Reference("gain", tmp_path / "gain.fits", "user")})
    unit = tso_photometry.prepare(exposure("DN/s", substrt1=3, substrt2=5), references, drop, None).unit
    assert unit.name == "electron"
    np.testing.assert_allclose(unit.scale, 16.0 * gain[4 : 4 + SIZE, 2 : 2 + SIZE], rtol=1e-6)
    with pytest.raises(ReferenceFileError, match="does not hold the array"):
        tso_photometry.prepare(exposure("DN/s", substrt1=30), references, drop, None)


def test_missing_keywords_are_one_clear_line(exposure):
    drop = TsoPhotometry(missing="drop")
    with pytest.raises(InputError, match="XREF_SCI is missing"):
        tso_photometry.prepare(exposure(xref_sci=None), NO_REFERENCES, drop, None)
    with pytest.raises(InputError, match="BUNIT"):
        tso_photometry.prepare(exposure(None), NO_REFERENCES, drop, None)


@pytest.mark.parametrize("off_array", ["sum", "archive"])
def test_weak_lens_in_sub64p_is_the_whole_array(exposure, off_array):
    """T22: the annulus is off the array; the default says what it does, the archive's rule does the same silently."""
    made, stack = exposure(pupil="WLP8"), scene(12)
    parameters = {"off_array": off_array, "centroid_source": False}
    if off_array == "sum":
        with pytest.warns(Tso3Warning, match="annulus from 70 to 90 pixels lies off.*the whole array is summed"):
            table = measure(made, stack, survey(stack), **parameters)
    else:
        table = measure(made, stack, survey(stack), **parameters)
    np.testing.assert_allclose(table["aperture_sum"], stack[0].astype(float).sum(axis=(1, 2)) * JY, rtol=1e-6)
    assert np.isnan(table["annulus_mean"]).all()
    assert "sum of all values" in table.meta["apertures"]
    catalogue = tso_photometry.catalogue([table])
    assert not hasattr(catalogue["aperture_bkg"], "unit") or catalogue["aperture_bkg"].unit is None


def test_22_an_annulus_off_the_array_leaves_the_sum(exposure):
    """T22: where only the annulus is off the array; the archive's rule has no net sum."""
    made, stack = exposure(), scene(12)
    sizes = {"radius": 6.0, "radius_inner": 60.0, "radius_outer": 70.0, "centroid_source": False}
    with pytest.warns(Tso3Warning, match="the sum within 6 pixels stands"):
        table = measure(made, stack, survey(stack), **sizes)
    np.testing.assert_array_equal(table["net_aperture_sum"], table["aperture_sum"])
    assert np.isnan(table["aperture_bkg"]).all()
    assert "No background" in table.meta["apertures"]
    theirs = measure(made, stack, survey(stack), off_array="archive", **sizes)
    assert np.isnan(theirs["net_aperture_sum"]).all()
    assert (theirs["quality"] & Q.NO_BACKGROUND).all()


def test_sizes_by_optics_parameter_and_reference(exposure, tmp_path):
    def radii(references=NO_REFERENCES, exposure_=None, **parameters):
        parameters = {"missing": "drop", "off_array": "archive"} | parameters
        made = exposure() if exposure_ is None else exposure_
        return tuple(tso_photometry.prepare(made, references, TsoPhotometry(**parameters), None).layout.radii)

    weak = exposure(filter="WLP4", pupil="CLEAR")
    assert radii(exposure_=weak) == (33.0, 35.0, 45.0)
    assert radii(exposure_=weak, sizes="fixed") == (3.0, 4.0, 5.0)
    assert radii(exposure_=exposure(pupil="WLP8", subarray="SUB160P")) == (65.0, 70.0, 90.0)
    assert radii() == (3.0, 4.0, 5.0)
    assert radii(radius=2.5) == (2.5, 4.0, 5.0)
    path = tmp_path / "tsophot.json"
    path.write_text('{"radii": [{"pupil": "ANY", "radius": 7, "radius_inner": 8, "radius_outer": 9}]}')
    given = References({"tsophot": Reference("tsophot", path, "user")})
    assert radii(given) == (7.0, 8.0, 9.0)
    assert radii(given, sizes="fixed") == (7.0, 8.0, 9.0)
    assert radii(given, radius=2.5) == (2.5, 8.0, 9.0)
    with pytest.raises(ParameterError, match=r"radius_inner.*not below radius_outer = 5"):
        radii(radius_inner=6.0)


def test_reference_pixels_count_nowhere(exposure):
    """Reference pixels see no light: left out of annulus and boxes, or, as the archive does, used."""
    made, stack = exposure(), scene(12)
    for segment in made.segments:
        with fits.open(segment.path, mode="update") as hdus:
            hdus["DQ"].data[:] = 0
            hdus["DQ"].data[:, :, 12:14] = 1 << 31
    stack[0][:, :, 12:14] = 1e4
    skipped = measure(made, stack, survey(stack), centroid_source=False)
    used = measure(made, stack, survey(stack), centroid_source=False, reference_pixels="use", annulus_clip=0.0)
    assert skipped["annulus_mean"].max() < 50 * JY
    assert used["annulus_mean"].min() > 500 * JY


def test_parts_must_make_up_the_exposure(exposure):
    made, stack = exposure(), scene(12)
    plan = tso_photometry.prepare(made, NO_REFERENCES, TsoPhotometry(), survey(stack))
    parts = [tso_photometry.run(plan, block) for block in cut(stack, 3)]
    with pytest.raises(ValueError, match="were not measured"):
        tso_photometry.finish(plan, parts[:1] + parts[2:], made.times)
    with pytest.raises(ValueError, match="of 12"):
        tso_photometry.finish(plan, parts[:-1], made.times)


def test_catalogue_survives_the_disk(exposure, tmp_path):
    made, stack = exposure(), scene(12)
    table = measure(made, stack, survey(stack))
    catalogue = tso_photometry.catalogue([table])
    path = write_catalog(tmp_path / "a_phot.ecsv", catalogue)
    back = QTable.read(path, format="ascii.ecsv")
    assert back.colnames == catalogue.colnames
    for name in back.colnames:
        np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(catalogue[name]))
        assert getattr(back[name], "unit", None) == getattr(catalogue[name], "unit", None)
    assert back.meta["target_name"] == "STAR"
    assert back.meta["pupil"] is None
    assert back.meta["quality_bits"][1] == "completed"
    assert back.meta["number_of_integrations"] == 12
    with pytest.raises(OutputError, match="folder does not exist"):
        write_catalog(tmp_path / "no" / "a_whtlt.ecsv", catalogue)


def test_several_exposures_in_one_catalogue(exposure):
    made, stack = exposure(), scene(12)
    table = measure(made, stack, survey(stack))
    planned = measure(made, stack, survey(stack), centroid_source=False)
    other = type(planned)(planned.columns, planned.meta | {"detector": "NRCB2"}, "NRCB2")
    both = tso_photometry.catalogue([table, other])
    assert len(both) == 24
    assert both["detector"].tolist() == ["NRCB1"] * 12 + ["NRCB2"] * 12
    assert both.meta["detector"] == "NRCB1, NRCB2"
    assert np.isnan(both["centroid_x"][12:]).all()


def test_catalogues_of_segments(exposure):
    made, stack = exposure(), scene(12)
    table = measure(made, stack, survey(stack))
    catalogues = tso_photometry.segment_catalogues(table, made)
    assert [stem for stem, _ in catalogues] == [s.stem for s in made.segments]
    assert [len(part) for _, part in catalogues] == [6, 6]
    np.testing.assert_array_equal(catalogues[1][1]["int_num"], np.arange(7, 13))


def test_errors_of_the_centroid_are_its_scatter(exposure):
    tables = [measure(exposure(), scene(12, seed=seed)) for seed in range(8)]
    for axis in "xy":
        scatter = np.std(np.concatenate([table[f"centroid_{axis}"] for table in tables]))
        error = np.median(np.concatenate([table[f"centroid_{axis}_err"] for table in tables]))
        assert scatter == pytest.approx(error, rel=0.25)


def test_saturated_pixels_in_the_aperture_are_told(exposure):
    made, stack = exposure(), scene(12)
    dq = np.zeros(stack[0].shape, np.uint32)
    dq[2, 15, 16] = dq[5, 0, 0] = 2
    model = survey(stack)
    plan = tso_photometry.prepare(made, NO_REFERENCES, TsoPhotometry(), model)
    data, err, poisson, rnoise = (plane[:6] for plane in stack)
    block = Block(0, data, err, dq[:6], np.isnan(data), poisson, rnoise, None)
    quality = tso_photometry.run(plan, block).photometry.quality
    assert np.flatnonzero(quality & Q.SATURATED).tolist() == [2]
