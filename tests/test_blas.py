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
