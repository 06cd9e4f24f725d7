"""Objectives of networks that classify by the softmax of their logits."""

from __future__ import annotations

__all__ = [
    "Background",
    "Classifier",
    "Confidence",
    "Entropic",
    "LogitNorm",
    "MixtureExposure",
    "Objectosphere",
    "OutlierExposure",
]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood import losses
from featood.heads.open_set._network import LOGIT_SCORES, ObjectiveNet, Perceptron


class Classifier(ObjectiveNet):
    """Cross-entropy of the known rows, scored by the largest probability."""

    further: ClassVar[int] = 0
    """Number of outputs in addition to the classes."""

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the feature layers and the last layer."""
        super().make(perceptron, generator)
        layers = list(perceptron(self.classes + self.further))
        self.body, self.readout = nn.Sequential(*layers[:-1]), layers[-1]

    def features(self, rows: Tensor) -> Tensor:
        """Return the input of the last layer ``[B, W]``."""
        return self.body(rows).to(rows.dtype)

    def outputs(self, rows: Tensor) -> Tensor:
        """Return all outputs ``[B, C + further]``."""
        return self.readout(self.features(rows)).to(rows.dtype)

    def logits(self, rows: Tensor) -> Tensor:
        """Return the outputs of the classes ``[B, C]``."""
        return self.outputs(rows)[:, : self.classes]

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"loss": losses.cross_entropy(self.logits(rows), labels)}

    def own_score(self, rows: Tensor) -> Tensor:
        """Return one minus the largest probability."""
        return LOGIT_SCORES["msp"](self.logits(rows))


class LogitNorm(Classifier):
    """Cross-entropy of logits normalised to a fixed length."""

    defaults: ClassVar[Mapping[str, float]] = {"temperature": 0.04}

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy of the normalised logits."""
        return {"loss": losses.logit_norm(self.logits(rows), labels, self.settings["temperature"])}


class OutlierExposure(Classifier):
    """Cross-entropy of known rows, and of outliers to the uniform distribution."""

    outliers = "needed"
    defaults: ClassVar[Mapping[str, float]] = {"weight": 0.5}

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies to the class and to the uniform distribution."""
        return losses.outlier_exposure(self.logits(rows), labels, self.settings["weight"])


class Entropic(OutlierExposure):
    """Outlier exposure with equal weight for known rows and outliers."""

    defaults: ClassVar[Mapping[str, float]] = {"weight": 1.0}


class Objectosphere(Classifier):
    """Entropic loss that also enlarges the feature norm of known rows and shrinks that of outliers to zero."""

    outliers = "needed"
    defaults: ClassVar[Mapping[str, float]] = {"weight": 0.1, "margin": 5.0}

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the entropic loss and the loss of the feature norms."""
        features = self.features(rows)
        logits, weight, radius = self.readout(features), self.settings["weight"], self.settings["margin"]
        return losses.objectosphere(logits.to(rows.dtype), features, labels, weight, radius)

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the negated product of the largest probability and the feature norm."""
        features = self.features(rows)
        return -self.readout(features).softmax(1).amax(1) * features.norm(dim=1)


class Background(Classifier):
    """Classification with an additional class for outliers, scored by its log-odds."""

    outliers = "needed"
    further = 1

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy over all classes."""
        return {"loss": losses.background_class(self.outputs(rows), labels)}

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the log-odds of the outlier class."""
        outputs = self.outputs(rows)
        return outputs[:, -1] - outputs[:, :-1].logsumexp(1)


class MixtureExposure(Classifier):
    """Mixtures of known rows with outliers, with targets mixed with the uniform distribution in the same proportion."""

    outliers = "needed"
    defaults: ClassVar[Mapping[str, float]] = {"weight": 5.0}

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of known rows and of mixtures."""
        return losses.mixture_outlier_exposure(self.logits, rows, labels, generator, self.settings["weight"])


class Confidence(Classifier):
    """An additional output is the confidence; where it is low, the true label is mixed into the prediction at a cost.

    The weight of this cost rises while it exceeds the budget, and falls otherwise. As in the paper, only half of the
    rows get such hints; otherwise the classifier would not learn from difficult rows.
    """

    further = 1
    defaults: ClassVar[Mapping[str, float]] = {"weight": 0.1}
    budget, step = 0.3, 0.01
    price: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Set the initial weight of the cost from the settings."""
        super().make(perceptron, generator)
        self.register_buffer("price", torch.tensor(self.settings["weight"]))

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the classification loss with hints, and their cost."""
        outputs = self.outputs(rows)
        chance = torch.rand(len(rows), generator=generator, device=generator.device)
        asking = chance.to(rows.device) < 0.5
        parts = losses.confidence_loss(outputs[:, :-1], outputs[:, -1], labels, self.price, asking)
        if self.training:
            spent = parts["price"].detach() > self.budget
            self.price = self.price / torch.where(spent, 1 - self.step, 1 + self.step)
        return parts

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the negated logit of the confidence."""
        return -self.outputs(rows)[:, -1]
