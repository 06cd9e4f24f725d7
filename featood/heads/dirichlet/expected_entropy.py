"""Expected entropy under a Dirichlet distribution: data (aleatoric) uncertainty."""

from __future__ import annotations

__all__ = ["ExpectedEntropy"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import expected_entropy


@register(
    "expected-entropy",
    title="Expected entropy",
    paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1802.10501",
    needs=("logits",),
    learns=False,
)
class ExpectedEntropy(DirichletHead):
    """Score ``E[H(p)]`` for class probabilities p drawn from ``Dir(alpha)``: data uncertainty."""

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the expected entropy in nats ``[B]``."""
        return expected_entropy(log_alpha)
