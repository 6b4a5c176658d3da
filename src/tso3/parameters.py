"""
Every parameter of every step, declared once.

The command line (``--set step.parameter=value``, ``tso3 params``), ``tso3.toml``, ``pars-*.asdf`` and the reference
page of the documentation are all derived from these models. A preset is a set of values, never a second code path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from tso3.parameter_values import grid_as_text, integration_ranges, listed_numbers, ranges_as_text

__all__ = [
    "PRESETS",
    "Channels",
    "Covariates",
    "Extract1D",
    "OutlierDetection",
    "Parameters",
    "PixelReplace",
    "Rectify",
    "ResidualBackground",
    "StepParameters",
    "Survey",
    "TsoPhotometry",
    "WhiteLight",
    "X1dints",
    "integration_ranges",
    "listed_numbers",
    "preset",
]


def _first_number(value: Any) -> Any:
    """Take the first of several numbers in a string, as the archive writes ``snr = "5.0 4.0"``."""
    return value.split()[0] if isinstance(value, str) and value.split() else value


class StepParameters(BaseModel):
    """Base of the parameters of one step: unknown names are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Survey(StepParameters):
    """The survey pass: a sample of integrations from which the exposure model is made."""

    n_sample: int = Field(128, ge=0, json_schema_extra={"unit": "integrations"})
    """Integrations in the sample, spread evenly over the exposure, at most three fifths of it but at least 64; 0 makes
    no exposure model."""
    n_pairs: int = Field(24, ge=0, json_schema_extra={"unit": "pairs"})
    """Pairs of neighbouring integrations from which noise that lines of the detector share is measured, for the errors
    of light curves (with outlier_detection.method = template); 0 leaves it out of them."""


class OutlierDetection(StepParameters):
    """Second-pass outlier detection in the stack of integrations."""

    skip: bool = False
    """Skip this step."""
    method: Literal["template", "sigma_clip", "rolling_median"] = "template"
    """What samples are compared with: the survey's image, changed as the star and the telescope change it, with noise
    that is steady in time; the clipped median of the pixel's own time window (0: its whole series) and the scatter
    about it; or the median of the time window, with each sample's own ERR (the archive)."""
    snr: Annotated[float, BeforeValidator(_first_number)] = Field(
        5.0, gt=0, allow_inf_nan=False, json_schema_extra={"unit": "ERR"}
    )
    """Threshold in units of ERR (sigma_clip: of the pixel's own scatter); of the archive's "5.0 4.0" the first
    counts."""
    snr_beside: float | None = Field(4.0, gt=0, le=9, allow_inf_nan=False, json_schema_extra={"unit": "ERR"})
    """Threshold, upwards only, of a sample that touches an outlier in its integration: a cosmic ray leaves charge in
    the pixels around. None: as elsewhere (the archive). Without effect with sigma_clip."""
    snr_around: float | None = Field(3.0, gt=0, allow_inf_nan=False, json_schema_extra={"unit": "sigma"})
    """Where all samples that touch an outlier are together brighter by more than this, those above 2 ERR are outliers
    as well. None: never (the archive). Without effect with sigma_clip."""
    rolling_window_width: int = Field(25, ge=0, json_schema_extra={"unit": "integrations"})
    """Full width of the time window; 0, 1 or at least n_int: one static median of the whole span."""
    maxiters: int = Field(3, ge=1)
    """Passes of median and clipping inside each window, the last of which decides; the archive does 1."""
    edges: Literal["shrink", "full", "repeat"] = "shrink"
    """Window at the two ends of the span: truncated, leaning inward at full width, or the archive's repeated median."""
    span: Literal["exposure", "segment"] = "exposure"
    """What a window may run across: the whole exposure, or one segment only (the archive)."""
    nan_policy: Literal["skip", "propagate"] = "skip"
    """What a bad sample does to the medians of its window: it is left out, or it empties them (the archive)."""
    static_masked: bool = True
    """Leave bad samples out of the static median too; the archive keeps finite DO_NOT_USE values in it (false)."""
    min_valid: int = Field(3, ge=1, json_schema_extra={"unit": "integrations"})
    """Fewest valid samples of a window from which a median is believed (with nan_policy = skip)."""
    maskpt: float = 0.7
    """Accepted for the archive's parameter files; without effect, since weights of time series are 0 or 1."""
    good_bits: str | int | None = "~DO_NOT_USE"
    """DQ bits that do not make a sample bad, as astropy's interpret_bit_flags reads them."""
    save_results: bool = True
    """Write the flagged exposures (*_crfints.fits), by far the largest products; without them a run is repeated sooner,
    with the same flags and numbers."""
    save_intermediate_results: bool = False
    """Write the median of each segment as *_median.fits."""


class ResidualBackground(StepParameters):
    """Removal of what 1/f noise and a changing background leave, before photometry and extraction."""

    background: Literal["none", "region", "column", "row"] = "none"
    """Level that is subtracted from every integration, measured away from the star as what the template of outlier
    detection leaves: none, one for the whole frame, one for each column or each row of the detector."""
    threshold: float = Field(30.0, ge=0, json_schema_extra={"unit": "noise"})
    """Light of the star, over the noise of a pixel, above which a pixel does not tell the level of its line."""


class TsoPhotometry(StepParameters):
    """Aperture photometry of every integration."""

    skip: bool = False
    """Skip this step."""
    sizes: Literal["optics", "fixed"] = "optics"
    """Radii and boxes that are not given below: by instrument, filter and weak lens, or (the archive's code) always 3,
    4, 5, 41 and 11 pixels; a tsophot reference that is given comes before either."""
    radius: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, json_schema_extra={"unit": "pixel"}
    )
    """Radius of the aperture; by default as sizes says. auto: chosen by a scan, as extract_1d.extract_width."""
    radius_inner: float | None = Field(None, gt=0, json_schema_extra={"unit": "pixel"})
    """Inner radius of the background annulus; by default as sizes says."""
    radius_outer: float | None = Field(None, gt=0, json_schema_extra={"unit": "pixel"})
    """Outer radius of the background annulus; by default as sizes says."""
    off_array: Literal["sum", "archive"] = "sum"
    """An annulus wholly off the array: the sum of the aperture stands without background, or it has no net sum but for
    WLP8 in SUB64P, where the whole array is summed (the archive)."""
    reference_pixels: Literal["skip", "use"] = "skip"
    """Reference pixels, which see no light, in annulus and boxes: left out, or used like others (the archive)."""
    annulus_clip: float = Field(0.0, ge=0, json_schema_extra={"unit": "sigma"})
    """Pixels of the annulus farther from its median than so many robust standard deviations are left out of its mean;
    0: none is, for outliers are flagged before."""
    centroid_source: bool = True
    """Measure the centroid and the Gaussian widths of every integration; else the planned position is used."""
    search_box_width: int | None = Field(None, ge=3, json_schema_extra={"unit": "pixel"})
    """Full width of the box in which the source is searched, by default as sizes says; even values are lowered by
    one."""
    fit_box_width: int | None = Field(None, ge=3, json_schema_extra={"unit": "pixel"})
    """Full width of the box of the final centroid and fit, by default as sizes says; even values are lowered by one."""
    moving_centroid: bool = False
    """Let the aperture follow the centroid of each integration; else it is placed once, as centroid_span says."""
    centroid_span: Literal["survey", "exposure", "segment"] = "survey"
    """What places the boxes and the fixed aperture: the reference image of the survey (one pass over the data), or
    the median centroid of all integrations of the exposure or of the segment (the archive; three passes)."""
    psf_fit: Literal["minimum", "trf"] = "minimum"
    """Gaussian fit of the widths: the least-squares minimum, or where the archive's fitter stops, which depends on
    the unit of the data (SciPy's trust-region method with its absolute tolerances)."""
    error_weights: Literal["squared", "linear", "photutils"] = "squared"
    """Pixel weights in the variance of a sum: squared, as error propagation has it; linear, as photutils before 3.1
    had it; or whichever the installed photutils has, as the archive's pipeline would in the same environment."""
    missing: Literal["complete", "drop"] = "complete"
    """Bad pixels in the aperture: completed from the reference image scaled to the integration, or dropped."""
    profile: Literal["moving", "steady"] = "moving"
    """Image that missing pixels are completed from: moved in each integration as the template says (with
    outlier_detection.method = template), or the exposure's reference image."""
    max_missing: float = Field(0.5, ge=0, le=1)
    """Share of the source's light on bad pixels above which an integration is NaN (with missing = complete)."""
    save_catalog: bool = False
    """Write a catalogue for each segment as well."""


def _no_trace_model(value: Any) -> Any:
    """Refuse the archive's algorithm that tso3 does not have, and name the one that does its job."""
    if value == "trace_model":
        raise ValueError(
            "is jwst's spline of the trace, which puts the same values into every integration; use time_profile, which"
            " scales the image of the exposure to each"
        )
    return value


class PixelReplace(StepParameters):
    """Bad pixels replaced by estimates before spectral extraction."""

    skip: bool = True
    """Skip this step; the extraction completes missing pixels by itself (extract_1d.missing)."""
    algorithm: Annotated[Literal["mingrad", "fit_profile", "time_profile"], BeforeValidator(_no_trace_model)] = (
        "mingrad"
    )
    """Mean of the two neighbours that differ least, the profile of the columns around in the same integration, or
    (not in the archive) the reference image of the exposure scaled to the column of each integration."""
    n_adjacent_cols: int = Field(3, ge=1, json_schema_extra={"unit": "pixel"})
    """Columns on each side that fit_profile makes its profile from."""


if TYPE_CHECKING:

    class _From(StepParameters):
        """Where spectra are extracted from; ``from`` cannot be the name of an attribute in a class."""

else:
    _From = create_model(
        "_From",
        __base__=StepParameters,
        **{
            "from": (
                Literal["exposure", "rectified"],
                Field(
                    "exposure",
                    description="What spectra are extracted from: the pixels of the detector, or rectified frames, by a"
                    " box of the same width about the level trace.",
                ),
            )
        },
    )


class Extract1D(_From):
    """Extraction of the spectrum of every integration."""

    skip: bool = False
    """Skip this step."""
    extraction_type: Literal["box", "optimal"] = "box"
    """Plain sum over the box, or the weighted sum over the same pixels that has the least noise."""
    optimal_snr: float = Field(5.0, gt=0, json_schema_extra={"unit": "sigma"})
    """Optimal: deviation from the profile, over the noise, from which a pixel is rejected."""
    edge_light: Literal["restored", "left"] = "restored"
    """Light that a motion across dispersion takes over the edges of the aperture: put back, as far as outliers are
    judged by the template, which tells the motion, or left out."""
    profile: Literal["moving", "steady"] = "moving"
    """Profile that missing pixels and optimal sums are completed by: moved in each integration as the template says
    (with outlier_detection.method = template), or that of the exposure's reference image."""
    subtract_background: bool | None = None
    """Subtract the background; by default if the extract1d reference has background regions."""
    use_source_posn: bool | None = None
    """Centre the aperture on the source position of the WCS; by default as the reference says."""
    position_offset: float = Field(0.0, json_schema_extra={"unit": "pixel"})
    """Shift of the aperture across dispersion."""
    extract_width: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, json_schema_extra={"unit": "pixel"}
    )
    """Full width of the aperture about its middle; by default as the reference says. auto: the smallest that scatters
    as little as the best of a scan of the exposure, within the standard error of the difference; one pass more."""
    trace_origin: Literal["image", "box"] = "image"
    """Where columns are counted from when the WCS trace is interpolated: the image, or (the archive) the WCS's box."""
    smoothing_length: int | None = Field(None, ge=0, json_schema_extra={"unit": "pixel"})
    """Odd length of the boxcar along dispersion that smooths the background; by default as the reference says."""
    bkg_fit: Literal["poly", "mean", "median"] | None = None
    """Fit of the background; by default as the reference says."""
    bkg_order: int | None = Field(None, ge=0)
    """Order of the background polynomial; by default as the reference says."""
    apply_apcorr: bool = True
    """Apply the aperture correction if a reference is given."""
    apcorr_npixels: Literal["nominal", "first"] = "nominal"
    """Aperture size that the correction is made for: the aperture without bad pixels, or what the archive uses."""
    missing: Literal["complete", "drop"] = "complete"
    """Bad pixels in the aperture: completed from the exposure's profile scaled to the integration, or dropped."""
    max_missing: float = Field(0.5, ge=0, le=1)
    """Share of the profile on bad pixels above which a sample is NaN (with missing = complete)."""
    log_increment: int = 50
    """Accepted for the archive's parameter files; progress is shown by the display."""
    soss_atoca: bool = False
    """SOSS: decontaminate overlapping orders; this version cannot, so true ends in an error."""
    soss_width: float = Field(40.0, gt=0, le=256, json_schema_extra={"unit": "pixel"})
    """SOSS: full width of the box about each trace."""
    soss_order_3: bool = True
    """SOSS: extract order 3 as well, where the subarray shows it."""
    soss_bad_pix: Literal["masking", "model"] = "masking"
    """SOSS: model replaces bad pixels by the model of decontamination, which this version has not: an error."""
    soss_infill: Literal["none", "median"] = "none"
    """SOSS: fill bad samples by the running median of 9 integrations of the segment, with ten times the error, as the
    archive, before anything else looks at them."""
    soss_background: Literal["region", "clipped"] = "region"
    """SOSS: background of a column from the pixels away from all traces, or (the archive, where it is asked for at all)
    the clipped mean of all but the brightest pixels."""
    soss_variance: Literal["squared", "linear"] = "squared"
    """SOSS: weights of the variances in the error of a sum: squared by component, or linear in the total (the archive).
    """
    soss_substrip96: Literal["trace", "all"] = "trace"
    """SOSS: order 2 on SUBSTRIP96 is summed about its trace, or (the archive) over all rows."""
    soss_threshold: float = 1e-2
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_n_os: int = 2
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_rtol: float = 1e-4
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_max_grid_size: int = 20000
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_tikfac: float | None = None
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_estimate: str | None = None
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_wave_grid_in: str | None = None
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_wave_grid_out: str | None = None
    """Accepted for the archive's parameter files; of decontamination only."""
    soss_modelname: str | None = None
    """Accepted for the archive's parameter files; of decontamination only."""

    @property
    def rectified(self) -> bool:
        """Whether spectra are extracted from rectified frames."""
        return bool(getattr(self, "from") == "rectified")


class Photom(StepParameters):
    """Flux calibration of SOSS spectra; other modes are calibrated before."""

    skip: bool = False
    """Skip this step."""
    outside: Literal["nan", "zero"] = "nan"
    """Flux at wavelengths that the photom reference does not cover: unknown, or zero (the archive)."""


class X1dints(StepParameters):
    """Layout of the product of spectra."""

    layout: Literal["detector", "segment"] = "detector"
    """One table per detector and order with all integrations, or one per segment as well (the archive)."""
    source_type_column: bool = True
    """Add the SOURCE_TYPE column without which specutils cannot read the table."""


class WhiteLight(StepParameters):
    """The light curve summed over wavelength."""

    skip: bool = False
    """Skip this step."""
    min_wavelength: float | None = Field(None, json_schema_extra={"unit": "micron"})
    """Shortest wavelength in the sum; by default the wavelengthrange reference's, else as built_in_range says."""
    max_wavelength: float | None = Field(None, json_schema_extra={"unit": "micron"})
    """Longest wavelength in the sum; by default the wavelengthrange reference's, else as built_in_range says."""
    built_in_range: bool = True
    """SOSS without a wavelengthrange reference: sum an order where it stands alone; else (the archive) everywhere."""
    missing: Literal["complete", "drop"] = "complete"
    """Samples that are not valid: sums are completed from the spectrum of the exposure's model, or lack them."""
    normalized: bool = True
    """Beside the sum, the weighted and normalised curve; its weights are the survey's, without which there is none."""
    baseline: Annotated[str, BeforeValidator(ranges_as_text)] = "ends"
    """Integrations whose median is 1 in normalised curves: ends (a tenth of the exposure, at least 3 integrations, at
    each end), all, or ranges as INT_NUM counts them, such as 1:60,180:200."""


def _listed_edges(value: Any) -> Any:
    """Take a number of channels, and a list of edges, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ",".join(str(edge) for edge in value) if isinstance(value, list | tuple) else value


class Channels(StepParameters):
    """Spectroscopic light curves: the spectra of every integration, summed in channels of wavelength."""

    spec: Annotated[str | None, BeforeValidator(_listed_edges)] = None
    """None makes none. Else a number of channels of equal width (20), a resolving power (R=100), edges in micron
    (2.9,3.1,3.4), a file of edges (one per line, or in two columns begin and end), or native: every pixel."""
    min_wavelength: float | None = Field(None, gt=0, json_schema_extra={"unit": "micron"})
    """Shortest wavelength of the range that is divided; by default that of the spectrum."""
    max_wavelength: float | None = Field(None, gt=0, json_schema_extra={"unit": "micron"})
    """Longest wavelength of the range that is divided; by default that of the spectrum."""
    max_missing: float = Field(0.5, ge=0, le=1)
    """Share of a channel's light in samples that are not valid above which an integration is NaN; below, completed."""
    motion: Literal["correct", "none"] = "correct"
    """Motion of the star along dispersion: found in the spectra and taken out of the brightness, or left in it."""
    max_rows: int = Field(2_000_000, ge=0)
    """Rows (channels times integrations) above which only the NetCDF is written, and no table."""


class Covariates(StepParameters):
    """What star and telescope did in every integration: brightness, motion, width, background."""

    skip: bool = False
    """Skip this step: no table ``*_qa.ecsv``, which the archive does not have."""


class Rectify(StepParameters):
    """Straight spectra on one wavelength grid, and images without distortion: ``*_s2dints``, ``*_i2dints``."""

    skip: bool = False
    """Skip this step, and the median frames with it."""
    step: Annotated[float | str, BeforeValidator(grid_as_text)] = Field("auto", json_schema_extra={"unit": "micron"})
    """Columns of spectra: mean (of the mean dispersion), native (those of the trace's pixels), auto (mean, or native
    where the widest pixel is more than 1.005 times as wide as the narrowest), of a given width, of constant resolving
    power (R=1000), or with given edges (2.9,3.1,3.4)."""
    height: int = Field(64, ge=3, json_schema_extra={"unit": "pixel"})
    """Most rows of a rectified spectrum, half of them on either side of the trace."""
    pixel_scale: float | None = Field(None, gt=0, json_schema_extra={"unit": "arcsec"})
    """Size of the pixels of rectified images; by default that of the detector at the source."""
    north_up: bool = False
    """Rectified images with north up and east to the left; else turned as the detector is."""
    follow_jitter: bool = False
    """Move every integration by its shift as the covariates have it; the overlaps are then computed for each."""


class Parameters(StepParameters):
    """All parameters of a run, one attribute per step."""

    survey: Survey = Survey()
    """Survey pass and exposure model."""
    outlier_detection: OutlierDetection = OutlierDetection()
    """Second-pass outlier detection."""
    residual_background: ResidualBackground = ResidualBackground()
    """Removal of what is left of 1/f noise and background."""
    tso_photometry: TsoPhotometry = TsoPhotometry()
    """Aperture photometry."""
    pixel_replace: PixelReplace = PixelReplace()
    """Replacement of bad pixels."""
    extract_1d: Extract1D = Extract1D()
    """Spectral extraction."""
    photom: Photom = Photom()
    """Flux calibration of SOSS."""
    x1dints: X1dints = X1dints()
    """Layout of the spectra's product."""
    white_light: WhiteLight = WhiteLight()
    """White-light curve."""
    channels: Channels = Channels()
    """Spectroscopic light curves."""
    covariates: Covariates = Covariates()
    """Table of covariates."""
    rectify: Rectify = Rectify()
    """Rectified exposures."""


PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {},
    "archive": {
        "survey": {"n_sample": 0},
        "outlier_detection": {
            "method": "rolling_median",
            "maxiters": 1,
            "snr_beside": None,
            "snr_around": None,
            "edges": "repeat",
            "span": "segment",
            "nan_policy": "propagate",
            "static_masked": False,
        },
        "tso_photometry": {
            "sizes": "fixed",
            "off_array": "archive",
            "reference_pixels": "use",
            "missing": "drop",
            "centroid_span": "segment",
            "psf_fit": "trf",
            "error_weights": "photutils",
        },
        "extract_1d": {
            "missing": "drop",
            "edge_light": "left",
            "apcorr_npixels": "first",
            "trace_origin": "box",
            "soss_infill": "median",
            "soss_background": "clipped",
            "soss_variance": "linear",
            "soss_substrip96": "all",
        },
        "photom": {"outside": "zero"},
        "white_light": {"missing": "drop", "built_in_range": False, "normalized": False},
        "x1dints": {"layout": "segment", "source_type_column": False},
        "covariates": {"skip": True},
        "rectify": {"skip": True},
    },
}
"""Values that each preset sets; everything else is the parameter's own default."""


def preset(name: str) -> Parameters:
    """
    Return the parameters of a preset.

    Parameters
    ----------
    name : str
        A key of `PRESETS`.

    Returns
    -------
    parameters : Parameters
        Frozen.

    Raises
    ------
    KeyError
        If there is no such preset.

    Examples
    --------
    >>> from tso3.parameters import preset
    >>> preset("archive").outlier_detection.edges
    'repeat'
    >>> preset("default").outlier_detection.maxiters
    3
    """
    return Parameters.model_validate(PRESETS[name])
