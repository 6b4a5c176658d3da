"""The records of photometry: the plan of an exposure, the source in every integration, the result of a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.aperture import Photometry, Radii, Treatment
from tso3.core.centroid import Box
from tso3.core.moving_star import MovingStar

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.parameters import TsoPhotometry
    from tso3.steps.photometry_layout import PhotometryLayout
    from tso3.steps.photometry_units import ImageUnit

__all__ = ["PhotometryPart", "PhotometryPlan", "SourceTrack", "joined_parts", "joined_tracks", "sliced_track"]


@dataclass(frozen=True)
class SourceTrack:
    """
    The source in every integration, each an array of shape (n_int,); NaN where it could not be measured.

    Attributes
    ----------
    x, y : ndarray
        Centroid [pixel, 0-based].
    x_err, y_err : ndarray
        Its 1-sigma errors [pixel].
    width_x, width_y : ndarray
        Standard deviations of the Gaussian [pixel].
    flux : ndarray
        Its flux, unit of the table.
    width_x_err, width_y_err, flux_err : ndarray
        1-sigma errors of these.
    quality : ndarray of int64
        Bits of `PhotometryQuality` that concern the position.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_err: NDArray[np.float64]
    y_err: NDArray[np.float64]
    width_x: NDArray[np.float64]
    width_y: NDArray[np.float64]
    flux: NDArray[np.float64]
    width_x_err: NDArray[np.float64]
    width_y_err: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    quality: NDArray[np.int64]


@dataclass(frozen=True)
class PhotometryPlan:
    """
    What photometry needs to know about an exposure, the same for every block.

    Attributes
    ----------
    exposure : Exposure
        Headers, shape and segments.
    parameters : TsoPhotometry
        The step's parameters.
    unit : ImageUnit
        Unit of the table and the factor to it.
    layout : PhotometryLayout
        Sizes of aperture, annulus and boxes.
    spans : tuple of (int, int)
        Ranges of integrations that share a position.
    planned : (float, float)
        Where the telescope was to point [pixel, 0-based].
    boxes : tuple of Box
        Where the source of each span is looked for: around the planned position, later around what was found.
    apertures : tuple of (float, float)
        Position of the fixed aperture of each span; the planned one as long as no other is known.
    unplaced : tuple of bool
        True for a span in which no source was found.
    treatment : Treatment
        Of bad pixels and errors.
    passes : int
        How many passes of `locate` and `settle` are left.
    track : SourceTrack or None
        The source in all integrations, where it was measured before the photometry.
    star : MovingStar or None
        The star in every integration, from which bad pixels are completed; None where they are not.
    """

    exposure: Exposure
    parameters: TsoPhotometry
    unit: ImageUnit
    layout: PhotometryLayout
    spans: tuple[tuple[int, int], ...]
    planned: tuple[float, float]
    boxes: tuple[Box, ...]
    apertures: tuple[tuple[float, float], ...]
    unplaced: tuple[bool, ...]
    treatment: Treatment
    passes: int
    track: SourceTrack | None = None
    star: MovingStar | None = None

    @property
    def ready(self) -> bool:
        """Whether `run` can be called; if not, `locate` all blocks and `settle`, once or twice."""
        return self.passes == 0

    @property
    def radii(self) -> Radii:
        """Aperture and annulus; the aperture is infinite where the whole array is summed."""
        return self.layout.radii

    @property
    def whole_array(self) -> bool:
        """Whether the whole array is summed, without background: weak lens in SUB64P."""
        return not np.isfinite(self.radii.radius)


@dataclass(frozen=True)
class PhotometryPart:
    """
    Photometry of a run of integrations.

    Attributes
    ----------
    start : int
        Index in the exposure of the first.
    x, y : ndarray, shape (n_int,)
        Position of the aperture [pixel, 0-based].
    track : SourceTrack or None
        The source; None where it was not to be measured.
    photometry : Photometry
        Sums, errors, quality.
    """

    start: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    track: SourceTrack | None
    photometry: Photometry


def sliced_track(track: SourceTrack, first: int, last: int) -> SourceTrack:
    """Return some of the integrations of a track."""
    return SourceTrack(*(getattr(track, f.name)[first:last] for f in fields(track)))


def joined_tracks(tracks: Sequence[SourceTrack]) -> SourceTrack:
    """Return tracks put end to end."""
    return SourceTrack(*(np.concatenate([getattr(t, f.name) for t in tracks]) for f in fields(SourceTrack)))


def joined_parts(parts: Sequence[PhotometryPart]) -> PhotometryPart:
    """Return parts put end to end; they must follow each other."""
    for before, after in pairwise(parts):
        if before.start + before.x.size != after.start:
            raise ValueError(f"integrations {before.start + before.x.size} to {after.start} were not measured")
    tracks = [part.track for part in parts if part.track is not None]
    photometry = Photometry(
        *(np.concatenate([getattr(part.photometry, f.name) for part in parts]) for f in fields(Photometry))
    )
    x, y = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y"))
    return PhotometryPart(parts[0].start, x, y, joined_tracks(tracks) if tracks else None, photometry)
