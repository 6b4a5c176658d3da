"""Covariance of the columns of rectified spectra, as sums over wavelength hold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tso3.core.model import ExposureModel
from tso3.core.rectified_sums import group_factors, typical_variance
from tso3.core.weighted import GroupWeights
from tso3.steps.correlated_noise import spectral_weights
from tso3.steps.extract_rectified import RectifiedExtraction

__all__ = ["ColumnSpread"]


@dataclass(frozen=True)
class ColumnSpread:
    """
    What the covariance of columns makes of the variances of their sums.

    Attributes
    ----------
    extraction : RectifiedExtraction
        How the spectrum is extracted.
    model : ExposureModel or None
        From the survey; without it the pixels of the detector count as equally noisy.
    """

    extraction: RectifiedExtraction
    model: ExposureModel | None

    def factors(self, weights: GroupWeights) -> NDArray[np.float64]:
        """
        Return by what the summed variances of groups of wavelengths are to be multiplied, shape (n_group,).

        Parameters
        ----------
        weights : GroupWeights
            As of `tso3.core.weighted.group_brightness`.
        """
        rectifier, plan = self.extraction.rectifier, self.extraction.plan
        pixels = spectral_weights(plan, np.where(weights.group >= 0, weights.factor, 0.0), rectifier.shape)
        group = np.full(rectifier.shape[1], -1, np.int64)
        group[plan.columns] = weights.group
        variance = typical_variance(self.model, rectifier)
        return group_factors(rectifier, pixels, variance, group, weights.n_group)
