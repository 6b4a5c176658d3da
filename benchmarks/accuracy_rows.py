"""What the accuracy programme keeps: sums over seeds by scene and program, all of one version of the code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import accuracy_report
from accuracy_pool import add
from scenes import Scene

FOLDER = Path(__file__).parent
MEASURING = ("accuracy_flags.py", "accuracy_light.py", "accuracy_seed.py", "modes.py", "scenes.py")
"""Scripts of this folder that decide the numbers of a seed."""
DECIDE_NOTHING = ("report", "cli", "io/direct.py", "io/disk.py", "io/atomic.py", "progress.py")
"""Parts of tso3 that do not: figures, command line, how bytes reach the disk."""


@dataclass(frozen=True)
class Version:
    """
    What measures.

    Attributes
    ----------
    code : str
        Digest of the sources that decide the numbers: all of tso3 but `DECIDE_NOTHING`, and `MEASURING`.
    commit : str
        Of git; with ``+`` if a source differs from it. Empty outside a repository.
    origin : str
        Machine and versions of packages.
    """

    code: str
    commit: str
    origin: str


@dataclass
class Results:
    """
    What was measured so far.

    Attributes
    ----------
    path : Path
        The file that keeps it.
    rows : dict
        By scene and program: ``set``, ``seeds``, ``failed``, ``sums``, and ``code``, ``commit``, ``origin`` of its
        `Version`.
    cost : dict
        By scene: seeds, the processor time they took [s], and that of the last, which made nothing anew.
    """

    path: Path
    rows: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what a file holds; nothing if there is none."""
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}
        return cls(path, content["rows"], content.get("cost", {}))

    def keep_only(self, code: str) -> int:
        """Drop the rows that other code measured; return how many."""
        kept = {
            name: {program: row for program, row in programs.items() if row["code"] == code}
            for name, programs in self.rows.items()
        }
        dropped = sum(len(self.rows[name]) - len(programs) for name, programs in kept.items())
        self.rows = {name: programs for name, programs in kept.items() if programs}
        return dropped

    def begin(self, scene: Scene, programs: Sequence[str], version: Version, *, merge: bool) -> None:
        """Lay out the rows of a scene, empty unless seeds are to be added to them."""
        rows = self.rows.setdefault(scene.name, {})
        for program in programs:
            if not merge or program not in rows or rows[program]["code"] != version.code:
                empty: dict[str, Any] = {"set": scene.set, "seeds": [], "failed": {}, "sums": {}}
                rows[program] = empty | version.__dict__

    def lacks(self, scene: Scene, program: str, seed: int) -> bool:
        """Whether a seed was not measured, nor failed."""
        row = self.rows[scene.name][program]
        return seed not in row["seeds"] and str(seed) not in row["failed"]

    def take(self, scene: Scene, seed: int, answers: Mapping[str, Mapping[str, float] | str], seconds: float) -> None:
        """Add the numbers of a seed to those of others, by program; a text is the error of a program."""
        for name, numbers in answers.items():
            row = self.rows[scene.name][name]
            if not self.lacks(scene, name, seed):
                continue
            if isinstance(numbers, str):
                row["failed"][str(seed)] = numbers
            else:
                row["seeds"].append(seed)
                add(row["sums"], numbers)
        spent = self.cost.setdefault(scene.name, [0, 0.0, 0.0])
        spent[:] = spent[0] + 1, round(spent[1] + seconds, 2), round(seconds, 2)

    def expected_seconds(self, scene: Scene) -> float:
        """Return the processor time of the last seed of a scene, 0 if none was measured."""
        return self.cost.get(scene.name, (0, 0.0, 0.0))[2]

    def write(self, order: Sequence[str]) -> None:
        """Write the numbers, and the page beside them; scenes are in the order of their file."""
        self.rows = {name: self.rows[name] for name in [*order, *self.rows] if name in self.rows}
        self.cost = {name: self.cost[name] for name in self.rows if name in self.cost}
        measured = {
            name: {program: row for program, row in programs.items() if row["seeds"] or row["failed"]}
            for name, programs in self.rows.items()
        }
        for programs in measured.values():
            for row in programs.values():
                row["sums"] = {k: [float(f"{v:.9g}") for v in values] for k, values in row["sums"].items()}
        content = {"rows": {name: programs for name, programs in measured.items() if programs}, "cost": self.cost}
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=None).replace('}, "', '},\n"') + "\n")
        temporary.replace(self.path)
        accuracy_report.write(content, self.path.parent)


def version(peer: Mapping[str, str] | None) -> Version:
    """Return what measures; with the versions of the reference pipeline if it runs."""
    return Version(_fingerprint(), _commit(), _origin(peer))


def _fingerprint() -> str:
    import tso3

    digest = hashlib.sha256()
    root = Path(tso3.__file__).parent
    sources = [path for path in sorted(root.rglob("*.py")) if not _decides_nothing(path.relative_to(root))]
    for path in [*sources, *(FOLDER / name for name in MEASURING)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _decides_nothing(path: Path) -> bool:
    return path.as_posix() in DECIDE_NOTHING or path.parts[0] in DECIDE_NOTHING


def _commit() -> str:
    import tso3

    folder = Path(tso3.__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=10", "HEAD")
    changed = [line for line in git("status", "--porcelain", str(folder), str(FOLDER)).splitlines() if ".py" in line]
    return commit + ("+" if commit and changed else "")


def _origin(peer: Mapping[str, str] | None) -> str:
    """Return machine and versions in one line."""
    from importlib.metadata import version as version_of

    import tso3

    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    names = ", ".join(f"{name} {version_of(name)}" for name in ("numpy", "scipy", "astropy"))
    own = f"{model}, {os.cpu_count()} processors, Python {platform.python_version()}, tso3 {tso3.__version__}, {names}"
    return own if peer is None else f"{own}; jwst {peer['jwst']} (numpy {peer['numpy']})"
