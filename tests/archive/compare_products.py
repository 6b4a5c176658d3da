"""The products of one run of ours beside those of the reference pipeline: crfints, x1dints and the ECSV tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compare import (
    DURATION_KEYS,
    DURATION_PATHS,
    OWN_PREFIX,
    RTOL,
    RUN_KEYS,
    RUN_PATHS,
    Comparison,
    Row,
    asdf_tree,
    column_rule,
    hdrtab,
    headers,
    tables,
    trees,
)

DO_NOT_USE = 1
OUTLIER = 16
PLANES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")


@dataclass(frozen=True)
class Threshold:
    """The parameters of outlier detection that decide which pixels lie at the threshold."""

    snr: float = 5.0
    width: int = 25


def archive_median(data: np.ndarray, dq: np.ndarray, index: int, width: int) -> float:
    """
    Return the median that the reference pipeline compares integration ``index`` of one pixel with.

    Written out from its definition for one pixel, shape (n_int,): with fewer integrations than the width (or as many)
    the median of all finite samples in single precision; else that of the nearest full window, NaN if one of its
    samples is NaN or DO_NOT_USE.
    """
    n_int = data.size
    if width <= 1 or width >= n_int:
        return float(np.nanmedian(data.astype(np.float32))) if np.isfinite(data).any() else np.nan
    start = min(max(index - width // 2, 0), n_int - width)
    window = np.where(dq & DO_NOT_USE, np.nan, data.astype(np.float64))[start : start + width]
    return float(np.median(window))


def borderline(calints: Path, where: np.ndarray, threshold: Threshold) -> np.ndarray:
    """
    Tell which pixels of a calints file lie at the threshold of outlier detection.

    Parameters
    ----------
    calints : Path
        The input of outlier detection.
    where : ndarray of int, shape (n, 3)
        Indices (integration, y, x).
    threshold : Threshold
        Its parameters.

    Returns
    -------
    at_threshold : ndarray of bool, shape (n,)
        True where ``||SCI - median| - snr ERR| <= 1e-6 snr ERR``.
    """
    from astropy.io import fits

    at_threshold = np.zeros(len(where), dtype=bool)
    with fits.open(calints) as file:
        data, err, dq = (file[name].data for name in ("SCI", "ERR", "DQ"))
        for k, (i, y, x) in enumerate(where):
            median = archive_median(np.asarray(data[:, y, x], dtype=np.float64), dq[:, y, x], int(i), threshold.width)
            limit = threshold.snr * np.nan_to_num(float(err[i, y, x]))
            at_threshold[k] = abs(abs(float(data[i, y, x]) - median) - limit) <= RTOL * limit
    return at_threshold


def crfints(ours: Path, peer: Path, calints: Path, threshold: Threshold | None = None) -> Comparison:
    """Compare two crfints files: HDUs, headers, flags, pixels, tables and the ASDF tree."""
    from astropy.io import fits

    comparison = Comparison("crfints", ours=ours, peer=peer)
    with fits.open(ours) as a, fits.open(peer) as b:
        comparison.same("HDUs", [h.name for h in a], [h.name for h in b])
        names = [h.name for h in b if h.name in a]
        for name in names:
            if name != "ASDF":
                headers(comparison, name, a[name].header, b[name].header)
        _pixels(comparison, a, b, calints, threshold or Threshold())
        for name in names:
            if name == "INT_TIMES":
                tables(comparison, name, a[name], b[name], exact=True)
            elif name == "WAVELENGTH":
                comparison.add(name, a[name].data, b[name].data, rtol=0.0)
        with asdf_tree(a["ASDF"]) as tree, asdf_tree(b["ASDF"]) as peer_tree:
            trees(comparison, tree, peer_tree)
    return comparison


def _pixels(comparison: Comparison, a: Any, b: Any, calints: Path, threshold: Threshold) -> None:
    """Compare DQ bit for bit but for pixels at the threshold, and the planes wherever the flags agree."""
    dq, peer_dq = np.asarray(a["DQ"].data), np.asarray(b["DQ"].data)
    if dq.shape != peer_dq.shape:
        comparison.same("DQ shape", dq.shape, peer_dq.shape)
        return
    different = dq != peer_dq
    where = np.argwhere(different)
    excused = borderline(calints, where, threshold) if len(where) <= 1000 else np.zeros(len(where), dtype=bool)
    flags_only = (dq[different] ^ peer_dq[different]) & ~np.uint32(OUTLIER | DO_NOT_USE) == 0
    excused &= flags_only
    comparison.n_borderline += int(excused.sum())
    wrong = where[~excused]
    detail = ""
    if len(wrong):
        i, y, x = (int(k) for k in wrong[0])
        detail = f"first at ({i}, {y}, {x}): ours {dq[i, y, x]}, jwst {peer_dq[i, y, x]}"
    comparison.rows.append(
        Row("crfints", "DQ", np.inf if len(wrong) else 0.0, dq.size, len(wrong), detail),
    )
    comparison.n_flagged = int(np.count_nonzero(peer_dq & OUTLIER))
    for name in PLANES:
        if name in a and name in b and name != "DQ":
            ours, peers = np.array(a[name].data), np.array(b[name].data)
            if ours.shape == peers.shape == dq.shape:
                ours[different] = peers[different] = 0.0
            comparison.add(name, ours, peers)


def x1dints(ours: Path, peer: Path, n_members: int) -> Comparison:
    """
    Compare two x1dints files: HDUs, headers, every column, HDRTAB and the ASDF tree.

    With several detectors the times of INT_TIMES are not compared: jwst has those of the last member there, ours are
    those of the first detector (oracle, row 17, which has a test of its own).
    """
    from astropy.io import fits

    comparison = Comparison("x1dints", ours=ours, peer=peer)
    keys, paths = RUN_KEYS, RUN_PATHS
    if n_members > 1:
        keys, paths = RUN_KEYS | DURATION_KEYS, RUN_PATHS | DURATION_PATHS
    with fits.open(ours) as a, fits.open(peer) as b:
        several = len({h.header["DETECTOR"] for h in b if h.name == "EXTRACT1D" and "DETECTOR" in h.header}) > 1
        labels = [(h.name, h.ver) for h in a if not h.name.startswith(OWN_PREFIX)]
        peer_labels = [(h.name, h.ver) for h in b]
        comparison.same("HDUs", labels, peer_labels)
        headers(comparison, "PRIMARY", a[0].header, b[0].header, keys)
        for label in peer_labels:
            if label not in labels or label[0] in ("PRIMARY", "ASDF"):
                continue
            part = f"{label[0]},{label[1]}"
            headers(comparison, part, a[label].header, b[label].header, _header_ignore(label[0]))
            if label[0] == "HDRTAB":
                hdrtab(comparison, a[label], b[label])
            elif label[0] == "INT_TIMES" and several:
                comparison.add(f"{part} numbers", a[label].data.field(0), b[label].data.field(0), rtol=0.0)
            else:
                tables(comparison, part, a[label], b[label], exact=label[0] == "INT_TIMES")
        with asdf_tree(a["ASDF"]) as tree, asdf_tree(b["ASDF"]) as peer_tree:
            trees(comparison, tree, peer_tree, paths)
    return comparison


def _header_ignore(name: str) -> frozenset[str]:
    """Return the keywords not compared: of HDRTAB the widths of columns, since file names differ in length."""
    if name != "HDRTAB":
        return RUN_KEYS
    return RUN_KEYS | {"NAXIS1"} | {f"TFORM{i}" for i in range(1, 300)}


def ecsv(product: str, ours: Path, peer: Path) -> Comparison:
    """Compare two ECSV tables: every column of the peer with its unit, in its order, and every key of its meta."""
    from astropy.table import QTable

    comparison = Comparison(product, ours=ours, peer=peer)
    a, b = QTable.read(ours, format="ascii.ecsv"), QTable.read(peer, format="ascii.ecsv")
    comparison.same("columns", [name for name in a.colnames if name in b.colnames], b.colnames)
    comparison.same("rows", len(a), len(b))
    peers = {name: _plain(b[name]) for name in b.colnames}
    for name in b.colnames:
        if name in a.colnames:
            comparison.same(f"{name} unit", str(getattr(a[name], "unit", None)), str(getattr(b[name], "unit", None)))
            comparison.add(name, _plain(a[name]), peers[name], **column_rule(name, peers))
    for key in b.meta:
        comparison.same(f"meta {key}", a.meta.get(key, "absent"), b.meta[key])
    comparison.same("order of meta", [key for key in a.meta if key in b.meta], list(b.meta))
    return comparison


def _plain(column: Any) -> np.ndarray:
    """Return the numbers of a column or quantity."""
    return np.asarray(getattr(column, "value", column))


def products(
    ours: dict[str, list[Path]], peer_dir: Path, members: tuple[Path, ...], threshold: Threshold | None = None
) -> list[Comparison]:
    """
    Compare every product of a run with what the reference pipeline left in a folder.

    Parameters
    ----------
    ours : dict of str to list of Path
        Products by kind: ``crfints``, ``x1dints``, ``phot``, ``whtlt``.
    peer_dir : Path
        Output folder of the reference pipeline.
    members : tuple of Path
        The calints files, in the order of the association.
    threshold : Threshold, optional
        Parameters of outlier detection.

    Returns
    -------
    comparisons : list of Comparison
        One per file of the peer; a product that only one side has is a failure.
    """
    ours_by_name = {path.name: path for paths in ours.values() for path in paths}
    comparisons = [Comparison("files")]
    peers = sorted(path for path in peer_dir.iterdir() if path.suffix in (".fits", ".ecsv"))
    comparisons[0].same("names", sorted(ours_by_name), [path.name for path in peers])
    for path in peers:
        mine = ours_by_name.get(path.name)
        if mine is None:
            continue
        if path.name.endswith("_crfints.fits"):
            calints = next(m for m in members if path.name.startswith(m.stem.removesuffix("_calints") + "_"))
            comparisons.append(crfints(mine, path, calints, threshold))
        elif path.name.endswith("_x1dints.fits"):
            comparisons.append(x1dints(mine, path, len(members)))
        elif path.suffix == ".ecsv":
            comparisons.append(ecsv(path.stem.rsplit("_", 1)[1], mine, path))
    return comparisons


def identical(one: Path, other: Path) -> Comparison:
    """
    Compare two products of ours for identity: equal bytes but for dates and file names; HDRTAB, which has dates too,
    by columns, and the ASDF tree as a tree.
    """
    from astropy.io import fits

    comparison = Comparison(one.name, ours=one, peer=other)
    if one.suffix != ".fits":
        comparison.same("text", one.read_text(), other.read_text())
        return comparison
    with fits.open(one) as a, fits.open(other) as b:
        comparison.same("HDUs", [(h.name, h.ver) for h in a], [(h.name, h.ver) for h in b])
        for x, y in zip(a, b, strict=False):
            part = f"{x.name},{x.ver}"
            if x.name == "ASDF":
                with asdf_tree(x) as tree, asdf_tree(y) as other_tree:
                    trees(comparison, tree, other_tree)
                continue
            headers(comparison, part, x.header, y.header)
            if x.name == "HDRTAB":
                hdrtab(comparison, x, y)
                continue
            comparison.same(f"{part} bytes", _bytes(one, x), _bytes(other, y))
    return comparison


def _bytes(path: Path, hdu: Any) -> int:
    """Return a hash of the data of an HDU as it lies in the file."""
    with path.open("rb") as file:
        file.seek(hdu.fileinfo()["datLoc"])
        return hash(file.read(hdu.fileinfo()["datSpan"]))
