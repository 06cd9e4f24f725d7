r"""Natural posterior network.

.. math:: \alpha_c = 1 + N_H \, q(h(z)) \, p_c(h(z))

with an encoder :math:`h` into H latent dimensions, the density :math:`q` of one normalising flow on them, the class
probabilities :math:`p` of a linear classifier on the same latent features, and the certainty budget :math:`N_H`.
"""

from __future__ import annotations

__all__ = ["NatPN"]

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import bayesian_loss
from featood.errors import DataError
from featood.flows import ClassMixture
from featood.flows.natural_posterior import BUDGETS, CLASS_FLOWS, FLOWS, NaturalPosteriorNetwork, limited
from featood.flows.posterior_network import settled_latents
from featood.heads.base.feature_head import space_option
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.base.trained_head import Phase
from featood.heads.dirichlet._evidence_head import EvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.registry import register
from featood.numerics.dirichlet import concentrations
from featood.options import option


@register(
    "natpn",
    title="Natural posterior network",
    paper="Charpentier et al., Natural Posterior Network: Deep Bayesian Predictive Uncertainty for Exponential "
    "Family Distributions, ICLR",
    year=2022,
    url="https://arxiv.org/abs/2105.04471",
    needs=("features", "labels"),
)
class NatPN(EvidenceHead, PerceptronHead):
    """Score the density of a classifier's latent space, or the Dirichlet distribution whose evidence it is.

    The concentrations are ``alpha_c = 1 + N_H q(h(z)) p_c(h(z))``, and the scores increase as the evidence decreases.
    The logarithm of the evidence ``N_H q`` is clipped to ``[-evidence_limit, evidence_limit]``, so rows beyond the
    limit tie; ``p(x)``, the density alone, is not clipped. It is the score of the published code.

    Training has three phases: a warm-up of the flow on the output of the untrained encoder, training of all parts with
    the Bayesian loss, and fine-tuning of the flow on the output of the trained encoder. The last phase is needed
    because the Bayesian loss, which any large evidence satisfies, leaves the flow far from a maximum of the likelihood.
    It starts anew, from one normal distribution for each class in whitened latent features; until then, there is one.

    The defaults suit features of a network, in which a linear encoder with many dimensions keeps what tells outliers
    apart. For tables, ``featood fit`` chooses an encoder with three hidden layers, which classifies better.

    Except with the preset ``published``, the settings differ from the published code, which has an encoder with hidden
    layers and 16 dimensions, a radial flow of 8 layers over a single normal distribution, no batch normalisation of the
    latent features, leaky ReLUs (slope 0.01, here 0.2) and a constant learning rate. Training and fine-tuning stop
    early on held-out rows; without any, both run for all epochs.
    """

    space: str = space_option("l2-standardize")

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 4, "batch_size": 64, "width": 16, "depth": 1, "latent": 3, "layers": 2, "lr": 1e-2,
        "warmup_epochs": 1,
    }  # fmt: skip
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "depth": 3, "latent": 16, "flow": "radial", "layers": 8, "by_class": False, "batch_norm": False,
            "activation": "leaky_relu", "schedule": "constant",
        }
    }  # fmt: skip

    table_options: ClassVar[Mapping[str, Any]] = {"depth": 3}
    negative_linear: ClassVar[bool] = False  # type: ignore[misc]  # not an option here: the outputs are not logits
    which: str = option("p(x)", "score to return", choices=CHOICES)
    depth: int = option(0, "hidden layers of the encoder", low=0)
    width: int = option(64, "units of a hidden layer", low=1)
    latent: int = option(
        128,
        "size of the latent space; with `by_class`, it has at most as many dimensions as the features",
        low=1,
    )
    flow: str = option("maf", "kind of flow: masked autoregressive or radial", choices=tuple(FLOWS))
    layers: int = option(3, "layers of the flow", low=1)
    by_class: bool = option(
        True, "let the base of the flow have one normal distribution for each class, instead of a single one"
    )
    budget: str = option(
        "normal",
        "certainty budget of H latent dimensions: 1, exp(H/2), exp(H), or (4 pi)^(H/2)",
        choices=tuple(BUDGETS),
    )
    evidence_limit: float = option(
        30.0, "largest absolute log-evidence, in the loss and in all scores except p(x)", low=1
    )
    batch_norm: bool = option(True, "apply batch normalisation to the latent features")
    entropy_weight: float = option(1e-5, "weight of the Dirichlet entropy regulariser", low=0)
    epochs: int = option(
        100, "passes over the training rows, and maximum number of passes of the fine-tuning", low=1
    )
    warmup_epochs: int = option(3, "initial passes in which only the flow is trained", low=0)
    finetune: bool = option(True, "train the flow alone after the joint training")
    batch_size: int = option(64, "rows in a batch", low=2)

    def build(self, size: int, classes: int, generator: torch.Generator) -> NaturalPosteriorNetwork:
        """Make the network."""
        latent = min(self.latent, size) if self.by_class else self.latent  # more would not be independent
        encoder = self.mlp(size, latent, generator)
        flow = self.density(latent, classes, generator)
        return NaturalPosteriorNetwork(encoder, flow, latent, classes, generator, self.batch_norm)

    def density(self, latent: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the density of the latent space."""
        if not self.by_class:
            return FLOWS[self.flow](latent, self.layers, self.width, generator)
        flow = CLASS_FLOWS[self.flow](latent, self.layers, self.width, generator)
        return ClassMixture(flow, latent, classes)

    def start_classes(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Replace the density by a new one that starts from the classes of the latent features."""
        classes, latent = model.classifier.weight.shape
        density: Any = self.density(latent, classes, torch.Generator().manual_seed(self.seed))
        model.flow = density.to(rows.device)
        model.flow.initialize(settled_latents(model, rows), labels)

    def phases(self) -> Sequence[Phase]:
        """Return the phases: warm-up of the flow, joint training, and fine-tuning of the flow."""

        def flow(model: Any) -> torch.optim.Optimizer:
            return torch.optim.AdamW(
                model.flow.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
            )

        found = list(super().phases())
        if self.warmup_epochs:
            found.insert(0, Phase(self.warmup_epochs, warm_up_losses, None, flow, "warm-up"))
        if self.finetune:
            start = self.start_classes if self.by_class else None
            found.append(Phase(self.epochs, density_losses, density_loss, flow, "fine-tuning", start))
        return found

    def initialize(self, model: Any, rows: Tensor, labels: Tensor) -> None:
        """Raise if there is only one row."""
        if len(rows) < 2:
            raise DataError(f"{self.name}: one row cannot be normalised; fit on more rows")

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the Bayesian loss."""
        log_alpha = concentrations(self.log_evidence(model, rows), self.prior)
        return bayesian_loss(log_alpha, labels, entropy=self.entropy_weight)

    def log_evidence(self, model: Any, rows: Tensor) -> Tensor:
        """Return the clipped log of budget times density, distributed over the classes ``[B, C]``."""
        latents = model.latents(rows)
        evidence = limited(self._budgeted(model, latents), self.evidence_limit)
        return evidence[:, None] + model.log_probabilities(latents)

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        if self.which == "p(x)":
            return -self._budgeted(model, model.latents(rows))
        return super().score_rows(model, rows)

    def _budgeted(self, model: NaturalPosteriorNetwork, latents: Tensor) -> Tensor:
        return model.log_density(latents) + BUDGETS[self.budget] * latents.shape[1]


def warm_up_losses(
    model: NaturalPosteriorNetwork, rows: Tensor, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the mean negative log-density of the output of a frozen encoder."""
    with torch.no_grad():
        latents = model.latents(rows)
    return {"loss": -model.log_likelihood(latents, labels).mean()}


def density_losses(
    model: NaturalPosteriorNetwork, rows: Tensor, labels: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the mean negative log-density with encoder and normalisation frozen."""
    return {"loss": -model.log_likelihood(settled_latents(model, rows), labels).mean()}


def density_loss(
    model: NaturalPosteriorNetwork, rows: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the mean negative log-density of held-out rows."""
    return density_losses(model, rows, labels, generator)["loss"]
