"""
What can be simulated: one record per EXP_TYPE and configuration (grating, filter, pupil or subarray family).

A further configuration is one more record in the module of its instrument. Nothing here is calibration. Pixel scales,
frame times, subarray corners, gains, read noise and wavelength ranges are rounded values of the kind the public JWST
documentation gives; they were not checked one by one, so take none from here. Wavelengths of the MIRI prism are read
off the WCS of a genuine product up to row 390; the last two nodes are drawn smoother than there. Efficiencies, fluxes,
traces and motions are choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tso3.errors import InputError
from tso3.simulate.instruments import Instrument
from tso3.simulate.miri import MIRI
from tso3.simulate.miri_imaging import MIRI_IMAGING
from tso3.simulate.miri_mrs import MIRI_MRS
from tso3.simulate.nircam import NIRCAM
from tso3.simulate.nircam_dhs import NIRCAM_DHS
from tso3.simulate.nircam_grism import NIRCAM_GRISM
from tso3.simulate.niriss import NIRISS
from tso3.simulate.nirspec import NIRSPEC

__all__ = ["CONFIGURATIONS", "instrument_of"]


def _by_mode(*instruments: Instrument) -> Mapping[str, Mapping[str, Instrument]]:
    """Return records by EXP_TYPE, then configuration, in the order given."""
    found: dict[str, dict[str, Instrument]] = {}
    for instrument in instruments:
        found.setdefault(instrument.exp_type, {})[instrument.configuration] = instrument
    return MappingProxyType({mode: MappingProxyType(records) for mode, records in found.items()})


CONFIGURATIONS = _by_mode(*NIRSPEC, *MIRI, *NIRCAM, *NIRCAM_GRISM, *NIRCAM_DHS, *MIRI_IMAGING, *MIRI_MRS, *NIRISS)
"""Records by EXP_TYPE, then configuration; the first of each mode is its default."""


def instrument_of(mode: str, configuration: str | None = None) -> Instrument:
    """
    Return the record of a mode.

    Parameters
    ----------
    mode : str
        EXP_TYPE, in any case.
    configuration : str, optional
        Such as ``"G395H"``, in any case; by default the mode's first.

    Returns
    -------
    instrument : Instrument
        The record.

    Raises
    ------
    InputError
        If the mode or the configuration is unknown; the message names those there are.

    Examples
    --------
    >>> from tso3.simulate.configurations import instrument_of
    >>> instrument_of("nrc_tsimage").name
    'NIRCAM'
    """
    records = CONFIGURATIONS.get(str(mode).upper())
    if records is None:
        raise InputError(f"no simulator for mode {mode!r}; one of {', '.join(CONFIGURATIONS)}")
    if configuration is None:
        return next(iter(records.values()))
    record = records.get(configuration.upper())
    if record is None:
        raise InputError(f"no configuration {configuration!r} of {mode.upper()}; one of {', '.join(records)}")
    return record
