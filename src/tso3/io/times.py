"""When each integration was taken: the INT_TIMES table, or what the header can say instead."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.errors import Tso3Warning
from tso3.io.fitsfile import Hdu, header_value
from tso3.io.fitstable import read_table

if TYPE_CHECKING:
    from astropy.io import fits

__all__ = ["IntTimes", "concatenate_times", "read_times", "report_order"]

_COLUMNS = {
    "start_mjd_utc": "int_start_MJD_UTC",
    "mid_mjd_utc": "int_mid_MJD_UTC",
    "end_mjd_utc": "int_end_MJD_UTC",
    "start_bjd_tdb": "int_start_BJD_TDB",
    "mid_bjd_tdb": "int_mid_BJD_TDB",
    "end_bjd_tdb": "int_end_BJD_TDB",
}
_SOURCES = ("user", "INT_TIMES", "header", "none")
_DAY = 86400.0


@dataclass(frozen=True)
class IntTimes:
    """
    Times of the integrations of one segment or one exposure, in their order.

    Attributes
    ----------
    int_num : ndarray of int64, shape (n_int,)
        Number of the integration in its exposure, 1-based.
    start_mjd_utc, mid_mjd_utc, end_mjd_utc : ndarray of float64, shape (n_int,)
        MJD (UTC) at the detector [day]; NaN where unknown.
    start_bjd_tdb, mid_bjd_tdb, end_bjd_tdb : ndarray of float64, shape (n_int,)
        Barycentric time (TDB) as the archive's columns hold it: BJD - 2400000.5 [day]; NaN where unknown.
    source : str
        ``"INT_TIMES"`` if all come from that table, ``"header"`` if any was computed from header keywords,
        ``"none"`` if any is unknown, ``"user"`` if all were given by the user.
    """

    int_num: NDArray[np.int64]
    start_mjd_utc: NDArray[np.float64]
    mid_mjd_utc: NDArray[np.float64]
    end_mjd_utc: NDArray[np.float64]
    start_bjd_tdb: NDArray[np.float64]
    mid_bjd_tdb: NDArray[np.float64]
    end_bjd_tdb: NDArray[np.float64]
    source: str = "INT_TIMES"

    def __len__(self) -> int:
        return int(self.int_num.size)

    @staticmethod
    def arrays() -> tuple[str, ...]:
        """Return the names of the arrays."""
        return _ARRAYS

    def slice(self, start: int, stop: int) -> IntTimes:
        """Return the times of the integrations ``start`` to ``stop`` (0-based index in this record, half-open)."""
        return IntTimes(**{name: getattr(self, name)[start:stop] for name in _ARRAYS}, source=self.source)


_ARRAYS = tuple(f.name for f in fields(IntTimes) if f.name != "source")


def concatenate_times(parts: tuple[IntTimes, ...]) -> IntTimes:
    """
    Return the times of several segments as one record; its source is the least certain one.

    Parameters
    ----------
    parts : tuple of IntTimes
        In time order; at least one.

    Returns
    -------
    times : IntTimes
        All integrations.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.times import IntTimes, concatenate_times
    >>> one = IntTimes(np.array([1]), *[np.array([60000.5])] * 6)
    >>> two = IntTimes(np.array([2]), *[np.array([np.nan])] * 6, source="none")
    >>> both = concatenate_times((one, two))
    >>> both.int_num, both.source
    (array([1, 2]), 'none')
    """
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return IntTimes(**arrays, source=max((part.source for part in parts), key=_SOURCES.index))


def read_times(hdus: tuple[Hdu, ...], path: Path, int_start: int, n_int: int) -> IntTimes:
    """
    Return the times of the integrations of one segment.

    The rows of INT_TIMES are matched by integration number, so a table of the whole exposure that is repeated in
    every segment and a table of the segment alone read alike. A table that has exactly one row per integration of the
    segment but numbers them from 1 is taken in order, with a warning. Integrations without a row get times from the
    header if EXPSTART, EXPEND, NINTS and EFFINTTM agree on the cadence to one group time, else NaN; a warning names
    the file and the numbers. Barycentric times are never computed.

    Parameters
    ----------
    hdus : tuple of Hdu
        Units of the segment.
    path : Path
        The file, for messages.
    int_start : int
        Number of the first integration, 1-based.
    n_int : int
        Number of integrations in the segment.

    Returns
    -------
    times : IntTimes
        Length ``n_int``.

    Warns
    -----
    tso3.errors.Tso3Warning
        If not every time comes from INT_TIMES.
    """
    int_num = np.arange(int_start, int_start + n_int, dtype=np.int64)
    arrays = {name: np.full(n_int, np.nan) for name in _COLUMNS}
    rows, problem = _match_rows(hdus, path, int_num, arrays)
    missing = rows < 0
    if not missing.any():
        if problem:
            warnings.warn(f"{path}: {problem}", Tso3Warning, stacklevel=2)
        return IntTimes(int_num, **arrays, source="INT_TIMES")
    start, duration, reason = _header_cadence(hdus[0].header, path)
    source = "header" if start is not None else "none"
    if start is not None and duration is not None:
        begin = start + (int_num[missing] - 1) * duration[0] / _DAY
        arrays["start_mjd_utc"][missing] = begin
        arrays["mid_mjd_utc"][missing] = begin + 0.5 * duration[1] / _DAY
        arrays["end_mjd_utc"][missing] = begin + duration[1] / _DAY
    which = f"{missing.sum()} of {n_int} integrations ({_ranges(int_num[missing])})"
    warnings.warn(f"{path}: {problem}; {which}: {reason}; barycentric times stay NaN", Tso3Warning, stacklevel=2)
    return IntTimes(int_num, **arrays, source=source)


def _match_rows(
    hdus: tuple[Hdu, ...], path: Path, int_num: NDArray[np.int64], arrays: dict[str, NDArray[np.float64]]
) -> tuple[NDArray[np.int64], str]:
    """Fill ``arrays`` from INT_TIMES; return the row of each integration (-1: none) and what is wrong with it."""
    rows = np.full(int_num.size, -1, dtype=np.int64)
    table = next((h for h in hdus if h.name == "INT_TIMES" and h.header.get("XTENSION") == "BINTABLE"), None)
    wanted = ("integration_number", *_COLUMNS.values())
    columns = _tree_columns(hdus, path, wanted) if table is None else read_table(table, path, wanted)
    if not columns:
        return rows, "has no INT_TIMES table"
    lacking = [name for name in wanted if name not in columns]
    if lacking:
        return rows, f"INT_TIMES has no column {lacking[0]}"
    number = columns["integration_number"]
    if number.size == 0:
        return rows, "INT_TIMES has no rows"
    order = np.argsort(number, kind="stable")
    at = np.minimum(np.searchsorted(number[order], int_num), number.size - 1)
    found = number[order][at] == int_num
    problem = ""
    if not found.all() and number.size == int_num.size and np.array_equal(number, np.arange(1, number.size + 1)):
        rows[:] = np.arange(number.size)
        problem = f"INT_TIMES numbers its rows from 1, INTSTART is {int_num[0]}; the rows are taken in order"
    else:
        rows[found] = order[at[found]]
        if not found.all():
            problem = f"INT_TIMES has no row for {_ranges(int_num[~found])} (it holds {_ranges(number)})"
    for name, column in _COLUMNS.items():
        arrays[name][rows >= 0] = columns[column][rows[rows >= 0]]
    return rows, problem


def _tree_columns(hdus: tuple[Hdu, ...], path: Path, wanted: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """
    Return the columns of INT_TIMES from the ASDF extension, empty if they are not there.

    The schema of MultiSlitModel has no such table, so jwst 3.0.0 saves the times of several slits in the tree alone.
    """
    from tso3.io.wcs import read_tree

    if hdus[0].header.get("DATAMODL") != "MultiSlitModel":
        return {}
    table = read_tree(path).get("int_times")
    names = getattr(getattr(table, "dtype", None), "names", None) or ()
    return {name: np.asarray(table[name], dtype=np.float64) for name in wanted if name in names}


def report_order(times: IntTimes, where: str | Path) -> None:
    """
    Warn of integrations whose time does not follow that of the one before; nothing is moved or dropped.

    Parameters
    ----------
    times : IntTimes
        Of one exposure, in the order of the integrations.
    where : path-like
        The exposure, for the message.

    Warns
    -----
    tso3.errors.Tso3Warning
        If middle times (MJD) repeat, or fall behind an earlier one; times that are not known count for neither.
    """
    known = np.flatnonzero(np.isfinite(times.mid_mjd_utc))
    middle = times.mid_mjd_utc[known]
    latest = np.maximum.accumulate(middle)[:-1]
    late = known[1:][middle[1:] < latest]
    same = known[1:][middle[1:] == latest]
    told = [f"{_ranges(times.int_num[same])} repeat"] if same.size else []
    told += [f"{_ranges(times.int_num[late])} precede"] if late.size else []
    if told:
        warnings.warn(
            f"{where}: times of integrations {' and of '.join(told)} an earlier one; all are kept, in the order of"
            " their numbers",
            Tso3Warning,
            stacklevel=2,
        )


def _header_cadence(header: fits.Header, path: Path) -> tuple[float | None, tuple[float, float] | None, str]:
    """Return EXPSTART [MJD], (cadence, length of an integration) [s], and a phrase for the warning."""
    keys = ("EXPSTART", "EXPEND", "NINTS", "EFFINTTM", "TGROUP")
    value = {key: header_value(header, key, float, path) for key in keys}
    absent = [key for key in keys if value[key] is None]
    if absent:
        return None, None, f"the header has no {', '.join(absent)}, so times are NaN"
    start, end, n_ints, effective, group = (number for number in value.values() if number is not None)
    if n_ints < 1:
        return None, None, f"NINTS = {n_ints:g}, so times are NaN"
    cadence = (end - start) * _DAY / n_ints
    if not (cadence > 0 and effective > 0 and abs(cadence - effective) <= group):
        return (
            None,
            None,
            f"(EXPEND - EXPSTART)/NINTS = {cadence:.4f} s and EFFINTTM = {effective:.4f} s differ by more than TGROUP"
            f" = {group:.4f} s, so times are NaN",
        )
    return start, (cadence, min(effective, cadence)), f"times from EXPSTART and a cadence of {cadence:.4f} s"


def _ranges(numbers: NDArray[np.generic]) -> str:
    """
    Return sorted integers as text: ``1-3, 7``; no more than three runs are spelled out.

    Parameters
    ----------
    numbers : ndarray
        In any order; repetitions count once.

    Returns
    -------
    text : str
        For a message.

    Examples
    --------
    >>> import numpy as np
    >>> _ranges(np.array([1, 2, 3, 7]))
    '1-3, 7'
    """
    values = np.unique(np.asarray(numbers, dtype=np.float64))
    values = values[np.isfinite(values)]
    runs = np.split(values, np.nonzero(np.diff(values) != 1)[0] + 1) if values.size else []
    texts = [f"{run[0]:g}" if run.size == 1 else f"{run[0]:.0f}-{run[-1]:.0f}" for run in runs[:3]]
    return ", ".join(texts) + (", ..." if len(runs) > 3 else "")
