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

    With ``prior=0`` it decreases without bound (as ``-1 / alpha_c``) as the concentration of one class approaches 0,
    and then depends more on the least likely class than on the row.

    ``torch.distributions.Dirichlet.entropy`` suffers from cancellation, because it subtracts log-gamma values that
    agree in all digits when concentrations are large: for logits 20, 19 and 1 it returns -2048 in float32 instead of
    -27.88, for 36, 35 and 1 in float64 -64 instead of -51.88. On the CIFAR-10 logits of a ResNet-20, which reach 42,
    its ranks have a correlation of -0.5 with the correct ones in float32, and of 0.99 in float64.
    """

    def score_concentrations(self, log_alpha: Tensor) -> Tensor:
        """Return the differential entropy in nats ``[B]``."""
        return differential_entropy(log_alpha)
