"""
The survey pass: what is steady in an exposure, from a sample of integrations chosen by index alone.

Every block and every worker gets the same `ExposureModel`, so that results do not depend on how an exposure is cut.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tso3.core.learning import sample_median
from tso3.core.model import ExposureModel
from tso3.core.template import template_bytes
from tso3.io.exposure import Exposure
from tso3.io.reader import Reader
from tso3.parameters import Survey
from tso3.steps import template
from tso3.steps.sample import Sample, memory_room

__all__ = ["run", "sample_indices"]

_VARIANCES = 8
"""Integrations whose Poisson variance is looked at."""
_ENOUGH = 64
"""The median of so many adds 1.57 / 64 = 2.5 % to the variance of what is compared with it."""
_TENTH = 10
_FEW = 2
"""Integrations in which a pixel may be bad before it counts as unsteady: particles hit by chance."""


def sample_indices(n_int: int, n_sample: int) -> NDArray[np.int64]:
    """
    Return which integrations a survey of ``n_sample`` looks at: spread evenly, at most three fifths of all.

    So a survey costs less than the stream, and does not take just every second integration; 64 are looked at in any
    case, if there are as many.

    Parameters
    ----------
    n_int : int
        Integrations of the exposure.
    n_sample : int
        Integrations wanted.

    Returns
    -------
    indices : ndarray of int64, shape (min(n_sample, n_int, max(64, 3 * n_int // 5)),)
        Increasing, each once.

    Examples
    --------
    >>> from tso3.steps.survey import sample_indices
    >>> sample_indices(10, 4).tolist()
    [1, 3, 6, 8]
    >>> sample_indices(3, 128).tolist()
    [0, 1, 2]
    """
    n = min(n_sample, n_int, max(_ENOUGH, 3 * n_int // 5))
    return (2 * np.arange(n, dtype=np.int64) + 1) * n_int // max(2 * n, 1)


def run(
    exposure: Exposure,
    reader: Reader,
    parameters: Survey,
    bad_pixels: NDArray[np.bool_] | None = None,
    with_template: bool = False,
    workers: int = 1,
    max_memory: int | None = None,
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
        Make the template as well, for which the sample is kept in memory, or read twice more.
    workers : int, optional
        Threads.
    max_memory : int, optional
        Bytes allowed; the sample takes at most half of what the model leaves of it, as long as tiles of single rows do.

    Returns
    -------
    model : ExposureModel or None
        Reference image (median of the sample), steady bad pixels, and the template if asked for.

    Notes
    -----
    Frames are worked on in tiles of rows, in threads; no number depends on the size of the tiles.
    """
    if parameters.n_sample == 0:
        return None
    indices = sample_indices(exposure.n_int, parameters.n_sample)
    room = memory_room(max_memory, template_bytes(exposure.ny, exposure.nx, spectrum=exposure.dispersion_axis != 0))
    with ThreadPoolExecutor(workers, thread_name_prefix="tso3") as pool:
        sample = Sample(reader, indices, bad_pixels, pool, workers, room, with_template)
        reference = np.empty((exposure.ny, exposure.nx))
        propagated = np.empty((exposure.ny, exposure.nx), np.float32)
        n_valid = np.empty((exposure.ny, exposure.nx), np.int32)

        def look(rows: slice) -> None:
            data, err = sample.with_errors(rows)
            reference[rows], n_valid[rows] = sample_median(data)
            propagated[rows], _ = sample_median(err)

        sample.map(look, slice(0, exposure.ny), reading=True)
        bad, unsteady = 2 * n_valid < len(indices), len(indices) - n_valid > max(_FEW, len(indices) // _TENTH)
        model = ExposureModel(reference, bad, indices, propagated=propagated, unsteady=unsteady)
        poisson = _poisson(exposure, reader, indices, pool) if with_template and exposure.dispersion_axis else None
        made = template.build(exposure, sample, reference, propagated, poisson) if with_template else None
        return model if made is None else replace(model, template=made, propagated=None)


def _poisson(
    exposure: Exposure, reader: Reader, indices: NDArray[np.int64], pool: Executor
) -> NDArray[np.float32] | None:
    """Return the median Poisson variance of a few integrations; None where the files have none."""
    if any("VAR_POISSON" not in segment.planes for segment in exposure.segments):
        return None
    chosen = indices[:: max(1, -(-len(indices) // _VARIANCES))]
    stack = np.empty((len(chosen), exposure.ny, exposure.nx), np.float32)

    def read(k: int) -> None:
        i = int(chosen[k])
        stack[k] = reader.read(i, i + 1, ("VAR_POISSON",))["VAR_POISSON"][0]
        stack[k][~np.isfinite(stack[k])] = np.nan

    list(pool.map(read, range(len(chosen))))
    return sample_median(stack)[0]
