"""Random draws for tests of networks and energies, and exactly known energies and densities."""

import numpy as np
import torch

from featood.cache.feature_set import FeatureSet

CENTERS, SPREADS = np.array([[-2.0, 0.0], [2.0, 0.0]]), np.array([1.0, 0.7])
"""Of two Gaussians in the plane, equally likely."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def quadratic(matrix, shift):
    """Make E(x) = x' M x / 2 + b' x of flattened inputs."""

    def energy(x):
        x = x.flatten(1)
        return 0.5 * ((x @ matrix) * x).sum(1) + x @ shift

    return energy


def two_gaussians(rows=2000, seed=0):
    """Draw rows, labelled by their Gaussian."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    values = CENTERS[labels] + rng.normal(size=(rows, 2)) * SPREADS
    return FeatureSet({"x": values.astype(np.float32)}, labels=labels)


def grid():
    """Return points in the plane, and the log-density of the two Gaussians up to a constant."""
    axes = np.meshgrid(np.linspace(-4.5, 4.5, 31), np.linspace(-2.5, 2.5, 31))
    points = np.stack(axes, -1).reshape(-1, 2)
    log_p = np.logaddexp(*[-0.5 * (((points - center) / SPREADS) ** 2).sum(1) for center in CENTERS])
    return FeatureSet({"x": points.astype(np.float32)}), log_p
