"""Empirical p-values: the share of training rows that score at least as high as a row."""

from __future__ import annotations

__all__ = ["p_values"]

import torch
from torch import Tensor


def p_values(reference: Tensor, scores: Tensor) -> Tensor:
    """Return the share of reference scores that are higher, for each of K scores.

    At a reference value it is ``1 - r / (N + 1)`` with the value's rank r in 1 .. N (the mean rank for ties).
    Between two values it is interpolated, so that a small change of a score gives a small change of its p-value;
    beyond the extremes it is constant, ``1 / (N + 1)`` and ``N / (N + 1)``.

    Parameters
    ----------
    reference : Tensor
        ``[K, N]`` float64, each row ascending.
    scores : Tensor
        ``[B, K]`` float64.

    Returns
    -------
    Tensor
        ``[B, K]``, in (0, 1); lower = more out-of-distribution.
    """
    values, size = scores.T.contiguous(), reference.shape[1]
    below = torch.searchsorted(reference, values)
    low = reference.gather(1, (below - 1).clamp(min=0))
    high = reference.gather(1, below.clamp(max=size - 1))
    width = high - low
    share = torch.where(width > 0, (values - low) / width, torch.zeros_like(width))
    ranks = torch.lerp(_mean_ranks(reference, low), _mean_ranks(reference, high), share)
    return 1 - ranks.T / (size + 1)


def _mean_ranks(reference: Tensor, values: Tensor) -> Tensor:
    before = torch.searchsorted(reference, values)
    until = torch.searchsorted(reference, values, right=True)
    return (before + until + 1).to(reference) / 2
