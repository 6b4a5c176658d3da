"""NetCDF that is written in pieces: read back by scipy and xarray, which know the format by themselves."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from tso3.errors import OutputError
from tso3.io.atomic import atomic_path
from tso3.io.netcdf import NetcdfWriter, Variable

SIZES = {"time": 5, "channel": 3, "name_length": 4}
VARIABLES = {
    "flux": Variable(("time", "channel"), "f8", {"units": "Jy", "long_name": "odd"}, np.nan),
    "count": Variable(("time", "channel"), "i4", {"valid_range": [0, 9]}, 7),
    "wavelength": Variable(("channel",), "f8", {"scale": 1.5}),
    "name": Variable(("channel", "name_length"), "S1", {"_Encoding": "utf-8"}),
}


def written(path):
    """Return a file, filled in pieces that are not in order."""
    flux = np.arange(15.0).reshape(5, 3)
    with NetcdfWriter(path, SIZES, VARIABLES, {"title": "é, odd length", "number": 3}) as file:
        file.put("wavelength", np.array([1.0, 2.0, 3.0]))
        file.put("flux", flux[3:, :], 3)
        file.put("flux", flux[0:2, 1:], 0, 1)
        file.put("count", np.array([[1], [2]]), 1, 2)
        file.put("name", np.frombuffer(b"NRS1NRS2x\0\0\0", "S1").reshape(3, 4))
        np.testing.assert_array_equal(file.get("flux", slice(3, None), slice(0, 2)), flux[3:, :2])
    expected = np.full((5, 3), np.nan)
    expected[3:], expected[0:2, 1:] = flux[3:], flux[0:2, 1:]
    return expected


def test_xarray_reads_it(tmp_path):
    expected = written(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="scipy") as data:
        np.testing.assert_array_equal(data.flux, expected)
        assert data.flux.dims == ("time", "channel")
        assert data["count"].dtype == np.int32
        assert data["count"].values[1:3, 2].tolist() == [1, 2]
        assert int(data["count"][0, 0]) == 7
        assert data.name.values.tolist() == ["NRS1", "NRS2", "x"]
        assert data.attrs["title"] == "é, odd length"
        assert data.attrs["number"] == 3
        assert data.flux.attrs["units"] == "Jy"


def test_scipy_reads_it_and_has_the_same_header(tmp_path):
    written(tmp_path / "a.nc")
    with netcdf_file(tmp_path / "a.nc", "r", mmap=False) as file:
        assert file.version_byte == 2
        assert dict(file.dimensions) == SIZES
        assert file.variables["wavelength"][:].tolist() == [1.0, 2.0, 3.0]
        assert file.variables["wavelength"].scale == 1.5
        assert file.variables["count"].valid_range.tolist() == [0, 9]


def test_what_netcdf_cannot_hold_is_refused(tmp_path):
    big = {"time": 2**20, "channel": 2**10}
    with pytest.raises(OutputError, match=r"flux would have \(1048576, 1024\) numbers, more than NetCDF can hold"):
        NetcdfWriter(tmp_path / "a.nc", big, {"flux": VARIABLES["flux"]}, {})


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tso3.io.netcdf.os.pwrite", full)
    with pytest.raises(OutputError, match="the disk is full"), atomic_path(tmp_path / "a.nc") as temporary:
        written(temporary)
    assert list(tmp_path.iterdir()) == []
