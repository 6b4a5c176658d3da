"""
Reference files: which one is used, and why; and what is in them.

Order of preference, for every kind: given by the user, from CRDS where the user has set it up (CRDS_PATH and
CRDS_SERVER_URL), or the built-in default of the mode. Without CRDS set up there is no network call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tso3.errors import ParameterError, ReferenceFileError
from tso3.io.exposure import Observation
from tso3.io.metadata import ReferenceUse
from tso3.modes import Mode

__all__ = ["KINDS", "Reference", "References", "find_references"]

KINDS: dict[str, tuple[str, ...]] = {
    "imaging": ("gain",),
    "spectroscopy": ("extract1d", "apcorr", "wavelengthrange"),
}
"""Kinds of reference files by kind of mode."""

_BUILT_IN = frozenset({"extract1d"})
_NOT_FROM_CRDS = frozenset({"wavelengthrange"})
"""Kinds whose CRDS files, for the modes that there are so far, hold something else than what is wanted here: the ranges
of grism orders that stage 2 cuts out. A file that the user gives is used."""
_NONE = "N/A"


@dataclass(frozen=True)
class Reference:
    """
    One reference, and where it comes from.

    Attributes
    ----------
    kind : str
        Such as ``extract1d``.
    path : Path or None
        The file; None for a built-in default, or where none is used.
    source : str
        ``"user"``, ``"crds"``, ``"built-in"`` or ``"none"``.
    """

    kind: str
    path: Path | None
    source: str

    @property
    def name(self) -> str:
        """What the products record."""
        if self.path is None:
            return self.source if self.source == "built-in" else _NONE
        return f"crds://{self.path.name}" if self.source == "crds" else self.path.name


@dataclass(frozen=True)
class References:
    """
    All references of a run, by kind.

    Attributes
    ----------
    by_kind : mapping of str to Reference
        One for every kind that the mode can use.
    """

    by_kind: Mapping[str, Reference]

    def path(self, kind: str) -> Path | None:
        """Return the file of a kind, None if there is none."""
        reference = self.by_kind.get(kind)
        return None if reference is None else reference.path

    def built_in(self, kind: str) -> bool:
        """Return whether the built-in default of the mode is to be used."""
        reference = self.by_kind.get(kind)
        return reference is not None and reference.source == "built-in"

    @property
    def gain(self) -> Path | None:
        """The gain file."""
        return self.path("gain")

    def used(self) -> dict[str, ReferenceUse]:
        """Return what the products record; where none is used, the record of earlier stages stays."""
        used = (reference for reference in self.by_kind.values() if reference.source != "none")
        return {reference.kind: ReferenceUse(reference.name, reference.source) for reference in used}

    def described(self) -> tuple[str, ...]:
        """Return one line for each kind."""
        return tuple(f"{kind}: {reference.name} ({reference.source})" for kind, reference in self.by_kind.items())


def find_references(observation: Observation, overrides: Mapping[str, str | Path]) -> References:
    """
    Return which reference of each kind is used.

    Parameters
    ----------
    observation : Observation
        Its mode decides which kinds there are; its keywords choose among the files of CRDS.
    overrides : mapping of str to path-like
        Files given by the user, by kind; ``"N/A"`` for none.

    Returns
    -------
    references : References
        No file is opened, but every one exists.

    Raises
    ------
    ParameterError
        If a kind is unknown.
    ReferenceFileError
        If a file does not exist, or CRDS is set up but cannot be used.
    """
    mode = observation.mode
    known = sorted({kind for kinds in KINDS.values() for kind in kinds})
    for kind in overrides:
        if kind not in known:
            raise ParameterError(f"there is no reference of kind '{kind}'; there are {', '.join(known)}", "override")
    wanted = [kind for kind in KINDS[mode.kind] if kind not in overrides and kind not in _NOT_FROM_CRDS]
    crds = _from_crds(observation, wanted)
    return References({kind: _choose(kind, mode, overrides, crds) for kind in KINDS[mode.kind]})


def _choose(kind: str, mode: Mode, overrides: Mapping[str, str | Path], crds: Mapping[str, Path | None]) -> Reference:
    given = overrides.get(kind)
    if given is not None and str(given).upper() == _NONE:
        return Reference(kind, None, "none")
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise ReferenceFileError(f"the {kind} reference does not exist; check the path", path)
        return Reference(kind, path, "user")
    if crds.get(kind) is not None:
        return Reference(kind, crds[kind], "crds")
    return Reference(kind, None, "built-in" if kind in _BUILT_IN else "none")


def _from_crds(observation: Observation, kinds: list[str]) -> dict[str, Path | None]:
    """Return what CRDS recommends, empty where it is not set up."""
    if not (os.environ.get("CRDS_PATH") and os.environ.get("CRDS_SERVER_URL")) or not kinds:
        return {}
    try:
        import crds
        from crds.core.exceptions import CrdsError
    except ImportError as error:
        raise ReferenceFileError(
            "CRDS_PATH and CRDS_SERVER_URL are set but the package crds is not installed; install it or unset them",
            "crds",
        ) from error
    segment = observation.exposures[0].segments[0]
    header = {f"META.{key}": value for key, value in _crds_header(segment.primary).items()}
    try:
        found = crds.getreferences(header, reftypes=kinds, observatory="jwst")
    except (CrdsError, OSError) as error:
        raise ReferenceFileError(
            f"CRDS could not choose among its files ({error}); give them with --override-KIND, or unset CRDS_PATH",
            segment.path,
        ) from error
    return {kind: None if "NOT FOUND" in name or name == _NONE else Path(name) for kind, name in found.items()}


_CRDS_KEYS = {
    "INSTRUMENT.NAME": "INSTRUME",
    "INSTRUMENT.DETECTOR": "DETECTOR",
    "INSTRUMENT.FILTER": "FILTER",
    "INSTRUMENT.PUPIL": "PUPIL",
    "INSTRUMENT.GRATING": "GRATING",
    "INSTRUMENT.CHANNEL": "CHANNEL",
    "INSTRUMENT.BAND": "BAND",
    "EXPOSURE.TYPE": "EXP_TYPE",
    "EXPOSURE.READPATT": "READPATT",
    "SUBARRAY.NAME": "SUBARRAY",
    "OBSERVATION.DATE": "DATE-OBS",
    "OBSERVATION.TIME": "TIME-OBS",
}


def _crds_header(primary: Mapping[str, object]) -> dict[str, str]:
    return {name: str(primary[key]) for name, key in _CRDS_KEYS.items() if key in primary}
