"""The folder of what processes of a run pass to each other, when other runs and workers come in between."""

import fcntl
import os
from contextlib import nullcontext
from pathlib import Path

from tso3.io.scratch import scratch_folder


def test_abandoned_folders_of_the_product_are_removed(tmp_path):
    kept = [tmp_path / f".tso3-1-0123abcd-{product}.parts" for product in ("other", "x-a[1]", "a1")]
    left = tmp_path / ".tso3-1-0123abcd-a[1].parts"
    for path in (*kept, left):
        path.mkdir()
    with scratch_folder(tmp_path, "a[1]") as held, scratch_folder(tmp_path, "a[1]") as other:
        assert not left.exists()
        assert held.exists()
        assert other != held
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_that_another_run_takes_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def late(held, kind):
        made = next(tmp_path.glob(".tso3-*"))
        if not taken:
            made.rmdir()
            taken.append(made)
        lock(held, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_folder(tmp_path, "a") as scratch:
        assert scratch.exists()
        assert scratch not in taken
    assert taken
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_run_is_removing_is_made_anew(tmp_path, monkeypatch):
    mkdir, others = Path.mkdir, []

    def watched(path, *arguments, **keywords):
        mkdir(path, *arguments, **keywords)
        if path.name.startswith(".tso3-") and not others:
            others.append(os.open(path, os.O_RDONLY))
            fcntl.flock(others[0], fcntl.LOCK_EX)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", watched)
    with scratch_folder(tmp_path, "a") as scratch:
        assert scratch.exists()
    os.close(others[0])
    assert not list(tmp_path.iterdir())


def test_what_a_worker_makes_at_the_end_does_not_keep_the_folder(tmp_path, monkeypatch):
    listed = os.scandir

    def late(where):
        with listed(where) as entries:
            found = list(entries)
        if scratch.exists():  # a worker makes a file by the name that it knows
            (scratch / "rows-late").touch()
        return nullcontext(found)

    with scratch_folder(tmp_path, "a") as scratch:
        (scratch / "rows-1").touch()
        monkeypatch.setattr(os, "scandir", late)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
