"""What a run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from astropy.table import QTable
    from numpy.typing import NDArray

    from tso3.core.light_noise import NoiseMeasures

__all__ = ["Circle", "DetectorView", "ExposureSummary", "RunResult"]


@dataclass(frozen=True)
class Circle:
    """
    A circle on a detector.

    Attributes
    ----------
    x, y, radius : float
        Centre and radius [pixel], 0-based.
    label : str
        What it is: ``aperture``, ``annulus``.
    """

    x: float
    y: float
    radius: float
    label: str


@dataclass(frozen=True)
class DetectorView:
    """
    What an exposure looks like, and where it was measured.

    Attributes
    ----------
    name, detector, unit : str
        Name of the exposure, DETECTOR, unit of the image.
    image : ndarray of float32, shape (ny, nx)
        Median image of the survey; NaN where a pixel was never valid.
    apertures : dict of str to ndarray of float32, shape (ny, nx)
        Weights of the pixels in the aperture of each spectrum, by what the figure calls it.
    circles : tuple of Circle
        Aperture and annulus of imaging.
    """

    name: str
    detector: str
    unit: str
    image: NDArray[np.float32]
    apertures: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    circles: tuple[Circle, ...] = ()


@dataclass(frozen=True)
class ExposureSummary:
    """
    One exposure's share of a run.

    Attributes
    ----------
    name : str
        Name common to its segments.
    detector : str
        DETECTOR.
    n_int : int
        Integrations, all segments together.
    n_flagged : int
        Pixels newly flagged as outliers.
    n_outlier_per_integration : tuple of int
        The same per integration.
    scatter_ppm, limit_ppm : float
        Point-to-point scatter of the light curve and the scatter that photon and read noise alone would give [1e-6];
        NaN where there is no light curve or no variance.
    missing_fraction : float
        Mean share of the light that fell on bad pixels.
    stripe : str
        Which stripe of the exposure; empty where it has none.
    box_scatter_ppm : float
        With optimal extraction, scatter of the light curve from the plain sum over the box [1e-6]; else NaN.
    chosen : str
        The aperture that a scan chose, such as ``extract_width 9``; empty if none did.
    """

    name: str
    detector: str
    n_int: int
    n_flagged: int
    n_outlier_per_integration: tuple[int, ...]
    scatter_ppm: float
    limit_ppm: float
    missing_fraction: float
    stripe: str = ""
    box_scatter_ppm: float = float("nan")
    chosen: str = ""

    @property
    def label(self) -> str:
        """Name, with that of the stripe if there are several."""
        return f"{self.name} stripe {self.stripe}" if self.stripe else self.name


@dataclass(frozen=True)
class RunResult:
    """
    Paths of the products, and the light curve.

    Attributes
    ----------
    products : dict of str to list of Path
        Keys ``crfints``, ``x1dints``, ``phot``, ``whtlt``, ``channels``, ``qa``, ``median``; only those that were made.
    exposures : tuple of ExposureSummary
        In the order of the input.
    white_light : QTable
        The white-light table, or for imaging the photometry table (of the first detector).
    seconds : float
        Wall time of the run [s].
    peak_memory : int
        Largest resident memory of the process so far [byte], imports included.
    warnings : tuple of str
        What was repaired, replaced or left out.
    references : tuple of str
        Which reference file of each kind was used, and why.
    views : tuple of DetectorView
        One for each exposure that was surveyed.
    photometry : dict of str to QTable
        Imaging: the photometry table of each detector, by DETECTOR.
    name, exp_type : str
        Product name and EXP_TYPE of the observation.
    """

    products: dict[str, list[Path]]
    exposures: tuple[ExposureSummary, ...]
    white_light: QTable | None
    seconds: float
    peak_memory: int
    warnings: tuple[str, ...] = field(default=())
    references: tuple[str, ...] = field(default=())
    views: tuple[DetectorView, ...] = field(default=(), repr=False)
    photometry: dict[str, QTable] = field(default_factory=dict)
    name: str = ""
    exp_type: str = ""

    @property
    def n_int(self) -> int:
        """Integrations of all exposures, those of stripes once."""
        return sum({e.name: e.n_int for e in self.exposures}.values())

    @property
    def n_flagged(self) -> int:
        """Pixels newly flagged as outliers in all exposures."""
        return sum(e.n_flagged for e in self.exposures)

    @property
    def noise(self) -> dict[str, NoiseMeasures]:
        """How much each light curve scatters, by its column, and the detector if there are several tables."""
        from tso3.core.light_noise import NoiseMeasures

        tables = self.photometry if len(self.photometry) > 1 else {"": self.white_light}
        return {
            f"{name}_{detector}" if detector else name: NoiseMeasures.from_dict(numbers)
            for detector, table in tables.items()
            if table is not None
            for name, numbers in table.meta.get("noise", {}).items()
        }

    @property
    def covariates(self) -> QTable:
        """
        The table of covariates, read from its file: what star and telescope did in every integration.

        Raises
        ------
        ValueError
            If the run made none.
        """
        from astropy.table import QTable

        if not self.products.get("qa"):
            raise ValueError("this run made no covariates: covariates were skipped, or it began with spectra")
        return QTable.read(self.products["qa"][0], format="ascii.ecsv")

    @property
    def spectra(self) -> Any:
        """
        The spectra, opened lazily: an `xarray.Dataset` (time, wavelength), or one per detector and order.

        Raises
        ------
        ValueError
            If the run made no spectra.
        """
        from tso3.io.spectra_dataset import open_spectra

        if not self.products.get("x1dints"):
            raise ValueError("this run made no spectra: imaging, or extract_1d was skipped")
        return open_spectra(self.products["x1dints"][0])

    @property
    def channels(self) -> xr.Dataset:
        """
        The spectroscopic light curves, opened lazily: dimensions ``time`` and ``channel``.

        Raises
        ------
        ValueError
            If the run made none.
        """
        import xarray as xr

        paths = [path for path in self.products.get("channels", ()) if path.suffix == ".nc"]
        if not paths:
            raise ValueError("this run made no channels; ask for them with channels.spec (--channels)")
        return xr.open_dataset(paths[0], engine="scipy")
