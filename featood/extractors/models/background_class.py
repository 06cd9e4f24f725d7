"""Classifiers with a class for outliers."""

from __future__ import annotations

__all__ = ["BackgroundClass"]

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from featood.extractors.models.model import ImageBatch, Model, Setup
from featood.extractors.models.network import SplitNet
from featood.extractors.models.registry import register
from featood.losses import background_class
from featood.training.loop import Losses


@register(
    "background-class",
    title="Background class",
    paper="Dhamija et al., Reducing Network Agnostophobia, NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1811.04110",
    needs=("labels", "outliers"),
)
class BackgroundClass(Model):
    """Minimise the cross-entropy over the classes and one more class, for outliers.

    The logit of the last class is the part ``background``, so that the network's logits are those of the classes of the
    images. Score it with ``background``, the log-odds of that class.
    """

    shown: ClassVar[tuple[str, ...]] = ("background",)

    def parts(self, setup: Setup) -> Mapping[str, nn.Module]:
        """Return the logit of the additional class."""
        return {"background": nn.Linear(setup.width, 1)}

    def losses(self, net: SplitNet, batch: ImageBatch) -> Losses:
        """Return the cross-entropy."""
        features = net.features(batch.images)
        logits = torch.cat([net.classify(features), net.parts["background"](features)], 1)
        return {"loss": background_class(logits, batch.labels)}
