"""What the simulator knows of MIRI imaging; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import DETECTOR1, REFERENCES, Archive, DetectorRecord, Instrument, Subarray, table

__all__ = ["MIRI_IMAGING"]


def _flat_top(wavelength: np.ndarray) -> np.ndarray:
    """Return the flat top of the broad filters."""
    return np.full_like(np.asarray(wavelength, float), 0.30)


_LEFT = (0, 1, 2, 3)
_F770W = Instrument(
    exp_type="MIR_IMAGE",
    configuration="F770W",
    name="MIRI",
    model="CubeModel",
    detectors=(
        DetectorRecord(
            name="MIRIMAGE", gain=3.1, read_noise=14.0, bounds=(-0.5, 63.5, -0.5, 63.5), sca_num=493, readout=(1, 2)
        ),
    ),
    subarrays=table(
        Subarray("SUB64", 72, 64, 1, 779, 0.08500, reference_columns=_LEFT),
        Subarray("SUB128", 136, 128, 1, 889, 0.11904, reference_columns=_LEFT),
        Subarray("SUB256", 256, 256, 413, 51, 0.29952),
        Subarray("BRIGHTSKY", 512, 512, 457, 51, 0.86528),
        Subarray("FULL", 1032, 1024, 1, 1, 2.77504, reference_columns=(*_LEFT, 1028, 1029, 1030, 1031)),
    ),
    dispersion_axis=0,
    optics=MappingProxyType({"filter": "F770W", "ccc_state": "OPEN", "lamp_mode": "NONE"}),
    pixel_scale=0.11,
    ngroups=40,
    efficiency=_flat_top,
    bandwidth=1.95,
    band=(6.6, 8.6),
    source_flux=0.02,
    reference_wavelength=7.7,
    temperature=3600.0,
    resolution=100.0,
    background=60.0,
    jitter=0.002,
    drift=0.006,
    thickness=1.4,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="01177",
        observation="007",
        visit="001",
        group="02",
        sequence="1",
        activity="01",
        product="miri_f770w-{subarray}",
        aperture="MIRIM_{subarray}",
        template="MIRI Imaging",
    ),
    readpatt="FASTR1",
    cal_steps=(
        *DETECTOR1, "emicorr", "firstframe", "lastframe", "reset", "assign_wcs", "bkg_subtract", "flat_field", "photom",
    ),
    reference_types=(*REFERENCES, "distortion", "filteroffset", "reset", "emicorr", "rscd"),
    noutputs=4,
    v2v3=(-453.559, -373.814),
    ramp=(0.0016, 0.08),
    afterglow=0.01,
    pixel_microns=25.0,
    striping_axis=1,
    source_offset=(0.37, -0.61),
)  # fmt: skip

_F1500W = replace(
    _F770W,
    configuration="F1500W",
    subarrays=table(*(_F770W.subarrays[name] for name in ("SUB256", "SUB64", "SUB128", "BRIGHTSKY", "FULL"))),
    optics=MappingProxyType({"filter": "F1500W", "ccc_state": "OPEN", "lamp_mode": "NONE"}),
    bandwidth=2.92,
    band=(13.5, 16.6),
    reference_wavelength=15.06,
    source_flux=0.0026,
    temperature=2600.0,
    background=650.0,
    archive=replace(_F770W.archive, observation="008", product="miri_f1500w-{subarray}"),
)

MIRI_IMAGING = (_F770W, _F1500W)
"""MIRI's imaging, the default first."""
