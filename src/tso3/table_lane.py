"""An exposure whose spectra are there already: only its light curves are made, from the tables of a product."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tso3.core.noise import photon_limit, point_to_point
from tso3.errors import ParameterError, Tso3Warning
from tso3.result import ExposureSummary
from tso3.steps import white_light

if TYPE_CHECKING:
    from tso3.io.spectra_rows import SpectrumRows
    from tso3.io.x1dints_reader import SpectraExposure
    from tso3.lane import Setting

__all__ = ["TableLane"]


class TableLane:
    """
    One exposure of a product of spectra.

    Parameters
    ----------
    setting : Setting
        What the run was asked to do.
    exposure : SpectraExposure
        Whose lane this is.

    Attributes
    ----------
    curves : tuple of WhiteLightCurve
        One for each order; filled by `run`.
    """

    def __init__(self, setting: Setting, exposure: SpectraExposure) -> None:
        self.setting = setting
        self.exposure = exposure
        self.curves = tuple(self._curve(spectrum) for spectrum in exposure.spectra)

    def _curve(self, spectrum: SpectrumRows) -> white_light.WhiteLightCurve:
        """Return the empty light curve of an order."""
        light, exposure = self.setting.parameters.white_light, self.exposure
        path = self.setting.references.path("wavelengthrange")
        band = white_light.band(light, self.setting.wavelength_ranges, spectrum.order, exposure, path)
        expected = self._expected(spectrum) if light.missing == "complete" else None
        return white_light.WhiteLightCurve(exposure, spectrum.header, spectrum.wavelength, band, expected)

    def _expected(self, spectrum: SpectrumRows) -> NDArray[np.float64]:
        """Return the median spectrum of a sample, by which sums that lack samples are completed."""
        n = self.setting.parameters.survey.n_sample
        if n == 0:
            raise ParameterError(
                "0 leaves nothing to complete missing light from; set white_light.missing = drop as well, or a sample"
                " of at least 1",
                "survey.n_sample",
            )
        sample = spectrum.sample(self.exposure.path, n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a wavelength without any valid sample: NaN is right
            return np.nanmedian(sample, axis=0)

    def run(self) -> None:
        """Read the spectra in blocks and sum them."""
        exposure, progress = self.exposure, self.setting.progress
        if not all(spectrum.has_companion for spectrum in exposure.spectra):
            warnings.warn(
                f"{exposure.path}: has no companion tables of tso3; photon limit and share of missing light stay NaN",
                Tso3Warning,
                stacklevel=4,
            )
        progress.start(exposure.label, exposure.n_int * len(self.curves))
        for spectrum, curve in zip(exposure.spectra, self.curves, strict=True):
            for block in spectrum.blocks(exposure.path):
                curve.add(block)
                progress.advance(block.n_int)
        progress.finish()

    def view(self) -> None:
        """Return None: there is no image of the detector."""

    def summary(self) -> ExposureSummary:
        """Return this exposure's share of the result."""
        curve = next((curve for curve in self.curves if curve.span is not None), self.curves[0])
        known = curve.missing_fraction[np.isfinite(curve.missing_fraction)]
        return ExposureSummary(
            name=self.exposure.name,
            detector=self.exposure.detector,
            n_int=self.exposure.n_int,
            n_flagged=0,
            n_outlier_per_integration=(0,) * self.exposure.n_int,
            scatter_ppm=1e6 * point_to_point(curve.flux),
            limit_ppm=1e6 * photon_limit(curve.flux, curve.limit_variance),
            missing_fraction=float(known.mean()) if known.size else float("nan"),
            stripe=self.exposure.stripe,
        )
