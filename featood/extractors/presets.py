"""The transforms that torchvision and timm publish with their weights, as ours."""

from __future__ import annotations

__all__ = ["timm_transform", "torchvision_transform"]

from collections.abc import Mapping
from typing import Any

from featood.extractors.transform import Transform


def torchvision_transform(weights: Any) -> Transform:
    """Return the transform of a member of a torchvision ``Weights`` enumeration."""
    preset = weights.transforms()
    return Transform(
        3,
        preset.crop_size[0],
        preset.crop_size[0],
        preset.resize_size[0],
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )


def timm_transform(config: Mapping[str, Any]) -> Transform:
    """Return the transform of timm's ``resolve_model_data_config``."""
    channels, height, width = config["input_size"]
    resize = round(height / config["crop_pct"])
    mean, std = (tuple(config[key]) for key in ("mean", "std"))
    return Transform(channels, height, width, resize, mean, std, config["interpolation"])
