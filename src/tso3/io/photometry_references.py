"""What is inside a ``tsophot`` reference: the radii of imaging photometry by optical element."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tso3.errors import ReferenceFileError

__all__ = ["PhotometryRadii", "read_tsophot"]

_ANY = "ANY"


@dataclass(frozen=True)
class PhotometryRadii:
    """
    Radii of aperture and annulus.

    Attributes
    ----------
    radius, radius_inner, radius_outer : float
        Radius of the aperture, inner and outer radius of the annulus [pixel].
    """

    radius: float
    radius_inner: float
    radius_outer: float


def read_tsophot(path: str | Path, filter_name: str | None, pupil: str | None) -> PhotometryRadii:
    """
    Return the radii that a tsophot reference has for an optical configuration.

    The file holds a list ``radii`` of tables with ``pupil``, ``radius``, ``radius_inner`` and ``radius_outer``; the
    entry whose ``pupil`` is that of the exposure counts, else the first with ``ANY``. An entry may have a ``filter`` as
    well, which must then fit too, and which makes it count before entries without one.

    Parameters
    ----------
    path : path-like
        JSON, or ASDF as the archive had it (data model ``TsoPhotModel``).
    filter_name, pupil : str or None
        FILTER and PUPIL of the exposure; None fits ``ANY`` only.

    Returns
    -------
    radii : PhotometryRadii

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, has no such list, has nothing for the configuration, or radii that cannot be.
    """
    from tso3.io.reference_files import read_json
    from tso3.io.wavelength_ranges import read_asdf

    tree = read_asdf(path, "tsophot reference") if Path(path).suffix == ".asdf" else read_json(path)
    entries = tree.get("radii") if isinstance(tree, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ReferenceFileError("holds no list 'radii', so it is no tsophot reference", path)
    ranked = [(_rank(entry, filter_name, pupil, path), entry) for entry in entries]
    best = max(rank for rank, _ in ranked)
    if best < 0:
        raise ReferenceFileError(
            f"has no radii for pupil {pupil} and filter {filter_name}; set tso_photometry.radius, radius_inner and"
            " radius_outer",
            path,
        )
    return _radii(next(entry for rank, entry in ranked if rank == best), path)


def _rank(entry: Any, filter_name: str | None, pupil: str | None, path: str | Path) -> int:
    """Return how well an entry fits: -1 not at all, else 2 for its pupil plus 1 for its filter."""
    if not isinstance(entry, Mapping):
        raise ReferenceFileError(f"an entry of 'radii' is {entry!r}, not a table of keys", path)
    rank = 0
    for key, value, weight in (("pupil", pupil, 2), ("filter", filter_name, 1)):
        wanted = str(entry.get(key) or _ANY).strip().upper()
        if wanted == _ANY:
            continue
        if value is None or wanted != value.strip().upper():
            return -1
        rank += weight
    return rank


def _radii(entry: Mapping[str, Any], path: str | Path) -> PhotometryRadii:
    try:
        radii = PhotometryRadii(*(float(entry[name]) for name in ("radius", "radius_inner", "radius_outer")))
    except KeyError as error:
        raise ReferenceFileError(f"an entry of 'radii' has no {error.args[0]}", path) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ReferenceFileError(f"an entry of 'radii' has a value that is no number ({error})", path) from error
    values = (radii.radius, radii.radius_inner, radii.radius_outer)
    if not all(math.isfinite(value) for value in values) or radii.radius <= 0 or not 0 <= values[1] < values[2]:
        raise ReferenceFileError(f"has radii {values}; needed are a positive one, and an inner below the outer", path)
    return radii
