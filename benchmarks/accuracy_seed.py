"""One seed of a scene: simulated, reduced by each program, judged against its truth."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_flags import contacts, count_flags, places
from accuracy_light import Light, judge, read_light
from scenes import Scene

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
IN_THE_BOX, OPTIMALLY = "reference in the box", "reference, optimal"
QUIETLY = {"outlier_detection": {"skip": True}}
"""Parameters of the undisturbed twin: there is nothing to be found in it."""
UNJUDGED = {"rectify": {"skip": True}}
"""Parameters of all runs: what is made beside the light curves is left out."""


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


def reference_of(program: str) -> str:
    """Return what a program is compared with: the twin in its own aperture, optimally, or in the given box."""
    if program == "optimal":
        return OPTIMALLY
    return IN_THE_BOX if program == "jwst" or PROGRAMS[program].given else "reference"


def used_references(visit: Any) -> dict[str, Path]:
    """Return the reference files that all programs get: without limits of the white light, which the truth has not."""
    return {kind: path for kind, path in visit.references.items() if kind != "wavelengthrange"}


def with_channels(visit: Any, n_channels: int) -> dict[str, dict[str, Any]]:
    """Return the parameters that make light curves in channels, of spectra."""
    truth = np.load(next(iter(visit.truths.values())))
    return {"channels": {"spec": str(n_channels)}} if "calibrated" in truth else {}


def reduce_with(program: str, visit: Any, folder: Path, peer: Peer | None, n_channels: int) -> list[Path]:
    """Run one program on a visit; return its flagged exposures, in the order of the segments."""
    import tso3

    if program == "jwst":
        assert peer is not None
        peer.run(visit.association, folder, used_references(visit))
    else:
        how = PROGRAMS[program]
        references = used_references(visit) if how.given else {}
        parameters = {**UNJUDGED, **how.parameters}
        if how.preset != "archive":  # whose products are spectra: their channels are summed plainly
            for step, values in with_channels(visit, n_channels).items():
                parameters[step] = values | dict(parameters.get(step, {}))
        tso3.run(visit.association, folder, preset=how.preset, parameters=parameters, overrides=references, workers=1)
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
        Empty; its files are removed as soon as they are not needed, or may be afterwards.
    settings : mapping
        The table ``measure`` of the scenes' file.
    peer : Peer or None
        For ``"jwst"``.
    """
    import tso3

    depth, n_channels = scene.options["depth"], settings["channels"]
    contact = contacts(depth)
    twin = scene.simulate_twin(folder / "twin", seed)
    common = {**UNJUDGED, **QUIETLY, **with_channels(twin, n_channels)}
    answers: dict[str, dict[str, float] | str] = {}
    best: dict[str, Light] = {}
    for name in sorted({reference_of(program) for program in programs}):
        references = used_references(twin) if name == IN_THE_BOX else {}
        how = PROGRAMS["optimal"].parameters if name == OPTIMALLY else {}
        tso3.run(twin.association, folder / name, parameters={**common, **how}, overrides=references, workers=1)
        best[name] = read_light(folder / name, twin.truths, n_channels)
        answers[name] = judge(best[name], best[name], contact)
        shutil.rmtree(folder / name)
    shutil.rmtree(folder / "twin")
    visit = scene.simulate(folder / "visit", seed)
    lengths = [_n_int(path) for path in visit.members]
    for program in programs:
        try:
            crfints = reduce_with(program, visit, folder / program, peer, n_channels)
            light: Light = read_light(folder / program, visit.truths, n_channels)
        except (tso3.Tso3Error, RuntimeError, FileNotFoundError) as error:
            answers[program] = f"{type(error).__name__}: {error}".replace(str(folder), "")[:200]
            continue
        truth = np.load(next(iter(visit.truths.values())))
        place = places(truth, lengths, depth, settings["edge"], settings["ends"])
        counts = count_flags(visit, crfints, place, settings["found_above"]) if crfints else {}
        answers[program] = judge(light, best[reference_of(program)], contact) | counts
        shutil.rmtree(folder / program)
    return answers


def _n_int(path: Path) -> int:
    from astropy.io import fits

    return int(fits.getheader(path, "SCI", 1)["NAXIS3"])
