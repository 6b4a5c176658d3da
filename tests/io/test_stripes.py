"""Files of several slits, as stage 2 writes them for NIRCam's Dispersed Hartmann Sensor: read, patched, written."""

from contextlib import ExitStack

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError, OutputError, Tso3Warning
from tso3.io.badpixels import read_bad_pixels
from tso3.io.crfints import CrfintsRecord, CrfintsWriter
from tso3.io.exposure import read_observation
from tso3.io.exposure_products import ExposureProducts
from tso3.io.reader import Reader
from tso3.io.segment import read_segment, read_segments
from tso3.io.tiles import Place, mark_rows

PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
HEIGHTS = {"3": 4, "4": 6, "5": 5}


def stripes(path, n_int=4, first=1, heights=HEIGHTS, n_times=None, seed=2, **meta):
    """Write a MultiSlitModel with the archive's data models."""
    from stdatamodels.jwst import datamodels

    rng = np.random.default_rng(seed)
    model = datamodels.MultiSlitModel()
    for name, ny in heights.items():
        shape = (n_int, ny, 7)
        slit = datamodels.SlitModel(rng.normal(10, 1, shape).astype("f4"))
        slit.err, slit.var_poisson, slit.var_rnoise, slit.var_flat = (rng.random(shape).astype("f4") for _ in range(4))
        slit.dq = rng.choice(np.array([0, 0, 0, 1, 4], "u4"), shape)
        slit.dq[:, 1, int(name)] = 0
        slit.wavelength = np.full(shape[1:], float(name), "f4")
        slit.name, slit.source_type, slit.xstart, slit.ystart = name, "POINT", 1, 41 * int(name)
        slit.xsize, slit.ysize = 7, ny
        slit.meta.wcsinfo.spectral_order, slit.meta.wcsinfo.dispersion_direction = 1, 1
        slit.meta.bunit_data, slit.meta.photometry.pixelarea_steradians = "MJy/sr", 2.3e-14
        model.slits.append(slit)
    names = [f"int_{phase}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for phase in ("start", "mid", "end")]
    times = np.zeros(n_times or n_int, [("integration_number", "i4"), *((name, "f8") for name in names)])
    times["integration_number"] = np.arange(first, first + len(times))
    for name in names:
        times[name] = 59791.0 + times["integration_number"] * 1e-4
    model.int_times = fits.FITS_rec.from_columns(fits.ColDefs(times))
    keywords = {
        "meta.exposure.type": "NRC_TSGRISM", "meta.visit.tsovisit": True, "meta.instrument.name": "NIRCAM",
        "meta.instrument.detector": "NRCA1", "meta.telescope": "JWST", "meta.subarray.name": "SUB164STRIPE4_DHS",
        "meta.exposure.integration_start": first, "meta.exposure.integration_end": first + n_int - 1, **meta,
    }  # fmt: skip
    for key, value in keywords.items():
        model[key] = value
    model.save(path)
    model.close()
    return path


@pytest.fixture
def files(tmp_path):
    return [
        stripes(tmp_path / "a-seg001_nrca1_calints.fits", 4, 1),
        stripes(tmp_path / "a-seg002_nrca1_calints.fits", 3, 5, seed=3, **{"meta.exposure.segment_number": 2}),
    ]


def test_each_slit_is_an_exposure(files):
    exposures = read_observation(files).exposures
    assert [e.stripe for e in exposures] == ["3", "4", "5"]
    assert [(e.n_int, e.ny, e.nx) for e in exposures] == [(7, 4, 7), (7, 6, 7), (7, 5, 7)]
    assert len({e.name for e in exposures}) == 1
    assert exposures[1].label == "a_nrca1 stripe 4"
    for exposure, name in zip(exposures, HEIGHTS, strict=True):
        assert exposure.slit_name == name
        assert exposure.header("PIXAR_SR") == 2.3e-14
        assert exposure.wcs is None
        np.testing.assert_array_equal(exposure.wavelength, float(name))
        np.testing.assert_allclose(exposure.times.mid_mjd_utc, 59791.0 + np.arange(1, 8) * 1e-4, rtol=0, atol=1e-9)
        assert exposure.times.source == "INT_TIMES"
        version = exposure.segments[0].slit
        expected = np.concatenate([fits.getdata(path, "SCI", version) for path in files])
        with Reader(exposure) as reader:
            np.testing.assert_array_equal(reader.native(reader.read(0, 7)["SCI"]), expected)


def test_one_slit_alone_is_a_stripe_too(tmp_path):
    (exposure,) = read_observation(stripes(tmp_path / "a_calints.fits", heights={"6": 5})).exposures
    assert (exposure.stripe, exposure.n_slits) == ("6", 1)


def write_slits(exposures, writers, skip=()):
    for exposure in exposures:
        if exposure.stripe in skip:
            continue
        with Reader(exposure) as reader:
            for start, stop in ((0, 2), (2, 7)):
                raw = reader.read(start, stop)
                outlier = np.zeros(raw["SCI"].shape, np.bool_)
                outlier[0, 1, int(exposure.stripe)] = True
                mark_rows(raw, Place(0, raw["SCI"].shape[1], 0), outlier, None, {}, (0, 0, 0), top_bit=True)
                for writer in writers:
                    writer.write(start, stop, raw, None, exposure.segments[0].slit)


def test_crfints_is_one_file_with_all_slits(files, tmp_path):
    exposures = read_observation(files).exposures
    paths = [tmp_path / f"p{k}.fits" for k in range(2)]
    with ExitStack() as stack:
        writers = [stack.enter_context(CrfintsWriter(exposures, k, p, CrfintsRecord())) for k, p in enumerate(paths)]
        write_slits(exposures, writers)
        assert not any(path.exists() for path in paths)
    for path, product in zip(files, paths, strict=True):  # what was marked lies in the first
        with fits.open(path) as before, fits.open(product) as after:
            assert [(h.name, h.ver) for h in before] == [(h.name, h.ver) for h in after]
            assert after[0].header["S_OUTLIR"] == "COMPLETE"
            for k, name in enumerate(HEIGHTS, start=1):
                dq = after["DQ", k].data
                np.testing.assert_array_equal(after["WAVELENGTH", k].data, before["WAVELENGTH", k].data)
                assert (dq[0, 1, int(name)] & 17) == (17 if path == files[0] else 0)
                for plane in PLANES:
                    old, new = before[plane, k].data, after[plane, k].data
                    good = (dq & 1) == 0
                    np.testing.assert_array_equal(new[good], old[good])
                    assert plane == "DQ" or np.isnan(new[~good]).all()


def test_crfints_opens_as_a_data_model_and_as_input(files, tmp_path):
    from stdatamodels.jwst import datamodels

    exposures = read_observation(files[0]).exposures
    product = tmp_path / "a-seg001_nrca1_o001_crfints.fits"
    with CrfintsWriter(exposures, 0, product) as writer:
        for exposure in exposures:
            with Reader(exposure) as reader:
                writer.write(0, 4, reader.read(0, 4), slit=exposure.segments[0].slit)
    with datamodels.open(product) as model:
        assert isinstance(model, datamodels.MultiSlitModel)
        assert [slit.name for slit in model.slits] == list(HEIGHTS)
        assert model.slits[1].data.shape == (4, 6, 7)
    assert [e.stripe for e in read_observation(product).exposures] == list(HEIGHTS)


def test_a_slit_that_is_not_written_leaves_no_file(files, tmp_path):
    exposures = read_observation(files).exposures
    product = tmp_path / "out" / "p.fits"
    product.parent.mkdir()
    with (
        pytest.raises(RuntimeError, match=r"not written exactly once: \{'SCI,2': 24"),
        CrfintsWriter(exposures, 0, product) as writer,
    ):
        write_slits(exposures, [writer], skip=("4",))
    assert not list(product.parent.iterdir())
    with pytest.raises(ValueError, match="has 3 slits, given are 1"):
        CrfintsWriter(exposures[0], 0, product)
    with pytest.raises(OutputError, match="would replace an input"), CrfintsWriter(exposures, 0, files[0]):
        pass


def test_medians_have_a_file_for_each_stripe(files, tmp_path):
    exposures = read_observation(files).exposures
    with ExposureProducts(exposures, tmp_path, "o1", CrfintsRecord(), crfints=False, medians=True) as products:
        for exposure in exposures:
            median = np.full((7, exposure.ny, exposure.nx), float(exposure.stripe))
            products.of(exposure).write_median(0, 7, median, slice(0, exposure.ny))
    assert [path.name for path in products.median_paths][:3] == [
        "a-seg001_nrca1_o1_stripe3_median.fits",
        "a-seg002_nrca1_o1_stripe3_median.fits",
        "a-seg001_nrca1_o1_stripe4_median.fits",
    ]
    assert (fits.getdata(products.median_paths[-1], "SCI") == 5.0).all()


def test_a_mask_has_the_shape_of_the_subarray(tmp_path):
    keywords = {
        "meta.subarray.xsize": 7,
        "meta.subarray.ysize": 300,
        "meta.subarray.xstart": 1,
        "meta.subarray.ystart": 1,
    }
    exposures = read_observation(stripes(tmp_path / "a_calints.fits", **keywords)).exposures
    mask = np.zeros((300, 7), "u1")
    mask[41 * 4 - 1 + 2, 3] = 1  # row 2 of stripe 4
    fits.writeto(tmp_path / "mask.fits", mask)
    bad = [read_bad_pixels(tmp_path / "mask.fits", exposure) for exposure in exposures]
    assert [int(each.sum()) for each in bad] == [0, 1, 0]
    assert bad[1][2, 3]
    fits.writeto(tmp_path / "full.fits", np.zeros((2048, 2048), "u1"))
    with pytest.raises(InputError, match=r"give a mask of the subarray, \(300, 7\)"):
        read_bad_pixels(tmp_path / "full.fits", exposures[0])


def test_what_does_not_fit_is_refused(files, tmp_path):
    other = stripes(tmp_path / "a-seg002_nrca1_calints.fits", 3, 5, heights={"3": 4, "4": 6})
    with pytest.raises(InputError, match="holds 2 slits, a-seg001_nrca1_calints"):
        read_observation([files[0], other])
    other = stripes(tmp_path / "a-seg002_nrca1_calints.fits", 3, 5, heights={"3": 4, "6": 6, "5": 5})
    with pytest.raises(InputError, match="SLTNAME"):
        read_observation([files[0], other])
    with pytest.raises(InputError, match="holds 3 slits; one is needed"):
        read_segment(files[0])
    with fits.open(files[0], mode="update") as hdus:
        hdus["SCI", 2].header["EXTVER"] = 1
    with pytest.raises(InputError, match="not the slits of one exposure"):
        read_segments(files[0])


def test_times_that_the_tree_lacks_are_told(tmp_path):
    path = stripes(tmp_path / "a_calints.fits", 4, n_times=2)
    with pytest.warns(Tso3Warning, match="has no row for 3-4"):
        read_segments(path)
