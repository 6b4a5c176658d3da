"""
Both pipelines on the same simulated visits, each run once per session, and the table of the largest differences.

Everything here needs the package jwst 3.0.0 (extra ``test``); where it is missing, the tests of this folder that use
these fixtures are skipped and say so.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compare import Comparison
from compare_products import Threshold, products
from peer import Peer, PeerRun
from visits import Visit

PROPERTY = "archive-comparison"
"""Name of the test property that carries a row of the table, through pytest-xdist too."""


def key(*parts: Any) -> str:
    """Return a text that tells one run from another."""
    return json.dumps(parts, sort_keys=True, default=str)


@pytest.fixture(scope="session")
def visit(tmp_path_factory) -> Callable[..., Visit]:
    """Simulate a visit, once per set of arguments: ``visit("NRS_BRIGHTOBJ", n_int=56, segments=2)``."""
    made: dict[str, Visit] = {}

    def make(mode: str, **arguments: Any) -> Visit:
        from tso3.simulate import simulate

        name = key(mode, arguments)
        if name not in made:
            folder = tmp_path_factory.mktemp(mode.lower())
            new = simulate(mode, folder, **arguments)
            made[name] = Visit(Path(new.association), tuple(new.members), dict(new.references), new.extract1d_wcs)
        return made[name]

    return make


@pytest.fixture
def edited(tmp_path) -> Callable[..., Visit]:
    """Return a copy of a visit whose files or association have been changed: ``edited(visit, file=..., asn=...)``."""

    def make(
        source: Visit,
        *,
        file: Callable[[int, Any], None] | None = None,
        members: Callable[[list[Any]], list[Any]] | None = None,
    ) -> Visit:
        """
        Copy a visit.

        Parameters
        ----------
        source : Visit
            Stays as it is.
        file : callable, optional
            Called with the index of each member and its open data model, which is then saved.
        members : callable, optional
            Returns the members of the association's product from those it has.
        """
        folder = tmp_path / "edited"
        folder.mkdir()
        content = json.loads(source.association.read_text())
        if members is not None:
            content["products"][0]["members"] = members(content["products"][0]["members"])
        association = folder / source.association.name
        association.write_text(json.dumps(content))
        names = [member["expname"] for member in content["products"][0]["members"]]
        for i, path in enumerate(source.members):
            if file is None:
                shutil.copy(path, folder / path.name)
            else:
                _edit(path, folder / path.name, i, file)
        return replace(source, association=association, members=tuple(folder / name for name in names))

    return make


def _edit(source: Path, target: Path, index: int, change: Callable[[int, Any], None]) -> None:
    """Open one file as a data model, change it and save it elsewhere."""
    from stdatamodels.jwst import datamodels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with datamodels.open(source) as model:
            change(index, model)
            model.save(target)


@pytest.fixture(scope="session")
def peer(tmp_path_factory) -> Iterator[Peer]:
    """The reference pipeline."""
    pytest.importorskip("jwst", reason="the reference pipeline is not installed (extra test)")
    process = Peer(tmp_path_factory.mktemp("jwst"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def ours(tmp_path_factory) -> Callable[..., Any]:
    """Run tso3 with the archive preset, once per visit and parameters; warnings of ours are collected, not raised."""
    made: dict[str, Any] = {}

    def run(visit: Visit, parameters: dict[str, dict[str, Any]] | None = None, preset: str = "archive") -> Any:
        import tso3
        from tso3.errors import Tso3Warning

        name = key(visit.association, visit.references, parameters, preset)
        if name not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Tso3Warning)
                made[name] = tso3.run(
                    str(visit.association),
                    tmp_path_factory.mktemp("tso3"),
                    preset=preset,
                    parameters=parameters,
                    overrides=visit.references,
                )
        return made[name]

    return run


@pytest.fixture
def compared(request, peer, ours) -> Callable[..., list[Comparison]]:
    """Run both on a visit, compare every product, and put the result into the table at the end of the session."""

    def run(visit: Visit, parameters: dict[str, dict[str, Any]] | None = None) -> list[Comparison]:
        theirs = peer.run(visit.association, visit.references, parameters)
        assert theirs.error is None, f"the reference pipeline failed: {theirs.error}; see {peer.log}"
        result = ours(visit, parameters)
        outliers = (parameters or {}).get("outlier_detection", {})
        threshold = Threshold(outliers.get("snr", 5.0), outliers.get("rolling_window_width", 25))
        comparisons = products(result.products, theirs.output_dir, visit.members, threshold)
        for comparison in comparisons:
            row = {"case": request.node.callspec.id, **comparison.summary()}
            request.node.user_properties.append((PROPERTY, row))
        request.node.user_properties.append(("archive-versions", peer.versions))
        return comparisons

    return run


@pytest.fixture
def both(peer, ours) -> Callable[..., tuple[PeerRun, Any]]:
    """Run both on a visit without comparing: (peer's run, our result)."""

    def run(visit: Visit, parameters: dict[str, dict[str, Any]] | None = None) -> tuple[PeerRun, Any]:
        return peer.run(visit.association, visit.references, parameters), ours(visit, parameters)

    return run


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
                elif name == "archive-versions":
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
