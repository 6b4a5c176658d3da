"""Figures of a whole run, as files beside its products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso3.report.detector import CircularAperture, MaskAperture, plot_median_image, plot_spectrum
from tso3.report.light_curve import LightCurve, light_curves, plot_white_light
from tso3.report.noise import plot_time_averaging
from tso3.report.style import figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tso3.result import DetectorView, RunResult

__all__ = ["write_detectors", "write_light_curve", "write_noise"]

_MOST_SPECTRA = 64
"""Integrations from which the median spectrum of a figure is taken, spread evenly."""


def write_light_curve(result: RunResult, *, mid_transit: float | None = None) -> Path | None:
    """
    Draw the light curve of a run, and the median spectrum if there are spectra, and write it beside its table.

    Parameters
    ----------
    result : RunResult
        What `tso3.run` gave.
    mid_transit : float, optional
        Time of mid-transit, BJD_TDB - 2400000.5 [day]; the axis then counts hours from it.

    Returns
    -------
    path : Path or None
        ``*_whtlt.png`` or ``*_phot.png``; None if the run made no light curve.
    """
    tables = [*result.products.get("whtlt", ()), *result.products.get("phot", ())]
    if result.white_light is None or not tables:
        return None
    curves = _curves(result)
    if not curves:
        return None
    spectra = _by_detector(result.spectra) if result.products.get("x1dints") else {}
    heights = [1.6 + 1.2 * len(curves), *([1.8] if spectra else [])]
    with figure(7.0, sum(heights) + 0.4) as page:
        axes = page.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        plot_white_light(axes[0], curves, mid_transit=mid_transit)
        if spectra:
            _plot_median_spectra(axes[1], spectra)
        return write_png(page, _named(result, tables[0]))


def _height(view: DetectorView) -> float:
    """Return the height of a panel [inch]: images are drawn with square pixels, spectra fill the width."""
    ny, nx = view.image.shape
    return 5.0 if view.circles else min(max(7.0 * ny / nx, 1.6), 6.5)


def _named(result: RunResult, table: Path, suffix: str | None = None) -> Path:
    """Return the path of a figure: the table's, without the detector if there are several, or with another suffix."""
    stem = table.stem
    if len(result.photometry) > 1:
        stem = stem.replace(f"-{next(iter(result.photometry)).lower()}_phot", "_phot")
    return table.with_name(f"{stem}.png" if suffix is None else f"{stem.rsplit('_', 1)[0]}_{suffix}.png")


def _curves(result: RunResult) -> list[LightCurve]:
    """Return the light curves of a run; those of photometry from the table of each detector."""
    if len(result.photometry) < 2:
        return light_curves(result.white_light, result.exposures) if result.white_light is not None else []
    curves: list[LightCurve] = []
    for detector, table in result.photometry.items():
        curves += light_curves(table, [exposure for exposure in result.exposures if exposure.detector == detector])
    return curves


def write_detectors(result: RunResult) -> Path | None:
    """
    Draw the median image of every exposure with the apertures over it, and write it beside the products.

    Parameters
    ----------
    result : RunResult
        What `tso3.run` gave.

    Returns
    -------
    path : Path or None
        ``*_detector.png``; None if nothing was surveyed (the archive preset) or the run made no light curve.
    """
    tables = [*result.products.get("whtlt", ()), *result.products.get("phot", ())]
    if not result.views or not tables:
        return None
    heights = [_height(view) for view in result.views]
    with figure(7.0, sum(heights) + 0.7 * len(heights)) as page:
        axes = page.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for ax, view in zip(axes, result.views, strict=True):
            circles = [CircularAperture(c.x, c.y, c.radius, c.label) for c in view.circles]
            masks = [MaskAperture(weights, label) for label, weights in view.apertures.items()]
            plot_median_image(ax, view.image, [*circles, *masks], unit=view.unit)
            ax.set_title(view.name, fontsize="medium")
        return write_png(page, _named(result, tables[0], "detector"))


def write_noise(result: RunResult) -> Path | None:
    """
    Draw how the scatter of the light curves of a run falls with averaging, and write it beside the products.

    Parameters
    ----------
    result : RunResult
        What `tso3.run` gave.

    Returns
    -------
    path : Path or None
        ``*_noise.png``; None if the run made no light curve, or one too short to average.
    """
    tables = [*result.products.get("whtlt", ()), *result.products.get("phot", ())]
    known = {name: noise for name, noise in result.noise.items() if noise.averaging.size.size > 1}
    if not known or not tables:
        return None
    with figure(4.6, 3.3 + 0.17 * (len(known) + 2)) as page:
        plot_time_averaging(page.subplots(), known)
        return write_png(page, _named(result, tables[0], "noise"))


def _by_detector(spectra: Any) -> dict[str, Any]:
    """Return the datasets of an xarray Dataset or DataTree, by name."""
    if hasattr(spectra, "children"):
        return {name: node.to_dataset() for name, node in spectra.children.items()}
    return {str(spectra.attrs.get("detector", "")): spectra}


def _plot_median_spectra(ax: Axes, spectra: dict[str, Any]) -> None:
    """Draw the median spectra on one axis; where their units differ, each relative to its own maximum."""
    units = {str(dataset["flux"].attrs.get("units", "")) for dataset in spectra.values()}
    for i, (name, dataset) in enumerate(spectra.items()):
        step = max(1, dataset.sizes["time"] // _MOST_SPECTRA)
        flux = dataset["flux"][::step].median("time", skipna=True)
        if len(units) > 1:
            flux = flux / flux.max(skipna=True)
        plot_spectrum(ax, dataset["wavelength"], flux, label=name, unit=next(iter(units)), index=i)
    if len(units) > 1:
        ax.set_ylabel("flux / maximum of each")
    if len(spectra) > 1:
        ax.legend(loc="best")
    ax.set_ylim(bottom=0)
