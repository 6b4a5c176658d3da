"""Rectification: overlaps against a slow obvious version, and the whole against drizzle with the same mapping."""

from __future__ import annotations

import numpy as np
import pytest

from tso3.core._overlap import quadrilateral_areas, unit_overlap
from tso3.core.box_covariance import covariance_factor
from tso3.core.rectify import Corners, corners_of, make_rectifier, rectify
from tso3.core.wavelength_grid import GridEdges, grid_edges, mean_step, place_on_grid


def mapping(ny=24, nx=60, curve=1.0, tilt=-0.03, stretch=2e-3):
    """Column and row in the grid at the centre of every pixel: a curved trace, tilted lines, uneven dispersion."""
    y, x = np.indices((ny, nx), dtype=float)
    t = (x - nx / 2) / (nx / 2)
    u = x + 0.3 + tilt * (y - ny / 2) + stretch * (x - nx / 2) ** 2
    return u, y - curve * (1.25 * t - 0.6 * t * t)


def corners(shift=0.0, **options):
    u, v = mapping(**options)
    return Corners(corners_of(u) + shift, corners_of(v) + shift)


def clipped_area(polygon, column, row):
    """Area of a polygon inside a pixel, by cutting it along the four sides one after another."""
    points = [tuple(p) for p in polygon]
    for axis, side, keep_above in ((0, column - 0.5, 1), (0, column + 0.5, 0), (1, row - 0.5, 1), (1, row + 0.5, 0)):
        cut = []
        for p, q in zip(points, points[1:] + points[:1], strict=True):
            inside = [(z[axis] >= side) if keep_above else (z[axis] <= side) for z in (p, q)]
            if inside[0]:
                cut.append(p)
            if inside[0] != inside[1]:
                s = (side - p[axis]) / (q[axis] - p[axis])
                cut.append(tuple(a + s * (b - a) for a, b in zip(p, q, strict=True)))
        points = cut
        if not points:
            return 0.0
    x, y = np.array(points).T
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def test_overlap_equals_clipping():
    rng = np.random.default_rng(3)
    for _ in range(200):
        x, y = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
        angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 2.5)
        px = size * (np.cos(angle) * x - np.sin(angle) * y) + rng.uniform(-1, 1) + rng.normal(0, 0.05, 4)
        py = size * (np.sin(angle) * x + np.cos(angle) * y) + rng.uniform(-1, 1) + rng.normal(0, 0.05, 4)
        assert unit_overlap(px, py, 0.0, 0.0) == pytest.approx(
            clipped_area(np.column_stack([px, py]), 0.0, 0.0), abs=1e-12
        )


def test_areas_are_shared_out_completely():
    where = corners(shift=8.0)
    areas = quadrilateral_areas(where.x, where.y)
    found = make_rectifier(where, (45, 90))
    shared = np.bincount(found.index, weights=found.weight, minlength=areas.size).reshape(areas.shape)
    np.testing.assert_allclose(shared, areas, atol=2e-6)


def test_corners_are_exact_for_cubics():
    y, x = np.indices((6, 9), dtype=float)
    cubic = lambda x, y: 0.01 * x**3 + 0.2 * x * x - y * y + 0.002 * y**3 + 3.0  # noqa: E731
    r, c = np.indices((7, 10)) - 0.5
    np.testing.assert_allclose(corners_of(cubic(x, y))[2:-2, 2:-2], cubic(c, r)[2:-2, 2:-2], atol=1e-12)
    holed = cubic(x, y)
    holed[:, 7:] = np.nan
    np.testing.assert_allclose(corners_of(holed)[2:-2, 2:6], cubic(c, r)[2:-2, 2:6], atol=1e-12)


def slow(where, shape, data, variance):
    """Rectify one image pixel by pixel, by the definition."""
    top = np.zeros((3, *shape))
    ny, nx = data.shape
    for r in range(ny):
        for c in range(nx):
            polygon = [(where.x[a, b], where.y[a, b]) for a, b in ((r, c), (r, c + 1), (r + 1, c + 1), (r + 1, c))]
            x, y = np.array(polygon).T
            if not np.isfinite(data[r, c]):
                continue
            for row in range(max(0, int(y.min())), min(shape[0], int(y.max()) + 2)):
                for column in range(max(0, int(x.min())), min(shape[1], int(x.max()) + 2)):
                    a = clipped_area(polygon, column, row)
                    top[:, row, column] += a, a * data[r, c], a * a * variance[r, c]
    with np.errstate(invalid="ignore", divide="ignore"):
        return top[0], top[1] / top[0], np.sqrt(top[2]) / top[0]


def stack(n, ny, nx, bad=0.01, seed=1):
    rng = np.random.default_rng(seed)
    data = rng.normal(100.0, 5.0, (n, ny, nx)).astype(np.float32)
    data[rng.random(data.shape) < bad] = np.nan
    return data


def test_equals_the_definition():
    where, data = corners(ny=8, nx=20), stack(2, 8, 20, 0.05)
    variance = np.abs(data) * 0.5
    found = rectify(make_rectifier(where, (9, 21)), data, (variance, None, variance))
    for i in range(2):
        weight, values, err = slow(where, (9, 21), data[i], 2.0 * variance[i])
        np.testing.assert_allclose(found.weight[i], weight, atol=1e-6)
        np.testing.assert_allclose(found.data[i], np.where(weight > 1e-8, values, np.nan), rtol=1e-6)
        np.testing.assert_allclose(found.err[i], np.where(weight > 1e-8, err, np.nan), rtol=1e-5)
    assert found.variances[1] is None


def second(plane, axis):
    """Second differences, those at the ends as their neighbours."""
    inner = np.diff(plane, 2, axis=axis)
    return np.concatenate([inner.take([0], axis), inner, inner.take([-1], axis)], axis)


@pytest.mark.jwst
@pytest.mark.parametrize("options", [{}, {"curve": 0.0, "tilt": 0.0}, {"stretch": -4e-3, "tilt": 0.1}])
def test_equals_drizzle_integration_by_integration(options):
    from drizzle import resample

    ny, nx, shift = 24, 60, 12.0
    where, data = corners(shift=shift, **options), stack(3, ny, nx)
    data[:, [0, 1, -2, -1]] = np.nan  # beyond the outermost centres, drizzle continues the mapping in a way of its own
    data[:, :, [0, 1, -2, -1]] = np.nan
    shape = (ny + 24, nx + 30)
    found = rectify(make_rectifier(where, shape), data)
    area = quadrilateral_areas(where.x, where.y)
    centres = [plane - (second(plane, 0) + second(plane, 1)) / 8.0 for plane in mapping(**options)]
    for plane, exact in zip(centres, (where.x, where.y), strict=True):  # its corners are means of four centres
        inner = 0.25 * (plane[1:, 1:] + plane[:-1, 1:] + plane[1:, :-1] + plane[:-1, :-1]) + shift
        np.testing.assert_allclose(inner, exact[1:-1, 1:-1], atol=1e-9)
    for i, image in enumerate(data):
        witness = resample.Drizzle(kernel="square", fillval="nan", out_shape=shape, disable_ctx=True)
        good = np.isfinite(image)
        weights = (good * area).astype(np.float32)  # drizzle counts in input pixels, we in output pixels
        pixmap = np.stack(centres, -1) + shift
        witness.add_image(np.where(good, image, 0).astype(np.float32), 1.0, pixmap, weight_map=weights, pixfrac=1.0)
        np.testing.assert_allclose(found.weight[i], witness.out_wht, atol=1e-6)
        inside = witness.out_wht > 1e-3
        np.testing.assert_allclose(found.data[i][inside], witness.out_img[inside], rtol=1e-5)


def test_one_bad_pixel_stays_where_it_is():
    where, data = corners(), stack(2, 24, 60, 0.0)
    plan = make_rectifier(where, (24, 60))
    clean = rectify(plan, data)
    data[1, 10, 30] = np.nan
    found = rectify(plan, data)
    np.testing.assert_array_equal(found.data[0], clean.data[0])
    touched = np.zeros((24, 60), bool)
    for row in range(24):
        part = slice(plan.first[row], plan.first[row + 1])
        hit = ((plan.index[part] == 10 * 60 + 30) & (plan.weight[part] > 0)).reshape(-1, 60).any(axis=0)
        touched[row] = hit
    assert 4 <= touched.sum() <= 9
    np.testing.assert_array_equal(found.weight[1][~touched], clean.weight[1][~touched])
    np.testing.assert_array_equal(found.data[1][~touched], clean.data[1][~touched])
    assert np.all(found.weight[1][touched] < clean.weight[1][touched])
    assert np.isfinite(found.data[1]).sum() >= np.isfinite(clean.data[1]).sum() - 1


def test_counts_are_kept():
    where = corners(shift=10.0)
    areas = quadrilateral_areas(where.x, where.y)
    data = stack(1, 24, 60, 0.0)
    found = rectify(make_rectifier(where, (48, 90), None, 1.0 / areas), data)
    inner = np.s_[0, 14:26, 20:60]  # pixels that input covers wholly
    assert np.all(np.abs(found.weight[inner] - 1.0) < 1e-5)
    total = np.nansum(found.data[0] * found.weight[0])
    assert total == pytest.approx(float(data.sum()), rel=1e-5)


def test_numbers_do_not_depend_on_the_block():
    plan, data = make_rectifier(corners(), (24, 60)), stack(9, 24, 60)
    whole = rectify(plan, data, (data,))
    for part in (slice(0, 1), slice(2, 7), slice(8, 9)):
        piece = rectify(plan, data[part], (data[part],))
        for name in ("data", "err", "weight"):
            np.testing.assert_array_equal(getattr(piece, name), getattr(whole, name)[part])


def test_covariance_factor_against_noise():
    rng = np.random.default_rng(5)
    plan = make_rectifier(corners(), (24, 60))
    data = rng.normal(0.0, 1.0, (2000, 24, 60)).astype(np.float32)
    found = rectify(plan, data, (np.ones_like(data),))
    box = np.s_[:, 9:14, 5:55]
    scatter = found.data[box].sum(axis=1).std(axis=0)
    separate = np.sqrt((found.err[box][0] ** 2).sum(axis=0))
    assert np.median(scatter / separate) == pytest.approx(covariance_factor(plan, slice(9, 14)), rel=0.04)


@pytest.mark.parametrize("kind", ["linear", "log", "edges"])
def test_places_on_grids(kind):
    if kind == "linear":
        grid = grid_edges((1.0, 2.0), step=0.01)
    elif kind == "log":
        grid = grid_edges((1.0, 2.0), resolution=100.0)
    else:
        grid = GridEdges(np.array([1.0, 1.1, 1.4, 1.5, 2.0]), "edges")
    place = place_on_grid(grid, grid.edges)
    np.testing.assert_allclose(place, np.arange(grid.edges.size) - 0.5, atol=1e-9)
    assert np.isnan(place_on_grid(grid, np.array([np.nan]))[0])
    if kind == "log":
        widths = np.diff(grid.edges)
        np.testing.assert_allclose(grid.edges[:-1] / widths, 100.0, rtol=1e-9)


def test_grids_fit_onto_each_other():
    one, two = grid_edges((1.003, 1.2), step=0.0013), grid_edges((1.1, 1.3), step=0.0013)
    shared = np.intersect1d(one.edges, two.edges)
    assert shared.size > 70


def test_grids_that_cannot_be():
    with pytest.raises(ValueError, match="columns"):
        grid_edges((1.0, 2.0), step=1e-9)
    with pytest.raises(ValueError, match="wavelength"):
        mean_step(np.array([np.nan, 2.0]))


def _by_sums(rectifier, stack, variance):
    """Return the same as `rectify`, overlap by overlap."""
    n_int, (n_rows, n_columns) = len(stack), rectifier.shape
    good = np.isfinite(stack) & ~np.isnan(variance)
    sums = np.zeros((3, n_int, n_rows, n_columns))
    for row in range(n_rows):
        part = slice(rectifier.first[row], rectifier.first[row + 1])
        index = rectifier.index[part].reshape(-1, n_columns)
        weight, value = (values[part].reshape(-1, n_columns) for values in (rectifier.weight, rectifier.value))
        for i in range(n_int):
            valid = good[i].ravel()[index]
            sums[0, i, row] = (weight * valid).sum(axis=0, dtype=np.float64)
            values = np.where(valid, stack[i].ravel()[index], 0.0)
            sums[1, i, row] = (value * values.astype(np.float64)).sum(axis=0)
            values = np.where(valid, variance[i].ravel()[index], 0.0)
            sums[2, i, row] = (value.astype(np.float64) ** 2 * values).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[0], sums[1] / sums[0], np.sqrt(sums[2]) / sums[0]


@pytest.mark.parametrize("scale", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("slope", [0.0, 0.004, 0.3])
@pytest.mark.parametrize("way", ["rising", "falling", "turned"])
def test_every_way_through_the_pixels_gives_the_same_sums(way, slope, scale):
    """Columns that rise or fall with those of the image, or with its rows; long runs of pixels and short ones."""
    rng = np.random.default_rng(7)
    ny, nx = 24, 610
    y, x = np.mgrid[: ny + 1, : nx + 1] - 0.5
    columns = scale * x + 0.02 * y if way != "falling" else scale * (nx - x) + 0.02 * y
    stack = rng.normal(10.0, 1.0, (9, ny, nx)).astype(np.float32)
    variance = rng.uniform(1.0, 2.0, stack.shape).astype(np.float32)
    stack[rng.random(stack.shape) < 0.02] = np.nan
    variance[rng.random(stack.shape) < 0.02] = np.nan
    if way == "turned":
        stack, variance = (np.ascontiguousarray(a.swapaxes(1, 2)) for a in (stack, variance))
    rectifier = make_rectifier(
        Corners(columns, y - slope * x), (9, int(scale * nx)), density=np.full((ny, nx), 0.5), turned=way == "turned"
    )
    assert rectifier.falling == (way == "falling")
    found = rectify(rectifier, stack, (variance, None))
    weight, data, err = _by_sums(rectifier, stack, variance)
    np.testing.assert_allclose(found.weight, weight, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.data, data, rtol=1e-6)
    np.testing.assert_allclose(found.err, err, rtol=1e-6)


@pytest.mark.parametrize("room", [64 * 2**20, 0])
def test_many_pixels_in_one(room, monkeypatch):
    """More overlaps than there is room for at first, and those of a large grid, which are counted first."""
    monkeypatch.setattr("tso3.core.rectify._ROOM", room)
    y, x = 0.2 * np.indices((16, 31)) - 0.5
    stack = np.arange(15.0 * 30, dtype=np.float32).reshape(1, 15, 30)
    found = rectify(make_rectifier(Corners(x, y), (3, 6)), stack)
    np.testing.assert_allclose(found.data[0], stack.reshape(3, 5, 6, 5).mean(axis=(1, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.weight[0], 1.0, rtol=1e-6)


def test_an_infinite_variance_reaches_only_what_its_pixel_overlaps():
    y, x = np.indices((9, 13)) - 0.5
    overlaps = make_rectifier(Corners(x * 1.31 + 0.25 + 0.1 * y, y * 0.8 + 0.3), (8, 12))
    data = np.ones((1, 8, 12), np.float32)
    for pixel in range(data.size):
        variance = np.ones_like(data)
        variance.ravel()[pixel] = np.inf
        touched = np.zeros_like(data)
        touched.ravel()[pixel] = 1.0
        found = rectify(overlaps, data, (variance,)).err[0]
        np.testing.assert_array_equal(np.isinf(found), np.nan_to_num(rectify(overlaps, touched).data[0]) > 0.0)
        np.testing.assert_array_equal(np.isnan(found), overlaps.nominal == 0.0)


def test_an_image_without_a_place_leaves_the_grid_empty():
    nowhere = np.full((4, 5), np.nan)
    found = rectify(make_rectifier(Corners(nowhere, nowhere), (2, 3)), np.ones((1, 3, 4), np.float32))
    assert np.isnan(found.data).all()
    assert (found.weight == 0.0).all()
