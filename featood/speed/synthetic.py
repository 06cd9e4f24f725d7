"""Synthetic features, for measurements that need no data."""

from __future__ import annotations

__all__ = ["Size", "clustered"]

from typing import NamedTuple

import numpy as np

from featood.cache.feature_set import FeatureSet


class Size(NamedTuple):
    """Sizes of a measurement."""

    rows: int
    """Training rows N."""
    features: int
    """Features per row D."""
    classes: int
    """Classes C."""
    test_rows: int
    """Rows to score n."""


def clustered(rows: int, size: int, classes: int, seed: int, spread: float = 1.0) -> FeatureSet:
    """Make float32 features of Gaussian classes after a ReLU, and the logits of a linear classifier.

    Parameters
    ----------
    rows, size, classes : int
        Number of rows, features and classes.
    seed : int
        Seed of the rows; the classes are the same for every seed.
    spread : float
        Standard deviation around the class means; larger for out-of-distribution rows.
    """
    fixed, rng = np.random.default_rng(12345), np.random.default_rng(seed)
    means = fixed.normal(0, 1, (classes, size)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    features = rng.standard_normal((rows, size), dtype=np.float32)
    features *= np.float32(spread)
    features += means[labels]
    np.maximum(features, 0, out=features)
    weight = 0.3 * (means - means.mean(0))
    bias = np.zeros(classes, np.float32)
    return FeatureSet(
        {"avg": features},
        logits=features @ weight.T,
        labels=labels,
        classifier=(weight, bias),
        name=f"rows-{seed}",
    )
