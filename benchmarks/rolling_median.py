"""
Time the rolling median and the outlier detection beside a plain C loop of the same algorithm.

``python benchmarks/rolling_median.py`` compiles rolling_median.c with -O3 -march=native (compiler: $CC, else cc), runs
C and numba in turns on the same stack, checks that their medians are equal, and prints nanoseconds of processor time
per pixel and integration, the best of ``--repeat`` rounds, and the vector instructions in numba's code. The exit code
is 1 if the median takes more than 1.6 times the C loop.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

AT_MOST = 1.6
SNR = 5.0


def c_loop(folder: Path) -> Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], None]:
    """Compile the C loop and return it as a function of data, mask, out, width and fewest."""
    library = folder / "rolling_median.so"
    source = Path(__file__).with_suffix(".c")
    compiler = os.environ.get("CC", "cc")
    options = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([compiler, *options, str(source), "-lm"], check=True)
    compiled = ctypes.CDLL(str(library)).rolling_median
    compiled.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 4

    def call(data: np.ndarray, mask: np.ndarray, out: np.ndarray, width: int, fewest: int) -> None:
        status = compiled(data.ctypes.data, mask.ctypes.data, out.ctypes.data, len(data), data[0].size, width, fewest)
        if status:
            raise MemoryError

    return call


def stack(shape: tuple[int, int, int], bad: float, hits: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return data, error and mask: unit noise with shares of bad samples and of hits of 100 sigma."""
    rng = np.random.default_rng(1)
    data = rng.standard_normal(shape, dtype=np.float32)
    data[rng.random(shape, dtype=np.float32) < hits] += 100
    err = rng.uniform(0.98, 1.02, shape).astype(np.float32)
    return data, err, rng.random(shape, dtype=np.float32) < bad


def best(rounds: int, functions: dict[str, Callable[[], object]], samples: int) -> dict[str, float]:
    """Return the least nanoseconds per sample of each function, called in turns."""
    found = dict.fromkeys(functions, np.inf)
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.process_time()
            function()
            found[name] = min(found[name], (time.process_time() - begin) / samples * 1e9)
    return found


def instructions(assembly: str) -> str:
    """Say how many packed minima and maxima the code has, by the width of their registers."""
    x86 = Counter(re.findall(r"\bv?(?:min|max)ps\s[^\n]*%([xyz])mm", assembly))
    arm = len(re.findall(r"\bf(?:min|max)(?:nm)?\s+v\d+\.4s|\bfcmg[et]\s+v\d+\.4s", assembly))
    if arm:
        return f"{arm} packed comparisons of 128 bit (NEON)"
    masked = "AVX-512 masks" if re.search(r"\{%k\d\}", assembly) else "no masks"
    wide = {"x": "128 bit", "y": "256 bit", "z": "512 bit"}
    counts = ", ".join(f"{n} of {wide[kind]}" for kind, n in sorted(x86.items(), reverse=True))
    return f"packed minima and maxima: {counts or 'none'}; {masked}"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--n-int", type=int, default=200)
    parser.add_argument("--ny", type=int, default=32)
    parser.add_argument("--nx", type=int, default=2048)
    parser.add_argument("--width", type=int, default=25)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "numba")  # code from the cache cannot be inspected
    begin = time.process_time()
    from tso3.core import median, outliers

    print(f"import: {time.process_time() - begin:.1f} s of processor time")
    width = options.width
    shape = (options.n_int, options.ny, options.nx)
    lo, hi = median.window_bounds(options.n_int, width)
    data, err, mask = stack(shape, 1e-3, 4e-4)
    for name, call in {
        "rolling_median": lambda: median.rolling_median(data[:, :1], mask[:, :1], lo, hi),
        "flag_outliers": lambda: outliers.flag_outliers(data[:, :1], err[:, :1], mask[:, :1], lo, hi, snr=SNR),
        "flag_outliers, archive": lambda: outliers.flag_outliers(
            data[:, :1], err[:, :1], mask[:, :1], lo, hi, snr=SNR, maxiters=1, nan_policy="propagate"
        ),
    }.items():
        begin = time.process_time()
        call()
        print(f"compile {name}: {time.process_time() - begin:.1f} s")
    for name, kernel in (("rolling_median", median._rolling_median), ("flag_outliers", outliers._flag_outliers)):
        print(f"{name}: {instructions(next(iter(kernel.inspect_asm().values())))}")

    out = np.empty(shape, np.float32)
    loop = c_loop(folder)
    loop(data, mask, out, width, 3)
    np.testing.assert_array_equal(out, median.rolling_median(data, mask, lo, hi))
    print(f"window {width}, {' x '.join(map(str, shape))}; ns per pixel and integration")
    found = best(
        options.repeat,
        {
            "C": lambda: loop(data, mask, out, width, 3),
            "rolling_median": lambda: median.rolling_median(data, mask, lo, hi),
        },
        data.size,
    )
    ratio = found["rolling_median"] / found["C"]
    print(
        f"C loop {found['C']:.2f}, rolling_median {found['rolling_median']:.2f}, ratio {ratio:.2f} (at most {AT_MOST})"
    )
    for bad, hits in ((0.0, 0.0), (1e-3, 4e-4), (1e-3, 1e-2), (0.0, 0.1)):
        samples, errors, masked = stack(shape, bad, hits)

        def flag(maxiters: int, policy: str, planes: tuple = (samples, errors, masked)) -> object:
            return outliers.flag_outliers(
                *planes, lo, hi, snr=SNR, maxiters=maxiters, nan_policy=policy, keep_median=False
            )

        found = best(
            max(options.repeat // 2, 1),
            {"default": lambda flag=flag: flag(3, "skip"), "archive": lambda flag=flag: flag(1, "propagate")},
            data.size,
        )
        windows = 1 - (1 - hits) ** width
        print(
            f"flag_outliers, {bad:.1%} bad, {windows:.0%} of windows hit: "
            f"default {found['default']:.2f}, archive {found['archive']:.2f}"
        )
    return int(ratio > AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
