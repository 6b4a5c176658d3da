"""Noise measures of the light curves in a table of white light or photometry, by the name of their column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.light_noise import NoiseMeasures, noise_measures

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["measure", "note"]

_CURVE = re.compile(
    r"(?P<kind>whitelight_flux|whitelight_normalized|net_aperture_sum|aperture_sum)"
    r"(?P<end>(?:_order_\d+)?(?:_(?:stripe|channel)_\w+?)?(?:_[A-Z]+\d*)?)"
)
_LIMITS = {"whitelight_normalized": "whitelight_normalized_limit"}
"""Where the photon limit of a light curve is not called ``photon_limit``."""


def measure(table: Table) -> dict[str, NoiseMeasures]:
    """
    Return how much each light curve of a table scatters.

    Parameters
    ----------
    table : Table
        White light or photometry; not modified. Rows of several exposures of one detector are one light curve.

    Returns
    -------
    measures : dict of str to NoiseMeasures
        By column. Of photometry the sum without the background where that is known, else with it. Light curves without
        a finite value are left out.
    """
    found: dict[str, NoiseMeasures] = {}
    for name in table.colnames:
        match = _CURVE.fullmatch(name)
        if match is None or not np.isfinite(flux := _values(table, name)).any():
            continue
        limit = _LIMITS.get(match["kind"], "photon_limit") + match["end"]
        variance = _values(table, limit) ** 2 if limit in table.colnames else None
        found[name] = noise_measures(flux, variance)
    if "net_aperture_sum" in found:
        found.pop("aperture_sum", None)
    return found


def note(table: Table) -> None:
    """
    Write how much each light curve of a table scatters into its metadata, under ``noise``.

    Parameters
    ----------
    table : Table
        Modified, if it has light curves.
    """
    if found := measure(table):
        table.meta["noise"] = {name: measures.as_dict() for name, measures in found.items()}


def _values(table: Table, name: str) -> NDArray[np.float64]:
    column = table[name]
    return np.array(np.ma.filled(np.ma.asarray(getattr(column, "value", column), dtype=np.float64), np.nan))
