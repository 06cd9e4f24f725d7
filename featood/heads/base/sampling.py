"""A random sample of the training rows, for heads that store rows or need only a sample."""

from __future__ import annotations

__all__ = ["sampled_blocks"]

from collections.abc import Iterator

import torch

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
