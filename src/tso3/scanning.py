"""
`tso3.scan`: the scatter of the white light for a grid of apertures, from one pass over the data.

Everything before the sums is that of a run: the same inputs, references, survey and outlier detection. The sums are
taken in every aperture at once, and nothing is written but their table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tso3 import __version__
from tso3.blas import one_blas_thread
from tso3.config import resolve
from tso3.engine import available_workers, parse_size
from tso3.errors import InputError, ParameterError
from tso3.intake import in_use, take_in
from tso3.io.catalog import write_catalog
from tso3.io.exposure import Observation
from tso3.io.references import find_references
from tso3.lane import Setting
from tso3.parameters import Parameters
from tso3.progress import Progress, SilentProgress
from tso3.recipe import Limits
from tso3.scan_grid import Grid
from tso3.scan_imaging import ImagingScanLane
from tso3.scan_lane import SpectralScanLane
from tso3.scan_result import ScannedLight, ScanResult, table_of
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
from tso3.steps.scan import BACKGROUNDS

__all__ = ["parse_annuli", "parse_sizes", "scan", "scanned_grid"]

_MOST = 200


def scan(
    inputs: str | Path | Sequence[str | Path],
    output_dir: str | Path | None = None,
    *,
    width: str | Sequence[float] | None = None,
    radius: str | Sequence[float] | None = None,
    background: str | Sequence[str] = "as-is",
    annulus: str | Sequence[tuple[float, float]] | None = None,
    preset: str = "default",
    parameters: Parameters | Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Mapping[str, str | Path] | None = None,
    integrations: str | Sequence[int] | None = None,
    bad_pixels: str | Path | None = None,
    max_memory: str | int = "1GiB",
    workers: int | None = None,
    block_size: int | None = None,
    scheduler: str | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> ScanResult:
    """
    Measure the scatter of the white light in a grid of apertures.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        As of `tso3.run`: the frames of one observation. Never modified.
    output_dir : path-like, optional
        Folder of the table ``*_scan.ecsv``; by default it is not written. Nothing else is.
    width : str or sequence of float, optional
        Spectra: full widths of the aperture [pixel], ``"4:16"``, ``"4:16:0.5"`` (both ends included) or ``"4,6,8"``. By
        default from a quarter of the usual width to one and a half times it, as far as there is room.
    radius : str or sequence of float, optional
        Imaging: radii of the aperture [pixel], likewise.
    background : str or sequence of str, optional
        Spectra: one or more of ``as-is`` (what a run would do), ``none``, ``mean``, ``median``, ``line``.
    annulus : str or sequence of pairs of float, optional
        Imaging: inner and outer radii [pixel], ``"10:20,15:30"``; that of a run by default.
    preset : {"default", "archive"}, optional
        As of `tso3.run`.
    parameters : Parameters or mapping of mappings, optional
        As of `tso3.run`.
    overrides : mapping of str to path-like, optional
        Reference files by kind.
    integrations : str or pair of int, optional
        Those to scan; all by default.
    bad_pixels : path-like, optional
        FITS image of pixels to be left out.
    max_memory : str or int, optional
        Private memory above what the imports cost.
    workers, block_size : int, optional
        Threads, and integrations per block.
    scheduler, cluster : str, optional
        Who does the work, as of `tso3.run`.
    progress : Progress, optional
        Display that is kept informed; silent by default.

    Returns
    -------
    result : ScanResult
        The light curve of every aperture, their scatters, the best and the one to be taken.

    Raises
    ------
    Tso3Error
        If an input, a parameter or a reference cannot be used, or a scan makes no sense for the mode.
    """
    started = time.perf_counter()
    with one_blas_thread(), recorded_warnings() as texts:
        preset, settings = resolve(preset, explicit=parameters)
        limits = Limits(
            parse_size(max_memory),
            checked("workers", workers, available_workers()),
            checked("block_size", block_size, 1) if block_size is not None else None,
        )
        crew = crew_of(scheduler, cluster, limits, workers)
        observation, settings = take_in(inputs, settings, integrations=integrations)
        grid = scanned_grid(observation, width, radius, background, annulus)
        settings = _without_auto(settings)
        given = overrides or {}
        references = in_use(observation, find_references(observation, given), given, settings, preset == "archive")
        folder = Path("." if output_dir is None else output_dir)
        with no_empty_folder(folder), crew(folder, observation.product_name) as present:
            setting = Setting(
                observation=observation,
                folder=folder,
                parameters=settings,
                preset=preset,
                references=references,
                wavelength_ranges=wavelength_ranges(observation, references, settings),
                bad_pixels=bad_pixels,
                limits=limits,
                crew=present,
                progress=SilentProgress() if progress is None else progress,
            )
            lights = _scanned(setting, grid)
            product = None
            if output_dir is not None:
                make_folder(folder)
                table = table_of(lights, _metadata(setting))
                product = write_catalog(folder / f"{observation.product_name}_scan.ecsv", table)
    return ScanResult(
        lights=lights,
        product=product,
        seconds=time.perf_counter() - started,
        peak_memory=peak_memory(),
        warnings=tuple(texts),
        references=references.described(),
        name=observation.product_name,
        exp_type=observation.mode.exp_type,
    )


def _scanned(setting: Setting, grid: Grid) -> tuple[ScannedLight, ...]:
    """Return the light of every exposure."""
    kind = ImagingScanLane if setting.observation.mode.is_imaging else SpectralScanLane
    exposures = setting.observation.exposures
    lights: list[ScannedLight] = []
    for exposure in exposures:  # one after the other: what is laid down for one is gone before the next
        lights += kind(setting, exposure, mask_of(setting, exposure), grid).scan()
    if not lights:
        raise InputError("has no spectrum to scan; see the warnings", exposures[0].segments[0].path)
    return tuple(lights)


def _without_auto(settings: Parameters) -> Parameters:
    """Return parameters whose aperture is the usual one where a scan is to choose it."""
    extraction, photometry = settings.extract_1d, settings.tso_photometry
    if extraction.extract_width == "auto":
        extraction = extraction.model_copy(update={"extract_width": None})
    if photometry.radius == "auto":
        photometry = photometry.model_copy(update={"radius": None})
    return settings.model_copy(update={"extract_1d": extraction, "tso_photometry": photometry})


def _metadata(setting: Setting) -> dict[str, object]:
    """Return what the table says about itself."""
    return {
        "exp_type": setting.observation.mode.exp_type,
        "preset": setting.preset,
        "tso3": __version__,
        "references": list(setting.references.described()),
        "number_of_integrations": max(exposure.n_int for exposure in setting.observation.exposures),
        "chosen": "the smallest aperture that scatters no more than the best by more than the standard error of the"
        " difference (excess_error)",
    }


def scanned_grid(
    observation: Observation,
    width: str | Sequence[float] | None,
    radius: str | Sequence[float] | None,
    background: str | Sequence[str],
    annulus: str | Sequence[tuple[float, float]] | None,
) -> Grid:
    """
    Return the grid, once it is known that it fits the mode.

    Parameters
    ----------
    observation : Observation
        What is scanned.
    width, radius : str or sequence of float or None
        As of `scan`.
    background : str or sequence of str
        As of `scan`.
    annulus : str or sequence of pairs of float or None
        As of `scan`.

    Returns
    -------
    grid : Grid

    Raises
    ------
    InputError
        For spectra.
    ParameterError
        If it does not fit.
    """
    first = observation.exposures[0]
    if first.from_spectra:
        raise InputError("holds spectra; a scan of apertures needs frames (calints or crfints)", first.paths[0])
    if observation.mode.exp_type == "MIR_MRS":
        raise ParameterError(
            "makes no sense for MIR_MRS, whose aperture is a circle on the sky that grows with wavelength", "scan"
        )
    names = tuple(background.split(",") if isinstance(background, str) else background)
    for name in names:
        if name not in BACKGROUNDS:
            raise ParameterError(f"{name!r} is none of {', '.join(BACKGROUNDS)}", "background")
    exp_type = observation.mode.exp_type
    if observation.mode.is_imaging:
        if width is not None or names != ("as-is",):
            raise ParameterError(f"is for spectra; for {exp_type} give radius, and annulus", "width or background")
        annuli = () if annulus is None else parse_annuli(annulus)
        return Grid(() if radius is None else parse_sizes(radius, "radius"), names, annuli)
    if radius is not None or annulus is not None:
        raise ParameterError(f"is for imaging; for {exp_type} give width, and background", "radius or annulus")
    return Grid(() if width is None else parse_sizes(width, "width"), tuple(dict.fromkeys(names)))


def parse_sizes(text: str | Sequence[float], name: str) -> tuple[float, ...]:
    """
    Return a grid of sizes.

    Parameters
    ----------
    text : str or sequence of float
        ``"first:last"``, ``"first:last:step"`` (both ends included), or numbers with commas.
    name : str
        What they are, for messages.

    Returns
    -------
    sizes : tuple of float
        Ascending, each once.

    Raises
    ------
    ParameterError
        If it says nothing of the kind, or sizes are not positive, or more than 200.

    Examples
    --------
    >>> from tso3.scanning import parse_sizes
    >>> parse_sizes("4:6", "width"), parse_sizes("2:3:0.5", "radius"), parse_sizes("8,4", "width")
    ((4.0, 5.0, 6.0), (2.0, 2.5, 3.0), (4.0, 8.0))
    """
    if not isinstance(text, str):
        return _checked_sizes([float(size) for size in text], str(text), name)
    try:
        if ":" not in text:
            return _checked_sizes([float(word) for word in text.split(",")], text, name)
        first, last, step = (float(word) for word in [*text.split(":"), "1"][:3])
    except ValueError as error:
        hint = "give FIRST:LAST, FIRST:LAST:STEP, or numbers with commas"
        raise ParameterError(f"{text!r} is no grid; {hint}", name) from error
    if text.count(":") > 2 or not (math.isfinite(first + last) and step > 0.0) or (last - first) / step > _MOST:
        raise ParameterError(f"{text!r} is no grid of up to {_MOST} sizes; give FIRST:LAST or FIRST:LAST:STEP", name)
    if last < first:
        raise ParameterError(
            f"{text!r}: the last, {last:g}, is below the first, {first:g}; give FIRST:LAST rising", name
        )
    n = math.floor((last - first) / step + 1e-9)
    return _checked_sizes([round(first + step * k, 9) for k in range(n + 1)], text, name)


def _checked_sizes(sizes: list[float], text: str, name: str) -> tuple[float, ...]:
    if not sizes or not all(math.isfinite(size) and size > 0.0 for size in sizes) or len(sizes) > _MOST:
        raise ParameterError(f"{text} is no grid of up to {_MOST} sizes above 0", name)
    return tuple(sorted(set(sizes)))


def parse_annuli(text: str | Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """
    Return pairs of radii.

    Parameters
    ----------
    text : str or sequence of pairs of float
        ``"10:20,15:30"``.

    Returns
    -------
    annuli : tuple of (float, float)
        Inner and outer radius [pixel].

    Raises
    ------
    ParameterError
        If it says nothing of the kind.

    Examples
    --------
    >>> from tso3.scanning import parse_annuli
    >>> parse_annuli("10:20,15:30")
    ((10.0, 20.0), (15.0, 30.0))
    """
    pairs = [word.split(":") for word in text.split(",")] if isinstance(text, str) else [list(pair) for pair in text]
    try:
        annuli = tuple((float(inner), float(outer)) for inner, outer in pairs)
    except ValueError as error:
        raise ParameterError(f"{text!r} are no annuli; give INNER:OUTER, several with commas", "annulus") from error
    if not all(0.0 < inner < outer < math.inf for inner, outer in annuli):
        raise ParameterError(f"{text!r}: an annulus has a width, and no radius is 0", "annulus")
    return annuli
