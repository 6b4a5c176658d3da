"""How the scatter of light curves falls when integrations are averaged, beside that of white noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.core.light_noise import NoiseMeasures
from tso3.report.style import colour_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["plot_time_averaging"]

_WIDE = 20
"""Characters of a legend's entry of which two do not fit beside each other."""


def plot_time_averaging(ax: Axes, measures: Mapping[str, NoiseMeasures]) -> list[Artist]:
    """
    Draw the scatter of means over their size for each light curve, with what white noise gives and the photon limit.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; gets labels and a legend.
    measures : mapping of str to NoiseMeasures
        By the name of the light curve; those without a curve are left out.

    Returns
    -------
    artists : list of matplotlib artists
        Points, expectation and, where it is known, photon limit of each light curve.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    artists: list[Artist] = []
    for index, (name, noise) in enumerate(measures.items()):
        curve = noise.averaging
        if not curve.size.size:
            continue
        error = curve.scatter / np.sqrt(2.0 * np.maximum(curve.n_means - 2, 1))
        style: dict[str, Any] = {"color": colour_of(index)}
        points: Any = ax.errorbar(
            curve.size, 1e6 * curve.scatter, 1e6 * error, fmt="o", ms=3.5, lw=0.9, label=name, **style
        )
        (white,) = ax.plot(curve.size, 1e6 * curve.expected, "-", lw=1.0, **style)
        artists += [points, white]
        if np.isfinite(noise.photon_limit):
            limit = 1e6 * noise.photon_limit / np.sqrt(curve.size)
            artists += ax.plot(curve.size, limit, ":", lw=1.0, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(LogLocator(base=2.0))
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("integrations in a mean")
    ax.set_ylabel("scatter outside the transit [ppm]")
    if artists:
        ax.plot([], [], "-", lw=1.0, color="0.4", label="white noise")
        ax.plot([], [], ":", lw=1.0, color="0.4", label="photon limit")
        columns = 2 if max(len(name) for name in measures) < _WIDE else 1
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize="small", borderpad=0.2)
    return artists
