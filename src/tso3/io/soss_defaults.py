"""
Built-in traces and wavelengths of SOSS: what is used where there is no pastasoss or spectrace reference.

Orders 1 and 2 are the published model of the instrument team (Baines et al. 2023, JWST-STScI-008571), as the package
pastasoss 1.2.4 carries it: its trace points, through which polynomials are drawn here (order 1 to 0.05 pixel, order 2
to 0.002 pixel), its pivots, and the coefficients of its wavelengths, rounded to six digits. Order 3, which the package
does not have, is drawn through jwst_niriss_spectrace_0023.fits (trace to 0.005 pixel, wavelengths to 0.0007 micron,
half a resolution element); it is not known how its wavelengths move with the pupil wheel, so here they do not. Columns
that the orders reach are those of the archive's reference.
"""

from __future__ import annotations

import numpy as np

from tso3.io.soss_references import SossReference, TraceModel
from tso3.io.wavelength_ranges import WavelengthRange

__all__ = ["built_in_ranges", "built_in_traces"]

_COMMANDED = 245.76
_REACH = 0.1671
"""Offsets of the wheel from the commanded position that the model was made from [deg]; up to 0.25 are allowed."""

_TRACES = {
    1: (46.36, -28.338, 18.318, 15.303, 8.6308, 0.23022, 4.6417, 10.155, 2.5106, -1.7543),
    2: (104.95, 46.995, 77.738, 71.712, 72.507, 32.06),
    3: (226.26, 206.3, 183.12, 59.717),
}
"""Rows by powers of (column - 1024) / 1024."""

_PIVOTS = {1: (1887.0, 54.0), 2: (1677.0, 200.0), 3: (1444.0, 361.0)}
_CUTOFFS = {1: 2048, 2: 1783, 3: 1134}

_WAVELENGTHS = {
    1: (
        2.76131, -1.94624, -0.00169991, -0.0423517, 0.00359947, -0.0175730, 0.232365, -0.00710560, 0.00252646,
        0.0564009, -0.360021, 0.0118750, -0.00328119, -0.0123625, -0.0634306, 0.209707, -0.00856124, 0.00626688,
        -0.00233585, 0.00974095, 0.0231521,
    ),
    2: (
        1.418563, -0.967633, -0.000868371, -0.0910458, -0.00533376, 0.00110663, 0.119834, 0.00848310, -0.00319067,
        0.0000823535,
    ),
    3: (0.957260, -0.709130, 0.0, 0.305702, 0.0, 0.0, -0.182445, 0.0, 0.0, 0.0),
}  # fmt: skip
"""Micron: coefficients in the order of `tso3.core.soss.wavelength_polynomial`."""

_SCALES = {
    1: ((73.6289, -0.103552), (2039.742, 0.162882)),
    2: ((0.0, -_REACH), (2048.0, _REACH)),
    3: ((0.0, -_REACH), (2048.0, _REACH)),
}


def built_in_traces() -> SossReference:
    """
    Return the built-in traces and wavelengths of orders 1 to 3.

    Returns
    -------
    reference : SossReference
        As a pastasoss file holds them; its ``path`` is None.

    Examples
    --------
    >>> from tso3.io.soss_defaults import built_in_traces
    >>> sorted(built_in_traces().orders)
    [1, 2, 3]
    """
    orders = {}
    for order, coefficients in _TRACES.items():
        columns = np.arange(2048.0)
        rows = np.asarray(np.polynomial.polynomial.polyval((columns - 1024.0) / 1024.0, coefficients), np.float64)
        low, high = _SCALES[order]
        orders[order] = TraceModel(
            order, columns, rows, _PIVOTS[order], _CUTOFFS[order], np.array(_WAVELENGTHS[order]), low, high
        )
    grid = np.linspace(0.5, 5.5, 5001)
    return SossReference(None, _COMMANDED, (_COMMANDED - 0.25, _COMMANDED + 0.25), grid, orders)


def built_in_ranges(subarray: str | None) -> tuple[WavelengthRange, ...]:
    """
    Return the ranges of the white light of SOSS where no wavelengthrange reference is given.

    Order 1: 0.85 to 2.8 micron, what the JWST user documentation gives for it. Order 2: 0.6 to 0.85 micron, where order
    1 does not reach, so that the sum is blue light of one order: redward its box holds more and more of order 1 (three
    times as much as of order 2 at 1.3 micron). Order 3: 0.65 to 0.9 micron, where its trace is whole and bright enough.
    On SUBSTRIP96, which shows order 2 in part and beside order 1, order 2 has no limits.

    Parameters
    ----------
    subarray : str or None
        SUBARRAY.

    Returns
    -------
    ranges : tuple of WavelengthRange
        For orders 1 to 3.

    Examples
    --------
    >>> from tso3.io.soss_defaults import built_in_ranges
    >>> [(row.order, row.shortest, row.longest) for row in built_in_ranges("SUBSTRIP256")]
    [(1, 0.85, 2.8), (2, 0.6, 0.85), (3, 0.65, 0.9)]
    """
    second = (0.0, 100.0) if subarray == "SUBSTRIP96" else (0.6, 0.85)
    limits = {1: (0.85, 2.8), 2: second, 3: (0.65, 0.9)}
    return tuple(WavelengthRange(order, "CLEAR", *ends) for order, ends in limits.items())
