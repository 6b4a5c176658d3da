"""Rectification of the exposures of a run: grids that they share, plans for their recipes, and the median frames."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tso3 import straight_lane
from tso3.io.crfints import CrfintsRecord, crfints_name
from tso3.io.exposure import Exposure
from tso3.io.rectified import write_frame
from tso3.lane import Lane, Setting
from tso3.spectral_lane import SpectralLane
from tso3.steps.rectified_frame import SpectrumPlace, missed, shared_edges, soss_places, spectrum_place
from tso3.steps.rectified_image import prepare_image
from tso3.steps.rectify import RectifyPlan, frame, prepare_spectra

__all__ = ["prepare_rectification", "write_medians"]

_FEWEST = 4
"""Columns with a wavelength that a trace must have: the corners of pixels are interpolated from as many centres."""
_NOT = {"MIR_MRS": "the spectra of MIRI's MRS lie on many slices, which one straight frame cannot hold"}


def prepare_rectification(lanes: Sequence[Lane]) -> None:
    """
    Plan how the exposures of a run are rectified, if they are to be; their recipes are changed.

    Parameters
    ----------
    lanes : sequence of Lane
        All of a run, prepared.
    """
    setting = lanes[0].setting
    straight_lane.check(setting)
    extracting = setting.parameters.extract_1d.rectified and not setting.parameters.extract_1d.skip
    if setting.parameters.rectify.skip and not extracting:
        return
    reason = _NOT.get(setting.observation.mode.exp_type)
    if reason is not None:
        setting.progress.message(f"not rectified: {reason}")
        return
    if setting.observation.mode.is_imaging:
        _prepare_images(lanes)
        return
    planned: dict[int, list[tuple[int, RectifyPlan]]] = {}
    groups: dict[tuple[str, str, int, str], list[tuple[Lane, SpectrumPlace]]] = {}
    for lane in lanes:
        for place in _places(lane):
            key = (lane.exposure.detector, lane.exposure.stripe, place.order, place.mark)
            groups.setdefault(key, []).append((lane, place))
    asked, beyond = [], []
    for members in groups.values():
        places = [place for _, place in members]
        if min(np.isfinite(place.on_trace).sum() for place in places) < _FEWEST:
            setting.progress.message(f"{members[0][0].exposure.label}: not rectified, its trace has hardly any column")
            continue
        if not extracting and missed(places, setting.parameters.rectify):
            beyond.append(members[0])
            continue
        asked.append((members, places, [_shifts(lane, place.turned) for lane, place in members]))
    _tell_missed(setting, beyond, all_of_them=not asked)
    with ThreadPoolExecutor(setting.limits.workers, thread_name_prefix="tso3") as pool:
        found = pool.map(lambda one: prepare_spectra(one[1], setting.parameters.rectify, one[2]), asked)
        for (members, _, _), plans in zip(asked, found, strict=True):
            for (lane, place), plan in zip(members, plans, strict=True):
                planned.setdefault(id(lane), []).append((place.order, plan))
    _tell_columns(setting, planned, lanes)
    for lane in lanes:
        own = planned.get(id(lane), [])
        if extracting:
            assert isinstance(lane, SpectralLane)
            straight_lane.extract_from(lane, own)
        if not setting.parameters.rectify.skip:
            lane.recipe = replace(lane.recipe, rectify=tuple(plan for _, plan in own))


def _tell_missed(setting: Setting, beyond: Sequence[tuple[Lane, SpectrumPlace]], all_of_them: bool) -> None:
    """Say which spectra have no wavelength in the list of edges; if there are no others, that is an error."""
    if beyond and all_of_them:
        shared_edges([beyond[0][1]], setting.parameters.rectify)
    for lane, place in beyond:
        order = f" order {place.order}" if lane.exposure.mode.exp_type == "NIS_SOSS" else ""
        setting.progress.message(
            f"{lane.exposure.label}{order}: not rectified, {setting.parameters.rectify.step} holds nothing of it"
        )


def _tell_columns(setting: Setting, planned: dict[int, list[tuple[int, RectifyPlan]]], lanes: Sequence[Lane]) -> None:
    """Say which columns ``auto`` took, one line for each kind."""
    if setting.parameters.rectify.step != "auto":
        return
    words = {"mean": "of the mean dispersion", "native": "of the pixels' own widths, which vary"}
    for step, said in words.items():
        names = [
            f"{lane.exposure.detector}{' order ' + str(order) if len(planned.get(id(lane), ())) > 1 else ''}"
            for lane in lanes
            for order, plan in planned.get(id(lane), [])
            if plan.layout.step == step
        ]
        if names:
            setting.progress.message(f"rectified to columns {said} ({step}): {', '.join(dict.fromkeys(names))}")


def _prepare_images(lanes: Sequence[Lane]) -> None:
    """Plan how images are rectified."""
    for lane in lanes:
        plan = prepare_image(lane.exposure, lane.setting.parameters.rectify, _shifts(lane, turned=False))
        if plan is None:
            lane.setting.progress.message(f"{lane.exposure.label}: not rectified, it has no WCS")
        else:
            lane.recipe = replace(lane.recipe, rectify=(plan,))


def _places(lane: Lane) -> list[SpectrumPlace]:
    """Return where the spectra of an exposure are."""
    assert isinstance(lane, SpectralLane)
    exposure, parameters = lane.exposure, lane.setting.parameters
    plans = lane.plans
    if not plans and not parameters.extract_1d.skip:
        return []
    if not plans:
        fixed = parameters.extract_1d
        if fixed.extract_width == "auto":
            fixed = fixed.model_copy(update={"extract_width": None})
        from tso3.steps.extraction_shape import Knowledge

        plans = lane.extraction(fixed, Knowledge(lane.model))
    if exposure.mode.exp_type == "NIS_SOSS":
        orders = [plan.header.spectral_order for plan in plans]
        return soss_places(exposure, lane.references, parameters.extract_1d, lane.model, orders) if orders else []
    mark = f"_stripe{exposure.stripe}" if exposure.stripe else ""
    return [spectrum_place(exposure, plan, lane.model, mark) for plan in plans]


def _shifts(lane: Lane, turned: bool) -> NDArray[np.float64] | None:
    """Return how far the light of each integration lies, along dispersion (x) first, if integrations are to follow."""
    if not lane.setting.parameters.rectify.follow_jitter:
        return None
    if lane.found is None:
        lane.setting.progress.message(f"{lane.exposure.label}: no covariates, so rectification follows no motion")
        return None
    x, y = (lane.found.values[f"shift_{axis}"] for axis in "xy")
    unknown = int(np.count_nonzero(~(np.isfinite(x) & np.isfinite(y))))
    if unknown:
        lane.setting.progress.message(
            f"{lane.exposure.label}: of {unknown} of {x.size} integrations the shift is not known along both axes;"
            " rectification takes what is unknown as 0"
        )
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    return np.stack([y, x] if turned else [x, y], axis=1)


def write_medians(lanes: Sequence[Lane], record: CrfintsRecord) -> None:
    """
    Write the median frame of every exposure, as it is on the detector and rectified.

    Parameters
    ----------
    lanes : sequence of Lane
        All of a run.
    record : CrfintsRecord
        What the headers say.
    """
    for lane in lanes:
        if lane.model is None or not lane.recipe.rectify:
            continue
        stem = _stem(lane.exposure, lane.setting.observation.asn_id)
        stripe = f"_stripe{lane.exposure.stripe}" if lane.exposure.stripe else ""
        folder, image = lane.setting.folder, lane.model.reference
        written = [write_frame(folder / f"{stem}{stripe}_cal_median.fits", lane.exposure, image, None, record)]
        for plan in lane.recipe.rectify:
            path = folder / f"{stem}{plan.layout.mark}_{plan.layout.kind.removesuffix('ints')}_median.fits"
            written.append(write_frame(path, lane.exposure, frame(plan, image), plan.layout, record))
        lane.products.setdefault("median", []).extend(written)


def _stem(exposure: Exposure, asn_id: str | None) -> str:
    """Return what the names of an exposure's products begin with: no segment is named."""
    segment = exposure.segments[0]
    name = crfints_name(segment, asn_id).removesuffix("_crfints.fits")
    return name if len(exposure.segments) == 1 else name.replace(Path(segment.base).name, exposure.name, 1)
