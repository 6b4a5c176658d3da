"""
What star and telescope did in every integration, in physical units, from the coefficients of the template's fit.

The fit (`tso3.core.template`) tells every integration as a sum of images. Here that sum is told again by fewer images
with a meaning: the star, its colour, the background, a motion along each axis, and the width. The prediction of the fit
is projected onto them, with the weights of the fit, so that components learned from the residuals do not keep what
belongs to a motion.

Two things make a coefficient a motion in pixels. The image that a motion adds is not just the difference of neighbours
that the fit has as its term: what moves together with it among the learned components and the colour of the motion
belongs to it (`responses`). And its size is known from the first moment: however coarsely a star is sampled, motion by
one pixel moves the first moment of its light by one pixel (`_by_moments`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.star_window import StarWindow, fine_derivative, star_window
from tso3.core.template import Template, TemplateFit
from tso3.core.terms import moved_along

__all__ = ["Covariates", "covariates", "responses"]

Array = NDArray[np.float64]

_SHIFTS = ("shift_y", "shift_x")
_SIGNIFICANT = 4.0
_DETECTED = 4.0
"""Variance of a motion over that of its error from which components are searched for what moves with it."""
_CLEAR = 0.25
"""Square of the noise of a learned component over that of the motion's term up to which it may follow the motion."""
_BRIGHT = 0.1
"""Background over the mean of the star in its window from which it has a shape of its own: below, it is its wings."""
_DEPENDENT = 1e-9


@dataclass(frozen=True)
class Covariates:
    """
    What star and telescope did, integration by integration; NaN where an integration could not be fitted.

    Attributes
    ----------
    values : dict of str to ndarray of float64, shape (n_int,)
        ``brightness`` relative to the reference image; ``background`` in its unit, of spectra the mean over the
        columns; ``shift_x``, ``shift_y`` relative to it along the axes of the detector, positive towards larger
        indices [pixel]; ``width`` across dispersion, for images ``width_x`` and ``width_y``, as relative change.
    errors : dict of str to ndarray of float64, shape (n_int,)
        Their 1-sigma errors, by the same names; NaN, with its value, for what the image cannot tell.
    """

    values: dict[str, Array]
    errors: dict[str, Array]


@dataclass(frozen=True)
class _Sight:
    """A template as this module looks at it: terms over the noise at the pixels of the fit, and their products."""

    template: Template
    window: StarWindow
    noise: Array
    unit: Array
    inverse: Array

    @classmethod
    def of(cls, template: Template, window: StarWindow) -> _Sight:
        """Return the sight of a template."""
        noise = template.noise.ravel()[template.pixels].astype(np.float64)
        unit = template.terms_at_pixels.astype(np.float64) / noise
        return cls(template, window, noise, unit, _inverse(unit @ unit.T))

    @property
    def is_spectrum(self) -> bool:
        """Whether the star has a colour."""
        return "colour_1" in self.template.names

    def at_pixels(self, image: Array) -> Array:
        """Return an image that lies as the window does over the noise, at the pixels of the fit."""
        return (image.T if self.window.turned else image).ravel()[self.template.pixels] / self.noise

    def image(self, weights: Array) -> Array:
        """Return a sum of terms as the window lies; what was learned of a star, in the window only."""
        total = np.zeros(self.window.image.shape)
        for name, weight, term in zip(self.template.names, weights, self.template.images, strict=True):
            if weight != 0.0:
                placed = self.window.placed(term)
                cut = _is_learned(name) and not self.is_spectrum
                total += weight * (np.where(self.window.inside, placed, 0.0) if cut else placed)
        return total

    @property
    def along(self) -> Array:
        """Position of the pixels of the fit along dispersion, from -1 to 1."""
        ny, nx = self.template.noise.shape
        n, index = (ny, self.template.pixels // nx) if self.window.turned else (nx, self.template.pixels % nx)
        return np.linspace(-1.0, 1.0, n)[index]

    def summed(self, weights: Array) -> Array:
        """Return what `image` does, over the noise at the pixels of the fit."""
        if self.is_spectrum:
            return weights @ self.unit
        learned = np.array([_is_learned(name) for name in self.template.names])
        inside = self.window.inside.ravel()[self.template.pixels]
        return np.where(learned, 0.0, weights) @ self.unit + (np.where(learned, weights, 0.0) @ self.unit) * inside

    def clear(self, name: str, weights: Array) -> Array:
        """Return the weights of a response; of images those of learned components only where their noise is small."""
        window, names = self.window, self.template.names
        if self.is_spectrum:
            return weights
        seen = window.inside & (window.weight > 0.0)
        moved = window.placed(self.template.images[names.index(name)]) * window.weight
        most = _CLEAR * float((moved[seen] ** 2).sum()) / np.count_nonzero(seen)
        noisy = np.array([_is_learned(term) for term in names]) & (weights**2 > most)
        return np.where(noisy, 0.0, weights)

    def fitted(self, values: Array) -> Array:
        """Return the coefficients with which the terms fit an image over the noise, at the pixels of the fit."""
        return self.inverse @ (self.unit @ values)


@dataclass(frozen=True)
class _Basis:
    """
    Images with a meaning.

    ``project``, shape (n_names, n_terms), turns coefficients of the terms into those of the images; ``covariance`` is
    that of the results; ``known`` tells which of them the pixels determine.
    """

    names: tuple[str, ...]
    project: Array
    covariance: Array
    known: NDArray[np.bool_]


def covariates(template: Template, fit: TemplateFit, *, turned: bool = False) -> Covariates:
    """
    Return what star and telescope did in every integration.

    Parameters
    ----------
    template : Template
        Of the exposure.
    fit : TemplateFit
        Of all its integrations. An integration whose errors are NaN is unknown.
    turned : bool, optional
        Whether dispersion runs along y: the terms are named as if it ran along x.

    Returns
    -------
    found : Covariates

    Notes
    -----
    With the coefficients c of the fit, its normal matrix N, and the images with a meaning as columns of K in the space
    of the terms, what is told is (K^T N K)^-1 K^T N c, and its covariance (K^T N K)^-1; the error of an integration is
    that, times its error of the term over the median of all integrations. The shift is its coefficient over the
    brightness and the size of the response. The error of a motion along dispersion also holds what its correlation by
    chance with that across dispersion may take from it.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.covariates import covariates
    >>> from tso3.core.template import Template, fit_terms, levels, weigh_terms
    >>> from tso3.core.terms import steady_terms
    >>> y, x = np.mgrid[0:25, 0:25]
    >>> star = lambda at: 1e4 * np.exp(-0.5 * ((y - 12) ** 2 + (x - at) ** 2) / 3.0)
    >>> names, images = steady_terms(star(12.0), spectrum=False)
    >>> noise, pixels = np.ones((25, 25), np.float32), np.arange(625)
    >>> template = Template(names, images, noise, levels(images[0]), pixels)
    >>> data = np.float32([0.99 * star(12.01).ravel()])
    >>> found = covariates(template, fit_terms(weigh_terms(template.terms_at_pixels, np.ones(625)), data)).values
    >>> round(float(found["brightness"][0]), 4), round(float(found["shift_x"][0]), 4)
    (0.99, 0.01)
    """
    window = star_window(template, turned=turned)
    sight = _Sight.of(template, window)
    answers = {name: sight.clear(name, weights) for name, weights in responses(template, fit).items()}
    basis = _basis(sight, answers)
    told = dict(zip(basis.names, basis.project @ fit.coefficients.T, strict=True))
    errors = dict(zip(basis.names, np.sqrt(basis.covariance.diagonal()), strict=True))
    star, star_error = _sum(basis, told, _light(sight, basis, answers))
    level = float(window.background.mean())
    sky, sky_error = _sum(basis, told, {"background": 1.0, "background_shape": level})
    if "background_shape" not in basis.names and sight.is_spectrum:
        sky = sky + level
    values = {"brightness": star, "background": sky}
    sizes: dict[str, Any] = {"brightness": star_error, "background": sky_error}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in answers:
            size = _response_size(sight, basis, name, answers[name]) * star
            error = errors[name]
            if name == "shift_x" and sight.is_spectrum:
                error = np.hypot(error, _chance(told["shift_y"], told["shift_x"]))
            values[name], sizes[name] = told[name] / size, error / size
        for name in [name for name in ("width_y", "width_x") if name in basis.names]:
            term = template.images[template.names.index(name)]
            size = window.squared_width(term, int(name == "width_x")) * star
            values[name], sizes[name] = told[name] / size, errors[name] / size
    unknown = ~np.isfinite(fit.errors).all(axis=1)
    relative = _relative_errors(fit, template.names)
    for name in values:
        lost = unknown | ~basis.known[basis.names.index(name)]
        sizes[name] = np.where(lost, np.nan, np.abs(sizes[name]) * relative[name])
        values[name] = np.where(np.isfinite(sizes[name]), values[name], np.nan)
    called = _detector_names(sight.is_spectrum, turned)
    return Covariates(
        {called.get(name, name): value for name, value in values.items()},
        {called.get(name, name): value for name, value in sizes.items()},
    )


def responses(template: Template, fit: TemplateFit) -> dict[str, Array]:
    """
    Return how the terms answer together to a motion along each axis.

    Parameters
    ----------
    template : Template
        Of the exposure.
    fit : TemplateFit
        Of all its integrations.

    Returns
    -------
    weights : dict of str to ndarray of float64, shape (n_terms,)
        For ``shift_y`` and ``shift_x``: 1 for that term itself; for the learned components, and the colour of the
        motion across dispersion, by how much their coefficients follow the term's, where that is significant (4
        standard deviations) and the motion is (variance at least 4 times that of its error); 0 for all others. Of
        spectra, ``shift_x`` may follow ``shift_y`` as well, and nothing follows ``shift_x``.

    Notes
    -----
    Multiple linear regression of the coefficients on brightness and both motions; the covariance of the errors of the
    fit is subtracted from that of the coefficients before. How ``shift_x`` follows ``shift_y`` is multiplied by
    ``1 - (deviation / slope)^2``, or 0 if that is negative: two true motions are never quite uncorrelated, and what is
    taken for a response to one is lost to the other.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.covariates import responses
    >>> from tso3.core.template import Template, TemplateFit
    >>> names = ("brightness", "shift_y", "shift_x", "learned_1")
    >>> images = np.eye(4, 20, dtype=np.float32).reshape(4, 4, 5)
    >>> template = Template(names, images, np.ones((4, 5), np.float32), np.zeros((4, 5), np.uint8), np.arange(20))
    >>> moved = np.random.default_rng(0).normal(size=(40, 4)) * [0.0, 9.0, 9.0, 0.1] + [1, 0, 0, 0]
    >>> moved[:, 3] += 0.5 * moved[:, 1]
    >>> fit = TemplateFit(moved, np.ones((40, 4)), np.ones((40, 6)), np.empty((0, 20), np.float32))
    >>> responses(template, fit)["shift_y"].round(1).tolist()
    [0.0, 1.0, 0.0, 0.5]
    """
    names = template.names
    answers = {name: (np.array(names) == name).astype(np.float64) for name in _SHIFTS if name in names}
    known = np.isfinite(fit.errors).all(axis=1)
    follow = [k for k, name in enumerate(names) if _is_learned(name) or name == "shift_y_colour"]
    if "colour_1" in names and "shift_x" in names:
        follow.append(names.index("shift_x"))
    leading = ("brightness", "shift_y") if "colour_1" in names else ("brightness", *answers)
    lead = [names.index(name) for name in leading]
    n = int(known.sum())
    if n < 2 * len(lead) + 2 or not follow:
        return answers
    noise = template.noise.ravel()[template.pixels]
    unit = template.terms_at_pixels.astype(np.float64) / noise
    error = _inverse(unit @ unit.T)
    c = fit.coefficients[known]
    c = c - c.mean(axis=0)
    total = c.T @ c / (n - 1)
    signal = total - error
    moving = [k for k in lead if total[k, k] > _DETECTED * error[k, k]]
    if not moving:
        return answers
    slopes = np.linalg.lstsq(signal[np.ix_(moving, moving)], signal[np.ix_(moving, follow)], rcond=1e-10)[0]
    left = c[:, follow] - c[:, moving] @ slopes
    spread = np.linalg.pinv(total[np.ix_(moving, moving)], hermitian=True).diagonal()
    deviation = np.sqrt(np.outer(spread, left.var(axis=0)) / (n - len(moving) - 1))
    trust = (np.abs(slopes) > _SIGNIFICANT * deviation).astype(np.float64)
    other = np.array([names[k] == "shift_x" for k in follow])
    with np.errstate(divide="ignore", invalid="ignore"):
        shrunk = np.maximum(1.0 - (deviation / slopes) ** 2, 0.0)
    slopes = np.nan_to_num(np.where(other, shrunk, trust)) * slopes
    for row, k in zip(slopes, moving, strict=True):
        if names[k] in answers:
            answers[names[k]][follow] = row
    return answers


def _basis(sight: _Sight, answers: dict[str, Array]) -> _Basis:
    """Return the images with a meaning: star, colours, background, motions with what follows them, and widths."""
    template, window = sight.template, sight.window
    sky = sight.at_pixels(window.background)
    star = sight.unit[0] - sky
    images: dict[str, Array] = {"brightness": star, "background": 1.0 / sight.noise}
    if sight.is_spectrum and window.background.mean() > _BRIGHT * window.star[window.inside].mean():
        images["background_shape"] = sky
    for name, term in zip(template.names, sight.unit, strict=True):
        if name.startswith("colour_"):
            images[name] = star * sight.along ** int(name.removeprefix("colour_"))
        elif name.startswith("width_"):
            images[name] = term
        elif name == "shift_x" and sight.is_spectrum:
            images[name] = sight.at_pixels(_moved_along(sight))
        elif name in answers:
            images[name] = sight.summed(answers[name])
    values = np.stack(list(images.values()))
    normal = values @ values.T
    inverse = _inverse(normal)
    project = inverse @ (values @ sight.unit.T)
    known = (np.abs((inverse @ normal).diagonal() - 1.0) < 1e-3) & (normal.diagonal() > 0.0)
    return _Basis(tuple(images), project, project @ sight.inverse @ project.T, known)


def _moved_along(sight: _Sight) -> Array:
    """Return what a spectrum changes by when the star moves by one pixel along dispersion."""
    window = sight.window
    seen = np.asarray((window.weight > 0.0).any(axis=0), np.bool_)
    return moved_along(window.star, sight.template.calibration, seen)


def _is_learned(name: str) -> bool:
    return name.startswith("learned_")


def _inverse(normal: Array) -> Array:
    """Return the inverse of a normal matrix, in which what depends on other rows counts as unknown."""
    size = np.sqrt(np.maximum(normal.diagonal(), 1e-300))
    scaled: Array = np.linalg.pinv(normal / np.outer(size, size), rcond=_DEPENDENT, hermitian=True)
    return scaled / np.outer(size, size)


def _light(sight: _Sight, basis: _Basis, answers: dict[str, Array]) -> dict[str, float]:
    """
    Return by how much each image of the basis, in units of the reference image, adds to the light of the star.

    A motion across dispersion, and a change of width, leave the light in the window as it is; what their images add to
    it, made of differences of neighbours as they are, has been taken from the image of the star.
    """
    window = sight.window
    colours = [name for name in basis.names if name.startswith("colour_")]
    shares = dict(zip(("brightness", *colours), window.colour_shares(len(colours)).tolist(), strict=True))
    if not sight.is_spectrum:
        return shares
    seen = window.inside & (window.weight > 0.0)
    whole = float(window.star[seen].sum())
    for name in ("shift_y", "width_y"):
        if name in basis.names and whole > 0.0:
            weights = answers.get(name, (np.array(sight.template.names) == name).astype(np.float64))
            shares[name] = float(sight.image(weights)[seen].sum()) / whole
    return shares


def _sum(basis: _Basis, told: dict[str, Array], shares: dict[str, float]) -> tuple[Array, float]:
    """Return a sum of coefficients of the basis, and its error."""
    weights = np.array([shares.get(name, 0.0) for name in basis.names])
    total = np.sum([weight * told[name] for weight, name in zip(weights, basis.names, strict=True)], axis=0)
    return total, float(np.sqrt(weights @ basis.covariance @ weights))


def _response_size(sight: _Sight, basis: _Basis, name: str, weights: Array) -> float:
    """Return by how much the coefficient of a motion changes per pixel."""
    axis, window = _SHIFTS.index(name), sight.window
    k = basis.names.index(name)
    if sight.is_spectrum and axis == 1:
        moved = _moved_along(sight)
    elif any(_is_learned(term) for term, weight in zip(sight.template.names, weights, strict=True) if weight):
        alone = (np.array(sight.template.names) == name).astype(np.float64)
        return window.by_moments(sight.image(alone), sight.image(weights), axis)
    else:
        moved = -fine_derivative(window.star, axis)
    return float((basis.project @ sight.fitted(sight.at_pixels(moved)))[k])


def _chance(lead: Array, follow: Array) -> Array:
    """
    Return by how much a motion may be wrong because by chance it is correlated with the other in time.

    What follows the other motion is taken for its response: of two independent series of n, a slope of the ratio of
    their scatters over the root of n.
    """
    known = np.isfinite(lead) & np.isfinite(follow)
    scatter = float(lead[known].std()) if known.any() else 0.0
    if not scatter > 0.0:
        return np.zeros(lead.shape)
    slope = float(follow[known].std()) / scatter / np.sqrt(np.count_nonzero(known))
    return slope * np.abs(lead - lead[known].mean())


def _relative_errors(fit: TemplateFit, names: tuple[str, ...]) -> dict[str, Array]:
    """Return the errors of every integration over those of the median integration, by name of the term."""
    relative = {}
    for k, name in enumerate(names):
        known = fit.errors[:, k][np.isfinite(fit.errors[:, k])]
        usual = float(np.median(known)) if known.size else 0.0
        relative[name] = fit.errors[:, k] / usual if usual > 0.0 else np.full(len(fit.errors), np.nan)
    return relative


def _detector_names(is_spectrum: bool, turned: bool) -> dict[str, str]:
    """Return what is called otherwise on the detector."""
    called = {"shift_y": "shift_x", "shift_x": "shift_y"} if turned else {}
    return called | ({"width_y": "width"} if is_spectrum else {})
