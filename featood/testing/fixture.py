"""A small synthetic FeatureSet with the standard columns, and variations of it."""

from __future__ import annotations

__all__ = ["Blockwise", "mapped", "replaced", "synthetic_sets", "with_main"]

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from featood.cache.feature_set import FeatureSet

CLASSES, SIZE = 5, 24
LAYERS = {"layer1.avg": 12, "layer2.avg": 16}


def synthetic_sets(
    rows: int = 300, outliers: int = 40, test_rows: int = 80, seed: int = 0
) -> tuple[FeatureSet, FeatureSet]:
    """Generate a training set and a test set of five overlapping classes, with outliers in both.

    Parameters
    ----------
    rows, test_rows : int
        Number of rows of known classes in each set.
    outliers : int
        Number of rows with label -1 in each set, at random positions, each with a different random centre.
    seed : int
        Seed of all draws.

    Returns
    -------
    train, test : FeatureSet
        Float32 columns ``avg [N, 24]`` (non-negative, sparse, input of the classifier), ``std [N, 24]``,
        ``layer1.avg [N, 12]``, ``layer2.avg [N, 16]``, logits of the classifier, labels and ids.
    """
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1.2, (CLASSES, SIZE))
    mixing = {name: rng.normal(0, SIZE**-0.5, (SIZE, size)) for name, size in LAYERS.items()}
    weight = 0.3 * (centers - centers.mean(0))
    bias = -0.15 * (centers.clip(0) ** 2).sum(1)
    bias -= bias.mean()  # as for trained classifiers, the logits sum to about zero
    classifier = weight.astype(np.float32), bias.astype(np.float32)

    def draw(known: int, name: str) -> FeatureSet:
        labels = rng.permutation(np.concatenate([np.arange(known) % CLASSES, np.full(outliers, -1)]))
        noise = rng.normal(0, 1, (len(labels), SIZE))
        elsewhere = rng.normal(0, 1.2, (len(labels), SIZE))
        avg = np.where(labels[:, None] >= 0, centers[labels] + noise, elsewhere + 0.8 * noise).clip(0)
        columns = {"avg": avg, "std": np.abs(0.3 * avg + rng.normal(0, 0.2, avg.shape)) + 0.05}
        for layer, matrix in mixing.items():
            columns[layer] = (avg @ matrix + rng.normal(0, 0.3, (len(avg), matrix.shape[1]))).clip(0)
        return with_main(
            FeatureSet(
                {column: values.astype(np.float32) for column, values in columns.items()},
                labels=labels,
                ids=np.array([f"{name}/{row}" for row in range(len(labels))]),
                classifier=classifier,
                fingerprint="0123456789abcdef" * 4,
                name=f"synthetic/{name}",
            )
        )

    return draw(rows, "train"), draw(test_rows, "test")


def with_main(data: FeatureSet, values: Any = None) -> FeatureSet:
    """Replace the classifier's input ``[N, D]``, and compute the logits again."""
    values = data.features[data.main] if values is None else values
    assert data.classifier is not None
    weight, bias = data.classifier
    return dataclasses.replace(
        data, features={**data.features, data.main: values}, logits=values @ weight.T + bias
    )


def mapped(data: FeatureSet, change: Callable[[Any], Any]) -> FeatureSet:
    """Apply a function to all feature columns and the logits."""
    features = {name: change(values) for name, values in data.features.items()}
    return dataclasses.replace(data, features=features, logits=change(data.logits))


def replaced(values: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    """Return a copy of an array with one entry replaced, in the last column if there are fewer."""
    values = values.copy()
    values[row, min(column, values.shape[1] - 1)] = value
    return values


@dataclasses.dataclass(frozen=True, eq=False)
class Blockwise(FeatureSet):
    """A FeatureSet that yields its rows in small blocks, as a large set does."""

    most: int = 32

    @classmethod
    def of(cls, data: FeatureSet) -> Blockwise:
        """Create one with the columns of another set."""
        return cls(**{field.name: getattr(data, field.name) for field in dataclasses.fields(data)})

    def blocks(self, size: int = 32) -> Iterator[FeatureSet]:
        """Iterate over blocks of at most `most` rows."""
        return super().blocks(min(size, self.most))
