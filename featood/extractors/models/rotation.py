"""Classifiers that also predict by how much an image was rotated."""

from __future__ import annotations

__all__ = ["RotationPrediction"]

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from featood.errors import UsageError
from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import rotated
from featood.options import option
from featood.training.loop import Losses


@register(
    "rotation",
    title="Rotation prediction",
    paper="Hendrycks et al., Using Self-Supervised Learning Can Improve Model Robustness and Uncertainty, NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1906.12340",
)
class RotationPrediction(Model):
    """Minimise the cross-entropy of the labels plus that of the rotation of each image by 0, 90, 180 and 270 degrees.

    The labels count for the images that are not rotated. A batch is four times as large in memory. The column
    ``rotation.avg`` has the logits of the rotations, of the image as it is: score the network with ``msp`` or
    ``energy``, or the column ``rotation.avg`` with a head on features. The authors' score sums over the four rotations
    of a test image, which takes four passes, and is left out.
    """

    shown: ClassVar[tuple[str, ...]] = ("rotation",)
    weight: float = option(1.0, "weight of the rotations", low=0)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the logits of the rotations."""
        return {"rotation": nn.Linear(setup.width, 4)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the loss and its two terms.

        Raises
        ------
        UsageError
            If the images are not square.
        """
        batch = batch.inliers()
        if batch.images.shape[2] != batch.images.shape[3]:
            raise UsageError(f"{self.name} needs square images, not {tuple(batch.images.shape[2:])}")
        images, turns = rotated(batch.images)
        features = net.features(images)
        named = batch.cross_entropy(net.classify(features[: len(batch.labels)]))
        turned = F.cross_entropy(net.parts["rotation"](features), turns)
        return {"loss": named + self.weight * turned, "classification": named, "rotation": turned}
