"""Segments joined to exposures: one detector, one stack of integrations, in time order; metadata without pixels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso3.errors import InputError, Tso3Warning
from tso3.io.association import resolve_inputs
from tso3.io.segment import PLANES, Plane, Segment, read_segments
from tso3.io.times import IntTimes, concatenate_times
from tso3.modes import Mode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PLANES", "Exposure", "Observation", "Plane", "Segment", "read_exposures", "read_observation"]

_IDENTITY = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
_SEGMENT_WORD = re.compile(r"-seg\d+(?=_|$)", re.IGNORECASE)
_EQUAL_IN_EXPOSURE = (
    "INSTRUME",
    "FILTER",
    "PUPIL",
    "GRATING",
    "SUBARRAY",
    "SUBSTRT1",
    "SUBSTRT2",
    "BUNIT",
    "DISPAXIS",
    "SLTNAME",
)
_EQUAL_IN_OBSERVATION = ("EXP_TYPE", "INSTRUME", "BUNIT")


@dataclass(frozen=True)
class Exposure:
    """
    All segments of one exposure of one detector: one continuous stack of integrations.

    Where the files hold several slits (stripes), each is an exposure of its own, with the name, times and files of the
    others.

    Attributes
    ----------
    name : str
        Stem common to its segments, e.g. ``jw01366003001_04101_00001_nrs1``.
    mode : tso3.modes.Mode
        Its row in the table of modes.
    detector : str
        DETECTOR keyword.
    segments : tuple of Segment
        In time order.
    n_int, ny, nx : int
        Shape of the stack.
    bunit : str
        Unit of SCI and ERR; empty if the header has none.
    times : IntTimes
        Times of all integrations.
    """

    name: str
    mode: Mode
    detector: str
    segments: tuple[Segment, ...]
    n_int: int
    ny: int
    nx: int
    bunit: str
    times: IntTimes

    def header(self, key: str, default: object = None) -> object:
        """Return a keyword of PRIMARY, else of SCI, of the first segment, else ``default``."""
        return self.segments[0].header(key, default)

    def _text(self, key: str) -> str | None:
        value = self.header(key)
        return None if value is None or not str(value).strip() else str(value).strip()

    @property
    def visit(self) -> tuple[str, ...]:
        """What the exposures of all detectors that were read together have in common."""
        return _identity(self.segments[0])[:-1]

    @property
    def instrument(self) -> str | None:
        """INSTRUME."""
        return self._text("INSTRUME")

    @property
    def filter(self) -> str | None:
        """FILTER."""
        return self._text("FILTER")

    @property
    def pupil(self) -> str | None:
        """PUPIL."""
        return self._text("PUPIL")

    @property
    def grating(self) -> str | None:
        """GRATING."""
        return self._text("GRATING")

    @property
    def subarray(self) -> str | None:
        """SUBARRAY."""
        return self._text("SUBARRAY")

    @property
    def target(self) -> str | None:
        """TARGNAME, else TARGPROP."""
        return self._text("TARGNAME") or self._text("TARGPROP")

    @property
    def slit_name(self) -> str | None:
        """SLTNAME."""
        return self._text("SLTNAME")

    @property
    def n_slits(self) -> int:
        """Slits in its files; 1 but for the stripes of NIRCam's Dispersed Hartmann Sensor."""
        return self.segments[0].n_slits

    @property
    def stripe(self) -> str:
        """Name of the slit where the files hold several, else empty."""
        return "" if self.n_slits == 1 else self.slit_name or str(self.segments[0].slit)

    @property
    def label(self) -> str:
        """Name, with that of the stripe if there are several."""
        return f"{self.name} stripe {self.stripe}" if self.stripe else self.name

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files of its segments; slits of the same files share them."""
        return tuple(segment.path for segment in self.segments)

    @property
    def dispersion_axis(self) -> int:
        """1 where wavelength runs along x, 2 along y (DISPAXIS, else as the mode has it); 0 for imaging."""
        if self.mode.is_imaging:
            return 0
        value = self.header("DISPAXIS")
        return int(value) if isinstance(value, int) and value in (1, 2) else self.mode.dispersion_axis

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the planes that exist, in the order of `PLANES`."""
        return tuple(name for name in PLANES if name in self.segments[0].planes)

    @property
    def segment_bounds(self) -> tuple[tuple[int, int], ...]:
        """First integration and one past the last, of every segment, as 0-based index in the exposure."""
        bounds, start = [], 0
        for segment in self.segments:
            bounds.append((start, start + segment.n_int))
            start += segment.n_int
        return tuple(bounds)

    @property
    def wcs(self) -> Any:
        """World coordinates (gwcs.WCS) of the first segment, those of this slit; None if it has none."""
        from tso3.io.wavelength import read_wcs

        first = self.segments[0]
        return read_wcs(first.path, first.slit if first.n_slits > 1 else None)

    @cached_property
    def wavelength(self) -> NDArray[np.floating] | None:
        """
        Wavelength of every pixel [micron], shape (ny, nx); NaN where there is none, None for imaging.

        Evaluated when first asked for, from the WAVELENGTH plane or else the gWCS of the first segment.
        """
        from tso3.io.wavelength import read_wavelength

        return None if self.mode.is_imaging else read_wavelength(self.segments[0])


@dataclass(frozen=True)
class Observation:
    """
    Everything that one run reduces, and how its products are named.

    Attributes
    ----------
    exposures : tuple of Exposure
        By exposure, then detector.
    product_name : str
        Stem of the level-3 products.
    asn_id, asn_pool, asn_table : str or None
        From the association; None without one.
    paths : tuple of Path
        The files, in the order in which they were given.
    """

    exposures: tuple[Exposure, ...]
    product_name: str
    asn_id: str | None = None
    asn_pool: str | None = None
    asn_table: str | None = None
    paths: tuple[Path, ...] = ()

    @property
    def mode(self) -> Mode:
        """The mode, the same for all exposures."""
        return self.exposures[0].mode

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments of all exposures, each file once."""
        segments = (segment for exposure in self.exposures for segment in exposure.segments)
        return tuple({segment.path: segment for segment in segments}.values())


def read_observation(inputs: str | Path | Sequence[str | Path]) -> Observation:
    """
    Return the exposures that inputs stand for; no pixel is read.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        An association, or files, patterns and folders (see `tso3.io.association.resolve_inputs`), in any order.

    Returns
    -------
    observation : Observation
        Without an association the product is named after what the names of its exposures share, e.g.
        ``jw01366003001_04101_00001`` for NRS1 and NRS2 of one exposure, or the exposure's name if there is only one.

    Raises
    ------
    InputError
        If an input cannot be reduced, or they do not belong together. Nothing is written then.

    Warns
    -----
    tso3.errors.Tso3Warning
        For what is missing but can be done without: segments, times, variances.
    """
    association = resolve_inputs(inputs)
    exposures = read_exposures(association.paths)
    name = association.product_name or _common_name([exposure.name for exposure in exposures])
    return Observation(
        exposures, name, association.asn_id, association.asn_pool, association.asn_table, tuple(association.paths)
    )


def read_exposures(paths: Sequence[str | Path]) -> tuple[Exposure, ...]:
    """
    Return calints files grouped to exposures.

    Files of the same program, observation, visit, activity, exposure number, detector and spectral order are segments
    of one exposure (where those keywords are missing: files of the same name but for ``-segNNN``). They may come in any
    order.

    Parameters
    ----------
    paths : sequence of path-like
        Calints files.

    Returns
    -------
    exposures : tuple of Exposure
        By exposure, then detector.

    Raises
    ------
    InputError
        If files differ in mode, instrument, unit, shape or optical elements, or hold the same integrations.

    Warns
    -----
    tso3.errors.Tso3Warning
        If integrations between segments are missing, or VAR_POISSON or VAR_RNOISE.
    """
    groups: dict[tuple[tuple[str, ...], str, int], list[Segment]] = {}
    for segment in _checked_segments(paths):
        order = str(segment.header("SPORDER", ""))
        groups.setdefault((_identity(segment), order, segment.slit), []).append(segment)
    if not groups:
        raise InputError("no input given; give an association (.json), calints files, a pattern or a folder")
    exposures = _in_time([_join(groups[key]) for key in sorted(groups)])
    segments = [segment for exposure in exposures for segment in exposure.segments]
    names: dict[str, Path] = {}
    for segment in segments:
        if segment.stem in names and segment.path != names[segment.stem]:
            raise InputError(f"has the same name as {names[segment.stem]}; their products would collide", segment.path)
        names[segment.stem] = segment.path
    return exposures


def _identity(segment: Segment) -> tuple[str, ...]:
    """Return what the segments of one exposure have in common; sorts by exposure, then detector."""
    keys = [str(segment.header(key, "")) for key in _IDENTITY]
    detector = str(segment.header("DETECTOR", ""))
    stem = "" if keys[0] and keys[-1] else _SEGMENT_WORD.sub("", segment.stem)
    return (*keys, stem, detector)


def _checked_segments(paths: Sequence[str | Path]) -> list[Segment]:
    """Return the headers of files that belong to one observation."""
    segments = [segment for path in paths for segment in read_segments(path)]
    _check_equal(segments, _EQUAL_IN_OBSERVATION, "an observation")
    return segments


def _in_time(exposures: list[Exposure]) -> tuple[Exposure, ...]:
    """Return exposures in the order of their first time, detectors of one visit together; without times as given."""
    begin: dict[tuple[str, ...], float] = {}
    for exposure in exposures:
        times = [float(t) for t in exposure.times.mid_mjd_utc if t == t][:1]
        begin[exposure.visit] = min([begin.get(exposure.visit, float("inf")), *times])
    return tuple(sorted(exposures, key=lambda exposure: begin[exposure.visit]))


def _join(segments: list[Segment]) -> Exposure:
    """Return the exposure of segments in any order."""
    ordered = tuple(sorted(segments, key=lambda s: (s.int_start, s.number, s.path.name)))
    first = ordered[0]
    for segment in ordered[1:]:
        if (segment.ny, segment.nx) != (first.ny, first.nx):
            raise InputError(
                f"frames of {segment.ny} x {segment.nx} pixels, but {first.ny} x {first.nx} in {first.path.name};"
                " segments of one exposure have one shape",
                segment.path,
            )
        if segment.planes.keys() != first.planes.keys():
            odd = ", ".join(sorted(segment.planes.keys() ^ first.planes.keys()))
            raise InputError(f"differs from {first.path.name} in the planes it has ({odd})", segment.path)
    if len({segment.n_slits for segment in ordered}) > 1:
        raise InputError(f"holds {ordered[-1].n_slits} slits, {first.path.name} {first.n_slits}", ordered[-1].path)
    _check_equal(ordered, _EQUAL_IN_EXPOSURE, "one exposure")
    name = _exposure_name(ordered)
    _check_continuity(ordered, name)
    _warn_missing_planes(ordered)
    return Exposure(
        name=name,
        mode=first.mode,
        detector=str(first.header("DETECTOR", "")),
        segments=ordered,
        n_int=sum(segment.n_int for segment in ordered),
        ny=first.ny,
        nx=first.nx,
        bunit=str(first.sci.get("BUNIT", "") or "").strip(),
        times=concatenate_times(tuple(segment.times for segment in ordered)),
    )


def _check_equal(segments: Sequence[Segment], keys: tuple[str, ...], whole: str) -> None:
    """Raise if a keyword differs between segments."""
    first = segments[0]
    for segment in segments[1:]:
        for key in keys:
            here, there = segment.header(key), first.header(key)
            if here != there:
                raise InputError(
                    f"{key} = {here!r}, but {there!r} in {first.path.name}; {whole} has one {key}: run them apart",
                    segment.path,
                )


def _check_continuity(segments: tuple[Segment, ...], name: str) -> None:
    """Raise if segments hold the same integrations; warn of those that none holds."""
    missing: list[str] = []
    for a, b in pairwise(segments):
        if b.int_start < a.int_stop:
            raise InputError(
                f"starts at integration {b.int_start}, but {a.path.name} of the same exposure holds"
                f" {a.int_start}-{a.int_stop - 1}; give each integration once",
                b.path,
            )
        if b.int_start > a.int_stop:
            between = "" if b.number - a.number <= 1 else f" (segment {_span(a.number + 1, b.number - 1)})"
            missing.append(f"{_span(a.int_stop, b.int_start - 1)}{between}")
    total = segments[0].header("NINTS")
    if isinstance(total, int) and total >= segments[-1].int_stop - 1:
        if segments[0].int_start > 1:
            missing.insert(0, _span(1, segments[0].int_start - 1))
        if total >= segments[-1].int_stop:
            missing.append(_span(segments[-1].int_stop, total))
    if missing:
        warnings.warn(
            f"{segments[0].path.parent / name}: integrations {', '.join(missing)} are in none of the"
            f" {len(segments)} files given; the others are reduced without them",
            Tso3Warning,
            stacklevel=4,
        )


def _warn_missing_planes(segments: tuple[Segment, ...]) -> None:
    """Warn of variances without which errors in time cannot be told apart (VAR_FLAT does not scatter in time)."""
    lacking = [name for name in ("VAR_POISSON", "VAR_RNOISE") if name not in segments[0].planes]
    if lacking:
        warnings.warn(
            f"{segments[0].path}: has no {' and no '.join(lacking)}; taken as zero", Tso3Warning, stacklevel=4
        )


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _exposure_name(segments: tuple[Segment, ...]) -> str:
    """Return the stem that segments share, without the number of the segment."""
    stems = [_SEGMENT_WORD.sub("", segment.stem) for segment in segments]
    return stems[0] if len(set(stems)) == 1 else _common_name(stems)


def _common_name(names: Sequence[str]) -> str:
    """
    Return what names share at their beginning, up to a separator.

    Parameters
    ----------
    names : sequence of str
        At least one.

    Returns
    -------
    common : str
        ``tso3`` if they share nothing.

    Examples
    --------
    >>> from tso3.io.exposure import _common_name
    >>> _common_name(["jw01366003001_04101_00001_nrs1", "jw01366003001_04101_00001_nrs2"])
    'jw01366003001_04101_00001'
    """
    if len(set(names)) == 1:
        return names[0]
    low, high = min(names), max(names)
    differ = (i for i, pair in enumerate(zip(low, high, strict=False)) if len(set(pair)) > 1)
    prefix = low[: next(differ, len(low))]
    if all(name == prefix or name[len(prefix)] in "_-." for name in names):
        return prefix.rstrip("_-.") or "tso3"
    cut = max(prefix.rfind(mark) for mark in "_-.")
    return prefix[: max(cut, 0)].rstrip("_-.") or "tso3"
