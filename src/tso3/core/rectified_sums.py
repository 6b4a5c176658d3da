"""Weighted sums of rectified pixels, as sums of the pixels that they were made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.model import ExposureModel
from tso3.core.rectify import Rectifier

__all__ = ["column_factors", "group_factors", "input_weights", "rows_of", "typical_variance"]

Floats = NDArray[np.float64]


def rows_of(rectifier: Rectifier, rows: slice) -> Rectifier:
    """
    Return the part of the overlaps that makes some rows of the grid; nothing is copied.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    rows : slice
        Rows of its grid.

    Returns
    -------
    part : Rectifier
    """
    low, high, _ = rows.indices(rectifier.shape[0])
    first = rectifier.first[low : high + 1]
    inside = slice(int(first[0]), int(first[-1]))
    weight, value = rectifier.weight[inside], rectifier.value[inside]
    return replace(
        rectifier,
        shape=(high - low, rectifier.shape[1]),
        first=first - first[0],
        index=rectifier.index[inside],
        weight=weight,
        value=weight if rectifier.value is rectifier.weight else value,
        nominal=rectifier.nominal[low:high],
    )


def _shares(rectifier: Rectifier, row: int, weights: NDArray[np.floating]) -> tuple[NDArray[np.int32], Floats]:
    """Return input pixels, and what they count in each column of a row, shape (n_overlaps, n_columns)."""
    part = slice(int(rectifier.first[row]), int(rectifier.first[row + 1]))
    nominal = rectifier.nominal[row].astype(np.float64)
    factor = np.where(nominal > 0.0, weights / np.where(nominal > 0.0, nominal, 1.0), 0.0)
    n_columns = rectifier.shape[1]
    value = rectifier.value[part].reshape(-1, n_columns).astype(np.float64)
    return rectifier.index[part].reshape(-1, n_columns), np.asarray(value * factor)


def input_weights(rectifier: Rectifier, weights: NDArray[np.floating]) -> Floats:
    """
    Return what each input pixel counts in a weighted sum of rectified pixels, if none is bad.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    weights : ndarray, shape (n_rows, n_columns)
        Of the pixels of the grid.

    Returns
    -------
    weights : ndarray of float64, shape (ny, nx)
        Of pixel i, sum_j w_j a_ji / W_j.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectified_sums import input_weights
    >>> from tso3.core.rectify import Corners, make_rectifier
    >>> y, x = np.indices((2, 4)) - 0.5
    >>> input_weights(make_rectifier(Corners(x + 0.25, y), (1, 4)), np.array([[0.0, 1.0, 1.0, 0.0]])).tolist()
    [[0.25, 1.0, 0.75]]
    """
    size = rectifier.input_shape[0] * rectifier.input_shape[1]
    total = np.zeros(size)
    for row in np.flatnonzero(np.any(weights != 0.0, axis=1)):
        index, share = _shares(rectifier, int(row), weights[row])
        total += np.bincount(index.ravel(), share.ravel(), minlength=size)
    return total.reshape(rectifier.input_shape)


def column_factors(rectifier: Rectifier, weights: NDArray[np.floating], variance: NDArray[np.floating]) -> Floats:
    """
    Return by how much covariance changes the error of the weighted sum of each column.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    weights : ndarray, shape (n_rows, n_columns)
        Of the pixels of the grid.
    variance : ndarray, shape (ny, nx)
        Typical variance of the input pixels; finite.

    Returns
    -------
    factors : ndarray of float64, shape (n_columns,)
        By which the root of the summed, weighted variances is to be multiplied; 1 where nothing is covered. See
        `tso3.core.box_covariance.covariance_factor`.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectified_sums import column_factors
    >>> from tso3.core.rectify import Corners, make_rectifier
    >>> y, x = np.indices((10, 4)) - 0.5
    >>> shifted, box = make_rectifier(Corners(x, y + 0.5), (8, 3)), np.zeros((8, 3))
    >>> box[1:] = 1.0
    >>> column_factors(shifted, box, np.ones((9, 3))).round(3).tolist()
    [1.363, 1.363, 1.363]
    """
    size = rectifier.input_shape[0] * rectifier.input_shape[1]
    n_columns = rectifier.shape[1]
    flat = np.asarray(variance, np.float64).ravel()
    columns = np.arange(n_columns, dtype=np.int64)
    keys, shares, separate = [], [], np.zeros(n_columns)
    for row in np.flatnonzero(np.any(weights != 0.0, axis=1)):
        index, share = _shares(rectifier, int(row), weights[row])
        separate += (share**2 * flat[index]).sum(axis=0)
        keys.append((columns * size + index).ravel())
        shares.append(share.ravel())
    if not keys:
        return np.ones(n_columns)
    pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.bincount(place.ravel(), np.concatenate(shares))
    whole = np.bincount(pairs // size, sums**2 * flat[pairs % size], minlength=n_columns)
    return np.asarray(np.sqrt(np.where(separate > 0.0, whole / np.where(separate > 0.0, separate, 1.0), 1.0)))


def group_factors(
    rectifier: Rectifier,
    weights: NDArray[np.floating],
    variance: NDArray[np.floating],
    group: NDArray[np.int64],
    n_group: int,
) -> Floats:
    """
    Return by how much covariance of columns changes the variance of weighted sums over groups of them.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    weights : ndarray, shape (n_rows, n_columns)
        Of the pixels of the grid in the sum of their group.
    variance : ndarray, shape (ny, nx)
        Typical variance of the input pixels; finite.
    group : ndarray of int64, shape (n_columns,)
        Group of a column; -1 for none.
    n_group : int
        Number of groups.

    Returns
    -------
    factors : ndarray of float64, shape (n_group,)
        By which the sum of the variances of the columns (each with the covariance of its own pixels) is to be
        multiplied; 1 where nothing is covered.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.rectified_sums import group_factors
    >>> from tso3.core.rectify import Corners, make_rectifier
    >>> y, x = np.indices((2, 9)) - 0.5
    >>> shifted = make_rectifier(Corners(x - 0.5, y), (1, 7))
    >>> group = np.array([0, 0, 0, 0, 0, 0, 1])
    >>> group_factors(shifted, np.ones((1, 7)), np.ones((1, 8)), group, 2).round(3).tolist()
    [1.833, 1.0]
    """
    size = rectifier.input_shape[0] * rectifier.input_shape[1]
    n_columns = rectifier.shape[1]
    root = np.sqrt(np.asarray(variance, np.float64).ravel())
    pixels, columns, shares = [], [], []
    for row in np.flatnonzero(np.any(weights != 0.0, axis=1)):
        index, share = _shares(rectifier, int(row), weights[row])
        pixels.append(index.ravel())
        columns.append(np.broadcast_to(np.arange(n_columns), index.shape).ravel())
        shares.append((share * root[index]).ravel())
    if not pixels:
        return np.ones(n_group)
    pixel, column, counts = np.concatenate(pixels), np.concatenate(columns), np.concatenate(shares)
    used = (counts != 0.0) & (group[column] >= 0)
    pixel, column, counts = pixel[used].astype(np.int64), column[used], counts[used]
    totals = []
    for label, count in ((column, n_columns), (group[column], n_group)):
        pairs, place = np.unique(label * size + pixel, return_inverse=True)
        totals.append(np.bincount(pairs // size, np.bincount(place.ravel(), counts) ** 2, minlength=count))
    single = np.bincount(group[group >= 0], totals[0][group >= 0], minlength=n_group)
    return np.asarray(np.where(single > 0.0, totals[1] / np.where(single > 0.0, single, 1.0), 1.0))


def typical_variance(model: ExposureModel | None, rectifier: Rectifier) -> Floats:
    """
    Return typical variances of the pixels of the detector.

    Parameters
    ----------
    model : ExposureModel or None
        From the survey.
    rectifier : Rectifier
        Names the shape.

    Returns
    -------
    variance : ndarray of float64, shape (ny, nx)
        Everywhere known: the median where the noise is not; 1 without a survey.
    """
    if model is None or model.noise is None:
        return np.ones(rectifier.input_shape)
    variance = model.noise.astype(np.float64) ** 2
    known = np.isfinite(variance)
    return np.where(known, variance, np.median(variance[known]) if known.any() else 1.0)
