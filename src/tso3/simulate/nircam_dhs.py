"""
What the simulator knows of NIRCam's short-wave grism time series (Dispersed Hartmann Sensor).

The sensor stands in the pupil: each of its elements disperses the light of a piece of the telescope's aperture, so that
one star has several spectra, one below the other, each in a stripe of rows that is read out by itself (JWST
documentation, "NIRCam Multistripe Subarrays"): in SUB164STRIPE4_DHS four stripes of 40 rows, each after one row of
reference pixels. Two detectors side by side see the two halves of F150W2's band. A piece of the pupil makes a wide
image: 1.6 m across dispersion is a choice, as are efficiencies and traces, and that stage 1 took off 97 % of the 1/f
noise, which runs along the spectra; see `tso3.simulate.configurations`.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from tso3.simulate.instruments import (
    DETECTOR1,
    REFERENCES,
    Archive,
    DetectorRecord,
    Instrument,
    OrderRecord,
    Subarray,
    table,
)

__all__ = ["NIRCAM_DHS"]

_ROWS = 40
_STRIPES = ((1, 19.3, 1.3, -0.4), (2, 20.2, 1.1, -0.5), (3, 18.7, -0.9, 0.3), (4, 20.9, -1.2, 0.4))
"""Number of the stripe, and the polynomial of its trace from its first row."""


def _piece(share: float):  # noqa: ANN202
    """Return the efficiency of one element: its share of the pupil, 0.35 inside F150W2 with soft edges."""

    def efficiency(wavelength: np.ndarray) -> np.ndarray:
        rise = 1.0 / (1.0 + np.exp(-(wavelength - 1.01) / 0.006))
        fall = 1.0 / (1.0 + np.exp((wavelength - 2.33) / 0.01))
        return 0.35 * share * rise * fall

    return efficiency


def _stripes(shares: tuple[float, ...]) -> tuple[OrderRecord, ...]:
    """Return the stripes of a detector."""
    records = []
    for (number, *trace), share in zip(_STRIPES, shares, strict=True):
        first = 1 + (_ROWS + 1) * (number - 1)
        records.append(
            OrderRecord(
                number=number,
                trace=(first + trace[0], *trace[1:]),
                efficiency=_piece(share),
                profile="stripe",
                band=(first, first + _ROWS),
            )
        )
    return tuple(records)


def _detector(name: str, sca: int, zero: float, gain: float, time_offset: float) -> DetectorRecord:
    """Return the record of a detector, its first pixel at a wavelength."""
    return DetectorRecord(
        name=name,
        gain=gain,
        read_noise=11.0,
        bounds=(3.5, 2043.5, -0.5, 163.5),
        sca_num=sca,
        readout=(-1, 2),
        dispersion=(zero, 2.9e-4),
        wavelength_limits=(1.02, 2.32),
        trace=(20.0,),
        time_offset=time_offset,
        orders=_stripes((0.034, 0.041, 0.039, 0.031)),
    )


_DHS = Instrument(
    exp_type="NRC_TSGRISM",
    configuration="DHS",
    name="NIRCAM",
    model="MultiSlitModel",
    detectors=(_detector("NRCA1", 481, 1.03, 2.08, 0.0), _detector("NRCA3", 483, 1.70, 2.17, 0.0)),
    subarrays=table(Subarray("SUB164STRIPE4_DHS", 2048, 164, 1, 1, 0.86461)),
    dispersion_axis=1,
    optics=MappingProxyType({"filter": "F150W2", "pupil": "GDHS0", "channel": "SHORT", "module": "A"}),
    pixel_scale=0.0311,
    ngroups=8,
    efficiency=_piece(0.04),
    band=(1.04, 2.30),
    source_flux=1.6,
    reference_wavelength=1.6,
    temperature=5400.0,
    resolution=300.0,
    background=0.2,
    jitter=0.006,
    drift=0.015,
    thickness=0.3,
    flux_per_pixel="MJy/sr",
    archive=Archive(
        program="04453",
        observation="010",
        visit="001",
        group="02",
        sequence="1",
        activity="06",
        product="nircam_f150w2-gdhs0-{subarray}",
        aperture="{detector}_DHS",
        template="NIRCam Grism Time Series",
    ),
    readpatt="RAPID",
    cal_steps=(*DETECTOR1, "superbias", "refpix", "assign_wcs", "extract_2d", "srctype", "flat_field", "photom"),
    reference_types=(*REFERENCES, "distortion", "filteroffset", "regions", "specwcs", "superbias", "wavelengthrange"),
    noutputs=4,
    v2v3=(71.6, -513.7),
    striping_axis=1,
    flicker=0.03,
    reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
    reference_rows=(0, 41, 82, 123),
    field_point=(1024.0, 82.0),
)

NIRCAM_DHS = (_DHS,)
"""NRC_TSGRISM with the Dispersed Hartmann Sensor."""
