"""Networks whose logits are the concentrations of a Dirichlet distribution."""

from __future__ import annotations

__all__ = ["PriorNetwork"]

from featood.energies.dirichlet import prior_network_loss
from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.options import option
from featood.training.loop import Losses


@register(
    "prior-network",
    title="Prior network",
    paper="Malinin and Gales, Reverse KL-Divergence Training of Prior Networks: Improved Uncertainty and Adversarial "
    "Robustness, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1905.13472",
    needs=("labels", "outliers"),
)
class PriorNetwork(Model):
    """Minimise the divergence between ``Dir(exp(l) + prior)`` and targets that are sharp for labels, flat for outliers.

    The target concentrations of an image of class y are 1, plus `target` for y; those of an outlier are all 1. The loss
    is the mean divergence of labelled images plus the weighted mean of outliers, over `target`. Score it with
    ``precision``, ``mutual-information`` or another head on Dirichlet distributions, and pass it the prior (``--prior
    0`` for the forward divergence).

    The prior is 1 for the reverse divergence and 0 for the forward one: with 1, the gradients of the forward divergence
    vanish before the classes are learned.
    """

    direction: str = option(
        "reverse",
        "divergence from the network to its target (reverse), or from the target to the network (forward)",
        choices=("reverse", "forward"),
    )
    target: float = option(100.0, "concentration of the own class in addition to 1", low=1e-3)
    weight: float = option(1.0, "weight of the outliers", low=0)

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and the mean divergences of labelled images and outliers."""
        prior = 1.0 if self.direction == "reverse" else 0.0
        return prior_network_loss(
            net(batch.images), batch.labels, direction=self.direction, target=self.target, prior=prior,
            outliers=self.weight,
        )  # fmt: skip
