"""What is particular about the product of spectra of SOSS: times of stripes, and keywords of its extraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError
from tso3.io.exposure import Exposure, Observation
from tso3.io.fitstable import read_table
from tso3.io.metadata import Provenance, ReferenceUse
from tso3.io.schemas import Value

__all__ = ["extraction_values", "stripe_times", "unused_references"]

_NUMBERS = ("integration_number", "stripe_number")
_TIMES = tuple(f"int_{end}_{scale}" for scale in ("MJD_UTC", "BJD_TDB") for end in ("start", "mid", "end"))


def stripe_times(exposure: Exposure) -> NDArray[np.void] | None:
    """
    Return when the stripes of every integration were read, of all segments together.

    Parameters
    ----------
    exposure : Exposure
        Of a multi-stripe subarray: its files have a table INT_TIMES_STRIPE.

    Returns
    -------
    times : structured ndarray, shape (n_int * n_stripe,), or None
        Columns of the archive, by integration, then stripe; of the integrations of the exposure alone. None if no file
        has such a table.

    Raises
    ------
    InputError
        If a table lacks a column.
    """
    parts = []
    for segment in exposure.segments:
        hdu = segment.hdu("INT_TIMES_STRIPE")
        if hdu is None:
            continue
        columns = read_table(hdu, segment.path, (*_NUMBERS, *_TIMES))
        lacking = [name for name in (*_NUMBERS, *_TIMES) if name not in columns]
        if lacking:
            raise InputError(f"INT_TIMES_STRIPE has no column {lacking[0]}; fetch the file again", segment.path)
        part = np.empty(len(columns[_NUMBERS[0]]), [(n, "i4") for n in _NUMBERS] + [(n, "f8") for n in _TIMES])
        for name, values in columns.items():
            part[name] = values
        parts.append(part)
    if not parts:
        return None
    times = np.concatenate(parts)
    times = times[np.isin(times[_NUMBERS[0]], exposure.times.int_num)]
    _, first = np.unique(times[list(_NUMBERS)], return_index=True)  # a whole table may be repeated in every segment
    return times[first]


def unused_references(observation: Observation, steps: Mapping[str, str]) -> dict[str, ReferenceUse]:
    """Return the references that the archive names although SOSS has no use for them: the area of pixels."""
    calibrated = observation.mode.exp_type == "NIS_SOSS" and steps.get("photom") == "COMPLETE"
    return {"area": ReferenceUse("N/A", "none")} if calibrated else {}


def extraction_values(observation: Observation, provenance: Provenance) -> dict[str, Value]:
    """Return the parameters of extraction that the archive writes into PRIMARY and the tree, by path: those of SOSS."""
    parameters: Mapping[str, Any] = provenance.parameters.get("extract_1d", {})
    if observation.mode.exp_type != "NIS_SOSS" or "soss_width" not in parameters:
        return {}
    names = {
        "width": "soss_width",
        "apply_decontamination": "soss_atoca",
        "oversampling": "soss_n_os",
        "threshold": "soss_threshold",
        "bad_pix": "soss_bad_pix",
    }
    return {f"meta.soss_extract1d.{name}": parameters[parameter] for name, parameter in names.items()}
