"""Rows that the classifier assigns to their own class, for heads that learn from these alone."""

from __future__ import annotations

__all__ = ["is_correct", "no_correct_rows"]

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.errors import DataError
from featood.heads.base.rows import SelectedRows


def is_correct(block: FeatureSet) -> Tensor:
    """Mask ``[B]`` of the rows whose largest logit is that of their label."""
    assert block.logits is not None
    return block.logits[:].argmax(1) == torch.as_tensor(block.labels)


def no_correct_rows(name: str, train: SelectedRows) -> DataError:
    """Return the error of the head `name` for rows of which none is correct."""
    return DataError(
        f"{name}: no row of {train.source.name} is classified correctly; check that its labels match its logits"
    )
