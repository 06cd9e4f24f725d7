"""Two-dimensional toy densities: samples with labels, and the density itself."""

from __future__ import annotations

__all__ = ["TOYS", "Toy", "get_toy"]

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import i0e, logsumexp

from featood.errors import DataError, UsageError

Sample = tuple[np.ndarray, np.ndarray | None]
Path = Callable[[np.ndarray], np.ndarray]

ROWS = 1024
"""Rows per block in evaluating a density; bounds the memory, ``[ROWS, nodes]``."""
PANELS = 64
"""Number of panels of a curve in quadrature, each with 16 Gauss-Legendre nodes."""


@dataclass(frozen=True)
class Toy:
    """A density in the plane.

    Attributes
    ----------
    name : str
        The name on the command line.
    sample : callable
        ``sample(n, generator) -> (points [n, 2] float64, labels [n] int64 or None)`` with a
        ``numpy.random.Generator``; the label is the component (moon, arm, ring) of the point.
    log_density : callable
        ``log_density(points [n, 2]) -> [n]`` float64; -inf where the density is zero.
    extent : tuple of float
        Left, right, bottom and top of a square that contains at least 99.9 % of the mass.
    components : int
        Number of labels; 0 without labels.
    """

    name: str
    sample: Callable[[int, np.random.Generator], Sample]
    log_density: Callable[[np.ndarray], np.ndarray]
    extent: tuple[float, float, float, float]
    components: int = 0


def get_toy(name: str) -> Toy:
    """Find a toy by name.

    Raises
    ------
    UsageError
        If there is none; the message suggests the closest name.
    """
    if name in TOYS:
        return TOYS[name]
    near = difflib.get_close_matches(name, TOYS, n=1)
    hint = f"did you mean {near[0]}" if near else f"there are {', '.join(TOYS)}"
    raise UsageError(f"no toy density is named {name!r}: {hint}?")


def _square(half: float) -> tuple[float, float, float, float]:
    return -half, half, -half, half


def _plane(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(f"toy densities need points [N, 2], not {list(points.shape)}")
    return points


def _gaussian_mixture(
    points: np.ndarray, centres: np.ndarray, weights: np.ndarray, noise: float
) -> np.ndarray:
    """Log-density of isotropic Gaussians at ``centres [K, 2]`` with ``weights [K]`` that sum to one."""
    points = _plane(points)
    found = np.empty(len(points))
    constant = np.log(weights) - math.log(2 * math.pi * noise**2) - (centres**2).sum(1) / (2 * noise**2)
    for start in range(0, len(points), ROWS):
        block = points[start : start + ROWS]
        exponents = block @ (centres.T / noise**2) + constant - (block**2).sum(1)[:, None] / (2 * noise**2)
        found[start : start + ROWS] = logsumexp(exponents, axis=1)
    return found


def _curves(name: str, paths: tuple[Path, ...], noise: float, half: float, growth: int = 1) -> Toy:
    """Points drawn along curves, with isotropic Gaussian noise.

    A curve is a map from [0, 1] to the plane, its parameter s has density ``growth * s ** (growth - 1)``. The
    density is integrated over the curve by Gauss-Legendre quadrature on PANELS panels, with a relative error below 1e-6
    within the extent.
    """

    def sample(n: int, generator: np.random.Generator) -> Sample:
        labels = generator.integers(len(paths), size=n)
        place = generator.random(n) ** (1 / growth)
        curves = np.stack([path(place) for path in paths])
        points = curves[labels, np.arange(n)] + noise * generator.standard_normal((n, 2))
        return points, labels if len(paths) > 1 else None

    def log_density(points: np.ndarray) -> np.ndarray:
        nodes, weights = np.polynomial.legendre.leggauss(16)
        places = ((np.arange(PANELS)[:, None] + (nodes + 1) / 2) / PANELS).reshape(-1)
        weights = np.tile(weights / (2 * PANELS), PANELS) * growth * places ** (growth - 1) / len(paths)
        centres = np.concatenate([path(places) for path in paths])
        return _gaussian_mixture(points, centres, np.tile(weights, len(paths)), noise)

    return Toy(name, sample, log_density, _square(half), len(paths) if len(paths) > 1 else 0)


def _circles(name: str, radii: tuple[float, ...], noise: float, half: float) -> Toy:
    """Points on concentric circles of equal weight, with isotropic Gaussian noise; exact (a Bessel function)."""

    def sample(n: int, generator: np.random.Generator) -> Sample:
        labels = generator.integers(len(radii), size=n)
        angles = 2 * math.pi * generator.random(n)
        points = np.take(radii, labels)[:, None] * _directions(angles)
        return points + noise * generator.standard_normal((n, 2)), labels

    def log_density(points: np.ndarray) -> np.ndarray:
        distance, circle = np.linalg.norm(_plane(points), axis=1)[:, None], np.array(radii)
        # i0e(x) = exp(-x) I0(x) neither overflows nor underflows
        of_circle = np.log(i0e(distance * circle / noise**2)) - (distance - circle) ** 2 / (2 * noise**2)
        return logsumexp(of_circle, axis=1) - math.log(2 * math.pi * noise**2 * len(radii))

    return Toy(name, sample, log_density, _square(half), len(radii))


def _gaussians(name: str, count: int, radius: float, noise: float, half: float) -> Toy:
    """Gaussians evenly spaced on a circle; exact."""
    centres = radius * _directions(2 * math.pi * np.arange(count) / count)

    def sample(n: int, generator: np.random.Generator) -> Sample:
        labels = generator.integers(count, size=n)
        return centres[labels] + noise * generator.standard_normal((n, 2)), labels

    def log_density(points: np.ndarray) -> np.ndarray:
        return _gaussian_mixture(points, centres, np.full(count, 1 / count), noise)

    return Toy(name, sample, log_density, _square(half), count)


def _pinwheel(name: str, arms: int, rate: float, half: float) -> Toy:
    """Gaussian arms (Johnson et al. 2016), twisted; exact.

    The angle of the twist depends only on the radius, so the twist preserves areas and is invertible.
    """
    centre, spread = np.array([2.0, 0.0]), np.array([0.55, 0.2])

    def turned(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
        cosine, sine = np.cos(angles), np.sin(angles)
        x, y = points.T
        return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)

    def twist(points: np.ndarray) -> np.ndarray:
        return rate * np.linalg.norm(points, axis=1)

    def sample(n: int, generator: np.random.Generator) -> Sample:
        labels = generator.integers(arms, size=n)
        points = centre + spread * generator.standard_normal((n, 2))
        return turned(points, twist(points) + 2 * math.pi * labels / arms), labels

    def log_density(points: np.ndarray) -> np.ndarray:
        points = _plane(points)
        of_arm = []
        for arm in range(arms):
            straight = turned(points, -twist(points) - 2 * math.pi * arm / arms)
            of_arm.append(-0.5 * (((straight - centre) / spread) ** 2).sum(1))
        return logsumexp(of_arm, axis=0) - math.log(2 * math.pi * spread.prod() * arms)

    return Toy(name, sample, log_density, _square(half), arms)


def _checkerboard(name: str, half: float = 4.0) -> Toy:
    """Uniform on the eight dark squares of a board of four by four; exact."""

    def sample(n: int, generator: np.random.Generator) -> Sample:
        labels = generator.integers(8, size=n)
        row = labels // 2
        corner = np.stack([2 * (labels % 2) + row % 2, row], axis=1)
        return half / 2 * (corner + generator.random((n, 2)) - 2), labels

    def log_density(points: np.ndarray) -> np.ndarray:
        square = np.floor(_plane(points) / (half / 2)) + 2
        on_board = ((square >= 0) & (square < 4)).all(1)
        dark = on_board & (square.sum(1) % 2 == 0)
        return np.where(dark, -math.log(2 * half**2), -math.inf)

    return Toy(name, sample, log_density, _square(1.25 * half), 8)


def _directions(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _upper_moon(place: np.ndarray) -> np.ndarray:
    return 2 * _directions(math.pi * place) + (-1.0, -0.5)


def _lower_moon(place: np.ndarray) -> np.ndarray:
    return -_upper_moon(place)


def _spiral(place: np.ndarray) -> np.ndarray:
    return 3.3 * place[:, None] * _directions(3 * math.pi * place)


def _other_spiral(place: np.ndarray) -> np.ndarray:
    return -_spiral(place)


def _swiss_roll(place: np.ndarray) -> np.ndarray:
    turn = 1 + 2 * place
    return turn[:, None] * _directions(1.5 * math.pi * turn)


TOYS = {
    toy.name: toy
    for toy in (
        _curves("two-moons", (_upper_moon, _lower_moon), noise=0.2, half=4),
        _circles("rings", (0.9, 1.8, 2.7, 3.6), noise=0.12, half=4.5),
        _circles("circles", (1.5, 3), noise=0.2, half=4),
        _pinwheel("pinwheel", arms=5, rate=0.8, half=4.5),
        _checkerboard("checkerboard"),
        _curves("two-spirals", (_spiral, _other_spiral), noise=0.12, half=4, growth=2),
        _curves("swiss-roll", (_swiss_roll,), noise=0.12, half=4),
        _gaussians("gaussians", count=8, radius=3, noise=0.35, half=4.5),
    )
}
