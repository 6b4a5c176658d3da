from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tso3.errors import InputError
from tso3.io.exposure import PLANES, read_observation
from tso3.io.reader import Reader, to_native


def stack(paths, name):
    return np.concatenate([fits.getdata(path, name) for path in paths])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_block_across_segments_equals_astropy(segments, data):
    exposure = read_observation(segments).exposures[0]
    start = data.draw(st.integers(0, exposure.n_int))
    stop = data.draw(st.integers(start, exposure.n_int))
    low = data.draw(st.integers(0, exposure.ny))
    high = data.draw(st.integers(low, exposure.ny))
    with Reader(exposure) as reader:
        raw = reader.read(start, stop, rows=slice(low, high))
        for name in PLANES:
            truth = stack(segments, name)[start:stop, low:high]
            assert raw[name].dtype.byteorder == ">"
            native = reader.native(raw[name])
            assert native.dtype.isnative
            np.testing.assert_array_equal(native, truth)


def test_buffers_are_reused_and_checked(segments):
    exposure = read_observation(segments).exposures[0]
    with Reader(exposure) as reader:
        out = reader.buffers(5, planes=("SCI", "DQ"))
        first = reader.read(0, 5, planes=("SCI", "DQ"), out=out)
        second = reader.read(5, 9, planes=("SCI", "DQ"), out=out)
        assert first["SCI"].base is not None
        assert np.shares_memory(first["SCI"], second["SCI"])
        np.testing.assert_array_equal(second["SCI"], stack(segments, "SCI")[5:9])
        with pytest.raises(ValueError, match="buffer of SCI"):
            reader.read(0, 6, planes=("SCI",), out=out)
        with pytest.raises(ValueError, match="integrations 0 to 13"):
            reader.read(0, 13)


def test_missing_plane_is_an_absent_key(tmp_path, make_calints):
    path = tmp_path / "a_calints.fits"
    hdus = make_calints(path)
    del hdus["VAR_FLAT"]
    hdus.writeto(path, overwrite=True)
    exposure = read_observation(path).exposures[0]
    assert "VAR_FLAT" not in exposure.planes
    with Reader(exposure) as reader:
        assert set(reader.read(0, 1)) == set(PLANES) - {"VAR_FLAT"}


def test_a_file_cut_after_its_headers_were_read_is_named(segments):
    exposure = read_observation(segments).exposures[0]
    with Reader(exposure) as reader:
        with open(segments[1], "r+b") as handle:
            handle.truncate(8000)
        with pytest.raises(InputError, match=r"seg002.*was cut"):
            reader.read(0, 12)


def test_to_native_keeps_nan_payloads_and_inputs():
    raw = np.array([0x7FC00001, 0xFF800000, 0x3F800000], ">u4").view(">f4")
    before = raw.tobytes()
    native = to_native(raw)
    assert native.view(np.uint32).tolist() == [0x7FC00001, 0xFF800000, 0x3F800000]
    assert raw.tobytes() == before
    assert to_native(np.array([5], ">i4"), top_bit=False).tolist() == [5]
