"""
The survey pass: what is steady in an exposure, from a sample of integrations chosen by index alone.

Every block and every worker gets the same `ExposureModel`, so that results do not depend on how an exposure is cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.median import rolling_median
from tso3.core.model import ExposureModel
from tso3.io.convert import convert_frames
from tso3.io.exposure import Exposure
from tso3.io.reader import Reader
from tso3.parameters import Survey
from tso3.steps import template
from tso3.steps.template import Sample

__all__ = ["run", "sample_indices"]

_TILE_BYTES = 64 * 2**20
_BYTES_PER_SAMPLE = 26


def sample_indices(n_int: int, n_sample: int) -> NDArray[np.int64]:
    """
    Return which integrations a survey of ``n_sample`` looks at: spread evenly, all of them if there are no more.

    Parameters
    ----------
    n_int : int
        Integrations of the exposure.
    n_sample : int
        Integrations wanted.

    Returns
    -------
    indices : ndarray of int64, shape (min(n_int, n_sample),)
        Increasing, each once.

    Examples
    --------
    >>> from tso3.steps.survey import sample_indices
    >>> sample_indices(10, 4).tolist()
    [1, 3, 6, 8]
    >>> sample_indices(3, 128).tolist()
    [0, 1, 2]
    """
    n = min(n_int, n_sample)
    return (2 * np.arange(n, dtype=np.int64) + 1) * n_int // max(2 * n, 1)


def run(
    exposure: Exposure,
    reader: Reader,
    parameters: Survey,
    bad_pixels: NDArray[np.bool_] | None = None,
    with_template: bool = False,
) -> ExposureModel | None:
    """
    Return the exposure model, or None where the parameters ask for no survey.

    Parameters
    ----------
    exposure : Exposure
        What is surveyed.
    reader : Reader
        Of this exposure.
    parameters : Survey
        The step's parameters.
    bad_pixels : ndarray of bool, shape (ny, nx), optional
        Pixels that the user calls bad.
    with_template : bool, optional
        Make the template as well, which reads the sample twice more.

    Returns
    -------
    model : ExposureModel or None
        Reference image (median of the sample), steady bad pixels, and the template if asked for.

    Notes
    -----
    Frames are read in tiles of rows, so that memory does not depend on the size of a frame.
    """
    if parameters.n_sample == 0:
        return None
    sample = sample_indices(exposure.n_int, parameters.n_sample)
    rows = max(1, _TILE_BYTES // (len(sample) * exposure.nx * _BYTES_PER_SAMPLE))
    reference, propagated, share_bad = np.empty((3, exposure.ny, exposure.nx))

    def read(tile: slice) -> Sample:
        return _read_sample(reader, sample, tile, bad_pixels)

    for low in range(0, exposure.ny, rows):
        tile = slice(low, min(low + rows, exposure.ny))
        data, mask, err = read(tile)
        reference[tile] = _median(data, mask)
        share_bad[tile] = mask.mean(axis=0)
        if with_template:
            propagated[tile] = _median(err, mask)
    model = ExposureModel(reference=reference, bad=share_bad > 0.5, sample=sample)
    if not with_template:
        return model
    return replace(model, template=template.build(exposure, read, reference, propagated, len(sample)))


def _read_sample(
    reader: Reader, sample: NDArray[np.int64], rows: slice, bad_pixels: NDArray[np.bool_] | None
) -> Sample:
    """Return data, mask and errors of the sampled integrations, shape (n_sample, n_rows, nx)."""
    shape = (len(sample), rows.stop - rows.start, reader.exposure.nx)
    data = np.empty(shape, np.float32)
    mask = np.empty(shape, np.bool_)
    err = np.empty(shape, np.float32)
    dq = np.empty((1, *shape[1:]), np.uint32)
    top_bit = reader.exposure.segments[0].planes["DQ"].top_bit
    for k, i in enumerate(sample):
        raw = reader.read(int(i), int(i) + 1, ("SCI", "ERR", "DQ"), rows)
        here = slice(k, k + 1)
        convert_frames(raw, data[here], err[here], dq, mask[here], top_bit=top_bit)
    if bad_pixels is not None:
        mask |= bad_pixels[rows]
    return Sample(data, mask, err)


def _median(data: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the median over the first axis, NaN where nothing is valid."""
    median = rolling_median(data, mask, [0], [len(data)], nan_policy="skip", min_valid=1)
    return np.asarray(median[0], np.float64)
