"""tso3: stage 3 of the JWST calibration pipeline for time-series observations."""

__version__ = "0.1.0"
