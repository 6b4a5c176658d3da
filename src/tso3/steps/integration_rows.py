"""Which row of a table an integration of several exposures and detectors belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tso3.io.exposure import Exposure

__all__ = ["Key", "integration_keys", "integration_rows"]

Key = tuple[tuple[str, ...], int]
"""Exposure and number of the integration."""


def integration_keys(exposure: Exposure) -> list[Key]:
    """
    Return what integrations of different detectors are paired by.

    Parameters
    ----------
    exposure : Exposure
        Of one detector.

    Returns
    -------
    keys : list of Key
        One for each of its integrations.
    """
    return [(exposure.visit, int(number)) for number in exposure.times.int_num]


def integration_rows(exposures: Sequence[Exposure]) -> dict[Key, int]:
    """
    Return the row of every integration, exposures in the order of their first time.

    Parameters
    ----------
    exposures : sequence of Exposure
        Of all detectors; one may be there more than once.

    Returns
    -------
    rows : dict of Key to int
        From 0, in order.
    """
    begin: dict[tuple[str, ...], float] = {}
    keys: set[Key] = set()
    for exposure in exposures:
        keys.update(integration_keys(exposure))
        known = exposure.times.mid_mjd_utc[np.isfinite(exposure.times.mid_mjd_utc)]
        visit = exposure.visit
        begin[visit] = min(begin.get(visit, np.inf), float(known[0]) if known.size else np.inf)
    ordered = sorted(keys, key=lambda key: (begin[key[0]], key))
    return {key: row for row, key in enumerate(ordered)}
