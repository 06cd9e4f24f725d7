"""Natural posterior networks: one density in a latent space, shared out by class probabilities."""

from __future__ import annotations

__all__ = ["NatPN"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import bayesian_loss
from featood.extractors.models.model import ImageBatch, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.phases import PhasedModel
from featood.extractors.models.registry import register
from featood.flows.natural_posterior import BUDGETS, FLOWS, NaturalPosteriorNetwork, limited
from featood.numerics.dirichlet import concentrations
from featood.options import option
from featood.training.loop import Losses


class _Evidence(nn.Module):
    """Log-evidence of each class ``[B, C]`` from features."""

    def __init__(self, network: NaturalPosteriorNetwork, log_budget: float, limit: float) -> None:
        super().__init__()
        self.network, self.log_budget, self.limit = network, log_budget, limit

    def forward(self, features: Tensor) -> Tensor:
        latents = self.network.latents(features)
        evidence = limited(self.network.log_density(latents) + self.log_budget, self.limit)
        return (evidence[:, None] + self.network.log_probabilities(latents)).to(features.dtype)

    def density_loss(self, features: Tensor) -> Tensor:
        with torch.no_grad():
            latents = self.network.latents(features)
        return -self.network.log_density(latents).mean()


@register(
    "natpn",
    title="Natural posterior network",
    paper="Charpentier et al., Natural Posterior Network: Deep Bayesian Predictive Uncertainty for Exponential "
    "Family Distributions, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2105.04471",
)
class NatPN(PhasedModel):
    """Minimise the expected cross-entropy under ``Dir(alpha)`` minus a multiple of its entropy.

    The concentrations are ``alpha_c = 1 + N_H q(h(z)) p_c(h(z))``, with a linear layer h of the features into H
    dimensions, one flow q, the class probabilities p of a linear layer on h, and the certainty budget N_H. The
    network's logits are ``log N_H q p_c``, with the first two clipped to the evidence limit: score it with
    ``precision`` or another head on Dirichlet distributions.

    The flow has three autoregressive layers, as that of the head ``natpn``. The authors have 8 radial layers
    (``--flow radial --layers 8``), which are close to one peak between the classes, where images of no class are
    embedded. As in their code, the latent features are not normalised, and only the flow is trained in the first
    updates (`flow_first`), and again in the last ones (`flow_last`), by its likelihood; there these phases are
    additional epochs with optimisers of their own. Other weights still change in them by weight decay and momentum.
    The weights before the last phase are not kept as the best.
    """

    logits_part: ClassVar[str] = "evidence"
    latent: int = option(16, "size of the latent space", low=1)
    flow: str = option("maf", "kind of flow: masked autoregressive or radial", choices=tuple(FLOWS))
    layers: int = option(3, "layers of the flow", low=1)
    budget: str = option(
        "normal",
        "certainty budget of H dimensions: 1, exp(H/2), exp(H), or (4 pi)^(H/2)",
        choices=tuple(BUDGETS),
    )
    batch_norm: bool = option(False, "apply batch normalisation to the latent features")
    evidence_limit: float = option(30.0, "largest absolute log-evidence", low=1)
    entropy_weight: float = option(1e-5, "weight of the entropy of the Dirichlet distribution", low=0)
    flow_first: float = option(0.05, "share of the training, at the start, of the flow alone", low=0, high=1)
    flow_last: float = option(0.2, "share of the training, at the end, of the flow alone", low=0, high=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the latent space with its density and classes."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        flow = FLOWS[self.flow](self.latent, self.layers, 64, generator)
        encoder = nn.Linear(setup.width, self.latent)
        network = NaturalPosteriorNetwork(
            encoder, flow, self.latent, setup.classes, generator, self.batch_norm
        )
        evidence = _Evidence(network, BUDGETS[self.budget] * self.latent, self.evidence_limit)
        return {**super().parts(setup), "evidence": evidence}

    def all_errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the misclassifications ``[B]``."""
        return (net.parts["evidence"](net.features(batch.images)).argmax(1) != batch.labels).float()

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the expected cross-entropy, the entropy, and the negative log-likelihood of the flow."""
        batch = batch.inliers()
        features, part = net.features(batch.images), net.parts["evidence"]
        assert isinstance(part, _Evidence)
        density = part.density_loss(features)
        found = bayesian_loss(concentrations(part(features), 1.0), batch.labels, entropy=self.entropy_weight)
        last = self.begun(net, batch, 1 - self.flow_last if self.flow_last else self.flow_first)
        alone = batch.done < self.flow_first or (last and self.flow_last > 0)
        return {**found, "density": density, "loss": density if alone else found["loss"]}
