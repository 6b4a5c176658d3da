"""What the simulator knows of NIRCam imaging; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import DETECTOR1, REFERENCES, Archive, DetectorRecord, Instrument, Subarray, table

__all__ = ["NIRCAM"]


def _flat_top(wavelength: np.ndarray) -> np.ndarray:
    """Return the flat top of F210M."""
    return np.full_like(np.asarray(wavelength, float), 0.40)


_FULL = Subarray("FULL", 2048, 2048, 1, 1, 10.73677)
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
        _FULL,
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

_WLP8 = replace(
    _F210M,
    configuration="WLP8",
    subarrays=table(*(_F210M.subarrays[name] for name in ("SUB160P", "SUB64P", "SUB400P", "FULL"))),
    optics=MappingProxyType({"filter": "F212N", "pupil": "WLP8", "channel": "SHORT", "module": "B"}),
    bandwidth=0.027,
    band=(2.107, 2.134),
    reference_wavelength=2.12,
    source_flux=4.0,
    ngroups=8,
    archive=replace(_F210M.archive, observation="003", product="nircam_f212n-wlp8-{subarray}"),
    defocus=8.0,
)
"""Weak lens of 8 waves in the pupil wheel, a narrow filter in the other: PUPIL is WLP8."""

_WLP4 = replace(
    _WLP8,
    configuration="WLP4",
    optics=MappingProxyType({"filter": "WLP4", "pupil": "CLEAR", "channel": "SHORT", "module": "B"}),
    archive=replace(_F210M.archive, observation="004", product="nircam_wlp4-{subarray}"),
    source_flux=1.5,
    defocus=4.0,
)
"""Weak lens of 4 waves, which sits in the filter wheel with a narrow filter of its own: FILTER is WLP4."""

_A1A3 = replace(
    _F210M,
    configuration="A1A3",
    detectors=(
        DetectorRecord(name="NRCA1", gain=2.08, read_noise=11.0, bounds=(-0.5, 63.5, -0.5, 63.5), sca_num=481,
                       readout=(-1, 2), brightness=0.4, transits=False),
        DetectorRecord(name="NRCA3", gain=2.17, read_noise=10.8, bounds=(-0.5, 63.5, -0.5, 63.5), sca_num=483,
                       readout=(-1, 2)),
    ),
    subarrays=table(
        Subarray("SUBGRISM64", 2048, 64, 1, 1, 0.34061),
        Subarray("SUBGRISM128", 2048, 128, 1, 1, 0.67597),
        Subarray("SUBGRISM256", 2048, 256, 1, 1, 1.34669),
        _FULL,
    ),
    optics=MappingProxyType({"filter": "F210M", "pupil": "CLEAR", "channel": "SHORT", "module": "A"}),
    ngroups=4,
    archive=replace(_F210M.archive, observation="005"),
)  # fmt: skip
"""Images on two detectors beside a grism time series: the star with the planet on NRCA3, another star on NRCA1."""

NIRCAM = (_F210M, _WLP8, _WLP4, _A1A3)
"""NIRCam's imaging, the default first."""
