"""What makes a scene difficult: each trouble is off unless asked for, and none changes another's random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.errors import ParameterError
from tso3.simulate.pixels import KINDS, BadPixels
from tso3.simulate.scene import stream

if TYPE_CHECKING:
    from tso3.simulate.instruments import Instrument

__all__ = ["NO_TROUBLES", "TILT_TIME", "Troubles", "make_troubles", "spoil_pixels"]

TILT_TIME = 0.62
"""When a tilt event happens, in parts of the exposure: in the transit."""
_FLARE = (0.8, 0.005, 0.04)
_PHASE_PERIOD = 1.3
_LIMITS = {
    "err_scale": (0.1, 10.0),
    "lapsing_pixels": (0.0, 0.1),
    "hot_pixels": (0.0, 0.1),
    "saturation": (0.0, 1.0),
    "tilt": (0.0, 5.0),
    "background_change": (-1e6, 1e6),
    "tails": (0.0, 0.5),
    "phase_curve": (0.0, 1.0),
    "flare": (0.0, 10.0),
}


@dataclass(frozen=True)
class Troubles:
    """
    Troubles of a scene.

    Attributes
    ----------
    stripes : {"columns", "rows"}, optional
        Direction of the lines that share read noise (``one_over_f`` of `tso3.simulate.simulate`); default: that of the
        mode.
    err_scale : float
        Factor by which ERR is wrong; the variances by its square. SCI has the true noise.
    lapsing_pixels : float
        Fraction of the pixels that come and go, in runs of 4 to 15 integrations: half of them flagged while they are
        bad, half with a signal of about ten times the noise and no flag.
    hot_pixels : float
        Fraction of the pixels that are hot and have no flag, beside those among ``bad_pixels``.
    saturation : float
        Full well in parts of the charge that the star's brightest pixel has at the end of its ramp; 0 for none. Pixels
        lose the groups above it, and have no value where fewer than two are left.
    tilt : float
        Sudden shift of the star [pixel] at `TILT_TIME`, in the direction (0.6, 0.8).
    background_change : float
        Rise of the background over the exposure [electron / s / pixel], linear in time.
    tails : float
        Part of a particle's charge that shows in the integrations after it, the first with ``exp(-1/3)`` of this and
        each ``exp(-1/3)`` times the one before; ten of them.
    profile : str
        File (.npy, rows by columns) of a median frame of SOSS in SUBSTRIP256: the profile of its order 1 becomes that
        of all orders. Empty: the drawn one.
    phase_curve : float
        Semi-amplitude of a cosine in the star's light, with a period of 1.3 exposures.
    flare : float
        Height of a flare after the transit, relative to the star: a rise within 0.5 % of the exposure and an
        exponential decay with 4 %.

    Examples
    --------
    >>> from tso3.simulate.troubles import Troubles
    >>> Troubles(flare=0.2).variation(4).round(3).tolist()
    [1.0, 1.0, 1.0, 1.034]
    """

    stripes: str | None = None
    err_scale: float = 1.0
    lapsing_pixels: float = 0.0
    hot_pixels: float = 0.0
    saturation: float = 0.0
    tilt: float = 0.0
    background_change: float = 0.0
    tails: float = 0.0
    profile: str = ""
    phase_curve: float = 0.0
    flare: float = 0.0

    def variation(self, n_int: int) -> np.ndarray:
        """Return the star's own variation in each integration, averaged over it: 1 without phase curve and flare."""
        fine = 40
        t = (np.arange(n_int * fine) + 0.5) / (n_int * fine)
        begin, rise, decay = _FLARE
        since = t - begin
        shape = np.where(since < 0, 0.0, np.where(since < rise, since / rise, np.exp(-(since - rise) / decay)))
        wave = np.cos(2 * np.pi * (t - 0.5) / _PHASE_PERIOD)
        star = 1.0 + self.flare * shape - self.phase_curve * (wave - 1.0)
        return star.reshape(n_int, fine).mean(axis=1)


NO_TROUBLES = Troubles()
"""All off."""


def make_troubles(given: Troubles | Mapping[str, Any] | None, instrument: Instrument) -> Troubles:
    """
    Return the troubles of a visit, checked.

    Parameters
    ----------
    given : Troubles or mapping or None
        Fields of `Troubles`.
    instrument : Instrument
        The mode.

    Returns
    -------
    troubles : Troubles
        All off for None.

    Raises
    ------
    ParameterError
        If a field is unknown, out of its bounds, or not for this mode.
    """
    if given is None:
        return NO_TROUBLES
    values = {f.name: getattr(given, f.name) for f in fields(Troubles)} if isinstance(given, Troubles) else dict(given)
    known = {f.name for f in fields(Troubles)}
    if unknown := sorted(set(values) - known):
        raise ParameterError(f"{unknown[0]} is no trouble; there are {', '.join(sorted(known))}", "troubles")
    troubles = Troubles(**values)
    for name, (low, high) in _LIMITS.items():
        if not low <= getattr(troubles, name) <= high:
            raise ParameterError(f"{getattr(troubles, name)} is out of bounds; give {low:g} to {high:g}", name)
    if troubles.stripes not in (None, "columns", "rows"):
        raise ParameterError(f"{troubles.stripes!r} is no direction; give columns or rows", "stripes")
    if troubles.profile and instrument.exp_type != "NIS_SOSS":
        raise ParameterError(f"a profile is drawn from a frame of SOSS, and the mode is {instrument.exp_type}",
                             "profile")  # fmt: skip
    if troubles.profile and not Path(troubles.profile).is_file():
        raise ParameterError(f"{troubles.profile} is no file; give a frame of SOSS as .npy", "profile")
    return troubles


def spoil_pixels(
    bad: BadPixels, troubles: Troubles, shape: tuple[int, int], sigma: float, key: tuple[int, int]
) -> BadPixels:
    """
    Return bad pixels with those that come and go and those that are hot without a flag.

    Parameters
    ----------
    bad : BadPixels
        Of the detector; they stay what they are.
    troubles : Troubles
        Fractions.
    shape : (ny, nx)
        Detector.
    sigma : float
        Read noise of an integration [electron / s].
    key : (seed, detector)
        The random stream.

    Returns
    -------
    bad : BadPixels
        No place twice.
    """
    counts = [round(part * shape[0] * shape[1]) for part in (troubles.lapsing_pixels, troubles.hot_pixels)]
    if not sum(counts):
        return bad
    rng = stream(key[0], 0, key[1], 7)
    free = np.setdiff1d(np.arange(shape[0] * shape[1]), bad.y * shape[1] + bad.x)
    place = rng.permutation(free)[: sum(counts)]
    lapsing = np.arange(len(place)) < counts[0]
    flagged = np.arange(len(place)) % 2 == 0
    names = np.where(lapsing, np.where(flagged, "lapsing", "telegraph"), "hot")
    signal = np.exp(rng.normal(np.log(25.0), 0.8, len(place))) * sigma
    return BadPixels(
        np.concatenate([bad.y, place // shape[1]]),
        np.concatenate([bad.x, place % shape[1]]),
        np.concatenate([bad.kind, [KINDS.index(name) for name in names]]).astype(bad.kind.dtype),
        np.concatenate([bad.rate, np.where(names == "telegraph", 0.4 * signal, np.where(lapsing, 0.0, signal))]),
        np.concatenate([bad.period, rng.integers(4, 16, len(place))]),
        np.concatenate([bad.phase, rng.integers(0, 1000, len(place))]),
    )
