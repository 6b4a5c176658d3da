"""Rectified products in specutils, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visit")
    visit = simulate("NRS_BRIGHTOBJ", folder, n_int=4, seed=3, configuration="PRISM")
    return tso3.run(visit.association, folder / "out", overrides=visit.references).products


def test_the_median_holds_its_world_as_far_as_it_reaches(products):
    from stdatamodels.jwst import datamodels

    (path,) = [path for path in products["median"] if "s2d" in path.name]
    with datamodels.open(path) as model:
        box = model.meta.wcs.bounding_box.bounding_box(order="F")
        assert box == ((-0.5, model.data.shape[1] - 0.5), (-0.5, model.data.shape[0] - 0.5))
        y, x = np.indices(model.data.shape, dtype=float)
        np.testing.assert_allclose(model.meta.wcs(x, y)[2], fits.getdata(path, "WAVELENGTH"), rtol=1e-6)
    assert fits.getheader(path, "WAVELENGTH")["BUNIT"] == "um"


def test_specutils_opens_the_median_by_itself_and_integrations_by_name(products):
    specutils = pytest.importorskip("specutils")

    (path,) = [path for path in products["median"] if "s2d" in path.name]
    (integrations,) = products["s2dints"]
    for name, options in ((path, {}), (integrations, {"format": "JWST s2d"})):
        found = specutils.Spectrum.read(str(name), **options)
        assert found.flux.shape == fits.getdata(name, "SCI").shape
        np.testing.assert_allclose(found.spectral_axis.to_value("um"), fits.getdata(name, "WAVELENGTH")[0], rtol=1e-6)
