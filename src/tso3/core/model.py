"""What is steady in an exposure: made once by the survey, then the same for every block and worker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core.template import Template

__all__ = ["ExposureModel"]


@dataclass(frozen=True)
class ExposureModel:
    """
    The steady part of an exposure, in detector orientation.

    Attributes
    ----------
    reference : ndarray of float64, shape (ny, nx)
        Median image of the sample, input unit; NaN where no sample was valid.
    bad : ndarray of bool, shape (ny, nx)
        True where a pixel is bad in more than half of the sample.
    sample : ndarray of int64, shape (n_sample,)
        Exposure indices of the integrations it was made from.
    template : Template or None
        What integrations are made of; None where it was not asked for, or nothing could be fitted.
    propagated : ndarray of float32, shape (ny, nx), or None
        Median of the errors of the sample, input unit; NaN where unknown. Kept where there is no template.
    unsteady : ndarray of bool, shape (ny, nx), or None
        True where a pixel is bad in more than a tenth of the sample, and in three integrations at least: light curves
        leave it out of all integrations, so that what is summed does not change in time. None: nowhere.
    """

    reference: NDArray[np.float64]
    bad: NDArray[np.bool_]
    sample: NDArray[np.int64]
    template: Template | None = None
    propagated: NDArray[np.float32] | None = None
    unsteady: NDArray[np.bool_] | None = None

    @property
    def noise(self) -> NDArray[np.float32] | None:
        """Noise of a pixel, steady in time, shape (ny, nx): the template's, else the propagated one."""
        return self.propagated if self.template is None else self.template.noise
