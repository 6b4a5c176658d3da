"""What belongs together: files of one observation, segments of one exposure; and the names that they share."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise

from tso3.errors import InputError, Tso3Warning
from tso3.io.segment import Segment

__all__ = [
    "check_continuity",
    "check_exposure",
    "check_observation",
    "common_name",
    "exposure_name",
    "warn_missing_planes",
    "without_segment",
]

_SEGMENT_WORD = re.compile(r"-seg\d+(?=[_-]|$)", re.IGNORECASE)
_EQUAL_IN_EXPOSURE = (
    "INSTRUME",
    "FILTER",
    "PUPIL",
    "GRATING",
    "CHANNEL",
    "BAND",
    "SUBARRAY",
    "SUBSTRT1",
    "SUBSTRT2",
    "BUNIT",
    "DISPAXIS",
    "SLTNAME",
)
_EQUAL_IN_OBSERVATION = ("EXP_TYPE", "INSTRUME", "BUNIT")
_SAME_IF_KNOWN = ("PROGRAM", "SUBARRAY", "FILTER", "PUPIL", "GRATING")
_TARGET = ("TARGNAME", "TARGPROP")


def check_exposure(segments: Sequence[Segment]) -> None:
    """Raise `InputError` if segments of one exposure differ in what an exposure has but once."""
    _check_equal(segments, _EQUAL_IN_EXPOSURE, "one exposure")


def check_observation(segments: Sequence[Segment]) -> None:
    """
    Raise if files do not belong to one observation.

    Parameters
    ----------
    segments : sequence of Segment
        All that were given.

    Raises
    ------
    InputError
        If two differ in mode, instrument, unit, or - where both say it - in program, target, subarray or optical
        element; or if some have their outliers flagged already and some have not. Both files are named.
    """
    _check_equal(segments, _EQUAL_IN_OBSERVATION, "an observation")
    for key in _SAME_IF_KNOWN:
        if not (key == "FILTER" and segments[0].mode.mixed_filters):
            _check_known(segments, (key,))
    _check_known(segments, _TARGET)
    done = [segment for segment in segments if segment.flagged]
    if 0 < len(done) < len(segments):
        other = next(segment for segment in segments if not segment.flagged)
        raise InputError(
            f"has its outliers flagged already (S_OUTLIR COMPLETE), {other.path.name} has not; give calints or crfints",
            done[0].path,
        )


def _check_known(segments: Sequence[Segment], keys: tuple[str, ...]) -> None:
    """Raise if the first of some keywords that a header has differs; headers without any are left out."""
    known = [(key, value, s) for s in segments for key in keys if (value := s.header(key)) not in (None, "")]
    first: dict[str, tuple[object, Segment]] = {}
    named: set[int] = set()
    for key, value, segment in known:
        if id(segment) in named:  # TARGPROP counts where there is no TARGNAME
            continue
        named.add(id(segment))
        there, other = first.setdefault(key, (value, segment))
        if value != there:
            raise InputError(
                f"{key} = {value!r}, but {there!r} in {other.path.name}; an observation has one {key}: run them apart",
                segment.path,
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


def check_continuity(segments: tuple[Segment, ...], name: str) -> None:
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


def warn_missing_planes(segments: tuple[Segment, ...]) -> None:
    """Warn of variances without which errors in time cannot be told apart (VAR_FLAT does not scatter in time)."""
    lacking = [name for name in ("VAR_POISSON", "VAR_RNOISE") if name not in segments[0].planes]
    if lacking:
        warnings.warn(
            f"{segments[0].path}: has no {' and no '.join(lacking)}; taken as zero", Tso3Warning, stacklevel=4
        )


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def without_segment(stem: str) -> str:
    """Return the stem of a file name without the number of the segment."""
    return _SEGMENT_WORD.sub("", stem)


def exposure_name(segments: tuple[Segment, ...]) -> str:
    """Return the stem that segments share, without the number of the segment."""
    stems = [without_segment(segment.base) for segment in segments]
    return stems[0] if len(set(stems)) == 1 else common_name(stems)


def common_name(names: Sequence[str]) -> str:
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
    >>> from tso3.io.belonging import common_name
    >>> common_name(["jw01366003001_04101_00001_nrs1", "jw01366003001_04101_00001_nrs2"])
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
