"""When the integrations were taken: INT_TIMES and the time keywords of a simulated exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tso3.simulate.detector import Clock
from tso3.simulate.wcs import TARGET

__all__ = ["ExposureTimes", "exposure_times"]

EPOCH = 59790.921875
"""Start of the first simulated exposure [MJD UTC] (2022-07-30)."""
TDB_MINUS_UTC = 69.184
"""Leap seconds and the offset of terrestrial time, valid since 2017 [s]."""
LIGHT_SECONDS_PER_AU = 499.004784


@dataclass(frozen=True)
class ExposureTimes:
    """
    Times of all integrations of an exposure.

    Attributes
    ----------
    start, mid, end : ndarray, shape (n_int,)
        [MJD UTC].
    start_bjd, mid_bjd, end_bjd : ndarray, shape (n_int,)
        [BJD TDB - 2400000.5].
    """

    start: np.ndarray
    mid: np.ndarray
    end: np.ndarray
    start_bjd: np.ndarray
    mid_bjd: np.ndarray
    end_bjd: np.ndarray

    def table(self, first: int, stop: int) -> np.ndarray:
        """
        Return INT_TIMES of integrations ``first`` to ``stop`` (0-based, half-open) as a structured array.

        Raises nothing; integration numbers are 1-based in the exposure.
        """
        columns = {
            "integration_number": np.arange(first + 1, stop + 1, dtype=np.int32),
            "int_start_MJD_UTC": self.start[first:stop],
            "int_mid_MJD_UTC": self.mid[first:stop],
            "int_end_MJD_UTC": self.end[first:stop],
            "int_start_BJD_TDB": self.start_bjd[first:stop],
            "int_mid_BJD_TDB": self.mid_bjd[first:stop],
            "int_end_BJD_TDB": self.end_bjd[first:stop],
        }
        table = np.zeros(stop - first, [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            table[name] = values
        return table


def exposure_times(clock: Clock, n_int: int, offset: float = 0.0, exposure: int = 0) -> ExposureTimes:
    """
    Return the times of an exposure; a second exposure starts 12 s after the end of the first.

    Parameters
    ----------
    clock : Clock
        Integration time and cadence.
    n_int : int
        Integrations.
    offset : float, optional
        Start after the start of the first detector [s].
    exposure : int, optional
        0-based number of the exposure.

    Returns
    -------
    times : ExposureTimes
        The barycentric correction follows the Earth (the telescope is 0.01 au from it) in direction of the target.

    Examples
    --------
    >>> from tso3.simulate.detector import Clock
    >>> from tso3.simulate.times import exposure_times
    >>> times = exposure_times(Clock(1.0, 9), 3)
    >>> float(round((times.mid[1] - times.mid[0]) * 86400, 5))
    10.0
    """
    second = exposure * (n_int * clock.cadence + 12.0) + offset
    start = EPOCH + (second + np.arange(n_int) * clock.cadence) / 86400.0
    mid = start + clock.integration / 2 / 86400.0
    end = start + clock.integration / 86400.0
    correction = TDB_MINUS_UTC / 86400.0 + _light_time(mid)
    return ExposureTimes(start, mid, end, start + correction, mid + correction, end + correction)


def _light_time(mjd: np.ndarray) -> np.ndarray:
    """Return the light travel time to the barycentre [day] by the built-in solar system of astropy (no download)."""
    from astropy.coordinates import get_body_barycentric
    from astropy.time import Time

    ends = Time([mjd[0], mjd[-1] + 1e-3], format="mjd", scale="tdb")
    position = get_body_barycentric("earth", ends, ephemeris="builtin").xyz.to_value("au")
    ra, dec = np.deg2rad(TARGET)
    direction = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    seconds = direction @ position * LIGHT_SECONDS_PER_AU
    return np.interp(mjd, ends.mjd, seconds) / 86400.0
