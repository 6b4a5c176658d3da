"""What the simulator knows of MIRI; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import DETECTOR1, REFERENCES, Archive, DetectorRecord, Instrument, Subarray, table

__all__ = ["MIRI"]


def _p750l(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of MIRI's prism: peak near 6.5 micron, falling to a few percent beyond 12."""
    rise = 1.0 / (1.0 + np.exp(-(wavelength - 4.65) / 0.12))
    return rise * (0.25 * np.exp(-(((wavelength - 6.4) / 3.9) ** 2)) + 0.020)


_LRS = Instrument(
    exp_type="MIR_LRS-SLITLESS",
    configuration="P750L",
    name="MIRI",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            name="MIRIMAGE",
            gain=3.1,
            read_noise=14.0,
            bounds=(3.5, 71.5, 5.5, 395.5),
            sca_num=493,
            readout=(1, 2),
            dispersion_nodes=(
                (5, 14.076), (7, 14.048), (20, 13.870), (40, 13.589), (80, 13.000), (120, 12.367), (160, 11.676),
                (200, 10.918), (240, 10.075), (280, 9.110), (320, 7.976), (340, 7.309), (360, 6.536), (370, 6.084),
                (380, 5.557), (385, 5.242), (390, 4.833), (394, 4.440), (396, 4.250),
            ),
            trace=(37.4, 0.22, 0.05),
        ),
    ),
    subarrays=table(Subarray("SLITLESSPRISM", 72, 416, 1, 529, 0.15904)),
    dispersion_axis=2,
    optics=MappingProxyType({"filter": "P750L", "ccc_state": "OPEN", "lamp_mode": "NONE"}),
    pixel_scale=0.11,
    ngroups=60,
    efficiency=_p750l,
    band=(4.4, 14.06),
    source_flux=0.066,
    reference_wavelength=6.5,
    temperature=4500.0,
    resolution=100.0,
    background=70.0,
    jitter=0.002,
    drift=0.006,
    thickness=1.4,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="01366",
        observation="011",
        visit="001",
        group="04",
        sequence="1",
        activity="03",
        product="miri_p750l-{subarray}",
        aperture="MIRIM_SLITLESSPRISM",
        template="MIRI Low Resolution Spectroscopy",
    ),
    readpatt="FASTR1",
    cal_steps=(
        *DETECTOR1, "emicorr", "firstframe", "lastframe", "reset", "assign_wcs", "bkg_subtract", "srctype",
        "flat_field", "photom",
    ),
    reference_types=(*REFERENCES, "distortion", "specwcs", "reset", "emicorr", "rscd"),
    noutputs=4,
    v2v3=(-378.832, -344.945),
    ramp=(0.0016, 0.08),
    afterglow=0.01,
    pixel_microns=25.0,
    striping_axis=1,
    reference_columns=(0, 1, 2, 3),
)  # fmt: skip

MIRI = (_LRS,)
"""MIRI's modes, the default of each first."""
