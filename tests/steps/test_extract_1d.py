"""The extraction step on small stacks: apertures, units, quality, completion, blocks, and what cannot be done."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields

import numpy as np
import pytest
from astropy.io import fits

from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.core.spectra import Spectra
from tso3.errors import InputError, ReferenceFileError, Tso3Warning
from tso3.io.exposure import read_exposures
from tso3.io.references import Reference, References
from tso3.parameters import Extract1D, preset
from tso3.steps import extract_1d

NY, NX, N_INT = 24, 60, 6
CENTRE = 11.4
LIMITS = {"ystart": 8, "ystop": 15, "xstart": 0, "xstop": NX - 1}
REGION = {"bkg_coeff": [[-0.5], [4.5], [18.5], [23.5]]}
LRS = {"exp_type": "MIR_LRS-SLITLESS", "instrume": "MIRI", "detector": "MIRIMAGE", "filter": "P750L", "grating": None,
       "subarray": "SLITLESSPRISM", "dispaxis": 2}  # fmt: skip
GRISM = {"exp_type": "NRC_TSGRISM", "instrume": "NIRCAM", "detector": "NRCALONG", "filter": "F444W", "grating": None,
         "pupil": "GRISMR", "dispaxis": 1, "srctype": "POINT", "s_photom": "COMPLETE", "pixar_sr": 1e-13}  # fmt: skip
BOTS = {"dispaxis": 1, "srctype": "POINT", "s_photom": "COMPLETE", "pixar_sr": 1e-13, "sltname": "S1600A1"}


def scene(seed=0, turned=False):
    """Stack and variances: a star of 500 per column on a background of 10."""
    rng = np.random.default_rng(seed)
    profile = np.exp(-0.5 * ((np.arange(NY) - CENTRE) / 1.2) ** 2)
    star = 500 * (1 + 0.2 * np.sin(np.arange(NX) / 5)) * (profile / profile.sum())[:, None]
    stack = star + 10 + rng.normal(0, 0.5, (N_INT, NY, NX))
    poisson = np.broadcast_to(np.abs(star + 10) * 0.02, stack.shape)
    planes = [stack, poisson, np.full(stack.shape, 0.25), np.full(stack.shape, 1e-3)]
    return [np.ascontiguousarray((p.swapaxes(1, 2) if turned else p).astype("f4")) for p in planes]


def block(planes, start=0, stop=N_INT):
    data, poisson, rnoise, flat = (plane[start:stop] for plane in planes)
    return Block(start, data, None, None, np.isnan(data), poisson, rnoise, flat)


def model_of(planes):
    reference = np.nanmedian(planes[0].astype(float), axis=0)
    return ExposureModel(reference, np.isnan(reference), np.arange(N_INT))


@pytest.fixture
def exposure(tmp_path, make_calints):
    """Headers and wavelengths of an exposure of two segments of three integrations."""

    def make(turned=False, wavelength=True, **keywords):
        paths = []
        for k in range(2):
            path = tmp_path / f"jw01366003001_04101_00001-seg00{k + 1}_x_calints.fits"
            own = {"intstart": 3 * k + 1, "intend": 3 * k + 3, "exsegnum": k + 1, "nints": 6}
            shape = (NX, NY) if turned else (NY, NX)
            hdus = make_calints(path, 3, *shape, seed=k, **(BOTS | {"expend": 59791.01} | own | keywords))
            wave = np.broadcast_to(3 + 0.01 * np.arange(NX), (NY, NX)).astype("f4")
            if wavelength:
                hdus.append(fits.ImageHDU(wave.T.copy() if turned else wave.copy(), name="WAVELENGTH"))
            hdus.writeto(path, overwrite=True)
            paths.append(path)
        return read_exposures(paths)[0]

    return make


@pytest.fixture
def references(tmp_path):
    """References: an extract1d with the keys given, "built-in", or None for N/A."""

    def make(entry, apcorr=None):
        path = None
        if isinstance(entry, dict):
            path = tmp_path / "extract1d.json"
            path.write_text(json.dumps({"apertures": [{"id": "ANY"} | entry]}))
        source = "user" if path is not None else "built-in" if entry == "built-in" else "none"
        return References({
            "extract1d": Reference("extract1d", path, source),
            "apcorr": Reference("apcorr", apcorr, "none" if apcorr is None else "user"),
        })  # fmt: skip

    return make


def extract(exposure, references, planes, model="of planes", parameters=None, **values):
    parameters = Extract1D(**values) if parameters is None else parameters
    used = model_of(planes) if model == "of planes" else model
    if exposure.dispersion_axis == 2 and used is not None:
        assert used.reference.shape == (exposure.ny, exposure.nx)
    (plan,) = extract_1d.prepare(exposure, references, parameters, used)
    return plan, extract_1d.run(plan, block(planes))


FIXED = LIMITS | {"use_source_posn": False}


def test_the_flux_is_that_of_the_star(exposure, references):
    planes = scene()
    plan, spectra = extract(exposure(**GRISM), references(FIXED | REGION), planes)
    truth = 500 * (1 + 0.2 * np.sin(np.arange(NX) / 5)) * 1e-13 * 1e6
    assert plan.header.flux_unit == "Jy"
    pull = (spectra.flux - truth * 0.9973) / spectra.flux_error  # the aperture holds 99.7 % of the light
    assert abs(pull.mean()) < 0.5
    np.testing.assert_allclose(spectra.background, 10, atol=1.0)
    np.testing.assert_allclose(spectra.surf_bright * 8 * 1e-13 * 1e6, spectra.flux, rtol=1e-6)
    np.testing.assert_allclose(spectra.wavelength, 3 + 0.01 * np.arange(NX), rtol=1e-6)
    assert (spectra.npixels == 8).all()
    assert not spectra.dq.any()


def test_units_of_nirspec_point_sources(exposure, references):
    planes = scene()
    _, grism = extract(exposure(**GRISM), references(FIXED | REGION), planes)
    _, bots = extract(exposure(), references(FIXED | REGION), planes)
    np.testing.assert_allclose(bots.flux, grism.flux / 1e-13)  # MJy, not MJy / sr
    np.testing.assert_allclose(bots.background, grism.background / 1e-13)
    assert not bots.surf_bright.any()
    assert not bots.sb_var_rnoise.any()
    _, extended = extract(exposure(srctype="EXTENDED"), references(FIXED | REGION), planes)
    np.testing.assert_allclose(extended.flux, grism.flux)


def test_data_that_are_not_calibrated_stay_as_they_are(exposure, references):
    plan, spectra = extract(exposure(s_photom="SKIPPED"), references(FIXED), scene())
    assert (plan.header.flux_unit, plan.header.sb_unit) == ("DN/s", "DN/s")
    np.testing.assert_allclose(spectra.flux / spectra.npixels, spectra.surf_bright)
    assert not spectra.background.any()


def test_a_missing_pixel_area_is_said(exposure, references):
    with pytest.warns(Tso3Warning, match="PIXAR_SR"):
        extract(exposure(**GRISM | {"pixar_sr": None}), references(FIXED), scene())


def test_dispersion_along_y_gives_the_same(exposure, references, tmp_path):
    _, straight = extract(exposure(**GRISM), references(FIXED | REGION), scene())
    turned = exposure(turned=True, **GRISM | {"dispaxis": 2})
    entry = {"xstart": 8, "xstop": 15, "ystart": 0, "ystop": NX - 1} | REGION
    plan, spectra = extract(turned, references(entry), scene(turned=True))
    for field in fields(Spectra):
        if field.name not in ("header", "start"):
            np.testing.assert_array_equal(getattr(spectra, field.name), getattr(straight, field.name), field.name)
    header = plan.header
    assert (header.extraction_xstart, header.extraction_xstop) == (9, 16)
    assert (header.extraction_ystart, header.extraction_ystop) == (1, NX)
    assert plan.rows == slice(0, NX)


@pytest.mark.parametrize("name", ["default", "archive"])
def test_numbers_do_not_depend_on_the_block(exposure, references, name):
    planes = scene()
    for plane in planes:
        plane[np.random.default_rng(3).random(plane.shape) < 0.03] = np.nan
    used = exposure(**GRISM)
    model = model_of(planes) if name == "default" else None
    plan, whole = extract(used, references(FIXED | REGION), planes, model, preset(name).extract_1d)
    for size in (1, 4):
        for start in range(0, N_INT, size):
            part = extract_1d.run(plan, block(planes, start, min(start + size, N_INT)))
            assert part.start == start
            for field in fields(Spectra):
                value = getattr(part, field.name)
                if isinstance(value, np.ndarray) and value.ndim == 2:
                    np.testing.assert_array_equal(value, getattr(whole, field.name)[start : part.stop], field.name)


def test_missing_pixels_are_completed_and_said(exposure, references):
    planes = scene()
    used, model = exposure(**GRISM), model_of(planes)
    _, whole = extract(used, references(FIXED | REGION), planes, model)
    for plane in planes:
        plane[2, 10, 30] = np.nan  # about a quarter of the light
        plane[4, 9:15, 40] = np.nan  # most of it
    _, spectra = extract(used, references(FIXED | REGION), planes, model)
    assert spectra.missing_fraction[2, 30] == pytest.approx(0.168, abs=0.01)
    assert spectra.flux[2, 30] == pytest.approx(whole.flux[2, 30], abs=2 * whole.flux_error[2, 30])
    assert spectra.flux_uncompleted[2, 30] == pytest.approx(whole.flux[2, 30] * 0.832, rel=0.01)
    assert spectra.flux_error[2, 30] > whole.flux_error[2, 30]
    assert spectra.dq[2, 30] == 2**21 or spectra.dq[2, 30] not in (0, 1)  # FLUX_ESTIMATED
    assert np.isnan(spectra.flux[4, 40])
    assert np.isnan(spectra.flux_error[4, 40])
    assert spectra.dq[4, 40] == 1
    assert np.count_nonzero(spectra.dq) == 2
    _, dropped = extract(used, references(FIXED | REGION), planes, None, preset("archive").extract_1d)
    assert dropped.dq[2, 30] == 0
    assert dropped.flux[2, 30] == spectra.flux_uncompleted[2, 30]
    assert dropped.npixels[2, 30] == 7


def test_the_expected_spectrum_is_that_of_the_reference_image(exposure, references):
    planes = scene()
    plan, spectra = extract(exposure(), references(FIXED | REGION), planes)
    np.testing.assert_allclose(plan.expected, np.median(spectra.flux, axis=0), rtol=0.02)


def test_completion_without_a_survey_is_said(exposure, references):
    planes = scene()
    planes[0][1, 11, 7] = np.nan
    with pytest.warns(Tso3Warning, match="no survey"):
        _, spectra = extract(exposure(), references(FIXED), planes, None)
    assert np.argwhere(np.isnan(spectra.flux)).tolist() == [[1, 7]]


@pytest.mark.parametrize(
    ("mode", "shape", "npixels"),
    [(BOTS, (32, 40), 13), (LRS, (40, 72), 12), (GRISM, (64, 40), 17)],
    ids=["BOTS", "LRS", "GRISM"],
)
def test_built_in_apertures(tmp_path, make_calints, references, mode, shape, npixels):
    path = tmp_path / "jw01366003001_04101_00001-seg001_x_calints.fits"
    hdus = make_calints(path, 2, *shape, **(BOTS | mode))
    hdus.append(fits.ImageHDU(np.full(shape, 4.0, "f4"), name="WAVELENGTH"))
    hdus.writeto(path, overwrite=True)
    (used,) = read_exposures([path])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Tso3Warning)  # the source is not in the header
        (plan,) = extract_1d.prepare(used, references("built-in"), preset("archive").extract_1d, None)
    assert (plan.box.npixels == npixels).all()
    assert plan.header.slit_name == ("S1600A1" if mode is BOTS else mode["exp_type"])
    assert (plan.box.background > 0).any()


def test_without_reference_the_whole_image_is_summed(exposure, references):
    planes = scene()
    _, spectra = extract(exposure(), references(None), planes, bkg_order=1, position_offset=3.0)
    np.testing.assert_allclose(spectra.flux, planes[0].astype(float).sum(axis=1) * 1e6)


def test_offset_shifts_aperture_and_background(exposure, references):
    plan, _ = extract(exposure(), references(FIXED | REGION), scene(), position_offset=0.5)
    assert (plan.header.extraction_ystart, plan.header.extraction_ystop) == (9.5, 16.5)
    assert plan.box.aperture[:, 0].sum() == 8


def test_background_that_follows_the_aperture(exposure, references):
    entry = FIXED | {"bkg_offsets": [[-9, -6], [6, 9]]}
    plan, spectra = extract(exposure(), references(entry), scene())
    used = plan.box.rows[plan.box.background[:, 10] > 0]
    # the aperture is centred on 11.5, so the regions are 2.0 to 6.0 and 17.0 to 21.0 in coordinates of edges
    assert used.tolist() == [2, 3, 4, 5, 6, 17, 18, 19, 20, 21]
    np.testing.assert_allclose(spectra.background * 1e-13, 10, atol=0.7)


@pytest.mark.parametrize(("length", "used"), [(2, 0), (4, 3), (5, 5), (1, 0)])
def test_smoothing_lengths(exposure, references, length, used):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan, _ = extract(exposure(), references(FIXED | REGION), scene(), smoothing_length=length)
    assert plan.box.smoothing == used
    assert [w for w in caught if "smoothing_length" in str(w.message)] == ([] if length == used else caught[:1])


def test_what_the_user_says_comes_first(exposure, references):
    entry = FIXED | REGION | {"bkg_fit": "poly", "bkg_order": 2, "smoothing_length": 3}
    used = exposure()
    assert extract(used, references(entry), scene())[0].box.powers.shape[0] == 3
    assert extract(used, references(entry), scene(), bkg_order=1)[0].box.powers.shape[0] == 2
    assert extract(used, references(entry), scene(), bkg_fit="mean")[0].box.powers.shape[0] == 1
    assert extract(used, references(entry), scene(), bkg_fit="median")[0].box.kind == 2
    assert extract(used, references(entry), scene(), subtract_background=False)[0].box.kind == 0


def test_background_without_a_region_is_said(exposure, references):
    with pytest.warns(Tso3Warning, match="no background region"):
        extract(exposure(), references(FIXED), scene(), subtract_background=True)


def test_a_source_position_that_is_not_known_is_said(exposure, references):
    with pytest.warns(Tso3Warning, match="SRCXPOS"):
        extract(exposure(), references(LIMITS), scene())
    with pytest.warns(Tso3Warning, match="not known from the WCS for NRC_TSGRISM"):
        extract(exposure(**GRISM), references(LIMITS), scene(), use_source_posn=True)


def test_extended_sources_are_not_followed(exposure, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(exposure(srctype="EXTENDED"), references(LIMITS), scene())


def write_apcorr(path):
    table = np.zeros(1, [("filter", "S12"), ("grating", "S15"), ("slit", "S15"), ("wavelength", "f4", (3,)),
                         ("nelem_wl", "i2"), ("size", "f4", (2, 3)), ("nelem_size", "i2"), ("pixphase", "f4", (2,)),
                         ("apcorr", "f4", (2, 3, 2))])  # fmt: skip
    row = table[0]
    row["filter"], row["grating"], row["slit"] = "F290LP", "G395H", "S1600A1"
    row["wavelength"], row["nelem_wl"], row["nelem_size"] = [2.9, 3.2, 3.7], 3, 2
    row["size"], row["pixphase"] = [[4, 4, 4], [8, 8, 8]], [0, 1]
    row["apcorr"] = np.array([[1.4, 1.2], [1.2, 1.0]])[:, None, :]
    hdu = fits.BinTableHDU(table, name="APCORR")
    hdu.header["SIZEUNIT"] = "pixels"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def test_aperture_correction_of_the_nominal_aperture(exposure, references, tmp_path):
    planes = scene()
    planes[0][0, 11, 20] = np.nan
    used, apcorr = exposure(), write_apcorr(tmp_path / "apcorr.fits")
    _, bare = extract(used, references(FIXED | REGION), planes)
    plan, spectra = extract(used, references(FIXED | REGION, apcorr), planes)
    assert not plan.needs_first
    for name, power in (("flux", 1), ("flux_error", 1), ("flux_var_flat", 2), ("flux_var_limit", 2), ("background", 0)):
        np.testing.assert_allclose(getattr(spectra, name), getattr(bare, name) * 1.1**power, rtol=1e-6, err_msg=name)


def test_aperture_correction_of_the_first_integration(exposure, references, tmp_path):
    planes = scene()
    planes[0][3, 11, 20] = np.nan  # the first of the second segment
    used, apcorr = exposure(), write_apcorr(tmp_path / "apcorr.fits")
    parameters = preset("archive").extract_1d
    _, bare = extract(used, references(FIXED), planes, None, parameters)
    (plan,) = extract_1d.prepare(used, references(FIXED, apcorr), parameters, None)
    assert plan.needs_first
    with pytest.raises(KeyError):
        extract_1d.run(plan, block(planes))
    plan = extract_1d.with_first_integrations(plan, {0: block(planes, 0, 1), 1: block(planes, 3, 5)})
    ratio = extract_1d.run(plan, block(planes)).flux / bare.flux
    np.testing.assert_allclose(ratio[:3, 20], 1.1, rtol=1e-6)
    np.testing.assert_allclose(ratio[3:, 20], 1.1 + 0.2 / 4, rtol=1e-6)  # seven pixels
    with pytest.raises(ValueError, match="segment 1 begins at 3"):
        extract_1d.with_first_integrations(plan, {1: block(planes, 2, 4)})


def test_corrections_are_for_point_sources(exposure, references, tmp_path):
    apcorr = write_apcorr(tmp_path / "apcorr.fits")
    assert extract(exposure(srctype="EXTENDED"), references(FIXED, apcorr), scene())[0].correction is None
    assert extract(exposure(), references(FIXED, apcorr), scene(), apply_apcorr=False)[0].correction is None


def test_what_cannot_be_extracted_is_one_clear_line(exposure, references):
    used = exposure()
    parameters = preset("archive").extract_1d

    def fails(error, words, entry, where=used):
        with pytest.raises(error, match=words) as caught:
            extract_1d.prepare(where, references(entry), parameters, None)
        assert "\n" not in str(caught.value)

    fails(ReferenceFileError, "no target aperture for S1600A1", {"id": "S200A1"})
    fails(ReferenceFileError, "no target aperture", {"region_type": "background"})
    fails(ReferenceFileError, "not for spectral order 1", {"spectral_order": 2})
    fails(InputError, "no pixel of the aperture", FIXED | {"ystart": 90, "ystop": 95})
    fails(ReferenceFileError, "outside the image", FIXED | {"bkg_coeff": [[80.0], [90.0]]})
    fails(InputError, "neither a WAVELENGTH plane nor a WCS", FIXED, exposure(wavelength=False))
