"""A classifier trained on the features, and the scores of its logits."""

from __future__ import annotations

__all__ = ["MLP"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featood.heads.base.perceptron_head import PerceptronHead
from featood.heads.base.trained_head import updates_option
from featood.heads.dirichlet._evidence_head import EvidenceHead
from featood.heads.dirichlet._scores import CHOICES
from featood.heads.registry import register
from featood.options import option


@register(
    "mlp",
    title="Classifier on features",
    paper="Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural "
    "Networks, ICLR",
    year=2017,
    url="https://arxiv.org/abs/1610.02136",
    needs=("features", "labels"),
)
class MLP(EvidenceHead, PerceptronHead):
    """Score the logits of a perceptron trained on the features by cross-entropy.

    ``msp`` is 1 minus the largest class probability, ``max-logit`` the negated largest logit, and ``p(x)`` the free
    energy; the others are those of the Dirichlet distribution with concentrations ``exp(l_c) + 1``.
    """

    testing_options: ClassVar[Mapping[str, Any]] = {
        "epochs": 15, "batch_size": 64, "width": 32, "depth": 1, "lr": 2e-2,
    }  # fmt: skip

    updates: int = updates_option(1000)
    which: str = option("msp", "score to return", choices=("msp", "max-logit", *CHOICES))

    def build(self, size: int, classes: int, generator: torch.Generator) -> nn.Module:
        """Make the perceptron."""
        return self.mlp(size, classes, generator)

    def losses(
        self, model: Any, rows: Tensor, labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"loss": F.cross_entropy(model(rows), labels)}

    def score_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the score `which` ``[B]``."""
        if self.which == "msp":
            return 1 - model(rows).softmax(1).amax(1)
        if self.which == "max-logit":
            return -model(rows).amax(1)
        return super().score_rows(model, rows)

    def classify_rows(self, model: Any, rows: Tensor) -> Tensor:
        """Return the logits ``[B, C]``."""
        return model(rows)
