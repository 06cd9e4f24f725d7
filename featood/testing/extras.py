"""Optional columns of extractions for the synthetic sets."""

from __future__ import annotations

__all__ = ["example_sets", "with_extras"]

import dataclasses

import numpy as np

from featood.cache.feature_set import FeatureSet
from featood.testing.fixture import synthetic_sets

TOKEN_BOUNDS = np.linspace(0, 3, 7)
POSITIONS, DRAWS = 4, 3


def with_extras(data: FeatureSet, seed: int = 0) -> FeatureSet:
    """Add the optional columns of ``featood extract``, and the column of ``featood cache join``.

    Parameters
    ----------
    data : FeatureSet
        A set as returned by :func:`featood.testing.fixture.synthetic_sets`.
    seed : int
        Seed of all draws except those of the ensemble's members, which are the same for all sets.

    Returns
    -------
    FeatureSet
        The set with the further columns ``map`` (maps of four positions whose average is ``avg``), ``norm`` (of the
        channels of constant maps), ``layer1.gram`` and ``layer2.gram`` (row sums for the powers 1 and 2),
        ``score.avg``, ``background.avg``, ``gaia-z`` and ``gaia-a`` (single numbers, larger for outliers), ``tokens``
        (whole numbers from 0 to 7), ``odin``, ``i-odin``, ``mc.logits`` and ``ensemble.logits`` (logits of perturbed
        inputs, of three dropout passes, and of three members), ``adascale`` and ``mahalanobis-odin`` (``avg`` of
        perturbed inputs). Further single numbers are lower for outliers: ``log-density``, that of another network,
        ``background.log-density``, and ``ensemble.log-density`` of three networks; ``complexity`` is independent of
        both.
    """
    rng, members = np.random.default_rng(seed), np.random.default_rng(0)
    assert data.classifier is not None
    weight, bias = data.classifier
    avg = np.asarray(data.features["avg"], dtype=float)
    shares = POSITIONS * rng.dirichlet(np.full(POSITIONS, 2.0), avg.shape)
    # the largest component of a map is independent of the class, and its average is zero
    texture = 5 * rng.normal(0, 1, (*avg.shape, 1)) * np.resize([1, -1], POSITIONS)
    extras = {"map": (avg[:, :, None] * shares + texture).reshape(len(avg), -1)}
    for layer in ("layer1", "layer2"):
        values = np.asarray(data.features[f"{layer}.avg"], dtype=float)
        norms = [(values**power).sum(1, keepdims=True) ** (1 / power) for power in (1, 2)]
        extras[f"{layer}.gram"] = np.concatenate([values * norm for norm in norms], 1)
    extras["norm"] = np.sqrt(POSITIONS) * avg
    extras["score.avg"] = extras["background.avg"] = extras["gaia-z"] = extras["gaia-a"] = -np.linalg.norm(
        avg, axis=1, keepdims=True
    )
    extras["tokens"] = np.digitize(avg, TOKEN_BOUNDS)
    extras["odin"] = (avg + 0.05 * rng.normal(0, 1, avg.shape)) @ weight.T + bias
    kept = [rng.random(avg.shape) < 0.8 for _ in range(DRAWS)]
    extras["mc.logits"] = np.concatenate([(avg * mask / 0.8) @ weight.T + bias for mask in kept], 1)
    weights = [weight + 0.1 * members.normal(0, 1, weight.shape) for _ in range(DRAWS)]
    extras["ensemble.logits"] = np.concatenate([avg @ other.T + bias for other in weights], 1)
    density = 3 * np.linalg.norm(avg, axis=1, keepdims=True)
    others = rng.normal(0, 1, (len(avg), 2 + DRAWS))
    extras["log-density"] = density
    extras["background.log-density"] = others[:, :1]
    extras["complexity"] = 100 + others[:, 1:2]
    extras["ensemble.log-density"] = density + 0.1 * others[:, 2:]
    extras["i-odin"] = (avg + 0.05 * rng.normal(0, 1, avg.shape)) @ weight.T + bias
    for name in ("adascale", "mahalanobis-odin"):
        extras[name] = np.maximum(avg + 0.05 * rng.normal(0, 1, avg.shape), 0)
    columns = {name: values.astype(np.float32) for name, values in extras.items()}
    return dataclasses.replace(data, features={**data.features, **columns})


def example_sets() -> tuple[FeatureSet, FeatureSet]:
    """Return a training set and a test set with all columns that a head can read, for examples.

    They have 340 and 120 rows, of which 40 each are outliers with label -1.
    """
    train, test = synthetic_sets()
    return with_extras(train, 1), with_extras(test, 2)
