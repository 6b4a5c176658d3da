"""
The step of a bounded nonlinear least-squares fit, compiled: a trust-region method that stays inside the bounds.

The method is the interior trust-region method of Branch, Coleman & Li (1999); the step inside the trust region is
found as in Moré (1978). A problem of few unknowns is known here by its normal equations alone: the gradient J'f and
the matrix J'J, which the caller adds up over its samples. All vectors are float64 arrays of length n.

References
----------
M. A. Branch, T. F. Coleman & Y. Li, "A subspace, interior, and conjugate gradient method for large-scale
bound-constrained minimization problems", SIAM J. Sci. Comput. 21, 1 (1999).
J. J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in Mathematics 630, 105
(1978).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "Space",
    "Tolerances",
    "best_step",
    "coleman_li",
    "into_radius",
    "make_space",
    "next_radius",
    "scale_problem",
]

Vector: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = NDArray[np.float64]

_RADIUS_ACCURACY = 0.01
_RADIUS_PASSES = 10
_SINGULAR = 1e-28
_SWEEPS = 30


class Tolerances(NamedTuple):
    """
    When a fit ends.

    Attributes
    ----------
    cost : float
        Relative reduction of the cost below which it ends.
    step : float
        Length of the step, relative to the length of the vector of unknowns, below which it ends.
    gradient : float
        Largest component of the gradient, scaled as in Coleman & Li, below which it ends. In the units of the
        problem: a fit of the same data in another unit ends elsewhere.
    evaluations : int
        Most evaluations of the cost.
    """

    cost: float
    step: float
    gradient: float
    evaluations: int


class Space(NamedTuple):
    """
    The problem around the present unknowns, and room to work in; made once by `make_space`.

    A scaled coordinate times ``d`` is a coordinate of the unknowns.

    Attributes
    ----------
    bounds : ndarray, shape (2, n)
        Lower and upper bounds of the unknowns.
    d, v, slope : ndarray, shape (n,)
        Scaling; distance to the bound that descent runs into, and its slope.
    gradient : ndarray, shape (n,)
        Of the quadratic model, scaled.
    matrix : ndarray, shape (n, n)
        Of the quadratic model, scaled.
    values, vectors : ndarray, shape (n,) and (n, n)
        Eigenvalues and eigenvectors (columns) of ``matrix``.
    step, trial, other, edge, c : ndarray, shape (n,)
        The step, scaled; the unknowns that it leads to; work space.
    """

    bounds: Matrix
    d: Vector
    v: Vector
    slope: Vector
    gradient: Vector
    matrix: Matrix
    values: Vector
    vectors: Matrix
    step: Vector
    trial: Vector
    other: Vector
    edge: Vector
    c: Vector


def make_space(n: int) -> Space:
    """
    Return room for a problem of ``n`` unknowns, without bounds.

    Parameters
    ----------
    n : int
        Number of unknowns.

    Returns
    -------
    space : Space
        To be filled by the other functions of this module; one thread at a time.

    Examples
    --------
    >>> from tso3.core.trust_region import make_space
    >>> make_space(3).matrix.shape
    (3, 3)
    """
    bounds = np.array([np.full(n, -np.inf), np.full(n, np.inf)])
    vectors = [np.empty(n) for _ in range(10)]
    d, v, slope, gradient, values, step, trial, other, edge, c = vectors
    return Space(bounds, d, v, slope, gradient, np.empty((n, n)), values, np.empty((n, n)), step, trial, other, edge, c)


@njit(cache=True, nogil=True, error_model="numpy")
def scale_problem(x: Vector, gradient: Vector, matrix: Matrix, space: Space) -> float:
    """
    Fill the scaled model and its eigenvalues from the normal equations; return the largest scaled gradient.

    The scaling is the distance to the bound that descent runs into, else 1 (Branch, Coleman & Li, Eq. 2.2).
    """
    steepest = coleman_li(x, gradient, space)
    n = x.size
    for k in range(n):
        space.d[k] = np.sqrt(space.v[k])
        space.gradient[k] = space.d[k] * gradient[k]
    for j in range(n):
        for k in range(n):
            space.matrix[j, k] = space.d[j] * space.d[k] * matrix[j, k]
        space.matrix[j, j] += gradient[j] * space.slope[j]
    for j in range(n):
        for k in range(n):
            matrix[j, k] = space.matrix[j, k]
    eigen_symmetric(matrix, space.values, space.vectors)
    return steepest


@njit(cache=True, nogil=True, error_model="numpy")
def coleman_li(x: Vector, gradient: Vector, space: Space) -> float:
    """Fill the distances to the bounds that descent runs into and their slopes; return the largest scaled gradient."""
    steepest = 0.0
    for k in range(x.size):
        space.v[k], space.slope[k] = 1.0, 0.0
        if gradient[k] < 0.0 and np.isfinite(space.bounds[1, k]):
            space.v[k], space.slope[k] = space.bounds[1, k] - x[k], -1.0
        elif gradient[k] > 0.0 and np.isfinite(space.bounds[0, k]):
            space.v[k], space.slope[k] = x[k] - space.bounds[0, k], 1.0
        steepest = max(steepest, abs(gradient[k] * space.v[k]))
    return steepest


@njit(cache=True, nogil=True, error_model="numpy")
def eigen_symmetric(matrix: Matrix, values: Vector, vectors: Matrix) -> None:
    """Fill eigenvalues and eigenvectors (columns) of a small symmetric matrix, which is overwritten (Jacobi)."""
    n = values.size
    for i in range(n):
        for j in range(n):
            vectors[i, j] = 1.0 if i == j else 0.0
    for _ in range(_SWEEPS):
        turned = False
        for p in range(n - 1):
            for q in range(p + 1, n):
                off = matrix[p, q]
                if off * off <= 1e-32 * abs(matrix[p, p] * matrix[q, q]) or off == 0.0:
                    continue
                turned = True
                half = (matrix[q, q] - matrix[p, p]) / (2.0 * off)
                t = 1.0 / (abs(half) + np.sqrt(half * half + 1.0))
                if half < 0.0:
                    t = -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(n):
                    a, b = matrix[k, p], matrix[k, q]
                    matrix[k, p], matrix[k, q] = c * a - s * b, s * a + c * b
                for k in range(n):
                    a, b = matrix[p, k], matrix[q, k]
                    matrix[p, k], matrix[q, k] = c * a - s * b, s * a + c * b
                for k in range(n):
                    a, b = vectors[k, p], vectors[k, q]
                    vectors[k, p], vectors[k, q] = c * a - s * b, s * a + c * b
                matrix[p, q] = matrix[q, p] = 0.0
        if not turned:
            break
    for k in range(n):
        values[k] = max(matrix[k, k], 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _excess(c: Vector, values: Vector, alpha: float, radius: float) -> tuple[float, float]:
    """Return how much longer than the radius the step damped by ``alpha`` is, and the derivative (Moré Eq. 5.4)."""
    length = 0.0
    cube = 0.0
    for k in range(c.size):
        denominator = values[k] + alpha
        length += (c[k] / denominator) ** 2
        cube += c[k] ** 2 / denominator**3
    length = np.sqrt(length)
    return length - radius, -cube / length


@njit(cache=True, nogil=True, error_model="numpy")
def _restart(alpha_low: float, alpha_high: float) -> float:
    """Return a damping between its limits (Moré, Algorithm 5.5 a)."""
    return max(0.001 * alpha_high, np.sqrt(alpha_low * alpha_high))


@njit(cache=True, nogil=True, error_model="numpy")
def into_radius(space: Space, radius: float, alpha: float) -> float:
    """Fill the step that minimises the model within the radius; return its damping, ``alpha`` being a first guess."""
    n = space.step.size
    c, values = space.c, space.values
    largest, smallest, steepness = 0.0, np.inf, 0.0
    for k in range(n):
        c[k] = 0.0
        for i in range(n):
            c[k] += space.vectors[i, k] * space.gradient[i]
        largest, smallest = max(largest, values[k]), min(smallest, values[k])
        steepness += c[k] ** 2
    full_rank = smallest > _SINGULAR * largest
    high = np.sqrt(steepness) / radius
    low = 0.0
    if full_rank:
        excess, derivative = _excess(c, values, 0.0, radius)
        if excess <= 0.0:
            _combine(space, 0.0)
            return 0.0
        low = -excess / derivative
    if not full_rank and alpha == 0.0:
        alpha = _restart(low, high)
    for _ in range(_RADIUS_PASSES):
        if alpha < low or alpha > high:
            alpha = _restart(low, high)
        excess, derivative = _excess(c, values, alpha, radius)
        if excess < 0.0:
            high = alpha
        newton = excess / derivative
        low = max(low, alpha - newton)
        alpha -= (excess + radius) * newton / radius
        if abs(excess) < _RADIUS_ACCURACY * radius:
            break
    length = _combine(space, alpha)
    for k in range(n):
        space.step[k] *= radius / length
    return alpha


@njit(cache=True, nogil=True, error_model="numpy")
def _combine(space: Space, alpha: float) -> float:
    """Fill the step from its components along the eigenvectors; return its length."""
    length = 0.0
    for i in range(space.step.size):
        total = 0.0
        for k in range(space.step.size):
            total -= space.vectors[i, k] * space.c[k] / (space.values[k] + alpha)
        space.step[i] = total
        length += total * total
    return np.sqrt(length)


@njit(cache=True, nogil=True, error_model="numpy")
def _way(x: Vector, step: Vector, space: Space, k: int) -> float:
    """Return by which factor a step is to be multiplied for its component ``k`` to end on a bound."""
    way = space.d[k] * step[k]
    return max((space.bounds[0, k] - x[k]) / way, (space.bounds[1, k] - x[k]) / way)


@njit(cache=True, nogil=True, error_model="numpy")
def _to_bound(x: Vector, step: Vector, space: Space) -> float:
    """Return by which factor a step is to be multiplied to end on the nearest bound."""
    nearest = np.inf
    for k in range(x.size):
        if step[k] != 0.0:
            nearest = min(nearest, _way(x, step, space, k))
    return nearest


@njit(cache=True, nogil=True, error_model="numpy")
def _along(space: Space, start: Vector, direction: Vector, factor: float) -> tuple[float, float, float]:
    """Return (a, b, c) of the model a t^2 + b t + c along ``factor start + t direction``."""
    a = b = c = 0.0
    for i in range(direction.size):
        product_start = product_direction = 0.0
        for j in range(direction.size):
            product_start += space.matrix[i, j] * start[j]
            product_direction += space.matrix[i, j] * direction[j]
        a += 0.5 * direction[i] * product_direction
        b += space.gradient[i] * direction[i] + factor * start[i] * product_direction
        c += factor * (space.gradient[i] * start[i] + 0.5 * factor * start[i] * product_start)
    return a, b, c


@njit(cache=True, nogil=True, error_model="numpy")
def _lowest(a: float, b: float, c: float, low: float, high: float) -> tuple[float, float]:
    """Return where a parabola is lowest between two limits, and its value there."""
    t, value = low, low * (a * low + b) + c
    other = high * (a * high + b) + c
    if other < value:
        t, value = high, other
    if a != 0.0 and low < -0.5 * b / a < high:
        middle = -0.5 * b / a
        other = middle * (a * middle + b) + c
        if other < value:
            t, value = middle, other
    return t, value


@njit(cache=True, nogil=True, error_model="numpy")
def best_step(x: Vector, space: Space, radius: float, back: float) -> float:
    """
    Replace a step that leaves the bounds by the best of three that do not; return the reduction that it promises.

    The three are the step cut short, the step reflected at the bound, and steepest descent (Branch, Coleman & Li,
    section 3). ``back`` is the share of the way to a bound that is taken.
    """
    n = x.size
    step, other, edge = space.step, space.other, space.edge
    a, b, _ = _along(space, step, step, 0.0)
    cut = _to_bound(x, step, space)
    if cut >= 1.0:
        return -(a + b)
    for k in range(n):
        hit = step[k] != 0.0 and _way(x, step, space, k) == cut
        other[k] = -step[k] if hit else step[k]
    for k in range(n):
        step[k] *= cut
        edge[k] = x[k] + space.d[k] * step[k]
    t, other_value = _reflection(space, radius, back, cut)
    for k in range(n):
        other[k] = step[k] + t * other[k]
        step[k] *= back
    a, b, _ = _along(space, step, step, 0.0)
    value = a + b
    if other_value < value:
        value = other_value
        for k in range(n):
            step[k] = other[k]
    length = 0.0
    for k in range(n):
        other[k] = -space.gradient[k]
        length += other[k] ** 2
    t = radius / np.sqrt(length)
    to_bound = _to_bound(x, other, space)
    if to_bound < t:
        t = back * to_bound
    a, b, c = _along(space, other, other, 0.0)
    t, other_value = _lowest(a, b, c, 0.0, t)
    if other_value <= value:
        value = other_value
        for k in range(n):
            step[k] = t * other[k]
    return -value


@njit(cache=True, nogil=True, error_model="numpy")
def _reflection(space: Space, radius: float, back: float, cut: float) -> tuple[float, float]:
    """Return how far to go along the reflected step from the bound, and the model there (inf if it cannot be gone)."""
    start, direction = space.step, space.other
    quadratic, linear, free = 0.0, 0.0, -radius * radius
    for k in range(start.size):
        quadratic += direction[k] * direction[k]
        linear += start[k] * direction[k]
        free += start[k] * start[k]
    root = np.sqrt(max(linear * linear - quadratic * free, 0.0))
    to_radius = (-linear + root) / quadratic if linear <= 0.0 else -free / (linear + root)
    to_bound = _to_bound(space.edge, direction, space)
    stride = min(to_bound, to_radius)
    if stride <= 0.0:
        return 0.0, np.inf
    low = (1.0 - back) * cut / stride
    high = back * to_bound if stride == to_bound else to_radius
    if low > high:
        return 0.0, np.inf
    a, b, c = _along(space, start, direction, 1.0)
    return _lowest(a, b, c, low, high)


@njit(cache=True, nogil=True, error_model="numpy")
def next_radius(radius: float, actual: float, promised: float, length: float) -> tuple[float, float]:
    """Return the radius for the next step, and the ratio of actual to promised reduction."""
    if promised > 0.0:
        ratio = actual / promised
    elif promised == 0.0 and actual == 0.0:
        ratio = 1.0
    else:
        ratio = 0.0
    if ratio < 0.25:
        return 0.25 * length, ratio
    if ratio > 0.75 and length > 0.95 * radius:
        return 2.0 * radius, ratio
    return radius, ratio
