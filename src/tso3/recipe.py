"""
What is done to the blocks of an exposure, and the part of it that one process does.

A `Recipe` is all that was prepared for an exposure: it is the same for every block, thread and machine, and can be sent
to another process. A `Part` is some segments of the exposures that share their files; `reduce_part` reduces it. In one
process there is one part with all segments, on a cluster one for each.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.io.crfints import CrfintsRecord
from tso3.io.exposure import Exposure
from tso3.io.exposure_products import ExposureProducts
from tso3.io.reader import Reader
from tso3.progress import Progress
from tso3.steps import rectify as rectification
from tso3.steps.known_outliers import KnownOutliers, OutlierNotes
from tso3.steps.outlier_detection import OutlierPlan
from tso3.stream import ExposureStream

__all__ = [
    "Gathered",
    "Limits",
    "Part",
    "PartResult",
    "Recipe",
    "RowTarget",
    "Rows",
    "Segments",
    "reduce_part",
]


@dataclass(frozen=True)
class Limits:
    """
    What one process may use.

    Attributes
    ----------
    max_memory : int
        Bytes.
    workers : int
        Threads.
    block_size : int or None
        Integrations per block, if asked for.
    """

    max_memory: int
    workers: int
    block_size: int | None = None

    def shared(self, n: int) -> Limits:
        """Return the share of each of ``n`` parts that one process reduces at the same time."""
        return Limits(max(1, self.max_memory // n), max(1, self.workers // n), self.block_size)


@dataclass(frozen=True)
class Segments:
    """
    A run of segments of an exposure.

    Attributes
    ----------
    first, last : int
        Half-open range of segments.
    start, stop : int
        Half-open range of exposure indices of their integrations.
    """

    first: int
    last: int
    start: int
    stop: int

    @classmethod
    def of(cls, exposure: Exposure, first: int = 0, last: int | None = None) -> Segments:
        """Return some segments of an exposure, by default all."""
        bounds = exposure.segment_bounds[first:last]
        return cls(first, first + len(bounds), bounds[0][0], bounds[-1][1])

    @classmethod
    def each(cls, exposure: Exposure) -> list[Segments]:
        """Return every segment of an exposure by itself."""
        return [cls.of(exposure, k, k + 1) for k in range(len(exposure.segments))]

    @property
    def n_int(self) -> int:
        """Integrations."""
        return self.stop - self.start


class Rows(Protocol):
    """Anything that takes the spectra of blocks."""

    def write(self, name: str, spectra: Any) -> None:
        """Take spectra of consecutive integrations of the exposure ``name``."""


class RowTarget(Protocol):
    """Where the spectra of a part go: the product itself, or a file from which they are copied into it."""

    def opened(self, name: str, start: int, stop: int) -> AbstractContextManager[tuple[Rows, Any]]:
        """Give what takes spectra of these integrations, and what the product is told afterwards, if anything."""


class Gathered(Protocol):
    """What blocks of one part leave behind, taken up block by block, from several threads."""

    def result(self) -> Any:
        """Return small records of numbers per integration."""


@dataclass(frozen=True)
class Recipe:
    """
    What is done to the blocks of one exposure.

    Attributes
    ----------
    exposure : Exposure
        What is streamed.
    outliers : OutlierPlan or None
        None where the step is skipped.
    bad_pixels : ndarray of bool or None, shape (ny, nx)
        Pixels that the user calls bad.
    fixed_bytes : int
        Bytes that are kept for the whole exposure.
    known : KnownOutliers or None
        All outliers, where preparing has found them already.
    noting : bool
        Whether the outliers that are found are part of the result.
    unsteady : ndarray of bool, shape (ny, nx), or None
        Pixels that `consume` leaves out of all integrations, since they are bad in many; None: nowhere.
    rectify : tuple of RectifyPlan
        How integrations are rectified: one for each spectrum; empty if they are not.
    """

    exposure: Exposure
    outliers: OutlierPlan | None
    bad_pixels: NDArray[np.bool_] | None
    fixed_bytes: int
    known: KnownOutliers | None = None
    noting: bool = False
    unsteady: NDArray[np.bool_] | None = None
    rectify: tuple[rectification.RectifyPlan, ...] = ()

    @property
    def used_rows(self) -> slice:
        """Rows that `consume` reads."""
        return slice(0, self.exposure.ny)

    @property
    def keep_err(self) -> bool:
        """Whether `consume` reads ``err`` and ``dq``."""
        return False

    @property
    def result_bytes(self) -> int:
        """Bytes per integration that `consume` needs beside the block."""
        return 0

    @property
    def _kept_rows(self) -> slice:
        """Rows that `consume` and rectification read."""
        rows = [rows for rows in (self.used_rows, *(plan.rows for plan in self.rectify)) if rows.start < rows.stop]
        return slice(min(r.start for r in rows), max(r.stop for r in rows)) if rows else slice(0, 0)

    def bytes_of_rectification(self, workers: int) -> int:
        """Bytes that rectification needs, whatever the block."""
        most = max((plan.chunk_bytes for plan in self.rectify), default=0)
        return workers * most + sum(plan.kept_bytes for plan in self.rectify)

    def gather(self, segments: Segments) -> Any:
        """Return what takes up the results of the blocks of some segments; has a method ``result``."""
        raise NotImplementedError

    def consume(self, block: Block, gathered: Any, rows: Rows | None) -> None:
        """Reduce one finished block; called from several threads."""
        raise NotImplementedError

    def leave_out(self, block: Block) -> None:
        """Set the data of unsteady pixels to NaN; what is written of the block has been written before."""
        y, x = self._left_out
        block.data[:, y, x] = np.nan

    @cached_property
    def _left_out(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the unsteady pixels among the kept rows; nobody reads others, so they take no memory."""
        rows = self._kept_rows
        y, x = np.nonzero(np.zeros((0, 0)) if self.unsteady is None else self.unsteady[rows])
        return y + rows.start, x

    def stream(self, reader: Reader, writer: Any = None, notes: OutlierNotes | None = None) -> ExposureStream:
        """Return the stream of the exposure; ``notes`` takes the outliers that it finds."""
        return ExposureStream(
            self.exposure,
            reader,
            self.outliers,
            used_rows=self._kept_rows,
            keep_err=self.keep_err or any(plan.needs_err for plan in self.rectify),
            bad_pixels=self.bad_pixels,
            writer=writer,
            known=self.known,
            notes=notes,
        )


@dataclass(frozen=True)
class Part:
    """
    What one process reduces: some segments of the exposures that share their files.

    Attributes
    ----------
    recipes : tuple of Recipe
        One, or one for each slit of the files.
    segments : Segments
        Which.
    limits : Limits
        Memory and threads.
    folder : Path
        Of the products.
    asn_id : str or None
        Identifier of the association, part of the names.
    record : CrfintsRecord or None
        What the headers of ``crfints`` say.
    crfints, medians : bool
        Which of the two are written.
    rows : RowTarget or None
        Takes the spectra.
    """

    recipes: tuple[Recipe, ...]
    segments: Segments
    limits: Limits
    folder: Path
    asn_id: str | None = None
    record: CrfintsRecord | None = None
    crfints: bool = False
    medians: bool = False
    rows: RowTarget | None = None

    @property
    def label(self) -> str:
        """What the display calls it."""
        exposure = self.recipes[0].exposure
        return exposure.label if len(self.recipes) == 1 else exposure.name

    @property
    def total(self) -> int:
        """Units of progress."""
        return len(self.recipes) * self.segments.n_int

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the input files of the part."""
        paths = self.recipes[0].exposure.paths[self.segments.first : self.segments.last]
        return tuple(path.name for path in paths)

    @property
    def products(self) -> tuple[Path, ...]:
        """Files that are written for each segment."""
        writers = self.writers()
        return (*writers.crfints_paths, *writers.median_paths, *writers.rectified_paths)

    def writers(self) -> ExposureProducts:
        """Return the writers of these files, which open nothing before they are entered."""
        return ExposureProducts(
            [recipe.exposure for recipe in self.recipes],
            self.folder,
            self.asn_id,
            CrfintsRecord() if self.record is None else self.record,
            crfints=self.crfints,
            medians=self.medians,
            segments=range(self.segments.first, self.segments.last),
            rectified=[[plan.layout for plan in recipe.rectify] for recipe in self.recipes],
        )


@dataclass(frozen=True)
class PartResult:
    """
    What a part leaves behind.

    Attributes
    ----------
    paths : tuple of Path
        Files of the exposures, all segments.
    segments : Segments
        Which were reduced.
    n_outlier : tuple of ndarray of int64, shape (n_int,)
        New flags in each integration of the part, by recipe.
    gathered : tuple
        What each recipe gathers.
    crfints, medians : tuple of str
        Names of the products that were written.
    rows : object or None
        What the product of spectra is told (see `RowTarget`).
    known : tuple of KnownOutliers or None
        Where they are, by recipe; None where the recipe does not ask for it.
    rectified : tuple of str
        Names of the products of rectified images.
    """

    paths: tuple[Path, ...]
    segments: Segments
    n_outlier: tuple[NDArray[np.int64], ...]
    gathered: tuple[Any, ...]
    crfints: tuple[str, ...]
    medians: tuple[str, ...]
    rows: Any = None
    known: tuple[KnownOutliers | None, ...] = ()
    rectified: tuple[str, ...] = ()


def reduce_part(part: Part, progress: Progress) -> PartResult:
    """
    Reduce some segments of the exposures that share their files.

    Parameters
    ----------
    part : Part
        What is to be done.
    progress : Progress
        Told of every block.

    Returns
    -------
    result : PartResult
        Products are whole when it is there.
    """
    products = part.writers()
    flags, gathered, known = [], [], []
    with ExitStack() as stack:
        rows, told = None, None
        if part.rows is not None:
            name = part.recipes[0].exposure.name
            rows, told = stack.enter_context(part.rows.opened(name, part.segments.start, part.segments.stop))
        stack.enter_context(products)
        for recipe in part.recipes:
            progress.start(recipe.exposure.label, part.segments.n_int)
            notes = _notes(recipe.exposure) if recipe.noting else None
            flagged, found = _reduce(recipe, part, (products, rows, notes), progress)
            progress.finish()
            known.append(None if notes is None else notes.known())
            flags.append(flagged)
            gathered.append(found)
    return PartResult(
        paths=part.recipes[0].exposure.paths,
        segments=part.segments,
        n_outlier=tuple(flags),
        gathered=tuple(gathered),
        crfints=tuple(path.name for path in products.crfints_paths),
        medians=tuple(path.name for path in products.median_paths),
        rows=told,
        known=tuple(known),
        rectified=tuple(path.name for path in products.rectified_paths),
    )


def _notes(exposure: Exposure) -> OutlierNotes:
    return OutlierNotes((exposure.n_int, exposure.ny, exposure.nx))


def _reduce(
    recipe: Recipe,
    part: Part,
    targets: tuple[ExposureProducts, Rows | None, OutlierNotes | None],
    progress: Progress,
) -> tuple[NDArray[np.int64], Any]:
    """Stream the part's segments of one exposure into its products; return its flags and what it gathered."""
    products, rows, notes = targets
    gathered = recipe.gather(part.segments)
    limits, writer = part.limits, products.of(recipe.exposure)

    def consume(block: Block) -> None:
        for k, plan in enumerate(recipe.rectify):
            rectification.run(plan, block, partial(writer.write_rectified, k))
        recipe.consume(block, gathered, rows)
        progress.advance(block.n_int)

    with Reader(recipe.exposure) as reader:
        stream = recipe.stream(reader, writer, notes)
        cut = stream.plan(
            limits.max_memory,
            limits.workers,
            block_size=limits.block_size,
            result_bytes=recipe.result_bytes,
            fixed_bytes=recipe.fixed_bytes + recipe.bytes_of_rectification(limits.workers),
            segments=slice(part.segments.first, part.segments.last),
        )
        stream.run(cut, consume)
    return stream.counts.n_outlier[part.segments.start : part.segments.stop].copy(), gathered.result()
