"""Open-set simulations: some classes of a labelled data set are unknown."""

from __future__ import annotations

__all__ = ["DynamicOSS"]

from typing import Any

import numpy as np
from torch.utils.data import Subset

from featood.errors import UsageError

STAGES = ("train", "val", "test")


class DynamicOSS:
    """Random division of a data set into known and unknown classes, and of their rows into train, val and test.

    Classes are taken in a random order: first known unknowns, whose rows may be outliers for the training, then
    unknown unknowns of the validation, then those of the test. The others are known. Rows of known classes and of
    known unknowns are divided among the stages; a seed gives the same division as in pytorch-ood. The terms are those
    of https://arxiv.org/abs/2203.00382.

    Parameters
    ----------
    dataset : Dataset
        Pairs of input and label, which are read once unless there is an attribute ``targets`` ``[N]``.
    train_size, val_size, test_size : float
        Shares of the rows of a class, whose sum is 1.
    kuc, uuc_val, uuc_test : int
        Numbers of known unknowns, and of unknown unknowns of validation and test.
    seed : int, optional
        Seed of the division; by default a random one, kept in ``seed``.

    Attributes
    ----------
    kkc, kuc, uuc : set of int
        Known classes, known unknowns, and unknown unknowns.
    unique_targets : ndarray
        All classes.

    Raises
    ------
    UsageError
        If no class would be known, or the shares are invalid.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> data = TensorDataset(torch.randn(100, 2), torch.arange(100) % 10)
    >>> split = DynamicOSS(data, uuc_val=2, uuc_test=3, seed=1)
    >>> len(split.kkc), len(split.train_dataset()), len(split.test_dataset(in_dist=False))
    (5, 35, 30)
    """

    def __init__(
        self, dataset: Any, train_size: float = 0.7, val_size: float = 0.2, test_size: float = 0.1, kuc: int = 0,
        uuc_val: int = 2, uuc_test: int = 2, seed: int | None = None,
    ) -> None:  # fmt: skip
        shares = train_size, val_size, test_size
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise UsageError(f"the shares of train, val and test must sum to 1, not {shares}")
        self.seed = int(np.random.default_rng().integers(1 << 32)) if seed is None else seed
        self._dataset = dataset
        targets = np.array(dataset.targets if hasattr(dataset, "targets") else [int(y) for _, y in dataset])
        self.unique_targets = np.unique(targets)
        counts = kuc, uuc_val, uuc_test
        if min(counts) < 0 or sum(counts) >= len(self.unique_targets):
            raise UsageError(f"of {len(self.unique_targets)} classes, {sum(counts)} cannot be unknown")
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(self.unique_targets)
        outliers, of_val, of_test, known = np.split(order, np.cumsum(counts))
        self.kkc, self.kuc = set(known.tolist()), set(outliers.tolist())
        self.uuc = {*of_val.tolist(), *of_test.tolist()}
        self._known = _divided(targets, known, train_size, val_size, rng)
        divided = _divided(targets, outliers, train_size, val_size, rng)
        whole = [np.flatnonzero(np.isin(targets, classes)) for classes in ((), of_val, of_test)]
        self._unknown = {
            stage: np.concatenate([divided[stage], rows]) for stage, rows in zip(STAGES, whole, strict=True)
        }

    def train_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for training: of known classes, and of known unknowns."""
        return self._rows("train", in_dist, out_dist)

    def val_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for validation: of known classes, and of unknown ones."""
        return self._rows("val", in_dist, out_dist)

    def test_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for the test: of known classes, and of unknown ones."""
        return self._rows("test", in_dist, out_dist)

    def _rows(self, stage: str, known: bool, unknown: bool) -> Subset[Any]:
        chosen = [rows[stage] for rows, wanted in ((self._known, known), (self._unknown, unknown)) if wanted]
        return Subset(self._dataset, np.concatenate([np.empty(0, np.int64), *chosen]).tolist())


def _divided(
    targets: np.ndarray, classes: np.ndarray, train: float, val: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Divide the rows of each class, shuffled, among the stages; the last gets the rest."""
    parts: dict[str, list[np.ndarray]] = {stage: [] for stage in STAGES}
    for one in classes:
        rows = rng.permutation(np.flatnonzero(targets == one))
        first = int(len(rows) * train)
        cuts = first, first + int(len(rows) * val)
        for stage, some in zip(STAGES, np.split(rows, cuts), strict=True):
            parts[stage].append(some)
    return {stage: np.sort(np.concatenate([np.empty(0, np.int64), *some])) for stage, some in parts.items()}
