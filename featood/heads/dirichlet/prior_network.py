"""Prior network."""

from __future__ import annotations

__all__ = ["PriorNetwork"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import prior_network_loss
from featood.heads.dirichlet.evidence import EvidenceHead
from featood.heads.dirichlet.scores import CHOICES
from featood.heads.perceptron_head import PerceptronHead
from featood.heads.registry import option, register


@register(
    "prior-network",
    title="Prior network",
    paper="Malinin and Gales, Reverse KL-Divergence Training of Prior Networks: Improved Uncertainty and "
    "Adversarial Robustness, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1905.13472",
    needs=("features", "labels"),
    uses=("outliers",),
)
class PriorNetwork(EvidenceHead, PerceptronHead):
    """Score the Dirichlet distribution of a network that learnt to be sharp on classes, and flat on outliers.

    Of a row of class y the concentrations are to be 1, and `target` more for y; of an outlier, all 1. Outliers are
    the rows with a negative label, or without any, noise that is uniform on a cube around the features.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 15, "batch_size": 64, "width": 32, "depth": 1, "lr": 2e-2,
    }  # fmt: skip

    which: str = option("alpha0", "score to return", choices=CHOICES)
    direction: str = option(
        "reverse",
        "of the KL divergence: from the network to its aim (reverse), or to the network (forward)",
        choices=("reverse", "forward"),
    )
    target: float = option(100.0, "concentration of a row's own class beyond 1", low=1e-3)
    prior: float = option(
        1.0, "added to each concentration; 0 for the exponentials of the logits alone", low=0
    )
    outlier_weight: float = option(1.0, "weight of the outliers in the loss", low=0)
    noise: float = option(5.0, "half the side of the cube of noise, in scaled features", low=0)

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron."""
        return self.mlp(size, classes, generator)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the divergences of rows and outliers, the latter noise where there are none."""
        if bool((labels >= 0).all()):
            draws = torch.rand(rows.shape, generator=generator, device=generator.device).to(rows)
            rows = torch.cat([rows, self.noise * (2 * draws - 1)])
            labels = torch.cat([labels, torch.full_like(labels, -1)])
        return prior_network_loss(
            model(rows),
            labels,
            direction=self.direction,
            target=self.target,
            prior=self.prior,
            outliers=self.outlier_weight,
        )

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the divergence of the held-out rows, among which there are no outliers."""
        return self.losses(model, rows, labels, generator)["inlier"]
