"""
A genuine product of the archive's pipeline (MIRI LRS, jwst 2.0.1, four integrations, INT_TIMES without rows, DN/s),
through both pipelines. The file is not part of this repository: set ``TSO3_SHARED`` to the folder that holds
``data/miri_lrs/ERS_NGTS10_2022_new_drift_041_calints.fits`` (from kevin218/Eureka), or keep it beside the checkout as
``../shared``.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from compare_products import crfints, x1dints
from visits import Visit

pytestmark = [pytest.mark.jwst, pytest.mark.filterwarnings("ignore")]

NAME = "ERS_NGTS10_2022_new_drift_041_calints.fits"
DATA = Path(os.environ.get("TSO3_SHARED") or Path(__file__).parents[3] / "shared") / "data"


@pytest.fixture(scope="module")
def genuine(tmp_path_factory):
    """The file as the only member of an association, with an aperture of 11 columns and no background."""
    source = DATA / "miri_lrs" / NAME
    if not source.exists():
        pytest.skip(f"{source} is not there; see the top of {Path(__file__).name}")
    folder = tmp_path_factory.mktemp("genuine")
    shutil.copyfile(source, folder / NAME)
    product = {"name": "genuine", "members": [{"expname": NAME, "exptype": "science"}]}
    head = {"asn_type": "tso3", "asn_rule": "candidate_Asn_Lv3TSO", "asn_id": "o001", "asn_pool": "none"}
    association = folder / "genuine_asn.json"
    association.write_text(json.dumps({**head, "program": "1", "products": [product]}))
    aperture = {"id": "ANY", "region_type": "target", "dispaxis": 2, "spectral_order": 1, "xstart": 30, "xstop": 40}
    reference = {"REFTYPE": "EXTRACT1D", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-SLITLESS", "apertures": [aperture]}
    extract1d = folder / "extract1d.json"
    extract1d.write_text(json.dumps(reference))
    return Visit(association, (folder / NAME,), {"extract1d": extract1d})


def test_spectra_are_equal_but_for_the_times_that_it_lacks(genuine, both):
    theirs, result = both(genuine)
    comparison = x1dints(result.products["x1dints"][0], theirs.product("_x1dints.fits"), 1)
    failed = {row.part for row in comparison.failures}
    assert failed == {"EXTRACT1D,1 INT_NUM"} | {part for part in failed if part.startswith("INT_TIMES,1 ")}
    with fits.open(result.products["x1dints"][0]) as file:
        spectra = file["EXTRACT1D", 1].data
        assert spectra["INT_NUM"].tolist() == [1847, 1848, 1849, 1850], "numbered from INTSTART; jwst counts from 1"
        assert np.isnan(spectra["MJD-AVG"]).all()
        assert np.isfinite(spectra["FLUX"]).any()
    assert any("EFFINTTM" in text for text in result.warnings)


def test_the_copy_is_repaired_and_equal_otherwise(genuine, both):
    theirs, result = both(genuine)
    comparison = crfints(result.products["crfints"][0], theirs.product("_crfints.fits"), genuine.members[0])
    assert [row.part for row in comparison.failures] == ["SCI WCSAXES"]
    assert any("WCSAXES" in text for text in result.warnings)
