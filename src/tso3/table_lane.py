"""An exposure whose spectra are there already: only its light curves are made, from the tables of a product."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from tso3.core.noise import photon_limit, point_to_point
from tso3.errors import ParameterError, Tso3Warning
from tso3.result import ExposureSummary
from tso3.steps import white_light
from tso3.steps.white_light_normalized import baseline_integrations, sampled_light

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
        n = self.setting.parameters.survey.n_sample
        wanted = n > 0 and (light.normalized or light.missing == "complete")
        steady = sampled_light(spectrum, exposure.path, n) if wanted else None
        if steady is None and light.missing == "complete":
            raise ParameterError(
                "0 leaves nothing to complete missing light from; set white_light.missing = drop as well, or a sample"
                " of at least 1",
                "survey.n_sample",
            )
        return white_light.WhiteLightCurve(
            exposure,
            spectrum.header,
            spectrum.wavelength,
            band,
            steady.expected if steady is not None and light.missing == "complete" else None,
            steady if light.normalized else None,
            baseline_integrations(light.baseline, exposure),
        )

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
