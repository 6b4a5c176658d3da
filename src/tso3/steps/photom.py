"""
Flux calibration of SOSS spectra: from DN/s in a column to MJy, by the photom reference.

Stage 2 leaves SOSS in DN/s, because a pixel can belong to two orders; the factor is that of an extracted sample.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.errors import Tso3Warning
from tso3.io.soss_references import read_photom
from tso3.parameters import Photom

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["flux_calibration"]


def flux_calibration(
    exposure: Exposure, references: References, parameters: Photom, order: int, wavelength: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """
    Return the factor from DN/s to MJy of every sample.

    Parameters
    ----------
    exposure : Exposure
        Its FILTER and PUPIL choose the row of the reference.
    references : References
        Names the ``photom`` reference.
    parameters : Photom
        The step's parameters.
    order : int
        Spectral order.
    wavelength : ndarray, shape (n_wave,)
        Micron; NaN gives NaN.

    Returns
    -------
    factor : ndarray of float64, shape (n_wave,), or None
        PHOTMJ times the relative response, which is interpolated linearly; outside its wavelengths as the parameters
        say. None where spectra stay in DN/s.

    Warns
    -----
    tso3.errors.Tso3Warning
        If there is no reference, or it has no row for the order.
    """
    file = exposure.segments[0].path
    if parameters.skip:
        return None
    path = references.path("photom")
    if path is None:
        warnings.warn(f"{file}: no photom reference is given, so spectra stay in DN/s", Tso3Warning, stacklevel=5)
        return None
    row = read_photom(path, exposure.filter, exposure.pupil).get(order)
    if row is None:
        warnings.warn(
            f"{path}: has no row for {exposure.filter}, {exposure.pupil} and order {order}, so the spectra of"
            f" {file.name} in that order stay in DN/s",
            Tso3Warning,
            stacklevel=5,
        )
        return None
    outside = 0.0 if parameters.outside == "zero" else np.nan
    response = np.interp(wavelength, row.wavelength, row.response, left=outside, right=outside)
    return np.where(np.isfinite(wavelength), row.scale * response, np.nan)
