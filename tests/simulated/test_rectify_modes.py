"""The operator of rectification on the mapping of every mode: against drizzle, and against known light."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tso3
from tso3 import pipeline
from tso3.core._overlap import quadrilateral_areas
from tso3.core.rectify import Corners, Rectifier, rectify
from tso3.simulate import simulate
from tso3.steps import rectified_image
from tso3.steps import rectify as rectify_step
from tso3.steps.rectify import RectifyPlan

SPECTRA = {
    "g395h": ("NRS_BRIGHTOBJ", {"configuration": "G395H", "detectors": ["NRS2"]}),
    "prism": ("NRS_BRIGHTOBJ", {"configuration": "PRISM"}),
    "grism": ("NRC_TSGRISM", {"configuration": "F322W2"}),
    "dhs": ("NRC_TSGRISM", {"configuration": "DHS", "detectors": ["NRCA1"]}),
    "lrs": ("MIR_LRS-SLITLESS", {}),
    "soss": ("NIS_SOSS", {}),
}
IMAGES = {"tsimage": ("NRC_TSIMAGE", {}), "miri": ("MIR_IMAGE", {})}


@dataclass(frozen=True)
class Mapping:
    """One spectrum, or the images, of an exposure: dispersion along the last axis."""

    label: str
    corners: Corners
    usable: np.ndarray
    density: np.ndarray | None
    widths: np.ndarray | None
    turned: bool
    rectifier: Rectifier
    plan: RectifyPlan


class _PlannedError(Exception):
    """Ends a run as soon as rectification is planned."""


def mappings(monkeypatch: Any, visit: Any, folder: Any, **parameters: Any) -> list[Mapping]:
    """
    Return the mappings of a visit, as a run has them when rectification is planned; nothing is written.

    What the run hands to `make_rectifier` is caught on the way.
    """
    caught: list[tuple] = []
    lanes: list[Any] = []

    def noted(make):
        def made(corners, shape, usable=None, density=None, widths=None, *, turned=False, inside=None):
            found = make(corners, shape, usable, density, widths, turned=turned, inside=inside)
            size = (corners.x.shape[0] - 1, corners.x.shape[1] - 1)
            usable = np.ones(size, bool) if usable is None else usable
            if inside is not None:  # of the rows beside, nothing is used
                beside = ((inside[0], inside[1] - inside[0] - size[0]), (0, 0))
                corners = Corners(*(np.pad(p, beside, "reflect", reflect_type="odd") for p in (corners.x, corners.y)))
                usable = np.pad(usable, beside)
                density = None if density is None else np.pad(density, beside)
            caught.append((corners, usable, density, widths, turned, found))
            return found

        return made

    prepare = pipeline.prepare_rectification

    def planned(given, *rest):
        prepare(given, *rest)
        lanes.extend(given)
        raise _PlannedError

    with monkeypatch.context() as patch:
        for module in (rectify_step, rectified_image):
            patch.setattr(module, "make_rectifier", noted(module.make_rectifier))
        patch.setattr(pipeline, "prepare_rectification", planned)
        with suppress(_PlannedError):
            tso3.run(visit.association, folder, overrides=visit.references, parameters={"rectify": parameters})
    plans = [(lane, plan) for lane in lanes for plan in lane.recipe.rectify]
    found = []
    for lane, plan in plans:
        (match,) = [each for each in caught if each[-1] is plan.rectifier]
        label = f"{lane.exposure.detector}{plan.layout.mark}"
        found.append(Mapping(label, *match, plan))
    return found


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """Return what simulates a mode once."""
    made = {}

    def visit(mode):
        if mode not in made:
            exp_type, options = (SPECTRA | IMAGES)[mode]
            made[mode] = simulate(
                exp_type, tmp_path_factory.mktemp(mode), n_int=2, seed=4, cosmic_rays=0.0, noise=False, **options
            )
        return made[mode]

    return visit


def exploded(corners, rows, columns):
    """
    Return a pixmap of some pixels, shape (n, n_columns) each, from which drizzle takes the very corners of every pixel.

    Drizzle takes a corner as the mean of the four centres about it, which is not where a curved mapping has it. So
    every pixel becomes the second of 4 by 4, the first three of which go on its own bilinear map: the means of four
    are then its four corners exactly. Only the second has weight; the fourth keeps those between from having no area.
    """
    planes = []
    v, u = (np.array([-0.5, 0.5, 1.5, 2.2]).reshape(shape) for shape in ((1, 4, 1, 1), (1, 1, 1, 4)))
    for plane in (corners.x, corners.y):
        a, b, c, d = (plane[rows + i, columns + k][:, np.newaxis, :, np.newaxis] for i in (0, 1) for k in (0, 1))
        out = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
        whole = out.reshape(4 * rows.shape[0], 4 * columns.size)
        planes.append(np.pad(whole, 40, mode="reflect", reflect_type="odd"))  # it skips pixels at the border
    return np.stack(planes, -1)


def spread_out(image):
    """Return an image, every pixel the second of 4 by 4, which are zero."""
    out = np.zeros((image.shape[0], 4, image.shape[1], 4), np.float32)
    out[:, 1, :, 1] = image
    return np.pad(out.reshape(4 * image.shape[0], 4 * image.shape[1]), 40)


def about_the_trace(corners, columns, height):
    """
    Return the rows of each column that can reach the grid, shape (n, n_columns), which may be beyond the image.

    Drizzle inverts the pixmap to find which pixels of each row can reach the grid, by a polygon through few corners. Of
    a steep trace, in a piece of more than two columns that all begin in the same row, it then leaves out pixels; of one
    whose columns begin as far from the trace as each other, none.
    """
    middle = corners.y.shape[0] // 2
    there = 0.5 * (corners.y[middle, columns] + corners.y[middle, columns + 1])
    first = middle + np.rint(0.5 * height - there).astype(int)
    return first + np.arange(-(height // 2) - 8, height // 2 + 9)[:, np.newaxis]


def drizzled(mapping, image, columns):
    """Return values and weights of one integration by drizzle, bad pixels left out by weight."""
    from drizzle import resample

    corners, (ny, nx) = mapping.corners, mapping.rectifier.shape
    area = np.abs(quadrilateral_areas(corners.x, corners.y))  # drizzle counts in input pixels, we in output pixels
    good = np.isfinite(image) & mapping.usable & np.isfinite(area)
    density = 1.0 if mapping.density is None else mapping.density
    values = np.where(good, np.nan_to_num(image * density), 0.0)
    weights = np.where(good, area, 0.0)
    total, mean = np.zeros((ny, nx)), np.full((ny, nx), np.nan)
    for part in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):  # far from each other
        rows = about_the_trace(corners, part, ny)
        beyond = int(max(-rows.min(), rows.max() + 1 - image.shape[0], 0))
        edges = ((beyond, beyond), (0, 0))
        longer = Corners(*(np.pad(plane, edges, "reflect", reflect_type="odd") for plane in (corners.x, corners.y)))
        given, weight = (np.pad(plane, edges)[rows + beyond, part] for plane in (values, weights))
        pixmap = exploded(longer, rows + beyond, part)
        low = np.minimum(np.floor(np.nanmin(pixmap, axis=(0, 1))).astype(int) - 3, 0)  # drizzle inverts the pixmap to
        high = np.maximum(np.ceil(np.nanmax(pixmap, axis=(0, 1))).astype(int) + 4, (nx, ny))  # see which rows matter:
        shape = tuple((high - low)[::-1])  # all shall
        witness = resample.Drizzle(kernel="square", fillval="nan", out_shape=shape, disable_ctx=True)
        witness.add_image(spread_out(given), 1.0, pixmap - low, weight_map=spread_out(weight), pixfrac=1.0)
        frame = np.s_[-low[1] : ny - low[1], -low[0] : nx - low[0]]
        total += witness.out_wht[frame]
        mean = np.where(witness.out_wht[frame] > 0.0, witness.out_img[frame], mean)
    return mean * (1.0 if mapping.widths is None else mapping.widths), total


@pytest.mark.jwst
@pytest.mark.filterwarnings("ignore::tso3.errors.Tso3Warning")
@pytest.mark.parametrize("mode", [*SPECTRA, *IMAGES])
def test_equals_drizzle_with_the_mapping_of_the_mode(mode, visits, tmp_path, monkeypatch):
    found = mappings(monkeypatch, visits(mode), tmp_path)
    assert len(found) == {"soss": 3, "dhs": 4}.get(mode, 1)
    width = 12
    for mapping in found[-1:] if mode == "dhs" else found:  # its four stripes are alike
        rng = np.random.default_rng(8)
        data = rng.uniform(50.0, 150.0, (1, *mapping.usable.shape)).astype(np.float32)
        data[rng.random(data.shape) < 0.01] = np.nan
        known = np.flatnonzero(mapping.usable.any(axis=0))
        columns = np.unique(np.concatenate([known[:width], known[known.size // 2 :][:width], known[-width:]]))
        data[:, :, np.setdiff1d(np.arange(data.shape[2]), columns)] = np.nan
        given = data.transpose(0, 2, 1) if mapping.turned else data
        ours = rectify(mapping.rectifier, np.ascontiguousarray(given))
        for i, image in enumerate(data):
            values, weights = drizzled(mapping, image, columns)
            inside = weights > 1e-3
            np.testing.assert_allclose(ours.weight[i], weights, atol=1e-5)
            np.testing.assert_allclose(ours.data[i][inside], values[inside], rtol=1e-5)
            assert inside.sum() > 0.25 * columns.size * mapping.rectifier.shape[0]
