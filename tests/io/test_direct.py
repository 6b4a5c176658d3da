"""Large pieces that go past the system's memory of files: the bytes are those of the usual way."""

from __future__ import annotations

import errno
import os
import threading
from itertools import pairwise

import numpy as np
import pytest

from tso3.errors import OutputError
from tso3.io import direct
from tso3.io.direct import DirectFile

PAGE = direct._PAGE


@pytest.fixture(params=["direct", "usual"])
def way(request, tmp_path, monkeypatch):
    """Both ways; the first needs a file system that has it."""
    if request.param == "usual":
        monkeypatch.setattr(direct, "_opened", lambda path: -1)
        return request.param
    probe = tmp_path / "probe"
    probe.touch()
    opened = direct._opened(probe)
    if opened < 0:
        pytest.skip("this file system has no writes past the memory of files")
    os.close(opened)
    return request.param


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small pieces and small buffers, so that all borders are crossed."""
    monkeypatch.setattr(direct, "_LEAST", 3 * PAGE)
    monkeypatch.setattr(direct, "_CHUNK", 5 * PAGE)
    monkeypatch.setattr(direct, "_N_STAGES", 2)
    monkeypatch.setattr(direct, "_PATIENCE", 0.05)


@pytest.fixture
def target(tmp_path):
    """A file of known content: path and descriptor."""
    path = tmp_path / "a"
    path.write_bytes(b"\xee" * 100 * PAGE)
    descriptor = os.open(path, os.O_RDWR)
    yield path, descriptor
    os.close(descriptor)


@pytest.mark.parametrize("start", [0, 1, 2880, PAGE - 1, PAGE, 3 * PAGE + 7])
@pytest.mark.parametrize("size", [0, 5, 3 * PAGE, 4 * PAGE + 11, 40 * PAGE, 61 * PAGE + 3])
def test_a_piece_is_where_it_belongs_and_nothing_else_changes(way, target, start, size):
    path, descriptor = target
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with DirectFile(path, descriptor, path) as file:
        file.write([(data.data, start)])
        data[:] = 0  # the buffer is the caller's again
        file.flush()
    expected = np.full(100 * PAGE, 0xEE, np.uint8)
    expected[start : start + size] = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    assert np.array_equal(np.fromfile(path, np.uint8), expected)


def test_threads_write_neighbouring_pieces(way, target):
    path, descriptor = target
    data = np.random.default_rng(1).integers(0, 256, 100 * PAGE, np.uint8)
    edges = [0, *range(2880, 100 * PAGE, 9 * 2880), 100 * PAGE]
    with DirectFile(path, descriptor, path) as file:

        def write(k):
            pairs = list(pairwise(edges))[k::3]
            file.write((data[a:b].data, a) for a, b in pairs)

        threads = [threading.Thread(target=write, args=(k,)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert np.array_equal(np.fromfile(path, np.uint8), data)


def test_what_the_file_system_does_not_take_goes_the_usual_way(way, target, monkeypatch):
    path, descriptor = target
    written = os.pwrite

    def pwrite(where, data, offset):
        if where != descriptor and offset >= 10 * PAGE:
            raise OSError(errno.EINVAL, "not aligned")
        return written(where, data if where == descriptor else data[: 2 * PAGE], offset)  # the disk takes some

    monkeypatch.setattr(os, "pwrite", pwrite)
    data = np.random.default_rng(2).integers(0, 256, 50 * PAGE, np.uint8)
    with DirectFile(path, descriptor, path) as file:
        file.write([(data.data, 100)])
    assert np.array_equal(np.fromfile(path, np.uint8)[100 : 100 + data.size], data)


def test_an_error_of_the_disk_is_raised_and_buffers_come_back(way, target, monkeypatch):
    path, descriptor = target

    def pwrite(where, data, offset):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", pwrite)
    for _ in range(3):  # more than there are buffers
        with pytest.raises(OutputError, match="cannot be written: Input/output error"):
            fill(path, descriptor, bytes(30 * PAGE))
    monkeypatch.undo()
    fill(path, descriptor, bytes(30 * PAGE))
    assert path.read_bytes()[: 31 * PAGE] == bytes(30 * PAGE) + b"\xee" * PAGE


def fill(path, descriptor, data, error=None):
    """Write from byte 0 on, then fail if asked to."""
    with DirectFile(path, descriptor, path) as file:
        file.write([(data, 0)])
        if error is not None:
            raise error


def test_leaving_by_an_error_does_not_hide_it(way, target):
    path, descriptor = target
    with pytest.raises(KeyError):
        fill(path, descriptor, bytes(50 * PAGE), KeyError("of the user"))


def test_other_file_systems_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(direct, "_kind_of_file_system", lambda folder: "nfs4")
    path = tmp_path / "a"
    path.touch()
    assert direct._opened(path) == -1
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    monkeypatch.setattr(direct, "_kind_of_file_system", lambda folder: "ext4")
    assert direct._opened(path) == -1


def test_a_piece_that_fails_leaves_no_buffer_behind(way, target):
    path, descriptor = target
    broken = os.open(path, os.O_RDONLY)  # what goes through memory is refused, after pages of the first were taken
    data = bytes(4 * PAGE)
    try:
        for _ in range(3):  # more than there are buffers
            with pytest.raises(OutputError, match="cannot be written"), DirectFile(path, broken, path) as file:
                file.write([(data, 0), (data[:7], 20 * PAGE)])
    finally:
        os.close(broken)
    fill(path, descriptor, bytes(30 * PAGE))
    assert path.read_bytes()[: 30 * PAGE] == bytes(30 * PAGE)


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_who_waits_for_a_buffer_hears_of_the_error(way, target):
    """All buffers are lost (as by interruptions of a notebook); the disk has refused: the next call does not hang."""
    path, descriptor = target
    refused = OutputError("cannot be written: refused", path)

    def all_gone(file):
        for _ in range(2):
            file.stages.take(file.raise_error)
        threading.Timer(0.1, lambda: setattr(file, "_error", refused)).start()
        file.write([(bytes(8 * PAGE), 0)])

    with pytest.raises(OutputError, match="refused"), DirectFile(path, descriptor, path) as file:
        all_gone(file)
    fill(path, descriptor, bytes(30 * PAGE))
    assert path.read_bytes()[: 30 * PAGE] == bytes(30 * PAGE)


@pytest.mark.parametrize("way", ["direct"], indirect=True)
def test_no_memory_for_a_buffer_is_told(way, target, monkeypatch):
    path, descriptor = target
    taken = direct.mmap.mmap

    def refuse(*arguments, **options):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with DirectFile(path, descriptor, path) as file:
        monkeypatch.setattr(direct.mmap, "mmap", refuse)
        for _ in range(3):
            with pytest.raises(OutputError, match="cannot be written: Cannot allocate memory"):
                file.write([(bytes(8 * PAGE), 0)])
        monkeypatch.setattr(direct.mmap, "mmap", taken)
        file.write([(bytes(8 * PAGE), 0)])
    assert path.read_bytes()[: 8 * PAGE] == bytes(8 * PAGE)


def test_mounts_whose_names_are_no_text(tmp_path, monkeypatch):
    direct._kind_of_file_system.cache_clear()
    kind = direct._kind_of_file_system(tmp_path)
    direct._kind_of_file_system.cache_clear()
    read = direct.Path.read_bytes
    monkeypatch.setattr(
        direct.Path, "read_bytes", lambda path: b"1 2 0:99 / /a\xe9\x0bx rw - tmpfs\nodd\n" + read(path)
    )
    assert direct._kind_of_file_system(tmp_path) == kind
    direct._kind_of_file_system.cache_clear()
