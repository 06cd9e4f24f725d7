"""Training rows with outliers behind them, for heads that learn from both."""

from __future__ import annotations

__all__ = ["with_outliers"]

from typing import Any

import numpy as np

from featood.cache import FeatureSet
from featood.errors import Mismatch


def with_outliers(train: FeatureSet, outliers: FeatureSet) -> FeatureSet:
    """Return the rows of `train`, then those of `outliers` with label -1; columns on disk stay there.

    Parameters
    ----------
    train : FeatureSet
        Labelled in-distribution rows.
    outliers : FeatureSet
        Out-of-distribution rows made by the same backbone; of its columns those that `train` has are used.

    Raises
    ------
    Mismatch
        When the two come from different backbones, or a column is missing or of another size.
    """
    if train.fingerprint != outliers.fingerprint:
        raise Mismatch(f"{outliers.name} and {train.name} were made by different backbones or transforms")
    unknown = np.full(len(outliers), -1)
    return FeatureSet(
        {name: _Joined(column, outliers.feature(name)) for name, column in train.features.items()},
        logits=None if train.logits is None else _Joined(train.logits, outliers.logits),
        labels=None if train.labels is None else _Joined(train.labels, unknown),
        classifier=train.classifier,
        main=train.main,
        fingerprint=train.fingerprint,
        name=train.name,
        origin=train.origin,
    )


class _Joined:
    """One column after another."""

    def __init__(self, first: Any, second: Any) -> None:
        if second is None or second.shape[1:] != first.shape[1:]:
            raise Mismatch("the outliers lack a column of the training set, or have it in another size")
        self._parts = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])
        self.dtype = first.dtype

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, slice):
            return np.concatenate([np.asarray(part[:]) for part in self._parts])[which]
        first, second = self._parts
        start, stop, step = which.indices(self.shape[0])
        rows = len(first)
        parts = [np.asarray(first[min(start, rows) : min(stop, rows)])]
        parts.append(np.asarray(second[max(start - rows, 0) : max(stop - rows, 0)]))
        return np.concatenate(parts)[::step]
