"""Residual networks of torchvision with methods for their features."""

from __future__ import annotations

__all__ = ["ResNet18", "ResNet50"]

from typing import Any

from torch import Tensor

from featood.extractors.vision import torchvision

resnet = torchvision.models.resnet


class _Features(resnet.ResNet):  # type: ignore[misc,name-defined]
    def feature_maps(self, x: Tensor) -> Tensor:
        """Return the last maps ``[B, D, H, W]`` of images ``[B, 3, H, W]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward_feature_maps(self, maps: Tensor) -> Tensor:
        """Return the logits ``[B, K]`` of maps."""
        return self.fc(self.avgpool(maps).flatten(1))

    def features(self, x: Tensor) -> Tensor:
        """Return the averages of the last maps ``[B, D]``."""
        return self.avgpool(self.feature_maps(x)).flatten(1)


class ResNet18(_Features):
    """ResNet-18 for ImageNet."""

    def __init__(self, num_classes: int = 1000, **options: Any) -> None:
        super().__init__(resnet.BasicBlock, [2, 2, 2, 2], num_classes=num_classes, **options)


class ResNet50(_Features):
    """ResNet-50 for ImageNet."""

    def __init__(self, num_classes: int = 1000, **options: Any) -> None:
        super().__init__(resnet.Bottleneck, [3, 4, 6, 3], num_classes=num_classes, **options)
