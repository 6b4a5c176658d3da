"""Where the spectra of NIRCam's Dispersed Hartmann Sensor are: one in each stripe, along the light itself."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.light_trace import light_trace
from tso3.core.model import ExposureModel
from tso3.errors import Tso3Warning
from tso3.io.defaults import STRIPE
from tso3.io.reference_files import Aperture1D, read_extract1d
from tso3.parameters import Extract1D
from tso3.steps.extraction_setup import ExtractionSetup, choose_aperture, set_up, spectral_order

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["stripe_setup"]


def stripe_setup(
    exposure: Exposure, references: References, parameters: Extract1D, model: ExposureModel | None
) -> ExtractionSetup:
    """
    Return where the spectrum of a stripe is extracted.

    From the extract1d reference, if there is one: its aperture for the stripe's name, else for the exposure type. Else
    a box of constant width along the trace that the light of the exposure's reference image shows.

    Parameters
    ----------
    exposure : Exposure
        One stripe.
    references : References
        Names the reference files.
    parameters : Extract1D
        The step's parameters.
    model : ExposureModel or None
        Its reference image shows the trace.

    Returns
    -------
    setup : ExtractionSetup

    Raises
    ------
    ReferenceFileError
        If the reference has no aperture for the stripe.
    InputError
        If the aperture has no wavelengths.

    Warns
    -----
    tso3.errors.Tso3Warning
        If there is no image to find the trace in, so that the whole stripe is summed.
    """
    path = references.path("extract1d")
    if path is not None:
        apertures = read_extract1d(path)
        name = exposure.stripe if any(a.id == exposure.stripe for a in apertures) else exposure.mode.exp_type
        return set_up(exposure, choose_aperture(apertures, name, spectral_order(exposure), path), parameters, path)
    if not references.built_in("extract1d"):
        return set_up(exposure, None, parameters)
    trace = _trace(exposure, model)
    aperture: Aperture1D | None = STRIPE
    if trace is None:  # the whole stripe: nothing that a width could be about
        aperture = Aperture1D(use_source_posn=False) if parameters.extract_width is None else None
    return set_up(exposure, aperture, parameters, trace=trace)


def _trace(exposure: Exposure, model: ExposureModel | None) -> NDArray[np.float64] | None:
    """Return the trace of a stripe; None if there is no image to find it in, or no light in it."""
    reason = "no survey was made"
    if model is not None:
        try:
            return light_trace(model.reference, (STRIPE.extract_width or 0.0) / 2.0)
        except ValueError as error:
            reason = str(error)
    warnings.warn(
        f"{exposure.segments[0].path}: {reason}, so the trace of stripe {exposure.stripe} is not known; all its rows"
        " are summed, without background (or give --override-extract1d FILE)",
        Tso3Warning,
        stacklevel=5,
    )
    return None
