"""
Spectroscopic light curves: the spectra of a product, read back in pieces, in channels of wavelength.

Every channel has the same wavelengths, with the same weights, in every integration; what a sample that is not valid
would have added is taken from the others of its channel (see `tso3.core.weighted`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.spectral_motion import MotionGauge
from tso3.core.weighted import Brightness, GroupWeights, baseline_level, group_brightness, weigh
from tso3.errors import ParameterError, Tso3Warning
from tso3.io.atomic import atomic_path
from tso3.io.channels import ChannelAxis, ChannelsWriter, TimeAxis, write_channel_table
from tso3.io.exposure import Observation
from tso3.io.spectra_rows import SpectrumRows
from tso3.io.x1dints_reader import SpectraExposure
from tso3.parameters import Parameters
from tso3.progress import Progress
from tso3.steps.channel_motion import Moved, found_motion, motion_gauge
from tso3.steps.channel_spec import ChannelSpec, Edges
from tso3.steps.column_spread import ColumnSpread
from tso3.steps.correlated_noise import SharedBySpectrum
from tso3.steps.integration_rows import integration_keys, integration_rows
from tso3.steps.white_light_normalized import SteadyLight, baseline_integrations, sampled_light

__all__ = ["ChannelPlan", "metadata", "prepare", "write"]

_SAMPLE = 128
"""Integrations from which the steady spectrum and its variance are taken."""

_LEAST_VARIANCE = 0.25
"""Part of the variance of photon and read noise that is left, whatever a motion that was fitted took of it."""

_BLOCK_BYTES = 4 * 2**20
"""Bytes of the product that are held at a time."""

Chain = tuple[str, str, int]
"""Detector, slit and order."""


@dataclass(frozen=True)
class SpectrumPlan:
    """
    How the spectra of one exposure and order become channels.

    Attributes
    ----------
    exposure : SpectraExposure
        Whose they are.
    spectrum : SpectrumRows
        Where they are.
    rows : ndarray of int64, shape (n_int,)
        Rows of its integrations in the product.
    first : int
        Its first channel in the product.
    weighted, plain : GroupWeights
        Weights of the brightness and of the sum; a group is a channel.
    baseline : ndarray of bool, shape (n_int,)
        Integrations in which the brightness is 1.
    gauge : MotionGauge or None
        What tells the motion of the star along dispersion; None where it is not sought.
    shared : (ndarray, ndarray) or None
        What noise that pixels share adds to the variance of each channel's brightness, with the weights ``weighted``
        and ``plain``; None where it was not measured.
    spread : (ndarray, ndarray) or None
        What covariance between wavelengths makes of the variances of each channel, with both weights; None for 1.
    """

    exposure: SpectraExposure
    spectrum: SpectrumRows
    rows: NDArray[np.int64]
    first: int
    weighted: GroupWeights
    plain: GroupWeights
    baseline: NDArray[np.bool_]
    gauge: MotionGauge | None = None
    shared: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    spread: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class ChannelPlan:
    """
    What is made of a product of spectra.

    Attributes
    ----------
    spectra : tuple of SpectrumPlan
        All exposures and orders.
    time : TimeAxis
        Integrations.
    channel : ChannelAxis
        Channels.
    max_missing : float
        Share of a channel's light in samples that are not valid above which it is NaN.
    """

    spectra: tuple[SpectrumPlan, ...]
    time: TimeAxis
    channel: ChannelAxis
    max_missing: float


def metadata(
    observation: Observation, parameters: Parameters, version: str, times_file: str | None
) -> dict[str, object]:
    """
    Return the metadata of the products.

    Parameters
    ----------
    observation : Observation
        Of spectra.
    parameters : Parameters
        Of all steps.
    version : str
        Of tso3.
    times_file : str or None
        File of the user's time stamps.

    Returns
    -------
    meta : dict of str to object
    """
    first = observation.exposures[0]
    meta = {
        "instrument": first.instrument,
        "exp_type": first.mode.exp_type,
        "subarray": first.subarray,
        "filter": first.filter,
        "pupil": first.pupil,
        "grating": first.grating,
        "target_name": first.header("TARGNAME"),
        "channels": parameters.channels.spec,
        "baseline": parameters.white_light.baseline,
        "software": f"tso3 {version}",
    }
    return meta if times_file is None else {**meta, "times_file": times_file}


def prepare(
    observation: Observation,
    spec: ChannelSpec,
    parameters: Parameters,
    noise: Mapping[Chain, Sequence[SharedBySpectrum | ColumnSpread | None]] | None = None,
) -> ChannelPlan:
    """
    Return what is made of the spectra of a product; of them a sample is read.

    Parameters
    ----------
    observation : Observation
        From `tso3.io.x1dints_reader.read_spectra`.
    spec : ChannelSpec
        What was asked for.
    parameters : Parameters
        Of all steps.
    noise : mapping of (detector, slit, order) to sequence of (SharedBySpectrum, ColumnSpread or None), optional
        What the pixels of each spectrum share, or the columns of a rectified one, of all its exposures in the order of
        time.

    Returns
    -------
    plan : ChannelPlan

    Raises
    ------
    ParameterError
        If no channel holds a wavelength with light.

    Warns
    -----
    tso3.errors.Tso3Warning
        If channels hold none and are left out.
    """
    exposures = [each for each in observation.exposures if isinstance(each, SpectraExposure)]
    if not all(spectrum.has_companion for exposure in exposures for spectrum in exposure.spectra):
        warnings.warn(
            f"{exposures[0].path}: has no companion tables of tso3; photon limit and share of missing light stay NaN",
            Tso3Warning,
            stacklevel=4,
        )
    rows = integration_rows(exposures)
    chains: dict[Chain, list[tuple[SpectraExposure, SpectrumRows, SteadyLight]]] = {}
    for exposure in exposures:
        for spectrum in exposure.spectra:
            light = sampled_light(spectrum, exposure.path, _SAMPLE)
            key = (exposure.detector, str(spectrum.header.slit_name or ""), spectrum.order)
            chains.setdefault(key, []).append((exposure, spectrum, light))
    plans: list[SpectrumPlan] = []
    axes: list[ChannelAxis] = []
    first, empty = 0, {}
    for key, members in sorted(chains.items()):
        edges = spec.edges(members[0][1].wavelength)  # exposures of one detector and order have the same
        weights = [_weights(spectrum.wavelength, light, edges) for _, spectrum, light in members]
        kept = np.sum([plain.whole > 0.0 for _, plain in weights], axis=0) > 0
        if spec.kind != "edges" and not kept.all():
            empty[key] = (int((~kept).sum()), kept.size)
        shared = (noise or {}).get(key, ())
        measured = shared if len(shared) == len(members) else (None,) * len(members)
        for (exposure, spectrum, _), (weighted, plain), pixels in zip(members, weights, measured, strict=True):
            place = np.array([rows[each] for each in integration_keys(exposure)])
            base = baseline_integrations(parameters.white_light.baseline, exposure)
            gauge = motion_gauge(spectrum, exposure.path, _SAMPLE) if parameters.channels.motion == "correct" else None
            groups = (_kept(weighted, kept), _kept(plain, kept))
            variances = spread = None
            if isinstance(pixels, ColumnSpread):
                spread = (pixels.factors(groups[0]), pixels.factors(groups[1]))
            elif pixels is not None:
                variances = (pixels.variances(groups[0]), pixels.variances(groups[1]))
            plans.append(SpectrumPlan(exposure, spectrum, place, first, *groups, base, gauge, variances, spread))
        axes.append(_axis(key, members, weights, edges, kept))
        first += int(kept.sum())
    _tell_of_empty(spec, first, empty, exposures[0].path)
    return ChannelPlan(tuple(plans), _time_axis(exposures, rows), _joined(axes), parameters.channels.max_missing)


def write(
    plan: ChannelPlan, folder: Path, product: str, meta: Mapping[str, Any], max_rows: int, progress: Progress
) -> list[Path]:
    """
    Write the light curves of a plan.

    Parameters
    ----------
    plan : ChannelPlan
        From `prepare`.
    folder : Path
        Of the products.
    product : str
        Name of the observation.
    meta : mapping of str to object
        Metadata of both files.
    max_rows : int
        Rows above which no table is written.
    progress : Progress
        The display.

    Returns
    -------
    paths : list of Path
        The table, if it was written, and the NetCDF.

    Warns
    -----
    tso3.errors.Tso3Warning
        If there are too many rows for a table.
    """
    netcdf, table = folder / f"{product}_channels.nc", folder / f"{product}_channels.ecsv"
    n_rows = plan.time.size * plan.channel.size
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(netcdf))
        attributes = {key: str(value) for key, value in meta.items() if value is not None}
        writer = stack.enter_context(ChannelsWriter(temporary, plan.time, plan.channel, attributes))
        progress.start("channels", sum(each.exposure.n_int for each in plan.spectra))
        for spectrum in plan.spectra:
            _stream(spectrum, _motion(spectrum), writer, plan.max_missing, progress)
            _normalize(spectrum, writer)
        progress.finish()
        if n_rows <= max_rows:
            write_channel_table(stack.enter_context(atomic_path(table)), writer, meta)
            return [table, netcdf]
    warnings.warn(
        f"{table}: would have {n_rows} rows, more than channels.max_rows = {max_rows}; the light curves are in"
        f" {netcdf.name} alone",
        Tso3Warning,
        stacklevel=4,
    )
    return [netcdf]


def _motion(plan: SpectrumPlan) -> Moved | None:
    """Return the motion of an exposure along dispersion; None where none can be told."""
    if plan.gauge is None:
        return None
    spectra = (block.flux for block in plan.spectrum.blocks(plan.exposure.path, _BLOCK_BYTES))
    return found_motion(plan.gauge, spectra, plan.weighted)


def _stream(
    plan: SpectrumPlan, moved: Moved | None, writer: ChannelsWriter, max_missing: float, progress: Progress
) -> None:
    """Read the spectra in blocks and write what their channels hold; the brightness not yet divided by its level."""
    share = GroupWeights(plan.plain.light, plan.plain.light, plan.plain.group, plan.plain.whole)
    whole = plan.plain.whole
    common = (np.full(whole.size, np.nan),) * 2 if plan.shared is None else plan.shared
    together, together_plain = (np.nan_to_num(each) for each in common)
    for block in plan.spectrum.blocks(plan.exposure.path, _BLOCK_BYTES):
        temporal = block.flux_var_poisson + block.flux_var_rnoise
        here = slice(block.start, block.stop)
        fixed = _spread(group_brightness(block.flux, temporal, plan.weighted), plan, 0)
        brightness, shift = fixed, np.zeros((block.n_int, 2))
        if moved is not None:
            undone = group_brightness(moved.undone(block.flux, here), temporal, plan.weighted)
            least = _LEAST_VARIANCE * fixed.variance
            brightness = replace(undone, variance=np.maximum(fixed.variance + moved.variance(here), least))
            shift = np.stack([moved.motion.shift[here], moved.motion.error[here]], axis=1)
        ideal = _spread(group_brightness(block.flux, block.flux_var_limit, plan.weighted), plan, 0)
        sums = _spread(group_brightness(block.flux, temporal, plan.plain), plan, 1)
        flat = _spread(group_brightness(block.flux, block.flux_var_flat, plan.plain), plan, 1)
        lost = np.where(np.isfinite(block.flux), block.missing_fraction, 1.0)
        missing = group_brightness(lost, np.zeros_like(lost), share)
        known = sums.kept >= 1.0 - max_missing
        values = {
            "normalized_flux": brightness.value,
            "normalized_flux_error": np.sqrt(brightness.variance + together),
            "normalized_flux_error_correlated": np.sqrt(np.broadcast_to(common[0], fixed.value.shape)),
            "normalized_flux_limit": np.sqrt(ideal.variance * ideal.kept),
            "normalized_flux_fixed": fixed.value,
            "normalized_flux_fixed_error": np.sqrt(fixed.variance + together),
            "flux": sums.value * whole,
            "flux_error": np.sqrt(sums.variance + together_plain) * whole,
            "flux_error_correlated": np.sqrt(np.broadcast_to(common[1], fixed.value.shape)) * whole,
            "flux_error_flat": np.sqrt(flat.variance) * whole,
        }
        rows = plan.rows[block.start : block.stop]
        for name, each in values.items():
            writer.put(name, rows, plan.first, np.where(known, each, np.nan))
        writer.put("missing_fraction", rows, plan.first, np.where(missing.kept > 1.0 - 1e-9, missing.value, np.nan))
        writer.put("n_valid", rows, plan.first, sums.n_valid)
        for name, column in zip(("motion", "motion_error"), shift.T, strict=True):
            writer.put(name, rows, plan.first, np.repeat(column[:, np.newaxis], plan.plain.n_group, axis=1))
        progress.advance(block.n_int)


def _spread(brightness: Brightness, plan: SpectrumPlan, which: int) -> Brightness:
    """Return a brightness whose variance has the covariance between wavelengths."""
    if plan.spread is None:
        return brightness
    return replace(brightness, variance=brightness.variance * plan.spread[which])


def _normalize(plan: SpectrumPlan, writer: ChannelsWriter) -> None:
    """Divide the brightness of every channel, and its errors, by the level in the baseline."""
    scaled = ("normalized_flux", "normalized_flux_error", "normalized_flux_error_correlated", "normalized_flux_limit")
    fixed = ("normalized_flux_fixed", "normalized_flux_fixed_error")
    end = plan.first + plan.plain.n_group
    for first in range(plan.first, end, writer.tile):
        last = min(first + writer.tile, end)
        for names in (scaled, fixed):
            series = {name: writer.series(name, first, last)[plan.rows] for name in names}
            level = np.array([baseline_level(values, plan.baseline) for values in series[names[0]].T])
            for name, values in series.items():
                writer.put(name, plan.rows, first, values / level)


def _weights(wavelength: NDArray[np.float64], light: SteadyLight, edges: Edges) -> tuple[GroupWeights, GroupWeights]:
    """Return the weights of brightness and sum, of the same wavelengths."""
    n = edges.low.size
    weighted = weigh(light.expected, light.variance, edges.members(wavelength), n)
    return weighted, weigh(light.expected, None, weighted.group, n)


def _kept(weights: GroupWeights, kept: NDArray[np.bool_]) -> GroupWeights:
    """Return weights without some of their groups."""
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    group = np.where(weights.group >= 0, number[weights.group], -1) if kept.size else weights.group
    return GroupWeights(weights.factor, weights.light, group, weights.whole[kept])


def _axis(
    key: Chain,
    members: Sequence[tuple[SpectraExposure, SpectrumRows, SteadyLight]],
    weights: Sequence[tuple[GroupWeights, GroupWeights]],
    edges: Edges,
    kept: NDArray[np.bool_],
) -> ChannelAxis:
    """Return the channels of one detector, slit and order."""
    light, moment = np.zeros(kept.size), np.zeros(kept.size)
    count = np.zeros((len(members), kept.size), np.int64)
    for k, ((_, spectrum, _), (weighted, _)) in enumerate(zip(members, weights, strict=True)):
        used = weighted.group >= 0
        np.add.at(light, weighted.group[used], weighted.light[used])
        np.add.at(moment, weighted.group[used], weighted.light[used] * spectrum.wavelength[used])
        np.add.at(count[k], weighted.group[used], 1)
    detector, slit, order = key
    n = int(kept.sum())
    return ChannelAxis(
        detector=(detector,) * n,
        slit=(slit,) * n,
        unit=(str(members[0][1].header.flux_unit or ""),) * n,
        order=np.full(n, order),
        n_wavelength=count.max(axis=0)[kept],
        wavelength=moment[kept] / light[kept],
        low=edges.low[kept],
        high=edges.high[kept],
    )


def _joined(axes: Sequence[ChannelAxis]) -> ChannelAxis:
    """Return the channels of all spectra, one after the other; slits only where one detector and order has several."""
    several = len(axes) > len({(axis.detector[:1], tuple(axis.order[:1])) for axis in axes})
    slits = tuple(slit for axis in axes for slit in axis.slit)
    return ChannelAxis(
        detector=tuple(name for axis in axes for name in axis.detector),
        slit=slits if several else ("",) * len(slits),
        unit=tuple(name for axis in axes for name in axis.unit),
        order=np.concatenate([axis.order for axis in axes]),
        n_wavelength=np.concatenate([axis.n_wavelength for axis in axes]),
        wavelength=np.concatenate([axis.wavelength for axis in axes]),
        low=np.concatenate([axis.low for axis in axes]),
        high=np.concatenate([axis.high for axis in axes]),
    )


def _time_axis(exposures: Sequence[SpectraExposure], rows: Mapping[Any, int]) -> TimeAxis:
    """Return the integrations of all exposures."""
    detectors = tuple(dict.fromkeys(exposure.detector for exposure in exposures))
    mjd, bjd = np.full((2, len(detectors), len(rows)), np.nan)
    names: dict[tuple[str, ...], str] = {}
    for exposure in exposures:
        place = [rows[key] for key in integration_keys(exposure)]
        mjd[detectors.index(exposure.detector), place] = exposure.times.mid_mjd_utc
        bjd[detectors.index(exposure.detector), place] = exposure.times.mid_bjd_tdb
        names.setdefault(exposure.visit, exposure.name.replace(f"_{exposure.detector.lower()}", ""))
    return TimeAxis(
        int_num=np.array([number for _, number in rows], np.int64),
        exposure=tuple(names[visit] for visit, _ in rows),
        detector=detectors,
        mjd_utc=mjd,
        bjd_tdb=bjd,
    )


def _tell_of_empty(spec: ChannelSpec, n_channel: int, empty: Mapping[Chain, tuple[int, int]], path: Path) -> None:
    """Raise if there is no channel; warn of those that hold no pixel."""
    if not n_channel:
        raise ParameterError(
            f"{spec.text or 'edges'} leaves no channel with light in {path.name}; look at the wavelengths of its"
            " spectra",
            "channels.spec",
        )
    for (detector, slit, order), (lost, n) in empty.items():
        name = f"{detector} {slit}".strip()
        warnings.warn(
            f"{path}: {lost} of {n} channels of {name}, order {order}, hold no pixel with light; they are left out",
            Tso3Warning,
            stacklevel=4,
        )
