"""
The flow of stage 3, as the figure of steps in the JWST documentation has it.

Association to exposures, survey, then one stream per exposure: outlier detection, ``crfints``, and either aperture
photometry or spectral extraction; at the end, from numbers per integration alone, the light curve and its catalogue.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tso3 import __version__
from tso3.blas import one_blas_thread
from tso3.config import resolve
from tso3.engine import available_workers, parse_size
from tso3.errors import Tso3Warning
from tso3.intake import in_use, take_in
from tso3.io.catalog import write_catalog
from tso3.io.crfints import CrfintsRecord
from tso3.io.exposure import Observation
from tso3.io.metadata import Provenance
from tso3.io.references import find_references
from tso3.io.x1dints import x1dints_writer
from tso3.io.x1dints_reader import read_spectra
from tso3.lane import Lane, Setting, run_lanes
from tso3.parameters import Parameters
from tso3.progress import Progress, SilentProgress
from tso3.recipe import Limits
from tso3.rectified_lane import prepare_rectification, write_medians
from tso3.result import RunResult
from tso3.session import (
    checked,
    crew_of,
    make_folder,
    mask_of,
    no_empty_folder,
    peak_memory,
    recorded_warnings,
    wavelength_ranges,
)
from tso3.spectral_lane import SpectralLane, shared_by_spectra
from tso3.steps import channels, covariates, light_noise, white_light, white_light_checks
from tso3.steps.channel_spec import wanted_channels
from tso3.steps.white_light_normalized import check_baseline
from tso3.table_lane import TableLane

__all__ = ["run"]


def run(
    inputs: str | Path | Sequence[str | Path],
    output_dir: str | Path = ".",
    *,
    preset: str = "default",
    parameters: Parameters | Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Mapping[str, str | Path] | None = None,
    integrations: str | Sequence[int] | None = None,
    times: str | Path | None = None,
    bad_pixels: str | Path | None = None,
    max_memory: str | int = "1GiB",
    workers: int | None = None,
    block_size: int | None = None,
    scheduler: str | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """
    Reduce calibrated integrations to flagged exposures, spectra or photometry, and a light curve.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        A level-3 association, or ``*_calints.fits`` files, patterns or folders. Never modified. With ``*_crfints.fits``
        outliers are not looked for again; with one ``*_x1dints.fits`` only the white light is made.
    output_dir : path-like, optional
        Folder of the products; made if it does not exist.
    preset : {"default", "archive"}, optional
        The best light curve, or the numbers of jwst 3.0.0.
    parameters : Parameters or mapping of mappings, optional
        ``{step: {parameter: value}}`` on top of the preset, or all parameters (the preset is then a name only).
    overrides : mapping of str to path-like, optional
        Reference files by kind, as `tso3.io.reference_kinds.KINDS` names them; ``"N/A"`` for none.
    integrations : str or pair of int, optional
        Those to reduce, as INT_NUM counts them from 1, both ends included: ``"100:400"`` or ``(100, 400)``. All by
        default.
    times : path-like, optional
        Table with ``MJD_UTC`` or ``BJD_TDB`` of every integration, in place of the times of the inputs.
    bad_pixels : path-like, optional
        FITS image of pixels to be left out.
    max_memory : str or int, optional
        Private memory above what the imports cost, such as ``"500MiB"``.
    workers : int, optional
        Threads; as many as there are processors by default.
    block_size : int, optional
        Integrations per block; results do not depend on it.
    scheduler : str, optional
        Address of the scheduler of a Dask cluster whose workers reduce the segments, such as ``"tcp://node1:8786"``.
        Each of its workers uses ``max_memory`` and, if ``workers`` is given, that many threads.
    cluster : str, optional
        ``"local:N"``: N processes of this machine reduce the segments; they share ``max_memory`` and ``workers``.
    progress : Progress, optional
        Display that is kept informed; silent by default.

    Returns
    -------
    result : RunResult
        Paths of the products, the light curve and what was noticed.

    Raises
    ------
    Tso3Error
        If an input, a parameter or a reference cannot be used. No product is left half-written; whole products of
        exposures that were finished before stay.
    """
    started = time.perf_counter()
    with one_blas_thread(), recorded_warnings() as texts:
        preset, settings = resolve(preset, explicit=parameters)
        memory = parse_size(max_memory)
        threads = checked("workers", workers, available_workers())
        checked("block_size", block_size, 1)
        crew = crew_of(scheduler, cluster, Limits(memory, threads, block_size), workers)
        observation, settings = take_in(inputs, settings, integrations=integrations, times=times)
        check_baseline(observation, settings)
        given = overrides or {}
        references = in_use(observation, find_references(observation, given), given, settings, preset == "archive")
        _warn_if_idle(observation, settings)
        with no_empty_folder(Path(output_dir)), crew(Path(output_dir), observation.product_name) as present:
            setting = Setting(
                observation=observation,
                folder=Path(output_dir),
                parameters=settings,
                preset=preset,
                references=references,
                wavelength_ranges=wavelength_ranges(observation, references, settings),
                bad_pixels=bad_pixels,
                limits=Limits(memory, threads, block_size),
                crew=present,
                progress=SilentProgress() if progress is None else progress,
                channels=wanted_channels(observation, settings),
            )
            lanes, products, table = _reduction(observation)(setting)
    return RunResult(
        products={kind: paths for kind, paths in products.items() if paths},
        exposures=tuple(lane.summary() for lane in lanes),
        white_light=next(iter(table.values())) if isinstance(table, dict) else table,
        photometry=table if isinstance(table, dict) else {},
        seconds=time.perf_counter() - started,
        peak_memory=peak_memory(),
        warnings=tuple(texts),
        references=setting.references.described(),
        views=tuple(view for lane in lanes if (view := lane.view()) is not None),
        name=observation.product_name,
        exp_type=observation.mode.exp_type,
    )


Reduced = tuple[Sequence[Lane | TableLane], dict[str, list[Path]], Any]


def _reduction(observation: Observation) -> Callable[[Setting], Reduced]:
    """Return what is to be done: from spectra, images, or frames with spectra."""
    if observation.exposures[0].from_spectra:
        return _reduce_tables
    return _reduce_imaging if observation.mode.is_imaging else _reduce_spectroscopy


def _reduce_imaging(setting: Setting) -> Reduced:
    """Survey, then outlier detection and photometry of every exposure, then a catalogue for each detector."""
    from tso3.imaging_lane import ImagingLane  # a good part of the kernels: spectra do without
    from tso3.steps import tso_photometry

    lanes = [ImagingLane(setting, exposure, mask_of(setting, exposure)) for exposure in setting.observation.exposures]
    prepare_rectification(lanes)
    make_folder(setting.folder)
    run_lanes(lanes, _record(setting))
    write_medians(lanes, _record(setting))
    if setting.parameters.tso_photometry.skip:
        return lanes, _collected(lanes) | _covariates(setting, lanes), None
    catalogues = tso_photometry.catalogues([lane.finish() for lane in lanes])
    products = _collected(lanes)
    written = []
    for detector, table in catalogues.items():
        name = tso_photometry.catalogue_name(setting.observation.product_name, detector, len(catalogues))
        written.append(_write_table(setting, name, table))
    products["phot"] = [*written, *products.get("phot", ())]
    return lanes, products | _covariates(setting, lanes), catalogues


def _reduce_spectroscopy(setting: Setting) -> Reduced:
    """Survey, then outlier detection and extraction of every exposure, then the white light."""
    lanes = [SpectralLane(setting, exposure, mask_of(setting, exposure)) for exposure in setting.observation.exposures]
    prepare_rectification(lanes)
    curves = [curve for lane in lanes for curve in lane.curves]
    if not setting.parameters.white_light.skip:
        white_light_checks.check(curves)
    if setting.channels is not None and any(lane.plans for lane in lanes):
        plans = [plan for lane in lanes for plan in lane.plans]
        spectra = [(plan.wavelength, plan.expected) for plan in plans]
        setting.channels.check(spectra, setting.observation.product_name)
    make_folder(setting.folder)
    if not any(lane.plans for lane in lanes):
        if _writes_no_exposures(setting.parameters) and not any(lane.recipe.rectify for lane in lanes):
            _warn_idle(setting.observation)
        run_lanes(lanes, _record(setting))
        write_medians(lanes, _record(setting))
        return lanes, _collected(lanes) | _covariates(setting, lanes), None
    path = setting.folder / f"{setting.observation.product_name}_x1dints.fits"
    with x1dints_writer(
        path,
        setting.observation,
        [plan for lane in lanes for plan in lane.spectrum_plans],
        layout=setting.parameters.x1dints.layout,
        source_type_column=setting.parameters.x1dints.source_type_column,
        steps=_statuses(setting),
        provenance=_provenance(setting, lanes),
        files=setting.observation.paths,
    ) as writer:
        run_lanes(lanes, _record(setting), writer)
    write_medians(lanes, _record(setting))
    white_light_checks.warn_if_empty(curves)
    products = _collected(lanes) | {"x1dints": [path]}
    table = None
    if not setting.parameters.white_light.skip:
        table = white_light.table(setting.observation, curves)
        if widths := _chosen_widths(lanes):
            table.meta["extract_width"] = widths
        name = f"{setting.observation.product_name}_whtlt.ecsv"
        products["whtlt"] = [_write_table(setting, name, table)]
    products |= _covariates(setting, lanes)
    return lanes, products | _channels(setting, path, lanes), table


def _reduce_tables(setting: Setting) -> Reduced:
    """Read the spectra that are there, and make the white light."""
    lanes = [TableLane(setting, exposure) for exposure in setting.observation.exposures]
    if setting.parameters.white_light.skip:
        make_folder(setting.folder)
        return lanes, _channels(setting), None
    curves = [curve for lane in lanes for curve in lane.curves]
    white_light_checks.check(curves)
    planned = _planned_channels(setting, setting.observation)
    make_folder(setting.folder)
    for lane in lanes:
        lane.run()
    white_light_checks.warn_if_empty(curves)
    table = white_light.table(setting.observation, curves)
    path = _write_table(setting, f"{setting.observation.product_name}_whtlt.ecsv", table)
    return lanes, {"whtlt": [path]} | _written_channels(setting, setting.observation, planned), table


def _channels(setting: Setting, path: Path | None = None, lanes: Sequence[SpectralLane] = ()) -> dict[str, list[Path]]:
    """Make the spectroscopic light curves that were asked for, of a product that was written or that came in."""
    if setting.channels is None:
        return {}
    observation = setting.observation if path is None else read_spectra(path)
    return _written_channels(setting, observation, _planned_channels(setting, observation, lanes))


def _planned_channels(
    setting: Setting, observation: Observation, lanes: Sequence[SpectralLane] = ()
) -> channels.ChannelPlan | None:
    """Return what is made of spectra that are there, None if no channels are asked for."""
    if setting.channels is None:
        return None
    noise = shared_by_spectra(lanes)
    return channels.prepare(observation, setting.channels, setting.parameters, noise)


def _written_channels(
    setting: Setting, observation: Observation, plan: channels.ChannelPlan | None
) -> dict[str, list[Path]]:
    if plan is None:
        return {}
    meta = channels.metadata(observation, setting.parameters, __version__, setting.observation.times_file)
    product, most = setting.observation.product_name, setting.parameters.channels.max_rows
    return {"channels": channels.write(plan, setting.folder, product, meta, most, setting.progress)}


def _covariates(setting: Setting, lanes: Sequence[Lane]) -> dict[str, list[Path]]:
    """Write the table of covariates, if it is wanted and anything is known that belongs into it."""
    known = [lane.covariates() for lane in lanes]
    if setting.parameters.covariates.skip or not any(each.is_known for each in known):
        return {}
    table = covariates.table(setting.observation, known)
    return {"qa": [_write_table(setting, f"{setting.observation.product_name}_qa.ecsv", table)]}


def _write_table(setting: Setting, name: str, table: Any) -> Path:
    """Write a table, with what its light curves scatter by; where the user gave the times, it says from which file."""
    light_noise.note(table)
    if setting.observation.times_file is not None:
        table.meta["times_file"] = setting.observation.times_file
    return write_catalog(setting.folder / name, table)


def _collected(lanes: Sequence[Lane]) -> dict[str, list[Path]]:
    products: dict[str, list[Path]] = {}
    for lane in lanes:
        for kind, paths in lane.products.items():
            products.setdefault(kind, []).extend(paths)
    return products


def _statuses(setting: Setting) -> dict[str, str]:
    """Return the status of every step as the archive spells it."""
    parameters = setting.parameters
    flagged = setting.observation.segments[0].flagged
    done = {
        "outlier_detection": parameters.outlier_detection.skip and not flagged,
        "pixel_replace": parameters.pixel_replace.skip,
        "extract_1d": parameters.extract_1d.skip,
    }
    if setting.observation.mode.exp_type == "NIS_SOSS":
        done["photom"] = parameters.photom.skip or setting.references.path("photom") is None
    statuses = {step: "SKIPPED" if skipped else "COMPLETE" for step, skipped in done.items()}
    return statuses | {"adaptive_trace_model": "SKIPPED"}


def _chosen_widths(lanes: Sequence[Lane]) -> dict[str, float]:
    """Return the widths that scans chose [pixel], by exposure and order."""
    return {
        f"{lane.exposure.label} order {plan.header.spectral_order}": width
        for lane in lanes
        if isinstance(lane, SpectralLane)
        for plan, width in zip(lane.plans, lane.widths, strict=False)
    }


def _provenance(setting: Setting, lanes: Sequence[Lane] = ()) -> Provenance:
    parameters = setting.parameters.model_dump()
    if widths := _chosen_widths(lanes):
        parameters["extract_1d"]["extract_width_chosen"] = widths
    return Provenance(
        version=__version__,
        preset=setting.preset,
        parameters=parameters,
        references=setting.references.used(),
        times=setting.observation.times_file,
    )


def _record(setting: Setting) -> CrfintsRecord:
    observation: Observation = setting.observation
    provenance = _provenance(setting)
    return CrfintsRecord(
        asn_pool=observation.asn_pool,
        asn_table=observation.asn_table,
        cards=provenance.cards(),
        tree=provenance.tree(),
    )


def _warn_if_idle(observation: Observation, parameters: Parameters) -> None:
    """Warn if no step makes a product: all are skipped, or do not write theirs."""
    if observation.exposures[0].from_spectra:
        return
    measuring = parameters.tso_photometry if observation.mode.is_imaging else parameters.extract_1d
    if _writes_no_exposures(parameters) and measuring.skip and parameters.rectify.skip:
        _warn_idle(observation)


def _writes_no_exposures(parameters: Parameters) -> bool:
    detection = parameters.outlier_detection
    return detection.skip or not (detection.save_results or detection.save_intermediate_results)


def _warn_idle(observation: Observation) -> None:
    warnings.warn(
        f"{observation.product_name}: every step that makes a product is skipped or does not write it, so there will be"
        " none",
        Tso3Warning,
        stacklevel=4,
    )
