"""The cases that are measured, as data: what is simulated, how it is reduced, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """
    One case: a simulated exposure, the parameters of its reduction, and the factor that is promised.

    Attributes
    ----------
    name : str
        As typed after ``--case``.
    mode : str
        EXP_TYPE.
    shape : tuple of int
        Rows and columns of the subarray.
    n_int, segments : int
        Integrations of the exposure and files that it is split into.
    at_most, aim : float
        The archive preset needs at most ``1/at_most`` of the reference pipeline's wall time and aims at ``1/aim``.
    simulate : dict
        Further arguments of `tso3.simulate.simulate`.
    parameters : dict
        Parameters by step, given to both programs.
    references : tuple of str
        Kinds of reference files given to both programs, of those that the simulator makes.
    """

    name: str
    mode: str
    shape: tuple[int, int]
    n_int: int
    at_most: float
    aim: float
    segments: int = 2
    simulate: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: tuple[str, ...] = ("extract1d", "apcorr", "gain")

    @property
    def title(self) -> str:
        """Name, size and number of integrations, as in the tables."""
        return f"{self.name} {self.shape[0]}×{self.shape[1]} × {self.n_int}"


_ONE_DETECTOR = {"detectors": ["NRS1"]}
_BACKGROUND = {"extract_1d": {"subtract_background": True}}
_NO_BACKGROUND = {"extract_1d": {"subtract_background": False}}
_GRISM = {"parameters": _BACKGROUND, "references": ("extract1d",)}  # with an apcorr jwst 3.0.0 ends in a KeyError
_SOSS = {
    "parameters": {"extract_1d": {"soss_atoca": False}},
    "references": ("pastasoss", "specprofile", "speckernel", "photom"),
}

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("bots", "NRS_BRIGHTOBJ", (32, 2048), 800, 30, 60, 2, _ONE_DETECTOR, _NO_BACKGROUND),
        Case("tsgrism64", "NRC_TSGRISM", (64, 2048), 800, 30, 50, **_GRISM),
        Case("tsgrism256", "NRC_TSGRISM", (256, 2048), 150, 20, 40, simulate={"subarray": "SUBGRISM256"}, **_GRISM),
        Case("lrs", "MIR_LRS-SLITLESS", (416, 72), 400, 50, 80, parameters=_BACKGROUND),
        Case("soss", "NIS_SOSS", (256, 2048), 100, 20, 40, **_SOSS),
        Case("tsimage", "NRC_TSIMAGE", (64, 64), 1600, 12, 25),
        Case("mirimage", "MIR_IMAGE", (64, 72), 1200, 8, 15),
        Case("bots-long", "NRS_BRIGHTOBJ", (32, 2048), 5000, 60, 100, 2, _ONE_DETECTOR, _NO_BACKGROUND),
    )
}
"""The table of the issue on speed, by the name of the case."""
