"""tso3: stage 3 of the JWST calibration pipeline for time-series observations."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = {
    "run": "tso3.pipeline",
    "run_many": "tso3.observations",
    "RunResult": "tso3.result",
    "scan": "tso3.scanning",
    "ScanResult": "tso3.scan_result",
    "open_spectra": "tso3.io.spectra_dataset",
    "Parameters": "tso3.parameters",
    "preset": "tso3.parameters",
    "simulate": "",
    "Tso3Error": "tso3.errors",
    "InputError": "tso3.errors",
    "OutputError": "tso3.errors",
    "ParameterError": "tso3.errors",
    "ReferenceFileError": "tso3.errors",
    "Tso3Warning": "tso3.errors",
}
"""Where each public name lives; an empty string is a module of this package. Imported when first asked for."""

__all__ = [
    "InputError",
    "OutputError",
    "ParameterError",
    "Parameters",
    "ReferenceFileError",
    "RunResult",
    "ScanResult",
    "Tso3Error",
    "Tso3Warning",
    "open_spectra",
    "preset",
    "run",
    "run_many",
    "scan",
    "simulate",
]

if TYPE_CHECKING:
    from tso3 import simulate
    from tso3.errors import InputError, OutputError, ParameterError, ReferenceFileError, Tso3Error, Tso3Warning
    from tso3.io.spectra_dataset import open_spectra
    from tso3.observations import run_many
    from tso3.parameters import Parameters, preset
    from tso3.pipeline import run
    from tso3.result import RunResult
    from tso3.scan_result import ScanResult
    from tso3.scanning import scan


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import tso3`` itself costs nothing."""
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'tso3' has no attribute {name!r}")
    value = getattr(import_module(room), name) if room else import_module(f"tso3.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
