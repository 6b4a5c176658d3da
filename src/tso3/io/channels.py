"""The products of spectroscopic light curves: ``*_channels.nc``, filled in pieces, and ``*_channels.ecsv`` from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.netcdf import NetcdfWriter, Variable

__all__ = ["COLUMNS", "ChannelAxis", "ChannelsWriter", "TimeAxis", "write_channel_table"]

COLUMNS = {
    "normalized_flux": "brightness, 1 in the baseline: weighted mean over the channel",
    "normalized_flux_error": "its error that scatters in time: photon, read and correlated noise, that of the shift",
    "normalized_flux_error_correlated": "the part of it by noise that pixels share; not a number where not measured",
    "normalized_flux_limit": "error by photon and read noise if no pixel and no sample were missing",
    "normalized_flux_fixed": "the same brightness, the motion of the star along dispersion not taken out",
    "normalized_flux_fixed_error": "its error that scatters in time (photon, read and correlated noise)",
    "flux": "sum over the channel, completed where samples are missing",
    "flux_error": "its error that scatters in time (photon, read and correlated noise)",
    "flux_error_correlated": "the part of it by noise that pixels share; not a number where not measured",
    "flux_error_flat": "its error by the flat field, which does not scatter in time",
    "missing_fraction": "share of the channel's light on bad pixels or in samples that are not valid: completed",
    "n_valid": "samples (pixels along dispersion) that are valid",
    "motion": "motion along dispersion that was taken out; 0 where none was",
    "motion_error": "its error",
}
"""What is known of every channel in every integration."""

_FLUXES = ("flux", "flux_error", "flux_error_correlated", "flux_error_flat")
_MOTION = ("motion", "motion_error")
_TILE_BYTES = 2 * 2**20


@dataclass(frozen=True)
class ChannelAxis:
    """
    All channels of a product.

    Attributes
    ----------
    detector, slit, unit : tuple of str, length n_channel
        DETECTOR, SLTNAME, and unit of the flux.
    order, n_wavelength : ndarray of int, shape (n_channel,)
        Spectral order, and how many wavelengths the channel has.
    wavelength, low, high : ndarray of float, shape (n_channel,)
        Mean wavelength, weighted as the brightness, and limits [micron].
    """

    detector: tuple[str, ...]
    slit: tuple[str, ...]
    unit: tuple[str, ...]
    order: NDArray[np.int64]
    n_wavelength: NDArray[np.int64]
    wavelength: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.detector)

    @property
    def flux_unit(self) -> str | None:
        """Unit of all fluxes; None if they differ."""
        return self.unit[0] if len(set(self.unit)) == 1 else None


@dataclass(frozen=True)
class TimeAxis:
    """
    All integrations of a product.

    Attributes
    ----------
    int_num : ndarray of int, shape (n_time,)
        Number in the exposure, from 1.
    exposure : tuple of str, length n_time
        Name of the exposure, without the detector.
    detector : tuple of str
        All detectors.
    mjd_utc, bjd_tdb : ndarray of float, shape (n_detector, n_time)
        Mid-integration [day], the latter minus 2400000.5; NaN where unknown, or where a detector lacks an integration.
    """

    int_num: NDArray[np.int64]
    exposure: tuple[str, ...]
    detector: tuple[str, ...]
    mjd_utc: NDArray[np.float64]
    bjd_tdb: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Number of integrations."""
        return int(self.int_num.size)


class ChannelsWriter:
    """
    ``*_channels.nc``, laid out for all channels and integrations.

    Parameters
    ----------
    path : Path
        A temporary name.
    time : TimeAxis
        The integrations.
    channel : ChannelAxis
        The channels.
    attributes : mapping of str to object
        Of the file.
    """

    def __init__(self, path: Path, time: TimeAxis, channel: ChannelAxis, attributes: Mapping[str, Any]) -> None:
        self.time = time
        self.channel = channel
        coordinates = _coordinates(time, channel)
        sizes = {"time": time.size, "channel": channel.size, "detector": len(time.detector)}
        for variable, values in coordinates.values():
            if variable.kind == "S1":
                sizes[variable.dimensions[1]] = values.shape[1]
        variables = {name: variable for name, (variable, _) in coordinates.items()} | _values(channel)
        beside = [name for name in coordinates if name not in sizes]
        self._file = NetcdfWriter(path, sizes, variables, {**attributes, "coordinates": " ".join(beside)})
        for name, (_, values) in coordinates.items():
            self._file.put(name, values)

    def __enter__(self) -> ChannelsWriter:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._file.__exit__(*exc)

    @property
    def tile(self) -> int:
        """Channels whose series are read at a time."""
        return max(1, _TILE_BYTES // (8 * self.time.size))

    def put(self, name: str, rows: NDArray[np.int64], first: int, values: NDArray[Any]) -> None:
        """
        Write the values of some integrations.

        Parameters
        ----------
        name : str
            Of `COLUMNS`.
        rows : ndarray of int, shape (n,)
            Which integrations.
        first : int
            First of consecutive channels.
        values : ndarray, shape (n, n_channel)
            Theirs.
        """
        if rows.size and (np.diff(rows) == 1).all():
            self._file.put(name, values, int(rows[0]), first)
            return
        for row, line in zip(rows, values, strict=True):
            self._file.put(name, line[np.newaxis], int(row), first)

    def series(self, name: str, first: int, last: int) -> NDArray[Any]:
        """Return the values of the channels ``first`` to ``last`` in all integrations, shape (n_time, n)."""
        return self._file.get(name, slice(None), slice(first, last))


def _values(channel: ChannelAxis) -> dict[str, Variable]:
    """Return the variables of every channel and integration."""
    found = {}
    for name, meaning in COLUMNS.items():
        unit = channel.flux_unit if name in _FLUXES else "pixel" if name in _MOTION else "1"
        attributes = {"long_name": meaning, "units": unit if unit is not None else "see flux_unit"}
        whole = name == "n_valid"
        found[name] = Variable(("time", "channel"), "i4" if whole else "f8", attributes, 0 if whole else np.nan)
    return found


def _coordinates(time: TimeAxis, channel: ChannelAxis) -> dict[str, tuple[Variable, NDArray[Any]]]:
    """Return the variables that say what channels and integrations are."""
    first = np.full(time.size, np.nan)
    for line in time.mjd_utc[::-1]:
        first = np.where(np.isfinite(line), line, first)
    day, micron = {"units": "d"}, {"units": "um"}
    found: dict[str, tuple[Variable, NDArray[Any]]] = {
        "time": (
            Variable(("time",), "f8", {**day, "long_name": "mid-integration, MJD UTC, of the first detector"}),
            first,
        ),
        "mjd_utc": (
            Variable(("detector", "time"), "f8", {**day, "long_name": "mid-integration, MJD UTC, at the spacecraft"}),
            time.mjd_utc,
        ),
        "bjd_tdb": (
            Variable(("detector", "time"), "f8", {**day, "long_name": "mid-integration, BJD_TDB - 2400000.5"}),
            time.bjd_tdb,
        ),
        "int_num": (Variable(("time",), "i4", {"long_name": "number of the integration, from 1"}), time.int_num),
        "wavelength": (
            Variable(("channel",), "f8", {**micron, "long_name": "mean wavelength, weighted as the brightness"}),
            channel.wavelength,
        ),
        "wavelength_low": (Variable(("channel",), "f8", {**micron, "long_name": "shortest wavelength"}), channel.low),
        "wavelength_high": (Variable(("channel",), "f8", {**micron, "long_name": "longest wavelength"}), channel.high),
        "spectral_order": (Variable(("channel",), "i4"), channel.order),
        "n_wavelength": (Variable(("channel",), "i4", {"long_name": "pixels along dispersion"}), channel.n_wavelength),
        "channel": (Variable(("channel",), "i4", {"long_name": "number, from 1"}), np.arange(1, channel.size + 1)),
    }
    texts: dict[str, tuple[str, Sequence[str]]] = {
        "detector": ("detector", time.detector),
        "channel_detector": ("channel", channel.detector),
        "flux_unit": ("channel", channel.unit),
    }
    if any(channel.slit):
        texts["slit"] = ("channel", channel.slit)
    if len(set(time.exposure)) > 1:
        texts["exposure"] = ("time", time.exposure)
    for name, (dimension, words) in texts.items():
        found[name] = (Variable((dimension, f"{name}_length"), "S1", {"_Encoding": "utf-8"}), _letters(words))
    return found


def _letters(words: Sequence[str]) -> NDArray[np.bytes_]:
    """Return texts as an array of single characters, filled up with zeros, shape (n, length)."""
    encoded = [word.encode() for word in words]
    length = max(1, *(len(word) for word in encoded))
    return np.frombuffer(b"".join(word.ljust(length, b"\0") for word in encoded), "S1").reshape(len(words), length)


def write_channel_table(path: Path, source: ChannelsWriter, meta: Mapping[str, Any]) -> None:
    """
    Write the light curves as a table, one after the other, a few channels at a time.

    Parameters
    ----------
    path : Path
        A temporary name.
    source : ChannelsWriter
        Complete.
    meta : mapping of str to object
        Of the table.
    """
    time, channel = source.time, source.channel
    mixed = channel.flux_unit is None
    with path.open("w", encoding="utf-8") as file:
        file.write(_table_header(source, meta))
        for first in range(0, channel.size, source.tile):
            last = min(first + source.tile, channel.size)
            series = {name: source.series(name, first, last) for name in COLUMNS}
            for k in range(first, last):
                place = time.detector.index(channel.detector[k])
                mjd, bjd = time.mjd_utc[place].tolist(), time.bjd_tdb[place].tolist()
                begin = [str(k + 1), _word(channel.detector[k]), str(channel.order[k])]
                begin += [_word(channel.slit[k])] if any(channel.slit) else []
                begin += [repr(float(each[k])) for each in (channel.wavelength, channel.low, channel.high)]
                start, end = " ".join(begin), f" {_word(channel.unit[k])}" if mixed else ""
                values = [series[name][:, k - first].tolist() for name in COLUMNS]
                several = len(set(time.exposure)) > 1
                for i, numbers in enumerate(zip(time.int_num.tolist(), mjd, bjd, *values, strict=True)):
                    tail = f" {_word(time.exposure[i])}" if several else ""
                    file.write(f"{start} {' '.join(map(repr, numbers))}{end}{tail}\n")


def _table_header(source: ChannelsWriter, meta: Mapping[str, Any]) -> str:
    """Return the header of the table, as astropy writes it for one without rows."""
    from astropy.table import Table

    time, channel = source.time, source.channel
    whole, real, text = np.int64, np.float64, np.str_
    names: dict[str, tuple[type, str | None, str]] = {
        "channel": (whole, None, "number, from 1"),
        "detector": (text, None, "DETECTOR"),
        "spectral_order": (whole, None, "SPORDER"),
    }
    if any(channel.slit):
        names["slit"] = (text, None, "SLTNAME")
    names |= {
        "wavelength": (real, "um", "mean wavelength of the channel, weighted as the brightness"),
        "wavelength_low": (real, "um", "shortest wavelength"),
        "wavelength_high": (real, "um", "longest wavelength"),
        "int_num": (whole, None, "number of the integration, from 1"),
        "MJD_UTC": (real, "d", "mid-integration, at the spacecraft"),
        "BJD_TDB": (real, "d", "mid-integration, barycentric, minus 2400000.5"),
    }
    for name, meaning in COLUMNS.items():
        unit = channel.flux_unit if name in _FLUXES else "pix" if name in _MOTION else None
        names[name] = (whole if name == "n_valid" else real, unit or None, meaning)
    if channel.flux_unit is None:
        names["flux_unit"] = (text, None, "unit of the flux and its errors")
    if len(set(time.exposure)) > 1:
        names["exposure"] = (text, None, "exposure, without the detector")
    table = Table({name: np.empty(0, kind) for name, (kind, _, _) in names.items()}, meta=dict(meta))
    for name, (_, unit, meaning) in names.items():
        table[name].unit = unit
        table[name].description = meaning
    stream = StringIO()
    table.write(stream, format="ascii.ecsv")
    return stream.getvalue()


def _word(text: str) -> str:
    """Return a text as a field of the table."""
    return '"' + text.replace('"', '""') + '"' if not text or " " in text or '"' in text else text
