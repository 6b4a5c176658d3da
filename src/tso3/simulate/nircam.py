"""What the simulator knows of NIRCam; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import DETECTOR1, REFERENCES, Archive, DetectorRecord, Instrument, Subarray, table

__all__ = ["NIRCAM"]


def _flat_top(wavelength: np.ndarray) -> np.ndarray:
    """Return the flat top of F210M."""
    return np.full_like(np.asarray(wavelength, float), 0.40)


_F210M = Instrument(
    exp_type="NRC_TSIMAGE",
    configuration="F210M",
    name="NIRCAM",
    model="CubeModel",
    detectors=(
        DetectorRecord(
            name="NRCB1", gain=2.05, read_noise=10.5, bounds=(-0.5, 63.5, -0.5, 63.5), sca_num=486, readout=(1, -2)
        ),
    ),
    subarrays=table(
        Subarray("SUB64P", 64, 64, 1025, 1, 0.05016),
        Subarray("SUB160P", 160, 160, 945, 1, 0.27864),
        Subarray("SUB400P", 400, 400, 701, 1, 1.65312),
    ),
    dispersion_axis=0,
    optics=MappingProxyType({"filter": "F210M", "pupil": "CLEAR", "channel": "SHORT", "module": "B"}),
    pixel_scale=0.0311,
    ngroups=12,
    efficiency=_flat_top,
    bandwidth=0.205,
    band=(2.0, 2.2),
    source_flux=0.105,
    reference_wavelength=2.095,
    temperature=5400.0,
    resolution=100.0,
    background=0.6,
    jitter=0.006,
    drift=0.015,
    thickness=0.3,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="01366",
        observation="002",
        visit="001",
        group="03",
        sequence="1",
        activity="02",
        product="nircam_f210m-{subarray}",
        aperture="{detector}_{subarray}",
        template="NIRCam Time Series",
    ),
    readpatt="RAPID",
    cal_steps=(*DETECTOR1, "superbias", "refpix", "assign_wcs", "flat_field", "photom"),
    reference_types=(*REFERENCES, "distortion", "superbias", "filteroffset"),
    noutputs=1,
    v2v3=(-119.2, -527.4),
    source_offset=(0.37, -0.61),
    striping_axis=1,
)

NIRCAM = (_F210M,)
"""NIRCam's modes, the default of each first."""
