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
    child = "x = bytearray(80 << 20); import time; time.sleep(1.0)"
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
    assert seconds > 1.2
    assert 130 << 20 < private < 200 << 20
    assert list(steps) == ["start-up", "survey", "NRS1", "end"]
    assert all(value >= 0 for value in steps.values())  # how long each is depends on the load of the machine
    assert sum(steps.values()) <= seconds


def test_the_time_of_a_stage_is_between_its_lines(tmp_path):
    code = (
        "import json; from measure import _stages\n"
        "lines = [(0.3, 'survey: 3'), (0.5, 'survey: done in 0.2 s'), (0.75, 'NRS1: 10'), (0.8, 'NRS2: 10'),\n"
        "         (1.75, 'NRS1: done in 1 s'), (2.0, 'NRS2: done in 1 s'),\n"
        "         (2.5, 'NRS1: 10'), (3.0, 'NRS1: done in 1 s')]\n"
        "print(json.dumps([_stages([(at, '12:00:00 ' + text) for at, text in lines], 3.5), _stages([], 1.0)]))"
    )
    stages, none = benchmark(code)
    expected = {"start-up": 0.3, "survey": 0.2, "NRS1": 1.5, "NRS2": 1.2, "end": 0.5}
    assert stages == pytest.approx(expected)
    assert none == {}


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


def test_inputs_are_read_to_their_ends(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 9_000_001)
    (tmp_path / "b").write_bytes(b"")
    code = (
        "import json, measure; from pathlib import Path; print(json.dumps(measure.read_once(map(Path, sys.argv[1:]))))"
    )
    assert benchmark(code, tmp_path / "a", tmp_path / "b", tmp_path / "a") == 18_000_002


def test_memory_is_used_once_and_given_back():
    code = (
        "import json, os, measure, resource\n"
        "n = measure.touch_memory(0.01)\n"
        "most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "print(json.dumps([n, most, measure._private_bytes(measure.psutil.Process())]))"
    )
    n, most, left = benchmark(code)
    assert 0 < n < most
    assert left < most - 0.9 * n


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


@pytest.mark.parametrize("script", ["run.py", "scaling.py", "where_time_goes.py"])
def test_scripts_that_settle_before_a_run_have_its_options(script):
    said = subprocess.run(
        [sys.executable, FOLDER / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "--settle" in said
    assert "--touch-memory" in said


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


TINY = """
[measure]
seeds_small = 2
channels = 4
edge = 2
ends = 3
found_above = [8.0, 6.0]
[set.nominal]
cosmic_rays = 60.0
bad_pixels = 0.002
drift = 0.02
jitter = 0.003
depth = 0.01
segments = 2
[[scene]]
name = "image"
set = "nominal"
size = "small"
mode = "NRC_TSIMAGE"
n_int = 24
[[scene]]
name = "from a file that is not here"
set = "nominal"
size = "small"
mode = "NIS_SOSS"
n_int = 24
needs = "no/such/file.npy"
"""


@pytest.fixture
def accuracy(monkeypatch):
    """Make the scripts of the accuracy programme importable."""
    monkeypatch.syspath_prepend(str(FOLDER))


def test_accuracy_of_a_tiny_scene_and_of_one_more_seed(accuracy, tmp_path, monkeypatch, capsys):
    import accuracy as programme

    (tmp_path / "scenes.toml").write_text(TINY)
    given = {"--scenes-file": "scenes.toml", "--results": "accuracy.json", "--work-dir": ""}
    places = [text for option, name in given.items() for text in (option, str(tmp_path / name))]
    for options in (["--seeds", "1"], ["--seeds", "2", "--merge"]):
        monkeypatch.setattr(sys, "argv", ["accuracy.py", "--program", "tso3", *places, *options])
        assert programme.main() == 0
        said = capsys.readouterr().out
        assert "no/such/file.npy" in said or "TSO3_SHARED" in said
    row = json.loads((tmp_path / "accuracy.json").read_text())["rows"]["image"]["tso3"]
    assert row["seeds"] == [0, 1]
    assert row["sums"]["out"][0] == row["sums"]["pull"][0] == 2
    assert row["sums"]["rays_8"][1] >= 10
    assert row["sums"]["found_8"][1] > 0.9 * row["sums"]["rays_8"][1]
    assert 0 < row["sums"]["expect_elsewhere"][1] < 1
    assert abs(row["sums"]["pull"][1]) < 12
    assert 0.3 < row["sums"]["chi2_out"][1] / 2 < 3
    assert (row["code"], row["commit"]) == (programme.version(None).code, programme.version(None).commit)
    page = (tmp_path / "accuracy.md").read_text()
    assert "| image | tso3 | 2 |" in page
    assert "|  | reference | 2 | 1 | 1 |" in page
    assert not list(tmp_path.glob("accuracy-*"))
    content = json.loads((tmp_path / "accuracy.json").read_text())
    assert content["cost"]["image"][0] == 2
    content["rows"]["image"]["tso3"]["code"] = "other"
    (tmp_path / "accuracy.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--program", "tso3", *places, "--merge", "--seconds", "0"])
    assert programme.main() == 1
    said = capsys.readouterr().out
    assert "1 rows of other code dropped" in said
    assert "stopped before round 1" in said


def test_scenes_take_turns(accuracy):
    from accuracy_rounds import rounds

    targets = {"small": 300, "other": 300, "full": 10}
    made = list(rounds(targets, 5))
    assert made[0] == {"small": range(1), "other": range(1), "full": range(1)}
    assert made[1] == {"small": range(1, 5), "other": range(1, 5)}
    done = dict.fromkeys(targets, 0)
    for number in made:
        for name, seeds in number.items():
            assert seeds.start == done[name]
            done[name] = seeds.stop
        assert done["small"] == done["other"]
        assert abs(done["full"] - done["small"] / 30) <= 1
    assert done == targets
    assert list(rounds({"a": 2}, 5)) == [{"a": range(1)}, {"a": range(1, 2)}]
    assert list(rounds({}, 5)) == []


def test_the_reference_pipeline_takes_part_in_one_small_scene_of_each_mode(accuracy):
    from accuracy import choose, parse
    from scenes import load

    settings, scenes = load()
    asked = choose(scenes, settings, parse(["--against", "jwst", "--peer-python", "python", "--set", "nominal"]))
    modes = {scene.options["mode"] for scene in asked.scenes}
    against = {scene.name: scene for scene in asked.scenes if scene.name in asked.against}
    assert len(against) == len(modes) + 1
    assert "PRISM visit" in against
    assert {scene.options["mode"] for scene in against.values() if scene.size == "small"} == modes
    (prism,) = [scene for scene in asked.scenes if scene.name == "prism"]
    assert "jwst" in asked.programs(prism, 0)
    assert "jwst" not in asked.programs(prism, 3)
    named = choose(scenes, settings, parse(["--against", "jwst", "--peer-python", "python", "--scene", "g140m"]))
    assert named.against == {"g140m"}


def test_rows_of_other_code_are_marked_on_the_page(accuracy):
    from accuracy_report import markdown

    row = {"set": "nominal", "seeds": [0], "failed": {}, "sums": {}, "commit": "abc", "origin": "a machine"}
    rows = {"a": {"tso3": {**row, "code": "new"}}, "b": {"tso3": {**row, "code": "new"}}, "c": {}}
    assert "†" not in markdown({"rows": rows})
    rows["c"]["tso3"] = {**row, "code": "old"}
    page = markdown({"rows": rows})
    assert "| c | tso3 | 1 † |" in page
    assert "| a | tso3 | 1 |" in page
    assert "digest of the code old, commit abc: 1 rows" in page


def test_pooled_ratios_and_their_errors(accuracy):
    import numpy as np

    from accuracy_pool import add, moments, ratio

    rng = np.random.default_rng(3)
    sums, one = {}, {}
    for _ in range(400):
        noise, more = rng.normal(size=(2, 50))
        add(sums, {"out": np.var(noise + 0.5 * more), "out_ref": np.var(noise), "pull": noise[0], "chi2": np.nan})
        add(one, {"out": np.var(noise), "out_ref": np.var(noise)})
    found = ratio(sums, "out", 1.05)
    assert found.value == pytest.approx(np.sqrt(1.25), abs=4 * found.error)
    assert 0.001 < found.error < 0.005
    assert found.holds is False
    assert ratio(sums, "out", 1.12).holds is True
    assert ratio(one, "out", 1.0).holds is True
    assert ratio(one, "out", 1.0).error == pytest.approx(0.0, abs=1e-9)
    assert moments(sums, "pull")[2] == pytest.approx(1.0, abs=0.1)
    assert moments(sums, "chi2")[0] == 0


def test_bounds_of_flags_and_cosmic_rays(accuracy):
    from accuracy_pool import false_flags, found

    sums = {"rays_8": [1, 1000.0], "found_8": [1, 985.0], "false_ends": [1, 60.0], "expect_ends": [1, 4.0]}
    assert found(sums, "8", 0.99).holds is True  # within two standard errors
    assert found(sums, "8", 0.995).holds is False
    assert found({}, "8", 0.995).holds is None
    assert false_flags(sums, "ends", "nominal") == (60.0, 4.0, False)
    assert false_flags(sums, "ends", "difficult") == (60.0, 4.0, True)


def test_places_of_integrations(accuracy):
    import numpy as np

    from accuracy_flags import PLACES, contacts, places

    place = np.array(PLACES)[places({"ramp": np.ones(200)}, [100, 100], 0.01, 3, 5)]
    assert (place[:5] == "ends").all()
    assert (place[-5:] == "ends").all()
    assert (place[97:103] == "edges").all()
    assert np.flatnonzero(place == "ingress").tolist() == list(range(54, 65))
    assert np.flatnonzero(place == "egress").tolist() == list(range(135, 146))
    assert contacts(0.0) == (0.225, 0.225)


def test_every_scene_can_be_simulated(accuracy):
    from scenes import load
    from tso3.simulate.configurations import instrument_of
    from tso3.simulate.troubles import make_troubles

    settings, scenes = load()
    assert {scene.set for scene in scenes} == {"nominal", "difficult"}
    assert {"PRISM visit", "BOTS visit"} <= {scene.name for scene in scenes}
    modes = {"NRS_BRIGHTOBJ", "NIS_SOSS", "NRC_TSGRISM", "NRC_TSIMAGE", "MIR_IMAGE", "MIR_MRS", "MIR_LRS-SLITLESS"}
    assert {scene.options["mode"] for scene in scenes} == modes
    assert settings["seeds_small"] == 300
    for scene in scenes:
        instrument = instrument_of(scene.options["mode"], scene.options.get("configuration"))
        assert scene.options.get("subarray", next(iter(instrument.subarrays))) in instrument.subarrays
        make_troubles(scene.options.get("troubles"), instrument)
