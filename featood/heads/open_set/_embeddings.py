"""Objectives of networks that embed rows near the centre of their class, or near one centre for all."""

from __future__ import annotations

__all__ = [
    "AnchorClustering",
    "CenterLoss",
    "DeepSAD",
    "DeepSVDD",
    "Embedding",
    "IntraInter",
    "MultiHypersphere",
]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood import losses
from featood.heads.open_set._network import ObjectiveNet, Perceptron, in_chunks

ABSENT = 1e9
"""Distance to the centre of a class that has no rows."""


class Embedding(ObjectiveNet):
    """Base class: an embedding of `latent` dimensions, and its distances to one centre per class.

    Classification is by the softmax over the negated squared distances.
    """

    defaults: ClassVar[Mapping[str, float]] = {"latent": 32}
    learned: ClassVar[bool] = False
    """Whether the centres are trained by gradient descent."""
    centers: Tensor
    present: Tensor

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the embedding network and the centres."""
        super().make(perceptron, generator)
        self.body, size = self.layers(perceptron)
        centers = torch.zeros(self.classes, size)
        if self.learned:
            self.centers = nn.Parameter(centers)
        else:
            self.register_buffer("centers", centers)
        self.register_buffer("present", torch.ones(self.classes, dtype=torch.bool))

    def layers(self, perceptron: Perceptron) -> tuple[nn.Module, int]:
        """Make the embedding network, and return it with the dimension of the space."""
        size = int(self.settings["latent"])
        return perceptron(size), size

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Record which classes have rows, and initialise the centres to their means in the untrained network."""
        means, count = losses.class_means(in_chunks(self.embed, rows), labels, self.classes)
        self.present = count > 0
        self.centers.data.copy_(means)

    def embed(self, rows: Tensor) -> Tensor:
        """Return embeddings ``[B, E]``."""
        return self.body(rows).to(rows.dtype)

    def distances(self, rows: Tensor) -> Tensor:
        """Return the distances to the classes' centres ``[B, C]``."""
        return losses.distances(self.embed(rows), self.centers).masked_fill(~self.present, ABSENT)

    def logits(self, rows: Tensor) -> Tensor | None:
        """Return the negated squared distances ``[B, C]``."""
        return -self.distances(rows).square()

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the distance to the nearest centre."""
        return self.distances(rows).amin(1)


class CenterLoss(Embedding):
    """Cross-entropy, and the distance of the penultimate features from the learned centre of their class.

    The margin is a radius around each centre within which there is no penalty.
    """

    learned = True
    defaults: ClassVar[Mapping[str, float]] = {"weight": 1.0, "margin": 0.0}

    def layers(self, perceptron: Perceptron) -> tuple[nn.Module, int]:
        """Make a classifier; the embedding is the input of its last layer."""
        *body, self.readout = perceptron(self.classes)
        return nn.Sequential(*body), self.readout.get_parameter("weight").shape[1]

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropy and the squared distances."""
        embedding = self.embed(rows)
        named = losses.cross_entropy(self.readout(embedding).to(rows.dtype), labels)
        apart = losses.distances(embedding, self.centers)
        center = losses.center_loss(apart, labels, self.settings["margin"])
        return {"loss": named + self.settings["weight"] * center, "classification": named, "center": center}

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits of the classifier ``[B, C]``."""
        return self.readout(self.embed(rows)).to(rows.dtype)


class MultiHypersphere(Embedding):
    """Pull rows into the sphere around the learned centre of their class, and push outliers out of all spheres.

    The margin is the distance of outliers from every centre.
    """

    learned = True
    outliers = "used"
    defaults: ClassVar[Mapping[str, float]] = {**Embedding.defaults, "weight": 1.0, "margin": 4.0}

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Initialise the centres at random."""
        super().make(perceptron, generator)
        self.centers.data.normal_(generator=generator)

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Record which classes have rows; their means are too close together to initialise the centres."""
        random = self.centers.detach().clone()
        super().start(rows, labels, epoch, steps)
        self.centers.data.copy_(random)

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the squared distances, the cross-entropy of their softmin, and the loss of the outliers."""
        apart = self.distances(rows)
        center = losses.center_loss(apart, labels)
        named = losses.cross_entropy(-apart.square(), labels)
        near = losses.center_repulsion(apart, labels, self.settings["margin"])
        loss = center + named + self.settings["weight"] * near
        return {"loss": loss, "center": center, "classification": named, "outliers": near}


class AnchorClustering(Embedding):
    """Pull rows towards the anchor of their class, a fixed point on a separate axis."""

    defaults: ClassVar[Mapping[str, float]] = {"weight": 0.1, "margin": 10.0}

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Put each anchor on a separate axis."""
        super().make(perceptron, generator)
        self.centers += self.settings["margin"] * torch.eye(self.classes)

    def layers(self, perceptron: Perceptron) -> tuple[nn.Module, int]:
        """Make the embedding network; the space has one dimension per class."""
        return perceptron(self.classes), self.classes

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Keep the anchors fixed, including those of classes without rows."""

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss of class anchor clustering."""
        return losses.class_anchors(self.distances(rows), labels, self.settings["weight"])

    def logits(self, rows: Tensor) -> Tensor:
        """Return the negated distances ``[B, C]``, on which the loss computes the cross-entropy."""
        return -self.distances(rows)

    def own_score(self, rows: Tensor) -> Tensor:
        """Return the minimum over the anchors of distance times one minus softmin."""
        return losses.rejection(self.distances(rows))


class IntraInter(Embedding):
    """Make classes compact and separated, using the class means of each batch; centres are moving averages of them.

    The separation of two classes is bounded by the margin; without it, the embedding would grow without limit.
    """

    defaults: ClassVar[Mapping[str, float]] = {**Embedding.defaults, "weight": 1.0, "margin": 10.0}
    rate = 0.1

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return spread and separation."""
        embedding = self.embed(rows)
        if self.training:
            means, count = losses.class_means(embedding.detach(), labels, self.classes)
            moved = torch.lerp(self.centers, means, self.rate)
            self.centers = torch.where(count[:, None] > 0, moved, self.centers)
        weight, limit = self.settings["weight"], self.settings["margin"]
        return losses.intra_inter(embedding, labels, self.classes, weight, limit)


class DeepSVDD(Embedding):
    """Pull all known rows into one sphere around their mean in the untrained network.

    The layers have no biases, because with biases the network could map every input to the centre.
    """

    classifies: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, float]] = {**Embedding.defaults, "margin": 0.0}

    def make(self, perceptron: Perceptron, generator: torch.Generator) -> None:
        """Make the embedding network and a single centre."""
        self.classes = 1
        super().make(perceptron, generator)

    def layers(self, perceptron: Perceptron) -> tuple[nn.Module, int]:
        """Make the embedding network, without biases."""
        body, size = super().layers(perceptron)
        for layer in body.modules():
            if hasattr(layer, "bias"):
                layer.register_parameter("bias", None)
        return body, size

    def start(self, rows: Tensor, labels: Tensor, epoch: int, steps: int) -> None:
        """Fix the centre, and keep its coordinates away from zero, which zero weights would reach."""
        super().start(rows, labels.clamp(max=0), epoch, steps)
        floor = 0.1 * torch.where(self.centers < 0, -1.0, 1.0)
        self.centers = torch.where(self.centers.abs() < 0.1, floor, self.centers)

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the mean squared distance beyond the margin."""
        radius = self.settings["margin"]
        return {"loss": losses.hypersphere(self.embed(rows), self.centers[0], labels, radius)}

    def logits(self, rows: Tensor) -> None:
        """Return None: this objective does not classify."""
        return None


class DeepSAD(DeepSVDD):
    """Deep SVDD with outliers that are pushed away from the centre."""

    outliers = "needed"
    defaults: ClassVar[Mapping[str, float]] = {**Embedding.defaults, "weight": 1.0}

    def losses(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the mean squared distance, inverted for outliers."""
        weight = self.settings["weight"]
        return {"loss": losses.deep_sad(self.embed(rows), self.centers[0], labels, weight)}
