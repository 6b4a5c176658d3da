"""The grids of rectified images, and what they are told by: a FITS WCS in the header, a gWCS in the ASDF extension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tso3.io.x1dunits import Unit, small_table

if TYPE_CHECKING:
    from gwcs import WCS

__all__ = ["ImageGrid", "SpectralGrid", "table_unit", "written_wcs"]

Card = tuple[str, Any, str]

_WCS_TABLE = "WCS-TABLE"
"""Name of the extension with the wavelengths of the columns, where no card can tell them."""
_TABLE_COLUMN = "wavelength"

_PACKAGES = ("asdf", "asdf-standard", "asdf-astropy", "astropy", "gwcs")


@dataclass(frozen=True)
class SpectralGrid:
    """
    A grid of rectified spectra: wavelength along the rows, place across dispersion along the columns.

    Attributes
    ----------
    n_rows : int
        Rows.
    centre : int
        Row (0-based) that the trace lies on.
    edges : ndarray of float64, shape (n_columns + 1,)
        Limits of the columns [micron], rising.
    kind : str
        How they are spaced: ``"linear"``, ``"log"``, or ``"edges"`` for anything else.
    sky : (float, float) or None
        Right ascension and declination of the trace [deg].
    step : (float, float) or None
        By how much a row farther up is farther east and north [deg]; None where the WCS of the exposure does not tell
        places across dispersion apart.
    """

    n_rows: int
    centre: int
    edges: NDArray[np.float64]
    kind: Literal["linear", "log", "edges"]
    sky: tuple[float, float] | None = None
    step: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, self.edges.size - 1

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Middle of each column [micron]: of a logarithmic grid the geometric one."""
        low, high = self.edges[:-1], self.edges[1:]
        return np.sqrt(low * high) if self.kind == "log" else 0.5 * (low + high)

    def cards(self) -> list[Card]:
        """
        Return the FITS WCS of a cube (wavelength, row, integration).

        A row has two coordinates on the sky, so there is one axis more than the cube has: across the slit, of one
        pixel. The first axis is linear, WAVE-LOG, or for other grids WAVE-TAB with the table of `table`.
        """
        placed = self.sky is not None and self.step is not None
        cards: list[Card] = [("WCSAXES", 4 if placed else 3, "number of World Coordinate System axes")]
        cards += self._wavelength_cards()
        if placed:
            cards += self._sky_cards()
            cards += _axis(4, "INTEGRATION", "", 1.0, 1.0, 1.0, "number of the integration in the file", pixel=3)
            cards += [("PC4_4", 0.0, ""), ("PC4_3", 1.0, ""), ("RADESYS", "ICRS", "celestial frame")]
        else:
            cards += _axis(2, "OFFSET", "pixel", self.centre + 1.0, 0.0, 1.0, "place across dispersion")
            cards += _axis(3, "INTEGRATION", "", 1.0, 1.0, 1.0, "number of the integration in the file")
        return cards

    def _wavelength_cards(self) -> list[Card]:
        """
        Return the cards of the first axis.

        A table (-TAB; Greisen et al. 2006, A&A 446, 747, section 6) is in metres, which is what WCSLIB makes of
        micrometres in the other two: so numbers mean the same whichever grid was taken.
        """
        wavelength, middle = self.wavelength, (self.shape[1] - 1) // 2
        if self.kind == "edges":
            cards = _axis(1, "WAVE-TAB", "m", 1.0, 1.0, 1.0, "wavelength, from a table")
            cards += [("PS1_0", _WCS_TABLE, "extension of the table"), ("PS1_1", _TABLE_COLUMN, "column of the table")]
            return [*cards, ("PV1_1", 1, "its EXTVER"), ("PV1_2", 1, "its EXTLEVEL"), ("PV1_3", 1, "axis of the table")]
        at = float(wavelength[middle])
        if self.kind == "log":
            step = at * np.log(self.edges[-1] / self.edges[0]) / wavelength.size
            return _axis(1, "WAVE-LOG", "um", middle + 1.0, at, step, "wavelength")
        step = (self.edges[-1] - self.edges[0]) / wavelength.size
        return _axis(1, "WAVE", "um", middle + 1.0, at, step, "wavelength")

    @property
    def table(self) -> NDArray[np.void] | None:
        """
        The table that WAVE-TAB refers to: one row, the middle of each column [m]; None where the cards say it all.

        Examples
        --------
        >>> import numpy as np
        >>> from tso3.io.rectified_grid import SpectralGrid
        >>> SpectralGrid(9, 4, np.array([1.0, 2.0, 4.0]), "edges").table["wavelength"].ravel().tolist()
        [1.5e-06, 3e-06]
        """
        if self.kind != "edges":
            return None
        n = self.wavelength.size
        rows = np.zeros(1, [(_TABLE_COLUMN, "f8", (n, 1))])
        rows[_TABLE_COLUMN][0, :, 0] = self.wavelength * 1e-6
        return rows

    def _sky_cards(self) -> list[Card]:
        """Return the cards of the sky: FITS axis 2 is the row, axis 4 runs across the slit."""
        assert self.sky is not None
        assert self.step is not None
        east, north = self.step
        size = float(np.hypot(east, north))
        cards: list[Card] = []
        for axis, kind, value in ((2, "RA---TAN", self.sky[0]), (3, "DEC--TAN", self.sky[1])):
            cards += [(f"CTYPE{axis}", kind, "right ascension" if axis == 2 else "declination"),
                      (f"CUNIT{axis}", "deg", ""), (f"CRVAL{axis}", value, "of the trace"),
                      (f"CDELT{axis}", size, "size of a row")]  # fmt: skip
        cards += [("CRPIX2", self.centre + 1.0, "row of the trace")]
        cards += [("PC2_2", east / size, ""), ("PC3_2", north / size, ""), ("PC3_3", 0.0, "")]
        cards += [("PC2_4", -north / size, ""), ("PC3_4", east / size, "")]
        return [*cards, ("CRPIX3", 1.0, ""), ("CRPIX4", 1.0, "")]

    def key(self) -> tuple[Any, ...]:
        """Return all that its gWCS depends on."""
        return ("spectrum", self.n_rows, self.centre, self.edges, self.kind, self.sky or (), self.step or ())

    def gwcs(self) -> WCS:
        """Return the gWCS: from (column, row), 0-based, to right ascension, declination [deg] and wavelength."""
        from astropy.modeling import models
        from gwcs import WCS

        wavelength = self.wavelength
        n = wavelength.size
        table: Any
        if self.kind == "linear":
            slope = (self.edges[-1] - self.edges[0]) / n
            table = models.Polynomial1D(1, c0=wavelength[0], c1=slope)
            table.inverse = models.Polynomial1D(1, c0=-wavelength[0] / slope, c1=1.0 / slope)
        else:
            samples = np.arange(n, dtype=np.float64)
            table = models.Tabular1D(points=samples, lookup_table=wavelength, bounds_error=False, fill_value=None)
            table.inverse = models.Tabular1D(points=wavelength, lookup_table=samples, bounds_error=False)
        if self.sky is None or self.step is None:
            ra, dec = (np.nan, np.nan) if self.sky is None else self.sky
            forward = models.Mapping((0, 0, 0), n_inputs=2) | models.Const1D(ra) & models.Const1D(dec) & table
            forward.inverse = models.Mapping((2, 2), n_inputs=3) | table.inverse & models.Const1D(float(self.centre))
        else:
            forward = self._on_sky(table)
        detector, world = _frames(spectral=True)
        wcs = WCS([(detector, forward), (world, None)])
        wcs.bounding_box = ((-0.5, self.shape[1] - 0.5), (-0.5, self.shape[0] - 0.5))  # specutils asks for it
        return wcs

    def _on_sky(self, table: Any) -> Any:
        """Return the transform of rows along a line in the tangent plane of the trace."""
        from astropy.modeling import models

        assert self.sky is not None
        assert self.step is not None
        east, north = self.step
        square = east**2 + north**2
        row = models.Shift(-float(self.centre))
        to_sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(self.sky[0], self.sky[1], 180.0)
        line = models.Mapping((0, 0)) | models.Scale(east) & models.Scale(north) | to_sky
        along = models.Polynomial2D(1, c1_0=east / square, c0_1=north / square)
        back = to_sky.inverse | along | models.Shift(float(self.centre))
        forward = models.Mapping((1, 0)) | (row | line) & table
        forward.inverse = back & table.inverse | models.Mapping((1, 0))
        return forward


@dataclass(frozen=True)
class ImageGrid:
    """
    A grid in the tangent plane of a place on the sky.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    pixel : (float, float)
        Column and row (0-based) of the tangent point.
    sky : (float, float)
        Its right ascension and declination [deg].
    matrix : tuple of (float, float)
        CD matrix [deg / pixel]: rows are east and north, columns are x and y.
    """

    shape: tuple[int, int]
    pixel: tuple[float, float]
    sky: tuple[float, float]
    matrix: tuple[tuple[float, float], tuple[float, float]]

    @property
    def area(self) -> float:
        """Area of a pixel [arcsec^2]; in the whole grid the same but for the curvature of the sky."""
        (a, b), (c, d) = self.matrix
        return abs(a * d - b * c) * 3600.0**2

    def cards(self) -> list[Card]:
        """Return the FITS WCS of a cube (x, y, integration)."""
        cards: list[Card] = [("WCSAXES", 3, "number of World Coordinate System axes")]
        for axis, kind in ((1, "RA---TAN"), (2, "DEC--TAN")):
            cards += [(f"CTYPE{axis}", kind, ""), (f"CUNIT{axis}", "deg", ""), (f"CDELT{axis}", 1.0, "")]
            cards += [(f"CRPIX{axis}", self.pixel[axis - 1] + 1.0, ""), (f"CRVAL{axis}", self.sky[axis - 1], "")]
            cards += [(f"PC{axis}_{other}", self.matrix[axis - 1][other - 1], "") for other in (1, 2)]
        cards += _axis(3, "INTEGRATION", "", 1.0, 1.0, 1.0, "number of the integration in the file")
        return [*cards, ("RADESYS", "ICRS", "celestial frame")]

    def key(self) -> tuple[Any, ...]:
        """Return all that its gWCS depends on."""
        return ("image", *self.shape, *self.pixel, *self.sky, *self.matrix[0], *self.matrix[1])

    def gwcs(self) -> WCS:
        """Return the gWCS: from (x, y), 0-based, to right ascension and declination [deg]."""
        from astropy.modeling import models
        from gwcs import WCS

        shift = models.Shift(-self.pixel[0]) & models.Shift(-self.pixel[1])
        linear = models.AffineTransformation2D(np.array(self.matrix))
        to_sky = models.Pix2Sky_TAN() | models.RotateNative2Celestial(self.sky[0], self.sky[1], 180.0)
        detector, world = _frames(spectral=False)
        wcs = WCS([(detector, shift | linear | to_sky), (world, None)])
        wcs.bounding_box = ((-0.5, self.shape[1] - 0.5), (-0.5, self.shape[0] - 0.5))
        return wcs


def _axis(
    number: int, kind: str, unit: str, pixel_at: float, value: float, step: float, comment: str, *, pixel: int = 0
) -> list[Card]:
    """Return the cards of one axis that is straight; ``pixel`` is the axis of the cube that it runs along."""
    cards: list[Card] = [(f"CTYPE{number}", kind, comment)]
    if unit:
        cards += [(f"CUNIT{number}", unit, "")]
    return [
        *cards,
        (f"CRPIX{pixel or number}", pixel_at, ""),
        (f"CRVAL{number}", float(value), ""),
        (f"CDELT{number}", float(step), ""),
    ]


def _frames(*, spectral: bool) -> tuple[Any, Any]:
    """Return the frames of pixels and of the world."""
    from astropy import coordinates, units
    from gwcs import coordinate_frames as frames

    detector = frames.Frame2D(name="detector", axes_order=(0, 1), unit=(units.pix, units.pix))
    if not spectral:
        return detector, frames.CelestialFrame(name="world", axes_order=(0, 1), reference_frame=coordinates.ICRS())
    sky = frames.CelestialFrame(name="sky", axes_order=(0, 1), reference_frame=coordinates.ICRS())
    wave = frames.SpectralFrame(name="spectral", axes_order=(2,), unit=(units.micron,), axes_names=("wavelength",))
    return detector, frames.CompositeFrame([sky, wave], name="world")


def table_unit(grid: SpectralGrid | ImageGrid) -> Unit | None:
    """
    Return the extension that the FITS WCS of a grid refers to.

    Parameters
    ----------
    grid : SpectralGrid or ImageGrid
        What it is of.

    Returns
    -------
    unit : Unit or None
        None where the cards say it all.
    """
    rows = grid.table if isinstance(grid, SpectralGrid) else None
    if rows is None:
        return None
    unit = small_table(_WCS_TABLE, rows)
    unit.header.set("TUNIT1", "m", f"of {_TABLE_COLUMN}", after="TFORM1")
    return unit


def written_wcs(grid: SpectralGrid | ImageGrid) -> bytes:
    """
    Return an ASDF file with the gWCS of a grid as ``meta.wcs``; remembered, since gwcs takes a second to import.

    Parameters
    ----------
    grid : SpectralGrid or ImageGrid
        What it is of.

    Returns
    -------
    content : bytes
        To be edited by `tso3.io.asdftree.edit_tree`.
    """
    import tso3.io.rectified_grid as module
    from tso3.io.memory import code_digest, digest, remembered, versions

    def compute() -> dict[str, NDArray[Any]]:
        import io

        import asdf

        buffer = io.BytesIO()
        asdf.AsdfFile({"meta": {"wcs": grid.gwcs()}}).write_to(buffer)
        return {"content": np.frombuffer(buffer.getvalue(), np.uint8)}

    key = digest("rectified_wcs", code_digest(module.written_wcs), versions(*_PACKAGES), grid.key())
    return remembered(key, compute)["content"].tobytes()
