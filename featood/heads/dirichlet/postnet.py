"""Posterior network."""

from __future__ import annotations

__all__ = ["PostNet"]

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featood.errors import DataError, UsageError
from featood.heads.dirichlet.posterior_network import BUDGETS, PosteriorNetwork, uncertain_cross_entropy
from featood.heads.registry import option, register
from featood.heads.perceptron_head import PerceptronHead
from featood.numerics import dirichlet
from featood.training import Batches

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "alpha0": lambda log_alpha: -dirichlet.precision(log_alpha),
    "max-p": lambda log_alpha: -dirichlet.max_probability(log_alpha),
    "differential-entropy": dirichlet.differential_entropy,
    "mutual-information": dirichlet.mutual_information,
    "expected-entropy": dirichlet.expected_entropy,
    "epkl": dirichlet.expected_pairwise_divergence,
}


@register(
    "postnet",
    title="Posterior network",
    paper="Charpentier et al., Posterior Network: Uncertainty Estimation without OOD Samples via Density-Based "
    "Pseudo-Counts, NeurIPS",
    year=2020,
    url="https://arxiv.org/abs/2006.09239",
    needs=("features", "labels"),
)
class PostNet(PerceptronHead):
    """Score the Dirichlet distribution whose concentrations are densities of the classes in a latent space.

    ``alpha0`` is the negated log-precision. Far from all classes it approaches ``-log C`` so closely that rows tie;
    ``density``, the same without the prior's ones, still ranks them.
    """

    transient: ClassVar[tuple[str, ...]] = ("readout",)
    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 8, "batch_size": 64, "width": 16, "depth": 1, "latent": 3, "layers": 2, "lr": 1e-2,
    }  # fmt: skip

    which: str = option("alpha0", "score to return", choices=(*SCORES, "density"))
    depth: int = option(3, "hidden layers of the encoder", low=0)
    width: int = option(64, "units of a hidden layer", low=1)
    latent: int = option(6, "size of the latent space", low=1)
    layers: int = option(6, "radial layers of each flow", low=1)
    budget: str = option("id", "certainty budget: evidence of a class of n rows", choices=tuple(BUDGETS))
    training: str = option(
        "joint",
        "train encoder and flows together, or first the one as a classifier and then the others",
        choices=("joint", "sequential"),
    )
    entropy_weight: float = option(1e-5, "weight of the Dirichlet entropy, which the loss rewards", low=0)
    batch_size: int = option(64, "rows in a batch", low=2)
    lr: float = option(5e-3, "first learning rate", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training == "sequential" and self.validation:
            raise UsageError(
                f"{self.name}: sequential training has two losses in turn and cannot hold rows out; "
                "leave validation at 0"
            )

    def build(self, size: int, classes: int, generator: torch.Generator) -> PosteriorNetwork:
        """Make the network."""
        encoder = self.mlp(size, self.latent, generator)
        return PosteriorNetwork(encoder, self.latent, self.layers, classes, generator)

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Count the rows of each class, and the steps that train the encoder alone."""
        if len(rows) < 2:
            raise DataError(f"{self.name}: one row cannot be normalised; fit on more rows")
        model.counts.copy_(torch.bincount(labels, minlength=len(model.counts)))
        if self.training == "sequential":
            steps = self.epochs * len(Batches(len(rows), self.batch_size))
            model.encoder_steps.fill_(steps // 2)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the Bayesian loss, or the classifier's while only the encoder learns."""
        encoded = model.encoder(rows)
        if self.training == "sequential":
            if int(model.encoder_steps):
                model.encoder_steps -= 1
                return {"loss": F.cross_entropy(model.readout(encoded), labels)}
            encoded = encoded.detach()
        log_alpha = dirichlet.concentrations(model.evidence(encoded, self.budget), prior=1.0)
        error = uncertain_cross_entropy(log_alpha, labels).mean()
        entropy = dirichlet.differential_entropy(log_alpha).mean()
        return {"loss": error - self.entropy_weight * entropy, "uce": error, "entropy": entropy}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        evidence = model.evidence(model.encoder(rows), self.budget)
        if self.which == "density":
            return -evidence.logsumexp(1)
        return SCORES[self.which](dirichlet.concentrations(evidence, prior=1.0))
