"""Images in a tangent plane: without distortion, with pixels of one size, turned as the detector or north up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core._overlap import quadrilateral_areas
from tso3.core.box_covariance import aperture_factor
from tso3.core.rectify import Corners, Rectifier, corners_of, make_rectifier
from tso3.errors import ParameterError
from tso3.io.rectified import RectifiedLayout
from tso3.io.rectified_grid import ImageGrid
from tso3.parameters import Rectify
from tso3.steps.rectify import VARIANCES, RectifyPlan

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure

__all__ = ["prepare_image"]

Floats = NDArray[np.float64]

_BOX = 5
"""Rows and columns of the square whose covariance is recorded."""
_MOST = 2**25
"""Pixels of a rectified image."""
_BEYOND = 0.01
"""Part of a row or column that may be left out at the edges of the grid [pixel]."""


@dataclass(frozen=True)
class _Plane:
    """Places of the pixel centres in the tangent plane of ``sky`` [deg], to the east and north; NaN where unknown."""

    east: Floats
    north: Floats
    sky: tuple[float, float]
    middle: tuple[float, float]


def prepare_image(exposure: Exposure, parameters: Rectify, shifts: Floats | None = None) -> RectifyPlan | None:
    """
    Return how the images of an exposure are rectified.

    Parameters
    ----------
    exposure : Exposure
        Of an imaging mode.
    parameters : Rectify
        The step's parameters.
    shifts : ndarray of float64, shape (n_int, 2), optional
        How far the light of each integration lies from that of the reference image, in x and y [pixel].

    Returns
    -------
    plan : RectifyPlan or None
        None if the exposure has no WCS that tells where its pixels are.

    Raises
    ------
    ParameterError
        If the pixels that are asked for are too small.
    """
    plane = _tangent(exposure)
    if plane is None:
        return None
    grid, corners = _grid(plane, parameters)
    usable = np.isfinite(plane.east)
    per_pixel = not exposure.bunit.endswith("/sr")
    moved = partial(_moved, corners, grid.shape, usable, per_pixel)
    rectifier = moved((0.0, 0.0))
    present = tuple(name for name in VARIANCES if name in exposure.planes)
    layout = RectifiedLayout("i2dints", "", grid, present, None, aperture_factor(rectifier, _BOX), per_pixel)
    return RectifyPlan(layout, rectifier, present).following(shifts, moved)


def _moved(
    corners: Corners, shape: tuple[int, int], usable: NDArray[np.bool_], per_pixel: bool, shift: tuple[float, float]
) -> Rectifier:
    """Return the overlaps of pixels whose light lies farther in x and y than expected."""
    x, y = (
        place - sum(by * np.gradient(place, axis=axis) for by, axis in zip(shift, (1, 0), strict=True) if by)
        for place in (corners.x, corners.y)
    )
    density = None
    if per_pixel:
        area = quadrilateral_areas(x, y)
        density = np.where(area > 0.0, 1.0 / np.where(area > 0.0, area, 1.0), 0.0)
    return make_rectifier(Corners(x, y), shape, usable, density)


def _tangent(exposure: Exposure) -> _Plane | None:
    """Return where the pixels are in the tangent plane of the middle of the image."""
    y, x = np.indices((exposure.ny, exposure.nx), dtype=np.float64)
    found = exposure.geometry.skies(x, y)
    middle = (exposure.nx - 1) / 2.0, (exposure.ny - 1) / 2.0
    centre = exposure.geometry.sky(*middle)
    if found is None or centre is None or np.count_nonzero(np.isfinite(found[0])) < 9:
        return None
    ra, dec = (np.radians(values) for values in found)
    ra0, dec0 = (np.radians(value) for value in centre)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    east = np.cos(dec) * np.sin(ra - ra0) / cosine
    north = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return _Plane(np.degrees(east), np.degrees(north), centre, middle)


def _grid(plane: _Plane, parameters: Rectify) -> tuple[ImageGrid, Corners]:
    """Return the grid, and where the corners of the pixels lie in it."""
    slopes = [[float(np.nanmedian(np.gradient(p, axis=axis))) for axis in (1, 0)] for p in (plane.east, plane.north)]
    local = np.array(slopes)
    native = float(np.sqrt(abs(np.linalg.det(local))))
    scale = native if parameters.pixel_scale is None else parameters.pixel_scale / 3600.0
    left, _, right = np.linalg.svd(local)
    matrix = scale * (np.array([[-1.0, 0.0], [0.0, 1.0]]) if parameters.north_up else left @ right)
    back = np.linalg.inv(matrix)
    corners = [corners_of(back[k, 0] * plane.east + back[k, 1] * plane.north) for k in (0, 1)]
    zero, size = [], []
    for place, middle in zip(corners, plane.middle, strict=True):
        start = middle * native / scale if not parameters.north_up else 0.0
        zero.append(start + max(0.0, float(np.ceil(-0.5 - np.nanmin(place) - start - _BEYOND))))
        size.append(int(np.floor(np.nanmax(place) + zero[-1] + 0.5 + 1.0 - _BEYOND)))
    if size[0] * size[1] > _MOST:
        raise ParameterError(
            f"{scale * 3600.0:g} arcsec makes images of {size[0]} x {size[1]} pixels; choose"
            f" a larger one (that of the detector is {native * 3600.0:.3g})",
            "rectify.pixel_scale",
        )
    rows = ((float(matrix[0, 0]), float(matrix[0, 1])), (float(matrix[1, 0]), float(matrix[1, 1])))
    grid = ImageGrid((size[1], size[0]), (zero[0], zero[1]), plane.sky, rows)
    return grid, Corners(corners[0] + zero[0], corners[1] + zero[1])
