"""timm's models as backbones."""

from __future__ import annotations

__all__ = ["build"]

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featood.errors import UsageError
from featood.extractors.backbones.backbone import RANDOM, Built, Request
from featood.extractors.backbones.class_names import imagenet_names
from featood.extractors.backbones.names import nearest_names
from featood.extractors.backbones.shape import Design, Shape, first_convolution
from featood.extractors.backbones.sources import obtain
from featood.extractors.backbones.timm_config import read_config
from featood.extractors.presets import timm_transform
from featood.extractors.weights import Conversion, Slots

POOLING = "global_pool"
"""The option of a network; the names of its tensors may not show it."""
_CONTAINERS = {
    *["state_dict_ema", "model_ema", "state_dict", "model", "module", "_orig_mod", "teacher", "student"]
}


def build(name: str, request: Request) -> Built:
    """Build ``NAME`` or ``NAME.TAG`` of timm."""
    from featood.extractors.vision import timm

    if not timm.is_model(name.split(".")[0]):
        raise UsageError(f"timm has no model '{name}'{nearest_names(name)}; see featood backbones")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*"))
        raise UsageError(f"timm has no weights '{name}' (it has: {tags})") from None
    given = request.weights not in ("", RANDOM)
    saved = read_config(request.weights) if given else None
    if saved is not None:
        saved.check(name.split(".")[0])
    # models trained without classes get a layer for logits, which may be missing in a file
    own: dict[str, Any] = {"num_classes": 1} if given and config and config.num_classes == 0 else {}
    options = {**(saved.arguments if saved is not None else {}), **request.options}
    if unknown := sorted(set(options) - {POOLING}):
        raise UsageError(f"timm:{name} has the option {POOLING}, and no option {unknown[0]}")
    if options:
        with torch.device("meta"):
            usual: Any = timm.create_model(name)
        options = {key: value for key, value in options.items() if value != getattr(usual, key, None)}
    own |= options

    def make(shape: Shape, pretrained: bool = False) -> nn.Module:
        how = {**own, **shape.arguments(classes="num_classes", channels="in_chans", size="img_size")}
        if shape.without:
            how["num_classes"] = 0
        try:
            return timm.create_model(name, pretrained=pretrained, **how)
        except AssertionError as error:
            if not options:
                raise
            raise UsageError(f"timm:{name} cannot be built with {how}: {error}") from None

    hub, url = (config.hf_hub_id, config.url) if config else ("", "")
    loaded = obtain(
        make,
        request,
        f"timm:{name}",
        publish=lambda: make(Shape(), True),
        tag="pretrained",
        where=f"https://huggingface.co/{hub}" if hub else url or "",
        describe=_describe,
        conversions=lambda net: (_older_names(name, net),),
        prepared=f"as {saved.path} says" if saved is not None else _published_as(name),
    )
    default: Any = loaded.module.default_cfg
    about = {**default, **(saved.prepared if saved is not None else {})}
    tag = about.get("tag", "")
    resolved = f"timm:{about.get('architecture', name)}" + (f".{tag}" if tag else "")
    if request.transform is not None:
        transform = request.transform
    elif saved is not None:
        transform = loaded.shape.apply(saved.transform(about))
    else:
        prepared = timm.data.resolve_model_data_config(loaded.module)
        if (size := loaded.shape.size) is not None:
            prepared = {**prepared, "input_size": (prepared["input_size"][0], size, size)}
        transform = loaded.shape.apply(timm_transform(prepared))
    ids, titles = imagenet_names(loaded.module) if loaded.has_published_classes else ((), ())
    named = loaded.classes
    # notes on networks called quickgelu tell to use these
    said = default.get("notes") if "quickgelu" not in name else ()
    notes = (*loaded.notes, *(f"timm says: {note}" for note in said or ()))
    return Built(
        loaded.module, resolved, loaded.weights, transform, named or ids, named or titles, notes, options=options
    )  # fmt: skip


def _published_as(name: str) -> str:
    """Return which published weights give the preprocessing for a name, and whether others of it differ."""
    from featood.extractors.vision import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.tag:
        return ""
    architecture = name.split(".")[0]
    chosen = f"as for the published weights of timm:{architecture}.{config.tag}"
    if "." in name:
        return chosen
    tags = timm.list_pretrained(f"{architecture}.*")
    differ = [tag for tag in tags if timm.get_pretrained_cfg(tag).mean != config.mean]
    return chosen + (
        f", while timm:{differ[0]} has another mean: name the one of your file" if differ else ""
    )


def _describe(module: nn.Module) -> Design:
    state: dict[str, Tensor] = module.state_dict()
    about: Any = module.default_cfg
    heads = about.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    positions, size, patch = "", 0, 1
    embed: Any = getattr(module, "patch_embed", None)
    sides: tuple[Any, Any] = (getattr(embed, "img_size", None), getattr(embed, "patch_size", None))
    if "pos_embed" in state and state["pos_embed"].ndim == 3 and all(_square(side) for side in sides):
        positions, size, patch = "pos_embed", sides[0][0], sides[1][0]
    slots = Slots(
        tuple(head for head in heads if f"{head}.weight" in state), first_convolution(module), positions
    )
    return Design(slots, about.get("input_size", (3,))[0], size, patch)


def _square(side: Any) -> bool:
    return isinstance(side, tuple) and len(side) == 2 and side[0] == side[1]


def _older_names(name: str, module: nn.Module) -> Conversion:
    """Return timm's conversion of weights with names of other repositories or older versions."""
    from featood.extractors.vision import timm

    code = sys.modules[timm.models.model_entrypoint(name.split(".")[0]).__module__]
    convert = getattr(code, "checkpoint_filter_fn", None)

    def conversion(flat: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
        entries: dict[str, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            parts = key.split(".")
            cut = next((at for at, part in enumerate(parts) if part not in _CONTAINERS), 0)
            entries.setdefault("".join(f"{part}." for part in parts[:cut]), {})[".".join(parts[cut:])] = (
                tensor
            )
        found: dict[str, Tensor] = {}
        for entry, tensors in entries.items():
            try:
                found |= {entry + key: tensor for key, tensor in convert(tensors, module).items()}  # type: ignore[misc]
            except Exception:  # timm's function may fail on unknown layouts
                continue
        before = {tensor.numel() for tensor in flat.values()}
        fitted = [key for key, tensor in found.items() if "pos" in key and tensor.numel() not in before]
        resampled = f", which resamples {', '.join(fitted[:4])} to the model's image size" if fitted else ""
        return found, f"names converted by timm{resampled}"

    return conversion
