"""
The extraction step beside jwst's: the same calints through ``jwst.extract_1d`` and through our step with the archive's
values, for every kind of aperture and background. The whole pipelines are compared in ``test_tso3_pipeline.py``.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from tso3.core.block import Block
from tso3.io.exposure import read_exposures
from tso3.io.reader import Reader
from tso3.io.references import Reference, References
from tso3.parameters import preset
from tso3.steps import extract_1d

pytestmark = [pytest.mark.jwst, pytest.mark.filterwarnings("ignore")]

SHARED = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared")
GENUINE = SHARED / "data/miri_lrs/ERS_NGTS10_2022_new_drift_041_calints.fits"
COLUMNS = (
    "flux", "flux_error", "flux_var_poisson", "flux_var_rnoise", "flux_var_flat", "surf_bright", "sb_error",
    "sb_var_poisson", "sb_var_rnoise", "sb_var_flat", "background", "bkgd_error", "bkgd_var_poisson", "bkgd_var_rnoise",
    "bkgd_var_flat", "npixels",
)  # fmt: skip
ERRORS = {"flux": "flux_error", "surf_bright": "sb_error", "background": "bkgd_error"}
HEADER = (
    "extraction_xstart", "extraction_xstop", "extraction_ystart", "extraction_ystop", "slit_ra", "slit_dec",
    "source_xpos", "source_ypos", "source_ra", "source_dec", "position_angle",
)  # fmt: skip
EXACT = ("spectral_order", "detector", "source_type", "source_id", "wavelength_corrected")


def blocks_of(exposure):
    """Every segment as one block, bad pixels NaN."""
    for start, stop in exposure.segment_bounds:
        with Reader(exposure) as reader:
            raw = reader.read(start, stop)
            bad = reader.native(raw["DQ"]) & 1 != 0
        planes = {name: raw[name].astype("f4") for name in raw if name != "DQ"}
        for plane in planes.values():
            bad |= ~np.isfinite(plane)
        for plane in planes.values():
            plane[bad] = np.nan
        variances = [planes.get(name) for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")]
        yield Block(start, planes["SCI"], planes["ERR"], None, bad, *variances)


def theirs(path, extract1d, apcorr, options, edit):
    """What jwst extracts from one file: its table and metadata."""
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    logging.disable(logging.CRITICAL)
    try:
        with datamodels.open(path) as model:
            if edit is not None:
                edit(model)
            return run_extract1d(
                model, extract_ref_name=str(extract1d or "N/A"), apcorr_ref_name=str(apcorr or "N/A"), **options
            )[0].spec[0]
    finally:
        logging.disable(logging.NOTSET)


def largest_difference(spectra, table):
    """Compare all columns of a segment; the largest |ours - jwst| / max(|jwst|, error)."""
    assert np.max(np.abs(spectra.wavelength - table["WAVELENGTH"])) < 1e-9
    worst = 0.0
    for name in COLUMNS:
        mine, other = getattr(spectra, name), np.asarray(table[name.upper()])
        assert mine.shape == other.shape, name
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(other), err_msg=name)
        scale = np.abs(other)
        if name in ERRORS:
            scale = np.maximum(scale, table[ERRORS[name].upper()])
        known = np.isfinite(other) & (mine != other)
        if known.any():
            difference = np.abs(mine - other)[known] / np.maximum(scale[known], 1e-300)
            assert difference.max() <= 1e-6, f"{name}: {difference.max():.1e}"
            worst = max(worst, float(difference.max()))
    np.testing.assert_array_equal(spectra.dq, table["DQ"])
    return worst


def compare(paths, extract1d, apcorr=None, edit=None, **options):
    """Extract every segment with both; return the largest difference."""
    worst = 0.0
    (exposure,) = read_exposures(paths)
    found = {"extract1d": extract1d, "apcorr": apcorr}
    references = References(
        {kind: Reference(kind, path, "none" if path is None else "user") for kind, path in found.items()}
    )
    parameters = preset("archive").extract_1d.model_copy(update=options)
    (plan,) = extract_1d.prepare(exposure, references, parameters, None)
    blocks = dict(enumerate(blocks_of(exposure)))
    plan = extract_1d.with_first_integrations(plan, blocks)
    for k, segment in enumerate(exposure.segments):
        spec = theirs(segment.path, extract1d, apcorr, options, edit)
        spectra = extract_1d.run(plan, blocks[k])
        worst = max(worst, largest_difference(spectra, spec.spec_table))
        assert spec.name == spectra.header.slit_name
        for name in HEADER:
            mine, other = getattr(spectra.header, name), getattr(spec, name)
            mine, other = (np.nan if value is None else value for value in (mine, other))
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9, err_msg=name)
        for name in EXACT:
            assert getattr(spectra.header, name) == getattr(spec, name, None), name
        units = spec.spec_table.columns
        assert (units["FLUX"].unit, units["SURF_BRIGHT"].unit) == (spectra.header.flux_unit, spectra.header.sb_unit)
    return worst


@pytest.fixture(scope="module")
def bots(tmp_path_factory):
    """Two segments of NRS1, and the references."""
    from tso3.simulate import simulate

    visit = simulate("NRS_BRIGHTOBJ", tmp_path_factory.mktemp("bots"), n_int=6, segments=2, detectors=["NRS1"])
    return list(visit.members), {**visit.references, "extract1d_wcs": visit.extract1d_wcs}


@pytest.fixture(scope="module")
def lrs(tmp_path_factory):
    """Two segments of MIRI LRS, and the references."""
    from tso3.simulate import simulate

    visit = simulate("MIR_LRS-SLITLESS", tmp_path_factory.mktemp("lrs"), n_int=6, segments=2)
    return list(visit.members), visit.references


@pytest.fixture
def aperture(tmp_path):
    """Write an extract1d reference with one aperture."""

    def write(**keys):
        path = tmp_path / "extract1d.json"
        path.write_text(json.dumps({"apertures": [{"id": "ANY"} | keys]}))
        return path

    return write


@pytest.fixture(autouse=True)
def report(request, record_property):
    """Print the largest difference of each case."""
    yield
    value = getattr(request.node, "largest", None)
    if value is not None:
        record_property("largest-difference", value)
        print(f"\n{request.node.name}: {value:.1e}")


OPTIONS = {
    "as the reference says": {},
    "background off": {"subtract_background": False},
    "poly 1": {"bkg_fit": "poly", "bkg_order": 1},
    "poly 2": {"bkg_fit": "poly", "bkg_order": 2},
    "mean": {"bkg_fit": "mean"},
    "median": {"bkg_fit": "median"},
    "smoothed": {"smoothing_length": 5},
    "smoothed median": {"smoothing_length": 7, "bkg_fit": "median"},
    "offset": {"position_offset": 0.37},
    "source not followed": {"use_source_posn": False, "position_offset": -1.2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", ["extract1d", "extract1d_wcs"])
def test_bots(request, bots, kind, options):
    paths, references = bots
    request.node.largest = compare(paths, references[kind], references["apcorr"], **options)


EDGES = [[1.5], [4.2, 0.0005], [24.5], [29.5]]
APERTURES = {
    "polynomials": {"src_coeff": [[10.3, 0.001, 1e-7], [18.1, 0.001]], "bkg_coeff": EDGES, "bkg_order": 1,
                    "xstart": 20, "xstop": 1900.5, "use_source_posn": False},
    "polynomials along the source": {"src_coeff": [[10.3, 0.001], [18.1, 0.001]], "bkg_coeff": EDGES,
                                     "bkg_fit": "median", "use_source_posn": True},
    "two regions": {"src_coeff": [[9.3], [12.1], [14.6], [18.2]], "use_source_posn": False},
    "fractional limits": {"ystart": 9.3, "ystop": 18.8, "xstart": 3.5, "xstop": 2000.2, "use_source_posn": False},
    "limits outside": {"ystart": -4.3, "ystop": 60, "use_source_posn": False},
    "width about the middle": {"ystart": 9, "ystop": 20, "extract_width": 6.6, "use_source_posn": False},
    "order and slit": {"id": "S1600A1", "spectral_order": -1, "ystart": 9, "ystop": 20},
}  # fmt: skip


@pytest.mark.parametrize("keys", APERTURES.values(), ids=APERTURES)
def test_bots_apertures(request, bots, aperture, keys):
    request.node.largest = compare(bots[0], aperture(**keys))


def test_bots_polynomials_in_wavelength(request, bots, aperture):
    keys = {"src_coeff": [[8.3, 1.1], [14.1, 1.1]], "bkg_coeff": [[1.5], [3.2, 0.4], [24.5], [29.5]]}
    path = aperture(**keys, independent_var="wavelength", use_source_posn=False)
    request.node.largest = compare(bots[0], path)


def test_bots_without_reference(request, bots):
    request.node.largest = compare(bots[0], None)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_lrs(request, lrs, options):
    paths, references = lrs
    request.node.largest = compare(paths, references["extract1d"], references["apcorr"], **options)


def test_lrs_polynomials(request, lrs, aperture):
    keys = {"src_coeff": [[30.2, 0.002], [43.9]], "bkg_coeff": [[9.5], [20.5], [54.5], [65.5]], "bkg_order": 2}
    request.node.largest = compare(lrs[0], aperture(**keys, ystart=10, ystop=380), lrs[1]["apcorr"])


def test_the_genuine_lrs_file(request, aperture):
    """A product of jwst 2.0.1 in DN/s, without VAR_FLAT."""
    if not GENUINE.exists():
        pytest.skip("set TSO3_SHARED to the folder of genuine data")
    request.node.largest = compare([GENUINE], aperture(dispaxis=2, xstart=30, xstop=40))
