"""
Reference files: which one is used, and why; what is in them is the business of `tso3.io.reference_files`.

Order of preference, for every kind: given by the user, from CRDS where the user has set it up (CRDS_PATH and
CRDS_SERVER_URL), or the built-in default of the mode. Without CRDS set up there is no network call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tso3.errors import ParameterError, ReferenceFileError
from tso3.io.exposure import Exposure, Observation
from tso3.io.metadata import ReferenceUse
from tso3.io.reference_kinds import KINDS, Kind, kinds_of

__all__ = ["KINDS", "Reference", "References", "find_references"]

_NONE = "N/A"
_SEVERAL = "MULTIPLE"


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
    why : str
        The reason of the choice, in a few words.
    """

    kind: str
    path: Path | None
    source: str
    why: str = ""

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
        One for every kind that the mode can use; those of the first exposure.
    by_detector : mapping of str to mapping of str to Reference
        The same for each detector, where CRDS chooses different files for them.
    """

    by_kind: Mapping[str, Reference]
    by_detector: Mapping[str, Mapping[str, Reference]] = field(default_factory=dict)

    def of(self, exposure: Exposure) -> References:
        """Return the references of one exposure."""
        return References(self.by_detector.get(exposure.detector, self.by_kind))

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
        used = {}
        for kind, reference in self.by_kind.items():
            everywhere = [reference, *(kinds[kind] for kinds in self.by_detector.values())]
            names = {each.name for each in everywhere}
            if reference.source != "none":
                used[kind] = ReferenceUse(reference.name if len(names) == 1 else _SEVERAL, reference.source)
        return used

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
        Files given by the user, by kind; ``"N/A"`` for none. Kinds that the mode cannot use are left out.

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
    for kind in overrides:
        if kind not in KINDS:
            raise ParameterError(
                f"there is no reference of kind '{kind}'; there are {', '.join(sorted(KINDS))}", "override"
            )
    exp_type = observation.mode.exp_type
    kinds = kinds_of(exp_type)
    if observation.exposures[0].from_spectra:
        kinds = tuple(kind for kind in kinds if kind.name == "wavelengthrange")
    asked = [kind.name for kind in kinds if exp_type in kind.crds and kind.name not in overrides]
    found: dict[str, Mapping[str, Reference]] = {}
    for exposure in observation.exposures:
        if exposure.detector not in found:
            crds = _from_crds(exposure, asked)
            found[exposure.detector] = {kind.name: _choose(kind, exp_type, overrides, crds) for kind in kinds}
    first = found[observation.exposures[0].detector]
    return References(first, found if any(each != first for each in found.values()) else {})


def _choose(
    kind: Kind, exp_type: str, overrides: Mapping[str, str | Path], crds: Mapping[str, Path | None] | None
) -> Reference:
    """Return the reference of a kind; ``crds`` is None where CRDS is not set up."""
    name, given = kind.name, overrides.get(kind.name)
    if given is not None and str(given).upper() == _NONE:
        return Reference(name, None, "none", "none was asked for")
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise ReferenceFileError(f"the {name} reference does not exist; check the path", path)
        return Reference(name, path, "user", "given")
    recommended = (crds or {}).get(name)
    if recommended is not None:
        return Reference(name, recommended, "crds", "recommended by CRDS")
    if exp_type not in kind.crds:
        reason = "CRDS is not asked for it in this mode"
    else:
        reason = "CRDS is not set up" if crds is None else "CRDS has none"
    source = "built-in" if exp_type in kind.built_in else "none"
    return Reference(name, None, source, f"not given; {reason}")


def _from_crds(exposure: Exposure, kinds: Sequence[str]) -> dict[str, Path | None] | None:
    """Return what CRDS recommends, None where it is not set up."""
    if not (os.environ.get("CRDS_PATH") and os.environ.get("CRDS_SERVER_URL")):
        return None
    if not kinds:
        return {}
    try:
        import crds
        from crds.core.exceptions import CrdsError
    except ImportError as error:
        raise ReferenceFileError(
            "CRDS_PATH and CRDS_SERVER_URL are set but the package crds is not installed; install it or unset them",
            "crds",
        ) from error
    header = {f"META.{key}": value for key, value in _crds_header(exposure.primary).items()}
    try:
        found = crds.getreferences(header, reftypes=list(kinds), observatory="jwst")
    except (CrdsError, OSError, SystemExit) as error:  # crds leaves by sys.exit where it finds no context
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ReferenceFileError(
            f"CRDS could not choose among its files ({reason}); give them with --override-KIND, or unset CRDS_PATH",
            exposure.paths[0],
        ) from error
    return {kind: _existing(kind, str(found.get(kind, _NONE))) for kind in kinds}


def _existing(kind: str, answer: str) -> Path | None:
    """Return the file that CRDS names, None if it names none."""
    if answer.strip().upper() == _NONE or "NOT FOUND" in answer.upper():
        return None
    path = Path(answer)
    if not path.is_file():
        raise ReferenceFileError(
            f"CRDS recommends this {kind} reference, but it is not in its cache; get it with crds sync,"
            f" or give --override-{kind}",
            path,
        )
    return path


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
    "VISIT.TSOVISIT": "TSOVISIT",
}


def _crds_header(primary: Mapping[str, object]) -> dict[str, str]:
    return {name: str(primary[key]) for name, key in _CRDS_KEYS.items() if key in primary}
