"""The files that are written while an exposure streams: ``crfints`` per segment, rectified images, medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tso3.io.crfints import CrfintsRecord, CrfintsWriter, crfints_name
from tso3.io.exposure import Exposure
from tso3.io.median import MedianWriter
from tso3.io.rectified import RectifiedLayout, RectifiedWriter, rectified_name

__all__ = ["ExposureProducts", "SlitProducts"]


class ExposureProducts:
    """
    Writers of the segments of one exposure; a context manager.

    Where the files of the exposure hold several slits, which stream one after another, ``crfints`` is one file with all
    of them, which appears when all are written; the medians have a file for each slit.

    Parameters
    ----------
    slits : sequence of Exposure
        What is written: one exposure, or all slits of its files.
    folder : Path
        Of the products.
    asn_id : str or None
        Identifier of the association, part of the names.
    record : CrfintsRecord
        What the headers say.
    crfints, medians : bool
        Which of the two are written.
    segments : range, optional
        Indices of the segments that are written; all by default.
    rectified : sequence of sequences of RectifiedLayout, optional
        By slit: the rectified images that are written.

    Attributes
    ----------
    crfints_paths : list of Path
        Products, in the order of the segments.
    """

    def __init__(
        self,
        slits: Sequence[Exposure],
        folder: Path,
        asn_id: str | None,
        record: CrfintsRecord,
        *,
        crfints: bool,
        medians: bool,
        segments: range | None = None,
        rectified: Sequence[Sequence[RectifiedLayout]] = (),
    ) -> None:
        chosen = range(len(slits[0].segments)) if segments is None else segments
        names = {i: crfints_name(slits[0].segments[i], asn_id) for i in chosen}
        paths = {i: folder / name for i, name in names.items()} if crfints else {}
        self.crfints_paths = list(paths.values())
        self._crfints = [CrfintsWriter(slits, i, path, record) for i, path in paths.items()]
        self._medians = {
            slit.segments[0].slit: [
                MedianWriter(slit, i, folder / _median_name(name, slit)) for i, name in names.items()
            ]
            for slit in (slits if medians else ())
        }
        self._rectified = {
            slit.segments[0].slit: [
                [RectifiedWriter(slit, i, folder / rectified_name(name, layout), layout, record) for layout in layouts]
                for i, name in names.items()
            ]
            for slit, layouts in zip(slits, rectified, strict=False)
        }
        self._stack = ExitStack()

    @property
    def rectified_paths(self) -> list[Path]:
        """Products ``s2dints`` or ``i2dints``, by slit, then segment."""
        return [writer.path for segments in self._rectified.values() for each in segments for writer in each]

    @property
    def median_paths(self) -> list[Path]:
        """Products ``median``, by slit, then segment."""
        return [writer.path for writers in self._medians.values() for writer in writers]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for writer in (*self._crfints, *(writer for writers in self._medians.values() for writer in writers)):
                stack.enter_context(writer)
            for writer in (writer for segments in self._rectified.values() for each in segments for writer in each):
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def of(self, exposure: Exposure) -> SlitProducts:
        """Return the writer of the planes of one of the slits."""
        slit = exposure.segments[0].slit
        return SlitProducts(slit, self._crfints, self._medians.get(slit, []), self._rectified.get(slit, []))


class SlitProducts:
    """
    Takes the planes of one slit; what `ExposureProducts.of` gives.

    Parameters
    ----------
    slit : int
        Which: its EXTVER.
    crfints : sequence of CrfintsWriter
        Open, by segment.
    medians : sequence of MedianWriter
        Open, by segment; those of this slit.
    rectified : sequence of sequences of RectifiedWriter
        Open, by segment, then spectrum; those of this slit.
    """

    def __init__(
        self,
        slit: int,
        crfints: Sequence[CrfintsWriter],
        medians: Sequence[MedianWriter],
        rectified: Sequence[Sequence[RectifiedWriter]],
    ) -> None:
        self._slit = slit
        self._crfints = crfints
        self._medians = medians
        self._rectified = rectified

    def write(self, start: int, stop: int, raw: Mapping[str, NDArray[np.generic]], rows: slice) -> None:
        """
        Write planes of integrations, each segment its own.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices.
        raw : mapping of str to ndarray, big-endian, shape (stop - start, n_rows, nx)
            Planes, bad samples marked.
        rows : slice
            Rows that they hold.
        """
        for writer in self._crfints:
            writer.write(start, stop, raw, rows, self._slit)

    def write_median(self, start: int, stop: int, median: NDArray[np.floating], rows: slice) -> None:
        """
        Write what the integrations were compared with.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices.
        median : ndarray of float, shape (stop - start, n_rows, nx)
            In the unit of the input, NaN where unknown.
        rows : slice
            Rows that it holds.
        """
        for writer in self._medians:
            writer.write(start, stop, median, rows)

    def write_rectified(self, spectrum: int, start: int, stop: int, planes: Mapping[str, NDArray[np.generic]]) -> None:
        """
        Write rectified images.

        Parameters
        ----------
        spectrum : int
            Which of the exposure's spectra, from 0.
        start, stop : int
            Half-open range of exposure indices.
        planes : mapping of str to ndarray, shape (stop - start, n_rows, n_columns)
            By name.
        """
        for segment in self._rectified:
            segment[spectrum].write(start, stop, planes)


def _median_name(crfints: str, exposure: Exposure) -> str:
    """Return the name of a median: that of ``crfints``, with the stripe if there are several."""
    stripe = f"_stripe{exposure.stripe}" if exposure.stripe else ""
    return crfints.replace("_crfints", f"{stripe}_median")
