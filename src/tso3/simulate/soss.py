"""
What SOSS needs beside the scene: its WCS, and reference files in the layouts that the archive has had.

Traces in a reference are those at the commanded position of the pupil wheel; a reader rotates them to where the wheel
was. Here they are rotated back, so that a reader who does it right finds the light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.simulate.niriss import PWCPOS, PWCPOS_COMMANDED
from tso3.simulate.optics import spread

if TYPE_CHECKING:
    from gwcs import WCS

    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.layers import Layer

__all__ = ["soss_wcs", "write_soss_references"]

_PIVOTS = {1: (1887.0, 54.0), 2: (1677.0, 200.0), 3: (1100.0, 250.0)}
"""Where the traces turn about, (x, y) in SUBSTRIP256; those of orders 1 and 2 as pastasoss 1.2.4 has them."""
_CUTOFFS = {1: 2048, 2: 1783, 3: 1134}
"""First column in which an order has no trace, as in the genuine reference."""
_SCALE = ((0.0, -0.1671), (2048.0, 0.1671))
"""Limits by which column and offset of the wheel are scaled to 0..1."""


def soss_wcs(scene: DetectorScene) -> WCS:
    """Return the WCS of order 1: columns give the wavelength, every pixel its own place on the sky."""
    from astropy.modeling import models
    from gwcs import WCS

    from tso3.simulate.wcs import frames_of, to_sky

    frames = frames_of("um")
    layer = scene.layers[0]
    columns = np.arange(scene.subarray.nx, dtype=float)
    table = models.Tabular1D(
        points=(columns,), lookup_table=layer.geometry.along, bounds_error=False, fill_value=np.nan
    )
    v2, v3 = scene.instrument.v2v3
    scale, middle = scene.instrument.pixel_scale, scene.subarray.nx / 2
    sky = (
        models.Shift(-middle) & models.Shift(-scene.subarray.ny / 2) | models.Scale(scale) & models.Scale(scale)
        | models.Shift(v2) & models.Shift(v3) | to_sky(v2, v3)
    )  # fmt: skip
    return WCS([(frames["detector"], models.Mapping((0, 1, 0)) | sky & table), (frames["world"], None)])


def write_soss_references(folder: Path, scene: DetectorScene, describe: Any) -> dict[str, Path]:
    """
    Write the reference files of SOSS.

    Parameters
    ----------
    folder : Path
        It exists.
    scene : DetectorScene
        The detector.
    describe : callable
        Sets the metadata that all references share.

    Returns
    -------
    references : dict of str to Path
        ``pastasoss``, ``specprofile``, ``speckernel``, ``photom``, ``wavelengthrange``, and in the older layout
        ``spectrace`` and ``wavemap``.
    """
    writers = {
        "pastasoss": (_pastasoss, "asdf"), "specprofile": (_specprofile, "fits"), "speckernel": (_speckernel, "fits"),
        "photom": (_photom, "fits"), "wavelengthrange": (_ranges, "asdf"), "spectrace": (_spectrace, "fits"),
        "wavemap": (_wavemap, "fits"),
    }  # fmt: skip
    found = {}
    for kind, (make, suffix) in writers.items():
        model = make(scene)
        describe(model, scene, kind.upper())
        model.meta.exposure.type = scene.instrument.exp_type
        if kind in ("specprofile", "spectrace", "wavemap"):
            sub = scene.subarray
            model.meta.subarray.name = sub.name
            model.meta.instrument.filter = scene.instrument.optics["filter"]
        found[kind] = folder / f"jwst_niriss_{kind}_sim.{suffix}"
        model.save(found[kind])
        model.close()
    return found


def _at_commanded(scene: DetectorScene, layer: Layer) -> np.ndarray:
    """Return the trace (x, y) in SUBSTRIP256 at the commanded position of the wheel."""
    x = np.arange(-40.0, scene.subarray.nx + 40.0)
    u = (x - (scene.subarray.nx - 1) / 2) / (scene.subarray.nx / 2)
    y = np.polynomial.polynomial.polyval(u, layer.order.trace)
    x0, y0 = _PIVOTS[layer.order.number]
    angle = np.deg2rad(PWCPOS_COMMANDED - PWCPOS)
    turned_x = x0 + (x - x0) * np.cos(angle) - (y - y0) * np.sin(angle)
    turned_y = y0 + (x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)
    columns = np.arange(scene.subarray.nx, dtype=float)
    order = np.argsort(turned_x)
    return np.stack([columns, np.interp(columns, turned_x[order], turned_y[order])], axis=1)


def _coefficients(scene: DetectorScene, layer: Layer) -> list[float]:
    """Return the wavelength polynomial of degree 5 in scaled column and offset: the offset does not enter."""
    (low, _), (high, _) = _SCALE
    columns = np.arange(scene.subarray.nx, dtype=float)
    along = np.polynomial.polynomial.polyfit((columns - low) / (high - low), layer.geometry.along, 5)
    coefficients = []
    for degree in range(6):
        coefficients += [float(along[degree]), *[0.0] * degree]
    return coefficients


def _pastasoss(scene: DetectorScene) -> Any:
    """Return traces, wavelength polynomials and throughputs by order."""
    from stdatamodels.jwst import datamodels

    model = datamodels.PastasossModel()
    model.meta.order2_separation_cutoff = [0.77, 0.95]
    model.meta.pwcpos_cmd = PWCPOS_COMMANDED
    model.meta.pwcpos_bounds = [PWCPOS_COMMANDED - 0.25, PWCPOS_COMMANDED + 0.25]
    model.meta.soss_xdim, model.meta.soss_ydim, model.meta.subarray_ymin = 2048, 300, 1792
    model.meta.wavemap_wlmin, model.meta.wavemap_wlmax, model.meta.wavemap_nwl = 0.5, 5.5, 5001
    wavelength = np.linspace(0.5, 5.5, 501)
    traces, waves, throughputs = [], [], []
    for layer in scene.layers:
        number = layer.order.number
        x0, y0 = _PIVOTS[number]
        trace = _at_commanded(scene, layer)
        traces.append({"spectral_order": number, "pivot_x": x0, "pivot_y": y0, "trace": trace,
                       "cutoff": _CUTOFFS[number], "short_cutoff": 0.63 if number == 3 else 0.58})  # fmt: skip
        waves.append({"spectral_order": number, "polynomial_degree": 5, "coefficients": _coefficients(scene, layer),
                      "scale_extents": [list(limit) for limit in _SCALE]})  # fmt: skip
        efficiency = layer.order.efficiency or scene.instrument.efficiency
        throughputs.append({"spectral_order": number, "wavelength": wavelength, "throughput": efficiency(wavelength)})
    model.traces, model.wavecal_models, model.throughputs = traces, waves, throughputs
    return model


def _specprofile(scene: DetectorScene) -> Any:
    """Return the spatial profile of each order on the detector."""
    from stdatamodels.jwst import datamodels

    model = datamodels.SpecProfileModel()
    y = np.arange(scene.shape[0], dtype=float)[:, None]
    for layer in scene.layers:
        offset = y - layer.geometry.trace[None, :]
        line = spread(layer.order.profile, scene.instrument.dispersion_axis)
        model.profile.append(model.profile.item())
        single = model.profile[-1]
        single.data = line.on_pixels(offset, np.ones_like(offset))[0].astype(np.float32)
        single.order, single.padding, single.oversampling = layer.order.number, 0, 1
    return model


def _speckernel(scene: DetectorScene) -> Any:
    """Return spectral kernels: a Gaussian of two pixels width at every wavelength."""
    from stdatamodels.jwst import datamodels

    half, oversampling, n_wave = 7, 10, 95
    n_pix = 2 * half * oversampling + 1
    wavelength = np.linspace(0.5, 5.2, n_wave)
    offset = (np.arange(n_pix) - n_pix // 2) / oversampling
    kernel = np.exp(-0.5 * (offset / 0.85) ** 2)
    model = datamodels.SpecKernelModel()
    step = np.abs(np.gradient(scene.geometry.along)).mean()
    model.wavelengths = (wavelength[None, :] + offset[:, None] * step).astype(np.float32)
    model.kernels = np.repeat((kernel / kernel.sum())[:, None], n_wave, 1).astype(np.float32)
    model.meta.nwave, model.meta.halfwidth, model.meta.spectral_oversampling = n_wave, half, oversampling
    model.meta.wavemin, model.meta.wavemax, model.meta.centroid_index = 0.5, 5.2, n_pix // 2
    return model


def _photom(scene: DetectorScene) -> Any:
    """Return the factor from DN / s of a column to the flux density, by order: what the scene's efficiencies imply."""
    from stdatamodels.jwst import datamodels

    optics, size, scale = scene.instrument.optics, 500, 5e-11
    table = np.zeros(len(scene.layers), [
        ("filter", "S12"), ("pupil", "S15"), ("order", "i2"), ("photmj", "f4"), ("uncertainty", "f4"),
        ("nelem", "i2"), ("wavelength", "f4", (size,)), ("relresponse", "f4", (size,)),
        ("reluncertainty", "f4", (size,)),
    ])  # fmt: skip
    for row, layer in zip(table, scene.layers, strict=True):
        low, high = layer.order.wavelength_limits or scene.instrument.band
        wavelength = np.linspace(low - 0.01, high + 0.01, size)
        along = layer.geometry.along
        width = np.interp(wavelength, along[::-1], np.abs(np.gradient(along))[::-1])
        response = scene.instrument.response(wavelength, width, layer.order.efficiency) / scene.detector.gain
        row["filter"], row["pupil"], row["order"] = optics["filter"], optics["pupil"], layer.order.number
        row["photmj"], row["nelem"], row["wavelength"] = scale, size, wavelength
        with np.errstate(divide="ignore"):
            row["relresponse"] = np.minimum(1e-6 / response / scale, 1e20)
    model = datamodels.NisSossPhotomModel()
    model.phot_table = table
    return model


def _ranges(scene: DetectorScene) -> Any:
    """Return the range of white light of each order."""
    from stdatamodels.jwst import datamodels

    optics = scene.instrument.optics
    ranges = {1: scene.instrument.band, 2: (0.62, 1.05), 3: (0.65, 0.90)}
    model = datamodels.WavelengthrangeModel()
    model.meta.wavelength_units = "um"
    model.waverange_selector = [optics["filter"]]
    model.order = [layer.order.number for layer in scene.layers]
    model.wavelengthrange = [[number, optics["filter"], *ranges[number]] for number in model.order]
    return model


def _spectrace(scene: DetectorScene) -> Any:
    """Return the older layout of traces: by wavelength, at the position that the wheel had."""
    from stdatamodels.jwst import datamodels

    model = datamodels.SpecTraceModel()
    for layer in scene.layers:
        x = np.arange(-40.0, scene.subarray.nx + 41.0)
        u = (x - (scene.subarray.nx - 1) / 2) / (scene.subarray.nx / 2)
        y = np.polynomial.polynomial.polyval(u, layer.order.trace) + scene.subarray.trace_shift
        wavelength = np.polynomial.polynomial.polyval(x, layer.order.dispersion)
        order = np.argsort(wavelength)
        model.trace.append(model.trace.item())
        single = model.trace[-1]
        data = np.zeros(len(x), [(name, "f8") for name in ("WAVELENGTH", "X", "Y", "THROUGHPUT", "TILT")])
        efficiency = layer.order.efficiency or scene.instrument.efficiency
        for name, values in (("WAVELENGTH", wavelength), ("X", x), ("Y", y), ("THROUGHPUT", efficiency(wavelength))):
            data[name] = values[order]
        single.data = data
        single.order = layer.order.number
    return model


def _wavemap(scene: DetectorScene) -> Any:
    """Return the older layout of wavelengths: an image per order, with a border of 20 pixels."""
    from stdatamodels.jwst import datamodels

    padding = 20
    x = np.arange(-float(padding), scene.subarray.nx + padding)
    model = datamodels.WaveMapModel()
    for layer in scene.layers:
        along = np.polynomial.polynomial.polyval(x, layer.order.dispersion).astype(np.float32)
        model.map.append(model.map.item())
        single = model.map[-1]
        single.data = np.repeat(along[None, :], scene.shape[0] + 2 * padding, 0)
        single.order, single.padding, single.oversampling = layer.order.number, padding, 1
    return model
