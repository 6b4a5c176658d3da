"""What the simulator knows of NIRSpec; see `tso3.simulate.configurations` for what these numbers are worth."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import DETECTOR1, REFERENCES, Archive, DetectorRecord, Instrument, Slit, Subarray, table

__all__ = ["NIRSPEC"]


def _g395h(wavelength: np.ndarray) -> np.ndarray:
    """Return the blaze of G395H behind F290LP (a choice: sinc-like blaze, 0.40 at 3.95 micron)."""
    blaze = np.sinc(0.42 * (wavelength - 3.95)) ** 2
    return 0.40 * blaze / (1.0 + np.exp(-(wavelength - 2.872) / 0.006))


_G395H = Instrument(
    exp_type="NRS_BRIGHTOBJ",
    configuration="G395H",
    name="NIRSPEC",
    model="SlitModel",
    detectors=(
        DetectorRecord(
            name="NRS1",
            gain=0.996,
            read_noise=7.2,
            bounds=(3.5, 2043.5, -0.5, 31.5),
            sca_num=491,
            readout=(2, 1),
            dispersion=(2.3572, 6.705e-4, -1.9e-9),
            wavelength_limits=(2.87, 3.72),
            trace=(16.1, 1.25, -0.62),
            tilt=-0.021,
        ),
        DetectorRecord(
            name="NRS2",
            gain=1.137,
            read_noise=6.9,
            bounds=(3.5, 2043.5, -0.5, 31.5),
            sca_num=492,
            readout=(-2, -1),
            dispersion=(3.8186, 6.752e-4, -2.1e-9),
            wavelength_limits=(3.82, 5.18),
            trace=(15.2, -1.42, -0.48),
            tilt=-0.028,
            time_offset=0.064,
        ),
    ),
    subarrays=table(Subarray("SUB2048", 2048, 32, 1, 1033, 0.90156)),
    dispersion_axis=1,
    optics=MappingProxyType({
        "filter": "F290LP", "grating": "G395H", "fixed_slit": "S1600A1", "lamp_mode": "BRIGHTOBJ", "lamp_state": "NONE",
    }),
    slit=Slit("S1600A1", 16.0, 1.6, (0.012, -0.035)),
    pixel_scale=0.1,
    ngroups=18,
    efficiency=_g395h,
    band=(2.87, 5.18),
    source_flux=0.36,
    reference_wavelength=4.0,
    temperature=5400.0,
    resolution=2700.0,
    background=0.08,
    jitter=0.002,
    drift=0.006,
    thickness=0.3,
    flux_per_pixel="MJy",
    archive=Archive(
        program="01366",
        observation="003",
        visit="001",
        group="04",
        sequence="1",
        activity="01",
        product="nirspec_f290lp-g395h-s1600a1-{subarray}",
        aperture="NRS_S1600A1_SLIT",
        template="NIRSpec Bright Object Time Series",
    ),
    readpatt="NRSRAPID",
    cal_steps=(
        *DETECTOR1, "superbias", "refpix", "clean_flicker_noise", "assign_wcs", "extract_2d", "srctype", "wavecorr",
        "flat_field", "photom",
    ),
    reference_types=(
        *REFERENCES, "camera", "collimator", "disperser", "fore", "fpa", "msa", "ote", "sflat", "fflat", "superbias",
        "wavecorr", "wavelengthrange",
    ),
    noutputs=1,
    v2v3=(321.6, -473.7),
    reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
)  # fmt: skip

NIRSPEC = (_G395H,)
"""NRS_BRIGHTOBJ, the default first."""
