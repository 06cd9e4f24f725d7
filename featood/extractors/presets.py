"""Conversion of the transforms published with weights by torchvision and timm."""

from __future__ import annotations

__all__ = ["timm_transform", "torchvision_transform"]

import math
from collections.abc import Mapping
from typing import Any

from featood.errors import UsageError
from featood.extractors.transform import INTERPOLATIONS, Transform

DEFAULT_CROP_PCT = 0.875


def torchvision_transform(weights: Any) -> Transform:
    """Return the transform of a member of a torchvision ``Weights`` enumeration.

    That of networks for segmentation has no crop; here, it is a square of the length of the short side.

    Raises
    ------
    UsageError
        If the weights are not for image classification or segmentation.
    """
    preset = weights.transforms()
    if type(preset).__name__ not in ("ImageClassification", "SemanticSegmentation"):
        raise UsageError(
            f"{weights} has the transform {type(preset).__name__}, which is not for images or their pixels"
        )
    (resize,) = preset.resize_size
    (crop,) = getattr(preset, "crop_size", (resize,))
    interpolation = _interpolation(preset.interpolation.value, str(weights))
    # preset.antialias applies only to tensors: PIL images are always anti-aliased
    return Transform(3, crop, crop, resize, tuple(preset.mean), tuple(preset.std), interpolation)


def timm_transform(config: Mapping[str, Any]) -> Transform:
    """Return the evaluation transform of timm's ``resolve_model_data_config``.

    Raises
    ------
    UsageError
        If the transform is random, or the network does not use grey or RGB images.
    """
    channels, height, width = config["input_size"]
    crop_pct = config["crop_pct"] or DEFAULT_CROP_PCT
    resize: Any = (math.floor(height / crop_pct), math.floor(width / crop_pct))
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash", "border"):
        raise UsageError(f"the preset's crop_mode '{mode}' is not center, squash or border")
    if mode == "squash":
        fit = "stretch"
    elif mode == "border":
        fit = "contain"
    else:
        fit, resize = ("short", resize[0]) if resize[0] == resize[1] else ("cover", resize)
    mean, std = (tuple(config[key]) for key in ("mean", "std"))
    interpolation = _interpolation(config["interpolation"], "the preset")
    return Transform(channels, height, width, resize, mean, std, interpolation, fit, crop_pct)


def _interpolation(name: str, whose: str) -> str:
    if name not in INTERPOLATIONS:
        why = "differs from image to image" if name == "random" else "is not known"
        raise UsageError(
            f"{whose} has the interpolation '{name}', which {why}; known are {', '.join(INTERPOLATIONS)}"
        )
    return name
