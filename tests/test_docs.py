"""The documentation runs: its Python is executed, its commands are parsed, and what it names exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from tso3.cli import app
from tso3.config import resolve
from tso3.parameters import PRESETS, Parameters

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "VISION.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    """(page, text) of every fenced block in a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page, text) for page in PAGES for text in fence.findall(page.read_text(encoding="utf-8"))]


def name_of(value):
    return value.name if isinstance(value, Path) else None


@pytest.mark.filterwarnings("default::tso3.errors.Tso3Warning")
@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=name_of)
def test_python_runs(page, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, page.name, "exec"), names)
    result = names["result"]
    assert result.products["x1dints"][0].exists()
    assert len(result.white_light) == result.n_int
    assert result.spectra.sizes["time"] == result.n_int


def commands():
    """Every ``tso3`` command in the pages, without what the shell puts before it."""
    for page, text in blocks("bash"):
        for line in text.splitlines():
            if found := re.search(r"(?:^|&& )(?:\S*/)?tso3 (.+)", line):
                yield page, found[1].partition(" && ")[0].partition(" > ")[0]


@pytest.mark.parametrize(("page", "line"), list(commands()), ids=name_of)
def test_commands_are_understood(page, line):
    words = [word.replace("...", "") for word in shlex.split(line)]
    command = typer.main.get_command(app).commands[words[0]]
    context = command.make_context(words[0], words[1:])
    given = context.params
    if "assignments" in given:
        resolve(given["preset"], assignments=given["assignments"] or [], skip=given["skip"] or [])


@pytest.mark.parametrize(("page", "text"), blocks("toml"), ids=name_of)
def test_toml_is_a_parameter_file(page, text, tmp_path):
    path = tmp_path / "tso3.toml"
    path.write_text(text)
    assert tomllib.loads(text)
    resolve(files=[path])


@pytest.mark.parametrize(("page", "text"), blocks("json"), ids=name_of)
def test_json_is_json(page, text):
    assert json.loads(text)["apertures"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).resolve().exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_parameters_named_in_the_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    for step, name in re.findall(r"`(\w+)\.(\w+)(?: = [^`]*|=[^`]*)?`", text):
        if step in Parameters.model_fields:
            assert name in Parameters.model_fields[step].annotation.model_fields, f"{page.name}: {step}.{name}"


def test_every_value_of_the_archive_preset_is_a_documented_difference():
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    for values in PRESETS["archive"].values():
        for name in values:
            assert re.search(rf"`(\w+\.)?{name} = ", text), name


def test_every_oddity_has_its_line_and_its_test():
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 21))
    for number, tests in rows:
        named = re.findall(r"`([^`]+)`", tests)
        assert named, f"row {number} names no test"
        for test in named:
            path, _, function = test.rpartition("::")
            source = ROOT / (path or "tests/archive/test_differences.py")
            assert f"def {function}(" in source.read_text(encoding="utf-8"), f"row {number}: {test}"


def test_every_corner_case_names_a_test_that_exists():
    text = (ROOT / "docs" / "developer" / "corner_cases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| T(\d+) \|.*\| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 32))
    for number, tests in rows:
        for test in re.findall(r"`(tests/[^`]+)`", tests):
            path, _, function = test.partition("::")
            source = (ROOT / path).read_text(encoding="utf-8")
            assert f"def {function}(" in source if function else "def test_" in source, f"T{number}: {test}"


def test_the_two_commands_of_the_readme_are_marked():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker, end in (("demo", "tso3 demo -o tso3_demo"), ("tests", "-m pytest")):
        (command,) = re.findall(rf"<!-- command: {marker} -->\n```bash\n(.*)\n```", text)
        assert command.endswith(end)
    assert "<!-- command: tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
