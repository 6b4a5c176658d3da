"""The product of medians: sound FITS, each segment its own integrations."""

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import Tso3Error
from tso3.io.exposure import read_exposures
from tso3.io.median import MedianWriter


@pytest.fixture
def exposure(segments):
    return read_exposures(segments)[0]


def test_planes_lie_where_they_belong(exposure, tmp_path):
    n_int = exposure.n_int
    median = np.random.default_rng(1).normal(size=(n_int, exposure.ny, exposure.nx))
    paths = [tmp_path / f"{k}_median.fits" for k in range(len(exposure.segments))]
    for k, path in enumerate(paths):
        with MedianWriter(exposure, k, path) as writer:
            for rows in (slice(0, 2), slice(2, exposure.ny)):
                for start in range(0, n_int, 3):
                    stop = min(start + 3, n_int)
                    writer.write(start, stop, median[start:stop, rows], rows)
    for (first, last), path in zip(exposure.segment_bounds, paths, strict=True):
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            head = hdus["SCI"].header
            assert (head["PCOUNT"], head["GCOUNT"], head["BITPIX"]) == (0, 1, -32)
            assert hdus[0].header["FILENAME"] == path.name
            np.testing.assert_array_equal(hdus["SCI"].data, median[first:last].astype("f4"))


def test_a_run_that_fails_leaves_none(exposure, tmp_path):
    with pytest.raises(Tso3Error), MedianWriter(exposure, 0, tmp_path / "a_median.fits"):
        raise Tso3Error("stopped")
    assert list(tmp_path.glob("*median*")) == []
    assert list(tmp_path.glob(".tso3-*")) == []
