"""Light that a motion across dispersion takes over the edges of an aperture, against stars that did move."""

import numpy as np
import pytest

from tso3.core.box import box_extract, plan_box
from tso3.core.edge_light import edge_light, restored

Y, N_WAVE = np.arange(40.0)[:, np.newaxis], 60


def star(at):
    """A spectrum on a tilted trace; ``at`` is how far it has moved."""
    trace = 18.3 + 0.02 * np.arange(N_WAVE)
    return 1e4 * (1.0 + 0.3 * np.sin(np.arange(N_WAVE) / 5.0)) * np.exp(-0.5 * ((Y - trace - at) / 2.1) ** 2)


@pytest.fixture
def aperture():
    weights = np.zeros((40, N_WAVE))
    weights[16:22], weights[22] = 1.0, 0.4
    return plan_box(weights)


def sums_of(aperture, shift):
    data = np.array([star(at) for at in shift], np.float32)
    return box_extract(aperture, data, np.ones_like(data), np.ones_like(data), None)


def test_the_light_is_that_of_a_star_that_stays(aperture):
    shift = np.array([0.0, 0.05, -0.05, 0.1])
    edge = edge_light(aperture, star(0.0), np.full((40, N_WAVE), 0.1), shift, np.full(4, 1e-4))
    before = sums_of(aperture, shift)
    after = restored(before, edge, 0)
    lost = np.abs(before.flux / before.flux[0] - 1.0).max(axis=1)
    left = np.abs(after.flux / after.flux[0] - 1.0).max(axis=1)
    assert (lost[1:] > 0.003).all()
    assert (left[1:] < 0.25 * lost[1:]).all()  # a response to first order
    factor = after.flux / before.flux
    np.testing.assert_allclose(after.var_poisson, before.var_poisson * factor**2)
    np.testing.assert_allclose(after.limit, before.limit * factor**2)
    part = restored(sums_of(aperture, shift[2:]), edge, 2)
    np.testing.assert_array_equal(part.flux, after.flux[2:])


def test_gaps_are_bridged_and_what_is_dark_is_left_alone(aperture):
    image = star(0.0)
    image[16, 20], image[:, 40:] = np.nan, 0.0
    edge = edge_light(aperture, image, np.full((40, N_WAVE), 0.1), np.array([0.0, 0.1]), np.zeros(2))
    whole = edge_light(aperture, star(0.0), np.full((40, N_WAVE), 0.1), np.array([0.0, 0.1]), np.zeros(2))
    assert edge.change[20] == pytest.approx(whole.change[20], rel=0.05)
    assert (edge.change[48:] == 0.0).all()


def test_a_motion_that_is_only_noise_changes_nothing(aperture):
    rng = np.random.default_rng(3)
    shift = rng.normal(0.0, 0.02, 200)
    edge = edge_light(aperture, star(0.0), np.full((40, N_WAVE), 0.1), shift, np.full(200, 0.02))
    assert edge.shift.std() < 0.3 * shift.std()
    shift[7] = np.nan
    assert np.isfinite(edge_light(aperture, star(0.0), np.ones((40, N_WAVE)), shift, np.full(200, 0.02)).shift).all()
