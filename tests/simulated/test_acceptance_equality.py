"""However the work is cut, the products are the same; and memory does not grow with the number of integrations."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import tso3
from compare_products import identical
from tso3.simulate import simulate

ROOT = Path(__file__).parents[2]
CUTS = {
    "blocks of 7": ("default", {"block_size": 7}),
    "one block": ("default", {"block_size": 10_000}),
    "200 MiB": ("default", {"max_memory": "200MiB"}),
    "45 MiB": ("default", {"max_memory": "45MiB"}),
    "one thread": ("default", {"workers": 1}),
    "four threads, blocks of 1": ("default", {"workers": 4, "block_size": 1}),
    "archive, blocks of 7": ("archive", {"block_size": 7}),
    "archive, 30 MiB, four threads": ("archive", {"max_memory": "30MiB", "workers": 4}),
}
"""Preset, and how the work is cut."""


def load(name):
    """Load a module of the benchmarks, which are no package."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["NRS_BRIGHTOBJ", "MIR_LRS-SLITLESS", "NRC_TSIMAGE"])
def visit(request, tmp_path_factory):
    """Three segments of one observation of every mode; both detectors where there are two."""
    return simulate(request.param, tmp_path_factory.mktemp("visit"), n_int=28, segments=(20, 5, 3), seed=5)


@pytest.fixture(scope="module")
def reference(visit, tmp_path_factory):
    """The products of the two presets, cut as the program likes."""
    return {
        preset: tso3.run(
            str(visit.association), tmp_path_factory.mktemp("products"), preset=preset, overrides=visit.references
        )
        for preset in ("default", "archive")
    }


@pytest.mark.parametrize("cut", CUTS)
def test_products_do_not_depend_on_the_cut(visit, reference, cut, tmp_path):
    preset, options = CUTS[cut]
    result = tso3.run(str(visit.association), tmp_path, preset=preset, overrides=visit.references, **options)
    expected = reference[preset]
    assert result.products.keys() == expected.products.keys()
    n_files = 0
    for kind, paths in expected.products.items():
        assert [path.name for path in result.products[kind]] == [path.name for path in paths]
        for one, other in zip(result.products[kind], paths, strict=True):
            identical(one, other).check()
            n_files += 1
    assert n_files >= 4


def private_peak(visit, output, *options):
    """Return the peak of private memory of a run of the command, as a whole process [MiB]."""
    command = [sys.executable, "-m", "tso3", "run", str(visit.association), "-o", str(output), "--quiet", *options]
    for kind, path in visit.references.items():
        command += [f"--override-{kind}", str(path)]
    measured = load("measure").measure(command, cwd=output)
    assert measured.returncode == 0, measured.stderr
    return measured.private_bytes / 2**20


def test_memory_does_not_grow_with_integrations(tmp_path):
    peaks = []
    for n_int in (300, 1200):
        folder = tmp_path / str(n_int)
        folder.mkdir()
        visit = simulate("NRC_TSIMAGE", folder, n_int=n_int, segments=2, seed=5)
        output = tmp_path / f"out{n_int}"
        output.mkdir()
        private_peak(visit, output)  # kernels are compiled and cached; which ones depends on the cut
        peaks.append(private_peak(visit, output, "--max-memory", "60MiB"))
        for path in visit.members:
            Path(path).unlink()
    assert peaks[1] <= 1.1 * peaks[0], json.dumps(peaks)
