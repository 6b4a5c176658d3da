"""What the detector saw: the median image with the aperture, and the mean spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tso3.report.style import colour_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["BoxAperture", "CircularAperture", "MaskAperture", "plot_median_image", "plot_spectrum"]


@dataclass(frozen=True)
class BoxAperture:
    """
    The extraction aperture of a spectrum.

    Attributes
    ----------
    dispersion : ndarray, shape (n_wave,)
        Pixel along dispersion, 0-based.
    lower, upper : ndarray, shape (n_wave,)
        Edges across dispersion [pixel], 0-based, integer = pixel centre.
    label : str
        As shown in the legend.
    vertical : bool
        True where dispersion runs along y.
    """

    dispersion: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    label: str = "aperture"
    vertical: bool = False


@dataclass(frozen=True)
class CircularAperture:
    """
    A circle of photometry.

    Attributes
    ----------
    x, y : float
        Centre [pixel], 0-based.
    radius : float
        Radius [pixel].
    label : str
        As shown in the legend.
    """

    x: float
    y: float
    radius: float
    label: str = "aperture"


@dataclass(frozen=True)
class MaskAperture:
    """
    An aperture of any shape, as the weights of the pixels.

    Attributes
    ----------
    weights : ndarray, shape (ny, nx)
        Between 0 and 1; the outline is drawn where they pass one half.
    label : str
        As shown in the legend.
    """

    weights: NDArray[np.floating]
    label: str = "aperture"


def plot_median_image(
    ax: Axes,
    image: ArrayLike,
    apertures: Sequence[BoxAperture | CircularAperture | MaskAperture] = (),
    *,
    unit: str = "",
) -> list[Artist]:
    """
    Draw an image of the detector with the apertures over it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    image : array_like, shape (ny, nx)
        For example the median of the integrations. NaN is grey.
    apertures : sequence of BoxAperture, CircularAperture or MaskAperture, optional
        Drawn as lines. With circles the axes show what lies around them, with square pixels and faint light stretched.
    unit : str, optional
        Unit of the image, for the colour bar.

    Returns
    -------
    artists : list of matplotlib artists
        The image, then the lines.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Circle

    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99.7]) if finite.size else (0.0, 1.0)
    colours = colormaps["magma"].with_extremes(bad="0.6")
    shown = ax.imshow(values, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    artists: list[Artist] = [shown]
    labels: dict[str, str] = {}
    drawn: set[str] = set()
    for aperture in apertures:
        colour = labels.setdefault(aperture.label, ("white", "#56B4E9", "#E69F00")[len(labels) % 3])
        if isinstance(aperture, CircularAperture):
            circle = Circle((aperture.x, aperture.y), aperture.radius, fill=False, ec=colour, lw=0.9)
            ax.add_patch(circle).set_label(aperture.label if aperture.label not in drawn else "_nolegend_")
            drawn.add(aperture.label)
            artists.append(circle)
            continue
        if isinstance(aperture, MaskAperture):
            artists.append(_outline(ax, aperture, colour))
            continue
        for edge, label in ((aperture.lower, aperture.label), (aperture.upper, None)):
            x, y = (edge, aperture.dispersion) if aperture.vertical else (aperture.dispersion, edge)
            artists += ax.plot(x, y, color=colour, lw=0.9, label=label)
    circles = [aperture for aperture in apertures if isinstance(aperture, CircularAperture)]
    if circles:
        _zoom(ax, shown, values, circles)
    ax.set(xlabel="x [pixel]", ylabel="y [pixel]")
    if apertures:
        ax.legend(loc="upper right", labelcolor="white")
    if ax.figure is not None:
        ax.figure.colorbar(shown, ax=ax, label=unit, pad=0.01)
    return artists


def _zoom(ax: Axes, shown: AxesImage, values: NDArray[np.float64], circles: Sequence[CircularAperture]) -> None:
    """Show what lies around circles: square pixels, and colours that go with the inverse hyperbolic sine."""
    from matplotlib.colors import AsinhNorm

    x, y = circles[0].x, circles[0].y
    if not (np.isfinite(x) and np.isfinite(y)):
        return
    reach = max(1.15 * max(circle.radius for circle in circles), 8.0)
    limits = [
        (max(at - reach, -0.5), min(at + reach, n - 0.5)) for at, n in ((x, values.shape[1]), (y, values.shape[0]))
    ]
    if any(low >= high for low, high in limits):
        return
    ax.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    (left, right), (bottom, top) = ((int(np.ceil(low)), int(high) + 1) for low, high in limits)
    near = values[bottom:top, left:right]
    near = near[np.isfinite(near)]
    if near.size:
        low, middle, high = np.percentile(near, [1, 50, 99.9])
        noise = 1.4826 * float(np.median(np.abs(near - middle)))
        shown.set_norm(AsinhNorm(linear_width=max(3 * noise, (high - low) * 1e-3, 1e-30), vmin=low, vmax=high))


def _outline(ax: Axes, aperture: MaskAperture, colour: str) -> Artist:
    """Draw the edges of the pixels whose weight is above one half."""
    from matplotlib.collections import LineCollection

    inside = np.pad(aperture.weights > 0.5, 1)
    y, x = np.nonzero(inside[:-1] != inside[1:])
    flat = np.stack([np.column_stack([x - 1.5, y - 0.5]), np.column_stack([x - 0.5, y - 0.5])], axis=1)
    y, x = np.nonzero(inside[:, :-1] != inside[:, 1:])
    steep = np.stack([np.column_stack([x - 0.5, y - 1.5]), np.column_stack([x - 0.5, y - 0.5])], axis=1)
    lines = LineCollection(np.concatenate([flat, steep]), colors=colour, linewidths=0.9, label=aperture.label)
    ax.add_collection(lines)
    return lines


def plot_spectrum(
    ax: Axes,
    wavelength: ArrayLike,
    flux: ArrayLike,
    error: ArrayLike | None = None,
    *,
    label: str = "",
    unit: str = "Jy",
    index: int = 0,
) -> list[Artist]:
    """
    Draw one spectrum with the band of its error.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    wavelength : array_like, shape (n_wave,)
        Wavelength [micron].
    flux : array_like, shape (n_wave,)
        Flux; gaps where NaN.
    error : array_like, shape (n_wave,), optional
        1-sigma error of the flux.
    label : str, optional
        As shown in the legend, such as the detector.
    unit : str, optional
        Unit of the flux.
    index : int, optional
        Which colour: 0 for the first spectrum of the axes.

    Returns
    -------
    artists : list of matplotlib artists
        The line, then the band if there is an error.
    """
    x, y = np.asarray(wavelength, dtype=np.float64), np.asarray(flux, dtype=np.float64)
    artists: list[Artist] = list(ax.plot(x, y, lw=0.7, color=colour_of(index), label=label or None))
    if error is not None:
        sigma = np.asarray(error, dtype=np.float64)
        artists.append(ax.fill_between(x, y - sigma, y + sigma, color=colour_of(index), alpha=0.25, lw=0))
    ax.set(xlabel="wavelength [µm]", ylabel=f"flux [{unit}]" if unit else "flux")
    return artists
