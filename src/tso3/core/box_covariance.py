"""What the covariance of rectified pixels does to the error of their sum."""

from __future__ import annotations

import numpy as np

from tso3.core.rectify import Rectifier

__all__ = ["aperture_factor", "covariance_factor"]

_COVERED = 0.9
"""Part of every pixel of a square that input pixels must cover."""


def covariance_factor(rectifier: Rectifier, rows: slice) -> float:
    """
    Return by how much covariance changes the error of a sum over a box of rectified pixels.

    Neighbours share input pixels, so the error of their sum is not the root of the sum of their variances.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    rows : slice
        Rows of the grid that are summed; the factor is the median over the columns.

    Returns
    -------
    factor : float
        By which the root of the summed variances is to be multiplied; for input pixels of equal, independent noise.
        NaN where no column is covered.

    Notes
    -----
    The sum over a box is linear in the input: sum_j S_j = sum_i (sum_j a_ji / W_j) s_i, so its variance is
    sum_i (sum_j a_ji / W_j)^2 v_i, which is compared with sum_j V_j of (3).

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box_covariance import covariance_factor
    >>> from tso3.core.rectify import Corners, make_rectifier
    >>> y, x = np.indices((10, 4)) - 0.5
    >>> round(covariance_factor(make_rectifier(Corners(x, y + 0.5), (8, 3)), slice(1, 8)), 3)
    1.363
    """
    n_columns = rectifier.shape[1]
    size = rectifier.input_shape[0] * rectifier.input_shape[1]
    columns = np.arange(0, n_columns, max(1, n_columns // 64))
    pixels, shares = [], []
    for row in range(*rows.indices(rectifier.shape[0])):
        part = slice(int(rectifier.first[row]), int(rectifier.first[row + 1]))
        nominal = rectifier.nominal[row, columns].astype(np.float64)
        factor = np.divide(1.0, nominal, out=np.zeros_like(nominal), where=nominal > 0.0)
        pixels.append(rectifier.index[part].reshape(-1, n_columns)[:, columns] + size * np.arange(columns.size))
        shares.append(rectifier.value[part].reshape(-1, n_columns)[:, columns] * factor)
    share = np.concatenate(shares)
    separate = (share**2).sum(axis=0)
    unique, place = np.unique(np.concatenate(pixels), return_inverse=True)
    together = np.bincount(unique // size, np.bincount(place.ravel(), share.ravel()) ** 2, columns.size)
    covered = separate > 0.0
    return float(np.median(np.sqrt(together[covered] / separate[covered]))) if covered.any() else float("nan")


def aperture_factor(rectifier: Rectifier, size: int, n_places: int = 7) -> float:
    """
    Return by how much covariance changes the error of a sum over a square of rectified pixels.

    Parameters
    ----------
    rectifier : Rectifier
        The overlaps.
    size : int
        Rows and columns of the square.
    n_places : int, optional
        The factor is the median over this number of places along each axis, evenly spread over the grid.

    Returns
    -------
    factor : float
        By which the root of the summed variances is to be multiplied, see `covariance_factor`. NaN where no square is
        wholly covered.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.box_covariance import aperture_factor
    >>> from tso3.core.rectify import Corners, make_rectifier
    >>> y, x = np.indices((10, 10)) - 0.5
    >>> round(aperture_factor(make_rectifier(Corners(x + 0.5, y + 0.5), (9, 9)), 5), 3)
    1.8
    """
    n_rows, n_columns = rectifier.shape
    factors = []
    for row in np.unique(np.linspace(0, n_rows - size, n_places).astype(int)):
        for column in np.unique(np.linspace(0, n_columns - size, n_places).astype(int)):
            if row < 0 or column < 0:
                continue
            inside = slice(int(column), int(column) + size)
            nominal = rectifier.nominal[row : row + size, inside].astype(np.float64)
            if nominal.min() < _COVERED:
                continue
            indices, shares = [], []
            for k in range(size):
                part = slice(int(rectifier.first[row + k]), int(rectifier.first[row + k + 1]))
                indices.append(rectifier.index[part].reshape(-1, n_columns)[:, inside].ravel())
                shares.append((rectifier.value[part].reshape(-1, n_columns)[:, inside] / nominal[k]).ravel())
            share = np.concatenate(shares)
            _, place = np.unique(np.concatenate(indices), return_inverse=True)
            whole = np.bincount(place.ravel(), share)
            factors.append(float(np.sqrt(whole @ whole / (share @ share))))
    return float(np.median(factors)) if factors else float("nan")
