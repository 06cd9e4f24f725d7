"""Optimal piecewise constant shaping of the activations."""

from __future__ import annotations

__all__ = ["OptFS", "interval_sums", "shaped"]

import torch
from torch import Tensor

from featood.cache.feature_set import FeatureSet
from featood.heads.base.feature_head import FeatureHead, RawFeatures
from featood.heads.base.fit import State
from featood.heads.base.last_layer import classifier_state, linear_logits
from featood.heads.base.rows import SelectedRows
from featood.heads.registry import register
from featood.numerics.quantiles import quantiles
from featood.options import option

TAIL = 1e-3
"""Share of the activations below, and above, all intervals."""


@register(
    "optfs",
    title="Optimal feature shaping (OptFS)",
    paper="Zhao et al., Towards Optimal Feature-Shaping Methods for Out-of-Distribution Detection, ICLR",
    year=2024,
    url="https://arxiv.org/abs/2402.00865",
    needs=("features", "classifier"),
)
class OptFS(RawFeatures, FeatureHead):
    """Score ``-<w_y, theta(z) z>`` with the weights of the predicted class and a piecewise constant function theta.

    The range of the activations between their quantiles 0.001 and 0.999 is divided into intervals of equal width, and
    activations outside of it are set to zero. In closed form, theta is proportional to the mean contribution of the
    activations in an interval to the predicted logit of a training row, ``sum_d w_yd z_d``; here it has unit length.
    y is the class that is predicted without shaping. The authors' code can also score the energy of all shaped logits,
    which depends on the scale of theta. Higher means more out-of-distribution.
    """

    intervals: int = option(100, "number of intervals, the authors' by default", low=1)

    def fit_state(self, train: SelectedRows) -> State:
        """Find the range in a first pass and the contributions of its intervals in a second."""
        layer = classifier_state(train, self.feature)
        low, high = quantiles(lambda: map(self.vectors, train.blocks()), [TAIL, 1 - TAIL])
        edges = torch.linspace(low, high, self.intervals + 1, dtype=torch.float64, device=train.device)
        total = edges.new_zeros(self.intervals)
        for block in train.blocks():
            rows = self.vectors(block).double()
            total += interval_sums(rows, _contributions(rows, layer), edges)
        return {"edges": edges, "theta": total / total.norm().clamp(min=1e-300), **layer}

    def score_block(self, block: FeatureSet, fitted: State) -> Tensor:
        """Return the negated shaped logit of the predicted class, without its bias ``[B]``."""
        rows = self.vectors(block).double()
        return -shaped(rows, _contributions(rows, fitted), fitted["edges"], fitted["theta"]).sum(1)


def _contributions(rows: Tensor, layer: State) -> Tensor:
    """Contributions ``[B, D]`` of rows ``[B, D]`` to the logits of their predicted classes."""
    return layer["weight"].double()[linear_logits(rows, layer).argmax(1)] * rows


def interval_sums(rows: Tensor, values: Tensor, edges: Tensor) -> Tensor:
    """Add up the values ``[B, D]`` of the entries that lie in each interval between edges ``[K]``: ``[K - 1]``."""
    places = torch.searchsorted(edges, rows, right=True)
    return torch.bincount(places.flatten(), values.flatten(), len(edges) + 1)[1:-1]


def shaped(
    rows: Tensor,
    values: Tensor,
    edges: Tensor,
    theta: Tensor,
) -> Tensor:
    """Multiply the values ``[B, D]`` of entries by the constants ``[K - 1]`` of their intervals, or by 0 outside."""
    factors = torch.nn.functional.pad(theta, (1, 1))
    return values * factors[torch.searchsorted(edges, rows, right=True)]
