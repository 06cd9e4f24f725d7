"""Differential entropy of a Dirichlet distribution."""

from __future__ import annotations

__all__ = ["DirichletDifferentialEntropy"]

from torch import Tensor

from featood.heads.dirichlet._dirichlet_head import DirichletHead
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

    ``torch.distributions.Dirichlet.entropy`` subtracts log-gamma values that agree in all their digits once
    concentrations are large: at logits of 20, 19 and 1 it gives -2048 in float32 where -27.88 is right, at 36, 35 and
    1 in float64 -64 where -51.88 is. On a ResNet-20's logits of CIFAR-10, which reach 42, its ranks in float32 have a
    correlation of -0.5 with the right ones, in float64 of 0.99.
    """

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the differential entropy in nats ``[B]``."""
        return differential_entropy(log_alpha)
