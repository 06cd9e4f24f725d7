"""Inputs of different lengths, padded to the longest of a batch."""

from __future__ import annotations

__all__ = ["PADDING", "Padded", "joined", "real_tokens"]

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

PADDING = -1
"""Number after the last token of a text; networks replace it by their own."""


class Padded(nn.Module):
    """Base class of networks whose inputs are padded, so only vectors, one per input, may become columns."""

    padded = True


def real_tokens(
    tokens: Int[Tensor, "B L"], padding: int = 0
) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Return token numbers ``[B, L]`` with another padding, and which of them are tokens ``[B, L]``."""
    mask = tokens != PADDING
    return torch.where(mask, tokens, padding), mask


def joined(batches: Sequence[Tensor]) -> Tensor:
    """Join batches ``[B, ...]``; token numbers ``[B, L]`` are padded to the longest."""
    if not batches[0].is_floating_point():
        longest = max(batch.shape[1] for batch in batches)
        batches = [F.pad(batch, (0, longest - batch.shape[1]), value=PADDING) for batch in batches]
    return torch.cat(list(batches))
