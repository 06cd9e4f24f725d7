"""Energy-prior network, its energy learned from Langevin samples."""

from __future__ import annotations

__all__ = ["EPNM"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies import class_energy, contrastive_divergence, frozen
from featood.energies.dirichlet import bayesian_loss
from featood.heads.dirichlet._evidence_head import EvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.energies._energy_head import PUBLISHED, SampledHead
from featood.heads.registry import register
from featood.numerics.dirichlet import concentrations
from featood.options import option


@register(
    "epn-m",
    title="Energy-prior network by contrastive divergence",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
    caution="not suited to high-dimensional features, on which it is hardly better than chance",
)
class EPNM(EvidenceHead, SampledHead):
    r"""Score the evidence of a classifier whose free energy is learned from its own Langevin samples.

    The concentrations are ``exp(l_c) + 1``, so the total evidence is :math:`\exp(-E(x))`. Samples descend the
    energy of a randomly drawn class, and each class has its own chains. The uncertain cross-entropy is averaged
    over rows; the published loss is also divided by the number of classes, which a preset cannot depend on: set
    ``classification=0.1`` for ten classes. By default, steps are short and the noise is that of exact Langevin
    dynamics; the preset has the published long steps with little noise.

    Intended for tables and low-dimensional features: on 342 features of a DenseNet it does not detect outliers.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"published": PUBLISHED}

    which: str = option("p(x)", "score to return", choices=CHOICES)
    classification: float = option(1.0, "weight of the uncertain cross-entropy in the loss", low=0)
    entropy_weight: float = option(
        1e-4, "weight of the entropy regulariser of the rows' Dirichlet distributions", low=0
    )
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)

    def outputs(self, classes: int) -> int:
        """Return one output for each class."""
        return classes

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Sample, then contrast and classify."""
        count, device = len(rows), generator.device
        drawn = torch.randint(model.chains.classes, (count,), generator=generator, device=device).to(
            rows.device
        )
        with frozen(model):
            samples = model.chains.sample(
                class_energy(model, drawn), count, labels=drawn, generator=generator, **self.sampling
            )
        parts = contrastive_divergence(model.energy, rows, samples, l2=self.l2)
        log_alpha = concentrations(model(rows), self.prior)
        named = bayesian_loss(log_alpha, labels, entropy=self.entropy_weight)["loss"]
        return {**parts, "loss": parts["loss"] + self.classification * named, "classification": named}
