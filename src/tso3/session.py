"""What a run and a scan need around the flow: who works, where products go, what was noticed, what it took."""

from __future__ import annotations

import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tso3.crew import Crew, ThisProcess
from tso3.errors import OutputError, ParameterError, Tso3Warning
from tso3.io.badpixels import read_bad_pixels
from tso3.io.exposure import Exposure, Observation
from tso3.io.reference_files import read_wavelengthrange
from tso3.io.references import References
from tso3.io.soss_defaults import built_in_ranges
from tso3.io.wavelength_ranges import WavelengthRange
from tso3.lane import Setting
from tso3.parameters import Parameters
from tso3.recipe import Limits

__all__ = [
    "checked",
    "crew_of",
    "make_folder",
    "mask_of",
    "no_empty_folder",
    "peak_memory",
    "recorded_warnings",
    "wavelength_ranges",
]


def crew_of(
    scheduler: str | None, cluster: str | None, limits: Limits, workers: int | None
) -> Callable[[Path, str], AbstractContextManager[Crew]]:
    """Return what gives, for a folder and the stem of its products, those who reduce the exposures."""
    if scheduler is None and cluster is None:
        return lambda folder, product: nullcontext(ThisProcess(limits))
    from tso3.cluster_start import assembled, check_choice

    n_local = check_choice(scheduler, cluster)
    return lambda folder, product: assembled(scheduler, n_local, limits, workers, (folder, product))


def wavelength_ranges(
    observation: Observation, references: References, parameters: Parameters
) -> tuple[WavelengthRange, ...] | None:
    """Return the ranges of the white light: the reference's, else for SOSS the built-in ones, else None."""
    path = references.path("wavelengthrange")
    if path is not None:
        return read_wavelengthrange(path)
    if observation.mode.exp_type == "NIS_SOSS" and parameters.white_light.built_in_range:
        return built_in_ranges(observation.exposures[0].subarray)
    return None


def mask_of(setting: Setting, exposure: Exposure) -> NDArray[np.bool_] | None:
    """Return the pixels of an exposure that the user calls bad, None without a mask."""
    return None if setting.bad_pixels is None else read_bad_pixels(setting.bad_pixels, exposure)


def checked(name: str, value: int | None, default: int) -> int:
    """Return a number that was given, or what stands in for None; ParameterError for less than 1."""
    if value is not None and value < 1:
        raise ParameterError(f"{value} is less than 1", name)
    return default if value is None else int(value)


def make_folder(folder: Path) -> None:
    """Make the folder of the products, now that everything asked for can be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made ({error.strerror}); choose another folder", folder) from error


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove the folder of the products after an error, if the run made it and nothing is in it."""
    new = not folder.exists()
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def peak_memory() -> int:
    """Return the largest resident memory of the process so far [byte]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Note the text of every `Tso3Warning`, once, and pass all warnings on as they are."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", Tso3Warning)
        shown = warnings.showwarning

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: Any = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, Tso3Warning):
                if str(message) in texts:
                    return
                texts.append(str(message))
            shown(message, category, filename, lineno, file, line)

        warnings.showwarning = note
        yield texts
