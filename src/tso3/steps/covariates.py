"""
The table of covariates: what star, telescope and detector did in every integration.

The numbers come from the fit of the exposure's template (`tso3.core.covariates`), from the flags that outlier detection
set, and from the light that was completed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.covariates import Covariates, covariates
from tso3.core.template import Template, TemplateFit
from tso3.io.exposure import Exposure, Observation
from tso3.steps.integration_rows import Key, integration_keys, integration_rows

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["ExposureCovariates", "measured", "table"]

_IMAGE = ("brightness", "shift_x", "shift_y", "width_x", "width_y", "background")
_SPECTRUM = ("brightness", "shift_x", "shift_y", "width", "background")


@dataclass(frozen=True)
class ExposureCovariates:
    """
    What is known of the integrations of one exposure.

    Attributes
    ----------
    exposure : Exposure
        Whose integrations.
    found : Covariates or None
        From the fit of the template; None where there is none.
    n_flagged : ndarray of int64, shape (n_int,), or None
        Pixels newly flagged as outliers; None where they were not looked for.
    missing : dict of str to ndarray of float64, shape (n_int,)
        Share of the light that fell on bad pixels and was completed or dropped, by what the name of its column ends
        with: nothing, or the spectral order.
    without : str
        Why there is no template; empty where there is one.
    """

    exposure: Exposure
    found: Covariates | None
    n_flagged: NDArray[np.int64] | None
    missing: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    without: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there is anything to tell."""
        return self.found is not None or self.n_flagged is not None or bool(self.missing)


def measured(exposure: Exposure, template: Template, fit: TemplateFit) -> Covariates:
    """
    Return what the fit of a template tells about star and telescope.

    Parameters
    ----------
    exposure : Exposure
        Tells where dispersion runs.
    template : Template
        Of the exposure.
    fit : TemplateFit
        Of all its integrations.

    Returns
    -------
    found : Covariates
        Along the axes of the detector.
    """
    return covariates(template, fit, turned=exposure.dispersion_axis == 2)


def table(observation: Observation, exposures: Sequence[ExposureCovariates]) -> QTable:
    """
    Return the table of covariates.

    Parameters
    ----------
    observation : Observation
        Names the columns and the metadata.
    exposures : sequence of ExposureCovariates
        Of all detectors and stripes.

    Returns
    -------
    table : QTable
        One row per integration, rows of several detectors paired as in the white light. Columns: ``int_num``,
        ``exposure`` if there are several, ``MJD_UTC``, ``BJD_TDB`` (which holds BJD - 2400000.5), then by detector (in
        the name if there are several, or the mode has it in the white light) and stripe the covariates with their
        errors, ``n_flagged`` and ``missing_fraction``. NaN where a detector lacks an integration. Without a template
        its columns are absent, and ``template`` in the metadata says why.
    """
    from astropy.table import QTable

    rows = integration_rows([each.exposure for each in exposures])
    result = QTable(meta=_metadata(observation.exposures[0]))
    detectors = list(dict.fromkeys(each.exposure.detector for each in exposures))
    named = len(detectors) > 1 or observation.mode.detector_columns
    result["int_num"] = np.array([number for _, number in rows], np.int64)
    _name_exposures(result, rows, exposures)
    told: dict[str, str] = {}
    for detector in detectors:
        suffix = f"_{detector}" if named else ""
        of_detector = [each for each in exposures if each.exposure.detector == detector]
        times = [(each.exposure, each.exposure.times) for each in of_detector]
        result[f"MJD_UTC{suffix}"] = _placed(rows, [(one, time.mid_mjd_utc) for one, time in times])
        result[f"BJD_TDB{suffix}"] = _placed(rows, [(one, time.mid_bjd_tdb) for one, time in times])
        stripes = list(dict.fromkeys(each.exposure.stripe for each in of_detector))
        for stripe in stripes:
            part = [each for each in of_detector if each.exposure.stripe == stripe]
            middle = f"_stripe_{stripe}" if len(stripes) > 1 else ""
            _add(result, rows, part, f"{middle}{suffix}")
            for each in part:
                told[each.exposure.label] = each.without or "fitted"
    result.meta["template"] = next(iter(told.values())) if len(set(told.values())) == 1 else told
    result.meta["number_of_integrations"] = len(result)
    return result


def _add(result: QTable, rows: Mapping[Key, int], part: Sequence[ExposureCovariates], end: str) -> None:
    """Append the columns of one detector and stripe."""
    from astropy import units as u

    first = part[0].exposure
    units = {"shift_x": u.pix, "shift_y": u.pix, "background": u.Unit(first.bunit) if first.bunit else None}
    if any(each.found is not None for each in part):
        for name in _IMAGE if first.mode.is_imaging else _SPECTRUM:
            for kind, title in (("values", name), ("errors", f"{name}_error")):
                known = [(each.exposure, getattr(each.found, kind)[name]) for each in part if each.found is not None]
                column = _placed(rows, known)
                result[f"{title}{end}"] = column if units.get(name) is None else column << units[name]
    flags = [(each.exposure, each.n_flagged.astype(float)) for each in part if each.n_flagged is not None]
    if flags:
        result[f"n_flagged{end}"] = np.nan_to_num(_placed(rows, flags)).astype(np.int64)
    for which in dict.fromkeys(which for each in part for which in each.missing):
        shares = [(each.exposure, each.missing[which]) for each in part if which in each.missing]
        result[f"missing_fraction{which}{end}"] = _placed(rows, shares)


def _name_exposures(result: QTable, rows: Mapping[Key, int], exposures: Sequence[ExposureCovariates]) -> None:
    """Append the exposure of each row, without the detector, if there are several."""
    names: dict[tuple[str, ...], str] = {}
    for each in exposures:
        name = each.exposure.name.replace(f"_{each.exposure.detector.lower()}", "")
        names.setdefault(each.exposure.visit, name)
    if len(names) > 1:
        result["exposure"] = [names[visit] for visit, _ in rows]


def _placed(rows: Mapping[Key, int], values: Sequence[tuple[Exposure, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Return a column, NaN in rows that no exposure has."""
    column = np.full(len(rows), np.nan)
    for exposure, array in values:
        column[[rows[key] for key in integration_keys(exposure)]] = array
    return column


def _metadata(exposure: Exposure) -> dict[str, object]:
    return {
        "instrument": exposure.instrument,
        "exp_type": exposure.mode.exp_type,
        "subarray": exposure.subarray,
        "filter": exposure.filter,
        "pupil": exposure.pupil,
        "target_name": exposure.header("TARGNAME"),
        "zero_point": "brightness, shifts and width are relative to the reference image of the exposure",
        "bjd_tdb_offset": "BJD_TDB holds BJD - 2400000.5",
    }
