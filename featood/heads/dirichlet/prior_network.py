"""Prior network."""

from __future__ import annotations

__all__ = ["PriorNetwork"]

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featood.energies.dirichlet import prior_network_loss
from featood.errors import UsageError
from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.base.trained_head import updates_option
from featood.heads.dirichlet._evidence_head import EvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.registry import register
from featood.options import option


@register(
    "prior-network",
    title="Prior network",
    paper="Malinin and Gales, Reverse KL-Divergence Training of Prior Networks: Improved Uncertainty and "
    "Adversarial Robustness, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1905.13472",
    needs=("features", "labels"),
    uses=("outliers",),
    caution="without outliers it learns from noise, which on features of networks detects less than the classifier mlp",
)
class PriorNetwork(EvidenceHead, PerceptronHead):
    """Score the Dirichlet distribution of a network trained to be sharp on known classes and flat on outliers.

    The target concentrations of a row of class y are 1, plus `target` for y; those of an outlier are all 1. Outliers
    are the rows with a negative label, or, if there are none, uniform noise on a cube around the features.

    Real outliers are better than noise, if there are any. With noise, the precision falls only where noise is drawn:
    far from the rows, not between the classes. On the table Segment, with its class sky as outliers, noise is enough,
    and on features of networks the classifier `mlp` detects more (see the guide on choosing a head).

    The concentrations of the network are ``exp(l_c) + prior``. The forward divergence uses ``prior=0``, as
    published: its loss is lowest near ``alpha = 1`` until the classes are learned, and with 1 added the logits
    would then go to minus infinity and their gradients vanish.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 6, "batch_size": 64, "width": 32, "depth": 1, "lr": 2e-2,
    }  # fmt: skip

    updates: int = updates_option(1000)
    which: str = option("alpha0", "score to return", choices=CHOICES)
    direction: str = option(
        "reverse",
        "direction of the KL divergence: from the network to its target (reverse), or from the target to the network "
        "(forward)",
        choices=("reverse", "forward"),
    )
    target: float = option(100.0, "concentration of a row's own class in addition to 1", low=1e-3)
    prior: float | None = option(  # type: ignore[assignment]  # resolved to a number at construction
        None, "added to each concentration (default: 1, or 0 for the forward divergence)"
    )
    outlier_weight: float = option(1.0, "weight of the outliers in the loss", low=0)
    noise: float = option(5.0, "half the side of the cube of noise, in scaled features", low=0)

    def resolve_options(self) -> Mapping[str, Any]:
        """Choose the prior by the direction, if it is not given."""
        prior = self.prior
        if prior is None:
            prior = 0.0 if self.direction == "forward" else 1.0
        if not 0 <= prior < math.inf:
            raise UsageError(f"{self.name}: prior must be at least 0, not {prior}")
        return {"prior": prior}

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron."""
        return self.mlp(size, classes, generator)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the divergences of rows and outliers; noise replaces outliers if there are none."""
        if bool((labels >= 0).all()):
            draws = torch.rand(rows.shape, generator=generator, device=generator.device).to(rows)
            rows = torch.cat([rows, self.noise * (2 * draws - 1)])
            labels = torch.cat([labels, torch.full_like(labels, -1)])
        return prior_network_loss(
            model(rows),
            labels,
            direction=self.direction,
            target=self.target,
            prior=self.prior or 0.0,
            outliers=self.outlier_weight,
        )

    def validation_loss(self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the divergence of the held-out rows, which contain no outliers."""
        return self.losses(model, rows, labels, generator)["inlier"]
