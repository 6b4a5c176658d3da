"""Segments joined to exposures: one detector, one stack of integrations, in time order; metadata without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso3.errors import InputError
from tso3.io.association import Association, resolve_inputs
from tso3.io.belonging import (
    check_continuity,
    check_exposure,
    check_observation,
    common_name,
    exposure_name,
    warn_missing_planes,
    without_segment,
)
from tso3.io.fitsfile import scan_hdus
from tso3.io.segment import PLANES, Plane, Segment, read_segments
from tso3.io.times import IntTimes, concatenate_times, report_order
from tso3.modes import Mode

if TYPE_CHECKING:
    import numpy as np
    from astropy.io import fits
    from numpy.typing import NDArray

    from tso3.io.geometry import Geometry

__all__ = ["PLANES", "Exposure", "Observation", "Plane", "Segment", "read_exposures", "read_observation"]

_IDENTITY = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")


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

    from_spectra = False
    """Whether its spectra are there already, and no pixels (see `tso3.io.x1dints_reader`)."""

    def header(self, key: str, default: object = None) -> object:
        """Return a keyword of PRIMARY, else of SCI, of the first segment, else ``default``."""
        return self.segments[0].header(key, default)

    @property
    def primary(self) -> fits.Header:
        """PRIMARY header of the first segment (read-only)."""
        return self.segments[0].primary

    def _text(self, key: str) -> str | None:
        value = self.header(key)
        return None if value is None or not str(value).strip() else str(value).strip()

    @cached_property
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
        """Name of the stripe of NIRCam's Dispersed Hartmann Sensor; empty where there are none."""
        slit = self.segments[0].in_tree
        return "" if slit is None else self.slit_name or str(slit)

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
        from tso3.io.wcs import read_wcs

        first = self.segments[0]
        return read_wcs(first.path, first.in_tree)

    @property
    def geometry(self) -> Geometry:
        """What its world coordinates say, remembered from run to run: steps ask this rather than `wcs`."""
        from tso3.io.geometry import Geometry

        return Geometry(self.segments[0].path, self.segments[0].in_tree)

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
    times_file : str or None
        Name of the user's file that the times are from; None if they are those of the inputs.
    """

    exposures: tuple[Exposure, ...]
    product_name: str
    asn_id: str | None = None
    asn_pool: str | None = None
    asn_table: str | None = None
    paths: tuple[Path, ...] = ()
    times_file: str | None = None

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
    spectra = [path for path in association.paths if is_spectra(path)]
    if spectra:
        return _read_spectra(association, spectra)
    exposures = read_exposures(association.paths)
    parts = {segment.marker for exposure in exposures for segment in exposure.segments}
    shared = common_name([exposure.name for exposure in exposures]) + (parts.pop() if len(parts) == 1 else "")
    name = association.product_name or shared
    return Observation(
        exposures, name, association.asn_id, association.asn_pool, association.asn_table, tuple(association.paths)
    )


def _read_spectra(association: Association, spectra: Sequence[Path]) -> Observation:
    """Return the observation of a product of spectra, which stands alone."""
    from tso3.io.x1dints_reader import read_spectra

    if len(association.paths) > 1:
        other = next(path for path in association.paths if path != spectra[0])
        raise InputError(
            f"holds the spectra of an observation, which stand alone; {other.name} was given too: run them apart",
            spectra[0],
        )
    found = read_spectra(spectra[0])
    name = association.product_name or found.product_name
    return replace(found, product_name=name, asn_id=association.asn_id)


def is_spectra(path: Path) -> bool:
    """Return whether a file is a product of spectra (``x1dints``), by its name or else its data model."""
    name = path.name.lower()
    if name.endswith(("_x1dints.fits", "_calints.fits", "_crfints.fits")):
        return name.endswith("_x1dints.fits")
    return path.is_file() and str(scan_hdus(path)[0].header.get("DATAMODL", "")).strip() == "TSOMultiSpecModel"


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
    stem = "" if keys[0] and keys[-1] else without_segment(segment.base)
    return (*keys, stem, detector)


def _checked_segments(paths: Sequence[str | Path]) -> list[Segment]:
    """Return the headers of files that belong to one observation."""
    segments = [segment for path in paths for segment in read_segments(path)]
    check_observation(segments)
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
    check_exposure(ordered)
    name = exposure_name(ordered)
    check_continuity(ordered, name)
    warn_missing_planes(ordered)
    times = concatenate_times(tuple(segment.times for segment in ordered))
    if first.slit == 1:  # the other slits of a file have the same times
        report_order(times, first.path.parent / name)
    return Exposure(
        name=name,
        mode=first.mode,
        detector=str(first.header("DETECTOR", "")),
        segments=ordered,
        n_int=sum(segment.n_int for segment in ordered),
        ny=first.ny,
        nx=first.nx,
        bunit=str(first.sci.get("BUNIT", "") or "").strip(),
        times=times,
    )
