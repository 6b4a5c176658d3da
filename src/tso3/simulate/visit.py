"""A whole simulated visit: products, association, truth and reference files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tso3.errors import OutputError, ParameterError
from tso3.simulate.configurations import instrument_of
from tso3.simulate.detector import DetectorScene, Options, make_scene
from tso3.simulate.files import write_segment
from tso3.simulate.instruments import Instrument, Subarray
from tso3.simulate.keywords import SegmentId, stem_of
from tso3.simulate.references import write_references
from tso3.simulate.render import Renderer
from tso3.simulate.reuse import reused
from tso3.simulate.scene import Pointing, Transit
from tso3.simulate.times import exposure_times
from tso3.simulate.troubles import TILT_TIME, Troubles, make_troubles
from tso3.simulate.truth import write_truth

__all__ = ["SimulatedVisit", "simulate"]


@dataclass(frozen=True)
class SimulatedVisit:
    """
    What `simulate` wrote.

    Attributes
    ----------
    association : Path
        Level-3 association of type tso3.
    members : tuple of Path
        The calints files in the order of the association.
    truths : mapping of str to Path
        Truth file by exposure stem (``jw..._00001_nrs1``).
    references : mapping of str to Path
        Reference files by type, as `tso3.run` takes them for ``overrides``.
    product_name : str
        Name of the product in the association.
    extract1d_wcs : Path or None
        Another ``extract1d`` reference, whose aperture follows the trace of the world coordinates; None for imaging.
    """

    association: Path
    members: tuple[Path, ...]
    truths: Mapping[str, Path]
    references: Mapping[str, Path]
    product_name: str
    extract1d_wcs: Path | None = None


def simulate(
    mode: str,
    output_dir: str | Path,
    *,
    configuration: str | None = None,
    n_int: int = 100,
    segments: int | Sequence[int] = 1,
    exposures: int = 1,
    seed: int = 0,
    depth: float = 0.01,
    noise: bool = True,
    cosmic_rays: float = 1.0,
    bad_pixels: float = 0.001,
    jitter: float | None = None,
    drift: float | None = None,
    detectors: Sequence[str] | None = None,
    subarray: str | None = None,
    flat_error: float = 0.002,
    one_over_f: float = 0.3,
    photom: bool = True,
    flux_scale: float = 1.0,
    troubles: Troubles | Mapping[str, Any] | None = None,
    progress: Any = None,
) -> SimulatedVisit:
    """
    Simulate a visit: calints files with a transit, their association, the truth and reference files.

    Parameters
    ----------
    mode : str
        EXP_TYPE, in any case.
    output_dir : path-like
        Folder, made if missing. Files of the same names are replaced.
    configuration : str, optional
        Which of the mode's configurations, such as ``"G395H"``; by default the first (see
        `tso3.simulate.configurations.CONFIGURATIONS`).
    n_int : int, optional
        Integrations per exposure.
    segments : int or sequence of int, optional
        Number of segments of nearly equal length, or their lengths.
    exposures : int, optional
        Exposures one after another; integration numbers start at 1 in each.
    seed : int, optional
        Same seed, same numbers, however the exposure is cut into segments.
    depth : float, optional
        Transit depth (radius ratio squared), 0 for none; the transit fills the middle of the exposure.
    noise : bool, optional
        Photon and read noise; without it SCI is the expectation, cosmic rays aside.
    cosmic_rays : float, optional
        Multiplier of the particle rate at L2; 0 for none.
    bad_pixels : float, optional
        Fraction of bad pixels, of all kinds.
    jitter, drift : float, optional
        Motion of the star [pixel]: rms per integration, and over the exposure. Default: that of the mode.
    detectors : sequence of str, optional
        Subset of the mode's detectors.
    subarray : str, optional
        One of the mode's subarrays; default: the first.
    flat_error : float, optional
        Relative error of the flat field: a static pattern in SCI, and VAR_FLAT. 0: neither, and no such plane.
    one_over_f : float, optional
        Share (amplitude) of the read noise that is common to a detector line.
    photom : bool, optional
        False leaves the products in DN/s.
    flux_scale : float, optional
        Multiplier of the star's flux.
    troubles : Troubles or mapping, optional
        What makes the scene difficult, see `tso3.simulate.Troubles`; nothing by default.
    progress : object, optional
        With methods ``start(stage, total)``, ``advance(n)``, ``finish()``.

    Returns
    -------
    visit : SimulatedVisit
        What was written.

    Raises
    ------
    InputError
        If the mode cannot be simulated; the message names those that can.
    ParameterError
        If another argument is out of its bounds.
    OutputError
        If a file cannot be written.

    Notes
    -----
    Every purpose has its own stream of random numbers: with ``cosmic_rays=0, bad_pixels=0, jitter=0, drift=0`` and no
    troubles the same seed gives the same draw of the noise, on an undisturbed scene.
    """
    instrument = instrument_of(mode, configuration)
    if n_int < 1:
        raise ParameterError(f"{n_int} integrations; give at least 1", "n_int")
    lengths = _segment_lengths(n_int, segments)
    _check(seed=seed, exposures=exposures, depth=depth, cosmic_rays=cosmic_rays, bad_pixels=bad_pixels,
           jitter=jitter or 0.0, drift=drift or 0.0, flat_error=flat_error, one_over_f=one_over_f,
           flux_scale=flux_scale)  # fmt: skip
    which = _detectors(instrument, detectors)
    area = _subarray(instrument, subarray)
    trouble = make_troubles(troubles, instrument)
    steps = ((TILT_TIME, 0.6 * trouble.tilt, 0.8 * trouble.tilt),) if trouble.tilt else ()
    pointing = Pointing(
        instrument.jitter if jitter is None else jitter, instrument.drift if drift is None else drift, steps
    )
    options = Options(n_int, seed, Transit(depth=depth), pointing, noise, cosmic_rays, bad_pixels, flat_error, photom,
                      one_over_f, flux_scale, trouble)  # fmt: skip
    folder = Path(output_dir)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if progress is not None:
        progress.start("simulate", n_int * exposures * len(which))
    written: dict[tuple[int, int, int], Path] = {}
    truths: dict[str, Path] = {}
    references: dict[str, Path] = {}
    for exposure in range(exposures):
        scenes = [make_scene(instrument, i, area, options, exposure) for i in which]
        for i_detector, scene in enumerate(scenes):
            members, truth = _write_exposure(folder, scene, exposure, lengths, progress)
            written |= {(exposure, number, i_detector): path for number, path in enumerate(members)}
            truths[stem_of(scene, exposure)] = truth
        with _writing(folder / "references"):
            references = references or write_references(folder / "references", scenes)
    if progress is not None:
        progress.finish()
    ordered = tuple(written[key] for key in sorted(written))
    with _writing(folder):
        association, product = _write_association(folder, instrument, area, ordered)
    along_wcs = references.pop("extract1d_wcs", None)
    references_by_type = MappingProxyType(references)
    return SimulatedVisit(association, ordered, MappingProxyType(truths), references_by_type, product, along_wcs)


def _write_exposure(
    folder: Path, scene: DetectorScene, exposure: int, lengths: tuple[int, ...], progress: Any
) -> tuple[list[Path], Path]:
    """Write the segments of one exposure of one detector and its truth."""
    when = (scene.clock, scene.options.n_int, scene.detector.time_offset, exposure)
    times = reused("times", when, lambda: exposure_times(*when))
    renderer = Renderer(scene)
    members, hits, first = [], [], 0
    for number, length in enumerate(lengths, start=1):
        segment = SegmentId(exposure, number, len(lengths), first, first + length)
        path = folder / f"{stem_of(scene, exposure, number)}_calints.fits"
        with _writing(path):
            hits += write_segment(path, scene, segment, times, renderer)
        members.append(path)
        first += length
        if progress is not None:
            progress.advance(length)
    truth = folder / f"{stem_of(scene, exposure)}_truth.npz"
    with _writing(truth):
        write_truth(truth, scene, times, hits)
    return members, truth


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file that the system refuses to write, in one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:100]
        raise OutputError(
            f"cannot be written: {reason}; free some space or choose another output folder", error.filename or path
        ) from error


def _segment_lengths(n_int: int, segments: int | Sequence[int]) -> tuple[int, ...]:
    """Return the lengths of the segments: equal but for the last, as the archive cuts."""
    if not isinstance(segments, int):
        lengths = tuple(int(length) for length in segments)
        if sum(lengths) != n_int or min(lengths, default=0) < 1:
            raise ParameterError(f"segments {lengths} do not add up to {n_int} integrations", "segments")
        return lengths
    if not 1 <= segments <= n_int:
        raise ParameterError(f"{segments} segments of {n_int} integrations: give 1 to {n_int}", "segments")
    base = -(-n_int // segments)
    if base * (segments - 1) >= n_int:
        base = n_int // segments
    return (*[base] * (segments - 1), n_int - base * (segments - 1))


def _check(**values: float) -> None:
    """Raise ParameterError for values out of bounds."""
    limits = {"seed": (0, 2**63), "exposures": (1, 1000), "depth": (0, 0.5), "cosmic_rays": (0, 1000),
              "bad_pixels": (0, 0.2), "jitter": (0, 5), "drift": (0, 5), "flat_error": (0, 0.2),
              "one_over_f": (0, 0.99), "flux_scale": (1e-6, 1e6)}  # fmt: skip
    for name, value in values.items():
        low, high = limits[name]
        if not low <= value <= high:
            raise ParameterError(f"{value} is out of bounds; give {low} to {high}", name)


def _detectors(instrument: Instrument, names: Sequence[str] | None) -> list[int]:
    """Return the indices of the detectors to simulate."""
    known = [d.name for d in instrument.detectors]
    if names is None:
        return list(range(len(known)))
    unknown = [n for n in names if n.upper() not in known]
    if unknown or not names:
        raise ParameterError(
            f"no detector {', '.join(unknown) or 'given'} in this mode; it has {', '.join(known)}", "detectors"
        )
    return sorted({known.index(n.upper()) for n in names})


def _subarray(instrument: Instrument, name: str | None) -> Subarray:
    """Return the subarray, the mode's first by default."""
    known = instrument.subarrays
    if name is None:
        return next(iter(known.values()))
    if name.upper() not in known:
        raise ParameterError(f"no subarray {name} in this mode; it has {', '.join(known)}", "subarray")
    return known[name.upper()]


def _write_association(
    folder: Path, instrument: Instrument, area: Subarray, members: Sequence[Path]
) -> tuple[Path, str]:
    """Write the level-3 association and return it with its product name."""
    a = instrument.archive
    asn_id = f"o{a.observation}"
    product = f"jw{a.program}-{asn_id}_t001_{a.product.format(subarray=area.name.lower())}"
    pool = f"jw{a.program}_20260501t000000_pool"
    content = {
        "asn_type": "tso3", "asn_rule": "candidate_Asn_Lv3TSO", "version_id": "20260501t000000",
        "code_version": "3.0.0",
        "degraded_status": "No known degraded exposures in association.", "program": a.program,
        "constraints": "Simulated by tso3", "asn_id": asn_id, "target": "t001", "asn_pool": pool,
        "products": [{"name": product, "members": [
            {"expname": path.name, "exptype": "science", "exposerr": None,
             "asn_candidate": f"[('{asn_id}', 'observation')]"} for path in members]}],
    }  # fmt: skip
    path = folder / f"jw{a.program}-{asn_id}_20260501t000000_tso3_00001_asn.json"
    path.write_text(json.dumps(content, indent=4) + "\n")
    return path, product
