"""The page of results of the accuracy programme, from its pooled numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accuracy_flags import COUNTED
from accuracy_pool import failures, false_flags, figures

_HEAD = (
    "scene", "program", "seeds", "out of transit", "ingress, egress", "chi2, out of transit", "pull: mean", "pull: std",
    "rays > 8", "rays > 6", "false flags: " + ", ".join(COUNTED), "chi2, channels", "shifts fitted",
)  # fmt: skip
_ORDER = (
    "tso3", "optimal", "tso3 in the box", "archive", "jwst", "reference", "reference, optimal", "reference in the box",
)  # fmt: skip
_MUST = {
    "nominal": ("≤ 1.05 (optimal 1.02)", "≤ 1.1", "0.95–1.05", "±0.1", "0.93–1.07", "≥ 0.995", "≥ 0.95",
                "≤ 3E + 3√E + 3", "0.95–1.05", "0.95–1.05"),
    "difficult": ("≤ 1.2", "≤ 1.3", "≤ 1.3", "±0.3", "", "≥ 0.99", "≥ 0.9", "≤ 10E + 10", "≤ 1.3", "≤ 1.3"),
}  # fmt: skip
_ABOUT = """# Accuracy

Made by `benchmarks/accuracy.py`; `docs/accuracy.md` says what each column is. Scatter is relative to that of the same
draw of the noise on the scene without motion, cosmic rays and bad pixels (program `reference`). `tso3` takes its own
apertures; `tso3 in the box`, `archive` and `jwst` are given the same reference files, with a fixed box. Numbers
are pooled over the seeds, ± one standard error. **Bold**: off its bound by more than two of them. False flags: found
(E, by noise alone).
"""


_OLD = " †"
_MARKED = "† measured with other code than most rows of the default preset; see the end of the page.\n"


def markdown(results: Mapping[str, Any]) -> str:
    """Return the page."""
    rows = results["rows"]
    newest = _newest(rows)
    lines = [_ABOUT, *([_MARKED] if any(row["code"] != newest for row in _all(rows)) else [])]
    for kind in ("nominal", "difficult"):
        lines += [f"\n## {kind.capitalize()} scenes\n", "| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
        lines += ["| *bound* | | | " + " | ".join(_MUST[kind]) + " |"]
        found = [each for each in _sorted(rows, kind) if each[2]["seeds"] or each[2]["failed"]]
        lines += [_line(*each, "" if each[2]["code"] == newest else _OLD) for each in found]
        lines += ["", *_failing(rows, kind)]
    lines += ["\n## Measured with\n"]
    for text, number in sorted(_origins(rows).items()):
        lines.append(f"- {text}: {number} rows")
    return "\n".join(lines) + "\n"


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write ``accuracy.md``."""
    (folder / "accuracy.md").write_text(markdown(results), encoding="utf-8")


def _sorted(rows: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, programs in rows.items():
        for program in sorted(programs, key=_ORDER.index):
            if programs[program]["set"] == kind:
                yield name, program, programs[program]


def _line(name: str, program: str, row: Mapping[str, Any], mark: str) -> str:
    found = figures(row, row["set"], program == "optimal")
    cells = [name if program == "tso3" else "", program, f"{len(row['seeds'])}{mark}"]
    if program.startswith("reference"):
        texts = ["1", "1", *(found[key].text(2) for key in ("chi2 out", "pull mean", "pull std")), "–", "–", "–"]
        return "| " + " | ".join([*cells, *texts, found["chi2"].text(2), found["chi2, shifts fitted"].text(2)]) + " |"
    cells += [found["out"].text(), found["edge"].text(2), found["chi2 out"].text(2)]
    cells += [found["pull mean"].text(2), found["pull std"].text(2)]
    cells += [found["found 8"].text(4), found["found 6"].text(4)]
    cells.append(", ".join(_flags(row, place) for place in COUNTED))
    if row["failed"]:
        cells[2] += f" ({len(row['failed'])} ended in an error)"
    return "| " + " | ".join([*cells, found["chi2"].text(2), found["chi2, shifts fitted"].text(2)]) + " |"


def _flags(row: Mapping[str, Any], place: str) -> str:
    """Return the false flags of a place, and how many noise alone has; a dash if they were not counted apart."""
    if row["seeds"] and f"false_{place}" not in row["sums"]:
        return "–"
    number, expected, few = false_flags(row["sums"], place, row["set"])
    return (f"{number:.0f}" if few else f"**{number:.0f}**") + f" ({expected:.1f})"


def _failing(rows: Mapping[str, Any], kind: str) -> list[str]:
    """Return which measures of the default preset do not hold, by scene."""
    lines = []
    for name, program, row in _sorted(rows, kind):
        judged = program not in ("archive", "jwst") and not program.startswith("reference")
        if judged and (missed := failures(row, kind, program == "optimal")):
            lines.append(f"- {name}, {program}: {'; '.join(missed)}")
    return ["Does not hold:\n", *lines] if lines else ["Nothing is off its bound by more than two standard errors."]


def _all(rows: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for programs in rows.values() for row in programs.values()]


def _newest(rows: Mapping[str, Any]) -> str:
    """Return the version of the code that most rows of the default preset were measured with last."""
    ours = [programs["tso3"] for programs in rows.values() if "tso3" in programs] or _all(rows)
    codes = [row["code"] for row in ours if row.get("commit")] or [row["code"] for row in ours]
    return max(codes, key=codes.count, default="")


def _origins(rows: Mapping[str, Any]) -> dict[str, int]:
    origins: dict[str, int] = {}
    for row in _all(rows):
        commit = f", commit {row['commit']}" if row.get("commit") else ""
        text = f"{row['origin']}; digest of the code {row['code']}{commit}"
        origins[text] = origins.get(text, 0) + 1
    return origins
