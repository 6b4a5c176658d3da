"""
Where the light of a spectrum lies: aperture limits, pixel weights, and the trace that a slit's transforms give.

Dispersion is the last axis; rows are counted across it. Limits are those of the archive's extract1d reference:
0-based and inclusive in the sense that 11 to 15 is five whole pixels, so limits (lower, upper) bound the interval
[lower - 0.5, upper + 0.5] in coordinates where an integer is the centre of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Limits",
    "SlitPosition",
    "aperture_centre",
    "aperture_weights",
    "polynomial_limits",
    "slit_position",
    "slit_trace",
    "width_limits",
]

Transform = Callable[..., tuple[NDArray[np.float64], ...]]
"""A coordinate transform: arrays in, a tuple of arrays out."""

BoundingBox = tuple[tuple[float, float], tuple[float, float]]
"""((lowest, highest) along dispersion, (lowest, highest) across), pixel."""


@dataclass(frozen=True)
class Limits:
    """
    One region across dispersion.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (), (n_wave,) or (n_rows, n_wave)
        Inclusive limits [pixel]; where one is NaN there is no region.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def shifted(self, offset: float) -> Limits:
        """Return the region moved by ``offset`` pixels."""
        return Limits(self.lower + offset, self.upper + offset)


def width_limits(centre: float | NDArray[np.float64], width: float) -> Limits:
    """
    Return the limits of a region of a given full width.

    Parameters
    ----------
    centre : float or ndarray, shape (n_wave,)
        Middle of the region [pixel].
    width : float
        Full width [pixel].

    Returns
    -------
    limits : Limits

    Examples
    --------
    >>> from tso3.core.trace import width_limits
    >>> limits = width_limits(13.0, 5.0)
    >>> float(limits.lower), float(limits.upper)
    (11.0, 15.0)
    """
    lower = np.asarray(centre, dtype=np.float64) - (width - 1.0) / 2.0
    return Limits(lower, lower + width - 1)


def polynomial_limits(
    coefficients: Sequence[Sequence[float]], variable: NDArray[np.floating], offset: float = 0.0
) -> tuple[Limits, ...]:
    """
    Return the regions that pairs of polynomials bound.

    The polynomials give *edges* in coordinates where an integer is the centre of a pixel: edges 2.5 and 6.5 enclose
    the pixels 3 to 6. (The start and stop values of the same reference file are limits; the archive converts likewise.)

    Parameters
    ----------
    coefficients : sequence of sequences of float
        Lower and upper edge in turn, constant term first.
    variable : ndarray, shape (n_wave,) or (n_rows, n_wave)
        Pixel along dispersion, or wavelength [micron]; NaN makes the limits NaN.
    offset : float, optional
        Shift of every edge [pixel].

    Returns
    -------
    limits : tuple of Limits
        One per pair.

    Raises
    ------
    ValueError
        If the number of polynomials is odd, or one has no coefficients.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.trace import polynomial_limits
    >>> (limits,) = polynomial_limits([[2.5], [6.5, 1.0]], np.arange(3.0))
    >>> limits.lower, limits.upper
    (array([3., 3., 3.]), array([6., 7., 8.]))
    """
    if len(coefficients) % 2 or any(len(c) == 0 for c in coefficients):
        raise ValueError("edges come in pairs of polynomials, lower and upper, each with at least one coefficient")
    x = np.asarray(variable, dtype=np.float64)
    edges = [
        np.asarray(np.polynomial.polynomial.polyval(x, np.asarray(c, dtype=np.float64)) + offset, dtype=np.float64)
        for c in coefficients
    ]
    return tuple(Limits(low + 0.5, up - 0.5) for low, up in zip(edges[::2], edges[1::2], strict=True))


def aperture_weights(
    regions: Sequence[Limits], shape: tuple[int, int], first: float, last: float, partial: bool = True
) -> NDArray[np.float64]:
    """
    Return the fraction of every pixel that lies inside an aperture.

    Parameters
    ----------
    regions : sequence of Limits
        Parts of the aperture; where two overlap, the larger fraction counts.
    shape : tuple of int
        (n_rows, n_wave).
    first, last : float
        Inclusive limits along dispersion [pixel]; only whole pixels inside them belong to the aperture.
    partial : bool, optional
        False gives weight 1 to pixels whose centre lies inside the limits and 0 to all others.

    Returns
    -------
    weights : ndarray of float64, shape (n_rows, n_wave)
        Between 0 and 1. Each column of a region sums to its width, edges of the image apart.

    Notes
    -----
    Exact overlap. ``jwst`` gives a pixel that holds both edges of a region (a width below one pixel) the larger of the
    two one-sided overlaps instead; for all wider regions the two agree.

    Examples
    --------
    >>> from tso3.core.trace import aperture_weights, width_limits
    >>> aperture_weights([width_limits(1.25, 2.0)], (4, 1), 0, 0).ravel()
    array([0.25, 1.  , 0.75, 0.  ])
    """
    rows = np.arange(shape[0], dtype=np.float64)[:, np.newaxis]
    weights = np.zeros(shape)
    for region in regions:
        lower, upper = np.broadcast_to(region.lower, shape), np.broadcast_to(region.upper, shape)
        if partial:
            overlap = np.minimum(np.minimum(rows - lower + 1.0, upper - rows + 1.0), np.minimum(upper - lower + 1.0, 1))
        else:
            overlap = ((rows >= lower) & (rows <= upper)).astype(np.float64)
        overlap = np.where(np.isfinite(overlap), np.clip(overlap, 0.0, 1.0), 0.0)
        np.maximum(weights, overlap, out=weights)
    weights[:, : max(int(np.ceil(first)), 0)] = 0.0
    weights[:, max(int(np.floor(last)) + 1, 0) :] = 0.0
    return weights


def aperture_centre(weights: NDArray[np.float64], column: int | None = None) -> tuple[float, float]:
    """
    Return the mean position of an aperture.

    Parameters
    ----------
    weights : ndarray, shape (n_rows, n_wave)
        Aperture weights; all zero counts as all equal.
    column : int or None, optional
        Only this column.

    Returns
    -------
    row, column : float
        Weighted mean coordinates [pixel], 0-based.

    Examples
    --------
    >>> from tso3.core.trace import aperture_centre, aperture_weights, width_limits
    >>> aperture_centre(aperture_weights([width_limits(1.25, 2.0)], (4, 3), 0, 2))
    (1.25, 1.0)
    """
    rows, columns = np.arange(weights.shape[0]), np.arange(weights.shape[1])
    used = weights if column is None else weights[:, column : column + 1]
    if not used.any():
        used = np.ones_like(used)
    row = float(np.average(rows, weights=used.sum(axis=1)))
    if column is not None:
        return row, float(column)
    return row, float(np.average(columns, weights=used.sum(axis=0)))


@dataclass(frozen=True)
class SlitPosition:
    """
    Where a source in a slit is imaged to.

    Attributes
    ----------
    column : int
        Pixel along dispersion at the middle of the bounding box.
    wavelength : float
        Mean wavelength of that column, in the unit of the WCS (micron).
    row : float
        Position of the source across dispersion there [pixel].
    """

    column: int
    wavelength: float
    row: float


def slit_position(
    world: Transform, to_detector: Transform, box: BoundingBox, source: tuple[float, float], wavelength_scale: float
) -> SlitPosition | None:
    """
    Return where a source is imaged to in the middle of the bounding box.

    Parameters
    ----------
    world : callable
        Detector (x, y) to (ra, dec, wavelength).
    to_detector : callable
        Slit (x, y, wavelength) to detector (x, y).
    box : tuple of pairs of float
        Bounding box, dispersion first [pixel].
    source : tuple of float
        Position of the source in the slit frame.
    wavelength_scale : float
        Factor from the wavelength unit of ``world`` to that of ``to_detector``.

    Returns
    -------
    position : SlitPosition or None
        None if the transforms give NaN, or a position outside the bounding box.
    """
    middle = (box[0][0] + box[0][1]) / 2.0
    rows = np.arange(round(box[1][1]), dtype=np.float64)
    wavelengths = np.asarray(world(np.full(rows.size, middle), rows)[2], dtype=np.float64)
    if not np.isfinite(wavelengths).any():
        return None
    wavelength = float(np.nanmean(wavelengths))
    row = float(np.asarray(to_detector(source[0], source[1], wavelength * wavelength_scale)[1]).item())
    if not box[1][0] <= row <= box[1][1]:
        return None
    return SlitPosition(int(np.round(middle)), wavelength, row)


def slit_trace(
    to_slit: Transform,
    to_detector: Transform,
    box: BoundingBox,
    source: tuple[float, float],
    n_wave: int,
    from_box: bool = False,
) -> NDArray[np.float64]:
    """
    Return the trace of a source in a slit.

    The source is imaged to the detector at as many wavelengths as the bounding box has columns, and the positions are
    interpolated to the columns, linearly also beyond the outermost.

    Parameters
    ----------
    to_slit : callable
        Detector (x, y) to slit (x, y, wavelength).
    to_detector : callable
        Slit (x, y, wavelength) to detector (x, y).
    box : tuple of pairs of float
        Bounding box, dispersion first [pixel].
    source : tuple of float
        Position of the source in the slit frame.
    n_wave : int
        Number of columns of the image.
    from_box : bool, optional
        Count columns from the edge of the bounding box when the trace is interpolated, as ``jwst`` does: the same where
        the box begins with the image, else each column is given the position of one further left.

    Returns
    -------
    trace : ndarray, shape (n_wave,)
        Position across dispersion [pixel]; NaN in columns outside the bounding box, or everywhere where the transforms
        give nothing.
    """
    first, count = int(np.ceil(box[0][0])), int(box[0][1] - box[0][0])
    trace = np.full(n_wave, np.nan)
    columns, rows = (np.arange(np.floor(low + 0.5), np.ceil(high - 0.5) + 1.0) for low, high in box)
    x, y = np.meshgrid(columns, rows)
    wavelengths = np.asarray(to_slit(x, y)[2], dtype=np.float64)
    if not np.isfinite(wavelengths).any():
        return trace
    wave = np.linspace(np.nanmin(wavelengths), np.nanmax(wavelengths), count)
    trace_x, trace_y = to_detector(np.full(count, source[0]), np.full(count, source[1]), wave)[:2]
    target = np.arange(max(first, 0), min(first + count, n_wave))
    columns = target.astype(np.float64) - (first if from_box else 0)
    trace[target] = _interpolate_linear(columns, np.asarray(trace_x), np.asarray(trace_y))
    return trace


def _interpolate_linear(
    x: NDArray[np.float64], known_x: NDArray[np.float64], known_y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate linearly between, and extrapolate beyond, the finite ones of the given points in any order."""
    good = np.isfinite(known_x) & np.isfinite(known_y)
    known_x, index = np.unique(known_x[good], return_index=True)
    known_y = known_y[good][index]
    if known_x.size < 2:
        return np.full(x.size, np.nan)
    right = np.clip(np.searchsorted(known_x, x), 1, known_x.size - 1)
    left = right - 1
    slope = (known_y[right] - known_y[left]) / (known_x[right] - known_x[left])
    return known_y[left] + slope * (x - known_x[left])
