"""gWCS objects of the simulated products, with the frames and transforms that the pipeline asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gwcs import WCS

    from tso3.simulate.detector import DetectorScene

__all__ = ["ROLL", "TARGET", "make_wcs", "sky_region"]

TARGET = (217.326725, -3.444556)
"""Right ascension and declination of the star [deg], ICRS."""

ROLL = 104.3
"""Position angle of the V3 axis at the target [deg]."""


def make_wcs(scene: DetectorScene) -> WCS:
    """
    Return the WCS of a detector's product.

    Parameters
    ----------
    scene : DetectorScene
        The detector.

    Returns
    -------
    wcs : gwcs.WCS
        NIRSpec: detector, sca, gwa, slit_frame, v2v3, world; others: detector, v2v3, world. Pixels are 0-based.
        World is (ra, dec) [deg] and, for spectroscopy, wavelength [micron]. The bounding box is set.
    """
    if scene.instrument.slit is not None:
        wcs = _slit_wcs(scene)
    elif scene.instrument.dispersion_axis:
        wcs = _slitless_wcs(scene)
    else:
        wcs = _imaging_wcs(scene)
    x0, x1, y0, y1 = scene.detector.bounds
    if scene.instrument.dispersion_axis == 0:
        x1, y1 = scene.subarray.nx - 0.5, scene.subarray.ny - 0.5
    wcs.bounding_box = ((x0, x1), (y0, y1))
    return wcs


def sky_region(scene: DetectorScene, wcs: WCS) -> str:
    """Return S_REGION: the corners of the slit or of the subarray on the sky."""
    if scene.instrument.slit is not None:
        to_world = wcs.get_transform("slit_frame", "world")
        corners = [to_world(x, y, 4e-6)[:2] for x, y in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))]
    else:
        (x0, x1), (y0, y1) = wcs.bounding_box.bounding_box() if scene.instrument.dispersion_axis else (
            (-0.5, scene.subarray.nx - 0.5), (-0.5, scene.subarray.ny - 0.5))  # fmt: skip
        if scene.instrument.dispersion_axis:
            (x0, x1), (y0, y1) = scene.detector.bounds[:2], scene.detector.bounds[2:]
        corners = [wcs(x, y, with_bounding_box=False)[:2] for x, y in ((x0, y0), (x0, y1), (x1, y1), (x1, y0))]
    numbers = " ".join(f"{float(v):.9f}" for corner in corners for v in corner)
    return f"POLYGON ICRS  {numbers}"


def _frames(spectral_unit: str | None, *, slit: bool = False):  # noqa: ANN202
    """Return the coordinate frames by name."""
    from astropy import coordinates, units
    from gwcs import coordinate_frames as cf

    pixel = {"unit": (units.pix, units.pix), "axes_order": (0, 1)}
    frames = {"detector": cf.Frame2D(name="detector", **pixel)}
    if slit:
        frames["sca"] = cf.Frame2D(name="sca", **pixel)
        frames["gwa"] = cf.Frame2D(
            name="gwa", axes_order=(0, 1), unit=(units.rad, units.rad), axes_names=("alpha_in", "beta_in")
        )
    v2v3 = cf.Frame2D(name="v2v3_spatial" if spectral_unit else "v2v3", axes_order=(0, 1),
                      unit=(units.arcsec, units.arcsec), axes_names=("v2", "v3"))  # fmt: skip
    sky = cf.CelestialFrame(name="sky" if spectral_unit else "world", axes_order=(0, 1),
                            reference_frame=coordinates.ICRS())  # fmt: skip
    if spectral_unit is None:
        return {**frames, "v2v3": v2v3, "world": sky}

    def wave(unit: str) -> cf.SpectralFrame:
        return cf.SpectralFrame(name="spectral", axes_order=(2,), unit=(units.Unit(unit),), axes_names=("wavelength",))

    if slit:
        inside = cf.Frame2D(name="slit_spatial", axes_order=(0, 1), unit=("", ""), axes_names=("x_slit", "y_slit"))
        frames["slit_frame"] = cf.CompositeFrame([inside, wave("m")], name="slit_frame")
    frames["v2v3"] = cf.CompositeFrame([v2v3, wave(spectral_unit)], name="v2v3")
    frames["world"] = cf.CompositeFrame([sky, wave("um")], name="world")
    return frames


def _to_sky(v2: float, v3: float):  # noqa: ANN202
    """Return the transform from (V2, V3) [arcsec] to (ra, dec) [deg]: tangent plane about the target, rolled."""
    from astropy.modeling import models

    angle = np.deg2rad(ROLL)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / 3600.0
    return (
        models.Shift(-v2) & models.Shift(-v3)
        | models.AffineTransformation2D(matrix)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(TARGET[0], TARGET[1], 180.0)
    )


def _slit_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of a slit spectrum: a curved trace and tilted lines, invertible exactly across dispersion."""
    from astropy.modeling import models
    from gwcs import WCS

    frames = _frames("m", slit=True)
    sub, detector, slit = scene.subarray, scene.detector, scene.instrument.slit
    assert slit is not None
    v2, v3 = scene.instrument.v2v3
    trace, forward, backward = _slit_polynomials(scene)
    tilt = detector.tilt
    to_sca = models.Shift(float(sub.xstart - 1)) & models.Shift(float(sub.ystart - 1))
    to_gwa = models.Shift(float(1 - sub.xstart)) & models.Shift(float(1 - sub.ystart)) | models.Scale(
        1e-3
    ) & models.Scale(1e-3)
    from_gwa = (
        models.Scale(1e3) & models.Scale(1e3)
        | models.Mapping((0, 0, 1))
        | models.Identity(1) & trace & models.Identity(1)
        | models.Identity(1) & models.Polynomial2D(1, c1_0=-1.0, c0_1=1.0)
    )
    to_slit = from_gwa | models.Mapping((0, 1, 0, 1)) | (
        models.Mapping((0,), n_inputs=2) | models.Const1D(0.0)
    ) & models.Identity(2) | models.Mapping((0, 2, 1, 2)) | models.Identity(1) & models.Scale(1 / slit.height) & (
        models.Polynomial2D(1, c1_0=1.0, c0_1=tilt) | forward
    )  # fmt: skip
    to_slit.inverse = (
        models.Mapping((2, 1), n_inputs=3)
        | backward & models.Scale(slit.height)
        | models.Mapping((0, 1, 1))
        | models.Polynomial2D(1, c1_0=1.0, c0_1=-tilt) & models.Identity(1)
        | models.Mapping((0, 0, 1))
        | models.Identity(1) & trace & models.Identity(1)
        | models.Identity(1) & models.Polynomial2D(1, c1_0=1.0, c0_1=1.0)
        | models.Scale(1e-3) & models.Scale(1e-3)
    )
    to_v2v3 = (
        models.Scale(slit.size) & models.Scale(slit.size) | models.Shift(v2) & models.Shift(v3)
    ) & models.Identity(1)
    return WCS([
        (frames["detector"], to_sca), (frames["sca"], to_gwa), (frames["gwa"], to_slit),
        (frames["slit_frame"], to_v2v3), (frames["v2v3"], _to_sky(v2, v3) & models.Scale(1e6)), (frames["world"], None),
    ])  # fmt: skip


def _slit_polynomials(scene: DetectorScene):  # noqa: ANN202
    """Return trace(x), wavelength [m] (place) and its inverse as astropy models."""
    from astropy.modeling import models

    detector, nx = scene.detector, scene.subarray.nx
    middle, half = (nx - 1) / 2, nx / 2
    trace = (
        models.Shift(-middle)
        | models.Scale(1 / half)
        | models.Polynomial1D(len(detector.trace) - 1, **{f"c{k}": float(c) for k, c in enumerate(detector.trace)})
    )
    forward = models.Polynomial1D(
        len(detector.dispersion) - 1, **{f"c{k}": c * 1e-6 for k, c in enumerate(detector.dispersion)}
    )
    place = np.linspace(-50, nx + 50, 400)
    wavelength = detector.wavelength(place)
    centre = float(wavelength.mean())
    coefficients = np.polynomial.polynomial.polyfit(wavelength - centre, place, 6)
    backward = (
        models.Scale(1e6)
        | models.Shift(-centre)
        | models.Polynomial1D(6, **{f"c{k}": float(c) for k, c in enumerate(coefficients)})
    )
    return trace, forward, backward


def _slitless_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of a slitless prism spectrum with dispersion along y: x gives the sky, y the wavelength."""
    from astropy.modeling import models
    from gwcs import WCS

    frames = _frames("um")
    nodes = scene.detector.dispersion_nodes
    rows = np.arange(nodes[0][0], nodes[-1][0] + 1, dtype=float)
    wavelength = scene.detector.wavelength(rows)
    table = models.Tabular1D(points=(rows,), lookup_table=wavelength, bounds_error=False, fill_value=np.nan)
    table.inverse = models.Tabular1D(
        points=(wavelength[::-1],), lookup_table=rows[::-1], bounds_error=False, fill_value=np.nan
    )
    v2, v3 = scene.instrument.v2v3
    middle, scale = float(scene.geometry.trace[len(scene.geometry.trace) // 2]), scene.instrument.pixel_scale
    across = models.Shift(-middle) | models.Scale(scale) | models.Shift(v2)
    forward = models.Mapping((0, 1, 1)) | across & (models.Identity(1) | models.Const1D(v3)) & table
    forward.inverse = models.Mapping((0, 2), n_inputs=3) | across.inverse & table.inverse
    return WCS([
        (frames["detector"], forward), (frames["v2v3"], _to_sky(v2, v3) & models.Identity(1)), (frames["world"], None),
    ])  # fmt: skip


def _imaging_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of an image: the aperture's reference pixel is at the target, but for the source's offset."""
    from astropy.modeling import models
    from gwcs import WCS

    frames = _frames(None)
    v2, v3 = scene.instrument.v2v3
    x0, y0 = (float(v) for v in scene.geometry.trace)
    scale = scene.instrument.pixel_scale
    forward = (
        models.Shift(-x0) & models.Shift(-y0) | models.Scale(-scale) & models.Scale(scale)
        | models.Shift(v2) & models.Shift(v3)
    )  # fmt: skip
    return WCS([(frames["detector"], forward), (frames["v2v3"], _to_sky(v2, v3)), (frames["world"], None)])
