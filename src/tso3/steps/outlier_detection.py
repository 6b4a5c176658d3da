"""
Second-pass outlier detection: parameters and a run of integrations in, flags out.

The kernels are in `tso3.core.median` and `tso3.core.outliers`; this step decides which samples take part, which window
belongs to which integration, and how the presets differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.beside import BesideRule
from tso3.core.median import window_bounds
from tso3.core.outliers import OutlierResult, flag_outliers
from tso3.core.sigma_clip import ClippedSeries, flag_by_scatter, flag_far
from tso3.core.template import N_LEVELS, Template, TemplateFit, noise_of_integrations, subtract_terms
from tso3.errors import ParameterError
from tso3.io.dqflags import pixel_flags
from tso3.io.exposure import Exposure
from tso3.io.tiles import LeftOut
from tso3.parameters import OutlierDetection

__all__ = ["OutlierPlan", "left_out", "prepare", "reach", "relative_scatter", "run", "shortened_bits"]


_NOTICED, _SURE = 0.15, 4.0
"""By which part, at most, and by how many of its own errors, the scatter of an integration in a class of pixels exceeds
that of the others where its threshold is raised by that alone."""
_MAD_ERROR = 1.16
"""Relative error of a scatter from the median deviation of n samples, times the root of n."""


@dataclass(frozen=True)
class TemplateJudge:
    """
    The template with its coefficients in every integration.

    Attributes
    ----------
    template : Template
        Terms and noise.
    coefficients : ndarray of float64, shape (n_int, n_terms)
        Of every integration.
    stretch : ndarray of float32, shape (n_int, n_levels)
        Factor of the noise in each class of pixels: with the root of the brightness, and with the scatter of the
        integration, `relative_scatter`.
    noise : ndarray of float32, shape (ny, nx)
        Steady noise; infinite where it is unknown, so that nothing is flagged there.
    errors : ndarray of float64, shape (n_int, n_terms)
        Of ``coefficients``.
    margin : ndarray of float32, shape (n_int,)
        Factor of the threshold, since the median of the window is known no better than its samples allow.
    """

    template: Template
    coefficients: NDArray[np.float64]
    stretch: NDArray[np.float32]
    noise: NDArray[np.float32]
    errors: NDArray[np.float64]
    margin: NDArray[np.float32]


def judged(plan: OutlierPlan, template: Template, fit: TemplateFit) -> OutlierPlan:
    """
    Return a plan that compares integrations with the template.

    Parameters
    ----------
    plan : OutlierPlan
        From `prepare`.
    template : Template
        Of the exposure.
    fit : TemplateFit
        Of all its integrations.

    Returns
    -------
    plan : OutlierPlan

    Notes
    -----
    Of normal noise, a sample is as often beyond snr sqrt(1 + 1/n) sigma from the median of a window of n samples, its
    own among them, as beyond snr sigma from the truth: the median has a variance of pi/2 sigma^2/n, and a sample that
    is far off has moved it by 1.25 sigma/n. Without the margin 2.5 (n = 13) or 1.7 (n = 25) times as many samples
    would be flagged at 5 sigma.
    """
    brightness = np.sqrt(np.maximum(fit.coefficients[:, :1], 1.0))
    n_pixels = np.bincount(template.level.ravel()[template.pixels], minlength=N_LEVELS)
    stretch = brightness * relative_scatter(fit.scales, n_pixels)
    noise = np.where(np.isfinite(template.noise), template.noise, np.float32(np.inf))
    margin = np.sqrt(1.0 + 1.0 / np.maximum(plan.hi - plan.lo, 1)).astype(np.float32)
    judge = TemplateJudge(template, fit.coefficients, stretch.astype(np.float32), noise, fit.errors, margin)
    return replace(plan, judge=judge)


def relative_scatter(scales: NDArray[np.float64], n_pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """
    Return by which factor the noise of each integration differs from what is usual in the exposure.

    Images that were learned from a sample fit its integrations better, the more so the more these weigh in them, and
    the others worse: few percent of the noise, which multiply the false flags at 5 sigma by e for each 4 %.

    Parameters
    ----------
    scales : ndarray of float64, shape (n_int, n_levels)
        Robust scatter of the residuals over the noise, in classes of pixels.
    n_pixels : ndarray of int, shape (n_levels,)
        Pixels of the fit in each class.

    Returns
    -------
    factor : ndarray of float64, shape (n_int, n_levels)
        In all classes of an integration the mean over them, as far as integrations differ by more than scatter that is
        known from so many pixels does by itself (empirical Bayes), and not below 1: in an integration that is fitted
        too well, what is left is not its own noise. In a class that exceeds what is usual by more than `_SURE` of its
        errors, or `_NOTICED`, its own.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.steps.outlier_detection import relative_scatter
    >>> relative_scatter(np.array([[1.0], [1.02], [0.99], [1.5]]), np.array([400])).round(2).ravel().tolist()
    [1.0, 1.0, 1.0, 1.49]
    """
    usual = np.median(scales, axis=0)
    excess = scales / np.where(usual > 0.0, usual, 1.0)
    noticed = 1.0 + np.minimum(_SURE * _MAD_ERROR / np.sqrt(np.maximum(n_pixels, 1)), _NOTICED)
    far = np.minimum(excess, noticed) @ (n_pixels / max(n_pixels.sum(), 1))
    far -= np.median(far)
    error = _MAD_ERROR / np.sqrt(max(n_pixels.sum(), 1))
    real = max(float((1.4826 * np.median(np.abs(far))) ** 2) - error**2, 0.0)
    common = 1.0 + np.maximum(far, 0.0) * real / (real + error**2)
    return np.where(excess > noticed, excess, common[:, np.newaxis])


@dataclass(frozen=True)
class OutlierPlan:
    """
    What outlier detection needs to know about an exposure, once.

    Attributes
    ----------
    parameters : OutlierDetection
        The step's parameters.
    lo, hi : ndarray of int64, shape (n_int,)
        Window of each integration as a half-open range of exposure indices.
    static : ndarray of bool, shape (n_int,)
        True where the window is the whole span, so that one median serves all.
    bad_bits : int
        DQ bits that keep a sample out of the medians.
    judge : TemplateJudge or None
        With ``method = template``: what the integrations should look like; the windows then hold what is left of them.
    series : tuple of (int, ClippedSeries)
        With ``method = sigma_clip`` where the window is the whole span: first integration of each such span, and what
        clipping leaves of its pixels.
    """

    parameters: OutlierDetection
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    static: NDArray[np.bool_]
    bad_bits: int
    judge: TemplateJudge | None = None
    series: tuple[tuple[int, ClippedSeries], ...] = ()

    @property
    def beside(self) -> BesideRule | None:
        """When a sample that touches an outlier is one; None: when any other sample is."""
        alone, around = self.parameters.snr_beside, self.parameters.snr_around
        if self.parameters.method == "sigma_clip" or (alone is None and around is None):
            return None
        return BesideRule.of(alone, around)

    @property
    def whole_series(self) -> bool:
        """Whether samples are compared with the whole series of their pixel, clipped (`clipped`)."""
        return self.parameters.method == "sigma_clip" and bool(self.static.any())


def _bad_bits(good_bits: str | int | None) -> int:
    """Return the DQ bits that make a sample bad; astropy, whose import takes 0.5 s, only reads what is not one name."""
    flags = pixel_flags()
    if isinstance(good_bits, str) and good_bits.strip().removeprefix("~") in flags and good_bits.strip()[0] == "~":
        return flags[good_bits.strip()[1:]]
    from astropy.nddata.bitmask import interpret_bit_flags

    try:
        good = interpret_bit_flags(good_bits, flag_name_map=dict(flags))
    except (KeyError, ValueError, TypeError) as error:
        raise ParameterError(
            f"'{good_bits}' names no DQ bits ({error}); give names as 'SATURATED+JUMP_DET', '~DO_NOT_USE', or a number",
            "outlier_detection.good_bits",
        ) from error
    return 0 if good is None else int(np.uint32(~np.int64(good) & 0xFFFFFFFF))


def shortened_bits() -> int:
    """Return the DQ bits of samples whose ramps lost groups: their noise is larger than that of their pixel."""
    flags = pixel_flags()
    return flags["JUMP_DET"] | flags["SATURATED"]


def prepare(exposure: Exposure, parameters: OutlierDetection) -> OutlierPlan:
    """
    Return the windows and bits with which an exposure's outliers are found.

    Parameters
    ----------
    exposure : Exposure
        Only its segment borders are read.
    parameters : OutlierDetection
        The step's parameters.

    Returns
    -------
    plan : OutlierPlan
        The same for every block.

    Raises
    ------
    ParameterError
        If ``good_bits`` names no known bit.
    """
    spans = [(0, exposure.n_int)] if parameters.span == "exposure" else list(exposure.segment_bounds)
    lo = np.empty(exposure.n_int, np.int64)
    hi = np.empty(exposure.n_int, np.int64)
    for first, last in spans:
        span_lo, span_hi = window_bounds(last - first, parameters.rolling_window_width, parameters.edges)
        lo[first:last] = span_lo + first
        hi[first:last] = span_hi + first
    static = np.empty(exposure.n_int, np.bool_)
    width = parameters.rolling_window_width
    for first, last in spans:
        static[first:last] = not 1 < width < last - first
    return OutlierPlan(parameters, lo, hi, static, _bad_bits(parameters.good_bits))


def reach(plan: OutlierPlan, start: int, stop: int) -> tuple[int, int]:
    """
    Return the range of integrations that the windows of ``start`` to ``stop`` need.

    Parameters
    ----------
    plan : OutlierPlan
        The exposure's plan.
    start, stop : int
        Half-open range of exposure indices.

    Returns
    -------
    first, last : int
        Half-open range that contains them and all their windows.
    """
    if plan.parameters.method == "sigma_clip" and plan.static[start]:
        return start, stop
    first = min(start, int(plan.lo[start:stop].min()))
    last = max(stop, int(plan.hi[start:stop].max()))
    return first, last


def left_out(plan: OutlierPlan, start: int) -> LeftOut:
    """
    Return which samples take part in no median, for a block that begins at an integration.

    Parameters
    ----------
    plan : OutlierPlan
        The exposure's plan.
    start : int
        Exposure index.

    Returns
    -------
    rule : LeftOut
        As the presets differ: a static median of the archive leaves out NaN alone, its rolling one no bad ERR.
    """
    if plan.parameters.method == "sigma_clip":
        return LeftOut(plan.bad_bits, all_bad=True)
    if plan.static[start] and not plan.parameters.static_masked:
        return LeftOut(0, all_bad=False)
    return LeftOut(plan.bad_bits, all_bad=plan.parameters.nan_policy != "propagate")


def run(
    plan: OutlierPlan,
    stack: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]],
    first: int,
    start: int,
    stop: int,
    rows: slice | None = None,
    shortened: NDArray[np.int64] | None = None,
) -> OutlierResult:
    """
    Return the outliers of the integrations ``start`` to ``stop``.

    Parameters
    ----------
    plan : OutlierPlan
        The exposure's plan.
    stack : tuple of ndarray, shape (n_stack, n_rows, nx)
        Values, errors, and which samples take part in no median (`left_out`), of the integrations from ``first`` on,
        the neighbours that `reach` names included. Not modified, but for values and errors where the plan has a
        template: they are then its residuals and their noise.
    first : int
        Exposure index of the first integration in ``stack``.
    start, stop : int
        Half-open range of exposure indices to be judged.
    rows : slice, optional
        Rows of the frame that the stack holds; by default all.
    shortened : ndarray of int64, shape (n,), optional
        Samples of the flattened stack that lost groups of their ramps (`shortened_bits`): where the plan has a
        template, their noise is their own error if that is larger than the steady one.

    Returns
    -------
    result : OutlierResult
        Flags of these integrations, and what they were compared with.
    """
    data, err, no_part = stack
    tile = slice(None) if rows is None else rows
    parameters = plan.parameters
    if parameters.method == "sigma_clip":
        return _by_scatter(plan, data, no_part, (first, start, stop), tile)
    if plan.judge is not None:
        _to_residuals(plan.judge, data, err, first, tile, shortened)
    static = bool(plan.static[start])
    propagate = parameters.nan_policy == "propagate"
    result = flag_outliers(
        data,
        err,
        no_part,
        plan.lo[first : first + len(data)] - first,
        plan.hi[first : first + len(data)] - first,
        snr=parameters.snr,
        maxiters=parameters.maxiters,
        nan_policy="skip" if static else parameters.nan_policy,
        min_valid=1 if propagate else parameters.min_valid,
        flag_masked=propagate,
        start=start - first,
        stop=stop - first,
        keep_median=parameters.save_intermediate_results,
        grades=plan.beside is not None,
    )
    if plan.judge is not None and result.median is not None:
        subtract_terms(plan.judge.template.images[:, tile], -plan.judge.coefficients[start:stop], result.median)
    return result


def _by_scatter(
    plan: OutlierPlan,
    data: NDArray[np.float32],
    no_part: NDArray[np.bool_],
    span: tuple[int, int, int],
    tile: slice,
) -> OutlierResult:
    """Return the outliers of a run of integrations by the scatter of each pixel; ``span`` is first, start, stop."""
    first, start, stop = span
    parameters = plan.parameters
    if plan.static[start]:
        own = slice(start - first, stop - first)
        whole = next(series for begin, series in reversed(plan.series) if begin <= start)
        part = ClippedSeries(whole.centre[tile], whole.scatter[tile])
        return flag_far(
            data[own], no_part[own], part, snr=parameters.snr, keep_median=parameters.save_intermediate_results
        )
    return flag_by_scatter(
        data,
        no_part,
        plan.lo[first : first + len(data)] - first,
        plan.hi[first : first + len(data)] - first,
        snr=parameters.snr,
        maxiters=parameters.maxiters,
        min_valid=parameters.min_valid,
        start=start - first,
        stop=stop - first,
        keep_median=parameters.save_intermediate_results,
    )


def _to_residuals(
    judge: TemplateJudge,
    data: NDArray[np.float32],
    err: NDArray[np.float32],
    first: int,
    tile: slice,
    shortened: NDArray[np.int64] | None,
) -> None:
    """Replace rows of integrations by what the template leaves of them, and their errors by the steady noise."""
    here = slice(first, first + len(data))
    own = None if shortened is None else err.reshape(-1)[shortened]
    subtract_terms(judge.template.images[:, tile], judge.coefficients[here], data)
    margin = judge.margin[here]
    noise_of_integrations(judge.noise[tile], judge.template.level[tile], judge.stretch[here] * margin[:, None], err)
    if own is not None and shortened is not None:
        flat = err.reshape(-1)
        flat[shortened] = np.fmax(flat[shortened], own * margin[shortened // err[0].size])
