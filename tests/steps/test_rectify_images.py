"""Images of a distorted camera, rectified: where stars lie, what their light adds up to, what the header says."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from tso3.core.rectify import rectify
from tso3.errors import ParameterError
from tso3.parameters import Rectify
from tso3.steps.rectified_image import prepare_image

FINE = 7
SCALE = 0.031 / 3600.0
WIDTH = 1.3
SKY = (217.326725, 63.444556)
TURN = np.radians(33.0)
NARROW, WIDE = (120, 160), (40, 2048)
"""Rows and columns: a strip as long as a detector, with its distortion, and an image with far more distortion."""


def distorted(x, y, shape):
    """
    East and north of a place on the detector [pixel], turned by 33 degrees.

    Off by some pixels: the terms of second degree are 5e-6 and 2e-4 per pixel, the pixels' sides differ by up to 2 and
    8 per cent from the mean.
    """
    half = max(shape) / 2.0
    u, v = (x - 0.4 * shape[1]) / half, (y - 0.4 * shape[0]) / half
    size = 5.0 if shape == WIDE else 1.6
    a = half * u * 1.002 + size * (u * u - 0.7 * u * v + 0.4 * v * v + 0.4 * u**3 - 0.3 * u * v * v)
    b = half * v * 0.998 + size * (0.4 * u * u + 1.1 * u * v - 0.6 * v * v - 0.3 * v**3 + 0.2 * u * u * v)
    return -a * np.cos(TURN) + b * np.sin(TURN), a * np.sin(TURN) + b * np.cos(TURN)


def to_sky(east, north):
    """Right ascension and declination of a place in the tangent plane [pixel], by the formula of the projection."""
    xi, eta = np.radians(east * SCALE), np.radians(north * SCALE)
    ra, dec = np.radians(SKY)
    below = np.cos(dec) - eta * np.sin(dec)
    right = ra + np.arctan2(xi, below)
    return np.degrees(right), np.degrees(np.arctan((eta * np.cos(dec) + np.sin(dec)) / np.hypot(xi, below)))


def exposure(bunit, shape):
    """An exposure as the step sees it."""
    geometry = SimpleNamespace(
        skies=lambda x, y: to_sky(*distorted(x, y, shape)),
        sky=lambda x, y: tuple(float(v) for v in to_sky(*distorted(x, y, shape))),
    )
    return SimpleNamespace(ny=shape[0], nx=shape[1], bunit=bunit, planes=(), geometry=geometry)


def stars(shape):
    """Places of a grid of stars on the detector."""
    columns = np.linspace(14.3, shape[1] - 15.2, 4 if shape == NARROW else 12)
    rows = (13.4, 60.1, 106.8) if shape == NARROW else (20.3,)
    return [(float(x), float(y)) for x in columns for y in rows]


def painted(bunit, shape):
    """Surface brightness, or amount, in every pixel, of stars of flux 1 (in native pixels), round on the sky."""
    image, step = np.zeros(shape), 1e-3
    parts = (np.arange(FINE) + 0.5) / FINE - 0.5
    for x0, y0 in stars(shape):
        y, x = np.mgrid[int(y0) - 12 : int(y0) + 13, int(x0) - 12 : int(x0) + 13].astype(float)
        at = (slice(int(y0) - 12, int(y0) + 13), slice(int(x0) - 12, int(x0) + 13))
        middle = distorted(x0, y0, shape)
        for dy in parts:
            for dx in parts:
                east, north = distorted(x + dx, y + dy, shape)
                light = np.exp(-0.5 * ((east - middle[0]) ** 2 + (north - middle[1]) ** 2) / WIDTH**2)
                (ex, nx), (ey, ny) = distorted(x + dx + step, y + dy, shape), distorted(x + dx, y + dy + step, shape)
                area = np.abs((ex - east) * (ny - north) - (ey - east) * (nx - north)) / step**2
                image[at] += light * (area if bunit == "DN/s" else 1.0)
    return image / (FINE**2 * 2.0 * np.pi * WIDTH**2)


def world_of(plan):
    """The product's FITS WCS, as astropy reads it from the header."""
    header = fits.Header([(name, value) for name, value, _ in plan.layout.grid.cards()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header, naxis=3)


def size_of(plan):
    """Size of a pixel of the grid [deg]."""
    return float(np.sqrt(abs(np.linalg.det(np.array(plan.layout.grid.matrix)))))


@pytest.fixture(scope="module")
def images():
    return {(bunit, shape): painted(bunit, shape) for bunit in ("MJy/sr", "DN/s") for shape in (NARROW, WIDE)}


CASES = [
    (WIDE, Rectify(), 0.01),
    (WIDE, Rectify(pixel_scale=0.05), 0.01),
    (NARROW, Rectify(north_up=True), 0.01),
    (NARROW, Rectify(pixel_scale=0.02), 0.01),
    (NARROW, Rectify(pixel_scale=0.05, north_up=True), 0.01),
    (NARROW, Rectify(), 0.03),  # pixels along the grid, smaller by 6 per cent: their light is moved by half of that
]


@pytest.mark.parametrize("bunit", ["MJy/sr", "DN/s"])
@pytest.mark.parametrize(("shape", "parameters", "limit"), CASES)
def test_stars_lie_where_the_header_says_with_all_their_light(images, bunit, shape, parameters, limit):
    plan = prepare_image(exposure(bunit, shape), parameters)
    found = rectify(plan.rectifier, images[bunit, shape][np.newaxis].astype(np.float32)).data[0].astype(float)
    world, size = world_of(plan), size_of(plan)
    count = 1.0 if bunit == "DN/s" else plan.layout.grid.area / (SCALE * 3600.0) ** 2
    for place in stars(shape):
        ra, dec = to_sky(*distorted(*place, shape))
        x, y, _ = world.all_world2pix([[ra, dec, 1.0]], 0)[0]
        radius = 9.0 * SCALE / size
        part = tuple(slice(max(0, int(at - radius)), int(at + radius) + 2) for at in (y, x))
        light = np.nan_to_num(found[part])
        rows, columns = np.mgrid[part]
        total = light.sum()
        assert total * count == pytest.approx(1.0, abs=1e-4)
        assert (light * columns).sum() / total == pytest.approx(x, abs=limit)
        assert (light * rows).sum() / total == pytest.approx(y, abs=limit)


@pytest.mark.parametrize("parameters", [Rectify(), Rectify(north_up=True), Rectify(pixel_scale=0.02)])
def test_a_flat_stays_flat_to_the_edges(parameters):
    """Surface brightness is kept everywhere, and no pixel is cut off where the grid ends."""
    plan = prepare_image(exposure("MJy/sr", NARROW), parameters)
    found = rectify(plan.rectifier, np.full((1, *NARROW), 3.0, np.float32)).data
    np.testing.assert_allclose(found[np.isfinite(found)], 3.0, rtol=1e-6)
    y, x = (np.append(np.arange(n) - 0.5, n - 0.5) for n in NARROW)
    corners = distorted(*np.meshgrid(x, y), NARROW)
    (ax, bx), (ay, by) = ((c[:-1, :-1] - c[1:, 1:], c[:-1, 1:] - c[1:, :-1]) for c in corners)
    area = np.abs(ax * by - ay * bx).sum() / 2.0
    pixels = plan.layout.grid.area / (SCALE * 3600.0) ** 2
    assert plan.rectifier.nominal.sum(dtype=float) * pixels == pytest.approx(area, rel=2e-4)


@pytest.mark.parametrize("scale", [None, 0.02, 0.07])
def test_north_is_up_and_pixels_are_as_wide_as_asked(scale):
    plan = prepare_image(exposure("MJy/sr", NARROW), Rectify(north_up=True, pixel_scale=scale))
    world = world_of(plan)
    x, y = plan.layout.grid.pixel
    (ra, dec, _), (ra_up, dec_up, _), (ra_right, dec_right, _) = world.all_pix2world(
        [[x, y, 0], [x, y + 1, 0], [x + 1, y, 0]], 0
    )
    cosine = np.cos(np.radians(dec))
    angle = np.degrees(np.arctan2((ra_up - ra) * cosine, dec_up - dec))
    assert abs(angle) < 1e-3
    assert dec_right == pytest.approx(dec, abs=1e-9)
    assert ra_right < ra  # east is left
    wanted = size_of(plan) * 3600.0 if scale is None else scale
    assert (dec_up - dec) * 3600.0 == pytest.approx(wanted, rel=1e-6)
    assert (ra - ra_right) * cosine * 3600.0 == pytest.approx(wanted, rel=1e-6)
    assert size_of(plan) / SCALE == pytest.approx(1.0, abs=0.03) or scale is not None


def test_pixels_too_small_are_an_error():
    with pytest.raises(ParameterError, match=r"0\.0001 arcsec makes images of \d+ x \d+ pixels; choose a larger one"):
        prepare_image(exposure("MJy/sr", NARROW), Rectify(pixel_scale=1e-4))


@pytest.mark.parametrize("north_up", [False, True])
def test_images_follow_the_star(north_up):
    """A star that moved lies, rectified with its shift, where the one that did not move lies."""
    shape, shifts = NARROW, np.array([[0.0, 0.0], [0.4, -0.3], [-0.25, 0.6]])
    scene = exposure("DN/s", shape)
    plan = prepare_image(scene, Rectify(north_up=north_up), shifts)
    y, x = np.indices(shape, dtype=float)
    places = []
    for dx, dy in shifts:
        star = np.exp(-0.5 * ((x - 70.3 - dx) ** 2 + (y - 55.8 - dy) ** 2) / 2.0**2)
        found = rectify(plan.moved((dx, dy)), star[np.newaxis].astype(np.float32)).data[0].astype(float)
        rows, columns = np.indices(found.shape)
        light = np.nan_to_num(found)
        places.append([(light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()])
        assert light.sum() == pytest.approx(star.sum(), rel=1e-5)
    np.testing.assert_allclose(places, np.tile(places[0], (3, 1)), atol=0.005)
    assert prepare_image(scene, Rectify(north_up=north_up)).shifts is None
