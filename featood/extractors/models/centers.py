"""Base of the models that embed images near a centre of their class."""

from __future__ import annotations

__all__ = ["Centers", "CentersModel", "classify_by_distance"]

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from featood.extractors.models.model import ImageBatch, Model
from featood.extractors.models.network import SplitNet
from featood.losses import distances


class Centers(nn.Module):
    """An embedding of the features, centres, and the distance to the nearest of them as the output.

    Parameters
    ----------
    embed : Module
        From features ``[B, D]`` to ``[B, E]``.
    centers : Tensor
        ``[C, E]``.
    learned : bool
        Whether the centres are parameters.
    """

    centers: Tensor

    def __init__(self, embed: nn.Module, centers: Tensor, learned: bool = False) -> None:
        super().__init__()
        self.embed = embed
        if learned:
            self.centers = nn.Parameter(centers)
        else:
            self.register_buffer("centers", centers)

    def distances(self, features: Tensor) -> Tensor:
        """Map features ``[B, D]`` to distances ``[B, C]``."""
        return distances(self.embed(features).to(self.centers.dtype), self.centers)

    def score(self, apart: Tensor) -> Tensor:
        """Map distances ``[B, C]`` to the score ``[B]``."""
        return apart.amin(1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[B, D]`` to the score ``[B, 1]``."""
        return self.score(self.distances(features))[:, None]


@dataclasses.dataclass(kw_only=True, eq=False)
class CentersModel(Model):
    """A model with the part ``score``, which is a :class:`Centers` of a linear embedding.

    The class is that of the nearest centre. After the training, the last layer is set so that the softmax of the logits
    equals that of the negated squared distances.
    """

    shown: ClassVar[tuple[str, ...]] = ("score",)

    @staticmethod
    def centers_of(net: SplitNet) -> Centers:
        """Return the part ``score``."""
        part = net.parts["score"]
        assert isinstance(part, Centers)
        return part

    def errors(self, net: SplitNet, batch: ImageBatch) -> Tensor:
        """Return whether another centre is nearer than that of the class ``[B]``."""
        apart = self.centers_of(net).distances(net.features(batch.images))
        return (apart.argmin(1) != batch.labels).float()

    def finish(self, net: SplitNet) -> None:
        """Set the last layer."""
        part = self.centers_of(net)
        assert isinstance(part.embed, nn.Linear)
        classify_by_distance(net.last, part.centers, part.embed.weight, part.embed.bias)


def classify_by_distance(
    last: nn.Linear, centers: Tensor, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Give the last layer logits whose softmax is that of negated squared distances to centres.

    Parameters
    ----------
    last : Linear
        From features ``[B, D]`` to ``[B, C]``.
    centers : Tensor
        ``[C, E]``.
    weight, bias : Tensor
        ``[E, D]`` and ``[E]`` of the linear embedding of the features.
    """
    # -|A z + b - c|^2 = 2 c (A z + b) - |c|^2 - |A z + b|^2, and the last term is the same for all classes
    last.weight.copy_(2 * centers @ weight)
    if last.bias is not None:
        last.bias.copy_((0 if bias is None else 2 * centers @ bias) - centers.square().sum(1))


@torch.no_grad()
def embedded(net: SplitNet, part: Centers, batches: Iterable[ImageBatch]) -> tuple[Tensor, Tensor]:
    """Return the embeddings ``[N, E]`` and labels ``[N]`` of batches."""
    found = [(part.embed(net.features(batch.images)), batch.labels) for batch in batches]
    rows, labels = zip(*found, strict=True)
    return torch.cat(rows).to(part.centers.dtype), torch.cat(labels)
