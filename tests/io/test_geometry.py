"""What is remembered of world coordinates: the same bits, without gwcs, and never more than a loss of time."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from tso3.errors import InputError
from tso3.io import memory
from tso3.io.geometry import Geometry
from tso3.io.memory import cache_folder, digest, remembered


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the cache folder of one test."""
    monkeypatch.setenv("TSO3_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "answers"


class TestFolder:
    """Where answers are kept."""

    def test_by_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("TSO3_CACHE_DIR", str(tmp_path))
        assert cache_folder() == tmp_path
        monkeypatch.setenv("TSO3_CACHE_DIR", "")
        assert cache_folder() is None
        monkeypatch.delenv("TSO3_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "tso3"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "tso3"

    def test_digest_tells_every_bit(self):
        parts = [
            1,
            1.0,
            "1",
            b"1",
            True,
            None,
            (1,),
            np.array(1.0),
            np.float32([1.0]),
            np.nextafter(1.0, 2.0),
            -0.0,
            0.0,
        ]
        assert len({digest(part) for part in parts}) == len(parts)
        with pytest.raises(TypeError, match="no digest of list"):
            digest([1])


class TestRemembered:
    """Answers of any kind."""

    def ask(self, key="key", value=1.0):
        """Return an answer and how often it was computed for."""
        calls = []

        def compute():
            calls.append(1)
            return {"plane": np.array([[value, np.nan, -0.0]]), "name": np.array("a"), "empty": np.array([])}

        return remembered(key, compute), len(calls)

    def test_computed_once_and_the_same_bits(self, folder):
        first, computed = self.ask()
        again, not_computed = self.ask()
        assert (computed, not_computed) == (1, 0)
        assert first.keys() == again.keys()
        for name in first:
            assert first[name].dtype == again[name].dtype
            assert first[name].shape == again[name].shape
            assert first[name].tobytes() == again[name].tobytes()
        assert self.ask("another")[1] == 1

    @pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "pickled"])
    def test_damage_is_repaired(self, folder, damage):
        self.ask()
        (file,) = folder.iterdir()
        whole = file.read_bytes()
        if damage == "pickled":
            np.savez(file, plane=np.array([{}], dtype=object))
        else:
            middle = whole.index(np.float64(1.0).tobytes())
            changed = whole[:middle] + bytes(8) + whole[middle + 8 :]
            file.write_bytes({"cut": whole[:-30], "changed": changed, "emptied": b""}[damage])
        answer, computed = self.ask()
        assert computed == 1
        assert answer["plane"][0, 0] == 1.0
        assert self.ask()[1] == 0

    def test_no_folder_costs_time_only(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        for value in (str(tmp_path / "file"), ""):
            monkeypatch.setenv("TSO3_CACHE_DIR", value)
            assert [self.ask()[1], self.ask()[1]] == [1, 1]

    def test_errors_are_not_kept(self, folder):
        def fail():
            raise InputError("wrong", "a.fits")

        for _ in range(2):
            with pytest.raises(InputError, match="wrong"):
                remembered("key", fail)
        assert not folder.exists()

    def test_what_was_used_longest_ago_goes(self, folder, monkeypatch):
        for i in range(3):
            self.ask(f"key {i}")
        for i, file in enumerate(sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime_ns)):
            os.utime(file, (i, i))
        self.ask("key 0")  # used last
        monkeypatch.setattr(memory, "_ROOM", 3 * next(folder.iterdir()).stat().st_size)
        self.ask("key 3")
        assert len(list(folder.iterdir())) == 3
        assert self.ask("key 0")[1] == 0
        assert self.ask("key 1")[1] == 1


class TestGeometry:
    """Answers of a WCS."""

    def test_the_same_bits_and_no_gwcs(self, folder, calints_with_wcs):
        program = (
            "import sys; from pathlib import Path; from tso3.io.geometry import Geometry;"
            "g = Geometry(Path(sys.argv[1])); sky = g.sky(2.0, 3.0);"
            "import numpy as np; skies = g.skies(np.arange(3.0), np.ones(3));"
            "scale = g.pixel_scale(sky, 3.02, 1); w = g.wavelength(5, 7);"
            "print(sky[0].hex(), sky[1].hex(), scale.hex(), w.tobytes().hex(), skies[1].tobytes().hex());"
            "print(any(m in sys.modules for m in ('gwcs', 'asdf', 'stdatamodels', 'asdf_astropy')))"
        )
        fresh, kept = (
            subprocess.run(
                [sys.executable, "-c", program, str(calints_with_wcs)], check=True, capture_output=True, text=True
            ).stdout.splitlines()
            for _ in range(2)
        )
        assert fresh[0] == kept[0]
        assert (fresh[1], kept[1]) == ("True", "False")

    def test_another_tree_is_another_question(self, folder, calints_with_wcs, tmp_path):
        geometry = Geometry(calints_with_wcs)
        assert geometry.sky(2.0, 3.0) is not None
        assert geometry.sky(50.0, 3.0) is None
        with fits.open(calints_with_wcs) as hdus:
            plain = tmp_path / "plain.fits"
            fits.HDUList([hdu for hdu in hdus if hdu.name != "ASDF"]).writeto(plain)
        assert Geometry(plain).sky(2.0, 3.0) is None
        n_kept = len(list(folder.iterdir()))
        assert n_kept == 2
        raw = calints_with_wcs.read_bytes()
        calints_with_wcs.write_bytes(raw.replace(b"#ASDF 1.0.0", b"#XSDF 1.0.0"))
        with pytest.raises(InputError, match="its ASDF extension cannot be read"):
            Geometry(calints_with_wcs).sky(2.0, 3.0)
        assert len(list(folder.iterdir())) == n_kept
