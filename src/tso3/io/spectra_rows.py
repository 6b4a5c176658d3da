"""Spectra in the tables of a product, read in runs of integrations: only the bytes that are needed, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.fitsfile import open_readonly, pread_exactly
from tso3.io.spectra_dataset import SpectraTable
from tso3.io.times import IntTimes

__all__ = ["SpectrumRows", "TablePart", "cut_parts"]

_BUFFER = 16 * 2**20
_JY_PER_MJY = 1e6
_FLUX = {name.lower(): name for name in ("FLUX", "FLUX_VAR_POISSON", "FLUX_VAR_RNOISE", "FLUX_VAR_FLAT")}
_SKY = {name.lower(): name for name in ("BACKGROUND", "NPIXELS", "SURF_BRIGHT")}
_MISSING = {"missing_fraction": "MISSING_FRACTION"}
_OURS = {"missing_fraction": "MISSING_FRACTION", "flux_var_limit": "FLUX_VAR_LIMIT"}


@dataclass(frozen=True)
class TablePart:
    """
    Rows of one table that follow each other in time.

    Attributes
    ----------
    table, companion : SpectraTable
        Where the columns are; ``companion`` None where the product has none.
    first, last : int
        Rows, 0-based, half-open.
    times : IntTimes
        Number and times of these rows.
    """

    table: SpectraTable
    companion: SpectraTable | None
    first: int
    last: int
    times: IntTimes


@dataclass(frozen=True)
class SpectrumRows:
    """
    The spectra of one exposure in one order.

    Attributes
    ----------
    header : object
        With ``slit_name``, ``spectral_order``, ``dispersion_axis``, ``detector`` and ``flux_unit``, as
        ``tso3.core.spectra.SpectrumHeader`` has them.
    wavelength : ndarray of float64, shape (n_wave,)
        Micron.
    parts : tuple of TablePart
        In time order.
    """

    header: Any
    wavelength: NDArray[np.float64]
    parts: tuple[TablePart, ...]

    @property
    def order(self) -> int:
        """Spectral order."""
        return int(self.header.spectral_order)

    @property
    def has_companion(self) -> bool:
        """Whether the companion tables of tso3 are there."""
        return all(part.companion is not None for part in self.parts)

    def blocks(self, path: Path, max_bytes: int | None = None) -> Iterator[Any]:
        """
        Yield the spectra in runs of integrations, as light curves take them.

        Parameters
        ----------
        path : Path
            The product.
        max_bytes : int, optional
            Bytes of file that are held at a time, 16 MiB by default.

        Yields
        ------
        spectra : object
            With ``start``, ``stop``, ``n_int``, ``n_wave``, ``flux``, its variances, ``flux_var_limit`` and
            ``missing_fraction``, as ``tso3.core.spectra.Spectra`` has them; the last two are NaN without companion.
            Where both variances that scatter in time are 0, the product does not know them: they are NaN.
        """
        start = 0
        for part in self.parts:
            step = max(1, (max_bytes or _BUFFER) // _span(part.table, _FLUX.values())[1])
            for low in range(part.first, part.last, step):
                high = min(low + step, part.last)
                yield self._block(path, part, low, high, start + low - part.first)
            start += part.last - part.first

    def _block(self, path: Path, part: TablePart, low: int, high: int, start: int) -> Any:
        columns = _fluxes(path, part.table, low, high)
        if part.companion is not None:
            columns |= _rows(path, part.companion, _OURS, low, high)
        else:
            columns |= {name: np.full(columns["flux"].shape, np.nan) for name in _OURS}
        n = high - low
        return SimpleNamespace(start=start, stop=start + n, n_int=n, n_wave=self.wavelength.size, **columns)

    def sample(self, path: Path, n: int) -> Any:
        """
        Return fluxes, variances, missing shares and background of at most ``n`` integrations, spread evenly.

        All have the shape (<= n, n_wave): ``flux``, its variances, ``missing_fraction``, 0 without companion, and
        ``background``: the light of the background in the aperture, in the unit of the flux. What the column is worth
        in it is told by surface brightness and flux. Where there is no surface brightness (point sources of NIRSpec)
        units and pixel area tell it; 0 where the product does not hold the area.
        """
        total = sum(part.last - part.first for part in self.parts)
        chosen = np.unique(np.linspace(0, total - 1, min(n, total)).round().astype(np.int64))
        found, start = [], 0
        for part in self.parts:
            stop = start + part.last - part.first
            for i in chosen[(chosen >= start) & (chosen < stop)]:
                row = part.first + int(i) - start
                columns = _rows(path, part.table, {**_FLUX, **_SKY}, row, row + 1)
                missing = np.zeros_like(columns["flux"])
                if part.companion is not None:
                    missing = _rows(path, part.companion, _MISSING, row, row + 1)["missing_fraction"]
                found.append({**_unknown_as_nan(columns), "missing_fraction": missing})
            start = stop
        whole = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        kept = {name: whole[name] for name in (*_FLUX, *_MISSING)}
        return SimpleNamespace(**kept, background=_sky(whole, self._worth_of_background()))

    def _worth_of_background(self) -> float:
        """Return the column of the background in the unit of the flux, as far as units and pixel area tell; else 0."""
        part = self.parts[0]
        flux, background = (part.table.fields[name].unit.replace(" ", "") for name in ("FLUX", "BACKGROUND"))
        if flux == background:
            return 1.0
        area = None if part.companion is None else part.companion.hdu.header.get("PIXAR_SR")
        known = (flux, background) == ("Jy", "MJy/sr") and isinstance(area, int | float)
        return _JY_PER_MJY * float(area) if known else 0.0


def _fluxes(path: Path, table: SpectraTable, low: int, high: int) -> dict[str, NDArray[np.float64]]:
    """Return the flux and its variances in some rows; NaN where both that scatter in time are 0: not known."""
    return _unknown_as_nan(_rows(path, table, _FLUX, low, high))


def _unknown_as_nan(columns: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    unknown = (columns["flux_var_poisson"] == 0.0) & (columns["flux_var_rnoise"] == 0.0)
    columns["flux_var_poisson"][unknown] = np.nan
    return columns


def _sky(columns: Mapping[str, NDArray[np.float64]], worth: float) -> NDArray[np.float64]:
    """Return the light of the background in the aperture, in the unit of the flux."""
    flux, bright, pixels = columns["flux"], columns["surf_bright"], columns["npixels"]
    known = np.isfinite(flux) & np.isfinite(bright) & (bright != 0.0) & (pixels > 0.0)
    unit = float(np.median(flux[known] / (bright[known] * pixels[known]))) if known.any() else worth
    return np.asarray(np.nan_to_num(columns["background"] * pixels * unit))


def _span(table: SpectraTable, names: Any) -> tuple[int, int]:
    """Return the first byte in a row of some columns, and how many bytes they span."""
    chosen = [table.fields[name] for name in names]
    low = min(field.offset for field in chosen)
    return low, max(field.offset + field.dtype.itemsize for field in chosen) - low


def _rows(
    path: Path, table: SpectraTable, columns: Mapping[str, str], low: int, high: int
) -> dict[str, NDArray[np.float64]]:
    """Return vector columns of the rows ``low`` to ``high``, as float64 of this machine; nothing else is read."""
    begin, size = _span(table, columns.values())
    descriptor = open_readonly(path)
    try:
        rows = [
            pread_exactly(descriptor, size, table.hdu.data_offset + row * table.stride + begin, path)
            for row in range(low, high)
        ]
    finally:
        os.close(descriptor)
    raw = np.frombuffer(b"".join(rows), np.uint8).reshape(high - low, size)
    found = {}
    for name, column in columns.items():
        field = table.fields[column]
        part = raw[:, field.offset - begin : field.offset - begin + field.dtype.itemsize]
        found[name] = np.ascontiguousarray(part).view(field.dtype.base).astype(np.float64)
    return found


def cut_parts(parts: Sequence[TablePart], first: int, last: int) -> tuple[TablePart, ...]:
    """Return the rows ``first`` to ``last`` of tables that follow each other."""
    kept, start = [], 0
    for part in parts:
        n = part.last - part.first
        low, high = max(first - start, 0), min(last - start, n)
        if low < high:
            times = part.times.slice(low, high)
            kept.append(replace(part, first=part.first + low, last=part.first + high, times=times))
        start += n
    return tuple(kept)
