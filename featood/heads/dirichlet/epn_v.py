"""Energy-prior network, its energy learned against a generator."""

from __future__ import annotations

__all__ = ["EPNV"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from featood.energies.dirichlet import evidence_divergence
from featood.heads.dirichlet._evidence_head import EvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.energies.vera import VERA
from featood.heads.registry import register
from featood.numerics.dirichlet import concentrations, differential_entropy
from featood.options import option


@register(
    "epn-v",
    title="Energy-prior network by VERA",
    paper="Elflein, Out-of-distribution Detection with Energy-based Models, Master's thesis, arXiv",
    year=2023,
    url="https://arxiv.org/abs/2302.12002",
    needs=("features", "labels"),
)
class EPNV(EvidenceHead, VERA):
    r"""Score the evidence of a classifier whose free energy is learned against samples of a generator.

    The concentrations are ``exp(l_c) + 1``, so the total evidence is :math:`\exp(-E(x))`; the target of a row of
    class y has all evidence on y. Optionally, the distribution on generator samples is trained to be flat.

    With ``target=0``, as published, the target concentration is the evidence itself: where it is near 1, the target is
    the flat distribution, and no class is learned. On 342 features of a DenseNet this gave an accuracy of 28 % and an
    AUROC of 58 %, against 93 % and 86 % with ``target=100``. In few dimensions, where the classes are learned with
    either target, a fixed target makes the density somewhat worse. The published learning rates decay at fixed epochs;
    here they follow `schedule`.
    """

    # as published, except that the published learning rates decay at fixed epochs
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "lr": 1e-4,
            "generator_lr": 2e-4,
            "posterior_lr": 2e-4,
            "noise_size": 0,
            "batch_size": 128,
            "target": 0.0,
        }
    }

    generator_lr: float = option(
        5e-4, "initial learning rate of the generator; higher ones diverged on features", low=0
    )
    which: str = option("p(x)", "score to return", choices=CHOICES)
    l2: float = option(0.1, "weight of the squared energies in the loss", low=0)
    l2_per_feature: bool = option(
        False, "divide that weight by the number of features, because energies grow with it"
    )
    classification: float = option(1.0, "weight of the classification loss", low=0)
    target: float = option(
        100.0, "target concentration of a row's own class; 0 for its total evidence", low=0
    )
    entropy_weight: float = option(
        0.0, "weight of the entropy regulariser of the rows' Dirichlet distributions", low=0
    )
    sample_entropy: float = option(
        0.0,
        "weight of the entropy regulariser on generator samples (minus their divergence to the flat distribution)",
        low=0,
    )

    def outputs(self, classes: int) -> int:
        """Return one output for each class."""
        return classes

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the classification loss of each row ``[B]``."""
        return evidence_divergence(logits, labels, self.target)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Add the classification loss to the losses of energy and generator."""
        parts = super().losses(model, rows, labels, generator)
        logits = model(rows).double()
        named = self.class_loss(logits, labels).mean()
        loss = parts["loss"] + self.classification * named - self.entropy_weight * self._entropy(logits)
        if self.sample_entropy:
            samples = model.sampler.sample(len(rows), generator)[0].detach()
            loss = loss - self.sample_entropy * self._entropy(model(samples).double())
        return {**parts, "loss": loss, "classification": named}

    def _entropy(self, logits: Tensor) -> Tensor:
        return differential_entropy(concentrations(logits, self.prior)).mean()
