"""What went into a simulated exposure, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tso3.simulate.detector import DetectorScene
    from tso3.simulate.render import Hits
    from tso3.simulate.times import ExposureTimes

__all__ = ["write_truth"]

_MAX_SPECTRA = 20_000_000


def white_light(scene: DetectorScene) -> np.ndarray:
    """
    Return the noise-free light curve of an exposure.

    Parameters
    ----------
    scene : DetectorScene
        The detector.

    Returns
    -------
    flux : ndarray, shape (n_int,)
        Spectroscopy: sum over the calibrated wavelengths of the trace of the star's flux density [Jy], with transit and
        ramp; imaging: the flux density [Jy]. All of the star's light, not that inside an aperture.
    """
    n_int = scene.options.n_int
    if scene.instrument.dispersion_axis == 0:
        return scene.spectrum[0] * scene.light_curves[0] * scene.ramp
    valid = calibrated(scene)
    return np.array([(scene.spectrum * scene.transmission(i))[valid].sum() for i in range(n_int)])


def calibrated(scene: DetectorScene) -> np.ndarray:
    """Return True for dispersion pixels that have a wavelength on the trace."""
    finite = np.isfinite(scene.geometry.wavelength)
    index = np.rint(scene.geometry.trace).astype(int)
    along = np.arange(len(index))
    return finite[index, along] if scene.instrument.dispersion_axis == 1 else finite[along, index]


def write_truth(path: Path, scene: DetectorScene, times: ExposureTimes, hits: list[tuple[int, Hits]]) -> None:
    """
    Write the truth of one exposure of one detector as ``npz``; see ``docs`` of the simulator for the names.

    Parameters
    ----------
    path : Path
        Where.
    scene : DetectorScene
        The detector.
    times : ExposureTimes
        Its times.
    hits : list of (int, Hits)
        Cosmic rays by 0-based integration.
    """
    from tso3.simulate.pixels import KINDS

    nx = scene.shape[1]
    index = np.concatenate([h.index for _, h in hits]) if hits else np.zeros(0, int)
    bad = scene.bad
    content = {
        "time_mjd_utc": times.mid, "time_bjd_tdb": times.mid_bjd,
        "white_light": white_light(scene), "ramp": scene.ramp,
        "offset_x": scene.offsets[:, 0], "offset_y": scene.offsets[:, 1],
        "transit_wavelength": scene.nodes, "transit": scene.light_curves,
        "depth": scene.options.transit.radius_ratio(scene.nodes) ** 2,
        "wavelength": scene.geometry.along, "flux": scene.spectrum, "trace": scene.geometry.trace,
        "background": scene.background * scene.convert, "flat": scene.flat.astype(np.float32),
        "reference": scene.model(0) * scene.convert,
        "cosmic_ray_integration": np.concatenate([np.full(len(h.index), i) for i, h in hits]) if hits else index,
        "cosmic_ray_y": index // nx, "cosmic_ray_x": index % nx,
        "cosmic_ray_amplitude": np.concatenate([h.amplitude for _, h in hits]) if hits else np.zeros(0),
        "cosmic_ray_caught": np.concatenate([h.caught for _, h in hits]) if hits else np.zeros(0, bool),
        "bad_y": bad.y, "bad_x": bad.x, "bad_kind": bad.kind, "bad_kinds": np.array(KINDS),
        "bad_period": bad.period, "bad_phase": bad.phase,
    }  # fmt: skip
    if scene.instrument.dispersion_axis:
        content["calibrated"] = calibrated(scene)
        if scene.options.n_int * len(scene.spectrum) <= _MAX_SPECTRA:
            content["spectra"] = np.array(
                [scene.spectrum * scene.transmission(i) for i in range(scene.options.n_int)], np.float32
            )
    with open(path, "wb") as stream:
        np.savez(stream, **content)
