"""torchvision's models as backbones."""

from __future__ import annotations

__all__ = ["build"]

from torch import nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Built
from featood.extractors.backbones.names import nearest_names
from featood.extractors.backbones.pretrained import pretrained_module
from featood.extractors.presets import torchvision_transform


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Build ``NAME`` or ``NAME@WEIGHTS`` of torchvision."""
    from featood.extractors.vision import torchvision

    architecture, _, tag = name.partition("@")
    try:
        choices = torchvision.models.get_model_weights(architecture)
    except ValueError:
        near = nearest_names(architecture)
        raise UsageError(f"torchvision has no model '{architecture}'{near}; see featood backbones") from None
    # the literature on out-of-distribution detection uses the first published weights
    tag = tag or ("IMAGENET1K_V1" if "IMAGENET1K_V1" in choices.__members__ else choices.DEFAULT.name)
    if tag not in choices.__members__:
        raise UsageError(
            f"torchvision has no weights '{tag}' for {architecture} (it has: {', '.join(choices.__members__)})"
        )
    published = choices[tag]

    def make(pretrained: bool) -> nn.Module:
        return torchvision.models.get_model(architecture, weights=published if pretrained else None)

    module, source = pretrained_module(make, weights, f"tv:{architecture}@{tag}", tag, seed)
    return Built(module, f"tv:{architecture}@{tag}", source, torchvision_transform(published))
