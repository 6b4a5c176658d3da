"""Which tables a product of spectra has, and everything about them that is known before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tso3.io.exposure import Exposure
from tso3.io.metadata import read_values
from tso3.io.schemas import Value
from tso3.io.times import IntTimes

__all__ = ["SpectrumPlan", "TableSpec", "plan_tables"]

_HEADER_PATHS = {"slit_name": "name", "dispersion_axis": "dispersion_direction"}
"""Attributes of a spectrum's header whose name in the archive's tree is another one."""

_HEADER_NAMES = (
    "slit_name",
    "source_id",
    "source_type",
    "source_xpos",
    "source_ypos",
    "source_ra",
    "source_dec",
    "extraction_xstart",
    "extraction_xstop",
    "extraction_ystart",
    "extraction_ystop",
    "slit_ra",
    "slit_dec",
    "spectral_order",
    "dispersion_axis",
    "detector",
    "wavelength_corrected",
    "position_angle",
)
"""Attributes of a spectrum's header that become cards of EXTRACT1D."""

_FROM_SLIT = (
    "slitlet_id",
    "source_name",
    "source_alias",
    "stellarity",
    "ta_xpos",
    "ta_ypos",
    "shutter_state",
    "quadrant",
    "slit_xscale",
    "slit_yscale",
    "pathloss_correction_type",
    "barshadow_corrected",
)
"""Metadata that is copied from the SCI header of the slit if it is there."""


@dataclass(frozen=True)
class SpectrumPlan:
    """
    The spectra of one exposure in one spectral order, before extraction.

    Attributes
    ----------
    exposure : Exposure
        Gives segments, times and headers.
    header : object
        With the attributes of ``tso3.core.spectra.SpectrumHeader``.
    wavelength : ndarray, shape (n_wave,)
        Wavelength of every sample [micron].
    """

    exposure: Exposure
    header: Any
    wavelength: NDArray[np.float64]


@dataclass(frozen=True)
class TableSpec:
    """
    One EXTRACT1D table.

    Attributes
    ----------
    key : (str, str, int)
        Name of the exposure, of the slit, and spectral order that it holds.
    start, stop : int
        Integrations of the exposure that are its rows (0-based, half-open).
    wavelength : ndarray, shape (n_wave,)
        Wavelength of every sample [micron].
    times : IntTimes
        Number and times of every row.
    segment : ndarray of int64, shape (n_int,)
        SEGMENT of every row.
    values : dict
        Metadata of the spectrum by path in the tree (``"spec.name"``).
    units : dict
        What ``flux``, ``sb``, ``bkgd`` and, with ``_var``, their squares stand for.
    pixel_area : float or None
        Of the images [sr]; None where they do not tell it.
    """

    key: tuple[str, str, int]
    start: int
    stop: int
    wavelength: NDArray[np.float64]
    times: IntTimes
    segment: NDArray[np.int64]
    values: dict[str, Value]
    units: dict[str, str]
    pixel_area: float | None

    @property
    def n_int(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def n_wave(self) -> int:
        """Number of wavelengths."""
        return int(self.wavelength.size)

    @property
    def source_type(self) -> str:
        """SRCTYPE; UNKNOWN if there is none."""
        return str(self.values.get("spec.source_type", "UNKNOWN"))


def plan_tables(
    plans: Sequence[SpectrumPlan], layout: Literal["detector", "segment"], order_of_files: Sequence[Path] = ()
) -> tuple[TableSpec, ...]:
    """
    Return the tables of a product, in their order.

    Parameters
    ----------
    plans : sequence of SpectrumPlan
        By exposure, then spectral order.
    layout : {"detector", "segment"}
        One table per exposure and order with all integrations, or one per segment as well (the archive).
    order_of_files : sequence of Path, optional
        Files in the order of the association, by which the tables of segments are ordered.

    Returns
    -------
    tables : tuple of TableSpec
        EXTVER is the position, from 1. The footprint S_REGION is given to the first alone, as the archive has it.
    """
    tables = [table for plan in plans for table in _tables_of(plan, layout)]
    if layout == "segment" and order_of_files:
        position = {Path(path).name: i for i, path in enumerate(order_of_files)}
        tables.sort(key=lambda pair: position.get(pair[0], len(position)))
    regions = [segment.sci.get("S_REGION") for plan in plans for segment in plan.exposure.segments]
    footprint = next((region for region in regions if isinstance(region, str) and region.strip()), None)
    if footprint is not None:
        tables[0][1].values["spec.s_region"] = footprint
    return tuple(table for _, table in tables)


def _tables_of(plan: SpectrumPlan, layout: str) -> Iterator[tuple[str, TableSpec]]:
    """Yield the tables of one exposure and order, with the name of the first file that each is made from."""
    exposure = plan.exposure
    area = exposure.header("PIXAR_SR")
    segment = np.concatenate([np.full(s.n_int, s.number, dtype=np.int64) for s in exposure.segments])
    bounds = exposure.segment_bounds if layout == "segment" else ((0, exposure.n_int),)
    for file, (start, stop) in zip(exposure.segments, bounds, strict=False):
        yield (
            file.path.name,
            TableSpec(
                key=(exposure.name, plan.header.slit_name, int(plan.header.spectral_order)),
                start=start,
                stop=stop,
                wavelength=np.asarray(plan.wavelength, dtype=np.float64),
                times=exposure.times.slice(start, stop),
                segment=segment[start:stop],
                values=_spectrum_values(plan),
                units=_units(plan.header.flux_unit, plan.header.sb_unit, plan.header.background_unit),
                pixel_area=float(area) if isinstance(area, int | float) and area > 0.0 else None,
            ),
        )


def _spectrum_values(plan: SpectrumPlan) -> dict[str, Value]:
    """Return the metadata of a spectrum: from the extraction, and from the slit's header what it passes on."""
    values: dict[str, Value] = {}
    slit = plan.exposure.segments[0].sci
    for path, value in read_values(slit, plan.exposure.segments[0].path.name, "EXTRACT1D").items():
        if path.removeprefix("spec.") in _FROM_SLIT:
            values[path] = value
    for name in _HEADER_NAMES:
        value = getattr(plan.header, name)
        if value is None or value == "" or (isinstance(value, float) and not np.isfinite(value)):
            continue
        values[f"spec.{_HEADER_PATHS.get(name, name)}"] = value
    along = "y" if plan.header.dispersion_axis == 2 else "x"
    for end in ("start", "stop"):  # whole pixels along dispersion are integers in the archive
        path = f"spec.extraction_{along}{end}"
        if path in values and float(values[path]).is_integer():
            values[path] = int(values[path])
    return values


def _units(flux: str, sb: str, background: str | None = None) -> dict[str, str]:
    """
    Return the units of a spectrum's columns, squares as the archive spells them.

    Parameters
    ----------
    flux, sb : str
        Unit of the flux and of the surface brightness.
    background : str, optional
        Unit of the background; by default that of the surface brightness.

    Returns
    -------
    units : dict of str to str
        ``flux``, ``sb``, ``bkgd``, and with ``_var`` their squares.

    Examples
    --------
    >>> from tso3.io.x1dplan import _units
    >>> _units("Jy", "MJy/sr")["sb_var"]
    'MJy^2 / sr^2'
    """
    units = {"flux": flux, "sb": sb, "bkgd": sb if background is None else background}
    return units | {f"{name}_var": _squared(unit) for name, unit in units.items()}


def _squared(unit: str) -> str:
    """Return the square of a unit of the form ``a`` or ``a/b``."""
    return " / ".join(f"{part.strip()}^2" for part in unit.split("/")) if unit else ""
