"""Figures of a whole run, as files beside its products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tso3.report.light_curve import light_curves, plot_white_light
from tso3.report.style import figure, write_png

if TYPE_CHECKING:
    from tso3.result import RunResult

__all__ = ["write_light_curve"]


def write_light_curve(result: RunResult, *, mid_transit: float | None = None) -> Path | None:
    """
    Draw the light curve of a run and write it beside its table.

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
    curves = light_curves(result.white_light, result.exposures)
    if not curves:
        return None
    with figure(7.0, 2.2 + 1.2 * len(curves)) as page:
        plot_white_light(page.subplots(), curves, mid_transit=mid_transit)
        return write_png(page, tables[0].with_suffix(".png"))
