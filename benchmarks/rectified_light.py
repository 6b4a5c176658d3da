"""
White light from rectified frames against that from the pixels of the detector, for every spectral mode but MIRI's MRS.

    python benchmarks/rectified_light.py [--n-int 60] [--seed 1] [--step auto] [MODE[:CONFIGURATION] ...]

Every visit is simulated and reduced twice, with ``extract_1d.from`` = exposure and rectified, where it has one spectrum
within the wavelengths that both have. Both curves are divided by their median; the table has the median and the largest
absolute difference in units of the error of the first, the ratio of point-to-point scatters, and that of the errors.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tso3
from tso3.core.noise import point_to_point
from tso3.simulate import simulate

CASES = (
    "NRS_BRIGHTOBJ:PRISM",
    "NRS_BRIGHTOBJ:G395H",
    "NRC_TSGRISM",
    "NRC_TSGRISM:DHS",
    "MIR_LRS-SLITLESS",
    "NIS_SOSS",
)
"""What is simulated by default."""


@dataclass(frozen=True)
class Difference:
    """
    What one light curve is from rectified frames, against that from the detector.

    Attributes
    ----------
    column : str
        Of the table of light curves.
    middle, largest : float
        Median and largest absolute difference over the error.
    scatter, error : float
        Ratio of the point-to-point scatters, and of the median errors.
    """

    column: str
    middle: float
    largest: float
    scatter: float
    error: float


def differences(visit: Any, folder: Path, step: str = "auto") -> list[Difference]:
    """Reduce a visit in both ways and return how its light curves differ."""
    tables: list[Any] = []
    band: dict[str, float] = {}
    for source in ("rectified", "exposure"):
        parameters = {
            "white_light": band,
            "extract_1d": {"from": source},
            "rectify": {"skip": True, "step": step},
            "outlier_detection": {"save_results": False},
        }
        result = tso3.run(visit.association, folder / source, overrides=visit.references, parameters=parameters)
        tables.insert(0, result.white_light)
        spans = list(result.white_light.meta["wavelength_range"].values())
        if len(spans) == 1:
            band = {"min_wavelength": spans[0][0], "max_wavelength": spans[0][1]}
    return [_difference(tables, name) for name in tables[0].colnames if _is_light(name)]


def _is_light(name: str) -> bool:
    beside = ("error", "limit", "fixed")
    return name.startswith(("whitelight_flux", "whitelight_normalized")) and not any(word in name for word in beside)


def _difference(tables: list[Any], name: str) -> Difference:
    """Return how a column differs between two tables."""
    kind = "flux" if name.startswith("whitelight_flux") else "normalized"
    errors = name.replace(f"whitelight_{kind}", f"whitelight_{kind}_error")
    scales = [float(np.nanmedian(np.asarray(table[name], float))) for table in tables]
    first, second = (np.asarray(table[name], float) / scale for table, scale in zip(tables, scales, strict=True))
    error, other = (np.asarray(table[errors], float) / scale for table, scale in zip(tables, scales, strict=True))
    apart = np.abs(second - first) / error
    return Difference(
        name.removeprefix("whitelight_"),
        float(np.nanmedian(apart)),
        float(np.nanmax(apart)),
        point_to_point(second) / point_to_point(first),
        float(np.nanmedian(other) / np.nanmedian(error)),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--n-int", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", default="auto")
    given = parser.parse_args()
    print("| visit | curve | median difference / error | largest | scatter ratio | error ratio |")
    print("|---|---|---|---|---|---|")
    for case in given.cases:
        mode, _, configuration = case.partition(":")
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = Path(folder)
            chosen = {"configuration": configuration} if configuration else {}
            visit = simulate(mode, place / "visit", n_int=given.n_int, seed=given.seed, **chosen)
            for each in differences(visit, place, given.step):
                print(
                    f"| {case} | {each.column} | {each.middle:.3f} | {each.largest:.3f} | {each.scatter:.3f} |"
                    f" {each.error:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
