"""The wavelengthrange reference (ASDF): limits of the white light, by order, filter and grating."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tso3.errors import ReferenceFileError
from tso3.io.opened import opened_asdf

__all__ = ["WavelengthRange", "read_asdf", "read_wavelengthrange"]


@dataclass(frozen=True)
class WavelengthRange:
    """
    One row of a wavelengthrange reference.

    Attributes
    ----------
    order : int or None
        Spectral order; None for any.
    filter : str
        Filter.
    shortest, longest : float
        Limits [micron], inclusive.
    grating : str or None
        Grating; None for any.
    """

    order: int | None
    filter: str
    shortest: float
    longest: float
    grating: str | None = None

    def fits(self, order: int, filter_name: str | None, grating: str | None = None) -> bool:
        """Return whether the row is for this order, filter and grating."""
        return (
            self.order in (None, order)
            and self.filter == filter_name
            and (self.grating is None or self.grating == grating)
        )


def read_wavelengthrange(path: str | Path) -> tuple[WavelengthRange, ...]:
    """
    Return the rows of a wavelengthrange reference.

    Parameters
    ----------
    path : path-like
        ASDF with rows of (order, filter, shortest, longest), in micron; or as of NIRSpec, with pairs of limits in
        metres and, in ``waverange_selector``, the filter and grating of each (``F290LP_G395H``).

    Returns
    -------
    ranges : tuple of WavelengthRange
        In the order of the file.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, or has neither layout.
    """
    tree = read_asdf(path, "wavelengthrange reference")
    rows: Any = tree.get("wavelengthrange")
    selectors: Any = tree.get("waverange_selector")
    try:
        if all(len(row) == 4 for row in rows):
            return tuple(WavelengthRange(int(a), str(b), float(c), float(d)) for a, b, c, d in rows)
        names = [str(name) for name in selectors]
        if names and not any("_" in name for name in names):
            raise ReferenceFileError(
                f"holds ranges of {names[0]}, {names[-1]} and others, bands of the MIRI spectrometer, which the white"
                " light does not use; give rows of (order, filter, shortest, longest wavelength)",
                path,
            )
        return tuple(_by_selector(name, row) for name, row in zip(names, rows, strict=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise ReferenceFileError("holds no rows of (order, filter, shortest, longest wavelength)", path) from error


def _by_selector(name: str, row: Any) -> WavelengthRange:
    """Return the range of a filter and grating, which NIRSpec's file has in metres."""
    filter_name, _, grating = name.partition("_")
    shortest, longest = row
    return WavelengthRange(None, filter_name, float(shortest) * 1e6, float(longest) * 1e6, grating)


def read_asdf(path: str | Path, kind: str) -> dict[str, Any]:
    """Return the tree of an ASDF file, with its arrays in memory; raise ReferenceFileError if it is none."""
    with opened_asdf(path, kind) as tree:
        return tree
