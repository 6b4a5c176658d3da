"""Which wavelengths of a spectrum its white light holds: the user's range, else the reference's, else the built-in."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tso3.errors import ReferenceFileError, Tso3Warning
from tso3.io.exposure import Exposure
from tso3.io.soss_defaults import built_in_ranges
from tso3.io.wavelength_ranges import WavelengthRange
from tso3.parameters import WhiteLight

__all__ = ["Band", "band", "band_limits"]


@dataclass(frozen=True)
class Band:
    """
    The range of one sum.

    Attributes
    ----------
    shortest, longest : float or None
        Limits [micron], inclusive; None for no limit.
    source : str
        What set them, for messages.

    Examples
    --------
    >>> from tso3.steps.white_light_range import Band
    >>> str(Band(3.0, 3.5)), str(Band(3.0)), str(Band(None, 3.5)), str(Band())
    ('between 3 and 3.5 micron', 'above 3 micron', 'below 3.5 micron', 'at any wavelength')
    """

    shortest: float | None = None
    longest: float | None = None
    source: str = "white_light"

    def __str__(self) -> str:
        if self.shortest is not None and self.longest is not None:
            if self.shortest > self.longest:
                return f"above {self.shortest:g} and also below {self.longest:g} micron"
            return f"between {self.shortest:g} and {self.longest:g} micron"
        if self.shortest is not None:
            return f"above {self.shortest:g} micron"
        return "at any wavelength" if self.longest is None else f"below {self.longest:g} micron"


def band_limits(
    parameters: WhiteLight,
    ranges: Sequence[WavelengthRange] | None,
    order: int,
    filter_name: str | None,
    grating: str | None = None,
    path: str | Path | None = None,
) -> tuple[float | None, float | None]:
    """
    Return the limits of the sum for one spectral order: the user's, else the reference's for this very order.

    Parameters
    ----------
    parameters : WhiteLight
        The step's parameters.
    ranges : sequence of WavelengthRange or None
        Rows of a wavelengthrange reference, if there is one.
    order : int
        Spectral order.
    filter_name, grating : str or None
        FILTER and GRATING of the exposure.
    path : path-like, optional
        The reference, for messages.

    Returns
    -------
    shortest, longest : float or None
        Limits [micron]; None for no limit.

    Raises
    ------
    ReferenceFileError
        If the reference has not exactly one row for this order and filter.
    """
    shortest, longest = parameters.min_wavelength, parameters.max_wavelength
    if ranges is None or (shortest is not None and longest is not None):
        return shortest, longest
    rows = [row for row in ranges if row.fits(order, filter_name, grating)]
    if len(rows) != 1:
        raise ReferenceFileError(
            f"has {len(rows) or 'no'} rows for {_asked(order, filter_name, grating)}, needed is one;"
            " set white_light.min_wavelength and max_wavelength, or --override-wavelengthrange N/A",
            path or "wavelengthrange reference",
        )
    return (
        rows[0].shortest if shortest is None else shortest,
        rows[0].longest if longest is None else longest,
    )


def band(
    parameters: WhiteLight,
    ranges: Sequence[WavelengthRange] | None,
    order: int,
    exposure: Exposure,
    path: Path | None = None,
) -> Band:
    """
    Return the range of the white light of one spectral order of an exposure.

    Parameters
    ----------
    parameters : WhiteLight
        The step's parameters.
    ranges : sequence of WavelengthRange or None
        Rows of a wavelengthrange reference, or built-in ones.
    order : int
        Spectral order.
    exposure : Exposure
        Whose spectrum it is.
    path : Path, optional
        The reference; None if the ranges are built in.

    Returns
    -------
    band : Band
        Its limits. An order of SOSS that the reference does not have gets its built-in range, or all of its
        wavelengths if ``built_in_range`` is off, with a warning.

    Raises
    ------
    ReferenceFileError
        If the reference has not exactly one row for this order and filter.
    """
    given = [name for name in ("min_wavelength", "max_wavelength") if getattr(parameters, name) is not None]
    named = exposure.filter, exposure.grating
    found = ranges is None or len(given) == 2 or any(row.fits(order, *named) for row in ranges)
    if not found and path is not None and exposure.mode.exp_type == "NIS_SOSS":
        ranges = built_in_ranges(exposure.subarray) if parameters.built_in_range else None
        warnings.warn(
            f"{path}: has no row for {_asked(order, *named)}; this order is summed over "
            f"{'all of its wavelengths' if ranges is None else 'its built-in range'}, else set"
            " white_light.min_wavelength and max_wavelength",
            Tso3Warning,
            stacklevel=4,
        )
        path = None
    limits = band_limits(parameters, ranges, order, *named, path)
    sources = [f"white_light.{name}" for name in given]
    if ranges is not None and len(given) < 2:
        sources.append("white_light.built_in_range" if path is None else str(path))
    return Band(*limits, " and ".join(sources) or "white_light")


def _asked(order: int, filter_name: str | None, grating: str | None) -> str:
    return f"order {order}, filter {filter_name}" + (f" and grating {grating}" if grating else "")
