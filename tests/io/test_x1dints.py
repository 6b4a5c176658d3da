"""The product of spectra: laid out first, filled in any order, read by the archive's and others' tools."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from tso3.core.spectra import Spectra, SpectrumHeader
from tso3.errors import InputError, OutputError
from tso3.io.exposure import read_observation
from tso3.io.metadata import Provenance, ReferenceUse
from tso3.io.spectra_dataset import open_spectra
from tso3.io.x1dints import SpectrumPlan, x1dints_writer
from tso3.io.x1dtable import ARCHIVE_COLUMNS, COMPANION_COLUMNS
from tso3.io.x1dtree import read_cal_logs, spectral_wcs

STEPS = {"outlier_detection": "COMPLETE", "extract_1d": "COMPLETE"}
PROVENANCE = Provenance(
    "0.1.0", "default", {"survey": {"n_sample": 128}}, {"extract1d": ReferenceUse("built-in", "built-in")}
)
PRODUCT = "jw01366-o003_t001_nirspec_x1dints.fits"
N_WAVE = {"NRS1": 40, "NRS2": 33}


def spectrum_header(exposure, order=1, **changes):
    header = SpectrumHeader(
        slit_name="S1600A1", spectral_order=order, dispersion_axis=1, detector=exposure.detector, source_type="POINT",
        source_id=1, source_xpos=0.0, source_ypos=0.01, source_ra=217.3, source_dec=-3.4, extraction_xstart=3.0,
        extraction_xstop=42.0, extraction_ystart=12.6925, extraction_ystop=19.6925, slit_ra=217.3, slit_dec=-3.4,
        position_angle=120.5, wavelength_corrected=False, flux_unit="Jy", sb_unit="MJy/sr",
    )  # fmt: skip
    return replace(header, **changes)


def plan(exposure, order=1, n_wave=None, **changes):
    n_wave = n_wave or N_WAVE[exposure.detector]
    return SpectrumPlan(exposure, spectrum_header(exposure, order, **changes), 2.9 + 0.01 * np.arange(n_wave))


def random_spectra(plan, seed=1):
    """Spectra of all integrations of an exposure."""
    rng = np.random.default_rng([seed, plan.header.spectral_order, plan.wavelength.size])
    shape = (plan.exposure.n_int, plan.wavelength.size)
    names = [c.key for c in (*ARCHIVE_COLUMNS, *COMPANION_COLUMNS) if c.vector and c.key not in ("wavelength", "dq")]
    arrays = {name: rng.normal(size=shape) for name in names}
    arrays["flux"][1, 0] = np.nan
    dq = rng.choice(np.array([0, 1, 2**31, 2**32 - 1], np.uint32), shape)
    return Spectra(start=0, header=plan.header, wavelength=plan.wavelength, dq=dq, **arrays)


def block(spectra, start, stop):
    """Integrations ``start`` to ``stop`` of spectra."""
    fields = {name: value[start:stop] for name, value in vars(spectra).items() if getattr(value, "ndim", 0) == 2}
    return replace(spectra, start=start, **fields)


def writer(folder, observation, plans, layout="detector", **changes):
    settings = {"source_type_column": layout == "detector", "steps": STEPS, "provenance": PROVENANCE, **changes}
    return x1dints_writer(folder / PRODUCT, observation, plans, layout=layout, **settings)


def write(folder, observation, plans, size=5, **changes):
    with writer(folder, observation, plans, **changes) as product:
        for one in plans:
            spectra = random_spectra(one)
            for start in range(0, spectra.n_int, size):
                product.write(one.exposure.name, block(spectra, start, min(start + size, spectra.n_int)))
    return folder / PRODUCT


@pytest.fixture
def observation(tmp_path, make_calints):
    """Two detectors, three segments of 4, 3 and 5 integrations each."""
    paths = []
    for detector in ("NRS1", "NRS2"):
        first = 1
        for i, n in enumerate((4, 3, 5)):
            paths.append(tmp_path / f"jw01366003001_04101_00001-seg00{i + 1}_{detector.lower()}_calints.fits")
            hdus = make_calints(paths[-1], n, seed=i, detector=detector, intstart=first, intend=first + n - 1, nints=12,
                                exsegnum=i + 1, expend=59791.0 + 12 * 16.2 / 86400)  # fmt: skip
            hdus["SCI"].header["S_REGION"] = "POLYGON ICRS  1.0 2.0 3.0 4.0"
            hdus["SCI"].header["SRCALIAS"] = "a star"
            hdus.writeto(paths[-1], overwrite=True)
            first += n
    return read_observation(paths)


@pytest.fixture
def plans(observation):
    return [plan(exposure) for exposure in observation.exposures]


@pytest.fixture
def product(tmp_path, observation, plans):
    return write(tmp_path, observation, plans)


def data_of(path):
    """Headers and data of all units but ASDF, dates apart."""
    with fits.open(path) as file:
        units = []
        for hdu in file:
            if hdu.name == "ASDF":
                continue
            head = hdu.header.copy()
            head.remove("DATE", ignore_missing=True)
            content = b"" if hdu.data is None or hdu.name == "HDRTAB" else np.asarray(hdu.data).tobytes()
            units.append((head.tostring(), hashlib.sha256(content).hexdigest()))
        return units


def test_columns_are_those_of_the_schema():
    from stdatamodels.jwst.datamodels import TSOSpecModel

    declared = TSOSpecModel().schema["properties"]["spec_table"]["datatype"]
    ours = [(c.name, {"D": "float64", "J": "uint32" if c.unsigned else "int32"}[c.code]) for c in ARCHIVE_COLUMNS]
    assert ours == [(column["name"], column["datatype"]) for column in declared]


def test_one_table_per_detector(product, plans):
    with fits.open(product) as file:
        assert [(h.name, h.ver) for h in file] == [
            ("PRIMARY", 1), ("INT_TIMES", 1), ("EXTRACT1D", 1), ("EXTRACT1D", 2), ("HDRTAB", 1),
            ("TSO3_EXTRACT1D", 1), ("TSO3_EXTRACT1D_2", 2), ("ASDF", 1),
        ]  # fmt: skip
        for i, one in enumerate(plans):
            spectra, table, companion = random_spectra(one), file["EXTRACT1D", i + 1], file[5 + i]
            assert companion.header["X1DVER"] == i + 1
            assert companion.header["DETECTOR"] == table.header["DETECTOR"] == one.exposure.detector
            for column in ARCHIVE_COLUMNS:
                if column.vector:
                    expected = np.broadcast_to(getattr(spectra, column.key), spectra.flux.shape)
                    np.testing.assert_array_equal(table.data[column.name], expected)
            for column in COMPANION_COLUMNS[2:]:
                np.testing.assert_array_equal(companion.data[column.name], getattr(spectra, column.key))
            times = one.exposure.times
            np.testing.assert_array_equal(table.data["INT_NUM"], np.arange(1, 13))
            np.testing.assert_array_equal(companion.data["INT_NUM"], np.arange(1, 13))
            np.testing.assert_array_equal(table.data["SEGMENT"], [1] * 4 + [2] * 3 + [3] * 5)
            np.testing.assert_array_equal(table.data["N_ALONGDISP"], N_WAVE[one.exposure.detector])
            np.testing.assert_array_equal(table.data["MJD-AVG"], times.mid_mjd_utc)
            np.testing.assert_array_equal(table.data["TDB-END"], times.end_bjd_tdb)
            assert set(table.data["SOURCE_TYPE"]) == {"POINT"}


def test_one_table_per_segment_in_the_order_of_the_association(tmp_path, observation, plans):
    files = sorted((segment.path for segment in observation.segments), key=lambda path: path.name)
    path = write(tmp_path, observation, plans, layout="segment", files=files)
    with fits.open(path) as file:
        tables = [h for h in file if h.name == "EXTRACT1D"]
        assert [h.header["DETECTOR"] for h in tables] == ["NRS1", "NRS2"] * 3
        assert [len(h.data) for h in tables] == [4, 4, 3, 3, 5, 5]
        assert ["S_REGION" in h.header for h in tables] == [True] + [False] * 5
        assert "SOURCE_TYPE" not in tables[0].columns.names
        np.testing.assert_array_equal(tables[4].data["INT_NUM"], np.arange(8, 13))
        np.testing.assert_array_equal(tables[4].data["FLUX"], random_spectra(plans[0]).flux[7:])
        assert list(file["HDRTAB"].data["FILENAME"]) == [path.name for path in files]


def test_header_of_a_spectrum(product):
    with fits.open(product) as file:
        header = file["EXTRACT1D", 1].header
        assert header["SLTNAME"] == "S1600A1"
        assert header["SRCALIAS"] == "a star"
        assert (header["EXTRXSTR"], header["EXTRYSTR"]) == (3, 12.6925)
        assert isinstance(header["EXTRXSTR"], int)
        assert (header["TUNIT3"], header["TUNIT5"], header["TUNIT10"]) == ("Jy", "Jy^2", "MJy^2 / sr^2")
        assert "TUNIT19" not in header
        assert file[0].header["TSO3VER"] == "0.1.0"
        assert file[0].header["DETECTOR"] == "MULTIPLE"
        assert len(file["INT_TIMES"].data) == 12


def test_blocks_threads_and_order_make_no_difference(tmp_path, observation, plans, product):
    expected = data_of(product)
    other = tmp_path / "other"
    other.mkdir()
    with writer(other, observation, plans) as product:
        jobs = [
            (one.exposure.name, block(random_spectra(one), start, min(start + 2, 12)))
            for one in reversed(plans)
            for start in (10, 4, 0, 6, 2, 8)
        ]
        threads = [threading.Thread(target=product.write, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert data_of(other / PRODUCT) == expected
    large = tmp_path / "large"
    large.mkdir()
    assert data_of(write(large, observation, plans, size=100)) == expected


def test_rows_in_pieces_of_the_buffer(tmp_path, observation, plans, product, monkeypatch):
    monkeypatch.setattr("tso3.io.x1drows._BUFFER", 1)
    other = tmp_path / "other"
    other.mkdir()
    assert data_of(write(other, observation, plans)) == data_of(product)


def test_inputs_are_not_changed(tmp_path, observation, plans):
    spectra = random_spectra(plans[0])
    before = {name: value.copy() for name, value in vars(spectra).items() if isinstance(value, np.ndarray)}
    with pytest.raises(RuntimeError), writer(tmp_path, observation, plans) as product:
        product.write(plans[0].exposure.name, spectra)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(spectra, name), value)


def test_a_file_with_rows_missing_does_not_appear(tmp_path, observation, plans):
    spectra = random_spectra(plans[0])
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(RuntimeError, match="12 rows of jw01366003001_04101_00001_nrs2 were never written"),
        writer(tmp_path, observation, plans) as product,
    ):
        product.write(plans[0].exposure.name, spectra)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_run_leaves_the_earlier_product(tmp_path, observation, plans, product):
    before = product.read_bytes()
    with pytest.raises(KeyboardInterrupt), writer(tmp_path, observation, plans):
        raise KeyboardInterrupt
    assert product.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_noticed_before_the_first_row(tmp_path, observation, plans, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError, match="disk is full"), writer(tmp_path, observation, plans):
        pytest.fail("the block must not be entered")
    assert not (tmp_path / PRODUCT).exists()


def test_rows_that_the_tables_do_not_have_are_refused(tmp_path, observation, plans):
    one = plans[0]
    spectra = random_spectra(one)
    bad = {
        "integrations 1-12 of": (one.exposure.name, replace(spectra, start=1)),
        "integrations 0-11 of nowhere": ("nowhere", spectra),
        "33 wavelengths, but the table of": (one.exposure.name, random_spectra(plans[1])),
    }
    for text, arguments in bad.items():
        with pytest.raises(ValueError, match=text), writer(tmp_path, observation, plans) as product:
            product.write(*arguments)
    assert not (tmp_path / PRODUCT).exists()


def test_metadata_known_at_the_end(tmp_path, observation, plans):
    with writer(tmp_path, observation, plans) as product:
        for one in plans:
            product.write(one.exposure.name, random_spectra(one))
        product.update(1, {"spec.extraction_ystart": 11.25})
        with pytest.raises(ValueError, match=r"no place was reserved for spec\.stellarity"):
            product.update(1, {"spec.stellarity": 1.0})
    with fits.open(tmp_path / PRODUCT) as file:
        assert file["EXTRACT1D", 1].header["EXTRYSTR"] == 12.6925
        assert file["EXTRACT1D", 2].header["EXTRYSTR"] == 11.25
        np.testing.assert_array_equal(file["EXTRACT1D", 2].data["FLUX"], random_spectra(plans[1]).flux)


def test_three_orders(tmp_path, observation):
    exposure = observation.exposures[0]
    plans = [plan(exposure, order, n_wave, sb_unit="", slit_name="") for order, n_wave in ((1, 40), (2, 30), (3, 1))]
    path = write(tmp_path, replace(observation, exposures=(exposure,)), plans)
    with fits.open(path) as file:
        tables = [h for h in file if h.name == "EXTRACT1D"]
        assert [(h.header["SPORDER"], h.data["FLUX"].shape) for h in tables] == [
            (1, (12, 40)),
            (2, (12, 30)),
            (3, (12, 1)),
        ]
        assert "TUNIT8" not in tables[0].header
        assert "SLTNAME" not in tables[0].header
    tree = open_spectra(path)
    assert list(tree.children) == ["NRS1_order1", "NRS1_order2", "NRS1_order3"]
    assert open_spectra(path, order=2).sizes == {"time": 12, "wavelength": 30}


def test_unknown_position_and_times(tmp_path, observation):
    """Without a WCS there are no SLIT_RA cards; without times there is no time scale."""
    exposure = observation.exposures[0]
    nan = np.full(exposure.n_int, np.nan)
    times = replace(
        exposure.times, **{n: nan for n in vars(exposure.times) if n.endswith(("utc", "tdb"))}, source="none"
    )
    exposure = replace(exposure, times=times)
    plans = [plan(exposure, slit_ra=None, slit_dec=None, source_type=None)]
    path = write(tmp_path, replace(observation, exposures=(exposure,)), plans)
    with fits.open(path) as file:
        assert "SLIT_RA" not in file["EXTRACT1D"].header
        assert "SRCTYPE" not in file["EXTRACT1D"].header
        assert file["EXTRACT1D"].data["SOURCE_TYPE"][0] == "UNKNOWN"
        assert np.isnan(file["EXTRACT1D"].data["MJD-AVG"]).all()
    with model_of(path) as model:
        assert getattr(model.spec[0], "time_scale", None) is None
        assert np.isnan(model.spec[0].meta.wcs(3)[0])


def model_of(path):
    from stdatamodels.jwst import datamodels

    return datamodels.open(path, strict_validation=True)


def test_the_archives_package_opens_and_validates(product, plans):
    with model_of(product) as model:
        model.validate()
        assert type(model).__name__ == "TSOMultiSpecModel"
        assert len(model.spec) == 2
        assert model.meta.instrument.detector == "MULTIPLE"
        for spectrum, one in zip(model.spec, plans, strict=True):
            np.testing.assert_array_equal(spectrum.spec_table["FLUX"], random_spectra(one).flux)
            assert spectrum.spec_table["DQ"].dtype == np.uint32
            ra, dec, wavelength = spectrum.meta.wcs(np.arange(one.wavelength.size))
            np.testing.assert_allclose(wavelength, one.wavelength, rtol=0, atol=1e-12)
            assert (ra[0], dec[0]) == (217.3, -3.4)
            assert spectrum.time_scale == "UTC"
        assert model.tso3.references.extract1d.source == "built-in"


@pytest.mark.parametrize("layout", ["detector", "segment"])
def test_companions_survive_open_and_save(tmp_path, observation, plans, layout):
    path = write(tmp_path, observation, plans, layout=layout)
    with model_of(path) as model:
        model.save(str(tmp_path / "saved.fits"))
    with fits.open(path) as before, fits.open(tmp_path / "saved.fits") as after:
        names = [h.name for h in before if h.name.startswith("TSO3_EXTRACT1D")]
        assert len(names) == len([h for h in before if h.name == "EXTRACT1D"])
        for name in names:
            assert after[name].columns.names == before[name].columns.names
            assert after[name].header["X1DVER"] == before[name].header["X1DVER"]
            np.testing.assert_array_equal(np.asarray(after[name].data), np.asarray(before[name].data))
        assert after[0].header["TSO3VER"] == "0.1.0"
    with model_of(tmp_path / "saved.fits") as model:
        assert model.tso3.preset == "default"


@pytest.mark.parametrize("layout", ["detector", "segment"])
def test_fitsverify(tmp_path, observation, plans, layout):
    if shutil.which("fitsverify") is None:
        pytest.skip("fitsverify is not installed (Debian: apt install fitsverify)")
    path = write(tmp_path, observation, plans, layout=layout)
    done = subprocess.run(["fitsverify", str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    warned = [line for line in lines if "*** Warning" in line]
    assert "0 error(s)" in lines[-1]
    assert warned
    assert all("contains character '-' other than" in line for line in warned)


def test_specutils_reads_every_integration(product, plans):
    from specutils import SpectrumList

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectra = SpectrumList.read(str(product))
    flux = [row for one in plans for row in random_spectra(one).flux]
    assert len(spectra) == len(flux) == 24
    for spectrum, expected in zip(spectra, flux, strict=True):
        assert spectrum.flux.unit == "Jy"
        np.testing.assert_array_equal(spectrum.flux.value, expected)


def test_cal_logs_are_carried_over(tmp_path, make_calints):
    import asdf
    from astropy.io.fits import BinTableHDU, Column

    path = tmp_path / "jw01366003001_04101_00001_nrs1_calints.fits"
    hdus = make_calints(path, 3)
    content = tmp_path / "tree.asdf"
    logs = {"calwebb_detector1": ["one: 1", "- two", ""], "calwebb_spec2": ["three " * 40]}
    asdf.AsdfFile({"cal_logs": logs, "meta": {"x": 1}}).write_to(content)
    raw = np.frombuffer(content.read_bytes(), np.uint8)
    column = Column("ASDF_METADATA", f"{raw.size}B", array=raw[None])
    hdus.append(BinTableHDU.from_columns([column], name="ASDF"))
    hdus.writeto(path, overwrite=True)
    observation = read_observation([path])
    assert read_cal_logs(observation.segments[0]) == logs
    product = write(tmp_path, observation, [plan(observation.exposures[0])])
    with model_of(product) as model:
        assert model.cal_logs.instance == logs


@pytest.mark.parametrize("wavelength", [[1.0, 1.5, 2.5], [3.0, 2.0, 1.9], [1.0, 3.0, 2.0], [4.0]])
def test_wcs_of_a_spectrum(wavelength):
    wavelength = np.array(wavelength)
    wcs = spectral_wcs(10.0, 20.0, wavelength)
    for i, expected in enumerate(wavelength if wavelength.size > 1 else []):
        np.testing.assert_allclose(wcs(float(i)), (10.0, 20.0, expected))
    step = np.diff(wavelength)
    if wavelength.size > 1 and (np.all(step > 0) or np.all(step < 0)):
        np.testing.assert_allclose(wcs.backward_transform(10.0, 20.0, wavelength), np.arange(wavelength.size))
    else:
        assert not wcs.forward_transform.has_user_inverse


@pytest.mark.parametrize("layout", ["detector", "segment"])
def test_spectra_open_lazily(tmp_path, observation, plans, layout):
    path = write(tmp_path, observation, plans, layout=layout)
    spectra = random_spectra(plans[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_spectra(path, "NRS1")
    assert dataset.sizes == {"time": 12, "wavelength": 40}
    assert not dataset.flux.variable._in_memory
    assert dataset.flux.attrs["units"] == "Jy"
    for key in (np.s_[:], np.s_[3:9:2, ::-3], np.s_[::-1, 5], np.s_[-1, 2:9], np.s_[4, 4], np.s_[7:7], np.s_[2:5, -4:]):
        np.testing.assert_array_equal(dataset.flux[key].values, spectra.flux[key])
        np.testing.assert_array_equal(dataset.dq[key].values, spectra.dq[key])
    chosen = dataset.missing_fraction.isel(time=[8, 1], wavelength=[0, 7])
    np.testing.assert_array_equal(chosen.values, spectra.missing_fraction[[8, 1]][:, [0, 7]])
    np.testing.assert_array_equal(dataset.int_num, np.arange(1, 13))
    np.testing.assert_array_equal(dataset.time, plans[0].exposure.times.mid_mjd_utc)
    assert not dataset.flux.variable._in_memory
    tree = open_spectra(path)
    assert list(tree.children) == ["NRS1", "NRS2"]
    assert tree["NRS2"].sizes == {"time": 12, "wavelength": 33}


def test_opening_what_is_not_there(product, observation):
    with pytest.raises(InputError, match=r"no spectra of detector NRS3, order None; it has NRS1 order 1, NRS2 order 1"):
        open_spectra(product, "NRS3")
    with pytest.raises(InputError, match="no table of spectra"):
        open_spectra(observation.segments[0].path)
