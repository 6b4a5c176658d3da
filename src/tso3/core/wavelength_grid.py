"""Wavelength grids of rectified spectra: the edges of their columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["GridEdges", "grid_edges", "mean_step", "place_on_grid", "width_ratio"]

Floats = NDArray[np.float64]

_DIGITS = 5
"""Significant digits of a step that is not given, so that exposures of one setting share it."""
_MOST = 100_000


@dataclass(frozen=True)
class GridEdges:
    """
    Edges of the columns of a grid.

    Attributes
    ----------
    edges : ndarray of float64, shape (n + 1,)
        Micron, rising.
    kind : str
        ``"linear"``, ``"log"`` or ``"edges"``.
    """

    edges: Floats
    kind: Literal["linear", "log", "edges"]


def mean_step(wavelength: NDArray[np.floating]) -> float:
    """
    Return the mean dispersion of a spectrum, rounded to five digits.

    Parameters
    ----------
    wavelength : ndarray, shape (n_wave,)
        Of its pixels along the trace, in either direction [micron]; NaN is left out at the ends.

    Returns
    -------
    step : float
        Micron per pixel.

    Raises
    ------
    ValueError
        If fewer than two wavelengths are known.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.wavelength_grid import mean_step
    >>> mean_step(np.array([np.nan, 5.0, 4.8, 4.5]))
    0.25
    """
    known = np.flatnonzero(np.isfinite(wavelength))
    if known.size < 2:
        raise ValueError("fewer than two pixels of the trace have a wavelength")
    step = abs(float(wavelength[known[-1]] - wavelength[known[0]])) / float(known[-1] - known[0])
    return float(f"{step:.{_DIGITS - 1}e}")


def width_ratio(wavelength: NDArray[np.floating]) -> float:
    """
    Return how much wider the widest pixel of a spectrum is than the narrowest, in wavelength.

    Parameters
    ----------
    wavelength : ndarray, shape (n_wave,)
        Of its pixels along the trace, in either direction [micron]; NaN is left out.

    Returns
    -------
    ratio : float
        At least 1; infinite where two neighbours have the same wavelength.

    Raises
    ------
    ValueError
        If fewer than two wavelengths are known.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.wavelength_grid import width_ratio
    >>> width_ratio(np.array([np.nan, 5.0, 4.75, 4.25]))
    2.0
    """
    widths = np.diff(np.sort(wavelength[np.isfinite(wavelength)]))
    if widths.size == 0:
        raise ValueError("fewer than two pixels of the trace have a wavelength")
    return float(widths.max() / widths.min()) if widths.min() > 0.0 else math.inf


def grid_edges(span: tuple[float, float], step: float | None = None, resolution: float | None = None) -> GridEdges:
    """
    Return the edges of a grid of constant steps, or of constant resolving power.

    Edges are whole multiples of the step (of constant resolving power: powers of 1 + 1/R), so that grids of different
    ranges fit onto each other.

    Parameters
    ----------
    span : (float, float)
        Wavelengths that it covers [micron].
    step : float, optional
        Width of a column [micron].
    resolution : float, optional
        Wavelength over the width of a column.

    Returns
    -------
    grid : GridEdges

    Raises
    ------
    ValueError
        If it has no column, or more than 100000.

    Examples
    --------
    >>> from tso3.core.wavelength_grid import grid_edges
    >>> grid_edges((1.02, 1.28), step=0.1).edges.round(3).tolist()
    [1.0, 1.1, 1.2, 1.3]
    """
    if step is not None:
        unit, low, high = step, span[0], span[1]
    elif resolution is not None:
        unit, low, high = math.log1p(1.0 / resolution), math.log(span[0]), math.log(span[1])
    else:
        raise ValueError("neither a step nor a resolving power")
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    if not 1 <= last - first <= _MOST:
        raise ValueError(f"{last - first} columns from {span[0]:g} to {span[1]:g} micron")
    multiples = np.arange(float(first), float(last) + 1.0) * unit
    return GridEdges(multiples, "linear") if step is not None else GridEdges(np.exp(multiples), "log")


def place_on_grid(grid: GridEdges, wavelength: NDArray[np.floating]) -> Floats:
    """
    Return the column at which a wavelength lies.

    Parameters
    ----------
    grid : GridEdges
        The grid.
    wavelength : ndarray
        Micron; NaN stays NaN.

    Returns
    -------
    column : ndarray of float64
        An integer is the middle of a column; also beyond the ends, for linear and logarithmic grids exactly.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.wavelength_grid import GridEdges, place_on_grid
    >>> place_on_grid(GridEdges(np.array([1.0, 2.0, 4.0]), "edges"), np.array([1.5, 3.0, 4.0, 5.0])).tolist()
    [0.0, 1.0, 1.5, 2.0]
    """
    edges, n = grid.edges, grid.edges.size - 1
    values = np.asarray(wavelength, np.float64)
    if grid.kind == "linear":
        return np.asarray((values - edges[0]) / (edges[-1] - edges[0]) * n - 0.5)
    if grid.kind == "log":
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.log(values / edges[0]) / np.log(edges[-1] / edges[0]) * n - 0.5)
    column = np.interp(values, edges, np.arange(n + 1.0)) - 0.5
    below, above = values < edges[0], values > edges[-1]
    column = np.where(below, (values - edges[0]) / (edges[1] - edges[0]) - 0.5, column)
    return np.where(above, n - 0.5 + (values - edges[-1]) / (edges[-1] - edges[-2]), column)
