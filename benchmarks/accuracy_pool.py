"""Numbers pooled over seeds, with their standard errors, and whether they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accuracy_flags import COUNTED

BOUNDS: dict[str, dict[str, float]] = {
    "nominal": {"out": 1.05, "optimal": 1.02, "edge": 1.1, "mean": 0.1, "low": 0.93, "high": 1.07, "found_8": 0.995,
                "found_6": 0.95, "chi2_low": 0.95, "chi2": 1.05},
    "difficult": {"out": 1.2, "optimal": 1.2, "edge": 1.3, "mean": 0.3, "low": 0.0, "high": math.inf, "found_8": 0.99,
                  "found_6": 0.9, "chi2_low": 0.0, "chi2": 1.3},
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """
    A pooled number.

    Attributes
    ----------
    value, error : float
        NaN where there is nothing.
    holds : bool or None
        Whether it is within two standard errors of its bound; None where there is none.
    """

    value: float
    error: float
    holds: bool | None = None

    def text(self, digits: int = 3) -> str:
        """Return the number with its error; bold where it does not hold."""
        if not math.isfinite(self.value):
            return "–"
        text = f"{self.value:.{digits}f}"
        text += f" ± {self.error:.{digits}f}" if math.isfinite(self.error) else ""
        return f"**{text}**" if self.holds is False else text


def add(sums: dict[str, list[float]], numbers: Mapping[str, float]) -> None:
    """Add the numbers of one seed to the sums, in place: ``[n, sum, sum of squares, sum of products]``."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            continue
        other = numbers.get(f"{name}_ref", 0.0)
        entry = sums.setdefault(name, [0.0, 0.0, 0.0, 0.0])
        for k, more in enumerate((1.0, value, value * value, value * other)):
            entry[k] += more


def ratio(sums: Mapping[str, list[float]], name: str, bound: float) -> Figure:
    """Return the root of the ratio of two pooled variances; its error by the delta method."""
    if name not in sums or f"{name}_ref" not in sums:
        return Figure(math.nan, math.nan)
    n, x, xx, xy = sums[name]
    _, y, yy, _ = sums[f"{name}_ref"]
    share = x / y
    spread = max(xx - 2 * share * xy + share**2 * yy, 0.0)
    error = math.sqrt(spread * n / max(n - 1, 1)) / y if n > 1 else math.nan
    value = math.sqrt(share)
    return _below(value, float(error / (2 * value)), bound)


def moments(sums: Mapping[str, list[float]], name: str) -> tuple[float, float, float]:
    """Return number, mean and standard deviation."""
    n, x, xx, _ = sums.get(name, (0.0, 0.0, 0.0, 0.0))
    if n == 0:
        return 0.0, math.nan, math.nan
    variance = (xx - x * x / n) / (n - 1) if n > 1 else math.nan
    return n, x / n, math.sqrt(max(variance, 0.0)) if n > 1 else math.nan


def found(sums: Mapping[str, list[float]], level: str, bound: float) -> Figure:
    """Return the share of the cosmic rays that were found."""
    n, hits = (sums.get(f"{kind}_{level}", (0.0, 0.0))[1] for kind in ("rays", "found"))
    if n == 0:
        return Figure(math.nan, math.nan)
    share = hits / n
    kept = (hits + 1) / (n + 2)
    error = math.sqrt(kept * (1 - kept) / n)
    return Figure(share, error, share + 2 * error >= bound)


def false_flags(sums: Mapping[str, list[float]], place: str, kind: str) -> tuple[float, float, bool]:
    """Return false flags, their expectation, and whether they are few enough."""
    flags, expected = (sums.get(f"{part}_{place}", (0.0, 0.0))[1] for part in ("false", "expect"))
    bound = 3 * expected + 3 * math.sqrt(expected) + 3 if kind == "nominal" else 10 * expected + 10
    return flags, expected, flags - 2 * math.sqrt(flags) <= bound


def figures(row: Mapping[str, Any], kind: str, optimal: bool) -> dict[str, Figure]:
    """Return the pooled figures of one scene and program, by measure; false flags are apart."""
    sums, bounds = row["sums"], BOUNDS[kind]
    n, mean, deviation = moments(sums, "pull")
    # few seeds may agree by chance: their scatter is not believed below that of noise
    one = max(deviation, 1.0) if n > 1 else 1.0
    mean_error = one / math.sqrt(n) if n else math.nan
    width_error = one / math.sqrt(2 * (n - 1)) if n > 1 else math.nan
    return {
        "out": ratio(sums, "out", bounds["optimal" if optimal else "out"]),
        "edge": ratio(sums, "edge", bounds["edge"]),
        "pull mean": Figure(mean, mean_error, abs(mean) - 2 * mean_error <= bounds["mean"] if n else None),
        "pull std": Figure(deviation, width_error, _inside(deviation, width_error, bounds["low"], bounds["high"])),
        "chi2 out": _chi2(sums, "chi2_out", bounds, 30.0),
        "found 8": found(sums, "8", bounds["found_8"]),
        "found 6": found(sums, "6", bounds["found_6"]),
        "chi2": _chi2(sums, "chi2", bounds),
        "chi2, shifts fitted": _chi2(sums, "chi2_free", bounds),
    }


def _chi2(sums: Mapping[str, list[float]], name: str, bounds: Mapping[str, float], freedom: float = 20.0) -> Figure:
    """Return the mean of a chi-square that has about so many degrees of freedom in each seed."""
    n, value, scatter = moments(sums, name)
    floor = math.sqrt(2 / freedom)
    error = (max(scatter, floor) if n > 1 else floor) / math.sqrt(n) if n else math.nan
    return Figure(value, error, _inside(value, error, bounds["chi2_low"], bounds["chi2"]))


def failures(row: Mapping[str, Any], kind: str, optimal: bool) -> list[str]:
    """Return the names of what does not hold."""
    names = [name for name, figure in figures(row, kind, optimal).items() if figure.holds is False]
    return names + [f"false flags: {place}" for place in COUNTED if not false_flags(row["sums"], place, kind)[2]]


def _below(value: float, error: float, bound: float) -> Figure:
    return Figure(value, error, bool(value - 2 * error <= bound) if math.isfinite(error) else None)


def _inside(value: float, error: float, low: float, high: float) -> bool | None:
    return low - 2 * error <= value <= high + 2 * error if math.isfinite(value) and math.isfinite(error) else None
