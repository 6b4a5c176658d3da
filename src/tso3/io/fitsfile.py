"""
Where things are in a FITS file: headers and byte offsets, without reading any data.

A segment of a time series holds hundreds of megabytes of pixels and some 30 kB of headers. Only the headers are read
here; the pixels are fetched later by their byte offsets.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tso3.errors import InputError
from tso3.io.cards import BLOCK, CARD, check_cards, parse_value

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["Hdu", "header_value", "open_readonly", "padded", "pread_exactly", "read_unit", "scan_hdus"]

T = TypeVar("T", int, float, bool, str)

_MAX_HEADER = 1000 * BLOCK
_CHUNK = 4 * BLOCK
_END = b"END".ljust(CARD)


@dataclass(frozen=True)
class Hdu:
    """
    One header-and-data unit of a FITS file, by position.

    Attributes
    ----------
    index : int
        0 for PRIMARY.
    name : str
        EXTNAME in capitals (``PRIMARY`` for the first unit; empty if there is none).
    version : int
        EXTVER, 1 by default.
    header : astropy.io.fits.Header
        Its valid cards; treat it as read-only.
    header_offset, data_offset, data_size : int
        Bytes; ``data_size`` without the fill to a full block.
    repairs : tuple of str
        What had to be repaired in the header when it was read (see `tso3.io.cards`).
    """

    index: int
    name: str
    version: int
    header: fits.Header
    header_offset: int
    data_offset: int
    data_size: int
    repairs: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array in numpy order (slowest axis first)."""
        n = int(self.header["NAXIS"])
        return tuple(int(self.header[f"NAXIS{i}"]) for i in range(n, 0, -1))


def padded(size: int) -> int:
    """
    Return a size in bytes, filled up to whole FITS blocks.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    filled : int
        The next multiple of 2880.

    Examples
    --------
    >>> from tso3.io.fitsfile import padded
    >>> padded(0), padded(1), padded(2880)
    (0, 2880, 2880)
    """
    return -(-size // BLOCK) * BLOCK


def open_readonly(path: str | Path) -> int:
    """
    Open a file for positioned reads and return its descriptor.

    Parameters
    ----------
    path : path-like
        A regular file.

    Returns
    -------
    descriptor : int
        The caller closes it.

    Raises
    ------
    InputError
        If it does not exist, is a folder, or may not be read.
    """
    try:
        mode = os.stat(path).st_mode
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if stat.S_ISREG(mode) else -1
    except FileNotFoundError:
        raise InputError("no such file; check the name, or the folder of the association", path) from None
    except PermissionError:
        raise InputError("no permission to read it; change its access rights (chmod u+r)", path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot be opened ({reason})", path) from None
    if descriptor < 0:
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"is {kind}; give FITS files, or an association", path)
    return descriptor


def pread_exactly(descriptor: int, size: int, offset: int, path: str | Path) -> bytes:
    """
    Return ``size`` bytes at ``offset``.

    Parameters
    ----------
    descriptor : int
        The file, open for reading.
    size, offset : int
        Bytes.
    path : path-like
        The file, for the message.

    Returns
    -------
    data : bytes
        Exactly ``size`` of them.

    Raises
    ------
    InputError
        If the file ends before, or the disk reports an error.
    """
    parts: list[bytes] = []
    missing = size
    while missing:
        part = _pread(descriptor, missing, offset + size - missing, path)
        if not part:
            raise InputError(f"ends at byte {offset + size - missing}; fetch the file again", path)
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_unit(hdu: Hdu, path: str | Path) -> bytes:
    """
    Return the data of a unit.

    Parameters
    ----------
    hdu : Hdu
        As `scan_hdus` returns it.
    path : path-like
        Its file.

    Returns
    -------
    data : bytes
        Without padding.

    Raises
    ------
    InputError
        As `open_readonly` and `pread_exactly`.
    """
    descriptor = open_readonly(path)
    try:
        return pread_exactly(descriptor, hdu.data_size, hdu.data_offset, path)
    finally:
        os.close(descriptor)


def _pread(descriptor: int, size: int, offset: int, path: str | Path) -> bytes:
    """Return at most ``size`` bytes; a failing disk is an error of the input."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise InputError(f"reading failed ({error.strerror}); is the disk in order?", path) from None


def scan_hdus(path: str | Path) -> tuple[Hdu, ...]:
    """
    Return all header-and-data units of a file; only headers are read.

    Parameters
    ----------
    path : path-like
        FITS file, not compressed.

    Returns
    -------
    hdus : tuple of Hdu
        In the order of the file.

    Raises
    ------
    InputError
        If it is no FITS file, is compressed, or ends before the last plane does.
    """
    descriptor = open_readonly(path)
    try:
        size = os.fstat(descriptor).st_size
        _check_signature(_pread(descriptor, CARD, 0, path), path)
        hdus: list[Hdu] = []
        offset = 0
        while offset < size:
            if hdus and not _pread(descriptor, BLOCK, offset, path).strip(b"\0 "):
                break  # fill after the last unit
            hdus.append(_read_hdu(descriptor, path, len(hdus), offset, size))
            offset = hdus[-1].data_offset + padded(hdus[-1].data_size)
    finally:
        os.close(descriptor)
    return tuple(hdus)


def _check_signature(start: bytes, path: str | Path) -> None:
    """Raise a telling error if a file does not begin as FITS does."""
    if not start:
        raise InputError("is empty; fetch the file again", path)
    if start[:2] == b"\x1f\x8b":
        raise InputError("is gzip-compressed; pixels are read by position: unpack it first (gunzip)", path)
    if start[:3] in (b"BZh", b"\xfd7z", b"PK\x03", b"\x28\xb5\x2f"):
        raise InputError("is compressed; pixels are read by position: unpack it first", path)
    if start[:9] != b"SIMPLE  =":
        raise InputError("is not a FITS file (it does not begin with SIMPLE)", path)


def _read_hdu(descriptor: int, path: str | Path, index: int, offset: int, file_size: int) -> Hdu:
    """Read the unit whose header begins at ``offset``."""
    from astropy.io import fits

    raw, data_offset = _read_header(descriptor, path, index, offset)
    data_size = _data_size(raw, path, index)
    cards = check_cards(raw)
    header = fits.Header.fromstring(cards.text)
    _check_structure(header, path, index)
    name = (header_value(header, "EXTNAME", str, path) or "").upper() if index else "PRIMARY"
    version = header_value(header, "EXTVER", int, path)
    if ("EXTNAME" in header and not name) or ("EXTVER" in header and version is None):
        raise InputError(f"HDU {index} has an EXTNAME or EXTVER without a value; correct the header", path)
    if data_offset + data_size > file_size:
        label = name or f"HDU {index}"
        raise InputError(
            f"is truncated: {label} ends at byte {data_offset + data_size}, the file at {file_size}; fetch it again",
            path,
        )
    return Hdu(index, name, 1 if version is None else version, header, offset, data_offset, data_size, cards.repairs)


def _read_header(descriptor: int, path: str | Path, index: int, offset: int) -> tuple[bytes, int]:
    """Return the cards before END, and the offset of the data."""
    raw = b""
    while len(raw) < _MAX_HEADER:
        part = _pread(descriptor, _CHUNK, offset + len(raw), path)
        begin = len(raw)
        raw += part
        if index and raw[:9] != b"XTENSION=":
            raise InputError(f"byte {offset}, after HDU {index - 1}: no FITS extension begins there; damaged?", path)
        at = raw.find(_END, begin - begin % CARD)
        while at >= 0 and at % CARD:
            at = raw.find(_END, at + 1)
        if at >= 0:
            return raw[:at], offset + padded(at + CARD)
        if len(part) < _CHUNK:
            break
    raise InputError(f"the header of HDU {index} (byte {offset}) has no END; file damaged or truncated", path)


def _data_size(raw: bytes, path: str | Path, index: int) -> int:
    """Return the bytes of data that the structural cards of a header announce."""
    found: dict[str, int] = {}
    wanted = {"BITPIX", "NAXIS", "PCOUNT", "GCOUNT"}
    for i in range(0, len(raw), CARD):
        keyword = raw[i : i + 8].decode("latin-1").rstrip()
        if keyword in found or not (keyword in wanted or (keyword[:5] == "NAXIS" and keyword[5:].isdigit())):
            continue
        try:
            value = parse_value(raw[i + 10 : i + CARD].decode("latin-1")) if raw[i + 8 : i + 10] == b"= " else None
        except ValueError:
            value = None
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"HDU {index}: {keyword} is no integer; file damaged?", path)
        found[keyword] = value
    n_axes = found.get("NAXIS", -1)
    axes = [found.get(f"NAXIS{i + 1}", -1) for i in range(min(n_axes, 999))]
    bits = found.get("BITPIX", 0)
    if n_axes < 0 or bits not in (8, 16, 32, 64, -32, -64) or min(axes, default=0) < 0:
        raise InputError(f"HDU {index}: BITPIX or NAXIS are missing or not as in FITS; file damaged?", path)
    if not axes:
        return 0
    size = 1
    for length in axes:
        size *= length
    count, extra = found.get("GCOUNT", 1), found.get("PCOUNT", 0)
    if count < 0 or extra < 0:
        raise InputError(f"HDU {index}: PCOUNT or GCOUNT is negative; file damaged?", path)
    return abs(bits) // 8 * count * (extra + size)


def _check_structure(header: fits.Header, path: str | Path, index: int) -> None:
    """Raise if the cards that every reader relies on are missing or not in their places."""
    axes = [f"NAXIS{i + 1}" for i in range(header["NAXIS"])] if isinstance(header.get("NAXIS"), int) else []
    wanted = ["XTENSION" if index else "SIMPLE", "BITPIX", "NAXIS", *axes]
    table = index and header.get("XTENSION") in ("BINTABLE", "TABLE")
    if index:
        wanted += ["PCOUNT", "GCOUNT"]
    if table:
        wanted += ["TFIELDS"]
    for position, key in enumerate(wanted):
        if position >= len(header) or header.cards[position].keyword != key:
            raise InputError(f"HDU {index}: {key} is missing or not in its place; file damaged?", path)
        if header.count(key) > 1:
            raise InputError(f"HDU {index}: {key} is there twice (a lost END card?); file damaged?", path)
    if not index and header["SIMPLE"] is not True:
        raise InputError("SIMPLE is not T; file damaged?", path)
    kind = header.get("XTENSION")
    if kind in ("IMAGE", "BINTABLE", "TABLE") and (header["GCOUNT"] != 1 or (header["PCOUNT"] and kind != "BINTABLE")):
        raise InputError(f"HDU {index}: PCOUNT or GCOUNT are not as in FITS; file damaged?", path)
    if table:
        fields = header_value(header, "TFIELDS", int, path) or 0
        if not 0 <= fields < 1000:  # before as many keywords are looked for
            raise InputError(f"HDU {index}: TFIELDS = {fields}, FITS has at most 999 columns; file damaged?", path)
        lacking = [i for i in range(1, fields + 1) if not header_value(header, f"TFORM{i}", str, path)]
        if kind == "TABLE":
            lacking += [i for i in range(1, fields + 1) if not header_value(header, f"TBCOL{i}", int, path)]
        if lacking or header["BITPIX"] != 8 or header["NAXIS"] != 2:
            raise InputError(f"HDU {index}: is not a table as FITS has it; file damaged?", path)


def header_value(header: fits.Header, key: str, kind: type[T], path: str | Path) -> T | None:
    """
    Return the value of a keyword as a type, or None where it is absent or undefined.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Header, as `scan_hdus` gives it.
    key : str
        Keyword.
    kind : type
        ``int``, ``float`` (an integer will do), ``bool`` or ``str``.
    path : path-like
        File, for the message.

    Returns
    -------
    value : int, float, bool, str or None
        Strings without blanks around them.

    Raises
    ------
    InputError
        If the value is of another type.
    """
    from astropy.io.fits.card import Undefined

    value = header.get(key)
    if value is None or isinstance(value, Undefined):
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{key} = {value!r} is not of the expected type; correct the header", path)
    return value.strip() if isinstance(value, str) else value
