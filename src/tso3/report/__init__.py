"""Figures: axes in, artists out."""

from tso3.report.detector import BoxAperture, CircularAperture, MaskAperture, plot_median_image, plot_spectrum
from tso3.report.light_curve import LightCurve, light_curves, plot_white_light
from tso3.report.noise import plot_time_averaging

__all__ = [
    "BoxAperture",
    "CircularAperture",
    "LightCurve",
    "MaskAperture",
    "light_curves",
    "plot_median_image",
    "plot_spectrum",
    "plot_time_averaging",
    "plot_white_light",
]
