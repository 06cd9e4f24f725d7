import math

import numpy as np
import pytest
from scipy.integrate import quad

from featood.data.tables.toys import TOYS, get_toy
from featood.errors import DataError, UsageError

CELLS = 20


def mass_by_cell(toy, fine=10):
    """Integrate the density over the cells of a coarse grid, using midpoints of a fine grid."""
    left, right, bottom, top = toy.extent
    steps = (np.arange(CELLS * fine) + 0.5) / (CELLS * fine)
    x, y = np.meshgrid(left + (right - left) * steps, bottom + (top - bottom) * steps, indexing="ij")
    density = np.exp(toy.log_density(np.stack([x.ravel(), y.ravel()], 1)))
    area = (right - left) * (top - bottom) / steps.size**2
    return area * density.reshape(CELLS, fine, CELLS, fine).sum((1, 3))


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_samples_follow_the_density_which_integrates_to_one(toy):
    mass = mass_by_cell(toy)
    assert mass.sum() == pytest.approx(1, abs=0.01)
    n = 50_000
    points, _ = toy.sample(n, np.random.default_rng(0))
    left, right, bottom, top = toy.extent
    edges = [np.linspace(left, right, CELLS + 1), np.linspace(bottom, top, CELLS + 1)]
    counts = np.histogram2d(*points.T, bins=edges)[0]
    assert counts.sum() >= 0.999 * n
    # binomial noise, close to normal for cells of at least 20 expected rows
    expected = n * mass
    likely = expected >= 20
    off = (counts - expected)[likely] / np.sqrt(expected[likely])
    assert likely.sum() >= 40
    assert np.abs(off).max() < 5 and abs(np.mean(off**2) - 1) < 4 * np.sqrt(2 / likely.sum())


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_samples_are_reproducible_and_labels_are_components(toy):
    points, labels = toy.sample(500, np.random.default_rng(3))
    again, _ = toy.sample(500, np.random.default_rng(3))
    assert points.shape == (500, 2) and points.dtype == np.float64
    np.testing.assert_array_equal(points, again)
    if toy.components:
        assert labels.dtype == np.int64
        assert sorted(set(labels.tolist())) == list(range(toy.components))
    else:
        assert labels is None


def test_the_label_is_the_ring_the_arm_or_the_square():
    rng = np.random.default_rng(0)
    points, labels = TOYS["circles"].sample(300, rng)
    np.testing.assert_array_equal(labels, np.linalg.norm(points, axis=1) > 2.25)
    points, labels = TOYS["gaussians"].sample(300, rng)
    turn = np.round(np.arctan2(points[:, 1], points[:, 0]) / (math.pi / 4)).astype(int) % 8
    assert (turn == labels).mean() > 0.99
    points, labels = TOYS["checkerboard"].sample(300, rng)
    for label in range(8):
        spread = np.ptp(points[labels == label], axis=0)
        assert (spread < 2).all() and (spread > 1.5).all()


def test_the_density_of_a_curve_is_its_integral():
    toy, point, noise = TOYS["two-moons"], np.array([0.3, 0.8]), 0.2

    def along(angle, sign):
        on_curve = sign * np.array([2 * math.cos(angle) - 1, 2 * math.sin(angle) - 0.5])
        return math.exp(-((point - on_curve) ** 2).sum() / (2 * noise**2)) / (2 * math.pi * noise**2)

    expected = sum(quad(along, 0, math.pi, args=(sign,), epsabs=1e-13)[0] for sign in (1, -1)) / (2 * math.pi)
    assert toy.log_density(point[None])[0] == pytest.approx(math.log(expected), abs=1e-9)


@pytest.mark.parametrize("name", ["two-moons", "two-spirals", "swiss-roll"])
def test_quadrature_has_converged_within_the_extent(name, monkeypatch):
    from featood.data.tables import toys

    left, right, bottom, top = TOYS[name].extent
    x, y = np.meshgrid(np.linspace(left, right, 25), np.linspace(bottom, top, 25))
    points = np.stack([x.ravel(), y.ravel()], 1)
    usual = TOYS[name].log_density(points)
    monkeypatch.setattr(toys, "PANELS", 151)
    np.testing.assert_allclose(usual, TOYS[name].log_density(points), rtol=1e-6)


def test_the_density_of_a_ring_is_the_mean_over_its_angles():
    toy, point, noise = TOYS["rings"], np.array([0.7, -1.2]), 0.12

    def around(angle, radius):
        on_ring = radius * np.array([math.cos(angle), math.sin(angle)])
        return math.exp(-((point - on_ring) ** 2).sum() / (2 * noise**2)) / (2 * math.pi * noise**2)

    places = np.linspace(0, 2 * math.pi, 4001)[:-1]
    expected = np.mean([around(angle, radius) for radius in (0.9, 1.8, 2.7, 3.6) for angle in places])
    assert toy.log_density(point[None])[0] == pytest.approx(math.log(expected), abs=1e-9)


def test_log_density_of_far_points_and_of_light_squares():
    far = np.array([[300.0, -200.0]])
    for toy in TOYS.values():
        value = toy.log_density(far)[0]
        assert value < -1e3 and (np.isfinite(value) or toy.name == "checkerboard")
    board = TOYS["checkerboard"].log_density(np.array([[-3.0, -3.0], [-1.0, -3.0], [1.0, -3.0], [5.0, 5.0]]))
    np.testing.assert_allclose(np.exp(board), [1 / 32, 0, 1 / 32, 0])


def test_errors_have_one_line():
    with pytest.raises(UsageError, match="two-moons"):
        get_toy("two-moon")
    with pytest.raises(UsageError, match="pinwheel"):
        get_toy("xyz")
    with pytest.raises(DataError, match=r"\[3, 5\]"):
        TOYS["rings"].log_density(np.zeros((3, 5)))
