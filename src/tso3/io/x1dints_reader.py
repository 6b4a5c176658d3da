"""
Spectra of a product as input: its tables, joined to exposures, read in blocks of integrations.

Products of tso3 and of jwst (1.19 or later: one row per integration) are read, with one table for each detector and
order, or one for each segment as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.exposure import Exposure, Observation
from tso3.io.fitsfile import Hdu, header_value, scan_hdus
from tso3.io.spectra_dataset import SpectraTable, locate_table, read_column
from tso3.io.spectra_rows import SpectrumRows, TablePart, cut_parts
from tso3.io.times import IntTimes, concatenate_times
from tso3.modes import Mode, mode_of, refusal

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["SpectraExposure", "read_spectra"]

_COMPANION = "TSO3_EXTRACT1D"
_NEEDED = ("INT_NUM", "WAVELENGTH", "FLUX", "FLUX_VAR_POISSON", "FLUX_VAR_RNOISE", "FLUX_VAR_FLAT", "MJD-AVG")
_TIMES = {
    "start_mjd_utc": "MJD-BEG",
    "mid_mjd_utc": "MJD-AVG",
    "end_mjd_utc": "MJD-END",
    "start_bjd_tdb": "TDB-BEG",
    "mid_bjd_tdb": "TDB-MID",
    "end_bjd_tdb": "TDB-END",
}


@dataclass(frozen=True)
class SpectraExposure(Exposure):
    """
    An exposure of which the spectra are there, and no pixels: it has no segments.

    Attributes
    ----------
    path : Path
        The product.
    first_header : astropy.io.fits.Header
        PRIMARY of the product.
    number : int
        Which exposure of the observation, from 0; detectors and orders of one have the same.
    slit : str or None
        SLTNAME.
    slits : int
        How many there are of this detector: stripes or channels, each an exposure of its own here.
    spectra : tuple of SpectrumRows
        One for each order.
    """

    path: Path
    first_header: fits.Header
    number: int
    slit: str | None
    slits: int
    spectra: tuple[SpectrumRows, ...]

    from_spectra = True

    def header(self, key: str, default: object = None) -> object:
        """Return a keyword of PRIMARY, else ``default``."""
        value = self.first_header.get(key)
        return value.strip() if isinstance(value, str) else default if value is None else value

    @property
    def primary(self) -> fits.Header:
        """PRIMARY header."""
        return self.first_header

    @property
    def visit(self) -> tuple[str, ...]:
        """What the exposures of all detectors that were read together have in common; sorts by time."""
        return (f"{self.number:06d}",)

    @property
    def slit_name(self) -> str | None:
        """SLTNAME."""
        return self.slit

    @property
    def stripe(self) -> str:
        """SLTNAME where it is one of several of NIRCam's Dispersed Hartmann Sensor, else empty."""
        return self.slit or "" if self.slits > 1 and self.mode.exp_type == "NRC_TSGRISM" else ""

    @property
    def n_slits(self) -> int:
        """How many there are of this detector."""
        return self.slits

    @property
    def paths(self) -> tuple[Path, ...]:
        """The product."""
        return (self.path,)

    def select(self, keep: NDArray[np.bool_]) -> SpectraExposure:
        """Return the exposure with some of its integrations (a run without gaps)."""
        first, last = (int(i) for i in np.flatnonzero(keep)[[0, -1]])
        spectra = tuple(replace(each, parts=cut_parts(each.parts, first, last + 1)) for each in self.spectra)
        return replace(self, spectra=spectra, n_int=last + 1 - first, times=self.times.slice(first, last + 1))


def read_spectra(path: str | Path) -> Observation:
    """
    Return the exposures whose spectra a product holds; spectra themselves are read later, in blocks.

    Parameters
    ----------
    path : path-like
        ``*_x1dints.fits`` of tso3 or jwst.

    Returns
    -------
    observation : Observation
        Of `SpectraExposure`; the name of the product is that of the file, without ``_x1dints``.

    Raises
    ------
    InputError
        If it is no such product, or its tables cannot be joined in time.
    """
    path = Path(path)
    hdus = scan_hdus(path)
    primary = hdus[0].header
    exp_type = header_value(primary, "EXP_TYPE", str, path)
    mode = mode_of(exp_type, bool(header_value(primary, "TSOVISIT", bool, path)))
    if mode is None:
        raise InputError(refusal(exp_type), path)
    stem = path.name.removesuffix(".fits").removesuffix("_x1dints")
    chains = _chains(hdus, path)
    numbers = _numbers(chains)
    grouped: dict[tuple[int, str, str], list[SpectrumRows]] = {}
    for key, runs in chains.items():
        for number, run in zip(numbers[key], runs, strict=True):
            grouped.setdefault((number, key.detector, key.slit), []).append(_spectrum(key, run, path))
    several = len(set(map(tuple, numbers.values()))) > 1 or any(len(n) > 1 for n in numbers.values())
    exposures = []
    for (number, detector, slit), spectra in sorted(grouped.items(), key=lambda item: item[0][:2]):
        slits = sum((number, detector) == key[:2] for key in grouped)
        name = f"{stem}_{detector.lower()}" + (f"_{number + 1}" if several else "")
        exposures.append(_exposure(path, primary, mode, name, (number, detector, slit, slits), spectra))
    return Observation(tuple(exposures), stem, paths=(path,))


@dataclass(frozen=True, order=True)
class _Key:
    """What tells the tables of a product apart, segments aside."""

    detector: str
    slit: str
    order: int


Chains = Mapping[_Key, Sequence[tuple[TablePart, ...]]]


def _exposure(
    path: Path,
    primary: fits.Header,
    mode: Mode,
    name: str,
    which: tuple[int, str, str, int],
    spectra: Sequence[SpectrumRows],
) -> SpectraExposure:
    """Return an exposure (its number, detector, slit and how many slits there are), with equal integrations."""
    number, detector, slit, slits = which
    times = [concatenate_times(tuple(part.times for part in each.parts)) for each in spectra]
    for each, other in zip(spectra[1:], times[1:], strict=True):
        if not np.array_equal(other.int_num, times[0].int_num):
            raise InputError(
                f"order {each.order} of {detector} has other integrations than order {spectra[0].order};"
                " run the calints again",
                path,
            )
    return SpectraExposure(
        name=name,
        mode=mode,
        detector=detector,
        segments=(),
        n_int=len(times[0]),
        ny=0,
        nx=0,
        bunit="",
        times=times[0],
        path=path,
        first_header=primary,
        number=number,
        slit=slit or None,
        slits=slits,
        spectra=tuple(sorted(spectra, key=lambda each: each.order)),
    )


def _chains(hdus: Sequence[Hdu], path: Path) -> Chains:
    """Return the tables of each detector, slit and order, as exposures in time order."""
    companions = {
        int(hdu.header.get("X1DVER", hdu.version)): locate_table(hdu, path)
        for hdu in hdus
        if hdu.name.startswith(_COMPANION)
    }
    found: dict[_Key, list[TablePart]] = {}
    for hdu in hdus:
        if hdu.name != "EXTRACT1D":
            continue
        table = locate_table(hdu, path)
        lacking = [name for name in _NEEDED if name not in table.fields]
        if lacking or not table.fields["FLUX"].dtype.shape:
            raise InputError(
                f"EXTRACT1D,{hdu.version} has not one row per integration"
                f" (no {', '.join(lacking) or 'vectors'}); spectra of tso3, or of jwst from 1.19 on, are read",
                path,
            )
        detector = str(hdu.header.get("DETECTOR") or hdus[0].header.get("DETECTOR") or "")
        key = _Key(detector, str(hdu.header.get("SLTNAME", "")), int(hdu.header.get("SPORDER", 1)))
        if table.n_int:
            found.setdefault(key, []).append(
                TablePart(table, companions.get(hdu.version), 0, table.n_int, _times(path, table))
            )
    if not found:
        raise InputError("holds no table EXTRACT1D with spectra; give an x1dints, or calints", path)
    return {key: _runs(parts, path) for key, parts in found.items()}


def _times(path: Path, table: SpectraTable) -> IntTimes:
    """Return number and times of the rows of a table."""
    number = read_column(path, table, "INT_NUM", slice(None)).astype(np.int64)
    columns = {
        name: read_column(path, table, column, slice(None)).astype(np.float64)
        if column in table.fields
        else np.full(table.n_int, np.nan)
        for name, column in _TIMES.items()
    }
    known = all(np.isfinite(values).all() for values in columns.values())
    return IntTimes(number, **columns, source="INT_TIMES" if known else "none")


def _runs(parts: Sequence[TablePart], path: Path) -> list[tuple[TablePart, ...]]:
    """
    Return tables joined to exposures: one ends where integration numbers do not go on.

    Tables are taken in the order of their times, as they may lie in the file in any order; or as they lie in the file
    if that leaves fewer exposures, as times may be wrong.
    """

    def begin(part: TablePart) -> float:
        known = part.times.mid_mjd_utc[np.isfinite(part.times.mid_mjd_utc)]
        return float(known[0]) if known.size else np.inf

    for part in parts:
        if (np.diff(part.times.int_num) <= 0).any():
            raise InputError(f"EXTRACT1D,{part.table.hdu.version}: INT_NUM does not rise; run the calints again", path)
    return min(_joined(sorted(parts, key=begin)), _joined(parts), key=len)


def _joined(parts: Sequence[TablePart]) -> list[tuple[TablePart, ...]]:
    """Return tables, in this order, as exposures."""
    runs: list[list[TablePart]] = []
    for part in parts:
        if runs and part.times.int_num[0] > runs[-1][-1].times.int_num[-1]:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [tuple(run) for run in runs]


def _numbers(chains: Chains) -> dict[_Key, list[int]]:
    """Return the number of every exposure of each chain: by rank, or by time where chains differ in length."""
    if len({len(runs) for runs in chains.values()}) == 1:
        return {key: list(range(len(runs))) for key, runs in chains.items()}
    spans = []
    for key, runs in chains.items():
        for rank, run in enumerate(runs):
            mid = np.concatenate([part.times.mid_mjd_utc for part in run])
            mid = mid[np.isfinite(mid)]
            spans.append(
                (float(mid.min()) if mid.size else np.inf, float(mid.max()) if mid.size else np.inf, key, rank)
            )
    numbers: dict[_Key, list[int]] = {key: [0] * len(runs) for key, runs in chains.items()}
    number, end = -1, -np.inf
    for first, last, key, rank in sorted(spans, key=lambda span: span[:2]):
        if first > end or not np.isfinite(first):
            number += 1
        end = max(end, last)
        numbers[key][rank] = number
    return numbers


def _spectrum(key: _Key, parts: tuple[TablePart, ...], path: Path) -> SpectrumRows:
    """Return the spectra of one exposure and order."""
    first = parts[0].table
    wavelength = read_column(path, first, "WAVELENGTH", slice(0, 1))[0].astype(np.float64)
    for part in parts[1:]:
        other = read_column(path, part.table, "WAVELENGTH", slice(0, 1))[0]
        if not np.array_equal(other, wavelength, equal_nan=True):
            raise InputError(
                f"EXTRACT1D,{part.table.hdu.version} and {first.hdu.version}, of one exposure, differ in their"
                " wavelengths; run the calints again",
                path,
            )
    header = SimpleNamespace(
        slit_name=key.slit,
        spectral_order=key.order,
        dispersion_axis=int(first.hdu.header.get("DISPAXIS", 1)),
        detector=key.detector or None,
        flux_unit=first.fields["FLUX"].unit,
    )
    return SpectrumRows(header, wavelength, parts)
