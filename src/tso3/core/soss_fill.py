"""What the archive does to images of SOSS before it sums them: missing samples filled in time, a clipped background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FilledSamples", "clipped_background", "fill_in_time"]

Floats = NDArray[np.floating]

_WINDOW = 9
_ERROR_FACTOR = np.float32(10.0)
_SIGMA = 3.0
_EXCLUDED_ROWS = 40
"""Rows of one order that count as light, of which there are two but on the short subarray."""


@dataclass(frozen=True)
class FilledSamples:
    """
    Samples that stand in for missing ones in a stack.

    Attributes
    ----------
    integration, pixel : ndarray of int64, shape (n,)
        Where: index in the stack, index in the flattened image. By integration, then pixel.
    value, error : ndarray of float32, shape (n,)
        What.
    never : ndarray of bool, shape of an image
        True where no integration has a valid sample: these stay missing.
    """

    integration: NDArray[np.int64]
    pixel: NDArray[np.int64]
    value: NDArray[np.float32]
    error: NDArray[np.float32]
    never: NDArray[np.bool_]


def fill_in_time(data: NDArray[np.float32], err: NDArray[np.float32]) -> FilledSamples:
    """
    Return what missing samples are replaced by: the running median in time.

    Parameters
    ----------
    data, err : ndarray of float32, shape (n_int, ny, nx)
        A whole segment; NaN marks missing samples. Not modified.

    Returns
    -------
    filled : FilledSamples
        The median over 9 integrations (all, if there are fewer), in which missing samples count with the median of the
        whole stack; the error is ten times the median error. At the ends the stack is reflected.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_fill import fill_in_time
    >>> data = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    >>> data[2] = np.nan
    >>> filled = fill_in_time(data, np.ones_like(data))
    >>> filled.integration, filled.value, filled.error
    (array([2]), array([2.], dtype=float32), array([10.], dtype=float32))
    """
    n_int, shape = data.shape[0], data.shape[1:]
    flat, flat_err = data.reshape(n_int, -1), err.reshape(n_int, -1)
    missing = ~np.isfinite(flat)
    missing |= ~np.isfinite(flat_err)
    n_missing = missing.sum(axis=0)
    never = n_missing == n_int
    pixels = np.flatnonzero((n_missing > 0) & ~never)
    stack, errors, lacking = flat[:, pixels], flat_err[:, pixels], missing[:, pixels]
    unknown = ~np.isfinite(stack)
    whole = np.where(unknown, _middle(np.where(unknown, np.nan, stack)), stack)
    error = _middle(errors)
    integration, column = np.nonzero(lacking)
    value = stack[integration, column]
    lost = unknown[integration, column]
    value[lost] = _running_median(whole, integration[lost], column[lost])
    return FilledSamples(
        integration.astype(np.int64),
        pixels[column].astype(np.int64),
        value,
        error[column] * _ERROR_FACTOR,
        never.reshape(shape),
    )


def _middle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of every column, NaN left out; NaN where there is nothing else."""
    ordered = np.sort(values, axis=0)  # NaN last
    n = len(values) - np.isnan(values).sum(axis=0)
    columns = np.arange(values.shape[1])
    upper = ordered[np.minimum(n // 2, len(values) - 1), columns]
    lower = ordered[np.maximum(n - 1, 0) // 2, columns]
    return np.where(n > 0, (lower + upper) / np.float32(2.0), np.float32(np.nan))


def _running_median(
    whole: NDArray[np.float32], integration: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the median in time about some samples; the stack is reflected at its ends."""
    n_int = len(whole)
    size = min(n_int, _WINDOW)
    at = integration[:, np.newaxis] + np.arange(size) - size // 2
    at = np.where(at < 0, -1 - at, np.where(at >= n_int, 2 * n_int - 1 - at, at))
    return np.asarray(np.partition(whole[at, column[:, np.newaxis]], size // 2, axis=1)[:, size // 2])


def clipped_background(image: NDArray[np.float32], masked: NDArray[np.bool_]) -> NDArray[np.float32]:
    """
    Return the background of every column: the clipped mean of what is not among the brightest pixels of the image.

    Parameters
    ----------
    image : ndarray of float32, shape (n_rows, n_columns)
        One integration; NaN counts as bright. Not modified.
    masked : ndarray of bool, shape (n_rows, n_columns)
        True where pixels are left out.

    Returns
    -------
    level : ndarray of float32, shape (n_columns,)
        0 where no pixel is left.

    Raises
    ------
    ValueError
        If the image has other than 96 or 256 rows: it is not known how much of it is light then.

    Notes
    -----
    The brightest pixels are those of 40 rows of 96, or 80 of 256. Clipped at 3 standard deviations about the mean until
    nothing changes.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.core.soss_fill import clipped_background
    >>> image = np.ones((96, 2), np.float32)
    >>> image[:40] = 100.0
    >>> clipped_background(image, np.zeros(image.shape, bool))
    array([1., 1.], dtype=float32)
    """
    n_rows = image.shape[0]
    if n_rows not in (96, 256):
        raise ValueError(f"{n_rows} rows; the clipped background is made for 96 or 256")
    orders = 1 if n_rows == 96 else 2
    threshold = np.nanpercentile(image, 100 * (1 - orders * _EXCLUDED_ROWS / n_rows))
    with np.errstate(invalid="ignore"):
        kept = ~(masked | (image > threshold) | ~np.isfinite(image))
    values = image.astype(np.float64)
    while True:
        count = np.maximum(kept.sum(axis=0), 1)
        mean = np.where(kept, values, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(kept, values - mean, 0.0) ** 2).sum(axis=0) / count)
        with np.errstate(invalid="ignore"):
            inside = kept & (values >= mean - _SIGMA * spread) & (values <= mean + _SIGMA * spread)
        if np.array_equal(inside, kept):
            break
        kept = inside
    total = np.where(kept, image, np.float32(0.0)).sum(axis=0, dtype=np.float32)
    n = kept.sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), 0.0).astype(np.float32)
