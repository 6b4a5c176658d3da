"""What spectral extraction of an exposure needs besides its pixels, made once: see `tso3.steps.extract_1d`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.apcorr import CorrectionTable, aperture_correction, correction_table
from tso3.core.box import BoxPlan, plan_box
from tso3.core.edge_light import EdgeLight
from tso3.core.model import ExposureModel
from tso3.core.moving import MovingProfile, weighed_terms
from tso3.core.optimal import OptimalPlan
from tso3.core.profile import SpatialProfile
from tso3.core.spectra import SpectrumHeader
from tso3.errors import ReferenceFileError, Tso3Warning
from tso3.io.defaults import apertures_of
from tso3.io.reference_files import read_apcorr, read_extract1d
from tso3.parameters import Extract1D, Photom
from tso3.steps import extraction_shape
from tso3.steps.extraction_setup import ExtractionSetup, choose_aperture, set_up, spectral_order, target_name
from tso3.steps.extraction_shape import Knowledge
from tso3.steps.mrs import mrs_setups
from tso3.steps.soss import soss_header, soss_setups
from tso3.steps.stripes import stripe_setup

if TYPE_CHECKING:
    from tso3.io.exposure import Exposure
    from tso3.io.references import References

__all__ = ["Extract1DPlan", "Units", "prepare"]

_MRS = "MIR_MRS"
_TURNED_BYTES = 16
"""Four planes of float32."""
_PHASE = 0.5
"""Position of the source in its pixel that corrections are interpolated to, as the archive."""


@dataclass(frozen=True)
class Units:
    """
    Factors from sums in the unit of the stack to the columns of a spectrum.

    Attributes
    ----------
    flux, background : float
        For the flux, and for the background (a mean per pixel).
    surf_bright : float
        For the surface brightness (a mean per pixel); 0 for point sources of NIRSpec, as the archive.
    """

    flux: float
    surf_bright: float
    background: float


@dataclass(frozen=True)
class Extract1DPlan:
    """
    Everything that extraction of an exposure needs besides its pixels; the same for all blocks.

    Attributes
    ----------
    header : SpectrumHeader
        What its spectra share.
    wavelength : ndarray of float64, shape (n_wave,)
        Micron, finite.
    expected : ndarray of float64, shape (n_wave,), or None
        Spectrum of the exposure's reference image, unit of the flux; NaN where unknown. None without exposure model.
    rows : slice
        Detector rows that are read.
    box : BoxPlan
        Aperture and background, dispersion along the last axis.
    columns : ndarray of int64, shape (n_wave,)
        Columns of ``box`` that have a wavelength.
    turned : bool
        True if dispersion runs along y.
    units : Units
        Factors to the columns' units.
    calibration : ndarray of float64, shape (n_wave,), or None
        Further factor of the flux, by wavelength (flux calibration after extraction); None for 1.
    correction : CorrectionTable or None
        Aperture correction.
    nominal : ndarray of float64, shape (n_wave,), or None
        Its factors for the aperture without bad pixels; None if they depend on the integration.
    first : mapping of int to ndarray of float64, shape (n_wave,)
        Its factors by segment, where those of the segment's first integration hold for all.
    segment_bounds : tuple of (int, int)
        Integrations of each segment.
    needs_first : bool
        True if ``first`` has to be filled, by `tso3.steps.extract_1d.with_first_integrations`, before blocks are run.
    moving : MovingProfile or None
        The profile in every integration, by which missing pixels are completed; None for the steady one.
    optimal : OptimalPlan or None
        Weights of optimal extraction; None for the box.
    left_out : ndarray of bool, shape (n_wave,), or None
        Wavelengths that are NaN in every integration, `without_gaps`; None for none.
    edges : EdgeLight or None
        What motion across dispersion takes over the edges of the aperture; None where it is left so.
    """

    header: SpectrumHeader
    wavelength: NDArray[np.float64]
    expected: NDArray[np.float64] | None
    rows: slice
    box: BoxPlan
    columns: NDArray[np.int64]
    turned: bool
    units: Units
    calibration: NDArray[np.float64] | None
    correction: CorrectionTable | None
    nominal: NDArray[np.float64] | None
    segment_bounds: tuple[tuple[int, int], ...]
    needs_first: bool
    first: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    moving: MovingProfile | None = None
    optimal: OptimalPlan | None = None
    edges: EdgeLight | None = None
    left_out: NDArray[np.bool_] | None = None

    @property
    def turned_bytes(self) -> int:
        """Bytes per integration of copies of its planes: where dispersion runs along y, or pixels are rejected."""
        across = int(self.box.rows[-1] - self.box.rows[0]) + 1
        return across * self.box.npixels.size * _TURNED_BYTES if self.turned or self.optimal is not None else 0

    @cached_property
    def moving_light(self) -> NDArray[np.float64] | None:
        """Sums of the terms of ``moving`` over the aperture, shape (n_terms, n_wave); None without it."""
        return None if self.moving is None else weighed_terms(self.moving, self.box.aperture)

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept for the profiles of all integrations."""
        return 0 if self.moving is None else self.moving.terms.nbytes + self.moving.coefficients.nbytes

    @property
    def complete(self) -> bool:
        """Whether missing pixels are completed."""
        return self.box.complete


def prepare(
    exposure: Exposure,
    references: References,
    parameters: Extract1D,
    model: ExposureModel | None,
    photom: Photom | None = None,
    known: Knowledge | None = None,
) -> tuple[Extract1DPlan, ...]:
    """
    Return the plans of an exposure: one for each spectrum in it (order or channel).

    Parameters
    ----------
    exposure : Exposure
        What is extracted.
    references : References
        Names the reference files.
    parameters : Extract1D
        The step's parameters.
    model : ExposureModel or None
        Its reference image gives the profile by which missing pixels are completed.
    photom : Photom, optional
        How spectra of SOSS are calibrated.
    known : Knowledge, optional
        What else is known about the exposure; by default only ``model``.

    Returns
    -------
    plans : tuple of Extract1DPlan
        By spectral order; empty if the exposure has no spectrum that can be extracted, which a warning then says.

    Raises
    ------
    Tso3Error
        If a reference cannot be used, the exposure has no wavelengths in the aperture, or optimal extraction is asked
        for and cannot be done.

    Warns
    -----
    tso3.errors.Tso3Warning
        If something that was asked for cannot be done: see `tso3.steps.extraction_setup.set_up`, and for the
        completion of missing pixels without an exposure model, for which samples with missing pixels are NaN.
    """
    known = Knowledge(model) if known is None else known
    extraction_shape.check(exposure, parameters, model)
    if parameters.missing == "complete" and model is None:
        warnings.warn(
            f"{exposure.segments[0].path}: no survey was made, so there is no profile to complete missing pixels with;"
            " samples that lack a pixel are NaN (or set extract_1d.missing=drop)",
            Tso3Warning,
            stacklevel=3,
        )
    if exposure.mode.exp_type == "NIS_SOSS":
        setups = soss_setups(exposure, references, parameters, Photom() if photom is None else photom, model)
    else:
        setups = _setups(exposure, references, parameters, model)
    with ThreadPoolExecutor(known.workers, thread_name_prefix="tso3") as pool:
        return tuple(pool.map(partial(_plan, exposure, references, parameters, known), setups))


def _setups(
    exposure: Exposure, references: References, parameters: Extract1D, model: ExposureModel | None
) -> tuple[ExtractionSetup, ...]:
    """Return where the spectra of an exposure are: one from the extract1d reference, or as the mode has its own."""
    if exposure.stripe:
        return (stripe_setup(exposure, references, parameters, model),)
    if exposure.mode.exp_type == _MRS:
        return mrs_setups(exposure, references, parameters, model)
    path = references.path("extract1d")
    order = spectral_order(exposure)
    aperture = None
    if path is not None:
        aperture = choose_aperture(read_extract1d(path), target_name(exposure), order, path)
    elif references.built_in("extract1d"):
        aperture = choose_aperture(_built_in(exposure), target_name(exposure), order, None)
    return (set_up(exposure, aperture, parameters, path),)


def _plan(
    exposure: Exposure,
    references: References,
    parameters: Extract1D,
    known: Knowledge,
    setup: ExtractionSetup,
) -> Extract1DPlan:
    """Return the plan of one spectrum."""
    shape = None
    if known.model is not None:
        shape = known.shape_of(setup, known.model, exposure.dispersion_axis == 2)
    profile = None if shape is None else shape.profile
    box = plan_box(
        setup.aperture,
        setup.region,
        setup.fit,
        None if profile is None else profile.profile,
        parameters.missing == "complete",
        parameters.max_missing,
        setup.span,
    )
    plan = _finish_plan(exposure, references, parameters, setup, box, profile)
    if shape is None:
        return plan
    if parameters.edge_light == "restored" and exposure.mode.exp_type != "MIR_MRS":
        plan = replace(plan, edges=extraction_shape.edges(known, box, shape))
    is_optimal = parameters.extraction_type == "optimal"
    moving = None
    if parameters.profile == "moving" and (is_optimal or box.complete):
        moving = extraction_shape.moving(known, box, shape)
    if not is_optimal:
        return replace(plan, moving=moving)
    return replace(
        plan, moving=moving, optimal=extraction_shape.optimal(known, box, shape, moving, parameters.optimal_snr)
    )


def _finish_plan(
    exposure: Exposure,
    references: References,
    parameters: Extract1D,
    setup: ExtractionSetup,
    box: BoxPlan,
    profile: SpatialProfile | None,
) -> Extract1DPlan:
    """Return the plan from its parts."""
    wavelength = setup.wavelength[box.start : box.start + box.npixels.size]
    columns = np.flatnonzero(np.isfinite(wavelength))
    wavelength = wavelength[columns]
    units = _units(exposure)
    calibration = None if setup.calibration is None else setup.calibration[box.start + columns]
    correction = _correction(exposure, references, parameters, setup, wavelength)
    nominal = None
    if correction is not None and parameters.apcorr_npixels == "nominal":
        nominal = aperture_correction(correction, wavelength, box.npixels[columns])
    expected = None
    if profile is not None:
        expected = profile.spectrum[box.start + columns] * units.flux * (1.0 if nominal is None else nominal)
        expected = expected if calibration is None else expected * calibration
    turned = exposure.dispersion_axis == 2
    return Extract1DPlan(
        header=_header(exposure, setup),
        wavelength=wavelength,
        expected=expected,
        rows=_used_rows(exposure, box, turned),
        box=box,
        columns=columns,
        turned=turned,
        units=units,
        calibration=calibration,
        correction=correction,
        nominal=nominal,
        segment_bounds=exposure.segment_bounds,
        needs_first=correction is not None and nominal is None and correction.outside == "none",
    )


def _built_in(exposure: Exposure) -> tuple[Any, ...]:
    apertures = apertures_of(exposure.mode.exp_type, exposure.subarray)
    if not apertures:
        raise ReferenceFileError(
            f"there is no built-in aperture for {exposure.mode.exp_type}; give --override-extract1d FILE",
            exposure.segments[0].path,
        )
    return apertures


def _used_rows(exposure: Exposure, box: BoxPlan, turned: bool) -> slice:
    """Return the detector rows that are read."""
    if not turned:
        return slice(int(box.rows[0]), int(box.rows[-1]) + 1)
    if box.smoothing > 1:
        return slice(0, exposure.ny)
    return slice(box.start, box.start + box.npixels.size)


def _is_point(exposure: Exposure) -> bool:
    return exposure.header("SRCTYPE") == "POINT"


def _calibrated(exposure: Exposure) -> bool:
    return str(exposure.header("S_PHOTOM", "")).upper() == "COMPLETE"


def _units(exposure: Exposure) -> Units:
    """Return the factors to Jy and MJy/sr; data that are not flux-calibrated stay as they are."""
    if exposure.mode.exp_type == "NIS_SOSS":  # calibrated after extraction; orders share pixels: no surface brightness
        return Units(1.0, 0.0, 1.0)
    if not _calibrated(exposure):
        return Units(1.0, 1.0, 1.0)
    if exposure.mode.exp_type == _MRS:  # the solid angle of its pixels differs and is in the calibration
        return Units(flux=1e6, surf_bright=1.0, background=1.0)
    area = exposure.header("PIXAR_SR")
    if not isinstance(area, int | float) or not area > 0.0:
        warnings.warn(
            f"{exposure.segments[0].path}: has no pixel area (PIXAR_SR); taken as 1 sr, so the flux is not right",
            Tso3Warning,
            stacklevel=5,
        )
        area = 1.0
    if _is_point(exposure) and str(exposure.instrument or "").upper() == "NIRSPEC":
        return Units(flux=1e6, surf_bright=0.0, background=1.0 / area)  # MJy
    return Units(flux=area * 1e6, surf_bright=1.0, background=1.0)  # MJy / sr


def _correction(
    exposure: Exposure,
    references: References,
    parameters: Extract1D,
    setup: ExtractionSetup,
    wavelength: NDArray[np.float64],
) -> CorrectionTable | None:
    """Return the aperture correction in pixels, None where none is applied: it is for point sources."""
    path = references.path("apcorr")
    if path is None or not parameters.apply_apcorr or not _is_point(exposure):
        return None
    configuration = {
        "subarray": exposure.subarray,
        "filter": exposure.filter,
        "pupil": exposure.pupil,
        "grating": exposure.grating,
        "slit": target_name(exposure),
    }
    row = read_apcorr(path, configuration)
    factor = row.factor
    if row.phase is not None:
        if not row.phase.min() <= _PHASE <= row.phase.max():
            raise ReferenceFileError(f"has no correction for a pixel phase of {_PHASE}", path)
        factor = _at_phase(row.phase, factor)
    try:
        table = correction_table(row.wavelength, row.size, factor, "nearest" if row.phase is None else "none")
    except ValueError as error:
        raise ReferenceFileError(f"cannot be used: {error}", path) from error
    if not row.size_unit.startswith("arcsec"):
        return table
    nirspec = str(exposure.instrument or "").upper() == "NIRSPEC"
    return table.scaled(
        _pixel_scale(exposure, setup, float(np.median(wavelength) if nirspec else wavelength.min()), path)
    )


def _at_phase(phase: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate corrections linearly to the phase that is used."""
    order = np.argsort(phase, kind="stable")
    phase, factor = phase[order], factor[order]
    right = min(max(int(np.searchsorted(phase, _PHASE)), 1), phase.size - 1) if phase.size > 1 else 0
    left = max(right - 1, 0)
    share = (_PHASE - phase[left]) / (phase[right] - phase[left]) if right > left else 0.0
    return np.asarray(factor[left] + share * (factor[right] - factor[left]))


def _pixel_scale(exposure: Exposure, setup: ExtractionSetup, wavelength: float, path: Path) -> float:
    """Return the size of a pixel across dispersion [arcsec] at the middle of the aperture."""
    scale = None
    if setup.sky is not None:
        scale = exposure.geometry.pixel_scale(setup.sky, wavelength, exposure.dispersion_axis)
    if scale is None:
        raise ReferenceFileError(
            f"has sizes in arcsec, and {exposure.segments[0].path.name} has no WCS that gives the size of a pixel;"
            " use a table in pixels, or --override-apcorr N/A",
            path,
        )
    return scale


def _header(exposure: Exposure, setup: ExtractionSetup) -> SpectrumHeader:
    """Return what the spectra share, limits as the archive writes them: 1-based."""
    if exposure.mode.exp_type == "NIS_SOSS":
        return soss_header(setup)
    along = (setup.first + 1.0, setup.last + 1.0)
    across = tuple(None if limit is None else limit + 1.0 for limit in (setup.lower, setup.upper))
    x, y = (across, along) if exposure.dispersion_axis == 2 else (along, across)
    calibrated = _calibrated(exposure)

    def number(key: str) -> float | None:
        value = exposure.header(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    source_id, wavecor, source_type = (exposure.header(key) for key in ("SOURCEID", "WAVECOR", "SRCTYPE"))
    return SpectrumHeader(
        slit_name=setup.name,
        spectral_order=setup.order,
        dispersion_axis=exposure.dispersion_axis,
        detector=exposure.detector or None,
        source_type=None if source_type is None else str(source_type),
        source_id=source_id if isinstance(source_id, int) else None,
        source_xpos=number("SRCXPOS"),
        source_ypos=number("SRCYPOS"),
        source_ra=number("SRCRA"),
        source_dec=number("SRCDEC"),
        extraction_xstart=x[0],
        extraction_xstop=x[1],
        extraction_ystart=y[0],
        extraction_ystop=y[1],
        slit_ra=None if setup.sky is None else setup.sky[0],
        slit_dec=None if setup.sky is None else setup.sky[1],
        position_angle=number("PA_APER"),
        wavelength_corrected=wavecor if isinstance(wavecor, bool) else None,
        flux_unit=setup.flux_unit or ("Jy" if calibrated else "DN/s"),
        sb_unit="MJy/sr" if calibrated else "DN/s",
    )
