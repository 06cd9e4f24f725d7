"""Base of the models whose losses compare embeddings of two views of each image."""

from __future__ import annotations

__all__ = ["ProjectionModel"]

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.options import option
from featood.training.gathering import gathered


@dataclasses.dataclass(kw_only=True, eq=False)
class ProjectionModel(Model):
    """A model with the part ``projection``: a perceptron with one hidden layer from features to embeddings.

    The last layer is trained by the cross-entropy of features without a gradient, so that the network has logits, and
    the other weights are as without it. It takes the place of the authors' later training of a linear classifier.
    """

    views: ClassVar[int] = 2
    latent: int = option(128, "size of the embedding", low=1)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the perceptron."""
        hidden = nn.Linear(setup.width, setup.width)
        return {"projection": nn.Sequential(hidden, nn.ReLU(), nn.Linear(setup.width, self.latent))}

    @staticmethod
    def embed(net: SplitNet, features: Tensor) -> Tensor:
        """Map features ``[B, D]`` to embeddings of unit length ``[B, E]``."""
        return F.normalize(net.parts["projection"](features), dim=1)

    def pairs(self, net: SplitNet, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings ``[B, E]`` and labels ``[B]`` of the whole batch, of all processes."""
        return gathered(self.embed(net, features), self.views), gathered(labels, self.views)

    @staticmethod
    def classification(net: SplitNet, batch: ImageBatch, features: Tensor) -> Tensor:
        """Return the cross-entropy of the last layer."""
        return batch.cross_entropy(net.classify(features.detach()))
