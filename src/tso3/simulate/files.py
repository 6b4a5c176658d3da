"""Calints files: headers, tables and ASDF by stdatamodels, pixels streamed integration by integration."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tso3.simulate.keywords import SegmentId, metadata, set_metadata
from tso3.simulate.layers import plane
from tso3.simulate.render import PLANES, Hits, Renderer
from tso3.simulate.reuse import reused
from tso3.simulate.stripes import rows_of, set_stripes
from tso3.simulate.wcs import make_wcs, sky_region

if TYPE_CHECKING:
    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.times import ExposureTimes

__all__ = ["write_segment"]

_BLOCK_BYTES = 48 << 20
_RECORD = 2880
_ATTRIBUTES = dict(zip(PLANES, ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat"), strict=True))


def write_segment(
    path: Path, scene: DetectorScene, segment: SegmentId, times: ExposureTimes, renderer: Renderer
) -> list[tuple[int, Hits]]:
    """
    Write one calints file.

    Parameters
    ----------
    path : Path
        Where; an existing file is replaced when the new one is complete.
    scene : DetectorScene
        The detector.
    segment : SegmentId
        Which integrations.
    times : ExposureTimes
        Of the whole exposure.
    renderer : Renderer
        Makes the integrations.

    Returns
    -------
    hits : list of (int, Hits)
        0-based integration and the cosmic rays in it.

    Notes
    -----
    Memory is one block of integrations (48 MiB), whatever the length of the segment: the arrays of the data model from
    which the headers are made are never touched, so they occupy no memory.
    """
    pieces = reused("layout", (scene.steady_key, segment), lambda: _pieces(_layout(scene, segment, times)))
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as stream:
            offsets = _write_layout(stream, pieces)
            hits = _stream_planes(stream, offsets, scene, segment, renderer)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return hits


@dataclass(frozen=True)
class _Piece:
    """
    An HDU: its bytes, and of a cube the header alone with what is known of its pixels.

    Attributes
    ----------
    content : bytes
        As they are in the file.
    plane : tuple of (str, int) or None
        Name and EXTVER of a cube.
    size : int
        Bytes of its pixels.
    """

    content: bytes
    plane: tuple[str, int] | None = None
    size: int = 0


def _pieces(hdulist: Any) -> tuple[_Piece, ...]:
    """Return the HDUs of a file."""
    pieces = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Card is too long")
        for hdu in hdulist:
            if hdu.name in PLANES:
                header = hdu.header.tostring().encode("ascii")
                pieces.append(_Piece(header, (hdu.name, hdu.ver), int(np.prod(hdu.shape)) * 4))
            else:
                pieces.append(_Piece(_encoded(hdu)))
    return tuple(pieces)


def _write_layout(stream: IO[bytes], pieces: Sequence[_Piece]) -> dict[tuple[str, int], int]:
    """Write all HDUs, leaving holes for the pixels of the cubes; return where these start by plane and EXTVER."""
    offsets: dict[tuple[str, int], int] = {}
    for piece in pieces:
        stream.write(piece.content)
        if piece.plane is not None:
            offsets[piece.plane] = stream.tell()
            stream.truncate(stream.tell() + piece.size + -piece.size % _RECORD)
            stream.seek(0, os.SEEK_END)
    return offsets


def _layout(scene: DetectorScene, segment: SegmentId, times: ExposureTimes) -> Any:
    """Return the HDU list of a file whose cubes are untouched zeros."""
    from astropy.io import fits
    from stdatamodels import fits_support
    from stdatamodels.jwst import datamodels

    model = getattr(datamodels, scene.instrument.model)()
    wcs = make_wcs(scene)
    attributes = {n: a for n, a in _ATTRIBUTES.items() if n != "VAR_FLAT" or scene.options.flat_error > 0}
    tree = metadata(scene, segment, times, sky_region(scene, wcs))
    several = scene.instrument.model == "MultiSlitModel"
    if several:
        set_stripes(model, scene, segment.stop - segment.first, attributes, tree)
    else:
        _set_planes(model, scene, segment.stop - segment.first, attributes)
    table = times.table(segment.first, segment.stop)
    model.int_times = fits.FITS_rec.from_columns(
        [
            fits.Column(name=n, format="J" if n == "integration_number" else "D", array=table[n])
            for n in table.dtype.names or ()
        ]
    )
    set_metadata(model, tree)
    if not several:
        model.meta.wcs = wcs
    if scene.instrument.dispersion_axis and scene.instrument.model == "SlitModel":
        _set_slit(model, scene)
    model.on_save(model.meta.filename)
    return fits_support.to_fits(model._instance, model._schema)


def _set_planes(model: Any, scene: DetectorScene, n_int: int, attributes: dict[str, str]) -> None:
    """Set the planes of a file with one slit or image: zeros, and the wavelengths."""
    for name, attribute in attributes.items():
        dtype = np.uint32 if name == "DQ" else np.float32
        setattr(model, attribute, np.zeros((n_int, *scene.shape), dtype))
    if scene.instrument.dispersion_axis and scene.instrument.model == "SlitModel":
        wavelength = scene.wavelength
        if scene.instrument.blank_outside:
            wavelength = plane(scene.layers, lambda layer: layer.geometry.everywhere)
        model.wavelength = wavelength.astype(np.float32)


def _set_slit(model: Any, scene: DetectorScene) -> None:
    """Set what is particular to a slit: its name, place and source."""
    sub, instrument = scene.subarray, scene.instrument
    model.xstart, model.ystart = (sub.xstart, sub.ystart) if instrument.slit is None else (1, 1)
    model.xsize, model.ysize = sub.nx, sub.ny
    model.source_type = "POINT"
    if instrument.field_point is not None:
        model.name, model.source_id = "1", 1
        model.source_xpos, model.source_ypos = instrument.field_point
    if instrument.slit is None:
        return
    to_world = model.meta.wcs.get_transform("slit_frame", "world")
    model.name = instrument.slit.name
    model.slitlet_id, model.source_id = 1, 1
    model.source_name, model.source_alias = "TSO3-SIM-1", "TSO3-SIM-1"
    model.stellarity = 1.0
    model.source_xpos, model.source_ypos = instrument.slit.source
    model.source_ra, model.source_dec = (float(v) for v in to_world(*instrument.slit.source, 4e-6)[:2])
    model.slit_ymin, model.slit_ymax = -0.5, 0.5
    model.wavelength_corrected = True


def _encoded(hdu: Any) -> bytes:
    """Return the bytes of a small HDU."""
    from astropy.io import fits

    buffer = io.BytesIO()
    if isinstance(hdu, fits.PrimaryHDU):
        fits.HDUList([hdu]).writeto(buffer)
        return buffer.getvalue()
    primary = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU()]).writeto(primary)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()[len(primary.getvalue()) :]


def _stream_planes(
    stream: IO[bytes],
    offsets: dict[tuple[str, int], int],
    scene: DetectorScene,
    segment: SegmentId,
    renderer: Renderer,
) -> list[tuple[int, Hits]]:
    """Render the integrations in blocks and write every plane of a block at its place."""
    (ny, nx), rows = scene.shape, rows_of(scene)
    names = {name for name, _ in offsets}
    block = max(1, _BLOCK_BYTES // (ny * nx * 4 * len(names) * 2))
    native = {n: np.empty((ny, nx), np.uint32 if n == "DQ" else np.float32) for n in sorted(names)}
    raw = {n: np.empty((block, ny, nx), ">i4" if n == "DQ" else ">f4") for n in native}
    hits = []
    for start in range(segment.first, segment.stop, block):
        stop = min(start + block, segment.stop)
        for k, i_int in enumerate(range(start, stop)):
            hits.append((i_int, renderer.integration(i_int, native)))
            for name, values in native.items():
                raw[name][k] = (values ^ np.uint32(0x80000000)).view(np.int32) if name == "DQ" else values
        for (name, slit), offset in offsets.items():
            part = raw[name][: stop - start, rows[slit]]
            stream.seek(offset + (start - segment.first) * part[0].size * 4)
            stream.write(np.ascontiguousarray(part).data)
    return hits
