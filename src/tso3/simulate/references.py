"""Reference files for the simulated visits: apertures, aperture correction, gain, wavelength ranges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.modes import MODES
from tso3.simulate.optics import line_spread
from tso3.simulate.reuse import reused
from tso3.simulate.soss import write_soss_references

if TYPE_CHECKING:
    from tso3.simulate.detector import DetectorScene

__all__ = ["write_references"]


def write_references(folder: Path, scenes: list[DetectorScene]) -> dict[str, Path]:
    """
    Write the reference files of a visit.

    Parameters
    ----------
    folder : Path
        Made if missing.
    scenes : list of DetectorScene
        The detectors of the visit.

    Returns
    -------
    references : dict of str to Path
        ``extract1d`` (fixed limits and background regions), ``extract1d_wcs`` (along the WCS trace), ``apcorr`` and
        ``wavelengthrange`` for spectroscopy; ``gain`` for imaging.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def made() -> dict[str, tuple[str, bytes]]:
        return {kind: (path.name, path.read_bytes()) for kind, path in _write(folder, scenes).items()}

    files = reused("references", tuple(scene.steady_key for scene in scenes), made)
    for name, content in files.values():
        (folder / name).write_bytes(content)
    return {kind: folder / name for kind, (name, _) in files.items()}


def _write(folder: Path, scenes: list[DetectorScene]) -> dict[str, Path]:
    """Write the files; those of a scene are the same for all seeds."""
    first = scenes[0]
    name = f"jwst_{first.instrument.name.lower()}"
    if MODES[first.instrument.exp_type].is_imaging:
        return {"gain": _write_gain(folder / f"{name}_gain_sim.fits", first)}
    found: dict[str, Path] = {}
    if first.instrument.exp_type == "NIS_SOSS":
        return found | write_soss_references(folder, first, _describe)
    if first.instrument.exp_type == "MIR_MRS":
        found["extract1d"] = _write_ifu_extract1d(folder / f"{name}_extract1d_sim.asdf", first)
    elif first.instrument.model == "MultiSlitModel":  # apertures of stripes follow the light
        found["wavelengthrange"] = _write_ranges(folder / f"{name}_wavelengthrange_sim.asdf", first)
    elif first.instrument.dispersion_axis:
        found["extract1d"] = _write_json(folder / f"{name}_extract1d_sim.json", _extract1d(first, follow=False))
        if first.instrument.field_point is None:
            along = _extract1d(first, follow=True)
            found["extract1d_wcs"] = _write_json(folder / f"{name}_extract1d_wcs_sim.json", along)
        found["apcorr"] = _write_apcorr(folder / f"{name}_apcorr_sim.fits", scenes)
        found["wavelengthrange"] = _write_ranges(folder / f"{name}_wavelengthrange_sim.asdf", first)
    return found


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _extract1d(scene: DetectorScene, *, follow: bool) -> dict[str, Any]:
    """Return an extract1d reference: one aperture, background on both sides."""
    instrument = scene.instrument
    aperture: dict[str, Any] = {
        "id": instrument.exp_type if instrument.slit is None else instrument.slit.name, "region_type": "target",
        "dispaxis": instrument.dispersion_axis, "spectral_order": scene.layers[0].order.number,
        "use_source_posn": follow,
        "bkg_fit": "poly", "bkg_order": 0, "smoothing_length": 0, "independent_var": "pixel",
    }  # fmt: skip
    if instrument.dispersion_axis == 1:
        middle, half, edges = _across(scene)
        aperture |= {"xstart": 0, "xstop": scene.subarray.nx - 1, "ystart": middle - half, "ystop": middle + half}
        aperture["bkg_coeff"] = [[edge] for edge in edges]
        if follow:
            aperture |= {"extract_width": 8}
    else:
        aperture |= {"ystart": 0, "ystop": scene.subarray.ny - 1, "xstart": 32, "xstop": 43}
        aperture["bkg_coeff"] = [[9.5], [20.5], [54.5], [65.5]]
        if follow:
            aperture |= {"extract_width": 11}
    return {
        "REFTYPE": "EXTRACT1D", "INSTRUME": instrument.name, "TELESCOP": "JWST", "EXP_TYPE": instrument.exp_type,
        "PEDIGREE": "DUMMY", "DESCRIP": "Simulated by tso3", "AUTHOR": "tso3", "HISTORY": "Simulated by tso3",
        "USEAFTER": "2022-01-01T00:00:00", "apertures": [aperture],
    }  # fmt: skip


def _across(scene: DetectorScene) -> tuple[int, int, tuple[float, ...]]:
    """Return middle and half width of the aperture of a spectrum along x, and the edges of its background."""
    if scene.instrument.field_point is not None:
        return 34, 8, (3.5, 22.5, 45.5, 62.5)
    if scene.subarray.ny == 16:
        return 8, 4, (-0.5, 1.5, 13.5, 15.5)
    return 15, 4, (1.5, 5.5, 25.5, 29.5)


def _describe(model: Any, scene: DetectorScene, kind: str) -> None:
    """Set the metadata that every reference file needs."""
    model.meta.telescope = "JWST"
    model.meta.instrument.name = scene.instrument.name
    model.meta.reftype = kind
    model.meta.pedigree = "DUMMY"
    model.meta.description = "Simulated by tso3"
    model.meta.author = "tso3"
    model.meta.useafter = "2022-01-01T00:00:00"


def _write_ifu_extract1d(path: Path, scene: DetectorScene) -> Path:
    """Write circular apertures for the MRS: 2.2 times the width of the scene's own core, and an annulus."""
    from stdatamodels.jwst import datamodels

    model = datamodels.Extract1dIFUModel()
    _describe(model, scene, "EXTRACT1D")
    model.meta.exposure.type = scene.instrument.exp_type
    model.meta.region_type, model.meta.method = "target", "exact"
    model.meta.subtract_background, model.meta.subpixels = True, 10
    wavelength = np.linspace(4.8, 28.0, 60).astype(np.float32)
    fwhm = 0.033 * wavelength + 0.106
    model.data.wavelength, model.data.radius = wavelength, 2.2 * fwhm
    model.data.inner_bkg, model.data.outer_bkg = 2.6 * fwhm, 3.4 * fwhm
    model.data.wavelength_units = "micron"
    model.data.radius_units = model.data.inner_bkg_units = model.data.outer_bkg_units = "arcsec"
    model.save(path)
    model.close()
    return path


def _write_gain(path: Path, scene: DetectorScene) -> Path:
    """Write the gain [electron / DN] of the subarray."""
    from stdatamodels.jwst import datamodels

    model = datamodels.GainModel(np.full(scene.shape, scene.detector.gain, np.float32))
    _describe(model, scene, "GAIN")
    sub = scene.subarray
    model.meta.instrument.detector = scene.detector.name
    model.meta.subarray.name = sub.name
    model.meta.subarray.xstart, model.meta.subarray.ystart = sub.xstart, sub.ystart
    model.meta.subarray.xsize, model.meta.subarray.ysize = sub.nx, sub.ny
    model.meta.subarray.fastaxis, model.meta.subarray.slowaxis = 1, 2
    model.save(path)
    model.close()
    return path


def _write_apcorr(path: Path, scenes: list[DetectorScene]) -> Path:
    """Write the aperture correction that the scene's own profile implies: total over enclosed light."""
    from stdatamodels.jwst import datamodels

    scene = scenes[0]
    low = min(np.nanmin(s.geometry.wavelength) for s in scenes)
    high = max(np.nanmax(s.geometry.wavelength) for s in scenes)
    wavelength = np.linspace(low - 0.02, high + 0.02, 64)
    scale = scene.psf_scale(wavelength)
    profile = line_spread(scene.instrument.dispersion_axis)
    if scene.instrument.slit is not None:
        size = np.array([3.0, 5.0, 7.0, 8.0, 9.0, 11.0, 13.0, 16.0])
        factor = 1.0 / profile.enclosed(size[:, None] / 2, scale[None, :])
        phase = np.array([0.0, 0.5, 1.0])
        model = datamodels.NrsFsApcorrModel()
        columns = _nrs_columns(scene, wavelength, size, phase, factor)
    else:
        size = np.array([3, 5, 7, 8, 9, 10, 11, 12, 13, 15, 17, 20, 30])
        factor = 1.0 / profile.enclosed(size[:, None] / 2, scale[None, :])
        grism = scene.instrument.field_point is not None
        model = datamodels.NrcWfssApcorrModel() if grism else datamodels.MirLrsApcorrModel()
        columns = _lrs_columns(scene, wavelength, size, factor)
    table = np.zeros(1, [(n, v.dtype, v.shape) if isinstance(v, np.ndarray) else (n, v[0]) for n, v in columns.items()])
    for column, value in columns.items():
        table[column][0] = value if isinstance(value, np.ndarray) else value[1]
    model.apcorr_table = table
    model.sizeunit = "pixels"
    _describe(model, scene, "APCORR")
    model.meta.exposure.type = scene.instrument.exp_type
    model.save(path)
    model.close()
    return path


def _nrs_columns(
    scene: DetectorScene, wavelength: np.ndarray, size: np.ndarray, phase: np.ndarray, factor: np.ndarray
) -> dict[str, Any]:
    """
    Return the columns of a NIRSpec fixed-slit table: correction of shape (size, wavelength, phase).

    That order is the one in which jwst 3.0.0 can interpolate; with any other it applies no correction, silently.
    """
    optics = scene.instrument.optics
    correction = (factor[:, :, None] * (1 + 0.002 * (phase - 0.5))).astype(np.float32)
    return {
        "filter": ("S12", optics["filter"]), "grating": ("S15", optics["grating"]),
        "slit": ("S15", optics["fixed_slit"]),
        "wavelength": wavelength.astype(np.float32), "nelem_wl": ("i2", len(wavelength)),
        "size": np.repeat(size[:, None], len(wavelength), 1).astype(np.float32), "nelem_size": ("i2", len(size)),
        "pixphase": phase.astype(np.float32), "apcorr": correction, "apcorr_err": np.zeros_like(correction),
    }  # fmt: skip


def _lrs_columns(scene: DetectorScene, wavelength: np.ndarray, size: np.ndarray, factor: np.ndarray) -> dict[str, Any]:
    """Return the columns of a MIRI LRS or NIRCam grism table: correction of shape (wavelength, size)."""
    correction = factor.T.astype(np.float32)
    optics = scene.instrument.optics
    selectors: dict[str, Any] = {"subarray": ("S17", scene.subarray.name)}
    if scene.instrument.field_point is not None:
        selectors = {"filter": ("S12", optics["filter"]), "pupil": ("S15", optics["pupil"])}
    return selectors | {
        "wavelength": wavelength.astype(np.float32),
        "nelem_wl": ("i2", len(wavelength)), "size": size.astype(np.uint8), "nelem_size": ("i2", len(size)),
        "apcorr": correction, "apcorr_err": np.zeros_like(correction),
    }  # fmt: skip


def _write_ranges(path: Path, scene: DetectorScene) -> Path:
    """Write the wavelength range over which white light is summed: list of [order, filter, min, max]."""
    from stdatamodels.jwst import datamodels

    instrument = scene.instrument
    model = datamodels.WavelengthrangeModel()
    _describe(model, scene, "WAVELENGTHRANGE")
    model.meta.exposure.type = instrument.exp_type
    model.meta.wavelength_units = "um"
    model.waverange_selector = [instrument.optics["filter"]]
    order = scene.layers[0].order.number
    model.order = [order]
    model.wavelengthrange = [[order, instrument.optics["filter"], *instrument.band]]
    model.save(path)
    model.close()
    return path
