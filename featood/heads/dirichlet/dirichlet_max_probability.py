"""Largest expected class probability of a Dirichlet distribution."""

from __future__ import annotations

__all__ = ["DirichletMaxProbability"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import max_probability


@register(
    "dirichlet-max-probability",
    title="Expected class probability",
    paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1802.10501",
    needs=("logits",),
    learns=False,
)
class DirichletMaxProbability(DirichletHead):
    """Score ``-max_c alpha_c / alpha_0``."""

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the negated largest expected probability ``[B]``."""
        return -max_probability(log_alpha)
