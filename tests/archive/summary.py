"""
The table at the end of a session: mode and product against the largest difference from the reference pipeline.

`tests/conftest.py` takes the hook from here: with several processes the one that prints loads no deeper conftest.
"""

from __future__ import annotations

from typing import Any

PROPERTY = "archive-comparison"
"""Name of the test property that carries a row of the table, through pytest-xdist too."""
VERSIONS = "archive-versions"
"""Name of the property with the versions that were compared."""


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what was compared with the reference pipeline, product by product, and how large the difference was."""
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == PROPERTY:
                    rows.append(value)
                elif name == VERSIONS:
                    versions = value
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("compared with the reference pipeline")
    write(", ".join(f"{name} {value}" for name, value in versions.items()))
    write(f"{'case':38} {'product':8} {'files':>5} {'parts':>6} {'values':>10} {'largest':>9} {'at thr.':>7} failed")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["product"]), []).append(row)
    for (case, product), group in sorted(groups.items()):
        worst = max(group, key=lambda row: row["largest"])
        parts, values, borderline, failed = (
            sum(row[column] for row in group) for column in ("parts", "values", "borderline", "failed")
        )
        write(
            f"{case:38} {product:8} {len(group):5} {parts:6} {values:10} {worst['largest']:9.1e} {borderline:7} "
            f"{failed or '–'}" + (f"  {worst['worst']}" if failed or worst["largest"] > 0 else "")
        )
    write("largest: |ours - jwst| / max(|jwst|, error); at thr.: flags that differ within 1e-6 of the threshold")
