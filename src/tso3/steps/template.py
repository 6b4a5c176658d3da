"""
The template of an exposure: made from the survey's sample, then fitted to every integration before the stream begins.

See `tso3.core.template` for what it is. Making it reads the sample twice more, fitting it reads the rows that carry the
light once; nothing but the template's images and a few numbers per integration is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tso3.core.learning import component_images, components, noise_image
from tso3.core.template import (
    Template,
    TemplateFit,
    chosen_pixels,
    fit_terms,
    levels,
    steady_terms,
    subtract_terms,
)
from tso3.io.convert import convert_frames
from tso3.io.exposure import Exposure
from tso3.io.reader import Reader

__all__ = ["Sample", "build", "fit"]

_CHUNK_BYTES = 32 * 2**20
_BYTES_PER_SAMPLE = 30


class Sample(NamedTuple):
    """Rows of the sampled integrations, shape (n_sample, n_rows, nx)."""

    data: NDArray[np.float32]
    mask: NDArray[np.bool_]
    err: NDArray[np.float32]


ReadSample = Callable[[slice], Sample]
"""Reads rows of the sample."""


def build(
    exposure: Exposure, read: ReadSample, reference: NDArray[np.float64], propagated: NDArray[np.float32], n_sample: int
) -> Template | None:
    """
    Return the template of an exposure.

    Parameters
    ----------
    exposure : Exposure
        Tells where the dispersion runs.
    read : callable
        Reads rows of the sample.
    reference : ndarray, shape (ny, nx)
        Median image of the sample; NaN where unknown.
    propagated : ndarray of float32, shape (ny, nx)
        Median of the errors of the sample.
    n_sample : int
        Integrations in the sample.

    Returns
    -------
    template : Template or None
        None if no pixel has a known value and error, so that there is nothing to fit to.
    """
    turned = exposure.dispersion_axis == 2
    names, images = steady_terms(reference.T if turned else reference, spectrum=exposure.dispersion_axis != 0)
    images = np.ascontiguousarray(images.transpose(0, 2, 1)) if turned else images
    noise = np.where(np.isfinite(reference) & (propagated > 0.0), propagated, np.nan).astype(np.float32)
    pixels = chosen_pixels(images, noise)
    if pixels.size < 4 * len(names):
        return None
    first = Template(names, images, noise, levels(np.nan_to_num(reference / noise)), pixels)
    found = _learn(first, *_sampled(first, read, n_sample))
    noise = _observed_noise(found, read, n_sample)
    learned = tuple(f"learned_{k + 1}" for k in range(found.weights.shape[1]))
    level = levels(np.nan_to_num(reference / noise))
    return Template((*names, *learned), found.images, noise, level, pixels)


class _Learned:
    """Terms with the learned ones, at the pixels of the fit and later everywhere, and what they are made with."""

    def __init__(
        self, template: Template, plain: TemplateFit, weights: NDArray[np.float64], whole: TemplateFit
    ) -> None:
        self.template = template
        self.plain = plain
        self.weights = weights
        self.whole = whole
        n_terms = len(template.images)
        self.images = np.empty((n_terms + weights.shape[1], *template.noise.shape), np.float32)
        self.images[:n_terms] = template.images
        self.images[n_terms:] = 0.0


def _sampled(template: Template, read: ReadSample, n_sample: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return data and mask of the sample at the pixels of the fit, shape (n_sample, n_pixels)."""
    nx = template.noise.shape[1]
    data = np.empty((n_sample, template.pixels.size), np.float32)
    mask = np.empty(data.shape, np.bool_)
    for tile in _tiles(template.rows, n_sample * nx):
        low, high = np.searchsorted(template.pixels, (tile.start * nx, tile.stop * nx))
        inside = template.pixels[low:high] - tile.start * nx
        tile_data, tile_mask, _ = read(tile)
        data[:, low:high] = tile_data.reshape(n_sample, -1)[:, inside]
        mask[:, low:high] = tile_mask.reshape(n_sample, -1)[:, inside]
    return data, mask


def _learn(template: Template, data: NDArray[np.float32], mask: NDArray[np.bool_]) -> _Learned:
    """Fit the steady terms to the sample, learn components from the residuals, and fit all together."""
    noise = template.noise.ravel()[template.pixels]
    terms = template.terms_at_pixels
    plain = fit_terms(terms, noise, data, mask, keep_residual=True)
    weights = components(plain.residual)
    if weights.shape[1] == 0:
        return _Learned(template, plain, weights, plain)
    learned = component_images(plain.residual, weights) * noise
    return _Learned(template, plain, weights, fit_terms(np.concatenate([terms, learned]), noise, data, mask))


def _observed_noise(found: _Learned, read: ReadSample, n_sample: int) -> NDArray[np.float32]:
    """Fill the images of the learned components; return the noise with which the sample scatters about the fit."""
    template = found.template
    ny, nx = template.noise.shape
    n_terms = len(template.images)
    observed = np.full((ny, nx), np.nan)
    for tile in _tiles(slice(0, ny), n_sample * nx):
        data, mask, _ = read(tile)
        data[mask] = np.nan
        noise = template.noise[tile]
        if found.weights.shape[1]:
            residual = data.copy()
            subtract_terms(template.images[:, tile], _known(found.plain.coefficients), residual)
            learned = component_images((residual / noise).reshape(n_sample, -1), found.weights)
            learned = np.where(np.isfinite(noise), learned.reshape(-1, *noise.shape) * noise, 0.0)
            found.images[n_terms:, tile] = learned
        subtract_terms(found.images[:, tile], _known(found.whole.coefficients), data)
        observed[tile] = _robust_scatter(data)
    return noise_image(template.noise, observed, n_sample, found.weights.shape[1])


def _robust_scatter(data: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 1.4826 times the median absolute deviation over the first axis; NaN where nothing is valid."""
    good = np.isfinite(data)
    known = good.any(axis=0)
    scatter = np.full(data.shape[1:], np.nan)
    values = np.where(good[:, known], data[:, known], np.nan)
    centre = np.nanmedian(values, axis=0)
    scatter[known] = 1.4826 * np.nanmedian(np.abs(values - centre), axis=0)
    return scatter


def _known(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coefficients; where an integration could not be fitted, those of the reference image itself."""
    fitted = np.isfinite(coefficients).all(axis=1, keepdims=True)
    plain = np.zeros(coefficients.shape[1])
    plain[0] = 1.0
    return np.where(fitted, coefficients, plain)


def _tiles(rows: slice, samples_per_row: int) -> list[slice]:
    """Return pieces of a range of rows."""
    step = max(1, _CHUNK_BYTES // (samples_per_row * _BYTES_PER_SAMPLE))
    return [slice(low, min(low + step, rows.stop)) for low in range(rows.start, rows.stop, step)]


def fit(
    template: Template,
    exposure: Exposure,
    reader: Reader,
    bad_pixels: NDArray[np.bool_] | None = None,
    workers: int = 1,
    integrations: tuple[int, int] | None = None,
) -> TemplateFit:
    """
    Fit the template to every integration of an exposure, each by itself.

    Parameters
    ----------
    template : Template
        From `build`.
    exposure : Exposure
        What it is fitted to.
    reader : Reader
        Of this exposure.
    bad_pixels : ndarray of bool, shape (ny, nx), optional
        Pixels that the user calls bad.
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
    nx = exposure.nx
    per_integration = (rows.stop - rows.start) * nx * _BYTES_PER_SAMPLE
    step = max(1, _CHUNK_BYTES // per_integration)
    first, last = (0, exposure.n_int) if integrations is None else integrations
    terms, noise = template.terms_at_pixels, template.noise.ravel()[template.pixels]
    inside = template.pixels - rows.start * nx
    top_bit = exposure.segments[0].planes["DQ"].top_bit

    def fit_chunk(start: int) -> TemplateFit:
        stop = min(start + step, last)
        shape = (stop - start, rows.stop - rows.start, nx)
        raw = reader.read(start, stop, ("SCI", "ERR", "DQ"), rows)
        data, err, dq, mask = (np.empty(shape, kind) for kind in (np.float32, np.float32, np.uint32, np.bool_))
        convert_frames(raw, data, err, dq, mask, top_bit=top_bit)
        if bad_pixels is not None:
            mask |= bad_pixels[rows]
        picked = (plane.reshape(len(plane), -1)[:, inside] for plane in (data, mask))
        return fit_terms(terms, noise, *picked)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        parts = list(pool.map(fit_chunk, range(first, last, step)))
    whole = TemplateFit(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    return replace(whole, coefficients=_known(whole.coefficients))
