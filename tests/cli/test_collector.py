"""The collector sleeps while a command imports its modules, in the command's own process alone, and wakes again."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

_WATCHED = """
import gc, json
usual = gc.get_threshold()
from tso3.cli import collector, lean, leave
import tso3.blas
seen = {}
import tso3.cli
def main():
    seen["importing"] = gc.get_threshold()[0] > 100 * usual[0]
    from tso3.progress import make_progress
    ahead = lean.ImportsAhead(make_progress(quiet=True))
    ahead.start("first", 1)
    ahead._ahead.join()
    seen["running"] = gc.get_threshold() == usual
    seen["kept"] = gc.get_freeze_count() > 0
    print(json.dumps(seen))
    return 0
tso3.cli.main = main
tso3.cli.process()
"""


def test_the_collector_sleeps_while_modules_are_imported_and_wakes_for_the_run():
    output = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == {"importing": True, "running": True, "kept": True}


def test_the_collector_of_somebody_elses_process_is_left_alone():
    from tso3.cli.collector import collect_as_ever

    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    collect_as_ever()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)
