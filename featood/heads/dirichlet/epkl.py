"""Divergence between two draws from a Dirichlet distribution."""

from __future__ import annotations

__all__ = ["EPKL"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import expected_pairwise_divergence


@register(
    "epkl",
    title="Expected pairwise KL divergence",
    paper="Malinin and Gales, Reverse KL-Divergence Training of Prior Networks, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1905.13472",
    needs=("logits",),
    learns=False,
)
class EPKL(DirichletHead):
    """Score ``(C - 1) / alpha_0``, the divergence expected between two draws of the class probabilities."""

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the expected divergence in nats ``[B]``."""
        return expected_pairwise_divergence(log_alpha)
