"""
Light curves, flags and errors against the truth, over many simulated scenes and seeds.

``python benchmarks/accuracy.py [--scene NAME ...] [--seeds N]`` simulates the scenes of ``scenes.toml``, runs
``tso3.run`` on each in its presets (with ``--against jwst`` the reference pipeline as well), and pools over the seeds
what `docs/accuracy.md` describes. The results are in ``accuracy.json`` and ``accuracy.md``.

Scenes take turns, so that all have the same number of seeds (full ones in proportion) whenever the programme stops;
after ``--seconds`` no further seed is begun, and no further round that would not end in time. A process measures for
each processor. A scene that is measured again replaces its row; with ``--merge`` seeds are added to what the same code
measured, and rows of other code are dropped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from accuracy_pool import failures
from accuracy_rounds import Plan, Task, results, rounds, scratch_folder, workshop
from accuracy_rows import Results, Version, version
from accuracy_seed import PROGRAMS, reference_of
from scenes import Scene, load

FOLDER = Path(__file__).parent
BY_DEFAULT = ("tso3", "archive")
ALWAYS_AGAINST = ("PRISM visit",)
"""Scenes that the reference pipeline takes part in beside a small one of each mode."""


@dataclass(frozen=True)
class Asked:
    """
    What is to be measured.

    Attributes
    ----------
    scenes : tuple of Scene
        In the order of their file.
    targets : dict of str to int
        Seeds of each.
    against : frozenset of str
        Scenes that the reference pipeline reduces too.
    options : argparse.Namespace
        Of the command line.
    """

    scenes: tuple[Scene, ...]
    targets: Mapping[str, int]
    against: frozenset[str]
    options: argparse.Namespace

    def programs(self, scene: Scene, seed: int | None = None) -> list[str]:
        """Return who reduces a scene, or one of its seeds."""
        peer = scene.name in self.against and (seed is None or seed < self.options.peer_seeds)
        return [*self.options.program, *(["jwst"] if peer else [])]


def measure_all(asked: Asked, found: Results, plan: Plan, pool: Executor | None, now: Version) -> bool:
    """Measure round by round and keep the results; False if the time was over before all was done."""
    options, begun, order = asked.options, time.time(), [scene.name for scene in load(asked.options.scenes_file)[1]]
    by_name = {scene.name: scene for scene in asked.scenes}
    for scene in asked.scenes:
        names = asked.programs(scene)
        references = sorted({reference_of(name) for name in names})
        found.begin(scene, [*references, *names], now, merge=options.merge)
    for number, seeds in enumerate(rounds(asked.targets, options.chunk)):
        tasks = []
        for name, numbers in seeds.items():
            scene = by_name[name]
            wanted = {k: tuple(p for p in asked.programs(scene, k) if found.lacks(scene, p, k)) for k in numbers}
            missing = tuple((seed, programs) for seed, programs in wanted.items() if programs)
            if missing:
                tasks.append(Task(scene, missing, plan, begun + options.seconds))
        left = begun + options.seconds - time.time()
        if tasks and (left < 0 or (number > 0 and _expected(tasks, found, options.jobs) > left)):
            print(f"stopped before round {number + 1}: {len(tasks)} scenes, {left:.0f} s left", flush=True)
            return False
        stopped = False
        tasks.sort(key=lambda task: -found.expected_seconds(task.scene) * len(task.seeds))
        for task, answers in results(tasks, pool):
            for answer in answers:
                found.take(task.scene, answer.seed, answer.numbers, answer.seconds)
            if answers:
                mean = sum(answer.seconds for answer in answers) / len(answers)
                print(f"{task.scene.name}: {len(answers)} seeds, {mean:.1f} s of processor time each", flush=True)
            found.write(order)
            if len(answers) < len(task.seeds):
                print(f"{task.scene.name}: {len(task.seeds) - len(answers)} seeds not begun", flush=True)
                stopped = True
        if stopped:
            return False
    return True


def _expected(tasks: Sequence[Task], found: Results, jobs: int) -> float:
    """Return how long a round takes [s], by what its scenes took so far."""
    times = [found.expected_seconds(task.scene) * len(task.seeds) for task in tasks]
    return max(sum(times) / jobs, max(times))


def tell(asked: Asked, found: Results) -> None:
    """Print what does not hold."""
    for scene in asked.scenes:
        for name in asked.programs(scene):
            row = found.rows[scene.name][name]
            missed = failures(row, scene.set, name == "optimal") if row["seeds"] else ["no seed was measured"]
            print(f"{scene.name}, {name} ({len(row['seeds'])} seeds): {'; '.join(missed) or 'holds'}", flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_argument_group("what is measured")
    chosen.add_argument("--scene", action="append", help="name, or a set (nominal, difficult) or size; all by default")
    chosen.add_argument("--set", choices=["nominal", "difficult"], help="scenes of this set only")
    chosen.add_argument("--size", choices=["small", "full"], help="scenes of this size only")
    chosen.add_argument("--seeds", type=int, help="seeds 0 to N-1; by default those of the scenes' file")
    chosen.add_argument("--program", action="append", choices=[*PROGRAMS], help="tso3 and archive by default")
    chosen.add_argument("--merge", action="store_true", help="add seeds to rows of the same code, drop the others")
    parser.add_argument("--against", choices=["jwst"], help="run the reference pipeline as well: on the scenes that"
                        " are named, else on a small nominal one of each mode and on the PRISM visit")  # fmt: skip
    parser.add_argument("--peer-python", default=os.environ.get("TSO3_PEER_PYTHON", ""), help="its interpreter")
    parser.add_argument("--peer-seeds", type=int, default=3, help="seeds of a scene that it reduces (3)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further seed after so long")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that measure")
    parser.add_argument("--chunk", type=int, default=5, help="seeds of a small scene in a round (5)")
    parser.add_argument("--scenes-file", type=Path, default=FOLDER / "scenes.toml")
    parser.add_argument("--results", type=Path, default=FOLDER / "accuracy.json")
    parser.add_argument("--work-dir", type=Path, help="where scenes are simulated; in memory if there is enough")
    options = parser.parse_args(arguments)
    options.program = options.program or [*BY_DEFAULT]
    options.jobs = max(1, options.jobs)
    if options.against and not options.peer_python:
        parser.error("--against jwst needs --peer-python (see benchmarks/README.md)")
    return options


def choose(scenes: Sequence[Scene], settings: Mapping[str, int], options: argparse.Namespace) -> Asked:
    """Return what is to be measured of the scenes of a file."""
    names = set(options.scene or ())
    found = [scene for scene in scenes if not names or names & {scene.name, scene.set, scene.size}]
    found = [scene for scene in found if options.set in (None, scene.set) and options.size in (None, scene.size)]
    targets = {scene.name: options.seeds or settings[f"seeds_{scene.size}"] for scene in found}
    against: set[str] = set()
    if options.against:
        small = {scene.options["mode"]: scene.name for scene in reversed(found) if _is_plain(scene)}
        named = names & set(targets)
        against = named or {*small.values(), *(name for name in ALWAYS_AGAINST if name in targets)}
    return Asked(tuple(found), targets, frozenset(against), options)


def _is_plain(scene: Scene) -> bool:
    return (scene.set, scene.size) == ("nominal", "small")


def main() -> int:
    """Measure what was asked for; 1 if a scene that can be simulated was not measured in full."""
    options = parse()
    settings, scenes = load(options.scenes_file)
    if unknown := set(options.scene or ()) - {text for s in scenes for text in (s.name, s.set, s.size)}:
        print(f"accuracy.py: no scene {', '.join(sorted(unknown))} in {options.scenes_file}", file=sys.stderr)
        return 2
    possible = [scene for scene in scenes if not scene.missing]
    for scene in choose(scenes, settings, options).scenes:
        if scene.missing:
            print(f"{scene.name}: left out, {scene.missing}", flush=True)
    asked = choose(possible, settings, options)
    if not asked.scenes:
        print("accuracy.py: no scene is left to measure", file=sys.stderr)
        return 2
    found, now = Results.read(options.results), version(_versions_of_peer(options))
    if options.merge and (dropped := found.keep_only(now.code)):
        print(f"{dropped} rows of other code dropped; now {now.code}, commit {now.commit or 'unknown'}", flush=True)
    folder = options.work_dir or scratch_folder(options.jobs)
    with workshop(Plan(settings, folder, options.peer_python), options.jobs) as (plan, pool):
        complete = measure_all(asked, found, plan, pool, now)
    tell(asked, found)
    return 0 if complete else 1


def _versions_of_peer(options: argparse.Namespace) -> Mapping[str, str] | None:
    if not options.against:
        return None
    command = [options.peer_python, str(FOLDER / "peer.py"), "--versions"]
    answer: Mapping[str, str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
