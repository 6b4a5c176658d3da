"""How large aperture, annulus and boxes are, and what of them lies on the array."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.aperture import Radii
from tso3.errors import ParameterError, Tso3Warning
from tso3.steps.photometry_units import ImageUnit

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.photometry_defaults import PhotometrySizes
    from tso3.io.references import References
    from tso3.parameters import TsoPhotometry

__all__ = ["PhotometryLayout", "choose_layout", "saturated_apertures", "without_reference_pixels"]


@dataclass(frozen=True)
class PhotometryLayout:
    """
    Sizes of an exposure's photometry.

    Attributes
    ----------
    sizes : PhotometrySizes
        As chosen.
    radii : Radii
        Aperture and annulus; the aperture is infinite where the whole array is summed.
    search, fit : int
        Widths of the boxes [pixel], odd.
    subtract : bool
        Whether there is an annulus to subtract the background of.
    centroids : bool
        Whether the position of the source is measured.
    """

    sizes: PhotometrySizes
    radii: Radii
    search: int
    fit: int
    subtract: bool
    centroids: bool


def choose_layout(
    exposure: Exposure, references: References, parameters: TsoPhotometry, planned: tuple[float, float]
) -> PhotometryLayout:
    """
    Return the sizes of an exposure's photometry.

    Parameters
    ----------
    exposure : Exposure
        Knows its array, instrument, filter and pupil.
    references : References
        A tsophot reference has the radii that the parameters do not have.
    parameters : TsoPhotometry
        The step's parameters.
    planned : (float, float)
        Where the source was to be [pixel, 0-based].

    Returns
    -------
    layout : PhotometryLayout

    Raises
    ------
    ParameterError
        If the annulus has no width.
    ReferenceFileError
        If the tsophot reference has no radii for the exposure.

    Warns
    -----
    tso3.errors.Tso3Warning
        If a box width is even, or the annulus lies off the array.
    """
    sizes = _sizes(exposure, references, parameters)
    if sizes.radius_inner >= sizes.radius_outer:
        raise ParameterError(
            f"{sizes.radius_inner:g} is not below radius_outer = {sizes.radius_outer:g}; the annulus would have no"
            " width",
            "tso_photometry.radius_inner",
        )
    nearest, farthest = _distances(exposure, planned)
    nominal = Radii(sizes.radius, sizes.radius_inner, sizes.radius_outer)
    if parameters.off_array == "archive":
        whole = exposure.pupil == "WLP8" and exposure.subarray == "SUB64P"
        subtract, centroids = not whole, parameters.centroid_source
    else:
        subtract = farthest > nominal.inner and nearest < nominal.outer
        whole = not subtract and farthest <= nominal.radius
        centroids = parameters.centroid_source and farthest > nominal.inner
        if not subtract:
            _warn(exposure, _off_array(exposure, nominal, whole, centroids))
    return PhotometryLayout(
        sizes=sizes,
        radii=Radii(np.inf, 0.0, 0.0) if whole else nominal,
        search=_odd(exposure, sizes.search_box_width, "search_box_width"),
        fit=_odd(exposure, sizes.fit_box_width, "fit_box_width"),
        subtract=subtract,
        centroids=centroids,
    )


def _sizes(exposure: Exposure, references: References, parameters: TsoPhotometry) -> PhotometrySizes:
    """Return the parameters' sizes, what they lack from the tsophot reference, what that lacks from the built-in."""
    from tso3.io.photometry_defaults import FIXED, sizes_of
    from tso3.io.photometry_references import read_tsophot

    fixed = parameters.sizes == "fixed"
    sizes = FIXED if fixed else sizes_of(exposure.instrument, exposure.filter, exposure.pupil)
    path = references.path("tsophot")
    if path is not None:
        radii = read_tsophot(path, exposure.filter, exposure.pupil)
        sizes = replace(
            sizes,
            radius=radii.radius,
            radius_inner=radii.radius_inner,
            radius_outer=radii.radius_outer,
            source=path.name,
        )
    names = ("radius", "radius_inner", "radius_outer", "search_box_width", "fit_box_width")
    given = {name: getattr(parameters, name) for name in names if getattr(parameters, name) is not None}
    return replace(sizes, **given)


def _distances(exposure: Exposure, planned: tuple[float, float]) -> tuple[float, float]:
    """Return the distances [pixel] from a place to the nearest and the farthest point of the array."""
    near, far = [], []
    for at, n in zip(planned, (exposure.nx, exposure.ny), strict=True):
        below, above = at + 0.5, n - 0.5 - at
        near.append(max(-below, -above, 0.0))
        far.append(max(below, above))
    return math.hypot(*near), math.hypot(*far)


def _off_array(exposure: Exposure, radii: Radii, whole: bool, centroids: bool) -> str:
    """Return what is done where there is no annulus."""
    done = "the whole array is summed" if whole else f"the sum within {radii.radius:g} pixels stands"
    lost = "" if centroids else ", and the source is not centroided"
    array = f"{exposure.nx} x {exposure.ny}"
    return (
        f"the annulus from {radii.inner:g} to {radii.outer:g} pixels lies off the array of {array} pixels: {done}"
        f" without subtraction of the sky, which dilutes a transit{lost}"
    )


def _odd(exposure: Exposure, width: int, name: str) -> int:
    """Return an odd width; an even one is lowered."""
    if width % 2 == 0:
        _warn(exposure, f"tso_photometry.{name} = {width} is even; {width - 1} is used")
        return width - 1
    return width


def without_reference_pixels(exposure: Exposure, unit: ImageUnit) -> ImageUnit:
    """
    Return a unit whose factor is NaN on reference pixels, so that they count nowhere.

    Parameters
    ----------
    exposure : Exposure
        The flags of its first integration tell; a pixel with DO_NOT_USE is left out anyway.
    unit : ImageUnit
        Of the exposure.

    Returns
    -------
    unit : ImageUnit
        The same if there are no reference pixels.
    """
    where = _reference_pixels(exposure)
    if not where.any():
        return unit
    return replace(unit, scale=np.where(where, np.float32(np.nan), unit.scale))


def saturated_apertures(
    dq: NDArray[np.uint32], x: NDArray[np.float64], y: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """
    Return in which integrations a pixel of the aperture is flagged SATURATED.

    Parameters
    ----------
    dq : ndarray of uint32, shape (n_int, ny, nx)
        Quality bits.
    x, y : ndarray, shape (n_int,)
        Centre of the aperture [pixel, 0-based]; NaN: nothing is.
    radius : float
        Its radius [pixel]; infinite for the whole array.

    Returns
    -------
    saturated : ndarray of bool, shape (n_int,)

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.steps.photometry_layout import saturated_apertures
    >>> dq = np.zeros((2, 5, 5), np.uint32)
    >>> dq[1, 2, 3] = dq[0, 0, 0] = 2
    >>> saturated_apertures(dq, np.full(2, 2.0), np.full(2, 2.0), 1.0).tolist()
    [False, True]
    """
    from tso3.io.dqflags import pixel_flags

    bit = np.uint32(pixel_flags()["SATURATED"])
    i, row, column = np.nonzero(dq & bit)
    near = np.hypot(column - x[i], row - y[i]) < radius + 0.5
    result = np.zeros(len(dq), np.bool_)
    result[i[near]] = True
    return result


def _reference_pixels(exposure: Exposure) -> NDArray[np.bool_]:
    from tso3.io.dqflags import pixel_flags
    from tso3.io.reader import Reader

    flags = pixel_flags()
    with Reader(exposure) as reader:
        dq = reader.native(reader.read(0, 1, ("DQ",))["DQ"])[0].astype(np.uint32)
    is_reference: NDArray[np.bool_] = (dq & (flags["REFERENCE_PIXEL"] | flags["DO_NOT_USE"])) == flags[
        "REFERENCE_PIXEL"
    ]
    return is_reference


def _warn(exposure: Exposure, text: str) -> None:
    """Warn, naming the first file."""
    warnings.warn(f"{exposure.segments[0].path}: {text}", Tso3Warning, stacklevel=4)
