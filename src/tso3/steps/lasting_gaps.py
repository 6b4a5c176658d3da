"""Wavelengths of which too much light falls on pixels that lack in all integrations: left out of all, or of none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.steps.extraction_plan import Extract1DPlan

__all__ = ["without_gaps"]

_MARGIN = 0.8
"""Part of ``max_missing`` from which motion may carry the missing share over it in some integrations."""


def without_gaps(plan: Extract1DPlan, lacking: NDArray[np.bool_] | None) -> Extract1DPlan:
    """
    Return a plan without the wavelengths that would be valid in some integrations only, as the star moves.

    Parameters
    ----------
    plan : Extract1DPlan
        How a spectrum is extracted.
    lacking : ndarray of bool, shape (ny, nx), or None
        Pixels that are left out of all integrations, in the orientation of the detector.

    Returns
    -------
    plan : Extract1DPlan
        The same if nothing is lacking. Else, where more than 0.8 ``max_missing`` of the steady light of a wavelength
        lacks, its samples are NaN, and so is the expected spectrum: no light curve has it.
    """
    if lacking is None or plan.expected is None or not plan.complete:
        return plan
    turned = lacking.T if plan.turned else lacking
    columns = plan.box.start + np.arange(plan.box.npixels.size)
    here = turned[np.ix_(plan.box.rows, columns)]
    share = (np.nan_to_num(plan.box.profile) * here).sum(axis=0)[plan.columns]
    left_out = share > _MARGIN * plan.box.max_missing
    if not left_out.any():
        return plan
    return replace(plan, left_out=left_out, expected=np.where(left_out, np.nan, plan.expected))
