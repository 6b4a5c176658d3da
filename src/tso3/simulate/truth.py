"""
What went into a simulated exposure, written beside it as ``<exposure>_truth.npz``.

All indices are 0-based; integrations count from the start of the exposure. Arrays by name:

==========================  ========================================================================================
``time_mjd_utc, time_bjd_tdb``  mid-times (n_int,) [day]; BJD - 2400000.5
``white_light``             noise-free light curve (n_int,) [Jy], transit and ramp: the sum over ``calibrated``
                            dispersion pixels of all the star's light (imaging: its flux density)
``transit``                 relative flux (n_node, n_int) by the transit alone, at ``transit_wavelength`` [micron]
``depth``                   square of the radius ratio (n_node,)
``ramp``                    settling of the detector and the star's own variation (n_int,), a factor
``err_scale``               factor by which ERR is wrong
``slit_rows``               (n_slit, 2) first and last row (exclusive) of the frame that each slit of a file holds
``offset_x, offset_y``      motion of the star (n_int,) [pixel]
``wavelength, flux``        the star on the dispersion pixels (n_disp,) [micron], [Jy]
``calibrated``              dispersion pixels that have a wavelength (spectroscopy)
``spectra``                 (n_int, n_disp) [Jy], float32; absent if longer than 20 million numbers: then it is
                            ``flux`` times ``transit`` interpolated to ``wavelength`` times ``ramp``
``trace``                   cross-dispersion pixel of the star (n_disp,); imaging: (x, y)
``background, reference``   (ny, nx) in the unit of SCI: sky and hot pixels; noise-free integration 0
``flat``                    (ny, nx) residual of the flat field that multiplies the scene
``cosmic_ray_*``            one entry per pixel and integration: ``integration, y, x, amplitude`` (as added to SCI),
                            ``sigma`` (in units of ERR), ``caught`` (by the jump step: nothing added, JUMP_DET set)
``bad_*``                   bad pixels: ``y, x, kind`` (index into ``bad_kinds``), ``period, phase``: an intermittent
                            one is flagged where (i + phase) % period is 0, a telegraph one is high where
                            (i + phase) // period is odd, a lapsing one is flagged then
``order``                   spectral order of the first layer, if the detector shows several layers
==========================  ========================================================================================

A detector with several layers (spectral orders, stripes, slices) has ``white_light``, ``transit*``, ``depth``,
``wavelength``, ``flux``, ``trace``, ``calibrated``, ``spectra`` and ``order`` of the second as ``white_light_2``, ...
"""

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


def white_light(scene: DetectorScene, layer: int = 0) -> np.ndarray:
    """
    Return the noise-free light curve of an exposure.

    Parameters
    ----------
    scene : DetectorScene
        The detector.
    layer : int, optional
        Which of its layers (spectral orders, stripes).

    Returns
    -------
    flux : ndarray, shape (n_int,)
        Spectroscopy: sum over the calibrated wavelengths of the trace of the star's flux density [Jy], with transit and
        ramp; imaging: the flux density [Jy]. All of the star's light, not that inside an aperture.
    """
    n_int, light = scene.options.n_int, scene.layers[layer]
    if scene.instrument.dispersion_axis == 0:
        return light.spectrum[0] * light.light_curves[0] * scene.ramp
    valid = calibrated(scene, layer)
    return np.array([(light.spectrum * scene.transmission(i, layer))[valid].sum() for i in range(n_int)])


def calibrated(scene: DetectorScene, layer: int = 0) -> np.ndarray:
    """Return True for dispersion pixels whose trace is on the detector and has a wavelength there."""
    place = scene.layers[layer].geometry
    finite = np.isfinite(place.wavelength)
    index = np.rint(place.trace).astype(int)
    along = np.arange(len(index))
    size = finite.shape[0 if scene.instrument.dispersion_axis == 1 else 1]
    inside, index = (index >= 0) & (index < size), np.clip(index, 0, size - 1)
    return inside & (finite[index, along] if scene.instrument.dispersion_axis == 1 else finite[along, index])


def write_truth(path: Path, scene: DetectorScene, times: ExposureTimes, hits: list[tuple[int, Hits]]) -> None:
    """
    Write the truth of one exposure of one detector; the names are those of the module.

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
    from tso3.simulate.stripes import rows_of

    nx = scene.shape[1]
    index = np.concatenate([h.index for _, h in hits]) if hits else np.zeros(0, int)
    bad = scene.bad
    content = {
        "time_mjd_utc": times.mid, "time_bjd_tdb": times.mid_bjd,
        "ramp": scene.ramp, "err_scale": np.array(scene.options.troubles.err_scale),
        "slit_rows": np.array([(rows.start, rows.stop) for rows in rows_of(scene).values()]),
        "offset_x": scene.offsets[:, 0], "offset_y": scene.offsets[:, 1],
        "background": scene.background * scene.convert, "flat": scene.flat.astype(np.float32),
        "reference": scene.model(0) * scene.convert,
        "cosmic_ray_integration": np.concatenate([np.full(len(h.index), i) for i, h in hits]) if hits else index,
        "cosmic_ray_y": index // nx, "cosmic_ray_x": index % nx,
        "cosmic_ray_amplitude": np.concatenate([h.amplitude for _, h in hits]) if hits else np.zeros(0),
        "cosmic_ray_sigma": np.concatenate([h.sigma for _, h in hits]) if hits else np.zeros(0),
        "cosmic_ray_caught": np.concatenate([h.caught for _, h in hits]) if hits else np.zeros(0, bool),
        "bad_y": bad.y, "bad_x": bad.x, "bad_kind": bad.kind, "bad_kinds": np.array(KINDS),
        "bad_period": bad.period, "bad_phase": bad.phase,
    }  # fmt: skip
    for number in range(len(scene.layers)):
        suffix = "" if number == 0 else f"_{number + 1}"
        content |= {name + suffix: values for name, values in _of_layer(scene, number).items()}
    with open(path, "wb") as stream:
        np.savez(stream, **content)


def _of_layer(scene: DetectorScene, number: int) -> dict[str, np.ndarray]:
    """Return what is particular to one layer."""
    layer = scene.layers[number]
    content = {
        "white_light": white_light(scene, number),
        "transit_wavelength": layer.nodes, "transit": layer.light_curves,
        "depth": scene.options.transit.radius_ratio(layer.nodes) ** 2,
        "wavelength": layer.geometry.along, "flux": layer.spectrum, "trace": layer.geometry.trace,
    }  # fmt: skip
    if len(scene.layers) > 1:
        content["order"] = np.array(layer.order.number)
    if scene.instrument.dispersion_axis:
        content["calibrated"] = calibrated(scene, number)
        if scene.options.n_int * len(layer.spectrum) <= _MAX_SPECTRA:
            spectra = np.empty((scene.options.n_int, len(layer.spectrum)), np.float32)
            for i in range(scene.options.n_int):
                spectra[i] = layer.spectrum * scene.transmission(i, number)
            content["spectra"] = spectra
    return content
