"""The record of a visit that both pipelines reduce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Visit:
    """A simulated visit: association, members in its order, and references by type as the pipeline names them."""

    association: Path
    members: tuple[Path, ...]
    references: dict[str, Path]
    extract1d_wcs: Path | None = None

    def with_references(self, **references: Path | None) -> Visit:
        """Return the visit with some references replaced, or left out where None."""
        kept = {kind: path for kind, path in {**self.references, **references}.items() if path is not None}
        return replace(self, references=kept)

    def along_wcs(self) -> Visit:
        """Return the visit with the aperture that follows the trace of the world coordinates."""
        return self.with_references(extract1d=self.extract1d_wcs)
