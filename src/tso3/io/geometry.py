"""
What an exposure's world coordinate system says, asked in one place and remembered from run to run.

gWCS and what it imports take longer than all else that a short run does, to say a few numbers that are the same in
every run. Every question goes through `Geometry.ask`, which looks first among the answers that are kept
(`tso3.io.memory`); the libraries are imported where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.io.fitsfile import read_unit, scan_hdus
from tso3.io.memory import Arrays, code_digest, digest, remembered, versions
from tso3.io.wcs import pixel_scale, read_wcs, sky_position, wavelength_of_grid

if TYPE_CHECKING:
    from gwcs import WCS

__all__ = ["Geometry"]

_PACKAGES = ("gwcs", "stdatamodels", "asdf-astropy", "asdf", "astropy", "numpy", "scipy")
"""What a transform is evaluated by."""


@dataclass(frozen=True)
class Geometry:
    """
    The world coordinate system of one file, or of one slit in it, as far as anybody needs to know it.

    Attributes
    ----------
    path : Path
        A calints file; of an exposure, its first segment.
    slit : int or None
        Of a file with several slits, which: its EXTVER.
    """

    path: Path
    slit: int | None = None

    def ask(self, question: Callable[..., Arrays], *arguments: Any) -> Arrays | None:
        """
        Return what a function makes of the WCS: as kept from an earlier run, else computed now.

        An answer is kept under the bytes of the file's ASDF extension, the function, the source of its module and of
        those that the functions it calls are in, its arguments to the bit, and the versions of the libraries: if any of
        them changes, it is computed anew.

        Parameters
        ----------
        question : callable
            A function of a module: WCS and arguments in, arrays by name out (at least one).
        *arguments : str, float, int, bool, None, ndarray, or tuples of these
            Passed on.

        Returns
        -------
        answer : dict of str to ndarray, or None
            None if the file has no WCS.

        Raises
        ------
        InputError
            If the extension cannot be read.
        """
        tree = _tree_digest(self.path)
        if tree is None:
            return None

        def compute() -> Arrays:
            wcs = read_wcs(self.path, self.slit)
            return {} if wcs is None else question(wcs, *arguments)

        code = (code_digest(question), code_digest(read_wcs))
        asked = (question.__module__, question.__qualname__, code, arguments)
        return remembered(digest(tree, self.slit, versions(*_PACKAGES), asked), compute) or None

    def wavelength(self, ny: int, nx: int) -> NDArray[np.float64] | None:
        """Return the wavelength of every pixel, see `tso3.io.wcs.wavelength_of_grid`; None without WCS."""
        answer = self.ask(_wavelength, ny, nx)
        return None if answer is None else answer["wavelength"]

    def sky(self, x: float, y: float) -> tuple[float, float] | None:
        """Return the place of a pixel on the sky, see `tso3.io.wcs.sky_position`; None without WCS too."""
        answer = self.ask(_sky, float(x), float(y))
        return None if answer is None or answer["sky"].size == 0 else (float(answer["sky"][0]), float(answer["sky"][1]))

    def skies(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return right ascensions and declinations [deg] of many places; None without WCS."""
        answer = self.ask(_skies, np.asarray(x, np.float64), np.asarray(y, np.float64))
        return None if answer is None else (answer["ra"], answer["dec"])

    def pixel_scale(self, sky: tuple[float, float], wavelength: float, dispersion_axis: int) -> float | None:
        """Return the size of a pixel, see `tso3.io.wcs.pixel_scale`; None without WCS too."""
        answer = self.ask(_scale, *(float(value) for value in sky), float(wavelength), dispersion_axis)
        return None if answer is None or answer["scale"].size == 0 else float(answer["scale"][0])


def _wavelength(wcs: WCS, ny: int, nx: int) -> Arrays:
    return {"wavelength": wavelength_of_grid(wcs, ny, nx)}


def _sky(wcs: WCS, x: float, y: float) -> Arrays:
    return {"sky": np.array(sky_position(wcs, x, y) or (), dtype=np.float64)}


def _skies(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64]) -> Arrays:
    ra, dec = wcs(x, y)[:2]
    return {"ra": np.asarray(ra, np.float64), "dec": np.asarray(dec, np.float64)}


def _scale(wcs: WCS, ra: float, dec: float, wavelength: float, dispersion_axis: int) -> Arrays:
    scale = pixel_scale(wcs, ra, dec, wavelength, dispersion_axis)
    return {"scale": np.array([] if scale is None else [scale], dtype=np.float64)}


def _tree_digest(path: Path) -> str | None:
    """Return a digest of the ASDF extension of a file, None if it has none; once per version of the file."""
    state = path.stat()
    return _cached_digest(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _cached_digest(path: str, mtime_ns: int, size: int) -> str | None:
    del mtime_ns, size
    hdu = next((h for h in scan_hdus(path) if h.name == "ASDF"), None)
    return None if hdu is None else digest(read_unit(hdu, path))
