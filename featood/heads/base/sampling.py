"""A random sample of the training rows, for heads that keep rows or need no more of them."""

from __future__ import annotations

__all__ = ["sampled_blocks"]

from collections.abc import Iterator

import torch

from featood.cache.feature_set import FeatureSet
from featood.heads.base.rows import SelectedRows


def sampled_blocks(train: SelectedRows, count: int, seed: int) -> Iterator[FeatureSet]:
    """Iterate over blocks of `count` rows drawn without replacement, in the order of the set.

    Rows are drawn by their place in the set, so the sample does not depend on the blocks. Where rows are left
    out (unknown labels, values that are not finite) the sample is smaller by as many as were drawn of them.

    Parameters
    ----------
    train : SelectedRows
        The rows of the fit.
    count : int
        How many to draw; all where there are not more.
    seed : int
        Seed of the draw.
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
