"""
The corner cases of spectral extraction that the changelog of jwst tells of; T numbers count the cases.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from astropy.io import fits

from tso3.core.block import Block
from tso3.core.model import ExposureModel
from tso3.core.trace import Limits, aperture_weights
from tso3.errors import InputError, Tso3Warning
from tso3.io.exposure import read_exposures
from tso3.io.references import Reference, References
from tso3.parameters import preset
from tso3.steps import extract_1d

NY, NX, N_INT = 20, 30, 3
GRISM = {"exp_type": "NRC_TSGRISM", "instrume": "NIRCAM", "detector": "NRCALONG", "filter": "F444W", "grating": None,
         "pupil": "GRISMR", "dispaxis": 1, "srctype": "POINT", "bunit": "DN/s"}  # fmt: skip


@pytest.fixture
def extract(tmp_path, make_calints):
    """Extract a flat stack of 3.0 per pixel: ``extract(entry, wavelength=..., data=...)`` gives plan and spectra."""

    def run(entry, wavelength=None, data=None, name="default", n_int=N_INT, **parameters):
        path = tmp_path / "jw01366003001_04101_00001-seg001_x_calints.fits"
        hdus = make_calints(path, n_int, NY, NX, **GRISM)
        plane = np.broadcast_to(3.0 + 0.01 * np.arange(NX), (NY, NX)) if wavelength is None else wavelength
        hdus.append(fits.ImageHDU(np.array(plane, "f4"), name="WAVELENGTH"))
        hdus.writeto(path, overwrite=True)
        reference = tmp_path / "extract1d.json"
        reference.write_text(json.dumps({"apertures": [{"id": "ANY"} | entry]}))
        references = References({
            "extract1d": Reference("extract1d", reference, "user"), "apcorr": Reference("apcorr", None, "none"),
        })  # fmt: skip
        stack = np.full((n_int, NY, NX), 3.0, "f4") if data is None else data
        steady = np.isnan(stack).all(axis=0)
        model = ExposureModel(np.where(steady, np.nan, 3.0), steady, np.arange(n_int))
        values = preset(name).extract_1d.model_copy(update=parameters)
        (exposure,) = read_exposures([path])
        (plan,) = extract_1d.prepare(exposure, references, values, model)
        variance = np.full(stack.shape, 0.5, "f4")
        return plan, extract_1d.run(plan, Block(0, stack, None, None, np.isnan(stack), variance, variance, variance))

    return run


@pytest.mark.parametrize("name", ["default", "archive"])
def test_limits_outside_the_array_are_cut(extract, name):
    """T13: limits beyond the image take what there is of it, and the header keeps what the reference says."""
    plan, spectra = extract({"xstart": -5, "xstop": NX + 40, "ystart": -3, "ystop": 4}, name=name)
    assert spectra.flux.shape == (N_INT, NX)
    np.testing.assert_allclose(spectra.flux, 15.0)
    assert (plan.box.npixels == 5).all()
    with pytest.raises(InputError, match="no pixel of the aperture"):
        extract({"ystart": NY + 1, "ystop": NY + 5}, name=name)


def test_nested_background_limits_count_every_pixel_once(extract):
    """T13: a region inside another, or overlapping it, weighs no pixel twice."""
    nested = {"ystart": 8, "ystop": 12, "bkg_coeff": [[-0.5], [5.5], [1.5], [3.5], [14.5], [17.5], [16.5], [19.5]]}
    plain = {"ystart": 8, "ystop": 12, "bkg_coeff": [[-0.5], [5.5], [14.5], [19.5]]}
    data = np.random.default_rng(1).normal(3.0, 1.0, (N_INT, NY, NX)).astype("f4")
    for name in ("default", "archive"):
        (_, one), (_, two) = extract(nested, data=data, name=name), extract(plain, data=data, name=name)
        np.testing.assert_array_equal(one.flux, two.flux)
        np.testing.assert_array_equal(one.background, two.background)
    regions = [Limits(np.array(2.0), np.array(6.0)), Limits(np.array(3.0), np.array(4.0))]
    assert aperture_weights(regions, (10, 1), 0, 0).max() == 1.0


def test_zeros_among_the_wavelengths_are_none(extract):
    """T14: places that nothing was written to are no wavelengths, and turn no direction around."""
    plane = np.array(np.broadcast_to(3.0 + 0.01 * np.arange(NX), (NY, NX)))
    plane[:, :4] = 0.0
    plane[10, 20] = 0.0
    plan, spectra = extract({"ystart": 8, "ystop": 12}, plane)
    assert plan.wavelength.size == NX - 4
    np.testing.assert_allclose(plan.wavelength, 3.0 + 0.01 * np.arange(4, NX), rtol=1e-6)
    assert plan.box.npixels[plan.columns].tolist() == [5.0] * 16 + [4.0] + [5.0] * 9
    assert np.isfinite(spectra.flux).all()
    falling, _ = extract({"ystart": 8, "ystop": 12}, plane[:, ::-1])
    assert (np.diff(falling.wavelength) < 0).all()


@pytest.mark.parametrize("name", ["default", "archive"])
def test_a_spectrum_that_is_shorter_for_a_while_is_padded(extract, name):
    """T15: columns that an integration lacks are NaN in its row; the others keep their place."""
    data = np.full((N_INT, NY, NX), 3.0, "f4")
    data[1, :, 22:] = np.nan
    plan, spectra = extract({"ystart": 8, "ystop": 12}, data=data, name=name)
    assert spectra.flux.shape == (N_INT, NX) == (N_INT, plan.wavelength.size)
    assert np.isnan(spectra.flux[1, 22:]).all()
    np.testing.assert_allclose(spectra.flux[[0, 2]], 15.0)
    np.testing.assert_allclose(spectra.flux[1, :22], 15.0)


def test_one_integration_is_a_time_series(extract):
    """T16: a single integration has a row of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Tso3Warning)
        _, spectra = extract({"ystart": 8, "ystop": 12}, n_int=1)
    assert spectra.flux.shape == (1, NX)


def test_errors_are_nan_where_the_flux_is(extract):
    """T29: no error is zero where nothing was measured; jwst 3.0.0 has zeros there, and so has the archive preset."""
    data = np.full((N_INT, NY, NX), 3.0, "f4")
    data[:, :, 5] = np.nan
    data[2, 8:13, 9] = np.nan
    _, ours = extract({"ystart": 8, "ystop": 12}, data=data)
    _, archive = extract({"ystart": 8, "ystop": 12}, data=data, name="archive")
    empty = np.isnan(ours.flux)
    assert np.argwhere(empty).tolist() == [[0, 5], [1, 5], [2, 5], [2, 9]]
    np.testing.assert_array_equal(np.isnan(archive.flux), empty)
    for column in ("flux_error", "flux_var_poisson", "flux_var_rnoise", "flux_var_flat"):
        np.testing.assert_array_equal(np.isnan(getattr(ours, column)), empty, err_msg=column)
        assert (getattr(archive, column)[empty] == 0.0).all(), column
