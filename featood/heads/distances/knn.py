"""Distance to the k-th nearest training row."""

from __future__ import annotations

__all__ = ["KNN", "nearest"]

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, space_option
from featood.heads.base.fit import State
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.memory import by_chunks
from featood.options import option

BANK_ROWS = 8192
GATHER_BYTES = 1 << 28


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
    Neighbours are searched with faiss if it is installed (on GPU if the head is fitted on CUDA and faiss supports it),
    otherwise with PyTorch; the distances are then recomputed from the differences, so a score does not depend on the
    batch size of the search.

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

    def fit_state(self, train: SelectedRows) -> State:
        """Keep the rows, centred on their mean: smaller values lose less precision in the search."""
        rows = torch.cat([self.vectors(block).float() for block in train.blocks()])
        if self.k > len(rows):
            warnings.warn(
                f"knn: k = {self.k}, but there are only {len(rows)} training rows; all are used", stacklevel=2
            )
        center = rows.mean(0, dtype=torch.float64).float()
        return {"bank": rows.sub_(center), "center": center}

    def prepare(self, state: State) -> Any:
        """Build the index."""
        bank = state["bank"]
        return bank, state["center"], searcher(bank, min(self.k, len(bank)))

    def score_block(self, block: FeatureSet, fitted: Any) -> Tensor:
        """Return the distance ``[B]``."""
        bank, center, search = fitted
        rows = self.vectors(block).float() - center
        # faiss cannot be part of a graph
        neighbours = (
            nearest(rows, bank, min(self.k, len(bank))) if torch.compiler.is_compiling() else search(rows)
        )
        if self.distance == "kth":
            neighbours = neighbours[:, -1:]
        size = max(1, GATHER_BYTES // (8 * neighbours.shape[1] * rows.shape[1]))
        return by_chunks(
            lambda row, index: (row[:, None] - bank[index]).double().norm(dim=2).mean(1),
            size,
            rows,
            neighbours,
        )


def searcher(bank: Tensor, k: int) -> Callable[[Tensor], Tensor]:
    """Return a function from rows ``[B, D]`` to the indices ``[B, k]`` of their nearest rows in the bank."""
    try:
        import faiss
    except ImportError:
        return lambda rows: nearest(rows, bank, k)
    if bank.is_cuda:
        if not getattr(faiss, "get_num_gpus", lambda: 0)():
            return lambda rows: nearest(rows, bank, k)
        index: Any = faiss.IndexFlatL2(bank.shape[1])
        index.add(bank.cpu().numpy())
        index = faiss.index_cpu_to_all_gpus(index)
        return lambda rows: torch.from_numpy(index.search(rows.cpu().numpy(), k)[1]).to(bank.device)
    stored = bank.numpy()  # searched directly: an index would hold a second copy
    return lambda rows: torch.from_numpy(faiss.knn(rows.numpy(), stored, k)[1])


def nearest(rows: Tensor, bank: Tensor, k: int) -> Tensor:
    """Find the k nearest bank rows by Euclidean distance, nearest first.

    Parameters
    ----------
    rows : Tensor
        ``[B, D]``.
    bank : Tensor
        ``[N, D]`` with N >= k.
    k : int
        Number of neighbours.

    Returns
    -------
    Tensor
        ``[B, k]`` row numbers in the bank.
    """
    best = rows[:, :0]
    found = best.long()
    for start in range(0, len(bank), BANK_ROWS):
        part = bank[start : start + BANK_ROWS]
        # |row|^2 is the same for all neighbours of a row, so it does not affect the order
        closer = torch.addmm(part.square().sum(1), rows, part.T, alpha=-2)
        best = torch.cat([best, closer], 1)
        found = torch.cat(
            [found, torch.arange(start, start + len(part), device=rows.device).expand(rows.shape[0], -1)], 1
        )
        best, place = best.topk(min(k, best.shape[1]), largest=False)
        found = found.gather(1, place)
    return found
