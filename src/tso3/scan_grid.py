"""What scans of spectra and of images share: the grid, the light of blocks, the pass over an exposure."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.errors import Tso3Warning
from tso3.lane import Setting
from tso3.recipe import Part, Recipe, reduce_part
from tso3.scan_result import ScannedLight

__all__ = ["Gathered", "Grid", "scan_exposure", "settled"]


@dataclass(frozen=True)
class Grid:
    """
    What is scanned.

    Attributes
    ----------
    sizes : tuple of float
        Widths or radii [pixel], ascending; empty for those that suit the exposure.
    backgrounds : tuple of str
        Spectra: keys of `tso3.steps.scan.BACKGROUNDS`.
    annuli : tuple of (float, float)
        Imaging: inner and outer radii [pixel]; empty for that of a run.
    """

    sizes: tuple[float, ...] = ()
    backgrounds: tuple[str, ...] = ("as-is",)
    annuli: tuple[tuple[float, float], ...] = ()


class Gathered:
    """Light of blocks, by their first integration; they come from several threads and in any order."""

    def __init__(self) -> None:
        self.parts: dict[int, list[NDArray[np.float64]]] = {}

    def result(self) -> list[NDArray[np.float64]]:
        """Return the light of each spectrum, shape (3, n_point, n_int), in the order of the exposure."""
        ordered = [self.parts[start] for start in sorted(self.parts)]
        return [np.concatenate(light, axis=2) for light in zip(*ordered, strict=True)]


def scan_exposure(setting: Setting, recipe: Recipe) -> list[NDArray[np.float64]]:
    """
    Return the light of an exposure in all apertures; nothing is written.

    Parameters
    ----------
    setting : Setting
        Its crew does the work.
    recipe : SpectralScanRecipe or ImagingScanRecipe
        Of the exposure.

    Returns
    -------
    light : list of ndarray, shape (3, n_point, n_int)
        By spectrum: flux, variance of photon and read noise were no pixel missing, share of missing light.
    """
    pieces = setting.crew.pieces(recipe.exposure)
    parts = [Part((recipe,), segments, setting.crew.limits, setting.folder) for segments in pieces]
    label = f"{recipe.exposure.label}: scan"
    results = sorted(setting.crew.run(reduce_part, parts, label, setting.progress), key=lambda r: r.segments.start)
    return [np.concatenate(light, axis=2) for light in zip(*(r.gathered[0] for r in results), strict=True)]


def settled(light: ScannedLight, name: str) -> float:
    """
    Return the size that a scan chooses.

    Parameters
    ----------
    light : ScannedLight
        Of one spectrum or star.
    name : str
        Parameter that is ``auto``.

    Returns
    -------
    size : float
        Pixel; the usual size, with a warning, where the scatter cannot be told.
    """
    if light.chosen is not None:
        return light.chosen.size
    warnings.warn(
        f"{name}: auto needs at least 10 integrations with light to choose by their scatter; {light.name} has not, and"
        f" keeps {light.usual:g} pixels",
        Tso3Warning,
        stacklevel=3,
    )
    return light.usual
