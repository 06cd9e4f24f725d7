"""Differential entropy of a Dirichlet distribution."""

from __future__ import annotations

__all__ = ["DirichletDifferentialEntropy"]

from torch import Tensor

from featood.heads.dirichlet.concentration import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import differential_entropy


@register(
    "dirichlet-differential-entropy",
    title="Differential entropy",
    paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1802.10501",
    needs=("logits",),
    learns=False,
)
class DirichletDifferentialEntropy(DirichletHead):
    """Score the differential entropy of ``Dir(alpha)``: how flat it is.

    With ``prior=0`` it falls without bound as soon as one class is ruled out (as ``-1 / alpha_c``), and then says
    more about the least likely class than about the row.
    """

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the differential entropy in nats ``[B]``."""
        return differential_entropy(log_alpha)
