"""
What the simulator knows of MIRI's medium-resolution spectrometer; see `tso3.simulate.configurations`.

Each detector has two channels side by side, each of which cuts its field into slices that lie side by side, curved, in
an order of their own, dispersed along y. Numbers of slices, their width, pixel sizes and bands are rounded values of
Wells et al. 2015 (PASP 127, 646) and Law et al. 2023 (AJ 166, 45); order, curvature and the offsets of wavelength
between slices are choices of the right size. ``ROWS96`` is no subarray of MIRI: the rows in the middle of a detector,
for quick tests.
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
)
from tso3.simulate.slices import Channel

__all__ = ["MIRI_MRS"]


def _mrs(wavelength: np.ndarray) -> np.ndarray:
    """Return the efficiency of the whole system: 0.12 at 5 micron, falling to 0.02 at 28."""
    return 0.02 + 0.10 * np.exp(-((np.asarray(wavelength) - 5.0) / 9.0).clip(0.0))


_BANDS = {
    "SHORT": ((4.90, 5.74), (7.51, 8.77), (11.55, 13.47), (17.70, 20.95)),
    "MEDIUM": ((5.66, 6.63), (8.67, 10.13), (13.34, 15.57), (20.69, 24.48)),
    "LONG": ((6.53, 7.65), (10.02, 11.70), (15.41, 17.98), (24.40, 27.90)),
}
_AREAS = MappingProxyType({
    "FULL": Subarray("FULL", 1032, 1024, 1, 1, 2.77504), "ROWS96": Subarray("FULL", 1032, 96, 1, 465, 2.77504)
})  # fmt: skip
_CHANNELS = (
    Channel(n_slices=21, width=0.177, pixel=0.196, length=3.2, columns=(10, 510), rising=True),
    Channel(n_slices=17, width=0.280, pixel=0.196, length=4.0, columns=(520, 1020), rising=False),
    Channel(n_slices=16, width=0.390, pixel=0.245, length=5.2, columns=(520, 1020), rising=True),
    Channel(n_slices=12, width=0.656, pixel=0.273, length=6.6, columns=(10, 510), rising=False),
)
"""Channels 1 to 4."""


def _detector(name: str, channels: tuple[int, int], band: str, sca: int) -> DetectorRecord:
    """Return the record of a detector."""
    orders = tuple(
        OrderRecord(
            number=channel,
            wavelength_limits=_BANDS[band][channel - 1],
            band=_CHANNELS[channel - 1].columns,
            slices=_CHANNELS[channel - 1],
        )
        for channel in channels
    )
    return DetectorRecord(
        name=name,
        gain=3.1,
        read_noise=14.0,
        bounds=(-0.5, 1031.5, -0.5, 1023.5),
        sca_num=sca,
        readout=(1, 2),
        dispersion=(5.0, 1e-3),
        trace=(260.0,),
        orders=orders,
        optics=(("channel", "".join(str(c) for c in sorted(channels))),),
    )


def _record(band: str) -> Instrument:
    """Return the record of a configuration."""
    return Instrument(
        exp_type="MIR_MRS",
        configuration=band,
        name="MIRI",
        model="CubeModel",
        detectors=(_detector("MIRIFUSHORT", (1, 2), band, 495), _detector("MIRIFULONG", (4, 3), band, 494)),
        subarrays=_AREAS,
        dispersion_axis=2,
        optics=MappingProxyType({"band": band, "ccc_state": "OPEN"}),
        pixel_scale=0.196,
        ngroups=20,
        efficiency=_mrs,
        band=(_BANDS[band][0][0], _BANDS[band][3][1]),
        source_flux=0.8,
        reference_wavelength=6.0,
        temperature=4500.0,
        resolution=1500.0,
        background=1.0,
        jitter=0.002,
        drift=0.006,
        thickness=1.4,
        flux_per_pixel="MJy/sr",
        archive=Archive(
            program="01556",
            observation="002",
            visit="001",
            group="05",
            sequence="1",
            activity="01",
            product=f"miri_ch1-2-3-4-{band.lower()}",
            aperture="MIRIFU_CHANNEL1A",
            template="MIRI Medium Resolution Spectroscopy",
        ),
        readpatt="FASTR1",
        cal_steps=(
            *DETECTOR1, "emicorr", "firstframe", "lastframe", "reset", "assign_wcs", "srctype", "flat_field",
            "straylight", "fringe", "photom",
        ),
        reference_types=(
            *REFERENCES, "distortion", "specwcs", "regions", "reset", "emicorr", "fringe", "wavelengthrange",
        ),
        noutputs=4,
        v2v3=(-503.0, -318.7),
        ramp=(0.0016, 0.08),
        afterglow=0.01,
        pixel_microns=25.0,
        striping_axis=1,
        reference_columns=(0, 1, 2, 3, -4, -3, -2, -1),
        blank_outside=True,
    )  # fmt: skip


MIRI_MRS = tuple(_record(band) for band in _BANDS)
"""MIR_MRS, the default first."""
