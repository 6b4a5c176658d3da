"""Metadata of the simulated products, as attributes of the data model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tso3.simulate.wcs import ROLL, TARGET

if TYPE_CHECKING:
    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.times import ExposureTimes

__all__ = ["SegmentId", "metadata", "set_metadata", "stem_of"]

from dataclasses import dataclass

CONTEXT = "jwst_1535.pmap"
_SKIPPED = ("group_scale", "persistence", "pixel_replace")


@dataclass(frozen=True)
class SegmentId:
    """
    Which part of which exposure a file is.

    Attributes
    ----------
    exposure : int
        0-based number of the exposure.
    number, total : int
        1-based number of the segment and how many there are.
    first, stop : int
        0-based half-open range of integrations.
    """

    exposure: int
    number: int
    total: int
    first: int
    stop: int


def stem_of(scene: DetectorScene, exposure: int, segment: int | None = None) -> str:
    """
    Return the archive's file stem of an exposure, or of one of its segments.

    The parts: program, observation, visit; group, sequence, activity; exposure; segment; detector. A file of a second
    order says so after the detector; the archive has no such files.
    """
    a = scene.instrument.archive
    part = "" if segment is None else f"-seg{segment:03d}"
    number = scene.layers[0].order.number
    order = f"-order{number}" if scene.instrument.field_point is not None and number > 1 else ""
    return (
        f"jw{a.program}{a.observation}{a.visit}_{a.group}{a.sequence}{a.activity}_"
        f"{exposure + 1:05d}{part}_{scene.detector.name.lower()}{order}"
    )


def set_metadata(model: Any, tree: Mapping[str, Any], node: Any = None) -> None:
    """Set the attributes of ``model.meta`` from a nested mapping."""
    target = model.meta if node is None else node
    for key, value in tree.items():
        if isinstance(value, Mapping):
            set_metadata(model, value, getattr(target, key))
        elif value is not None:
            setattr(target, key, value)


def metadata(scene: DetectorScene, segment: SegmentId, times: ExposureTimes, s_region: str) -> dict[str, Any]:
    """
    Return the metadata of one file as a nested mapping of ``meta``.

    Parameters
    ----------
    scene : DetectorScene
        The detector.
    segment : SegmentId
        Which part of the exposure.
    times : ExposureTimes
        Of the whole exposure: its start, end and durations are written into every segment, as the archive does.
    s_region : str
        Footprint.

    Returns
    -------
    tree : dict
        Attribute names as in the schema of stdatamodels.
    """
    instrument = scene.instrument
    complete = set(instrument.cal_steps)
    calibrated = scene.options.photom and "photom" in instrument.cal_steps
    if not calibrated:
        complete -= {"photom"}
    if scene.options.flat_error == 0:
        complete -= {"flat_field"}
    steps = dict.fromkeys(instrument.cal_steps, "SKIPPED") | dict.fromkeys(sorted(complete), "COMPLETE")
    references = {
        kind: {"name": f"crds://jwst_{instrument.name.lower()}_{kind.replace('_', '')}_sim.fits"}
        for kind in instrument.reference_types
    }
    tree = {
        **_identity(scene, segment),
        "exposure": _exposure(scene, segment, times),
        "cal_step": dict.fromkeys(_SKIPPED, "SKIPPED") | steps,
        "ref_file": references | {"crds": {"context_used": CONTEXT, "sw_version": "13.2.5"}},
        "wcsinfo": _wcsinfo(scene, s_region),
        **_pointing(),
        "bunit_data": instrument.flux_per_pixel if calibrated else "DN/s",
        "bunit_err": instrument.flux_per_pixel if calibrated else "DN/s",
    }
    if calibrated:
        area = instrument.pixel_area_sr
        tree["photometry"] = {"pixelarea_steradians": area, "pixelarea_arcsecsq": instrument.pixel_scale**2}
        if instrument.dispersion_axis == 0:
            factor = float(np.nanmedian(scene.convert)) * scene.detector.gain
            tree["photometry"] |= {"conversion_megajanskys": factor, "conversion_microjanskys": factor * 23.50443}
    return tree


def _identity(scene: DetectorScene, segment: SegmentId) -> dict[str, Any]:
    """Return who, what and where: program, observation, visit, target, instrument, subarray, aperture."""
    instrument, sub, a = scene.instrument, scene.subarray, scene.instrument.archive
    visit_id = f"{a.program}{a.observation}{a.visit}"
    fast, slow = scene.detector.readout
    source = {"type": "FIXED", "proposer_name": "TSO3-SIM-1", "catalog_name": "TSO3-SIM-1", "ra": TARGET[0],
              "dec": TARGET[1], "proposer_ra": TARGET[0], "proposer_dec": TARGET[1], "ra_uncertainty": 0.0,
              "dec_uncertainty": 0.0, "proper_motion_ra": -0.01705, "proper_motion_dec": -0.0006,
              "proper_motion_epoch": "2015.5", "source_type_apt": "POINT"}  # fmt: skip
    if instrument.dispersion_axis:
        source["source_type"] = "POINT"
    aperture = a.aperture.format(detector=scene.detector.name, subarray=sub.name)
    return {
        "origin": "TSO3 SIMULATOR", "time_sys": "UTC", "time_unit": "s", "telescope": "JWST",
        "data_processing_software_version": "2026_1", "prd_software_version": "PRDOPSSOC-070",
        "calibration_software_version": "3.0.0", "calibration_software_revision": "RELEASE",
        "filename": f"{stem_of(scene, segment.exposure, segment.number)}_calints.fits",
        "program": {"title": "Simulated by tso3", "pi_name": "Nobody", "category": "DD", "sub_category": "NONE",
                    "science_category": "Exoplanets and Disks", "continuation_id": 0},
        "observation": {
            "obs_id": f"V{visit_id}P00000000{a.group}{a.sequence}{a.activity}", "visit_id": visit_id,
            "program_number": a.program, "observation_number": a.observation, "visit_number": a.visit,
            "visit_group": a.group, "sequence_id": a.sequence, "activity_id": a.activity,
            "exposure_number": f"{segment.exposure + 1:05d}", "bkgdtarg": False,
            "template": a.template,
            "observation_label": "Simulated transit",
        },
        "visit": {"engineering_quality": "OK", "engdb_pointing_quality": "CALCULATED", "type": "PRIME_TARGETED_FIXED",
                  "status": "SUCCESSFUL", "total_exposures": 1, "internal_target": False, "too_visit": False,
                  "tsovisit": True, "exp_only": False},
        "target": source,
        "instrument": {"name": instrument.name, "detector": scene.detector.name, **instrument.optics,
                       **dict(scene.detector.optics)},
        "subarray": {"name": sub.name, "xstart": sub.xstart, "ystart": sub.ystart, "xsize": sub.nx, "ysize": sub.ny,
                     "fastaxis": fast, "slowaxis": slow},
        "aperture": {"name": aperture, "pps_name": aperture, "position_angle": ROLL},
        "dither": {"primary_type": "NONE", "position_number": 1, "total_points": 1, "x_offset": 0.0, "y_offset": 0.0},
    }  # fmt: skip


def _exposure(scene: DetectorScene, segment: SegmentId, times: ExposureTimes) -> dict[str, Any]:
    """Return ``meta.exposure``."""
    clock, n_int = scene.clock, scene.options.n_int
    mid = (times.start[0] + times.end[-1]) / 2
    seconds, elapsed = round(n_int * clock.integration, 6), round(n_int * clock.cadence, 6)
    return {
        "type": scene.instrument.exp_type, "count": 1, "prime_parallel": "PRIME",
        "start_time": times.start[0], "mid_time": mid, "end_time": times.end[-1],
        "start_time_mjd": times.start[0], "mid_time_mjd": mid, "end_time_mjd": times.end[-1],
        "start_time_tdb": times.start_bjd[0], "mid_time_tdb": (times.start_bjd[0] + times.end_bjd[-1]) / 2,
        "end_time_tdb": times.end_bjd[-1],
        "readpatt": scene.instrument.readpatt, "segment_number": segment.number, "segment_total": segment.total,
        "noutputs": scene.instrument.noutputs,
        "nints": n_int, "integration_start": segment.first + 1, "integration_end": segment.stop,
        "ngroups": clock.ngroups, "nframes": 1, "frame_divisor": 1, "groupgap": 0, "drop_frames1": 0, "nsamples": 1,
        "sample_time": 10.0, "frame_time": clock.group, "group_time": clock.group,
        "integration_time": round(clock.integration, 6), "exposure_time": seconds, "effective_exposure_time": seconds,
        "measurement_time": round(n_int * clock.fitted, 6), "duration": elapsed,
        "elapsed_exposure_time": elapsed, "nresets_at_start": 1, "nresets_between_ints": 1,
        "zero_frame": False, "data_problem": False, "sca_num": scene.detector.sca_num, "gain_factor": 1.0,
    }  # fmt: skip


def _wcsinfo(scene: DetectorScene, s_region: str) -> dict[str, Any]:
    """Return ``meta.wcsinfo``."""
    instrument, sub = scene.instrument, scene.subarray
    scale = instrument.pixel_scale / 3600.0
    info: dict[str, Any] = {
        "wcsaxes": 3 if instrument.dispersion_axis else 2,
        "crpix1": (sub.nx + 1) / 2, "crpix2": (sub.ny + 1) / 2, "crval1": TARGET[0], "crval2": TARGET[1],
        "ctype1": "RA---TAN", "ctype2": "DEC--TAN", "cunit1": "deg", "cunit2": "deg", "cdelt1": scale, "cdelt2": scale,
        "v2_ref": instrument.v2v3[0], "v3_ref": instrument.v2v3[1],
        "vparity": -1, "v3yangle": 0.0, "ra_ref": TARGET[0], "dec_ref": TARGET[1],
        "roll_ref": ROLL, "s_region": s_region,
    }  # fmt: skip
    if instrument.dispersion_axis:
        info |= {"crpix3": 0.0, "crval3": 0.0, "ctype3": "WAVE", "cunit3": "um", "cdelt3": 1.0, "specsys": "BARYCENT",
                 "dispersion_direction": instrument.dispersion_axis,
                 "spectral_order": scene.layers[0].order.number, "velosys": 8312.4}  # fmt: skip
        if instrument.field_point is not None:
            info |= {"siaf_xref_sci": instrument.field_point[0] + 1, "siaf_yref_sci": instrument.field_point[1]}
        low, high = np.nanmin(scene.wavelength), np.nanmax(scene.wavelength)
        info |= {"waverange_start": float(low) * 1e-6, "waverange_end": float(high) * 1e-6}
    else:
        info |= {"siaf_xref_sci": (sub.nx + 1) / 2, "siaf_yref_sci": (sub.ny + 1) / 2}
    return info


def _pointing() -> dict[str, Any]:
    """Return attitude, ephemeris and guide-star keywords."""
    return {
        "coordinates": {"reference_frame": "ICRS"},
        "pointing": {"ra_v1": TARGET[0] - 0.11, "dec_v1": TARGET[1] + 0.09, "pa_v3": ROLL},
        "velocity_aberration": {"scale_factor": 1.000012, "va_ra_ref": TARGET[0], "va_dec_ref": TARGET[1]},
        "ephemeris": {"reference_frame": "EME2000", "type": "Predicted", "time": 59790.9,
                      "spatial_x_bary": 91843204.1, "spatial_y_bary": -110812437.3, "spatial_z_bary": -48036022.9,
                      "velocity_x_bary": 23.1, "velocity_y_bary": 16.7, "velocity_z_bary": 7.2},
        "guidestar": {"gs_id": "SIM0000001", "gs_ra": TARGET[0] + 0.05, "gs_dec": TARGET[1] - 0.07, "gs_mag": 13.2},
    }  # fmt: skip
