"""
Where the spectra of NIRISS SOSS are: traces of the orders, the boxes about them, and the background between them.

Orders are summed in boxes; light of a neighbouring order that falls into a box stays in its sum.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tso3.core.background import BackgroundFit, background_image
from tso3.core.model import ExposureModel
from tso3.core.soss import SossTrace, box_weights, rotated_trace, sample_by_column, wavelength_polynomial
from tso3.core.soss_trace import column_centroids, is_isolated, smooth_shift
from tso3.core.spectra import SpectrumHeader
from tso3.errors import InputError, ParameterError, ReferenceFileError, Tso3Warning
from tso3.io.memory import Arrays, code_digest, digest, remembered, versions
from tso3.io.reader import reference_pixels
from tso3.io.soss_defaults import built_in_traces
from tso3.io.soss_references import SossReference, TraceTable, read_pastasoss, read_spectrace, read_wavemap
from tso3.parameters import Extract1D, Photom
from tso3.steps.extraction_setup import ExtractionSetup, given_width
from tso3.steps.photom import flux_calibration

if TYPE_CHECKING:
    from pathlib import Path

    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["find_traces", "soss_header", "soss_setups"]

SHORT = "SUBSTRIP96"
SUBARRAYS = ("SUBSTRIP256", SHORT, "SUB17STRIPE_SOSS", "SUB60STRIPE_SOSS", "SUB204STRIPE_SOSS", "SUB680STRIPE_SOSS")
"""Subarrays that are extracted: those of jwst 3.0.0. Stripes are put together to SUBSTRIP256 before stage 3."""
_ROWS_BELOW = 10.0
"""Rows of SUBSTRIP256 below the first of SUBSTRIP96."""
_CLEAR_OF_LIGHT = 30.0
"""Pixels from every trace beyond which the background is measured: the light is 23 pixels wide, wings reach farther."""
_HALF_LIGHT = 14.0
"""Half width of the window of a centroid [pixel]: the light is 23 wide."""
_DEGREES = {1: 2, 2: 1, 3: 0}
"""Degree of the correction of a built-in trace by the light, by order: faint and contaminated orders bear less."""


def soss_setups(
    exposure: Exposure, references: References, parameters: Extract1D, photom: Photom, model: ExposureModel | None
) -> tuple[ExtractionSetup, ...]:
    """
    Return where the spectra of an exposure are, one for each order.

    Parameters
    ----------
    exposure : Exposure
        Of NIS_SOSS.
    references : References
        Names the reference files: ``pastasoss``, else ``spectrace`` (and ``wavemap``), else the built-in model.
    parameters : Extract1D
        The step's parameters.
    photom : Photom
        How spectra are calibrated.
    model : ExposureModel or None
        Its image corrects the built-in traces; not needed with a reference.

    Returns
    -------
    setups : tuple of ExtractionSetup
        By order; empty for exposures that have no spectra to extract, which a warning says.

    Raises
    ------
    ParameterError
        If decontamination is asked for.
    InputError
        If the position of the pupil wheel (PWCPOS) is not known.
    ReferenceFileError
        If a reference cannot be used.

    Warns
    -----
    tso3.errors.Tso3Warning
        If the exposure is not extracted, or what was found is not what references say.
    """
    _refuse_decontamination(parameters)
    path = exposure.segments[0].path
    reason = _why_not(exposure)
    if reason is not None:
        warnings.warn(f"{path}: {reason}; no spectra are extracted from it", Tso3Warning, stacklevel=4)
        return ()
    shape = (exposure.ny, exposure.nx)
    _check_size(exposure)
    traces = find_traces(exposure, references, parameters, model)
    dark = reference_pixels(exposure, 0)
    region, fit = _background(exposure, traces, dark, parameters)
    asked = given_width(parameters)
    width = parameters.soss_width if asked is None else asked
    setups = []
    for trace in traces:
        if trace.order == 3 and (exposure.subarray == SHORT or not parameters.soss_order_3):
            continue
        whole = exposure.subarray == SHORT and trace.order == 2 and parameters.soss_substrip96 == "all"
        if whole and asked is None:
            weights = np.zeros(shape)
            weights[:, : trace.n_wave] = 1.0
        else:
            weights = box_weights(trace.trace, width, shape)
        weights[dark] = 0.0
        wavelength = np.full(exposure.nx, np.nan)
        wavelength[: trace.n_wave] = trace.wavelength
        calibration = flux_calibration(exposure, references, photom, trace.order, wavelength)
        setups.append(
            ExtractionSetup(
                aperture=weights,
                region=region,
                fit=fit,
                wavelength=wavelength,
                lower=None,
                upper=None,
                first=0,
                last=trace.n_wave - 1,
                sky=None,
                order=trace.order,
                name="",
                calibration=calibration,
                flux_unit="DN/s" if calibration is None else "MJy",
                span=(0, trace.n_wave),
            )
        )
    if not setups:
        raise ReferenceFileError("has none of the orders that are extracted", references.path("pastasoss") or path)
    return tuple(setups)


def _check_size(exposure: Exposure) -> None:
    """Raise InputError if images are not of the size that the traces are known for."""
    rows = 96 if exposure.subarray == SHORT else 256
    if (exposure.ny, exposure.nx) != (rows, 2048):
        raise InputError(
            f"has images of {exposure.ny} x {exposure.nx} pixels; those of {exposure.subarray} are {rows} x 2048 when"
            " they come to stage 3",
            exposure.segments[0].path,
        )


def soss_header(setup: ExtractionSetup) -> SpectrumHeader:
    """Return what the spectra of an order share: of the archive's keywords they have the order alone."""
    unit = setup.flux_unit or ""
    nothing = dict.fromkeys(
        (
            "dispersion_axis", "detector", "source_type", "source_id", "source_xpos", "source_ypos", "source_ra",
            "source_dec",
            "extraction_xstart", "extraction_xstop", "extraction_ystart", "extraction_ystop", "slit_ra", "slit_dec",
            "position_angle", "wavelength_corrected",
        )
    )  # fmt: skip
    return SpectrumHeader(
        slit_name=setup.name,
        spectral_order=setup.order,
        flux_unit=unit,
        sb_unit="",
        background_unit=unit,
        **nothing,
    )


def _refuse_decontamination(parameters: Extract1D) -> None:
    if parameters.soss_atoca:
        raise ParameterError(
            "true asks for the decontamination of overlapping orders (ATOCA), which this version does not have;"
            " set it to false for sums in boxes",
            "extract_1d.soss_atoca",
        )
    if parameters.soss_bad_pix == "model":
        raise ParameterError(
            "model needs the decontamination of overlapping orders (ATOCA), which this version does not have; set it"
            " to masking",
            "extract_1d.soss_bad_pix",
        )


def _why_not(exposure: Exposure) -> str | None:
    """Return why an exposure is not extracted, None if it is; as the archive."""
    if exposure.filter != "CLEAR":
        return f"was taken behind {exposure.filter}, where order 1 stands alone and the others are dark"
    if exposure.subarray not in SUBARRAYS:
        return (
            f"{exposure.subarray} is not a subarray that SOSS is extracted from ({SUBARRAYS[0]}, {SHORT} and stripes)"
        )
    return None


def find_traces(
    exposure: Exposure, references: References, parameters: Extract1D, model: ExposureModel | None
) -> tuple[SossTrace, ...]:
    """
    Return trace and wavelengths of every order that the subarray can show.

    Parameters
    ----------
    exposure : Exposure
        Its PWCPOS says how far the pupil wheel was from the commanded position.
    references : References
        ``pastasoss``, else ``spectrace`` (and ``wavemap``), else the built-in model.
    parameters : Extract1D
        Nothing of it shifts a trace but ``position_offset``.
    model : ExposureModel or None
        By its image the built-in traces are corrected: orders are where their light is.

    Returns
    -------
    traces : tuple of SossTrace
        By order.
    """
    path = references.path("pastasoss")
    older = references.path("spectrace")
    if path is not None:
        traces = _from_model(exposure, read_pastasoss(path))
    elif older is not None:
        traces = _from_tables(exposure, older, references.path("wavemap"))
    else:
        traces = _on_the_light(exposure, _from_model(exposure, built_in_traces()), model)
    if parameters.position_offset:
        shift = parameters.position_offset
        traces = tuple(SossTrace(t.order, t.trace + shift, t.wavelength) for t in traces)
    return traces


def _sampled(*arguments: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what `sample_by_column` gives; remembered, because scipy's splines take long to import."""

    def compute() -> Arrays:
        trace, wavelength = sample_by_column(*arguments)
        return {"trace": trace, "wavelength": wavelength}

    key = digest("sample_by_column", code_digest(sample_by_column), versions("numpy", "scipy"), arguments)
    answer = remembered(key, compute)
    return answer["trace"], answer["wavelength"]


def _from_model(exposure: Exposure, reference: SossReference) -> tuple[SossTrace, ...]:
    """Return traces turned to where the pupil wheel was."""
    position = exposure.header("PWCPOS")
    file = exposure.segments[0].path
    if not isinstance(position, int | float) or isinstance(position, bool):
        raise InputError("has no position of the pupil wheel (PWCPOS), by which traces are turned; add it", file)
    if not reference.bounds[0] <= position <= reference.bounds[1]:
        raise InputError(
            f"PWCPOS = {position} is outside {reference.bounds[0]} to {reference.bounds[1]}, for which the traces hold;"
            " correct it, or give a spectrace reference",
            file,
        )
    offset = float(position) - reference.commanded
    traces = []
    for order, model in sorted(reference.orders.items()):
        rows = model.y - _ROWS_BELOW if exposure.subarray == SHORT else model.y
        rows = rotated_trace(model.x, rows, offset, model.pivot)
        on = np.isfinite(rows)
        column = (model.x[on] - model.low[0]) / (model.high[0] - model.low[0])
        scaled = (offset - model.low[1]) / (model.high[1] - model.low[1])
        try:
            wavelength = wavelength_polynomial(model.coefficients, column, scaled)
            sampled = _sampled(model.x[on], rows[on], wavelength, reference.grid, int(model.cutoff))
        except ValueError as error:
            raise ReferenceFileError(
                f"cannot be used for order {order}: {error}", reference.path or "built-in traces"
            ) from error
        traces.append(SossTrace(order, *sampled))
    return tuple(traces)


def _from_tables(exposure: Exposure, path: Path, wavemap: Path | None) -> tuple[SossTrace, ...]:
    """Return traces of the older layout, which is for the position that the pupil wheel had."""
    maps = {} if wavemap is None else read_wavemap(wavemap)
    cutoffs = {order: model.cutoff for order, model in built_in_traces().orders.items()}
    traces = []
    for order, table in sorted(read_spectrace(path).items()):
        if order not in cutoffs:
            continue
        shift = _ROWS_BELOW if exposure.subarray == SHORT and table.subarray == "SUBSTRIP256" else 0.0
        rows, wavelength = _sampled_table(table, min(cutoffs[order], exposure.nx), shift)
        if order in maps:
            wavelength = _along(maps[order], rows, exposure, wavemap)
        traces.append(SossTrace(order, rows, wavelength))
    return tuple(traces)


def _sampled_table(table: TraceTable, n_wave: int, shift: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows and wavelengths in columns 0, 1, ...; NaN where the table has none."""
    order = np.argsort(table.x, kind="stable")
    columns = np.arange(float(n_wave))
    rows, wavelength = (
        np.interp(columns, table.x[order], values[order], left=np.nan, right=np.nan)
        for values in (table.y - shift, table.wavelength)
    )
    return rows, wavelength


def _along(
    wavemap: NDArray[np.float64], trace: NDArray[np.float64], exposure: Exposure, path: Path | None
) -> NDArray[np.float64]:
    """Return the wavelengths of the map in the pixels nearest to the trace."""
    ny, nx = exposure.ny, exposure.nx
    if wavemap.shape == (256, nx) and ny == 96:
        wavemap = wavemap[int(_ROWS_BELOW) : int(_ROWS_BELOW) + 96]
    if wavemap.shape != (ny, nx):
        raise ReferenceFileError(f"holds images of shape {wavemap.shape}, the data are {(ny, nx)}", path or "wavemap")
    rows = np.clip(np.rint(np.nan_to_num(trace)), 0, ny - 1).astype(np.int64)
    return np.where(np.isfinite(trace), wavemap[rows, np.arange(trace.size)], np.nan)


def _on_the_light(
    exposure: Exposure, traces: tuple[SossTrace, ...], model: ExposureModel | None
) -> tuple[SossTrace, ...]:
    """Return traces moved to the light of the survey's image, where it can be told from that of other orders."""
    if model is None:
        raise ReferenceFileError(
            "neither a pastasoss nor a spectrace reference is given, and without a survey (survey.n_sample = 0) traces"
            " cannot be found in the data; give --override-pastasoss FILE",
            exposure.segments[0].path,
        )
    dark = reference_pixels(exposure, 0)
    image = np.where(dark, np.nan, model.reference)
    region = _away(traces, image.shape) & ~dark
    image = image - background_image(image, region, BackgroundFit("median"))
    rows_lit = int(np.flatnonzero(~dark.all(axis=1))[-1]) + 1
    moved, common = [], None
    for trace in traces:
        others = [other.trace for other in traces if other is not trace]
        alone = is_isolated(trace.trace, others, rows_lit, _HALF_LIGHT + 2.0, _HALF_LIGHT + 20.0)
        centroid = column_centroids(image, trace.trace, _HALF_LIGHT)
        difference = np.where(alone, centroid - trace.trace, np.nan)
        shift = smooth_shift(difference, _DEGREES.get(trace.order, 0))
        if shift is None:
            shift = np.zeros(trace.n_wave) if common is None else np.full(trace.n_wave, common)
        elif common is None:
            common = float(np.median(shift))
        moved.append(SossTrace(trace.order, trace.trace + shift, trace.wavelength))
    if common is None:
        warnings.warn(
            f"{exposure.segments[0].path}: the light of order 1 could not be found; traces are those of the built-in"
            " model",
            Tso3Warning,
            stacklevel=6,
        )
    return tuple(moved)


def _away(traces: tuple[SossTrace, ...], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels away from all traces."""
    rows = np.arange(float(shape[0]))[:, np.newaxis]
    away = np.ones(shape, dtype=bool)
    for trace in traces:
        n = min(trace.n_wave, shape[1])
        away[:, :n] &= ~(np.abs(rows - trace.trace[:n]) <= _CLEAR_OF_LIGHT)
    return away


def _background(
    exposure: Exposure, traces: tuple[SossTrace, ...], dark: NDArray[np.bool_], parameters: Extract1D
) -> tuple[NDArray[np.bool_] | None, BackgroundFit]:
    """Return where and how the background of a column is fitted; none where another step of the plan takes it."""
    if parameters.soss_background == "clipped" or parameters.subtract_background is False:
        return None, BackgroundFit()
    region = _away(traces, (exposure.ny, exposure.nx)) & ~dark
    kind: Literal["poly", "median"] = "poly" if parameters.bkg_fit in ("poly", "mean") else "median"
    order = parameters.bkg_order if parameters.bkg_fit == "poly" and parameters.bkg_order is not None else 0
    return region, BackgroundFit(kind, order)
