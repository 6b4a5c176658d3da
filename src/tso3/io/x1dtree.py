"""
The ASDF extension of a product of spectra: metadata as a tree, a WCS for each spectrum, links into the tables.

asdf and gwcs write the WCS of the spectra, and what they write is remembered from run to run (`tso3.io.memory`): it
depends on wavelengths and place alone, and the two take a second to import. The rest is plain and is put around it.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.errors import Tso3Warning
from tso3.io.asdftree import join_tree, split_tree
from tso3.io.fitsfile import open_readonly, pread_exactly
from tso3.io.memory import code_digest, digest, remembered, versions
from tso3.io.metadata import Blended
from tso3.io.segment import Segment
from tso3.io.x1dplan import TableSpec

if TYPE_CHECKING:
    from gwcs import WCS

__all__ = ["PlacedWcs", "TableLink", "asdf_bytes", "link", "read_cal_logs", "spectral_wcs", "spectrum_entry"]

_NDARRAY = "tag:stsci.edu:asdf/core/ndarray-1.1.0"
_PACKAGES = ("asdf", "asdf-standard", "asdf-astropy", "astropy", "gwcs")
"""What writes a WCS."""


class TableLink(dict[str, Any]):
    """A link to a table of the file that surrounds the tree; its keys keep their order."""


@dataclass(frozen=True)
class PlacedWcs:
    """
    Where the WCS of a spectrum belongs in the tree.

    Attributes
    ----------
    ra, dec : float
        Position of the aperture [deg]; NaN if unknown.
    wavelength : ndarray, shape (n_wave,)
        Micron.
    """

    ra: float
    dec: float
    wavelength: NDArray[np.float64]


def asdf_bytes(tree: Mapping[str, Any]) -> bytes:
    """
    Return a tree as an ASDF file.

    Parameters
    ----------
    tree : mapping
        Plain values, `TableLink`, and in ``spec``, for each spectrum that has one, a `PlacedWcs` as ``meta.wcs``.

    Returns
    -------
    content : bytes
        The text of the tree, and the numbers of the WCS in binary blocks.
    """
    import yaml

    spectra = tree.get("spec", ())
    places = tuple(entry["meta"]["wcs"] for entry in spectra if "wcs" in entry["meta"])
    head, root, blocks = split_tree(_written(places))
    wcs = dict(zip(map(id, places), _wcs_nodes(root), strict=True))

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # with what this tree holds
        pass

    def mapping(dumper: Any, data: TableLink) -> Any:
        return dumper.represent_mapping(_NDARRAY, list(data.items()))

    Dumper.add_representer(TableLink, mapping)
    Dumper.add_representer(PlacedWcs, lambda _, data: wcs[id(data)])
    Dumper.add_multi_representer(np.floating, lambda dumper, data: dumper.represent_float(float(data)))
    Dumper.add_multi_representer(np.integer, lambda dumper, data: dumper.represent_int(int(data)))
    return join_tree(head, root, blocks, {key: tree[key] for key in sorted(tree)}, Dumper)


def _wcs_nodes(root: Any) -> list[Any]:
    """Return the nodes of the WCS of a tree as `_written` writes it."""
    listed = next(value for key, value in root.value if key.value == "wcs")
    root.value = [(key, value) for key, value in root.value if key.value != "wcs"]
    return list(listed.value)


def _written(places: tuple[PlacedWcs, ...]) -> bytes:
    """Return an ASDF file with a list ``wcs`` and nothing else; remembered."""

    def compute() -> dict[str, NDArray[Any]]:
        import asdf

        buffer = io.BytesIO()
        wcs = [spectral_wcs(place.ra, place.dec, place.wavelength) for place in places]
        asdf.AsdfFile({"wcs": wcs}).write_to(buffer)
        return {"content": np.frombuffer(buffer.getvalue(), np.uint8)}

    asked = tuple((place.ra, place.dec, np.asarray(place.wavelength)) for place in places)
    key = digest("spectral_wcs", code_digest(spectral_wcs), versions(*_PACKAGES), asked)
    return remembered(key, compute)["content"].tobytes()


def product_tree(blended: Blended, spectra: Sequence[dict[str, Any]], links: dict[str, Any]) -> dict[str, Any]:
    """
    Return the tree of a product.

    The archive also writes ``_fits_hash``, by which ``stdatamodels`` knows that tree and headers agree and then skips
    the headers, and with them every unit that its schema does not know: without the hash our companion tables survive
    opening and saving.
    """
    return {**links, **blended.tree(), "spec": list(spectra)}


def spectrum_entry(table: TableSpec, table_link: Any, date: str) -> dict[str, Any]:
    """Return the entry of one spectrum in ``spec``."""
    entry: dict[str, Any] = {path.removeprefix("spec."): value for path, value in table.values.items()}
    if table.times.source != "none":
        entry["time_scale"] = "UTC"
    entry["meta"] = {"date": date, "model_type": "TSOSpecModel"}
    if "spec.name" in table.values:  # spectra of SOSS have neither name nor WCS
        sky = (table.values.get("spec.slit_ra", np.nan), table.values.get("spec.slit_dec", np.nan))
        entry["meta"]["wcs"] = PlacedWcs(float(sky[0]), float(sky[1]), table.wavelength)
    entry["spec_table"] = table_link
    return entry


def link(name: str, version: int, datatype: list[dict[str, Any]], n_rows: int) -> TableLink:
    """
    Return the tree's link to a table of the file that surrounds it.

    Parameters
    ----------
    name, version : str, int
        EXTNAME and EXTVER.
    datatype : list of dict
        ASDF description of a row.
    n_rows : int
        Number of rows.

    Returns
    -------
    link : TableLink
        As ``stdatamodels`` writes it.
    """
    return TableLink(source=f"fits:{name},{version}", datatype=datatype, byteorder="big", shape=[n_rows])


def link_to_array(name: str, array: NDArray[np.void]) -> TableLink:
    """Return the link to a table that holds this structured array (``U`` strings, logicals and numbers)."""
    described: list[dict[str, Any]] = []
    for column in array.dtype.names or ():
        dtype = array.dtype[column]
        if dtype.kind == "U":
            kind: Any = ["ascii", max(1, dtype.itemsize // 4)]
        else:
            kind = "int8" if dtype.kind == "b" else dtype.name
        described.append({"byteorder": "big", "datatype": kind, "name": column})
    return link(name, 1, described, array.size)


def spectral_wcs(ra: float, dec: float, wavelength: NDArray[np.float64]) -> WCS:
    """
    Return the WCS of a spectrum: from sample number (0-based) to right ascension, declination and wavelength.

    Parameters
    ----------
    ra, dec : float
        Position of the aperture on the sky [deg]; NaN if unknown.
    wavelength : ndarray, shape (n_wave,)
        Micron. An inverse is set if it rises or falls throughout.

    Returns
    -------
    wcs : gwcs.WCS
        As the archive has it; linear between samples, extrapolated beyond.

    Examples
    --------
    >>> import numpy as np
    >>> from tso3.io.x1dtree import spectral_wcs
    >>> [round(float(v), 3) for v in spectral_wcs(80.0, -5.0, np.array([5.0, 5.1, 5.3]))(1.5)]
    [80.0, -5.0, 5.2]
    """
    from astropy import coordinates
    from astropy import units as u
    from astropy.modeling.models import Const1D, Mapping, Tabular1D
    from gwcs import WCS
    from gwcs import coordinate_frames as frames

    pixel = frames.CoordinateFrame(
        naxes=1, axes_type=("SPATIAL",), axes_order=(0,), unit=(u.pixel,), name="pixel_frame"
    )
    sky = frames.CelestialFrame(name="sky", axes_order=(0, 1), reference_frame=coordinates.ICRS())
    spectral = frames.SpectralFrame(name="spectral", axes_order=(2,), unit=(u.micron,), axes_names=("wavelength",))
    world = frames.CompositeFrame([sky, spectral], name="world")
    sample = np.arange(wavelength.size, dtype=np.float64)
    table = Tabular1D(points=sample, lookup_table=wavelength, bounds_error=False, fill_value=None)
    forward = Mapping((0, 0, 0)) | Const1D(ra) & Const1D(dec) & table
    forward.name = "pixel_to_world"
    step = np.diff(wavelength)
    if wavelength.size > 1 and (np.all(step > 0) or np.all(step < 0)):
        rising = slice(None, None, 1 if step[0] > 0 else -1)
        back = Tabular1D(points=wavelength[rising], lookup_table=sample[rising], bounds_error=False)
        forward.inverse = Mapping((2,), n_inputs=3) | back
    return WCS([(pixel, forward), (world, None)])


def read_cal_logs(segment: Segment) -> dict[str, Any]:
    """
    Return the logs of the earlier pipelines (``cal_logs``) that a calints file carries in its ASDF extension.

    Only their part of the text is parsed: the rest of the tree (the WCS, mostly) takes a hundred times as long.

    Parameters
    ----------
    segment : Segment
        A calints file.

    Returns
    -------
    logs : dict
        Lines by pipeline; empty if the file has none.

    Warns
    -----
    Tso3Warning
        If they cannot be read; the product then lacks them.
    """
    import yaml

    hdu = segment.hdu("ASDF")
    if hdu is None:
        return {}
    descriptor = open_readonly(segment.path)
    try:
        raw = pread_exactly(descriptor, hdu.data_size, hdu.data_offset, segment.path)
    finally:
        os.close(descriptor)
    text = raw.partition(b"\n...")[0].decode("utf-8", "replace")
    found = re.search(r"^cal_logs:.*\n(?:[ \n-].*\n?)*", text, re.MULTILINE)
    if found is None:
        return {}
    try:
        logs = yaml.load(found.group(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["cal_logs"]
    except yaml.YAMLError:
        warnings.warn(f"{segment.path}: cal_logs cannot be read; not copied", Tso3Warning, stacklevel=2)
        return {}
    return logs if isinstance(logs, dict) else {}
