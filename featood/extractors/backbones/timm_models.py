"""timm's models as backbones."""

from __future__ import annotations

__all__ = ["build"]

from typing import Any

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Built
from featood.extractors.backbones.names import nearest_names
from featood.extractors.backbones.pretrained import pretrained_module
from featood.extractors.presets import timm_transform


def build(name: str, weights: str, num_classes: int | None, seed: int) -> Built:
    """Build ``NAME`` or ``NAME.TAG`` of timm."""
    from featood.extractors.vision import timm

    if not timm.is_model(name.split(".")[0]):
        raise UsageError(f"timm has no model '{name}'{nearest_names(name)}; see featood backbones")
    module, source = pretrained_module(
        lambda pretrained: timm.create_model(name, pretrained=pretrained),
        weights,
        f"timm:{name}",
        "pretrained",
        seed,
    )
    about: Any = module.default_cfg
    resolved = f"timm:{about.get('architecture', name)}"
    tag = about.get("tag", "")
    resolved = f"{resolved}.{tag}" if tag else resolved
    return Built(module, resolved, source, timm_transform(timm.data.resolve_model_data_config(module)))
