"""A product is there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from tso3.errors import OutputError
from tso3.io.atomic import atomic_path


def write(target, action):
    with atomic_path(target) as temporary:
        action(temporary)


def test_success_replaces_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a_phot.ecsv"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("a_phot.ecsv")
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a_phot.ecsv"]


def test_permissions_follow_the_umask(tmp_path):
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("no number")])
def test_failure_keeps_the_old_and_passes_on(tmp_path, error):
    target = tmp_path / "a"
    target.write_text("old")

    def half(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write(target, half)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_full_disk_is_an_output_error(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(OutputError, match="disk is full") as caught, atomic_path(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_wrapped_by_a_writer_is_recognised(tmp_path):
    def wrapped(temporary):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError("Not enough space on disk: requested 1") from error

    with pytest.raises(OutputError, match="disk is full"):
        write(tmp_path / "a", wrapped)


def test_full_device_for_real(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    def overflow(temporary):
        with open("/dev/full", "wb") as full:
            full.write(b"1")

    with pytest.raises(OutputError, match="disk is full"):
        write(tmp_path / "a", overflow)


def test_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"), atomic_path(tmp_path / "no" / "a"):
        pass


def test_missing_input_read_inside_is_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "input").read_text()
    assert list(tmp_path.iterdir()) == []


def test_folder_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="a folder has this name"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_an_output_error(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="no permission"), atomic_path(folder / "a"):
        pass


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    """A temporary file of the same product goes if it is old and nobody writes it."""
    old, young, other = ".tso3-1-aaaaaaaa-p.fits", ".tso3-2-bbbbbbbb-p.fits", ".tso3-3-cccccccc-q.fits"
    for name in (old, young, other, "p.fits"):
        (tmp_path / name).write_text(name)
    for name in (old, other):
        os.utime(tmp_path / name, (0, 0))
    with atomic_path(tmp_path / "p.fits") as held:
        os.utime(held, (0, 0))
        with atomic_path(tmp_path / "p.fits") as temporary:
            temporary.write_text("new")
        held.write_text("newer")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([young, other, "p.fits"])
    assert (tmp_path / "p.fits").read_text() == "newer"
