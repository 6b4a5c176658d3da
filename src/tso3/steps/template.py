"""
The template of an exposure: made from the survey's sample, then fitted to every integration before the stream begins.

See `tso3.core.template` for what it is. Fitting it reads the rows that carry the light once; nothing but the template's
images and a few numbers per integration is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.learning import component_images, components, noise_image, robust_scatter
from tso3.core.sensitivity import column_calibration
from tso3.core.template import (
    Template,
    TemplateFit,
    fit_terms,
    levels,
    subtract_terms,
    weigh_terms,
)
from tso3.core.terms import chosen_pixels, steady_terms
from tso3.io.convert import pick_pixels
from tso3.io.exposure import Exposure
from tso3.io.reader import Reader, reference_pixels
from tso3.steps.sample import Sample

__all__ = ["build", "fit"]

_CHUNK_BYTES = 8 * 2**20
_RAW_BYTES = 12
_PLANES = ("SCI", "ERR", "DQ")


def build(
    exposure: Exposure,
    sample: Sample,
    reference: NDArray[np.float64],
    propagated: NDArray[np.float32],
    poisson: NDArray[np.float32] | None = None,
) -> Template | None:
    """
    Return the template of an exposure.

    Parameters
    ----------
    exposure : Exposure
        Tells where the dispersion runs.
    sample : Sample
        Its integrations that are looked at.
    reference : ndarray, shape (ny, nx)
        Median image of the sample; NaN where unknown.
    propagated : ndarray of float32, shape (ny, nx)
        Median of the errors of the sample.
    poisson : ndarray of float32, shape (ny, nx), optional
        Typical Poisson variance, which tells the unit of the images for an electron; by default it is the same for all
        pixels.

    Returns
    -------
    template : Template or None
        None if no pixel has a known value and error, so that there is nothing to fit to.
    """
    turned = exposure.dispersion_axis == 2
    spectrum = exposure.dispersion_axis != 0
    lying = reference.T if turned else reference
    calibration = None
    if spectrum and poisson is not None:
        noise_of_median = propagated * np.float32(1.2533 / np.sqrt(max(sample.n, 1)))
        planes = (plane.T if turned else plane for plane in (poisson, noise_of_median))
        calibration = column_calibration(lying, *planes)
    blind = reference_pixels(exposure, 0).all(axis=1 if turned else 0) if spectrum else None
    names, images = steady_terms(lying, spectrum=spectrum, calibration=calibration, blind=blind)
    images = np.ascontiguousarray(images.transpose(0, 2, 1)) if turned else images
    noise = np.where(np.isfinite(reference) & (propagated > 0.0), propagated, np.nan).astype(np.float32)
    pixels = chosen_pixels(images, noise)
    if pixels.size < 4 * len(names):
        return None
    first = Template(names, images, noise, levels(np.nan_to_num(reference / noise)), pixels, calibration)
    found = _learn(first, sample, along_rows=spectrum and not turned)
    noise = _observed_noise(found, sample)
    learned = tuple(f"learned_{k + 1}" for k in range(found.weights.shape[1]))
    level = levels(np.nan_to_num(reference / noise))
    return Template((*names, *learned), found.images, noise, level, pixels, calibration)


class _Learned:
    """Terms with the learned ones, at the pixels of the fit and later everywhere, and what they are made with."""

    def __init__(
        self,
        template: Template,
        plain: TemplateFit,
        weights: NDArray[np.float64],
        whole: TemplateFit,
        along_rows: bool,
    ) -> None:
        self.along_rows = along_rows
        self.template = template
        self.plain = plain
        self.weights = weights
        self.whole = whole
        n_terms = len(template.images)
        self.images = np.zeros((n_terms + weights.shape[1], *template.noise.shape), np.float32)
        self.images[:n_terms] = template.images


def _learn(template: Template, sample: Sample, along_rows: bool) -> _Learned:
    """Fit the steady terms to the sample, learn components from the residuals, and fit all together."""
    data = sample.at(template.pixels)
    noise = template.noise.ravel()[template.pixels]
    terms = template.terms_at_pixels

    def fit_all(terms: NDArray[np.floating], keep_residual: bool) -> TemplateFit:
        weighed = weigh_terms(terms, noise)
        return _joined(sample.map_integrations(lambda part: fit_terms(weighed, data[part], keep_residual)))

    plain = fit_all(terms, True)
    weights = components(plain.residual)
    if weights.shape[1] == 0:
        return _Learned(template, plain, weights, plain, along_rows)
    learned = component_images(plain.residual, weights, noise.size if along_rows else None) * noise
    return _Learned(template, plain, weights, fit_all(np.concatenate([terms, learned]), False), along_rows)


def _joined(parts: Sequence[TemplateFit]) -> TemplateFit:
    """Return fits of consecutive integrations as one."""
    return TemplateFit(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _observed_noise(found: _Learned, sample: Sample) -> NDArray[np.float32]:
    """Fill the images of the learned components, where light is; return the noise with which the sample scatters."""
    template = found.template
    n_terms = len(template.images)
    observed = np.full(template.noise.shape, np.nan)
    plain, whole = _known(found.plain.coefficients), _known(found.whole.coefficients)
    lit = template.rows

    def look(rows: slice) -> None:
        data = sample.data(rows)
        part = slice(max(rows.start, lit.start), min(rows.stop, lit.stop))
        if found.weights.shape[1] and part.start < part.stop:
            residual = data[:, part.start - rows.start : part.stop - rows.start].copy()
            noise = template.noise[part]
            subtract_terms(template.images[:, part], plain, residual)
            residual /= noise
            row = noise.shape[1] if found.along_rows else None
            learned = component_images(residual.reshape(sample.n, -1), found.weights, row)
            learned = np.where(np.isfinite(noise), learned.reshape(-1, *noise.shape) * noise, 0.0)
            found.images[n_terms:, part] = learned
        subtract_terms(found.images[:, rows], whole, data)
        observed[rows] = robust_scatter(data)

    sample.map(look, slice(0, len(observed)))
    return noise_image(template.noise, observed, sample.n, found.weights.shape[1])


def _known(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coefficients; where an integration could not be fitted, those of the reference image itself."""
    fitted = np.isfinite(coefficients).all(axis=1, keepdims=True)
    plain = np.zeros(coefficients.shape[1])
    plain[0] = 1.0
    return np.where(fitted, coefficients, plain)


def fit(
    template: Template,
    exposure: Exposure,
    reader: Reader,
    workers: int = 1,
    integrations: tuple[int, int] | None = None,
) -> TemplateFit:
    """
    Fit the template to the integrations of an exposure.

    Parameters
    ----------
    template : Template
        From `build`. Pixels that the user calls bad are not among those of the fit, for their noise is unknown.
    exposure : Exposure
        What it is fitted to.
    reader : Reader
        Of this exposure.
    workers : int, optional
        Threads.
    integrations : (int, int), optional
        Half-open range of those that are fitted; all by default.

    Returns
    -------
    fit : TemplateFit
        Of these integrations, without residuals; an integration that could not be fitted has a brightness of 1 and
        nothing else.
    """
    rows = template.rows
    per_integration = (rows.stop - rows.start) * exposure.nx * _RAW_BYTES
    step = max(1, _CHUNK_BYTES // per_integration)
    terms = weigh_terms(template.terms_at_pixels, template.noise.ravel()[template.pixels])
    inside = template.pixels - rows.start * exposure.nx
    first, last = (0, exposure.n_int) if integrations is None else integrations
    top_bit = exposure.segments[0].planes["DQ"].top_bit
    own = threading.local()

    def fit_chunk(start: int) -> TemplateFit:
        if not hasattr(own, "raw"):
            own.raw = reader.buffers(step, _PLANES, rows)
        stop = min(start + step, last)
        raw = reader.read(start, stop, _PLANES, rows, out=own.raw)
        data = np.empty((stop - start, inside.size), np.float32)
        pick_pixels(raw, inside, data, top_bit=top_bit)
        return fit_terms(terms, data)

    with ThreadPoolExecutor(workers, thread_name_prefix="tso3") as pool:
        whole = _joined(list(pool.map(fit_chunk, range(first, last, step))))
    return replace(whole, coefficients=_known(whole.coefficients))
