"""The unit of photometry: Jansky from surface brightness, electrons from counts per second, else as given."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError, ReferenceFileError, Tso3Warning

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["ImageUnit", "image_unit"]

_JY_PER_MJY = 1e6


@dataclass(frozen=True)
class ImageUnit:
    """
    Unit of the table, and how an image gets there.

    Attributes
    ----------
    name : str
        As astropy spells it: ``Jy``, ``electron``, or the unit of the input.
    scale : ndarray of float32, shape (ny, nx)
        Factor for every pixel; NaN where the gain is not known.
    """

    name: str
    scale: NDArray[np.float32]


def image_unit(exposure: Exposure, references: References) -> ImageUnit:
    """
    Return the unit of an exposure's photometry.

    MJy/sr become Jy by the solid angle of a pixel (PIXAR_SR); DN/s become electrons by the gain and the time of an
    integration (EFFINTTM); anything else stays.

    Parameters
    ----------
    exposure : Exposure
        With BUNIT.
    references : References
        Knows the gain reference, if there is one.

    Returns
    -------
    unit : ImageUnit
        The factor is in single precision, as the archive's pipeline multiplies.

    Raises
    ------
    InputError
        If BUNIT is missing.
    ReferenceFileError
        If the gain reference does not hold the array that was read.

    Warns
    -----
    tso3.errors.Tso3Warning
        If the unit stays as it is.
    """
    path = exposure.segments[0].path
    shape = (exposure.ny, exposure.nx)
    unit = exposure.bunit
    if not unit:
        raise InputError("BUNIT of SCI is missing, so the photometry would have no unit", path)
    reason = "is not known to photometry"
    if unit == "MJy/sr":
        area = _number(exposure, "PIXAR_SR")
        if area is not None:
            return ImageUnit("Jy", np.full(shape, _JY_PER_MJY * area, np.float32))
        reason = "needs PIXAR_SR, which is missing, to become Jy"
    elif unit == "DN/s":
        time = _number(exposure, "EFFINTTM")
        gain = _gain(exposure, references)
        if gain is not None and time is not None:
            return ImageUnit("electron", np.float32(time) * gain)
        reason = (
            "needs EFFINTTM, which is missing, to become electrons"
            if gain is not None
            else "needs a gain reference to become electrons (--override-gain FILE)"
        )
    warnings.warn(f"{path}: unit {unit} {reason}; the photometry is in {unit}", Tso3Warning, stacklevel=2)
    return ImageUnit(unit, np.ones(shape, np.float32))


def _gain(exposure: Exposure, references: References) -> NDArray[np.float32] | None:
    """Return the gain of every pixel [electron / DN] of the array that was read; None without a reference."""
    from tso3.io.reference_files import read_gain

    path = references.path("gain")
    if path is None:
        return None
    gain = read_gain(path)
    corner = (1, 1) if gain.corner is None else gain.corner
    first = [_number(exposure, key) for key in ("SUBSTRT1", "SUBSTRT2")]
    x, y = (0 if at is None else int(at) - begin for at, begin in zip(first, corner, strict=True))
    if min(x, y) < 0 or x + exposure.nx > gain.data.shape[1] or y + exposure.ny > gain.data.shape[0]:
        size, wanted = gain.data.shape, (exposure.ny, exposure.nx)
        raise ReferenceFileError(f"its image {size} from {corner} does not hold the array {wanted} at {first}", path)
    return gain.data[y : y + exposure.ny, x : x + exposure.nx].astype(np.float32)


def _number(exposure: Exposure, key: str) -> float | None:
    """Return a numeric keyword, or None."""
    value = exposure.header(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
