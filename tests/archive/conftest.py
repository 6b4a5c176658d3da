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
from summary import PROPERTY, VERSIONS
from visits import Visit


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
        request.node.user_properties.append((VERSIONS, peer.versions))
        return comparisons

    return run


@pytest.fixture
def both(peer, ours) -> Callable[..., tuple[PeerRun, Any]]:
    """Run both on a visit without comparing: (peer's run, our result)."""

    def run(visit: Visit, parameters: dict[str, dict[str, Any]] | None = None) -> tuple[PeerRun, Any]:
        return peer.run(visit.association, visit.references, parameters), ours(visit, parameters)

    return run
