"""The source in the reference image of the survey: where it is, what it looks like, and how it moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.aperture import Treatment, sum_apertures
from tso3.core.centroid import Box, find_centroids, median_position
from tso3.core.images import Images
from tso3.core.moving import Prediction
from tso3.core.moving_star import MovingStar, moving_star
from tso3.steps.photometry_records import PhotometryPlan

if TYPE_CHECKING:
    from tso3.core.model import ExposureModel
    from tso3.steps.outlier_detection import TemplateJudge

__all__ = ["moving_source", "settle_by_reference", "steady_source"]

_MARGIN = 4.0
"""Pixels around aperture and boxes in which the star moves."""


def settle_by_reference(plan: PhotometryPlan, model: ExposureModel) -> PhotometryPlan:
    """Return the plan with its boxes and apertures where the source is in the reference image."""
    if plan.ready:
        return plan
    reference = model.reference.astype(np.float32)[None]
    images = Images.of(reference, np.zeros_like(reference), scale=plan.unit.scale)
    box = plan.boxes[0]
    for _ in range(2):
        found = find_centroids(images, box)
        at = median_position(found.x, found.y)
        if at is None:
            return replace(plan, unplaced=(True,) * len(plan.spans), passes=0)
        box = Box(*at, plan.layout.fit, box.source_radius)
    n = len(plan.spans)
    return replace(plan, boxes=(box,) * n, apertures=((box.x, box.y),) * n, passes=0)


def steady_source(plan: PhotometryPlan, model: ExposureModel) -> NDArray[np.float64]:
    """Return the reference image in the unit of the table, without the mean of its annulus."""
    reference = model.reference.astype(np.float32)[None]
    images = Images.of(reference, np.zeros_like(reference), scale=plan.unit.scale)
    scaled: NDArray[np.float64] = reference[0].astype(np.float64) * plan.unit.scale
    if not plan.layout.subtract:
        return scaled
    x, y = plan.apertures[0]
    sums = sum_apertures(images, np.array([x]), np.array([y]), plan.radii, _steady_rule(plan))
    mean = sums.annulus_sum[0] / sums.annulus_area[0]
    return scaled - mean if np.isfinite(mean) else scaled


def moving_source(plan: PhotometryPlan, steady: NDArray[np.float64], judge: TemplateJudge | None) -> MovingStar:
    """Return the star in every integration; the same in all if there is no template, or it is not to be used."""
    if judge is None or plan.parameters.profile == "steady":
        return MovingStar.at_rest(steady, plan.exposure.n_int)
    template = judge.template
    prediction = Prediction(
        template.names, template.images, template.noise, judge.coefficients, judge.errors, plan.exposure.n_int
    )
    sizes = plan.layout.sizes
    reach = np.inf if plan.whole_array else max(2.0 * sizes.radius, plan.layout.search / 2) + _MARGIN
    return moving_star(steady, prediction, plan.unit.scale, plan.apertures[0], reach)


def _steady_rule(plan: PhotometryPlan) -> Treatment:
    """Return the treatment of the reference image."""
    return Treatment(None, False, 1.0, True, plan.parameters.annulus_clip)
