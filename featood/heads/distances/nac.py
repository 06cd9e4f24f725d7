"""Neuron activation coverage: how often training rows put each neuron into the state it is in."""

from __future__ import annotations

__all__ = ["NAC"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base import FeatureHead, State
from featood.heads.classifier import classifier_state, linear_logits
from featood.heads.registry import option, register
from featood.heads.rows import SelectedRows
from featood.heads.spaces import RawFeatures


@register(
    "nac",
    title="Neuron activation coverage (NAC-UE)",
    paper="Liu et al., Neuron Activation Coverage: Rethinking Out-of-Distribution Detection and Generalization, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2306.02879",
    needs=("features", "classifier"),
)
class NAC(RawFeatures, FeatureHead):
    """Score the negated mean over neurons i of ``min(h_i(s_i) / (r N), 1)``, h_i the histogram of state s_i.

    The state is ``sigmoid(a z_i dKL_i)`` with the gradient of ``KL(uniform || p)`` to the feature, which for the
    last layer is ``W' (p - 1/K)``. Histograms have equal bins. Full coverage is a share r of the N training rows in
    the bin: the paper's 50 of the 1,000 rows it counts. Only the classifier's input is used; the paper adds earlier
    layers, whose gradients a cache does not hold. Higher means more out-of-distribution.
    """

    bins: int = option(50, "bins of each neuron's histogram", low=1)
    alpha: float = option(100.0, "steepness a of the sigmoid", low=0)
    full: float = option(
        0.05, "share r of the training rows in a bin that makes full coverage", low=1e-9, high=1
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"imagenet": {"alpha": 3000.0, "full": 0.01}}

    def fit_state(self, train: SelectedRows) -> State:
        """Count the training rows in each neuron's bins."""
        layer = classifier_state(train, self.feature)
        size = layer["weight"].shape[1]
        counts = torch.zeros(size * self.bins, dtype=torch.long, device=layer["weight"].device)
        rows = 0
        for block in train.blocks():
            counts += torch.bincount(self._cells(block, layer).flatten(), minlength=len(counts))
            rows += len(block)
        return {"coverage": (counts.double() / (self.full * max(rows, 1))).clamp(max=1), **layer}

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the negated mean coverage ``[B]``, in [-1, 0]."""
        return -fitted["coverage"][self._cells(block, fitted)].mean(1)

    def _cells(self, block: FeatureSet, layer: Any) -> Tensor:
        """Index of each neuron's bin in the flat table ``[B, D]``; float64 keeps states off the bins' edges."""
        rows = self.vectors(block).double()
        p = linear_logits(rows, layer).softmax(1)
        gradient = (p - 1 / p.shape[1]) @ layer["weight"].double()
        bins = (torch.sigmoid(self.alpha * rows * gradient) * self.bins).long().clamp(max=self.bins - 1)
        return bins + self.bins * torch.arange(rows.shape[1], device=rows.device)
