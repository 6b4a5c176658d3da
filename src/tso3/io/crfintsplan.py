"""
How a ``crfints`` is laid out: the units of its input in their order, with corrected headers and ASDF tree.

Everything that is not a plane is ready here as bytes; nothing is written.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tso3.errors import InputError, Tso3Warning
from tso3.io.asdftree import ExtraCard, edit_tree, tree_value
from tso3.io.cards import fit_comment
from tso3.io.fitsfile import Hdu, padded, pread_exactly
from tso3.io.segment import Segment
from tso3.io.x1dunits import int_times_array, small_table

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["CrfintsRecord", "Piece", "correct_primary", "plan_crfints"]

_CHECKSUMS = ("CHECKSUM", "DATASUM")
_BEFORE_OUTLIER = ("S_IPC", "S_JUMP", "S_KLIP", "S_LASTFR", "S_LINEAR", "S_MSBSUB", "S_MSAFLG")
_HASH = "_fits_hash"


@dataclass(frozen=True)
class CrfintsRecord:
    """
    What is recorded in the headers of ``crfints``.

    Attributes
    ----------
    status : str
        S_OUTLIR: ``"COMPLETE"`` or ``"SKIPPED"``.
    asn_pool, asn_table : str or None
        ASNPOOL and ASNTABLE; None leaves those of the input.
    cards : sequence of (keyword, value, comment)
        Further PRIMARY cards of ours (as `tso3.io.metadata.Provenance.cards` gives them).
    tree : mapping
        Subtree ``tso3`` of the ASDF extension (as `tso3.io.metadata.Provenance.tree` gives it); plain values only.
    """

    status: str = "COMPLETE"
    asn_pool: str | None = None
    asn_table: str | None = None
    cards: Sequence[tuple[str, Any, str]] = ()
    tree: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """
    One unit of the product.

    Attributes
    ----------
    hdu : Hdu
        The unit of the input that it comes from.
    header : bytes
        Its header, whole blocks.
    offset : int
        Byte at which it begins in the product.
    data : bytes or None
        Its data; None if they are those of the input, or planes of the same size.
    """

    hdu: Hdu
    header: bytes
    offset: int
    data: bytes | None

    @property
    def data_offset(self) -> int:
        """Byte at which its data begin."""
        return self.offset + len(self.header)

    @property
    def data_size(self) -> int:
        """Bytes of its data, without fill."""
        return self.hdu.data_size if self.data is None else len(self.data)

    @property
    def end(self) -> int:
        """Byte at which the next unit begins."""
        return self.data_offset + padded(self.data_size)


def plan_crfints(segment: Segment, descriptor: int, filename: str, record: CrfintsRecord) -> list[Piece]:
    """
    Return the units of the product, with their places.

    Parameters
    ----------
    segment : Segment
        The input.
    descriptor : int
        The input, open for reading.
    filename : str
        Name of the product.
    record : CrfintsRecord
        What the headers say.

    Returns
    -------
    pieces : list of Piece
        In the order of the input, one after the other.

    Raises
    ------
    InputError
        If the ASDF extension of the input is damaged.

    Warns
    -----
    tso3.errors.Tso3Warning
        If the ASDF extension is laid out in an unknown way; it is then copied as it is.
    """
    headers = {hdu.index: _header_bytes(hdu, segment, filename, record) for hdu in segment.hdus if hdu.name != "ASDF"}
    times = _own_times(segment)
    headers |= {index: header for index, (header, _) in times.items()}
    pieces: list[Piece] = []
    offset = 0
    for hdu in segment.hdus:
        data = times[hdu.index][1] if hdu.index in times else None
        header = headers.get(hdu.index)
        if header is None:
            header, data = _asdf_unit(hdu, segment, descriptor, headers, record)
        piece = Piece(hdu, header, offset, data)
        pieces.append(piece)
        offset = piece.end
    return pieces


def _own_times(segment: Segment) -> dict[int, tuple[bytes, bytes]]:
    """Return header and data of INT_TIMES, by the index of its unit, where the times are not those of the file."""
    if not segment.own_times:
        return {}
    table = segment.hdu("INT_TIMES")
    if table is None:
        warnings.warn(
            f"{segment.path}: has no INT_TIMES of its own, so crfints does not hold the times that are used",
            Tso3Warning,
            stacklevel=5,
        )
        return {}
    unit = small_table("INT_TIMES", int_times_array(segment.times))
    return {table.index: (_encoded(unit.header), unit.data)}


def _header_bytes(hdu: Hdu, segment: Segment, filename: str, record: CrfintsRecord) -> bytes:
    """Return the header of a unit of the product."""
    header = hdu.header.copy()
    for key in _CHECKSUMS:
        header.remove(key, ignore_missing=True, remove_all=True)
    if hdu.index == 0:
        correct_primary(header, filename, record)
    return _encoded(header)


def _encoded(header: fits.Header) -> bytes:
    """Return the blocks of a header."""
    text: str = header.tostring()
    return text.encode("ascii")


def correct_primary(header: fits.Header, filename: str, record: CrfintsRecord) -> None:
    """
    Set, in place, the PRIMARY cards that differ from the input; new ones go where the archive has them.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Copy of the input's.
    filename : str
        Name of the product.
    record : CrfintsRecord
        What is recorded.
    """
    date = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    _set_cards(header, [("DATE", date, "UTC date file created")], after="EXTEND")
    _set_cards(header, [("FILENAME", filename, "Name of the file")], after="DATE")
    association = [
        ("ASNPOOL", record.asn_pool, "Name of the ASN pool"),
        ("ASNTABLE", record.asn_table, "Name of the ASN table"),
    ]
    known = [card for card in association if card[1] is not None]
    _set_cards(header, known, after="TELESCOP", heading="Association information")
    steps = [key for key in header if key.startswith("S_")]
    before = [key for key in steps if key in _BEFORE_OUTLIER] or steps
    _set_cards(header, [("S_OUTLIR", record.status, "Outlier Detection")], after=before[-1] if before else None)
    _set_cards(header, record.cards, after=None, heading="tso3 information")


def _set_cards(
    header: fits.Header, cards: Sequence[tuple[str, Any, str]], after: str | None, heading: str | None = None
) -> None:
    """Set cards in place, keeping the comments of those that are there; new ones follow ``after``, else the last."""
    new: list[tuple[str, Any, str]] = []
    for key, value, comment in cards:
        value = value.encode("ascii", "replace").decode() if isinstance(value, str) else value
        if key in header:
            header[key] = (value, fit_comment(value, header.comments[key]))
        else:
            new.append((key, value, fit_comment(value, comment)))
    if new and heading is not None:
        new = [("", "", ""), ("", heading, ""), ("", "", ""), *new]
    at = header.index(after) + 1 if after is not None and after in header else len(header)
    for i, card in enumerate(new):
        header.insert(at + i, card)


def _asdf_unit(
    hdu: Hdu, segment: Segment, descriptor: int, headers: Mapping[int, bytes], record: CrfintsRecord
) -> tuple[bytes, bytes | None]:
    """Return header and data of the ASDF extension, edited."""
    header = hdu.header.copy()
    for key in _CHECKSUMS:
        header.remove(key, ignore_missing=True, remove_all=True)
    table = header.get("XTENSION") == "BINTABLE"
    simple = header.get("NAXIS2") == 1 and header.get("TFIELDS") == 1 and not header.get("PCOUNT")
    if header.get("BITPIX") != 8 or not (simple if table else header.get("NAXIS") == 1):
        warnings.warn(
            f"{segment.path}: the ASDF extension is laid out in an unknown way; it is copied as it is",
            Tso3Warning,
            stacklevel=5,
        )
        return _encoded(header), None
    content = pread_exactly(descriptor, hdu.data_size, hdu.data_offset, segment.path)
    try:
        content = _edited(content, segment, descriptor, headers, record)
    except InputError as error:
        raise InputError(error.found, segment.path) from None
    header["NAXIS1"] = len(content)
    if table:
        header["TFORM1"] = f"{len(content)}B"
    return _encoded(header), content


def _edited(
    content: bytes, segment: Segment, descriptor: int, headers: Mapping[int, bytes], record: CrfintsRecord
) -> bytes:
    """Return the tree with what the headers say now; its hash of the headers is renewed only if it was right."""
    from astropy.io import fits

    primary = fits.Header.fromstring(headers[0])
    values: dict[tuple[str, ...], Any] = {
        ("meta", "filename"): primary["FILENAME"],
        ("meta", "date"): primary["DATE"],
        ("meta", "cal_step", "outlier_detection"): record.status,
    }
    for key, name in (("ASNPOOL", "pool_name"), ("ASNTABLE", "table_name")):
        if getattr(record, f"asn_{name.split('_')[0]}") is not None:
            values["meta", "asn", name] = primary[key]
            values["meta", "asn", "exptype"] = "science"
    if record.tree:
        values[("tso3",)] = dict(record.tree)
    if segment.marker:
        values["meta", "exposure", "integration_start"] = segment.int_start
        values["meta", "exposure", "integration_end"] = segment.int_stop - 1
    old = tree_value(content, (_HASH,))
    if old is not None and segment.own_times:  # the units that it speaks of are not those of the file
        values[(_HASH,)] = None
    elif old is not None:
        raw = hashlib.sha256()
        for hdu in segment.hdus:
            if hdu.name != "ASDF":
                size = hdu.data_offset - hdu.header_offset
                raw.update(pread_exactly(descriptor, size, hdu.header_offset, segment.path))
        valid = old == raw.hexdigest() and not any(hdu.repairs for hdu in segment.hdus)
        new = hashlib.sha256(b"".join(headers[i] for i in sorted(headers))).hexdigest()
        values[(_HASH,)] = new if valid else None
    extra = [ExtraCard(key, primary[key], comment) for key, _, comment in record.cards]
    return edit_tree(content, values, extra)
