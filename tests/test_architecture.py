"""The walls between the rooms, the rules of the house, and the documents that must not drift from the code."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "tso3").rglob("*.py"))


def run(*command):
    """Run a tool of this environment from the root of the project; its output is the message of a failure."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name):
    """Path of a program that is installed beside this interpreter."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert path is not None, f"{name} is not installed; install the project with the extra 'test'"
    return path


def test_walls():
    run(tool("lint-imports"), "--no-cache")


def test_ruff():
    run(tool("ruff"), "check", "src", "tests", "benchmarks")
    run(tool("ruff"), "format", "--check", "src", "tests", "benchmarks")


def test_types_of_core_parameters_and_errors():
    run(tool("mypy"), "-p", "tso3.core", "-m", "tso3.parameters", "-m", "tso3.errors")


def test_spelling():
    run(tool("codespell"), "src", "tests", "docs", "benchmarks", "README.md", "VISION.md", "changes")


def test_docstrings_follow_numpydoc():
    run(tool("numpydoc"), "lint", *[str(path.relative_to(ROOT)) for path in SOURCES])


def documented_functions(path):
    """Dotted names of the functions of a module whose docstring is more than one paragraph."""
    module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    functions = [n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef)]
    return [f"{module}.{f.name}" for f in functions if "----" in (ast.get_docstring(f) or "")]


@pytest.mark.parametrize("name", [name for path in SOURCES for name in documented_functions(path)])
def test_docstrings_with_sections_are_complete(name):
    validate = pytest.importorskip("numpydoc.validate").validate
    assert [text for code, text in validate(name)["errors"] if code in ("PR01", "RT01")] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_fault_is_swallowed_and_nothing_left_open(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            name = ast.unparse(node.type) if node.type is not None else ""
            assert name not in ("", "BaseException") or any(isinstance(n, ast.Raise) for n in ast.walk(node)), path
            assert not (silent and name == "Exception"), f"{path}:{node.lineno}"


def test_modules_are_rooms_one_can_live_in():
    long = {str(path.relative_to(ROOT)): n for path in SOURCES if (n := len(path.read_text().splitlines())) > 500}
    assert not long
