"""Distance to the k-th nearest training row."""

from __future__ import annotations

__all__ = ["KNN"]

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import UsageError
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.base.sampling import stacked
from featood.heads.registry import register
from featood.numerics.approximate_neighbours import build_approximate_index, recall, search_approximately
from featood.numerics.banks import Bank
from featood.numerics.coresets import greedy_k_center
from featood.numerics.neighbours import build_index, search
from featood.numerics.spaces import FITTED
from featood.options import option

BLOCK_ROWS = 1024


@register(
    "knn",
    title="Deep nearest neighbours",
    paper="Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML",
    year=2022,
    url="https://arxiv.org/abs/2204.06507",
    needs=("features",),
)
class KNN(FeatureHead):
    """Score the Euclidean distance to the k-th nearest training row, or the mean distance to the k nearest.

    Rows are normalised to unit length, unless `space` is set otherwise; a zero vector stays zero, so its distance to
    every unit vector is 1. With fewer than k training rows, all of them are used as neighbours, with a warning.

    The search is exact. On processors that multiply in bfloat16 (AVX-512 BF16, AMX), a product in bfloat16 first rules
    out most rows by a proven bound, which takes a copy of the rows in bfloat16; elsewhere, rows are found by faiss, or
    by PyTorch on other devices than the CPU. Distances are then computed from the differences of rows, so scores do
    not depend on the batch, nor on the processor beyond rounding.

    The indices ``ivf`` (inverted lists) and ``hnsw`` (graph of neighbours) of faiss hold another copy of the rows, are
    built again when the head is loaded, and are for large banks. They miss neighbours, which can only increase a
    score; the fit measures their recall on training rows and notes it. With `bank` float16 or bfloat16, the centred
    training rows are rounded when they are stored.

    Features of 16 bits are kept as they are, and normalised and centred when they are compared, unless the space has to
    be fitted: this takes half the memory and gives the same scores.

    With `coreset`, only so many training rows are kept, each the farthest from those before, so that none is far from
    all of them. On the patches of tapped maps (featood dense extract) with k = 1 and space ``none``, this is the memory
    bank of PatchCore (Roth et al., CVPR 2022), without its random projection of the rows before the choice.

    The score is the Euclidean distance, whereas the authors and OpenOOD use its square: the ranking is the same.
    OpenOOD adds 1e-10 to every coordinate of a unit vector instead of to its length, which does not change the ranking
    either. pytorch-ood's snapshots before 0.4 used k = 1 and unnormalised rows. A good k depends on the number of
    training rows: the paper uses 50 for the 50,000 rows of CIFAR-10, 200 for those of CIFAR-100, and on ImageNet 1,000
    for 1.28 million rows or 10 for a hundredth of them.
    """

    k: int = option(50, "number k of the nearest neighbours", low=1)
    space: str = space_option("l2")
    distance: str = option(
        "kth", "distance to the k-th neighbour, or mean over the k nearest", choices=("kth", "mean")
    )

    bank: str = option(
        "float32",
        "precision of the training rows; the others round them, and take half the memory of 32-bit features",
        choices=("float32", "float16", "bfloat16"),
    )
    index: str = option(
        "exact", "exact search, or an approximate index of faiss", choices=("exact", "ivf", "hnsw")
    )
    coreset: int = option(0, "training rows to keep, chosen greedily far from each other (0: all)", low=0)
    breadth: int = option(32, "lists to search (ivf), or candidates to follow (hnsw)", low=1)

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the rows, centred on their mean, as smaller values lose less precision in search and storage."""
        count = len(train.source)
        kept: State
        bank: Tensor | Bank
        if self.coreset:
            rows = stacked(self._rows(train), count)
            rows = rows.index_select(0, greedy_k_center(rows, min(self.coreset, len(rows))))
            center = _mean([rows])
            bank = self._stored([rows - center], len(rows))
            kept = {"bank": bank}
        elif self.bank == "float32" and self.space not in FITTED and self.is_narrow(train):
            raw = stacked((block.feature(self.feature)[:] for block in train.unmapped().blocks()), count)
            center = _mean(self._converted(raw).split(BLOCK_ROWS))
            kept, bank = {"rows": raw}, self._converted(raw, center)
        elif self.bank == "float32":
            bank = stacked(self._rows(train), count)
            center = _mean(bank.split(BLOCK_ROWS))
            kept = {"bank": bank.sub_(center)}
        else:  # a second pass over the rows, as they are centred before they are rounded
            center = _mean(self._rows(train))
            bank = self._stored((rows - center for rows in self._rows(train)), count)
            kept = {"bank": bank}
        if self.k > len(bank):
            warnings.warn(
                f"knn: k = {self.k}, but there are only {len(bank)} training rows; all are used", stacklevel=2
            )
        if self.index != "exact":
            k = min(self.k, len(bank))
            share = recall(build_approximate_index(self.index, bank, self.breadth), bank, k)
            warnings.warn(
                f"knn: {self.index} with breadth {self.breadth} finds {share:.1%} of the {k} rows nearest to training "
                "rows; a larger breadth finds more",
                stacklevel=2,
            )
        return {**kept, "center": center}

    def prepare(self, state: State) -> Any:
        """Build the index."""
        center = state["center"]
        bank = state["bank"] if "bank" in state else self._converted(state["rows"], center)
        k = min(self.k, len(bank))
        if self.index == "exact":
            index = build_index(bank)
            return center, lambda rows: search(index, rows, k)
        exact = build_index(bank, screen=False)
        approximate = build_approximate_index(self.index, bank, self.breadth)
        return center, lambda rows: search_approximately(approximate, exact, rows, k)

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distance ``[B]``."""
        center, find = fitted
        distances = find(self.vectors(block).float() - center).values
        return distances[:, -1] if self.distance == "kth" else distances.mean(1)

    def _converted(self, raw: Tensor, center: Tensor | float = 0.0) -> Bank:
        """Return features as stored ``[N, D]`` as rows in the space, which is not fitted, minus a center ``[D]``."""
        return Bank(raw, lambda rows, _: self.into_space(rows.float(), {}).float() - center)

    def _stored(self, rows: Iterable[Tensor], count: int) -> Tensor:
        """Return centred rows in the precision of the option `bank`."""
        bank = stacked(rows, count, getattr(torch, self.bank))
        if not bool(torch.isfinite(bank).all()):
            raise UsageError(f"knn: the features are too large for {self.bank}; use bank bfloat16 or float32")
        return bank

    def _rows(self, train: SelectedRows) -> Iterator[Tensor]:
        return (self.vectors(block).float() for block in train.blocks())


def _mean(blocks: Iterable[Tensor]) -> Tensor:
    sums, counts = zip(*((rows.sum(0).double(), len(rows)) for rows in blocks), strict=True)
    return (torch.stack(sums).sum(0) / sum(counts)).float()
