"""Which spectroscopic channels are asked for, and where their edges are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tso3.errors import ParameterError
from tso3.io.channel_edges import read_edges
from tso3.io.exposure import Observation
from tso3.parameters import Channels, Parameters

__all__ = ["ChannelSpec", "Edges", "parse_channels", "pixel_edges", "wanted_channels"]

_NAME = "channels.spec"
_FORMS = (
    "a number of channels (20), a resolving power (R=100), edges in micron (2.9,3.1,3.4), a file of edges, or native"
)
_MOST = 100_000


@dataclass(frozen=True)
class Edges:
    """
    Channels of one spectrum.

    Attributes
    ----------
    low, high : ndarray of float64, shape (n_channel,)
        Limits [micron], rising; channels do not overlap.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def members(self, wavelength: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the channel of each wavelength: low <= wavelength < high (the last: <= high); -1 for none."""
        if not self.low.size:
            return np.full(wavelength.shape, -1, np.int64)
        known = np.isfinite(wavelength)
        values = np.where(known, wavelength, -np.inf)
        index = np.searchsorted(self.low, values, side="right") - 1
        inside = known & (index >= 0) & (values < self.high[np.maximum(index, 0)])
        last = known & (values == self.high[-1])
        return np.where(last, self.low.size - 1, np.where(inside, index, -1)).astype(np.int64)


@dataclass(frozen=True)
class ChannelSpec:
    """
    What was asked for.

    Attributes
    ----------
    kind : {"number", "resolution", "edges", "native"}
        How channels are given.
    number : int
        Channels of equal width in each spectrum.
    resolution : float
        Wavelength over width.
    channels : tuple of (float, float)
        Limits [micron].
    shortest, longest : float or None
        Range [micron] that is divided, or within which channels must lie; None for no limit.
    text : str
        As it was typed.
    """

    kind: Literal["number", "resolution", "edges", "native"]
    number: int = 0
    resolution: float = 0.0
    channels: tuple[tuple[float, float], ...] = ()
    shortest: float | None = None
    longest: float | None = None
    text: str = ""

    def edges(self, wavelength: NDArray[np.float64]) -> Edges:
        """
        Return the channels of a spectrum.

        A number of channels, or a resolving power, divides the range of its pixels, from the outer edge of the first to
        that of the last; the resolving power is changed by so little that whole channels fill the range.
        """
        low, high = pixel_edges(wavelength)
        inside = np.isfinite(low)
        inside &= True if self.shortest is None else wavelength >= self.shortest
        inside &= True if self.longest is None else wavelength <= self.longest
        if self.kind == "edges":
            limits = np.array(self.channels)
            keep = np.ones(len(limits), dtype=bool)
            keep &= True if self.shortest is None else limits[:, 0] >= self.shortest
            keep &= True if self.longest is None else limits[:, 1] <= self.longest
            return Edges(limits[keep, 0], limits[keep, 1])
        if not inside.any():
            return Edges(np.empty(0), np.empty(0))
        if self.kind == "native":
            order = np.argsort(wavelength[inside], kind="stable")
            return Edges(low[inside][order], high[inside][order])
        begin, end = float(low[inside].min()), float(high[inside].max())
        if self.kind == "number":
            limits = np.linspace(begin, end, self.number + 1)
        else:
            ratio = (2.0 * self.resolution + 1.0) / (2.0 * self.resolution - 1.0)
            n = max(1, round(float(np.log(end / begin) / np.log(ratio))))
            limits = np.geomspace(begin, end, n + 1)
        return Edges(limits[:-1], limits[1:])

    def check(self, spectra: Sequence[tuple[NDArray[np.float64], NDArray[np.float64] | None]], name: str) -> None:
        """
        Raise if the channels hold no wavelength of any spectrum, or none with light, before these are made.

        Parameters
        ----------
        spectra : sequence of (ndarray of float, ndarray of float or None), shape (n_wave,)
            Wavelengths of each [micron], and the spectrum that is expected; None where nothing is, as without a survey.
        name : str
            Whose spectra they are.

        Raises
        ------
        ParameterError
            If there is none.
        """
        held = [self.edges(wavelength).members(wavelength) >= 0 for wavelength, _ in spectra]
        if not any(each.any() for each in held):
            has = _extent([wavelength for wavelength, _ in spectra])
            raise ParameterError(f"{self.text} leaves no channel with a wavelength of {name}, which has {has}", _NAME)
        bright = [np.ones(w.shape, bool) if light is None else light > 0.0 for w, light in spectra]
        if not any((inside & lit).any() for inside, lit in zip(held, bright, strict=True)):
            has = _extent([wavelength[lit] for (wavelength, _), lit in zip(spectra, bright, strict=True)])
            raise ParameterError(f"{self.text} leaves no channel with light in {name}, whose light is at {has}", _NAME)


def _extent(wavelengths: Sequence[NDArray[np.float64]]) -> str:
    """Return the range of some wavelengths in words."""
    known = [each[np.isfinite(each)] for each in wavelengths if np.isfinite(each).any()]
    if not known:
        return "no known wavelength"
    return f"{min(each.min() for each in known):.4g} to {max(each.max() for each in known):.4g} micron"


def pixel_edges(wavelength: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return where pixels begin and end in wavelength: halfway to their neighbours.

    Parameters
    ----------
    wavelength : ndarray of float, shape (n_wave,)
        Middle of each [micron], in any order; NaN where unknown. Of equal ones all but the first are left out.

    Returns
    -------
    low, high : ndarray of float64, shape (n_wave,)
        NaN where unknown, or where there is a single pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.steps.channel_spec import pixel_edges
    >>> [edge.tolist() for edge in pixel_edges(np.array([3.0, 2.0, np.nan, 1.0]))]
    [[2.5, 1.5, nan, 0.5], [3.5, 2.5, nan, 1.5]]
    """
    low, high = np.full(wavelength.shape, np.nan), np.full(wavelength.shape, np.nan)
    values, first = np.unique(wavelength, return_index=True)
    known = np.isfinite(values)
    values, first = values[known], first[known]
    if values.size > 1:
        between = 0.5 * (values[1:] + values[:-1])
        low[first] = np.r_[values[0] - (between[0] - values[0]), between]
        high[first] = np.r_[between, values[-1] + (values[-1] - between[-1])]
    return low, high


def parse_channels(parameters: Channels) -> ChannelSpec | None:
    """
    Return which channels are asked for; a file of edges is read.

    Parameters
    ----------
    parameters : Channels
        The step's parameters.

    Returns
    -------
    spec : ChannelSpec or None
        None if none are.

    Raises
    ------
    ParameterError
        If the text is nothing that is known, the file cannot be read, or edges do not rise.

    Examples
    --------
    >>> from tso3.parameters import Channels
    >>> from tso3.steps.channel_spec import parse_channels
    >>> parse_channels(Channels(spec="R=100")).resolution
    100.0
    >>> parse_channels(Channels(spec="2.9,3.0,3.2")).channels
    ((2.9, 3.0), (3.0, 3.2))
    """
    if parameters.spec is None:
        return None
    text = parameters.spec.strip()
    limits = {"shortest": parameters.min_wavelength, "longest": parameters.max_wavelength}
    if None not in limits.values() and not limits["shortest"] < limits["longest"]:  # type: ignore[operator]
        raise ParameterError(
            f"{limits['shortest']} is not below channels.max_wavelength = {limits['longest']}",
            "channels.min_wavelength",
        )
    if text.lower() == "native":
        return ChannelSpec("native", text=text, **limits)
    if found := re.fullmatch(r"[rR]\s*=\s*(\S+)", text):
        resolution = _positive(found[1])
        if resolution is None or not 1.0 <= resolution < 1e6:
            raise ParameterError(f"{text!r} is no resolving power between 1 and a million; give R=100", _NAME)
        return ChannelSpec("resolution", resolution=resolution, text=text, **limits)
    if re.fullmatch(r"[+-]?\d+", text):
        if not 1 <= int(text) <= _MOST:
            raise ParameterError(f"{text} is no number of channels between 1 and {_MOST}", _NAME)
        return ChannelSpec("number", number=int(text), text=text, **limits)
    if "," in text and not Path(text).is_file():
        values = [_positive(word) for word in text.split(",")]
        if None in values or len(values) < 2:
            raise ParameterError(f"{text!r} is no list of edges in micron, nor a file; give {_FORMS}", _NAME)
        edges = [value for value in values if value is not None]
        return ChannelSpec("edges", channels=_rising(list(pairwise(edges)), _NAME), text=text, **limits)
    if not Path(text).is_file():
        raise ParameterError(f"{text!r} is no file and nothing that is known; give {_FORMS}", _NAME)
    return ChannelSpec("edges", channels=_rising(list(read_edges(text)), text), text=text, **limits)


def wanted_channels(observation: Observation, parameters: Parameters) -> ChannelSpec | None:
    """
    Return which channels are asked for, before anything is reduced.

    Parameters
    ----------
    observation : Observation
        Which must have spectra.
    parameters : Parameters
        Of all steps.

    Returns
    -------
    spec : ChannelSpec or None
        None if none are.

    Raises
    ------
    ParameterError
        If they cannot be made: see `parse_channels`, or there are no spectra to make them of.
    """
    spec = parse_channels(parameters.channels)
    if spec is not None and not observation.exposures[0].from_spectra:
        if observation.mode.is_imaging:
            raise ParameterError(f"{observation.mode.exp_type} has no spectra to make channels of", "channels.spec")
        if parameters.extract_1d.skip:
            raise ParameterError("extract_1d is skipped, so there are no spectra to make channels of", "channels.spec")
    return spec


def _rising(channels: list[tuple[float, float]], where: str) -> tuple[tuple[float, float], ...]:
    """Return channels if they rise and do not overlap."""
    end = 0.0
    for low, high in channels:
        if not low < high or low < end:
            raise ParameterError(
                f"channel {low:g} to {high:g} micron "
                + ("does not rise" if not low < high else f"begins before {end:g}, where the one before ends")
                + "; give edges that rise, without overlap",
                where,
            )
        end = high
    return tuple(channels)


def _positive(word: str) -> float | None:
    """Return a positive finite number, None for anything else."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0.0 < value < np.inf else None
