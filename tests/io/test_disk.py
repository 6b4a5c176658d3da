"""Positioned writing on systems that lack some calls (macOS has neither fallocate, fadvise nor fdatasync)."""

import os

import pytest

from tso3.errors import OutputError
from tso3.io.disk import begin_flush, flush_data, reserve, write_at


@pytest.mark.parametrize("lacking", [True, False])
def test_a_file_is_laid_out_and_filled(tmp_path, monkeypatch, lacking):
    if lacking:
        for name in ("posix_fallocate", "posix_fadvise", "fdatasync"):
            monkeypatch.delattr(os, name, raising=False)
    path = tmp_path / "a"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        reserve(descriptor, 100, path)
        write_at(descriptor, b"abc", 90, path)
        begin_flush(descriptor, 0, 100)
        flush_data(descriptor)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == bytes(90) + b"abc" + bytes(7)


def test_a_refusal_names_the_product(tmp_path):
    path = tmp_path / "a"
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OutputError, match=r"a: cannot be written: .*; free some space or choose another"):
            write_at(descriptor, b"abc", 0, path)
        with pytest.raises(OutputError, match="cannot be written"):
            reserve(descriptor, 10, path)
    finally:
        os.close(descriptor)
