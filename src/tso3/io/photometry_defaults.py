"""
Built-in sizes of imaging photometry: what is measured where neither the user nor a tsophot reference gives radii.

One table, with the source of every number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FIXED", "SIZES", "PhotometrySizes", "sizes_of"]


@dataclass(frozen=True)
class PhotometrySizes:
    """
    Sizes of aperture, annulus and boxes.

    Attributes
    ----------
    name : str
        What they are for.
    radius, radius_inner, radius_outer : float
        Radius of the aperture, inner and outer radius of the annulus [pixel].
    search_box_width, fit_box_width : int
        Full widths of the boxes in which the source is searched, then measured [pixel], odd.
    source : str
        Where the numbers come from.
    """

    name: str
    radius: float
    radius_inner: float
    radius_outer: float
    search_box_width: int
    fit_box_width: int
    source: str


FIXED = PhotometrySizes(
    "any image", 3.0, 4.0, 5.0, 41, 11, "defaults of jwst 3.0.0's tso_photometry step, whatever the instrument"
)
"""What the archive's pipeline has without a parameter reference."""

_WEAK_LENS_8 = PhotometrySizes(
    "NIRCam, weak lens of 8 waves",
    65.0,
    70.0,
    90.0,
    131,
    131,
    "Eureka!'s control file of defocused NIRCam photometry: photap 65, skyin 70, skywidth 20 (kevin218/Eureka,"
    " demos/JWST/S3_nircam_photometry_template.ecf); the boxes hold the aperture",
)
_WEAK_LENS_4 = PhotometrySizes(
    "NIRCam, weak lens of 4 waves",
    33.0,
    35.0,
    45.0,
    67,
    67,
    "half of those of 8 waves, since the size of a defocused image goes with the defocus",
)
_NIRCAM = PhotometrySizes(
    "NIRCam in focus",
    3.0,
    4.0,
    5.0,
    41,
    11,
    "3, 4 and 5 pixels for focused NIRCam images: jwst issue 1619, later the archive's tsophot reference",
)
_MIRI = PhotometrySizes(
    "MIRI",
    5.0,
    16.0,
    46.0,
    41,
    11,
    "Eureka!'s control file of MIRI photometry: photap 5, skyin 16, skywidth 30 (kevin218/Eureka,"
    " demos/JWST/S3_miri_photometry_template.ecf)",
)

Test = Callable[[str, str, str], bool]

SIZES: tuple[tuple[Test, PhotometrySizes], ...] = (
    (lambda instrument, filter_name, pupil: pupil in ("WLP8", "WLM8"), _WEAK_LENS_8),
    (lambda instrument, filter_name, pupil: filter_name == "WLP4", _WEAK_LENS_4),
    (lambda instrument, filter_name, pupil: instrument == "MIRI", _MIRI),
    (lambda instrument, filter_name, pupil: True, _NIRCAM),
)
"""Sizes by instrument, filter and pupil: the first whose test holds."""


def sizes_of(instrument: str | None, filter_name: str | None, pupil: str | None) -> PhotometrySizes:
    """
    Return the built-in sizes of an optical configuration.

    Parameters
    ----------
    instrument, filter_name, pupil : str or None
        INSTRUME, FILTER and PUPIL of the exposure. With both weak lenses in the beam (WLP4 and WLP8, 12 waves) the
        sizes are those of WLP8: nobody does photometry with them.

    Returns
    -------
    sizes : PhotometrySizes

    Examples
    --------
    >>> from tso3.io.photometry_defaults import sizes_of
    >>> sizes_of("NIRCAM", "F212N", "WLP8").radius, sizes_of("NIRCAM", "F210M", "CLEAR").radius
    (65.0, 3.0)
    """
    words = tuple((word or "").strip().upper() for word in (instrument, filter_name, pupil))
    return next(sizes for test, sizes in SIZES if test(*words))
