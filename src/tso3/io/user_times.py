"""Time stamps from a file of the user, in place of those of INT_TIMES."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import InputError, Tso3Warning
from tso3.io.exposure import Exposure, Observation
from tso3.io.times import IntTimes, concatenate_times

__all__ = ["apply_times", "read_time_table"]

_NUMBER = ("int_num", "integration_number")
_SCALES = {
    "mjd_utc": ("mjd_utc", "int_mid_mjd_utc", "mjd-avg", "time_mjd_utc"),
    "bjd_tdb": ("bjd_tdb", "int_mid_bjd_tdb", "tdb-mid", "time_bjd_tdb"),
}
"""Names of the columns of mid-times, in lower case, by scale."""
_JD = 2400000.5
_FARTHEST = 100.0
"""Days from the times of an exposure; barycentric ones differ from those of the clock by 8 minutes at most."""
_FORMATS = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".txt": "ascii.basic"}

Columns = dict[str, NDArray[np.float64]]


def apply_times(observation: Observation, path: str | Path) -> Observation:
    """
    Return an observation with the time stamps of a file.

    The file has a row for each integration that is reduced: by exposure, then integration; detectors and orders share
    rows. With a column ``int_num`` and one exposure, rows are matched by number, and further rows do no harm; else they
    are taken in order. Columns are ``MJD_UTC`` and ``BJD_TDB`` (or either; or those names with the detector behind,
    ``BJD_TDB_NRS1``), which hold the middle of the integration. Beginning and end move along with it.

    Parameters
    ----------
    observation : Observation
        Its integrations are those that are reduced.
    path : path-like
        ``*.ecsv``, ``*.csv``, ``*.txt`` (columns between blanks, names in the first line) or ``*.npy`` (an array with
        named fields). Full Julian dates become JD - 2400000.5, as the archive's columns have them.

    Returns
    -------
    observation : Observation

    Raises
    ------
    InputError
        If the file cannot be read, has no such column, has another number of rows than there are integrations, lacks an
        integration or has one twice, a time is not finite or more than 100 days from those of the exposure, or a column
        has both full and modified Julian dates.

    Warns
    -----
    tso3.errors.Tso3Warning
        If only one of the two scales is given: the other stays as it was.
    """
    columns = read_time_table(path)
    rows = _rows(observation.exposures, columns, Path(path))
    exposures = []
    for exposure, index in zip(observation.exposures, rows, strict=True):
        given = _values(columns, exposure.detector, index, Path(path))
        _check_near(exposure, given, Path(path))
        exposures.append(_with_times(exposure, given))
    return replace(observation, exposures=tuple(exposures), times_file=Path(path).name)


def read_time_table(path: str | Path) -> Columns:
    """
    Return the columns of a file of times, names in lower case.

    Parameters
    ----------
    path : path-like
        See `apply_times`.

    Returns
    -------
    columns : dict of str to ndarray of float64, shape (n_rows,)
        Those that hold numbers.

    Raises
    ------
    InputError
        If the file cannot be read as what its name says, or has no columns with names.
    """
    from astropy.table import Table

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (*_FORMATS, ".npy"):
        raise InputError("a file of times ends in .ecsv, .csv, .txt or .npy", path)
    if not path.is_file():
        raise InputError("there is no such file of times", path)
    try:
        if kind == ".npy":
            table: Any = np.load(path, allow_pickle=False)
            names = table.dtype.names or ()
        else:
            commented = kind == ".txt" and path.read_text(encoding="utf-8").lstrip().startswith("#")
            table = Table.read(path, format="ascii.commented_header" if commented else _FORMATS[kind])
            names = table.colnames
    except (OSError, ValueError, TypeError, KeyError) as error:  # astropy's InconsistentTableError is a ValueError
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"cannot be read as a table of times ({reason})", path) from error
    numbers = {str(name).lower(): _numbers(table[name]) for name in names}
    columns = {name: values for name, values in numbers.items() if values is not None}
    if not any(_column(columns, scale, "") or _any_detector(columns, scale) for scale in _SCALES):
        raise InputError("has no column MJD_UTC or BJD_TDB; name the columns", path)
    return columns


def _numbers(column: Any) -> NDArray[np.float64] | None:
    """Return a column as numbers, NaN where it is masked; None if it holds something else."""
    values = np.ma.asarray(getattr(column, "value", column))
    if values.dtype.kind not in "fiu" or values.ndim != 1:
        return None
    return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))


def _column(columns: Mapping[str, Any], scale: str, detector: str) -> str | None:
    """Return the name of the column of a scale for a detector; one of the detector itself comes first."""
    own = f"{scale}_{detector}".lower()
    return own if own in columns else next((name for name in _SCALES[scale] if name in columns), None)


def _any_detector(columns: Mapping[str, Any], scale: str) -> bool:
    return any(name.startswith(f"{scale}_") for name in columns)


def _rows(exposures: Sequence[Exposure], columns: Columns, path: Path) -> list[NDArray[np.int64]]:
    """Return the row of every integration of every exposure."""
    visits: dict[tuple[str, ...], set[int]] = {}
    for exposure in exposures:
        visits.setdefault(exposure.visit, set()).update(int(number) for number in exposure.times.int_num)
    keys = [(visit, number) for visit, numbers in visits.items() for number in sorted(numbers)]
    n_rows = len(next(iter(columns.values())))
    given = next((columns[name] for name in _NUMBER if name in columns), None)
    if given is not None and len(visits) == 1:
        return list(_by_number(exposures, given, path))
    if n_rows != len(keys):
        raise InputError(
            f"has {n_rows} rows, but {len(keys)} integrations are reduced ({_ranges(exposures)}); give a row for each,"
            " or a column int_num",
            path,
        )
    if given is not None and not np.array_equal(given, [number for _, number in keys]):
        raise InputError("int_num does not run as the integrations of one exposure after another do", path)
    row = {key: i for i, key in enumerate(keys)}
    return [np.array([row[e.visit, int(number)] for number in e.times.int_num], np.int64) for e in exposures]


def _by_number(exposures: Sequence[Exposure], given: NDArray[np.float64], path: Path) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of every exposure, matched by the number of the integration."""
    values, first, count = np.unique(given, return_index=True, return_counts=True)
    if (count > 1).any():
        raise InputError(f"has integration {values[count > 1][0]:g} more than once in int_num", path)
    for exposure in exposures:
        wanted = exposure.times.int_num.astype(np.float64)
        at = np.minimum(np.searchsorted(values, wanted), values.size - 1)
        lacking = wanted[values[at] != wanted] if values.size else wanted
        if lacking.size:
            raise InputError(
                f"has no row for {lacking.size} of {wanted.size} integrations of {exposure.name},"
                f" number {lacking[0]:g} the first",
                path,
            )
        yield first[at].astype(np.int64)


def _ranges(exposures: Sequence[Exposure]) -> str:
    counts = {exposure.visit: exposure.n_int for exposure in exposures}
    return " + ".join(str(n) for n in counts.values())


def _values(columns: Columns, detector: str, rows: NDArray[np.int64], path: Path) -> Columns:
    """Return the mid-times of one exposure, by the names of `IntTimes`."""
    found: Columns = {}
    for scale in _SCALES:
        name = _column(columns, scale, detector)
        if name is None:
            continue
        values = columns[name][rows]
        if not np.isfinite(values).all():
            raise InputError(f"{name} is not finite in row {int(rows[~np.isfinite(values)][0]) + 1}", path)
        full = values > _JD
        if full.any() and not full.all():
            raise InputError(
                f"{name} mixes full Julian dates (such as {values[full][0]:.1f}) and others (such as"
                f" {values[~full][0]:.1f}); give all in one way",
                path,
            )
        found[scale] = np.where(full, values - _JD, values)
    if not found:
        raise InputError(f"has no column MJD_UTC or BJD_TDB for detector {detector}", path)
    if len(found) == 1:
        (given,) = found
        (other,) = set(_SCALES) - set(found)
        warnings.warn(
            f"{path}: gives {given.upper()} alone; {other.upper()} stays as it was", Tso3Warning, stacklevel=4
        )
    return found


def _check_near(exposure: Exposure, given: Columns, path: Path) -> None:
    """Raise if times lie far from those that the exposure has itself, of either scale, where it knows them."""
    own = np.concatenate([exposure.times.mid_mjd_utc, exposure.times.mid_bjd_tdb])
    own = own[np.isfinite(own)]
    if own.size == 0:
        return
    for scale, values in given.items():
        away = np.maximum(own.min() - values, values - own.max())
        if away.max() > _FARTHEST:
            raise InputError(
                f"{scale.upper()} has {values[np.argmax(away)]:.3f} for {exposure.name}, whose own times are"
                f" {own.min():.3f} to {own.max():.3f}: more than {_FARTHEST:.0f} days apart; check the column, and"
                " whether it counts as MJD does",
                path,
            )


def _with_times(exposure: Exposure, given: Columns) -> Exposure:
    """
    Return an exposure with other mid-times; beginnings and ends keep their distance from the middle.

    Those that had none, or lay on the wrong side of their middle, are not known.
    """
    arrays = {name: np.array(getattr(exposure.times, name)) for name in IntTimes.arrays()}
    for scale, middle in given.items():
        for end in ("start", "end"):
            distance = arrays[f"{end}_{scale}"] - arrays[f"mid_{scale}"]
            sound = np.isfinite(distance) & ((distance <= 0.0) if end == "start" else (distance >= 0.0))
            arrays[f"{end}_{scale}"] = np.where(sound, middle + distance, np.nan)
        arrays[f"mid_{scale}"] = middle
    times = IntTimes(**arrays, source="user")
    segments = tuple(
        replace(segment, times=times.slice(start, stop), own_times=True)
        for segment, (start, stop) in zip(exposure.segments, exposure.segment_bounds, strict=True)
    )
    joined = concatenate_times(tuple(segment.times for segment in segments)) if segments else times
    return replace(exposure, segments=segments, times=joined)
