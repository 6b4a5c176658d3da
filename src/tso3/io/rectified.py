"""
The products ``s2dints`` and ``i2dints``: the rectified images of every integration, written block by block.

As `tso3.io.crfints`, a product is laid out once, its space reserved, and its planes are filled by positioned writes as
blocks finish; it appears under its name when it is whole.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tso3.io.asdftree import edit_tree
from tso3.io.atomic import atomic_path
from tso3.io.crfintsplan import CrfintsRecord, correct_primary
from tso3.io.direct import DirectFile
from tso3.io.disk import reserve, write_at
from tso3.io.exposure import Exposure
from tso3.io.fitsfile import padded
from tso3.io.rectified_grid import ImageGrid, SpectralGrid, table_unit, written_wcs
from tso3.io.segment import Segment
from tso3.io.x1dunits import asdf_header, int_times_array, small_table

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["RectifiedLayout", "RectifiedWriter", "rectified_name", "write_frame"]

_DTYPES = {"DQ": "u1"}
_STERADIAN = float(np.radians(1.0 / 3600.0)) ** 2
"""Of a square arcsecond."""
_FITS_TYPES = {"f4": -32, "u1": 8}
_STRUCTURE = re.compile(r"(XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTNAME|EXTVER|BSCALE|BZERO|BUNIT|CHECKSUM|DATASUM)$")
_WORLD = re.compile(
    r"(WCSAXES|CRPIX\d|CRVAL\d|CDELT\d|CTYPE\d|CUNIT\d|(PC|CD)\d_\d|PS\d_\d|PV\d_\d|RADESYS|SPECSYS|LONPOLE|LATPOLE"
    r"|DISPAXIS|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)|SIP(MX|IV)ERR)$"
)
"""Cards of SCI that say where the input lies, which is no longer true."""


@dataclass(frozen=True)
class RectifiedLayout:
    """
    What a product of rectified images is like.

    Attributes
    ----------
    kind : str
        ``"s2dints"`` or ``"i2dints"``.
    mark : str
        What its name says besides: stripe or order; mostly nothing.
    grid : SpectralGrid or ImageGrid
        Where its pixels are.
    variances : tuple of str
        Planes of variances, by EXTNAME.
    order : int or None
        Spectral order.
    covariance : float
        By which the error of a box is to be multiplied, see `tso3.core.box_covariance.covariance_factor`;
        NaN if no box fits, and then left out of the header.
    density : bool
        True if sums are conserved (a quantity per pixel), False if means are.
    step : str
        How the columns of a spectrum are spaced, in the words of ``rectify.step``; empty for images.
    """

    kind: str
    mark: str
    grid: SpectralGrid | ImageGrid
    variances: tuple[str, ...]
    order: int | None
    covariance: float
    density: bool
    step: str = ""

    @property
    def planes(self) -> dict[str, str]:
        """Type on disk of each plane, in their order."""
        names = ("SCI", "ERR", "DQ", *self.variances, "WHT")
        return {name: _DTYPES.get(name, "f4") for name in names}

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of an integration in all planes."""
        return sum(np.dtype(kind).itemsize for kind in self.planes.values())


def rectified_name(crfints: str, layout: RectifiedLayout) -> str:
    """
    Return the name of a product, from that of ``crfints``.

    Parameters
    ----------
    crfints : str
        Name of the ``crfints`` of the same segment.
    layout : RectifiedLayout
        Its mark and kind are used.

    Returns
    -------
    name : str

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from tso3.io.rectified import rectified_name
    >>> rectified_name("jw01_nis_o003_crfints.fits", SimpleNamespace(mark="_order2", kind="s2dints"))
    'jw01_nis_o003_order2_s2dints.fits'
    """
    return crfints.replace("_crfints", f"{layout.mark}_{layout.kind}")


class RectifiedWriter:
    """
    The rectified images of one segment; a context manager.

    Parameters
    ----------
    exposure : Exposure
        What the segment belongs to.
    i_segment : int
        Index of the segment in the exposure.
    path : path-like
        The product; its folder must exist.
    layout : RectifiedLayout
        What it is like.
    record : CrfintsRecord
        What the headers say.
    """

    def __init__(
        self, exposure: Exposure, i_segment: int, path: str | Path, layout: RectifiedLayout, record: CrfintsRecord
    ) -> None:
        self.path = Path(path)
        self._segment = exposure.segments[i_segment]
        self._start, self._stop = exposure.segment_bounds[i_segment]
        self._layout = layout
        self._record = record
        self._stack = ExitStack()
        self._descriptor = -1
        self._offsets: dict[str, int] = {}
        self._missing = self._stop - self._start
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, self._descriptor)
            self._file = stack.enter_context(DirectFile(temporary, self._descriptor, self.path))
            self._lay_out()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._missing:
            error = RuntimeError(f"{self.path}: {self._missing} integrations were not written exactly once")
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, trace)

    def write(self, start: int, stop: int, planes: Mapping[str, NDArray[np.generic]]) -> None:
        """
        Put planes in their place; integrations of other segments are left out. Several threads may do so at once.

        Parameters
        ----------
        start, stop : int
            Half-open range of exposure indices that ``planes`` hold.
        planes : mapping of str to ndarray, shape (stop - start, n_rows, n_columns)
            All planes of the layout, contiguous, in the byte order of the machine. Not modified.
        """
        first, last = max(start, self._start), min(stop, self._stop)
        if first >= last:
            return
        frame = self._layout.grid.shape[0] * self._layout.grid.shape[1]
        for name, kind in self._layout.planes.items():
            part = planes[name][first - start : last - start]
            if part.shape[1:] != self._layout.grid.shape or part.dtype != np.dtype(kind):
                raise ValueError(f"{name} is {part.shape} {part.dtype}")
            size = frame * np.dtype(kind).itemsize
            offset = self._offsets[name] + (first - self._start) * size
            data = np.ascontiguousarray(part.astype(f">{kind}", copy=False))
            self._file.write([(data.reshape(-1).view(np.uint8).data, offset)])
        with self._lock:
            self._missing -= last - first

    def _lay_out(self) -> None:
        """Reserve the space; write headers, tables, wavelengths and the ASDF extension."""
        segment, layout = self._segment, self._layout
        n_int, offset = self._stop - self._start, 0
        primary = _primary(segment, self.path.name, layout, self._record)
        pieces: list[tuple[fits.Header, bytes | None, int]] = [(primary, b"", 0)]
        for name, kind in layout.planes.items():
            shape = (n_int, *layout.grid.shape)
            header = _image_header(segment, name, kind, shape, layout)
            pieces.append((header, None, int(np.prod(shape)) * np.dtype(kind).itemsize))
        pieces += _small_units(segment, layout)
        tree = _tree(segment, primary, layout, self._record)
        pieces.append((asdf_header(len(tree)), tree, len(tree)))
        writes: list[tuple[int, bytes]] = []
        for header, data, size in pieces:
            head = header.tostring(padding=True).encode("ascii")
            writes.append((offset, head + (b"" if data is None else data)))
            if data is None:
                self._offsets[str(header["EXTNAME"])] = offset + len(head)
            offset += len(head) + padded(size)
        reserve(self._descriptor, offset, self.path)
        for at, raw in writes:
            write_at(self._descriptor, raw, at, self.path)


def _primary(segment: Segment, name: str, layout: RectifiedLayout, record: CrfintsRecord) -> fits.Header:
    """Return the PRIMARY header: that of the input, corrected."""
    header = segment.primary.copy()
    for keyword in ("CHECKSUM", "DATASUM"):
        header.remove(keyword, ignore_missing=True, remove_all=True)
    correct_primary(header, name, record)
    header["DATAMODL"] = "SlitModel" if layout.kind == "s2dints" else "CubeModel"
    if segment.marker:
        header["INTSTART"], header["INTEND"] = segment.int_start, segment.int_stop - 1
    _describe(header, layout)
    return header


def _describe(header: fits.Header, layout: RectifiedLayout) -> None:
    """Let a PRIMARY header say how the planes were rectified."""
    header["S_RESAMP"] = ("COMPLETE", "Resampling (rectification)")
    if np.isfinite(layout.covariance):
        header["R_COVAR"] = (round(layout.covariance, 4), "Error of a box: times this, for covariance")
    header["R_CONSRV"] = ("SUM" if layout.density else "MEAN", "What rectification conserves")
    if layout.step:
        header["R_STEP"] = (layout.step, "Columns of rectified spectra")


def _image_header(
    segment: Segment, name: str, kind: str, shape: tuple[int, ...], layout: RectifiedLayout | None
) -> fits.Header:
    """Return the header of a plane; with what SCI of the input says but for where it lies."""
    from astropy.io import fits

    header = fits.Header([("XTENSION", "IMAGE", "Image extension"), ("BITPIX", _FITS_TYPES[kind])])
    header["NAXIS"] = len(shape)
    for axis, size in enumerate(reversed(shape), 1):
        header[f"NAXIS{axis}"] = size
    for keyword, value in (("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", name), ("EXTVER", 1)):
        header[keyword] = value
    unit = str(segment.sci.get("BUNIT", "") or "").strip()
    unit = "um" if name == "WAVELENGTH" else unit
    if unit and name != "DQ" and name != "WHT":
        header["BUNIT"] = f"({unit})2" if name.startswith("VAR_") else unit
    if name == "SCI":
        for card in segment.sci.cards:
            gone = _STRUCTURE.match(card.keyword) or (layout is not None and _WORLD.match(card.keyword))
            if not gone and card.keyword not in header:
                header.append(card, end=True)
    if layout is not None and name in ("SCI", "ERR", "WHT"):
        for keyword, value, comment in layout.grid.cards():
            header[keyword] = (value, comment)
        if name == "SCI" and isinstance(layout.grid, ImageGrid):
            header["PIXAR_SR"] = (layout.grid.area * _STERADIAN, "Pixel area of these images in steradians")
            header["PIXAR_A2"] = (layout.grid.area, "Pixel area of these images in arcsec^2")
        if name == "SCI" and isinstance(layout.grid, SpectralGrid):
            header["DISPAXIS"] = (1, "Dispersion direction (1=horz, 2=vert)")
            if layout.order is not None:
                header["SPORDER"] = (layout.order, "Spectral order")
    return header


def _small_units(segment: Segment, layout: RectifiedLayout) -> list[tuple[fits.Header, bytes | None, int]]:
    """Return header and data of WAVELENGTH and INT_TIMES."""
    units: list[tuple[fits.Header, bytes | None, int]] = []
    if isinstance(layout.grid, SpectralGrid):
        data = np.broadcast_to(layout.grid.wavelength, layout.grid.shape).astype(">f4").tobytes()
        units.append((_image_header(segment, "WAVELENGTH", "f4", layout.grid.shape, None), data, len(data)))
    times = small_table("INT_TIMES", int_times_array(segment.times))
    units.append((times.header, times.data, len(times.data)))
    table = table_unit(layout.grid)
    if table is not None:
        units.append((table.header, table.data, len(table.data)))
    return units


def _tree(segment: Segment, primary: fits.Header, layout: RectifiedLayout, record: CrfintsRecord) -> bytes:
    """Return the ASDF extension: the gWCS, and how the product was made."""
    values: dict[tuple[str, ...], Any] = {
        ("meta", "filename"): primary["FILENAME"],
        ("meta", "model_type"): primary["DATAMODL"],
    }
    if record.tree:
        values[("tso3",)] = dict(record.tree)
    return edit_tree(written_wcs(layout.grid), values)


def write_frame(
    path: str | Path,
    exposure: Exposure,
    image: NDArray[np.floating],
    layout: RectifiedLayout | None,
    record: CrfintsRecord,
) -> Path:
    """
    Write the median frame of an exposure.

    Parameters
    ----------
    path : path-like
        The product; its folder must exist.
    exposure : Exposure
        Whose it is.
    image : ndarray, shape (n_rows, n_columns)
        In the unit of the input; NaN where unknown.
    layout : RectifiedLayout or None
        Of a rectified frame; None for that of the detector.
    record : CrfintsRecord
        What the header says.

    Returns
    -------
    path : Path
    """
    from astropy.io import fits

    path, segment = Path(path), exposure.segments[0]
    primary = segment.primary.copy()
    for keyword in ("CHECKSUM", "DATASUM"):
        primary.remove(keyword, ignore_missing=True, remove_all=True)
    correct_primary(primary, path.name, record)
    primary["DATAMODL"] = "ImageModel"
    if layout is None:
        primary["S_RESAMP"] = ("SKIPPED", "Resampling (rectification)")
    else:
        _describe(primary, layout)
    _of_whole_exposure(primary, exposure)
    header = _image_header(segment, "SCI", "f4", image.shape, layout)
    if layout is not None:
        _drop_integrations(header)
    data = np.asarray(image, np.float32)
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary), fits.ImageHDU(data, header)])
    if layout is not None and isinstance(layout.grid, SpectralGrid):
        plane = np.broadcast_to(layout.grid.wavelength, layout.grid.shape).astype(np.float32)
        hdus.append(fits.ImageHDU(plane, _image_header(segment, "WAVELENGTH", "f4", layout.grid.shape, None)))
    with atomic_path(path) as temporary:
        hdus.writeto(temporary, overwrite=True)
        if layout is not None:
            with open(temporary, "ab") as stream:
                for unit_header, data in _appended(segment, primary, layout, record):
                    head = unit_header.tostring(padding=True).encode("ascii")
                    stream.write((head + data).ljust(len(head) + padded(len(data)), b"\0"))
    return path


def _appended(
    segment: Segment, primary: fits.Header, layout: RectifiedLayout, record: CrfintsRecord
) -> list[tuple[fits.Header, bytes]]:
    """Return header and data of what follows the planes of a median frame."""
    tree = _tree(segment, primary, layout, record)
    table = table_unit(layout.grid)
    found = [] if table is None else [(table.header, table.data)]
    return [*found, (asdf_header(len(tree)), tree)]


def _of_whole_exposure(primary: fits.Header, exposure: Exposure) -> None:
    """Let a header that is of the first segment say what holds of the exposure as far as it was read."""
    first, last = exposure.segments[0], exposure.segments[-1]
    values = {"INTSTART": first.int_start, "INTEND": last.int_stop - 1, "EXSEGNUM": 1, "EXSEGTOT": 1}
    for keyword, value in values.items():
        if keyword in primary or len(exposure.segments) > 1:
            primary[keyword] = value


def _drop_integrations(header: fits.Header) -> None:
    """Take the axis of integrations out of the WCS of a header; across the slit there is then the third."""
    axes = int(header["WCSAXES"])
    for keyword in list(header):
        if re.match(rf"(CTYPE|CRVAL|CDELT|CUNIT){axes}$|PC{axes}_\d$", keyword):
            del header[keyword]
    for old in [keyword for keyword in header if re.match(r"PC\d_4$", keyword)]:
        header[f"{old[:4]}3"] = header[old]
        del header[old]
    for keyword in (f"CRPIX{axes}", *(key for key in list(header) if re.match(rf"PC\d_{axes}$", key))):
        header.remove(keyword, ignore_missing=True)
    header["WCSAXES"] = axes - 1
