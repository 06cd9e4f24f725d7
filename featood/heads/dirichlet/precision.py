"""Precision of a Dirichlet distribution: the sum of its concentrations."""

from __future__ import annotations

__all__ = ["Precision"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
from featood.heads.registry import register
from featood.numerics.dirichlet import precision


@register(
    "precision",
    title="Dirichlet precision",
    paper="Malinin and Gales, Predictive Uncertainty Estimation via Prior Networks, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1802.10501",
    needs=("logits",),
    learns=False,
)
class Precision(DirichletHead):
    """Score ``-log alpha_0``; with ``prior=0`` this is the free energy."""

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the negated log-precision ``[B]``."""
        return -precision(log_alpha)
