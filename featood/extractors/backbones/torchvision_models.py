"""torchvision's models as backbones."""

from __future__ import annotations

__all__ = ["build"]

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import Built, Request
from featood.extractors.backbones.class_names import torchvision_names
from featood.extractors.backbones.names import nearest_names
from featood.extractors.backbones.shape import Design, Shape, drop_layer, first_convolution, last_layer
from featood.extractors.backbones.sources import obtain
from featood.extractors.presets import torchvision_transform
from featood.extractors.weights import Slots

# arguments of the models with published weights, which were ported from other libraries
_AS_PUBLISHED = {
    name: {"transform_input": True, "aux_logits": False, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}
_OLDER_NAMES = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),
    (r"(encoder_layer_\d+\.mlp)\.linear_1\.", r"\1.0."),
    (r"(encoder_layer_\d+\.mlp)\.linear_2\.", r"\1.3."),
)


def build(name: str, request: Request) -> Built:
    """Build ``NAME`` or ``NAME@WEIGHTS`` of torchvision."""
    from featood.extractors.vision import torchvision

    architecture, _, tag = name.partition("@")
    try:
        choices = torchvision.models.get_model_weights(architecture)
    except ValueError:
        near = nearest_names(architecture)
        raise UsageError(f"torchvision has no model '{architecture}'{near}; see featood backbones") from None
    segments = architecture in torchvision.models.list_models(module=torchvision.models.segmentation)
    if not segments and architecture not in _image_models(torchvision.models):
        raise UsageError(
            f"torchvision's {architecture} does not classify images or pixels (it is for detection or video); "
            "choose a classifier, see featood backbones"
        )
    # the first published weights are used in the literature on out-of-distribution detection
    tag = tag or ("IMAGENET1K_V1" if "IMAGENET1K_V1" in choices.__members__ else choices.DEFAULT.name)
    if tag not in choices.__members__:
        raise UsageError(
            f"torchvision has no weights '{tag}' for {architecture} (it has: {', '.join(choices.__members__)})"
        )
    known, resolved = choices[tag], f"tv:{architecture}@{tag}"

    def make(shape: Shape) -> nn.Module:
        how = {
            **_AS_PUBLISHED.get(architecture, {}),
            **({"weights_backbone": None} if segments else {}),  # which would be downloaded
            **shape.arguments(classes="num_classes", size="image_size"),
        }
        net: Any = torchvision.models.get_model(architecture, weights=None, **how)
        if shape.channels is not None:
            _set_channels(net, shape.channels)
        return drop_layer(net, shape.without) if shape.without else net

    loaded = obtain(
        make,
        request,
        resolved,
        publish=lambda: torchvision.models.get_model(architecture, weights=known),
        tag=tag,
        where=known.url,
        describe=_describe,
        conversions=lambda _: (_older_names,),
    )
    transform = request.transform or loaded.shape.apply(torchvision_transform(known))
    ids, titles = torchvision_names(known) if loaded.has_published_classes else ((), ())
    named = loaded.classes
    return Built(
        loaded.module, resolved, loaded.weights, transform, named or ids, named or titles, loaded.notes
    )


def _image_models(models: Any) -> set[str]:
    return {name for module in (models, models.quantization) for name in models.list_models(module=module)}


def _describe(module: nn.Module) -> Design:
    size, patch = (getattr(module, key, 0) for key in ("image_size", "patch_size"))  # of vision transformers
    positions = "encoder.pos_embedding" if size and patch else ""
    return Design(Slots(last_layer(module), first_convolution(module), positions), 3, size, patch)


def _set_channels(module: Any, channels: int) -> None:
    name = first_convolution(module)
    old: Any = module.get_submodule(name)
    kept = {
        key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    module.set_submodule(name, nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **kept))
    if hasattr(module, "transform_input"):
        module.transform_input = False  # it is for RGB only


def _older_names(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Convert layer names of older versions of torchvision to the current ones."""
    renamed = {}
    for name, tensor in flat.items():
        for pattern, replacement in _OLDER_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed, "names converted from older versions of torchvision"
