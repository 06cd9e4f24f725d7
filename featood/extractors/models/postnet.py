"""Posterior networks: class densities in a latent space, counted as evidence."""

from __future__ import annotations

__all__ = ["PostNet"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import bayesian_loss
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.flows.posterior_network import BUDGETS, PosteriorNetwork
from featood.numerics.dirichlet import concentrations
from featood.options import option
from featood.training.loop import Losses


class _Evidence(nn.Module):
    """Log-evidence of each class ``[B, C]`` from features."""

    def __init__(self, network: PosteriorNetwork, budget: str) -> None:
        super().__init__()
        self.network, self.budget = network, budget
        del network.readout  # of sequential training

    def forward(self, features: Tensor) -> Tensor:
        return self.network.evidence(self.network.encoder(features), self.budget).to(features.dtype)


@register(
    "postnet",
    title="Posterior network",
    paper="Charpentier et al., Posterior Network: Uncertainty Estimation without OOD Samples via Density-Based "
    "Pseudo-Counts, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2006.09239",
)
class PostNet(Model):
    """Minimise the expected cross-entropy under ``Dir(alpha)`` minus a multiple of its entropy.

    The concentrations are ``alpha_c = 1 + N_c q_c(h(z))``, with a linear layer h of the features, batch normalisation,
    a radial flow q_c of each class, and a budget N_c from the number of its images. The network's logits are ``log N_c
    q_c``: score it with ``precision``, ``mutual-information`` or another head on Dirichlet distributions, or with
    ``energy``, which ranks images far from all classes.

    As in the authors' code for CIFAR-10, training is joint; it uses Adam with a learning rate of 5e-4
    (``--optimizer adam --lr 5e-4``), and a sum over the batch in place of the mean.
    """

    logits_part: ClassVar[str] = "evidence"
    latent: int = option(6, "size of the latent space", low=1)
    layers: int = option(6, "radial layers of each flow", low=1)
    budget: str = option("id", "certainty budget: evidence of a class of n images", choices=tuple(BUDGETS))
    entropy_weight: float = option(1e-5, "weight of the entropy of the Dirichlet distribution", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the latent space and its densities."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        encoder = nn.Linear(setup.width, self.latent)
        network = PosteriorNetwork(encoder, self.latent, self.layers, setup.classes, generator)
        return {"evidence": _Evidence(network, self.budget)}

    def prepare(self, net: SplitNet, batches: Iterable[ImageBatch]) -> None:
        """Count the images of each class."""
        part = net.parts["evidence"]
        assert isinstance(part, _Evidence)
        counts = part.network.counts
        counts.zero_()
        for batch in batches:
            counts += torch.bincount(batch.labels, minlength=len(counts))

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return the misclassifications ``[B]``."""
        return (net.parts["evidence"](net.features(batch.images)).argmax(1) != batch.labels).float()

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss, the expected cross-entropy and the entropy."""
        batch = batch.inliers()
        evidence = net.parts["evidence"](net.features(batch.images))
        return bayesian_loss(concentrations(evidence, 1.0), batch.labels, entropy=self.entropy_weight)
