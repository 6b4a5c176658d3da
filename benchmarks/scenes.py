"""The scenes of ``scenes.toml``: what is simulated for a seed, and its undisturbed twin."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("scenes.toml")
_OWN = ("name", "set", "size", "needs")
_NOISE = ("stripes", "profile", "phase_curve", "flare")
"""Troubles that the twin has as well: the noise that was drawn, and what the star and the optics are."""


@dataclass(frozen=True)
class Scene:
    """
    One scene.

    Attributes
    ----------
    name, set, size : str
        As in the file.
    needs : str
        File below ``$TSO3_SHARED/data`` from which the profile is drawn; empty for none.
    options : dict
        Arguments of `tso3.simulate.simulate`.
    """

    name: str
    set: str
    size: str
    needs: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """What keeps the scene from being simulated here; empty if nothing does."""
        if not self.needs:
            return ""
        shared = os.environ.get("TSO3_SHARED", "")
        if not shared:
            return "TSO3_SHARED is not set"
        return "" if self._needed.is_file() else f"{self._needed} does not exist"

    @property
    def _needed(self) -> Path:
        """The file that the scene needs."""
        return Path(os.environ["TSO3_SHARED"]) / "data" / self.needs

    def simulate(self, folder: Path, seed: int) -> Any:
        """Write the visit of a seed and return it."""
        from tso3.simulate import simulate

        return simulate(output_dir=folder, seed=seed, **self._with_profile(self.options))

    def simulate_twin(self, folder: Path, seed: int) -> Any:
        """Write the same draw of the noise on a scene without motion, cosmic rays, bad pixels and troubles."""
        from tso3.simulate import simulate

        troubles = {name: value for name, value in self.options.get("troubles", {}).items() if name in _NOISE}
        quiet = {"cosmic_rays": 0.0, "bad_pixels": 0.0, "jitter": 0.0, "drift": 0.0, "troubles": troubles}
        return simulate(output_dir=folder, seed=seed, **self._with_profile({**self.options, **quiet}))

    def _with_profile(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if not self.needs:
            return dict(options)
        return {**options, "troubles": {**options.get("troubles", {}), "profile": str(self._needed)}}


def load(path: Path = FILE) -> tuple[dict[str, Any], list[Scene]]:
    """Return what is measured (the table ``measure``) and the scenes, in the order of the file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    scenes = []
    for entry in content["scene"]:
        options = {**content["set"][entry["set"]], **{k: v for k, v in entry.items() if k not in _OWN}}
        scenes.append(Scene(entry["name"], entry["set"], entry["size"], entry.get("needs", ""), options))
    return content["measure"], scenes
