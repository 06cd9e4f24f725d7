"""Logits scaled by a ratio of activations that depends on how much they shift under a perturbation."""

from __future__ import annotations

__all__ = ["AdaSCALEL"]

from torch import Tensor

from featood.heads.base.fit import State
from featood.heads.base.last_layer import linear_logits
from featood.heads.registry import register
from featood.heads.reshaping._adascale import AdaSCALE


@register(
    "adascale-l",
    title="Adaptive logit scaling (AdaSCALE-L)",
    paper="Regmi, AdaSCALE: Adaptive Scaling for OOD Detection, arXiv",
    year=2025,
    url="https://arxiv.org/abs/2503.08023",
    needs=("features", "classifier"),
)
class AdaSCALEL(AdaSCALE):
    """Score the logits times ``r^2``, r being the ratio of ``adascale-a``, whose options it shares.

    Like ``lts``, it depends on a constant added to all logits, which leaves the softmax unchanged.
    """

    def scaled(self, features: Tensor, ratios: Tensor, fitted: State) -> Tensor:
        """Scale the logits."""
        return linear_logits(features, fitted) * ratios.square()
