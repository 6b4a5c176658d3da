"""The figure of a scan of apertures: scatter against size, with what photon and read noise alone would give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tso3.report.style import colour_of, figure, write_png

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from tso3.scan_result import ScannedLight, ScanResult

__all__ = ["plot_scan", "write_scan"]

_WIDE = 4.0
"""Largest over smallest value from which the axis of scatter is logarithmic."""


def plot_scan(ax: Axes, light: ScannedLight) -> list[Artist]:
    """
    Draw the scatter of one spectrum or star against the size of the aperture, a line for each background.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; gets labels and a legend.
    light : ScannedLight
        What `tso3.scan` gave.

    Returns
    -------
    artists : list of matplotlib artists
        Scatter and photon limit of each background, then the marks.
    """
    artists: list[Artist] = []
    sizes = np.array([point.size for point in light.points])
    names = [point.background for point in light.points]
    several = len(set(names)) > 1
    for i, name in enumerate(dict.fromkeys(names)):
        here = np.array([other == name for other in names])
        colour = colour_of(i)
        scatter, error, limit = (
            1e6 * v[here] for v in (light.ranking.scatter, light.ranking.excess_error, light.limit)
        )
        label = f"background {name}" if several else light.judged
        bars = ax.errorbar(sizes[here], scatter, error, fmt="o-", ms=3.5, lw=1.0, color=colour, label=label)
        (line,) = ax.plot(sizes[here], limit, "--", lw=0.9, color=colour, label=None if i else "photon and read noise")
        artists += [bars, line]  # type: ignore[list-item]
    for k, text, marker in ((light.ranking.best, "best", "s"), (light.ranking.chosen, "chosen", "D")):
        if k >= 0:
            (mark,) = ax.plot(
                sizes[k], 1e6 * light.ranking.scatter[k], marker, ms=9 if marker == "s" else 12, mfc="none",
                color="#333333", lw=0, label=f"{text}: {sizes[k]:g}" + (f", {names[k]}" if several else ""),
            )  # fmt: skip
            artists.append(mark)
    if np.isfinite(light.usual):
        artists.append(
            ax.axvline(light.usual, lw=0.8, ls=":", color="#333333", label=f"without a scan: {light.usual:g}")
        )
    values = np.concatenate([light.ranking.scatter, light.limit])
    values = values[np.isfinite(values)]
    if values.size and values.max() > _WIDE * values.min() > 0.0:
        ax.set_yscale("log")
    ax.set_xlabel("radius [pixel]" if light.kind == "radius" else "width [pixel]")
    ax.set_ylabel("scatter [ppm]")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    return artists


def write_scan(result: ScanResult) -> Path:
    """
    Draw a scan, a panel for each spectrum or star, and write it beside its table.

    Parameters
    ----------
    result : ScanResult
        With a product.

    Returns
    -------
    path : Path
        ``*_scan.png``.

    Raises
    ------
    ValueError
        If the scan wrote no table.
    """
    if result.product is None:
        raise ValueError("the scan wrote no table; give it an output folder")
    n = len(result.lights)
    columns = 1 if n == 1 else 2
    rows = -(-n // columns)
    with figure(4.5 if n == 1 else 7.0, 0.3 + 3.5 * rows) as page:
        axes = page.subplots(rows, columns, squeeze=False).ravel()
        for ax, light in zip(axes, result.lights, strict=False):
            plot_scan(ax, light)
            ax.set_title(light.name, fontsize="medium")
        for ax in axes[n:]:
            ax.set_axis_off()
        return write_png(page, result.product.with_suffix(".png"))
