"""gWCS objects of the simulated products, with the frames and transforms that the pipeline asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gwcs import WCS

    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.instruments import DetectorRecord

__all__ = ["ROLL", "TARGET", "frames_of", "make_wcs", "sky_region", "to_sky"]

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
    elif scene.instrument.field_point is not None:
        wcs = _grism_wcs(scene)
    elif scene.instrument.exp_type == "NIS_SOSS":
        from tso3.simulate.soss import soss_wcs

        wcs = soss_wcs(scene)
    elif scene.instrument.exp_type == "MIR_MRS":
        from tso3.simulate.slices import slices_wcs

        wcs = slices_wcs(scene)
    elif scene.instrument.dispersion_axis:
        wcs = _slitless_wcs(scene)
    else:
        wcs = _imaging_wcs(scene)
    x0, x1, y0, y1 = scene.detector.bounds
    x1, y1 = min(x1, scene.subarray.nx - 0.5), min(y1, scene.subarray.ny - 0.5)
    if scene.instrument.dispersion_axis == 0:
        x1, y1 = scene.subarray.nx - 0.5, scene.subarray.ny - 0.5
    elif scene.instrument.blank_outside:
        x0, x1, y0, y1 = -0.5, scene.subarray.nx - 0.5, -0.5, scene.subarray.ny - 0.5
    wcs.bounding_box = ((x0, x1), (y0, y1))
    return wcs


def sky_region(scene: DetectorScene, wcs: WCS) -> str:
    """Return S_REGION: the corners of the slit or of the subarray on the sky."""
    if scene.instrument.slit is not None:
        to_world = wcs.get_transform("slit_frame", "world")
        corners = [to_world(x, y, 4e-6)[:2] for x, y in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))]
    elif scene.instrument.field_point is not None:
        to_world = wcs.get_transform("direct_image", "world")
        x1, y1 = scene.subarray.nx - 0.5, scene.subarray.ny - 0.5
        corners = [to_world(x, y, 4.0, 1)[:2] for x, y in ((-0.5, -0.5), (-0.5, y1), (x1, y1), (x1, -0.5))]
    elif scene.instrument.exp_type == "MIR_MRS":
        to_world = wcs.get_transform("v2v3", "world")
        (v2, v3), half = scene.instrument.v2v3, 3.5
        corners = [
            to_world(v2 + a, v3 + b, 5.0)[:2] for a, b in ((-half, -half), (-half, half), (half, half), (half, -half))
        ]
    else:
        (x0, x1), (y0, y1) = wcs.bounding_box.bounding_box() if scene.instrument.dispersion_axis else (
            (-0.5, scene.subarray.nx - 0.5), (-0.5, scene.subarray.ny - 0.5))  # fmt: skip
        if scene.instrument.dispersion_axis:
            (x0, x1), (y0, y1) = scene.detector.bounds[:2], scene.detector.bounds[2:]
        corners = [wcs(x, y, with_bounding_box=False)[:2] for x, y in ((x0, y0), (x0, y1), (x1, y1), (x1, y0))]
    numbers = " ".join(f"{float(v):.9f}" for corner in corners for v in corner)
    return f"POLYGON ICRS  {numbers}"


def frames_of(spectral_unit: str | None, *, slit: bool = False) -> dict[str, Any]:
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


def to_sky(v2: float, v3: float) -> Any:
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

    frames = frames_of("m", slit=True)
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
        (frames["slit_frame"], to_v2v3), (frames["v2v3"], to_sky(v2, v3) & models.Scale(1e6)), (frames["world"], None),
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
    trace = trace | models.Shift(scene.subarray.trace_shift)
    if detector.dispersion_nodes:
        first, last = detector.dispersion_nodes[0][0], detector.dispersion_nodes[-1][0]
        table = _table(np.linspace(first, last, 10 * (last - first) + 1), detector)
        return trace, table | models.Scale(1e-6), models.Scale(1e6) | table.inverse
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


def _table(place: np.ndarray, detector: DetectorRecord):  # noqa: ANN202
    """Return wavelength [micron] at places along dispersion and its inverse as an astropy model, NaN outside."""
    from astropy.modeling import models

    outside = {"bounds_error": False, "fill_value": np.nan}
    wavelength = detector.wavelength(place)
    table = models.Tabular1D(points=(place,), lookup_table=wavelength, **outside)
    rising = slice(None) if wavelength[-1] > wavelength[0] else slice(None, None, -1)
    table.inverse = models.Tabular1D(points=(wavelength[rising],), lookup_table=place[rising], **outside)
    return table


def _grism_wcs(scene: DetectorScene) -> WCS:
    """
    Return the WCS of NIRCam's grism time series, with the frames of stage 2.

    Every pixel has the sky position of the star, the wavelength of its column, and the spectral order; back, these give
    the pixel of the trace.
    """
    from astropy import units
    from astropy.modeling import models
    from gwcs import WCS
    from gwcs import coordinate_frames as cf

    frames = frames_of("um")
    pixel = {"unit": (units.pix, units.pix), "axes_order": (0, 1)}
    wave = {"unit": (units.um,), "axes_names": ("wavelength",)}
    grism = cf.Frame2D(name="grism_detector", **pixel)
    order = cf.CoordinateFrame(1, "SPATIAL", (3,), unit=(units.one,), axes_names=("order",), name="order")

    def composite(name: str, sky: cf.CoordinateFrame) -> cf.CompositeFrame:
        return cf.CompositeFrame([sky, cf.SpectralFrame(name="spectral", axes_order=(2,), **wave), order], name=name)

    direct = composite("direct_image", cf.Frame2D(name="direct_image_spatial", **pixel))
    v2v3 = composite("v2v3", frames["v2v3"].frames[0])
    world = composite("world", frames["world"].frames[0])
    detector, number = scene.detector.in_order(scene.layers[0].order), scene.layers[0].order.number
    assert scene.instrument.field_point is not None
    column, row = scene.instrument.field_point
    zero, step = detector.dispersion
    forward = models.Mapping((0, 0, 0, 0), n_inputs=2) | (
        models.Const1D(column) & models.Const1D(row) & models.Polynomial1D(1, c0=zero, c1=step) & models.Const1D(number)
    )
    nx = scene.subarray.nx
    trace = (
        models.Shift(-(nx - 1) / 2)
        | models.Scale(2 / nx)
        | models.Polynomial1D(len(detector.trace) - 1, **{f"c{k}": float(c) for k, c in enumerate(detector.trace)})
    )
    forward.inverse = (
        models.Mapping((2,), n_inputs=4)
        | models.Polynomial1D(1, c0=-zero / step, c1=1 / step)
        | models.Mapping((0, 0))
        | models.Identity(1) & trace
    )
    v2, v3 = scene.instrument.v2v3
    scale = scene.instrument.pixel_scale
    to_v2v3 = (
        models.Shift(-column) & models.Shift(-row) | models.Scale(scale) & models.Scale(scale)
        | models.Shift(v2) & models.Shift(v3)
    ) & models.Identity(2)  # fmt: skip
    return WCS([(grism, forward), (direct, to_v2v3), (v2v3, to_sky(v2, v3) & models.Identity(2)), (world, None)])


def _slitless_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of a slitless prism spectrum with dispersion along y: x gives the sky, y the wavelength."""
    from astropy.modeling import models
    from gwcs import WCS

    frames = frames_of("um")
    nodes = scene.detector.dispersion_nodes
    table = _table(np.arange(nodes[0][0], nodes[-1][0] + 1, dtype=float), scene.detector)
    v2, v3 = scene.instrument.v2v3
    middle, scale = float(scene.geometry.trace[len(scene.geometry.trace) // 2]), scene.instrument.pixel_scale
    across = models.Shift(-middle) | models.Scale(scale) | models.Shift(v2)
    forward = models.Mapping((0, 1, 1)) | across & (models.Identity(1) | models.Const1D(v3)) & table
    forward.inverse = models.Mapping((0, 2), n_inputs=3) | across.inverse & table.inverse
    return WCS([
        (frames["detector"], forward), (frames["v2v3"], to_sky(v2, v3) & models.Identity(1)), (frames["world"], None),
    ])  # fmt: skip


def _imaging_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of an image: the aperture's reference pixel is at the target, but for the source's offset."""
    from astropy.modeling import models
    from gwcs import WCS

    frames = frames_of(None)
    v2, v3 = scene.instrument.v2v3
    x0, y0 = (float(v) for v in scene.geometry.trace)
    scale = scene.instrument.pixel_scale
    forward = (
        models.Shift(-x0) & models.Shift(-y0) | models.Scale(-scale) & models.Scale(scale)
        | models.Shift(v2) & models.Shift(v3)
    )  # fmt: skip
    return WCS([(frames["detector"], forward), (frames["v2v3"], to_sky(v2, v3)), (frames["world"], None)])
