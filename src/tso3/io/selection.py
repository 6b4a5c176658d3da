"""A part of the integrations of every exposure: the same files, read and written as if they held no more."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tso3.errors import InputError, ParameterError, Tso3Warning
from tso3.io.exposure import Exposure, Observation
from tso3.io.fitsfile import Hdu
from tso3.io.segment import PLANES, Segment, part_of_name
from tso3.io.times import concatenate_times

__all__ = ["IntegrationRange", "named", "parse_integrations", "select_integrations"]


@dataclass(frozen=True)
class IntegrationRange:
    """
    Integrations by their number in the exposure, as INT_NUM counts them: from 1, both ends included.

    Attributes
    ----------
    first : int
        Number of the first one.
    last : int or None
        Number of the last one; None for the last that there is.
    """

    first: int
    last: int | None

    def within(self, segment: Segment) -> tuple[int, int]:
        """Return which integrations of a segment are meant, as 0-based indices, half-open; empty if none."""
        stop = segment.int_stop if self.last is None else min(self.last + 1, segment.int_stop)
        start = max(self.first, segment.int_start)
        return start - segment.int_start, max(start, stop) - segment.int_start


def parse_integrations(text: str | Sequence[int]) -> IntegrationRange:
    """
    Return the integrations that a text or a pair of numbers stands for.

    Parameters
    ----------
    text : str or sequence of two int
        ``"100:400"``: 100 to 400, both included, as INT_NUM counts from 1; ``"100:"``, ``":400"``, ``"100"`` for one.

    Returns
    -------
    integrations : IntegrationRange

    Raises
    ------
    ParameterError
        If it has another form, begins before 1, or ends before it begins.

    Examples
    --------
    >>> from tso3.io.selection import parse_integrations
    >>> parse_integrations("100:400")
    IntegrationRange(first=100, last=400)
    >>> parse_integrations(":7"), parse_integrations("7")
    (IntegrationRange(first=1, last=7), IntegrationRange(first=7, last=7))
    >>> parse_integrations((3, 5))
    IntegrationRange(first=3, last=5)
    """
    given = text if isinstance(text, str) else ":".join(str(number) for number in text)
    found = re.fullmatch(r"\s*(\d*)\s*(:?)\s*(\d*)\s*", given)
    if found is None or not (found[1] or found[3]):
        raise ParameterError(
            f"{given!r} is no range of integrations; give FIRST:LAST, counted from 1, both included", "integrations"
        )
    first = int(found[1] or 1)
    last = int(found[3]) if found[3] else (None if found[2] else first)
    if first < 1:
        raise ParameterError(f"{given!r} begins at 0; integrations are counted from 1", "integrations")
    if last is not None and last < first:
        raise ParameterError(f"{given!r} ends before it begins; give FIRST:LAST, both included", "integrations")
    return IntegrationRange(first, last)


def select_integrations(observation: Observation, integrations: IntegrationRange) -> Observation:
    """
    Return an observation that has these integrations only.

    Files without any of them are left out. If anything is left out, the names of the products say which integrations
    they hold (``-int100-400``), so that a part never takes the place of the whole.

    Parameters
    ----------
    observation : Observation
        Of calints or crfints.
    integrations : IntegrationRange
        Those to keep, by their number in each exposure.

    Returns
    -------
    observation : Observation
        INT_NUM and times are those of the whole; the same object if nothing is left out.

    Raises
    ------
    InputError
        If no exposure has any of them.

    Warns
    -----
    tso3.errors.Tso3Warning
        For an exposure that has none of them.
    """
    exposures = [(exposure, _segments(exposure, integrations)) for exposure in observation.exposures]
    if all(_same(exposure.segments, segments) for exposure, segments in exposures):
        return observation
    numbers = [number for exposure in observation.exposures for number in exposure.times.int_num]
    there = f"{min(numbers)} to {max(numbers)}"
    if not any(segments for _, segments in exposures):
        raise InputError(
            f"has integrations {there}; none is in {shown(integrations, max(numbers))}", observation.product_name
        )
    for exposure, segments in exposures:
        if not segments:
            warnings.warn(
                f"{exposure.paths[0].parent / exposure.name}: has no integration in"
                f" {shown(integrations, max(numbers))}; left out",
                Tso3Warning,
                stacklevel=3,
            )
    kept = [(exposure, segments) for exposure, segments in exposures if segments]
    held = [(s.int_start, s.int_stop - 1) for _, segments in kept for s in segments]
    marker = named("", held)
    return replace(
        observation,
        exposures=tuple(_of_segments(exposure, segments, marker) for exposure, segments in kept),
        product_name=named(observation.product_name, held),
    )


def named(product: str, held: Sequence[tuple[int, int]]) -> str:
    """
    Return the name of a product that holds some integrations only.

    Parameters
    ----------
    product : str
        Name of the whole, or of another part.
    held : sequence of (int, int)
        Numbers of the first and last integrations of its pieces.

    Returns
    -------
    name : str
        With the smallest and the largest of them.

    Examples
    --------
    >>> from tso3.io.selection import named
    >>> named("jw01366-o003_t001_nirspec", [(100, 250), (251, 400)])
    'jw01366-o003_t001_nirspec-int100-400'
    >>> named("jw01366-o003_t001_nirspec-int100-400", [(120, 130)])
    'jw01366-o003_t001_nirspec-int120-130'
    """
    whole = product.removesuffix(part_of_name(product))
    return f"{whole}-int{min(first for first, _ in held)}-{max(last for _, last in held)}"


def _same(before: Sequence[Segment], after: Sequence[Segment]) -> bool:
    return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))


def shown(integrations: IntegrationRange, largest: int) -> str:
    """Return a range of integrations in words; ``largest`` is the last one that there is."""
    return f"{integrations.first} to {largest if integrations.last is None else integrations.last}"


def _segments(exposure: Exposure, integrations: IntegrationRange) -> tuple[Segment, ...]:
    """Return the segments that hold integrations of a range, cut to it."""
    ranges = [(segment, *integrations.within(segment)) for segment in exposure.segments]
    return tuple(_cut(segment, start, stop) for segment, start, stop in ranges if stop > start)


def _of_segments(exposure: Exposure, segments: Sequence[Segment], marker: str) -> Exposure:
    """Return an exposure that consists of other segments."""
    marked = tuple(replace(segment, marker=marker) for segment in segments)
    return replace(
        exposure,
        segments=marked,
        n_int=sum(segment.n_int for segment in marked),
        times=concatenate_times(tuple(segment.times for segment in marked)),
    )


def _cut(segment: Segment, start: int, stop: int) -> Segment:
    """Return a segment as if its file held the integrations ``start`` to ``stop`` only (0-based, half-open)."""
    if (start, stop) == (0, segment.n_int):
        return segment
    planes = {}
    for name, plane in segment.planes.items():
        frame = 4 * plane.shape[1] * plane.shape[2]
        planes[name] = replace(plane, offset=plane.offset + start * frame, shape=(stop - start, *plane.shape[1:]))
    return replace(
        segment,
        hdus=tuple(_cut_hdu(hdu, segment, start, stop) for hdu in segment.hdus),
        planes=planes,
        n_int=stop - start,
        int_start=segment.int_start + start,
        times=segment.times.slice(start, stop),
        own_times=True,
    )


def _cut_hdu(hdu: Hdu, segment: Segment, start: int, stop: int) -> Hdu:
    """Return a unit of a file that is cut to some integrations."""
    header = hdu.header
    if hdu.index == 0:
        header = header.copy()
        header["INTSTART"] = segment.int_start + start
        header["INTEND"] = segment.int_start + stop - 1
        return replace(hdu, header=header)
    if hdu.name not in PLANES or len(hdu.shape) != 3 or hdu.shape[0] != segment.n_int:
        return hdu
    frame = 4 * hdu.shape[1] * hdu.shape[2]
    header = header.copy()
    header["NAXIS3"] = stop - start
    return replace(hdu, header=header, data_offset=hdu.data_offset + start * frame, data_size=(stop - start) * frame)
