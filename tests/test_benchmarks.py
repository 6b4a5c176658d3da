"""The instruments of the benchmarks: memory of children counted, stages timed, the copy complete, the page kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark(code, *arguments, env=None):
    """Run Python code that can import the scripts of the benchmarks."""
    prefix = f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", prefix + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_and_stages_of_a_process_tree(tmp_path):
    child = "x = bytearray(80 << 20); import time; time.sleep(0.6)"
    parent = (
        "import subprocess, sys, time\n"
        "say = lambda text: print('12:00:00', text, file=sys.stderr, flush=True)\n"
        "say('survey: 3'); x = bytearray(50 << 20); time.sleep(0.2); say('survey: done in 0.2 s')\n"
        f"say('NRS1: 10'); subprocess.run([sys.executable, '-c', {child!r}]); say('NRS1: done in 0.6 s')\n"
        "sys.exit(3)"
    )
    code = (
        "import json; from pathlib import Path; from measure import measure\n"
        f"m = measure([sys.executable, '-c', {parent!r}], cwd=Path(sys.argv[1]))\n"
        "print(json.dumps([m.returncode, m.seconds, m.private_bytes, m.step_seconds]))"
    )
    returncode, seconds, private, steps = benchmark(code, tmp_path)
    assert returncode == 3
    assert seconds > 0.8
    assert 130 << 20 < private < 200 << 20
    assert list(steps) == ["start-up", "survey", "NRS1", "end"]
    assert steps["survey"] == pytest.approx(0.2, abs=0.15)
    assert steps["NRS1"] > 0.6
    assert sum(steps.values()) == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize("n_written", [0, 1000, 9_000_000, 40_000_000])
def test_the_copy_writes_as_many_bytes_as_asked(tmp_path, n_written):
    source = tmp_path / "in.bin"
    source.write_bytes(b"x" * 9_500_000)
    code = (
        "import json, os; from pathlib import Path; import measure\n"
        "sizes = []; sync = os.fsync\n"
        "measure.os.fsync = lambda fd: (sync(fd), sizes.append(os.fstat(fd).st_size))\n"
        "s = measure.copy_with_sync([Path(sys.argv[1])], int(sys.argv[2]), Path(sys.argv[1]).parent)\n"
        "print(json.dumps([s, sizes]))"
    )
    seconds, sizes = benchmark(code, source, n_written)
    assert sizes == [n_written]
    assert seconds > 0
    assert list(tmp_path.iterdir()) == [source]


def test_results_replace_the_row_of_a_case(tmp_path):
    code = """
import json
from pathlib import Path
from report import write_results
def record(case, archive, jwst):
    program = lambda s: dict(seconds=[s], cpu_seconds=s, private_bytes=2**20, resident_bytes=0, step_seconds={})
    return dict(case=case, title=case, segments=2, at_most=30, aim=60, date="2026-01-01", repeat=1, max_memory=None,
                bytes_read=10, bytes_written=10, copy_seconds=[0.5], machine={}, peer_versions=None,
                programs=dict(archive=program(archive), jwst=program(jwst)))
folder = Path(sys.argv[1])
rounds = [record("a", 1, 40), record("b", 1, 40)], [record("a", 1, 20)]
holds = [write_results(records, folder)[1] for records in rounds]
print(json.dumps([holds, (folder / "results.md").read_text()]))
"""
    holds, text = benchmark(code, tmp_path)
    assert holds == [True, False]
    assert text.count("\n| a |") == 1
    assert "20.0 (missed)" in text
    assert "**40.0**" in text


def test_without_a_peer_it_says_what_to_do():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "--against", "jwst"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 1
    assert "--peer-python" in done.stderr
    assert "pip install jwst==3.0.0" in done.stderr
    assert "Traceback" not in done.stderr
