"""
White-light photometry: spectra of every integration summed over wavelength, one light curve per detector and order.

Sums are taken block by block while the spectra pass; only numbers per integration are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.lightcurve import band_sum, in_band
from tso3.core.spectra import Spectra, SpectrumHeader
from tso3.io.exposure import Exposure, Observation
from tso3.steps import white_light_normalized
from tso3.steps.integration_rows import Key, integration_keys, integration_rows
from tso3.steps.white_light_normalized import NormalizedCurve, SteadyLight
from tso3.steps.white_light_range import Band, band, band_limits

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["CombinedCurve", "CurvePart", "WhiteLightCurve", "band", "band_limits", "combine", "table"]


_COLUMNS = ("flux", "flux_error", "flat_error", "limit_variance", "n_valid", "missing_fraction")


@dataclass(frozen=True)
class CurvePart:
    """
    Some integrations of a light curve.

    Attributes
    ----------
    start, stop : int
        Half-open range of exposure indices.
    values : dict of str to ndarray, shape (stop - start,)
        By attribute of `WhiteLightCurve`.
    """

    start: int
    stop: int
    values: dict[str, NDArray[Any]]


class WhiteLightCurve:
    """
    The light curve of one exposure in one order, filled as blocks finish.

    Parameters
    ----------
    exposure : Exposure
        Whose it is.
    header : SpectrumHeader
        Of its spectra.
    wavelength : ndarray of float, shape (n_wave,)
        Wavelengths [micron].
    band : Band, optional
        The range of the sum; all wavelengths by default.
    expected : ndarray of float, shape (n_wave,), optional
        Spectrum by which sums that lack samples are completed; by default they are not.
    steady : SteadyLight, optional
        Gives the weights of the normalised curve; by default there is none.
    baseline : ndarray of bool, shape (n_int,), optional
        Integrations in which that is 1; all by default.

    Attributes
    ----------
    wavelengths, span : (float, float) or None
        Shortest and longest wavelength [micron] of the spectrum, and of what is summed; None if there is none: then
        the curve is left out, all NaN.
    flux, flux_error : ndarray of float64, shape (n_int,)
        Sum over the band and its temporal error (photon and read noise); NaN where nothing was valid.
    flat_error : ndarray of float64, shape (n_int,)
        Error by the flat field, which does not scatter in time.
    limit_variance : ndarray of float64, shape (n_int,)
        Variance of photon and read noise of the same sum, were no pixel missing.
    n_valid : ndarray of int64, shape (n_int,)
        Wavelengths in the sum.
    missing_fraction : ndarray of float64, shape (n_int,)
        Share of the light of the band that fell on bad pixels or in samples that are not valid.
    normalized : NormalizedCurve or None
        The weighted curve.
    correlated : float or None
        Variance of the sum by noise that its pixels share; None where it was not measured.
    """

    def __init__(
        self,
        exposure: Exposure,
        header: SpectrumHeader,
        wavelength: NDArray[np.float64],
        band: Band | None = None,
        expected: NDArray[np.float64] | None = None,
        steady: SteadyLight | None = None,
        baseline: NDArray[np.bool_] | None = None,
    ) -> None:
        n = exposure.n_int
        self.exposure = exposure
        self.header = header
        self.band = Band() if band is None else band
        self.wavelengths = _span(wavelength, np.isfinite(wavelength))
        self._inside = in_band(wavelength, self.band.shortest, self.band.longest)
        self.span = _span(wavelength, self._inside)
        if expected is not None:  # what cannot be completed where it is missing is in no integration's sum
            self._inside &= expected > 0.0
        self._expected = expected
        self.flux, self.flux_error, self.flat_error, self.limit_variance, self.missing_fraction = (
            np.full(n, np.nan) for _ in range(5)
        )
        self.n_valid = np.zeros(n, np.int64)
        self.correlated: float | None = None
        self.normalized: NormalizedCurve | None = None
        if steady is not None:
            chosen = np.ones(n, dtype=bool) if baseline is None else baseline
            self.normalized = NormalizedCurve(steady, wavelength, self._inside, chosen)

    @property
    def flux_unit(self) -> str:
        """Unit of the spectra, and of the sum."""
        return self.header.flux_unit

    @property
    def factors(self) -> NDArray[np.float64]:
        """What the flux of each wavelength counts in the sum, shape (n_wave,)."""
        return self._inside.astype(np.float64)

    def add(self, spectra: Spectra) -> None:
        """
        Take the spectra of a block; safe from several threads, since each block has its own integrations.

        Parameters
        ----------
        spectra : Spectra
            Of this exposure and order. Not modified, not kept.
        """
        here = slice(spectra.start, spectra.stop)
        temporal = spectra.flux_var_poisson + spectra.flux_var_rnoise
        sums = band_sum(spectra.flux, temporal, self._inside, self._expected)
        flat = band_sum(spectra.flux, spectra.flux_var_flat, self._inside, self._expected)
        ideal = band_sum(spectra.flux, spectra.flux_var_limit, self._inside, self._expected)
        self.flux[here] = sums.flux
        self.flux_error[here] = np.sqrt(sums.variance)
        self.n_valid[here] = sums.n_valid
        self.flat_error[here] = np.sqrt(flat.variance)
        self.limit_variance[here] = ideal.variance * ideal.kept  # of the whole band: as if nothing were missing
        self.missing_fraction[here] = self._missing(spectra)
        if self.normalized is not None:
            self.normalized.add(spectra)

    def part(self, start: int, stop: int) -> CurvePart:
        """Return what is known of the integrations ``start`` to ``stop``."""
        values = {name: getattr(self, name)[start:stop].copy() for name in _COLUMNS}
        return CurvePart(start, stop, values | ({} if self.normalized is None else self.normalized.part(start, stop)))

    def put(self, part: CurvePart) -> None:
        """Take what another curve of the same spectra knows of some integrations."""
        for name in _COLUMNS:
            getattr(self, name)[part.start : part.stop] = part.values[name]
        if self.normalized is not None:
            self.normalized.put(part.start, part.stop, part.values)

    def _missing(self, spectra: Spectra) -> NDArray[np.float64]:
        """Return the share of the light that is missing, samples that are not valid included."""
        lost = np.where(np.isfinite(spectra.flux), spectra.missing_fraction, 1.0)
        light = np.ones(spectra.n_wave) if self._expected is None else self._expected
        light = np.where(self._inside & (light > 0.0), light, 0.0)
        whole = light.sum()
        if not whole > 0.0:
            return np.full(spectra.n_int, np.nan)
        return np.array([float((row * light).sum() / whole) for row in lost])


@dataclass(frozen=True)
class CombinedCurve:
    """
    The light of all stripes of an exposure: the sum of their curves.

    Attributes
    ----------
    exposure : Exposure
        The first stripe, which has the times of all.
    flux, flux_error, flat_error, limit_variance, missing_fraction : ndarray of float64, shape (n_int,)
        As in `WhiteLightCurve`; NaN in integrations in which one of the stripes is unknown. Errors of stripes are taken
        as independent, that of the flat field too: its pixels are others.
    n_valid : ndarray of int64, shape (n_int,)
        Samples in the sum.
    flux_unit : str
        That of all stripes.
    span : (float, float) or None
        Shortest and longest wavelength in the sum [micron].
    normalized : NormalizedCurve or None
        The weighted curve of all stripes.
    correlated : float or None
        As in `WhiteLightCurve`; stripes are taken as independent.
    """

    exposure: Exposure
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    flat_error: NDArray[np.float64]
    limit_variance: NDArray[np.float64]
    missing_fraction: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    flux_unit: str
    span: tuple[float, float] | None
    normalized: NormalizedCurve | None
    correlated: float | None = None


def combine(curves: Sequence[WhiteLightCurve]) -> CombinedCurve:
    """
    Return the sum of the light curves of all stripes of one exposure.

    Parameters
    ----------
    curves : sequence of WhiteLightCurve
        At least one, of the same integrations and in the same unit. Those that their range misses are not in the sum.

    Returns
    -------
    combined : CombinedCurve
        The share of missing light is the mean of the stripes', weighted by their light.
    """
    curves = [curve for curve in curves if curve.span is not None] or curves
    flux = np.stack([curve.flux for curve in curves])
    total = flux.sum(axis=0)
    missing = np.stack([curve.missing_fraction for curve in curves])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (missing * flux).sum(axis=0) / total
    return CombinedCurve(
        exposure=curves[0].exposure,
        flux=total,
        flux_error=np.sqrt(np.sum([curve.flux_error**2 for curve in curves], axis=0)),
        flat_error=np.sqrt(np.sum([curve.flat_error**2 for curve in curves], axis=0)),
        limit_variance=np.sum([curve.limit_variance for curve in curves], axis=0),
        missing_fraction=share,
        n_valid=np.sum([curve.n_valid for curve in curves], axis=0),
        flux_unit=curves[0].flux_unit,
        span=_union(curves),
        normalized=white_light_normalized.joined([curve.normalized for curve in curves]),
        correlated=_sum([curve.correlated for curve in curves]),
    )


def _sum(variances: Sequence[float | None]) -> float | None:
    """Return the sum of variances, None if one of them is."""
    known = [variance for variance in variances if variance is not None]
    return sum(known) if len(known) == len(variances) else None


def _span(wavelength: NDArray[np.float64], inside: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return the shortest and the longest of some wavelengths, to a millionth of a micron; None if there is none."""
    chosen = wavelength[inside]
    return (round(float(chosen.min()), 6), round(float(chosen.max()), 6)) if chosen.size else None


def _union(curves: Sequence[WhiteLightCurve | CombinedCurve]) -> tuple[float, float] | None:
    """Return the shortest and the longest wavelength in any of some sums."""
    spans = [curve.span for curve in curves if curve.span is not None]
    return (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None


def table(observation: Observation, curves: Sequence[WhiteLightCurve]) -> QTable:
    """
    Return the white-light table: the archive's columns, and beside each flux what it is worth.

    One row per integration. Rows of several detectors are paired by exposure and integration number, those of one
    detector keep the order of time; repeated time stamps are kept.

    Parameters
    ----------
    observation : Observation
        Names the columns and the metadata.
    curves : sequence of WhiteLightCurve
        All exposures and orders, complete.

    Returns
    -------
    table : QTable
        ``MJD_UTC``, ``BJD_TDB`` (which holds BJD - 2400000.5), ``whitelight_flux``, with the detector and the order in
        the name where the archive has them. NaN where a detector lacks an integration. Ours: the temporal error, that
        of the flat field (which does not scatter in time), the photon limit, samples, and share of missing light; and
        where an exposure has several stripes, beside their sum the same columns for each, ``_stripe_1`` in the name
        (the sum only if their units agree). ``whitelight_normalized`` with error and limit is the weighted curve, 1 in
        its baseline, where it was made; ``effective_wavelength`` in the metadata is its. Last, ``int_num``: the number
        of the integration in its exposure, and ``exposure``, its name without the detector, if there are several.
        ``wavelength_range`` in the metadata has the shortest and the longest wavelength [micron] of the sum, by the
        name of its column.
    """
    from astropy.table import QTable

    first = observation.exposures[0]
    light = QTable(meta=_metadata(first))
    rows = integration_rows([curve.exposure for curve in curves])
    bands: dict[str, list[float]] = {}
    effective: dict[str, float] = {}
    detectors = list(dict.fromkeys(curve.exposure.detector for curve in curves))
    orders = list(dict.fromkeys(curve.header.spectral_order for curve in curves))
    named = len(detectors) > 1 or observation.mode.detector_columns
    for detector in detectors:
        suffix = f"_{detector}" if named else ""
        of_detector = [curve for curve in curves if curve.exposure.detector == detector]
        times = [(curve, curve.exposure.times) for curve in of_detector]
        light[f"MJD_UTC{suffix}"] = _placed(rows, [(curve, time.mid_mjd_utc) for curve, time in times])
        light[f"BJD_TDB{suffix}"] = _placed(rows, [(curve, time.mid_bjd_tdb) for curve, time in times])
        for order in orders:
            of_order = [curve for curve in of_detector if curve.header.spectral_order == order]
            middle = f"_order_{order}" if len(orders) > 1 else ""
            for which, part in _parts(of_order).items():
                end = f"{middle}{which}{suffix}"
                light.update({f"{name}{end}": column for name, column in _columns(rows, part).items()})
                if (span := _union(part)) is not None:
                    bands[f"whitelight_flux{end}"] = list(span)
                if part and part[0].normalized is not None:
                    effective[f"whitelight_normalized{end}"] = round(part[0].normalized.effective_wavelength, 6)
    _name_rows(light, rows, curves)
    light.meta["number_of_integrations"] = len(light)
    light.meta["wavelength_range"] = bands
    if effective:
        light.meta["effective_wavelength"] = effective
    return light


def _name_rows(light: QTable, rows: Mapping[Key, int], curves: Sequence[WhiteLightCurve]) -> None:
    """Append the number of each row's integration in its exposure, and the exposure if there are several."""
    names: dict[tuple[str, ...], str] = {}
    for curve in curves:
        exposure = curve.exposure
        names.setdefault(exposure.visit, exposure.name.replace(f"_{exposure.detector.lower()}", ""))
    light["int_num"] = np.array([number for _, number in rows], np.int64)
    if len(names) > 1:
        light["exposure"] = [names[visit] for visit, _ in rows]


def _parts(curves: Sequence[WhiteLightCurve]) -> dict[str, Sequence[WhiteLightCurve | CombinedCurve]]:
    """Return curves by what their columns are called: those of stripes and their sum, of channels, or simply all."""
    if not curves or (not curves[0].exposure.stripe and len({curve.header.slit_name for curve in curves}) < 2):
        return {"": curves}
    kind = "stripe" if curves[0].exposure.stripe else "channel"
    parts: dict[str, list[WhiteLightCurve | CombinedCurve]] = {}
    exposures: dict[str, list[WhiteLightCurve]] = {}
    for curve in curves:
        exposures.setdefault(curve.exposure.name, []).append(curve)
        parts.setdefault(f"_{kind}_{curve.header.slit_name}", []).append(curve)
    if kind == "channel":
        return dict(parts)
    if len(parts) < 2:
        return {"": curves}
    if len({curve.flux_unit for curve in curves}) > 1:  # no sum has two units
        return dict(parts)
    return {"": [combine(part) for part in exposures.values()], **parts}


def _columns(rows: Mapping[Key, int], curves: Sequence[WhiteLightCurve | CombinedCurve]) -> dict[str, Any]:
    """Return the columns of one light curve, in the unit of its spectra, by the first part of their names."""
    from astropy import units as u

    unit = u.Unit(curves[0].flux_unit) if curves and curves[0].flux_unit else None
    columns: dict[str, Any] = {}
    for name, values in (
        ("whitelight_flux", [(curve, curve.flux) for curve in curves]),
        ("whitelight_flux_error", [(curve, np.hypot(curve.flux_error, _correlated(curve))) for curve in curves]),
        ("whitelight_flux_error_flat", [(curve, curve.flat_error) for curve in curves]),
        ("photon_limit", [(curve, np.sqrt(curve.limit_variance)) for curve in curves]),
    ):
        column = _placed(rows, values)
        columns[name] = column if unit is None else column << unit
    if any(curve.correlated is not None for curve in curves):
        column = _placed(rows, [(curve, np.full(curve.flux.size, _correlated(curve))) for curve in curves])
        columns["whitelight_flux_error_correlated"] = column if unit is None else column << unit
    counts = _placed(rows, [(curve, curve.n_valid.astype(float)) for curve in curves])
    columns["n_valid"] = np.nan_to_num(counts).astype(np.int64)
    columns["missing_fraction"] = _placed(rows, [(curve, curve.missing_fraction) for curve in curves])
    weighted = [(curve, white_light_normalized.columns(curve.normalized)) for curve in curves if curve.normalized]
    for name in weighted[0][1] if weighted else ():
        columns[name] = _placed(rows, [(curve, values[name]) for curve, values in weighted])
    return columns


def _correlated(curve: WhiteLightCurve | CombinedCurve) -> float:
    """Return the error of a sum by noise that its pixels share, as far as it was measured."""
    return 0.0 if curve.correlated is None else float(np.sqrt(curve.correlated))


def _metadata(exposure: Exposure) -> dict[str, object]:
    return {
        "instrument": exposure.instrument,
        "exp_type": exposure.mode.exp_type,
        "subarray": exposure.subarray,
        "filter": exposure.filter,
        "pupil": exposure.pupil,
        "target_name": exposure.header("TARGNAME"),
    }


def _placed(
    rows: Mapping[Key, int], values: Sequence[tuple[WhiteLightCurve | CombinedCurve, NDArray[np.float64]]]
) -> NDArray[np.float64]:
    column = np.full(len(rows), np.nan)
    for curve, array in values:
        column[[rows[key] for key in integration_keys(curve.exposure)]] = array
    return column
