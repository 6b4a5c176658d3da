"""
The flow of stage 3, as the figure of steps in the JWST documentation has it.

Association to exposures, survey, then one stream per exposure: outlier detection, ``crfints``, and either aperture
photometry or spectral extraction; at the end, from numbers per integration alone, the light curve and its catalogue.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from tso3 import __version__
from tso3.config import resolve
from tso3.crew import Crew, ThisProcess
from tso3.engine import available_workers, parse_size
from tso3.errors import OutputError, ParameterError, Tso3Warning
from tso3.intake import in_use, take_in
from tso3.io.badpixels import read_bad_pixels
from tso3.io.catalog import write_catalog
from tso3.io.crfints import CrfintsRecord
from tso3.io.exposure import Observation
from tso3.io.metadata import Provenance
from tso3.io.reference_files import read_wavelengthrange
from tso3.io.references import References, find_references
from tso3.io.soss_defaults import built_in_ranges
from tso3.io.wavelength_ranges import WavelengthRange
from tso3.io.x1dints import x1dints_writer
from tso3.io.x1dints_reader import read_spectra
from tso3.lane import Lane, Setting, run_lanes
from tso3.parameters import Parameters
from tso3.progress import Progress, SilentProgress
from tso3.recipe import Limits
from tso3.result import RunResult
from tso3.spectral_lane import SpectralLane
from tso3.steps import channels, covariates, light_noise, white_light, white_light_checks
from tso3.steps.channel_spec import wanted_channels
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
    with _recorded_warnings() as texts:
        preset, settings = resolve(preset, explicit=parameters)
        memory = parse_size(max_memory)
        threads = _checked("workers", workers, available_workers())
        _checked("block_size", block_size, 1)
        crew = _crew(scheduler, cluster, Limits(memory, threads, block_size), workers)
        observation, settings = take_in(inputs, settings, integrations=integrations, times=times)
        given = overrides or {}
        references = in_use(observation, find_references(observation, given), given, settings, preset == "archive")
        _warn_if_idle(observation, settings)
        with _no_empty_folder(Path(output_dir)), crew(Path(output_dir), observation.product_name) as present:
            setting = Setting(
                observation=observation,
                folder=Path(output_dir),
                parameters=settings,
                preset=preset,
                references=references,
                wavelength_ranges=_ranges(observation, references, settings),
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
        peak_memory=_peak_memory(),
        warnings=tuple(texts),
        references=setting.references.described(),
        views=tuple(view for lane in lanes if (view := lane.view()) is not None),
        name=observation.product_name,
        exp_type=observation.mode.exp_type,
    )


def _crew(
    scheduler: str | None, cluster: str | None, limits: Limits, workers: int | None
) -> Callable[[Path, str], AbstractContextManager[Crew]]:
    """Return what gives, for a folder and the stem of its products, those who reduce the exposures."""
    if scheduler is None and cluster is None:
        return lambda folder, product: nullcontext(ThisProcess(limits))
    from tso3.cluster_start import assembled, check_choice

    n_local = check_choice(scheduler, cluster)
    return lambda folder, product: assembled(scheduler, n_local, limits, workers, (folder, product))


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

    lanes = [ImagingLane(setting, exposure, _mask(setting, exposure)) for exposure in setting.observation.exposures]
    _make_folder(setting.folder)
    run_lanes(lanes, _record(setting))
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
    lanes = [SpectralLane(setting, exposure, _mask(setting, exposure)) for exposure in setting.observation.exposures]
    curves = [curve for lane in lanes for curve in lane.curves]
    if not setting.parameters.white_light.skip:
        white_light_checks.check(curves)
    if setting.channels is not None and any(lane.plans for lane in lanes):
        wavelengths = [plan.wavelength for lane in lanes for plan in lane.plans]
        setting.channels.check(wavelengths, setting.observation.product_name)
    _make_folder(setting.folder)
    if not any(lane.plans for lane in lanes):
        if setting.parameters.outlier_detection.skip:
            _warn_idle(setting.observation)
        run_lanes(lanes, _record(setting))
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
    return lanes, products | _channels(setting, path), table


def _reduce_tables(setting: Setting) -> Reduced:
    """Read the spectra that are there, and make the white light."""
    lanes = [TableLane(setting, exposure) for exposure in setting.observation.exposures]
    if setting.parameters.white_light.skip:
        _make_folder(setting.folder)
        return lanes, _channels(setting), None
    curves = [curve for lane in lanes for curve in lane.curves]
    white_light_checks.check(curves)
    _make_folder(setting.folder)
    for lane in lanes:
        lane.run()
    white_light_checks.warn_if_empty(curves)
    table = white_light.table(setting.observation, curves)
    path = _write_table(setting, f"{setting.observation.product_name}_whtlt.ecsv", table)
    return lanes, {"whtlt": [path]} | _channels(setting), table


def _channels(setting: Setting, path: Path | None = None) -> dict[str, list[Path]]:
    """Make the spectroscopic light curves that were asked for, of a product that was written or that came in."""
    if setting.channels is None:
        return {}
    observation = setting.observation if path is None else read_spectra(path)
    plan = channels.prepare(observation, setting.channels, setting.parameters)
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


def _ranges(
    observation: Observation, references: References, parameters: Parameters
) -> tuple[WavelengthRange, ...] | None:
    """Return the ranges of the white light: the reference's, else for SOSS the built-in ones, else None."""
    path = references.path("wavelengthrange")
    if path is not None:
        return read_wavelengthrange(path)
    if observation.mode.exp_type == "NIS_SOSS" and parameters.white_light.built_in_range:
        return built_in_ranges(observation.exposures[0].subarray)
    return None


def _mask(setting: Setting, exposure: Any) -> Any:
    return None if setting.bad_pixels is None else read_bad_pixels(setting.bad_pixels, exposure)


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
    """Warn if every step that makes a product is skipped."""
    if observation.exposures[0].from_spectra:
        return
    measuring = parameters.tso_photometry if observation.mode.is_imaging else parameters.extract_1d
    if parameters.outlier_detection.skip and measuring.skip:
        _warn_idle(observation)


def _warn_idle(observation: Observation) -> None:
    warnings.warn(
        f"{observation.product_name}: every step that makes a product is skipped, so there will be none",
        Tso3Warning,
        stacklevel=4,
    )


def _checked(name: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise ParameterError(f"{value} is less than 1", name)
    return default if value is None else int(value)


def _make_folder(folder: Path) -> None:
    """Make the folder of the products, now that everything asked for can be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made ({error.strerror}); choose another folder", folder) from error


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the folder of the products after an error, if the run made it and nothing is in it."""
    new = not folder.exists()
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@contextmanager
def _recorded_warnings() -> Iterator[list[str]]:
    """Note the text of every `Tso3Warning`, once, and pass all warnings on as they are."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", Tso3Warning)
        shown = warnings.showwarning

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: Any = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, Tso3Warning):
                if str(message) in texts:
                    return
                texts.append(str(message))
            shown(message, category, filename, lineno, file, line)

        warnings.showwarning = note
        yield texts
