"""The command's process imports less, and its kernels and tables work."""

from __future__ import annotations

import subprocess
import sys


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
