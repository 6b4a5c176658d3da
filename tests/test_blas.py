"""Linear algebra has one thread while something is reduced, and as many as before afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tso3.blas import one_blas_thread


def threads():
    """Return the threads of numpy's library for linear algebra."""
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


@pytest.fixture
def two(monkeypatch):
    """A process whose libraries may use two threads."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("the library for linear algebra has no second thread here")
        yield


def test_one_thread_inside_and_as_many_as_before_outside(two):
    with one_blas_thread():
        assert threads() == {1}
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"


def test_an_error_gives_the_threads_back(two):
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert threads() == {2}


def test_a_long_product_is_the_same(two):
    values = np.random.default_rng(1).normal(size=(40, 30_000))
    with threadpool_limits(1, user_api="blas"):
        expected = values @ values.T
    with one_blas_thread():
        assert np.array_equal(values @ values.T, expected)


def in_process(code):
    """Run code in a process whose libraries begin with two threads; return what it prints, as JSON."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    start = (
        "import json, threading, numpy\n"
        "from tso3.blas import one_blas_thread\n"
        "from threadpoolctl import threadpool_info, threadpool_limits\n"
        "def threads(): return sorted({i['num_threads'] for i in threadpool_info() if i['user_api'] == 'blas'})\n"
    )
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_thread_that_was_first_and_lives_on_need_not_be_the_last(two):
    """Since threadpoolctl 3.8 only the thread that has set a limit may take it back."""
    said = in_process(
        "inside, go, left, end = (threading.Event() for _ in range(4))\n"
        "def first():\n"
        "    with one_blas_thread(): inside.set(); go.wait()\n"
        "    left.set(); end.wait()\n"
        "thread = threading.Thread(target=first); thread.start(); inside.wait()\n"
        "with one_blas_thread(): go.set(); left.wait(); within = threads()\n"
        "after = threads()\n"
        "end.set(); thread.join()\n"
        "print(json.dumps([within, after]))"
    )
    assert said == [[1], [2]]


def test_a_limit_of_the_user_in_another_thread_does_not_keep_ours_off(two):
    said = in_process(
        "seen = []\n"
        "def run():\n"
        "    with one_blas_thread(): seen.append(threads())\n"
        "with threadpool_limits(2):\n"
        "    thread = threading.Thread(target=run); thread.start(); thread.join()\n"
        "    seen.append(threads())\n"
        "print(json.dumps([*seen, threads()]))"
    )
    assert said == [[1], [2], [2]]


def test_a_library_that_is_loaded_inside_is_not_left_at_one(two):
    said = in_process(
        "with one_blas_thread(): import scipy.linalg; within = threads()\nprint(json.dumps([within, threads()]))"
    )
    assert said == [[1], [2]]


def test_what_fails_while_the_limit_is_set_leaves_nothing(two, monkeypatch):
    import threadpoolctl

    def refuse(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threadpoolctl, "threadpool_limits", refuse)
        with pytest.raises(KeyboardInterrupt), one_blas_thread():
            pass
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
    test_one_thread_inside_and_as_many_as_before_outside(None)


def test_the_command_starts_with_one():
    code = (
        "import sys, tso3.blas\n"
        "tso3.blas.start_with_one_blas_thread()\n"
        "import numpy, threadpoolctl\n"
        "numbers = [info['num_threads'] for info in threadpoolctl.threadpool_info()]\n"
        "with tso3.blas.one_blas_thread(): pass\n"
        "print(numbers)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)
    assert set(json.loads(done.stdout)) == {1}
