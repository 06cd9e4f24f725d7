"""Isolation forest."""

from __future__ import annotations

__all__ = ["IsolationForest"]

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import sampled_blocks, stacked
from featood.heads.registry import register
from featood.options import option


@register(
    "isolation-forest",
    title="Isolation forest",
    paper="Liu et al., Isolation Forest, ICDM",
    year=2008,
    url="https://doi.org/10.1109/ICDM.2008.17",
    needs=("features",),
)
class IsolationForest(FeatureHead):
    """Score ``2^(-E[h] / c)``, h being the number of random splits that isolate a row from a sample of training rows.

    c is the mean of h over such a sample, so a score above 0.5 means that the row is easier to isolate than a
    training row. scikit-learn grows the trees; their splits are stored as tensors.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {"trees": 10}

    trees: int = option(100, "number of trees", low=1)
    sample: int = option(256, "number of rows to grow each tree on; all if there are fewer", low=2)
    rows: int = option(
        50_000, "size of the random subset of training rows from which the trees are grown", low=2
    )
    seed: int = option(0, "random seed", low=0, high=2**32 - 1)

    def fit_state(self, train: SelectedRows) -> State:
        """Grow the trees and store the split, the children and the path length of every node."""
        from sklearn import ensemble

        blocks = map(self.vectors, sampled_blocks(train, self.rows, self.seed))
        rows = stacked(blocks, min(self.rows, len(train.source)), torch.float32)
        sample = min(self.sample, len(rows))
        forest = ensemble.IsolationForest(n_estimators=self.trees, max_samples=sample, random_state=self.seed)
        trees = [estimator.tree_ for estimator in forest.fit(rows.cpu().numpy()).estimators_]
        nodes = max(tree.node_count for tree in trees)

        def padded(values: list[Any], dtype: torch.dtype) -> Tensor:
            table = torch.zeros(len(values), nodes, dtype=dtype)
            for row, value in zip(table, values, strict=True):
                row[: len(value)] = torch.from_numpy(np.array(value))
            return table

        left = padded([tree.children_left for tree in trees], torch.long)
        right = padded([tree.children_right for tree in trees], torch.long)
        leaf = left < 0
        itself = torch.arange(nodes).expand_as(left)
        return {
            "feature": padded([tree.feature for tree in trees], torch.long).clamp(min=0),
            "threshold": padded([tree.threshold for tree in trees], torch.float64),
            "left": torch.where(leaf, itself, left),  # a row that has reached a leaf stays there
            "right": torch.where(leaf, itself, right),
            "path": padded([_path_lengths(tree) for tree in trees], torch.float64),
            "depth": torch.tensor(max(tree.max_depth for tree in trees)),
            "typical": torch.tensor(float(_unsuccessful_search(np.array([sample]))[0]), dtype=torch.float64),
        }

    def prepare(self, state: State) -> Any:
        """Return the tensors, and the numbers of splits and of the path length that is typical."""
        return state, int(state["depth"]), float(state["typical"])

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the anomaly score ``[B]``."""
        state, depth, typical = fitted
        rows = self.vectors(block).float()
        tables = {name: table.to(rows.device) for name, table in state.items()}
        tree = torch.arange(len(tables["left"]), device=rows.device)
        node = torch.zeros(rows.shape[0], len(tree), dtype=torch.long, device=rows.device)
        for _ in range(depth):
            below = rows.gather(1, tables["feature"][tree, node]) <= tables["threshold"][tree, node]
            node = torch.where(below, tables["left"][tree, node], tables["right"][tree, node])
        mean = tables["path"][tree, node].mean(1)
        return torch.exp2(-mean / typical) if typical > 0 else torch.ones_like(mean)


def _path_lengths(tree: Any) -> np.ndarray:
    """Path length of each node, plus the expected further splits that would isolate the rows left in it."""
    depth = np.zeros(tree.node_count)
    for node, (left, right) in enumerate(zip(tree.children_left, tree.children_right, strict=True)):
        if left >= 0:  # children come after their parent
            depth[left] = depth[right] = depth[node] + 1
    return depth + _unsuccessful_search(tree.n_node_samples)


def _unsuccessful_search(count: np.ndarray) -> np.ndarray:
    """Mean depth of an unsuccessful search in a binary search tree with `count` keys."""
    count = np.maximum(count, 2).astype(float) * (count > 1)
    more = np.maximum(count, 3)
    harmonic = np.log(more - 1) + np.euler_gamma
    return np.where(count > 2, 2 * harmonic - 2 * (more - 1) / more, np.where(count == 2, 1.0, 0.0))
