"""The spatial profile of SOSS as a genuine frame shows it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from tso3.errors import InputError
from tso3.simulate.optics import WideSpread, make_interp_spline

__all__ = ["frame_spread"]

_COLUMNS = (1250, 1900)
"""Columns of SUBSTRIP256 where order 1 is bright, and order 2 far from it or faint."""
_ROWS = 110
"""Rows that hold order 1 there."""
_HALF = 17.0
_FADE = 3.0
_STEP = 0.1


@lru_cache(maxsize=2)
def frame_spread(path: str) -> WideSpread:
    """
    Return the profile across dispersion of order 1 in a median frame.

    The columns where order 1 is bright and alone are normalised, put on their centroids, and averaged in bins of a
    tenth of a pixel; the bins are smoothed over half a pixel. Beyond 17 pixels from the centre, where the frame shows
    its background more than the star, the profile fades.

    Parameters
    ----------
    path : str
        A .npy file, (256, 2048); NaN is left out.

    Returns
    -------
    profile : WideSpread
        Its centroid is at 0.

    Raises
    ------
    InputError
        If the file is no such frame.
    """
    try:
        frame = np.load(path).astype(float)
    except (OSError, ValueError) as error:
        raise InputError(f"no frame can be read ({error}); give a .npy file of 256 x 2048", Path(path)) from error
    if frame.shape != (256, 2048):
        raise InputError(f"a frame of {frame.shape}; give one of SUBSTRIP256, 256 x 2048", Path(path))
    offset, value = _about_centroids(frame[:_ROWS, slice(*_COLUMNS)])
    u = np.arange(-_HALF, _HALF + _STEP / 2, _STEP)
    index = np.rint((offset + _HALF) / _STEP).astype(int)
    inside = (index >= 0) & (index < len(u))
    total = np.bincount(index[inside], value[inside], len(u))
    count = np.bincount(index[inside], minlength=len(u))
    kernel = np.hanning(13)[1:-1]
    line = np.convolve(total, kernel, "same") / np.maximum(np.convolve(count, kernel, "same"), 1e-9)
    far = np.arange(-26.0, 26.0 + _STEP / 2, _STEP)
    fade = np.exp(-np.maximum(np.abs(far) - _HALF, 0.0) / _FADE)
    line = np.clip(np.interp(far, u, line), 0.0, None) * fade
    cumulative = np.concatenate([[0.0], np.cumsum((line[1:] + line[:-1]) / 2)])
    cumulative /= cumulative[-1]
    middle = np.sum(np.diff(cumulative) * (far[1:] + far[:-1]) / 2)
    return WideSpread(make_interp_spline(far - middle, cumulative, k=5))


def _about_centroids(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offset from the centroid [pixel] and share of the light of the pixels of columns."""
    rows = np.arange(len(part))[:, None]
    star = np.nan_to_num(part - np.nanpercentile(part, 15, axis=0))
    centre = np.argmax(np.apply_along_axis(lambda column: np.convolve(column, np.ones(21), "same"), 0, star), axis=0)
    centre = centre.astype(float)
    for _ in range(8):
        near = np.clip(star, 0, None) * (np.abs(rows - centre) <= _HALF)
        centre = (near * rows).sum(0) / near.sum(0)
    slope = np.polynomial.polynomial.Polynomial.fit(np.arange(part.shape[1]), centre, 3)
    offset = rows - slope(np.arange(part.shape[1]))
    share = star / (star * (np.abs(offset) <= _HALF)).sum(0)
    good = np.isfinite(part) & (np.abs(offset) <= _HALF + 1)
    return offset[good], share[good]
