"""The end of the process: nothing that an ordinary end of Python does for a user is left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WORK = """
import atexit, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from tso3.cli.leave import leave

folder = tempfile.TemporaryDirectory(dir=sys.argv[1])
pool = ThreadPoolExecutor(1)
pool.submit(lambda: (time.sleep(0.2), print("pool", end=" ")))
threading.Thread(target=lambda: (time.sleep(0.3), print("thread", end=" "))).start()
atexit.register(lambda: print("registered", end=""))
leave(3)
"""


def test_threads_are_waited_for_and_what_is_registered_is_run(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _WORK, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "pool thread registered", "")
    assert list(tmp_path.iterdir()) == []  # the temporary folder is gone


def test_output_that_nobody_takes_is_told_by_the_exit_code(tmp_path: Path) -> None:
    work = "from tso3.cli.leave import leave; print('x' * 10); leave(0)"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", work], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1


def test_command_ends_with_the_code_of_main() -> None:
    done = subprocess.run([sys.executable, "-m", "tso3", "run", "nowhere.json"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("tso3: error: ")
