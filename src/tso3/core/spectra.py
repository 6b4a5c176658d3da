"""The spectra of a run of integrations, as extraction hands them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spectra", "SpectrumHeader"]


@dataclass(frozen=True)
class SpectrumHeader:
    """
    What all spectra of one exposure and spectral order share besides the wavelengths.

    Attributes
    ----------
    slit_name : str
        SLTNAME; the EXP_TYPE where the model has no slit name.
    spectral_order : int
        SPORDER.
    dispersion_axis : int or None
        DISPAXIS (1 = x, 2 = y); None where the archive does not write it (SOSS).
    detector : str or None
        DETECTOR.
    source_type : str or None
        SRCTYPE.
    source_id : int or None
        SOURCEID.
    source_xpos, source_ypos, source_ra, source_dec : float or None
        SRCXPOS, SRCYPOS, SRCRA, SRCDEC.
    extraction_xstart, extraction_xstop, extraction_ystart, extraction_ystop : float or None
        EXTRXSTR, EXTRXSTP, EXTRYSTR, EXTRYSTP: mean limits of the aperture [pixel], 1-based, inclusive.
    slit_ra, slit_dec : float or None
        SLIT_RA, SLIT_DEC: sky position of the middle of the aperture [deg]; None where the WCS has none.
    position_angle : float or None
        PA_APER [deg].
    wavelength_corrected : bool or None
        WAVECOR.
    flux_unit, sb_unit : str
        Units of the flux and of the surface-brightness columns, as the archive spells them; those of the variances
        follow (``"Jy^2"``, ``"MJy^2 / sr^2"``, ``"DN^2 / s^2"``).
    background_unit : str or None
        Unit of the background where it is not that of the surface brightness.
    """

    slit_name: str
    spectral_order: int
    dispersion_axis: int | None
    detector: str | None
    source_type: str | None
    source_id: int | None
    source_xpos: float | None
    source_ypos: float | None
    source_ra: float | None
    source_dec: float | None
    extraction_xstart: float | None
    extraction_xstop: float | None
    extraction_ystart: float | None
    extraction_ystop: float | None
    slit_ra: float | None
    slit_dec: float | None
    position_angle: float | None
    wavelength_corrected: bool | None
    flux_unit: str
    sb_unit: str
    background_unit: str | None = None


@dataclass(frozen=True)
class Spectra:
    """
    Spectra of consecutive integrations of one exposure in one spectral order.

    Every array is float64 of shape (n_int, n_wave) unless said otherwise. Names are the archive's column names in
    lower case, in the archive's order; the last four are ours and go into the companion table.

    Attributes
    ----------
    start : int
        Index in the exposure (0-based) of the first integration.
    header : SpectrumHeader
        What does not change between integrations.
    wavelength : ndarray, shape (n_wave,)
        Wavelength [micron], always finite; the same for every integration.
    flux, flux_error : ndarray
        Flux and its 1-sigma error in ``header.flux_unit``; NaN where no pixel was valid or too much was missing.
    flux_var_poisson, flux_var_rnoise, flux_var_flat : ndarray
        Components of the variance, flux unit squared.
    surf_bright, sb_error, sb_var_poisson, sb_var_rnoise, sb_var_flat : ndarray
        Surface brightness in ``header.sb_unit``, its error and variances; 0 for NIRSpec point sources.
    dq : ndarray of uint32
        DO_NOT_USE where the flux is NaN, FLUX_ESTIMATED where missing pixels were completed.
    background, bkgd_error, bkgd_var_poisson, bkgd_var_rnoise, bkgd_var_flat : ndarray
        Background level in ``header.background_unit``, else ``sb_unit``, its error and variances.
    npixels : ndarray
        Number of pixels that were summed, fractional pixels included.
    missing_fraction : ndarray
        Fraction of the aperture's light that falls on bad pixels, from the profile of the exposure model; of the
        aperture's area where there is no such model. 0 where nothing is missing.
    flux_uncompleted : ndarray
        Flux of the valid pixels alone, in the unit of ``flux``; equal to it where nothing is missing.
    flux_error_temporal : ndarray
        Error of ``flux`` as it scatters in time: sqrt(flux_var_poisson + flux_var_rnoise).
    flux_var_limit : ndarray
        Variance (Poisson and read noise) that the sample would have if no pixel were missing, the background fit
        included: what the photon limit is made of.
    """

    start: int
    header: SpectrumHeader
    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    flux_var_poisson: NDArray[np.float64]
    flux_var_rnoise: NDArray[np.float64]
    flux_var_flat: NDArray[np.float64]
    surf_bright: NDArray[np.float64]
    sb_error: NDArray[np.float64]
    sb_var_poisson: NDArray[np.float64]
    sb_var_rnoise: NDArray[np.float64]
    sb_var_flat: NDArray[np.float64]
    dq: NDArray[np.uint32]
    background: NDArray[np.float64]
    bkgd_error: NDArray[np.float64]
    bkgd_var_poisson: NDArray[np.float64]
    bkgd_var_rnoise: NDArray[np.float64]
    bkgd_var_flat: NDArray[np.float64]
    npixels: NDArray[np.float64]
    missing_fraction: NDArray[np.float64]
    flux_uncompleted: NDArray[np.float64]
    flux_error_temporal: NDArray[np.float64]
    flux_var_limit: NDArray[np.float64]

    @property
    def n_int(self) -> int:
        """Number of integrations."""
        return int(self.flux.shape[0])

    @property
    def n_wave(self) -> int:
        """Number of wavelengths."""
        return int(self.wavelength.size)

    @property
    def stop(self) -> int:
        """Index in the exposure one past the last integration."""
        return self.start + self.n_int
