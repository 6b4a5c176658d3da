"""
What "equal" means between a product of ours and the same product of the reference pipeline.

Numbers: ``|a - b| <= 1e-6 max(|b|, error of b)``, NaN where NaN, infinite where infinite. DQ, NPIXELS, integer and
string columns: identical. Times: 1e-9 day. Wavelengths: 1e-9 micron. Flags of crfints: bit for bit, except where
``|SCI - median|`` lies within 1e-6 of the threshold; those are counted. Headers, HDRTAB and the ASDF tree: identical,
except for the listed keys. Every comparison is a row of a table, passed or not, so that nothing is compared silently.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RTOL = 1e-6
TIME_ATOL = 1e-9
WAVELENGTH_ATOL = 1e-9

RUN_KEYS = frozenset({"DATE", "FILENAME", "CAL_VER", "CAL_VCS", "CRDS_VER", "CRDS_CTX"})
"""Keywords that belong to the run and the program, not to the data: date, file name, versions."""

DURATION_KEYS = frozenset({"EFFEXPTM", "TMEASURE", "DURATION"})
"""Durations that jwst sums over the members although each holds the whole exposure (oracle, row 18)."""

STRUCTURE_KEYS = frozenset({"", "COMMENT", "HISTORY", "CHECKSUM", "DATASUM", "EXTEND"})
"""Cards that carry no fact of their own."""

OWN_PREFIX = "TSO3"
"""Keywords and HDUs that only our products have begin so."""

PROGRAM_KEYS = frozenset({"history", "asdf_library", "extra_fits", "cal_logs", "_fits_hash", "tso3"})
"""Keys at the top of an ASDF tree that tell about the program that wrote it: versions, its log, a hash of the file."""

RUN_PATHS = frozenset(
    {
        "meta.date",
        "meta.filename",
        "meta.calibration_software_version",
        "meta.calibration_software_revision",
        "meta.ref_file.crds.context_used",
        "meta.ref_file.crds.sw_version",
    }
)
"""The same facts as `RUN_KEYS`, as the ASDF tree names them."""

DURATION_PATHS = frozenset({"meta.exposure.exposure_time", "meta.exposure.measurement_time", "meta.exposure.duration"})
"""The same facts as `DURATION_KEYS`, as the ASDF tree names them."""

ERROR_OF = {"FLUX": "FLUX_ERROR", "SURF_BRIGHT": "SB_ERROR", "BACKGROUND": "BKGD_ERROR"}
"""The column that holds the error of a column of EXTRACT1D."""

TIME_COLUMNS = frozenset(
    {"MJD-BEG", "MJD-AVG", "MJD-END", "TDB-BEG", "TDB-MID", "TDB-END", "MJD", "BJD_TDB", "MJD_UTC"}
)


@dataclass(frozen=True)
class Row:
    """One thing compared: where, how large the largest difference is in units of its scale, and whether it passed."""

    product: str
    part: str
    largest: float = 0.0
    n_compared: int = 1
    n_different: int = 0
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the two are equal in the sense of this module."""
        return self.n_different == 0


@dataclass
class Comparison:
    """The rows of one pair of products."""

    product: str
    rows: list[Row] = field(default_factory=list)
    n_borderline: int = 0
    n_flagged: int = 0
    ours: Path | None = None
    peer: Path | None = None

    @property
    def failures(self) -> list[Row]:
        """Rows that differ."""
        return [row for row in self.rows if not row.ok]

    @property
    def largest(self) -> float:
        """Largest difference of a number, in units of max(\\|b\\|, error)."""
        return max((row.largest for row in self.rows), default=0.0)

    def check(self) -> Comparison:
        """Raise AssertionError with every row that differs; return self otherwise."""
        if not self.rows:
            raise AssertionError(f"{self.product}: nothing was compared")
        if self.failures:
            lines = [
                f"  {row.part}: {row.n_different} of {row.n_compared} differ, largest {row.largest:.3g}; {row.detail}"
                for row in self.failures
            ]
            header = (
                f"{self.product}: {len(self.failures)} of {len(self.rows)} parts differ from the reference pipeline"
            )
            raise AssertionError("\n".join([header, f"  ours {self.ours}", f"  peer {self.peer}", *lines]))
        return self

    def summary(self) -> dict[str, Any]:
        """Return what the table at the end of the test session shows, as plain values."""
        return {
            "product": self.product,
            "parts": len(self.rows),
            "failed": len(self.failures),
            "values": sum(row.n_compared for row in self.rows),
            "largest": self.largest,
            "borderline": self.n_borderline,
            "worst": asdict(max(self.rows, key=lambda row: (not row.ok, row.largest)))["part"] if self.rows else "",
        }

    def add(self, part: str, ours: Any, peer: Any, **rule: Any) -> None:
        """Compare two arrays by the given rule (see `values`) and keep the row."""
        self.rows.append(values(self.product, part, ours, peer, **rule))

    def same(self, part: str, ours: Any, peer: Any) -> None:
        """Compare two plain values or sequences for identity."""
        equal = bool(ours == peer)
        detail = "" if equal else f"ours {ours!r}, jwst {peer!r}"
        self.rows.append(Row(self.product, part, 0.0 if equal else np.inf, 1, int(not equal), detail))


def values(
    product: str, part: str, ours: Any, peer: Any, *, error: Any = None, rtol: float = RTOL, atol: float = 0.0
) -> Row:
    """
    Compare two arrays of numbers.

    Parameters
    ----------
    product, part : str
        Where they come from.
    ours, peer : array-like
        Numbers, or strings (then they must be identical).
    error : array-like, optional
        1-sigma error of ``peer``; the scale of the difference is the larger of it and ``|peer|``.
    rtol, atol : float
        Equal is ``|a - b| <= rtol scale + atol``. Integers are identical only where both are 0.

    Returns
    -------
    row : Row
        ``largest`` is the largest ``|a - b| / scale``, infinite where the kinds (NaN, infinite) differ.
    """
    a, b = np.asarray(ours), np.asarray(peer)
    if a.shape != b.shape:
        return Row(product, part, np.inf, b.size, max(a.size, 1), f"shape {a.shape}, jwst {b.shape}")
    if a.size == 0:
        return Row(product, part, 0.0, 0, 0)
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        bad = a != b
        largest = np.inf if bad.any() else 0.0
        return Row(product, part, largest, b.size, int(bad.sum()), _first(a, b, bad))
    a, b = a.astype(np.float64), b.astype(np.float64)
    unlike = (np.isnan(a) != np.isnan(b)) | ((np.isinf(a) | np.isinf(b)) & (a != b) & ~np.isnan(a) & ~np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    scale = np.abs(b)
    if error is not None:
        scale = np.fmax(scale, np.abs(np.asarray(error, dtype=np.float64)))
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.where(finite, np.abs(a - b), 0.0)
        scale = np.where(finite, scale, 1.0)
        bad = unlike | (difference > rtol * scale + atol)
        relative = np.where(difference > 0, difference / scale, 0.0)
    largest = np.inf if unlike.any() else float(relative.max())
    return Row(product, part, largest, b.size, int(bad.sum()), _first(a, b, bad))


def _first(a: np.ndarray, b: np.ndarray, bad: np.ndarray) -> str:
    """Describe the first element that differs."""
    if not bad.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.ndim else ()
    return f"first at {index}: ours {a[index]!r}, jwst {b[index]!r}"


def headers(comparison: Comparison, part: str, ours: Any, peer: Any, ignore: frozenset[str] = RUN_KEYS) -> None:
    """Compare the keywords and values of two FITS headers; comments and order of cards do not count."""
    skip = ignore | STRUCTURE_KEYS
    for key in sorted((set(ours) | set(peer)) - skip):
        if key.startswith(OWN_PREFIX):
            continue
        if key not in ours:
            comparison.same(f"{part} {key}", "absent", peer[key])
        elif key not in peer:
            comparison.same(f"{part} {key}", ours[key], "absent")
        elif isinstance(peer[key], float) and isinstance(ours[key], float):
            comparison.add(f"{part} {key}", ours[key], peer[key], rtol=1e-14)
        else:
            comparison.same(f"{part} {key}", without_folder(key, ours[key]), without_folder(key, peer[key]))


def without_folder(key: str, value: Any) -> Any:
    """Return the name of a reference file without the folder it was found in, which jwst writes for overrides."""
    if key.startswith("R_") and isinstance(value, str) and not value.startswith("crds:") and value != "N/A":
        return value.rsplit("/", 1)[-1]
    return value


def column_rule(name: str, peer_table: Any = None) -> dict[str, Any]:
    """Return the tolerances of a column, by its name; the error column is taken from the table of the peer."""
    if name in TIME_COLUMNS:
        return {"rtol": 0.0, "atol": TIME_ATOL}
    if name == "WAVELENGTH":
        return {"rtol": 0.0, "atol": WAVELENGTH_ATOL}
    if name in ("DQ", "INT_NUM", "N_ALONGDISP", "SEGMENT"):
        return {"rtol": 0.0}
    if name == "NPIXELS":  # a sum of parts of pixels: the last bits depend on the order of the operations
        return {"rtol": 1e-14}
    error = ERROR_OF.get(name, f"{name}_err")
    if peer_table is not None and error in peer_table:
        return {"error": peer_table[error]}
    return {}


def tables(comparison: Comparison, part: str, ours: Any, peer: Any, *, exact: bool = False) -> None:
    """Compare two FITS table HDUs column by column; names, order, formats and units must be the same."""
    for attribute in ("names", "formats", "units"):
        comparison.same(f"{part} {attribute}", getattr(ours.columns, attribute), getattr(peer.columns, attribute))
    errors = {name: peer.data[name] for name in peer.columns.names}
    for name in peer.columns.names:
        if name in ours.columns.names:
            rule = {"rtol": 0.0} if exact else column_rule(name, errors)
            comparison.add(f"{part} {name}", ours.data[name], peer.data[name], **rule)


def hdrtab(comparison: Comparison, ours: Any, peer: Any, ignore: frozenset[str] = RUN_KEYS) -> None:
    """Compare two HDRTAB HDUs: one row per member; strings without the padding of their columns."""
    comparison.same("HDRTAB columns", ours.columns.names, peer.columns.names)
    comparison.same("HDRTAB rows", len(ours.data), len(peer.data))
    for name in peer.columns.names:
        if name in ignore or name not in ours.columns.names:
            continue
        comparison.same(f"HDRTAB {name} kind", ours.data[name].dtype.kind, peer.data[name].dtype.kind)
        a, b = (
            [without_folder(name, str(v)) if name.startswith("R_") else v for v in t.data[name]] for t in (ours, peer)
        )
        comparison.add(f"HDRTAB {name}", a, b, rtol=0.0)


@contextmanager
def asdf_tree(hdu: Any) -> Iterator[dict[str, Any]]:
    """Open the tree of the ASDF extension of a FITS file; arrays that the FITS file holds stay unloaded."""
    import asdf

    content = io.BytesIO(np.asarray(hdu.data).view(np.uint8).tobytes())
    with asdf.open(content, lazy_load=True, memmap=False) as file:
        yield dict(file.tree)


def trees(comparison: Comparison, ours: Any, peer: Any, ignore: frozenset[str] = RUN_PATHS, path: str = "") -> None:
    """
    Compare two ASDF trees.

    World coordinate systems are compared by what they compute, arrays held by the FITS file by the name of their HDU
    (their values are compared there), other arrays and numbers by value.
    """
    if path in ignore or path in PROGRAM_KEYS or _is_date(path):
        return
    part = f"ASDF {path or 'tree'}"
    if _fits_source(peer) is not None or _fits_source(ours) is not None:
        comparison.same(part, _fits_source(ours), _fits_source(peer))
    elif isinstance(peer, Mapping) and isinstance(ours, Mapping):
        skipped = PROGRAM_KEYS if not path else frozenset()
        comparison.same(f"{part} keys", sorted(set(ours) - skipped), sorted(set(peer) - skipped))
        for key in sorted(set(ours) & set(peer)):
            trees(comparison, ours[key], peer[key], ignore, f"{path}.{key}" if path else str(key))
    elif isinstance(peer, list) and isinstance(ours, list):
        comparison.same(f"{part} length", len(ours), len(peer))
        for i, (a, b) in enumerate(zip(ours, peer, strict=False)):
            trees(comparison, a, b, ignore, f"{path}[{i}]")
    elif hasattr(peer, "forward_transform") and hasattr(ours, "forward_transform"):
        _wcs(comparison, part, ours, peer)
    elif hasattr(peer, "shape") and hasattr(ours, "shape"):
        comparison.add(part, np.asarray(ours), np.asarray(peer), rtol=0.0)
    elif path.startswith("meta.ref_file.") and path.endswith(".name"):
        comparison.same(part, without_folder("R_", ours), without_folder("R_", peer))
    else:
        comparison.same(part, ours, peer)


def _is_date(path: str) -> bool:
    """Tell whether a path of the tree is the date at which a part of the product was made."""
    return path.startswith("spec[") and path.endswith("].meta.date")


def _fits_source(node: Any) -> str | None:
    """Return ``EXTNAME,EXTVER`` if the node is an array that the FITS file holds."""
    source = vars(node).get("_source") if hasattr(type(node), "_make_array") else None
    return source if isinstance(source, str) else None


def _wcs(comparison: Comparison, part: str, ours: Any, peer: Any) -> None:
    """Compare two gWCS objects: frames, bounding box, and the coordinates of a few points."""
    comparison.same(f"{part} frames", ours.available_frames, peer.available_frames)
    boxes = [None if w.bounding_box is None else str(w.bounding_box.bounding_box(order="F")) for w in (ours, peer)]
    comparison.same(f"{part} bounding box", *boxes)
    n = peer.forward_transform.n_inputs
    comparison.same(f"{part} inputs", ours.forward_transform.n_inputs, n)
    points = [np.linspace(2.0, 30.0, 23) + 0.37 * i for i in range(n)]
    a = ours(*points, with_bounding_box=False)
    b = peer(*points, with_bounding_box=False)
    for i, (x, y) in enumerate(zip(np.atleast_2d(a), np.atleast_2d(b), strict=True)):
        comparison.add(f"{part} output {i}", x, y, rtol=1e-12, atol=WAVELENGTH_ATOL)
