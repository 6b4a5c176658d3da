"""The command's process imports less, and its kernels and tables work."""

from __future__ import annotations

import subprocess
import sys

import numba

from tso3.cli.lean import _LOADS_ALONE


def test_neither_scipy_nor_asdf_is_imported():
    program = """
import sys
from tso3.cli.lean import import_lean
import_lean()
import numba, numpy as np
from astropy.table import QTable
print(sorted({"scipy.linalg", "asdf", "gwcs", "tso3.core"} & sys.modules.keys()))
print(numba.njit(lambda a: np.dot(a, a))(np.eye(2))[1, 1], len(QTable({"a": [1]})))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "1.0 1"]


def test_kernel_is_loaded_without_the_compiler(tmp_path):
    """From the cache a kernel comes alone; one that is not there is compiled as ever, calls of the first included."""
    (tmp_path / "kernels.py").write_text(
        "import numpy as np\n"
        "from numba import njit\n"
        "@njit(cache=True)\n"
        "def summed(a):\n"
        "    if a.size == 0:\n"
        "        raise ValueError('empty')\n"
        "    return np.sqrt(a.copy().sum())\n"
    )
    program = """
import sys
from tso3.cli.lean import import_lean
import_lean()
import numpy as np
from numba import njit
from numba.core.registry import cpu_target
from kernels import summed
print(float(summed(np.full(4, 4.0))))
registered = "numba.np.npyimpl" in sys.modules
try:
    summed(np.zeros(0))
except ValueError as error:
    print(error)
print(njit(lambda a: summed(a) + np.linalg.norm(a))(np.array([3.0, 6.0, 0.0, 0.0])) - 45**0.5)
print(registered)
"""
    lines = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert lines[0][:3] == lines[1][:3] == ["4.0", "empty", "3.0"]
    known = numba.__version__.startswith(_LOADS_ALONE)
    assert [line[3] for line in lines] == ["True", str(not known)]
