"""Rectified spectra against scenes whose flux, lines and trace are known exactly."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tso3.core.rectify import rectify
from tso3.errors import ParameterError
from tso3.parameters import Rectify
from tso3.rectified_lane import _shifts
from tso3.steps import rectify as rectify_step
from tso3.steps.rectified_frame import SpectrumPlace, _whole, missed, shared_edges, shared_rows
from tso3.steps.rectify import prepare_spectra, rectifier_of

NY, NX = 24, 160
FINE = 9


def scene(bunit="MJy", tilt=-0.04, curve=1.3, bend=2e-7, turned=False, shift=(0.0, 0.0)):
    """Wavelength and trace of a curved spectrum with tilted lines, and what renders light on it."""
    line = lambda x: 2.0 + 1e-3 * x + bend * (x - NX / 2) ** 2  # noqa: E731
    row = lambda x: NY / 2 + curve * np.sin(2.0 * x / NX)  # noqa: E731

    def along(x, y):  # the column whose wavelength a place has
        return x + tilt * (y - row(x))

    y, x = np.indices((NY, NX), dtype=float)
    exposure = SimpleNamespace(bunit=bunit, label="scene")
    place = SpectrumPlace(exposure, line(along(x, y)), row(np.arange(NX)), turned, 1, "")

    def render(spectrum, width=1.2):
        """Light in every pixel: the mean over its area of spectrum times profile."""
        image = np.zeros((NY, NX))
        for dy in (np.arange(FINE) + 0.5) / FINE - 0.5:
            for dx in (np.arange(FINE) + 0.5) / FINE - 0.5:
                column = along(x + dx - shift[0], y + dy - shift[1])
                across = y + dy - shift[1] - row(column)
                image += spectrum(line(column), column) * np.exp(-0.5 * (across / width) ** 2)
        return image / (width * np.sqrt(2.0 * np.pi) * FINE**2)

    return place, render, line


def rectified(place, image, step="mean", height=64, shift=(0.0, 0.0)):
    edges = shared_edges([place], Rectify(step=step))
    rows = shared_rows([place], edges, height)
    plan = rectifier_of(place, edges, rows, shift)
    image = image.T if place.turned else image
    return edges, rows[1], rectify(plan, image[np.newaxis].astype(np.float32)).data[0].astype(float)


def smooth(wavelength, column):
    """A spectrum that is smooth over 20 pixels."""
    return 1.0 - 0.1 * np.exp(-0.5 * ((column - 70.0) / 20.0) ** 2) + 0.001 * column


@pytest.mark.parametrize("step", ["mean", "native", 0.002, "2.01,2.02,2.03,2.041,2.05,2.07,2.1,2.15"])
@pytest.mark.parametrize("turned", [False, True])
def test_flux_density_is_that_of_the_bins(step, turned):
    place, render, line = scene(turned=turned)
    edges, _, found = rectified(place, render(smooth), step)
    columns = np.linspace(-1.0, NX, 200_000)
    total = np.concatenate([[0.0], np.cumsum(smooth(None, columns[1:]) * np.diff(line(columns)))])
    truth = np.diff(np.interp(edges.edges, line(columns), total)) / np.diff(edges.edges)
    inner = np.flatnonzero((edges.edges[:-1] > line(8.0)) & (edges.edges[1:] < line(NX - 9.0)))
    assert inner.size >= 5
    np.testing.assert_allclose(np.nansum(found, axis=0)[inner], truth[inner], rtol=1e-4)


@pytest.mark.parametrize("step", ["mean", "native", "2.01,2.02,2.03,2.041,2.05,2.07,2.1,2.15"])
def test_counts_are_those_of_the_bins(step):
    place, render, line = scene("DN/s", curve=0.0)
    edges, _, found = rectified(place, render(smooth), step)
    columns = np.linspace(-1.0, NX, 200_000)
    total = np.concatenate([[0.0], np.cumsum(smooth(None, columns[1:]) * np.diff(columns))])
    truth = np.diff(np.interp(edges.edges, line(columns), total))
    inner = np.flatnonzero((edges.edges[:-1] > line(8.0)) & (edges.edges[1:] < line(NX - 9.0)))
    np.testing.assert_allclose(np.nansum(found, axis=0)[inner], truth[inner], rtol=1e-4)


@pytest.mark.parametrize("step", ["mean", 0.0007, "R=2500", "2.01,2.0115,2.013,2.014,2.016,2.018,2.019,2.15"])
@pytest.mark.parametrize("bunit", ["MJy", "DN/s"])
def test_nothing_is_lost_on_a_grid_that_is_not_that_of_the_pixels(step, bunit):
    """Single columns may be off by the slope of the spectrum times a tenth of a pixel, sums of many are not."""
    place, render, line = scene(bunit, bend=2e-6, curve=0.0)
    edges, _, found = rectified(place, render(smooth), step)
    columns = np.linspace(-1.0, NX, 200_000)
    per = np.diff(line(columns)) if bunit == "MJy" else np.diff(columns)
    total = np.concatenate([[0.0], np.cumsum(smooth(None, columns[1:]) * per)])
    inner = np.flatnonzero((edges.edges[:-1] > line(8.0)) & (edges.edges[1:] < line(NX - 9.0)))
    truth = np.ptp(np.interp(edges.edges[[inner[0], inner[-1] + 1]], line(columns), total))
    width = np.diff(edges.edges)[inner] if bunit == "MJy" else 1.0
    assert (np.nansum(found, axis=0)[inner] * width).sum() == pytest.approx(truth, rel=5e-5)


@pytest.mark.parametrize("tilt", [-0.04, 0.1])
def test_lines_are_vertical_and_the_trace_is_level(tilt):
    place, render, _ = scene(tilt=tilt)
    spike = lambda wavelength, column: np.exp(-0.5 * ((column - 81.3) / 0.8) ** 2)  # noqa: E731
    _, centre, found = rectified(place, render(spike, width=3.0))
    part = found[centre - 6 : centre + 7, 70:95]
    place_of_line = (part * np.arange(25)).sum(axis=1) / part.sum(axis=1)
    assert np.ptp(place_of_line) < 0.02
    _, centre, found = rectified(place, render(smooth))
    inner = np.nan_to_num(found[centre - 7 : centre + 8, 4:-4])
    trace = (inner * np.arange(-7.0, 8.0)[:, np.newaxis]).sum(axis=0) / inner.sum(axis=0)
    assert np.abs(trace).max() < 0.02


def test_integrations_follow_their_shift():
    shift = (0.3, -0.2)
    still, moved = scene(), scene(shift=shift)
    spike = lambda wavelength, column: 1.0 + np.exp(-0.5 * ((column - 81.3) / 1.5) ** 2)  # noqa: E731
    _, centre, expected = rectified(still[0], still[1](spike, 2.5))
    _, _, followed = rectified(still[0], moved[1](spike, 2.5), shift=shift)
    _, _, unmoved = rectified(still[0], moved[1](spike, 2.5))
    rows, columns = np.arange(-7.0, 8.0), np.arange(70.0, 93.0)

    def centre_of(image):
        part = image[centre - 7 : centre + 8, 70:93]
        above = part.sum(axis=0) - part.sum(axis=0)[[0, 1, -2, -1]].mean()
        return (part.sum(axis=1) * rows).sum() / part.sum(), (above * columns).sum() / above.sum()

    np.testing.assert_allclose(centre_of(followed), centre_of(expected), atol=0.02)
    np.testing.assert_allclose(np.subtract(centre_of(unmoved), centre_of(expected)), shift[::-1], atol=0.03)


def test_wavelength_rises_whichever_way_it_runs():
    place, _, _ = scene()
    back = SpectrumPlace(place.exposure, place.wavelength[:, ::-1], place.trace[::-1], False, 1, "")
    image = np.arange(NX)[np.newaxis] + np.zeros((NY, 1))
    _, centre, found = rectified(place, image)
    _, _, other = rectified(back, image[:, ::-1])
    np.testing.assert_allclose(other[centre, 5:-5], found[centre, 5:-5], rtol=1e-5)
    assert np.all(np.diff(found[centre, 5:-5]) > 0.0)


def test_rows_reach_as_far_as_the_detector_or_the_height():
    place, _, _ = scene()
    edges = shared_edges([place], Rectify())
    n_rows, centre = shared_rows([place], edges, 64)
    assert centre >= place.trace.max()
    assert n_rows - 1 - centre >= NY - 1 - place.trace.max()
    assert shared_rows([place], edges, 9) == (9, 4)


def test_exposures_share_their_grid():
    first, _, _ = scene()
    second = SpectrumPlace(first.exposure, first.wavelength + 3e-4, first.trace, False, 1, "")
    shared = shared_edges([first, second], Rectify())
    assert shared.edges[0] <= first.on_trace[0] + 1e-9
    assert shared.edges[-1] >= second.on_trace[-1] - 1e-9


@pytest.mark.parametrize("step", [1e-9, "9.0,9.1"])
def test_grids_without_the_spectrum_are_refused(step):
    place, _, _ = scene()
    with pytest.raises(ParameterError, match=r"rectify\.step"):
        shared_edges([place], Rectify(step=step))


@pytest.mark.parametrize("step", ["R=0", "2.0,1.0", "wide", -1.0, True])
def test_steps_that_mean_nothing(step):
    with pytest.raises(ValueError, match="must be auto, mean, native"):
        Rectify(step=step)


@pytest.mark.parametrize(
    ("npixels", "whole"),
    [([9.8, 13.0, 13.0, 13.0, 6.0, 2.0], [1, 2, 3]), ([0.0, 8.0, 8.05, 8.1], [1, 2, 3]), ([5.0], [0]), ([4, 2], [0])],
)
def test_columns_where_the_end_of_a_box_is_cut_are_left_out(npixels, whole):
    assert np.flatnonzero(_whole(np.array(npixels, float))).tolist() == whole


def test_unknown_shifts_are_told():
    """An integration whose motion is unknown along an axis is not moved along it, and a line says so."""
    said = []
    lane = SimpleNamespace(
        setting=SimpleNamespace(
            parameters=SimpleNamespace(rectify=SimpleNamespace(follow_jitter=True)),
            progress=SimpleNamespace(message=said.append),
        ),
        exposure=SimpleNamespace(label="visit"),
        found=SimpleNamespace(values={"shift_x": np.array([0.1, np.nan, 0.2]), "shift_y": np.array([0.3, 0.4, 0.5])}),
    )
    np.testing.assert_array_equal(_shifts(lane, False), [[0.1, 0.3], [0.0, 0.4], [0.2, 0.5]])
    assert len(said) == 1
    assert "visit: of 1 of 3" in said[0]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("tilt", "curve", "height"), [(-0.04, 1.3, 5), (0.3, 6.0, 7), (0.0, 0.0, 1)])
def test_rows_far_from_the_trace_are_not_looked_at(tilt, curve, height, turned, monkeypatch):
    place, _, _ = scene("DN/s", tilt, curve, turned=turned)
    edges = shared_edges([place], Rectify())
    rows = shared_rows([place], edges, height)
    some = rectifier_of(place, edges, rows)
    monkeypatch.setattr(rectify_step, "_near", lambda row, n_rows: slice(0, len(row)))
    every = rectifier_of(place, edges, rows)
    assert some.input_shape == every.input_shape
    stack = np.random.default_rng(2).uniform(1.0, 2.0, (2, *every.input_shape)).astype(np.float32)
    for name in ("data", "weight"):
        ours, whole = (getattr(rectify(each, stack), name) for each in (some, every))
        np.testing.assert_allclose(ours, whole, rtol=1e-6)


def in_a_file(place):
    """Give the scene what the step asks of an exposure."""
    place.exposure.planes = ()
    place.exposure.geometry = SimpleNamespace(skies=lambda x, y: None, sky=lambda x, y: None, world=lambda x, y: None)


@pytest.mark.parametrize("turned", [False, True])
def test_rows_of_moved_integrations_are_kept(turned):
    """What is kept of a block holds every row that any of its integrations reads, be it moved up or down."""
    place, _, _ = scene("DN/s", -0.04, 1.3, turned=turned)
    in_a_file(place)
    shifts = np.array([[0.0, 0.0], [0.3, 0.7], [-0.4, -1.6], [0.1, 2.2]])
    (plan,) = prepare_spectra([place], Rectify(height=6), [shifts])
    needed = [plan.moved(tuple(shift)).rows for shift in shifts]
    assert plan.rows.start == min(rows.start for rows in needed)
    assert plan.rows.stop == max(rows.stop for rows in needed)
    assert turned or plan.rows != plan.rectifier.rows


@pytest.mark.parametrize("step", ["auto", "R=60"])
def test_few_columns_do_not_make_a_chunk_of_many_integrations(step):
    """Pixels of the detector count as well: copies of them are made."""
    place, _, _ = scene()
    in_a_file(place)
    (plan,) = prepare_spectra([place], Rectify(step=step), [None])
    assert plan.chunk * NY * NX * 4 <= 8 * 2**20


def test_a_list_that_misses_a_spectrum():
    place, _, _ = scene()
    assert missed([place], Rectify(step="3.0,3.1,3.4"))
    assert not missed([place], Rectify(step="1.0,2.05,3.4"))
    assert not missed([place], Rectify(step="R=100"))
