"""The catalogue of photometry: one row per integration, the archive's columns first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.aperture import PhotometryQuality
from tso3.errors import Tso3Warning
from tso3.steps.photometry_records import PhotometryPart, PhotometryPlan

if TYPE_CHECKING:
    from astropy.table import QTable

    from tso3.io.exposure import Exposure
    from tso3.io.times import IntTimes

__all__ = [
    "Column",
    "PhotometryTable",
    "catalogue",
    "catalogue_name",
    "catalogues",
    "photometry_table",
    "segment_catalogues",
]

_SUMS = (
    "aperture_sum",
    "aperture_sum_err",
    "annulus_sum",
    "annulus_sum_err",
    "annulus_mean",
    "annulus_mean_err",
    "aperture_bkg",
    "aperture_bkg_err",
    "net_aperture_sum",
    "net_aperture_sum_err",
)
_OF_BACKGROUND = frozenset(name for name in _SUMS if name.startswith("annulus") or "bkg" in name)
_WHOLE = "Photometry measured as the sum of all values in the subarray.  No background subtraction was performed."


@dataclass(frozen=True)
class Column:
    """One column: name, values of shape (n_int,), and unit as astropy spells it, or None."""

    name: str
    values: NDArray[np.generic]
    unit: str | None = None


@dataclass(frozen=True)
class PhotometryTable:
    """
    The catalogue of one exposure, before it is an astropy table.

    Attributes
    ----------
    columns : tuple of Column
        In the order of the product.
    meta : dict
        Keywords of the product, in its order.
    detector : str
        DETECTOR.
    """

    columns: tuple[Column, ...]
    meta: dict[str, Any]
    detector: str

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return the values of a column."""
        for column in self.columns:
            if column.name == name:
                return column.values
        raise KeyError(name)

    def rows(self, start: int, stop: int) -> PhotometryTable:
        """Return some of the integrations, for a catalogue of one segment."""
        return replace(self, columns=tuple(replace(c, values=c.values[start:stop]) for c in self.columns))


def photometry_table(
    plan: PhotometryPlan, part: PhotometryPart, times: IntTimes, correlated: float | None = None
) -> PhotometryTable:
    """
    Return the catalogue of an exposure.

    Parameters
    ----------
    plan : PhotometryPlan
        Of the exposure.
    part : PhotometryPart
        Of all its integrations.
    times : IntTimes
        Of all its integrations.
    correlated : float, optional
        Variance of the net sum by noise that its pixels share, which is added to its errors; by default there is no
        column of it.

    Returns
    -------
    table : PhotometryTable
        BJD_TDB holds BJD - 2400000.5, as in the archive.
    """
    unit, result = plan.unit.name, part.photometry
    shared = 0.0 if correlated is None else float(np.sqrt(correlated))
    for name in ("net_aperture_sum_err", "net_aperture_sum_err_temporal") if shared > 0.0 else ():
        result = replace(result, **{name: np.hypot(getattr(result, name), shared)})
    shared_error = [Column("net_aperture_sum_err_correlated", np.full(part.x.size, shared), unit)]
    shared_error = [] if correlated is None else shared_error
    ra, dec = _sky(plan, part.x, part.y)
    columns = [Column("MJD", times.mid_mjd_utc), Column("BJD_TDB", times.mid_bjd_tdb)]
    for name in _SUMS:
        unitless = plan.whole_array and name in _OF_BACKGROUND
        columns.append(Column(name, getattr(result, name), None if unitless else unit))
    columns += [Column("aperture_x", part.x, "pix"), Column("aperture_y", part.y, "pix")]
    columns += [Column("aperture_ra_icrs", ra, "deg"), Column("aperture_dec_icrs", dec, "deg")]
    if part.track is not None:
        track = part.track
        columns += [Column("centroid_x", track.x, "pix"), Column("centroid_y", track.y, "pix")]
        errors = [Column("centroid_x_err", track.x_err, "pix"), Column("centroid_y_err", track.y_err, "pix")]
        columns += [Column("psf_width_x", track.width_x, "pix"), Column("psf_width_y", track.width_y, "pix")]
        columns += [Column("psf_flux", track.flux, unit)]
        errors += [Column("psf_width_x_err", track.width_x_err, "pix")]
        errors += [Column("psf_width_y_err", track.width_y_err, "pix"), Column("psf_flux_err", track.flux_err, unit)]
    else:
        errors = []
    columns += [
        *errors,
        Column("net_aperture_sum_err_temporal", result.net_aperture_sum_err_temporal, unit),
        Column("net_aperture_sum_err_poisson", result.net_aperture_sum_err_poisson, unit),
        Column("net_aperture_sum_err_rnoise", result.net_aperture_sum_err_rnoise, unit),
        Column("net_aperture_sum_err_background", result.net_aperture_sum_err_background, unit),
        *shared_error,
        Column("photon_limit", result.photon_limit, unit),
        Column("missing_fraction", result.missing_fraction),
        Column("n_pixels", result.n_pixels),
        Column("quality", result.quality),
        Column("int_num", times.int_num),
    ]
    return PhotometryTable(tuple(columns), _meta(plan), plan.exposure.detector)


def catalogue(tables: Sequence[PhotometryTable]) -> QTable:
    """
    Return the catalogues of all exposures as one astropy table, one below the other.

    Parameters
    ----------
    tables : sequence of PhotometryTable
        In the order of the product.

    Returns
    -------
    table : astropy.table.QTable
        With a column ``detector`` if there is more than one. A keyword in which the exposures differ holds all values.
        Columns that only some exposures have are NaN in the others.
    """
    from astropy.table import QTable
    from astropy.units import Unit

    detectors = [table.detector for table in tables]
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    result = QTable()
    for name in names:
        found = [next((c for c in table.columns if c.name == name), None) for table in tables]
        values = np.concatenate([_values(c, len(t.columns[0].values)) for c, t in zip(found, tables, strict=True)])
        unit = next((c.unit for c in found if c is not None and c.unit is not None), None)
        result[name] = values if unit is None else values << Unit(unit)
    if len(set(detectors)) > 1:
        result["detector"] = np.concatenate([np.full(len(table.columns[0].values), table.detector) for table in tables])
    result.meta.update(_common_meta([table.meta for table in tables]))
    last = {key: result.meta.pop(key) for key in _OURS}
    result.meta["number_of_integrations"] = len(result)
    result.meta.update(last)
    return result


def catalogues(tables: Sequence[PhotometryTable]) -> dict[str, QTable]:
    """
    Return one catalogue for each detector, the exposures of a detector one below the other.

    Parameters
    ----------
    tables : sequence of PhotometryTable
        One for each exposure, in the order of the product.

    Returns
    -------
    tables : dict of str to astropy.table.QTable
        By DETECTOR, in alphabetical order: two detectors see different stars, or one star twice, and never make one
        light curve.
    """
    detectors = sorted({table.detector for table in tables})
    return {name: catalogue([table for table in tables if table.detector == name]) for name in detectors}


def catalogue_name(product_name: str, detector: str, n_detectors: int) -> str:
    """
    Return the file name of a catalogue.

    Parameters
    ----------
    product_name : str
        Of the association.
    detector : str
        DETECTOR.
    n_detectors : int
        How many detectors the observation has.

    Returns
    -------
    name : str
        The archive's, which knows no detector; with several, the detector is one more part of the product name, joined
        as its other parts are.

    Examples
    --------
    >>> from tso3.steps.photometry_table import catalogue_name
    >>> catalogue_name("jw01366-o005_t001_nircam_f210m-full", "NRCA3", 2)
    'jw01366-o005_t001_nircam_f210m-full-nrca3_phot.ecsv'
    """
    part = f"-{detector.lower()}" if n_detectors > 1 else ""
    return f"{product_name}{part}_phot.ecsv"


def segment_catalogues(table: PhotometryTable, exposure: Exposure) -> list[tuple[str, QTable]]:
    """
    Return the catalogue of every segment by itself, with the stem of its file (``save_catalog``).

    Parameters
    ----------
    table : PhotometryTable
        Of the exposure.
    exposure : Exposure
        Knows the segments.

    Returns
    -------
    catalogues : list of (str, QTable)
        ``<stem>_phot.ecsv`` is what the archive's pipeline calls them.
    """
    return [
        (segment.stem, catalogue([table.rows(first, last)]))
        for segment, (first, last) in zip(exposure.segments, exposure.segment_bounds, strict=True)
    ]


_OURS = (
    "sizes_source",
    "centroid_span",
    "error_weights",
    "psf_fit",
    "missing",
    "annulus_clip",
    "bjd_tdb_offset",
    "quality_bits",
)


def _values(column: Column | None, n_int: int) -> NDArray[Any]:
    """Return the values of a column, or NaN where an exposure has no such column."""
    return np.full(n_int, np.nan) if column is None else column.values


def _common_meta(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return keywords that hold the common value, or all values in a text."""
    common: dict[str, Any] = {}
    for key in metas[0]:
        values = list(dict.fromkeys(str(meta[key]) for meta in metas))
        common[key] = metas[0][key] if len(values) == 1 else ", ".join(values)
    return common


def _meta(plan: PhotometryPlan) -> dict[str, Any]:
    """Return the keywords of the product, the archive's first."""
    exposure, p = plan.exposure, plan.parameters
    return {
        "instrument": exposure.header("INSTRUME"),
        "detector": exposure.header("DETECTOR"),
        "channel": exposure.header("CHANNEL"),
        "subarray": exposure.header("SUBARRAY"),
        "filter": exposure.header("FILTER"),
        "pupil": exposure.header("PUPIL"),
        "target_name": exposure.header("TARGNAME"),
        "apertures": _sentence(plan),
        "sizes_source": plan.layout.sizes.source,
        "centroid_span": p.centroid_span,
        "error_weights": "squared" if plan.treatment.squared else "linear",
        "psf_fit": p.psf_fit,
        "missing": "complete" if plan.treatment.complete else "drop",
        "annulus_clip": p.annulus_clip,
        "bjd_tdb_offset": "BJD_TDB holds BJD - 2400000.5",
        "quality_bits": {int(bit): str(bit.name).lower() for bit in PhotometryQuality},
    }


def _sentence(plan: PhotometryPlan) -> str:
    """Return what the archive's keyword ``apertures`` says."""
    if plan.whole_array:
        return _WHOLE
    sizes = plan.layout.sizes
    text = f"Photometry measured in a circular aperture of r={sizes.radius} pixels.  "
    if not plan.layout.subtract:
        return f"{text}No background subtraction was performed."
    return (
        f"{text}Background calculated as the mean in a circular annulus with r_inner={sizes.radius_inner} pixels and "
        f"r_outer={sizes.radius_outer} pixels."
    )


def _sky(
    plan: PhotometryPlan, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return right ascension and declination of positions [deg], by the WCS of the first segment; NaN without one."""
    import warnings

    path = plan.exposure.segments[0].path
    places, which = np.unique(np.stack([x, y]), axis=1, return_inverse=True)
    sky = plan.exposure.geometry.skies(places[0], places[1])
    if sky is None:
        text = "there is no WCS in it; the sky position of the aperture is not known"
        warnings.warn(f"{path}: {text}", Tso3Warning, stacklevel=2)
        return np.full(x.size, np.nan), np.full(x.size, np.nan)
    which = which.reshape(-1)
    return sky[0][which], sky[1][which]
