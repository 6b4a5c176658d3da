"""The light curve of a run: one curve for each detector and order, with its scatter beside the photon limit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.noise import photon_limit, point_to_point
from tso3.report.style import colour_of

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from tso3.result import ExposureSummary

__all__ = ["LightCurve", "bin_in_time", "light_curves", "plot_white_light"]

_FLUX = re.compile(
    r"(?P<kind>whitelight_flux|net_aperture_sum|aperture_sum)(?P<order>_order_\d+|_channel_\w+?)?(?P<detector>_[A-Z]+\d*)?"
)


_WIDE = 40
"""Characters of a legend's entry of which two do not fit beside each other."""


@dataclass(frozen=True)
class LightCurve:
    """
    One light curve, ready to be drawn.

    Attributes
    ----------
    label : str
        Detector, and spectral order if there are several.
    time : ndarray of float64, shape (n_int,)
        Time of mid-integration [day], in the scale of ``time_name``.
    time_name : str
        ``"BMJD_TDB"``, which is BJD_TDB - 2400000.5; ``"MJD_UTC"`` or ``"integration"`` where barycentric times are
        unknown.
    flux, error : ndarray of float64, shape (n_int,)
        Flux relative to the two ends of the exposure, and its 1-sigma error; NaN where unknown.
    scatter_ppm, limit_ppm : float
        Scatter from point to point and photon limit [1e-6]; NaN where unknown.
    """

    label: str
    time: NDArray[np.float64]
    time_name: str
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    scatter_ppm: float = np.nan
    limit_ppm: float = np.nan


def light_curves(table: Table, exposures: Sequence[ExposureSummary] = ()) -> list[LightCurve]:
    """
    Return the light curves that a ``whtlt`` or ``phot`` table holds.

    Parameters
    ----------
    table : Table
        As `tso3.run` gives it, or read from the ECSV file; not modified.
    exposures : sequence of ExposureSummary, optional
        Where scatter and photon limit come from, by detector.

    Returns
    -------
    curves : list of LightCurve
        In the order of the columns. Of a photometry table, the sum with the background subtracted if it is known,
        else without.

    Examples
    --------
    >>> from astropy.table import Table
    >>> from tso3.report.light_curve import light_curves
    >>> (curve,) = light_curves(Table({"BJD_TDB": [1.0, 2.0], "whitelight_flux_NRS1": [10.0, 10.0]}))
    >>> curve.label, curve.flux
    ('NRS1', array([1., 1.]))
    """
    found = [(name, match) for name in table.colnames if (match := _FLUX.fullmatch(name))]
    kinds = {match["kind"]: np.isfinite(_values(table, name)).any() for name, match in found}
    if kinds.pop("aperture_sum", False) and not kinds.get("net_aperture_sum", False):
        found = [(name, match) for name, match in found if match["kind"] == "aperture_sum"]
    else:
        found = [(name, match) for name, match in found if match["kind"] != "aperture_sum"]
    by_detector = {exposure.detector: exposure for exposure in exposures if not exposure.stripe}
    return [_curve(table, name, match, by_detector) for name, match in found]


def _curve(table: Table, name: str, match: re.Match[str], by_detector: dict[str, ExposureSummary]) -> LightCurve:
    detector = (match["detector"] or "").removeprefix("_")
    order = (match["order"] or "").replace("_", " ").strip()
    summary = by_detector.get(detector)
    if summary is None and len(by_detector) == 1:
        summary = next(iter(by_detector.values()))
    flux = _values(table, name)
    level = _level(flux)
    error_name = next((n for n in _error_names(match) if n in table.colnames), None)
    error = _values(table, error_name) if error_name is not None else np.full(flux.shape, np.nan)
    time, time_name = _time(table, match["detector"] or "")
    label = detector or (summary.detector if summary is not None else "")
    scatter, limit = _noise(table, flux, match)
    if summary is not None and not order:
        scatter, limit = summary.scatter_ppm, summary.limit_ppm
    if order.startswith("channel "):  # the channel tells the detector
        label, order = order.removeprefix("channel "), ""
    return LightCurve(
        label=" ".join(part for part in (label, order) if part),
        time=time,
        time_name=time_name,
        flux=flux / level,
        error=error / abs(level),
        scatter_ppm=scatter,
        limit_ppm=limit,
    )


def _noise(table: Table, flux: NDArray[np.float64], match: re.Match[str]) -> tuple[float, float]:
    """Return scatter from point to point and photon limit [1e-6] of a column of white light; NaN without its limit."""
    name = f"photon_limit{match['order'] or ''}{match['detector'] or ''}"
    if match["kind"] != "whitelight_flux" or name not in table.colnames:
        return np.nan, np.nan
    return 1e6 * point_to_point(flux), 1e6 * photon_limit(flux, _values(table, name) ** 2)


def _error_names(match: re.Match[str]) -> tuple[str, ...]:
    kind, order, detector = match["kind"], match["order"] or "", match["detector"] or ""
    return f"{kind}_error{order}{detector}", f"{kind}{order}_error{detector}", f"{kind}_err{order}{detector}"


def _values(table: Table, name: str) -> NDArray[np.float64]:
    column = table[name]
    values = np.ma.filled(np.ma.asarray(getattr(column, "value", column), dtype=np.float64), np.nan)
    return np.array(values, dtype=np.float64)


def _time(table: Table, suffix: str) -> tuple[NDArray[np.float64], str]:
    for stem, time_name in (("BJD_TDB", "BMJD_TDB"), ("MJD_UTC", "MJD_UTC"), ("MJD", "MJD_UTC")):
        for name in (stem + suffix, stem):
            if name in table.colnames:
                time = _values(table, name)
                if np.isfinite(time).any():
                    return time, time_name
                break
    return np.arange(1.0, len(table) + 1), "integration"


def _level(flux: NDArray[np.float64]) -> float:
    """Median of the first and the last tenth of the valid values: out of transit in most observations."""
    valid = flux[np.isfinite(flux)]
    if valid.size == 0:
        return 1.0
    n_end = max(1, valid.size // 10)
    level = float(np.median(np.concatenate([valid[:n_end], valid[-n_end:]])))
    return level if level != 0 else 1.0


def bin_in_time(curve: LightCurve, n_bin: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """
    Return a light curve averaged in runs of consecutive integrations.

    Parameters
    ----------
    curve : LightCurve
        The curve; integrations without flux are left out.
    n_bin : int
        Number of bins; at most one for each integration.

    Returns
    -------
    time, flux, error : ndarray, shape (n,)
        Mean time and flux; error of the mean from the errors of the points.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.report.light_curve import LightCurve, bin_in_time
    >>> four = np.arange(4.0)
    >>> curve = LightCurve("NRS1", four, "BMJD_TDB", four, np.full(4, 2.0))
    >>> [x.round(2).tolist() for x in bin_in_time(curve, 2)]
    [[0.5, 2.5], [0.5, 2.5], [1.41, 1.41]]
    """
    valid = np.flatnonzero(np.isfinite(curve.flux) & np.isfinite(curve.time))
    runs = [run for run in np.array_split(valid, max(1, min(n_bin, valid.size))) if run.size]
    means = [(curve.time[run].mean(), curve.flux[run].mean()) for run in runs]
    errors = [np.sqrt(np.sum(curve.error[run] ** 2)) / run.size for run in runs]
    time, flux = np.array(means, dtype=np.float64).reshape(-1, 2).T
    return time, flux, np.array(errors, dtype=np.float64)


def plot_white_light(
    ax: Axes,
    curves: Sequence[LightCurve],
    *,
    mid_transit: float | None = None,
    offset: float | None = None,
    n_bin: int = 48,
) -> list[Artist]:
    """
    Draw light curves one below the other.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; gets labels and a legend.
    curves : sequence of LightCurve
        From `light_curves`.
    mid_transit : float, optional
        Time of mid-transit, in the scale of the curves [day]; the axis then counts hours from it.
    offset : float, optional
        Distance between two curves in relative flux; by default what keeps them apart.
    n_bin : int, optional
        Number of binned points drawn over the single integrations; none where that would not average at least three.

    Returns
    -------
    artists : list of matplotlib artists
        Points, then binned points, of each curve.
    """
    artists: list[Artist] = []
    step = offset if offset is not None else _apart(curves)
    for i, curve in enumerate(curves):
        colour = colour_of(i)
        x = _axis_time(curve.time, curve, mid_transit)
        (points,) = ax.plot(x, curve.flux - i * step, ".", ms=3, mew=0, alpha=0.35, color=colour, rasterized=True)
        artists.append(points)
        binned = np.isfinite(curve.flux).sum() >= 3 * n_bin
        time, flux, error = bin_in_time(curve, n_bin if binned else curve.flux.size)
        bars: Any = ax.errorbar(
            _axis_time(time, curve, mid_transit),
            flux - i * step,
            np.where(np.isfinite(error), error, 0.0),
            fmt="o",
            ms=3.2,
            lw=0.8,
            color=colour,
            mec="white",
            mew=0.3,
            label=_legend(curve, len(curves) > 2),
        )
        artists.append(bars)
    if curves:
        ax.set_xlabel(_time_label(curves[0], mid_transit))
        if curves[0].time_name == "integration":
            ax.xaxis.get_major_locator().set_params(integer=True)
        widest = max(len(_legend(curve, len(curves) > 2)) for curve in curves)
        columns = 2 if widest < _WIDE else 1
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, handletextpad=0.2, borderpad=0.2)
    ax.set_ylabel("relative flux" + (" (shifted)" if len(curves) > 1 and step else ""))
    return artists


def _apart(curves: Sequence[LightCurve]) -> float:
    """Distance that keeps curves apart: a little more than the widest spread, outliers left out."""
    spreads = [np.ptp(np.nanpercentile(c.flux, [1, 99])) for c in curves if np.isfinite(c.flux).any()]
    return 1.15 * float(max(spreads)) if len(curves) > 1 and spreads else 0.0


def _axis_time(time: NDArray[np.float64], curve: LightCurve, mid_transit: float | None) -> NDArray[np.float64]:
    if curve.time_name == "integration":
        return time
    return time - _day(curve) if mid_transit is None else 24.0 * (time - mid_transit)


def _day(curve: LightCurve) -> float:
    return float(np.floor(np.nanmin(curve.time)))


def _time_label(curve: LightCurve, mid_transit: float | None) -> str:
    if curve.time_name == "integration":
        return "integration"
    return "time from mid-transit [h]" if mid_transit is not None else f"{curve.time_name} − {_day(curve):.0f} [day]"


def _legend(curve: LightCurve, short: bool) -> str:
    """Return the entry of a curve; short where there are more than two."""
    numbers = f"{curve.scatter_ppm:.0f} ppm" if np.isfinite(curve.scatter_ppm) else ""
    if numbers and np.isfinite(curve.limit_ppm):
        numbers += f" (limit {curve.limit_ppm:.0f})" if short else f" (photon limit {curve.limit_ppm:.0f} ppm)"
    return ": ".join(part for part in (curve.label, numbers) if part) or "flux"
