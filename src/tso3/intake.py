"""What comes in: inputs, the part of them that is asked for, and their times; and which steps are done already."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tso3.errors import InputError, ParameterError, Tso3Warning
from tso3.io.exposure import Observation, read_observation
from tso3.io.reference_identity import check_identity
from tso3.io.references import Reference, References
from tso3.io.selection import IntegrationRange, named, parse_integrations, select_integrations, shown
from tso3.io.user_times import apply_times
from tso3.io.x1dints_reader import SpectraExposure
from tso3.parameters import OutlierDetection, Parameters

__all__ = ["in_use", "take_in"]

_EXTRACTION = ("extract1d", "apcorr", "pastasoss", "spectrace", "wavemap")


def take_in(
    inputs: str | Path | Sequence[str | Path],
    parameters: Parameters,
    *,
    integrations: str | Sequence[int] | None = None,
    times: str | Path | None = None,
) -> tuple[Observation, Parameters]:
    """
    Return what is reduced, and the parameters without the steps that are done already.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        Association, calints, crfints or one x1dints.
    parameters : Parameters
        Of all steps.
    integrations : str or pair of int, optional
        Those to reduce, see `tso3.io.selection.parse_integrations`; all by default.
    times : path-like, optional
        File of time stamps, see `tso3.io.user_times.apply_times`; those of the inputs by default.

    Returns
    -------
    observation : Observation
        With the integrations and times that were asked for.
    parameters : Parameters
        ``outlier_detection.skip`` is true for crfints, which hold their flags.

    Raises
    ------
    Tso3Error
        If inputs, integrations or times cannot be used.

    Warns
    -----
    tso3.errors.Tso3Warning
        If steps are left out because they are done already.
    """
    chosen = None if integrations is None else parse_integrations(integrations)
    observation = read_observation(inputs)
    first = observation.exposures[0]
    if isinstance(first, SpectraExposure):
        observation = observation if chosen is None else _select_spectra(observation, chosen)
        if parameters.white_light.skip and parameters.channels.spec is None:
            raise ParameterError("is skipped, but spectra are given: nothing is left to do", "white_light")
        warnings.warn(
            f"{first.path}: holds spectra; the white light is made of them, the steps before are not run",
            Tso3Warning,
            stacklevel=3,
        )
    else:
        observation = observation if chosen is None else select_integrations(observation, chosen)
        if first.segments[0].flagged:
            warnings.warn(
                f"{first.segments[0].path}: has its outliers flagged (S_OUTLIR COMPLETE); outlier_detection is not run"
                " again and no crfints is written",
                Tso3Warning,
                stacklevel=3,
            )
            detection = OutlierDetection(**{**parameters.outlier_detection.model_dump(), "skip": True})
            parameters = parameters.model_copy(update={"outlier_detection": detection})
    return (observation if times is None else apply_times(observation, times)), parameters


_NAMED_BY_ARCHIVE = {"specprofile", "speckernel"}
"""Kinds that jwst names in the headers of SOSS products also where it sums in boxes and opens neither."""


def in_use(
    observation: Observation,
    references: References,
    overrides: Mapping[str, str | Path],
    parameters: Parameters,
    as_archive: bool = False,
) -> References:
    """
    Return the references that have an effect, so that products record no other; those of the user are looked into.

    Parameters
    ----------
    observation : Observation
        What is reduced.
    references : References
        As `tso3.io.references.find_references` gives them.
    overrides : mapping of str to path-like
        Files of the user, by kind.
    parameters : Parameters
        Of all steps; what a step that is skipped would read has no effect.
    as_archive : bool, optional
        Keep the kinds that jwst names in the header of SOSS products without reading them (specprofile, speckernel).

    Returns
    -------
    references : References
        Without the files that nothing reads.

    Raises
    ------
    ReferenceFileError
        If a file of the user is one of another instrument or kind.

    Warns
    -----
    tso3.errors.Tso3Warning
        For a file of the user that has no effect in the mode.
    """
    mode = "spectra, from which the white light is made," if observation.exposures[0].from_spectra else None
    idle = _without_effect(references)
    for kind, path in overrides.items():
        reason = idle.get(kind)
        if kind not in references.by_kind:
            reason = f"{mode or observation.mode.exp_type} has no use for it"
        if reason is not None and str(path).upper() != "N/A":
            warnings.warn(f"{path}: has no effect as {kind} reference: {reason}", Tso3Warning, stacklevel=3)
    unread = {*idle, *_of_skipped(parameters)} - (_NAMED_BY_ARCHIVE if as_archive else set())
    for kind, reference in references.by_kind.items():
        if reference.source == "user" and reference.path is not None and kind not in unread:
            check_identity(reference.path, kind, observation.exposures[0].instrument)
    return References(
        _without(references.by_kind, unread),
        {detector: _without(kinds, unread) for detector, kinds in references.by_detector.items()},
    )


def _without_effect(references: References) -> dict[str, str]:
    """Return the kinds whose files nothing reads, and why."""
    idle = dict.fromkeys(_NAMED_BY_ARCHIVE, "box extraction, the only one here, does not open it")
    if references.path("pastasoss") is not None:
        reason = "the pastasoss reference is used; without it (--override-pastasoss N/A) this one would be"
        idle |= dict.fromkeys(("spectrace", "wavemap"), reason)
    elif references.path("spectrace") is None:
        idle["wavemap"] = "it needs a spectrace reference too"
    return idle


def _of_skipped(parameters: Parameters) -> set[str]:
    """Return the kinds of reference files that only steps read which are skipped."""
    kinds: set[str] = set()
    if parameters.extract_1d.skip:
        kinds.update(_EXTRACTION)
    if not parameters.extract_1d.apply_apcorr:
        kinds.add("apcorr")
    if parameters.photom.skip:
        kinds.add("photom")
    if parameters.tso_photometry.skip:
        kinds.update(("gain", "tsophot"))
    return kinds


def _without(by_kind: Mapping[str, Reference], unread: Collection[str]) -> dict[str, Reference]:
    """Return references with none in place of a file that nothing reads."""
    return {
        kind: Reference(kind, None, "none", "nothing reads it")
        if kind in unread and reference.path is not None
        else reference
        for kind, reference in by_kind.items()
    }


def _select_spectra(observation: Observation, integrations: IntegrationRange) -> Observation:
    """Return the observation with the integrations of a range; its name says which they are."""
    kept, held = [], []
    for exposure in observation.exposures:
        number = exposure.times.int_num
        keep = (number >= integrations.first) & (number <= (integrations.last or number.max()))
        if keep.any() and isinstance(exposure, SpectraExposure):
            kept.append(exposure.select(keep))
            held.append(number[keep])
    if not kept:
        there = np.concatenate([exposure.times.int_num for exposure in observation.exposures])
        raise InputError(
            f"has integrations {there.min()} to {there.max()}; none is in {integrations.first} to"
            f" {integrations.last or there.max()}",
            observation.product_name,
        )
    largest = max(int(exposure.times.int_num.max()) for exposure in observation.exposures)
    names = {exposure.name for exposure in kept}
    for exposure in observation.exposures:
        if isinstance(exposure, SpectraExposure) and exposure.name not in names:
            where, asked = exposure.path.parent / exposure.name, shown(integrations, largest)
            warnings.warn(
                f"{where}: has no integration in {asked}; left out",
                Tso3Warning,
                stacklevel=4,
            )
    if sum(e.n_int for e in kept) == sum(e.n_int for e in observation.exposures):
        return observation
    name = named(observation.product_name, [(int(n.min()), int(n.max())) for n in held])
    return replace(observation, exposures=tuple(kept), product_name=name)
