"""
Light curves, flags and errors against the truth, over many simulated scenes and seeds.

``python benchmarks/accuracy.py [--scene NAME ...] [--seeds N]`` simulates the scenes of ``scenes.toml``, runs
``tso3.run`` on each in its presets (with ``--against jwst`` the reference pipeline as well), and pools over the seeds
what `docs/accuracy.md` describes. The results are in ``accuracy.json`` and ``accuracy.md``. A scene that is measured
again replaces its row; with ``--merge`` further seeds are added to what was measured with the same code. After
``--seconds`` no further seed is begun, so that the work can be cut into pieces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import accuracy_report
from accuracy_flags import contacts, count_flags, places
from accuracy_light import Light, judge, read_light
from accuracy_pool import add, failures
from scenes import Scene, load

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Program:
    """
    What runs in this process.

    Attributes
    ----------
    preset : str
        Of tso3.
    parameters : dict
        On top of it.
    given : bool
        Whether it is given the reference files of the scene, with their fixed box, as the reference pipeline is; else
        it takes its own aperture.
    """

    preset: str = "default"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    given: bool = False


PROGRAMS = {
    "tso3": Program(),
    "optimal": Program(parameters={"extract_1d": {"extraction_type": "optimal"}}),
    "tso3 in the box": Program(given=True),
    "archive": Program("archive", given=True),
}
BY_DEFAULT = ("tso3", "archive")
IN_THE_BOX, OPTIMALLY = "reference in the box", "reference, optimal"
QUIETLY = {"outlier_detection": {"skip": True}}
"""Parameters of the undisturbed twin: there is nothing to be found in it."""


class Peer:
    """
    The reference pipeline in a process of its own, one job at a time.

    Parameters
    ----------
    python : str
        Its interpreter.
    folder : Path
        Where its log goes.
    """

    def __init__(self, python: str, folder: Path) -> None:
        command = [python, str(FOLDER / "peer.py"), "--serve"]
        self._log = open(folder / "jwst.log", "w")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=folder
        )
        self.versions = json.loads(self._answer())

    def run(self, association: Path, folder: Path, references: Mapping[str, Path]) -> None:
        """Run the pipeline; RuntimeError with what it raised."""
        from peer import STEP_OF_REFERENCE

        known = {kind: str(path) for kind, path in references.items() if kind in STEP_OF_REFERENCE}
        job = {"association": str(association), "output_dir": str(folder), "references": known}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._answer())
        if answer["error"] is not None:
            raise RuntimeError(answer["error"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._log.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reference pipeline ended; see {self._log.name}")
        return line


@dataclass
class Results:
    """
    What was measured so far.

    Attributes
    ----------
    path : Path
        The file that keeps it.
    rows : dict
        By scene and program: ``set``, ``seeds``, ``failed``, ``sums``, ``code``, ``origin``.
    """

    path: Path
    rows: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what a file holds; nothing if there is none."""
        return cls(path, json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {})

    def row(self, scene: Scene, program: str, origin: str, code: str, merge: bool) -> dict[str, Any]:
        """Return the row of a scene and program, empty unless seeds are to be added to it."""
        rows = self.rows.setdefault(scene.name, {})
        if not merge or program not in rows or rows[program]["code"] != code:
            rows[program] = {"set": scene.set, "seeds": [], "failed": {}, "sums": {}, "code": code, "origin": origin}
        return rows[program]

    def write(self, order: Sequence[str]) -> None:
        """Write the numbers, and the page beside them; scenes are in the order of their file."""
        self.rows = {name: self.rows[name] for name in [*order, *self.rows] if name in self.rows}
        for programs in self.rows.values():
            for row in programs.values():
                row["sums"] = {k: [float(f"{v:.9g}") for v in values] for k, values in row["sums"].items()}
        self.path.write_text(json.dumps({"rows": self.rows}, indent=None).replace('}, "', '},\n"') + "\n")
        accuracy_report.write({"rows": self.rows}, self.path.parent)


def fingerprint() -> str:
    """Return a digest of the code that decides the numbers: that of tso3 and of this programme."""
    import tso3

    digest = hashlib.sha256()
    for path in [*sorted(Path(tso3.__file__).parent.rglob("*.py")), *sorted(FOLDER.glob("accuracy*.py"))]:
        if path.parent.name not in ("report", "cli") and path.name != "accuracy_report.py":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def origin(peer: Peer | None) -> str:
    """Return machine and versions in one line."""
    from importlib.metadata import version

    import tso3

    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    names = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "astropy"))
    own = f"{model}, {os.cpu_count()} processors, Python {platform.python_version()}, tso3 {tso3.__version__}, {names}"
    return own if peer is None else f"{own}; jwst {peer.versions['jwst']} (numpy {peer.versions['numpy']})"


def reference_of(program: str) -> str:
    """Return what a program is compared with: the twin in its own aperture, optimally, or in the given box."""
    if program == "optimal":
        return OPTIMALLY
    return IN_THE_BOX if program == "jwst" or PROGRAMS[program].given else "reference"


def used_references(visit: Any) -> dict[str, Path]:
    """Return the reference files that all programs get: without limits of the white light, which the truth has not."""
    return {kind: path for kind, path in visit.references.items() if kind != "wavelengthrange"}


def reduce_with(program: str, visit: Any, folder: Path, peer: Peer | None) -> list[Path]:
    """Run one program on a visit; return its flagged exposures, in the order of the segments."""
    import tso3

    if program == "jwst":
        assert peer is not None
        peer.run(visit.association, folder, used_references(visit))
    else:
        how = PROGRAMS[program]
        references = used_references(visit) if how.given else {}
        tso3.run(visit.association, folder, preset=how.preset, parameters=how.parameters, overrides=references)
    return sorted(folder.glob("*_crfints.fits"))


def measure_seed(
    scene: Scene, seed: int, programs: Iterable[str], folder: Path, settings: Mapping[str, Any], peer: Peer | None
) -> dict[str, dict[str, float] | str]:
    """
    Return the numbers of one seed by program, those of the reference included; a text is the error of a program.

    Parameters
    ----------
    scene : Scene
        What is simulated.
    seed : int
        Its seed.
    programs : iterable of str
        Keys of ``PROGRAMS``, or ``"jwst"``.
    folder : Path
        Empty; its files may be removed afterwards.
    settings : mapping
        The table ``measure`` of the scenes' file.
    peer : Peer or None
        For ``"jwst"``.
    """
    import tso3

    depth = scene.options["depth"]
    contact = contacts(depth)
    twin = scene.simulate_twin(folder / "twin", seed)
    answers: dict[str, dict[str, float] | str] = {}
    best: dict[str, Light] = {}
    for name in sorted({reference_of(program) for program in programs}):
        references = used_references(twin) if name == IN_THE_BOX else {}
        how = PROGRAMS["optimal"].parameters if name == OPTIMALLY else {}
        tso3.run(twin.association, folder / name, parameters={**QUIETLY, **how}, overrides=references)
        best[name] = read_light(folder / name, twin.truths, settings["channels"])
        answers[name] = judge(best[name], best[name], contact)
    visit = scene.simulate(folder / "visit", seed)
    lengths = [_n_int(path) for path in visit.members]
    for program in programs:
        try:
            crfints = reduce_with(program, visit, folder / program, peer)
            light: Light = read_light(folder / program, visit.truths, settings["channels"])
        except (tso3.Tso3Error, RuntimeError, FileNotFoundError) as error:
            answers[program] = f"{type(error).__name__}: {error}".replace(str(folder), "")[:200]
            continue
        truth = np.load(next(iter(visit.truths.values())))
        place = places(truth, lengths, depth, settings["edge"], settings["ends"])
        counts = count_flags(visit, crfints, place, settings["found_above"]) if crfints else {}
        answers[program] = judge(light, best[reference_of(program)], contact) | counts
    return answers


def _n_int(path: Path) -> int:
    from astropy.io import fits

    return int(fits.getheader(path, "SCI", 1)["NAXIS3"])


def measure_scene(scene: Scene, seeds: Sequence[int], options: argparse.Namespace, results: Results, run: Run) -> bool:
    """Measure the seeds of one scene and keep the results; False if the time is over."""
    names = [*sorted({reference_of(program) for program in options.program}), *options.program]
    rows = {name: results.row(scene, name, run.origin, run.code, options.merge) for name in names}
    for seed in seeds:
        wanted = [name for name in options.program if seed not in rows[name]["seeds"] + _failed(rows[name])]
        if not wanted:
            continue
        if time.monotonic() > run.end:
            return False
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="accuracy-", dir=options.work_dir) as scratch:
            answers = measure_seed(scene, seed, wanted, Path(scratch), run.settings, run.peer)
        for name, numbers in answers.items():
            row = rows[name]
            if seed in row["seeds"]:
                continue
            if isinstance(numbers, str):
                row["failed"][str(seed)] = numbers
                continue
            row["seeds"].append(seed)
            add(row["sums"], numbers)
        results.write(run.order)
        print(f"{scene.name}, seed {seed}: {time.monotonic() - started:.1f} s", flush=True)
    for name in options.program:
        missed = failures(rows[name], scene.set, name == "optimal") if rows[name]["seeds"] else ["every run"]
        print(f"{scene.name}, {name}: {'; '.join(missed) or 'holds'}", flush=True)
    return True


def _failed(row: Mapping[str, Any]) -> list[int]:
    return [int(seed) for seed in row["failed"]]


@dataclass(frozen=True)
class Run:
    """What all scenes of a call share."""

    settings: Mapping[str, Any]
    order: Sequence[str]
    origin: str
    code: str
    end: float
    peer: Peer | None


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", action="append", help="name, or a set (nominal, difficult) or size; all by default")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N-1; by default those of the scenes' file")
    parser.add_argument("--program", action="append", choices=[*PROGRAMS], help="tso3 and archive by default")
    parser.add_argument("--against", choices=["jwst"], help="run the reference pipeline as well")
    parser.add_argument("--peer-python", default=os.environ.get("TSO3_PEER_PYTHON", ""), help="its interpreter")
    parser.add_argument("--merge", action="store_true", help="add seeds to rows of the same code")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further seed after so long")
    parser.add_argument("--scenes-file", type=Path, default=FOLDER / "scenes.toml")
    parser.add_argument("--results", type=Path, default=FOLDER / "accuracy.json")
    parser.add_argument("--work-dir", type=Path, help="where scenes are simulated")
    options = parser.parse_args(arguments)
    options.program = options.program or [*BY_DEFAULT]
    if options.against:
        if not options.peer_python:
            parser.error("--against jwst needs --peer-python (see benchmarks/README.md)")
        options.program.append("jwst")
    return options


def main() -> int:
    """Measure what was asked for; 1 if a scene that can be simulated was not measured in full."""
    options = parse()
    settings, scenes = load(options.scenes_file)
    names = set(options.scene or ())
    if unknown := names - {text for scene in scenes for text in (scene.name, scene.set, scene.size)}:
        print(f"accuracy.py: no scene {', '.join(sorted(unknown))} in {options.scenes_file}", file=sys.stderr)
        return 2
    chosen = [scene for scene in scenes if not names or names & {scene.name, scene.set, scene.size}]
    results, complete = Results.read(options.results), True
    with tempfile.TemporaryDirectory(prefix="accuracy-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = Peer(options.peer_python, Path(scratch)) if options.against else None
        end = time.monotonic() + options.seconds
        run = Run(settings, [scene.name for scene in scenes], origin(peer), fingerprint(), end, peer)
        for scene in chosen:
            if scene.missing:
                print(f"{scene.name}: left out, {scene.missing}", flush=True)
                continue
            n_seeds = options.seeds or settings[f"seeds_{scene.size}"]
            complete = measure_scene(scene, range(n_seeds), options, results, run) and complete
        if peer is not None:
            peer.close()
    return 0 if complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
