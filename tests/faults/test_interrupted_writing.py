"""A run that dies or a disk that fills leaves the earlier product as it was."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from tso3.errors import OutputError
from tso3.io.crfints import CrfintsWriter
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader

SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without it
from tso3.io.crfints import CrfintsWriter
from tso3.io.exposure import read_observation
from tso3.io.reader import Reader
exposure = read_observation(sys.argv[1]).exposures[0]
with Reader(exposure) as reader, CrfintsWriter(exposure, 0, sys.argv[2]) as writer:
    writer.write(0, 2, reader.read(0, 2))
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def exposure(tmp_path, make_calints):
    make_calints(tmp_path / "a_calints.fits")
    return read_observation(tmp_path / "a_calints.fits").exposures[0]


def write(exposure, path):
    with Reader(exposure) as reader, CrfintsWriter(exposure, 0, path) as writer:
        writer.write(0, exposure.n_int, reader.read(0, exposure.n_int))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_the_earlier_product(tmp_path, exposure, number):
    out = tmp_path / "out"
    out.mkdir()
    product = out / "p.fits"
    product.write_bytes(b"earlier")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "a_calints.fits"), str(product)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"half\n"
    assert product.read_bytes() == b"earlier"
    process.send_signal(number)
    process.wait(30)
    process.stdout.close()
    assert process.returncode != 0
    assert product.read_bytes() == b"earlier"
    left = [path for path in out.iterdir() if path != product]
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    for path in left:
        os.utime(path, (0, 0))
    write(exposure, product)
    assert list(out.iterdir()) == [product]
    assert read_observation(product).exposures[0].n_int == 4


def test_a_limit_of_file_size(tmp_path, exposure):
    product = tmp_path / "p.fits"
    product.write_bytes(b"earlier")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(OutputError) as caught:
            write(exposure, product)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: the file would be larger than is allowed here" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert product.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_calints.fits", "p.fits"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 kB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=40k", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk, exposure):
    product = small_disk / "p.fits"
    product.write_bytes(b"earlier")
    with pytest.raises(OutputError, match="the disk is full; free some space") as caught:
        write(exposure, product)
    assert "\n" not in str(caught.value)
    assert product.read_bytes() == b"earlier"
    assert list(small_disk.iterdir()) == [product]


def test_a_disk_that_fills_while_writing(tmp_path, exposure, monkeypatch):
    """Space that was reserved is there, so this needs a file system that cannot reserve."""
    product = tmp_path / "p.fits"
    product.write_bytes(b"earlier")
    written = os.pwrite

    def refuse(*args):
        raise OSError(95, "not supported")

    def pwrite(descriptor, data, offset):
        if offset > 20000:
            raise OSError(28, "No space left on device")
        return written(descriptor, data, offset)

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OutputError, match="the disk is full"):
        write(exposure, product)
    assert product.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_calints.fits", "p.fits"]


def test_a_flush_that_fails_is_no_product(tmp_path, exposure, monkeypatch):
    product = tmp_path / "p.fits"
    product.write_bytes(b"earlier")

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(exposure, product)
    assert product.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_calints.fits", "p.fits"]


def test_a_folder_without_permission(tmp_path, exposure):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no permission to write here"):
        write(exposure, folder / "p.fits")
