"""
Run the reference pipeline, ``jwst.pipeline.Tso3Pipeline``, without a server of reference files.

This script is the only place that knows how: it needs the package ``jwst`` and nothing of ``tso3``, so it runs in an
environment of its own. One job per call, given as JSON::

    python peer.py job.json

or one process for many jobs, a JSON object per line on standard input and an answer per line on standard output::

    python peer.py --serve

A job is an object with ``association`` (path), ``output_dir`` (path), and optionally ``references`` (reference type
to path) and ``parameters`` (step name to parameter to value). The answer holds ``seconds``, ``step_seconds`` (step
name to the seconds spent in it), and ``error`` (null, or class and message of what the pipeline raised). The
pipeline's own log goes to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONTEXT = "jwst_0000.pmap"
"""The CRDS context that the pipeline is told it used; no file of it exists."""

STEP_OF_REFERENCE = {
    "gain": "tso_photometry",
    "extract1d": "extract_1d",
    "apcorr": "extract_1d",
    "psf": "extract_1d",
    "pastasoss": "extract_1d",
    "specprofile": "extract_1d",
    "speckernel": "extract_1d",
    "photom": "photom",
    "area": "photom",
    "wavelengthrange": "white_light",
}
"""The step that takes each type of reference as ``override_<type>``."""


def go_offline() -> None:
    """Make ``stpipe`` and ``crds`` work without a server: every reference that is not overridden is ``N/A``."""
    os.environ["STPIPE_DISABLE_CRDS_STEPPARS"] = "true"
    os.environ["CRDS_CONTEXT"] = CONTEXT
    os.environ.setdefault("CRDS_PATH", tempfile.mkdtemp(prefix="crds-"))
    os.environ.setdefault("CRDS_SERVER_URL", "https://localhost.invalid")

    from stpipe import crds_client

    def no_references(_parameters: Any, types: Any, _observatory: str) -> dict[str, str]:
        return dict.fromkeys(types, "N/A")

    def context_used(_observatory: str) -> str:
        return CONTEXT

    crds_client.get_multiple_reference_paths = no_references
    crds_client.get_context_used = context_used


def step_settings(references: dict[str, str], parameters: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the ``steps`` argument of ``Tso3Pipeline.call``: the parameters and an override for every reference."""
    steps = {name: dict(values) for name, values in parameters.items()}
    for kind, path in references.items():
        steps.setdefault(STEP_OF_REFERENCE[kind], {})[f"override_{kind}"] = str(path)
    return steps


def time_steps(seconds: dict[str, float]) -> Any:
    """Wrap ``stpipe.Step.run`` so that the time inside each step adds up in ``seconds``; return the undo function."""
    from stpipe import Pipeline, Step

    original = Step.run

    def run(self: Any, *args: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(self, *args)
        finally:
            if not isinstance(self, Pipeline):
                seconds[self.name] = seconds.get(self.name, 0.0) + time.perf_counter() - start

    def undo() -> None:
        Step.run = original

    Step.run = run
    return undo


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job and return its answer; what the pipeline raises is part of the answer."""
    from jwst.pipeline import Tso3Pipeline

    step_seconds: dict[str, float] = {}
    undo = time_steps(step_seconds)
    start = time.perf_counter()
    error = None
    Path(job["output_dir"]).mkdir(parents=True, exist_ok=True)
    try:
        Tso3Pipeline.call(
            str(job["association"]),
            output_dir=str(job["output_dir"]),
            steps=step_settings(job.get("references", {}), job.get("parameters", {})),
        )
    except Exception as exc:  # whatever the pipeline raises is the answer
        logging.getLogger("peer").exception("the pipeline failed")
        error = f"{type(exc).__name__}: {exc}"
    finally:
        undo()
    return {"seconds": time.perf_counter() - start, "step_seconds": step_seconds, "error": error}


def versions() -> dict[str, str]:
    """Return the versions that decide the numbers."""
    from importlib.metadata import version

    names = ("jwst", "stdatamodels", "stcal", "stpipe", "numpy", "scipy", "astropy", "photutils", "gwcs")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def main(arguments: list[str]) -> int:
    """Run the job of the file given, or serve jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")  # the pipeline prints to standard output; answers must not mix with that
    os.dup2(2, 1)
    go_offline()
    if arguments == ["--versions"]:
        jobs: Any = ()
        print(json.dumps(versions()), file=answers, flush=True)
    elif arguments == ["--serve"]:
        print(json.dumps(versions()), file=answers, flush=True)
        jobs = (json.loads(line) for line in sys.stdin if line.strip())
    elif len(arguments) == 1 and not arguments[0].startswith("-"):
        jobs = (json.loads(Path(arguments[0]).read_text()),)
    else:
        print("usage: peer.py JOB.json | --serve | --versions", file=sys.stderr)
        return 2
    failed = False
    for job in jobs:
        answer = run_job(job)
        failed = failed or answer["error"] is not None
        print(json.dumps(answer), file=answers, flush=True)
    return int(failed and arguments != ["--serve"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
