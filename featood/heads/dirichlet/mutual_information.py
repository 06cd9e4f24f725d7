"""Mutual information of a class and its Dirichlet-distributed probabilities."""

from __future__ import annotations

__all__ = ["MutualInformation"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import mutual_information


@register(
    "mutual-information",
    title="Mutual information",
    paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1802.10501",
    needs=("logits",),
    learns=False,
)
class MutualInformation(DirichletHead):
    """Score ``H(E[p]) - E[H(p)]`` for class probabilities p drawn from ``Dir(alpha)``: uncertainty about p."""

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the mutual information in nats ``[B]``."""
        return mutual_information(log_alpha)
