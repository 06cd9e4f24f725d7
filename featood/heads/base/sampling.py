"""Training rows to store, all or a random sample, for heads that keep rows or need only a sample."""

from __future__ import annotations

__all__ = ["sampled_blocks", "stacked"]

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.rows import SelectedRows


def sampled_blocks(train: SelectedRows, count: int, seed: int) -> Iterator[FeatureSet]:
    """Iterate over blocks of `count` rows drawn without replacement, in the order of the set.

    Rows are drawn by their position in the set, so the sample does not depend on the blocks. If drawn rows are skipped
    (unknown labels, non-finite values), the sample is smaller by their number.

    Parameters
    ----------
    train : SelectedRows
        The rows of the fit.
    count : int
        Number of rows to draw; all rows if there are fewer.
    seed : int
        Random seed.
    """
    total = len(train.source)
    if count >= total:
        yield from train.blocks()
        return
    drawn = torch.zeros(total, dtype=torch.bool)
    drawn[torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]] = True
    start = 0
    for block, keep in train.masked_blocks():
        wanted = drawn[start : start + len(keep)][keep]
        start += len(keep)
        if bool(wanted.any()):
            yield block.rows(wanted)


def stacked(blocks: Iterable[Tensor], count: int, dtype: torch.dtype | None = None) -> Tensor:
    """Join blocks of rows ``[B, D]`` without holding them twice, unlike `torch.cat`.

    Parameters
    ----------
    blocks : iterable of Tensor
        At least one block.
    count : int
        Largest number of rows of all blocks; memory for rows that do not come is reserved, and never used.
    dtype : torch.dtype, optional
        Type of the result; by default, that of the first block.
    """
    rows: Tensor | None = None
    filled = 0
    for block in blocks:
        if rows is None:
            rows = torch.empty(count, block.shape[1], dtype=dtype or block.dtype, device=block.device)
        rows[filled : filled + len(block)] = block
        filled += len(block)
    assert rows is not None
    return rows[:filled]
