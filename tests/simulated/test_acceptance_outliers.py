"""What is bad in one integration hides nothing in another (the reference pipeline fails both of these)."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

import tso3
from tso3.simulate import simulate

N_INT, DO_NOT_USE, OUTLIER = 60, 1, 16


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    """
    A visit into which two pixels have been written, and its flags: (DQ with the default preset, with the archive's).

    Pixel "one" is NaN in integration 20 and struck in integration 30; pixel "often" is bad in every 20th integration,
    the first included, and struck in integration 30.
    """
    folder = tmp_path_factory.mktemp("visit")
    visit = simulate("NRC_TSIMAGE", folder, n_int=N_INT, segments=1, seed=2)
    (path,) = visit.members
    with fits.open(path, mode="update") as file:
        data, err, dq = (file[name].data for name in ("SCI", "ERR", "DQ"))
        clean = np.argwhere((dq == 0).all(axis=0) & np.isfinite(data).all(axis=0) & np.isfinite(err).all(axis=0))
        one, often = (tuple(int(k) for k in yx) for yx in clean[[len(clean) // 3, len(clean) // 2]])
        for y, x in (one, often):
            steady = np.median(data[:, y, x])
            data[:, y, x] = steady
            data[30, y, x] = steady + 100 * err[30, y, x]
        data[(20, *one)] = np.nan
        dq[(20, *one)] |= DO_NOT_USE
        dq[(slice(None, None, 20), *often)] |= DO_NOT_USE
        data[(slice(None, None, 20), *often)] = np.nan
    flags = {}
    for preset in ("default", "archive"):
        out = tmp_path_factory.mktemp(preset)
        result = tso3.run(str(visit.association), out, preset=preset, overrides=visit.references)
        flags[preset] = fits.getdata(result.products["crfints"][0], "DQ")
    return one, often, flags


@pytest.mark.parametrize("which", [0, 1], ids=["NaN in one integration", "bad in every 20th integration"])
def test_a_bad_sample_hides_no_outlier(reduced, which):
    flags = reduced[2]
    y, x = reduced[which]
    assert flags["default"][30, y, x] & OUTLIER
    assert np.flatnonzero(flags["default"][:, y, x] & OUTLIER).tolist() == [30]
    assert not flags["archive"][30, y, x] & OUTLIER, "the archive preset copies jwst, which misses it"
