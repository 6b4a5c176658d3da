"""Geometry of rectified spectra of every mode: the trace is level, a line of one wavelength is vertical."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tso3
from tso3 import pipeline, rectified_lane
from tso3.core.rectify import rectify
from tso3.core.soss_trace import column_centroids
from tso3.simulate import simulate
from tso3.simulate.configurations import instrument_of
from tso3.simulate.detector import DetectorScene, Options, make_scene
from tso3.simulate.layers import Layer
from tso3.simulate.scene import Pointing, Transit
from tso3.steps.rectified_frame import SpectrumPlace
from tso3.steps.rectify import RectifyPlan

MODES = {
    "g395h": ("NRS_BRIGHTOBJ", "G395H", ["NRS2"]),
    "prism": ("NRS_BRIGHTOBJ", "PRISM", None),
    "grism": ("NRC_TSGRISM", "F322W2", None),
    "dhs": ("NRC_TSGRISM", "DHS", ["NRCA1"]),
    "lrs": ("MIR_LRS-SLITLESS", None, None),
    "soss": ("NIS_SOSS", None, None),
}
QUIET: dict[str, Any] = {
    "noise": False, "cosmic_rays": 0.0, "bad_pixels": 0.0, "jitter": 0.0, "drift": 0.0, "flat_error": 0.0, "depth": 0.0,
}  # fmt: skip


class _PlannedError(Exception):
    """Ends a run as soon as rectification is planned."""


@dataclass(frozen=True)
class Spectrum:
    """One spectrum of a mode: where the run sees it, how it rectifies it, and the layer of the scene that it is."""

    place: SpectrumPlace
    plan: RectifyPlan
    scene: DetectorScene
    layer: Layer
    first: int

    @property
    def truth(self):
        """Row of the star's trace in the exposure's own rows."""
        return self.layer.geometry.trace - self.first

    def cut(self, image):
        """Return the exposure's rows of an image of the detector, dispersion along the last axis."""
        image = image.T if self.place.turned else image
        return image[self.first : self.first + self.place.wavelength.shape[0]]

    def rectified(self, image):
        """Return an image, dispersion along the last axis, rectified."""
        given = image.T if self.place.turned else image
        return rectify(self.plan.rectifier, np.ascontiguousarray(given, np.float32)[np.newaxis]).data[0].astype(float)


def planned(visit, folder, monkeypatch, *, references=True):
    """Return lanes and places of a visit, as a run has them when rectification is planned."""
    found: list[tuple] = []
    places, prepare = rectified_lane._places, pipeline.prepare_rectification

    def noted(lane):
        made = places(lane)
        found.extend((lane, place) for place in made)
        return made

    def stopped(lanes):
        prepare(lanes)
        raise _PlannedError

    with monkeypatch.context() as patch, suppress(_PlannedError):
        patch.setattr(rectified_lane, "_places", noted)
        patch.setattr(pipeline, "prepare_rectification", stopped)
        tso3.run(visit.association, folder, overrides=visit.references if references else {})
    return found


def simulated(mode, folder):
    exp_type, configuration, detectors = MODES[mode]
    return simulate(exp_type, folder, n_int=2, seed=4, configuration=configuration, detectors=detectors, **QUIET)


def spectra(mode, found, visit):
    """Return the spectra of a mode with what is known of them."""
    exp_type, configuration, _ = MODES[mode]
    instrument = instrument_of(exp_type, configuration)
    names = [detector.name for detector in instrument.detectors]
    area = next(iter(instrument.subarrays.values()))
    options = Options(2, 4, Transit(depth=0.0), Pointing(0.0, 0.0, ()), False, 0.0, 0.0, 0.0)
    scenes, made, counts = {}, [], {}
    for lane, place in found:
        name = lane.exposure.detector
        if name not in scenes:
            index = names.index(name) if name in names else 0
            scenes[name] = make_scene(instrument, index, area, options)
        k = counts.get(id(lane), 0)
        counts[id(lane)] = k + 1
        stripe = int(lane.exposure.stripe or 0)
        rows = np.load(next(iter(visit.truths.values())))["slit_rows"] if stripe else [(0, 0)]
        layer = scenes[name].layers[stripe - 1 if stripe else k]
        first = int(rows[stripe - 1][0]) if stripe else 0
        made.append(Spectrum(place, lane.recipe.rectify[k], scenes[name], layer, first))
    return made


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return what gives the spectra of a mode, made once."""
    made, visits = {}, {}
    patch = pytest.MonkeyPatch()

    def get(mode):
        if mode not in made:
            folder = tmp_path_factory.mktemp(mode)
            visit = simulated(mode, folder)
            made[mode] = spectra(mode, planned(visit, folder / "out", patch), visit)
            visits[mode] = visit
        return made[mode]

    get.visits = visits
    return get


def star(spectrum):
    """Return the light of one order alone, without noise and background, dispersion along the last axis."""
    flat = np.ones(spectrum.layer.star.shape)
    image = spectrum.layer.image((0, 0), (0.0, 0.0), 0.1, flat) * spectrum.scene.convert
    return spectrum.cut(image)


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
@pytest.mark.parametrize("mode", MODES)
def test_the_light_of_an_order_alone_is_level(mode, known):
    half = 14.0 if mode == "soss" else 6.0
    for spectrum in known(mode):
        image = np.where(np.isfinite(spectrum.place.wavelength), star(spectrum), np.nan)
        found = spectrum.rectified(image)
        centre = spectrum.plan.layout.grid.centre
        light = np.nansum(found, axis=0)
        whole = np.isfinite(found[max(centre - int(half) - 1, 0) : centre + int(half) + 2]).all(axis=0)
        bright = whole & (light > 0.1 * np.nanmax(light))
        level = column_centroids(found, np.full(found.shape[1], float(centre)), half) - centre
        assert np.isfinite(level[bright]).sum() > 0.2 * level.size
        pieces = np.array_split(level[bright & np.isfinite(level)], 16)
        assert max(abs(np.median(piece)) for piece in pieces) < 0.02


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
def test_the_profile_of_dhs_stays_where_it_is_along_the_columns(known):
    """By the shift of a matched filter, with the mean profile: its image is not symmetric, so a centroid says less."""
    for spectrum in known("dhs"):
        found, centre = spectrum.rectified(star(spectrum)), spectrum.plan.layout.grid.centre
        part = found[centre - 6 : centre + 7]
        light = part.sum(axis=0)
        bright = np.flatnonzero(np.isfinite(light) & (light > 0.1 * np.nanmax(light)))
        profiles = [(part[:, piece] / light[piece]).mean(axis=1) for piece in np.array_split(bright, 16)]
        mean = np.mean(profiles, axis=0)
        basis = np.stack([mean, -np.gradient(mean)], axis=1)
        fits_of = [np.linalg.lstsq(basis, profile, rcond=None)[0] for profile in profiles]
        assert np.ptp([moved / scale for scale, moved in fits_of]) < 0.02


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
@pytest.mark.parametrize("mode", ["g395h", "grism", "soss"])
def test_the_trace_is_that_of_the_scene(mode, known):
    for spectrum in known(mode):
        inside = np.isfinite(spectrum.place.on_trace)
        away = (spectrum.place.trace - spectrum.truth)[inside]
        assert np.abs(away).max() < 0.02


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
def test_built_in_traces_of_soss_follow_the_light_where_orders_meet(known, tmp_path, monkeypatch):
    """The built-in shape of order 1 is up to 3.6 pixels from the scene's, which is rougher."""
    truths = {int(each.layer.order.number): each.truth for each in known("soss")}
    for _, place in planned(known.visits["soss"], tmp_path / "out", monkeypatch, references=False):
        inside = np.isfinite(place.on_trace)
        away = np.abs(place.trace - truths[place.order])[inside]
        assert np.quantile(away, 0.95) < 0.03
        assert away.max() < 0.25


def line(spectrum, wavelength, width=0.8):
    """
    Return the light of one narrow line, even across dispersion, painted by the scene's own geometry.

    ``width`` is its standard deviation [pixel]; every pixel has the mean of 7 places along dispersion, and of 3 across
    where lines are tilted.
    """
    layer, scene = spectrum.layer, spectrum.scene
    detector, instrument = scene.detector.in_order(layer.order), scene.instrument
    n_rows, n_wave = spectrum.place.wavelength.shape
    rows, columns = np.indices((n_rows, n_wave), dtype=float)
    at = np.arange(float(n_wave))
    middle = spectrum.truth - instrument.slit_shift  # the tilt turns about the middle of the slit
    shown = layer.geometry.along
    rising = np.argsort(shown)
    place = np.interp(wavelength, shown[rising], at[rising])
    image = np.zeros((n_rows, n_wave))
    for dy in (-1.0 / 3.0, 0.0, 1.0 / 3.0) if detector.tilt else (0.0,):
        for dx in (np.arange(7) - 3.0) / 7.0:
            x = columns + dx
            about = np.interp(x, at, middle)
            tilted = x + detector.tilt * (rows + dy - about)
            image += np.exp(-0.5 * ((tilted - detector.tilt * instrument.slit_shift - place) / width) ** 2)
    return np.where(np.isfinite(spectrum.place.wavelength), image, np.nan)


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
@pytest.mark.parametrize("mode", MODES)
def test_a_line_is_vertical_and_in_its_column(mode, known):
    for spectrum in known(mode):
        grid = spectrum.plan.layout.grid
        half = 10 if mode == "soss" else 4
        shown = np.sort(spectrum.place.on_trace[np.isfinite(spectrum.place.on_trace)])
        for share in (0.2, 0.5, 0.8):
            wavelength = shown[int(share * shown.size)]
            found = spectrum.rectified(line(spectrum, wavelength))[grid.centre - half : grid.centre + half + 1]
            column = np.interp(wavelength, grid.wavelength, np.arange(grid.shape[1]))
            near = slice(max(int(column) - 12, 0), int(column) + 14)
            part = found[:, near]
            centroid = (part * np.arange(grid.shape[1])[near]).sum(axis=1) / part.sum(axis=1)
            assert np.ptp(centroid) < 0.02
            assert np.abs(centroid - column).max() < 0.05


def painted(spectrum, light, sigma=1.3):
    """
    Return an image of a spectrum, and the flux in each column of its grid, in rows about the trace.

    ``light`` is its flux density by place along the trace [column]. Every pixel has the mean of 5 by 5 places, where
    wavelength and trace are those of the mapping; in amounts per pixel the truth is the integral, else the mean.
    """
    place, grid = spectrum.place, spectrum.plan.layout.grid
    line = place.on_trace
    known = np.flatnonzero(np.isfinite(line))
    rising = known[np.argsort(line[known])]
    plane = place.wavelength
    with np.errstate(invalid="ignore"):
        along, across = np.gradient(plane, axis=1), np.gradient(plane, axis=0)
        bend = np.gradient(along, axis=1)
    rows = np.arange(float(plane.shape[0]))[:, np.newaxis]
    image = np.zeros(plane.shape)
    fifths = (np.arange(5) - 2.0) / 5.0
    for dy in fifths:
        for dx in fifths:
            wavelength = plane + dx * along + dy * across + 0.5 * dx * dx * bend
            column = np.interp(wavelength, line[rising], rising)
            away = rows + dy - np.interp(wavelength, line[rising], place.trace[rising])
            image += light(column) * np.exp(-0.5 * (away / sigma) ** 2) / 25.0
    image /= sigma * np.sqrt(2.0 * np.pi)
    fine = np.linspace(known[0], known[-1], 400_001)
    shown = np.interp(fine, known, line[known])
    steps = np.abs(np.diff(shown)) if not place.per_pixel else np.diff(fine)
    middle = light(0.5 * (fine[1:] + fine[:-1]))
    total = np.concatenate([[0.0], np.cumsum(middle * steps)])
    order = np.argsort(shown)
    truth = np.abs(np.diff(np.interp(grid.edges, shown[order], total[order])))
    return image, truth if place.per_pixel else truth / np.diff(grid.edges)


@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
@pytest.mark.parametrize("mode", MODES)
def test_flux_in_every_bin_is_that_of_the_spectrum(mode, known):
    """With the default columns: dips of 10 per cent with a standard deviation of 20 pixels, on a slope."""
    columns = {"g395h": "native", "prism": "native", "lrs": "native", "soss": "native"}
    for spectrum in known(mode)[:3]:
        assert spectrum.plan.layout.step == columns.get(mode, "mean")
        line = spectrum.place.on_trace
        inside = np.flatnonzero(np.isfinite(line))
        light = lambda column: 1.0 - 0.1 * np.exp(-0.5 * ((column % 160 - 80.0) / 20.0) ** 2) + 2e-4 * column  # noqa: E731
        image, truth = painted(spectrum, light)
        found = spectrum.rectified(image)
        centre, grid = spectrum.plan.layout.grid.centre, spectrum.plan.layout.grid
        ends = np.sort(line[inside[[8, -9]]])
        inner = (grid.edges[:-1] > ends[0]) & (grid.edges[1:] < ends[1])
        part = found[max(centre - 7, 0) : centre + 8]
        whole = inner & np.isfinite(part).all(axis=0)
        assert whole.sum() > 0.9 * inner.sum()
        np.testing.assert_allclose(part.sum(axis=0)[whole], truth[whole], rtol=1e-4)
