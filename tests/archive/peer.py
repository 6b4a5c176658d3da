"""The reference pipeline as one process for a whole test session; ``benchmarks/peer.py`` knows how to run it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peer.py"


@dataclass(frozen=True)
class PeerRun:
    """
    One run of the reference pipeline.

    Attributes
    ----------
    output_dir : Path
        Folder that holds its products, and nothing else of FITS or ECSV.
    error : str or None
        Class and message of what it raised, if it did.
    seconds : float
        Wall time without start-up.
    """

    output_dir: Path
    error: str | None
    seconds: float

    def product(self, suffix: str) -> Path:
        """Return the one product whose name ends with ``suffix``."""
        found = sorted(self.output_dir.glob(f"*{suffix}"))
        if len(found) != 1:
            raise FileNotFoundError(f"{len(found)} products *{suffix} of the reference pipeline ({self.error})")
        return found[0]


class Peer:
    """
    A process that runs the reference pipeline on request, each distinct job once.

    Parameters
    ----------
    folder : Path
        Where outputs, the log and the empty reference cache go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, PeerRun] = {}
        self.versions: dict[str, str] = {}
        self.log = folder / "jwst.log"
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        association: Path,
        references: dict[str, Path] | None = None,
        parameters: dict[str, dict[str, Any]] | None = None,
    ) -> PeerRun:
        """
        Run the pipeline on an association, or return the run of the same job.

        Parameters
        ----------
        association : Path
            JSON file; the members lie beside it.
        references : dict of str to Path, optional
            Overrides by reference type; every other reference is ``N/A``.
        parameters : dict of str to dict, optional
            Parameters by step.
        """
        job: dict[str, Any] = {
            "association": str(association),
            "references": {kind: str(path) for kind, path in sorted((references or {}).items())},
            "parameters": parameters or {},
        }
        key = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:12]
        if key not in self.runs:
            job["output_dir"] = str(self.folder / key)
            answer = self._ask(job)
            self.runs[key] = PeerRun(Path(job["output_dir"]), answer["error"], answer["seconds"])
        return self.runs[key]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(timeout=60)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Send one job and wait for its answer."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Read one line of the process."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self.log.read_text().splitlines()[-20:]
            raise RuntimeError("the reference pipeline's process ended:\n" + "\n".join(tail))
        return json.loads(line)

    def _start(self) -> None:
        """Start the process and read which versions it has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
            )
        self.versions = self._answer()
