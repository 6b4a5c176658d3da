"""
One calints file: what its headers say, and where its planes are.

A file of the data model MultiSlitModel holds several slits (the stripes of NIRCam's Dispersed Hartmann Sensor), each
with planes of its own, told apart by EXTVER. It is read as that many segments, which share file, times and metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tso3.errors import InputError
from tso3.io.fitsfile import Hdu, header_value, scan_hdus
from tso3.io.times import IntTimes, read_times
from tso3.modes import Mode, mode_of, refusal

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = [
    "MULTI_SLIT",
    "PLANES",
    "REQUIRED_PLANES",
    "Plane",
    "Segment",
    "part_of_name",
    "read_segment",
    "read_segments",
]

MULTI_SLIT = "MultiSlitModel"
"""DATAMODL of files with slits of their own, even if there is but one."""

PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
"""Planes with one value per pixel and integration, by EXTNAME."""

REQUIRED_PLANES = ("SCI", "ERR", "DQ")
"""Without these a file cannot be reduced; variances may be missing."""

_TOP_BIT = 2**31
_SUFFIX = re.compile(r"_calints$|(-int\d+-\d+)?(_[aco]\d{3,4})?_crfints$", re.IGNORECASE)
_PART = re.compile(r"-int\d+-\d+(?=$|(_[aco]\d{3,4})?_crfints$)", re.IGNORECASE)


@dataclass(frozen=True)
class Plane:
    """
    Where a plane lies in its file.

    Attributes
    ----------
    offset : int
        Byte of its first pixel.
    dtype : str
        numpy type on disk: ``">f4"``, or ``">i4"`` for DQ.
    shape : tuple of int
        (n_int, ny, nx).
    top_bit : bool
        True if the integers on disk are offset by 2^31 (BZERO), which is the same as their top bit inverted.
    """

    offset: int
    dtype: str
    shape: tuple[int, int, int]
    top_bit: bool = False


@dataclass(frozen=True)
class Segment:
    """
    One slit of a calints file (mostly there is but one), without its pixels.

    Attributes
    ----------
    path : Path
        The file.
    mode : tso3.modes.Mode
        Its row in the table of modes.
    hdus : tuple of Hdu
        All its units, in order.
    planes : dict of str to Plane
        SCI, ERR, DQ and those of the variances that exist.
    n_int, ny, nx : int
        Shape of the planes.
    int_start : int
        Number of its first integration in the exposure, 1-based (INTSTART, else 1).
    number : int
        EXSEGNUM, else 1.
    model_type : str
        DATAMODL; empty if absent.
    times : IntTimes
        Times of its integrations.
    slit : int
        EXTVER of its planes, where the file holds several slits; else 1.
    n_slits : int
        Slits in the file.
    marker : str
        What its products' names say besides: which integrations it was cut to; mostly nothing.
    own_times : bool
        True if ``times`` are not those of the file's INT_TIMES: it was cut, or the user gave others.
    """

    path: Path
    mode: Mode
    hdus: tuple[Hdu, ...]
    planes: dict[str, Plane]
    n_int: int
    ny: int
    nx: int
    int_start: int
    number: int
    model_type: str
    times: IntTimes
    slit: int = 1
    n_slits: int = 1
    marker: str = ""
    own_times: bool = False

    @property
    def primary(self) -> fits.Header:
        """Header of the PRIMARY unit (read-only)."""
        return self.hdus[0].header

    @property
    def sci(self) -> fits.Header:
        """Header of its SCI unit (read-only)."""
        return next(h.header for h in self.hdus if h.name == "SCI" and self._has(h))

    @property
    def base(self) -> str:
        """File name without suffix (``_calints``, or ``_o003_crfints``) and without the marker of a part."""
        return _SUFFIX.sub("", self.path.name.removesuffix(".fits"))

    @property
    def stem(self) -> str:
        """What its products are named after: `base`, with the marker of a part."""
        return self.base + self.marker

    @property
    def flagged(self) -> bool:
        """Whether its outliers are flagged already: it is a ``crfints``."""
        return str(self.header("S_OUTLIR", "")).upper() == "COMPLETE"

    @property
    def int_stop(self) -> int:
        """Number of its last integration, plus one."""
        return self.int_start + self.n_int

    def header(self, key: str, default: object = None) -> object:
        """Return a keyword of PRIMARY, else of SCI, else ``default``; an undefined value counts as absent."""
        from astropy.io.fits.card import Undefined

        for header in (self.primary, self.sci):
            value = header.get(key)
            if value is not None and not isinstance(value, Undefined):
                return value.strip() if isinstance(value, str) else value
        return default

    def hdu(self, name: str) -> Hdu | None:
        """Return the unit of that EXTNAME (of this slit, where the file has several), or None."""
        return next((h for h in self.hdus if h.name == name and self._has(h)), None)

    @property
    def in_tree(self) -> int | None:
        """Which of the slits of its ASDF tree it is, from 1; None where the model has no slits."""
        return self.slit if self.model_type == MULTI_SLIT else None

    def _has(self, hdu: Hdu) -> bool:
        return self.n_slits == 1 or hdu.version == self.slit


def part_of_name(name: str) -> str:
    """Return what the name of a product says of the integrations that it was cut to; mostly nothing."""
    found = _PART.search(name)
    return found[0] if found else ""


def read_segment(path: str | Path) -> Segment:
    """Return what a calints file with one slit holds, as `read_segments`; raise InputError if it holds several."""
    segments = read_segments(path)
    if len(segments) > 1:
        raise InputError(f"holds {len(segments)} slits; one is needed", path)
    return segments[0]


def read_segments(path: str | Path) -> tuple[Segment, ...]:
    """
    Return the slits that a calints file holds (mostly one); only its headers and INT_TIMES are read.

    Parameters
    ----------
    path : path-like
        A calints file of a time-series exposure. A 2-D SCI plane is one integration.

    Returns
    -------
    segments : tuple of Segment
        Units, planes, numbers and times of each slit, by EXTVER.

    Raises
    ------
    InputError
        If it is no FITS file, damaged, of another exposure type, or lacks SCI, ERR or DQ.

    Warns
    -----
    tso3.errors.Tso3Warning
        If times are not in INT_TIMES.
    """
    path = Path(path)
    hdus = scan_hdus(path)
    primary = hdus[0].header
    mode = _check_mode(primary, path)
    model = header_value(primary, "DATAMODL", str, path) or ""
    versions = [hdu.version for hdu in hdus if hdu.name == "SCI"] if model == MULTI_SLIT else []
    several = len(versions) > 1
    if several and (mode.is_imaging or len(set(versions)) < len(versions)):
        raise InputError(f"holds {len(versions)} SCI planes, which are not the slits of one exposure", path)
    found = [_read_slit(path, hdus, version if several else None) for version in versions or (1,)]
    first = _int_start(primary, path)
    if len({planes["SCI"].shape[0] for planes in found}) > 1:
        raise InputError("the slits differ in their number of integrations; fetch the file again", path)
    number = header_value(primary, "EXSEGNUM", int, path)
    times = read_times(hdus, path, first, found[0]["SCI"].shape[0])
    return tuple(
        Segment(
            path=path,
            mode=mode,
            hdus=hdus,
            planes=planes,
            n_int=planes["SCI"].shape[0],
            ny=planes["SCI"].shape[1],
            nx=planes["SCI"].shape[2],
            int_start=first,
            number=1 if number is None else number,
            model_type=model,
            times=times,
            slit=version if several else 1,
            marker=part_of_name(path.name.removesuffix(".fits")),
            n_slits=len(found),
        )
        for version, planes in zip(versions or (1,), found, strict=True)
    )


def _int_start(primary: fits.Header, path: Path) -> int:
    """Return the number of the first integration."""
    first = header_value(primary, "INTSTART", int, path)
    if first is not None and first < 1:
        raise InputError(f"INTSTART = {first}, but integrations are numbered from 1; correct the header", path)
    return 1 if first is None else first


def _read_slit(path: Path, hdus: tuple[Hdu, ...], version: int | None) -> dict[str, Plane]:
    """Return where the planes of a slit are: those of one EXTVER, or of any if None."""
    own = hdus if version is None else tuple(hdu for hdu in hdus if hdu.version == version)
    planes = {name: plane for name in PLANES if (plane := _find_plane(own, name, path)) is not None}
    shape = planes["SCI"].shape
    for name, plane in planes.items():
        if plane.shape != shape:
            raise InputError(f"{name} has shape {plane.shape}, SCI {shape}; they must be equal", path)
    if min(shape) < 1:
        raise InputError(f"SCI has shape {shape}: it holds no pixels", path)
    return planes


def _check_mode(primary: fits.Header, path: Path) -> Mode:
    """Return the mode of a file, or raise."""
    exp_type = header_value(primary, "EXP_TYPE", str, path)
    tsovisit = header_value(primary, "TSOVISIT", bool, path)
    mode = mode_of(exp_type, bool(tsovisit))
    if mode is None:
        raise InputError(refusal(exp_type), path)
    return mode


def _find_plane(hdus: tuple[Hdu, ...], name: str, path: Path) -> Plane | None:
    """Return where a plane is, None if it is absent and may be."""
    found = [hdu for hdu in hdus if hdu.name == name]
    if not found:
        if name not in REQUIRED_PLANES:
            return None
        present = ", ".join(hdu.name for hdu in hdus if hdu.name in PLANES) or "none of the planes"
        raise InputError(f"has no {name} plane ({present} found); a calints file is needed", path)
    if len(found) > 1:
        raise InputError(f"holds {len(found)} {name} planes; a time series has one slit and one {name} plane", path)
    hdu = found[0]
    if hdu.header.get("ZIMAGE") is True:
        raise InputError(f"{name} is a compressed image; pixels are read by position: unpack it first (funpack)", path)
    shape = hdu.shape
    if str(hdu.header.get("XTENSION", "")).strip() != "IMAGE" or len(shape) not in (2, 3):
        raise InputError(f"{name} is not an image of 2 or 3 axes", path)
    wanted = 32 if name == "DQ" else -32
    if hdu.header["BITPIX"] != wanted:
        raise InputError(f"{name} has BITPIX {hdu.header['BITPIX']}; in calints it is {wanted}", path)
    zero, scale = header_value(hdu.header, "BZERO", float, path), header_value(hdu.header, "BSCALE", float, path)
    zero, scale = 0.0 if zero is None else zero, 1.0 if scale is None else scale
    if scale != 1.0 or zero not in ((0.0, float(_TOP_BIT)) if name == "DQ" else (0.0,)):
        raise InputError(f"{name} is scaled (BZERO {zero}, BSCALE {scale}); in calints it is not", path)
    cube = shape if len(shape) == 3 else (1, *shape)
    return Plane(hdu.data_offset, ">i4" if name == "DQ" else ">f4", cube, top_bit=zero != 0.0)  # type: ignore[arg-type]
