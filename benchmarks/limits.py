"""
What the light curve of a scene could be at best, for bounds that it does not hold.

``--rays 4 2 1``: the truth's own list of pixels that cosmic rays struck by more than so many sigma is marked in the
input files, and nothing else is sought; the scatter out of transit is held against the undisturbed twin, as
`accuracy.py` does. ``--saturation``: what is left of the information about the brightness in the pixels that a
saturated core leaves, from the variances of the files:

    error^2 = S^2 / sum(s_p^2 / v_p)  over the sum of v_p of the twin,

with s_p the light of a pixel, v_p its variance, S their sum over the aperture (of every column of a spectrum).
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_light import Light, judge, read_light
from accuracy_seed import QUIETLY, UNJUDGED, with_channels
from scenes import Scene, load

_ONLY_MARKED = {"outlier_detection": {"snr": 1000.0, "snr_beside": None, "snr_around": None}}
_DO_NOT_USE = 1
_APERTURE = {"image": 4.0, "spectrum": 5}
"""Radius, and rows on either side of the brightest, that are summed [pixel]."""
_FAINT = 0.02
"""Columns with less of the light of the brightest are left out."""


def mark_rays(members: Sequence[Path], truth: Any, above: float) -> None:
    """Mark the pixels that cosmic rays struck by more than so many sigma as bad, in the files."""
    from astropy.io import fits

    integration, strength = truth["cosmic_ray_integration"], np.abs(truth["cosmic_ray_sigma"])
    first = 0
    for path in members:
        with fits.open(path, mode="update") as content:
            dq = content["DQ"].data
            inside = (integration >= first) & (integration < first + len(dq)) & (strength > above)
            place = (integration[inside] - first, truth["cosmic_ray_y"][inside], truth["cosmic_ray_x"][inside])
            dq[place] |= _DO_NOT_USE
            first += len(dq)


def reduced(visit: Any, folder: Path, parameters: dict[str, Any], n_channels: int) -> Light:
    """Return the light curve of a visit."""
    import tso3

    tso3.run(visit.association, folder, parameters=parameters, workers=1)
    return read_light(folder, visit.truths, n_channels)


def with_rays_known(scene: Scene, seeds: int, levels: Sequence[float | None], settings: Any) -> dict[Any, list[float]]:
    """Return scatter over that of the twin, its error, and chi-square of the channels, by what is known of the rays."""
    from accuracy_flags import contacts
    from tso3.simulate import reused_parts

    contact, n_channels = contacts(scene.options["depth"]), settings["channels"]
    found: dict[Any, list[list[float]]] = {level: [] for level in levels}
    with reused_parts():
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="limits-") as scratch:
                folder = Path(scratch)
                twin = scene.simulate_twin(folder / "twin", seed)
                usual = {**UNJUDGED, **with_channels(twin, n_channels)}
                best = reduced(twin, folder / "best", {**usual, **QUIETLY}, n_channels)
                for k, level in enumerate(levels):
                    visit = scene.simulate(folder / f"visit{k}", seed)
                    if level is not None:
                        mark_rays(visit.members, np.load(next(iter(visit.truths.values()))), level)
                    parameters = usual if level is None else {**usual, **_ONLY_MARKED}
                    numbers = judge(reduced(visit, folder / f"out{k}", parameters, n_channels), best, contact)
                    found[level].append([numbers[name] for name in ("out", "out_ref", "chi2")])
    return {level: _pooled(np.array(rows)) for level, rows in found.items()}


def _pooled(rows: np.ndarray) -> list[float]:
    """Return the ratio of the pooled scatters, its error by leaving out one seed at a time, and the mean chi-square."""
    ratio = float(np.sqrt(rows[:, 0].sum() / rows[:, 1].sum()))
    without = np.sqrt((rows[:, 0].sum() - rows[:, 0]) / (rows[:, 1].sum() - rows[:, 1]))
    n = len(rows)
    return [ratio, float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())), float(rows[:, 2].mean())]


def left_by_saturation(scene: Scene, seed: int = 0) -> float:
    """Return the least error of the brightness that the pixels of a saturated scene allow, over that of the twin."""
    with tempfile.TemporaryDirectory(prefix="limits-") as scratch:
        visit, twin = scene.simulate(Path(scratch) / "visit", seed), scene.simulate_twin(Path(scratch) / "twin", seed)
        light, usual = _planes(twin.members)
        _, variance = _planes(visit.members)
    light = light - np.nanmedian(light)
    peak = np.unravel_index(int(np.nanargmax(light)), light.shape)
    if scene.options["mode"] in ("NRC_TSIMAGE", "MIR_IMAGE"):
        y, x = np.indices(light.shape)
        inside = np.hypot(y - peak[0], x - peak[1]) < _APERTURE["image"]
        columns = [(light[inside], variance[inside], usual[inside])]
    else:
        row = int(np.nanargmax(np.nansum(light, axis=1)))
        rows = slice(row - _APERTURE["spectrum"], row + _APERTURE["spectrum"] + 1)
        columns = [(light[rows, x], variance[rows, x], usual[rows, x]) for x in range(light.shape[1])]
        brightest = max(np.nansum(each[0]) for each in columns)
        columns = [each for each in columns if np.nansum(each[0]) > _FAINT * brightest]
    now = before = 0.0
    for s, v, v0 in columns:
        good = np.isfinite(v) & np.isfinite(s)
        now += np.nansum(s) ** 2 / (s[good] ** 2 / v[good]).sum()
        before += np.nansum(v0)
    return float(np.sqrt(now / before))


def _planes(members: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the median image, and the median variance of pixels that are valid in half of the integrations."""
    from astropy.io import fits

    sci, poisson, rnoise = (
        np.concatenate([fits.getdata(path, name) for path in members]).astype(np.float64)
        for name in ("SCI", "VAR_POISSON", "VAR_RNOISE")
    )
    variance = np.nanmedian(poisson + rnoise, axis=0)
    variance[np.isnan(poisson).mean(axis=0) > 0.5] = np.nan
    return np.nanmedian(sci, axis=0), variance


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", required=True, help="name of a scene")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--rays", type=float, nargs="+", metavar="SIGMA", help="rays above so many sigma are known")
    parser.add_argument("--saturation", action="store_true", help="what a saturated core leaves")
    options = parser.parse_args()
    settings, scenes = load()
    scene = next((each for each in scenes if each.name == options.scene), None)
    if scene is None:
        parser.error(f"no scene {options.scene!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.saturation:
            print(f"{scene.name}: at least {left_by_saturation(scene):.2f} times the twin's error")
        if options.rays:
            for level, numbers in with_rays_known(scene, options.seeds, [None, *options.rays], settings).items():
                known = "as found" if level is None else f"known above {level:g}"
                print(f"{scene.name}, rays {known}: {numbers[0]:.3f} ± {numbers[1]:.3f}, channels {numbers[2]:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
