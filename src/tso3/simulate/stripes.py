"""Files of several stripes: each stripe of the frame is a slit with planes, wavelengths and WCS of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.simulate.keywords import set_metadata
from tso3.simulate.wcs import frames_of, to_sky

if TYPE_CHECKING:
    from gwcs import WCS

    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.layers import Layer

__all__ = ["rows_of", "set_stripes", "stripe_wcs"]

_OF_SLIT = ("bunit_data", "bunit_err", "photometry", "wcsinfo")
"""Metadata that the schema of MultiSlitModel has for each slit and not for the file."""


def rows_of(scene: DetectorScene) -> dict[int, slice]:
    """Return the rows of the frame that each slit of a file holds, by EXTVER; all rows for 1 where there are none."""
    if scene.instrument.model != "MultiSlitModel":
        return {1: slice(0, scene.shape[0])}
    return {i: slice(*layer.order.band) for i, layer in enumerate(scene.layers, start=1) if layer.order.band}


def set_stripes(model: Any, scene: DetectorScene, n_int: int, attributes: dict[str, str], tree: dict[str, Any]) -> None:
    """
    Fill the slits of a model, as stage 2 does for the Dispersed Hartmann Sensor.

    Parameters
    ----------
    model : MultiSlitModel
        Changed in place.
    scene : DetectorScene
        With a layer for each stripe.
    n_int : int
        Integrations of the file.
    attributes : dict of str to str
        Attribute by plane; all planes are zeros.
    tree : dict
        Metadata of the file; what the schema of this model does not have for it is taken out.
    """
    from stdatamodels.jwst import datamodels

    rows = rows_of(scene)
    own = {name: tree.pop(name) for name in _OF_SLIT if name in tree}
    for name in [name for name, value in tree.items() if isinstance(value, Mapping) and not hasattr(model.meta, name)]:
        del tree[name]
    for number, layer in enumerate(scene.layers, start=1):
        first, stop = rows[number].start, rows[number].stop
        slit = datamodels.SlitModel()
        for name, attribute in attributes.items():
            dtype = np.uint32 if name == "DQ" else np.float32
            setattr(slit, attribute, np.zeros((n_int, stop - first, scene.shape[1]), dtype))
        slit.wavelength = layer.geometry.wavelength[first:stop].astype(np.float32)
        slit.name = str(layer.order.number)
        slit.source_type = "POINT"
        slit.xstart, slit.xsize = 1, scene.shape[1]
        slit.ystart, slit.ysize = first + 1, stop - first
        set_metadata(slit, own)
        slit.meta.wcsinfo.spectral_order = 1
        slit.meta.wcs = stripe_wcs(scene, layer)
        model.slits.append(slit)


def stripe_wcs(scene: DetectorScene, layer: Layer) -> WCS:
    """
    Return the WCS of a stripe, with the frames of stage 2.

    Every pixel has the sky position of the star, the wavelength of its column, the spectral order and the stripe; back,
    these give the pixel of the trace, counted from the stripe's first row.
    """
    from astropy import units
    from astropy.modeling import models
    from gwcs import WCS
    from gwcs import coordinate_frames as cf

    frames = frames_of("um")
    pixel = {"unit": (units.pix, units.pix), "axes_order": (0, 1)}

    def composite(name: str, sky: cf.CoordinateFrame) -> cf.CompositeFrame:
        wave = cf.SpectralFrame(name="spectral", axes_order=(2,), unit=(units.um,), axes_names=("wavelength",))
        rest = [
            cf.CoordinateFrame(1, "SPATIAL", (axis,), unit=(units.one,), axes_names=(part,), name=part)
            for axis, part in ((3, "order"), (4, "stripe"))
        ]
        return cf.CompositeFrame([sky, wave, *rest], name=name)

    assert layer.order.band is not None
    assert scene.instrument.field_point is not None
    detector = scene.detector.in_order(replace(layer.order, number=1))
    column, row = scene.instrument.field_point
    zero, step = detector.dispersion
    forward = models.Mapping((0, 0, 0, 0, 0), n_inputs=2) | (
        models.Const1D(column) & models.Const1D(row) & models.Polynomial1D(1, c0=zero, c1=step)
        & models.Const1D(1.0) & models.Const1D(float(layer.order.number))
    )  # fmt: skip
    nx = scene.subarray.nx
    trace = (
        models.Shift(-(nx - 1) / 2)
        | models.Scale(2 / nx)
        | models.Polynomial1D(len(detector.trace) - 1, **{f"c{k}": float(c) for k, c in enumerate(detector.trace)})
        | models.Shift(-float(layer.order.band[0]))
    )
    forward.inverse = (
        models.Mapping((2,), n_inputs=5)
        | models.Polynomial1D(1, c0=-zero / step, c1=1 / step)
        | models.Mapping((0, 0))
        | models.Identity(1) & trace
    )
    v2, v3 = scene.instrument.v2v3
    scale = scene.instrument.pixel_scale
    to_v2v3 = (
        models.Shift(-column) & models.Shift(-row) | models.Scale(scale) & models.Scale(scale)
        | models.Shift(v2) & models.Shift(v3)
    ) & models.Identity(3)  # fmt: skip
    wcs = WCS([
        (cf.Frame2D(name="grism_detector", **pixel), forward),
        (composite("direct_image", cf.Frame2D(name="direct_image_spatial", **pixel)), to_v2v3),
        (composite("v2v3", frames["v2v3"].frames[0]), to_sky(v2, v3) & models.Identity(3)),
        (composite("world", frames["world"].frames[0]), None),
    ])  # fmt: skip
    first, stop = layer.order.band
    wcs.bounding_box = ((-0.5, nx - 0.5), (-0.5, stop - first - 0.5))
    return wcs
