"""Aperture correction: what an aperture misses of a point source, from a table over wavelength and aperture size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CorrectionTable", "aperture_correction", "correction_table"]


@dataclass(frozen=True)
class CorrectionTable:
    """
    Aperture corrections of one configuration.

    Attributes
    ----------
    wavelength : ndarray, shape (n_wl,)
        Micron, ascending.
    size : ndarray, shape (n_size, n_wl)
        Width of the aperture [pixel], ascending along the first axis.
    factor : ndarray, shape (n_size, n_wl)
        Total flux over flux in the aperture.
    outside : str
        What holds beyond the wavelengths of the table: ``"nearest"``, or ``"none"`` (a factor of 1).
    """

    wavelength: NDArray[np.float64]
    size: NDArray[np.float64]
    factor: NDArray[np.float64]
    outside: str

    def scaled(self, pixel_scale: float) -> CorrectionTable:
        """Return the table with sizes divided by the pixel scale, for sizes in arc seconds."""
        return CorrectionTable(self.wavelength, self.size / pixel_scale, self.factor, self.outside)


def correction_table(
    wavelength: NDArray[np.floating], size: NDArray[np.floating], factor: NDArray[np.floating], outside: str
) -> CorrectionTable:
    """
    Return a table in ascending order of wavelength and size.

    Parameters
    ----------
    wavelength : ndarray, shape (n_wl,)
        Micron, in any order.
    size : ndarray, shape (n_size,) or (n_size, n_wl)
        Width of the aperture, in any order.
    factor : ndarray, shape (n_size, n_wl)
        Corrections.
    outside : str
        ``"nearest"`` or ``"none"``.

    Returns
    -------
    table : CorrectionTable

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or wavelengths or sizes repeat.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.apcorr import aperture_correction, correction_table
    >>> table = correction_table(np.array([2.0, 1.0]), np.array([3.0, 5.0]), np.array([[2.0, 1.0], [1.0, 1.0]]), "none")
    >>> aperture_correction(table, np.array([1.0, 1.5, 2.5]), np.array([3.0, 4.0, 3.0]))
    array([1.  , 1.25, 1.  ])
    """
    wave = np.asarray(wavelength, dtype=np.float64)
    factors = np.asarray(factor, dtype=np.float64)
    sizes = np.asarray(size, dtype=np.float64)
    sizes = np.repeat(sizes[:, np.newaxis], wave.size, axis=1) if sizes.ndim == 1 else sizes
    if wave.ndim != 1 or wave.size == 0 or factors.shape != sizes.shape or factors.shape[1:] != wave.shape:
        raise ValueError(
            f"wavelength, size and correction have shapes {wave.shape}, {np.shape(size)} and {factors.shape}; "
            "(n_wl,), (n_size,) or (n_size, n_wl), and (n_size, n_wl) are needed"
        )
    if not (np.isfinite(wave).all() and np.isfinite(sizes).all() and np.isfinite(factors).all()):
        raise ValueError("wavelength, size or correction is not finite")
    order = np.argsort(wave, kind="stable")
    wave, sizes, factors = wave[order], sizes[:, order], factors[:, order]
    rows = np.argsort(sizes[:, 0], kind="stable")
    sizes, factors = sizes[rows], factors[rows]
    if np.any(np.diff(wave) <= 0.0) or np.any(np.diff(sizes, axis=0) <= 0.0):
        raise ValueError("wavelengths or sizes repeat, or sizes are not in the same order at all wavelengths")
    return CorrectionTable(wave, sizes, factors, outside)


def aperture_correction(
    table: CorrectionTable, wavelength: NDArray[np.float64], npixels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """
    Return the factor by which a flux in an aperture is multiplied.

    Linear in wavelength and in size; beyond the sizes of the table, that of the nearest.

    Parameters
    ----------
    table : CorrectionTable
        Corrections.
    wavelength : ndarray, shape (n_wave,)
        Micron.
    npixels : ndarray, shape (n_wave,) or (n_int, n_wave)
        Width of the aperture [pixel].

    Returns
    -------
    factor : ndarray, shape of ``npixels``
        1 where the table says nothing.

    Notes
    -----
    As ``jwst``: for MIRI and NIRCam tables the nearest value holds beyond the table's wavelengths, for NIRSpec's none
    does; a correction of 0 counts as none.
    """
    wave = table.wavelength
    x = np.clip(wavelength, wave[0], wave[-1])
    right = np.clip(np.searchsorted(wave, x, side="right"), 1, max(wave.size - 1, 1)) % wave.size
    left = np.maximum(right - 1, 0)
    span = wave[right] - wave[left]
    t = np.where(span > 0.0, (x - wave[left]) / np.where(span > 0.0, span, 1.0), 0.0)
    sizes = table.size[:, left] + t * (table.size[:, right] - table.size[:, left])
    factors = table.factor[:, left] + t * (table.factor[:, right] - table.factor[:, left])
    wanted = np.clip(npixels, sizes[0], sizes[-1])
    result = np.broadcast_to(factors[0], wanted.shape).copy()
    for k in range(sizes.shape[0] - 1):
        share = np.clip((wanted - sizes[k]) / (sizes[k + 1] - sizes[k]), 0.0, 1.0)
        result += share * (factors[k + 1] - factors[k])
    if table.outside == "none":
        result[..., (wavelength < wave[0]) | (wavelength > wave[-1])] = 1.0
        result[result == 0.0] = 1.0
    return result
