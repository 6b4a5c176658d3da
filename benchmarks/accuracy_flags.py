"""What became of the samples of a run: cosmic rays found and missed, and good samples that were flagged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PLACES = ("ingress", "egress", "edges", "ends", "elsewhere")
"""Where false flags are counted; a sample counts at the first place of ``ends, edges, ingress, egress`` that has it."""
BESIDE = "beside rays"
"""Where samples count that touch one which a particle raised by more than 3 true sigma, in any integration: noise may
bring it above the threshold, and they are then judged by a lower one, which noise alone exceeds more often."""
COUNTED = (*PLACES, BESIDE)
_DO_NOT_USE, _OUTLIER = 1, 16
_HIT = 3.0
_STRUCK = 0.5
"""Particles that add more than so many true sigma make a sample struck: flagging it is no fault, nor missing it."""
_UNSTEADY = ("telegraph",)


def places(truth: Mapping[str, Any], lengths: Sequence[int], depth: float, edge: int, ends: int) -> np.ndarray:
    """
    Return the place of every integration, an index into ``PLACES``.

    Parameters
    ----------
    truth : mapping
        Of the exposure; its length counts.
    lengths : sequence of int
        Integrations of the segments.
    depth : float
        Of the transit.
    edge, ends : int
        Integrations on either side of a border, and at either end.
    """
    n = len(truth["ramp"])
    place = np.full(n, PLACES.index("elsewhere"))
    first, second = contacts(depth)
    middle = (np.arange(n) + 0.5) / n
    for name, sign in (("egress", 1.0), ("ingress", -1.0)):
        away = (middle - 0.5) * sign
        place[(away > second - 1.0 / n) & (away < first + 1.0 / n) & (depth > 0)] = PLACES.index(name)
    for border in np.cumsum(lengths)[:-1]:
        place[max(border - edge, 0) : border + edge] = PLACES.index("edges")
    place[:ends] = place[n - ends :] = PLACES.index("ends")
    return place


def contacts(depth: float) -> tuple[float, float]:
    """Return the times of fourth and third contact after mid-transit, in parts of the exposure."""
    from tso3.simulate.scene import Transit

    transit, k = Transit(depth=depth), math.sqrt(depth)
    half = transit.duration / 2
    chord = [math.sqrt(max((1 + sign * k) ** 2 - transit.impact**2, 0.0)) for sign in (1, -1)]
    return half, half * chord[1] / chord[0]


def count_flags(
    visit: Any,
    crfints: Sequence[Path],
    place: np.ndarray,
    levels: Sequence[float],
    snr: float = 5.0,
    snr_beside: float = 2.0,
) -> dict[str, float]:
    """
    Count flags in the products of one detector and exposure.

    Parameters
    ----------
    visit : SimulatedVisit
        With one truth.
    crfints : sequence of Path
        Flagged exposures, in the order of the segments.
    place : ndarray of int, shape (n_int,)
        `places`.
    levels : sequence of float
        Above how many true sigma cosmic rays are looked for.
    snr, snr_beside : float
        Threshold of the detection, to either side; and the lowest beside what a particle struck, upwards.

    Returns
    -------
    counts : dict of str to float
        ``false_PLACE`` and ``expect_PLACE`` (of ``COUNTED``), ``rays_LEVEL`` and ``found_LEVEL``.
    """
    truth = dict(np.load(next(iter(visit.truths.values()))))
    struck, bright_ones, rays = _cosmic_rays(truth, visit.members)
    counts: dict[str, float] = {f"{kind}_{name}": 0.0 for kind in ("false", "expect") for name in COUNTED}
    by_noise, beside = math.erfc(snr / math.sqrt(2)), math.erfc(snr_beside / math.sqrt(2)) / 2
    found: dict[int, bool] = {}
    known = {int(key) for key in rays}
    ny, nx = truth["reference"].shape
    unsteady = np.zeros((ny, nx), bool)
    for kind in _UNSTEADY:
        which = truth["bad_kind"] == list(truth["bad_kinds"]).index(kind)
        unsteady[truth["bad_y"][which], truth["bad_x"][which]] = True
    for i, (before, after) in enumerate(zip(_frames(visit.members, truth), _frames(crfints, truth), strict=True)):
        good = (before & _DO_NOT_USE) == 0
        flagged = (after & _OUTLIER) != 0
        here, hit = (_of_integration(numbers, i, ny * nx) for numbers in (struck, bright_ones))
        for key in here:
            number = int(key) + i * ny * nx
            if number in known and good.flat[key]:
                found[number] = bool(flagged.flat[key])
        free = good & ~unsteady
        free.flat[here] = False
        near = _touching(hit, (ny, nx))
        for name, mine, chance in ((PLACES[place[i]], free & ~near, by_noise), (BESIDE, free & near, beside)):
            counts[f"false_{name}"] += float((flagged & mine).sum())
            counts[f"expect_{name}"] += chance * float(mine.sum())
    for level in levels:
        bright = [number for number in found if rays[number] > level]
        counts[f"rays_{level:g}"] = float(len(bright))
        counts[f"found_{level:g}"] = float(sum(found[number] for number in bright))
    return counts


def _of_integration(numbers: np.ndarray, i: int, size: int) -> np.ndarray:
    """Return which samples of an integration are among rising numbers."""
    return numbers[np.searchsorted(numbers, i * size) : np.searchsorted(numbers, (i + 1) * size)] - i * size


def _touching(flat: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the samples of a frame that touch one of some."""
    wide = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    y, x = np.divmod(flat, shape[1])
    for dy in range(3):
        for dx in range(3):
            wide[y + dy, x + dx] = True
    return wide[1:-1, 1:-1]


def _frames(paths: Sequence[Path], truth: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Yield DQ of every integration on the frame of the truth; what is in no slit is DO_NOT_USE."""
    from astropy.io import fits

    shape = truth["reference"].shape
    for path in paths:
        with fits.open(path) as hdus:
            planes = [hdus["DQ", number].data for number in range(1, len(truth["slit_rows"]) + 1)]
            for i in range(len(planes[0])):
                frame = np.full(shape, _DO_NOT_USE, np.uint32)
                for (first, stop), plane in zip(truth["slit_rows"], planes, strict=True):
                    frame[first:stop] = plane[i]
                yield frame


def _cosmic_rays(truth: Mapping[str, Any], members: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """Return the numbers of struck samples, of those above 3 sigma, rising, and the true sigma of particles' peaks."""
    ny, nx = truth["reference"].shape
    place = tuple(truth[f"cosmic_ray_{axis}"].astype(np.int64) for axis in ("integration", "y", "x"))
    sigma = np.nan_to_num(truth["cosmic_ray_amplitude"]) / _noise(place, truth, members)
    number = (place[0] * ny + place[1]) * nx + place[2]
    order = np.argsort(number)
    number, sigma = number[order], np.nan_to_num(sigma[order])
    peak = sigma > 1.0
    for step in (-nx - 1, -nx, -nx + 1, -1, 1, nx - 1, nx, nx + 1):
        at = np.clip(np.searchsorted(number, number + step), 0, max(len(number) - 1, 0))
        peak &= ~((number[at] == number + step) & (sigma[at] > sigma)) if len(number) else peak
    return (
        number[sigma > _STRUCK],
        number[sigma > _HIT],
        dict(zip(number[peak].tolist(), sigma[peak].tolist(), strict=True)),
    )


def _noise(place: tuple[np.ndarray, ...], truth: Mapping[str, Any], members: Sequence[Path]) -> np.ndarray:
    """Return the true noise of samples (photon and read noise), in the unit of SCI; infinite where it is unknown."""
    from astropy.io import fits

    noise, first = np.full(len(place[0]), np.inf), 0
    for path in members:
        with fits.open(path) as hdus:
            for number, (row, stop) in enumerate(truth["slit_rows"], start=1):
                planes = [hdus[name, number].data for name in ("VAR_POISSON", "VAR_RNOISE")]
                mine = (place[0] >= first) & (place[0] < first + len(planes[0]))
                mine &= (place[1] >= row) & (place[1] < stop)
                at = (place[0][mine] - first, place[1][mine] - row, place[2][mine])
                variance = sum(plane[at].astype(float) for plane in planes) / float(truth["err_scale"]) ** 2
                noise[mine] = np.sqrt(np.where(variance > 0, variance, np.inf))
            first += len(planes[0])
    return noise
